"""ALS, the matrix factorisation every recommender is compared with, by the `implicit` library.

It is a baseline of every report and an optional candidate source. One seed gives one model, bit for
bit, whatever the number of threads: each user and each item is solved by one thread, from factors
that the others do not change meanwhile, and what is summed over all of them runs on one.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from implicit.als import AlternatingLeastSquares
from scipy import sparse
from threadpoolctl import threadpool_limits

Als = Any  # a fitted AlternatingLeastSquares; implicit has no types
FACTORS, ITERATIONS, REGULARISATION, CONFIDENCE = 64, 15, 0.05, 10.0


def fit_als(users: sparse.csr_matrix, seed: int) -> Als:
    """Fit ALS, counts as confidence.

    Args:
        users: (n_users, n_items) float32, how often each user took each item.
        seed: of the factors that it starts from.

    Source: Hu, Koren, Volinsky, "Collaborative filtering for implicit feedback datasets" (2008).
    """
    with threadpool_limits(1, "blas"):  # implicit runs its own threads
        model = AlternatingLeastSquares(
            FACTORS, REGULARISATION, CONFIDENCE, iterations=ITERATIONS, random_state=seed
        )
        model.fit(users, show_progress=False)
    model.num_threads = 1  # to fold users in: lists are made by blocks in threads anyway
    return model


def als_scores(model: Als, history: sparse.csr_matrix) -> np.ndarray:
    """Score the catalogue for users given by their past; see `als_users`.

    Returns:
        (n_requests, n_items) float32; a user without a past scores 0 everywhere.
    """
    return np.asarray(als_users(model, history) @ model.item_factors.T, dtype=np.float32)


def als_users(model: Als, history: sparse.csr_matrix) -> np.ndarray:
    """Work out the factors of users from their past.

    Args:
        model: fitted.
        history: (n_requests, n_items) counts of what each user had taken by the request.

    Returns:
        (n_requests, n_factors) float32; zeros for a user without a past.
    """
    with threadpool_limits(1, "blas"):
        return np.asarray(model.recalculate_user(np.arange(history.shape[0]), history), np.float32)
