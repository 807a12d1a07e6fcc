"""Which items a request may get: what is on offer then, not left out, and not taken already."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy import sparse

from recsys.dataset import ALWAYS_FROM, ALWAYS_UNTIL, Items


@dataclass(frozen=True)
class Offer:
    """What each of some requests may get of a catalogue."""

    items: Items
    moment: np.ndarray  # (n_requests,) int64
    only: np.ndarray | None  # (n_items,) bool, what may be listed at all; None = everything
    seen: sparse.csr_matrix | None  # (n_requests, n_items), an entry = not again; None = all may

    @cached_property
    def limited(self) -> bool:
        """Whether any item begins or ends."""
        from_, until = self.items.available_from, self.items.available_until
        return bool((from_ != ALWAYS_FROM).any() or (until != ALWAYS_UNTIL).any())

    @cached_property
    def possible(self) -> np.ndarray:
        """(n_items,) bool: what some request may get, as far as dates and `only` go."""
        some = np.ones(len(self.items), bool) if self.only is None else self.only.copy()
        if self.limited and len(self.moment):
            some &= self.items.available_from <= self.moment.max()
            some &= self.items.available_until > self.moment.min()
        return some

    @cached_property
    def spare(self) -> int:
        """How many of the `possible` items a request may not get, at most."""
        moments, at = np.unique(self.moment, return_inverse=True)
        gone = np.zeros(len(moments), np.int64)
        if self.limited:
            from_, until = (some[self.possible] for some in
                            (self.items.available_from, self.items.available_until))  # fmt: skip
            gone = np.array([np.count_nonzero((from_ > one) | (until <= one)) for one in moments])
        seen = 0 if self.seen is None else np.diff(self.seen.indptr)
        return int((gone[at] + seen).max(initial=0))

    @cached_property
    def _taken(self) -> tuple[np.ndarray, np.ndarray]:
        """(request, item) of what must not be listed again, sorted by both."""
        if self.seen is None:
            return np.zeros(0, np.int64), np.zeros(0, np.int64)
        seen = self.seen.sorted_indices()
        return np.repeat(np.arange(seen.shape[0]), np.diff(seen.indptr)), seen.indices

    def allows(self, request: np.ndarray, item: np.ndarray) -> np.ndarray:
        """Say of each pair whether the request may get the item: bool, shapes broadcast."""
        shape = np.broadcast(request, item).shape
        allowed: np.ndarray = np.broadcast_to(self.possible[item], shape)
        if self.limited:
            moment = self.moment[request]
            allowed = allowed & (self.items.available_from[item] <= moment)
            allowed &= self.items.available_until[item] > moment
        row, taken = self._taken
        if len(row):
            known, asked = row * len(self.items) + taken, request * len(self.items) + item
            at = np.minimum(np.searchsorted(known, asked), len(known) - 1)
            allowed = allowed & (known[at] != asked)
        return allowed

    def mask(
        self, scores: np.ndarray, rows: np.ndarray | None = None, columns: np.ndarray | None = None
    ) -> np.ndarray:
        """Set scores to -inf, in place, where an item must not be listed, and return them.

        Args:
            scores: (n_rows, n_columns) of one source.
            rows: (n_rows,) which requests, ascending; None = all.
            columns: (n_columns,) which items, ascending; None = all.
        """
        at, items = _or_all(rows, len(self.moment)), _or_all(columns, len(self.items))
        out = ~self.possible[items]
        if out.any():
            scores[:, out] = -np.inf
        if self.limited:
            moment = self.moment[at][:, None]
            gone = self.items.available_from[items] > moment
            gone |= self.items.available_until[items] <= moment
            scores[gone] = -np.inf
        row, item = self._taken
        if rows is None and columns is None:
            scores[row, item] = -np.inf
        elif len(row):
            (row, mine), (column, held) = _places(row, at), _places(item, items)
            scores[row[mine & held], column[mine & held]] = -np.inf
        return scores


def _or_all(chosen: np.ndarray | None, n: int) -> np.ndarray:
    """Return what is chosen of n, or all."""
    return np.arange(n) if chosen is None else chosen


def _places(values: np.ndarray, among: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return where each value is `among` ascending ones, and whether it is there."""
    if not len(among):
        return np.zeros(len(values), np.int64), np.zeros(len(values), bool)
    at = np.minimum(np.searchsorted(among, values), len(among) - 1)
    return at, among[at] == values
