"""Candidates: each source scores the whole catalogue for a block of requests; the best are merged.

A block of requests times the catalogue fits in memory (see `block_size`), so a source is one matrix
product and choosing from it one exact top-k: below some hundred thousand items nothing is faster.
Above `candidates.dense_items` recsys/retrieval.py chooses them without that table. Provenance is
kept: each candidate carries every source's score, and its rank where it was found.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict, Field, model_validator
from scipy import sparse

from recsys.asof import Past

MOST_ROWS = 10_000  # of one request: LightGBM's own limit
TEXT_SOURCES = frozenset({"interest", "frozen_interest", "lexical", "fresh"})
# not computed, and none of their features seen, while their quota is 0
OPTIONAL = ("als", "category_popularity", "trending", "fresh", "due")


class CandidateConfig(BaseModel):
    """How many candidates each source may bring."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    interest: int = Field(50, ge=0)
    frozen_interest: int = Field(15, ge=0)
    lexical: int = Field(15, ge=0)
    covisitation: int = Field(30, ge=0)
    item_cosine: int = Field(30, ge=0)
    ease: int = Field(30, ge=0)
    popularity: int = Field(30, ge=0)
    repeat: int = Field(60, ge=0)
    als: int = Field(0, ge=0)
    category_popularity: int = Field(0, ge=0)
    trending: int = Field(0, ge=0)
    fresh: int = Field(0, ge=0)
    due: int = Field(0, ge=0)
    history_decay: float = Field(0.85, gt=0, le=1)  # of a past item, each day (or event) back
    fresh_days: float = Field(30.0, gt=0)  # how long an item is new to `fresh`
    dense_items: int = Field(50_000, ge=0)  # up to so many, every item is scored for a request

    @model_validator(mode="after")
    def _some_but_not_too_many(self) -> CandidateConfig:
        """Refuse what leaves nothing to rank, or more than LightGBM ranks at once."""
        total = sum(self.quotas.values())
        if not 1 <= total <= MOST_ROWS:
            raise ValueError(
                f"the quotas add up to {total:,} candidates; they must be 1 to {MOST_ROWS:,}, "
                "which is as many as the ranker takes of one request"
            )
        return self

    @property
    def quotas(self) -> dict[str, int]:
        """Source -> how many candidates it may bring."""
        return {name: getattr(self, name) for name in SOURCES}

    @property
    def switched_on(self) -> tuple[str, ...]:
        """The optional sources that may bring any."""
        return tuple(name for name in OPTIONAL if self.quotas[name])


# (request, item) of some pairs -> every source's score of them, (n_pairs,) float32 each
ScoresAt: TypeAlias = Callable[[np.ndarray, np.ndarray], dict[str, np.ndarray]]
SOURCES = tuple(
    name
    for name in CandidateConfig.model_fields
    if name not in ("history_decay", "fresh_days", "dense_items")
)


@dataclass(frozen=True)
class Candidates:
    """Items to rank, sorted by (request, item), no pair twice."""

    request: np.ndarray  # (n_rows,) int64
    item: np.ndarray  # (n_rows,) int64
    rank: dict[str, np.ndarray]  # source -> (n_rows,) float32 rank from 1, NaN = not found by it
    score: dict[str, np.ndarray]  # source -> (n_rows,) float32, also where it did not find the row
    found: np.ndarray | None = None  # (n_rows,) bool: by any source; None = all, see `add_rows`

    def keep(self, mask: np.ndarray) -> Candidates:
        """Return the rows where `mask` holds."""
        cut = {name: value[mask] for name, value in self.rank.items()}
        return Candidates(self.request[mask], self.item[mask], cut,
                          {name: value[mask] for name, value in self.score.items()},
                          None if self.found is None else self.found[mask])  # fmt: skip


def block_size(n_items: int, cells: int = 1 << 22) -> int:
    """Return how many requests to score at once: `cells` float32 scores a source fit a cache."""
    return int(np.clip(cells // max(n_items, 1), 1, 512))


def history_matrix(past: Past, n_items: int, decay: float) -> sparse.csr_matrix:
    """Return (n_requests, n_items) weights of what was taken: decay**back, summed over events."""
    taken = past.grade > 0
    weight = (decay ** past.back[taken]).astype(np.float32)
    shape = (len(past.total), n_items)
    return sparse.csr_matrix((weight, (past.request[taken], past.item[taken])), shape)


def without_small(weights: sparse.csr_matrix, least: float) -> sparse.csr_matrix:
    """Return the entries of at least `least`."""
    some = weights.copy()
    some.data[some.data < least] = 0.0
    some.eliminate_zeros()
    return some


def text_scores(users: np.ndarray, vectors: np.ndarray, text_of_item: np.ndarray) -> np.ndarray:
    """Return (n_requests, n_items) cosines; items with one text are scored once."""
    scores = torch.from_numpy(users) @ torch.from_numpy(vectors).T
    return items_of_texts(np.asarray(scores.numpy()), text_of_item)


def items_of_texts(scores: np.ndarray, text_of_item: np.ndarray) -> np.ndarray:
    """Spread scores (n_requests, n_texts) over the items: (n_requests, n_items)."""
    if (
        scores.shape[1] == len(text_of_item)
        and (text_of_item == np.arange(len(text_of_item))).all()
    ):
        return scores
    return np.take(scores, text_of_item, axis=1)  # rows stay together in memory


def top_items(scores: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """Return (items, scores) of the k best of each row, best first; (n_requests, k) each.

    Equal scores are taken, and stand, by ascending item: torch chooses among them as it likes.
    """
    n_items = scores.shape[1]
    top = torch.topk(torch.from_numpy(scores), min(k + 1, n_items))
    best, items = top.values.numpy()[:, :k], top.indices.numpy()[:, :k]
    if 0 < k < n_items:
        left_out = top.values.numpy()[:, k]
        _take_lower(scores, items, best, np.flatnonzero(best[:, -1] == left_out))
    tied = np.flatnonzero((best[:, 1:] == best[:, :-1]).any(1))
    items[tied] = _by_item(items[tied], best[tied])
    return items, best


def _take_lower(scores: np.ndarray, items: np.ndarray, best: np.ndarray, rows: np.ndarray) -> None:
    """Of what is as good as the last of the best, take the lowest items, in place.

    They are mostly near the start, so that is where they are looked for first.
    """
    larger = np.count_nonzero(best > best[:, -1:], axis=1)
    width = 4 * best.shape[1]
    while len(rows):
        equal = scores[rows, :width] == best[rows, -1:]
        place = larger[rows, None] + np.cumsum(equal, 1)
        done = place[:, -1] >= best.shape[1]
        row, item = np.nonzero(equal & (place <= best.shape[1]) & done[:, None])
        items[rows[row], place[row, item] - 1] = item
        rows, width = rows[~done], 4 * width


def _by_item(items: np.ndarray, best: np.ndarray) -> np.ndarray:
    """Order each row's items by descending score, then by item, as one integer."""
    bits = (best + 0.0).view(np.int32)  # 0.0 and -0.0 are one score
    ascending = (bits ^ ((bits >> 31) & 0x7FFFFFFF)).astype(np.int64)  # as the float does
    return np.asarray(np.sort((-ascending << 32) | items, axis=1) & 0xFFFFFFFF)


def merge_candidates(
    scores: Mapping[str, np.ndarray],
    quotas: Mapping[str, int],
    least: Mapping[str, float],
    order_by: Mapping[str, np.ndarray] | None = None,
    scores_at: ScoresAt | None = None,
) -> Candidates:
    """Take the best of each source and merge them.

    Args:
        scores: source -> (n_requests, n_items) float32, masked with -inf.
        quotas: source -> how many of its best to take.
        least: source -> a score must be above this to count as found (a neighbour source has
            nothing to say about an item with strength 0); -inf where absent.
        order_by: source -> other scores to choose its best by, where its own tie too much.
        scores_at: looks pairs up in every source; None = in `scores`.
    """
    n_items, found = 0, {}
    for name in (name for name in scores if quotas[name]):
        values = (order_by or {}).get(name, scores[name])
        items, best = top_items(values, quotas[name])
        n_items = values.shape[1]
        request, place = np.nonzero(best > least.get(name, -np.inf))
        found[name] = (request * n_items + items[request, place], place + 1)
    return union(found, n_items, scores_at or (lambda request, item: {
        name: values[request, item] for name, values in scores.items()
    }))  # fmt: skip


def union(
    found: Mapping[str, tuple[np.ndarray, np.ndarray]], n_items: int, scores_at: ScoresAt
) -> Candidates:
    """Put together what sources found: name -> (request * n_items + item, rank from 1)."""
    if not found:
        empty = np.zeros(0, np.int64)
        return Candidates(empty, empty, {}, {})
    keys = np.unique(np.concatenate([key for key, _ in found.values()]))
    request, item = np.divmod(keys, n_items)
    score = scores_at(request, item)
    rank = {name: np.full(len(keys), np.nan, np.float32) for name in score}
    for name, (key, place) in found.items():
        rank[name][np.searchsorted(keys, key)] = place
    return Candidates(request, item, rank, score)


def add_rows(
    candidates: Candidates, request: np.ndarray, item: np.ndarray, n_items: int, scores_at: ScoresAt
) -> Candidates:
    """Add rows that no source found, to learn from them; the others' features do not change.

    Args:
        candidates: of some requests.
        request: (n_pairs,) int64.
        item: (n_pairs,) int64; a pair that is a candidate already is left as it is.
        n_items: size of the catalogue.
        scores_at: gives every source's score of pairs; one of score -inf must not be had.
    """
    allowed = np.isfinite(next(iter(scores_at(request, item).values())))
    own = candidates.request * n_items + candidates.item
    new = np.setdiff1d((request * n_items + item)[allowed], own)
    if not len(new):
        return candidates
    keys = np.concatenate([own, new])
    order = np.argsort(keys, kind="stable")
    keys, none = keys[order], np.full(len(new), np.nan, np.float32)
    request, item = np.divmod(keys, n_items)
    return Candidates(
        request, item,
        {name: np.concatenate([rank, none])[order] for name, rank in candidates.rank.items()},
        scores_at(request, item), order < len(own),
    )  # fmt: skip
