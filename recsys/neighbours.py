"""Item-to-item strengths, pruned: for each item the items it points at most strongly."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypeAlias

import numpy as np
from scipy import sparse

from recsys.dataset import Log

Neighbours: TypeAlias = sparse.csr_matrix  # (n_items, n_items) float32, row = from, few columns
CLASSES, SMALLEST = 641, 3424  # classes of 2**-20 to 1, 32 to each power of two
CHUNK_TERMS = 20_000_000  # products summed at once while pruning


def keep_strongest(matrix: sparse.csr_matrix, keep: int) -> Neighbours:
    """Keep the `keep` largest entries, all in (0, 1], of each row; equal ones by ascending column.

    Entries are first counted by size class (the leading bits of the float32 ascend with its value),
    so that only those of the classes that may be kept are sorted.
    """
    matrix = matrix.astype(np.float32)
    matrix.sort_indices()
    counts = np.diff(matrix.indptr)
    long = counts > keep
    entries = np.flatnonzero(np.repeat(long, counts))
    kept = np.ones(matrix.nnz, bool)
    kept[entries] = False
    row = np.repeat(np.arange(long.sum()), counts[long])  # numbered among the long rows
    bits = matrix.data[entries].view(np.int32)
    size = np.clip((bits >> 18) - SMALLEST, 0, CLASSES - 1)
    by_class = np.bincount(row * CLASSES + size, minlength=long.sum() * CLASSES)
    at_least = by_class.reshape(-1, CLASSES)[:, ::-1].cumsum(1)[:, ::-1]
    least = (at_least >= keep).sum(1) - 1  # the class that holds the keep-th largest
    some = np.flatnonzero(size >= least[row])
    key = (row[some] << 32) | (0x7FFFFFFF - bits[some].astype(np.int64))
    order = np.argsort(key, kind="stable")
    starts = np.searchsorted(row[some], np.arange(long.sum()))
    place = np.arange(len(some)) - starts[row[some]]
    kept[entries[some[order[place < keep]]]] = True
    indptr = np.concatenate([[0], np.cumsum(kept)])[matrix.indptr]
    return sparse.csr_matrix((matrix.data[kept], matrix.indices[kept], indptr), matrix.shape)


def cosine_neighbours(logs: Iterable[Log], as_of: int, n_items: int, keep: int) -> Neighbours:
    """Cosine between items as sets of users, strictly before `as_of`.

    Source: Deshpande and Karypis, "Item-based top-N recommendation algorithms" (TOIS 2004), with
    binary entries: cos(i, j) = |users of both| / sqrt(|users of i| |users of j|).
    """
    parts = []
    for log in logs:
        taken = log.keep((log.moment < as_of) & (log.grade > 0))
        pairs = np.unique(taken.row * n_items + taken.item)
        shape = (len(taken.users), n_items)
        ones = np.ones(len(pairs), np.float32)
        parts.append(sparse.csr_matrix((ones, (pairs // n_items, pairs % n_items)), shape))
    users = sparse.vstack(parts).tocsr()
    norm = np.sqrt(np.asarray(users.sum(0)).ravel())
    users = users @ sparse.diags(np.divide(1, norm, where=norm > 0, out=np.zeros(n_items)))
    users = users.astype(np.float32).tocsr()
    items = users.T.tocsr()
    chunks = []
    for start, end in _row_chunks(items, users):
        product = (items[start:end] @ users).tocsr()
        row = np.repeat(np.arange(start, end), np.diff(product.indptr))
        product.data[product.indices == row] = 0.0  # an item is no neighbour of its own
        product.eliminate_zeros()
        chunks.append(keep_strongest(product, keep))
    return sparse.vstack(chunks).tocsr()


def _row_chunks(items: sparse.csr_matrix, users: sparse.csr_matrix) -> list[tuple[int, int]]:
    """Cut the rows of items @ users so that each part has about CHUNK_TERMS multiplications."""
    terms = items.copy()
    terms.data = np.diff(users.indptr)[items.indices].astype(np.float64)
    work = np.cumsum(np.asarray(terms.sum(1)).ravel()) // CHUNK_TERMS
    cuts = np.flatnonzero(np.diff(work)) + 1
    return list(zip([0, *cuts], [*cuts, items.shape[0]], strict=True))
