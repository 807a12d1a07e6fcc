"""The one place that reads the past: everything here looks strictly before a moment."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from recsys.dataset import Log


@dataclass(frozen=True)
class Past:
    """What the user of each request had done strictly before the request, most recent last.

    Event rows are sorted by (request, moment); `back` counts the days (in dated data) or events (in
    ordered data) with something taken since then: 0 for the most recent, and all items of one
    basket are equally far. What was only shown moves nothing further back.
    """

    indptr: np.ndarray  # (n_requests + 1,) int64 into the event rows
    request: np.ndarray  # (n_events,) int64 row of the request
    item: np.ndarray  # (n_events,) int32
    moment: np.ndarray  # (n_events,) int64
    grade: np.ndarray  # (n_events,) int8
    price: np.ndarray  # (n_events,) float32
    back: np.ndarray  # (n_events,) int64
    total: np.ndarray  # (n_requests,) int64: all events before the request, also beyond `limit`
    first: np.ndarray  # (n_requests,) int64 moment of the user's first event, 0 where none
    session: np.ndarray | None = None  # (n_events,) int64, -1 = unknown; None: the log has none

    def keep(self, mask: np.ndarray) -> Past:
        """Return the past with only the events where `mask` holds; requests and totals stay."""
        kept = np.concatenate([[0], np.cumsum(mask)])
        return Past(kept[self.indptr], self.request[mask], self.item[mask], self.moment[mask],
                    self.grade[mask], self.price[mask], self.back[mask], self.total,
                    self.first,
                    None if self.session is None else self.session[mask])  # fmt: skip


def past_of(log: Log, user: np.ndarray, moment: np.ndarray, unit: int, limit: int) -> Past:
    """Look back from each request: the user's events in the log strictly before the moment.

    Args:
        log: events of these users (and others).
        user: (n_requests,) user codes; one that the log does not hold has an empty past.
        moment: (n_requests,) int64.
        unit: length of a day in moments, for `Past.back`.
        limit: at most this many events of each user, the most recent ones.
    """
    row, ends = ends_before(log, user, moment)
    starts = np.where(row >= 0, log.indptr[row], 0)
    first = np.where(ends > starts, log.moment[np.minimum(starts, len(log) - 1)], 0)
    begins = np.maximum(starts, ends - limit)
    lengths = ends - begins
    indptr = np.concatenate([[0], np.cumsum(lengths)])
    request = np.repeat(np.arange(len(user)), lengths)
    at = np.repeat(begins - indptr[:-1], lengths) + np.arange(indptr[-1])
    when = log.moment[at]
    grade = log.grade[at]
    begins_day = np.zeros(len(at), np.int64)
    begins_day[grade > 0] = new_days(request[grade > 0], when[grade > 0] // unit)
    passed = np.concatenate([[0], np.cumsum(begins_day)])
    back = passed[indptr[1:]][request] - passed[1:]
    return Past(indptr, request, log.item[at], when, grade, log.price[at], back,
                ends - starts, first,
                None if log.session is None else log.session[at])  # fmt: skip


def new_days(row: np.ndarray, day: np.ndarray) -> np.ndarray:
    """(n,) bool: True where a row's next day begins; both are sorted by (row, day)."""
    new = np.ones(len(row), bool)
    new[1:] = (day[1:] != day[:-1]) | (row[1:] != row[:-1])
    return new


def ends_before(log: Log, user: np.ndarray, moment: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Find where each user's past ends: a binary search in the user's own events, all at once.

    Returns:
        row: (n,) int64 row in `log.users`, -1 for a user the log does not hold.
        end: (n,) int64 row in the log just after the last event strictly before the moment.
    """
    row = np.searchsorted(log.users, user)
    row = np.where(row < len(log.users), row, 0)
    row = np.where(log.users[row] == user, row, -1)
    low = np.where(row >= 0, log.indptr[row], 0)
    high = np.where(row >= 0, log.indptr[row + 1], 0)
    while (low < high).any():  # as often as the longest history can be halved
        middle = (low + high) // 2
        earlier = (low < high) & (log.moment[np.minimum(middle, len(log) - 1)] < moment)
        high = np.where(earlier, high, middle)
        low = np.where(earlier, middle + 1, low)
    return row, low


def last_items(past: Past, history: int) -> np.ndarray:
    """Return the (n_requests, history) item codes taken last, most recent first, -1 = none."""
    at = past.indptr[1:, None] - 1 - np.arange(history)
    found = at >= past.indptr[:-1, None]
    items = np.append(past.item, -1)
    return np.where(found, items[np.where(found, at, -1)], -1).astype(np.int64)


def counts_before(
    key: np.ndarray,
    moment: np.ndarray,
    asked_key: np.ndarray,
    asked_moment: np.ndarray,
    windows: Sequence[int],
) -> np.ndarray:
    """Count the events of each asked key in [asked moment - window, asked moment).

    A sort and a binary search for each end of a window, whatever the order of the events. A key and
    a moment are one sortable integer; keys are taken in parts, as many as it can hold (48,000 where
    the events span three years), so memory is a few copies of one part.

    Args:
        key: (n,) int codes from 0 on.
        moment: (n,) int64.
        asked_key: (m,) int codes; one that never occurs has no events.
        asked_moment: (m,) int64.
        windows: lengths, in moments.

    Returns:
        (n_windows, m) int64.
    """
    counts = np.zeros((len(windows), len(asked_key)), np.int64)
    if not len(key):
        return counts
    start, end = int(moment.min()), int(moment.max()) + 1
    span = end - start + 1
    size = 2**62 // span

    def places(low: int, keys: np.ndarray, moments: np.ndarray) -> np.ndarray:
        inside = np.clip(moments, start, end) - start
        return np.asarray((keys.astype(np.int64) - low) * span + inside)

    for low in range(0, int(key.max()) + 1, size):
        some, asked = (np.flatnonzero((keys >= low) & (keys < low + size))
                       for keys in (key, asked_key))  # fmt: skip
        past = np.sort(places(low, key[some], moment[some]))
        asked = asked[np.argsort(places(low, asked_key[asked], asked_moment[asked]))]  # near: fast
        keys, until = asked_key[asked], asked_moment[asked]
        ends = np.searchsorted(past, places(low, keys, until))
        for of_window, window in zip(counts, windows, strict=True):
            of_window[asked] = ends - np.searchsorted(past, places(low, keys, until - window))
    return counts


@dataclass(frozen=True)
class Matched:
    """Keys of some rows, and where those that are asked for are among them."""

    keys: np.ndarray  # (n_keys,) int64 distinct, ascending
    position: np.ndarray  # (n,) int64 of each row's key
    asked: np.ndarray  # (m,) int64 position of each asked key, n_keys = never occurs

    def sums(self, weight: np.ndarray) -> np.ndarray:
        """(n_keys,) float64: `weight` (n,) summed over the rows of each key."""
        return np.asarray(np.bincount(self.position, weight, len(self.keys)), np.float64)

    def least(self, value: np.ndarray) -> np.ndarray:
        """(n_keys,) float64: the least `value` (n,) of each key."""
        least = np.full(len(self.keys), np.inf)
        np.minimum.at(least, self.position, value)
        return least

    def look_up(self, values: np.ndarray, absent: float) -> np.ndarray:
        """(m,) float64: of each asked key its entry in `values` (n_keys,); else `absent`."""
        return np.asarray(np.append(values, absent)[self.asked])


def match_keys(key: np.ndarray, asked: np.ndarray) -> Matched:
    """Match the keys of rows, (n,) int64, with those that are asked for, (m,) int64."""
    keys, position = np.unique(key, return_inverse=True)
    at = np.searchsorted(keys, asked)
    known = at < len(keys)
    known[known] = keys[at[known]] == asked[known]
    return Matched(keys, position, np.where(known, at, len(keys)))


@dataclass(frozen=True)
class Returns:
    """Of each distinct key, ascending: when it came and how often; arrays are (n_keys,) int64."""

    key: np.ndarray
    first: np.ndarray  # day
    last: np.ndarray  # day
    days: np.ndarray  # distinct days
    times: np.ndarray


def returns_by_key(key: np.ndarray, day: np.ndarray) -> Returns:
    """Find the days of each key.

    Args:
        key: (n,) int64, none below 0.
        day: (n,) int64, ascending among equal keys.
    """
    order = np.argsort(key, kind="stable")
    key, day = key[order], day[order]
    start = np.flatnonzero(np.diff(key, prepend=-1))
    end = np.append(start, len(key))[1:]
    passed = np.append(0, np.cumsum(new_days(key, day)))
    days = passed[end] - passed[start]
    return Returns(key[start], day[start], day[end - 1], days, end - start)
