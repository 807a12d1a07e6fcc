"""Raw tables become one prepared folder that every later stage reads.

Ids become codes, times become moments, event types become grades, and events are laid out by
bucket of users, so that all later per-user work holds one bucket in memory. DuckDB does the part
that may be larger than memory: it splits the log into buckets on disk, then sorts one at a time.
The manifest is written last and the folder appears by one rename: there is no half of one.

    items.parquet               row = item code: item_id ascending, title, text, category, brand, ...
    users.parquet               row = user code: user_code, user_id, bucket, n_events
    events/bucket-00000.parquet sorted by (user_code, moment, item_code, event_type)
    manifest.json

Moments under `time` are microseconds UTC. Under `leave_last_out` the n events with a grade above 0
of a user, in order of (order_index or timestamp, item_id), are at -n .. -1. An event of grade 0
takes the moment of the one before it (-n - 1 if there is none), so it is strictly before the
request it precedes and never before one that it follows.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
import pyarrow.parquet as pq
from pydantic import BaseModel, ConfigDict

from recsys.dataset import ALWAYS_FROM, ALWAYS_UNTIL, Items, Log
from recsys.errors import ConfigError, SchemaError
from recsys.reading import open_table, stamp
from recsys.schema import (
    TABLES,
    DataConfig,
    Fault,
    check_tables,
    clean_list,
    clean_text,
    is_text,
    join_text,
    match_columns,
    text_columns,
    value_type,
)
from recsys.split import LEAVE_LAST_OUT, Windows, cut_windows

VERSION = 1  # of the layout; a folder of another version is prepared anew
Protocol = Literal["time", "leave_last_out"]
Say = Callable[[str], None]


class Manifest(BaseModel):
    """What a prepared folder holds and where it came from."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    version: int
    fingerprint: str  # of the content: same events and items, same fingerprint, in any form
    inputs: str | None  # of files and settings, to reuse the folder; None: a table in memory
    protocol: Protocol
    dated: bool
    windows: Windows
    n_users: int
    n_items: int
    n_events: int
    n_buckets: int
    n_rows: int  # of the events table as given = n_events + all of `dropped`
    dropped: dict[str, int]  # reason -> rows
    event_types: dict[str, int]  # kept events of each type
    first_moment: int
    last_moment: int
    repeat_share: float  # of grade > 0 events before the ranker window: user had the item before
    columns_used: dict[str, dict[str, str]]  # table -> {ours: file's}
    text_columns: list[str]
    warnings: list[str]


@dataclass(frozen=True)
class Prepared:
    """A prepared folder, opened."""

    folder: Path
    manifest: Manifest
    reused: bool = False  # `prepare` found it finished

    @property
    def windows(self) -> Windows:
        return self.manifest.windows

    @property
    def n_buckets(self) -> int:
        return self.manifest.n_buckets

    def items(self) -> Items:
        """Read the catalogue."""
        table = pq.read_table(self.folder / "items.parquet")
        dated = self.manifest.dated  # else moments are positions and dates mean nothing
        always = {"available_from": ALWAYS_FROM, "available_until": ALWAYS_UNTIL}
        moments = [
            pc.fill_null(table[name].cast(pa.int64()), value).to_numpy()
            if dated
            else np.full(len(table), value)
            for name, value in always.items()
        ]
        return Items(
            _array(table["item_id"]),
            _array(table["title"]),
            _array(table["text"]),
            _codes(table["category"]),
            _codes(table["brand"]),
            pc.fill_null(table["price"], np.nan).to_numpy(),
            *moments,
        )

    def user_ids(self) -> np.ndarray:
        """Return the (n_users,) ids by user code, object (str) or int64."""
        return _array(pq.read_table(self.folder / "users.parquet", columns=["user_id"])["user_id"])

    def bucket(self, i: int) -> Log:
        """Read the events of bucket `i`."""
        names = ["user_code", "item_code", "moment", "grade", "weight", "price"]
        table = pq.read_table(_bucket_path(self.folder, i), columns=names)
        user, item, moment, grade, weight = (table[name].to_numpy() for name in names[:5])
        starts = np.flatnonzero(np.diff(user, prepend=-1))
        indptr = np.append(starts, len(user)).astype(np.int64)
        price = pc.fill_null(table["price"], np.nan).to_numpy()
        return Log(user[starts], indptr, item, moment, grade, weight, price)

    def buckets(self) -> Iterator[Log]:
        """Read one bucket after the other; codes ascend from each to the next."""
        return (self.bucket(i) for i in range(self.n_buckets))

    def logs(self) -> list[Log]:
        """Read all buckets at once, for data that fits in memory."""
        return list(self.buckets())


def open_prepared(folder: str | Path) -> Prepared:
    """Open a folder that `prepare` has finished.

    Raises:
        ConfigError: there is no finished folder of this version.
    """
    path = Path(folder) / "manifest.json"
    if not path.is_file():
        raise ConfigError(f"{folder}: no manifest.json, so nothing prepared; run prepare first")
    content = json.loads(path.read_text())
    if content.get("version") != VERSION:
        found = content.get("version")
        raise ConfigError(f"{path}: version {found}, expected {VERSION}; run prepare again")
    return Prepared(Path(folder), Manifest.model_validate(content))


def prepare(
    events: Any,
    items: Any,
    folder: str | Path,
    config: DataConfig,
    protocol: Literal["auto", "time", "leave_last_out"] = "auto",
    users: Any = None,
    share: float = 0.1,
    progress: Say | None = None,
) -> Prepared:
    """Check the tables and write the prepared folder; reuse it if nothing has changed.

    Args:
        events, items, users: path, URI or table in memory, see `recsys.reading.open_table`. The
            users table is checked, nothing of it is kept yet.
        folder: written whole or not at all; a prepared folder that is there is replaced.
        config: how to read the tables; its own paths are not looked at.
        protocol: "auto" is "time" where at least half of the events have a timestamp.
        share: of the events, for each of the ranker, valid and test windows.
        progress: called with a line of text now and then.

    Raises:
        SchemaError: the tables break their contract; all problems in one message.
        ConfigError: the folder holds something else, or the log is too short for four windows.
    """
    say = progress or (lambda line: None)
    target = Path(folder).absolute()
    sources = {"events": events, "items": items} | ({} if users is None else {"users": users})
    if target.exists() and not (target / "manifest.json").exists() and any(target.iterdir()):
        raise ConfigError(f"{target} is not a prepared folder; choose another or empty it")
    stamps = _inputs(sources, config, protocol, share)
    if stamps and (target / "manifest.json").exists():
        try:
            old = open_prepared(target)
        except ConfigError:
            old = None
        if old is not None and old.manifest.inputs == stamps:
            say(f"reused {target}: same files, same settings")
            return Prepared(old.folder, old.manifest, reused=True)
    with _new_folder(target) as work, _database(work, config.memory_limit) as con:
        tables, faults = _open_tables(sources)
        checked = _check(con, tables, faults, config, protocol, sources)
        say(f"checked {checked.n_rows:,} events of {len(checked.items):,} items")
        manifest = _write(con, work, checked, config, share, stamps, say)
        (work / "manifest.json").write_text(manifest.model_dump_json(indent=1))
    return open_prepared(target)


@dataclass(frozen=True)
class _Checked:
    """Tables that may be prepared: the items in memory, the events as SQL over the source."""

    items: pa.Table
    typed: str  # SELECT of the events: see `_typed_events`
    n_rows: int
    protocol: Protocol
    dropped: dict[str, int]
    columns: dict[str, dict[str, str]]
    text: list[str]
    warnings: list[str]


# ---------------------------------------------------------------------------- reading and checking


def _open_tables(sources: Mapping[str, Any]) -> tuple[dict[str, ds.Dataset], list[Fault]]:
    tables, faults = {}, []
    for name, source in sources.items():
        try:
            table = open_table(source)
            if table.count_rows() == 0:
                faults.append(Fault("has no rows", name))
            else:
                tables[name] = table
        except (SchemaError, pa.ArrowException, OSError) as error:
            faults.append(Fault("cannot be read", name, example=str(error).splitlines()[0]))
    return tables, faults


def _check(
    con: duckdb.DuckDBPyConnection,
    tables: dict[str, ds.Dataset],
    faults: list[Fault],
    config: DataConfig,
    asked: str,
    sources: Mapping[str, Any],
) -> _Checked:
    columns: dict[str, dict[str, str]] = {}
    text: list[str] = []
    broken = {f.table for f in faults}
    for name, table in tables.items():
        con.register(f"{name}_given", table)
        columns[name], found = match_columns(name, table.schema, config)
        if name == "items":
            text, missing = text_columns(config, columns[name], table.schema)
            found += missing
        faults += found
        broken |= {name} if found else set()
    items = None
    if "items" in tables and "items" not in broken:
        items, found = _read_items(con, tables["items"].schema, columns["items"], text)
        faults += found
    counts = Counter[str]()
    typed, protocol = "", "time"
    n_rows = 0
    if "events" in tables and "events" not in broken:
        schema = tables["events"].schema
        protocol, found = _choose_protocol(con, asked, schema, columns["events"])
        faults += found
        typed = _typed_events(schema, columns["events"], config, protocol)
        n_rows, counts, found = _count_events(con, typed, items, schema, columns["events"], config)
        faults += found
    if "users" in tables and "users" not in broken:
        faults += _count_users(con, tables["users"].schema, columns["users"]["user_id"])
    names = {k: str(v) if isinstance(v, str | Path) else "in memory" for k, v in sources.items()}
    warnings = check_tables(faults, names)
    assert items is not None  # check_tables has raised otherwise
    return _Checked(
        items, typed, n_rows, protocol, dict(counts), columns, text, warnings  # type: ignore[arg-type]
    )  # fmt: skip


def _quote(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _literal(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def _typed(name: str, kind: str, schema: pa.Schema) -> str:
    """SQL that gives the file's column `name` the type its `kind` has here."""
    column, found = _quote(name), value_type(schema.field(name).type)
    if kind == "time":
        moment = "TIMESTAMPTZ" if is_text(found) or getattr(found, "tz", None) else "TIMESTAMP"
        return f"epoch_us(TRY_CAST({column} AS {moment}))"
    if kind == "number":
        return f"nullif(TRY_CAST({column} AS DOUBLE), 'NaN'::DOUBLE)"
    if kind == "integer" or (kind == "id" and not is_text(found)):
        return f"TRY_CAST({column} AS BIGINT)"
    if pa.types.is_list(found) or pa.types.is_large_list(found):
        return f"nullif(array_to_string({column}, ', '), '')"
    return f"nullif(CAST({column} AS VARCHAR), '')"


def _probes(
    table: str, schema: pa.Schema, columns: Mapping[str, str]
) -> list[tuple[str, str, str, str]]:
    """List (fault, column, SQL of the rows that have it, SQL of an example) to be counted."""
    probes = []
    for ours, theirs in columns.items():
        kind, found, raw = TABLES[table][ours], schema.field(theirs).type, _quote(theirs)
        text = f"CAST({raw} AS VARCHAR)"
        typed = _typed(theirs, kind, schema)
        if kind == "id":
            others = [_quote(c) for c in columns.values() if c != theirs][:2]
            row = " || ', ' || ".join(
                f"{_literal(c[1:-1] + '=')} || coalesce(CAST({c} AS VARCHAR), '')" for c in others
            )
            probes.append(("has no id", ours, f"{typed} IS NULL", row or "''"))
        elif kind in ("time", "number", "integer") and is_text(value_type(found)):
            bad = f"trim({text}) <> '' AND {typed} IS NULL"
            probes.append(("cannot be parsed", ours, bad, text))
        if kind == "time" and not getattr(found, "tz", None):
            naive = f"{typed} IS NOT NULL"
            if is_text(value_type(found)):
                zone = r"\d:\d\d.*(Z|UTC|[+-]\d\d(:?\d\d)?)$"
                naive += f" AND NOT regexp_matches({text}, '{zone}')"
            probes.append(("has no time zone", ours, naive, text))
    return probes


def _count(
    con: duckdb.DuckDBPyConnection,
    table: str,
    source: str,
    probes: list[tuple[str, str, str, str]],
    also: str = "count(*)",
) -> tuple[list[Fault], Any]:
    """Count all probes in one pass; examples are the smallest, so they do not change by run."""
    parts = [also]
    for _, _, rows, example in probes:
        parts += [f"count(*) FILTER ({rows})", f"min({example}) FILTER ({rows})"]
    [(first, *found)] = con.execute(f"SELECT {', '.join(parts)} FROM {source}").fetchall()
    faults = [
        Fault(kind, table, column, found[2 * i], str(found[2 * i + 1]))
        for i, (kind, column, _, _) in enumerate(probes)
        if found[2 * i]
    ]
    return faults, first


def _read_items(
    con: duckdb.DuckDBPyConnection, schema: pa.Schema, columns: dict[str, str], text: list[str]
) -> tuple[pa.Table, list[Fault]]:
    """Read the catalogue into memory, cleaned, item_id ascending; row = item code."""
    faults, _ = _count(con, "items", "items_given", _probes("items", schema, columns))
    kinds = TABLES["items"]
    ours = [f"{_typed(c, kinds[name], schema)} AS {name}" for name, c in columns.items()]
    extra = [f"{_typed(c, 'text', schema)} AS text{i}" for i, c in enumerate(text)]
    query = f"SELECT DISTINCT {', '.join(ours + extra)} FROM items_given ORDER BY ALL"
    table = con.sql(query).to_arrow_table()
    ids = table["item_id"].drop_null().value_counts()
    twice = [pair["values"] for pair in ids.to_pylist() if pair["counts"] > 1]
    if twice:
        kind = "has other contents for the same id"
        faults.append(Fault(kind, "items", "item_id", len(twice), str(twice[0])))
    if len(ids) < 2:
        found = f"{len(ids)} found"
        faults.append(Fault("has fewer than 2 different ids", "items", "item_id", example=found))
    nothing = pa.nulls(len(table))
    names = table.column_names
    lists = {columns.get("category"), *text} - {
        columns.get(name) for name in ("title", "brand", "description")
    }
    clean = [
        (clean_list if c in lists else clean_text)(table[f"text{i}"]) for i, c in enumerate(text)
    ]
    items = {
        "item_id": table["item_id"],
        "title": clean_text(table["title"]),
        "text": join_text(clean),
        "category": clean_list(table["category"]) if "category" in names else nothing,
        "brand": clean_text(table["brand"]) if "brand" in names else nothing,
        "price": table["price"] if "price" in names else nothing,
        "available_from": table["available_from"] if "available_from" in names else nothing,
        "available_until": table["available_until"] if "available_until" in names else nothing,
    }
    stored = {"price": pa.float32(), "available_from": pa.timestamp("us", "UTC")}
    stored["available_until"] = stored["available_from"]
    stored |= dict.fromkeys(("title", "text", "category", "brand"), pa.large_string())
    for name, kind in stored.items():
        column: Any = items[name]
        items[name] = column.cast(pa.int64()).cast(kind) if "avail" in name else column.cast(kind)
    silent = pc.equal(items["text"], "")
    n_silent = pc.sum(silent).as_py() or 0
    if n_silent:
        example = str(table["item_id"].filter(silent)[0])
        faults.append(Fault("has no text", "items", "text", n_silent, example))
    return pa.table(items), faults


def _choose_protocol(
    con: duckdb.DuckDBPyConnection, asked: str, schema: pa.Schema, columns: dict[str, str]
) -> tuple[Protocol, list[Fault]]:
    has_time, has_order = "timestamp" in columns, "order_index" in columns
    protocol: Protocol = "leave_last_out" if asked == "leave_last_out" else "time"
    if asked == "auto" and has_time:
        typed = _typed(columns["timestamp"], "time", schema)
        query = f"SELECT count({typed}), count(*) FROM events_given"
        [(given, rows)] = con.execute(query).fetchall()
        protocol = "time" if 2 * given >= rows else "leave_last_out"
    elif asked == "auto":
        protocol = "leave_last_out"
    if has_time or (has_order and protocol == "leave_last_out"):
        return protocol, []
    found = "no order_index either" if not has_order else "an order_index is there: set protocol"
    return protocol, [Fault("is missing", "events", "timestamp", example=found)]


def _typed_events(
    schema: pa.Schema, columns: dict[str, str], config: DataConfig, protocol: Protocol
) -> str:
    """SELECT of the events in our types, with the sort key `moment`, `grade` and `weight`."""
    kinds = TABLES["events"]
    sql = {name: _typed(theirs, kinds[name], schema) for name, theirs in columns.items()}
    order = sql.get("order_index") if protocol == "leave_last_out" else None
    moment = order or sql.get("timestamp", "NULL::BIGINT")
    kind = f"coalesce({sql['event_type']}, 'event')" if "event_type" in sql else "'event'"
    grade, weight = _case(config, "grade", "TINYINT"), _case(config, "weight", "FLOAT")
    optional = {"value": "DOUBLE", "price": "DOUBLE", "session_id": "VARCHAR",
                "request_id": "VARCHAR", "position": "BIGINT"}  # fmt: skip
    rest = [f"{sql.get(name, f'NULL::{null}')} AS {name}" for name, null in optional.items()]
    return (
        f"SELECT *, {grade} AS grade, {weight} AS weight FROM (SELECT {sql['user_id']} AS user_id, "
        f"{moment} AS moment, {sql['item_id']} AS item_id, {kind} AS event_type, "
        f"{', '.join(rest)} FROM events_given)"
    )


def _case(config: DataConfig, name: str, kind: str) -> str:
    """SQL of the grade or weight by the first rule that holds, NULL where none does."""
    if not config.event_types:
        return f"1::{kind}"
    branches = []
    for event_type, rules in config.event_types.items():
        for rule in rules:
            floor = "" if rule.min_value is None else f" AND value >= {rule.min_value!r}::DOUBLE"
            when = f"event_type = {_literal(event_type)}{floor}"
            branches.append(f"WHEN {when} THEN {getattr(rule, name)!r}")
    return f"CAST(CASE {' '.join(branches)} END AS {kind})"


def _count_events(
    con: duckdb.DuckDBPyConnection,
    typed: str,
    items: pa.Table | None,
    schema: pa.Schema,
    columns: dict[str, str],
    config: DataConfig,
) -> tuple[int, Counter[str], list[Fault]]:
    """Count the faults of the events and the rows that will be dropped, by reason."""
    faults, n_rows = _count(con, "events", "events_given", _probes("events", schema, columns))
    known = "TRUE"
    if items is not None:
        events_kind = value_type(schema.field(columns["item_id"]).type)
        same = is_text(events_kind) == is_text(items.schema.field("item_id").type)
        if not same:
            found = f"{events_kind} here, {items.schema.field('item_id').type} in items"
            kind = "has another type than items.item_id"
            faults.append(Fault(kind, "events", "item_id", example=found))
        else:
            codes = pa.array(np.arange(len(items), dtype=np.int32))
            con.register("codes", pa.table({"item_id": items["item_id"], "item_code": codes}))
            known = "item_code IS NOT NULL"
    source = f"({typed})" + (" LEFT JOIN codes USING (item_id)" if known != "TRUE" else "")
    no_time, unknown = "moment IS NULL", f"moment IS NOT NULL AND NOT ({known})"
    no_rule = f"moment IS NOT NULL AND {known} AND grade IS NULL"
    probes = [
        ("has no time", "timestamp", no_time, "CAST(user_id AS VARCHAR)"),
        ("is not in items", "item_id", unknown, "CAST(item_id AS VARCHAR)"),
        ("matches no rule of data.event_types", "event_type", no_rule, "event_type"),
    ]
    also = "{'types': histogram(event_type), 'few': min(user_id) IS NOT DISTINCT FROM max(user_id)}"
    found_faults, also_found = _count(con, "events", source, probes, also)
    dropped = Counter({f.kind: f.rows for f in found_faults})
    if also_found["few"]:
        one = "all rows have the same user"
        faults.append(Fault("has fewer than 2 different ids", "events", "user_id", example=one))
    if sum(dropped.values()) == n_rows:
        faults.append(Fault("has no event left", "events", example=str(dict(dropped))))
    faults += _type_faults(also_found["types"], columns, config)
    return n_rows, dropped, faults + found_faults


def _type_faults(
    types: Mapping[str, int], columns: dict[str, str], config: DataConfig
) -> list[Fault]:
    rules = [rule for some in config.event_types.values() for rule in some]
    faults = []
    if any(rule.min_value is not None for rule in rules) and "value" not in columns:
        faults.append(Fault("is compared by data.event_types but missing", "events", "value"))
    if config.event_types:
        unknown = {name: n for name, n in types.items() if name not in config.event_types}
        if unknown:
            names = ", ".join(sorted(unknown)[:10])
            kind, rows = "has types without a grade", sum(unknown.values())
            faults.append(Fault(kind, "events", "event_type", rows, names))
    elif "event_type" in columns:
        names = ", ".join(sorted(types)[:10])
        kind = "has types but no data.event_types"
        faults.append(Fault(kind, "events", "event_type", sum(types.values()), names))
    return faults


def _count_users(con: duckdb.DuckDBPyConnection, schema: pa.Schema, name: str) -> list[Fault]:
    return _count(con, "users", "users_given", _probes("users", schema, {"user_id": name}))[0]


# ----------------------------------------------------------------------------------------- writing


@dataclass
class _Totals:
    """Sums over buckets."""

    users: int = 0
    events: int = 0
    copies: int = 0
    content: int = 0  # sum of row hashes modulo 2**64: does not depend on the order of rows
    types: Counter[str] = field(default_factory=Counter)
    taken: Counter[int] = field(default_factory=Counter)  # day or position -> events, grade > 0
    again: Counter[int] = field(default_factory=Counter)  # of these: the user had the item before
    span: tuple[int, int] = (ALWAYS_UNTIL, ALWAYS_FROM)


def _write(
    con: duckdb.DuckDBPyConnection,
    work: Path,
    checked: _Checked,
    config: DataConfig,
    share: float,
    stamps: str | None,
    say: Say,
) -> Manifest:
    """Write items, users and buckets into `work`; return the manifest."""
    dated = checked.protocol == "time"
    pq.write_table(checked.items, work / "items.parquet", compression="zstd")
    n_buckets = max(1, -(-checked.n_rows // config.bucket_rows))
    split = work / "split"
    con.execute(
        f"COPY (SELECT * EXCLUDE (item_id), md5_number_lower(CAST(user_id AS VARCHAR)) "
        f"% {n_buckets} AS bucket FROM ({checked.typed}) JOIN codes USING (item_id) "
        f"WHERE moment IS NOT NULL AND grade IS NOT NULL) "
        f"TO {_literal(str(split))} (FORMAT parquet, PARTITION_BY (bucket))"
    )
    (work / "events").mkdir()
    totals = _Totals()
    writer = None
    for i in range(n_buckets):
        parts = split / f"bucket={i}"
        users = _write_bucket(con, work, parts, i, dated, len(checked.items), totals)
        if users is not None:
            writer = writer or pq.ParquetWriter(work / "users.parquet", users.schema)
            writer.write_table(users)
        shutil.rmtree(parts, ignore_errors=True)
        say(f"bucket {i + 1} of {n_buckets}: {totals.events:,} events so far")
    if writer is not None:
        writer.close()
    shutil.rmtree(split, ignore_errors=True)
    days = np.array(sorted(totals.taken))
    taken = np.array([totals.taken[d] for d in days])
    windows = cut_windows(days, taken, share) if dated else LEAVE_LAST_OUT
    before = days < windows.ranker // windows.unit
    again = sum(totals.again[d] for d in days[before])
    copies = {"is an exact copy of another row": totals.copies} if totals.copies else {}
    warnings = checked.warnings + check_tables(
        [Fault(kind, "events", rows=n) for kind, n in copies.items()], {}
    )
    return Manifest(
        version=VERSION,
        fingerprint=_fingerprint(checked.items, totals, windows, checked.protocol),
        inputs=stamps,
        protocol=checked.protocol,
        dated=dated,
        windows=windows,
        n_users=totals.users,
        n_items=len(checked.items),
        n_events=totals.events,
        n_buckets=n_buckets,
        n_rows=checked.n_rows,
        dropped=checked.dropped | copies,
        event_types=dict(sorted(totals.types.items())),
        first_moment=totals.span[0],
        last_moment=totals.span[1],
        repeat_share=float(again / max(1, taken[before].sum())),
        columns_used=checked.columns,
        text_columns=checked.text,
        warnings=warnings,
    )


def _write_bucket(
    con: duckdb.DuckDBPyConnection,
    work: Path,
    parts: Path,
    i: int,
    dated: bool,
    n_items: int,
    totals: _Totals,
) -> pa.Table | None:
    """Sort one bucket, write it, add to the totals; return its rows of the user table."""
    files = sorted(str(path) for path in parts.glob("*.parquet"))
    if not files:
        _write_events(work, i, np.empty(0, np.int64), np.empty(0, np.int64), None)
        return None
    columns = "user_id, moment, item_code, event_type, value, price, session_id, request_id, position, grade, weight"
    texts = ", ".join(
        f"coalesce(CAST({c} AS VARCHAR), '')"
        for c in columns.replace("value", "CAST(value AS FLOAT)")
        .replace("price", "CAST(price AS FLOAT)")
        .split(", ")
    )
    rows = con.sql(
        f"SELECT *, md5_number_lower(concat_ws('|', {texts})) AS content FROM (SELECT DISTINCT "
        f"{columns} FROM read_parquet(?, hive_partitioning = false)) ORDER BY ALL",
        params=[files],
    ).to_arrow_table()
    n_given = sum(pq.ParquetFile(path).metadata.num_rows for path in files)
    runs: Any = pc.run_end_encode(rows["user_id"].combine_chunks(), run_end_type=pa.int64())
    indptr = np.concatenate([[0], runs.run_ends.to_numpy()])
    n_users, lengths = len(runs.values), np.diff(indptr)
    row = np.repeat(np.arange(n_users), lengths)
    item, grade = rows["item_code"].to_numpy(), rows["grade"].to_numpy()
    moment = rows["moment"].to_numpy() if dated else _positions(grade, indptr)
    _write_events(work, i, totals.users + row, moment, rows)
    _add(totals, row, item, moment, grade, n_items, dated)
    for pair in rows["event_type"].value_counts().to_pylist():
        totals.types[pair["values"]] += pair["counts"]
    totals.content += int(rows["content"].to_numpy().sum(dtype=np.uint64))
    totals.copies += n_given - len(rows)
    codes = np.arange(totals.users, totals.users + n_users)
    totals.users, totals.events = totals.users + n_users, totals.events + len(rows)
    bucket = np.full(n_users, i, np.int32)
    return pa.table(
        {"user_code": codes, "user_id": runs.values, "bucket": bucket, "n_events": lengths}
    )


def _positions(grade: np.ndarray, indptr: np.ndarray) -> np.ndarray:
    """(n_events,) int64: -1 for the last event of grade > 0 of each user, -2 before it, ..."""
    taken = np.concatenate([[0], np.cumsum(grade > 0)])  # so far, over all users
    so_far, at_end = taken[1:], np.repeat(taken[indptr[1:]], np.diff(indptr))
    return so_far - at_end - 1


def _add(
    totals: _Totals,
    row: np.ndarray,
    item: np.ndarray,
    moment: np.ndarray,
    grade: np.ndarray,
    n_items: int,
    dated: bool,
) -> None:
    unit = Windows(0, 0, 0, 0, dated).unit
    mask = grade > 0
    pair, when = (row * n_items + item)[mask], moment[mask]
    _, first, inverse = np.unique(pair, return_index=True, return_inverse=True)
    again = when > when[first][inverse]  # rows are sorted by moment: the first is the earliest
    for counter, moments in ((totals.taken, when), (totals.again, when[again])):
        days, counts = np.unique(moments // unit, return_counts=True)
        counter.update(dict(zip(days.tolist(), counts.tolist(), strict=True)))
    low, high = totals.span
    totals.span = min(low, int(moment.min())), max(high, int(moment.max()))


def _write_events(
    work: Path, i: int, user: np.ndarray, moment: np.ndarray, rows: pa.Table | None
) -> None:
    columns = {
        "item_code": pa.int32(),
        "grade": pa.int8(),
        "weight": pa.float32(),
        "price": pa.float32(),
        "event_type": pa.string(),
        "value": pa.float32(),
    }
    rest = {
        name: pa.array([], kind) if rows is None else rows[name].cast(kind)
        for name, kind in columns.items()
    }
    rest["event_type"] = rest["event_type"].dictionary_encode()
    table = pa.table({"user_code": user, "moment": moment} | rest)
    order = ["user_code", "item_code", "moment", "grade", "weight", "price", "event_type", "value"]
    pq.write_table(table.select(order), _bucket_path(work, i), compression="zstd")


def _bucket_path(folder: Path, i: int) -> Path:
    return folder / "events" / f"bucket-{i:05d}.parquet"


# ------------------------------------------------------------------------- folders and fingerprints


@contextmanager
def _new_folder(target: Path) -> Iterator[Path]:
    """Give an empty folder beside `target` that takes its place if all goes well."""
    target.parent.mkdir(parents=True, exist_ok=True)
    work = Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=target.parent))
    try:
        yield work
        work.chmod(0o755)
        if target.exists():
            old = Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=target.parent))
            target.rename(old / "old")
            work.rename(target)
            shutil.rmtree(old)
        else:
            work.rename(target)
    finally:
        shutil.rmtree(work, ignore_errors=True)


@contextmanager
def _database(work: Path, memory_limit: str) -> Iterator[duckdb.DuckDBPyConnection]:
    con = duckdb.connect(":memory:")
    try:
        con.execute("SET TimeZone = 'UTC'")
        con.execute(f"SET memory_limit = {_literal(memory_limit)}")
        con.execute(f"SET temp_directory = {_literal(str(work / 'spill'))}")
        yield con
    finally:
        con.close()
        shutil.rmtree(work / "spill", ignore_errors=True)


def _inputs(
    sources: Mapping[str, Any], config: DataConfig, protocol: str, share: float
) -> str | None:
    """Hash the files (path, size, time of change) and settings; None if a table is in memory."""
    try:
        stamps = {name: stamp(source) for name, source in sources.items()}
    except SchemaError:  # will be worded with all other problems
        return None
    if None in stamps.values():
        return None
    settings = config.model_dump(mode="json", exclude={"memory_limit", "events", "items", "users"})
    text = json.dumps([VERSION, stamps, settings, protocol, share], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def _fingerprint(items: pa.Table, totals: _Totals, windows: Windows, protocol: str) -> str:
    digest = hashlib.sha256(repr((VERSION, protocol, windows, totals.events)).encode())
    digest.update((totals.content % 2**64).to_bytes(8, "big"))
    for name in items.column_names:
        for value in items[name].to_pylist():
            digest.update(f"{value!r}\n".encode())
    return digest.hexdigest()


def _array(column: pa.ChunkedArray) -> np.ndarray:
    return np.asarray(column.to_numpy(zero_copy_only=False))


def _codes(column: pa.ChunkedArray) -> np.ndarray:
    """(n,) int32: the rank of each value among the distinct ones, -1 for none."""
    values = _array(pc.fill_null(column, ""))
    names = np.unique(values)
    codes = np.searchsorted(names, values).astype(np.int32)
    return np.asarray(np.where(values == "", -1, codes - (names[:1] == "").sum()), np.int32)
