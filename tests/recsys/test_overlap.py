"""Laws of how two lists differ: 1 of a list with itself, 0 of lists with nothing in common."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recsys.overlap import agreement, change, rank_biased_overlap

A = np.array([[0, 1, 2]])


def by_definition(a, b, p):
    """Webber et al., equation 32, as a loop over depths."""
    short, long = sorted((a, b), key=len)
    s, n = len(short), len(long)

    def common(d):
        return len(set(short[:d]) & set(long[:d]))

    total = sum(common(d) / d * p**d for d in range(1, n + 1))
    total += sum(common(s) * (d - s) / (s * d) * p**d for d in range(s + 1, n + 1))
    return (1 - p) / p * total + ((common(n) - common(s)) / n + common(s) / s) * p**n


@given(st.permutations(range(6)), st.permutations(range(6)), st.integers(1, 6), st.integers(1, 6))
def test_rank_biased_overlap_is_equation_32(a, b, n, m):
    lists = np.full((2, 6), -1)
    lists[0, :n], lists[1, :m] = a[:n], b[:m]
    found = rank_biased_overlap(lists[:1], lists[1:], 0.8)
    assert found == pytest.approx([by_definition(a[:n], b[:m], 0.8)])
    assert 0 <= found[0] <= 1 + 1e-12


def test_a_list_agrees_with_itself_and_not_with_another():
    assert rank_biased_overlap(A, A) == pytest.approx([1.0])
    assert rank_biased_overlap(A, A + 3) == [0.0]
    assert np.isnan(rank_biased_overlap(A * 0 - 1, A * 0 - 1)).all()
    assert rank_biased_overlap(A, A * 0 - 1) == [0.0]


def test_an_exchange_at_the_top_weighs_more_than_one_below():
    top, end = np.array([[1, 0, 2, 3]]), np.array([[0, 1, 3, 2]])
    base = np.arange(4)[None]
    assert rank_biased_overlap(base, top) < rank_biased_overlap(base, end)


def test_agreement_counts_common_items_at_each_depth():
    assert agreement(A, np.array([[1, 0, 5]])).tolist() == [[0, 2, 2]]
    assert agreement(np.array([[3, -1]]), np.array([[-1, -1]])).tolist() == [[0, 0]]


def test_a_change_is_said_as_shares_of_lists():
    base = np.array([[0, 1], [0, 1], [2, -1]])
    other = np.array([[0, 1], [0, 3], [3, 2]])
    found = change(base, other, np.array([7, 3, 1, 0]))
    assert found.overlap == pytest.approx((2 / 2 + 1 / 2 + 1 / 2) / 3)
    assert found.churn == pytest.approx((0 + 1 / 2 + 0) / 3)
    assert (found.same_first, found.same_list) == pytest.approx((2 / 3, 1 / 3))
    assert (found.distinct_base, found.distinct_other) == (3, 4)
    assert found.popularity_base == pytest.approx((3 + 2 + 3 + 2 + 1) / 5)  # log2(1 + 7) = 3, ...
    assert found.popularity_other == pytest.approx((3 + 2 + 3 + 0 + 0 + 1) / 6)
