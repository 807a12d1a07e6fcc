"""Laws of preparation: nothing is lost in silence, and only the content of the data matters."""

import os
from pathlib import Path

import numpy as np
import pandas as pd
import polars as pl
import pyarrow.parquet as pq
import pytest

import pipelines.prepare as module
from pipelines.prepare import open_prepared, prepare
from recsys.dataset import ALWAYS_FROM, ALWAYS_UNTIL, DAY
from recsys.errors import ConfigError, SchemaError
from recsys.schema import DataConfig
from recsys.split import LEAVE_LAST_OUT

RULES = {"view": {"grade": 1, "weight": 0.5}, "buy": {"grade": 2}, "shown": {"grade": 0}}
CONFIG = DataConfig(event_types=RULES)
START = pd.Timestamp("2026-01-01")


def world(n=600, n_users=30, n_items=40):
    """Return (events, items): 100 days; users and items are strings such as "007"."""
    rng = np.random.default_rng(7)
    seconds = pd.to_timedelta(rng.integers(0, 100 * 86400, n), unit="s")
    events = pd.DataFrame(
        {
            "user_id": [f"{u:03d}" for u in rng.integers(0, n_users, n)],
            "item_id": [f"{i:02d}" for i in rng.integers(0, n_items, n)],
            "event_type": rng.choice(["view", "buy", "shown"], n, p=[0.6, 0.3, 0.1]),
            "timestamp": (START + seconds).strftime("%Y-%m-%dT%H:%M:%SZ"),
            "value": np.where(rng.random(n) < 0.2, np.nan, rng.integers(1, 6, n).astype(float)),
            "price": rng.random(n).round(2),
        }
    )
    items = pd.DataFrame({"item_id": [f"{i:02d}" for i in range(n_items)]})
    items["title"] = "item " + items["item_id"]
    items["genre"] = "a|b"
    return events, items


def order_only(rows):
    """Return (events, items) from (user, item, order, type)."""
    events = pd.DataFrame(rows, columns=["user_id", "item_id", "order_index", "event_type"])
    ids = sorted(set(events["item_id"]))
    return events, pd.DataFrame({"item_id": ids, "title": [f"t{i}" for i in ids]})


def content(prepared):
    """Every event as it is seen by its user's and item's id, in order, by user."""
    ids, items, found = prepared.user_ids(), prepared.items().ids, {}
    for log in prepared.buckets():
        for r, user in enumerate(log.users):
            rows = range(log.indptr[r], log.indptr[r + 1])
            found[ids[user]] = [
                (items[log.item[e]], log.moment[e], log.grade[e], log.weight[e], log.price[e])
                for e in rows
            ]
    return found


def test_events_arrive_as_they_were(tmp_path):
    events, items = world()
    found = content(prepare(events, items, tmp_path / "p", CONFIG))
    micro = (pd.to_datetime(events["timestamp"]).astype("datetime64[us, UTC]")).astype("int64")
    grade = events["event_type"].map({"view": 1, "buy": 2, "shown": 0})
    weight = events["event_type"].map({"view": 0.5, "buy": 1, "shown": 1})
    price = events["price"].astype("float32")
    rows = zip(events["user_id"], events["item_id"], micro, grade, weight, price, strict=True)
    expected = {}
    for user, *row in rows:
        expected.setdefault(user, []).append(tuple(row))
    assert found.keys() == expected.keys()
    for user, some in expected.items():
        assert sorted(found[user]) == sorted(some)


def test_every_row_is_kept_or_counted_under_one_reason(tmp_path):
    events, items = world()
    events.loc[:4, "item_id"] = "nowhere"
    events.loc[3:7, "timestamp"] = None  # 3 and 4 have two faults, counted once
    events = pd.concat([events, events.iloc[20:26]])
    config = DataConfig(event_types=RULES | {"shown": {"grade": 0, "min_value": 2}})
    manifest = prepare(events, items, tmp_path / "p", config).manifest
    assert manifest.n_rows == len(events) == manifest.n_events + sum(manifest.dropped.values())
    assert manifest.dropped["has no time"] == 5
    assert manifest.dropped["is not in items"] == 3
    assert manifest.dropped["is an exact copy of another row"] == 6
    low = (events["event_type"] == "shown") & ~(events["value"] >= 2)
    assert manifest.dropped["matches no rule of data.event_types"] == low.iloc[8:].sum()
    warned = "\n".join(manifest.warnings)
    assert all(reason in warned for reason in manifest.dropped)


def test_only_the_content_matters_for_the_fingerprint(tmp_path):
    events, items = world()
    first = prepare(events, items, tmp_path / "first", CONFIG)
    paths = {}
    for name, frame in {"events": events.sample(frac=1, random_state=1), "items": items}.items():
        folder = tmp_path / name
        folder.mkdir()
        frame.to_csv(folder / "t.csv", index=False)
        frame.to_parquet(folder / "t.parquet", index=False)
        frame.to_json(folder / "t.jsonl", orient="records", lines=True)
        paths[name] = folder
    ways = {
        form: (paths["events"] / f"t.{form}", paths["items"] / f"t.{form}")
        for form in ("csv", "parquet", "jsonl")
    }
    ways["polars"] = (pl.from_pandas(events), pl.from_pandas(items[::-1]))
    dates = events.assign(
        timestamp=pd.to_datetime(events["timestamp"]).astype("datetime64[ns, UTC]")
    )
    ways["ns"] = (dates, items)
    ways["7 buckets"] = (events, items)
    for name, (e, i) in ways.items():
        rows = -(-len(events) // 7) if name == "7 buckets" else 10**6
        config = CONFIG.model_copy(update={"bucket_rows": rows})
        other = prepare(e, i, tmp_path / f"to {name}", config)
        assert other.n_buckets == (7 if name == "7 buckets" else 1)
        assert other.manifest.fingerprint == first.manifest.fingerprint, name
        assert content(other) == content(first), name


@pytest.mark.parametrize("column", ["item_id", "price", "timestamp", "event_type", "user_id"])
def test_one_changed_value_changes_the_fingerprint(tmp_path, column):
    events, items = world()
    first = prepare(events, items, tmp_path / "a", CONFIG)
    row = events.index[events["user_id"] != "001"][0]
    changed = {"item_id": "39", "price": 0.123, "timestamp": "2026-01-02T00:00:00Z",
               "event_type": "buy", "user_id": "001"}  # fmt: skip
    assert events.loc[row, column] != changed[column]
    events.loc[row, column] = changed[column]
    second = prepare(events, items, tmp_path / "b", CONFIG)
    assert first.manifest.fingerprint != second.manifest.fingerprint


def test_a_changed_title_changes_the_fingerprint(tmp_path):
    events, items = world()
    first = prepare(events, items, tmp_path / "a", CONFIG)
    items.loc[5, "title"] = "other"
    second = prepare(events, items, tmp_path / "b", CONFIG)
    assert first.manifest.fingerprint != second.manifest.fingerprint


def test_buckets_are_sorted_and_cut_into_users(tmp_path):
    events, items = world()
    prepared = prepare(events, items, tmp_path / "p", CONFIG.model_copy(update={"bucket_rows": 90}))
    assert prepared.n_buckets == 7 == len(prepared.logs())
    users = np.concatenate([log.users for log in prepared.buckets()])
    np.testing.assert_array_equal(users, np.arange(prepared.manifest.n_users))
    for log in prepared.buckets():
        assert log.indptr[0] == 0 and log.indptr[-1] == len(log)
        assert (np.diff(log.indptr) > 0).all()
        order = np.lexsort((log.item, log.moment, log.row))
        np.testing.assert_array_equal(order, np.arange(len(log)))
    table = pq.read_table(prepared.folder / "users.parquet").to_pandas()
    assert list(table["user_code"]) == list(users)
    counts = events["user_id"].value_counts()
    assert dict(zip(table["user_id"], table["n_events"], strict=True)) == dict(counts)
    pairs = list(zip(table["bucket"], table["user_id"], strict=True))
    assert pairs == sorted(pairs)


def test_more_buckets_than_users_leave_some_empty(tmp_path):
    events, items = order_only([("u", "a", 1, "x"), ("u", "b", 2, "x"), ("v", "a", 1, "x")] * 3)
    config = DataConfig(bucket_rows=1)
    prepared = prepare(events, items, tmp_path / "p", config)
    assert prepared.n_buckets == 9
    assert [len(log.users) for log in prepared.buckets()].count(0) >= 7
    assert sum(len(log) for log in prepared.buckets()) == 3


@pytest.mark.parametrize("kind", ["int64", "int32", "str"])
def test_ids_keep_their_type(tmp_path, kind):
    events, items = world()
    events[["user_id", "item_id"]] = events[["user_id", "item_id"]].astype(int).astype(kind)
    items["item_id"] = items["item_id"].astype(int).astype(kind)
    prepared = prepare(events, items, tmp_path / "p", CONFIG)
    ids, users = prepared.items().ids, prepared.user_ids()
    if kind == "str":
        assert {type(x) for x in [*ids, *users]} == {str}
        assert list(ids) == sorted(map(str, range(40)))
    else:
        assert ids.dtype == users.dtype == np.int64
        assert list(ids) == list(range(40))


def test_positions_count_from_the_users_last_taken_event(tmp_path):
    rows = [("u", "a", 10, "shown"), ("u", "b", 20, "buy"), ("u", "c", 30, "shown"),
            ("u", "a", 40, "view"), ("u", "d", 50, "shown"), ("v", "b", 1, "shown"),
            ("w", "b", 3, "buy"), ("w", "a", 3, "buy")]  # fmt: skip
    events, items = order_only(rows)
    prepared = prepare(events, items, tmp_path / "p", CONFIG)
    moments = {u: [(e[0], e[1]) for e in some] for u, some in content(prepared).items()}
    assert moments["u"] == [("a", -3), ("b", -2), ("c", -2), ("a", -1), ("d", -1)]
    assert moments["v"] == [("b", -1)]
    assert moments["w"] == [("a", -2), ("b", -1)]  # one time: by item_id
    assert prepared.windows == LEAVE_LAST_OUT
    assert not prepared.manifest.dated


def test_leave_last_out_works_on_timestamps_too(tmp_path):
    events, items = world()
    prepared = prepare(events, items, tmp_path / "p", CONFIG, protocol="leave_last_out")
    assert prepared.windows == LEAVE_LAST_OUT
    dated = content(prepare(events, items, tmp_path / "d", CONFIG))
    for user, some in content(prepared).items():
        assert [e[0] for e in some] == [e[0] for e in dated[user]]
        taken = [e[1] for e in some if e[2] > 0]
        assert taken == list(range(-len(taken), 0))


@pytest.mark.parametrize(("known", "protocol"), [(300, "time"), (299, "leave_last_out")])
def test_auto_wants_a_time_for_half_of_the_events(tmp_path, known, protocol):
    events, items = world(n=600)
    events.loc[known:, "timestamp"] = None
    assert prepare(events, items, tmp_path / "p", CONFIG).manifest.protocol == protocol


def test_windows_hold_their_share_and_begin_at_midnight(tmp_path):
    events, items = world()
    prepared = prepare(events, items, tmp_path / "p", CONFIG, share=0.2)
    w = prepared.windows
    assert all(moment % DAY == 0 for moment in (w.ranker, w.valid, w.test, w.test_end))
    [log] = prepared.logs()
    taken = log.moment[log.grade > 0]
    for n, start in ((3, w.ranker), (2, w.valid), (1, w.test)):
        assert (taken >= start).mean() >= n * 0.2 > (taken >= start + DAY).mean()
    assert prepared.manifest.first_moment == log.moment.min()
    assert prepared.manifest.last_moment == log.moment.max() < w.test_end


def test_repeat_share_is_of_the_events_before_the_ranker_window(tmp_path):
    events, items = world()
    for rows in (90, 1000):
        config = CONFIG.model_copy(update={"bucket_rows": rows})
        prepared = prepare(events, items, tmp_path / f"{rows}", config)
        had, again, total = set(), 0, 0
        for user, some in content(prepared).items():
            for item, moment, grade, *_ in some:
                if grade > 0 and moment < prepared.windows.ranker:
                    total += 1
                    again += (user, item) in had
                    had.add((user, item))
        assert again > 0
        assert prepared.manifest.repeat_share == pytest.approx(again / total)


def test_thresholds_take_the_first_rule_that_holds(tmp_path):
    events, items = world()
    events["event_type"] = "rating"
    rules = [{"grade": 2, "min_value": 4.0}, {"grade": 1, "min_value": 3.0}, {"grade": 0}]
    config = DataConfig(event_types={"rating": rules})
    prepared = prepare(events, items, tmp_path / "p", config)
    table = pq.read_table(prepared.folder / "events" / "bucket-00000.parquet").to_pandas()
    expected = {5.0: 2, 4.0: 2, 3.0: 1, 2.0: 0, 1.0: 0}
    seen = table.dropna(subset="value")
    assert list(seen["grade"]) == [expected[v] for v in seen["value"]]
    assert set(table[table["value"].isna()]["grade"]) == {0}  # no value meets no threshold


def test_times_with_and_without_a_zone_are_one_time_line(tmp_path):
    events, items = world()
    first = prepare(events, items, tmp_path / "a", CONFIG)
    assert not any("time zone" in warning for warning in first.manifest.warnings)
    moment = pd.to_datetime(events["timestamp"])
    events.loc[:99, "timestamp"] = moment[:100].dt.tz_convert("Asia/Kolkata").map(str)
    events.loc[100:199, "timestamp"] = moment[100:200].dt.strftime("%Y-%m-%d %H:%M:%S")
    second = prepare(events, items, tmp_path / "b", CONFIG)
    assert second.manifest.fingerprint == first.manifest.fingerprint
    [warning] = [w for w in second.manifest.warnings if "time zone" in w]
    assert "100 rows" in warning


def test_items_carry_what_was_given(tmp_path):
    events, items = world()
    items["author"] = [None, "Z", "A"] + [""] * (len(items) - 3)
    items["price"] = [1.5] + [None] * (len(items) - 1)
    items["available_from"] = [None, "2026-01-05"] + [None] * (len(items) - 2)
    items["description"] = "<p>Nice &amp; new</p>"
    prepared = prepare(events, items, tmp_path / "p", CONFIG)
    found = prepared.items()
    assert found.text[0] == "item 00. a, b. Nice & new"
    assert found.text[1] == "item 01. Z. a, b. Nice & new"
    assert found.brand[:4].tolist() == [-1, 1, 0, -1]
    assert found.category.tolist() == [0] * len(items)
    assert found.price[0] == 1.5 and np.isnan(found.price[1])
    day = pd.Timestamp("2026-01-05").value // 1000
    assert found.available_from[:2].tolist() == [ALWAYS_FROM, day]
    assert set(found.available_until) == {ALWAYS_UNTIL}
    assert found.brand.dtype == np.int32 and found.price.dtype == np.float32
    used = prepared.manifest.columns_used["items"]
    assert used["brand"] == "author" and used["category"] == "genre"
    undated = prepare(events, items, tmp_path / "q", CONFIG, protocol="leave_last_out").items()
    assert set(undated.available_from) == {ALWAYS_FROM}


def refused(tmp_path, events, items, *said, config=CONFIG, **options):
    with pytest.raises(SchemaError) as error:
        prepare(events, items, tmp_path / "p", config, **options)
    for words in said:
        assert words in str(error.value), str(error.value)
    assert not list(tmp_path.glob(".*")) and not (tmp_path / "p").exists()


def test_null_ids_are_refused(tmp_path):
    events, items = world()
    events.loc[:2, "user_id"] = None
    events.loc[3, "item_id"] = ""
    path = tmp_path / "events.csv"
    events.to_csv(path, index=False)
    first = f"item_id={events['item_id'][:3].min()}"
    refused(tmp_path, path, items, str(path), "column user_id: has no id in 3 rows", first,
            "column item_id: has no id in 1 row")  # fmt: skip


def test_times_that_do_not_parse_are_refused(tmp_path):
    events, items = world()
    events.loc[:1, "timestamp"] = ["yesterday", "31/12/2026"]
    refused(tmp_path, events, items, "events (in memory), column timestamp", "2 rows", "31/12/2026")


def test_prices_that_do_not_parse_are_refused(tmp_path):
    events, items = world()
    items["price"] = ["cheap"] + ["2.5"] * (len(items) - 1)
    refused(tmp_path, events, items, "items (in memory), column price", "1 row", "cheap")


def test_one_id_with_two_contents_is_refused(tmp_path):
    events, items = world()
    items = pd.concat([items, items.iloc[:2], items.iloc[:2].assign(title="other")])
    refused(tmp_path, events, items, "column item_id: has other contents", "2 rows", "e.g. 00")
    twice = pd.concat([items.iloc[:40], items.iloc[:2]])
    assert prepare(events, twice, tmp_path / "p", CONFIG).manifest.n_items == 40


def test_types_without_a_grade_are_refused(tmp_path):
    events, items = world()
    config = DataConfig(event_types={"buy": {"grade": 2}})
    n = int((events["event_type"] != "buy").sum())
    refused(tmp_path, events, items, "without a grade", f"{n} rows", "shown, view", config=config)


def test_ids_of_two_types_are_refused(tmp_path):
    events, items = world()
    items["item_id"] = items["item_id"].astype(int)
    refused(tmp_path, events, items, "another type than items.item_id", "int64 there")


def test_one_user_is_refused(tmp_path):
    events, items = world(n_users=1)
    refused(tmp_path, events, items, "column user_id: has fewer than 2", "600 events of one user")


def test_one_item_is_refused(tmp_path):
    events, items = world(n_items=1)
    refused(tmp_path, events, items, "items (in memory), column item_id: has fewer than 2")


def test_events_of_other_items_only_are_refused(tmp_path):
    events, items = world()
    events["item_id"] = "x" + events["item_id"]
    refused(tmp_path, events, items, "has no event left (of 600: 600 is not in items)")


def test_an_order_alone_has_no_time_windows(tmp_path):
    events, items = order_only([("u", "a", 1, "buy"), ("v", "b", 2, "buy")])
    refused(tmp_path, events, items, "column timestamp: is missing", "leave_last_out",
            protocol="time")  # fmt: skip


def test_everything_wrong_is_said_at_once(tmp_path):
    events, items = world()
    events.loc[0, "user_id"] = None
    events.loc[1, "timestamp"] = "soon"
    users = pd.DataFrame({"user": [1]})
    empty = items.drop(columns="title")
    with pytest.raises(SchemaError) as error:
        prepare(events, empty, tmp_path / "p", CONFIG, users=users)
    assert str(error.value).splitlines()[0] == "the input has 4 problems:"
    refused(tmp_path, tmp_path / "none.csv", items[:0], "events", "no such file", "has no rows")


def test_a_broken_row_deep_in_a_file_names_its_table(tmp_path):
    events, items = world(n=60_000)
    path = tmp_path / "events.csv"
    path.write_text(events.to_csv(index=False) + "one,two\n")
    refused(tmp_path, path, items, f"events ({path}): cannot be read", "Expected 6 columns, got 2")


def test_the_same_files_and_settings_are_not_prepared_twice(tmp_path):
    events, items = world()
    paths = tmp_path / "e.csv", tmp_path / "i.csv"
    events.to_csv(paths[0], index=False)
    items.to_csv(paths[1], index=False)
    said = []
    first = prepare(*paths, tmp_path / "p", CONFIG, progress=said.append)
    assert not first.reused and "reused" not in "".join(said)
    again = prepare(*paths, tmp_path / "p", CONFIG, progress=said.append)
    assert again.reused and said[-1].startswith("reused")
    assert again.manifest == first.manifest == open_prepared(tmp_path / "p").manifest
    other = CONFIG.model_copy(update={"bucket_rows": 100})
    assert prepare(*paths, tmp_path / "p", other).n_buckets == 6
    assert not prepare(*paths, tmp_path / "p", other, share=0.2).reused
    events.iloc[:-1].to_csv(paths[0], index=False)
    changed = prepare(*paths, tmp_path / "p", other, share=0.2)
    assert not changed.reused and changed.manifest.n_rows == len(events) - 1


def test_a_killed_run_leaves_what_was_there(tmp_path, monkeypatch):
    events, items = world()
    config = CONFIG.model_copy(update={"bucket_rows": 100})
    write, calls = module._write_bucket, []

    def killed(*args):
        calls.append(args)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return write(*args)

    with monkeypatch.context() as patch:
        patch.setattr(module, "_write_bucket", killed)
        with pytest.raises(KeyboardInterrupt):
            prepare(events, items, tmp_path / "p", config)
    assert list(tmp_path.iterdir()) == []
    before = prepare(events, items, tmp_path / "p", config)
    calls.clear()
    with monkeypatch.context() as patch:
        patch.setattr(module, "_write_bucket", killed)
        with pytest.raises(KeyboardInterrupt):
            prepare(events[:500], items, tmp_path / "p", config)
    assert [path.name for path in tmp_path.iterdir()] == ["p"]
    assert open_prepared(tmp_path / "p").manifest == before.manifest
    names = sorted(path.name for path in (tmp_path / "p").iterdir())
    assert names == ["events", "items.parquet", "manifest.json", "users.parquet"]


def test_a_folder_with_other_things_is_not_replaced(tmp_path):
    events, items = world()
    (tmp_path / "p").mkdir()
    (tmp_path / "p" / "thesis.txt").touch()
    with pytest.raises(ConfigError, match="no prepared folder"):
        prepare(events, items, tmp_path / "p", CONFIG)
    assert (tmp_path / "p" / "thesis.txt").exists()


def test_only_a_finished_folder_of_this_version_opens(tmp_path):
    with pytest.raises(ConfigError, match="run prepare first"):
        open_prepared(tmp_path)
    for content in ("{", '{"version": 0}', '{"version": 1}', "[]"):
        (tmp_path / "manifest.json").write_text(content)
        with pytest.raises(ConfigError, match="run prepare again"):
            open_prepared(tmp_path)
    events, items = world()
    assert prepare(events, items, tmp_path, CONFIG).manifest.n_rows == len(events)


def test_a_log_of_too_few_days_says_what_to_do(tmp_path):
    events, items = world()
    events["timestamp"] = "2026-01-01T00:00:00Z"
    with pytest.raises(ConfigError, match="leave_last_out"):
        prepare(events, items, tmp_path / "p", CONFIG)
    assert list(tmp_path.iterdir()) == []


def test_too_little_memory_says_which_setting_to_raise(tmp_path):
    events, items = world()
    with pytest.raises(ConfigError, match="memory_limit = '1KB' is too little"):
        prepare(events, items, tmp_path / "p", CONFIG.model_copy(update={"memory_limit": "1KB"}))
    assert list(tmp_path.iterdir()) == []


def test_a_users_table_is_checked_and_said_to_be_unused(tmp_path):
    events, items = world()
    users = pd.DataFrame({"user_id": ["001", "002"], "age": [30, 40]})
    prepared = prepare(events, items, tmp_path / "p", CONFIG, users=users)
    assert prepared.manifest.warnings == (
        "users (in memory): is read by nothing yet; only its user_id was checked",
    )
    users.loc[0, "user_id"] = None
    refused(tmp_path / "q", events, items, "users (in memory), column user_id: has no id in 1 row",
            users=users)  # fmt: skip


def test_names_with_quotes_do_no_harm(tmp_path):
    events, items = world()
    first = prepare(events, items, tmp_path / "a", CONFIG)
    rules = {("it's" if name == "buy" else name): rule for name, rule in RULES.items()}
    columns = {"events": {"user_id": 'the "user"'}}
    events["event_type"] = events["event_type"].replace("buy", "it's")
    events = events.rename(columns={"user_id": 'the "user"'})
    config = DataConfig(event_types=rules, columns=columns)
    second = prepare(events, items, tmp_path / "it's here", config)
    assert content(second) == content(first)


REAL = Path(os.environ.get("RECSYS_DATA", "nowhere"))
REAL_TYPES = {
    "online_retail": {"purchase": {"grade": 2}, "return": {"grade": 0}},
    "ml_latest_small_text": {"rating": [{"grade": 2, "min_value": 4.0}, {"grade": 0}]},
}


@pytest.mark.skipif(not REAL.is_dir(), reason="RECSYS_DATA names no folder with the real data")
@pytest.mark.parametrize(
    ("name", "users", "protocol"),
    [
        ("ifdb", 2972, "time"),
        ("online_retail", 4363, "time"),
        ("ml_latest_small_text", 610, "time"),
        ("amazon_beauty_2014", 22363, "leave_last_out"),
        ("amazon_scientific_2018", 8317, "leave_last_out"),
    ],
)
def test_real_data(tmp_path, name, users, protocol):
    events, items = REAL / name / "events.parquet", REAL / name / "items.parquet"
    config = DataConfig(event_types=REAL_TYPES.get(name, {}))
    prepared = prepare(events, items, tmp_path / "p", config)
    manifest = prepared.manifest
    assert (manifest.n_users, manifest.protocol) == (users, protocol)
    rows = pq.read_metadata(events).num_rows
    assert rows == manifest.n_rows == manifest.n_events + sum(manifest.dropped.values())
    assert manifest.n_events >= 0.97 * rows
    catalogue = prepared.items()
    assert len(catalogue) == pq.read_metadata(items).num_rows
    assert (np.char.str_len(catalogue.text.astype(str)) > 0).mean() > 0.99
