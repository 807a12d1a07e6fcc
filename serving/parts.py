"""One bucket of users becomes one part of a release, in whatever process that happens.

A part depends on the bucket and on what is known to all (`Work`) alone: not on who makes it, on how
many make parts beside it, or on their order. So any number of workers write the same bytes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from pipelines.recommender import Lists, Method, Snapshot, lists_of, most_popular
from recsys.calibration import Heads
from recsys.dataset import Log
from recsys.ranker import Scorer
from serving.lists import LIST_COLUMNS, check_lists, parquet_bytes, typed_table


@dataclass(frozen=True)
class Work:
    """What all lists of a release are made from; nobody changes it."""

    method: Method
    snapshot: Snapshot
    scorer: Scorer
    heads: Heads
    moment: int
    k: int
    only: np.ndarray | None = None  # (n_items,) bool, what may be listed; None = everything


@dataclass(frozen=True)
class Bucket:
    """Users whose lists become one part."""

    number: int
    log: Log  # of all users of the bucket
    users: np.ndarray  # (n_users,) int64 codes of those who get a list, ascending
    ids: pa.Array[Any]  # (n_users,) what they are called


@dataclass(frozen=True)
class Part:
    """A part of a release as it will lie on disk."""

    number: int
    data: bytes
    sha256: str
    rows: int
    users: int


def make_part(
    work: Work, bucket: Bucket, on_block: Callable[[int], None] = lambda done: None
) -> Part:
    """Make the lists of one bucket's users, in blocks, and write them down.

    Args:
        work: what is known to all.
        bucket: users, their events and ids.
        on_block: called after each block with how many users of the bucket are done.

    Raises:
        DamagedReleaseError: the lists are not what readers expect.
    """
    name = f"part {bucket.number}"
    table = typed_table(bucket_table(work, bucket, on_block), LIST_COLUMNS, name)
    if len(table):
        check_lists(table, name, work.k)
    data = parquet_bytes(table).to_pybytes()
    digest = hashlib.sha256(data).hexdigest()
    return Part(bucket.number, data, digest, len(table), len(bucket.users))


def bucket_table(
    work: Work, bucket: Bucket, on_block: Callable[[int], None] = lambda done: None
) -> pa.Table:
    """Make the lists of one bucket's users as a table, `serving.lists.LIST_COLUMNS`."""
    parts, done, item_ids = [], 0, work.method.items.ids
    for asked, lists in lists_of(work.method, work.snapshot, bucket.log, bucket.users, work.moment,
                                 work.scorer, work.heads, work.k, work.only):  # fmt: skip
        ids = bucket.ids.slice(done, len(asked))
        parts.append(lists_table(lists, ids, item_ids))
        done += len(asked)
        on_block(done)
    return pa.concat_tables(parts or [lists_table(_no_lists(), bucket.ids, item_ids)])


def lists_table(lists: Lists, user_ids: pa.Array[Any], item_ids: np.ndarray) -> pa.Table:
    """Return lists as the release's table; row r of `user_ids` is request r."""
    return pa.table({
        "user_id": user_ids.take(pa.array(lists.request)),
        "rank": pa.array(lists.rank, pa.int16()),
        "item_id": ids_array(item_ids[lists.item]),
        "score": pa.array(lists.score, pa.float32()),
        "probability": pa.array(lists.probability, pa.float32()),
        "source": pa.array(lists.source, pa.string()),
        "reason": pa.array(lists.reason, pa.string()),
        "drivers": pa.array(lists.drivers, pa.string()),
    })  # fmt: skip


def fallback_table(work: Work) -> pa.Table:
    """Return the list for everybody unknown: what is popular now and on offer."""
    items, state = work.method.items, work.snapshot.state
    best = most_popular(work.method, work.snapshot, work.moment, len(items))
    best = (best if work.only is None else best[work.only[best]])[: work.k]
    return pa.table({
        "rank": pa.array(np.arange(1, len(best) + 1), pa.int16()),
        "item_id": ids_array(items.ids[best]),
        "score": pa.array(state.popularity[best], pa.float32()),
        "probability": pa.nulls(len(best), pa.float32()),
        "source": pa.array(["popularity"] * len(best), pa.string()),
        "reason": pa.array(["popular now"] * len(best), pa.string()),
        "drivers": pa.array([""] * len(best), pa.string()),
    })  # fmt: skip


def ids_array(values: np.ndarray) -> pa.Array[Any]:
    """Keep ids as they are: integers or strings."""
    return pa.array(values, pa.string() if values.dtype == object else pa.int64())


def _no_lists() -> Lists:
    """Lists of nobody."""
    none, numbers, text = np.zeros(0, np.int64), np.zeros(0), np.zeros(0, object)
    return Lists(none, none, none, numbers, numbers, text, text, text)
