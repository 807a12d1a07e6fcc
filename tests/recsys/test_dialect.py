"""How files are written: what is guessed from values, and what the SQL then reads."""

from datetime import UTC, datetime

import duckdb
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from recsys.dialect import (
    DATES,
    UNITS,
    EventSource,
    Source,
    fits_number,
    fits_time,
    guess_decimal,
    guess_delimiter,
    guess_time,
    text_number_sql,
    text_time_sql,
    written_otherwise,
)

DATABASE = duckdb.connect()
SLOW = settings(deadline=None, max_examples=50)
MOMENTS = st.datetimes(datetime(1975, 1, 1), datetime(2060, 1, 1))


def read(sql_of, value, way):
    """Read one value by the SQL."""
    query = f"SELECT {sql_of('x', way)} FROM (SELECT ?::VARCHAR AS x)"
    [[found]] = DATABASE.execute(query, [value]).fetchall()
    return found


@SLOW
@given(MOMENTS, st.sampled_from([f"{date} %H:%M:%S" for date in DATES]))
def test_a_written_moment_is_guessed_and_read_back(moment, way):
    written = moment.strftime(way)
    assert way in guess_time([written])
    again = datetime.strptime(written, way).replace(tzinfo=UTC)
    assert read(text_time_sql, written, way) == int(again.timestamp()) * 1_000_000


@SLOW
@given(MOMENTS, st.sampled_from(list(UNITS)))
def test_a_unit_is_guessed_by_its_size_and_read_exactly(moment, unit):
    seconds = int(moment.replace(tzinfo=UTC).timestamp())
    written = str(seconds * UNITS[unit])
    assert guess_time([written])[0] == unit
    assert read(text_time_sql, written, unit) == seconds * 1_000_000


@pytest.mark.parametrize(
    ("values", "ways"),
    [
        (["2026-01-31T12:00:00Z", "2026-01-31"], ("iso",)),
        (["31.01.2026 14:05"], ("%d.%m.%Y %H:%M",)),
        (["01/31/2026"], ("%m/%d/%Y",)),
        (["01/02/2026"], ("%d/%m/%Y", "%m/%d/%Y")),  # nobody can tell
        (["01/02/2026", "13/02/2026"], ("%d/%m/%Y",)),
        (["12/1/2010 8:26", "12/13/2010 9:00"], ("%m/%d/%Y %H:%M",)),
        (["11/11/2019 9:05:58 AM", "11/30/2019 1:00:00 PM"], ("%m/%d/%Y %I:%M:%S %p",)),
        (["2026-01-05 02:20:04 PM", "2026-01-05 11:20:04 am"], ("%Y-%m-%d %I:%M:%S %p",)),
        (["2026-01-05 2:20 PM"], ("%Y-%m-%d %I:%M %p",)),
        (["1398124800"], ("s",)),
        (["1398124800000"], ("ms",)),
        (["31.01.2026", "yesterday"], ()),
        (["17"], ()),
        ([], ()),
    ],
)
def test_the_way_times_are_written(values, ways):
    assert guess_time(values) == ways


@pytest.mark.parametrize(
    ("value", "way", "number"),
    [
        ("12.5", "plain", 12.5),
        ("12,5", "plain", None),
        ("12,50", ",", 12.5),
        ("1.234,50 €", ",", 1234.5),
        ("1 234 567,5", ",", 1234567.5),
        ("1.23", ",", None),  # two digits are no group of three
        ("$1,234.50", ".", 1234.5),
        ("CHF 7", ".", 7.0),
        ("1,23", ".", None),
        ("-3", ",", -3.0),
        ("cheap", ",", None),
    ],
)
def test_numbers_are_read_as_they_are_written_or_not_at_all(value, way, number):
    assert read(text_number_sql, value, way) == number
    assert fits_number([value], way) == (number is not None)


@SLOW
@given(st.integers(-(10**9), 10**9))
def test_cents_are_read_back_from_both_signs(cents):
    whole, rest = divmod(abs(cents), 100)
    grouped = "-" * (cents < 0) + f"{whole:,}"
    comma, point = grouped.replace(",", ".") + f",{rest:02d}", f"{grouped}.{rest:02d}"
    assert read(text_number_sql, comma, ",") == cents / 100
    assert read(text_number_sql, point, ".") == cents / 100


def test_the_plainest_way_that_fits_all_numbers_is_guessed():
    assert guess_decimal(["3", "4.5"]) == "plain"
    assert guess_decimal(["3", "4,5"]) == ","
    assert guess_decimal(["1,234.5"]) == "."
    assert guess_decimal(["three"]) == guess_decimal([]) == ""


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
def test_the_delimiter_is_what_separates_the_names(delimiter):
    assert guess_delimiter(delimiter.join(["a b", '"c,;|\t,;|\t,;|\td"', "e"])) == delimiter


@pytest.mark.parametrize(
    ("kind", "values", "said"),
    [
        ("time", ["1398124800"], "1398124800 looks like time = 's', "
         "Unix seconds: 2014-04-22T00:00:00Z"),
        ("time", ["31.01.2026"], "31.01.2026 looks like time = '%d.%m.%Y', 2026-01-31T00:00:00"),
        ("time", ["01/02/2026"], "01/02/2026 looks like time = '%d/%m/%Y' or time = '%m/%d/%Y', "
         "2026-02-01T00:00:00"),
        ("time", ["2026-01-31", "31.01.2026"], ""),  # mixed: counted, with an example
        ("time", ["2026-01-05 02:20:04 PM"], "2026-01-05 02:20:04 PM looks like "
         "time = '%Y-%m-%d %I:%M:%S %p', 2026-01-05T14:20:04"),
        ("time", ["soon"], ""),
        ("number", ["3", "12,50"], "12,50 looks like decimal = ','"),
        ("number", ["3", "12.50"], ""),
        ("id", ["1398124800"], ""),
    ],
)  # fmt: skip
def test_what_is_written_otherwise_is_said_with_what_to_set(kind, values, said):
    assert written_otherwise(kind, values, Source(path="x")) == said


def test_a_wrong_unit_is_said():
    source = Source(path="x", time="s")
    said = written_otherwise("time", ["1398124800000"], source)
    assert said.startswith("1398124800000 looks like time = 'ms'")
    assert not fits_time(["1398124800000"], "s")


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"time": "seconds"}, "expected .iso., .s."),
        ({"time": "%Q"}, "expected .iso., .s."),
        ({"encoding": "klingon"}, "no such encoding"),
        ({"delimiter": ";;"}, "at most 1 character"),
        ({"decimal": ";"}, "Input should be"),
        ({"path": ""}, "at least 1 character"),
        ({"anonymous": "keep"}, "Input should be"),
    ],
)
def test_a_wrong_dialect_is_refused(wrong, said):
    with pytest.raises(ValidationError, match=said):
        EventSource.model_validate({"path": "x"} | wrong)
