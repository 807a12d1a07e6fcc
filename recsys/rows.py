"""What a ranker learns from: described and labelled candidates, sampled, weighed and checked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np

from recsys.errors import SchemaError

DEEPEST_POSITION = 100  # one bias from here on: few rows are shown so far down


@dataclass(frozen=True)
class Rows:
    """What a ranker learns from: candidates described and labelled, requests back to back.

    Raises:
        SchemaError: the groups are not those of the rows.
    """

    table: np.ndarray  # (n_rows, n_features) float32
    grade: np.ndarray  # (n_rows,) int64
    group: np.ndarray  # (n_requests,) int64 rows of each request
    value: np.ndarray | None = None  # (n_requests,) mean value of what was taken, NaN = unknown
    position: np.ndarray | None = None  # (n_rows,) int64 it was shown at, 1 = top, -1 = unknown

    def __post_init__(self) -> None:
        n_rows, in_groups = len(self.table), int(self.group.sum())
        if not n_rows == len(self.grade) == in_groups or (self.group < 1).any():
            raise SchemaError(
                f"ranker rows: {n_rows:,} rows have {len(self.grade):,} grades and "
                f"{len(self.group):,} groups of {self.group.min(initial=n_rows):,} rows or more, "
                f"{in_groups:,} in all; each row needs a grade, each request a group of at least "
                "one row, and the groups must add up to the rows"
            )


def concat_rows(parts: Sequence[Rows]) -> Rows:
    """Put rows of the same columns behind each other."""
    columns = {
        field.name: np.concatenate([getattr(part, field.name) for part in parts])
        for field in fields(Rows)
        if getattr(parts[0], field.name) is not None
    }
    return Rows(**columns)


def training_rows(
    request: np.ndarray,
    grade: np.ndarray,
    shown: np.ndarray,
    negatives: int,
    impressions: int,
    rng: np.random.Generator,
) -> np.ndarray:
    """Choose training rows: every taken candidate and a sample of the others, in random order.

    Of the others come first those shown and not taken, then the rest, each by chance. A request
    none of whose candidates was taken teaches nothing and is left out. The order inside a request
    is random, so no tie is broken by what an item is called.

    Args:
        request: (n_rows,) ascending request of each candidate row.
        grade: (n_rows,) 0 where not taken.
        shown: (n_rows,) bool, that day.
        negatives: at most this many rows of grade 0 for each request.
        impressions: at most this many of them were shown.
        rng: source of the sample.

    Returns:
        Row numbers, requests back to back.
    """
    kind = np.where(grade > 0, 2, np.where(shown, 0, 1))
    order = np.lexsort((rng.random(len(request)), kind, request))
    kind, starts = kind[order], _starts(request)
    group = np.repeat(np.arange(len(starts)), np.diff(np.append(starts, len(request))))
    place = np.arange(len(request)) - starts[group]
    n_shown, n_taken = (np.bincount(group, kind == one, len(starts))[group] for one in (0, 2))
    most = min(impressions, negatives)
    sampled = np.where(kind == 0, place < most,
                       place - n_shown + np.minimum(n_shown, most) < negatives)  # fmt: skip
    kept = order[(n_taken > 0) & ((kind == 2) | sampled)]
    return np.asarray(kept[np.lexsort((rng.random(len(kept)), request[kept]))])


def group_sizes(request: np.ndarray) -> np.ndarray:
    """Return how many rows each request has, in their order: LightGBM's groups.

    Args:
        request: (n_rows,) of each row.

    Returns:
        (n_requests,) int64.

    Raises:
        SchemaError: the rows of a request are not back to back.
    """
    sizes = np.diff(np.append(_starts(request), len(request)))
    if len(np.unique(request)) != len(sizes):
        raise SchemaError(
            f"ranker rows: {len(np.unique(request)):,} requests lie in {len(sizes):,} pieces; the "
            "rows of each request must be back to back"
        )
    return sizes


def value_weights(value: np.ndarray) -> np.ndarray:
    """Weigh requests by log1p of their value over the mean value; the mean weight is 1.

    Args:
        value: (n_requests,) in any unit; below 0 counts as 0. NaN = unknown, which weighs 1.

    Returns:
        (n_requests,) float64, the same in any other unit.
    """
    weight, known = np.ones(len(value)), np.isfinite(value)
    worth = np.maximum(value[known], 0)
    mean = worth.sum() / max(len(worth), 1)
    if mean > 0:
        logs = np.log1p(worth / mean)
        weight[known] = logs / logs.mean()
    return weight


def position_kinds(samples: Sequence[Rows]) -> np.ndarray | None:
    """Say which rows share a position bias: those shown at one position, and those shown nowhere.

    All positions from `DEEPEST_POSITION` on are one.

    Returns:
        (n_rows,) int32 kinds over all samples; None where positions are not known or tell nothing,
        because most rows that have one were taken: lists are not in the log, and a position would
        only say that a row was taken.
    """
    places = [rows.position for rows in samples if rows.position is not None]
    if len(places) < len(samples):
        return None
    position, taken = np.concatenate(places), np.concatenate([rows.grade > 0 for rows in samples])
    known = position >= 0
    if 2 * (known & taken).sum() >= known.sum():
        return None
    return np.where(known, np.minimum(position, DEEPEST_POSITION) + 1, 0).astype(np.int32)


def _starts(request: np.ndarray) -> np.ndarray:
    """Return the rows at which another request begins than that of the row above."""
    return np.flatnonzero(np.append(True, request[1:] != request[:-1])[: len(request)])
