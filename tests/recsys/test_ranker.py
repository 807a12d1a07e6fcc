"""A ranker ranks by what it learned from, within what the config binds it to."""

from dataclasses import replace

import lightgbm
import numpy as np
import pytest

from recsys.errors import ConfigError, NotFittedError
from recsys.ranker import (
    HeadConfig,
    RankerConfig,
    fit_heads,
    fit_ranker,
    foreign_ranker,
    ranker_from_text,
    refit_ranker,
)
from recsys.rows import Rows, concat_rows

FEATURES = ("noise", "truth", "other")
CONFIG = RankerConfig(max_trees=20, min_rows_in_leaf=5, early_stopping_trees=5)
HEADS = HeadConfig(trees=30, min_rows_in_leaf=5)


def world(seed, n_requests=60, size=12):
    """Make rows whose grade follows the second feature."""
    rng = np.random.default_rng(seed)
    table = rng.normal(size=(n_requests * size, 3)).astype(np.float32)
    grade = np.clip((table[:, 1] + rng.normal(0, 0.3, len(table))).round(), 0, 2).astype(int)
    return Rows(table, grade, np.full(n_requests, size))


@pytest.fixture(scope="module")
def ranker():
    return fit_ranker(world(0), world(1), FEATURES, CONFIG, seed=0)


def test_a_ranker_finds_the_feature_that_tells(ranker):
    table, grade = world(2).table, world(2).grade
    score = ranker.predict(table)
    assert score[grade == 2].mean() > score[grade == 1].mean() > score[grade == 0].mean()
    gains = ranker.importance()
    assert set(gains) == set(FEATURES) and next(iter(gains)) == "truth"
    assert list(gains.values()) == sorted(gains.values(), reverse=True)


def test_a_ranker_read_from_its_text_scores_the_same(ranker):
    table, again = world(2).table, ranker_from_text(ranker.to_text(), ranker.features)
    np.testing.assert_array_equal(again.predict(table), ranker.predict(table))
    assert (again.trees, again.importance()) == (ranker.trees, ranker.importance())


def test_the_text_names_the_features(ranker):
    assert "\nfeature_names=noise truth other\n" in ranker.to_text()


KNOWN = ("truth", "more", "noise", "other", "interest")  # features in use, in the catalogue's order


def test_a_ranker_of_elsewhere_scores_the_same_whatever_the_order_here(ranker):
    table, taken = world(2).table, foreign_ranker(ranker.to_text(), KNOWN, "a file")
    assert taken.features == FEATURES
    np.testing.assert_array_equal(taken.predict(table), ranker.predict(table))


def test_a_ranker_of_elsewhere_scores_the_same_whatever_the_order_there(ranker, moved_columns):
    order = np.array([2, 0, 1])
    taken = foreign_ranker(moved_columns(ranker.to_text(), order), KNOWN, "a file")
    assert taken.features == ("other", "noise", "truth")
    table = world(2).table
    np.testing.assert_array_equal(taken.predict(table[:, order]), ranker.predict(table))


def test_a_ranker_that_reads_something_else_is_refused_by_the_names(ranker):
    with pytest.raises(
        ConfigError, match=r"^a file: the model reads truth, other, not among the 2"
    ):
        foreign_ranker(ranker.to_text(), ("noise", "interest"), "a file")
    table = np.random.default_rng(0).normal(size=(200, 9))
    data = lightgbm.Dataset(table, table[:, 0])  # no names
    text = lightgbm.train({"verbosity": -1}, data, 2).model_to_string()
    with pytest.raises(ConfigError, match="reads Column_0, Column_1, .*, Column_4 and 4 more, not"):
        foreign_ranker(text, KNOWN, "a file")


@pytest.mark.parametrize("damage", [
    lambda text: "", lambda text: text[: len(text) // 2], lambda text: "a recipe",
    lambda text: text.replace("num_class=1\n", ""),
    lambda text: text.replace("feature_names=noise truth other\n", ""),
])  # fmt: skip
def test_what_is_no_whole_model_is_refused_in_words(ranker, damage):
    with pytest.raises(
        ConfigError, match="^a file: (no whole LightGBM model|LightGBM cannot read)"
    ):
        foreign_ranker(damage(ranker.to_text()), KNOWN, "a file")


def test_a_model_of_several_scores_is_refused():
    table = np.random.default_rng(0).normal(size=(300, 3))
    data = lightgbm.Dataset(table, np.arange(300) % 3, feature_name=list(FEATURES))
    params = {"objective": "multiclass", "num_class": 3, "verbosity": -1}
    with pytest.raises(ConfigError, match="gives 3 scores a row"):
        foreign_ranker(lightgbm.train(params, data, 2).model_to_string(), KNOWN, "a file")


def test_one_seed_one_ranker(ranker):
    again = fit_ranker(world(0), world(1), FEATURES, CONFIG, seed=0)
    assert again.to_text() == ranker.to_text()


def test_trees_stop_when_the_valid_rows_say_so():
    told = []
    noise = replace(world(1), grade=np.random.default_rng(0).integers(0, 2, 720))
    stopped = fit_ranker(world(0), noise, FEATURES, CONFIG, 0, lambda *tree: told.append(tree))
    best = max(ndcg for _, ndcg in told)
    assert [tree for tree, _ in told] == list(range(1, len(told) + 1))
    assert stopped.trees == next(tree for tree, ndcg in told if ndcg == best)
    assert len(told) <= min(CONFIG.max_trees, stopped.trees + CONFIG.early_stopping_trees)


def test_another_number_of_features_is_refused_in_words(ranker):
    with pytest.raises(NotFittedError, match="2 features were given, it was trained on 3"):
        ranker.predict(np.zeros((4, 2), np.float32))


def test_no_rows_have_no_scores(ranker):
    assert ranker.predict(np.zeros((0, 3), np.float32)).shape == (0,)


def test_a_missing_value_is_a_value(ranker):
    table = np.full((2, 3), np.nan, np.float32)
    assert np.isfinite(ranker.predict(table)).all()


def test_a_grade_without_a_gain_is_refused_in_words():
    config = CONFIG.model_copy(update={"label_gain": (0.0, 1.0)})
    with pytest.raises(ConfigError, match="label_gain: 2 gains were given, but grades go up to 2"):
        fit_ranker(world(0), world(1), FEATURES, config, seed=0)


def test_a_refit_on_the_same_rows_and_as_many_trees_is_the_same_ranker(ranker):
    again = refit_ranker([world(0)], FEATURES, CONFIG, 0, ranker.trees)
    table = world(2).table
    np.testing.assert_array_equal(again.predict(table), ranker.predict(table))


def test_a_refit_learns_from_all_samples_in_the_order_given():
    """One sample says that the second feature is good, a larger one that the third is too."""
    rows = world(3, n_requests=200)
    turned = replace(rows, table=rows.table[:, [0, 2, 1]].copy())
    both = refit_ranker([world(4), turned], FEATURES, CONFIG, 0, 20)
    one = refit_ranker([world(4)], FEATURES, CONFIG, 0, 20)
    assert next(iter(one.importance())) == "truth"
    assert both.importance()[FEATURES[2]] > 5 * one.importance()[FEATURES[2]] > 0
    assert (both.trees, both.features) == (20, FEATURES)


def test_a_refit_knows_the_gains_of_all_samples():
    high = replace(world(1), grade=world(1).grade + 1)  # up to 3
    config = CONFIG.model_copy(update={"label_gain": (0.0, 1.0, 3.0)})
    with pytest.raises(ConfigError, match="3 gains were given, but grades go up to 3"):
        refit_ranker([world(0), high], FEATURES, config, 0, 5)


def test_another_order_inside_the_requests_is_almost_the_same_ranker():
    """Not quite: LightGBM breaks ties by row, and before the first tree all scores are ties."""
    rows, table = world(0, n_requests=200), world(2).table
    request = np.repeat(np.arange(200), rows.group)
    chances = np.random.default_rng(0).random((4, len(request)))
    score, *others = (
        refit_ranker([replace(rows, table=rows.table[order], grade=rows.grade[order])],
                     FEATURES, CONFIG, 0, 20).predict(table)
        for order in (np.lexsort((key, request)) for key in (np.arange(len(request)), *chances,
                                                             -rows.grade))
    )  # fmt: skip
    alike = [np.corrcoef(score, other)[0, 1] for other in others]
    assert 0.99 < min(alike) <= max(alike) < 1


@pytest.mark.parametrize("sign", [1, -1])
def test_under_a_constraint_the_score_never_turns_as_the_feature_rises(sign):
    """In a world where without the constraint it does: the grade is best in the middle."""
    rng, n = np.random.default_rng(0), 200 * 12
    table = rng.normal(size=(n, 3)).astype(np.float32)
    hill = np.exp(-(table[:, 1] ** 2)) + 0.3 * table[:, 1] + rng.normal(0, 0.2, n) > 0.8
    rows = Rows(table, (hill + (table[:, 0] > 1)).astype(int), np.full(200, 12))
    rising = np.repeat(rng.normal(size=(300, 1, 3)), 30, axis=1).astype(np.float32)
    rising[:, :, 1] = np.linspace(-3, 3, 30)
    rising[:, :, 2] = np.where(rng.random((300, 1)) < 0.2, np.nan, rising[:, :, 2])
    steps = {}
    for name, monotone in (("free", {}), ("bound", {"truth": sign})):
        config = CONFIG.model_copy(update={"monotone": monotone, "max_trees": 40})
        score = refit_ranker([rows], FEATURES, config, 0, 40).predict(rising.reshape(-1, 3))
        steps[name] = sign * np.diff(score.reshape(300, 30), axis=1)
    assert (steps["free"] < 0).any(axis=1).mean() > 0.9
    assert (steps["bound"] >= 0).all() and (steps["bound"] > 0).any()


def test_each_constraint_is_on_the_feature_it_names():
    config = CONFIG.model_copy(update={"monotone": {FEATURES[2]: -1, "absent here": 1}})
    text = refit_ranker([world(0)], FEATURES, config, 0, 5).to_text()
    assert "monotone_constraints=0 0 -1\n" in text


def two_kinds(seed: int) -> Rows:
    """Requests of value 9, where the second feature tells, and of value 1, where the third does."""
    rows, dear = world(seed, n_requests=120), np.arange(120) % 2 > 0
    turned = np.repeat(dear, 12)[:, None]
    table = np.where(turned, rows.table, rows.table[:, [0, 2, 1]])
    return replace(rows, table=table, value=np.where(dear, 9.0, 1.0))


def test_what_is_worth_more_is_learned_from_more():
    by_value = CONFIG.model_copy(update={"weight_by": "value"})
    equal, weighed = (refit_ranker([two_kinds(0), two_kinds(1)], FEATURES, config, 0, 20)
                      for config in (CONFIG, by_value))  # fmt: skip
    one, other = (ranker.importance() for ranker in (equal, weighed))
    ratio = one["truth"] / one[FEATURES[2]]
    assert 0.5 < ratio < 2 and other["truth"] / other[FEATURES[2]] > 2 * ratio
    table = world(2).table
    for changed in (
        replace(two_kinds(0), value=None),
        two_kinds(0),
    ):  # not asked for, not looked at
        again = refit_ranker([changed, two_kinds(1)], FEATURES, CONFIG, 0, 20)
        np.testing.assert_array_equal(again.predict(table), equal.predict(table))


def test_doubling_all_values_changes_nothing():
    config = CONFIG.model_copy(update={"weight_by": "value"})
    rows, held = two_kinds(0), two_kinds(1)
    double = [replace(some, value=2 * some.value) for some in (rows, held)]
    one, other = (fit_ranker(*some, FEATURES, config, seed=0) for some in ((rows, held), double))
    assert one.trees > 1 and one.to_text() == other.to_text()


def test_there_is_a_head_for_each_grade_that_occurs_and_it_says_how_many_have_it():
    rows = world(0)
    apart = replace(rows, grade=np.where(rows.grade == 1, 3, rows.grade))
    heads = fit_heads(apart, FEATURES, HEADS, seed=0)
    assert list(heads) == [2, 3]  # no row has grade 1
    heads = fit_heads(rows, FEATURES, HEADS, seed=0)
    assert list(heads) == [1, 2]
    for level, head in heads.items():
        said = head.predict(rows.table)
        assert said.mean() == pytest.approx((rows.grade >= level).mean(), rel=0.1)
        assert said[rows.grade >= level].mean() > 3 * said[rows.grade < level].mean()
        assert ((said > 0) & (said < 1)).all() and head.features == FEATURES


def test_a_head_read_from_its_text_says_the_same_and_one_seed_fits_one_head():
    table, heads = world(2).table, fit_heads(world(0), FEATURES, HEADS, seed=0)
    again = fit_heads(world(0), FEATURES, HEADS, seed=0)
    for level, head in heads.items():
        read = ranker_from_text(head.to_text(), FEATURES)
        np.testing.assert_array_equal(read.predict(table), head.predict(table))
        assert again[level].to_text() == head.to_text()


def clicks(seed, n_requests=400, shown=8, beside=8):
    """Draw requests of items shown in a list, whose clicks follow place and truth, and of others.

    Whoever made the lists liked the first feature, which means nothing.

    Returns:
        The rows, and how good each is in truth: (n_requests, shown + beside).
    """
    rng, size = np.random.default_rng(seed), shown + beside
    table = rng.normal(size=(n_requests, size, 3)).astype(np.float32)
    truth = 1 / (1 + np.exp(1 - 1.5 * table[:, :, 1]))
    liked = table[:, :, 0] + rng.normal(0, 0.5, (n_requests, size))
    place = 1 + np.argsort(np.argsort(-liked, axis=1), axis=1)
    clicked = rng.random((n_requests, size)) < truth / place * (place <= shown)
    position = np.where(place <= shown, place, -1)
    some = clicked.any(axis=1)
    rows = Rows(table[some].reshape(-1, 3), clicked[some].astype(int).ravel(),
                np.full(some.sum(), size), position=position[some].ravel())  # fmt: skip
    return rows, truth[some]


def true_ndcg(ranker, seed):
    """Mean NDCG@5 of a ranker's order of new requests against the truth."""
    rows, truth = clicks(1000 + seed)
    order = np.argsort(-ranker.predict(rows.table).reshape(truth.shape), axis=1)
    discount = 1 / np.log2(np.arange(5) + 2)
    found = np.take_along_axis(truth, order, axis=1)[:, :5] @ discount
    return (found / (-np.sort(-truth, axis=1)[:, :5] @ discount)).mean()


def test_where_position_draws_clicks_the_corrected_ranker_knows_the_truth_better():
    plain = CONFIG.model_copy(update={"position_bias": False})
    strict = CONFIG.model_copy(update={"position_regularization": 10.0})
    found = np.array([[true_ndcg(refit_ranker([clicks(seed)[0]], FEATURES, config, 0, 60), seed)
                       for config in (plain, strict, CONFIG)] for seed in range(4)])  # fmt: skip
    uncorrected, hardly, corrected = found.mean(axis=0)
    assert corrected > uncorrected + 0.05
    assert (found[:, 2] > found[:, 0]).all()
    assert abs(hardly - uncorrected) < 0.02  # bound to nothing, it corrects nothing


def test_without_lists_in_the_log_a_position_changes_nothing():
    rows = clicks(0)[0]
    only_taken = np.where(rows.grade > 0, rows.position, -1)
    without, told = (
        refit_ranker([replace(rows, position=position)], FEATURES, CONFIG, 0, 10).to_text()
        for position in (None, only_taken)
    )
    assert without == told != refit_ranker([rows], FEATURES, CONFIG, 0, 10).to_text()


def test_a_refit_corrects_over_all_samples():
    one, other = clicks(0)[0], clicks(1)[0]
    apart, together = (refit_ranker(some, FEATURES, CONFIG, 0, 10)
                       for some in ([one, other], [concat_rows([one, other])]))  # fmt: skip
    np.testing.assert_array_equal(apart.predict(one.table), together.predict(one.table))


def above_chance(ranker, rows):
    """NDCG@10 of a ranker less that of a random order, expected; mean over requests of one size."""
    gain = (2.0**rows.grade - 1).reshape(len(rows.group), -1)
    places = np.arange(gain.shape[1])
    discount = np.where(places < 10, 1 / np.log2(places + 2), 0)
    ideal = -np.sort(-gain, axis=1) @ discount
    order = np.argsort(-ranker.predict(rows.table).reshape(gain.shape), axis=1, kind="stable")
    found = np.take_along_axis(gain, order, axis=1) @ discount
    return ((found - gain.sum(axis=1) * discount.mean())[ideal > 0] / ideal[ideal > 0]).mean()


def test_with_labels_shuffled_inside_each_request_a_ranker_is_no_better_than_chance():
    """By chance one shuffle may find the truth, or its opposite: the interval is over shuffles."""
    found: dict[str, list[float]] = {"true": [], "shuffled": []}
    for seed in range(16):
        rows, new = world(seed), world(100 + seed)
        chance = np.random.default_rng(seed).random(len(rows.grade))
        order = np.lexsort((chance, np.repeat(np.arange(len(rows.group)), rows.group)))
        for labels, grade in (("true", rows.grade), ("shuffled", rows.grade[order])):
            ranker = refit_ranker([replace(rows, grade=grade)], FEATURES, CONFIG, 0, 20)
            found[labels].append(above_chance(ranker, new))
    margin = 2.13 * np.std(found["shuffled"], ddof=1) / 4  # t of 15 degrees, over the root of 16
    assert margin < 0.1 and abs(np.mean(found["shuffled"])) < margin
    assert min(found["true"]) > 0.3
