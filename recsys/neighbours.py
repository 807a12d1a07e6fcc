"""Item-to-item strengths, pruned: for each item the items it points at most strongly."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import torch
from scipy import sparse

from recsys.dataset import Log

Neighbours = sparse.csr_matrix  # (n_items, n_items) float32, row = from, a few columns a row
CHUNK_CELLS = 1 << 25  # dense cells held at once while pruning


def keep_strongest(matrix: sparse.csr_matrix, keep: int) -> Neighbours:
    """Keep the `keep` largest entries of each row; equal ones by ascending column."""
    row = np.repeat(np.arange(matrix.shape[0]), np.diff(matrix.indptr))
    if np.diff(matrix.indptr).max(initial=0) <= keep:
        return matrix.astype(np.float32)
    order = np.lexsort((matrix.indices, -matrix.data, row))
    place = np.arange(len(row)) - matrix.indptr[row]
    best = order[place < keep]
    kept = sparse.csr_matrix((matrix.data[best], (row[best], matrix.indices[best])), matrix.shape)
    return kept.astype(np.float32)


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
    step = max(1, CHUNK_CELLS // n_items)
    chunks = []
    for start in range(0, n_items, step):
        dense = (items[start : start + step] @ users).toarray()
        rows = np.arange(len(dense))
        dense[rows, start + rows] = 0.0  # an item is no neighbour of its own
        top = torch.topk(torch.from_numpy(dense), min(keep, n_items))
        values, columns = top.values.numpy().ravel(), top.indices.numpy().ravel()
        found = np.repeat(rows, min(keep, n_items)), columns
        chunk = sparse.csr_matrix((values, found), dense.shape)
        chunk.eliminate_zeros()
        chunks.append(chunk)
    return sparse.vstack(chunks).tocsr()
