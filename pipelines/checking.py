"""All that is wrong with the input is found before anything is written, and what is in it counted.

DuckDB scans the tables wherever they are: the catalogue comes into memory, the events never do.
What is an error and what only a warning is said in `recsys.schema`.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import duckdb
import numpy as np
import pyarrow as pa

from recsys import queries
from recsys.errors import ConfigError
from recsys.matching import MatchedTable, match_table
from recsys.queries import Probe, literal
from recsys.reading import place, reason
from recsys.schema import (
    ERRORS,
    DataConfig,
    Fault,
    Table,
    check_tables,
    is_text,
    match_event_types,
)
from recsys.split import Protocol
from recsys.text import check_items, clean_items, clean_list, clean_text


@dataclass(frozen=True)
class Checked:
    """What is in tables that keep their contract."""

    sources: dict[str, str]  # table -> where it is, for messages
    columns_used: dict[str, dict[str, str]]  # table -> {ours: the file's}
    text_columns: tuple[str, ...]  # of the items file, in the order they are joined
    protocol: Protocol  # the one asked for, or what "auto" came to
    ordered_by: str  # "timestamp" or "order_index": what the two moments below are
    n_rows: int  # of the events table
    n_events: int  # of these kept: all but `dropped`; exact copies are still among them
    n_users: int  # with an event that is kept
    n_items: int  # in the catalogue
    dropped: dict[str, int]  # reason -> rows of the events table
    event_types: dict[str, int]  # type -> rows of the events table, also those dropped
    first_moment: int  # of the events kept: microseconds UTC, or the order_index
    last_moment: int
    warnings: tuple[str, ...]


@dataclass(frozen=True)
class Inputs:
    """Checked tables in a database: items in memory, events as SQL over wherever they are."""

    checked: Checked
    items: Table  # every column of the catalogue, item_id ascending: row = item code
    events: str  # SELECT user_id, item_code, moment, event_type, value, price, grade, weight, ...


def check_inputs(
    events: Any,
    items: Any,
    users: Any,
    config: DataConfig,
    protocol: Literal["auto", "time", "leave_last_out"] = "auto",
) -> Checked:
    """Find out whether the tables can be prepared, and count what is in them; nothing is written.

    Args:
        events, items, users: path, URI or table in memory; no users table is None.
        config: how to read the tables; the paths in it are not looked at.
        protocol: "auto" is "time" where at least half of the events have a timestamp.

    Raises:
        SchemaError: the tables break their contract; all problems are in the one message.
        ConfigError: data.memory_limit is too little.
    """
    sources = {"events": events, "items": items} | ({} if users is None else {"users": users})
    with (
        tempfile.TemporaryDirectory() as spill,
        open_database(Path(spill), config.memory_limit) as con,
    ):
        return read_inputs(con, sources, config, protocol).checked


@contextmanager
def open_database(spill: Path, memory_limit: str) -> Iterator[duckdb.DuckDBPyConnection]:
    """Give an empty database in memory that goes on in the folder `spill` where that is too little.

    Raises:
        ConfigError: what is done with it needs more than `memory_limit` all the same.
    """
    try:
        with duckdb.connect(":memory:") as con:
            con.execute("SET TimeZone = 'UTC'")
            con.execute(f"SET memory_limit = {literal(memory_limit)}")
            con.execute(f"SET temp_directory = {literal(str(spill))}")
            con.execute("SET preserve_insertion_order = false")  # every result is sorted anyway
            yield con
    except duckdb.OutOfMemoryException as error:
        raise ConfigError(
            f"data.memory_limit = {memory_limit!r} is too little: {str(error).splitlines()[0]}; "
            "raise it or set a smaller data.bucket_rows"
        ) from error


def read_inputs(
    con: duckdb.DuckDBPyConnection, sources: Mapping[str, Any], config: DataConfig, protocol: str
) -> Inputs:
    """Open the tables in a database, find every fault, and raise them all or go on.

    Args:
        con: from `open_database`; the SQL of the result holds in it.
        sources: {"events", "items", maybe "users": path, URI or table in memory}.
        config: how to read the tables.
        protocol: as in `check_inputs`.

    Raises:
        SchemaError: with a line for each fault.
    """
    faults: list[Fault] = []
    given: dict[str, MatchedTable] = {}
    for name in sorted(sources, key=["items", "users", "events"].index):
        opened, found = match_table(name, sources[name], config)
        faults += found
        if opened is not None:
            given[name] = opened
            for part in opened.parts:
                con.register(part.name, part.rows)
    items: Table = None
    checked, events = None, ""
    for name, table in given.items():  # the events last: they are compared with the items
        try:
            found, n_rows, n_timed = _probe(con, name, table)
            faults += found
            if name == "items":
                items, found = _read_items(con, table)
            elif name == "events":
                chosen, found = _choose_protocol(protocol, table.columns, 2 * n_timed >= n_rows)
                faults += found
                checked, events, found = _count_events(con, given, items, config, chosen)
            else:
                found = [Fault("is read by nothing yet", name)]
            faults += found
        except (duckdb.Error, pa.ArrowException, UnicodeError) as error:
            if isinstance(error, duckdb.OutOfMemoryException):
                raise
            faults.append(Fault("cannot be read", name, example=reason(error)))
    names = {name: place(source) for name, source in sources.items()}
    warnings = check_tables(faults, names)
    assert checked is not None  # else check_tables has raised
    return Inputs(replace(checked, sources=names, warnings=tuple(warnings)), items, events)


def _probe(
    con: duckdb.DuckDBPyConnection, name: str, table: MatchedTable
) -> tuple[list[Fault], int, int]:
    """Find what is wrong in single columns; count the rows and those with a timestamp."""
    faults, n_rows, n_timed = [], 0, 0
    for part in table.parts:
        more = ["count(*)", f"count({queries.moment_sql(part)})"]
        found, (rows, timed) = _count(con, name, part.name, queries.column_probes(name, part), more)
        faults += [replace(fault, file=place(part.source)) for fault in found]
        n_rows, n_timed = n_rows + rows, n_timed + timed
    return faults, n_rows, n_timed


def _count(
    con: duckdb.DuckDBPyConnection,
    table: str,
    source: str,
    probes: Sequence[Probe],
    more: Sequence[str],
) -> tuple[list[Fault], list[Any]]:
    """Count all probes in one pass, and find the values of `more`.

    The example of a fault is the smallest, so that it is the same on every run.
    """
    counts = [f"count(*) FILTER ({rows})" for _, _, rows, _ in probes]
    examples = [f"min({example}) FILTER ({rows})" for _, _, rows, example in probes]
    select = ", ".join([*more, *counts, *examples])
    [row] = con.execute(f"SELECT {select} FROM {source}").fetchall()
    found = iter(row)
    values = [next(found) for _ in more]
    numbers = [next(found) for _ in probes]
    rows = zip(probes, numbers, found, strict=True)
    return [
        Fault(kind, table, column, n, str(e)) for (kind, column, _, _), n, e in rows if n
    ], values


def _read_items(con: duckdb.DuckDBPyConnection, given: MatchedTable) -> tuple[Table, list[Fault]]:
    """Read the catalogue into memory, cleaned, item_id ascending: row = item code."""
    columns = given.parts[0].columns
    table: Table = con.sql(queries.items_sql(given)).to_arrow_table()
    prose = {columns.get(name) for name in ("title", "brand", "description")}
    cleaning = [clean_text if column in prose else clean_list for column in given.text]
    items = clean_items(table, [clean(table[f"text{i}"]) for i, clean in enumerate(cleaning)])
    repeats, _ = _count(con, "items", f"({queries.repeats_sql(given)})", [queries.REPEATS], [])
    return items, check_items(items) + repeats


def _choose_protocol(
    asked: str, columns: Mapping[str, str], mostly_timed: bool
) -> tuple[Protocol, list[Fault]]:
    """Settle what "auto" is; there must be a column to order by."""
    by_time = asked == "time" or (asked == "auto" and "timestamp" in columns and mostly_timed)
    protocol: Protocol = "time" if by_time else "leave_last_out"
    if "timestamp" in columns or ("order_index" in columns and not by_time):
        return protocol, []
    found = "only order_index, which needs split.protocol = 'leave_last_out'"
    found = found if "order_index" in columns else "neither timestamp nor order_index"
    return protocol, [Fault("is missing", "events", "timestamp", example=found)]


def _count_events(
    con: duckdb.DuckDBPyConnection,
    given: Mapping[str, MatchedTable],
    items: Table,
    config: DataConfig,
    protocol: Protocol,
) -> tuple[Checked, str, list[Fault]]:
    """Count the events by what becomes of them, each under the first reason that holds.

    Returns:
        The counts, the SQL of the events that are kept, and the faults.
    """
    columns = given["events"].columns
    by_order = protocol == "leave_last_out"
    rows = queries.events_sql(given["events"], config, by_order)
    known, faults = _match_ids(con, rows, items)
    coded = f"{rows} LEFT JOIN codes USING (item_id)" if known != "TRUE" else rows
    timed = "user_id IS NOT NULL AND moment IS NOT NULL"
    kept = f"{timed} AND {known} AND grade IS NOT NULL"
    no_rule = f"{timed} AND {known} AND grade IS NULL"
    drops = [
        ("has no user", "user_id", "user_id IS NULL", "concat('item_id=', item_id)"),
        ("has no time", "", "user_id IS NOT NULL AND moment IS NULL", "user_id::VARCHAR"),
        ("is not in items", "item_id", f"{timed} AND NOT ({known})", "CAST(item_id AS VARCHAR)"),
        ("matches no rule of data.event_types", "event_type", no_rule, "event_type"),
    ]
    of_kept = ("count(*)", "count(DISTINCT user_id)", "min(moment)", "max(moment)")
    more = ["count(*)", "histogram(event_type)", *(f"{value} FILTER ({kept})" for value in of_kept)]
    dropped, values = _count(con, "events", f"({coded})", drops, more)
    n_rows, types, n_events, n_users, first, last = values
    unruled = match_event_types(types, columns, config)
    faults += dropped + unruled
    if not n_events and not any(fault.kind in ERRORS for fault in unruled):
        reasons = ", ".join(f"{f.rows:,} {f.kind}" for f in dropped)
        faults.append(Fault("has no event left", "events", example=f"of {n_rows:,}: {reasons}"))
    elif n_users == 1:
        kind = "has fewer than 2 different ids"
        faults.append(Fault(kind, "events", "user_id", example=f"{n_events:,} events of one user"))
    checked = Checked(
        sources={},  # these two are known once all tables were read
        warnings=(),
        columns_used={name: table.columns for name, table in given.items()},
        text_columns=given["items"].text if "items" in given else (),
        protocol=protocol,
        ordered_by="order_index" if by_order and "order_index" in columns else "timestamp",
        n_rows=n_rows,
        n_events=n_events,
        n_users=n_users,
        n_items=0 if items is None else len(items),
        dropped={fault.kind: fault.rows for fault in dropped},
        event_types=dict(sorted(types.items())),
        first_moment=first,
        last_moment=last,
    )
    return checked, f"SELECT * EXCLUDE (item_id) FROM ({coded}) WHERE {kept}", faults


def _match_ids(
    con: duckdb.DuckDBPyConnection, rows: str, items: Table | None
) -> tuple[str, list[Fault]]:
    """Make the table `codes` (item_id, item_code, item_hash); return SQL: has an event a code?"""
    if items is None:
        return "TRUE", []
    here = con.sql(f"SELECT item_id FROM ({rows}) LIMIT 1").to_arrow_table().schema.types[0]
    there = items.schema.field("item_id").type
    if is_text(here) != is_text(there):
        kind = "has another type than items.item_id"
        found = f"{here} here, {there} there"
        return "TRUE", [Fault(kind, "events", "item_id", example=found)]
    codes: Any = {"item_id": items["item_id"], "item_code": np.arange(len(items), dtype=np.int32)}
    con.register("items_coded", pa.table(codes))
    hashed = "md5_number_lower(CAST(item_id AS VARCHAR)) AS item_hash"  # whatever else is on offer
    con.execute(f"CREATE OR REPLACE TEMP TABLE codes AS SELECT *, {hashed} FROM items_coded")
    return "item_code IS NOT NULL", []
