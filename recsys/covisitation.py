"""Co-visitation: what is taken after what, by distance and age, summed over users.

Pairs that differ grow with users, not with items. So at most MOST_PAIRS are held: a sum that grows
beyond goes to a temporary file, and at the end the sums are added up some rows at a time.
"""

from __future__ import annotations

import operator
from collections.abc import Iterator
from dataclasses import dataclass
from functools import reduce
from itertools import chain
from tempfile import TemporaryFile
from typing import IO, Protocol

import numpy as np
from scipy import sparse

from recsys.asof import new_days
from recsys.dataset import DAY, Log
from recsys.neighbours import Neighbours, keep_strongest

MOST_PAIRS = 1 << 24  # in one sum: 200 MB
SCALED_ROWS = 4096  # whose pairs are divided at once


class PairConfig(Protocol):
    """The settings that count here; see `recsys.state.StateConfig`."""

    @property
    def pair_distance(self) -> int:
        """Events apart, at most."""

    @property
    def pair_decay(self) -> float:
        """What a day (or event) further apart leaves of a pair."""

    @property
    def pair_days(self) -> float:
        """Half-life of a pair."""


def pairs_of(
    taken: Log, as_of: int, n_items: int, dated: bool, config: PairConfig
) -> sparse.csr_matrix:
    """Weigh each (earlier item, later item) of a user by distance and age; one basket both ways."""
    row, unit = taken.row, DAY if dated else 1
    day = taken.moment // unit
    number = np.cumsum(new_days(row, day))
    days = (as_of - taken.moment) / DAY if dated else np.zeros(len(taken))
    fresh = 0.5 ** (days / config.pair_days)
    total = sparse.csr_matrix((n_items, n_items), dtype=np.float64)
    for step in range(1, config.pair_distance + 1):
        left = np.flatnonzero(row[:-step] == row[step:])
        right = left + step
        use = taken.item[left] != taken.item[right]
        left, right = left[use], right[use]
        apart = number[right] - number[left]
        weight = config.pair_decay ** np.maximum(apart - 1, 0) * fresh[right]
        ends = taken.item[left], taken.item[right]
        total = total + sparse.csr_matrix((weight, ends), (n_items, n_items))
        same = apart == 0
        back = (taken.item[right[same]], taken.item[left[same]])
        total = total + sparse.csr_matrix((weight[same], back), (n_items, n_items))
    return total


class PairSums:
    """Sums of pairs (n_items, n_items), added one bucket of users after the other.

    To be used in a `with`, which closes its files.
    """

    def __init__(self, n_items: int, most: int = MOST_PAIRS):
        """Begin with no pair; a sum of more than `most` goes to a file."""
        self._most = most
        self._sum = sparse.csr_matrix((n_items, n_items), dtype=np.float64)
        self._stored: list[_Stored] = []
        self._left, self._right = np.zeros(n_items), np.zeros(n_items)

    def __enter__(self) -> PairSums:
        return self

    def __exit__(self, *_: object) -> None:
        for one in self._stored:
            one.file.close()

    def add(self, pairs: sparse.csr_matrix) -> None:
        """Add the pairs of some users."""
        self._sum = self._sum + pairs
        self._left += np.asarray(pairs.sum(1)).ravel()
        self._right += np.asarray(pairs.sum(0)).ravel()
        if self._sum.nnz > self._most:
            self._stored.append(_store(self._sum))
            self._sum = sparse.csr_matrix(self._sum.shape, dtype=np.float64)

    def neighbours(self, keep: int) -> tuple[Neighbours, Neighbours]:
        """Return what follows and what precedes each item most strongly, `keep` of each.

        A pair is divided by the geometric mean of how often its two ends pair at all; float32.
        """
        shape = self._sum.shape
        follows, precedes = [], sparse.csr_matrix(shape, dtype=np.float32)
        with np.errstate(divide="ignore"):
            left, right = 1.0 / np.sqrt(self._left), 1.0 / np.sqrt(self._right)
        left[np.isinf(left)] = right[np.isinf(right)] = 0.0
        for first, last in self._cuts():
            some = self._rows(first, last)
            scaled = _scaled(some, left[first:last], right)
            del some
            follows.append(keep_strongest(scaled, keep))
            back = scaled.T.tocsr()
            del scaled
            back = sparse.csr_matrix((back.data, back.indices + first, back.indptr), shape)
            precedes = keep_strongest(precedes + back, keep)
        return sparse.vstack(follows).tocsr(), precedes

    def _cuts(self) -> Iterator[tuple[int, int]]:
        """Cut the items so that each part has about `most` pairs, before equal ones are added."""
        pairs = self._sum.indptr.astype(np.int64) + sum(one.indptr for one in self._stored)
        cuts = np.flatnonzero(np.diff(pairs[:-1] // max(self._most, 1))) + 1
        return zip([0, *cuts], [*cuts, len(pairs) - 1], strict=True)

    def _rows(self, first: int, last: int) -> sparse.csr_matrix:
        """Add up the pairs of some items, in the order in which they came."""
        earlier = (one.rows(first, last) for one in self._stored)
        return reduce(operator.add, chain(earlier, [self._sum[first:last]]))


@dataclass(frozen=True)
class _Stored:
    """A sum of pairs in a file without a name, which goes when it is closed."""

    indptr: np.ndarray  # (n_items + 1,) int64
    file: IO[bytes]  # the int32 columns of all pairs, then their float64 sums

    def rows(self, first: int, last: int) -> sparse.csr_matrix:
        """Read the pairs of some items."""
        low, high = self.indptr[[first, last]]
        columns = self._read(np.int32, low, high)
        values = self._read(np.float64, low, high, offset=4 * self.indptr[-1])
        shape = (last - first, len(self.indptr) - 1)
        return sparse.csr_matrix((values, columns, self.indptr[first : last + 1] - low), shape)

    def _read(self, dtype: type, low: int, high: int, offset: int = 0) -> np.ndarray:
        self.file.seek(offset + low * np.dtype(dtype).itemsize)
        return np.fromfile(self.file, dtype, high - low)


def _store(pairs: sparse.csr_matrix) -> _Stored:
    """Write a sum of pairs to a file."""
    file = TemporaryFile()  # noqa: SIM115  closed by its owner
    pairs.indices.astype(np.int32, copy=False).tofile(file)
    pairs.data.tofile(file)
    return _Stored(pairs.indptr.astype(np.int64), file)


def _scaled(pairs: sparse.csr_matrix, left: np.ndarray, right: np.ndarray) -> sparse.csr_matrix:
    """Multiply each pair by the numbers of both its ends; float32.

    Some rows at a time, beside the pairs themselves: of a large log these are most of the memory.
    """
    scaled, counts = np.empty(pairs.nnz, np.float32), np.diff(pairs.indptr)
    for first in range(0, len(counts), SCALED_ROWS):
        rows = slice(first, first + SCALED_ROWS)
        low, high = pairs.indptr[first], pairs.indptr[min(first + SCALED_ROWS, len(counts))]
        both = np.repeat(left[rows], counts[rows]) * right[pairs.indices[low:high]]
        scaled[low:high] = pairs.data[low:high] * both
    return sparse.csr_matrix((scaled, pairs.indices, pairs.indptr), pairs.shape)
