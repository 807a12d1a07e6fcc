"""Raw tables become one prepared folder that every later stage reads.

Ids become codes, times become moments, event types become grades, and events are laid out by
bucket of users, so that all later per-user work holds one bucket in memory. DuckDB does the part
that may be larger than memory: it splits the log into buckets on disk, then sorts one at a time.
The manifest is written last and the folder appears by one rename: there is no half of one. What is
in it is said in `pipelines.prepared`.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pipelines.buckets import Totals, write_bucket
from pipelines.checking import Inputs, read_inputs
from pipelines.database import Database, open_database
from pipelines.prepared import VERSION, Manifest, Prepared, open_prepared
from recsys.dataset import ALWAYS_UNTIL
from recsys.errors import ConfigError, SchemaError
from recsys.queries import literal
from recsys.reading import stamp
from recsys.schema import DataConfig, Fault, Table, check_tables, is_text
from recsys.split import Windows, cut_windows, leave_last_out
from recsys.writing import sync, sync_all

COPIES = "is an exact copy of another row"
Say = Callable[[str], None]


def prepare(
    events: Any,
    items: Any,
    folder: str | Path,
    config: DataConfig,
    protocol: Literal["auto", "time", "leave_last_out"] = "auto",
    users: Any = None,
    share: float = 0.1,
    progress: Say | None = None,
    now: int | None = None,
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
        now: moment; events over a day later are refused. None = any are taken.

    Raises:
        SchemaError: the tables break their contract; all problems are in the one message.
        ConfigError: the folder holds something else, or the log is too short for four windows.
    """
    say = progress or (lambda line: None)
    target = Path(folder).absolute()
    sources = {"events": events, "items": items} | ({} if users is None else {"users": users})
    stamped = _stamped(sources, config, protocol, share)
    found = _finished(target) if stamped else None
    if found is not None and found.manifest.inputs == stamped:
        say(f"reused {target}: same files, same settings")
        return replace(found, reused=True)
    with (
        _new_folder(target) as work,
        open_database(work.parent / "spill", config.memory_limit) as con,
    ):
        inputs = read_inputs(con, sources, config, protocol, now)
        say(f"checked {inputs.checked.n_rows:,} events of {inputs.checked.n_items:,} items")
        pq.write_table(inputs.items, work / "items.parquet", compression="zstd")
        n_buckets = -(-inputs.checked.n_rows // config.bucket_rows)
        totals, dated = Totals(), inputs.checked.protocol == "time"
        rows = f"SELECT *, {SESSION} AS session FROM ({inputs.events})"
        write_events(con, work, rows, len(inputs.items), dated, n_buckets, totals, say)
        manifest = _manifest(inputs, totals, n_buckets, share, stamped)
        (work / "manifest.json").write_text(manifest.model_dump_json(indent=1))
    return open_prepared(target)


def remove_leftovers(folder: Path) -> None:
    """Remove what killed runs left beside a prepared folder; only for who holds the run folder."""
    target = folder.absolute()
    for one in target.parent.glob(f".{target.name}.*"):
        if one.is_dir() and {path.name for path in one.iterdir()} <= {"new", "old", "spill"}:
            shutil.rmtree(one, ignore_errors=True)


# Events of one moment have no order. That of their item ids would be one: where only the last few
# events count, it would always be the same items of a basket that do.
BASKET_ORDER = "md5_number_lower(concat_ws(' ', user_id, item_hash))"
# A session's number is a hash of its id: the same in any bucket, with no table of ids.
SESSION = "CAST(md5_number_lower(session_id) >> 1 AS BIGINT)"


def write_events(
    con: Database, work: Path, rows: str, n_items: int, dated: bool, n_buckets: int,
    totals: Totals, say: Say,
) -> None:  # fmt: skip
    """Split events into buckets on disk, then sort and write one after the other; write the users.

    Args:
        con: where the SQL holds.
        work: the folder being prepared.
        rows: SQL of the events as `pipelines.checking.Inputs` has them, with `session`.
        n_items: in the catalogue.
        dated: whether moments are times.
        n_buckets: how many to make.
        totals: what is counted on the way.
        say: progress.
    """
    split = work / "split"
    events = (
        "SELECT *, md5_number_lower(CAST(user_id AS VARCHAR)) AS content, "
        f"content % {n_buckets} AS bucket FROM ({rows})"
    )
    con.execute(f"COPY ({events}) TO {literal(str(split))} (FORMAT parquet, PARTITION_BY (bucket))")
    say(f"split into {n_buckets} buckets")
    (work / "events").mkdir()
    writer = None
    for i in range(n_buckets):
        files = [str(path) for path in (split / f"bucket={i}").glob("*.parquet")]
        source, limit = ("read_parquet(?)", "") if files else (f"({events})", "LIMIT 0")
        table = con.sql(
            f"SELECT * FROM (SELECT DISTINCT * EXCLUDE (bucket) FROM {source} {limit}) "
            f"ORDER BY user_id, moment, {BASKET_ORDER}, "
            "item_code, event_type, value, price, position, session",
            params=[files] if files else [],
        ).to_arrow_table()
        totals.copies += sum(pq.read_metadata(path).num_rows for path in files) - len(table)
        users = write_bucket(work, i, table, n_items, dated, totals)
        writer = writer or pq.ParquetWriter(work / "users.parquet", users.schema)
        writer.write_table(users)
        shutil.rmtree(split / f"bucket={i}", ignore_errors=True)
        say(f"bucket {i + 1} of {n_buckets}: {totals.events:,} events so far")
    if writer is not None:
        writer.close()
    shutil.rmtree(split)


def _manifest(
    inputs: Inputs, totals: Totals, n_buckets: int, share: float, stamped: str | None
) -> Manifest:
    checked = inputs.checked
    days = np.array(sorted(totals.taken), np.int64)
    taken = np.array([totals.taken[day] for day in days.tolist()], np.int64)
    if checked.protocol == "time":
        windows = cut_windows(days, taken, share)
    else:
        windows = leave_last_out(int(taken.sum()), totals.users, share)
    early = days < windows.ranker // windows.unit
    again = sum(totals.again[day] for day in days[early].tolist())
    copies = [Fault(COPIES, "events", rows=totals.copies)] if totals.copies else []
    return Manifest(
        version=VERSION,
        fingerprint=_fingerprint(inputs.items, totals, windows),
        inputs=stamped,
        protocol=checked.protocol,
        windows=windows,
        n_users=totals.users,
        n_items=checked.n_items,
        n_events=totals.events,
        n_buckets=n_buckets,
        n_rows=checked.n_rows,
        dropped=checked.dropped | {fault.kind: fault.rows for fault in copies},
        event_types=dict(sorted(totals.types.items())),
        first_moment=totals.first,
        last_moment=totals.last,
        repeat_share=again / max(1, int(taken[early].sum())),
        columns_used=checked.columns_used,
        text_columns=checked.text_columns,
        warnings=(*checked.warnings, *check_tables(copies, checked.sources)),
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
        sync_all(work)
        if target.exists():
            target.rename(old)
        try:
            work.rename(target)
        except OSError:
            old.rename(target)
            raise
        sync(target.parent)
    finally:
        shutil.rmtree(outer, ignore_errors=True)


def _stamped(
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


def _fingerprint(items: Table, totals: Totals, windows: Windows) -> str:
    """Hash what was prepared: the same data gives the same hash in any form, order or bucketing."""
    protocol = "time" if windows.dated else "leave_last_out"
    content = (VERSION, protocol, windows, totals.events, totals.content)
    digest = hashlib.sha256(repr(content).encode())
    for column in items.columns:
        if is_text(column.type):
            digest.update(pc.fill_null(pc.binary_length(column), -1).to_numpy().tobytes())
            digest.update("".join(pc.fill_null(column, "").to_pylist()).encode())
        else:
            whole = column.cast(pa.int64()) if pa.types.is_timestamp(column.type) else column
            always = np.nan if pa.types.is_floating(whole.type) else ALWAYS_UNTIL
            digest.update(pc.fill_null(whole, always).to_numpy().tobytes())
    return digest.hexdigest()
