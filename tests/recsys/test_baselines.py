"""ALS finds groups of taste in the past, and says nothing of a user without one."""

import numpy as np
import pytest
from scipy import sparse
from threadpoolctl import threadpool_limits

from recsys.baselines import als_scores, fit_als
from recsys.neighbours import taken_matrix

N_ITEMS, HALF = 200, 100


@pytest.fixture(scope="module")
def rows():
    """Even users take the first half of the items, odd ones the second; (past, shown, future)."""
    rng = np.random.default_rng(0)
    taken = [(user, when, int(rng.integers(HALF)) + HALF * (user % 2))
             for user in range(80) for when in range(15)]  # fmt: skip
    shown = [(user, 3, int(rng.integers(N_ITEMS)), 0) for user in range(80)]
    return taken, shown, [(user, 99, int(rng.integers(N_ITEMS))) for user in range(80)]


@pytest.fixture(scope="module")
def history():
    """Ten past items of each half, and none."""
    items = np.concatenate([np.arange(10), HALF + np.arange(10)])
    shape = (3, N_ITEMS)
    return sparse.csr_matrix((np.ones(20, np.float32), (np.repeat([0, 1], 10), items)), shape)


def scores_of(logs, history, seed=0):
    return als_scores(fit_als(taken_matrix(logs, 99, N_ITEMS, counted=True), seed), history)


def test_taste_follows_the_group_and_no_past_scores_zero(log_of, rows, history):
    scores = scores_of([log_of(rows[0])], history)
    assert (scores.shape, scores.dtype) == ((3, N_ITEMS), np.float32)
    first, second = scores[:, 10:HALF].mean(1), scores[:, HALF + 10 :].mean(1)  # not the past items
    assert first[0] > 10 * abs(second[0])
    assert second[1] > 10 * abs(first[1])
    assert not scores[2].any()


def test_only_what_was_taken_strictly_before_is_fitted(log_of, rows, history):
    taken, shown, future = rows
    expected = scores_of([log_of(taken)], history)
    for more in (shown, future):
        np.testing.assert_array_equal(scores_of([log_of(taken + more)], history), expected)


def test_one_seed_one_model_and_users_may_lie_in_several_buckets(log_of, rows, history):
    taken = rows[0]
    parts = [log_of([row for row in taken if (row[0] < 40) == first]) for first in (True, False)]
    whole, again, other = (scores_of([log_of(taken)], history, seed) for seed in (0, 0, 1))
    np.testing.assert_array_equal(again, whole)
    np.testing.assert_array_equal(scores_of(iter(parts), history), whole)
    assert not np.array_equal(other, whole)


def test_any_number_of_threads_fits_and_scores_the_same_bits(log_of, rows, history):
    taken = taken_matrix([log_of(rows[0])], 99, N_ITEMS, counted=True)
    model = fit_als(taken, 0)
    for threads in (1, 2, 3, 8):
        with threadpool_limits(threads, "openmp"):
            again = fit_als(taken, 0)
            np.testing.assert_array_equal(again.item_factors, model.item_factors)
            model.num_threads = threads
            np.testing.assert_array_equal(als_scores(model, history), als_scores(again, history))
