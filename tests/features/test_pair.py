"""What the user's own past says about an item, as a loop finds it."""

from dataclasses import replace

import numpy as np
import pytest

from features.pair import LAST_ITEMS, pair_features, recent_features, text_similarity
from recsys.asof import past_of
from recsys.candidates import Candidates
from recsys.dataset import DAY, Items, Log

DECAY = 0.5


def pairs(scene):
    """(row, request, item, the request's past) of each candidate."""
    keys = zip(scene.candidates.request.tolist(), scene.candidates.item.tolist(), strict=True)
    return [(row, request, item, scene.before(request)) for row, (request, item) in enumerate(keys)]


def of_group(rows, group, item):
    """Share and distance of the item's group (category or brand) in what was taken."""
    if group[item] < 0:
        return np.nan, np.nan
    total = sum(DECAY ** row[5] for row in rows)
    alike = [row[5] for row in rows if group[row[2]] == group[item]]
    return sum(DECAY**back for back in alike) / total if total else 0, min(alike, default=np.nan)


def place_of(rows, category, item):
    """Place of the item's category among those of what was taken, by faded weight."""
    faded = {}
    for row in rows:
        faded[category[row[2]]] = faded.get(category[row[2]], 0) + DECAY ** row[5]
    faded.pop(-1, None)
    if category[item] not in faded:
        return np.nan
    return 1 + sum(weight > faded[category[item]] for weight in faded.values())


def test_every_feature_is_what_a_loop_finds(scene):
    items = scene.items
    known = scene.past, scene.candidates, scene.moment, items
    table = pair_features(*known, DECAY, scene.dated)
    if scene.dated:
        table |= recent_features(*known)
    met = 0
    for row, request, item, past in pairs(scene):
        taken = [one for one in past if one[3] > 0]
        mine = [one for one in taken if one[2] == item]
        met += len(mine)
        category, brand = (of_group(taken, group, item) for group in (items.category, items.brand))
        expected = {
            "pair_events": len(mine),
            "pair_negative": sum(one[2] == item and one[3] == 0 for one in past),
            "pair_back": min((one[5] for one in mine), default=np.nan),
            "pair_category_share": category[0],
            "pair_category_back": category[1],
            "pair_brand_share": brand[0],
            "pair_brand_back": brand[1],
            "pair_interest_place": place_of(taken, items.category, item),
        }
        if scene.dated:
            ago = sorted(scene.days_ago(request, one) for one in mine)
            gap = (ago[-1] - ago[0]) / (len(ago) - 1) if len(ago) > 1 else np.nan
            expected["pair_idle_days"] = ago[0] if ago else np.nan
            for name, group in (("category", items.category), ("brand", items.brand)):
                alike = [scene.days_ago(request, one) for one in taken
                         if group[one[2]] == group[item]]  # fmt: skip
                for days in (28, 91):
                    lately = sum(ago <= days for ago in alike)
                    expected[f"pair_{name}_{days}d"] = np.nan if group[item] < 0 else lately
            expected["pair_due"] = ago[0] / np.maximum(gap, 1.0) if ago else np.nan
        found = {name: values[row] for name, values in table.items()}
        assert found == pytest.approx(expected, nan_ok=True, rel=1e-6)
    assert met > 10  # pairs that did meet before


@pytest.mark.parametrize(("hours", "gap_days"), [((0, 12), 1), ((0, 72), 3), ((0, 0, 96), 2)])
def test_an_item_is_due_after_its_mean_gap_of_at_least_a_day(hours, gap_days):
    n, last = len(hours), hours[-1] / 24
    log = Log(np.array([1]), np.array([0, n]), np.zeros(n, np.int32), np.array(hours) * DAY // 24,
              np.ones(n, np.int8), np.ones(n, np.float32), np.ones(n, np.float32))  # fmt: skip
    moment = np.array([10 * DAY])
    past = past_of(log, np.array([1]), moment, DAY, 99)
    one = Candidates(np.array([0]), np.array([0]), {}, {})
    none = np.full(1, -1, np.int32)
    items = Items(*[np.zeros(1)] * 3, none, none, *[np.zeros(1)] * 3)
    table = pair_features(past, one, moment, items, DECAY, dated=True)
    assert table["pair_due"].tolist() == pytest.approx([(10 - last) / gap_days])


def days_of(days, category):
    """Describe item i of category[i] on day 100 to a user who took it on day days[i]."""
    n = len(days)
    log = Log(np.array([1]), np.array([0, n]), np.arange(n, dtype=np.int32),
              (np.array(days) * DAY).astype(np.int64), np.ones(n, np.int8), np.ones(n, np.float32),
              np.ones(n, np.float32))  # fmt: skip
    moment, codes = np.array([100 * DAY]), np.array(category, np.int32)
    items = Items(*[np.zeros(n)] * 3, codes, np.full(n, -1, np.int32), *[np.zeros(n)] * 3)
    every = Candidates(np.zeros(n, np.int64), np.arange(n), {}, {})
    past = past_of(log, np.array([1]), moment, DAY, 99)
    known = past, every, moment, items
    return pair_features(*known, DECAY, dated=True) | recent_features(*known)


def test_the_windows_of_a_category_take_their_start():
    table = days_of([9 - 1 / 24, 9, 72 - 1 / 24, 72, 99], [0] * 5)
    assert table["pair_category_28d"].tolist() == [2] * 5
    assert table["pair_category_91d"].tolist() == [4] * 5
    assert np.isnan(table["pair_brand_28d"]).all()  # no brand


def test_categories_of_one_weight_share_the_better_place():
    # the last day: 0 and 1 once each; the day before: 2 twice, each worth half; before that: 3
    table = days_of([90, 91, 91, 92, 92], [3, 2, 2, 0, 1])
    assert table["pair_interest_place"].tolist() == [4, 1, 1, 1, 1]


def test_groups_that_share_no_code_never_match(scene):
    alone = replace(scene.items, category=np.arange(9, dtype=np.int32))
    none = replace(scene.items, category=np.full(9, -1, np.int32))
    table, empty = (pair_features(scene.past, scene.candidates, scene.moment, items, DECAY,
                                  scene.dated) for items in (alone, none))  # fmt: skip
    np.testing.assert_array_equal(table["pair_category_back"], table["pair_back"])
    assert np.isnan(empty["pair_category_share"]).all()
    assert np.isnan(empty["pair_category_back"]).all()


@pytest.fixture
def vectors():
    drawn = np.random.default_rng(0).normal(size=(5, 4))
    return (drawn / np.linalg.norm(drawn, axis=1, keepdims=True)).astype(np.float32)


def test_text_similarity_is_the_cosine_with_the_last_and_the_best(scene, vectors):
    text_of_item = np.array([0, 1, 2, 3, 4, 0, 1, 2, 3])
    last, best = text_similarity(scene.past, scene.candidates, vectors, text_of_item)
    expected = []
    for _, _, item, past in pairs(scene):
        taken = [row[2] for row in past if row[3] > 0][::-1][:LAST_ITEMS]
        cosines = [vectors[text_of_item[item]] @ vectors[text_of_item[one]] for one in taken]
        expected.append((cosines[0], max(cosines)) if cosines else (np.nan, np.nan))
    np.testing.assert_allclose(np.column_stack([last, best]), expected, atol=1e-6)
    assert np.isnan(last).any() and (best > last).any()


def test_only_the_last_items_are_compared(scene, vectors, monkeypatch):
    monkeypatch.setattr("features.pair.LAST_ITEMS", 1)
    text_of_item = np.arange(9) % 5
    last, best = text_similarity(scene.past, scene.candidates, vectors, text_of_item)
    np.testing.assert_array_equal(last, best)


def test_no_candidates_have_no_similarity(scene, vectors):
    none = scene.candidates.keep(np.zeros(len(scene.candidates.item), bool))
    last, best = text_similarity(scene.past, none, vectors, np.arange(9) % 5)
    assert len(last) == len(best) == 0
