"""Raw tables become one prepared folder that every later stage reads.

Ids become codes, times become moments, event types become grades, and events are laid out by
bucket of users, so that all later per-user work holds one bucket in memory. DuckDB does the part
that may be larger than memory: it splits the log into buckets on disk, then sorts one at a time.
The manifest is written last and the folder appears by one rename: there is no half of one.

    items.parquet                row = item code: item_id ascending, title, text, category, ...
    users.parquet                row = user code: user_code, user_id, bucket, n_events
    events/bucket-00000.parquet  sorted by (user_code, moment, item_code, event_type)
    manifest.json

Moments under `time` are microseconds UTC. Under `leave_last_out` the n events with a grade above 0
of a user, in order of (order_index or else timestamp, item_id), are at -n .. -1. An event of grade
0 takes the moment of the one before it (-n - 1 if there is none): strictly before the request it
precedes, and never before one that it follows.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
import pyarrow.parquet as pq
from pydantic import BaseModel, ConfigDict, ValidationError

from recsys.dataset import ALWAYS_FROM, ALWAYS_UNTIL, DAY, Items, Log
from recsys.errors import ConfigError, SchemaError
from recsys.reading import (
    Probe,
    column_probes,
    events_sql,
    literal,
    open_table,
    stamp,
    typed_sql,
)
from recsys.schema import (
    TABLES,
    Column,
    DataConfig,
    Fault,
    Table,
    check_tables,
    clean_items,
    clean_list,
    clean_text,
    file_names,
    is_text,
    match_columns,
    match_event_types,
    text_columns,
)
from recsys.split import LEAVE_LAST_OUT, Windows, cut_windows

VERSION = 1  # of the layout; a folder of another version is prepared anew
COPIES = "is an exact copy of another row"
Protocol = Literal["time", "leave_last_out"]
Say = Callable[[str], None]


class Manifest(BaseModel):
    """What a prepared folder holds and where it came from."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    version: int
    fingerprint: str  # of the content: the same for the same data in any form, order or bucketing
    inputs: str | None  # of files and settings, to reuse the folder; None: a table was in memory
    protocol: Protocol
    windows: Windows
    n_users: int
    n_items: int
    n_events: int
    n_buckets: int
    n_rows: int  # of the events table as given = n_events + all of `dropped`
    dropped: dict[str, int]  # reason -> rows
    event_types: dict[str, int]  # type -> events
    first_moment: int
    last_moment: int
    repeat_share: float  # of grade > 0 events before the ranker window: user had the item before
    columns_used: dict[str, dict[str, str]]  # table -> {ours: the file's}
    text_columns: tuple[str, ...]
    warnings: tuple[str, ...]

    @property
    def dated(self) -> bool:
        return self.windows.dated


@dataclass(frozen=True)
class Prepared:
    """A prepared folder, opened."""

    folder: Path
    manifest: Manifest
    reused: bool = False  # `prepare` found it there, finished, and did nothing

    @property
    def windows(self) -> Windows:
        return self.manifest.windows

    @property
    def n_buckets(self) -> int:
        return self.manifest.n_buckets

    def items(self) -> Items:
        """Read the catalogue; without dates, every item is always available."""
        table: Table = pq.read_table(self.folder / "items.parquet")
        moments = []
        for name, always in (("available_from", ALWAYS_FROM), ("available_until", ALWAYS_UNTIL)):
            known = pc.fill_null(table[name].cast(pa.int64()), always).to_numpy()
            moments.append(known if self.manifest.dated else np.full(len(table), always))
        ids, title, text = (_array(table[name]) for name in ("item_id", "title", "text"))
        category, brand = (_codes(table[name]) for name in ("category", "brand"))
        price = pc.fill_null(table["price"], np.nan).to_numpy()
        return Items(ids, title, text, category, brand, price, *moments)

    def user_ids(self) -> np.ndarray:
        """Return the (n_users,) ids by user code: object (str) or int64."""
        return _array(pq.read_table(self.folder / "users.parquet", columns=["user_id"])["user_id"])

    def bucket(self, i: int) -> Log:
        """Read the events of bucket `i`."""
        names = ["user_code", "item_code", "moment", "grade", "weight", "price"]
        table: Table = pq.read_table(_bucket_path(self.folder, i), columns=names)
        user, item, moment, grade, weight = (table[name].to_numpy() for name in names[:5])
        starts = np.flatnonzero(np.diff(user, prepend=-1))
        indptr = np.append(starts, len(user)).astype(np.int64)
        price = pc.fill_null(table["price"], np.nan).to_numpy()
        return Log(user[starts], indptr, item, moment, grade, weight, price)

    def buckets(self) -> Iterator[Log]:
        """Read one bucket after the other; user codes ascend from each to the next."""
        return (self.bucket(i) for i in range(self.n_buckets))

    def logs(self) -> list[Log]:
        """Read all buckets, for data that fits in memory."""
        return list(self.buckets())


def open_prepared(folder: str | Path) -> Prepared:
    """Open a folder that `prepare` has finished.

    Raises:
        ConfigError: there is no finished folder of this version.
    """
    path = Path(folder) / "manifest.json"
    if not path.is_file():
        raise ConfigError(f"{folder}: no manifest.json, so nothing is prepared; run prepare first")
    try:
        content = json.loads(path.read_text())
        if content.get("version") == VERSION:
            return Prepared(Path(folder), Manifest.model_validate(content))
        found = f"version {content.get('version')}"
    except (ValueError, ValidationError, AttributeError):
        found = "something else"
    raise ConfigError(f"{path}: expected a manifest of version {VERSION}, found {found}; "
                      "run prepare again")  # fmt: skip


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
    """Check the tables and write the prepared folder, or reuse it if nothing has changed.

    Args:
        events, items, users: path, URI or table in memory, see `recsys.reading.open_table`. Of
            the users table only the ids are checked, nothing is kept yet.
        folder: appears whole or not at all; a prepared folder that is there is replaced.
        config: how to read the tables; the paths in it are not looked at.
        protocol: "auto" is "time" where at least half of the events have a timestamp.
        share: of the events, for each of the ranker, valid and test windows.
        progress: called with a line of text after each step.

    Raises:
        SchemaError: the tables break their contract; all problems are in the one message.
        ConfigError: the folder holds something else, or the log is too short for four windows.
    """
    say = progress or (lambda line: None)
    target = Path(folder).absolute()
    sources = {"events": events, "items": items} | ({} if users is None else {"users": users})
    inputs = _inputs(sources, config, protocol, share)
    found = _finished(target) if inputs else None
    if found is not None and found.manifest.inputs == inputs:
        say(f"reused {target}: same files, same settings")
        return replace(found, reused=True)
    with _new_folder(target) as work, _database(work, config.memory_limit) as con:
        checked = _check(con, sources, config, protocol)
        say(f"checked {checked.n_rows:,} events of {len(checked.items):,} items")
        pq.write_table(checked.items, work / "items.parquet", compression="zstd")
        n_buckets = -(-checked.n_rows // config.bucket_rows)
        totals = _write_events(con, work, checked, n_buckets, say)
        manifest = _manifest(checked, totals, n_buckets, share, inputs)
        (work / "manifest.json").write_text(manifest.model_dump_json(indent=1))
    return open_prepared(target)


# --- checking: everything wrong is found before anything is written ------------------------------


@dataclass(frozen=True)
class _Checked:
    """Tables that can be prepared: items in memory, events as SQL over wherever they are."""

    items: Table
    events: str  # SELECT of `events_sql`
    n_rows: int
    protocol: Protocol
    dropped: dict[str, int]
    columns: dict[str, dict[str, str]]
    text: list[str]
    warnings: list[str]
    source: str  # of the events, for messages


def _check(
    con: duckdb.DuckDBPyConnection, sources: Mapping[str, Any], config: DataConfig, asked: str
) -> _Checked:
    """Open the tables, find every fault, and raise them all or go on."""
    names = {k: str(v) if isinstance(v, str | Path) else "in memory" for k, v in sources.items()}
    schemas: dict[str, pa.Schema] = {}
    columns: dict[str, dict[str, str]] = {}
    faults: list[Fault] = []
    text: list[str] = []
    for name in sorted(sources, key=["items", "users", "events"].index):
        table, found = _open(name, sources[name], config)
        if table is not None:
            columns[name], found = match_columns(name, table.schema, config)
            if name == "items":
                text, missing = text_columns(config, columns[name], table.schema)
                found = found + missing
            if not found:
                schemas[name] = table.schema
                con.register(f"{name}_given", table)
        faults += found
    items, events, n_rows = None, "", 0
    protocol: Protocol = "time"
    dropped: dict[str, int] = {}
    for name, schema in schemas.items():  # the events last: they are compared with the items
        try:
            given = f"{name}_given"
            time = columns[name].get("timestamp") if name == "events" else None
            timed = f"count({typed_sql(time, 'time', schema)})" if time else "0"
            probes = column_probes(name, schema, columns[name])
            found, (n_rows, n_timed) = _count(con, name, given, probes, ["count(*)", timed])
            faults += found
            if name == "items":
                items, found = _read_items(con, schema, columns[name], text)
            elif name == "events":
                protocol, found = _choose_protocol(asked, columns[name], 2 * n_timed >= n_rows)
                by_order = protocol == "leave_last_out"
                events = events_sql(schema, columns[name], config, by_order)
                dropped, more = _count_events(con, events, items, columns[name], config)
                found = found + more
            faults += found
        except (duckdb.Error, pa.ArrowException) as error:
            if isinstance(error, duckdb.OutOfMemoryException):
                raise
            faults.append(Fault("cannot be read", name, example=str(error).splitlines()[0]))
    if "users" in schemas:
        faults.append(Fault("is read by nothing yet", "users"))
    warnings = check_tables(faults, names)
    assert items is not None  # else check_tables has raised
    return _Checked(items, events, n_rows, protocol, dropped, columns, text, warnings,
                    names["events"])  # fmt: skip


def _open(name: str, source: Any, config: DataConfig) -> tuple[ds.Dataset | None, list[Fault]]:
    numbers = [c for c, kind in TABLES[name].items() if kind == "number"]
    try:
        table = open_table(source, {n for c in numbers for n in file_names(name, c, config)})
        if table.head(1).num_rows:
            return table, []
    except (SchemaError, pa.ArrowException, OSError) as error:
        return None, [Fault("cannot be read", name, example=str(error).splitlines()[0])]
    return None, [Fault("has no rows", name)]


def _count(
    con: duckdb.DuckDBPyConnection,
    table: str,
    source: str,
    probes: Sequence[Probe],
    more: Sequence[str] = ("count(*)",),
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


def _read_items(
    con: duckdb.DuckDBPyConnection, schema: pa.Schema, columns: dict[str, str], text: list[str]
) -> tuple[Table, list[Fault]]:
    """Read the catalogue into memory, cleaned, item_id ascending: row = item code."""
    kinds = TABLES["items"]
    select = [f"{typed_sql(theirs, kinds[c], schema)} AS {c}" for c, theirs in columns.items()]
    select += [f"{typed_sql(c, 'text', schema)} AS text{i}" for i, c in enumerate(text)]
    query = f"SELECT DISTINCT {', '.join(select)} FROM items_given ORDER BY ALL"
    table: Table = con.sql(query).to_arrow_table()
    prose = {columns.get(name) for name in ("title", "brand", "description")}
    fields = [
        (clean_text if c in prose else clean_list)(table[f"text{i}"]) for i, c in enumerate(text)
    ]
    items = clean_items(table, fields)
    faults = []
    ids = table["item_id"].drop_null().value_counts()
    twice = ids.field("values").filter(pc.greater(ids.field("counts"), pa.scalar(1)))
    if len(twice):
        kind = "has other contents for the same id"
        faults.append(Fault(kind, "items", "item_id", len(twice), str(twice[0])))
    if len(ids) < 2:
        kind = "has fewer than 2 different ids"
        faults.append(Fault(kind, "items", "item_id", example=f"{len(ids)} found"))
    silent = items.filter(pc.equal(items["text"], pa.scalar("", pa.large_string())))["item_id"]
    if len(silent):
        faults.append(Fault("has no text", "items", "", len(silent), str(silent[0])))
    return items, faults


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
    events: str,
    items: Table | None,
    columns: dict[str, str],
    config: DataConfig,
) -> tuple[dict[str, int], list[Fault]]:
    """Count the rows that will be dropped, each under the first reason that holds."""
    known = "TRUE"
    faults: list[Fault] = []
    if items is not None:
        here = con.sql(f"SELECT item_id FROM ({events}) LIMIT 1").to_arrow_table().schema.types[0]
        there = items.schema.field("item_id").type
        if is_text(here) == is_text(there):
            code = pa.array(np.arange(len(items), dtype=np.int32))
            codes: Any = {"item_id": items["item_id"], "item_code": code}
            con.register("codes", pa.table(codes))
            events, known = f"{events} LEFT JOIN codes USING (item_id)", "item_code IS NOT NULL"
        else:
            kind = "has another type than items.item_id"
            faults.append(Fault(kind, "events", "item_id", example=f"{here} here, {there} there"))
    timed = "moment IS NOT NULL"
    kept = f"{timed} AND {known} AND grade IS NOT NULL"
    no_rule = f"{timed} AND {known} AND grade IS NULL"
    drops = [
        ("has no time", "", "moment IS NULL", "CAST(user_id AS VARCHAR)"),
        ("is not in items", "item_id", f"{timed} AND NOT ({known})", "CAST(item_id AS VARCHAR)"),
        ("matches no rule of data.event_types", "event_type", no_rule, "event_type"),
    ]
    several = f"min(user_id) FILTER ({kept}) <> max(user_id) FILTER ({kept})"
    more = ["count(*)", f"count(*) FILTER ({kept})", several, "histogram(event_type)"]
    dropped, (n_rows, n_kept, several_users, types) = _count(
        con, "events", f"({events})", drops, more
    )
    unknown = match_event_types(types, columns, config)
    faults += dropped + unknown
    if not n_kept and not unknown:
        reasons = ", ".join(f"{f.rows:,} {f.kind}" for f in dropped)
        faults.append(Fault("has no event left", "events", example=f"of {n_rows:,}: {reasons}"))
    elif n_kept and not several_users:
        kind = "has fewer than 2 different ids"
        faults.append(Fault(kind, "events", "user_id", example=f"{n_kept:,} events of one user"))
    return {f.kind: f.rows for f in dropped}, faults


# --- writing: one bucket in memory at a time -----------------------------------------------------


@dataclass
class _Totals:
    """Sums over the buckets written so far."""

    users: int = 0
    events: int = 0
    copies: int = 0
    content: int = 0  # sum of row hashes modulo 2**64, so it does not depend on the order of rows
    types: Counter[str] = field(default_factory=Counter)
    taken: Counter[int] = field(default_factory=Counter)  # day or position -> events, grade > 0
    again: Counter[int] = field(default_factory=Counter)  # of these: the user had the item before
    first: int = ALWAYS_UNTIL
    last: int = ALWAYS_FROM


def _write_events(
    con: duckdb.DuckDBPyConnection, work: Path, checked: _Checked, n_buckets: int, say: Say
) -> _Totals:
    """Split the events into buckets on disk, then sort and write one after the other."""
    split = work / "split"
    events = (
        "SELECT * EXCLUDE (item_id), md5_number_lower(CAST(user_id AS VARCHAR)) AS content, "
        f"content % {n_buckets} AS bucket FROM ({checked.events}) JOIN codes USING (item_id) "
        "WHERE moment IS NOT NULL AND grade IS NOT NULL"
    )
    con.execute(f"COPY ({events}) TO {literal(str(split))} (FORMAT parquet, PARTITION_BY (bucket))")
    say(f"split into {n_buckets} buckets")
    (work / "events").mkdir()
    totals = _Totals()
    writer = None
    for i in range(n_buckets):
        files = [str(path) for path in (split / f"bucket={i}").glob("*.parquet")]
        source, limit = ("read_parquet(?)", "") if files else (f"({events})", "LIMIT 0")
        rows = con.sql(
            f"SELECT DISTINCT * EXCLUDE (bucket) FROM {source} "
            f"ORDER BY user_id, moment, item_code, event_type, value, price {limit}",
            params=[files] if files else [],
        ).to_arrow_table()
        totals.copies += sum(pq.read_metadata(path).num_rows for path in files) - len(rows)
        users = _write_bucket(work, i, rows, checked, totals)
        writer = writer or pq.ParquetWriter(work / "users.parquet", users.schema)
        writer.write_table(users)
        shutil.rmtree(split / f"bucket={i}", ignore_errors=True)
        say(f"bucket {i + 1} of {n_buckets}: {totals.events:,} events so far")
    if writer is not None:
        writer.close()
    shutil.rmtree(split)
    return totals


def _write_bucket(work: Path, i: int, rows: Table, checked: _Checked, totals: _Totals) -> Table:
    """Write the sorted rows of one bucket, add to the totals, return its part of the users."""
    runs: Any = pc.call_function("run_end_encode", [rows["user_id"].combine_chunks()])
    indptr = np.append(0, runs.run_ends.to_numpy()).astype(np.int64)
    n_users, lengths = len(runs.values), np.diff(indptr)
    row = np.repeat(np.arange(n_users), lengths)
    grade = rows["grade"].to_numpy()
    dated = checked.protocol == "time"
    moment = rows["moment"].to_numpy() if dated else _positions(grade, indptr)
    columns: Any = {
        "user_code": totals.users + row,
        "item_code": rows["item_code"].cast(pa.int32()),
        "moment": moment,
        "grade": grade,
        "weight": rows["weight"],
        "price": rows["price"].cast(pa.float32()),
        "event_type": rows["event_type"].dictionary_encode().combine_chunks(),
        "value": rows["value"].cast(pa.float32()),
    }
    table: Table = pa.table(columns)
    pq.write_table(table, _bucket_path(work, i), compression="zstd")
    taken = grade > 0
    pair = row * len(checked.items) + table["item_code"].to_numpy()
    _count_taken(totals, pair[taken], moment[taken], DAY if dated else 1)
    types = rows["event_type"].value_counts().to_pylist()
    totals.types.update({pair["values"]: pair["counts"] for pair in types})
    totals.content = (totals.content + _content(rows["content"], table)) % 2**64
    if len(rows):
        totals.first = min(totals.first, int(moment.min()))
        totals.last = max(totals.last, int(moment.max()))
    codes = np.arange(totals.users, totals.users + n_users)
    totals.users, totals.events = totals.users + n_users, totals.events + len(rows)
    bucket = np.full(n_users, i, np.int32)
    users: Any = {"user_code": codes, "user_id": runs.values, "bucket": bucket, "n_events": lengths}
    return pa.table(users)


def _bucket_path(folder: Path, i: int) -> Path:
    return folder / "events" / f"bucket-{i:05d}.parquet"


def _positions(grade: np.ndarray, indptr: np.ndarray) -> np.ndarray:
    """(n_events,) int64 moments where only the order is known, see the top of this file."""
    taken = np.append(0, np.cumsum(grade > 0))  # up to and with each event, over all users
    at_end = np.repeat(taken[indptr[1:]], np.diff(indptr))
    return np.asarray(taken[1:] - at_end - 1, np.int64)


def _count_taken(totals: _Totals, pair: np.ndarray, moment: np.ndarray, unit: int) -> None:
    """Count what was taken by day, and how much of it the user had taken strictly before.

    Args:
        totals: counted into.
        pair: (n_taken,) int64, one number for each (user, item).
        moment: (n_taken,) int64, ascending within a user.
        unit: what one "day" is, in moments.
    """
    _, first, inverse = np.unique(pair, return_index=True, return_inverse=True)
    again = moment > moment[first][inverse]
    for counter, moments in ((totals.taken, moment), (totals.again, moment[again])):
        days, counts = np.unique(moments // unit, return_counts=True)
        counter.update(dict(zip(days.tolist(), counts.tolist(), strict=True)))


def _content(user: Column, table: Table) -> int:
    """Hash each event by its user's id and all that is kept of it; return the sum modulo 2**64."""
    encoded: Any = table["event_type"].combine_chunks()
    names = [hashlib.md5(name.encode()).digest()[:8] for name in encoded.dictionary.to_pylist()]
    columns = [np.frombuffer(b"".join(names), np.uint64)[encoded.indices.to_numpy()]]
    columns += [table[n].to_numpy().astype(np.uint64) for n in ("item_code", "moment", "grade")]
    for name in ("weight", "price", "value"):
        number = pc.fill_null(table[name], np.nan).to_numpy()
        columns.append(number.view(np.uint32).astype(np.uint64))
    content = user.to_numpy().astype(np.uint64)
    for column in columns:  # the mixing steps of splitmix64
        content = (content ^ column) * np.uint64(0xBF58476D1CE4E5B9) + np.uint64(0x9E3779B97F4A7C15)
        content ^= content >> np.uint64(31)
    return int(content.sum(dtype=np.uint64))


def _manifest(
    checked: _Checked, totals: _Totals, n_buckets: int, share: float, inputs: str | None
) -> Manifest:
    days = np.array(sorted(totals.taken), np.int64)
    taken = np.array([totals.taken[day] for day in days.tolist()], np.int64)
    if not len(days):
        raise ConfigError("events: all have grade 0; data.event_types must give one type grade 1")
    dated = checked.protocol == "time"
    windows = cut_windows(days, taken, share) if dated else LEAVE_LAST_OUT
    early = days < windows.ranker // windows.unit
    again = sum(totals.again[day] for day in days[early].tolist())
    copies = [Fault(COPIES, "events", rows=totals.copies)] if totals.copies else []
    return Manifest(
        version=VERSION,
        fingerprint=_fingerprint(checked, totals, windows),
        inputs=inputs,
        protocol=checked.protocol,
        windows=windows,
        n_users=totals.users,
        n_items=len(checked.items),
        n_events=totals.events,
        n_buckets=n_buckets,
        n_rows=checked.n_rows,
        dropped=checked.dropped | {fault.kind: fault.rows for fault in copies},
        event_types=dict(sorted(totals.types.items())),
        first_moment=totals.first,
        last_moment=totals.last,
        repeat_share=again / max(1, int(taken[early].sum())),
        columns_used=checked.columns,
        text_columns=tuple(checked.text),
        warnings=(*checked.warnings, *check_tables(copies, {"events": checked.source})),
    )


# --- folders and fingerprints --------------------------------------------------------------------


def _finished(folder: Path) -> Prepared | None:
    try:
        return open_prepared(folder)
    except ConfigError:
        return None


@contextmanager
def _new_folder(target: Path) -> Iterator[Path]:
    """Give an empty folder beside `target` that takes its place if all goes well.

    Raises:
        ConfigError: `target` is there and is no prepared folder, so it must not be replaced.
    """
    replaceable = (target / "manifest.json").is_file() or not target.exists()
    if not replaceable and not (target.is_dir() and not any(target.iterdir())):
        raise ConfigError(f"{target} exists and is no prepared folder; choose another place")
    target.parent.mkdir(parents=True, exist_ok=True)
    outer = Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=target.parent))
    work, old = outer / "new", outer / "old"
    work.mkdir()
    try:
        yield work
        if target.exists():
            target.rename(old)
        try:
            work.rename(target)
        except OSError:
            old.rename(target)
            raise
    finally:
        shutil.rmtree(outer, ignore_errors=True)


@contextmanager
def _database(work: Path, memory_limit: str) -> Iterator[duckdb.DuckDBPyConnection]:
    spill = work / "spill"
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
    shutil.rmtree(spill, ignore_errors=True)


def _inputs(
    sources: Mapping[str, Any], config: DataConfig, protocol: str, share: float
) -> str | None:
    """Hash the files (path, size, time of change) and settings; None if a table is in memory."""
    try:
        stamps = {name: stamp(source) for name, source in sources.items()}
    except SchemaError:  # to be reported with all other problems
        return None
    if None in stamps.values():
        return None
    settings = config.model_dump(mode="json", exclude={"events", "items", "users", "memory_limit"})
    text = json.dumps([VERSION, stamps, settings, protocol, share], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def _fingerprint(checked: _Checked, totals: _Totals, windows: Windows) -> str:
    """Hash what was prepared: the same data gives the same hash in any form, order or bucketing."""
    content = (VERSION, checked.protocol, windows, totals.events, totals.content)
    digest = hashlib.sha256(repr(content).encode())
    for column in checked.items.columns:
        if is_text(column.type):
            digest.update(pc.fill_null(pc.binary_length(column), -1).to_numpy().tobytes())
            digest.update("".join(pc.fill_null(column, "").to_pylist()).encode())
        else:
            whole = column.cast(pa.int64()) if pa.types.is_timestamp(column.type) else column
            always = np.nan if pa.types.is_floating(whole.type) else ALWAYS_UNTIL
            digest.update(pc.fill_null(whole, always).to_numpy().tobytes())
    return digest.hexdigest()


# --- arrays of a prepared folder -----------------------------------------------------------------


def _array(column: Column) -> np.ndarray:
    return np.asarray(column.to_numpy(zero_copy_only=False))


def _codes(column: Column) -> np.ndarray:
    """(n,) int32: the rank of each value among the distinct ones, -1 for null."""
    encoded: Any = column.combine_chunks().dictionary_encode()
    rank = np.empty(len(encoded.dictionary) + 1, np.int32)
    rank[pc.sort_indices(encoded.dictionary).to_numpy()] = np.arange(len(rank) - 1)
    rank[-1] = -1
    return np.asarray(rank[pc.fill_null(encoded.indices, -1).to_numpy()])
