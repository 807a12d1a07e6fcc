"""The two tables the method works on, as arrays: what exists (`Items`) and what happened (`Log`).

Ids become codes once, when data is prepared: an item's code is its row in `Items` (ascending
item_id, so a tie broken by code is a tie broken by item_id), a user's code is its row in the
prepared user table. Nothing in the method sees an id.

A `moment` is an int64: microseconds since 1970 UTC where the data has dates; where it only has an
order, the position in the user's own sequence counted from the end (the last event is at -1), so
that "strictly before -k" means "before the user's own k-th last event" with no second code path.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace

import numpy as np

DAY = 86_400_000_000  # microseconds
ALWAYS_FROM, ALWAYS_UNTIL = np.iinfo(np.int64).min, np.iinfo(np.int64).max


@dataclass(frozen=True)
class Items:
    """The catalogue; row = item code."""

    ids: np.ndarray  # (n_items,) object (str) or int64, ascending
    title: np.ndarray  # (n_items,) object, str
    text: np.ndarray  # (n_items,) object, str: what the encoder reads
    category: np.ndarray  # (n_items,) int32 code, -1 = none
    brand: np.ndarray  # (n_items,) int32 code, -1 = none
    price: np.ndarray  # (n_items,) float32, NaN = unknown
    available_from: np.ndarray  # (n_items,) int64 moment, ALWAYS_FROM where unknown
    available_until: np.ndarray  # (n_items,) int64 moment, ALWAYS_UNTIL where unknown

    def __len__(self) -> int:
        return len(self.ids)


@dataclass(frozen=True)
class Log:
    """Events of some users, sorted by (user, moment), users back to back.

    `indptr` cuts the event arrays into users as in a CSR matrix: the events of `users[r]` are
    rows `indptr[r]:indptr[r + 1]`.
    """

    users: np.ndarray  # (n_users,) int64 user codes, ascending
    indptr: np.ndarray  # (n_users + 1,) int64
    item: np.ndarray  # (n_events,) int32
    moment: np.ndarray  # (n_events,) int64
    grade: np.ndarray  # (n_events,) int8: 0 = shown or disliked, 1 = click-like, 2+ = purchase-like
    weight: np.ndarray  # (n_events,) float32: how much the event counts in training
    price: np.ndarray  # (n_events,) float32: price paid, NaN = unknown
    value: np.ndarray | None = None  # (n_events,) float32, NaN = unknown; None: no such column read
    position: np.ndarray | None = None  # (n_events,) int64 in a list, 1 = top, -1 = unknown
    session: np.ndarray | None = None  # (n_events,) int64, -1 = unknown; None: the log has none

    def __len__(self) -> int:
        return len(self.item)

    @property
    def row(self) -> np.ndarray:
        """(n_events,) int64: the row in `users` of each event."""
        return np.repeat(np.arange(len(self.users)), np.diff(self.indptr))

    def keep(self, mask: np.ndarray) -> Log:
        """Return the log with only the events where `mask` (n_events,) holds; users stay."""
        kept = np.concatenate([[0], np.cumsum(mask)])
        columns = {name: column[mask] for name, column in _columns(self).items()}
        return replace(self, indptr=kept[self.indptr], **columns)

    def take(self, rows: np.ndarray) -> Log:
        """Return the log of the users at `rows` (ascending), with all their events."""
        mask = np.zeros(len(self.users), bool)
        mask[rows] = True
        some = self.keep(np.repeat(mask, np.diff(self.indptr)))
        lengths = np.diff(some.indptr)[mask]
        return replace(some, users=self.users[mask],
                       indptr=np.concatenate([[0], np.cumsum(lengths)]))  # fmt: skip

    def before(self, moment: int) -> Log:
        """Return the events strictly before `moment`; users stay."""
        return self.keep(self.moment < moment)


def concat(logs: Sequence[Log]) -> Log:
    """Put logs of disjoint users, in ascending user order, into one."""
    offsets = np.cumsum([0, *(len(log) for log in logs)])
    indptr = [log.indptr[1:] + start for log, start in zip(logs, offsets, strict=False)]
    columns = {
        name: np.concatenate([getattr(log, name) for log in logs]) for name in _columns(logs[0])
    }
    users = np.concatenate([log.users for log in logs])
    return Log(users, np.concatenate([np.zeros(1, np.int64), *indptr]), **columns)


def _columns(log: Log) -> dict[str, np.ndarray]:
    """Return the columns of the events, those that were read."""
    names = [field.name for field in fields(log) if field.name not in ("users", "indptr")]
    return {name: getattr(log, name) for name in names if getattr(log, name) is not None}
