"""What goes with the items that EASE's dense matrix has no room for: a small regression for each.

EASE predicts each item from all others at once, so its work grows with the cube of the items. Here
each item is predicted from its closest others in cosine only: as many small systems as items, all
of one size. How many users took two items is counted for some items at a time and looked up, so
memory is bounded whatever the log.
"""

from __future__ import annotations

import numpy as np
import torch
from scipy import sparse

from recsys.errors import ConfigError
from recsys.neighbours import Neighbours, keep_strongest, row_chunks

GROUP_CELLS = 1 << 26  # of the systems that are held at once: 256 MiB
CHUNK_CELLS = 1 << 22  # looked up, and solved, at once


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
        near: how many others each is predicted from, at most; 1 or more.
        ridge: how strongly weights are shrunk, in users.

    Returns:
        (n_items, n_items), column j the weights for item j; other columns are empty.

    Raises:
        ConfigError: the ridge is too small.
    """
    n_items = users.shape[1]
    found = [(np.zeros(0, np.float32), np.zeros(0, np.int64), np.zeros(0, np.int64))]
    size = max(1, GROUP_CELLS // (near * (near + 1)))
    for start in range(0, len(items), size):
        group = items[start : start + size]
        others = _laid_out(keep_strongest(cosine[group], near), near)
        weights = _solved(_systems(users, others, group), ridge)
        row, place = np.nonzero(weights > 0)
        found.append((weights[row, place], others[row, place], group[row]))
    weight, source, target = (np.concatenate(some) for some in zip(*found, strict=True))
    return sparse.csr_matrix((weight, (source, target)), (n_items, n_items))


def _laid_out(closest: Neighbours, near: int) -> np.ndarray:
    """(n, near) int64: the columns of each row, then -1."""
    at = closest.indptr[:-1, None] + np.arange(near)
    there = at < closest.indptr[1:, None]
    return np.where(there, np.append(closest.indices, -1)[np.where(there, at, -1)], -1)


def _systems(users: sparse.csr_matrix, others: np.ndarray, items: np.ndarray) -> np.ndarray:
    """(n, near, near + 1) float32: how many users took both of two others; or one and the item.

    Where there is no other, a row is 0; its column is not, but lies above the diagonal, which
    nobody reads.
    """
    (n, near), n_items = others.shape, users.shape[1]
    systems = np.zeros((n * near, near + 1), np.float32)
    columns = np.append(others, items[:, None], 1)
    place = np.argsort(others, axis=None, kind="stable")  # of each other, by item
    item = others.ravel()[place]
    taken_by: sparse.csr_matrix = users.T.tocsr()
    for first, end in row_chunks(taken_by, users):
        together = (taken_by[first:end] @ users).tocsr()
        together.sort_indices()
        row = np.repeat(np.arange(first, end), np.diff(together.indptr))
        keys = row * n_items + together.indices
        low, high = np.searchsorted(item, (first, end))
        step = max(1, CHUNK_CELLS // near)
        for at in range(low, high, step):
            some = slice(at, min(at + step, high))
            key = item[some, None] * n_items + columns[place[some] // near]
            found = np.minimum(np.searchsorted(keys, key), len(keys) - 1)
            systems[place[some]] = np.where(keys[found] == key, together.data[found], 0)
    return systems.reshape(n, near, near + 1)


def _solved(systems: np.ndarray, ridge: float) -> np.ndarray:
    """(n, near) weights: the first `near` columns are a matrix each, the last its right side.

    Of the matrix only what is on and below the diagonal is read.
    """
    near, parts = systems.shape[1], []
    step = max(1, CHUNK_CELLS // near**2)
    for start in range(0, len(systems), step):
        some = torch.from_numpy(systems[start : start + step])
        matrix = some[:, :, :-1] + ridge * torch.eye(near)
        factor, failed = torch.linalg.cholesky_ex(matrix)
        if failed.any():
            raise ConfigError(
                f"state.ease_ridge: {ridge:g} is too small to weigh the items of "
                "state.ease_beyond in float32; set 100 or more"
            )
        parts.append(torch.cholesky_solve(some[:, :, -1:], factor)[:, :, 0].numpy())
    return np.concatenate(parts)
