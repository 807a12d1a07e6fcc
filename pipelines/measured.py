"""One window's requests in an order that any run shares, with what describes them.

Requests are sorted by (moment, user id) and numbered from 0. The fingerprint of a window is a hash
of who asked, when, and what they took: two runs with the same one were measured on the same
requests, and number them the same.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipelines.evaluate import Outcome
from pipelines.prepared import Prepared
from recsys.schema import Column, Table

KEPT_LISTS = ("full", "ranker_without_text", "popularity")
SHARES = {"head": 0.5, "middle": 0.8, "tail": 1.0}  # of past events: most popular items first
IDENTITY = ("request_id", "user_id", "request_time")


@dataclass(frozen=True)
class Measured:
    """A window's outcome, its requests in the order that they are written in."""

    window: str
    outcome: Outcome
    order: np.ndarray  # (n_requests,) int64 rows of the outcome
    about: Table  # (n_requests,) IDENTITY and slices, in that order
    rows: np.ndarray  # (n_relevant,) int64 rows of the outcome's relevant items, by request, item
    request: np.ndarray  # (n_relevant,) int64 request_id of each

    @property
    def item(self) -> np.ndarray:
        """(n_relevant,) int64 item codes."""
        codes: np.ndarray = self.outcome.item[self.rows]
        return codes

    def listed_or_taken(self) -> np.ndarray:
        """Return the codes of all items that are named: (n,) int64, some twice."""
        listed = [self.outcome.listed[name].ravel() for name in KEPT_LISTS
                  if name in self.outcome.listed]  # fmt: skip
        codes = np.concatenate([self.item, *listed])
        kept: np.ndarray = codes[codes >= 0]
        return kept


def measured(
    window: str, outcome: Outcome, prepared: Prepared, items: Table, past: np.ndarray,
    user_columns: Mapping[str, np.ndarray],
) -> Measured:  # fmt: skip
    """Put a window's requests in order and describe them."""
    moment: Any = pa.array(outcome.moment)
    if prepared.windows.dated:
        moment = moment.cast(pa.timestamp("us", "UTC"))
    user = pa.array(prepared.user_ids()[outcome.user])
    keys = pa.table({"moment": moment, "user": user})
    order = pc.sort_indices(keys, [("moment", "ascending"), ("user", "ascending")]).to_numpy()
    order = order.astype(np.int64)
    place = np.empty(len(order), np.int64)
    place[order] = np.arange(len(order))
    rows = np.lexsort((outcome.item, place[outcome.request]))
    request = place[outcome.request][rows]
    about = {
        "request_id": np.arange(len(order), dtype=np.int32),
        "user_id": user.take(pa.array(order)), "request_time": moment.take(pa.array(order)),
        "history_events": outcome.history[order].astype(np.int32),
        "user_kind": np.where(outcome.history[order] > 0, "warm", "cold").astype(object),
        **_taken(outcome, rows, request, len(order), items, past),
        **{f"user_{name}": values[outcome.user[order]] for name, values in user_columns.items()},
    }  # fmt: skip
    return Measured(window, outcome, order, pa.table(about), rows, request)


def fingerprint(protocol: str, unseen_only: bool, part: Measured, ids: Column) -> str:
    """Hash who asked, when, and what they took with which grade; ids count, codes do not."""
    digest = hashlib.sha256(repr((protocol, unseen_only)).encode())
    for column in (part.about["user_id"].combine_chunks(), ids.take(pa.array(part.item))):
        texts: Column = pc.cast(column, pa.string())
        digest.update(str(column.type).encode())
        words = texts.to_pylist()
        digest.update(np.array([len(word) for word in words], np.int64).tobytes())
        digest.update("".join(words).encode())
    moments = part.about["request_time"].cast(pa.int64()).to_numpy()
    for values in (moments, part.request, part.outcome.grade[part.rows]):
        digest.update(np.ascontiguousarray(values, np.int64).tobytes())
    return digest.hexdigest()


def popularity_bin(past: np.ndarray) -> np.ndarray:
    """Name how popular each item is: (n_items,) object.

    `head` are the most popular items that hold half of all past events, `middle` those that hold
    the next 30 %, `tail` the others; `never` were taken by nobody. Of equal items all go higher.
    """
    order = np.argsort(-past, kind="stable")
    before = np.cumsum(past[order]) - past[order]
    share = np.empty(len(past))
    share[order] = before[np.searchsorted(-past[order], -past[order])] / max(past.sum(), 1)
    at = np.searchsorted(list(SHARES.values())[:2], share, side="right")
    names = np.array(list(SHARES), object)[at]
    names[past == 0] = "never"
    return names


def _taken(
    outcome: Outcome, rows: np.ndarray, request: np.ndarray, n: int, items: Table, past: np.ndarray
) -> dict[str, Any]:
    """Describe requests by what was taken: (n,) each.

    The category is of the first relevant item of the highest grade, the popularity of the relevant
    item in the middle, by past events (of two, the less popular).
    """
    item, grade = outcome.item[rows], outcome.grade[rows]
    count = np.bincount(request, minlength=n)
    begins = np.cumsum(count) - count
    first = np.lexsort((item, -grade, request))[begins]
    middle = np.lexsort((item, past[item], request))[begins + (count - 1) // 2]
    unseen = np.bincount(request, outcome.unseen[rows], minlength=n) / count
    category = items["category"].cast(pa.string()).take(pa.array(item[first])).fill_null("none")
    return {"unseen_share": unseen.astype(np.float32),
            "popularity": popularity_bin(past)[item[middle]], "category": category}  # fmt: skip
