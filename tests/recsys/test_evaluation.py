"""Intervals hold what they promise, and resample users."""

import numpy as np
import pytest

from recsys.evaluation import (
    bootstrap_interval,
    group_gap,
    history_slices,
    mean_over_requests,
    paired_interval,
    ratio_interval,
)


def simulated(rng, n_users, per_user, user_spread):
    """Requests with mean 0.3 whose users differ by `user_spread`; (values, user)."""
    user = np.repeat(np.arange(n_users), per_user)
    own = rng.normal(0.3, user_spread, n_users)
    return own[user] + rng.normal(0, 0.1, len(user)), user


def test_the_mean_leaves_out_requests_without_a_value():
    table = np.array([[1.0, np.nan, np.nan], [4.0, 2.0, np.nan]])
    np.testing.assert_array_equal(mean_over_requests(table), [(1 + 4) / 2, 2, np.nan])
    assert mean_over_requests(np.array([1.0, np.nan, 4.0])) == (1 + 4) / 2


def test_the_interval_covers_the_true_mean_as_often_as_it_says():
    rng = np.random.default_rng(0)
    lengths = rng.geometric(0.3, 60)  # users with few and with many requests
    covered = []
    for _ in range(400):
        low, high = bootstrap_interval(*simulated(rng, 60, lengths, 0.2), rng, n_resamples=200)
        covered.append(low < 0.3 < high)
    assert 0.90 < np.mean(covered) < 0.98


def test_requests_of_one_user_are_not_independent_evidence():
    rng = np.random.default_rng(0)
    values, user = simulated(rng, 50, 20, user_spread=0.2)
    low, high = bootstrap_interval(values, user, rng)
    low_alone, high_alone = bootstrap_interval(values, np.arange(len(values)), rng)
    # 50 draws of spread .2 against 1000 of spread sqrt(.2**2 + .1**2)
    wider = (0.2 / 50**0.5) / ((0.2**2 + 0.1**2) ** 0.5 / 1000**0.5)
    assert (high - low) / (high_alone - low_alone) == pytest.approx(wider, rel=0.2)


def test_users_weigh_as_much_as_they_have_requests():
    # two users: a resample holds a alone, b alone or both; both is the mean over the 4 requests
    values, user = np.array([0.0, 1, 1, 1]), np.array([7, 3, 3, 3])
    low, high = bootstrap_interval(values, user, np.random.default_rng(0), level=0.4)
    assert (low, high) == (3 / 4, 3 / 4)
    assert bootstrap_interval(values, user, np.random.default_rng(0)) == (0, 1)


def test_several_metrics_share_their_resamples():
    rng = np.random.default_rng(0)
    values, user = simulated(rng, 30, 3, 0.2)
    holes = np.where(rng.random(90) < 0.5, np.nan, values)
    low, high = bootstrap_interval(np.stack([values, 2 * values, holes], 1), user, rng)
    assert low.shape == high.shape == (3,)
    assert low[1] == pytest.approx(2 * low[0]) and high[1] == pytest.approx(2 * high[0])
    assert high[2] - low[2] > high[0] - low[0]  # half the requests know less
    assert low[2] < np.nanmean(holes) < high[2]


def test_the_order_of_the_requests_changes_nothing():
    rng = np.random.default_rng(0)
    values, user = simulated(rng, 30, 3, 0.2)
    shuffled = rng.permutation(90)
    straight = bootstrap_interval(values, user, np.random.default_rng(5))
    mixed = bootstrap_interval(values[shuffled], user[shuffled], np.random.default_rng(5))
    np.testing.assert_allclose(straight, mixed, rtol=1e-12)


def test_memory_in_chunks_draws_like_memory_at_once(monkeypatch):
    values, user = simulated(np.random.default_rng(0), 30, 3, 0.2)
    at_once = bootstrap_interval(values, user, np.random.default_rng(5), n_resamples=50)
    monkeypatch.setattr("recsys.evaluation.WEIGHTS_AT_A_TIME", 7 * 30)
    in_chunks = bootstrap_interval(values, user, np.random.default_rng(5), n_resamples=50)
    np.testing.assert_allclose(in_chunks, at_once, rtol=1e-12)


def test_a_model_does_not_differ_from_itself():
    values, user = simulated(np.random.default_rng(0), 30, 3, 0.2)
    assert paired_interval(values, values, user, np.random.default_rng(0)) == (0, 0, 0)


def test_pairing_removes_what_the_models_share():
    rng = np.random.default_rng(0)
    values, user = simulated(rng, 50, 4, 0.2)
    better = values + 0.05 + rng.normal(0, 0.01, 200)
    difference, low, high = paired_interval(better, values, user, rng)
    assert difference == pytest.approx((better - values).mean())
    assert 0.04 < low < difference < high < 0.06
    alone = bootstrap_interval(better, user, rng)
    assert high - low < (alone[1] - alone[0]) / 5


def test_a_request_unknown_to_one_model_counts_for_neither():
    a, b = np.array([1.0, np.nan, 3.0, 9.0]), np.array([0.0, 5.0, 1.0, np.nan])
    difference, low, high = paired_interval(a, b, np.arange(4), np.random.default_rng(0))
    assert difference == (1 + 2) / 2
    assert (low, high) == (1, 2)


def test_a_ratio_is_that_of_the_means_and_pairing_makes_it_sharp():
    rng = np.random.default_rng(0)
    user, b = np.repeat(np.arange(300), 3), rng.random(900)
    a, drawn = 1.5 * b, np.random.default_rng(1)
    a[5] = np.nan  # left out of both
    assert ratio_interval(a, b, user, drawn) == pytest.approx((1.5, 1.5, 1.5))
    other = rng.random(900)
    ratio, low, high = ratio_interval(other, b, user, drawn)
    assert ratio == pytest.approx(other.mean() / b.mean())
    assert low < ratio < high and high - low > 0.05


@pytest.mark.parametrize("values", [np.zeros(0), np.full(3, np.nan)])
def test_an_interval_of_nothing_is_undefined(values):
    interval = bootstrap_interval(values, np.arange(len(values)), np.random.default_rng(0))
    np.testing.assert_array_equal(interval, [np.nan, np.nan])
    assert np.isnan(mean_over_requests(values))


def test_every_request_is_in_one_history_slice():
    n_events = np.array([0, 1, 4, 5, 19, 20, 5000])
    slices = history_slices(n_events)
    expected = [0, 1, 1, 2, 2, 3, 3]
    names = ["history_0", "history_1_4", "history_5_19", "history_20_plus"]
    assert list(slices) == names
    for row, slice_number in enumerate(expected):
        assert [bool(slices[name][row]) for name in names] == [n == slice_number for n in range(4)]


def test_the_gap_is_between_the_best_and_the_worst_group_of_the_same_resamples():
    rng = np.random.default_rng(0)
    user = np.arange(400)
    groups = np.stack([user < 100, (user >= 100) & (user < 300), user >= 300], 1)
    values = rng.random(400) + np.array([0.0, 0.5, 0.2])[groups.argmax(1)]
    values[::7] = np.nan
    found = group_gap(values, groups, user, np.random.default_rng(1), 500)
    means = [np.nanmean(values[one]) for one in groups.T]
    np.testing.assert_allclose(found.mean, means)
    assert (found.best, found.worst) == (1, 0)
    gap, low, high = found.gap
    assert gap == pytest.approx(means[1] - means[0]) and low < gap < high
    assert (found.low < found.mean).all() and (found.mean < found.high).all()
    # of users of their own the error of a difference is the root of the sum of squares
    half = np.hypot(*((found.high - found.low)[[0, 1]] / 2))
    assert (high - low) / 2 == pytest.approx(half, rel=0.15)


def test_a_group_with_itself_has_no_gap():
    values, user = np.arange(10.0), np.arange(10)
    found = group_gap(values, np.ones((10, 2), bool), user, np.random.default_rng(0), 50)
    assert found.gap == (0, 0, 0)
