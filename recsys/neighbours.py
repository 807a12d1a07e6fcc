"""Item-to-item strengths, pruned: for each item the items it points at most strongly."""

from __future__ import annotations

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeAlias

import numpy as np
import torch
from scipy import sparse

from recsys.dataset import Log

Neighbours: TypeAlias = sparse.csr_matrix  # (n_items, n_items) float32, row = from, few columns
CHUNK_TERMS = 10_000_000  # products a thread sums at once
CHUNK_ENTRIES = 1 << 21  # entries laid beside each other while pruning
BLOCK_ROWS = 256  # rows compared with all others at once


def keep_strongest(matrix: sparse.csr_matrix, keep: int) -> Neighbours:
    """Keep the `keep` largest entries, all above 0, of each row; equal ones by ascending column.

    Rows of about one length are laid beside each other and cut by one top-k over keys that no two
    entries of a row share: the bits of the float32, which ascend with its value, then the column.
    """
    matrix = matrix.astype(np.float32, copy=False)
    counts = np.diff(matrix.indptr)
    kept = np.repeat(counts <= keep, counts)
    long = np.flatnonzero(counts > keep)
    long = long[np.argsort(counts[long], kind="stable")]
    for part in _alike(counts[long]):
        rows = long[part]
        entry = np.arange(counts[rows[-1]])
        at = np.minimum(matrix.indptr[rows][:, None] + entry, matrix.nnz - 1)
        key = _keys(matrix.data[at], matrix.indices[at])
        key[entry >= counts[rows][:, None]] = -1
        kept[np.take_along_axis(at, _largest(key, keep), 1).ravel()] = True
    indptr = np.concatenate([[0], np.cumsum(np.minimum(counts, keep))])
    pruned = sparse.csr_matrix((matrix.data[kept], matrix.indices[kept], indptr), matrix.shape)
    pruned.sort_indices()
    return pruned


def strongest_of_rows(table: np.ndarray, keep: int) -> Neighbours:
    """Do the same for a dense `table` (n, n_items) float32; what is 0 or less is no entry."""
    best = np.sort(_largest(_keys(np.maximum(table, 0), np.arange(table.shape[1])), keep), 1)
    values = np.take_along_axis(table, best, 1)
    found = values > 0
    indptr = np.concatenate([[0], np.cumsum(found.sum(1))])
    return sparse.csr_matrix((values[found], best[found], indptr), table.shape)


def dense_product(weights: sparse.csr_matrix, strengths: Neighbours) -> np.ndarray:
    """Return the product (n_rows, n_items) float32 as a table, summed in SciPy's order."""
    from recsys.kernels import add_products

    table = np.zeros((weights.shape[0], strengths.shape[1]), np.float32)
    add_products(*_by_rows(weights), *_by_rows(strengths), table)
    return table


def product_at(
    weights: sparse.csr_matrix, strengths: Neighbours, row: np.ndarray, column: np.ndarray
) -> np.ndarray:
    """Return the product at some places, (n_places,) float32: the same sums without the table.

    Places of one row are best side by side: for each run of them the row is summed once.
    """
    from recsys.kernels import look_up_products

    found, of_row = np.empty(len(row), np.float32), np.zeros(strengths.shape[1], np.float32)
    look_up_products(*_by_rows(weights), *_by_rows(strengths), row.astype(np.int64, copy=False),
                     column.astype(np.int64, copy=False), of_row, found)  # fmt: skip
    return found


def _by_rows(matrix: sparse.csr_matrix) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return indptr, indices and values (float32), as the compiled loops take them."""
    return matrix.indptr, matrix.indices, matrix.data.astype(np.float32, copy=False)


def _keys(values: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """Return int64 keys that order `values` (float32, none below 0), equal ones by column."""
    return (values.view(np.int32).astype(np.int64) << 32) | (0x7FFFFFFF - columns.astype(np.int64))


def _largest(keys: np.ndarray, keep: int) -> np.ndarray:
    """Return where the `keep` largest keys of each row are, in any order."""
    most = min(keep, keys.shape[1])
    return np.asarray(torch.topk(torch.from_numpy(keys), most, sorted=False).indices.numpy())


def _alike(counts: np.ndarray) -> list[np.ndarray]:
    """Cut ascending counts into runs to pad to their last: little is padded, and all fits."""
    parts, start = [], 0
    while start < len(counts):
        most = np.searchsorted(counts, counts[start] * 1.2, side="right")
        end = min(int(most), start + max(1, int(CHUNK_ENTRIES // (counts[start] * 1.2))))
        parts.append(np.arange(start, end))
        start = end
    return parts


def nearest_rows(vectors: np.ndarray, keep: int, most: int) -> np.ndarray:
    """Find the other rows with the largest products, nearest first.

    Exact among `most` rows spread evenly over all; with more rows than that it takes time with
    their number, not its square: 0.9 s for 12,000 of 384 numbers among 6,000, one thread.

    Args:
        vectors: (n, dim) float32.
        keep: how many of each row; fewer where there are not so many.
        most: how many rows are looked at.

    Returns:
        (n, n_nearest) int64.
    """
    n = len(vectors)
    table, among = torch.from_numpy(vectors), torch.arange(min(n, most)) * n // min(n, most)
    some = table[among]
    near = torch.empty(n, min(keep, len(among) - 1), dtype=torch.int64)
    for start in range(0, n, BLOCK_ROWS):
        product = table[start : start + BLOCK_ROWS] @ some.T
        own = torch.arange(start, start + len(product))[:, None] == among
        product.masked_fill_(own, float("-inf"))
        near[start : start + BLOCK_ROWS] = among[torch.topk(product, near.shape[1]).indices]
    return near.numpy()


def taken_matrix(
    logs: Iterable[Log], as_of: int, n_items: int, counted: bool = False
) -> sparse.csr_matrix:
    """Return (n_users, n_items) float32, 1 (`counted`: how often) where taken before `as_of`."""
    parts = []
    for log in logs:
        taken = log.keep((log.moment < as_of) & (log.grade > 0))
        pairs, times = np.unique(taken.row * n_items + taken.item, return_counts=True)
        shape = (len(taken.users), n_items)
        at = (pairs // n_items, pairs % n_items)
        values = times.astype(np.float32) if counted else np.ones(len(pairs), np.float32)
        parts.append(sparse.csr_matrix((values, at), shape))
    return sparse.vstack(parts).tocsr()


def cosine_neighbours(users: sparse.csr_matrix, keep: int) -> Neighbours:
    """Cosine between items, the columns of `users` (n_users, n_items); `keep` largest of each.

    Source: Deshpande and Karypis, "Item-based top-N recommendation algorithms" (TOIS 2004). With
    binary entries: cos(i, j) = |users of both| / sqrt(|users of i| |users of j|).
    """
    squares = np.bincount(users.indices, np.square(users.data), users.shape[1])
    norm = np.sqrt(squares)
    scale = np.divide(1, norm, where=norm > 0, out=np.zeros(len(norm)))
    values = (users.data * scale[users.indices]).astype(np.float32)
    users = sparse.csr_matrix((values, users.indices, users.indptr), users.shape)
    items = users.T.tocsr()

    def chunk(cut: tuple[int, int]) -> Neighbours:
        product = (items[cut[0] : cut[1]] @ users).tocsr()
        row = np.repeat(np.arange(*cut), np.diff(product.indptr))
        product.data[product.indices == row] = 0.0  # an item is no neighbour of its own
        product.eliminate_zeros()
        return keep_strongest(product, keep)

    with ThreadPoolExecutor(torch.get_num_threads()) as pool:  # SciPy lets others run meanwhile
        return sparse.vstack(list(pool.map(chunk, row_chunks(items, users)))).tocsr()


def row_chunks(items: sparse.csr_matrix, users: sparse.csr_matrix) -> list[tuple[int, int]]:
    """Cut the rows of items @ users so that each part has about CHUNK_TERMS multiplications."""
    terms = items.copy()
    terms.data = np.diff(users.indptr)[items.indices].astype(np.float64)
    work = np.cumsum(np.asarray(terms.sum(1)).ravel()) // CHUNK_TERMS
    cuts = np.flatnonzero(np.diff(work)) + 1
    return list(zip([0, *cuts], [*cuts, items.shape[0]], strict=True))
