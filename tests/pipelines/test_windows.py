"""A window is covered once, and a sample of its requests loses and invents none."""

import numpy as np
import pytest

from pipelines.windows import sample_requests, snapshot_spans
from recsys.dataset import DAY
from recsys.split import Requests


def bucket(users):
    """One request of each user, who took the items user and user + 1."""
    users = np.array(users, np.int64)
    item = np.column_stack([users, users + 1]).ravel().astype(np.int32)
    return Requests(users, users * DAY, 2 * np.arange(len(users) + 1), item,
                    np.ones(len(item), np.int8))  # fmt: skip


BUCKETS = [bucket(range(10)), bucket([]), bucket(range(10, 13)), bucket(range(13, 40))]


def drawn(most, seed=0):
    return sample_requests(BUCKETS, most, np.random.default_rng(seed))


def users(parts):
    return [user for part in parts for user in part.user.tolist()]


@pytest.mark.parametrize("most", [0, 1, 7, 39])
@pytest.mark.parametrize("seed", range(3))
def test_a_sample_is_exactly_as_large_as_asked_for_and_in_order(most, seed):
    parts = drawn(most, seed)
    assert len(parts) == len(BUCKETS)
    assert len(users(parts)) == most
    assert users(parts) == sorted(set(users(parts)))
    for part, whole in zip(parts, BUCKETS, strict=True):
        assert set(part.user.tolist()) <= set(whole.user.tolist())
        assert part.moment.tolist() == [user * DAY for user in part.user]
        taken = [
            part.item[a:b].tolist() for a, b in zip(part.indptr, part.indptr[1:], strict=False)
        ]
        assert taken == [[user, user + 1] for user in part.user]


@pytest.mark.parametrize("most", [40, 1000])
def test_few_requests_are_all_kept(most):
    assert users(drawn(most)) == list(range(40))


def test_every_request_is_as_likely_as_any_other_whatever_its_bucket():
    rng = np.random.default_rng(0)
    times = np.zeros(40)
    for _ in range(600):
        times[users(sample_requests(BUCKETS, 10, rng))] += 1
    expected = 600 * 10 / 40
    assert np.abs(times - expected).max() < 5 * expected**0.5


def test_one_seed_one_sample():
    assert users(drawn(9, 1)) == users(drawn(9, 1)) != users(drawn(9, 2))


@pytest.mark.parametrize("days", [1, 6, 7, 8, 21, 30])
@pytest.mark.parametrize("every", [1, 7, 40])
def test_spans_cover_the_window_without_gap_or_overlap(days, every):
    start, end = 5 * DAY, (5 + days) * DAY
    spans = snapshot_spans((start, end), True, every)
    assert [spans[0][0], *(until for _, until in spans)] == [*(since for since, _ in spans), end]
    assert spans[0][0] == start
    assert [until - since for since, until in spans[:-1]] == [every * DAY] * (len(spans) - 1)
    assert len(spans) == -(-days // every)


def test_an_order_has_one_state_a_window_and_an_empty_window_none():
    assert snapshot_spans((-3, -2), False, 7) == [(-3, -2)]
    assert snapshot_spans((-18, -2), False, 7) == [(-18, -11), (-11, -4), (-4, -2)]
    assert snapshot_spans((DAY, DAY), True, 7) == []
