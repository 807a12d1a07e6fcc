"""What a source says, in the form it has by nature: entries, one row for all, a product of vectors.

A small catalogue is scored whole (`dense`). Of a large one no table is ever made: some columns are
(`part`), or single pairs are looked up (`at`). Each form answers all of these with the same
numbers, up to the rounding of a sum, so that how candidates are found changes nothing in what they
are.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Protocol, TypeAlias

import numpy as np
import torch
from scipy import sparse

from recsys.candidates import items_of_texts, text_scores
from recsys.index import TextIndex
from recsys.neighbours import dense_product, product_at
from recsys.offer import Offer

PAIRS_AT_ONCE = 8192  # whose vectors lie beside each other, in the cache


class Scores(Protocol):
    """Scores of some requests for every item, float32, nothing masked."""

    def dense(self) -> np.ndarray:
        """Return all, (n_requests, n_items)."""

    def at(self, request: np.ndarray, item: np.ndarray) -> np.ndarray:
        """Return those of some pairs, (n_pairs,)."""


@dataclass(frozen=True)
class Listed:
    """Few entries a request, 0 elsewhere; of items, or of texts that items have."""

    weights: (
        sparse.csr_matrix
    )  # (n_requests, n): the entries; or with `strengths`, what these weigh
    text_of_item: np.ndarray | None = None  # (n_items,) int64; None = the columns are items
    strengths: sparse.csr_matrix | None = None  # (n, n_items or n_texts) of what goes with each

    @cached_property
    def entries(self) -> sparse.csr_matrix:
        """(n_requests, n_items or n_texts) of them, by columns in any order."""
        if self.strengths is None:
            return self.weights
        return (self.weights @ self.strengths).tocsr()

    def dense(self) -> np.ndarray:
        """Return all, (n_requests, n_items)."""
        if self.strengths is None:
            table = np.asarray(self.weights.toarray(), dtype=np.float32)
        else:  # the same sums as in the sparse product, without finding out first where they are
            table = dense_product(self.weights, self.strengths)
        return table if self.text_of_item is None else items_of_texts(table, self.text_of_item)

    def at(self, request: np.ndarray, item: np.ndarray) -> np.ndarray:
        """Return those of some pairs, (n_pairs,)."""
        column = item if self.text_of_item is None else self.text_of_item[item]
        if not len(request):  # of no pair SciPy makes a matrix
            return np.zeros(0, np.float32)
        if self.strengths is not None:
            return product_at(self.weights, self.strengths, request, column)
        return np.asarray(self._ordered[request, column], dtype=np.float32).ravel()

    @cached_property
    def _ordered(self) -> sparse.csr_matrix:
        """The weights, columns ascending, to be searched by halving."""
        return self.weights.sorted_indices()


@dataclass(frozen=True)
class Alike:
    """The same for each request."""

    values: np.ndarray  # (n_items,) float32
    n_requests: int

    def dense(self) -> np.ndarray:
        """Return all, (n_requests, n_items)."""
        return np.tile(self.values, (self.n_requests, 1))

    def at(self, request: np.ndarray, item: np.ndarray) -> np.ndarray:
        """Return those of some pairs, (n_pairs,)."""
        return np.asarray(self.values[item])


@dataclass(frozen=True)
class Products:
    """The product of a request's vector and an item's; items of one text have one vector."""

    users: np.ndarray  # (n_requests, dim) float32
    vectors: np.ndarray  # (n_items or n_texts, dim) float32
    text_of_item: np.ndarray | None = None  # (n_items,) int64; None = the rows are items
    index: TextIndex | None = None  # over the vectors

    def dense(self) -> np.ndarray:
        """Return all, (n_requests, n_items)."""
        every = np.arange(len(self.vectors)) if self.text_of_item is None else self.text_of_item
        return text_scores(self.users, self.vectors, every)

    def part(self, rows: np.ndarray, items: np.ndarray) -> np.ndarray:
        """Return those of some requests and items, (n_rows, len(items))."""
        vectors = torch.from_numpy(self.vectors[self._vector_of(items)])
        return np.asarray((torch.from_numpy(self.users[rows]) @ vectors.T).numpy())

    def at(self, request: np.ndarray, item: np.ndarray) -> np.ndarray:
        """Return those of some pairs, (n_pairs,)."""
        return self.of_vectors(request, self._vector_of(item))

    def of_vectors(self, request: np.ndarray, vector: np.ndarray) -> np.ndarray:
        """Do the same for rows of `vectors`."""
        found = np.empty(len(request), np.float32)
        for at in range(0, len(request), PAIRS_AT_ONCE):
            some = slice(at, at + PAIRS_AT_ONCE)
            users, items = self.users[request[some]], self.vectors[vector[some]]
            found[some] = np.einsum("nd,nd->n", users, items)
        return found

    def _vector_of(self, items: np.ndarray) -> np.ndarray:
        return items if self.text_of_item is None else self.text_of_item[items]


@dataclass(frozen=True)
class NewOnly:
    """A product plus 1 for new items, 0 for others."""

    products: Products
    new: np.ndarray  # (n_items,) bool

    def dense(self) -> np.ndarray:
        """Return all, (n_requests, n_items)."""
        n_requests, items = len(self.products.users), np.flatnonzero(self.new)
        table = np.zeros((n_requests, len(self.new)), np.float32)
        table[:, items] = self.part(np.arange(n_requests), items)
        return table

    def part(self, rows: np.ndarray, items: np.ndarray) -> np.ndarray:
        """Return those of some requests and new items, (n_rows, len(items))."""
        return np.asarray(1.0 + self.products.part(rows, items))

    def at(self, request: np.ndarray, item: np.ndarray) -> np.ndarray:
        """Return those of some pairs, (n_pairs,)."""
        return np.where(self.new[item], 1.0 + self.products.at(request, item), np.float32(0.0))


@dataclass(frozen=True)
class Shares:
    """What a request's share of an item's group is, times the item's share of it."""

    mine: np.ndarray  # (n_requests, n_groups) float32
    group: np.ndarray  # (n_items,) int64
    share: np.ndarray  # (n_items,) float32

    def dense(self) -> np.ndarray:
        """Return all, (n_requests, n_items)."""
        return np.asarray(self.mine[:, self.group] * self.share)

    def part(self, rows: np.ndarray, items: np.ndarray) -> np.ndarray:
        """Return those of some requests and items, (n_rows, len(items))."""
        return np.asarray(self.mine[np.ix_(rows, self.group[items])] * self.share[items])

    def at(self, request: np.ndarray, item: np.ndarray) -> np.ndarray:
        """Return those of some pairs, (n_pairs,)."""
        return np.asarray(self.mine[request, self.group[item]] * self.share[item])


InParts: TypeAlias = Products | NewOnly | Shares


@dataclass(frozen=True, eq=False)
class Scored(Mapping[str, np.ndarray]):
    """Every source's scores (n_requests, n_items) float32, -inf = must not be listed.

    A table is made when it is asked for, and kept where it may be asked for again; pairs are looked
    up in it where there is one, and in the source itself where there is none.
    """

    sources: Mapping[str, Scores]
    offer: Offer
    keep: bool  # tables; of a large catalogue none
    _tables: dict[str, np.ndarray] = field(default_factory=dict)

    def at(self, request: np.ndarray, item: np.ndarray) -> dict[str, np.ndarray]:
        """Return every source's score of some pairs, (n_pairs,) each."""
        allowed = self.offer.allows(request, item)
        return {name: self._tables[name][request, item] if name in self._tables
                else np.where(allowed, scores.at(request, item), np.float32(-np.inf))
                for name, scores in self.sources.items()}  # fmt: skip

    def __getitem__(self, name: str) -> np.ndarray:
        table = self._tables.get(name)
        if table is None:
            table = self.offer.mask(self.sources[name].dense())
            if self.keep:
                self._tables[name] = table
        return table

    def __iter__(self) -> Iterator[str]:
        return iter(self.sources)

    def __len__(self) -> int:
        return len(self.sources)
