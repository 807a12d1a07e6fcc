"""EASE is its closed form, cut to the items with most users; both come from before the moment."""

import numpy as np
import pytest
from scipy import sparse

from recsys.baselines import fit_als
from recsys.errors import ConfigError
from recsys.neighbours import taken_matrix
from recsys.related import by_users, ease_neighbours, related_items
from recsys.state import StateConfig

N_ITEMS = 8


def taken(seed, n_users=60, n_items=N_ITEMS):
    """Draw who took what, the later items by ever fewer users."""
    drawn = np.random.default_rng(seed).random((n_users, n_items))
    return (drawn < np.linspace(0.6, 0.1, n_items)).astype(np.float32)


def closed_form(users, ridge):
    """I - P / diag(P), what is negative dropped."""
    inverse = np.linalg.inv(users.T @ users + ridge * np.eye(users.shape[1]))
    return np.maximum(np.eye(len(inverse)) - inverse / np.diag(inverse), 0)


@pytest.mark.parametrize("n_users", [60, 3])  # by a matrix of the items, or of the fewer users
@pytest.mark.parametrize("ridge", [0.5, 20.0])
def test_the_weights_are_the_closed_form_where_positive(ridge, n_users):
    users = taken(0, n_users)
    found = ease_neighbours(sparse.csr_matrix(users), N_ITEMS, ridge, N_ITEMS).toarray()
    assert 5 < np.count_nonzero(found) < N_ITEMS * (N_ITEMS - 1)
    np.testing.assert_allclose(found, closed_form(users, ridge), atol=1e-5)


def test_each_column_solves_its_own_ridge_regression():
    """What EASE minimises: an item's users from the user's other items, one item at a time."""
    users, ridge = taken(1), 3.0
    weights = ease_neighbours(sparse.csr_matrix(users), N_ITEMS, ridge, N_ITEMS).toarray()
    for item in range(N_ITEMS):
        others = np.delete(np.arange(N_ITEMS), item)
        past, target = users[:, others], users[:, item]
        solved = np.linalg.solve(past.T @ past + ridge * np.eye(len(others)), past.T @ target)
        np.testing.assert_allclose(weights[others, item], np.maximum(solved, 0), atol=1e-5)


def test_of_many_items_those_with_most_users_are_in_it_as_if_they_were_alone():
    users = taken(2)[:, np.random.default_rng(3).permutation(N_ITEMS)]
    order = np.argsort(-users.sum(0), kind="stable")
    common, rare = np.sort(order[:5]), order[5:]
    found = ease_neighbours(sparse.csr_matrix(users), N_ITEMS, 2.0, 5).toarray()
    np.testing.assert_allclose(found[np.ix_(common, common)], closed_form(users[:, common], 2.0),
                               atol=1e-5)  # fmt: skip
    assert not found[rare].any() and not found[:, rare].any()


def test_no_more_than_keep_weights_of_an_item_are_kept_the_largest():
    users = taken(4)
    whole = ease_neighbours(sparse.csr_matrix(users), N_ITEMS, 1.0, N_ITEMS).toarray()
    found = ease_neighbours(sparse.csr_matrix(users), 2, 1.0, N_ITEMS).toarray()
    for row, kept in zip(whole, found, strict=True):
        np.testing.assert_array_equal(np.sort(kept)[::-1][:2], np.sort(row)[::-1][:2])
        assert np.count_nonzero(kept) <= 2


@pytest.mark.parametrize("n_users", [0, 3])
def test_without_an_event_nothing_goes_with_anything(n_users):
    nobody = sparse.csr_matrix((n_users, N_ITEMS), dtype=np.float32)
    found = ease_neighbours(nobody, 3, 1.0, N_ITEMS)
    assert (found.shape, found.nnz) == ((N_ITEMS, N_ITEMS), 0)


def test_buckets_change_nothing_and_the_future_is_not_read(log_of, random_rows):
    rows, day = random_rows(0, True), 86_400_000_000
    config = StateConfig(neighbours=3, ease_ridge=1.0, ease_items=6)
    past = [row for row in rows if row[1] < 20 * day]
    assert len(past) < len(rows)
    whole = related_items([log_of(rows)], 20 * day, N_ITEMS, config)
    parts = [log_of([row for row in past if row[0] % 2 == part]) for part in range(2)]
    bucketed = related_items(iter(parts), 20 * day, N_ITEMS, config)
    for one, other in ((whole.cosine, bucketed.cosine), (whole.ease, bucketed.ease)):
        assert one.nnz
        np.testing.assert_array_equal(one.toarray(), other.toarray())


def test_items_beyond_ease_have_weights_of_their_own_and_those_in_it_keep_theirs(
    log_of, random_rows
):
    log, moment = log_of(random_rows(0, True)), 30 * 86_400_000_000
    plain = StateConfig(ease_ridge=1.0, ease_items=5)
    more = plain.model_copy(update={"ease_beyond": 4})
    inside, whole = (related_items([log], moment, N_ITEMS, some).ease.toarray()
                     for some in (plain, more))  # fmt: skip
    rare = ~inside.any(0) & whole.any(0)
    assert 1 <= rare.sum() <= N_ITEMS - 5
    np.testing.assert_array_equal(whole[:, ~rare], inside[:, ~rare])
    enough = more.model_copy(update={"ease_items": N_ITEMS})
    all_in = related_items([log], moment, N_ITEMS, enough).ease.toarray()
    without = enough.model_copy(update={"ease_beyond": 0})
    again = related_items([log], moment, N_ITEMS, without).ease.toarray()
    np.testing.assert_array_equal(all_in, again)  # nothing is beyond


def test_items_are_in_order_of_their_users_equal_ones_by_code_and_nobodys_are_not():
    users = sparse.csr_matrix(np.array([[1, 0, 1, 1, 0], [0, 0, 1, 1, 1]], np.float32))
    assert by_users(users).tolist() == [2, 3, 0, 4]


def test_als_is_fitted_only_where_it_is_asked_for_and_changes_nothing_else(log_of, random_rows):
    log, moment = log_of(random_rows(1, True)), 30 * 86_400_000_000
    config = StateConfig(ease_ridge=1.0)
    without = related_items([log], moment, N_ITEMS, config)
    whole = related_items([log], moment, N_ITEMS, config, with_als=True)
    assert without.als is None
    np.testing.assert_array_equal(whole.cosine.toarray(), without.cosine.toarray())
    np.testing.assert_array_equal(whole.ease.toarray(), without.ease.toarray())
    counts = taken_matrix([log], moment, N_ITEMS, counted=True)
    assert counts.max() > 1
    np.testing.assert_array_equal(whole.als.item_factors, fit_als(counts, 0).item_factors)


def test_a_ridge_that_vanishes_beside_the_users_is_refused_in_words():
    same = sparse.csr_matrix(np.ones((1200, 3), np.float32))
    with pytest.raises(ConfigError, match="state.ease_ridge: 1e-09 is too small"):
        ease_neighbours(same, 3, 1e-9, 3)
