"""One row a candidate, one column a name, in the order asked for; ranks are those of a sort."""

import numpy as np
import pytest

from features.catalogue import SPARE, active_features
from features.item import item_features, item_prices, neighbour_features
from features.pair import pair_features, recent_features, text_similarity
from features.table import feature_table, rank_within, source_features
from features.user import user_features
from recsys.candidates import OPTIONAL, TEXT_SOURCES
from recsys.interest import TextModel

DECAY = 0.5


@pytest.fixture
def texts():
    drawn = np.random.default_rng(0).normal(size=(2, 9, 4)).astype(np.float32)
    drawn /= np.linalg.norm(drawn, axis=2, keepdims=True)
    return {"tuned": (drawn[0], np.arange(9)), "frozen": (drawn[1], np.arange(9)[::-1].copy())}


def table_of(scene, names, texts, candidates=None):
    rows, every = candidates or scene.candidates, of_items(scene, texts)
    return feature_table(names, scene.past, scene.moment, rows, every, scene.items, texts, DECAY,
                         scene.dated)  # fmt: skip


def of_items(scene, texts):
    every = item_features(scene.state, scene.items, scene.dated)
    if texts:
        vectors, text_of_item = texts["tuned"]
        model = TextModel(text_of_item, vectors, vectors, None, None)
        every |= neighbour_features(scene.state, scene.items, model)
    return every


def test_columns_are_the_names_in_the_order_asked_for(scene, texts):
    names, rng = (
        active_features(scene.dated, switched_on=OPTIONAL, on=SPARE),
        np.random.default_rng(0),
    )
    table = table_of(scene, names, texts)
    assert (table.shape, table.dtype) == ((len(scene.candidates.item), len(names)), np.float32)
    order = rng.permutation(len(names))
    np.testing.assert_array_equal(
        table_of(scene, [names[at] for at in order], texts), table[:, order]
    )
    for at in range(0, len(names), 7):  # alone as in company
        np.testing.assert_array_equal(
            table_of(scene, names[at : at + 1], texts)[:, 0], table[:, at]
        )


def test_every_row_holds_what_is_said_of_its_request_its_item_and_both(scene, texts):
    names, rows = active_features(scene.dated, switched_on=OPTIONAL, on=SPARE), scene.candidates
    found = dict(zip(names, table_of(scene, names, texts).T, strict=True))
    users = user_features(scene.past, scene.moment, scene.dated)
    items = of_items(scene, texts)
    last, best = text_similarity(scene.past, rows, *texts["tuned"])
    _, frozen = text_similarity(scene.past, rows, *texts["frozen"])
    ratio = [np.log(item_prices(scene.state, scene.items)[i] / users["user_price"][r])
             for r, i in zip(rows.request, rows.item, strict=True)]  # fmt: skip
    expected = {name: values[rows.request] for name, values in users.items()}
    expected |= {name: values[rows.item] for name, values in items.items()}
    expected |= pair_features(scene.past, rows, scene.moment, scene.items, DECAY, scene.dated)
    expected |= recent_features(scene.past, rows, scene.moment, scene.items)
    expected |= {"pair_last_similarity": last, "pair_best_similarity": best,
                 "pair_best_frozen_similarity": frozen, "pair_price_ratio": ratio}  # fmt: skip
    expected |= source_features(rows)
    assert expected.keys() >= set(names)
    for name in names:
        np.testing.assert_allclose(found[name], expected[name], rtol=1e-6, err_msg=name)


def test_texts_are_not_read_for_a_ranker_without_text(scene):
    names = active_features(scene.dated, with_text=False, switched_on=OPTIONAL, on=SPARE)
    assert table_of(scene, names, texts={}).shape[1] == len(names)


def test_the_rows_of_a_request_do_not_depend_on_other_requests(scene, texts):
    names = active_features(scene.dated, switched_on=OPTIONAL, on=SPARE)
    whole, some = table_of(scene, names, texts), scene.candidates.request == 3
    alone = table_of(scene, names, texts, scene.candidates.keep(some))
    assert some.sum() > 1
    np.testing.assert_array_equal(alone, whole[some])


def test_sources_count_who_found_the_row_without_reading_text(scene):
    rows = scene.candidates
    found = source_features(rows)["sources"]
    for row in range(len(rows.item)):
        finders = [name for name, rank in rows.rank.items() if np.isfinite(rank[row])]
        assert found[row] == len(set(finders) - TEXT_SOURCES)


@pytest.mark.parametrize("seed", range(3))
def test_ranks_are_those_of_a_sort_and_ties_share_the_best(seed):
    rng = np.random.default_rng(seed)
    request = np.sort(rng.choice([0, 2, 3, 7], 40))
    score = rng.choice([-np.inf, -1.0, 0.0, 0.5, 2.0], 40).astype(np.float32)
    expected = [1 + sum(score[(request == one) & (score > own)] > own)
                for one, own in zip(request, score, strict=True)]  # fmt: skip
    assert rank_within(request, score).tolist() == expected


@pytest.mark.parametrize("seed", range(5))
def test_only_rows_that_count_push_others_down(seed):
    rng = np.random.default_rng(seed)
    request, counted = rng.integers(0, 5, 60), rng.random(60) < 0.5
    score = rng.choice([-np.inf, -1.0, 0.0, 0.5, 2.0], 60).astype(np.float32)
    expected = [1 + sum(counted & (request == one) & (score > own))
                for one, own in zip(request, score, strict=True)]  # fmt: skip
    assert rank_within(request, score, counted).tolist() == expected
    everyone = rank_within(request, score, np.ones(60, bool))
    np.testing.assert_array_equal(everyone, rank_within(request, score))


def test_ranks_of_rows_in_any_order_and_of_none():
    request, score = np.array([1, 0, 1, 0]), np.array([5.0, 1.0, 9.0, 1.0])
    assert rank_within(request, score).tolist() == [2, 1, 1, 1]
    assert rank_within(np.zeros(0, int), np.zeros(0)).tolist() == []
