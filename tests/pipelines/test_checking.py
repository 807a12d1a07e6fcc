"""Laws of checking: all that is wrong is said at once, and what is counted is what is prepared."""

import pandas as pd
import pytest

from pipelines.checking import check_inputs
from pipelines.prepare import prepare
from recsys.errors import ConfigError, SchemaError
from recsys.schema import DataConfig

RULES = {"view": {"grade": 1, "weight": 0.5}, "buy": {"grade": 2}, "shown": {"grade": 0}}
CONFIG = DataConfig(event_types=RULES)


@pytest.mark.parametrize("protocol", ["time", "leave_last_out"])
def test_what_is_counted_is_what_is_prepared(tmp_path, world, protocol):
    events, items = world()
    events.loc[:4, "item_id"] = "nowhere"
    events.loc[3:7, "timestamp"] = None
    events = pd.concat([events, events.iloc[20:26]])
    checked = check_inputs(events, items, None, CONFIG, protocol)
    manifest = prepare(events, items, tmp_path / "p", CONFIG, protocol).manifest
    copies = manifest.dropped.pop("is an exact copy of another row")
    assert checked.n_rows == len(events) == checked.n_events + sum(checked.dropped.values())
    assert (checked.n_events, checked.dropped) == (manifest.n_events + copies, manifest.dropped)
    same = ("protocol", "n_rows", "n_users", "n_items", "columns_used", "text_columns")
    assert [getattr(checked, name) for name in same] == [getattr(manifest, n) for n in same]
    assert checked.warnings == manifest.warnings[:-1]
    assert checked.event_types == dict(sorted(events["event_type"].value_counts().items()))
    kept = pd.to_datetime(events["timestamp"][events["item_id"] != "nowhere"]).dropna()
    ends = [int(moment.timestamp()) * 10**6 for moment in (kept.min(), kept.max())]
    assert [checked.first_moment, checked.last_moment] == ends
    assert checked.ordered_by == "timestamp"


def test_an_order_is_what_the_moments_are_where_there_is_nothing_else(order_only):
    tables = order_only([("u", "a", 7, "buy"), ("v", "b", 2, "buy"), ("v", "a", 5, "buy")])
    checked = check_inputs(*tables, None, CONFIG)
    assert (checked.protocol, checked.ordered_by) == ("leave_last_out", "order_index")
    assert (checked.first_moment, checked.last_moment) == (2, 7)


@pytest.mark.parametrize(("known", "protocol"), [(300, "time"), (299, "leave_last_out")])
def test_auto_wants_a_time_for_half_of_the_events(known, protocol, world):
    events, items = world(n=600)
    events.loc[known:, "timestamp"] = None
    assert check_inputs(events, items, None, CONFIG).protocol == protocol


def refused(events, items, *said, config=CONFIG, users=None, protocol="auto"):
    with pytest.raises(SchemaError) as error:
        check_inputs(events, items, users, config, protocol)
    for words in said:
        assert words in str(error.value), str(error.value)


def test_null_ids_are_refused(tmp_path, world):
    events, items = world()
    events.loc[:2, "user_id"] = None
    events.loc[3, "item_id"] = ""
    path = tmp_path / "events.csv"
    events.to_csv(path, index=False)
    first = f"item_id={events['item_id'][:3].min()}"
    refused(path, items, str(path), "column user_id: has no id in 3 rows", first,
            "column item_id: has no id in 1 row")  # fmt: skip


def test_times_that_do_not_parse_are_refused(world):
    events, items = world()
    events.loc[:1, "timestamp"] = ["yesterday", "31/12/2026"]
    refused(events, items, "events (in memory), column timestamp", "2 rows", "31/12/2026")


def test_prices_that_do_not_parse_are_refused(world):
    events, items = world()
    items["price"] = ["cheap"] + ["2.5"] * (len(items) - 1)
    refused(events, items, "items (in memory), column price", "1 row", "cheap")


def test_one_id_with_two_contents_is_refused(world):
    events, items = world()
    items = pd.concat([items, items.iloc[:2], items.iloc[:2].assign(title="other")])
    refused(events, items, "column item_id: has other contents", "2 rows", "e.g. 00")
    twice = pd.concat([items.iloc[:40], items.iloc[:2]])
    assert check_inputs(events, twice, None, CONFIG).n_items == 40


def test_types_without_a_grade_are_refused(world):
    events, items = world()
    config = DataConfig(event_types={"buy": {"grade": 2}})
    n = int((events["event_type"] != "buy").sum())
    refused(events, items, "without a grade", f"{n} rows", "shown, view", config=config)


def test_ids_of_two_types_are_refused(world):
    events, items = world()
    items["item_id"] = items["item_id"].astype(int)
    refused(events, items, "another type than items.item_id", "int64 there")


def test_one_user_is_refused(world):
    events, items = world(n_users=1)
    refused(events, items, "column user_id: has fewer than 2", "600 events of one user")


def test_one_item_is_refused(world):
    events, items = world(n_items=1)
    refused(events, items, "items (in memory), column item_id: has fewer than 2")


def test_three_days_are_too_few_for_four_windows_but_not_for_the_last_events(world):
    events, items = world()
    late = events["timestamp"] >= "2026-01-04"
    events.loc[late, "event_type"] = "shown"  # nothing counts after the third day
    refused(events, items, "timestamp: has fewer than 4 days with events that count (3 found)",
            "leave_last_out")  # fmt: skip
    checked = check_inputs(events, items, None, CONFIG, "leave_last_out")
    assert checked.n_events == len(events)


def test_events_of_grade_0_only_are_refused_with_whatever_else_is_wrong(world):
    events, items = world()
    events["event_type"] = "shown"
    items["price"] = "cheap"
    refused(events, items, "2 problems", "column event_type: has only events of grade 0", "cheap")


def test_events_after_tomorrow_are_refused(world):
    events, items = world()
    last = int(pd.Timestamp(events["timestamp"].max()).timestamp()) * 10**6
    day = 86_400_000_000
    assert check_inputs(events, items, None, CONFIG, now=last - day).last_moment == last
    events.loc[:2, "timestamp"] = "2062-01-01T00:00:00Z"
    with pytest.raises(SchemaError) as error:
        check_inputs(events, items, None, CONFIG, now=last)
    said = "column timestamp: is in the future in 3 rows (e.g. 2062-01-01 00:00:00)"
    assert said in str(error.value)
    assert check_inputs(events, items, None, CONFIG).n_events == len(events)  # no clock, no future


def test_seconds_taken_for_nanoseconds_are_refused(world):
    events, items = world()
    seconds = pd.to_datetime(events["timestamp"]).astype("datetime64[s, UTC]").astype("int64")
    events["timestamp"] = pd.to_datetime(seconds)  # a common slip: unit="s" is missing
    refused(events, items, "column timestamp: lies in 1970 (the last is 1970-01-01 00:00:01)")


def test_unknown_items_are_counted_once_each(world):
    events, items = world()
    events.loc[:4, "item_id"] = ["x", "x", "y", "x", "y"]
    checked = check_inputs(events, items, None, CONFIG)
    assert (checked.n_unknown_items, checked.dropped["is not in items"]) == (2, 5)


def test_events_of_other_items_only_are_refused(world):
    events, items = world()
    events["item_id"] = "x" + events["item_id"]
    first = events["item_id"].min()
    refused(events, items, "has no event left (of 600: 600 is not in items; "
            f"events: {first}; items: 00); bring tables that speak of the same ids")  # fmt: skip


def test_an_order_alone_has_no_time_windows(order_only):
    events, items = order_only([("u", "a", 1, "buy"), ("v", "b", 2, "buy")])
    refused(events, items, "column timestamp: is missing", "leave_last_out",
            protocol="time")  # fmt: skip


def test_everything_wrong_is_said_at_once(tmp_path, world):
    events, items = world()
    events.loc[0, "user_id"] = None
    events.loc[1, "timestamp"] = "soon"
    users = pd.DataFrame({"user": [1]})
    empty = items.drop(columns="title")
    with pytest.raises(SchemaError) as error:
        check_inputs(events, empty, users, CONFIG)
    assert str(error.value).splitlines()[0] == "the input has 4 problems:"
    refused(tmp_path / "none.csv", items[:0], "events", "no such file", "has no rows")


def test_a_broken_row_deep_in_a_file_names_its_table(tmp_path, world):
    events, items = world(n=60_000)
    path = tmp_path / "events.csv"
    path.write_text(events.to_csv(index=False) + "one,two\n")
    refused(path, items, f"events ({path}): cannot be read", "Expected 6 columns, got 2")


def test_too_little_memory_says_which_setting_to_raise(world):
    events, items = world()
    with pytest.raises(ConfigError, match="memory_limit = '1KB' is too little"):
        check_inputs(events, items, None, CONFIG.model_copy(update={"memory_limit": "1KB"}))


def test_a_users_table_is_checked_and_said_to_be_unused(world):
    events, items = world()
    users = pd.DataFrame({"user_id": ["001", "002"], "age": [30, 40]})
    assert check_inputs(events, items, users, CONFIG).warnings == (
        "users (in memory): is read by nothing yet; only its user_id was checked",
    )
    users.loc[0, "user_id"] = None
    refused(events, items, "users (in memory), column user_id: has no id in 1 row",
            users=users)  # fmt: skip


def test_no_event_left_is_refused_also_without_rules(world):
    events, items = world()
    events["item_id"] = "x" + events["item_id"]
    refused(events, items, "has no event left", config=DataConfig())


@pytest.mark.parametrize(
    ("prices", "said"),
    [(["2.730", "899"], ["300 rows (e.g. 2.730)"]), (["2.730", "8.5"], []),
     (["0.730", "2.730"], []), (["899", "8"], [])],
)  # fmt: skip
def test_points_before_three_digits_only_are_said(world, prices, said):
    events, items = world(n=600)
    events["price"] = [prices[row % 2] for row in range(600)]
    warnings = check_inputs(events, items, None, CONFIG).warnings
    found = [line for line in warnings if "column price: may be thousands" in line]
    assert len(found) == len(said) and all(w in line for w, line in zip(said, found, strict=True))


def test_words_for_nothing_are_no_ids(world):
    events, items = world()
    events.loc[:1, "user_id"] = ["NULL", "nan"]
    events.loc[2, "item_id"] = "None"
    refused(events, items, "column user_id: has no id in 2 rows", "column item_id: has no id in 1")


def test_ids_from_a_column_of_decimals_are_said(world):
    events, items = world()
    assert not any("17001.0" in line for line in check_inputs(events, items, None, CONFIG).warnings)
    events.loc[:2, "user_id"] = "42.0"
    [line] = [w for w in check_inputs(events, items, None, CONFIG).warnings if "17001.0" in w]
    assert "column user_id: has ids like 17001.0 in 3 rows (e.g. 42.0)" in line
