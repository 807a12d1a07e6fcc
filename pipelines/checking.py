"""All that is wrong with the input is found before anything is written, and what is in it counted.

DuckDB scans the tables wherever they are: the catalogue comes into memory, the events never do.
What is an error and what only a warning is said in `recsys.schema`.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipelines.database import Database, DatabaseError, OutOfMemory, count_faults, open_database
from recsys import queries
from recsys.dataset import DAY
from recsys.matching import MatchedTable, match_table
from recsys.reading import place, reason
from recsys.schema import (
    ERRORS,
    WARNINGS,
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
    n_unknown_items: int  # different ids of events that are not in the catalogue
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
    now: int | None = None,
) -> Checked:
    """Find out whether the tables can be prepared, and count what is in them; nothing is written.

    Args:
        events, items, users: path, URI or table in memory; no users table is None.
        config: how to read the tables; the paths in it are not looked at.
        protocol: "auto" is "time" where at least half of the events have a timestamp.
        now: moment; events over a day later are refused. None = any are taken.

    Raises:
        SchemaError: the tables break their contract; all problems are in the one message.
        ConfigError: data.memory_limit is too little.
    """
    sources = {"events": events, "items": items} | ({} if users is None else {"users": users})
    with (
        tempfile.TemporaryDirectory() as spill,
        open_database(Path(spill), config.memory_limit) as con,
    ):
        return read_inputs(con, sources, config, protocol, now).checked


def read_inputs(
    con: Database,
    sources: Mapping[str, Any],
    config: DataConfig,
    protocol: str,
    now: int | None = None,
) -> Inputs:
    """Open the tables in a database, find every fault, and raise them all or go on.

    Args:
        con: from `open_database`; the SQL of the result holds in it.
        sources: {"events", "items", maybe "users": path, URI or table in memory}.
        config: how to read the tables.
        protocol, now: as in `check_inputs`.

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
                checked, events, found = _count_events(con, given, items, config, chosen, now)
            else:
                found = [Fault("is read by nothing yet", name)]
            faults += found
        except (DatabaseError, pa.ArrowException, UnicodeError) as error:
            if isinstance(error, OutOfMemory):
                raise
            faults.append(Fault("cannot be read", name, example=reason(error)))
    names = {name: place(source) for name, source in sources.items()}
    warnings = check_tables(faults, names)
    assert checked is not None  # else check_tables has raised
    return Inputs(replace(checked, sources=names, warnings=tuple(warnings)), items, events)


def _probe(con: Database, name: str, table: MatchedTable) -> tuple[list[Fault], int, int]:
    """Find what is wrong in single columns; count the rows and those with a timestamp."""
    faults, n_rows, n_timed = [], 0, 0
    for part in table.parts:
        more = ["count(*)", f"count({queries.moment_sql(part)})"]
        probes = queries.column_probes(name, part)
        found, (rows, timed) = count_faults(con, name, part.name, probes, more)
        faults += [replace(fault, file=place(part.source)) for fault in found]
        n_rows, n_timed = n_rows + rows, n_timed + timed
    return faults, n_rows, n_timed


def _read_items(con: Database, given: MatchedTable) -> tuple[Table, list[Fault]]:
    """Read the catalogue into memory, cleaned, item_id ascending: row = item code."""
    columns = given.parts[0].columns
    table: Table = con.sql(queries.items_sql(given)).to_arrow_table()
    prose = {columns.get(name) for name in ("title", "brand", "description")}
    cleaning = [clean_text if column in prose else clean_list for column in given.text]
    items = clean_items(table, [clean(table[f"text{i}"]) for i, clean in enumerate(cleaning)])
    repeated = f"({queries.repeats_sql(given)})"
    repeats, _ = count_faults(con, "items", repeated, [queries.REPEATS], [])
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
    con: Database,
    given: Mapping[str, MatchedTable],
    items: Table,
    config: DataConfig,
    protocol: Protocol,
    now: int | None,
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
        queries.Probe("has no user", "user_id", "user_id IS NULL", "concat('item_id=', item_id)"),
        queries.Probe(
            "has no time", "", "user_id IS NOT NULL AND moment IS NULL", "user_id::VARCHAR"
        ),
        queries.Probe(
            "is not in items", "item_id", f"{timed} AND NOT ({known})", "CAST(item_id AS VARCHAR)"
        ),
        queries.Probe("matches no rule of data.event_types", "event_type", no_rule, "event_type"),
    ]
    ordered_by = "order_index" if by_order and "order_index" in columns else "timestamp"
    if now is not None and ordered_by == "timestamp":
        late = "CAST(make_timestamp(moment) AS VARCHAR)"
        future = f"moment > {now + DAY}"
        drops.append(queries.Probe("is in the future", "timestamp", future, late))
    of_kept = ("count(*)", "count(DISTINCT user_id)", "min(moment)", "max(moment)")
    of_taken = ("count(*)", f"count(DISTINCT floor(moment / {DAY}))")
    more = ["count(*)", "histogram(event_type)",
            f"count(DISTINCT item_id) FILTER ({timed} AND NOT ({known}))",
            *(f"{value} FILTER ({kept})" for value in of_kept),
            *(f"{value} FILTER ({kept} AND grade > 0)" for value in of_taken)]  # fmt: skip
    found, values = count_faults(con, "events", f"({coded})", drops, more)
    n_rows, types, n_unknown, n_events, n_users, first, last, n_taken, n_days = values
    dropped = [fault for fault in found if fault.kind in WARNINGS]
    unruled = match_event_types(types, columns, config)
    faults += found + unruled
    if not any(fault.kind in ERRORS for fault in unruled):
        little = _too_little(n_rows, dropped, n_events, n_users, n_taken)
        faults += [_with_ids(fault, dropped, items) for fault in little]
        if protocol == "time" and 0 < n_days < 4:
            kind = "has fewer than 4 days with events that count"
            faults.append(Fault(kind, "events", "timestamp", example=f"{n_days} found"))
    if ordered_by == "timestamp" and n_events and 0 <= last < 365 * DAY:
        found_last = f"the last is {datetime.fromtimestamp(last / 1e6, UTC):%Y-%m-%d %H:%M:%S}"
        faults.append(Fault("lies in 1970", "events", "timestamp", example=found_last))
    checked = Checked(
        sources={},  # these two are known once all tables were read
        warnings=(),
        columns_used={name: table.columns for name, table in given.items()},
        text_columns=given["items"].text if "items" in given else (),
        protocol=protocol,
        ordered_by=ordered_by,
        n_rows=n_rows,
        n_events=n_events,
        n_users=n_users,
        n_items=0 if items is None else len(items),
        n_unknown_items=n_unknown,
        dropped={fault.kind: fault.rows for fault in dropped},
        event_types=dict(sorted(types.items())),
        first_moment=first,
        last_moment=last,
    )
    return checked, f"SELECT * EXCLUDE (item_id) FROM ({coded}) WHERE {kept}", faults


def _too_little(
    n_rows: int, dropped: Sequence[Fault], n_events: int, n_users: int, n_taken: int
) -> list[Fault]:
    """Find out whether what is kept is enough to learn anything at all."""
    if not n_events:
        reasons = ", ".join(f"{f.rows:,} {f.kind}" for f in dropped)
        return [Fault("has no event left", "events", example=f"of {n_rows:,}: {reasons}")]
    if n_users == 1:
        kind = "has fewer than 2 different ids"
        return [Fault(kind, "events", "user_id", example=f"{n_events:,} events of one user")]
    return [] if n_taken else [Fault("has only events of grade 0", "events", "event_type")]


def _with_ids(fault: Fault, dropped: Sequence[Fault], items: Table | None) -> Fault:
    """Show an item id of either table where events fell out as their items are not there."""
    unknown = [one.example for one in dropped if one.kind == "is not in items"]
    if fault.kind != "has no event left" or not unknown or items is None or not len(items):
        return fault
    here = pc.min(items["item_id"])
    return replace(fault, example=f"{fault.example}; events: {unknown[0]}; items: {here}")


def _match_ids(con: Database, rows: str, items: Table | None) -> tuple[str, list[Fault]]:
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
