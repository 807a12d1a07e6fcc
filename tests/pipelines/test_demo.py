"""The demo's data are the package's, none lost and none made up, under names for people."""

import importlib.util
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from pipelines import demo
from pipelines.config import load_toml
from pipelines.demo import (
    NOBODY,
    households,
    last_bought,
    product_names,
    readable,
    write_demo,
)
from pipelines.settings import RunConfig
from recsys.errors import ConfigError

FOUND = importlib.util.find_spec(demo.PACKAGE)
with_data = pytest.mark.skipif(FOUND is None, reason=f"{demo.PACKAGE} is not installed")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("demo")
    write_demo(folder)
    return folder


@pytest.fixture(scope="module")
def source():
    return Path(FOUND.submodule_search_locations[0]) / "data"


@with_data
def test_every_transaction_row_is_one_event(folder, source):
    rows = pq.read_table(source / "transactions.parquet")
    events = pq.read_table(folder / "events.parquet")
    assert len(events) == len(rows) > 1_000_000
    for theirs, ours in (("household_id", "user_id"), ("product_id", "item_id")):
        assert events[ours].type == pa.int64()
        assert events[ours].equals(rows[theirs])
    naive = rows["transaction_timestamp"].cast(pa.timestamp("us")).to_numpy()
    np.testing.assert_array_equal(events["timestamp"].to_numpy().astype("datetime64[us]"), naive)
    assert events.schema.field("timestamp").type == pa.timestamp("us", "UTC")
    assert pc.unique(events["event_type"]).to_pylist() == ["purchase"]
    assert NOBODY not in pc.unique(events["user_id"]).to_pylist()


@with_data
def test_a_price_times_its_units_is_what_was_paid(folder, source):
    rows = pq.read_table(source / "transactions.parquet")
    price = pq.read_table(folder / "events.parquet")["price"].to_numpy()
    units, paid = rows["quantity"].to_numpy(), rows["sales_value"].to_numpy()
    assert np.isnan(price).sum() == (units <= 0).sum() > 0
    np.testing.assert_allclose((price * units)[units > 0], paid[units > 0])


@with_data
def test_every_product_is_one_item_with_a_title_and_few_texts_are_distinct(folder, source):
    products = pq.read_table(source / "products.parquet")
    items = pq.read_table(folder / "items.parquet")
    assert items["item_id"].type == pa.int64() and items["item_id"].equals(products["product_id"])
    titles = items["title"].to_pylist()
    assert all(titles) and items["title"].null_count == 0
    assert set(items["brand"].to_pylist()) == {"National", "Private"}
    nameless = pc.is_null(products["product_type"]).to_pylist()
    department = items["department"].to_pylist()
    assert sum(nameless) > 0
    for row in np.flatnonzero(nameless):
        assert titles[row] in (department[row], items["category"][row].as_py())
    texts = items.select(["title", "category", "department"]).group_by(
        ["title", "category", "department"]
    )
    assert len(texts.aggregate([])) < len(items) / 20  # the encoder reads each distinct text once


@with_data
def test_the_config_is_right_and_what_it_calls_a_default_is_one(folder, tmp_path):
    run = load_toml(RunConfig, folder / "run.toml")
    tables = [run.data.events[0].path, run.data.items.path]
    paths = [*tables, run.run_dir, run.serving.releases, run.serving.store]
    assert all(folder.absolute() in Path(path).parents for path in paths)
    assert all(Path(table).is_file() for table in tables)
    columns = pq.read_schema(tables[1]).names
    assert set(run.data.text) <= set(columns) and "package_size" not in run.data.text
    text = (folder / "run.toml").read_text()
    lines = [line[1:] if line[:1] == "#" and line[1:2].isalpha() else line
             for line in text.splitlines()]  # fmt: skip
    assert lines != text.splitlines()
    (tmp_path / "all.toml").write_text("\n".join(lines))
    assert load_toml(RunConfig, tmp_path / "all.toml") == run


@with_data
def test_what_is_there_is_left_as_it_is(folder, monkeypatch):
    config = folder / "run.toml"
    edited = config.read_text() + "\n# mine\n"
    config.write_text(edited)
    before = {path.name: path.stat().st_mtime_ns for path in folder.iterdir()}
    monkeypatch.setattr(demo, "PACKAGE", "no_such_package")  # not even looked for
    assert write_demo(folder) == config.absolute()
    assert {path.name: path.stat().st_mtime_ns for path in folder.iterdir()} == before


@with_data
def test_a_writing_cut_short_leaves_no_file(tmp_path, monkeypatch):
    def crash(table, path):
        path.write_text("half")
        raise OSError("no space left")

    monkeypatch.setattr(demo.pq, "write_table", crash)
    with pytest.raises(OSError, match="no space"):
        write_demo(tmp_path)
    assert list(tmp_path.iterdir()) == []


@with_data
def test_the_households_buy_much_usually_and_little(folder):
    much, usual, little = households(folder)
    users = pq.read_table(folder / "events.parquet")["user_id"].to_numpy()
    counts = np.bincount(users)
    assert counts[much] > counts[usual] > counts[little] > 0
    assert counts[usual] == np.quantile(counts[counts > 0], 0.5, method="lower")


def test_the_data_package_missing_is_said_in_words(tmp_path, monkeypatch):
    monkeypatch.setattr(demo, "PACKAGE", "no_such_package")
    with pytest.raises(ConfigError, match=r"pip install 'recsys-text\[demo\]'"):
        write_demo(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_the_last_bought_are_different_products_strictly_before_latest_first(tmp_path):
    moments = [datetime(2026, 1, day, tzinfo=UTC) for day in (1, 2, 3, 3, 4, 5)]
    columns = {"user_id": [7, 7, 7, 7, 8, 7], "item_id": [1, 2, 1, 3, 4, 5], "timestamp": moments}
    pq.write_table(pa.table(columns), tmp_path / "events.parquet")
    # 1 was bought twice, at last with 3; 4 is of another household, 5 was bought at the moment
    expected = [("2026-01-03", 1), ("2026-01-03", 3), ("2026-01-02", 2)]
    assert last_bought(tmp_path, 7, moments[5], n=9) == expected
    assert last_bought(tmp_path, 7, moments[5], n=2) == expected[:2]


def test_a_product_is_named_with_its_size(tmp_path):
    items = {
        "item_id": [1, 2, 3],
        "title": ["Ice", "Bread", "x"],
        "package_size": ["22 LB", None, ""],
    }
    pq.write_table(pa.table(items), tmp_path / "items.parquet")
    assert product_names(tmp_path, [1, 2]) == {1: "Ice, 22 lb", 2: "Bread"}


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [
        ("ICE - CRUSHED/CUBED", "Ice, Crushed / Cubed"),
        ("BREAD:ITALIAN/FRENCH", "Bread: Italian / French"),
        ("FRZN GARLIC BREAD/TOAST/STICKS", "Frozen Garlic Bread / Toast / Sticks"),
        ("CANDY BARS (SINGLES)(INCLUDING", "Candy Bars (Singles)"),
        ("MISC. LOBBY ITEMS", "Miscellaneous Lobby Items"),
        ("GIFT BASKETS W/FOOD", "Gift Baskets With Food"),
        ("WOMENS /GIRLS  SOCKS", "Womens / Girls Socks"),
        ("ELECT &PLUMBING", "Electrical & Plumbing"),
        ("DRUG GM", "Drug General Merchandise"),
        ("MAIN MEAL'S BREAD", "Main Meal's Bread"),
        (" - ", ""),
    ],
)
def test_names_are_for_people(theirs, ours):
    assert readable(theirs) == ours
