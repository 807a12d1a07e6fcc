"""What a loop over the user's past says, and unknown where there is nothing to say."""

import numpy as np
import pytest

from features.user import user_features
from recsys.asof import past_of
from recsys.dataset import DAY, Log


def mean(values):
    values = [value for value in values if value == value]
    return sum(values) / len(values) if values else np.nan


def test_every_feature_is_what_a_loop_finds(scene):
    table = user_features(scene.past, scene.moment, scene.dated)
    for request in range(len(scene.user)):
        rows = scene.before(request)
        items = [row[2] for row in rows if row[3] > 0]
        expected = {
            "user_events": len(rows),
            "user_recent_items": len(set(items)),
            "user_repeat_share": (len(items) - len(set(items))) / len(items) if items else np.nan,
            "user_price": mean([row[4] for row in rows if row[3] > 0]),
        }
        if scene.dated:
            ago = [scene.days_ago(request, row) for row in rows]
            active = len({row[1] // DAY for row in rows})
            expected |= {
                "user_events_28d": sum(days <= 28 for days in ago),
                "user_decayed": sum(
                    0.5 ** (scene.days_ago(request, row) / 30) for row in rows if row[3] > 0
                ),
                "user_idle_days": min(ago, default=np.nan),
                "user_age_days": max(ago, default=np.nan),
                "user_gap_days": (max(ago) - min(ago)) / (active - 1) if active > 1 else np.nan,
            }
        found = {name: values[request] for name, values in table.items()}
        assert found == pytest.approx(expected, nan_ok=True, rel=1e-6)


def test_only_an_unknown_user_has_nothing_known(scene):
    table = user_features(scene.past, scene.moment, scene.dated)
    unknown = scene.user == 99
    assert table["user_events"][unknown].tolist() == [0]
    counts = {"user_events", "user_recent_items", "user_events_28d", "user_decayed"}
    for name in table.keys() - counts:
        assert np.isnan(table[name][unknown]).all(), name
    assert (table["user_events"] > 0).sum() > 4  # the loop above had something to count


def one_user(moments):
    """A user with one event at each moment, seen on day 100."""
    n = len(moments)
    ones = np.ones(n, np.float32)
    log = Log(np.array([1]), np.array([0, n]), np.zeros(n, np.int32), np.array(moments),
              ones.astype(np.int8), ones, np.nan * ones)  # fmt: skip
    return log, past_of(log, np.array([1]), np.array([100 * DAY]), DAY, 2)


def test_the_28_days_take_their_start():
    log, _ = one_user([72 * DAY - 1, 72 * DAY, 99 * DAY])
    past = past_of(log, np.array([1]), np.array([100 * DAY]), DAY, 9)
    assert user_features(past, np.array([100 * DAY]), True)["user_events_28d"].tolist() == [2]


def test_totals_and_age_go_back_beyond_what_is_looked_back_on():
    _, past = one_user([10 * DAY, 40 * DAY, 90 * DAY])
    table = user_features(past, np.array([100 * DAY]), True)
    assert table["user_events"].tolist() == [3]
    assert table["user_age_days"].tolist() == [100 - 10]
    assert table["user_gap_days"].tolist() == [(90 - 40) / 1]
