"""Nearest texts by an index: approximate, many times cheaper than comparing with all of a million.

The index only says which texts may be the nearest; how near they are is computed from the vectors
themselves. What share of the true nearest it finds is measured when it is built, never assumed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from recsys.errors import ConfigError

LISTS_PER_ROOT = 2.0  # lists, over the square root of the vectors: as many steps to choose one
POINTS_A_LIST = 64  # that its centre is learned from
TURNS = 10  # of k-means
NEAREST = 100  # that recall is measured on
ENOUGH = 0.985  # recall to search on for: of lists looked at, the fewest that reach it
CAREFUL = 0.9  # a recall below this is said to be low
FEWEST_LISTS, MOST_SHARE = 8, 0.25  # looked at, to begin with; of all lists, in the end
ROWS = 1 << 16  # vectors compared at a time


@dataclass(frozen=True)
class TextIndex:
    """Vectors in lists around learned centres; a search looks at the lists nearest to it."""

    faiss: Any  # an IndexIVF of inner products
    lists: int  # looked at by each search
    recall: float  # share of the true nearest that it finds, measured

    def search(self, users: np.ndarray, k: int) -> np.ndarray:
        """Return the (n, k) int64 rows of the nearest vectors, best first; -1 = no more found.

        Threads may search at once; each search runs in the thread that asks.
        """
        return _search(self.faiss, users, k, self.lists)


def build_index(vectors: np.ndarray, users: np.ndarray) -> TextIndex:
    """Build an index over unit vectors and measure what it finds.

    Same vectors, same index: what k-means starts from is drawn by a fixed seed. Vectors are held
    in 16 bits. Source: Jegou, Douze, Schmid, "Product quantization for nearest neighbor search"
    (TPAMI 2011), section IV, the inverted file; Douze et al., "The Faiss library" (2024).

    Args:
        vectors: (n_texts, dim) float32 unit rows.
        users: (n_sample, dim) float32 that recall is measured on; none = recall is NaN.

    Raises:
        ConfigError: faiss is not installed.
    """
    faiss = _faiss()
    faiss.omp_set_num_threads(torch.get_num_threads())
    n_lists = max(1, int(LISTS_PER_ROOT * len(vectors) ** 0.5))
    index = faiss.index_factory(vectors.shape[1], f"IVF{n_lists},SQfp16",
                                faiss.METRIC_INNER_PRODUCT)  # fmt: skip
    index.cp.niter, index.cp.max_points_per_centroid = TURNS, POINTS_A_LIST
    index.cp.min_points_per_centroid = 1  # of few vectors nothing is printed
    index.train(vectors)
    index.add(vectors)
    nearest = exact_nearest(users, vectors, NEAREST)
    lists = min(FEWEST_LISTS, n_lists)
    if not len(users):
        return TextIndex(index, lists, float("nan"))
    recall = _recall(_search(index, users, nearest.shape[1], lists), nearest)
    while recall < ENOUGH and 2 * lists <= MOST_SHARE * n_lists:
        lists *= 2
        recall = _recall(_search(index, users, nearest.shape[1], lists), nearest)
    return TextIndex(index, lists, recall)


def exact_nearest(users: np.ndarray, vectors: np.ndarray, k: int) -> np.ndarray:
    """Return the (n, k) rows of the nearest of all vectors; a part of them is held at a time."""
    best, rows = torch.empty(len(users), 0), torch.empty(len(users), 0, dtype=torch.int64)
    for at in range(0, len(vectors), ROWS):
        scores = torch.from_numpy(users) @ torch.from_numpy(vectors[at : at + ROWS]).T
        best = torch.cat([best, scores], 1)
        rows = torch.cat([rows, torch.arange(at, at + scores.shape[1]).expand(len(users), -1)], 1)
        best, places = torch.topk(best, min(k, best.shape[1]))
        rows = rows.gather(1, places)
    return np.asarray(rows.numpy())


def recall_words(index: TextIndex, n_texts: int, n_users: int) -> str:
    """Say what an index finds; with care where that is little, or not known."""
    if not n_users:
        return f"careful: over {n_texts:,} texts; nobody took anything to measure its recall on"
    low = "careful: " if index.recall < CAREFUL else ""
    return (f"{low}over {n_texts:,} texts, recall@{min(NEAREST, n_texts)} {index.recall:.3f} of "
            f"exact on {n_users:,} users")  # fmt: skip


def check_index() -> None:
    """Refuse in words where no index can be built.

    Raises:
        ConfigError: faiss is not installed.
    """
    _faiss()


def _search(index: Any, users: np.ndarray, k: int, lists: int) -> np.ndarray:
    """Search in this thread alone: blocks of users are in threads already."""
    faiss = _faiss()
    before = faiss.omp_get_max_threads()  # LightGBM's too: left behind, training gives other bits
    faiss.omp_set_num_threads(1)
    try:
        params = faiss.SearchParametersIVF(nprobe=lists)
        return np.asarray(index.search(np.ascontiguousarray(users), k, params=params)[1])
    finally:
        faiss.omp_set_num_threads(before)


def _recall(found: np.ndarray, nearest: np.ndarray) -> float:
    """Return the share of `nearest` (n, k) that `found` (n, k) has, row by row."""
    row = np.arange(len(found))[:, None] * (1 + int(max(found.max(), nearest.max())))
    return float(np.isin(row + nearest, (row + found)[found >= 0]).mean())


def _faiss() -> Any:
    """Load faiss, or say in words that it is missing."""
    try:
        import faiss
    except ImportError as error:
        raise ConfigError(
            "candidates.dense_items: a catalogue above it needs an index of texts, and faiss is "
            "not installed; pip install 'recsys-text[ann]', or raise candidates.dense_items to "
            "compare with every text"
        ) from error
    return faiss
