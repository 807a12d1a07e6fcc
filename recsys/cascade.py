"""A first pass over candidates: the ranker's first trees score all of a request, the rest the best.

Boosting's first trees do most of the sorting, and most candidates are nowhere near the top of a
list; they need not go through every tree.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

GAP = 1e-6  # between the last row of the second pass and the first that is not in it


class FirstPass(BaseModel):
    """How many trees see all candidates, and how many of these the others see."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    trees: float = Field(0.2, gt=0, le=1)  # share of them that scores all candidates; 1 = no pass
    rows: int = Field(100, ge=1)  # of each request, the best by these, which the rest scores too


class Trees(Protocol):
    """What can be asked for the sum of some of its trees only."""

    @property
    def trees(self) -> int:
        """How many it has."""

    def predict(self, table: np.ndarray, start: int = 0, end: int | None = None) -> np.ndarray:
        """Sum what trees `start` to `end` say of the rows (n_rows, n_features)."""


def cascade_scores(
    ranker: Trees, table: np.ndarray, request: np.ndarray, first: FirstPass
) -> np.ndarray:
    """Score rows so that those best by the first trees are in the order of all trees.

    The others come below them, in the order of the first trees. A row's score depends on no other
    request, and a longer list begins as a shorter one does.

    Args:
        ranker: boosted trees.
        table: (n_rows, n_features) float32.
        request: (n_rows,) int64, ascending.
        first: how much is done for every row.

    Returns:
        (n_rows,) float64; of the rows of the second pass the sum of all trees.

    Source: Cambazoglu et al., "Early exit optimizations for additive machine learned ranking
    systems" (WSDM 2010), their EPT with a rank threshold at one tree.
    """
    start = max(1, round(first.trees * ranker.trees))
    score = ranker.predict(table, 0, start)
    if start >= ranker.trees or not len(request):
        return score
    sizes = np.bincount(request)
    begins = np.cumsum(sizes) - sizes
    order = np.lexsort((-score, request))  # equal scores: in the order of the rows
    place = np.empty(len(request), np.int64)
    place[order] = np.arange(len(request)) - begins[request[order]]
    best = place < first.rows
    early, score = score, np.where(best, 0.0, score)
    score[best] = early[best] + ranker.predict(table[best], start)
    worst = np.full(len(sizes), np.inf)
    np.minimum.at(worst, request[best], score[best])
    top = np.full(len(sizes), -np.inf)
    np.maximum.at(top, request[~best], early[~best])
    rest = request[~best]
    score[~best] = worst[rest] - GAP + (early[~best] - top[rest])
    return score
