"""What a loop over the events before the state's moment says of an item."""

from dataclasses import replace
from math import log10

import numpy as np
import pytest

from features.item import item_features, item_prices, neighbour_features, shrunk_share
from recsys.dataset import DAY
from recsys.interest import TextModel
from recsys.state import StateConfig

HALF_LIFE = StateConfig().popularity_days


def leaning(hits, tries, category, item):
    """Item on category on all, by 20 pseudo events each time."""
    of_all = sum(hits) / sum(tries)
    same = [at for at in range(len(hits)) if category[at] == category[item]]
    hit, tried = (sum(values[at] for at in same) for values in (hits, tries))
    prior = (hit + 20 * of_all) / (tried + 20) if category[item] >= 0 else of_all
    return (hits[item] + 20 * prior) / (tries[item] + 20)


def test_every_feature_is_what_a_loop_finds(scene):
    table, n, as_of = item_features(scene.state, scene.items, scene.dated), 9, scene.state.as_of
    past = [row for row in scene.rows if row[1] < as_of]
    bought, shown = (np.array([sum(row[2] == item and kind(row[3]) for row in past)
                               for item in range(n)])
                     for kind in (lambda grade: grade > 1, lambda grade: grade == 0))  # fmt: skip
    count = np.array([sum(row[2] == item and row[3] > 0 for row in past) for item in range(n)])
    category = scene.items.category
    conversion = [leaning(bought, count, category, item) for item in range(n)]
    taken_share = [leaning(count, count + shown, category, item) for item in range(n)]
    taken = [[row for row in past if row[2] == item and row[3] > 0] for item in range(n)]
    ago = [[(as_of - row[1]) / DAY for row in rows] for rows in taken]
    decayed = [sum(0.5 ** (d / HALF_LIFE) if scene.dated else 1 for d in some) for some in ago]
    order = sorted(range(n), key=lambda item: (-decayed[item], -len(taken[item]), item))
    for item in range(n):
        users = [row[0] for row in taken[item]]
        repeaters = sum(users.count(user) > 1 for user in set(users))
        alike = sum(decayed[j] for j in range(n) if category[j] == category[item])
        expected = {
            "item_events": len(users),
            "item_users": len(set(users)),
            "item_repeat_share": (repeaters + 0.1) / (len(set(users)) + 1),
            "item_negative_share": shown[item] / (shown[item] + len(users) + 1),
            "item_conversion": conversion[item],
            "item_taken_share": taken_share[item],
            "item_popularity_share": log10(decayed[item] / sum(decayed) + 1e-9),
            "item_popularity_rank": order.index(item) / n,
            "item_category_share": decayed[item] / alike if alike else 0,
        }
        if scene.dated:
            week, month, quarter = (sum(d <= span for d in ago[item]) for span in (7, 28, 91))
            expected |= {
                "item_events_7d": week,
                "item_events_28d": month,
                "item_events_91d": quarter,
                "item_decayed_7d": sum(0.5 ** (d / 7) for d in ago[item]),
                "item_trend": ((week + 1) / 7) / ((quarter + 91 / 7) / 91),
                "item_age_days": max(ago[item], default=np.nan),
                "item_idle_days": min(ago[item], default=np.nan),
            }
        found = {name: table[name][item] for name in table if name != "item_price"}
        assert found == pytest.approx(expected, nan_ok=True, rel=1e-6)
    assert len(taken[-1]) == 0 < len(taken[0])  # known and unknown items


def test_a_price_is_the_catalogues_or_else_the_mean_paid(scene):
    paid = np.arange(9.0) + 100
    state = replace(scene.state, price=np.where(np.arange(9) == 1, np.nan, paid))
    expected = [paid[at] if at % 2 else scene.items.price[at] for at in range(9)]
    expected[1] = np.nan  # known to neither
    np.testing.assert_array_equal(item_prices(state, scene.items), expected)
    table = item_features(state, scene.items, scene.dated)
    np.testing.assert_array_equal(table["item_price"], expected)


def test_a_steady_item_has_trend_one(scene):
    steady = np.tile(np.array([[7.0], [28.0], [91.0]]), (1, 9))  # an event a day
    table = item_features(replace(scene.state, recent=steady), scene.items, dated=True)
    expected = ((7 + 1) / 7) / ((91 + 13) / 91)
    assert expected == pytest.approx(1)
    np.testing.assert_allclose(table["item_trend"], expected)


def test_before_anything_happened_shares_are_zero_not_unknown(scene):
    none = np.zeros(9)
    nothing = replace(scene.state, popularity=none, count=none, bought=none, negative=none)
    table = item_features(nothing, scene.items, scene.dated)
    assert table["item_category_share"].tolist() == [0] * 9
    np.testing.assert_allclose(table["item_popularity_share"], log10(1e-9))


def test_a_new_item_starts_at_its_categorys_share_and_leaves_it_with_its_own_events():
    hits, tries = np.array([30.0, 0, 0, 0, 60]), np.array([40.0, 0, 0, 0, 60])
    category = np.array([0, 0, 1, -1, -1])
    of_all = 90 / 100
    first = (30 + 20 * of_all) / (40 + 20)  # of category 0; nobody tried category 1
    expected = [(30 + 20 * first) / (40 + 20), first, of_all, of_all, (60 + 20 * of_all) / 80]
    np.testing.assert_allclose(shrunk_share(hits, tries, category), expected)


def test_a_share_that_is_the_same_everywhere_is_the_same_number_everywhere():
    """Where no event has grade 2, or none was only shown: a column that no tree can use."""
    tries, category = np.random.default_rng(0).integers(0, 99, 50) + 0.0, np.arange(50) % 7 - 1
    assert set(shrunk_share(0 * tries, tries, category)) == {0.0}
    assert set(shrunk_share(tries, tries, category)) == {1.0}
    assert np.isnan(shrunk_share(0 * tries, 0 * tries, category)).all()


def circle(n_texts, text_of_item):
    """Texts on a circle: the nearest of one are those with the numbers around it."""
    angle = np.linspace(0, 1, n_texts)
    vectors = np.stack([np.cos(angle), np.sin(angle)], 1).astype(np.float32)
    return TextModel(text_of_item, vectors, vectors, None, None)


def test_an_item_hears_how_the_ten_nearest_other_texts_do(scene):
    """Nine items of three texts, then of twelve: each other text counts once, by all its items."""
    popularity, count = np.arange(9.0), np.full(9, 10.0)
    state = replace(scene.state, popularity=popularity, count=count, bought=np.arange(9.0))
    own = item_features(state, scene.items, scene.dated)["item_conversion"]
    found = neighbour_features(state, scene.items, circle(3, np.arange(9) // 3))
    share = [(0 + 1 + 2) / 36, (3 + 4 + 5) / 36, (6 + 7 + 8) / 36]
    for item in range(9):
        others = [text for text in range(3) if text != item // 3]
        mean = sum(share[text] for text in others) / 2
        sold = sum(own[3 * text : 3 * text + 3].mean() for text in others) / 2
        assert found["item_text_neighbours"][item] == pytest.approx(log10(mean + 1e-9))
        assert found["item_text_conversion"][item] == pytest.approx(sold)
    wide = neighbour_features(state, scene.items, circle(12, np.arange(9)))
    # the ten nearest of text 0 are 1 to 10; nobody has items of texts 9 to 11
    assert wide["item_text_neighbours"][0] == pytest.approx(log10((36 / 36) / 10 + 1e-9))
    # of text 8 they are all but 0
    assert wide["item_text_neighbours"][8] == pytest.approx(log10((28 / 36) / 10 + 1e-9))


def test_the_only_text_has_no_neighbours(scene):
    alone = neighbour_features(scene.state, scene.items, circle(1, np.zeros(9, int)))
    assert all(np.isnan(values).all() for values in alone.values())
