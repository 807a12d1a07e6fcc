"""The trained recommender: look at users at a moment, find candidates, describe and rank them.

Training rows, evaluation, the MLflow pyfunc and the batch job all pass through `look`, `table_of`
and `make_lists`, so what is measured is what is served.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from features.item import NEIGHBOURS, item_features, neighbour_features
from features.table import feature_table
from pipelines.explain import drivers, explain
from recsys.asof import Past, past_of
from recsys.calibration import Heads
from recsys.candidates import (
    TEXT_SOURCES,
    CandidateConfig,
    Candidates,
    block_size,
    history_matrix,
    merge_candidates,
)
from recsys.cascade import FirstPass
from recsys.dataset import DAY, Items, Log
from recsys.interest import TextModel
from recsys.offer import Offer
from recsys.ranker import Ranker, Scorer
from recsys.related import Related
from recsys.retrieval import BETWEEN, REQUESTS, Shelves, retrieve, shelve
from recsys.scores import Scored
from recsys.sources import HAS_TO_SCORE, View, source_scores
from recsys.state import ItemState
from recsys.threads import in_threads

LOOK_BACK = 500  # events of a user that features and neighbour sources look at


@dataclass(frozen=True)
class Method:
    """What does not change with the moment."""

    items: Items
    candidates: CandidateConfig
    dated: bool
    exclude_seen: bool
    first_pass: FirstPass = field(default_factory=FirstPass)

    @property
    def unit(self) -> int:
        """Length of a day in moments."""
        return DAY if self.dated else 1

    @property
    def is_wide(self) -> bool:
        """Whether there are too many items to score every one for each request."""
        return len(self.items) > self.candidates.dense_items

    @property
    def block_size(self) -> int:
        """How many requests are looked at together."""
        return REQUESTS if self.is_wide else block_size(len(self.items))


@dataclass(frozen=True)
class Snapshot:
    """What is known at a moment: counted state, and the parts fitted before it."""

    state: ItemState
    related: Related
    texts: TextModel
    of_items: dict[str, np.ndarray]  # item features, name -> (n_items,) float
    shelves: Shelves | None = None  # items of each text, where not every item is scored

    def described(self, items: Items, names: Sequence[str]) -> dict[str, np.ndarray]:
        """Return the item features, those of the nearest texts only if they are asked for."""
        if NEIGHBOURS.isdisjoint(names):
            return self.of_items
        return self.of_items | neighbour_features(self.state, items, self.texts)


@dataclass(frozen=True)
class Block:
    """Some requests, looked at: their past, every source's scores, the merged candidates."""

    user: np.ndarray  # (n_requests,) int64
    moment: np.ndarray  # (n_requests,) int64
    past: Past
    scores: Scored  # source -> (n_requests, n_items) float32, -inf = not allowed
    candidates: Candidates


@dataclass(frozen=True)
class Lists:
    """Ranked lists of some requests, back to back, best first."""

    request: np.ndarray  # (n_rows,) int64
    rank: np.ndarray  # (n_rows,) int64 from 1
    item: np.ndarray  # (n_rows,) int64
    score: np.ndarray  # (n_rows,) float64
    probability: np.ndarray  # (n_rows,) float64, that the user takes it in their next request
    source: np.ndarray  # (n_rows,) object, the source that ranked it best
    reason: np.ndarray  # (n_rows,) object, in words
    drivers: np.ndarray  # (n_rows,) object, the groups of features that raised its score most


def chunks(n_requests: int, size: int) -> Iterator[np.ndarray]:
    """Cut requests into rows that are looked at together, always in the same places."""
    return (np.arange(at, min(at + size, n_requests)) for at in range(0, n_requests, size))


def snapshot_of(method: Method, state: ItemState, related: Related, texts: TextModel) -> Snapshot:
    """Put together what is known at the state's moment."""
    shelves = None
    if method.is_wide:
        shelves = shelve(texts.text_of_item, len(texts.frozen), state.by_popularity)
    of_items = item_features(state, method.items, method.dated)
    return Snapshot(state, related, texts, of_items, shelves)


def look(
    method: Method,
    snapshot: Snapshot,
    log: Log,
    user: np.ndarray,
    moment: np.ndarray,
    only: np.ndarray | None = None,
) -> Block:
    """Look at requests: the past before each, the score of every source, the candidates.

    Of a large catalogue (`Method.is_wide`) the candidates are chosen without scoring every item.

    Args:
        method: settings and catalogue.
        snapshot: state at or before the earliest moment.
        log: events of these users; those at or after a request's moment are not looked at.
        user: (n_requests,) user codes.
        moment: (n_requests,) int64.
        only: (n_items,) bool, items that may be listed; None = all.
    """
    past = past_of(log, user, moment, method.unit, LOOK_BACK)
    view = View(past, moment, method.items, snapshot.state, snapshot.related, snapshot.texts,
                method.candidates, method.dated)  # fmt: skip
    seen = None
    if method.exclude_seen:  # all of it, however long ago
        everything = past_of(log, user, moment, method.unit, len(log))
        seen = history_matrix(everything, len(method.items), 1.0)
    offer, sources = Offer(method.items, moment, only, seen), source_scores(view)
    quotas = {name: getattr(method.candidates, name, 0) for name in sources}
    cold = np.bincount(past.request, past.grade > 0, minlength=len(past.total)) == 0
    scored = Scored(sources, offer, keep=not method.is_wide)
    if snapshot.shelves is not None:
        candidates = retrieve(sources, quotas, HAS_TO_SCORE, offer, snapshot.shelves,
                              snapshot.state.popularity_place, cold, scored.at)  # fmt: skip
    else:
        order_by = _text_order(scored, [name for name in sources if quotas[name]],
                               snapshot.texts, cold)  # fmt: skip
        candidates = merge_candidates(scored, quotas, HAS_TO_SCORE, order_by, scored.at)
    return Block(user, moment, past, scored, candidates)


def _text_order(
    scores: Scored, names: Sequence[str], texts: TextModel, cold: np.ndarray
) -> dict[str, np.ndarray]:
    """Order items for the text sources of `names`: popularity decides where items share a text.

    Text finds nothing for users who took nothing, `cold` (n_requests,) bool: they have no vector.
    """
    shared = len(texts.frozen) < len(texts.text_of_item)
    if not shared and not cold.any():
        return {}
    between = BETWEEN * scores["popularity"] if shared else 0.0
    order = {name: scores[name] + between for name in TEXT_SOURCES if name in names}
    for name, values in order.items():
        values[cold] = -np.inf
        if name in HAS_TO_SCORE:
            values[scores[name] <= HAS_TO_SCORE[name]] = -np.inf
    return order


def table_of(
    method: Method,
    snapshot: Snapshot,
    block: Block,
    names: Sequence[str],
    candidates: Candidates | None = None,
) -> np.ndarray:
    """Describe the block's candidates (or those given) by the features `names`."""
    texts = snapshot.texts
    kinds = {"tuned": (texts.tuned, texts.text_of_item),
             "frozen": (texts.frozen, texts.text_of_item)}  # fmt: skip
    chosen = block.candidates if candidates is None else candidates
    return feature_table(names, block.past, block.moment, chosen,
                         snapshot.described(method.items, names), method.items,
                         kinds, method.candidates.history_decay, method.dated)  # fmt: skip


def make_lists(
    method: Method, snapshot: Snapshot, block: Block, ranker: Scorer, heads: Heads, k: int
) -> Lists:
    """Rank the block's candidates, keep the best k of each request; ties go to the lower code.

    The order is the ranker's alone; what the heads say of the listed rows stands beside it.
    """
    rows = block.candidates
    table = table_of(method, snapshot, block, ranker.features)
    score = ranker.scores(table, rows.request, method.first_pass)
    order, rank = best_rows(rows.request, rows.item, score, k)
    chosen = rows.keep(_flags(order, len(score)))
    place = np.argsort(order, kind="stable")  # `keep` sorts rows by (request, item)
    back = np.empty(len(order), np.int64)
    back[place] = np.arange(len(order))
    source, reason = explain(method.items, snapshot.texts, block.past, chosen)
    listed, trees = table[order], ranker if isinstance(ranker, Ranker) else heads.models[0]
    return Lists(rows.request[order], rank, rows.item[order], score[order],
                 heads.predict(listed)[:, 0], source[back], reason[back],
                 drivers(trees, listed))  # fmt: skip


def lists_of(
    method: Method, snapshot: Snapshot, log: Log, users: np.ndarray, moment: int, ranker: Scorer,
    heads: Heads, k: int, only: np.ndarray | None = None,
) -> Iterator[tuple[np.ndarray, Lists]]:  # fmt: skip
    """Make the lists of users at one moment, block by block: yield (user codes, their lists).

    With `only` (n_items,) bool no other item is listed.
    """

    def lists_for(rows: np.ndarray) -> tuple[np.ndarray, Lists]:
        some = users[rows]
        block = look(method, snapshot, log, some, np.full(len(some), moment, np.int64), only)
        return some, make_lists(method, snapshot, block, ranker, heads, k)

    yield from in_threads(lists_for, chunks(len(users), method.block_size))


def most_popular(method: Method, snapshot: Snapshot, moment: int, k: int) -> np.ndarray:
    """Return the codes of the k items that are popular and on offer: the list of who is unknown."""
    items, order = method.items, snapshot.state.by_popularity
    offered = (items.available_from <= moment) & (moment < items.available_until)
    best: np.ndarray = order[offered[order]][:k]
    return best


def best_rows(
    request: np.ndarray, item: np.ndarray, score: np.ndarray, k: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return (rows, ranks from 1) of the best k of each request, best first, ties by item."""
    order = np.lexsort((item, -score, request))
    counts = np.bincount(request, minlength=int(request.max(initial=-1)) + 1)
    starts = np.cumsum(counts) - counts
    rank = np.arange(len(order)) - starts[request[order]] + 1
    return order[rank <= k], rank[rank <= k]


def _flags(rows: np.ndarray, n: int) -> np.ndarray:
    """(n,) bool: True at `rows`."""
    flags = np.zeros(n, bool)
    flags[rows] = True
    return flags
