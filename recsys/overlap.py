"""How the lists of two models differ: overlap at a depth, rank-biased overlap, popularity.

Lists are (n_requests, k) item codes, best first, -1 = empty place at the end; no item stands twice
in a list. Row for row they are of the same requests.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

PERSISTENCE = 0.9  # of rank-biased overlap: the first ten places are 86 % of it
ROWS_AT_A_TIME = 100_000


@dataclass(frozen=True)
class Change:
    """How other lists differ from the base's, in the mean over requests."""

    overlap: float  # share of the places of the longer list whose item is in both
    rank_biased_overlap: float
    churn: float  # share of the base's items that are gone
    same_first: float  # share of requests with the same first item
    same_list: float  # ... with the same items in the same order
    distinct_base: int  # different items in all lists
    distinct_other: int
    popularity_base: float  # mean over listed items of log2(1 + past events)
    popularity_other: float


def change(base: np.ndarray, other: np.ndarray, past_events: np.ndarray) -> Change:
    """Describe how lists changed.

    Args:
        base: (n_requests, k) int64.
        other: (n_requests, k) int64.
        past_events: (n_items,) of each item.
    """
    common = agreement(base, other)[:, -1]
    lengths = np.stack([(base >= 0).sum(axis=1), (other >= 0).sum(axis=1)])
    with np.errstate(invalid="ignore", divide="ignore"):  # NaN where there is no list
        overlap, gone = common / lengths.max(axis=0), 1 - common / lengths[0]
    popularity = [np.log2(1 + past_events[lists[lists >= 0]]) for lists in (base, other)]
    return Change(
        _mean(overlap), _mean(rank_biased_overlap(base, other)), _mean(gone),
        _mean((base[:, 0] == other[:, 0]).astype(float)),
        _mean((base == other).all(axis=1).astype(float)),
        *(len(np.unique(lists[lists >= 0])) for lists in (base, other)),
        *(_mean(values) for values in popularity),
    )  # fmt: skip


def agreement(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Count the items that both lists hold within each depth: (n_requests, k) int64."""
    n, k = a.shape
    depth = np.maximum.outer(np.arange(k), np.arange(k))  # at which both have shown an item
    found = np.zeros((n, k), np.int64)
    for start in range(0, n, ROWS_AT_A_TIME):
        some = slice(start, start + ROWS_AT_A_TIME)
        row, i, j = np.nonzero((a[some, :, None] == b[some, None, :]) & (a[some, :, None] >= 0))
        np.add.at(found, (row + start, depth[i, j]), 1)
    return found.cumsum(axis=1)


def rank_biased_overlap(a: np.ndarray, b: np.ndarray, p: float = PERSISTENCE) -> np.ndarray:
    """Compare two rankings by what somebody sees who goes on to the next place with chance p.

    Extrapolated (RBO_EXT): what the lists agree on at their end is taken to go on below it. Lists
    may be of different lengths.

    Args:
        a: (n_requests, k) int64.
        b: (n_requests, k) int64.
        p: persistence, 0 < p < 1.

    Returns:
        (n_requests,) float64 from 0 (no item in common) to 1 (the same); NaN where both are empty.

    Source: Webber, Moffat & Zobel, "A Similarity Measure for Indefinite Rankings" (TOIS 2010),
    equation 32, which is equation 30 where the lists are equally long.
    """
    common, depth = agreement(a, b).astype(float), np.arange(1, a.shape[1] + 1)
    lengths = np.stack([(a >= 0).sum(axis=1), (b >= 0).sum(axis=1)])
    short, long = lengths.min(axis=0), lengths.max(axis=0)
    at_short = _at_depth(common, short)
    beyond = np.where(short > 0, at_short / np.maximum(short, 1), 0)  # agreement where one ends
    within = depth <= long[:, None]
    added = beyond[:, None] * np.maximum(depth - short[:, None], 0)
    seen = ((common + added) / depth * p**depth * within).sum(axis=1) * (1 - p) / p
    with np.errstate(invalid="ignore", divide="ignore"):
        rest = ((_at_depth(common, long) - at_short) / long + beyond) * p**long
    value: np.ndarray = np.where(long > 0, seen + rest, np.nan)
    return value


def _at_depth(common: np.ndarray, depth: np.ndarray) -> np.ndarray:
    """(n,): the count at each row's own depth, 0 at depth 0."""
    padded = np.pad(common, ((0, 0), (1, 0)))
    return np.asarray(padded[np.arange(len(common)), depth])


def _mean(values: np.ndarray) -> float:
    return float(np.nanmean(values)) if np.isfinite(values).any() else float("nan")
