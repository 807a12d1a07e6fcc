"""A close look at a few test requests: how far items get, what moves scores, who got what.

Everything else in a report is a mean; here a reader sees single users with their history, list and
reasons, and what they took then. Requests are drawn by seed among those whose counted state is
still known, so a look costs seconds.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from pipelines.evaluate import Outcome
from pipelines.recommender import Lists, make_lists, table_of
from pipelines.run import Run
from pipelines.windows import Fitted, Step, walk
from recsys.asof import last_items
from recsys.calibration import Heads
from recsys.contributions import fair_contributions
from recsys.dataset import Items
from recsys.ranker import Ranker, Scorer
from recsys.split import Requests

LOOKED_AT = 40  # requests
SHOWN = {"warm": 5, "cold": 3}  # of them, as examples
K, HISTORY = 10, 10  # items of an example's list, of its history
ROWS_OF_EACH = 4  # candidates whose score is taken apart: from the list, and from all the others


@dataclass(frozen=True)
class Closeup:
    """What was seen."""

    candidates: float  # of a request, on average
    requests: int  # that were looked at
    contributions: dict[str, float]  # feature -> mean |contribution| to the score, largest first
    rows: int  # whose score was taken apart
    examples: list[dict[str, Any]]


@dataclass(frozen=True)
class _Seen:
    """A block of the requests that were looked at."""

    requests: Requests
    lists: Lists
    recent: np.ndarray  # (n_requests, HISTORY) int64
    n_candidates: int
    table: np.ndarray  # (n_rows, n_features) float32: a sample of candidates


def look_closer(
    run: Run, fitted: Fitted, scorer: Scorer, ranker: Ranker, heads: Heads, outcome: Outcome
) -> Closeup:
    """Look at a few requests of the test window.

    Args:
        run: what steps share.
        fitted: parts fitted before the test window, with the states that were counted last.
        scorer: that orders the lists.
        ranker: whose score is taken apart.
        heads: that say probabilities.
        outcome: of the test window.
    """
    prepared, method, config = run.prepared, run.method, run.config
    shown, others = drawn(outcome, min(fitted.states, default=None), config.seed)
    asked = [_only(part, outcome, np.concatenate([shown, others]))
             for part in run.measured_on("test")]  # fmt: skip

    def use(step: Step) -> _Seen:
        rows, liked = step.block.candidates, step.block.past
        lists = make_lists(method, step.snapshot, step.block, scorer, heads, K)
        rng = np.random.default_rng([config.seed, step.number])
        chosen = _sample(rows.request, rows.item, lists, rng)
        flags = np.zeros(len(rows.item), bool)
        flags[chosen] = True
        table = table_of(method, step.snapshot, step.block, ranker.features, rows.keep(flags))
        recent = last_items(liked.keep(liked.grade > 0), HISTORY)
        return _Seen(step.requests, lists, recent, len(rows.item), table)

    span, state = prepared.windows.span("test"), config.state
    seen = list(walk(prepared, method, fitted, asked, span, state, use))
    table = np.concatenate([one.table for one in seen])
    n = sum(len(one.requests) for one in seen)
    ids = prepared.user_ids()
    examples = [example for one in seen
                for example in _examples(one, outcome, shown, method.items, ids)]  # fmt: skip
    return Closeup(
        sum(one.n_candidates for one in seen) / n, n, mean_contributions(ranker, table),
        len(table), sorted(examples, key=lambda one: (-one["history_events"], one["user"])),
    )  # fmt: skip


def drawn(outcome: Outcome, earliest: int | None, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Draw rows of the outcome: examples (warm and cold users), and others to look at.

    Args:
        outcome: of the test window.
        earliest: moment from which requests are drawn; None, or too late for any: from all.
        seed: of the draw.
    """
    rng = np.random.default_rng([seed, 15])
    recent = np.flatnonzero(outcome.moment >= (earliest or outcome.moment.min()))
    order = rng.permutation(recent if len(recent) else np.arange(len(outcome.user)))
    order = order[np.unique(outcome.user[order], return_index=True)[1]]  # each user once
    order = rng.permutation(order)
    cold = outcome.history[order] == 0
    shown = np.concatenate([order[~cold][: SHOWN["warm"]], order[cold][: SHOWN["cold"]]])
    others = order[~np.isin(order, shown)][: LOOKED_AT - len(shown)]
    return shown, others


def mean_contributions(ranker: Ranker, table: np.ndarray) -> dict[str, float]:
    """Return feature -> mean |contribution| by TreeSHAP, largest first; empty if it has none."""
    values = fair_contributions(ranker, table)
    if values is None or not len(values):
        return {}
    mean = np.abs(values).mean(axis=0)
    return {ranker.features[at]: float(mean[at]) for at in np.argsort(-mean, kind="stable")}


def funnel(
    outcome: Outcome, n_items: int, second_pass: int | None, candidates: float | None
) -> list[dict[str, Any]]:
    """Say of each step from the catalogue to the list how many items are left, and what recall.

    Args:
        outcome: of a window.
        n_items: size of the catalogue.
        second_pass: candidates that all trees score; None: all do.
        candidates: of a request, on average; None = not counted.
    """
    rank, n = outcome.rank["full"], len(outcome.user)
    total = np.bincount(outcome.request, minlength=n)

    def recall(kept: np.ndarray) -> float:
        hits = np.bincount(outcome.request, kept, n)
        return float((hits[total > 0] / total[total > 0]).mean())

    steps: list[tuple[str, float | None, float]] = [
        ("catalogue", n_items, 1.0), ("candidates", candidates, recall(outcome.found["union"])),
    ]  # fmt: skip
    if second_pass is not None:
        left = second_pass if candidates is None else min(second_pass, candidates)
        steps.append(("first pass", left, recall(rank <= second_pass)))
    steps += [(f"first {k} of the list", k, recall(rank <= k)) for k in (50, 20, 10)]
    return [{"step": name, "items": items, "recall": value} for name, items, value in steps]


def funnels(
    run: Run, valid: Outcome, test: Outcome, seen: Closeup
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the funnels of valid, where the ranker's own passes order, and of test, as served."""
    n_items, first = len(run.method.items), run.method.first_pass
    passes = None if first.trees >= 1 else first.rows
    served = None if run.config.ranker.values else passes  # expected values have one pass
    return ({"steps": funnel(valid, n_items, passes, None)},
            {"steps": funnel(test, n_items, served, seen.candidates)})  # fmt: skip


def _only(part: Requests, outcome: Outcome, rows: np.ndarray) -> Requests:
    """Return the requests of a bucket that are rows of the outcome."""
    order = rows[np.argsort(outcome.user[rows])]
    users, moments = outcome.user[order], outcome.moment[order]  # each user once
    at = np.minimum(np.searchsorted(users, part.user), len(users) - 1)
    return part.take(np.flatnonzero((users[at] == part.user) & (moments[at] == part.moment)))


def _sample(
    request: np.ndarray, item: np.ndarray, lists: Lists, rng: np.random.Generator
) -> np.ndarray:
    """Draw rows of candidates: of each request some of its list, and some of the others."""
    n_items = int(item.max(initial=0)) + 1
    listed = np.isin(request * n_items + item, lists.request * n_items + lists.item)
    order = rng.permutation(len(request))
    order = order[np.lexsort((listed[order], request[order]))]
    group = request[order] * 2 + listed[order]
    starts = np.searchsorted(group, group)
    return order[np.arange(len(order)) - starts < ROWS_OF_EACH]


def _examples(
    seen: _Seen, outcome: Outcome, shown: np.ndarray, items: Items, ids: np.ndarray
) -> list[dict[str, Any]]:
    """Put the requests of a block that are examples into words."""
    row_of: Mapping[tuple[int, int], int] = {
        (int(outcome.user[row]), int(outcome.moment[row])): int(row) for row in shown
    }
    found, asked = [], seen.requests
    for at, pair in enumerate(zip(asked.user.tolist(), asked.moment.tolist(), strict=True)):
        if pair not in row_of:
            continue
        relevant = outcome.request == row_of[pair]
        taken = outcome.item[relevant]
        ranks = np.where(np.isfinite(rank := outcome.rank["full"][relevant]), rank, 0).astype(int)
        lists, mine = seen.lists, np.flatnonzero(seen.lists.request == at)
        found.append({
            "user": str(ids[pair[0]]), "moment": pair[1],
            "history_events": int(outcome.history[row_of[pair]]),
            "history": [str(items.title[item]) for item in seen.recent[at] if item >= 0],
            "list": [{
                "rank": int(lists.rank[i]), "item": str(items.ids[lists.item[i]]),
                "title": str(items.title[lists.item[i]]), "reason": str(lists.reason[i]),
                "drivers": str(lists.drivers[i]), "probability": float(lists.probability[i]),
                "taken": bool(np.isin(lists.item[i], taken)),
            } for i in mine],
            "taken": [{"item": str(items.ids[item]), "title": str(items.title[item]),
                       "rank": int(place) or None}
                      for item, place in zip(taken, ranks, strict=True)],
        })  # fmt: skip
    return found
