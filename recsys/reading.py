"""Tables come as files, folders, URIs or objects in memory; everything after sees one kind.

That kind is a `pyarrow.dataset.Dataset`: it knows its columns without reading the rows, and
whoever scans it holds a few batches at a time, however large the log is.

In CSV every column is read as strings, so that the id "007" stays "007" (ids from CSV are
therefore always strings); numbers and times are parsed later, and what does not parse is counted.
In JSON Lines what looks like a time stays a string for the same reason. The columns of a folder are
those of its first file by name; of a JSON Lines file, those of its first 8 MiB.

The second half says in the SQL of DuckDB what a column means and what can be wrong with it. It is
only text: whoever has the database runs it.
"""

from __future__ import annotations

import warnings
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.dataset as ds
import pyarrow.fs as pa_fs
import pyarrow.json as pa_json

from recsys.errors import SchemaError
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

Probe = tuple[str, str, str, str]  # fault, column, SQL of the rows that have it, SQL of an example
BLOCK = 8 << 20  # bytes read at a time; no row may be longer
FORMATS = {
    ".parquet": "parquet",
    ".pq": "parquet",
    ".csv": "csv",
    ".jsonl": "json",
    ".ndjson": "json",
    ".json": "json",
}


@dataclass(frozen=True)
class MatchedTable:
    """A table whose columns are what they must be; what is in its rows is not known yet."""

    rows: ds.Dataset
    columns: dict[str, str]  # {ours: the file's}
    text: tuple[str, ...]  # of items: the file's columns that make up the encoder's text


def match_table(
    name: str, source: Any, config: DataConfig
) -> tuple[MatchedTable | None, list[Fault]]:
    """Open a table and find its columns; no table is returned where there is a fault.

    Args:
        name: "events", "items" or "users".
        source: as for `open_table`.
        config: the file's names of our columns.
    """
    numbers = [c for c, kind in TABLES[name].items() if kind == "number"]
    try:
        rows = open_table(source, {n for c in numbers for n in file_names(name, c, config)})
        empty = not rows.head(1).num_rows
    except (SchemaError, pa.ArrowException, OSError) as error:
        return None, [Fault("cannot be read", name, example=str(error).splitlines()[0])]
    if empty:
        return None, [Fault("has no rows", name)]
    columns, faults = match_columns(name, rows.schema, config)
    text: list[str] = []
    if name == "items":
        text, missing = text_columns(config, columns, rows.schema)
        faults = faults + missing
    return None if faults else MatchedTable(rows, columns, tuple(text)), faults


def open_table(source: Any, numbers: Collection[str] = ()) -> ds.Dataset:
    """Open a table without reading its rows.

    Args:
        source: path or URI of a Parquet, CSV or JSON Lines file (CSV and JSON Lines also .gz) or
            of a folder of such files of one format; or a pandas, polars or Arrow table (anything
            with `__arrow_c_stream__`).
        numbers: columns that are decimal in JSON Lines, even where the first rows have no point.

    Raises:
        SchemaError: it is not there, is empty, cannot be read or is of an unknown kind.
    """
    if isinstance(source, ds.Dataset):
        return source
    if not isinstance(source, str | Path):
        if not hasattr(source, "__arrow_c_stream__"):
            raise SchemaError(
                f"expected a path, a URI or a pandas, polars or Arrow table, found {type(source)}"
            )
        with warnings.catch_warnings():  # pyarrow 25 uses what pandas 3.1 deprecates
            warnings.simplefilter("ignore", DeprecationWarning)
            table = pa.table(source)
        return ds.dataset(table)
    filesystem, files = _files(source)
    kinds = {_format(info.path) for info in files}
    if len(kinds) != 1 or None in kinds:
        found = ", ".join(sorted({Path(info.path).name for info in files})[:3]) or "no file"
        raise SchemaError(f"found {found}; expected files of one format of {sorted(FORMATS)}")
    try:
        paths = [info.path for info in files]
        return _open(paths, filesystem, kinds.pop() or "", numbers)
    except (pa.ArrowException, OSError, ValueError) as error:
        raise SchemaError(str(error).splitlines()[0]) from error


def stamp(source: Any) -> list[list[str | int]] | None:
    """Return path, size in bytes and time of change of each file, None for a table in memory."""
    if not isinstance(source, str | Path):
        return None
    return [[info.path, info.size or 0, info.mtime_ns or 0] for info in _files(source)[1]]


def _files(source: str | Path) -> tuple[pa_fs.FileSystem, list[pa_fs.FileInfo]]:
    """List the data files at a path or URI, sorted; hidden ones (".x", "_x") are left out."""
    try:
        if "://" in str(source):
            filesystem, path = pa_fs.FileSystem.from_uri(str(source))
        else:
            filesystem, path = pa_fs.LocalFileSystem(), str(Path(source).absolute())
        info = filesystem.get_file_info(path)
        if info.type == pa_fs.FileType.NotFound:
            raise SchemaError("there is no such file or folder")
        if info.type != pa_fs.FileType.Directory:
            return filesystem, [info]
        found = filesystem.get_file_info(pa_fs.FileSelector(path, recursive=True))
    except (pa.ArrowException, OSError) as error:
        raise SchemaError(str(error).splitlines()[0]) from error
    hidden = (".", "_")
    files = [f for f in found if f.is_file and not Path(f.path).name.startswith(hidden)]
    return filesystem, sorted(files, key=lambda f: f.path)


def _format(path: str) -> str | None:
    return FORMATS.get(Path(path.lower().removesuffix(".gz")).suffix)


def _open(
    paths: list[str], filesystem: pa_fs.FileSystem, kind: str, numbers: Collection[str]
) -> ds.Dataset:
    if kind == "parquet":
        return ds.dataset(paths, filesystem=filesystem, format="parquet")
    if kind == "csv":
        form: Any = ds.CsvFileFormat(
            read_options=pa_csv.ReadOptions(block_size=BLOCK),
            parse_options=pa_csv.ParseOptions(newlines_in_values=True),
            convert_options=pa_csv.ConvertOptions(strings_can_be_null=True, null_values=[""]),
        )
    else:
        form = ds.JsonFileFormat(read_options=pa_json.ReadOptions(block_size=BLOCK))
    guess = ds.dataset(paths, filesystem=filesystem, format=form).schema
    types = {field.name: _plain(field, kind, numbers) for field in guess}
    return ds.dataset(paths, filesystem=filesystem, format=form, schema=pa.schema(types))


def _plain(guess: Any, kind: str, numbers: Collection[str]) -> Any:
    """Return the type to read a column as, given what its first rows look like."""
    if kind == "csv" or pa.types.is_timestamp(guess.type) or pa.types.is_null(guess.type):
        return pa.string()
    if pa.types.is_integer(guess.type) and guess.name in numbers:
        return pa.float64()
    return guess.type


# --- the same columns as SQL ---------------------------------------------------------------------


def column_probes(table: str, schema: pa.Schema, columns: Mapping[str, str]) -> list[Probe]:
    """List the faults to be counted in the columns as they were given."""
    probes = []
    for ours, theirs in columns.items():
        kind, text = TABLES[table][ours], f"CAST({_quote(theirs)} AS VARCHAR)"
        found, typed = schema.field(theirs).type, typed_sql(theirs, kind, schema)
        parsed = is_text(value_type(found))
        if kind == "id":
            others = [name for name in columns.values() if name != theirs][:2]
            row = [f"{literal(f'{n}=')}, CAST({_quote(n)} AS VARCHAR)" for n in others] or ["''"]
            example = "concat(" + ", ', ', ".join(row) + ")"
            probes.append(("has no id", ours, f"{typed} IS NULL", example))
        elif kind != "text" and parsed:
            bad = f"trim({text}) <> '' AND {typed} IS NULL"
            probes.append(("cannot be parsed", ours, bad, text))
        if kind == "time" and not getattr(found, "tz", None):
            naive = f"{typed} IS NOT NULL"
            if parsed:
                zone = r"\d:\d\d.*(Z|UTC|[+-]\d\d(:?\d\d)?)$"
                naive += f" AND NOT regexp_matches({text}, '{zone}')"
            probes.append(("has no time zone", ours, naive, text))
    return probes


def typed_sql(theirs: str, kind: str, schema: pa.Schema) -> str:
    """SQL of the file's column `theirs` as what its `kind` is here, null where it is not."""
    column, found = _quote(theirs), value_type(schema.field(theirs).type)
    if kind == "time":
        zoned = is_text(found) or getattr(found, "tz", None)
        return f"epoch_us(TRY_CAST({column} AS {'TIMESTAMPTZ' if zoned else 'TIMESTAMP'}))"
    if kind == "number":
        return f"nullif(TRY_CAST({column} AS DOUBLE), 'NaN'::DOUBLE)"
    if kind == "integer" or (kind == "id" and not is_text(found)):
        return f"TRY_CAST({column} AS BIGINT)"
    if pa.types.is_list(found) or pa.types.is_large_list(found):
        return f"nullif(array_to_string({column}, ', '), '')"
    return f"nullif(CAST({column} AS VARCHAR), '')"


def events_sql(
    schema: pa.Schema, columns: Mapping[str, str], config: DataConfig, by_order: bool
) -> str:
    """SQL of `events_given` in our types, with `moment` (to sort by), `grade` and `weight`.

    A missing event type is "event". With `by_order` the moment is the order_index, if there is one.
    """
    sql = {c: typed_sql(theirs, TABLES["events"][c], schema) for c, theirs in columns.items()}
    event_type = f"coalesce({sql.pop('event_type', 'NULL')}, 'event')"
    timestamp, order = sql.pop("timestamp", "NULL::BIGINT"), sql.pop("order_index", None)
    moment = order if order and by_order else timestamp
    ours = {"user_id": sql.pop("user_id"), "moment": moment, "item_id": sql.pop("item_id")}
    absent = {"value": "NULL::DOUBLE", "price": "NULL::DOUBLE", "position": "NULL::BIGINT"}
    absent["session_id"] = "NULL::VARCHAR"
    ours |= {"event_type": event_type} | absent | sql
    select = ", ".join(f"{expression} AS {name}" for name, expression in ours.items())
    rules = [(name, rule) for name, some in config.event_types.items() for rule in some]
    cases = {"grade": "1", "weight": "1.0"}
    for column in cases if rules else ():
        branches = [
            f"WHEN event_type = {literal(name)}"
            + (f" AND value >= {rule.min_value!r}::DOUBLE" if rule.min_value is not None else "")
            + f" THEN {getattr(rule, column)!r}"
            for name, rule in rules
        ]
        cases[column] = f"CASE {' '.join(branches)} END"
    graded = f"({cases['grade']})::TINYINT AS grade, ({cases['weight']})::FLOAT AS weight"
    return f"SELECT *, {graded} FROM (SELECT {select} FROM events_given)"


def _quote(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def literal(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"
