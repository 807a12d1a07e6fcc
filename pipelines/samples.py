"""The first rows of a file that nobody has described yet, and what its columns hold.

Only the start of a file is read, whatever its size: its letters, delimiter and the values of its
first rows are all that `pipelines.guessing` goes by.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from recsys.dialect import (
    DECIMAL_ID,
    DELIMITERS,
    NO_IDS,
    SIGNS,
    Source,
    fits_number,
    fits_time,
    guess_decimal,
    guess_delimiter,
    guess_time,
    maybe_thousands,
)
from recsys.errors import SchemaError
from recsys.reading import first_bytes, open_table
from recsys.schema import is_text, value_type

ROWS = 50_000  # of a file that are looked at
VALUES = 200  # different values of a column that are parsed
ENOUGH = 0.95  # of them must be of a kind for the column to be of it
START = 1 << 20  # bytes by which letters and delimiter are told
SHOWN = re.compile(r"\S+-[01](\s+\S+-[01])*")  # "N1-1 N2-0": items clicked and not clicked
compute: Any = pc  # its stubs refuse much of what it takes


@dataclass(frozen=True)
class Column:
    """What one column holds in the first rows."""

    name: str
    texts: Any  # (n_rows,) pa.Array of strings, null where empty
    whole: bool  # text or integers: what an id may be
    text: bool  # text

    @cached_property
    def filled(self) -> int:
        return len(self.texts) - int(self.texts.null_count)

    @cached_property
    def distinct(self) -> frozenset[str]:
        return frozenset(self.texts.drop_null().unique().to_pylist())

    @cached_property
    def examples(self) -> list[str]:
        """Different values, evenly from all over the rows."""
        found: list[str] = self.texts.drop_null().unique().to_pylist()
        return found[:: max(1, -(-len(found) // VALUES))]

    @cached_property
    def times(self) -> tuple[str, ...]:
        """The ways in which most values are times, nearly all; several if nobody can tell."""
        if self.filled and isinstance(self.examples[0], str):
            seeds = {way: None for value in self.examples[:5] for way in guess_time([value])}
            shares = {way: self._share(fits_time, way) for way in seeds}
            best = max(shares.values(), default=0.0)
            return tuple(way for way, share in shares.items() if share == best >= ENOUGH)
        return ()

    @cached_property
    def decimal(self) -> str:
        """The plainest way in which nearly all values are numbers, "" where they are none."""
        if not self.filled:
            return ""
        exact = guess_decimal(self.examples)
        return exact or next((w for w in SIGNS if self._share(fits_number, w) >= ENOUGH), "")

    @cached_property
    def thousands(self) -> bool:
        """Whether nobody can tell thousands from decimals: all points are before three digits."""
        return self.decimal == "plain" and maybe_thousands(self.examples)

    @cached_property
    def without_id(self) -> int:
        """Rows that would have no id, if these are ids."""
        words = compute.is_in(compute.utf8_lower(self.texts), pa.array(NO_IDS))
        return int(self.texts.null_count) + int(compute.sum(words).as_py() or 0)

    @cached_property
    def decimal_id(self) -> str:
        """A value like 17001.0, "" where there is none."""
        return next((v for v in self.examples if re.fullmatch(DECIMAL_ID, v)), "")

    @cached_property
    def unique(self) -> bool:
        """Whether nearly every row has a value of its own."""
        return self.filled > 0 and len(self.distinct) >= 0.98 * self.filled

    @cached_property
    def prose(self) -> bool:
        """Whether the values look like text for people."""
        letters = sum(bool(re.search(r"[^\W\d_]{2}", value)) for value in self.examples)
        return not self.times and not self.decimal and letters >= 0.8 * max(1, len(self.examples))

    @cached_property
    def lists(self) -> bool:
        """Whether the values are lists of what was clicked and what was only shown."""
        some = self.examples
        return bool(some) and all(SHOWN.fullmatch(v.strip()) for v in some) and (
            any(" " in v.strip() for v in some))  # fmt: skip

    @property
    def length(self) -> float:
        """Mean number of characters."""
        return float(sum(map(len, self.examples)) / max(1, len(self.examples)))

    def _share(self, fits: Any, way: str) -> float:
        return float(sum(fits([v], way) for v in self.examples) / len(self.examples))


@dataclass(frozen=True)
class Sample:
    """The first rows of a file."""

    path: str
    source: Source  # delimiter, encoding and names; decimal and time are said by its columns
    n_rows: int
    columns: dict[str, Column]


def look(path: str) -> Sample:
    """Read the first rows of a file.

    Args:
        path: file or folder, as for `recsys.reading.open_table`.

    Raises:
        SchemaError: it cannot be read, has no rows, or no names of columns.
    """
    source = _dialect(path)
    try:
        rows = open_table(source).head(ROWS)
    except (pa.ArrowException, OSError, UnicodeError) as error:
        raise SchemaError(str(error).splitlines()[0]) from error
    if not rows.num_rows:
        raise SchemaError("it has no rows")
    columns = {name: _column(name, rows[name]) for name in rows.column_names}
    return Sample(path, source, rows.num_rows, columns)


def _dialect(path: str) -> Source:
    """Tell letters, delimiter and quotes of a CSV file by its first bytes.

    Raises:
        SchemaError: its first line holds values.
    """
    start = first_bytes(path, START)
    if start is None:
        return Source(path=path)
    encoding = _encoding(start)
    text = start.decode(encoding, "ignore").lstrip("\ufeff")
    lines = text.splitlines()[:100] if len(start) < START else text.splitlines()[:-1][:100]
    delimiter = _delimiter(lines)
    names = next(csv.reader(io.StringIO("\n".join(lines)), delimiter=delimiter), [])
    values = [name for name in names if fits_number([name], ".") or guess_time([name])]
    values += [name for name in names if names.count(name) > 1]
    if values:
        found = f"values such as {values[0]!r}"
        raise SchemaError(
            f"its first line has no names of columns but {found}; add a line of names"
        )
    return Source(path=path, delimiter=delimiter, encoding=encoding)


def _encoding(start: bytes) -> str:
    if start[:2] in (b"\xff\xfe", b"\xfe\xff"):
        return "utf-16"
    try:
        start[: len(start) - 4 * (len(start) == START)].decode("utf-8")
    except UnicodeDecodeError as error:
        return "utf-8" if error.start > len(start) - 8 and len(start) == START else "cp1252"
    return "utf-8"


def _delimiter(lines: Sequence[str]) -> str:
    """Choose what cuts every line into as many cells as the first has."""

    def cells(delimiter: str) -> int:
        counts = [len(row) for row in csv.reader(lines, delimiter=delimiter) if row]
        return counts[0] if counts and set(counts) == {counts[0]} else 1

    best = max(DELIMITERS, key=cells)
    return best if cells(best) > 1 else guess_delimiter(lines[0] if lines else "")


def _column(name: str, values: Any) -> Column:
    """Turn the values of a column into texts."""
    column = values.combine_chunks()
    found = value_type(column.type)
    whole = is_text(found) or pa.types.is_integer(found)
    if pa.types.is_dictionary(column.type):
        column = column.cast(found)
    if pa.types.is_list(found) or pa.types.is_large_list(found):
        texts = pa.array([str(v) if v else None for v in column.to_pylist()], pa.string())
    elif pa.types.is_nested(found) or pa.types.is_null(found) or pa.types.is_binary(found):
        texts = pa.nulls(len(column), pa.string())
    elif pa.types.is_timestamp(found) or pa.types.is_date(found):
        texts = compute.strftime(column.cast(pa.timestamp("s"), safe=False), "%Y-%m-%dT%H:%M:%S")
    else:
        texts = column.cast(pa.string())
    texts = compute.utf8_trim_whitespace(texts)
    texts = compute.if_else(compute.equal(texts, ""), None, texts)
    return Column(name, texts, whole, is_text(found))
