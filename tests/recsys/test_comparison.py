"""Laws of comparing two runs: no more false alarms than stated, whole users, every slice."""

from dataclasses import replace
from itertools import product
from math import sqrt

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import t as student

from recsys.comparison import (
    EVERYBODY,
    corrected,
    differences,
    holm,
    permutation_test,
    seed_spread,
    slices_of,
)


def swapped_at_random(rng, n_users=80):
    """One run's values on the requests of users, and the same with a and b swapped by user."""
    user = np.repeat(np.arange(n_users), rng.integers(1, 5, n_users))
    a, b = rng.random((2, len(user)))
    swap = rng.random(n_users)[user] < 0.5
    return user, np.where(swap, b, a), np.where(swap, a, b)


def test_two_runs_that_do_not_differ_raise_an_alarm_no_more_often_than_stated():
    """60 rounds at 5 %: more than 9 alarms would come once in 500 such tests."""
    rng, alarms, any_alarm = np.random.default_rng(1), 0, 0
    for _ in range(60):
        user, a, b = swapped_at_random(rng)
        cut = {("half", str(at)): user % 2 == at for at in (0, 1)}
        cut |= {("third", str(at)): user % 3 == at for at in (0, 1, 2)}
        found = differences({"m": a}, {"m": b}, user, cut, "m", rng, 200, 20)
        [found] = corrected([found])
        alarms += found[0].p < 0.05
        any_alarm += any(one.is_told for one in found)
    assert alarms <= 9 and any_alarm <= 9


def test_a_difference_that_is_there_is_found():
    rng = np.random.default_rng(2)
    user = np.repeat(np.arange(200), 3)
    a = rng.random(600)
    assert permutation_test(a + 0.05 + 0.1 * rng.normal(size=600), a, user, rng, 999) == 1 / 1000


def test_the_p_value_is_that_of_all_swaps():
    """Three users: 8 ways to swap, of which |sum| >= 2 + 1 + 0.5 - 1 = 2.5 for four."""
    sums = np.array([2.0, 1.0, -0.5])
    ways = [abs(np.dot(signs, sums)) for signs in product((-1, 1), repeat=3)]
    share = np.mean(np.array(ways) >= 2.5)
    assert share == 4 / 8
    user, rng = np.array([5, 5, 7, 9]), np.random.default_rng(3)
    a = np.array([1.5, 0.5, 1.0, -0.5])
    n = 20_000
    p = permutation_test(a, np.zeros(4), user, rng, n)
    assert p == pytest.approx(share, abs=4 * sqrt(share * (1 - share) / n))


def test_equal_runs_have_p_1_and_several_columns_share_their_swaps():
    rng = np.random.default_rng(4)
    user, a, b = swapped_at_random(rng)
    p = permutation_test(np.stack([a, a, b], 1), np.stack([a, b, a], 1), user, rng, 500)
    assert p[0] == 1 and p[1] == p[2] < 1


def test_requests_of_one_user_are_no_evidence_of_their_own():
    """The same difference on 100 requests of one user can always be swapped: p is 1."""
    rng = np.random.default_rng(5)
    one, many = np.zeros(100, int), np.arange(100)
    assert permutation_test(np.ones(100), np.zeros(100), one, rng, 300) == 1
    assert permutation_test(np.ones(100), np.zeros(100), many, rng, 300) == 1 / 301


@given(st.lists(st.floats(0, 1), min_size=1, max_size=8))
def test_holm_is_between_each_p_and_bonferroni(p):
    found = holm(p)
    assert (found >= np.array(p)).all() and (found <= np.minimum(1, np.array(p) * len(p))).all()
    assert (np.diff(found[np.argsort(p, kind="stable")]) >= 0).all()


def test_holm_as_written_out():
    assert holm([0.01, 0.04, 0.03]).tolist() == pytest.approx([3 * 0.01, 2 * 0.03, 2 * 0.03])


def test_every_difference_of_every_comparison_counts_among_the_many():
    rng = np.random.default_rng(6)
    user, a, b = swapped_at_random(rng)
    cut = {("half", "0"): user % 2 == 0}
    [one] = corrected([differences({"m": a}, {"m": b}, user, cut, "m", rng, 100, 20)])
    few, many = [replace(one[0], p=0.01)], [replace(one[0], p=0.5)] * 4
    assert corrected([few])[0][0].corrected == 0.01
    assert corrected([few, many])[0][0].corrected == 5 * 0.01


def test_a_difference_is_other_minus_base_within_its_slice():
    user = np.arange(8)
    base = {"m": np.array([0.0] * 4 + [0.5] * 4), "n": np.zeros(8)}
    other = {"m": np.array([1.0] * 4 + [0.25] * 3 + [np.nan]), "n": np.ones(8)}
    cut = {("late", "yes"): user >= 4}
    rng = np.random.default_rng(0)
    found = differences(base, other, user, cut, "m", rng, 50, 20)
    assert [(one.metric, one.name) for one in found] == [
        ("m", EVERYBODY), ("n", EVERYBODY), ("m", "late = yes"),
    ]  # fmt: skip
    first, second, late = found
    assert (first.requests, first.users, late.requests) == (7, 7, 3)
    assert first.difference == pytest.approx((4 * 1.0 - 3 * 0.25) / 7)
    assert (late.base, late.other, late.difference) == (0.5, 0.25, -0.25)
    assert second.difference == 1 and second.low == second.high == 1


def test_seeds_spread_as_their_standard_deviation_says():
    a, b = [0.1, 0.2, 0.3], [0.5, 0.5]
    pooled = sqrt((0.1**2 + 0 + 0.1**2 + 0 + 0) / (2 + 1))
    spread, runs = seed_spread([a, b, [0.9]])
    assert runs == 5
    assert spread == pytest.approx(student.ppf(0.975, 3) * sqrt(2) * pooled)
    nothing, runs = seed_spread([[0.1], [0.2]])
    assert np.isnan(nothing) and runs == 0


def test_two_runs_of_other_seeds_lie_within_the_spread_95_times_of_100():
    rng, inside = np.random.default_rng(8), 0
    for _ in range(400):
        seeds, pair = rng.normal(size=5), rng.normal(size=2)
        inside += abs(pair[0] - pair[1]) < seed_spread([seeds])[0]
    assert inside / 400 == pytest.approx(0.95, abs=4 * sqrt(0.95 * 0.05 / 400))


def test_slices_are_named_in_words_and_small_ones_are_left_out():
    user = np.arange(20)
    columns = {
        "history_events": np.repeat([0, 3, 19, 20], 5),
        "unseen_share": np.repeat([0, 0.5, 1], [10, 5, 5]),
        "user_kind": np.array(["cold"] * 5 + ["warm"] * 15),
        "category": np.array(["a"] * 17 + ["b"] * 3),
        "user_age": np.append(np.arange(19.0), np.nan), "user_same": np.full(20, "x"),
    }  # fmt: skip
    found, too_small = slices_of(columns, user, fewest=4)
    sizes = {key: int(mask.sum()) for key, mask in found.items()}
    assert sizes == {
        ("history_events", "0"): 5, ("history_events", "1 to 4"): 5,
        ("history_events", "5 to 19"): 5, ("history_events", "20 or more"): 5,
        ("unseen_share", "none"): 10, ("unseen_share", "some"): 5, ("unseen_share", "all"): 5,
        ("user_kind", "warm"): 15, ("user_kind", "cold"): 5, ("category", "a"): 17,
        ("user_age", "0 to 4.5"): 5, ("user_age", "4.5 to 9"): 4, ("user_age", "9 to 13.5"): 5,
        ("user_age", "13.5 to 18"): 5,
    }  # fmt: skip
    assert too_small == 1  # category b


def test_a_slice_counts_users_not_requests():
    found, too_small = slices_of({"c": np.array(["a"] * 6 + ["b"] * 2)}, np.zeros(8, int), fewest=2)
    assert found == {} and too_small == 2
