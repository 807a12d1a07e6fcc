"""What a loop over the events before the state's moment says of an item."""

from dataclasses import replace
from math import log10

import numpy as np
import pytest

from features.item import item_features, item_prices
from recsys.dataset import DAY
from recsys.state import StateConfig

HALF_LIFE = StateConfig().popularity_days


def test_every_feature_is_what_a_loop_finds(scene):
    table, n, as_of = item_features(scene.state, scene.items, scene.dated), 9, scene.state.as_of
    past = [row for row in scene.rows if row[1] < as_of]
    taken = [[row for row in past if row[2] == item and row[3] > 0] for item in range(n)]
    ago = [[(as_of - row[1]) / DAY for row in rows] for rows in taken]
    decayed = [sum(0.5 ** (d / HALF_LIFE) if scene.dated else 1 for d in some) for some in ago]
    order = sorted(range(n), key=lambda item: (-decayed[item], -len(taken[item]), item))
    for item in range(n):
        users = [row[0] for row in taken[item]]
        repeaters = sum(users.count(user) > 1 for user in set(users))
        shown = sum(row[2] == item and row[3] == 0 for row in past)
        category = scene.items.category[item]
        alike = sum(decayed[j] for j in range(n) if scene.items.category[j] == category)
        expected = {
            "item_events": len(users),
            "item_users": len(set(users)),
            "item_repeat_share": (repeaters + 0.1) / (len(set(users)) + 1),
            "item_negative_share": shown / (shown + len(users) + 1),
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
    nothing = replace(scene.state, popularity=np.zeros(9), count=np.zeros(9))
    table = item_features(nothing, scene.items, scene.dated)
    assert table["item_category_share"].tolist() == [0] * 9
    np.testing.assert_allclose(table["item_popularity_share"], log10(1e-9))
