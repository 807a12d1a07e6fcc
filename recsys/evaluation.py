"""How sure a number is: means over requests, and bootstrap intervals that resample users.

The requests of one user are alike, so drawing requests one by one would pretend to more evidence
than there is. A resample draws whole users with all their requests, and its value is the sum of the
drawn users' metrics over the number of their requests, like the mean it stands for.

`values` is (n_requests,) for one metric or (n_requests, n_metrics) for several, which then share
their resamples. A NaN request (nothing relevant) is left out.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

WEIGHTS_AT_A_TIME = 4_000_000  # drawn users held in memory at once: about 100 MB
HISTORY_BINS = {  # events before the request's moment: [from, to)
    "history_0": (0, 1),
    "history_1_4": (1, 5),
    "history_5_19": (5, 20),
    "history_20_plus": (20, np.inf),
}


def mean_over_requests(values: np.ndarray) -> np.ndarray:
    """Return the mean of each metric, a scalar for one; NaN where no request has a value."""
    known = ~np.isnan(values)
    return _ratio(np.where(known, values, 0).sum(axis=0), known.sum(axis=0))


def bootstrap_interval(
    values: np.ndarray,
    user: np.ndarray,
    rng: np.random.Generator,
    n_resamples: int = 1000,
    level: float = 0.95,
) -> tuple[np.ndarray, np.ndarray]:
    """Bound the mean over requests by a percentile bootstrap over users.

    Args:
        values: (n_requests,) or (n_requests, n_metrics) float64, NaN = left out.
        user: (n_requests,) int64 user code.
        rng: source of the draws; one seed, one interval.
        n_resamples: how many times as many users as there are get drawn.
        level: share of the resamples inside the interval.

    Returns:
        (low, high), each a scalar or (n_metrics,); NaN where no request has a value.

    Source: Efron & Tibshirani, "An Introduction to the Bootstrap" (1993), chapter 13.
    """
    means = _resampled_means(
        values[:, None] if values.ndim == 1 else values, user, rng, n_resamples
    )
    tail = (1 - level) / 2
    low, high = np.quantile(means, [tail, 1 - tail], axis=1)
    return low.reshape(values.shape[1:])[()], high.reshape(values.shape[1:])[()]


def paired_interval(
    a: np.ndarray,
    b: np.ndarray,
    user: np.ndarray,
    rng: np.random.Generator,
    n_resamples: int = 1000,
    level: float = 0.95,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Bound the mean difference a - b of two models on the same requests.

    A request that is NaN in either is left out of both.

    Args:
        a: (n_requests,) or (n_requests, n_metrics) float64.
        b: like `a`, row for row the same requests.
        user: (n_requests,) int64 user code.
        rng: source of the draws.
        n_resamples: see `bootstrap_interval`.
        level: see `bootstrap_interval`.

    Returns:
        (difference, low, high), each a scalar or (n_metrics,).
    """
    low, high = bootstrap_interval(a - b, user, rng, n_resamples, level)
    return mean_over_requests(a - b), low, high


def ratio_interval(
    a: np.ndarray,
    b: np.ndarray,
    user: np.ndarray,
    rng: np.random.Generator,
    n_resamples: int = 1000,
    level: float = 0.95,
) -> tuple[float, float, float]:
    """Bound the ratio of two models' means, a over b, on the same requests.

    Args:
        a: (n_requests,) float64; a request that is NaN in either is left out of both.
        b: like `a`, row for row the same requests.
        user: (n_requests,) int64 user code.
        rng: source of the draws.
        n_resamples: see `bootstrap_interval`.
        level: see `bootstrap_interval`.

    Returns:
        (ratio, low, high); infinite where b's mean is 0, NaN where both are.
    """
    both = np.where((np.isnan(a) | np.isnan(b))[:, None], np.nan, np.stack([a, b], 1))
    means = _resampled_means(both, user, rng, n_resamples)
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = float(np.divide(*mean_over_requests(both)))
        low, high = np.quantile(means[0] / means[1], [(1 - level) / 2, (1 + level) / 2])
    return ratio, float(low), float(high)


@dataclass(frozen=True)
class Gap:
    """Means of groups of requests, and how far the worst group is from the best."""

    mean: np.ndarray  # (n_groups,) float64
    low: np.ndarray  # (n_groups,) float64
    high: np.ndarray  # (n_groups,) float64
    best: int
    worst: int
    gap: tuple[float, float, float]  # best less worst, low, high


def group_gap(
    values: np.ndarray,
    groups: np.ndarray,
    user: np.ndarray,
    rng: np.random.Generator,
    n_resamples: int = 1000,
    level: float = 0.95,
) -> Gap:
    """Bound the means of groups of requests, and the gap between the best and the worst of them.

    The two are those of the data, the same in every resample. Where groups are many or small, the
    best and the worst lie apart by chance alone, so the gap is rather too large than too small.

    Args:
        values: (n_requests,) float64, NaN = left out.
        groups: (n_requests, n_groups) bool, n_groups > 0; each has a request with a value.
        user: (n_requests,) int64 user code.
        rng: source of the draws.
        n_resamples: see `bootstrap_interval`.
        level: see `bootstrap_interval`.
    """
    columns = np.where(groups, values[:, None], np.nan)
    mean = mean_over_requests(columns)
    drawn = _resampled_means(columns, user, rng, n_resamples)
    ends = [(1 - level) / 2, (1 + level) / 2]
    low, high = np.nanquantile(drawn, ends, axis=1)
    best, worst = int(mean.argmax()), int(mean.argmin())
    apart = np.nanquantile(drawn[best] - drawn[worst], ends)
    gap = (float(mean[best] - mean[worst]), float(apart[0]), float(apart[1]))
    return Gap(mean, low, high, best, worst, gap)


def history_slices(n_events: np.ndarray) -> dict[str, np.ndarray]:
    """Split requests by how much is known of the user.

    Args:
        n_events: (n_requests,) events of the user strictly before the request's moment.

    Returns:
        "history_0" and so on -> (n_requests,) bool; every request is in exactly one slice.
    """
    return {
        name: (n_events >= low) & (n_events < high) for name, (low, high) in HISTORY_BINS.items()
    }


def _resampled_means(
    columns: np.ndarray, user: np.ndarray, rng: np.random.Generator, n_resamples: int
) -> np.ndarray:
    """(n_metrics, n_resamples) means over the requests of drawn users; NaN where nothing is."""
    sums, counts = _per_user(columns, user)
    means = np.full((columns.shape[1], n_resamples), np.nan)
    n_users = sums.shape[1]
    step = max(1, WEIGHTS_AT_A_TIME // max(1, n_users))
    for start in range(0, n_resamples if n_users else 0, step):
        weights = _times_drawn(n_users, min(step, n_resamples - start), rng)
        means[:, start : start + step] = _ratio(_total(sums, weights), _total(counts, weights))
    return means


def _per_user(columns: np.ndarray, user: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Sum and count what is known: two (n_metrics, n_users), of users with anything known."""
    known = ~np.isnan(columns)
    some = known.any(axis=1)
    row = np.unique(user[some], return_inverse=True)[1]
    n_users = int(row.max(initial=-1)) + 1

    def total(table: np.ndarray) -> np.ndarray:
        return np.stack([np.bincount(row, column, n_users) for column in table[some].T])

    return total(np.where(known, columns, 0)), total(known)


def _times_drawn(n_users: int, n_resamples: int, rng: np.random.Generator) -> np.ndarray:
    """(n_resamples, n_users) float64: how often each user is among n_users draws, per resample."""
    drawn = rng.integers(0, n_users, (n_resamples, n_users))
    drawn += n_users * np.arange(n_resamples)[:, None]
    counts = np.bincount(drawn.ravel(), minlength=n_resamples * n_users)
    return counts.reshape(n_resamples, n_users).astype(float)


def _total(table: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """(n_metrics, n_resamples): (n_metrics, n_users) summed over (n_resamples, n_users) weights.

    Not `@`: OpenBLAS 0.3.31 on two threads takes up to 3 s instead of 0.02 s for so long a sum, and
    einsum's order of sums is the same whatever the number of threads.
    """
    total: np.ndarray = np.einsum("mu,ru->mr", table, weights)
    return total


def _ratio(numerator: np.ndarray, denominator: np.ndarray) -> np.ndarray:
    """Divide; NaN where the denominator is 0."""
    with np.errstate(invalid="ignore"):
        return np.asarray(numerator / denominator)[()]
