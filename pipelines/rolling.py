"""Newer events behind a prepared log, as if both had been prepared together.

A model carries the log that it knows (pipelines/carried.py); whoever asks it may bring what
happened since. The old events come from the prepared folder, the new ones from their files by the
rules of the run's config, and both go through the sorting and counting of `pipelines.prepare`.
"""

from __future__ import annotations

import hashlib
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from pipelines.buckets import Totals
from pipelines.database import Database, count_faults, open_database
from pipelines.prepare import SESSION, write_events
from pipelines.prepared import Prepared, bucket_path, open_prepared
from recsys import queries
from recsys.dataset import DAY
from recsys.errors import ConfigError
from recsys.matching import match_table
from recsys.reading import place
from recsys.schema import DataConfig, check_tables

KEPT = "user_id, moment, item_code, item_hash, event_type, value, price, position, grade, weight"


def roll_on(prepared: Prepared, events: str, config: DataConfig, folder: Path) -> Prepared:
    """Write a prepared folder of the old events and the new.

    Events of items that the catalogue lacks, without a user or a time, or of a type without a rule
    are left out, as `recsys prepare` does.

    Args:
        prepared: what is known.
        events: path or URI of the new events, as `data.events` takes it.
        config: how the run read its tables: names of columns, grades of event types.
        folder: an empty or missing one.

    Raises:
        SchemaError: the new events break their contract.
        ConfigError: the log has an order only, so what is new cannot be put behind it.
    """
    if not prepared.windows.dated:
        raise ConfigError(
            "events: the model knows an order only, no dates, so newer events cannot be put behind "
            "it; prepare all events together and make lists with 'recsys recommend'"
        )
    folder.mkdir(parents=True, exist_ok=True)
    with open_database(folder / "spill", config.memory_limit) as con:
        new = _new_events(con, prepared, events, config)
        rows = f"SELECT * FROM ({_old_events(prepared)}) UNION ALL SELECT * FROM ({new})"
        [n_new] = con.execute(f"SELECT count(*) FROM ({new})").fetchall()[0]
        manifest, totals = prepared.manifest, Totals()
        n_rows = manifest.n_rows + n_new
        n_buckets = -(-n_rows // config.bucket_rows)
        n_items = manifest.n_items
        write_events(con, folder, rows, n_items, True, n_buckets, totals, lambda line: None)
    shutil.rmtree(folder / "spill", ignore_errors=True)
    shutil.copy(prepared.folder / "items.parquet", folder)
    end = max(prepared.windows.test_end, (totals.last // DAY + 1) * DAY)
    known = f"{manifest.fingerprint} {totals.events} {totals.content}"
    rolled = manifest.model_copy(update={
        "fingerprint": hashlib.sha256(known.encode()).hexdigest(), "inputs": None,
        "n_users": totals.users, "n_events": totals.events, "n_buckets": n_buckets,
        "n_rows": n_rows, "event_types": dict(sorted(totals.types.items())),
        "first_moment": totals.first, "last_moment": totals.last,
        "windows": replace(prepared.windows, test_end=end),
    })  # fmt: skip
    (folder / "manifest.json").write_text(rolled.model_dump_json(indent=1))
    return open_prepared(folder)


def _old_events(prepared: Prepared) -> str:
    """SQL of the events in the prepared folder."""
    files = ", ".join(queries.literal(str(bucket_path(prepared.folder, i)))
                      for i in range(prepared.n_buckets))  # fmt: skip
    users = queries.literal(str(prepared.folder / "users.parquet"))
    columns = KEPT.replace("event_type", "CAST(event_type AS VARCHAR) AS event_type")
    return (
        f"SELECT {columns}, session FROM read_parquet([{files}]) "
        f"JOIN read_parquet({users}) USING (user_code) JOIN codes USING (item_code)"
    )


def _new_events(con: Database, prepared: Prepared, events: str, config: DataConfig) -> str:
    """SQL of the new events, once nothing is wrong with their columns."""
    given, faults = match_table("events", events, config)
    items: Any = pq.read_table(prepared.folder / "items.parquet", columns=["item_id"])["item_id"]
    con.register("catalogue", pa.table({"item_id": items, "item_code": pa.array(
        np.arange(len(items), dtype=np.int32))}))  # fmt: skip
    hashed = "md5_number_lower(CAST(item_id AS VARCHAR)) AS item_hash"
    con.execute(f"CREATE TEMP TABLE codes AS SELECT *, {hashed} FROM catalogue")
    for part in given.parts if given is not None else ():
        con.register(part.name, part.rows)
        probes = queries.column_probes("events", part)
        found, _ = count_faults(con, "events", part.name, probes, [])
        faults += [replace(fault, file=place(part.source)) for fault in found]
    check_tables(faults, {"events": place(events)})
    assert given is not None  # else check_tables has raised
    rows = queries.events_sql(given, config, by_order=False)
    return (
        f"SELECT {KEPT}, {SESSION} AS session FROM ({rows}) JOIN codes USING (item_id) "
        "WHERE user_id IS NOT NULL AND moment IS NOT NULL AND grade IS NOT NULL"
    )
