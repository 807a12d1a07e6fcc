"""Which items go with which, fitted once a window: cosine for all items, EASE for the common ones.

EASE weighs all past items of a user together: what two items have in common through a third is
counted once, where a cosine counts it in every pair. Its matrix is dense and is inverted, so time
grows with the cube of the items in it and memory with the square: 12,500 items take half a minute
on two cores and 1.3 GB, a third of that where users are few (`python -m benchmarks.look` times it).
Of more, the items with most users are in it; the others have their cosine, and with
`state.ease_beyond` a small regression each (recsys/linear.py).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from scipy import sparse

from recsys.baselines import Als, fit_als
from recsys.dataset import Log
from recsys.errors import ConfigError
from recsys.linear import linear_neighbours
from recsys.neighbours import (
    Neighbours,
    cosine_neighbours,
    strongest_of_rows,
    taken_matrix,
)
from recsys.state import StateConfig

CHUNK_ROWS = 1024  # of the dense matrix, pruned at a time
ALS_SEED = 0


@dataclass(frozen=True)
class Related:
    """Strengths from each item to others."""

    cosine: Neighbours
    ease: Neighbours
    als: Als | None = None  # None while that source is off


def related_items(
    logs: Iterable[Log], as_of: int, n_items: int, config: StateConfig, with_als: bool = False
) -> Related:
    """Fit all on what was taken strictly before `as_of`; one log a bucket of users."""
    users = taken_matrix(logs, as_of, n_items, counted=with_als)
    als = fit_als(users, ALS_SEED) if with_als else None
    users.data[:] = 1.0  # from here on whether, not how often
    cosine = cosine_neighbours(users, config.neighbours)
    ease = ease_neighbours(users, config.neighbours, config.ease_ridge, config.ease_items)
    if config.ease_beyond:
        rare = np.sort(by_users(users)[config.ease_items :])
        ease = ease + linear_neighbours(users, cosine, rare, config.ease_beyond, config.ease_ridge)
    return Related(cosine, ease.tocsr(), als)


def by_users(users: sparse.csr_matrix) -> np.ndarray:
    """Return the codes of all items that somebody took, most users first; equal ones by code."""
    taken_by = np.asarray(users.sum(0)).ravel()
    order = np.argsort(-taken_by, kind="stable")
    return np.asarray(order[taken_by[order] > 0])


def ease_neighbours(
    users: sparse.csr_matrix, keep: int, ridge: float, most_items: int
) -> Neighbours:
    """Weights of EASE among the `most_items` items with most users, equal ones by code.

    B minimises |X - XB|^2 + ridge |B|^2 with a zero diagonal: with P = (X^T X + ridge I)^-1,
    B = I - P / diag(P), columns scaled. Source: Steck, "Embarrassingly Shallow Autoencoders for
    Sparse Data" (WWW 2019), equation 8. Deviation: only the `keep` largest positive weights of each
    row are kept, which was as good or better (docs/adr/0010).

    Args:
        users: (n_users, n_items), 1 where a user took an item.
        keep: weights kept of each item.
        ridge: how strongly weights are shrunk, in users.
        most_items: size of the dense matrix.

    Raises:
        ConfigError: the ridge is too small.
    """
    n_items = users.shape[1]
    common = np.sort(by_users(users)[:most_items])
    if not len(common):
        return sparse.csr_matrix((n_items, n_items), dtype=np.float32)
    some = users[:, common].tocsr()
    few_users = 2 * np.count_nonzero(np.diff(some.indptr)) < len(common)
    weights = _by_users(some, ridge) if few_users else _by_items(some, ridge)
    found = sparse.vstack([strongest_of_rows(rows, keep) for rows in weights]).tocoo()
    shape = (n_items, n_items)
    return sparse.csr_matrix((found.data, (common[found.row], common[found.col])), shape)


def _by_items(users: sparse.csr_matrix, ridge: float) -> Iterator[np.ndarray]:
    """Yield the rows of B, CHUNK_ROWS at a time; work n_items^3."""
    gram = torch.from_numpy(_in_common(users))
    factor = _factor(gram, ridge, "items")
    del gram  # two dense matrices at once, not three
    inverse = torch.cholesky_inverse(factor)
    del factor
    scale = inverse.diagonal().clone()
    inverse.fill_diagonal_(0)
    for at in range(0, len(scale), CHUNK_ROWS):
        yield (inverse[at : at + CHUNK_ROWS] / -scale).numpy()


def _in_common(users: sparse.csr_matrix) -> np.ndarray:
    """Return how many users took both of two items, (n_items, n_items) float32.

    Some rows at a time: the sparse product of all of them is as large as the dense one.
    """
    items, n_items = users.T.tocsr(), users.shape[1]
    table = np.empty((n_items, n_items), np.float32)
    for at in range(0, n_items, CHUNK_ROWS):
        table[at : at + CHUNK_ROWS] = (items[at : at + CHUNK_ROWS] @ users).toarray()
    return table


def _by_users(users: sparse.csr_matrix, ridge: float) -> Iterator[np.ndarray]:
    """Yield the same by way of a matrix of the users, of whom there are fewer than items.

    By Woodbury's identity P = (I - X^T M X) / ridge with M = (X X^T + ridge I)^-1, so the ridge
    falls out of P / diag(P). Work n_users^3 + n_items^2 n_users.
    """
    some = torch.from_numpy(users[np.diff(users.indptr) > 0].toarray())
    factor = _factor(some @ some.T, ridge, "users")
    explained = torch.cholesky_solve(some, factor)  # M X
    left = 1 - (some * explained).sum(0)
    for at in range(0, some.shape[1], CHUNK_ROWS):
        rows = (some[:, at : at + CHUNK_ROWS].T @ explained) / left
        rows.diagonal(at).fill_(0)
        yield rows.numpy()


def _factor(gram: torch.Tensor, ridge: float, what: str) -> torch.Tensor:
    """Return the Cholesky factor of gram + ridge I.

    Raises:
        ConfigError: the ridge is too small.
    """
    gram.diagonal().add_(ridge)
    factor: torch.Tensor
    factor, failed = torch.linalg.cholesky_ex(gram)
    if failed:
        raise ConfigError(
            f"state.ease_ridge: {ridge:g} is too small to invert the matrix of "
            f"{len(gram):,} {what} in float32; set 100 or more"
        )
    return factor
