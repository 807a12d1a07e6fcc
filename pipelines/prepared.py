"""A prepared folder: the one form of the data that every stage after `prepare` reads.

    items.parquet                row = item code: item_id ascending, title, text, category, ...
    users.parquet                row = user code: user_code, user_id, bucket, n_events
    events/bucket-00000.parquet  sorted by (user_code, moment), one moment shuffled
    manifest.json                written last

Moments under `time` are microseconds UTC. Under `leave_last_out` the n events with a grade above 0
of a user, in order of order_index or else timestamp, are at -n .. -1. An event of grade
0 takes the moment of the one before it (-n - 1 if there is none): strictly before the request it
precedes, and never before one that it follows.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pydantic import BaseModel, ConfigDict, ValidationError

from recsys.dataset import ALWAYS_FROM, ALWAYS_UNTIL, Items, Log
from recsys.errors import ConfigError
from recsys.schema import Column, Table
from recsys.split import Protocol, Windows

DETAILS = {"value": np.nan, "position": -1}  # of events, few read them -> what says "unknown"
ABSENT = DETAILS | {"session": -1}  # sessions are read wherever the table has them: for features
VERSION = 5  # of layout and windows; a folder of another version is prepared anew


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

    @property
    def has_sessions(self) -> bool:
        return "session_id" in self.columns_used["events"]


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

    def category_names(self) -> tuple[str, ...]:
        """Return the categories by the codes that `items` gives them."""
        table: Table = pq.read_table(self.folder / "items.parquet", columns=["category"])
        known = table["category"].combine_chunks().drop_null().unique().sort()
        return tuple(str(name) for name in known.to_pylist())

    def user_ids(self) -> np.ndarray:
        """Return the (n_users,) ids by user code: object (str) or int64."""
        return _array(pq.read_table(self.folder / "users.parquet", columns=["user_id"])["user_id"])

    def ids_of(self, users: np.ndarray) -> pa.Array[Any]:
        """Return the ids of users (n,), codes ascending; only the row groups they are in are read.

        A row group is a bucket, or a part of a large one.
        """
        with pq.ParquetFile(self.folder / "users.parquet") as file:
            none: pa.Array[Any] = pa.array([], file.schema_arrow.field("user_id").type)
            if not len(users):
                return none
            sizes = [file.metadata.row_group(i).num_rows for i in range(file.num_row_groups)]
            ends = np.cumsum(sizes)
            some = np.flatnonzero((ends > users[0]) & (ends - sizes <= users[-1]))
            read: Table = file.read_row_groups(some.tolist(), ["user_id"])
        ids: pa.Array[Any] = read["user_id"].combine_chunks()
        return ids.take(pa.array(users - (ends - sizes)[some[0]]))

    def iter_user_ids(self) -> Iterator[pa.Array[Any]]:
        """Yield the ids of all users, some at a time."""
        with pq.ParquetFile(self.folder / "users.parquet") as file:
            for batch in file.iter_batches(columns=["user_id"]):
                yield batch.column(0)

    def bucket_sizes(self) -> np.ndarray:
        """Return (n_buckets,) int64: how many users each has."""
        sizes = np.zeros(self.n_buckets, np.int64)
        with pq.ParquetFile(self.folder / "users.parquet") as file:
            for batch in file.iter_batches(columns=["bucket"]):
                sizes += np.bincount(batch.column(0).to_numpy(), minlength=self.n_buckets)
        return sizes

    def bucket(self, i: int, details: bool = False) -> Log:
        """Read the events of bucket `i`; with `details` also the `DETAILS` that the table has."""
        names = ["user_code", "item_code", "moment", "grade", "weight", "price"]
        more = self.manifest.columns_used["events"].keys() & DETAILS.keys() if details else set()
        more = more | ({"session"} if self.manifest.has_sessions else set())
        table: Table = pq.read_table(bucket_path(self.folder, i), columns=[*names, *more])
        user, item, moment, grade, weight = (table[name].to_numpy() for name in names[:5])
        starts = np.flatnonzero(np.diff(user, prepend=-1))
        indptr = np.append(starts, len(user)).astype(np.int64)
        price = pc.fill_null(table["price"], np.nan).to_numpy()
        columns = {name: pc.fill_null(table[name], ABSENT[name]).to_numpy() for name in more}
        return Log(user[starts], indptr, item, moment, grade, weight, price, **columns)

    def buckets(self) -> Iterator[Log]:
        """Read one bucket after the other; user codes ascend from each to the next."""
        return (self.bucket(i) for i in range(self.n_buckets))

    def taken_before(self, moment: int) -> np.ndarray:
        """Count the events with a grade above 0 before a moment: (n_items,) float64."""
        counts = np.zeros(self.manifest.n_items)
        for log in self.buckets():
            taken = (log.moment < moment) & (log.grade > 0)
            counts += np.bincount(log.item[taken], minlength=len(counts))
        return counts

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


def bucket_path(folder: Path, i: int) -> Path:
    """Say where the events of bucket `i` are, written or not."""
    return folder / "events" / f"bucket-{i:05d}.parquet"


def _array(column: Column) -> np.ndarray:
    return np.asarray(column.to_numpy(zero_copy_only=False))


def _codes(column: Column) -> np.ndarray:
    """(n,) int32: the rank of each value among the distinct ones, -1 for null."""
    encoded: Any = column.combine_chunks().dictionary_encode()
    rank = np.empty(len(encoded.dictionary) + 1, np.int32)
    rank[pc.sort_indices(encoded.dictionary).to_numpy()] = np.arange(len(rank) - 1)
    rank[-1] = -1
    return np.asarray(rank[pc.fill_null(encoded.indices, -1).to_numpy()])
