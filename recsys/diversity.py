"""What a list offers its user beside accuracy: variety, surprise that is liked, the user's own mix.

`lists` is (n_requests, length) item codes, best first, -1 = empty place. All values are of each
request at several cut-offs at once, (n_requests, n_ks), and NaN where nothing can be said.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch

ROWS_AT_A_TIME = 4_096  # lists whose vectors are added up at once: 25 MB at 384 dimensions


@dataclass(frozen=True)
class Mix:
    """How a user's items are spread over categories: shares above 0, sorted by request."""

    request: np.ndarray  # (n_shares,) int64 row of the request
    category: np.ndarray  # (n_shares,) int64
    share: np.ndarray  # (n_shares,) float64; those of a request add up to 1


def intra_list_distance(lists: np.ndarray, vectors: np.ndarray, ks: Sequence[int]) -> np.ndarray:
    """Average 1 - cosine over all pairs of a list's first k items.

    The cosines of all pairs of unit vectors are |their sum|^2 less their number, so no pair is
    looked at: a list costs what adding up its vectors costs.

    Args:
        lists: (n_requests, length) rows of `vectors`, -1 = empty place.
        vectors: (n_items, dims) float32 of length 1.
        ks: cut-offs, ascending.

    Returns:
        (n_requests, n_ks) float64, NaN where fewer than two items are listed.

    Source: Ziegler et al., "Improving Recommendation Lists Through Topic Diversification" (WWW
    2005), its intra-list similarity; as a distance in Vargas & Castells (RecSys 2011).
    """
    weight = torch.from_numpy(np.ascontiguousarray(vectors, np.float32))
    distance = np.empty((len(lists), len(ks)))
    for start in range(0, len(lists), ROWS_AT_A_TIME):
        some = lists[start : start + ROWS_AT_A_TIME]
        distance[start : start + len(some)] = _distances(some, weight, ks)
    return distance


def serendipity(
    request: np.ndarray,
    rank: np.ndarray,
    ordinary_rank: np.ndarray,
    n_requests: int,
    ks: Sequence[int],
) -> np.ndarray:
    """Count the relevant items in the first k that an ordinary recommender has not in its first k.

    Args:
        request: (n_relevant,) int64 row of the request of each relevant item.
        rank: (n_relevant,) float64 where the model put it, inf = not listed.
        ordinary_rank: (n_relevant,) float64 where the ordinary recommender put it.
        n_requests: requests 0..n_requests-1 get a value.
        ks: cut-offs.

    Returns:
        (n_requests, n_ks) float64: the count over k; NaN where nothing is relevant.

    Source: Ge, Delgado-Battenfeld & Jannach, "Beyond accuracy" (RecSys 2010): unexpected is what a
    primitive model does not list, here recent popularity; useful is what was then taken.
    """
    n_relevant = np.bincount(request, minlength=n_requests)
    found = np.empty((n_requests, len(ks)))
    for at, k in enumerate(ks):
        liked = (rank <= k) & ~(ordinary_rank <= k)
        found[:, at] = np.bincount(request, liked, n_requests) / k
    found[n_relevant == 0] = np.nan
    return found


def mix_of(request: np.ndarray, category: np.ndarray, n_categories: int) -> Mix:
    """Share out each request's items among their categories; those without one (-1) do not count.

    Args:
        request: (n,) int64 row of the request of each item that its user took.
        category: (n,) int category of that item.
        n_categories: how many there are.
    """
    known = category >= 0
    key = request[known].astype(np.int64) * max(n_categories, 1) + category[known]
    keys, counts = np.unique(key, return_counts=True)
    row, kind = np.divmod(keys, max(n_categories, 1))
    total = np.bincount(row, counts) if len(row) else np.ones(1)
    return Mix(row, kind, counts / total[row])


def miscalibration(
    lists: np.ndarray, category: np.ndarray, wanted: Mix, ks: Sequence[int], alpha: float = 0.01
) -> np.ndarray:
    """Measure how far the categories of a list are from those of what its user took.

    The Kullback-Leibler divergence of the list's shares q from the user's p, in nats:
    sum of p log(p / q'), with q' = (1 - alpha) q + alpha p, so that a category that is not listed
    costs much and not infinitely much. 0 = the same mix; -log(alpha) = nothing in common.

    Args:
        lists: (n_requests, length) item codes, -1 = empty place.
        category: (n_items,) int category of each item, -1 = none.
        wanted: mixes of what the users took, of the rows of `lists`.
        ks: cut-offs, ascending.
        alpha: how much q is drawn to p.

    Returns:
        (n_requests, n_ks) float64, NaN where no item of the list or none that was taken has a
        category.

    Source: Steck, "Calibrated Recommendations" (RecSys 2018), equations 2 to 6, all weights equal.
    """
    listed = np.append(category, -1)[lists]  # of an empty place -1, so the last: none
    theirs = np.bincount(wanted.request, minlength=len(lists)) > 0
    divergence = np.empty((len(lists), len(ks)))
    hits, known, begin = np.zeros(len(wanted.share)), np.zeros(len(lists)), 0
    for at, k in enumerate(ks):
        some = listed[:, begin:k]
        hits = hits + np.count_nonzero(some[wanted.request] == wanted.category[:, None], axis=1)
        known = known + np.count_nonzero(some >= 0, axis=1)
        count = known[wanted.request]
        q = np.divide(hits, count, out=np.zeros(len(hits)), where=count > 0)
        terms = wanted.share * np.log(wanted.share / ((1 - alpha) * q + alpha * wanted.share))
        total = np.bincount(wanted.request, terms, len(lists))
        divergence[:, at] = np.where(theirs & (known > 0), total, np.nan)
        begin = k
    return divergence


def _distances(lists: np.ndarray, vectors: torch.Tensor, ks: Sequence[int]) -> np.ndarray:
    """(n_requests, n_ks) float64: vectors are added up between cut-offs, then from the top on."""
    ends = [0, *ks]
    cut = lists[:, : ends[-1]]
    filled = cut >= 0
    counts = np.stack([filled[:, a:b].sum(1) for a, b in pairwise(ends)], 1)
    starts = np.concatenate([[0], np.cumsum(counts)[:-1]]) if counts.size else counts.ravel()
    sums = torch.nn.functional.embedding_bag(
        torch.from_numpy(cut[filled].astype(np.int64)), vectors, torch.from_numpy(starts),
        mode="sum",
    ).view(len(lists), len(ks), -1)  # fmt: skip
    length = torch.linalg.vector_norm(sums.cumsum(1), dim=2).double().numpy()
    n = counts.cumsum(1).astype(float)
    pairs = np.where(n > 1, n * (n - 1), np.nan)
    return np.asarray(1 - (length**2 - n) / pairs)
