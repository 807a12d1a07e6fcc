"""Laws of the profile: it counts what would be prepared, and what pandas counts."""

import numpy as np
import pandas as pd
import pytest

from pipelines.prepare import prepare
from pipelines.profile import BUSY_DAY, profile_inputs
from pipelines.windows import window_requests
from recsys.errors import ConfigError
from recsys.schema import DataConfig

RULES = {"view": {"grade": 1, "weight": 0.5}, "buy": {"grade": 2}, "shown": {"grade": 0}}
CONFIG = DataConfig(event_types=RULES)
WINDOWS = ("ranker", "valid", "test")


@pytest.mark.parametrize("protocol", ["time", "leave_last_out"])
def test_the_suggested_windows_are_those_that_are_prepared(tmp_path, world, protocol):
    events, items = world()
    events = pd.concat([events, events.iloc[20:26]])
    found = {w.name: w for w in profile_inputs(events, items, None, CONFIG, protocol).windows}
    prepared = prepare(events, items, tmp_path / "p", CONFIG, protocol)
    for name in WINDOWS:
        window, requests = found[name], window_requests(prepared, name)
        assert (window.start, window.end) == prepared.windows.span(name)
        assert window.requests == sum(map(len, requests)) > 0
    [log] = prepared.logs()
    inside = (log.grade > 0) & (log.moment >= prepared.windows.test)
    assert found["test"].events == inside.sum()
    assert sum(one.events for one in found.values()) == (log.grade > 0).sum()


@pytest.mark.parametrize("rows", [90, 1000])
def test_what_is_counted_is_what_is_prepared(tmp_path, world, rows):
    events, items = world()
    events = pd.concat([events, events.iloc[20:26]])
    profile = profile_inputs(events, items, None, CONFIG)
    config = CONFIG.model_copy(update={"bucket_rows": rows})
    manifest = prepare(events, items, tmp_path / "p", config).manifest
    assert profile.copies == manifest.dropped["is an exact copy of another row"] == 6
    assert profile.repeat_share == pytest.approx(manifest.repeat_share) and profile.repeat_share > 0
    counted = {name: int(n.sum()) for name, n in profile.days.events.items()}
    assert counted == manifest.event_types


def test_users_and_items_are_spread_as_pandas_says(world):
    events, items = world()
    new = pd.DataFrame({"item_id": ["x"], "title": ["nobody took it"], "genre": ["c"]})
    profile = profile_inputs(events, pd.concat([items, new]), None, CONFIG)
    for column, spread in (("user_id", profile.per_user), ("item_id", profile.per_item)):
        n = events[column].value_counts()
        assert spread.quantiles[0] == n.min() and spread.quantiles[-1] == n.max()
        assert spread.quantiles[3] == n.quantile(0.5, interpolation="lower")
        assert spread.mean == pytest.approx(n.mean())
        bins = (2 ** np.ceil(np.log2(n))).astype(int).value_counts().sort_index()
        assert dict(spread.bins) == dict(bins)
    assert profile.idle_items == 1


def test_days_without_events_are_found_longest_first(world):
    events, items = world()
    day = pd.to_datetime(events["timestamp"]).dt.strftime("%Y-%m-%d")
    events = events[~day.isin(["2026-01-05", "2026-01-10", "2026-01-11"])]
    gaps = profile_inputs(events, items, None, CONFIG).days.gaps()
    first = int(pd.Timestamp("2026-01-10").timestamp()) // 86400
    assert gaps == [(first, 2), (first - 5, 1)]


def test_of_many_types_the_rare_ones_are_one(world):
    events, items = world()
    events["event_type"] = [f"t{min(at // 50, 9)}" for at in range(len(events))]
    days = profile_inputs(events, items, None, DataConfig()).days
    assert len(days.events) == 8 and "other types" in days.events
    assert sum(int(n.sum()) for n in days.events.values()) == len(events)


def test_a_user_too_busy_for_a_day_is_told_and_kept(world):
    events, items = world(n=2000)
    assert profile_inputs(events, items, None, CONFIG).bots.users == 0
    robot = events.iloc[: BUSY_DAY + 1].copy()
    seconds = pd.to_timedelta(np.arange(len(robot)), unit="s")
    robot["timestamp"] = (pd.Timestamp("2026-02-01") + seconds).strftime("%Y-%m-%dT%H:%M:%SZ")
    robot["user_id"] = "robot"
    profile = profile_inputs(pd.concat([events, robot]), items, None, CONFIG)
    assert profile.bots.examples == (("robot", BUSY_DAY + 1, BUSY_DAY + 1),)
    assert (profile.bots.users, profile.bots.events) == (1, BUSY_DAY + 1)
    assert profile.checked.n_users == 31


def test_a_user_with_a_hundred_thousand_events_is_counted(world):
    events, items = world()
    many = pd.concat([events] * 170).iloc[:100_000].copy()
    many["user_id"], many["value"] = "many", np.arange(100_000.0)
    profile = profile_inputs(pd.concat([events, many]), items, None, CONFIG)
    assert profile.per_user.quantiles[-1] == 100_000
    assert profile.bots.examples[0][:2] == ("many", 100_000)


def test_a_test_window_of_new_users_only_is_counted_as_such(world):
    events, items = world()
    test = profile_inputs(events, items, None, CONFIG).windows[-1]
    assert test.cold < test.requests
    late = pd.to_datetime(events["timestamp"]).astype("datetime64[us, UTC]").astype("int64")
    inside = late >= test.start
    events.loc[inside, "user_id"] = [f"new {at}" for at in range(inside.sum())]
    test = profile_inputs(events, items, None, CONFIG).windows[-1]
    assert test.cold == test.requests > 0


def test_events_of_items_that_were_not_there_before_are_counted(world):
    events, items = world()
    before = profile_inputs(events, items, None, CONFIG).windows[-1]
    late = pd.to_datetime(events["timestamp"]).astype("datetime64[us, UTC]").astype("int64")
    inside = (late >= before.start) & (events["event_type"] != "shown")
    events.loc[inside, "item_id"] = "new"
    items = pd.concat([items, pd.DataFrame({"item_id": ["new"], "title": ["new"]})])
    test = profile_inputs(events, items, None, CONFIG).windows[-1]
    assert before.unseen == 0 and test.unseen == test.events == before.events


def test_windows_of_an_order_that_nobody_fills_are_refused(order_only):
    events, items = order_only([("u", "a", 1, "buy"), ("u", "b", 2, "buy"), ("v", "b", 1, "buy")])
    with pytest.raises(ConfigError, match="no user took more than 2"):
        profile_inputs(events, items, None, CONFIG)


def test_an_order_has_no_days(order_only):
    rows = [(user, item, at, "buy") for user in "uv" for at, item in enumerate("abcd")]
    profile = profile_inputs(*order_only(rows), None, CONFIG)
    assert profile.days is None
    requests = {w.name: (w.requests, w.cold) for w in profile.windows}
    # two users with four events each: one before the ranker window, and it is their first
    assert requests == {"encoder": (2, 2), "ranker": (2, 0), "valid": (2, 0), "test": (2, 0)}


def test_prices_and_categories_are_counted(world):
    events, items = world()
    items["price"] = [0.0, 0.0, -1.0, None] + [2.0] * (len(items) - 4)
    items["genre"] = ["alone"] + ["many"] * (len(items) - 1)
    texts = profile_inputs(events, items, None, CONFIG).texts
    assert (texts.prices["zero"], texts.prices["negative"], texts.filled["price"]) == (2, 1, 39)
    assert (texts.prices["lowest"], texts.prices["median"], texts.prices["highest"]) == (-1, 2, 2)
    assert (texts.categories, texts.single) == (2, 1)


def test_texts_that_are_alike_or_empty_or_long_are_counted(world):
    events, items = world()
    items["title"], items["genre"] = ["same"] * 30 + [""] * 5 + ["w " * 70] * 5, ""
    texts = profile_inputs(events, items, None, CONFIG, max_tokens=64).texts
    assert (texts.repeated, texts.most_repeated) == (35, ("same", 30))
    assert (texts.filled["text"], texts.long) == (35, 5)
    assert texts.characters.quantiles[0] == len("same")
    assert sum(texts.languages.values()) == 35
