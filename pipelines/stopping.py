"""How good the interest score is by itself, and where the encoder window stops to learn.

Early stopping looks at the last tenth of the encoder window.
"""

from __future__ import annotations

import numpy as np

from recsys.asof import last_items, past_of
from recsys.candidates import block_size, text_scores, top_items
from recsys.dataset import DAY, Log
from recsys.interest import user_vectors
from recsys.metrics import ranks_from_scores, request_metrics
from recsys.split import Requests, Windows, requests_in
from recsys.training import Tower

STOPPING_REQUESTS = 1000  # requests that early stopping looks at


def stopping_moment(log: Log, windows: Windows) -> int:
    """Return where the last tenth of the encoder window begins, at a midnight."""
    if not windows.dated:
        return windows.ranker - 1
    day = np.sort(log.moment[(log.moment < windows.ranker) & (log.grade > 0)] // DAY)
    return int(day[int(0.9 * len(day))]) * DAY


def some_requests(
    log: Log, windows: Windows, span: tuple[int, int], rng: np.random.Generator
) -> Requests:
    """Draw the requests of [start, end) that the interest score is looked at on."""
    requests = requests_in(log, windows, *span)
    return requests.take(np.sort(rng.permutation(len(requests))[:STOPPING_REQUESTS]))


def interest_ndcg(
    log: Log, requests: Requests, unit: int, tower: Tower, vectors: np.ndarray,
    text_of_item: np.ndarray, exclude_seen: bool,
) -> float:  # fmt: skip
    """Return the mean of `interest_values`."""
    values = interest_values(log, requests, unit, tower, vectors, text_of_item, exclude_seen)
    return float(np.nanmean(values))


def interest_values(
    log: Log, requests: Requests, unit: int, tower: Tower, vectors: np.ndarray,
    text_of_item: np.ndarray, exclude_seen: bool,
) -> np.ndarray:  # fmt: skip
    """Return each request's NDCG@10 of ranking all distinct texts by the interest score alone.

    Items that share a text are one target, as in training: text cannot tell them apart.

    Args:
        log: events of all users; those at or after a request's moment are not looked at.
        requests: (n_requests) to measure on.
        unit: length of a day in moments.
        tower: user side.
        vectors: (n_texts, dim) unit vectors of the texts.
        text_of_item: (n_items,) int64.
        exclude_seen: whether what a user took before is left out.

    Returns:
        (n_requests,) float64.
    """
    n_texts, values = len(vectors), []
    size = block_size(n_texts)
    for at in range(0, len(requests), size):
        some = requests.take(np.arange(at, min(at + size, len(requests))))
        past = past_of(log, some.user, some.moment, unit, limit=len(log))
        past = past.keep(past.grade > 0)
        recent = last_items(past, tower.pooling.history)
        recent = np.where(recent >= 0, text_of_item[recent], -1)
        users = user_vectors(tower.pooling, vectors, recent)
        scores = text_scores(users, vectors, np.arange(n_texts))
        if exclude_seen:
            scores[past.request, text_of_item[past.item]] = -np.inf
        request = np.repeat(np.arange(len(some)), np.diff(some.indptr))
        key, text_row = np.unique(request * n_texts + text_of_item[some.item], return_inverse=True)
        grade = np.zeros(len(key), np.int64)
        np.maximum.at(grade, text_row, some.grade)
        request, text = np.divmod(key, n_texts)
        rank = ranks_from_scores(scores, request, text, top_items(scores, 10)[1][:, -1], 10)
        metrics = request_metrics(request, grade, rank, len(some), (10,))
        values.append(metrics["ndcg_at_10"])
    return np.concatenate(values)
