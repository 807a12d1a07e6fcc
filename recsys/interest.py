"""What a user likes, as a vector: attention over the texts of what they took last.

The weight of a past item is softmax(recency[k] + query . v), k = 0 for the most recent one, so the
pooling is a few hundred parameters, costs one weighted sum a user, and needs one event only.
A user without any history has the zero vector: an interest score of 0 for every item.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from scipy import sparse

from recsys.index import TextIndex
from recsys.neighbours import Neighbours, nearest_rows

NEAREST_TEXTS = 10  # other texts that say how a text may do
AMONG_TEXTS = 6_000  # texts that they are looked for among, spread evenly over all
RECENCY_DECAY = 0.9  # of the untrained pooling: how much less each older item counts


class UserPooling(torch.nn.Module):
    """User vectors from the unit vectors of past items; untrained it is a recency-weighted mean."""

    def __init__(self, dim: int, history: int):
        super().__init__()
        self.recency = torch.nn.Parameter(torch.arange(history) * float(np.log(RECENCY_DECAY)))
        self.query = torch.nn.Parameter(torch.zeros(dim))
        self.residual = torch.nn.Parameter(torch.zeros(dim, dim))

    def forward(self, past: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """Pool.

        Args:
            past: (n, history, dim) unit vectors, most recent first; anything where mask is False.
            mask: (n, history) bool, which of them exist.

        Returns:
            (n, dim) unit vectors; zeros where a user has no past item.
        """
        weights = (self.recency + past @ self.query).masked_fill(~mask, -1e9)
        weights = torch.softmax(weights, dim=1) * mask
        pooled = torch.einsum("nh,nhd->nd", weights, past)
        return torch.nn.functional.normalize(pooled + pooled @ self.residual, dim=-1)

    @property
    def history(self) -> int:
        """How many past items a user vector looks at."""
        return len(self.recency)


@torch.inference_mode()
def user_vectors(pooling: UserPooling, vectors: np.ndarray, past: np.ndarray) -> np.ndarray:
    """Return the (n, dim) user vectors of `past` (n, history), rows of `vectors`, -1 = none."""
    codes = torch.from_numpy(past[:, : pooling.history])
    known = torch.from_numpy(vectors)[codes.clamp(min=0)]
    return np.asarray(pooling(known, codes >= 0))


@dataclass(frozen=True)
class TextModel:
    """Everything text says about items and users, before and after fine-tuning."""

    text_of_item: np.ndarray  # (n_items,) int64 row of the item's text below
    frozen: np.ndarray  # (n_texts, dim) float32 unit vectors of the pre-trained encoder
    tuned: np.ndarray  # (n_texts, dim) float32 unit vectors of the fine-tuned one
    pooling: UserPooling  # fine-tuned with `tuned`
    lexical: Neighbours  # (n_texts, n_texts) cosines of words
    frozen_index: TextIndex | None = None  # of a catalogue too large to compare with every text
    tuned_index: TextIndex | None = None

    @cached_property
    def nearest(self) -> np.ndarray:
        """(n_texts, n_nearest) int64 rows of the other texts with the largest tuned cosine."""
        return nearest_rows(self.tuned, NEAREST_TEXTS, AMONG_TEXTS)

    def users(self, past_items: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return (frozen, tuned) user vectors (n, dim) of past items (n, history), -1 = none."""
        texts = np.where(past_items >= 0, self.text_of_item[past_items], -1)
        plain = UserPooling(self.frozen.shape[1], self.pooling.history)
        frozen = user_vectors(plain, self.frozen, texts)
        return frozen, user_vectors(self.pooling, self.tuned, texts)

    def past_texts(self, history: sparse.csr_matrix) -> sparse.csr_matrix:
        """Return (n_requests, n_texts): what each past text weighs, from that of the items."""
        texts = self.text_of_item[history.indices]
        shape = (history.shape[0], len(self.frozen))
        return sparse.csr_matrix((history.data, texts, history.indptr), shape)
