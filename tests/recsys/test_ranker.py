"""Training rows are all that was taken and a fair sample of the rest; a ranker ranks by them."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recsys.errors import ConfigError, NotFittedError, SchemaError
from recsys.ranker import (
    RankerConfig,
    Rows,
    check_ranker,
    concat_rows,
    fit_ranker,
    group_sizes,
    ranker_from_text,
    refit_ranker,
    training_rows,
    value_weights,
)

FEATURES = ("noise", "truth", "name, with: odd [signs]")
CONFIG = RankerConfig(max_trees=20, min_rows_in_leaf=5, early_stopping_trees=5)


def candidates(seed, n_requests=30):
    """Draw (request, grade) of candidate rows; request 5 has nothing taken, request 7 no rows."""
    rng = np.random.default_rng(seed)
    sizes = np.where(np.arange(n_requests) == 7, 0, rng.integers(1, 30, n_requests))
    request = np.repeat(np.arange(n_requests), sizes)
    grade = np.where(rng.random(len(request)) < 0.1, rng.integers(1, 4, len(request)), 0)
    return request, np.where(request == 5, 0, grade)


def world(seed, n_requests=60, size=12):
    """Make rows whose grade follows the second feature."""
    rng = np.random.default_rng(seed)
    table = rng.normal(size=(n_requests * size, 3)).astype(np.float32)
    grade = np.clip((table[:, 1] + rng.normal(0, 0.3, len(table))).round(), 0, 2).astype(int)
    return Rows(table, grade, np.full(n_requests, size))


@pytest.fixture(scope="module")
def ranker():
    return fit_ranker(world(0), world(1), FEATURES, CONFIG, seed=0)


@pytest.mark.parametrize("negatives", [1, 4, 100])
@pytest.mark.parametrize("seed", range(3))
def test_every_taken_row_and_at_most_so_many_others_of_each_request(seed, negatives):
    request, grade = candidates(seed)
    rows = training_rows(request, grade, negatives, np.random.default_rng(seed))
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
    drawn = np.array([training_rows(request, grade, 3, rng) for _ in range(3000)])
    times = np.bincount(drawn.ravel(), minlength=10)
    assert times[3] == 3000
    expected = 3000 * 3 / 9
    assert np.abs(np.delete(times, 3) - expected).max() < 5 * expected**0.5
    places = np.bincount(np.argmax(drawn == 3, axis=1), minlength=4)
    assert np.abs(places - 3000 / 4).max() < 5 * (3000 / 4) ** 0.5


def test_one_seed_one_sample_and_nothing_taken_no_rows():
    request, grade = candidates(0)
    one, again = (training_rows(request, grade, 3, np.random.default_rng(0)) for _ in range(2))
    np.testing.assert_array_equal(one, again)
    rng = np.random.default_rng(0)
    assert len(training_rows(request, np.zeros_like(grade), 3, rng)) == 0
    assert len(training_rows(np.zeros(0, int), np.zeros(0, int), 3, rng)) == 0


def test_the_groups_of_sampled_rows_are_their_requests():
    request, grade = candidates(1)
    rows = training_rows(request, grade, 4, np.random.default_rng(0))
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


def test_a_constraint_on_no_feature_is_refused_in_words():
    features = ("item_price", "repeat")
    check_ranker(features, (), RankerConfig(monotone={"repeat": 1}))
    for name, said in (("item_prise", "did you mean 'item_price'"), ("x", "features.md lists")):
        with pytest.raises(ConfigError, match=f"ranker.monotone: no feature .* {name!r}.*{said}"):
            check_ranker(features, (), RankerConfig(monotone={"repeat": 1, name: -1}))
    with pytest.raises(ValueError, match="Input should be -1 or 1"):
        RankerConfig(monotone={"repeat": 2})


def test_a_weight_by_a_column_that_is_not_there_is_refused_in_words():
    config = RankerConfig(weight_by="value")
    check_ranker((), ("user_id", "value"), config)
    with pytest.raises(ConfigError, match="weight_by = 'value', but the events have no such col"):
        check_ranker((), ("user_id", "price"), config)


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
    np.testing.assert_allclose(value_weights(factor * np.array(value)), weight, rtol=1e-6)
    assert np.isclose(weight.mean(), 1)


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


def test_rows_put_behind_each_other_are_all_there():
    one, other = two_kinds(0), two_kinds(1)
    both = concat_rows([one, other])
    np.testing.assert_array_equal(both.table, np.concatenate([one.table, other.table]))
    np.testing.assert_array_equal(both.grade, np.concatenate([one.grade, other.grade]))
    assert both.group.tolist() == [12] * 240 and both.value.tolist() == [1.0, 9.0] * 120
    assert concat_rows([world(0), world(1)]).value is None
