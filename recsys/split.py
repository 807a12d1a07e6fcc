"""Windows in time, and the requests inside them.

Four windows, half-open: encoder | ranker | valid | test. With dates the last three hold a share of
the events each and are cut at midnight UTC. With an order only, the same integers are positions
from the end of each user's sequence: valid [-2, -1), test [-1, 0), and ranker what comes before,
one event of a user or, where users have many, that share of them.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from recsys.dataset import ALWAYS_UNTIL, DAY, Log
from recsys.errors import ConfigError

Protocol = Literal["time", "leave_last_out"]


@dataclass(frozen=True)
class Windows:
    """Moments at which the windows begin; `test_end` closes the last one."""

    ranker: int
    valid: int
    test: int
    test_end: int
    dated: bool

    @property
    def unit(self) -> int:
        """What one "day" is: requests are cut at multiples of it."""
        return DAY if self.dated else 1

    def span(self, name: str) -> tuple[int, int]:
        """Return (start, end) of the window `name`: "ranker", "valid" or "test"."""
        ends = {"ranker": self.valid, "valid": self.test, "test": self.test_end}
        starts = {"ranker": self.ranker, "valid": self.valid, "test": self.test}
        return starts[name], ends[name]


@dataclass(frozen=True)
class Requests:
    """One user at one moment each, sorted by (moment, user), with what the user then took.

    What a ranker learns from also holds what was only shown: its grade is 0.
    """

    user: np.ndarray  # (n_requests,) int64 user code
    moment: np.ndarray  # (n_requests,) int64
    indptr: np.ndarray  # (n_requests + 1,) int64 into the two arrays below
    item: np.ndarray  # (n_relevant,) int32, ascending within a request, no item twice
    grade: np.ndarray  # (n_relevant,) int8, the best of the day
    value: np.ndarray | None = None  # (n_relevant,) float32, largest at that grade, NaN = unknown
    shown: np.ndarray | None = None  # (n_relevant,) bool, that day; None: not asked for
    position: np.ndarray | None = None  # (n_relevant,) int64, the best one shown at, -1 = unknown

    def __len__(self) -> int:
        return len(self.user)

    def take(self, rows: np.ndarray) -> Requests:
        """Return the requests at `rows`, in that order."""
        lengths = np.diff(self.indptr)[rows]
        indptr = np.concatenate([[0], np.cumsum(lengths)])
        at = np.repeat(self.indptr[rows] - indptr[:-1], lengths) + np.arange(indptr[-1])
        return self._cut(rows, indptr, at)

    def keep_relevant(self, items: np.ndarray) -> Requests:
        """Return the requests that took one of `items` (n_items,) bool, and only these items."""
        kept = items[self.item]
        ends = np.concatenate([[0], np.cumsum(kept)])[self.indptr]
        some = np.diff(ends) > 0
        return self._cut(some, np.append(ends[:-1][some], ends[-1]), kept)

    def _cut(self, requests: np.ndarray, indptr: np.ndarray, rows: np.ndarray) -> Requests:
        """Take requests and, of what they hold, `rows`."""
        more = (None if column is None else column[rows]
                for column in (self.value, self.shown, self.position))  # fmt: skip
        return Requests(self.user[requests], self.moment[requests], indptr, self.item[rows],
                        self.grade[rows], *more)  # fmt: skip


def leave_last_out(n_events: int, n_users: int, share: float = 0.1) -> Windows:
    """Return windows of positions; valid and test are each user's second last and last event.

    The ranker window is as many events of a user as `share` of the mean user's, at least one: few
    users with long sequences would otherwise give it next to nothing to learn from.
    """
    learn = max(1, int(share * n_events / max(n_users, 1)))
    return Windows(ranker=-2 - learn, valid=-2, test=-1, test_end=0, dated=False)


def cut_windows(days: np.ndarray, counts: np.ndarray, share: float = 0.1) -> Windows:
    """Cut the time line so that ranker, valid and test hold `share` of the events each.

    Args:
        days: (n_days,) int64, days since 1970 that have events, ascending.
        counts: (n_days,) events on each of them.
        share: of all events, for each of the three windows.

    Raises:
        ConfigError: the log has too few days for four windows.
    """
    left = counts.sum() - np.cumsum(counts) + counts  # events on this day or later
    # rounded: 3 * 0.1 of 280 events is 84.00000000000001, and a day too many would be taken
    wanted = [round(n * share * int(counts.sum()), 6) for n in (3, 2, 1)]
    ranker, valid, test = (int(days[np.flatnonzero(left >= events)[-1]]) for events in wanted)
    if not days[0] < ranker < valid < test:
        raise ConfigError(
            f"events: {len(days)} days with events are too few to cut four windows of time; "
            "bring a longer log or set split.protocol = 'leave_last_out'"
        )
    end = int(days[-1]) + 1
    return Windows(ranker * DAY, valid * DAY, test * DAY, end * DAY, dated=True)


def requests_in(log: Log, windows: Windows, start: int, end: int, shown: bool = False) -> Requests:
    """Find the requests of [start, end): one for each user and day with something taken.

    A request's moment is the day's midnight (what a nightly job would have known), or the event's
    own position where there are no dates. Relevant is every item taken that day, with its best
    grade; grade 0 is never relevant.

    Args:
        log: of some users.
        windows: whose days count.
        start: first moment.
        end: first moment after.
        shown: keep what was shown that day and not taken, with grade 0. What was taken at a known
            position of that day's lists was shown too. Without dates nothing is kept: what was
            shown lies before the event that it led to.
    """
    shown = shown and windows.dated
    some = log.keep((log.moment >= start) & (log.moment < end) & (shown | (log.grade > 0)))
    user, day = some.users[some.row], some.moment // windows.unit * windows.unit
    value = np.zeros(len(some)) if some.value is None else some.value
    order = np.lexsort((-value, -some.grade, some.item, user, day))
    new_request = _changes(day[order], user[order])
    first = new_request | _changes(some.item[order])  # of equal rows the first is the best
    begins = np.flatnonzero(new_request[first])
    best = order[first]
    found = Requests(
        user[best][begins], day[best][begins], np.append(begins, len(best)).astype(np.int64),
        some.item[best], some.grade[best], None if some.value is None else value[best],
    )  # fmt: skip
    return _with_shown(found, some, order, np.cumsum(first) - 1) if shown else found


def _with_shown(found: Requests, log: Log, order: np.ndarray, pair: np.ndarray) -> Requests:
    """Say of requests that also hold grade 0 what was shown, and where; drop those that took none.

    Args:
        found: the requests.
        log: their events.
        order: (n_events,) rows of the log in the order of the requests.
        pair: (n_events,) which row of the requests each of these events belongs to.
    """
    n_rows, place = len(found.item), None
    shown = np.bincount(pair, log.grade[order] == 0, n_rows) > 0
    request = np.repeat(np.arange(len(found)), np.diff(found.indptr))
    if log.position is not None:
        place = np.full(n_rows, ALWAYS_UNTIL)
        known = log.position[order] >= 0
        np.minimum.at(place, pair[known], log.position[order][known])
        place[place == ALWAYS_UNTIL] = -1
        lost = np.bincount(request, found.grade == 0, len(found)) > 0
        shown |= (place >= 0) & lost[request]
    taken = np.bincount(request, found.grade > 0, len(found)) > 0
    return replace(found, shown=shown, position=place).take(np.flatnonzero(taken))


def _changes(*columns: np.ndarray) -> np.ndarray:
    """(n,) bool: True where any column differs from the row above; True in the first row."""
    changed = np.zeros(len(columns[0]), bool)
    changed[:1] = True
    for column in columns:
        changed[1:] |= column[1:] != column[:-1]
    return changed
