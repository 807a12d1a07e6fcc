"""What is counted about items at a moment: every array is a sum (or extreme) over buckets of users.

Counted state rolls forward with the calendar; nothing in it is trained. Memory is the state of one
moment, whatever the number of users: a bucket's events are looked at and dropped.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from recsys.asof import returns_by_key
from recsys.covisitation import PairSums, pairs_of
from recsys.dataset import DAY, Log
from recsys.neighbours import Neighbours

WINDOWS_DAYS = (7, 28, 91)
LATELY_DAYS = 7.0  # half-life of an event in `ItemState.lately`


class StateConfig(BaseModel):
    """How the past is summed up."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    every_days: int = Field(7, ge=1)  # (or events) the state rolls forward while learning
    popularity_days: float = Field(30.0, gt=0)  # half-life of an event in recent popularity
    pair_distance: int = Field(10, ge=1)  # co-visitation: events apart, at most
    pair_decay: float = Field(0.8, gt=0, le=1)  # co-visitation: a day (or event) further apart
    pair_days: float = Field(180.0, gt=0)  # half-life of a pair in co-visitation
    neighbours: int = Field(200, ge=1)  # kept for each item
    ease_items: int = Field(12_500, ge=0, le=50_000)  # in EASE: those with most users
    ease_ridge: float = Field(300.0, gt=0)  # how strongly its weights are shrunk, in users
    ease_beyond: int = Field(0, ge=0, le=200)  # closest others that predict an item not in it


@dataclass(frozen=True)
class ItemState:
    """Counts of each item strictly before `as_of`; row = item code."""

    as_of: int
    count: np.ndarray  # (n_items,) float64 events with grade > 0
    users: np.ndarray  # (n_items,) float64 distinct users with such an event
    repeaters: np.ndarray  # (n_items,) float64 users with at least two
    bought: np.ndarray  # (n_items,) float64 events with grade > 1
    negative: np.ndarray  # (n_items,) float64 events with grade 0
    recent: np.ndarray  # (n_windows, n_items) float64 events in the last WINDOWS_DAYS; 0 undated
    popularity: np.ndarray  # (n_items,) float64 events, each halved every popularity_days
    lately: np.ndarray  # (n_items,) float64 the same, halved every LATELY_DAYS
    first: np.ndarray  # (n_items,) float64 moment of the first event, NaN = none
    last: np.ndarray  # (n_items,) float64 moment of the last one, NaN = none
    price: np.ndarray  # (n_items,) float64 mean price paid, NaN = unknown
    gap_days: np.ndarray  # (n_items,) float64 days (or events) between one user's days with it, sum
    gaps: np.ndarray  # (n_items,) float64 how many such gaps
    follows: Neighbours  # what is taken after what
    precedes: Neighbours  # what is taken before what

    @cached_property
    def by_popularity(self) -> np.ndarray:
        """(n_items,) item codes by recent popularity, then by all events, then by code."""
        return np.lexsort((np.arange(len(self.count)), -self.count, -self.popularity))

    @cached_property
    def popularity_place(self) -> np.ndarray:
        """(n_items,) float32: 1 for the most popular item down to 0, no two alike."""
        place = np.empty(len(self.count), np.float32)
        place[self.by_popularity] = np.linspace(1.0, 0.0, len(self.count))
        return place

    @cached_property
    def trend(self) -> np.ndarray:
        """(n_items,) events a day, shortest window over longest, smoothed by one event a week."""
        short, long = WINDOWS_DAYS[0], WINDOWS_DAYS[-1]
        week, quarter = self.recent[0], self.recent[-1]
        trend: np.ndarray = ((week + 1.0) / short) / ((quarter + long / short) / long)
        return trend


def state_at(
    logs: Iterable[Log], as_of: int, n_items: int, dated: bool, config: StateConfig
) -> ItemState:
    """Count everything strictly before `as_of` (under an order: before 0 means everything).

    Args:
        logs: one log a bucket of users; each is cut at `as_of` here.
        as_of: the moment.
        n_items: size of the catalogue.
        dated: whether moments are microseconds; if not, windows of days stay zero.
        config: windows and half-lives.
    """
    sums = np.zeros((9 + len(WINDOWS_DAYS), n_items))
    price = np.zeros((2, n_items))
    first, last = np.full(n_items, np.inf), np.full(n_items, -np.inf)
    with PairSums(n_items) as pairs:
        for log in logs:
            past = log.before(as_of)
            taken = past.keep(past.grade > 0)
            sums += _counts(past, taken, as_of, n_items, dated, config)
            paid = np.isfinite(taken.price)
            paid_item, paid_price = taken.item[paid], taken.price[paid].astype(float)
            price[0] += np.bincount(paid_item, paid_price, minlength=n_items)
            price[1] += np.bincount(paid_item, minlength=n_items)
            np.minimum.at(first, taken.item, taken.moment)
            np.maximum.at(last, taken.item, taken.moment)
            pairs.add(pairs_of(taken, as_of, n_items, dated, config))
        follows, precedes = pairs.neighbours(config.neighbours)
    with np.errstate(invalid="ignore"):
        mean_price = price[0] / price[1]
    count, users, repeaters, bought, negative, popularity, lately, gap_days, gaps = sums[:9]
    return ItemState(
        as_of, count, users, repeaters, bought, negative, sums[9:], popularity, lately,
        np.where(count > 0, first, np.nan), np.where(count > 0, last, np.nan), mean_price,
        gap_days, gaps, follows, precedes,
    )  # fmt: skip


def _counts(
    past: Log, taken: Log, as_of: int, n_items: int, dated: bool, config: StateConfig
) -> np.ndarray:
    """Return the rows of `state_at`'s sums for one bucket."""
    day = taken.moment // (DAY if dated else 1)
    pairs = returns_by_key(taken.row * n_items + taken.item, day)
    item = pairs.key % n_items
    days = (as_of - taken.moment) / DAY if dated else np.zeros(len(taken))
    age, short = (0.5 ** (days / half) for half in (config.popularity_days, LATELY_DAYS))
    rows: list[np.ndarray] = [
        np.bincount(taken.item, minlength=n_items),
        np.bincount(item, minlength=n_items),
        np.bincount(item[pairs.times > 1], minlength=n_items),
        np.bincount(taken.item[taken.grade > 1], minlength=n_items),
        np.bincount(past.item[past.grade == 0], minlength=n_items),
        np.bincount(taken.item, age, minlength=n_items),
        np.bincount(taken.item, short, minlength=n_items),
        np.bincount(item, pairs.last - pairs.first, minlength=n_items),
        np.bincount(item, pairs.days - 1, minlength=n_items),
    ]
    for window in WINDOWS_DAYS:
        rows.append(np.bincount(taken.item[days <= window], minlength=n_items) * float(dated))
    return np.array(rows)
