"""Laws of preparation: nothing is lost in silence, and only the content of the data matters."""

import os
from pathlib import Path

import numpy as np
import pandas as pd
import polars as pl
import pyarrow.parquet as pq
import pytest

import pipelines.prepare as module
from pipelines.config import load_toml
from pipelines.prepare import prepare
from pipelines.prepared import open_prepared
from pipelines.run import prepare_data
from pipelines.settings import RunConfig
from recsys.dataset import DAY
from recsys.errors import ConfigError, SchemaError
from recsys.schema import DataConfig
from recsys.split import leave_last_out

RULES = {"view": {"grade": 1, "weight": 0.5}, "buy": {"grade": 2}, "shown": {"grade": 0}}
CONFIG = DataConfig(event_types=RULES)


def test_events_arrive_as_they_were(tmp_path, world, content):
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


def test_every_row_is_kept_or_counted_under_one_reason(tmp_path, world):
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


def test_only_the_content_matters_for_the_fingerprint(tmp_path, world, content):
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
def test_one_changed_value_changes_the_fingerprint(tmp_path, column, world):
    events, items = world()
    first = prepare(events, items, tmp_path / "a", CONFIG)
    row = events.index[events["user_id"] != "001"][0]
    changed = {"item_id": "39", "price": 0.123, "timestamp": "2026-01-02T00:00:00Z",
               "event_type": "buy", "user_id": "001"}  # fmt: skip
    assert events.loc[row, column] != changed[column]
    events.loc[row, column] = changed[column]
    second = prepare(events, items, tmp_path / "b", CONFIG)
    assert first.manifest.fingerprint != second.manifest.fingerprint


def test_a_changed_title_changes_the_fingerprint(tmp_path, world):
    events, items = world()
    first = prepare(events, items, tmp_path / "a", CONFIG)
    items.loc[5, "title"] = "other"
    second = prepare(events, items, tmp_path / "b", CONFIG)
    assert first.manifest.fingerprint != second.manifest.fingerprint


def test_buckets_are_sorted_and_cut_into_users(tmp_path, world):
    events, items = world()
    prepared = prepare(events, items, tmp_path / "p", CONFIG.model_copy(update={"bucket_rows": 90}))
    assert prepared.n_buckets == 7 == len(prepared.logs())
    users = np.concatenate([log.users for log in prepared.buckets()])
    np.testing.assert_array_equal(users, np.arange(prepared.manifest.n_users))
    for log in prepared.buckets():
        assert log.indptr[0] == 0 and log.indptr[-1] == len(log)
        assert (np.diff(log.indptr) > 0).all()
        order = np.lexsort((log.moment, log.row))
        np.testing.assert_array_equal(order, np.arange(len(log)))
    table = pq.read_table(prepared.folder / "users.parquet").to_pandas()
    assert list(table["user_code"]) == list(users)
    counts = events["user_id"].value_counts()
    assert dict(zip(table["user_id"], table["n_events"], strict=True)) == dict(counts)
    pairs = list(zip(table["bucket"], table["user_id"], strict=True))
    assert pairs == sorted(pairs)


def test_a_basket_is_not_in_the_order_of_its_item_ids(tmp_path, order_only, content):
    basket = [f"i{at:02d}" for at in range(30)]
    events, items = order_only([(user, item, 7, "buy") for user in "uv" for item in basket])
    found = content(prepare(events, items, tmp_path / "p", CONFIG))
    again = content(prepare(events[::-1], items, tmp_path / "again", CONFIG))
    orders, orders_again = ([[event[0] for event in some[user]] for user in "uv"]
                            for some in (found, again))  # fmt: skip
    assert orders[0] != orders[1] and basket not in orders
    assert [sorted(order) for order in orders] == [basket, basket]
    assert orders == orders_again


def test_a_new_item_leaves_every_basket_in_its_order(tmp_path, order_only, content):
    basket = [f"i{at:02d}" for at in range(30)]
    events, items = order_only([(user, item, 7, "buy") for user in "uv" for item in basket])
    new = pd.DataFrame({"item_id": ["a first one"], "title": ["new"]})
    orders = []
    for name, catalogue in (("old", items), ("new", pd.concat([new, items]))):
        found = content(prepare(events, catalogue, tmp_path / name, CONFIG))
        orders.append([event[0] for event in found["u"]])
    assert orders[0] == orders[1]


def test_more_buckets_than_users_leave_some_empty(tmp_path, order_only):
    events, items = order_only([("u", "a", 1, "x"), ("u", "b", 2, "x"), ("v", "a", 1, "x")] * 3)
    config = DataConfig(bucket_rows=1)
    prepared = prepare(events, items, tmp_path / "p", config)
    assert prepared.n_buckets == 9
    assert [len(log.users) for log in prepared.buckets()].count(0) >= 7
    assert sum(len(log) for log in prepared.buckets()) == 3


def test_positions_count_from_the_users_last_taken_event(tmp_path, order_only, content):
    rows = [("u", "a", 10, "shown"), ("u", "b", 20, "buy"), ("u", "c", 30, "shown"),
            ("u", "a", 40, "view"), ("u", "d", 50, "shown"), ("v", "b", 1, "shown"),
            ("w", "b", 3, "buy"), ("w", "a", 3, "buy")]  # fmt: skip
    events, items = order_only(rows)
    prepared = prepare(events, items, tmp_path / "p", CONFIG)
    moments = {u: [(e[0], e[1]) for e in some] for u, some in content(prepared).items()}
    assert moments["u"] == [("a", -3), ("b", -2), ("c", -2), ("a", -1), ("d", -1)]
    assert moments["v"] == [("b", -1)]
    assert sorted(item for item, _ in moments["w"]) == ["a", "b"]  # one time: in any order
    assert [moment for _, moment in moments["w"]] == [-2, -1]
    assert prepared.windows == leave_last_out(5, 3)
    assert not prepared.manifest.dated


def test_leave_last_out_works_on_timestamps_too(tmp_path, world, content):
    events, items = world()
    prepared = prepare(events, items, tmp_path / "p", CONFIG, protocol="leave_last_out")
    [log] = prepared.logs()
    assert prepared.windows == leave_last_out(int((log.grade > 0).sum()), len(log.users))
    dated = content(prepare(events, items, tmp_path / "d", CONFIG))
    for user, some in content(prepared).items():
        assert [e[0] for e in some] == [e[0] for e in dated[user]]
        taken = [e[1] for e in some if e[2] > 0]
        assert taken == list(range(-len(taken), 0))


def test_windows_hold_their_share_and_begin_at_midnight(tmp_path, world):
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


def test_repeat_share_is_of_the_events_before_the_ranker_window(tmp_path, world, content):
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


def test_thresholds_take_the_first_rule_that_holds(tmp_path, world):
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


def test_times_with_and_without_a_zone_are_one_time_line(tmp_path, world):
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


def test_the_same_files_and_settings_are_not_prepared_twice(tmp_path, world):
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


def test_a_killed_run_leaves_what_was_there(tmp_path, monkeypatch, world):
    events, items = world()
    config = CONFIG.model_copy(update={"bucket_rows": 100})
    write, calls = module.write_bucket, []

    def killed(*args):
        calls.append(args)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return write(*args)

    with monkeypatch.context() as patch:
        patch.setattr(module, "write_bucket", killed)
        with pytest.raises(KeyboardInterrupt):
            prepare(events, items, tmp_path / "p", config)
    assert list(tmp_path.iterdir()) == []
    before = prepare(events, items, tmp_path / "p", config)
    calls.clear()
    with monkeypatch.context() as patch:
        patch.setattr(module, "write_bucket", killed)
        with pytest.raises(KeyboardInterrupt):
            prepare(events[:500], items, tmp_path / "p", config)
    assert [path.name for path in tmp_path.iterdir()] == ["p"]
    assert open_prepared(tmp_path / "p").manifest == before.manifest
    names = sorted(path.name for path in (tmp_path / "p").iterdir())
    assert names == ["events", "items.parquet", "manifest.json", "users.parquet"]


def test_the_next_run_removes_what_a_killed_one_left(tmp_path, world):
    for name, table in zip(("e", "i"), world(), strict=True):
        table.to_parquet(tmp_path / f"{name}.parquet")
    config = load_toml(RunConfig, None, [
        f'run_dir="{tmp_path}/run"', f'data.events="{tmp_path}/e.parquet"',
        f'data.items="{tmp_path}/i.parquet"',
    ])  # fmt: skip
    (tmp_path / "run" / ".prepared.ab12cd_x" / "new" / "split").mkdir(parents=True)
    (tmp_path / "run" / ".prepared.mine" / "notes").mkdir(parents=True)
    prepare_data(config, lambda *told: None)
    left = sorted(path.name for path in (tmp_path / "run").iterdir())
    assert left == [".prepared.mine", "prepared"]


def test_a_prepared_folder_is_on_disk_before_it_has_its_name(tmp_path, world, synced):
    events, items = world()
    config = CONFIG.model_copy(update={"bucket_rows": 100})
    prepared = prepare(events, items, tmp_path / "p", config).folder
    files = {path.name for path in prepared.rglob("*") if path.is_file()}
    *before, (last, inside), (parent, after) = synced
    assert len(files) > 4 and files <= {name for name, _ in before}
    assert last == "new" and "manifest.json" in inside
    assert parent == tmp_path.name and "p" in after


def test_a_folder_with_other_things_is_not_replaced(tmp_path, world):
    events, items = world()
    (tmp_path / "p").mkdir()
    (tmp_path / "p" / "thesis.txt").touch()
    with pytest.raises(ConfigError, match="no prepared folder"):
        prepare(events, items, tmp_path / "p", CONFIG)
    assert (tmp_path / "p" / "thesis.txt").exists()


def test_a_log_of_too_few_days_says_what_to_do(tmp_path, world):
    events, items = world()
    days = np.minimum(np.arange(len(events)), 4) + 1  # the fifth has all but four events
    events["event_type"] = "buy"
    events["timestamp"] = [f"2026-01-0{day}T00:00:00Z" for day in days]
    with pytest.raises(ConfigError, match="5 days with events are too few.*leave_last_out"):
        prepare(events, items, tmp_path / "p", CONFIG)
    assert list(tmp_path.iterdir()) == []


def test_names_with_quotes_do_no_harm(tmp_path, world, content):
    events, items = world()
    first = prepare(events, items, tmp_path / "a", CONFIG)
    rules = {("it's" if name == "buy" else name): rule for name, rule in RULES.items()}
    columns = {"events": {"user_id": 'the "user"'}}
    events["event_type"] = events["event_type"].replace("buy", "it's")
    events = events.rename(columns={"user_id": 'the "user"'})
    config = DataConfig(event_types=rules, columns=columns)
    second = prepare(events, items, tmp_path / "it's here", config)
    assert content(second) == content(first)


def test_refused_tables_leave_nothing_behind(tmp_path, world):
    events, items = world()
    with pytest.raises(SchemaError, match="title: is missing"):
        prepare(events, items.drop(columns="title"), tmp_path / "p", CONFIG)
    assert list(tmp_path.iterdir()) == []


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


def test_a_run_says_what_preparation_warns_of_also_when_it_is_reused(tmp_path, world):
    events, items = world()
    events.loc[:4, "item_id"] = "nowhere"
    events.to_parquet(tmp_path / "e.parquet")
    items.to_parquet(tmp_path / "i.parquet")
    config = load_toml(RunConfig, None, [
        f'run_dir="{tmp_path}"', f'data.events="{tmp_path}/e.parquet"',
        f'data.items="{tmp_path}/i.parquet"',
    ])  # fmt: skip
    for _ in range(2):
        said = []
        manifest = prepare_data(config, lambda *told, said=said: said.append(told[3])).manifest
        warned = [f"careful: {warning}" for warning in manifest.warnings]
        assert said[-len(warned) :] == warned
        for fault in ("is not in items", "has types but no data.event_types"):
            assert any(fault in note for note in warned)
