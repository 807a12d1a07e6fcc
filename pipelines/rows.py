"""Rows the ranker learns from: the candidates of past requests, described and labelled."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import TypeAlias

import numpy as np

from pipelines.evaluate import RANKERS, without_text
from pipelines.prepared import Prepared
from pipelines.recommender import Method, table_of
from pipelines.windows import Fitted, Step, walk
from recsys.candidates import Candidates, add_rows
from recsys.ranker import RankerConfig
from recsys.rows import Rows, concat_rows, group_sizes, training_rows
from recsys.split import Requests
from recsys.state import StateConfig

# (block number, request, grade, shown) of candidate rows -> rows to keep, requests back to back
Choose: TypeAlias = Callable[[int, np.ndarray, np.ndarray, np.ndarray], np.ndarray]


def samplers(
    names: Iterable[str], config: RankerConfig, seed: tuple[int, ...]
) -> dict[str, Choose]:
    """Return for each ranker what samples its negatives, with a generator of its own a block.

    So what one ranker learns from does not depend on what others there are, nor on which block
    comes first.
    """

    def sampler(which: int) -> Choose:
        return lambda number, request, grade, shown: training_rows(
            request, grade, shown, config.negatives, config.impressions,
            np.random.default_rng([*seed, which, number]),
        )  # fmt: skip

    return {name: sampler(RANKERS.index(name)) for name in names}


def ranker_rows(
    prepared: Prepared,
    method: Method,
    fitted: Fitted,
    requests: list[Requests],
    span: tuple[int, int],
    config: StateConfig,
    names: Mapping[str, tuple[str, ...]],
    choose: Mapping[str, Choose],
    on_block: Callable[[int], None] = lambda done: None,
) -> dict[str, Rows]:
    """Make the rows a ranker learns from.

    Args:
        prepared: the data.
        method: settings and catalogue.
        fitted: parts fitted before the window.
        requests: one entry a bucket.
        span: (start, end) of the window.
        config: how state is counted.
        names: ranker -> its features; "ranker_without_text" sees no candidate only text found.
        choose: ranker -> which of its candidates it learns from, see `samplers`.
        on_block: called with the number of requests done.
    """
    parts: dict[str, list[Rows]] = {name: [] for name in names}

    def use(step: Step) -> tuple[int, dict[str, Rows]]:
        every = step.block.candidates
        return len(step.requests), {
            name: _rows(method, step, every if name == "full" else without_text(every), features,
                        choose[name])
            for name, features in names.items()
        }  # fmt: skip

    for count, found in walk(prepared, method, fitted, requests, span, config, use):
        for name, rows in found.items():
            parts[name].append(rows)
        on_block(count)
    return {name: concat_rows(some) for name, some in parts.items()}


def labels(some: Requests, rows: Candidates, n_items: int) -> np.ndarray:
    """Return the grade with which each candidate was taken, 0 where it was not: (n_rows,) int64."""
    known, at = _places(some, rows, n_items)
    return np.where(known, some.grade[at].astype(np.int64), 0)


def _places(some: Requests, rows: Candidates, n_items: int) -> tuple[np.ndarray, np.ndarray]:
    """Find each candidate in what its request holds: (n_rows,) whether it is there, and where."""
    own = np.repeat(np.arange(len(some)), np.diff(some.indptr)) * n_items + some.item
    asked = rows.request * n_items + rows.item
    at = np.minimum(np.searchsorted(own, asked), len(own) - 1)
    return own[at] == asked, at


def _rows(
    method: Method, step: Step, rows: Candidates, features: tuple[str, ...], choose: Choose
) -> Rows:
    """Describe and label one block's candidates."""
    some, n_items = step.requests, len(method.items)
    if some.shown is not None:
        request = np.repeat(np.arange(len(some)), np.diff(some.indptr))
        rows = add_rows(rows, request[some.shown], some.item[some.shown], n_items,
                        step.block.scores.at)  # fmt: skip
    known, at = _places(some, rows, n_items)
    grade = np.where(known, some.grade[at].astype(np.int64), 0)
    shown = np.zeros(len(at), bool) if some.shown is None else known & some.shown[at]
    position = None if some.position is None else np.where(known, some.position[at], -1)
    kept = choose(step.number, rows.request, grade, shown)
    table = table_of(method, step.snapshot, step.block, features, rows)
    value = None
    if some.value is not None:
        value = _mean_value(some, some.value)[np.unique(rows.request[kept])]
    return Rows(table[kept], grade[kept], group_sizes(rows.request[kept]), value,
                None if position is None else position[kept])  # fmt: skip


def _mean_value(requests: Requests, value: np.ndarray) -> np.ndarray:
    """(n_requests,) float64: mean of the values known of what each took, NaN where none is."""
    known = np.isfinite(value) & (requests.grade > 0)
    request = np.repeat(np.arange(len(requests)), np.diff(requests.indptr))[known]
    total = np.bincount(request, value[known], len(requests))
    with np.errstate(invalid="ignore"):
        return np.asarray(total / np.bincount(request, minlength=len(requests)))
