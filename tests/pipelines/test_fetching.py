"""Tables elsewhere are the same tables: fetched whole, once, and nothing else is different."""

import json
from pathlib import Path

import pytest

from pipelines.config import load_toml
from pipelines.fetching import RECORD, fetched, sources_of
from pipelines.profile import profile_data
from pipelines.run import prepare_data
from pipelines.settings import RunConfig
from recsys.errors import RemoteError, SchemaError
from recsys.schema import DataConfig


@pytest.fixture
def tables(bucket, tmp_path, tables_of):
    """Write a small shop's tables here and to the bucket, the events as a folder of two files."""
    events, items = tables_of(20)
    (tmp_path / "here" / "events").mkdir(parents=True)
    for number in range(2):
        events[number::2].to_parquet(tmp_path / f"here/events/part-{number}.parquet")
    items.to_parquet(tmp_path / "here/items.parquet")
    for path in (tmp_path / "here").rglob("*.parquet"):
        bucket.put(path.relative_to(tmp_path / "here").as_posix(), path.read_bytes())
    bucket.put("events/_SUCCESS", b"")
    return tmp_path / "here"


@pytest.fixture
def asked(requests_of):
    """Tell which objects were asked for."""
    return lambda: requests_of("GET")


def data_of(bucket, *events):
    return DataConfig(events=[bucket.uri(one) for one in events], items=bucket.uri("items.parquet"))


def config_of(folder, events, items):
    settings = [f"data.events={json.dumps(str(events))}", f"data.items={json.dumps(str(items))}"]
    return load_toml(RunConfig, None, [f'run_dir="{folder}"', "data.bucket_rows=200", *settings])


def content(folder):
    return {path.relative_to(folder).as_posix(): path.read_bytes()
            for path in folder.rglob("*.parquet")}  # fmt: skip


def test_a_run_from_s3_is_the_run_from_the_same_files_here(tables, bucket, tmp_path):
    here = config_of(tmp_path / "one", tables / "events", tables / "items.parquet")
    there = config_of(tmp_path / "two", bucket.uri("events/"), bucket.uri("items.parquet"))
    said = []
    one = prepare_data(here, lambda *_: None)
    two = prepare_data(there, lambda *step: said.append(step))
    assert content(one.folder) == content(two.folder) and len(content(one.folder)) > 4
    assert one.manifest.fingerprint == two.manifest.fingerprint
    size = sum(path.stat().st_size for path in (tables / "events").iterdir())
    assert (f"fetch s3://{bucket.name}/events", size, size, "bytes") in said
    again = prepare_data(there, lambda *_: None)
    assert again.reused
    assert profile_data(there, lambda *_: None).texts == profile_data(here, lambda *_: None).texts


def test_what_is_here_is_not_fetched_again_and_what_has_changed_is(tables, bucket, tmp_path, asked):
    data, folder = data_of(bucket, "events"), tmp_path / "fetched"
    first = fetched(data, folder, lambda *_: None)
    assert sorted(asked()) == [
        "events/part-0.parquet",
        "events/part-1.parquet",
        "items.parquet",
    ]
    before = content(folder)
    assert fetched(data, folder, lambda *_: None) == first
    assert asked() == [] and content(folder) == before
    old = bucket.get("events/part-1.parquet")
    bucket.put("events/part-1.parquet", old[::-1])  # as long, and within the same second
    fetched(data, folder, lambda *_: None)
    assert asked()[-1:] == ["events/part-1.parquet"] and bucket.get("events/part-1.parquet")
    assert (Path(first.events[0].path) / "part-1.parquet").read_bytes() == old[::-1]


def test_what_is_gone_there_is_gone_here(tables, bucket, tmp_path):
    folder = tmp_path / "fetched"
    data = fetched(data_of(bucket, "events"), folder, lambda *_: None)
    events = Path(data.events[0].path)
    assert [path.name for path in sorted(events.iterdir())] == ["part-0.parquet", "part-1.parquet"]
    bucket.client.delete_object(Bucket=bucket.name, Key="events/part-0.parquet")
    fetched(data_of(bucket, "events"), folder, lambda *_: None)
    assert [path.name for path in events.iterdir()] == ["part-1.parquet"]
    assert len(list(folder.iterdir())) == 2
    fetched(data_of(bucket, "events/part-1.parquet"), folder, lambda *_: None)
    assert not events.exists() and len(list(folder.iterdir())) == 2


class Killed(Exception):
    """Stands for a kill in the middle of a fetch."""


def test_a_fetch_that_was_killed_leaves_whole_files_and_goes_on(tables, bucket, tmp_path, asked):
    data, folder = data_of(bucket, "events"), tmp_path / "fetched"
    first = len(bucket.get("events/part-0.parquet"))

    def kill(task, done, total, note):
        if done > first:
            raise Killed

    asked()
    with pytest.raises(Killed):
        fetched(data, folder, kill)
    assert [path.name for path in folder.glob("*/data/events/*")] == ["part-0.parquet"]
    asked()
    whole = fetched(data, folder, lambda *_: None)
    assert sorted(asked()) == ["events/part-1.parquet", "items.parquet"]
    assert content(Path(whole.events[0].path)) == content(tables / "events")


def test_a_record_that_is_damaged_only_costs_time(tables, bucket, tmp_path):
    data, folder = data_of(bucket, "events"), tmp_path / "fetched"
    first, before = fetched(data, folder, lambda *_: None), content(folder)
    for record in folder.glob(f"*/{RECORD}"):
        record.write_text("[1")
    assert fetched(data, folder, lambda *_: None) == first and content(folder) == before


def test_tables_that_are_here_are_left_where_they_are(tables, tmp_path):
    data = DataConfig(events=str(tables / "events"), items=(tables / "items.parquet").as_uri())
    assert fetched(data, tmp_path / "fetched", lambda *_: None) == data
    assert not (tmp_path / "fetched").exists()
    by_uri = config_of(tmp_path / "run", (tables / "events").as_uri(), data.items.path)
    assert prepare_data(by_uri, lambda *_: None).manifest.n_items == 48


def test_mixed_sources_keep_their_order_and_what_is_said_of_them(tables, bucket):
    there = {"path": bucket.uri("events"), "columns": {"value": "v"}}
    data = DataConfig(events=[str(tables / "events"), there], items=bucket.uri("items.parquet"))
    here = fetched(data, tables / "fetched", lambda *_: None)
    assert here.events[0] == data.events[0] and here.events[1].columns == {"value": "v"}
    names = [Path(one.path).name for one in sources_of(here)]
    assert names == ["events", "events", "items.parquet"]


def test_an_empty_place_and_a_name_that_leads_elsewhere_are_refused(bucket, tmp_path):
    bucket.put("empty/_SUCCESS", b"")
    with pytest.raises(RemoteError, match=rf"s3://{bucket.name}/empty: there is no file in it"):
        fetched(data_of(bucket, "empty"), tmp_path / "f", lambda *_: None)
    bucket.put("evil/../../x.parquet", b"x")
    with pytest.raises(RemoteError, match=r"'\.\./\.\./x.parquet' is no name of a file here"):
        fetched(data_of(bucket, "evil"), tmp_path / "f", lambda *_: None)


def test_faults_of_tables_elsewhere_name_their_place_without_secrets(bucket, tmp_path):
    bucket.put("events/a.csv", b"user_id,item_id\n")
    bucket.put("items.parquet", b"no parquet")
    config = config_of(tmp_path / "run", bucket.uri("events"), bucket.uri("items.parquet"))
    with pytest.raises(SchemaError, match=rf"{bucket.name}-items\.parquet-") as error:
        prepare_data(config, lambda *_: None)
    assert bucket.secret not in str(error.value) and "cr%2Bet" not in str(error.value)
