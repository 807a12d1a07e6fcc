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
    """Boosted trees, such as `recsys.ranker.Ranker`."""

    @property
    def trees(self) -> int:
        """How many there are."""

    def split(self, at: int) -> tuple[Trees, Trees]:
        """Return the first `at` of them and the others."""

    def predict(self, table: np.ndarray) -> np.ndarray:
        """Sum what they say of the rows (n_rows, n_features)."""


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
    at = max(1, round(first.trees * ranker.trees))
    if at >= ranker.trees or not len(request):
        return ranker.predict(table)
    few, others = ranker.split(at)
    early = few.predict(table)
    sizes = np.bincount(request)
    begins = np.cumsum(sizes) - sizes
    order = np.lexsort((-early, request))  # equal scores: in the order of the rows
    place = np.empty(len(request), np.int64)
    place[order] = np.arange(len(request)) - begins[request[order]]
    best = place < first.rows
    score = np.empty(len(early))
    score[best] = early[best] + others.predict(table[best])
    worst = np.full(len(sizes), np.inf)
    np.minimum.at(worst, request[best], score[best])
    top = np.full(len(sizes), -np.inf)
    np.maximum.at(top, request[~best], early[~best])
    rest = request[~best]
    score[~best] = worst[rest] - GAP + (early[~best] - top[rest])
    return score
