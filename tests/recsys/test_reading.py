import gzip
import json

import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from recsys.errors import SchemaError
from recsys.reading import BLOCK, open_table, place, read_ids, stamp

ROWS = [{"id": "007", "n": 1.5, "when": "2026-01-31T12:00:00"}, {"id": "8", "n": 2.0, "when": None}]


def write(path, rows=ROWS):
    """Write rows in the format that the file's name says."""
    if ".csv" in path.name:
        content = pd.DataFrame(rows).to_csv(index=False)
    elif ".parquet" in path.name:
        pq.write_table(pa.Table.from_pylist(rows), path)
        return path
    else:
        content = "".join(json.dumps(row) + "\n" for row in rows)
    path.write_bytes(gzip.compress(content.encode()) if path.suffix == ".gz" else content.encode())
    return path


@pytest.mark.parametrize("name", ["t.parquet", "t.csv", "t.jsonl", "t.csv.gz", "t.jsonl.gz"])
@pytest.mark.parametrize("form", ["path", "text", "folder", "uri"])
def test_every_format_and_way_to_name_it_gives_the_same_ids(tmp_path, name, form):
    path = write(tmp_path / name)
    (tmp_path / "_SUCCESS").touch()
    ways = {"path": path, "text": str(path), "folder": tmp_path, "uri": path.as_uri()}
    table = open_table(ways[form]).to_table()
    assert table["id"].to_pylist() == ["007", "8"]
    assert [float(n) for n in table["n"].to_pylist()] == [1.5, 2.0]
    assert table["when"].to_pylist() == ["2026-01-31T12:00:00", None]


def test_tables_and_ids_elsewhere_are_read_and_faults_say_no_secret(bucket, tmp_path):
    bucket.put("t/a.csv", write(tmp_path / "a.csv").read_bytes())
    bucket.put("ids.txt", b"7\n8\n")
    assert open_table(bucket.uri("t")).to_table()["id"].to_pylist() == ["007", "8"]
    assert read_ids(bucket.uri("ids.txt"), "user_id").to_pylist() == ["7", "8"]
    assert place(bucket.uri("t")) == f"s3://{bucket.name}/t"
    with pytest.raises(SchemaError, match=r"^there is no such file or folder$"):
        open_table(bucket.uri("none"))
    with pytest.raises(SchemaError, match=r"^unknown kind of place"):
        open_table("s4://key:hidden@b")


@pytest.mark.parametrize("make", [pd.DataFrame, pl.DataFrame, pa.Table.from_pylist])
def test_tables_in_memory_need_no_file(make):
    table = open_table(make(ROWS))
    assert table.to_table()["id"].to_pylist() == ["007", "8"]
    assert stamp(make(ROWS)) is None


def test_the_index_of_a_filtered_pandas_table_is_no_column():
    frame = pd.DataFrame(ROWS)
    assert open_table(frame[frame["n"] > 1.7]).schema.names == ["id", "n", "when"]


def test_a_folder_is_all_its_files(tmp_path):
    write(tmp_path / "b.csv", ROWS[1:])
    write(tmp_path / "a.csv", ROWS[:1])
    assert open_table(tmp_path).to_table()["id"].to_pylist() == ["007", "8"]


def test_integers_stay_integers_where_the_format_has_them(tmp_path):
    rows = [{"id": 2**60 + 1}, {"id": 8}]  # a float would lose the last digit
    for name in ("t.parquet", "t.jsonl"):
        assert open_table(write(tmp_path / name, rows)).to_table()["id"].to_pylist()[0] == 2**60 + 1


def test_a_number_in_json_may_get_its_point_late(tmp_path):
    rows = [{"n": 4}] * 9 + [{"n": 4.5}]
    path = write(tmp_path / "t.jsonl", rows)
    assert open_table(path, numbers={"n"}).to_table()["n"].to_pylist()[-1] == 4.5


def test_a_csv_field_may_hold_lines_and_the_text_null(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text('id,title\nNULL,"two\nlines"\n,x\n')
    assert open_table(path).to_table().to_pylist() == [
        {"id": "NULL", "title": "two\nlines"},
        {"id": None, "title": "x"},
    ]


def test_lines_in_a_csv_field_may_cross_the_blocks_of_reading(tmp_path):
    long = "two\nlines\n" * 100_000
    rows = [{"id": str(i), "n": long} for i in range(2 * BLOCK // len(long))]
    assert open_table(write(tmp_path / "t.csv", rows)).to_table().to_pylist() == rows


def test_the_stamp_changes_with_the_file(tmp_path):
    path = write(tmp_path / "t.csv")
    before = stamp(path)
    write(path, ROWS * 2)
    assert before != stamp(path)


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("none.csv", None, "no such file"),
        ("t.xlsx", b"x", "expected files of one format"),
        ("t.parquet", b"not parquet", "arquet"),
        ("t.csv", b"", "mpty"),
        ("t.csv", b"a,b\n1,2\n3\n", "Expected 2 columns, got 1"),
        ("t.jsonl", b'{"a": 1', "JSON"),
    ],
)
def test_what_cannot_be_read_is_said(tmp_path, name, content, said):
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(SchemaError, match=said):
        open_table(tmp_path / name)


def test_two_formats_in_a_folder_are_refused(tmp_path):
    write(tmp_path / "a.csv")
    write(tmp_path / "b.jsonl")
    with pytest.raises(SchemaError, match="one format"):
        open_table(tmp_path)


def test_an_object_that_is_no_table_is_refused():
    with pytest.raises(SchemaError, match="found <class 'dict'>"):
        open_table({"id": [1]})


def test_a_part_without_a_column_of_the_first_is_refused_and_order_does_not_matter(tmp_path):
    (tmp_path / "a.csv").write_text("customer_id,sku\n007,x\n")
    (tmp_path / "b.csv").write_text("sku,customer_id\ny,8\n")
    assert open_table(tmp_path).to_table()["customer_id"].to_pylist() == ["007", "8"]
    (tmp_path / "b.csv").write_text('"client","sku"\n8,y\n')
    with pytest.raises(SchemaError, match=r"b.csv has no column customer_id \(it has client\)"):
        open_table(tmp_path)


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("a.csv", "", "a.csv is empty"),
        ("a.jsonl", "", "a.jsonl is empty"),
        ("a.json", '[{"id": 1},\n {"id": 2}]', "write one object per line"),
        ("a.xlsx", "PK", "save it as CSV"),
        ("a.zip", "PK", "unpack it"),
    ],
)
def test_a_file_of_another_kind_says_what_to_do(tmp_path, name, content, said):
    (tmp_path / name).write_text(content)
    with pytest.raises(SchemaError, match=said):
        open_table(tmp_path / name)
