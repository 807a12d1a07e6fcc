"""What the first rows of a file tell about it."""

import gzip

import numpy as np
import pandas as pd
import pytest

from pipelines.samples import ROWS, look
from recsys.errors import SchemaError

TEXT = "größe;preis;datum\nklein;1,5;31.01.2026\ngroß;2;01.02.2026\n"


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "cp1252", "utf-16"])
@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
def test_letters_and_delimiter_are_told_by_the_file(tmp_path, encoding, delimiter):
    path = tmp_path / "t.csv"
    path.write_bytes(TEXT.replace(",", ".").replace(";", delimiter).encode(encoding))
    sample = look(str(path))
    assert sample.source.delimiter == delimiter
    assert list(sample.columns) == ["größe", "preis", "datum"]
    assert sample.columns["größe"].distinct == {"klein", "groß"}


def test_a_comma_in_a_number_is_no_delimiter(tmp_path):
    (tmp_path / "t.csv.gz").write_bytes(gzip.compress(TEXT.encode()))
    columns = look(str(tmp_path / "t.csv.gz")).columns
    assert columns["preis"].decimal == ","
    assert columns["datum"].times == ("%d.%m.%Y",)
    assert not columns["größe"].decimal and not columns["größe"].times


def test_a_few_odd_values_do_not_hide_what_a_column_is(tmp_path):
    days = [f"{d:02d}.01.2026" for d in range(1, 32)]
    prices = [f"{n},5" for n in range(30)] + ["free"]
    pd.DataFrame({"d": days, "p": prices}).to_csv(tmp_path / "t.csv", sep=";", index=False)
    columns = look(str(tmp_path / "t.csv")).columns
    assert (columns["d"].times, columns["p"].decimal) == (("%d.%m.%Y",), ",")
    halves = pd.DataFrame({"d": days[:15] + ["later"] * 15 + [f"later {n}" for n in range(15)]})
    halves.assign(x=1).to_csv(tmp_path / "t.csv", index=False)
    assert look(str(tmp_path / "t.csv")).columns["d"].times == ()


def test_the_values_that_are_parsed_are_from_all_over_the_rows(tmp_path):
    unclear = [f"05/06/2026 {h:02d}:{m:02d}" for h in range(9) for m in range(50)]
    clear = [f"06/13/2026 10:{m:02d}" for m in range(9)]
    pd.DataFrame({"t": unclear + clear, "x": 1}).to_csv(tmp_path / "t.csv", index=False)
    assert look(str(tmp_path / "t.csv")).columns["t"].times == ("%m/%d/%Y %H:%M",)


def test_typed_columns_are_told_by_their_types(tmp_path):
    frame = pd.DataFrame({
        "id": [1, 2, 3], "share": [0.5, 1.5, np.nan],
        "when": pd.date_range("2026-01-01", periods=3),
        "tags": [["a", "b"], [], ["c"]], "kind": pd.Categorical(["x y", "zz", "x y"]),
    })  # fmt: skip
    frame.to_parquet(tmp_path / "t.parquet")
    columns = look(str(tmp_path / "t.parquet")).columns
    assert (columns["id"].whole, columns["share"].whole) == (True, False)
    assert (columns["share"].filled, columns["tags"].filled) == (2, 2)
    assert columns["when"].times == ("iso",)
    assert columns["kind"].distinct == {"x y", "zz"}


def test_only_the_first_rows_are_read(tmp_path):
    pd.DataFrame({"a": range(ROWS + 5), "b": "x"}).to_csv(tmp_path / "t.csv", index=False)
    assert look(str(tmp_path / "t.csv")).n_rows == ROWS


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("t.csv", None, "no such file"),
        ("t.csv", "", "mpty"),
        ("t.csv", "a,b\n", "no rows"),
        ("t.csv", "u1,i1,1398124800\nu2,i1,1398124801\n", "values such as '1398124800'"),
        ("t.csv", "N1,news,[],[]\nN2,news,[],[]\n", r"values such as '\[\]'"),
        ("t.csv", "a,b\n1,2\n3\n", "Expected 2 columns"),
        ("t.xlsx", "x", "expected files of one format"),
    ],
)
def test_what_cannot_be_looked_at_is_said(tmp_path, name, content, said):
    if content is not None:
        (tmp_path / name).write_text(content)
    with pytest.raises(SchemaError, match=said):
        look(str(tmp_path / name))
