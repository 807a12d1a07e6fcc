"""Rows of small logs, and what a loop over them says."""

import numpy as np
import pytest

from recsys.dataset import DAY


@pytest.fixture(scope="session")
def random_rows():
    """Draw sorted rows of users 0, 3, 6...: dated (three times a day) or ordered (-n .. -1)."""

    def draw(seed, dated, n_users=12, n_items=8, days=40):
        rng = np.random.default_rng(seed)
        rows = []
        for user in range(0, 3 * n_users, 3):
            n = int(rng.integers(1, 16))
            grade = rng.integers(0, 3, n)
            taken = np.cumsum(grade > 0)
            moment = rng.integers(0, 3 * days, n) * (DAY // 3) if dated else taken - taken[-1] - 1
            price = np.where((grade == 0) | (rng.random(n) < 0.3), np.nan, rng.integers(1, 9, n))
            columns = (moment, rng.integers(0, n_items, n), grade, rng.choice([0.5, 2.0], n), price)
            rows += [(user, *row) for row in zip(*(c.tolist() for c in columns), strict=True)]
        return sorted(rows)

    return draw
