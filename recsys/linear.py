"""What goes with the items that EASE's dense matrix has no room for: a small regression for each.

EASE predicts each item from all others at once, so its work grows with the cube of the items. Here
each item is predicted from its closest others in cosine only: as many small systems as items, all
of one size, so work grows with the items, and memory with the pairs of items that share a user.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from scipy import sparse

from recsys.errors import ConfigError
from recsys.neighbours import Neighbours, keep_strongest

CHUNK_CELLS = 1 << 22  # of the systems that are solved at once


def linear_neighbours(
    users: sparse.csr_matrix, cosine: Neighbours, items: np.ndarray, near: int, ridge: float
) -> Neighbours:
    """Weights that say how much each of its closest others speaks for an item.

    For item j with closest others N: w minimises |x_j - X_N w|^2 + ridge |w|^2, so
    (G_NN + ridge I) w = G_Nj with G = X^T X. Source: Ning and Karypis, "SLIM: Sparse linear methods
    for top-N recommender systems" (ICDM 2011), with its choice of features by cosine (fsSLIM).
    Deviations: no L1 penalty, so that w has a closed form, and what is negative is dropped after.

    Args:
        users: (n_users, n_items), 1 where a user took an item.
        cosine: of all items.
        items: (n,) codes of the items to predict.
        near: how many others each is predicted from, at most.
        ridge: how strongly weights are shrunk, in users.

    Returns:
        (n_items, n_items), column j the weights for item j; other columns are empty.

    Raises:
        ConfigError: the ridge is too small.
    """
    n_items = users.shape[1]
    if not len(items) or not near:
        return sparse.csr_matrix((n_items, n_items), dtype=np.float32)
    together = _pairs(users)
    found = [(np.zeros(0, np.float32), np.zeros(0, np.int64), np.zeros(0, np.int64))]
    for rows, others in _alike(keep_strongest(cosine[items], near), near):
        weights = _solved(together, n_items, items[rows], others, ridge)
        row, place = np.nonzero(weights > 0)
        found.append((weights[row, place], others[row, place], items[rows[row]]))
    weight, source, target = (np.concatenate(some) for some in zip(*found, strict=True))
    return sparse.csr_matrix((weight, (source, target)), (n_items, n_items))


def _pairs(users: sparse.csr_matrix) -> tuple[np.ndarray, np.ndarray]:
    """Return G's entries on and above the diagonal: ascending row * n_items + column, users."""
    upper = sparse.triu(users.T @ users, format="csr")
    upper.sort_indices()
    row = np.repeat(np.arange(upper.shape[0]), np.diff(upper.indptr))
    return row * upper.shape[0] + upper.indices, upper.data.astype(np.float32)


def _alike(closest: Neighbours, near: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield rows with about as many entries each, and their columns, ascending, then -1."""
    counts = np.diff(closest.indptr)
    order = np.argsort(counts, kind="stable")
    order = order[counts[order] > 0]
    size = max(1, CHUNK_CELLS // near**2)
    for start in range(0, len(order), size):
        rows = order[start : start + size]
        entry = np.arange(counts[rows[-1]])
        at = np.minimum(closest.indptr[rows][:, None] + entry, closest.nnz - 1)
        yield rows, np.where(entry < counts[rows][:, None], closest.indices[at], -1)


def _solved(
    together: tuple[np.ndarray, np.ndarray], n_items: int, items: np.ndarray, others: np.ndarray,
    ridge: float,
) -> np.ndarray:  # fmt: skip
    """Return the weights of `others` (n, near) for `items` (n,), 0 where there is no other."""
    near = others.shape[1]
    left, right = np.triu_indices(near)
    gram = np.empty((len(items), near, near), np.float32)
    upper = _users_of_both(together, n_items, others[:, left], others[:, right])
    gram[:, left, right] = gram[:, right, left] = upper
    gram[:, np.arange(near), np.arange(near)] += ridge
    asked = _users_of_both(together, n_items, others, items[:, None])
    factor, failed = torch.linalg.cholesky_ex(torch.from_numpy(gram))
    if failed.any():
        raise ConfigError(
            f"state.ease_ridge: {ridge:g} is too small to weigh the items of state.ease_beyond in "
            "float32; set 100 or more"
        )
    solved = torch.cholesky_solve(torch.from_numpy(asked)[:, :, None], factor)
    return np.asarray(solved[:, :, 0].numpy())


def _users_of_both(
    together: tuple[np.ndarray, np.ndarray], n_items: int, one: np.ndarray, other: np.ndarray
) -> np.ndarray:
    """Return how many users took both items, for arrays of item codes; -1 is taken by nobody."""
    keys, users = together
    asked = np.minimum(one, other).astype(np.int64) * n_items + np.maximum(one, other)
    at = np.minimum(np.searchsorted(keys, asked), len(keys) - 1)
    return np.where(keys[at] == asked, users[at], np.float32(0))
