"""What lists show adds up, and what cannot be said is not a number."""

from math import isnan, log2

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from recsys.exposure import (
    catalogue_coverage,
    gini,
    list_means,
    lorenz,
    mean_popularity,
    novelty,
    popularity_lift,
    popularity_tenths,
    shares_by_group,
    surprise,
    times_shown,
)

COUNTS = arrays.arrays(np.int64, st.integers(2, 30), elements=st.integers(0, 50))


def test_coverage_is_the_share_of_items_in_any_list():
    lists = np.array([[0, 1], [1, -1]])
    assert catalogue_coverage(lists, n_items=5) == 2 / 5
    assert times_shown(lists, 5).tolist() == [1, 2, 0, 0, 0]
    assert catalogue_coverage(lists[:0], n_items=5) == 0
    assert isnan(catalogue_coverage(lists[:0], n_items=0))


def test_novelty_is_the_surprise_of_the_listed_items_in_bits():
    lists, n_events = np.array([[0, 1], [1, 2], [2, -1], [-1, -1]]), np.array([4, 3, 0])
    bits = [-log2(4 / 7), -log2(3 / 7), -log2(1 / 8)]
    assert surprise(n_events).tolist() == pytest.approx(bits)
    expected = [(bits[0] + bits[1]) / 2, (bits[1] + bits[2]) / 2, bits[2], np.nan]
    np.testing.assert_allclose(novelty(lists, n_events), expected)
    np.testing.assert_allclose(novelty(lists, n_events, k=1)[:3], bits)


def test_the_index_of_equal_shares_is_0_and_of_one_that_has_all_1():
    assert gini(np.full(7, 3)) == pytest.approx(0)
    assert gini(np.array([0, 0, 5, 0])) == pytest.approx(1)
    # shares 1/4 and 3/4 of two items: (2 - 3) / 4 + (4 - 3) * 3 / 4, over 2 - 1
    assert gini(np.array([3, 1])) == pytest.approx(1 / 2)


@given(counts=COUNTS)
def test_the_index_is_the_mean_difference_between_items(counts):
    if not counts.sum():
        assert isnan(gini(counts)) and np.isnan(lorenz(counts)).all()
        return
    n = len(counts)
    apart = np.abs(counts[:, None] - counts[None, :]).sum() / (2 * n * counts.sum())
    assert gini(counts) == pytest.approx(apart * n / (n - 1), abs=1e-12)
    curve = lorenz(counts, n + 1)  # a point for each item
    below = ((curve[1:] + curve[:-1]) / 2 / n).sum()  # trapezes
    assert gini(counts) == pytest.approx((1 - 2 * below) * n / (n - 1), abs=1e-9)
    assert curve[0] == 0 and curve[-1] == pytest.approx(1) and np.all(np.diff(curve) >= -1e-12)


def test_of_one_item_or_none_no_unevenness_can_be_told():
    assert isnan(gini(np.array([4]))) and isnan(gini(np.zeros(0)))
    assert isnan(gini(np.zeros(3)))


def test_popularity_of_a_list_is_the_mean_of_its_items():
    lists, n_events = np.array([[0, 1], [2, -1], [-1, -1]]), np.array([10, 4, 1])
    np.testing.assert_allclose(mean_popularity(lists, n_events), [7, 1, np.nan])
    np.testing.assert_allclose(mean_popularity(lists, n_events, k=1), [10, 1, np.nan])


def test_lift_compares_lists_with_what_was_taken_where_both_are_known():
    listed, taken = np.array([6.0, 2.0, np.nan, 9.0]), np.array([3.0, 1.0, 5.0, np.nan])
    assert popularity_lift(listed, taken) == pytest.approx((6 + 2) / (3 + 1) - 1)
    assert isnan(popularity_lift(listed[2:], taken[2:]))


def test_shares_of_groups_add_up_and_leave_out_what_has_no_group():
    counts, group = np.array([3, 1, 4, 9]), np.array([0, 2, 0, -1])
    np.testing.assert_allclose(shares_by_group(counts, group, 3), [7 / 8, 0, 1 / 8])
    assert np.isnan(shares_by_group(counts, np.full(4, -1), 3)).all()
    assert shares_by_group(counts, np.full(4, -1), 0).shape == (0,)


@given(counts=COUNTS)
def test_tenths_have_equally_many_items_and_the_popular_come_first(counts):
    tenth = popularity_tenths(counts)
    sizes = np.bincount(tenth, minlength=10)
    assert sizes.sum() == len(counts) and sizes.max() - sizes.min() <= 1
    order = np.argsort(tenth, kind="stable")
    assert np.all(np.diff(tenth[order]) >= 0)
    for one in range(9):
        if sizes[one] and (tenth > one).any():
            assert counts[tenth == one].min() >= counts[tenth > one].max()


@given(
    lists=arrays.arrays(np.int64, (5, 6), elements=st.integers(-1, 7)),
    value=arrays.arrays(float, 8, elements=st.floats(0, 9)),
)
def test_means_at_several_cut_offs_are_those_of_each_alone(lists, value):
    found = list_means(lists, value, (1, 3, 6, 9))
    for row, one in enumerate(lists):
        for at, k in enumerate((1, 3, 6, 9)):
            listed = [value[item] for item in one[:k] if item >= 0]
            expected = sum(listed) / len(listed) if listed else np.nan
            np.testing.assert_allclose(found[row, at], expected, atol=1e-12)
