"""Which column of a file is which of ours, before the rows are read.

A table of events may come in several parts, each with columns and a dialect of its own. The first
rows of each are looked at: what they say against the config is refused in words that say what to
set, instead of being counted as millions of values that cannot be parsed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import pyarrow as pa
import pyarrow.dataset as ds

from recsys.dialect import EventSource, Source, written_otherwise
from recsys.errors import SchemaError
from recsys.reading import open_table, place, reason
from recsys.schema import (
    TABLES,
    DataConfig,
    Fault,
    file_names,
    is_text,
    match_columns,
    text_columns,
    value_type,
)

LOOK = 1000  # first rows by which a table's dialect is checked


@dataclass(frozen=True)
class Part:
    """One source of a table; a table of events may have several."""

    name: str  # of its rows in a database
    rows: ds.Dataset
    source: Source
    columns: dict[str, str]  # {ours: the file's}


@dataclass(frozen=True)
class MatchedTable:
    """A table whose columns are what they must be; what is in its rows is not known yet."""

    parts: tuple[Part, ...]
    columns: dict[str, str]  # {ours: the files'}
    text: tuple[str, ...]  # of items: the file's columns that make up the encoder's text


def match_table(
    name: str, source: Any, config: DataConfig
) -> tuple[MatchedTable | None, list[Fault]]:
    """Open a table and find its columns; no table is returned where there is a fault.

    Args:
        name: "events", "items" or "users".
        source: as for `open_table`; of events also a sequence of those.
        config: the file's names of our columns.
    """
    parts, faults = [], []
    for i, one in enumerate(_several(source)):
        part, found = _match_part(name, i, one, config)
        faults += [replace(fault, file=place(one)) for fault in found]
        parts += [part] if part else []
    text: list[str] = []
    if name == "items" and parts:
        text, missing = text_columns(config, parts[0].columns, parts[0].rows.schema)
        faults += missing
    faults += [] if faults else _unlike_ids(name, parts)
    if faults:
        return None, faults
    return MatchedTable(tuple(parts), _joined(parts), tuple(text)), []


def _match_part(
    name: str, i: int, given: Any, config: DataConfig
) -> tuple[Part | None, list[Fault]]:
    """Open one source, find its columns, and look whether it is written as it is said to be."""
    source = given if isinstance(given, Source) else Source(path=place(given))
    mapped = {str(table): columns for table, columns in config.columns.items()}.get(name, {})
    mapped = mapped | source.columns
    if isinstance(source, EventSource) and source.shown:
        mapped = mapped | {"item_id": source.shown}
    own = config.model_copy(update={"columns": {name: mapped}})
    numbers = [c for c, kind in TABLES[name].items() if kind == "number"]
    try:
        rows = open_table(given, {n for c in numbers for n in file_names(name, c, own)})
        first = rows.head(LOOK)
    except (SchemaError, pa.ArrowException, OSError, UnicodeError) as error:
        return None, [Fault("cannot be read", name, example=reason(error))]
    if not first.num_rows:
        return None, [Fault("has no rows", name)]
    columns, faults = match_columns(name, rows.schema, own)
    faults = [replace(f, beside_path=f.column in source.columns) for f in faults]
    if isinstance(source, EventSource) and source.event_type is not None:
        columns.pop("event_type", None)
    odd = [_odd_values(name, ours, first[theirs], source) for ours, theirs in columns.items()]
    found = [fault for fault in odd if fault]
    known = {fault.column for fault in found}
    units = {c for c in columns if TABLES[name][c] == "time" and source.time != "iso"}
    units = {c for c in units if pa.types.is_integer(rows.schema.field(columns[c]).type)
             or pa.types.is_floating(rows.schema.field(columns[c]).type)}  # fmt: skip
    faults = [f for f in faults if f.column not in known | units or f.kind == "is missing"] + found
    return (None if faults else Part(f"{name}_given{i}", rows, source, columns)), faults


def _odd_values(table: str, ours: str, column: Any, source: Source) -> Fault | None:
    """Find out whether the first values of a column are written in another way than is said."""
    kind, found = TABLES[table][ours], value_type(column.type)
    number = pa.types.is_integer(found) or pa.types.is_floating(found)
    if not is_text(found) and not (number and kind == "time"):
        return None
    texts = [str(value).strip() for value in column.to_pylist() if value is not None]
    said = written_otherwise(kind, [text for text in texts if text], source)
    return Fault("is written another way", table, ours, example=said) if said else None


def _unlike_ids(table: str, parts: Sequence[Part]) -> list[Fault]:
    """Find ids that are text in one file and numbers in another."""
    faults = []
    for ours in (name for name, kind in TABLES[table].items() if kind == "id"):
        kinds = [part.rows.schema.field(part.columns[ours]).type for part in parts]
        texts = [is_text(value_type(kind)) for kind in kinds]
        if len({t or p.source.text_ids for t, p in zip(texts, parts, strict=True)}) > 1:
            places = (f"{k} in {place(p.source)}" for k, p in zip(kinds, parts, strict=True))
            faults.append(Fault("has the wrong type", table, ours, example=", ".join(places)))
    return faults


def _joined(parts: Sequence[Part]) -> dict[str, str]:
    """Name the files' columns for each of ours; an order must be in every part to be one."""
    found: dict[str, dict[str, None]] = {}
    for part in parts:
        columns = dict(part.columns)
        if isinstance(part.source, EventSource) and part.source.event_type is not None:
            columns["event_type"] = f"'{part.source.event_type}'"
        for ours, theirs in columns.items():
            found.setdefault(ours, {})[theirs] = None
    for order in ("timestamp", "order_index"):
        if not all(order in part.columns for part in parts):
            found.pop(order, None)
    return {ours: ", ".join(theirs) for ours, theirs in found.items()}


def _several(source: Any) -> Sequence[Any]:
    return source if isinstance(source, list | tuple) else (source,)
