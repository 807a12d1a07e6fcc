"""Trees laid out for blocks of rows say what LightGBM says, to the last bit."""

import lightgbm
import numpy as np
import pytest

from recsys.forest import forest_of
from recsys.kernels import SIDE_BY_SIDE
from recsys.ranker import Ranker, foreign_ranker, ranker_from_text

FEATURES = ("a", "b", "c", "d", "e")
PLAIN = {"verbosity": -1, "num_threads": 1, "min_data_in_leaf": 3, "seed": 0}


def rows(n, seed=0):
    """Rows of few values, so that many lie on a threshold; a and b may be missing, d is huge."""
    rng = np.random.default_rng(seed)
    table = rng.integers(-4, 5, (n, 5)).astype(np.float32) / 3
    table[:, 3] *= np.float32(1e38)
    table[:, 4] = rng.integers(0, 6, n)
    table[rng.random(n) < 0.2, 0] = np.nan
    table[rng.random(n) < 0.1, 1] = np.nan
    return table


def fitted(leaves=31, trees=20, categories="auto", **params):
    table = rows(3_000)
    target = np.nan_to_num(table[:, 0], nan=0.7) + table[:, 2] + np.abs(table[:, 3]) / 1e38 > 0.5
    target ^= table[:, 4] == 3
    params = PLAIN | {"num_leaves": leaves} | params
    data = lightgbm.Dataset(table, target.astype(int), feature_name=list(FEATURES),
                            categorical_feature=categories, params=params)  # fmt: skip
    return lightgbm.train(params, data, trees)


def unlike(n):
    """Rows with what learning never saw: missing where nothing was, and no number's end."""
    table = rows(n, seed=1)
    table[::5, 2] = np.nan
    table[::7, 3], table[1::7, 3] = np.inf, -np.inf
    return table


@pytest.mark.parametrize("leaves, bits", [(2, 32), (31, 32), (32, 32), (33, 64), (64, 64)])
def test_sums_are_lightgbms_to_the_last_bit(leaves, bits):
    booster = fitted(leaves)
    trees = booster.dump_model()["tree_info"]
    assert max(tree["num_leaves"] for tree in trees) == leaves
    forest, table = forest_of(booster.dump_model()), unlike(500)
    assert forest.value.shape == (20, bits)
    expected = booster.predict(table, raw_score=True)
    assert len(np.unique(expected)) > (3 if leaves == 2 else 50)
    np.testing.assert_array_equal(forest.sums(table)[:, 0], expected)


@pytest.mark.parametrize("n", [0, 1, SIDE_BY_SIDE - 1, SIDE_BY_SIDE, SIDE_BY_SIDE + 1])
def test_a_row_has_its_sum_whatever_lies_beside_it(n):
    forest, table = forest_of(fitted().dump_model()), unlike(200)
    np.testing.assert_array_equal(forest.sums(table[:n]), forest.sums(table)[:n])


def test_each_row_is_in_the_leaf_that_lightgbm_says():
    booster, table = fitted(trees=3), unlike(100)
    forest = forest_of(booster.dump_model())
    worth = np.zeros((*forest.leaf.shape, 3))
    for tree in range(3):
        worth[tree, :, tree] = forest.leaf[tree]
    leaves = booster.predict(table, pred_leaf=True)
    assert leaves.max() > 20
    np.testing.assert_array_equal(forest.sums(table, worth), leaves)


def test_trees_of_one_leaf_and_no_trees_are_sums_too():
    stumps = fitted(min_gain_to_split=1e9)
    trees = stumps.dump_model()["tree_info"]
    assert {tree["num_leaves"] for tree in trees} == {1}
    table = unlike(3)
    expected = stumps.predict(table, raw_score=True)
    np.testing.assert_array_equal(forest_of(stumps.dump_model()).sums(table)[:, 0], expected)
    none = stumps.dump_model() | {"tree_info": []}
    np.testing.assert_array_equal(forest_of(none).sums(table), np.zeros((3, 1)))


@pytest.mark.parametrize("objective", ["regression", "binary", "poisson"])
def test_a_ranker_says_what_lightgbm_says_whatever_it_was_trained_for(objective):
    booster, table = fitted(objective=objective), unlike(300)
    ranker = Ranker(booster, FEATURES)
    assert (ranker.forest is None) == (objective == "poisson")  # the score is no sum of leaves
    np.testing.assert_allclose(ranker.predict(table), booster.predict(table), rtol=1e-15)
    whole, first = ranker.predict(table), ranker.split(5)[0]
    np.testing.assert_array_equal(
        ranker_from_text(ranker.to_text(), FEATURES).predict(table), whole
    )
    few = booster.predict(table, num_iteration=5)
    np.testing.assert_allclose(first.predict(table), few, rtol=1e-15)


NO_SUCH_FORM = {
    "more than 64 leaves": {"leaves": 65},
    "0 is missing": {"zero_as_missing": True},
    "categories": {"categories": [4], "min_data_per_group": 1},
    "lines in the leaves": {"linear_tree": True},
    "a mean of trees": {"boosting": "rf", "bagging_freq": 1, "bagging_fraction": 0.5},
}


@pytest.mark.parametrize("why", NO_SUCH_FORM)
def test_what_has_no_such_form_is_left_to_lightgbm(why):
    booster = fitted(**NO_SUCH_FORM[why])
    ranker, table = foreign_ranker(booster.model_to_string(), FEATURES, "it"), rows(100)
    assert ranker.forest is None
    np.testing.assert_array_equal(ranker.predict(table), booster.predict(table))


def test_rows_of_float64_are_left_to_lightgbm():
    taken = np.arange(200) % 2
    table = 1 + 1e-9 * taken[:, None]  # as float32 they are all the same
    booster = lightgbm.train(PLAIN | {"objective": "binary"}, lightgbm.Dataset(table, taken), 5)
    scores = Ranker(booster, ("a",)).predict(table)
    assert scores[taken == 1].min() > scores[taken == 0].max()
