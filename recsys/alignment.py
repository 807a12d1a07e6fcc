"""The head in closed form: spread the texts out, then turn them towards what goes together.

Vectors of a pre-trained encoder crowd in a narrow cone: a few directions (that it is an English
product description, say) make up most of every cosine. Two matrices mend that, without a gradient
step:

whitening   W = S^(-1/2), S the second moment of the texts that anybody took, so that every
            direction counts alike (Su et al. 2021, "Whitening Sentence Representations"; for
            recommending, Zhang et al. 2024, "Are ID Embeddings Necessary?"). Not centred, so that W
            stays a matrix without a bias; S has `dim` imagined texts in it that point everywhere
            alike, so that a small catalogue moves little.
alignment   M = (A + lI)^-1 (B + lcI) / c over the whitened texts, A the second moment of user
            vectors, B their moments with the text taken next: ridge regression from a user to the
            next text that shrinks towards "the same text again" (c = tr B / tr A), as EASE (Steck
            2019) does over items. Its symmetric part's square root moves both sides alike, which
            keeps one vector a text.

The ridge l = tr(A)/dim (1 + dim^2/n) times `ridge`: with fewer events than the matrix has entries
there is little to learn from, and whitening alone is left. Nothing here belongs to one text, so a
text that nobody took gains as much as any other.
"""

from __future__ import annotations

import numpy as np
import torch

from recsys.encoder import moved_vectors
from recsys.interest import UserPooling, user_vectors
from recsys.training import Examples

MOST_EVENTS = 100_000  # of more, a sample: a matrix of dim^2 entries needs no more
BLOCK_EVENTS = 8192  # pooled at a time


def aligned_head(
    vectors: np.ndarray, examples: Examples, ridge: float, rng: np.random.Generator
) -> torch.Tensor:
    """Solve for the head; it takes two passes over the events and one over the texts.

    Args:
        vectors: (n_texts, dim) float32 unit vectors of the encoder.
        examples: what was taken after what; its known texts are those that are whitened.
        ridge: how strongly alignment shrinks towards whitening alone.
        rng: which events, where there are more than 100,000.

    Returns:
        (dim, dim) float32, to be used with `apply_head`.
    """
    dim = vectors.shape[1]
    whitening = _power(_second_moment(vectors[examples.known]), -0.5)
    white = moved_vectors(vectors, _residual(whitening))
    use = np.flatnonzero(examples.weight > 0)
    if len(use) > MOST_EVENTS:
        use = np.sort(rng.choice(use, MOST_EVENTS, replace=False))
    if not len(use):
        return _residual(whitening)
    pooling = UserPooling(dim, examples.past.shape[1])
    within, across = np.zeros((2, dim, dim))
    for at in range(0, len(use), BLOCK_EVENTS):
        rows = use[at : at + BLOCK_EVENTS]
        users = user_vectors(pooling, white, examples.past[rows])
        weighted = users.T * examples.weight[rows]
        within += weighted @ users
        across += weighted @ white[examples.target[rows]]
    same = np.trace(across) / np.trace(within)
    if same <= 0:
        return _residual(whitening)  # what comes next is rather unlike: nothing to align with
    penalty = ridge * np.trace(within) / dim * (1 + dim**2 / len(use)) * np.eye(dim)
    turned = np.linalg.solve(within + penalty, across / same + penalty)
    return _residual(whitening @ _power((turned + turned.T) / 2, 0.5))


def _second_moment(known: np.ndarray) -> np.ndarray:
    """Return the (dim, dim) mean of x x^T over unit rows, `dim` imagined even ones among them."""
    n, dim = known.shape
    return np.asarray((known.astype(np.float64).T @ known + np.eye(dim)) / (n + dim))


def _power(matrix: np.ndarray, power: float) -> np.ndarray:
    """Return a power of a symmetric matrix, what is not positive in it next to nothing."""
    values, directions = np.linalg.eigh(matrix)
    values = np.maximum(values, 1e-6 * values.max())
    return np.asarray((directions * values**power) @ directions.T)


def _residual(matrix: np.ndarray) -> torch.Tensor:
    """Return the residual head that multiplies by `matrix`, scaled to keep the size of a vector."""
    scaled = matrix * np.sqrt(len(matrix)) / np.linalg.norm(matrix)
    return torch.from_numpy((scaled - np.eye(len(matrix))).astype(np.float32))
