"""What the SQL of events says: one row an event, in our types, whatever the files' were."""

import duckdb
import pandas as pd
import pytest

from recsys.dialect import EventSource
from recsys.matching import match_table
from recsys.queries import events_sql
from recsys.schema import DataConfig

COLUMNS = {"user_id": "u", "item_id": "i", "timestamp": "t", "value": "v"}
CONFIG = DataConfig(event_types={
    "rate": [{"grade": 2, "min_value": 4}, {"grade": 0}], "view": {"grade": 1, "weight": 0.5},
})  # fmt: skip


@pytest.fixture
def events(tmp_path):
    """Read the events of [(file's text, what its source says)]."""

    def read(*files):
        sources = []
        for n, (text, said) in enumerate(files):
            (tmp_path / f"{n}.csv").write_text(text)
            sources.append(EventSource(path=str(tmp_path / f"{n}.csv"), **said))
        table, faults = match_table("events", sources, CONFIG)
        assert not faults
        with duckdb.connect() as con:
            con.execute("SET TimeZone = 'UTC'")
            for part in table.parts:
                con.register(part.name, part.rows)
            sql = f"SELECT * FROM ({events_sql(table, CONFIG, False)}) ORDER BY ALL"
            return con.sql(sql).to_arrow_table().to_pylist()

    return read


def test_parts_are_put_below_each_other_in_our_types(events):
    rated = ("u,i,t,v\nann,7,1767225600,4.5\nbob,7,1767225601,2\n",
             {"columns": COLUMNS, "time": "s", "event_type": "rate"})  # fmt: skip
    seen = ("user_id;item_id;timestamp;price\nann;8;01.01.2026;1,5\n",
            {"delimiter": ";", "time": "%d.%m.%Y", "decimal": ",",
             "event_type": "view"})  # fmt: skip
    start = int(pd.Timestamp("2026-01-01", tz="UTC").timestamp()) * 10**6
    absent = {"value": None, "price": None, "position": None, "session_id": None}
    assert events(rated, seen) == [
        {"user_id": "ann", "moment": start, "item_id": "7", "event_type": "rate", **absent,
         "value": 4.5, "grade": 2, "weight": 1.0},
        {"user_id": "ann", "moment": start, "item_id": "8", "event_type": "view", **absent,
         "price": 1.5, "grade": 1, "weight": 0.5},
        {"user_id": "bob", "moment": start + 10**6, "item_id": "7", "event_type": "rate", **absent,
         "value": 2.0, "grade": 0, "weight": 1.0},
    ]  # fmt: skip


def test_a_list_of_what_was_shown_keeps_its_request(events):
    text = "user_id,timestamp,request_id,list\nann,2026-01-01,r1,a-b-1 c-0 d\nbob,2026-01-01,r2,\n"
    found = events((text, {"shown": "list"}))
    assert [(row["item_id"], row["event_type"], row["request_id"]) for row in found] == [
        ("a-b", "clicked", "r1"), ("c", "shown", "r1"), ("d", "shown", "r1"),
    ]  # fmt: skip


def test_quotes_in_names_and_types_stay_what_they_are(events):
    text = "user_id,item_id,timestamp\nann,a,2026-01-01\n"
    [row] = events((text, {"event_type": "it's"}))
    assert row["event_type"] == "it's"
    [row] = events((text.replace("item_id", "'i\"t'"), {"quote": "", "columns": {
        "item_id": "'i\"t'"}}))  # fmt: skip
    assert row["item_id"] == "a"


def test_spaces_at_the_ends_are_no_part_of_an_id_and_a_word_for_nothing_is_none(events):
    ids = [" 0035 ", "\u00a00035\t", "a b", "NULL", "NaN", "None", "n/a ", "nullable"]
    rows = "".join(f"u,{one},2026-01-01\n{one},i,2026-01-02\n" for one in ids)
    found = events((f"user_id,item_id,timestamp\n{rows}", {}))
    expected = sorted(["0035", "0035", "a b", "nullable"])
    assert sorted(row["item_id"] for row in found if row["user_id"] == "u" and row["item_id"]
                  ) == expected  # fmt: skip
    assert sorted(row["user_id"] for row in found if row["item_id"] == "i" and row["user_id"]
                  ) == expected  # fmt: skip
    assert len(found) == 16
