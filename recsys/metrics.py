"""Ranking metrics of many requests at once, from the ranks of their relevant items alone.

A metric needs no list: where each relevant item stands in the model's order is enough, and that is
a few numbers a request however large the catalogue is. The relevant items of all requests are back
to back: `request` is the row of the request, `grade` says how relevant, `rank` where the model put
the item (1 = best). Tied items share their average rank, so a rank can end in .5; an item that is
not listed has rank inf.

A tie can put more items at an average rank <= k than k places hold. Then k of them count, the ones
of the lowest grade: no metric exceeds 1, and none depends on the order of the rows.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

KS = (5, 10, 20, 50)
ROWS_AT_A_TIME = 8  # rows of scores copied at once in `ranks_from_scores`


def request_metrics(
    request: np.ndarray,
    grade: np.ndarray,
    rank: np.ndarray,
    n_requests: int,
    ks: Sequence[int] = KS,
) -> dict[str, np.ndarray]:
    """Compute every metric of every request at each cut-off.

    * ndcg: the sum of (2**grade - 1) / log2(rank + 1), over that sum for the best possible list
    * recall: the share of the relevant items within k
    * hr: 1 if any relevant item is within k
    * mrr: 1 / rank of the best relevant item within k
    * map: the sum of the precisions at the relevant items within k, over min(n_relevant, k)

    All are normalised by all relevant items of the request, also those the candidates missed. The
    precision at the n-th relevant item is n over its rank, for tied items too.

    Args:
        request: (n_relevant,) int64 row of the request.
        grade: (n_relevant,) int >= 1.
        rank: (n_relevant,) float64, inf = not listed.
        n_requests: requests 0..n_requests-1 get a value.
        ks: cut-offs; ranks after k count for nothing.

    Returns:
        "ndcg_at_10" and so on -> (n_requests,) float64, NaN where nothing is relevant.

    Source: Burges et al., "Learning to Rank using Gradient Descent" (ICML 2005), exponential gain.
    """
    order = np.lexsort((grade, rank, request))
    request, grade, rank = request[order], grade[order], np.asarray(rank, float)[order]
    n_relevant = np.bincount(request, minlength=n_requests).astype(float)
    n_relevant[n_relevant == 0] = np.nan
    place = _places(request, n_requests)
    gain = 2.0**grade - 1
    discounted = gain / np.log2(rank + 1)
    precision = place / rank
    ideal_gain = gain[np.lexsort((-gain, request))] / np.log2(place + 1)

    def total(values: np.ndarray) -> np.ndarray:
        return np.bincount(request, weights=values, minlength=n_requests)

    metrics = {}
    for k in ks:
        within = (rank <= k) & (place <= k)
        with np.errstate(invalid="ignore"):  # 0 / 0 where nothing is relevant
            metrics[f"ndcg_at_{k}"] = total(discounted * within) / total(ideal_gain * (place <= k))
        metrics[f"recall_at_{k}"] = total(within) / n_relevant
        best = total(within * (place == 1) / rank)
        metrics[f"hr_at_{k}"] = np.where(np.isnan(n_relevant), np.nan, best > 0)
        metrics[f"mrr_at_{k}"] = np.where(np.isnan(n_relevant), np.nan, best)
        metrics[f"map_at_{k}"] = total(precision * within) / np.minimum(n_relevant, k)
    return metrics


def ranks_from_scores(
    scores: np.ndarray,
    request_rows: np.ndarray,
    items: np.ndarray,
    threshold: np.ndarray,
    k_max: int,
) -> np.ndarray:
    """Rank some items among all scores of their request; ties count at their average rank.

    Only items at or above the threshold are counted against the catalogue, which are few.

    Args:
        scores: (n_requests, n_items) float32; -inf = never listed.
        request_rows: (n_relevant,) int64 row in `scores`.
        items: (n_relevant,) int column in `scores`.
        threshold: (n_requests,) the k_max-th largest score of each request (from `torch.topk`).
        k_max: ranks after this one are not needed.

    Returns:
        (n_relevant,) float64: 1 + number of larger scores + (number of equal scores - 1) / 2 where
        that is at most k_max, else inf.
    """
    own = scores[request_rows, items]
    rank: np.ndarray = np.full(len(own), np.inf)
    asked = np.flatnonzero((own >= threshold[request_rows]) & (own > -np.inf))
    for start in range(0, len(asked), ROWS_AT_A_TIME):
        some = asked[start : start + ROWS_AT_A_TIME]
        against, mine = scores[request_rows[some]], own[some, None]
        larger = np.count_nonzero(against > mine, axis=1)
        equal = np.count_nonzero(against == mine, axis=1)
        rank[some] = 1 + larger + (equal - 1) / 2
    return np.where(rank <= k_max, rank, np.inf)


def ranks_in_lists(lists: np.ndarray, request_rows: np.ndarray, items: np.ndarray) -> np.ndarray:
    """Find where items stand in lists that are kept: no item may be in one list twice.

    Args:
        lists: (n_requests, length) item codes, best first, -1 = empty place.
        request_rows: (n_relevant,) int64 row in `lists`.
        items: (n_relevant,) int >= 0.

    Returns:
        (n_relevant,) float64 from 1, inf where the item is not listed.
    """
    same = lists[request_rows] == np.asarray(items)[:, None]
    if not same.shape[1]:
        return np.full(len(items), np.inf)
    return np.where(same.any(axis=1), same.argmax(axis=1) + 1.0, np.inf)


def _places(request: np.ndarray, n_requests: int) -> np.ndarray:
    """(n_relevant,) int64: 1, 2, ... within each request; `request` ascending."""
    begins = np.searchsorted(request, np.arange(n_requests))
    place: np.ndarray = np.arange(1, len(request) + 1) - begins[request]
    return place
