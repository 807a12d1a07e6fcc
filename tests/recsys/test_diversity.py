"""Variety, liked surprise and the user's own mix, as their formulas written out for one list."""

from math import log

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from recsys import diversity
from recsys.diversity import intra_list_distance, miscalibration, mix_of, serendipity

KS = (1, 2, 4)
LISTS = arrays.arrays(np.int64, (6, 5), elements=st.integers(-1, 8))


def unit(n, dims=3, seed=0):
    vectors = np.random.default_rng(seed).normal(size=(n, dims))
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


@given(lists=LISTS)
def test_distance_is_the_mean_over_all_pairs(lists):
    vectors = unit(9)
    found = intra_list_distance(lists, vectors, (*KS, 7))
    for row, one in enumerate(lists):
        for at, k in enumerate((*KS, 7)):
            items = [item for item in one[:k] if item >= 0]
            pairs = [1 - float(vectors[a] @ vectors[b])
                     for i, a in enumerate(items) for b in items[:i]]  # fmt: skip
            expected = np.mean(pairs) if pairs else np.nan
            np.testing.assert_allclose(found[row, at], expected, atol=1e-5)


def test_a_list_of_one_text_has_no_distance_and_of_opposites_the_largest():
    vectors = np.array([[1, 0], [1, 0], [-1, 0]], np.float32)
    found = intra_list_distance(np.array([[0, 1], [0, 2], [0, -1]]), vectors, (2,))
    np.testing.assert_allclose(found, [[0], [2], [np.nan]], atol=1e-6)
    assert intra_list_distance(np.zeros((0, 3), int), vectors, KS).shape == (0, 3)
    assert np.isnan(intra_list_distance(np.full((2, 3), -1), vectors, KS)).all()


def test_lists_taken_some_at_a_time_are_as_far_as_all_at_once(monkeypatch):
    lists, vectors = np.random.default_rng(1).integers(-1, 9, (50, 5)), unit(9)
    whole = intra_list_distance(lists, vectors, KS)
    monkeypatch.setattr(diversity, "ROWS_AT_A_TIME", 7)
    np.testing.assert_array_equal(intra_list_distance(lists, vectors, KS), whole)


def test_serendipity_counts_what_was_taken_and_popularity_does_not_list():
    request = np.array([0, 0, 0, 1, 3])
    rank, popular = np.array([1, 2, 4, 1, np.inf]), np.array([1, 9, 3, np.inf, 1])
    found = serendipity(request, rank, popular, 4, (1, 2, 4))
    # request 0: at 2 the item at rank 2; at 4 popularity lists the first and the third too
    expected = [[0, 1 / 2, 1 / 4], [1, 1 / 2, 1 / 4], [np.nan] * 3, [0, 0, 0]]
    np.testing.assert_allclose(found, expected)


@given(rank=arrays.arrays(float, 12, elements=st.floats(1, 30)))
def test_nothing_is_serendipitous_in_the_ordinary_list_itself(rank):
    found = serendipity(np.repeat(np.arange(4), 3), rank, rank, 4, KS)
    assert found.shape == (4, 3) and not found.any()


def test_a_mix_is_the_shares_of_the_categories_that_are_known():
    mix = mix_of(np.array([0, 0, 0, 2, 2, 3]), np.array([1, 1, 0, 4, -1, -1]), 5)
    assert mix.request.tolist() == [0, 0, 2] and mix.category.tolist() == [0, 1, 4]
    np.testing.assert_allclose(mix.share, [1 / 3, 2 / 3, 1])
    nothing = mix_of(np.array([0, 1]), np.array([-1, -1]), 0)
    assert len(nothing.request) == len(nothing.share) == 0


def test_divergence_by_hand():
    category = np.array([0, 0, 1, 2, -1])
    wanted = mix_of(np.array([0, 0, 0, 1, 2]), np.array([0, 0, 1, 2, -1]), 3)
    lists = np.array([[0, 2, 4], [0, 1, 4], [0, 1, 2], [3, 4, 4]])
    found = miscalibration(lists, category, wanted, (1, 2, 3))
    # p = (2/3, 1/3): the first item alone is all of category 0, two items are half and half
    one = 2 / 3 * log(2 / 3 / (0.99 + 0.01 * 2 / 3)) + 1 / 3 * log(1 / 3 / (0.01 / 3))
    half = sum(p * log(p / (0.99 / 2 + 0.01 * p)) for p in (2 / 3, 1 / 3))
    np.testing.assert_allclose(found[0], [one, half, half])
    np.testing.assert_allclose(found[1], -log(0.01))  # nothing in common
    assert np.isnan(found[2:]).all()  # nothing taken that has a category


def test_a_list_with_the_users_own_mix_does_not_diverge_and_an_empty_one_is_undefined():
    category = np.array([0, 1, -1])
    wanted = mix_of(np.array([0, 0, 1, 2]), np.array([0, 1, 0, 1]), 2)
    lists = np.array([[1, 0], [-1, -1], [2, -1]])
    assert miscalibration(lists, category, wanted, (2,))[0, 0] == pytest.approx(0, abs=1e-12)
    assert np.isnan(miscalibration(lists, category, wanted, (2,))[1:]).all()


@given(lists=LISTS, taken=arrays.arrays(np.int64, 30, elements=st.integers(0, 8)))
def test_divergence_is_between_none_and_that_of_nothing_in_common(lists, taken):
    category = np.array([0, 0, 1, 1, 2, 2, 3, -1, -1])
    wanted = mix_of(np.sort(taken) % 6, category[taken], 4)
    found = miscalibration(lists, category, wanted, KS)
    known = found[~np.isnan(found)]
    assert np.all(known >= -1e-12) and np.all(known <= -log(0.01) + 1e-12)
