"""The loops that NumPy has no words for, compiled: rows down trees, sparse products into a table.

Numba turns each into machine code when it is first called and keeps that beside this file, or in
the user's cache folder. It checks no type, so the one function that calls each says them.
"""

from __future__ import annotations

from collections.abc import Callable

import numba
import numpy as np

SIDE_BY_SIDE = 64  # rows whose features fit the first cache


def _sum_leaves(
    table: np.ndarray, starts: np.ndarray, feature: np.ndarray, threshold: np.ndarray,
    none_is_right: np.ndarray, right: np.ndarray, worth: np.ndarray, multiplier: np.uint64,
    shift: np.uint64, found: np.ndarray,
) -> None:  # fmt: skip
    """Add to `found` (n_rows, n_columns) the worth of each row's leaves; see recsys/forest.py."""
    n_rows, n_features = table.shape
    n_columns, last = worth.shape[2], np.uint64(worth.shape[1] - 1)
    column = np.zeros((n_features, SIDE_BY_SIDE), np.float32)
    left = np.empty(SIDE_BY_SIDE, right.dtype)  # the leaves that are left
    total = np.empty((n_columns, SIDE_BY_SIDE))
    every = ~right.dtype.type(0)
    for at in range(0, n_rows, SIDE_BY_SIDE):
        n = min(SIDE_BY_SIDE, n_rows - at)
        for row in range(n):
            for name in range(n_features):
                column[name, row] = table[at + row, name]
        total[:] = 0.0
        for tree in range(len(starts) - 1):
            for row in range(SIDE_BY_SIDE):
                left[row] = every
            for split in range(starts[tree], starts[tree + 1]):
                name, most, kept = feature[split], threshold[split], right[split]
                if none_is_right[split]:
                    for row in range(SIDE_BY_SIDE):
                        left[row] &= every if column[name, row] <= most else kept
                else:
                    for row in range(SIDE_BY_SIDE):
                        left[row] &= kept if column[name, row] > most else every
            for row in range(SIDE_BY_SIDE):
                first = np.uint64(left[row] & (~left[row] + right.dtype.type(1)))
                place = ((first * multiplier) >> shift) & last
                for number in range(n_columns):
                    total[number, row] += worth[tree, place, number]
        for row in range(n):
            for number in range(n_columns):
                found[at + row, number] = total[number, row]


def _add_products(
    indptr: np.ndarray, indices: np.ndarray, weight: np.ndarray, starts: np.ndarray,
    columns: np.ndarray, strength: np.ndarray, table: np.ndarray,
) -> None:  # fmt: skip
    """Add a product of two sparse matrices, both by rows, to `table`; recsys/neighbours.py."""
    for row in range(len(indptr) - 1):
        of_row = table[row]
        for at in range(indptr[row], indptr[row + 1]):
            own, weighs = indices[at], weight[at]
            for entry in range(starts[own], starts[own + 1]):
                of_row[columns[entry]] += weighs * strength[entry]


def _look_up_products(
    indptr: np.ndarray, indices: np.ndarray, weight: np.ndarray, starts: np.ndarray,
    columns: np.ndarray, strength: np.ndarray, row: np.ndarray, column: np.ndarray,
    of_row: np.ndarray, found: np.ndarray,
) -> None:  # fmt: skip
    """Write the same product at some places to `found`, by way of `of_row` (n_columns,), all 0."""
    current = -1
    for place in range(len(row)):
        if row[place] != current:
            if current >= 0:
                for at in range(indptr[current], indptr[current + 1]):
                    own = indices[at]
                    for entry in range(starts[own], starts[own + 1]):
                        of_row[columns[entry]] = 0.0
            current = row[place]
            for at in range(indptr[current], indptr[current + 1]):
                own, weighs = indices[at], weight[at]
                for entry in range(starts[own], starts[own + 1]):
                    of_row[columns[entry]] += weighs * strength[entry]
        found[place] = of_row[column[place]]


def _compiled(loop: Callable[..., None]) -> Callable[..., None]:
    """Have a loop compiled, and kept where that can be; other threads run beside it."""
    try:
        kept: Callable[..., None] = numba.njit(nogil=True, cache=True)(loop)
    except RuntimeError:  # neither this folder nor the user's may be written: each process compiles
        kept = numba.njit(nogil=True)(loop)
    return kept


sum_leaves = _compiled(_sum_leaves)
add_products, look_up_products = _compiled(_add_products), _compiled(_look_up_products)
