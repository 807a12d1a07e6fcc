"""Contributions add up to the score, and go to the features that moved it."""

import lightgbm
import numpy as np
import pytest

from recsys.contributions import contributions, contributions_of, fair_contributions
from recsys.ranker import Ranker, RankerConfig, ranker_from_text, refit_ranker
from recsys.rows import Rows

FEATURES = ("price", "age", "interest", "noise")
GROUP_OF = {"price": "item", "age": "item", "interest": "text", "noise": "noise"}
GROUPS = ("item", "noise", "text")


@pytest.fixture(scope="module")
def fitted():
    """A ranker of rows taken by price (twice as strongly) and interest; (ranker, its rows)."""
    rng = np.random.default_rng(0)
    table = rng.random((4_000, 4)).astype(np.float32)
    table[rng.random(table.shape) < 0.1] = np.nan
    strength = 4 * np.nan_to_num(table[:, 0]) + 2 * np.nan_to_num(table[:, 2])
    grade = (strength + rng.normal(size=4_000) > 4).astype(np.int64)
    config = RankerConfig(min_rows_in_leaf=20, feature_fraction=1.0)
    rows = Rows(table, grade, np.full(100, 40))
    return refit_ranker([rows], FEATURES, config, seed=0, trees=40), table


def test_contributions_and_what_is_expected_add_up_to_the_score(fitted):
    ranker, table = fitted
    known = contributions_of(ranker, GROUP_OF)
    assert known.groups == GROUPS
    parts = contributions(known, ranker, table)
    score = ranker.predict(table)
    assert np.ptp(score) > 1
    np.testing.assert_allclose(known.expected + parts.sum(1), score, atol=1e-5)


def test_grouping_features_only_adds_their_contributions_up(fitted):
    ranker, table = fitted
    alone = contributions_of(ranker, {name: name for name in FEATURES})
    each = dict(zip(alone.groups, contributions(alone, ranker, table).T, strict=True))
    together = contributions(contributions_of(ranker, GROUP_OF), ranker, table)
    np.testing.assert_allclose(together[:, 0], each["price"] + each["age"], atol=1e-5)
    np.testing.assert_allclose(together[:, 2], each["interest"], atol=1e-5)


def test_most_goes_to_what_moves_the_score_most(fitted):
    ranker, table = fitted
    alone = contributions_of(ranker, {name: name for name in FEATURES})
    size = dict(zip(alone.groups, np.abs(contributions(alone, ranker, table)).mean(0), strict=True))
    assert size["price"] > size["interest"] > 3 * max(size["age"], size["noise"])


def test_they_go_with_lightgbms_own(fitted):
    ranker, table = fitted
    alone = contributions_of(ranker, {name: name for name in FEATURES})
    ours = dict(zip(alone.groups, contributions(alone, ranker, table).T, strict=True))
    theirs = np.asarray(ranker.booster.predict(table, pred_contrib=True)).T[:-1]
    for name, other in zip(FEATURES, theirs, strict=True):
        if name in ("price", "interest"):
            assert np.corrcoef(ours[name], other)[0, 1] > 0.85


def test_a_ranker_read_back_contributes_the_same(fitted):
    ranker, _ = fitted
    again = ranker_from_text(ranker.to_text(), FEATURES)
    known, other = (contributions_of(one, GROUP_OF) for one in (ranker, again))
    np.testing.assert_allclose(other.of_leaf, known.of_leaf, atol=1e-6)


@pytest.mark.parametrize("rows", [0, 1])
def test_no_row_and_one_row(fitted, rows):
    ranker, table = fitted
    known = contributions_of(ranker, GROUP_OF)
    many = contributions(known, ranker, table)
    np.testing.assert_array_equal(contributions(known, ranker, table[:rows]), many[:rows])


def test_a_tree_that_never_splits_credits_nobody():
    table = np.ones((40, 4), np.float32)
    rows = Rows(table, np.tile([0, 1], 20), np.full(2, 20))
    ranker = refit_ranker([rows], FEATURES, RankerConfig(), seed=0, trees=3)
    known = contributions_of(ranker, GROUP_OF)
    assert not contributions(known, ranker, table).any()
    np.testing.assert_allclose(ranker.predict(table), known.expected)


def test_fair_contributions_add_up_to_the_score_less_a_constant(fitted):
    ranker, table = fitted
    parts = fair_contributions(ranker, table[:300])
    assert parts.shape == (300, len(FEATURES))
    rest = ranker.predict(table[:300]) - parts.sum(1)
    np.testing.assert_allclose(rest, rest[0], atol=1e-9)
    size = np.abs(parts).mean(0)
    assert size[0] > size[2] > size[[1, 3]].max()  # price moves most, then interest
    assert fair_contributions(ranker, table[:0]).shape == (0, len(FEATURES))


def test_trees_with_linear_leaves_are_not_taken_apart(fitted):
    _, table = fitted
    found = lightgbm.train(
        {"objective": "regression", "linear_tree": True, "verbosity": -1},
        lightgbm.Dataset(np.nan_to_num(table[:500]), table[:500, 3] > 0.5), 2,
    )  # fmt: skip
    assert fair_contributions(Ranker(found, FEATURES), table[:5]) is None
