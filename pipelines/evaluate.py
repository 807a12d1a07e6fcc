"""Evaluation: every model on the same requests, the whole catalogue, nobody left out."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from pipelines.prepared import Prepared
from pipelines.recommender import Block, Method, best_rows, table_of
from pipelines.windows import Fitted, Step, walk
from recsys.baselines import Als, als_scores
from recsys.candidates import TEXT_SOURCES, Candidates, block_size, history_matrix, top_items
from recsys.metrics import ranks_from_scores
from recsys.ranker import Scorer
from recsys.split import Requests
from recsys.state import StateConfig

SINGLE = (
    "popularity", "user_frequency", "item_cosine", "ease", "als", "frozen_encoder", "tuned_encoder",
)  # fmt: skip
RANKERS = ("ranker_without_text", "full")
MODELS = (*SINGLE, *RANKERS)
DEEPEST = 50  # the last rank that any metric looks at
LISTED = 10  # items of each list kept for coverage and novelty


@dataclass(frozen=True)
class Outcome:
    """What every model did with the requests of one window; relevant rows are back to back."""

    user: np.ndarray  # (n_requests,) int64
    moment: np.ndarray  # (n_requests,) int64
    history: np.ndarray  # (n_requests,) int64 events of the user before the request
    request: np.ndarray  # (n_relevant,) int64 row above
    item: np.ndarray  # (n_relevant,) int64
    grade: np.ndarray  # (n_relevant,) int64
    unseen: np.ndarray  # (n_relevant,) bool: the item had no event when the parts were fitted
    rank: dict[str, np.ndarray]  # model -> (n_relevant,) float64, inf = not listed
    found: dict[str, np.ndarray]  # source -> (n_relevant,) bool, candidate found by it; and "union"
    listed: dict[str, np.ndarray]  # model -> (n_requests, LISTED) int64 items, -1 = none


def run_models(
    prepared: Prepared,
    method: Method,
    fitted: Fitted,
    als: Als | None,
    rankers: Mapping[str, Scorer],
    requests: list[Requests],
    span: tuple[int, int],
    config: StateConfig,
    only: np.ndarray | None = None,
    on_block: Callable[[int], None] = lambda done: None,
) -> Outcome:
    """Let every model rank the catalogue for every request.

    Args:
        prepared: the data.
        method: settings and catalogue.
        fitted: parts fitted before the window.
        als: fitted before the window; None leaves it out.
        rankers: name in RANKERS -> ranker.
        requests: one entry a bucket.
        span: (start, end) of the window.
        config: how state is counted.
        only: (n_items,) bool, items that may be listed and count as relevant; None = all.
        on_block: called with the number of requests done.
    """
    parts: list[Outcome] = []
    known = np.zeros(len(method.items), bool)
    for log in prepared.buckets():
        known[log.item[(log.moment < fitted.before) & (log.grade > 0)]] = True

    def use(step: Step) -> Outcome:
        return _outcome(method, step, als, rankers, known, only)

    size = block_size(len(method.items))  # whose scores of every item fit, for the single models
    for part in walk(prepared, method, fitted, requests, span, config, use, only, size):
        parts.append(part)
        on_block(len(part.user))
    return _join(parts)


def _outcome(
    method: Method, step: Step, als: Als | None, rankers: Mapping[str, Scorer],
    known: np.ndarray, only: np.ndarray | None,
) -> Outcome:  # fmt: skip
    """Evaluate one block."""
    some, block = step.requests, step.block
    request = np.repeat(np.arange(len(some)), np.diff(some.indptr))
    item, grade = some.item.astype(np.int64), some.grade.astype(np.int64)
    if only is not None:
        request, item, grade = request[only[item]], item[only[item]], grade[only[item]]
    ranks, listed = {}, {}
    for name, scores in single_scores(method, block, als).items():
        items, best = top_items(scores, DEEPEST)
        ranks[name] = ranks_from_scores(scores, request, item, best[:, -1], DEEPEST)
        listed[name] = np.where(np.isfinite(best), items, -1)[:, :LISTED]
    for name, ranker in rankers.items():
        rows = block.candidates if name == "full" else without_text(block.candidates)
        table = table_of(method, step.snapshot, block, ranker.features, rows)
        score = ranker.scores(table, rows.request, method.first_pass)
        order, place = best_rows(rows.request, rows.item, score, len(score))
        ranks[name] = look_up(rows, order, place, request, item, len(method.items))
        top = place <= LISTED
        listed[name] = np.full((len(some), LISTED), -1)
        listed[name][rows.request[order[top]], place[top] - 1] = rows.item[order[top]]
    rows = block.candidates
    found = {name: look_up(rows, np.arange(len(rank)), rank, request, item, len(method.items))
             for name, rank in rows.rank.items()
             if getattr(method.candidates, name, 0)}  # fmt: skip
    found["union"] = np.min(list(found.values()), axis=0)
    return Outcome(
        some.user, some.moment, block.past.total, request, item, grade, ~known[item], ranks,
        {name: np.isfinite(rank) for name, rank in found.items()}, listed,
    )  # fmt: skip


def single_scores(method: Method, block: Block, als: Als | None) -> dict[str, np.ndarray]:
    """Return the scores (n_requests, n_items) of the models that are one score."""
    scores, n_items = block.scores, len(method.items)
    popularity = scores["popularity"]
    singles = {
        "popularity": popularity,
        "user_frequency": scores["repeat"] + 1e-4 * popularity,  # which breaks its ties
        "item_cosine": scores["item_cosine"],
        "ease": scores["ease"],
        "frozen_encoder": scores["frozen_interest"],
        "tuned_encoder": scores["interest"],
    }
    if "als" in scores:
        singles["als"] = scores["als"]
    elif als is not None:
        values = als_scores(als, history_matrix(block.past, n_items, 1.0))
        values[~np.isfinite(popularity)] = -np.inf
        singles["als"] = values
    return singles


def without_text(candidates: Candidates) -> Candidates:
    """Return the candidates that some source not reading text found."""
    plain = [rank for name, rank in candidates.rank.items() if name not in TEXT_SOURCES]
    return candidates.keep(np.isfinite(np.array(plain)).any(0))


def look_up(
    rows: Candidates, order: np.ndarray, rank: np.ndarray, request: np.ndarray, item: np.ndarray,
    n_items: int,
) -> np.ndarray:  # fmt: skip
    """Return the rank of each asked (request, item), inf where it is no candidate or has none."""
    keys = rows.request * n_items + rows.item  # ascending
    ranks = np.full(len(keys) + 1, np.inf)
    ranks[order] = np.nan_to_num(rank, nan=np.inf)
    asked = request * n_items + item
    at = np.searchsorted(keys, asked)
    known = at < len(keys)
    known[known] = keys[at[known]] == asked[known]
    return ranks[np.where(known, at, len(keys))]


def _join(parts: list[Outcome]) -> Outcome:
    """Put blocks behind each other."""
    starts = np.cumsum([0, *(len(part.user) for part in parts)])
    request = [part.request + start for part, start in zip(parts, starts, strict=False)]

    def column(name: str) -> np.ndarray:
        return np.concatenate([getattr(part, name) for part in parts])

    def columns(name: str) -> dict[str, np.ndarray]:
        keys = getattr(parts[0], name)
        return {key: np.concatenate([getattr(part, name)[key] for part in parts]) for key in keys}

    return Outcome(
        column("user"), column("moment"), column("history"), np.concatenate(request),
        column("item"), column("grade"), column("unseen"), columns("rank"), columns("found"),
        columns("listed"),
    )  # fmt: skip
