"""ALS, the matrix factorisation every recommender is compared with, by the `implicit` library."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
from implicit.als import AlternatingLeastSquares
from scipy import sparse
from threadpoolctl import threadpool_limits

from recsys.dataset import Log

Als = Any  # a fitted AlternatingLeastSquares; implicit has no types
FACTORS, ITERATIONS, REGULARISATION, CONFIDENCE = 64, 15, 0.05, 10.0


def fit_als(logs: Iterable[Log], as_of: int, n_items: int, seed: int) -> Als:
    """Fit ALS on what was taken strictly before `as_of`, counts as confidence.

    Source: Hu, Koren, Volinsky, "Collaborative filtering for implicit feedback datasets" (2008).
    """
    parts = []
    for log in logs:
        taken = log.keep((log.moment < as_of) & (log.grade > 0))
        shape = (len(taken.users), n_items)
        ones = np.ones(len(taken), np.float32)
        parts.append(sparse.csr_matrix((ones, (taken.row, taken.item)), shape))
    with threadpool_limits(1, "blas"):  # implicit runs its own threads
        model = AlternatingLeastSquares(
            FACTORS, REGULARISATION, CONFIDENCE, iterations=ITERATIONS, random_state=seed
        )
        model.fit(sparse.vstack(parts).tocsr(), show_progress=False)
    return model


def als_scores(model: Als, history: sparse.csr_matrix) -> np.ndarray:
    """Score the catalogue for users given by their past.

    Args:
        model: fitted.
        history: (n_requests, n_items) counts of what each user had taken by the request.

    Returns:
        (n_requests, n_items) float32; a user without a past scores 0 everywhere.
    """
    with threadpool_limits(1, "blas"):
        users = model.recalculate_user(np.arange(history.shape[0]), history)
    return np.asarray(users @ model.item_factors.T, dtype=np.float32)
