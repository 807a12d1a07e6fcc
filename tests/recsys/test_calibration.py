"""Probabilities are the shares that are taken, whatever the training rows were a sample of."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recsys.calibration import (
    GROUP_ROWS,
    Blend,
    Calibration,
    Heads,
    calibrate,
    check_values,
    fit_map,
    raw_outputs,
    reliability,
)
from recsys.errors import ConfigError
from recsys.ranker import HeadConfig, fit_heads
from recsys.rows import Rows, group_sizes, training_rows

FEATURES, SIZE = ("strength", "noise"), 30  # candidates a request
CONFIG = HeadConfig(trees=60, leaves=3, feature_fraction=1.0)


def world(seed, n_requests):
    """Return (table, request, P(grade >= 1), P(grade >= 2), grade) of every candidate."""
    rng = np.random.default_rng(seed)
    table = rng.normal(size=(n_requests * SIZE, 2)).astype(np.float32)
    taken = 1 / (1 + np.exp(4.5 - 1.2 * table[:, 0]))
    bought = taken * 0.3
    chance = rng.random(len(table))
    grade = (chance < taken).astype(int) + (chance < bought)
    return table, np.repeat(np.arange(n_requests), SIZE), taken, bought, grade


@pytest.fixture(scope="module")
def learned():
    """Return (uncalibrated heads, calibrated heads): 4 negatives a request, most requests out."""
    table, request, _, _, grade = world(0, 4000)
    nothing = np.zeros(len(request), bool)
    rows = training_rows(request, grade, nothing, 4, 0, np.random.default_rng(0))
    assert len(np.unique(request[rows])) < 0.5 * 4000  # in the others nothing was taken
    group = group_sizes(request[rows])
    models = fit_heads(Rows(table[rows], grade[rows], group), FEATURES, CONFIG, seed=0)
    later, _, _, _, found = world(1, 4000)
    return models, calibrate(models, raw_outputs(tuple(models.values()), later), found)


def test_a_known_probability_is_recovered_from_sampled_rows(learned):
    """On average within 10 % of the mean probability, 25 % for the rarer grade; raw: over 500 %."""
    models, heads = learned
    table, _, *truth, _ = world(2, 1000)
    raw, found = raw_outputs(tuple(models.values()), table), heads.predict(table)
    assert heads.levels == (1, 2)
    for at, (probability, least) in enumerate(zip(truth, (0.1, 0.25), strict=True)):
        off, before = (np.abs(some[:, at] - probability).mean() for some in (found, raw))
        assert off < least * probability.mean()
        assert before > 5 * probability.mean()
        assert found[:, at].mean() == pytest.approx(probability.mean(), rel=0.1)


def test_requests_in_which_nothing_was_taken_count(learned):
    """Calibrated on the others alone, every probability would be too high."""
    models, heads = learned
    table, request, *_, grade = world(1, 4000)
    taught = np.isin(request, request[grade > 0])
    raw = raw_outputs(tuple(models.values()), table)
    some = calibrate(models, raw[taught], grade[taught])
    share = taught.mean()
    assert share < 0.5
    ratio = some.predict(table)[:, 0].mean() / heads.predict(table)[:, 0].mean()
    assert ratio == pytest.approx(1 / share, rel=0.1)


def test_bought_is_never_likelier_than_taken(learned):
    table = world(3, 200)[0]
    found = learned[1].predict(table)
    assert (found[:, 1] <= found[:, 0]).all() and (found > 0).all() and (found <= 1).all()
    straight, low = Calibration(np.array([0.0, 1]), np.array([0.0, 1])), np.array([0.0, 0.5])
    crossing = Heads((1, 2, 3), (), (straight, Calibration(np.array([0.0, 1]), low), straight))
    raw = np.array([[0.4, 0.9, 0.3], [0.4, 0.6, 0.9]])
    expected = [[0.4, min(0.4, 0.9 * 0.5), 0.3], [0.4, 0.6 * 0.5, 0.6 * 0.5]]
    np.testing.assert_allclose(crossing.calibrated(raw), expected)


@given(st.integers(0, 2**32), st.integers(1, 1000), st.sampled_from([0.0, 0.01, 0.5, 1.0]))
def test_a_map_keeps_every_order_and_stays_within_0_and_1(seed, n_rows, share):
    rng = np.random.default_rng(seed)
    raw = rng.uniform(1e-6, 1 - 1e-6, n_rows).round(rng.integers(2, 12)).clip(1e-6, 1 - 1e-6)
    found = fit_map(raw, rng.random(n_rows) < share * raw)
    assert (np.diff(found.raw) > 0).all() and (np.diff(found.probability) >= 0).all()
    assert (found.raw[[0, -1]] == (0, 1)).all()
    assert found.probability[0] == 0 and found.probability[1] > 0 and found.probability[-1] <= 1
    between = np.sort(rng.random(50))
    assert (np.diff(found.apply(between)) > 0).all() or found.probability[-2] == 1


def test_a_map_runs_through_the_middle_of_its_pools():
    """Shares .01, .03, .02, .1 of four groups: the two that fall are one pool of .025."""
    shares = (0.01, 0.03, 0.02, 0.1)
    raw = np.linspace(0.1, 0.5, 4 * GROUP_ROWS)
    taken = np.concatenate([np.arange(GROUP_ROWS) < GROUP_ROWS * share for share in shares])
    found = fit_map(raw, taken)
    quarter = raw.reshape(4, -1).mean(1)
    centres = [quarter[0], (quarter[1] + quarter[2]) / 2, quarter[3]]
    np.testing.assert_allclose(found.raw, [0, *centres, 1])
    np.testing.assert_allclose(found.probability, [0, 0.01, 0.025, 0.1, 0.1 / quarter[3]])


def test_what_nobody_took_is_rare_and_one_lucky_row_is_not_certain():
    raw, taken = np.linspace(0.1, 0.9, 5 * GROUP_ROWS), np.zeros(5 * GROUP_ROWS, bool)
    np.testing.assert_allclose(fit_map(raw, taken).probability[1], 0.5 / (5 * GROUP_ROWS))
    taken[-1] = True
    found = fit_map(raw, taken)
    np.testing.assert_allclose(found.probability[1:3], [0.5 / (4 * GROUP_ROWS), 1 / GROUP_ROWS])
    assert found.apply(raw[-1]) < 2 / GROUP_ROWS


def test_equal_outputs_have_one_probability_whatever_came_first():
    raw = np.repeat([0.2, 0.4], 3 * GROUP_ROWS)
    taken = np.tile(np.arange(3 * GROUP_ROWS) < 30, 2)
    found, turned = fit_map(raw, taken), fit_map(raw[::-1], taken[::-1])
    np.testing.assert_array_equal(found.raw, turned.raw)
    np.testing.assert_allclose(found.apply(np.array([0.3])), 0.1)  # one pool at the middle


def test_a_map_written_as_json_is_the_same_map(learned):
    one = learned[1].maps[0]
    points = json.loads(json.dumps([one.raw.tolist(), one.probability.tolist()]))
    again = Calibration(*map(np.array, points))
    raw = np.random.default_rng(0).random(100)
    np.testing.assert_array_equal(again.apply(raw), one.apply(raw))


def test_a_blend_is_the_value_of_each_grade_times_its_probability(learned):
    heads, table = learned[1], world(4, 50)[0]
    taken, bought = heads.predict(table).T
    expected = -0.1 * (1 - taken) + 2.0 * (taken - bought) + 7.0 * bought
    np.testing.assert_allclose(Blend(heads, (-0.1, 2.0, 7.0)).predict(table), expected)
    np.testing.assert_allclose(Blend(heads, (0.0, 1.0, 1.0)).predict(table), taken)
    assert Blend(heads, (0.0, 1.0, 1.0)).features == FEATURES
    some = Heads((2,), heads.models[1:], heads.maps[1:])  # grade 1 was never seen
    np.testing.assert_allclose(
        Blend(some, (0.0, 9.0, 3.0)).predict(table), 3.0 * some.predict(table)[:, 0]
    )


def test_every_grade_needs_a_value_or_none_has_one():
    check_values((), 3)
    check_values((0.0, 1.0, 5.0), 2)
    with pytest.raises(ConfigError, match=r"ranker\.values: 2 values .* grades go up to 2; give"):
        check_values((0.0, 1.0), 2)


def test_bins_expect_as_much_and_compare_it_with_what_happened():
    """Of 60 rows with .1, 30 with .2 and 15 with .4 each kind expects 6 to be taken."""
    probability = np.repeat([0.1, 0.2, 0.4], [60, 30, 15])
    taken = np.concatenate([np.arange(60) < 3, np.arange(30) < 9, np.arange(15) < 6])
    order = np.random.default_rng(0).permutation(105)
    found = reliability(probability[order], taken[order])
    np.testing.assert_allclose(found.predicted, [0.1, 0.2, 0.4])
    np.testing.assert_allclose(found.observed, [3 / 60, 9 / 30, 6 / 15])
    np.testing.assert_array_equal(found.rows, [60, 30, 15])
    assert found.ece == pytest.approx((60 * 0.05 + 30 * 0.1 + 15 * 0) / 105)
    squares = 3 * 0.9**2 + 57 * 0.1**2 + 9 * 0.8**2 + 21 * 0.2**2 + 6 * 0.6**2 + 9 * 0.4**2
    assert found.brier == pytest.approx(squares / 105)


def test_there_are_ten_bins_and_each_expects_a_tenth():
    probability = np.random.default_rng(0).beta(0.5, 50, 100_000)
    found = reliability(probability, np.zeros(len(probability), bool))
    expected = found.predicted * found.rows / probability.sum()
    np.testing.assert_allclose(expected, 0.1, atol=0.001)
    assert len(found.rows) == 10 and found.rows.sum() == len(probability)
    assert found.ece == pytest.approx(probability.mean())  # nothing was taken
