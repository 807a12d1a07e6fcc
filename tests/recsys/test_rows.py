"""Training rows are all that was taken and a fair sample of the rest, each request in one piece."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recsys.errors import SchemaError
from recsys.rows import Rows, concat_rows, group_sizes, position_kinds, training_rows, value_weights


def candidates(seed, n_requests=30):
    """Draw (request, grade) of candidate rows; request 5 has nothing taken, request 7 no rows."""
    rng = np.random.default_rng(seed)
    sizes = np.where(np.arange(n_requests) == 7, 0, rng.integers(1, 30, n_requests))
    request = np.repeat(np.arange(n_requests), sizes)
    grade = np.where(rng.random(len(request)) < 0.1, rng.integers(1, 4, len(request)), 0)
    return request, np.where(request == 5, 0, grade)


def sampled(request, grade, negatives, rng):
    """Nothing was shown."""
    return training_rows(request, grade, np.zeros(len(grade), bool), negatives, 2, rng)


@pytest.mark.parametrize("negatives", [1, 4, 100])
@pytest.mark.parametrize("seed", range(3))
def test_every_taken_row_and_at_most_so_many_others_of_each_request(seed, negatives):
    request, grade = candidates(seed)
    rows = sampled(request, grade, negatives, np.random.default_rng(seed))
    assert len(set(rows.tolist())) == len(rows)
    assert (np.diff(request[rows]) >= 0).all()  # requests back to back
    for one in range(30):
        mine, chosen = np.flatnonzero(request == one), set(rows[request[rows] == one].tolist())
        taken = {row for row in mine.tolist() if grade[row] > 0}
        others = min(negatives, len(mine) - len(taken)) if taken else 0
        assert taken <= chosen <= set(mine.tolist())
        assert len(chosen) == len(taken) + others


def test_sampled_rows_are_fair_and_their_order_tells_nothing():
    request, grade = np.zeros(10, int), np.eye(10, dtype=int)[3]
    rng = np.random.default_rng(0)
    drawn = np.array([sampled(request, grade, 3, rng) for _ in range(3000)])
    times = np.bincount(drawn.ravel(), minlength=10)
    assert times[3] == 3000
    expected = 3000 * 3 / 9
    assert np.abs(np.delete(times, 3) - expected).max() < 5 * expected**0.5
    places = np.bincount(np.argmax(drawn == 3, axis=1), minlength=4)
    assert np.abs(places - 3000 / 4).max() < 5 * (3000 / 4) ** 0.5


@given(seed=st.integers(0, 999), negatives=st.integers(1, 40), impressions=st.integers(0, 40))
def test_what_was_shown_comes_first_and_is_at_most_so_much(seed, negatives, impressions):
    request, grade = candidates(seed)
    rng = np.random.default_rng(seed)
    shown = rng.random(len(request)) < rng.choice([0.0, 0.2, 0.7])
    rows = training_rows(request, grade, shown, negatives, impressions, rng)
    chosen = np.isin(np.arange(len(request)), rows)
    assert chosen.sum() == len(rows) and (np.diff(request[rows]) >= 0).all()
    for one in np.unique(request[rows]):
        mine = request == one
        taken, lost = mine & (grade > 0), mine & (grade == 0)
        n_shown = min((lost & shown).sum(), negatives, impressions)
        assert chosen[taken].all() and taken.any()
        assert chosen[lost & shown].sum() == n_shown
        assert chosen[lost & ~shown].sum() == min((lost & ~shown).sum(), negatives - n_shown)
    assert set(request[grade > 0]) == set(request[rows])


def test_of_much_that_was_shown_the_sample_is_fair():
    request, shown = np.zeros(12, int), np.arange(12) < 8
    grade, rng = np.eye(12, dtype=int)[3], np.random.default_rng(0)  # 3 was shown and taken
    drawn = [training_rows(request, grade, shown, 5, 2, rng) for _ in range(3000)]
    times = np.bincount(np.concatenate(drawn), minlength=12)
    assert times[3] == 3000 and {len(rows) for rows in drawn} == {6}
    for some, expected in ((np.delete(times[:8], 3), 3000 * 2 / 7), (times[8:], 3000 * 3 / 4)):
        assert np.abs(some - expected).max() < 5 * expected**0.5


def test_one_seed_one_sample_and_nothing_taken_no_rows():
    request, grade = candidates(0)
    one, again = (sampled(request, grade, 3, np.random.default_rng(0)) for _ in range(2))
    np.testing.assert_array_equal(one, again)
    rng = np.random.default_rng(0)
    assert len(sampled(request, np.zeros_like(grade), 3, rng)) == 0
    assert len(sampled(np.zeros(0, int), np.zeros(0, int), 3, rng)) == 0


def test_the_groups_of_sampled_rows_are_their_requests():
    request, grade = candidates(1)
    rows = sampled(request, grade, 4, np.random.default_rng(0))
    group = group_sizes(request[rows])
    each, sizes = np.unique(request[rows], return_counts=True)
    assert len(each) > 10
    np.testing.assert_array_equal(group, sizes)
    assert len(group_sizes(np.zeros(0, int))) == 0


def test_a_request_in_two_pieces_is_refused_in_words():
    np.testing.assert_array_equal(group_sizes(np.array([7, 7, 2, 9, 9, 9])), [2, 1, 3])
    with pytest.raises(SchemaError, match="3 requests lie in 4 pieces"):
        group_sizes(np.array([7, 7, 2, 9, 9, 7]))


@pytest.mark.parametrize("group", [[3, 3], [3, 5], [], [8, -1], [4, 3, 0]])
def test_groups_that_are_not_those_of_the_rows_are_refused_in_words(group):
    table, grade = np.zeros((7, 3), np.float32), np.zeros(7, int)
    with pytest.raises(SchemaError, match="7 rows have 7 grades and .* groups of"):
        Rows(table, grade, np.array(group, int))


def test_each_row_needs_a_grade():
    with pytest.raises(SchemaError, match="7 rows have 6 grades and 2 groups"):
        Rows(np.zeros((7, 3), np.float32), np.zeros(6, int), np.array([3, 4]))


def test_a_request_weighs_the_logarithm_of_its_value():
    weight = value_weights(np.array([0.0, 1.0, 3.0, np.nan, -5.0]))  # mean value of the four: 1
    logs = np.log([1.0, 2.0, 4.0, 1.0])
    np.testing.assert_allclose(weight[[0, 1, 2, 4]], logs / logs.mean())
    assert weight[3] == 1
    for nothing in ([np.nan, np.nan], [0.0, -1.0], []):
        assert value_weights(np.array(nothing)).tolist() == [1.0] * len(nothing)


@given(value=st.lists(st.floats(0, 1e6), min_size=1), factor=st.floats(1e-3, 1e3))
def test_the_unit_of_value_does_not_matter(value, factor):
    weight = value_weights(np.array(value))
    np.testing.assert_allclose(
        value_weights(factor * np.array(value)), weight, rtol=1e-6, atol=1e-9
    )
    assert np.isfinite(weight).all() and np.isclose(weight.mean(), 1)


def test_rows_put_behind_each_other_are_all_there():
    grade, group = np.array([1, 0, 2]), np.array([2, 1])
    one = Rows(np.eye(3, dtype=np.float32), grade, group, np.array([9.0, np.nan]), np.arange(3))
    other = Rows(np.ones((1, 3), np.float32), np.array([1]), np.array([1]), np.array([4.0]),
                 np.array([-1]))  # fmt: skip
    both = concat_rows([one, other])
    assert both.table.tolist() == [[1, 0, 0], [0, 1, 0], [0, 0, 1], [1, 1, 1]]
    assert both.grade.tolist() == [1, 0, 2, 1] and both.group.tolist() == [2, 1, 1]
    np.testing.assert_array_equal(both.value, [9.0, np.nan, 4.0])
    assert both.position.tolist() == [0, 1, 2, -1]
    plain = concat_rows([Rows(one.table, grade, group)])
    assert plain.value is None and plain.position is None


def shown_at(position, grade):
    """One request's rows."""
    table = np.zeros((len(grade), 1), np.float32)
    return Rows(table, np.array(grade), np.array([len(grade)]), position=np.array(position))


def test_rows_of_one_position_share_a_kind_and_rows_shown_nowhere_another():
    one = shown_at([-1, 1, 2, 1], [1, 0, 0, 1])
    other = shown_at([99, 100, 5000, -1, 0], [0, 0, 0, 0, 0])
    kinds = position_kinds([one, other])
    assert kinds.dtype == np.int32
    assert kinds.tolist() == [0, 2, 3, 2, 100, 101, 101, 0, 1]
    assert position_kinds([one, replace(other, position=None)]) is None


@pytest.mark.parametrize(
    "position", [[1, 2, -1, -1], [1, 2, 3, 4], [-1, -1, -1, -1], [1, -1, 2, 3]]
)
def test_positions_of_little_but_what_was_taken_tell_nothing(position):
    kinds = position_kinds([shown_at(position, [1, 2, 0, 0])])
    assert (kinds is None) == (position != [1, -1, 2, 3])
