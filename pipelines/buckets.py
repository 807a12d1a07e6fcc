"""One bucket of sorted events becomes a file, its part of the users, and sums for the manifest."""

from __future__ import annotations

import hashlib
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pipelines.prepared import bucket_path
from recsys.dataset import ALWAYS_FROM, ALWAYS_UNTIL, DAY
from recsys.schema import Column, Table


@dataclass
class Totals:
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


def write_bucket(
    folder: Path, i: int, rows: Table, n_items: int, dated: bool, totals: Totals
) -> Table:
    """Write one bucket, add to the totals, return its part of the users.

    Args:
        folder: the one being prepared.
        i: of the bucket; buckets are written in ascending order.
        rows: (n_events,) user_id, moment, item_code, event_type, value, price, position, session,
            grade, weight and content (uint64, a hash of the user), sorted by the first two.
        n_items: in the catalogue.
        dated: moments stay as they are; else they become positions, see `pipelines.prepared`.
        totals: of the buckets before this one.
    """
    runs: Any = pc.call_function("run_end_encode", [rows["user_id"].combine_chunks()])
    indptr = np.append(0, runs.run_ends.to_numpy()).astype(np.int64)
    n_users, lengths = len(runs.values), np.diff(indptr)
    row = np.repeat(np.arange(n_users), lengths)
    grade = rows["grade"].to_numpy()
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
        "position": rows["position"],
        "session": rows["session"],
    }
    table: Table = pa.table(columns)
    pq.write_table(table, bucket_path(folder, i), compression="zstd")
    taken = grade > 0
    pair = row * n_items + table["item_code"].to_numpy()
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


def _positions(grade: np.ndarray, indptr: np.ndarray) -> np.ndarray:
    """(n_events,) int64 moments where only the order is known, see `pipelines.prepared`."""
    taken = np.append(0, np.cumsum(grade > 0))  # up to and with each event, over all users
    at_end = np.repeat(taken[indptr[1:]], np.diff(indptr))
    return np.asarray(taken[1:] - at_end - 1, np.int64)


def _count_taken(totals: Totals, pair: np.ndarray, moment: np.ndarray, unit: int) -> None:
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
    for name in ("position", "session"):
        columns.append(pc.fill_null(table[name], -1).to_numpy().astype(np.uint64))
    for name in ("weight", "price", "value"):
        number = pc.fill_null(table[name], np.nan).to_numpy()
        columns.append(number.view(np.uint32).astype(np.uint64))
    content = user.to_numpy().astype(np.uint64)
    for column in columns:  # the mixing steps of splitmix64
        content = (content ^ column) * np.uint64(0xBF58476D1CE4E5B9) + np.uint64(0x9E3779B97F4A7C15)
        content ^= content >> np.uint64(31)
    return int(content.sum(dtype=np.uint64))
