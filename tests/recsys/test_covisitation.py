"""Sums of pairs that go through files are those that stay in memory."""

import numpy as np
import pytest
from scipy import sparse

from recsys.covisitation import PairSums

N_ITEMS = 30


def parts(seed, n=6, density=0.2):
    """Pairs of some buckets, whole numbers of eighths: their sums are exact in any order."""
    rng = np.random.default_rng(seed)

    def one():
        some = sparse.random(N_ITEMS, N_ITEMS, density, "csr", random_state=rng)
        some.setdiag(0)
        some.eliminate_zeros()
        some.data = np.ceil(some.data * 16) / 8
        return some

    return [one() for _ in range(n)]


def tables(buckets, most, keep=200):
    with PairSums(N_ITEMS, most) as sums:
        for one in buckets:
            sums.add(one)
        return [found.toarray() for found in sums.neighbours(keep)]


@pytest.mark.parametrize("most", [0, 1, 100, 250, 400])
@pytest.mark.parametrize("keep", [3, 200])
def test_where_sums_are_cut_changes_nothing(most, keep):
    buckets = parts(seed=0)
    whole = tables(buckets, 10**6, keep)
    assert np.count_nonzero(whole[0], 1).max() >= 3
    np.testing.assert_array_equal(tables(buckets, most, keep), whole)


def test_a_pair_is_divided_by_the_geometric_mean_of_how_often_its_ends_pair():
    buckets = parts(seed=1)
    total = sum(one.toarray() for one in buckets)
    with np.errstate(invalid="ignore"):
        expected = total / np.sqrt(total.sum(1)[:, None] * total.sum(0))
    follows, precedes = tables(buckets, 100)
    np.testing.assert_allclose(follows, np.nan_to_num(expected), rtol=1e-6)
    np.testing.assert_array_equal(precedes, follows.T)


def test_of_equal_pairs_the_lower_items_are_kept_however_they_were_cut():
    equal = sparse.csr_matrix(np.ones((N_ITEMS, N_ITEMS)) - np.eye(N_ITEMS))
    for most in (10**6, 90):
        for found in tables([equal], most, keep=2):
            assert [np.flatnonzero(row).tolist() for row in found[:3]] == [[1, 2], [0, 2], [0, 1]]
            assert np.flatnonzero(found[-1]).tolist() == [0, 1]


def test_no_pairs_at_all_are_no_neighbours():
    assert [one.any() for one in tables([], 100)] == [False, False]
