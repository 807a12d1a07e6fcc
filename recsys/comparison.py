"""Is one run better than another, and for whom: paired tests over users, slices, many at once.

Two runs on the same requests differ by a - b for each request. The requests of a user are alike, so
everything here draws or swaps whole users, as `recsys.evaluation` does.

Each p-value is of a permutation test: if it made no difference which run a user was served by,
swapping the two for any user would change nothing, so the difference is set among those of random
swaps. The interval beside it is the paired bootstrap. All differences of one comparison share their
swaps and resamples.

Many differences (slices, metrics, runs) are asked about at once, and some p-value will be small by
chance. Holm's correction bounds the chance of any false alarm among them. It is used, and not
Benjamini and Hochberg's, because it holds however the differences depend on each other: slices
overlap, and the metrics are of the same lists.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
from scipy.stats import t as student

from recsys.evaluation import HISTORY_BINS, history_slices, mean_over_requests, paired_interval

EVERYBODY = "all requests"
PERMUTATIONS = 10_000
LEVEL = 0.05  # of false alarms
FEWEST_USERS = 30  # of a slice
MOST_VALUES = 12  # of a column that are slices of their own, most frequent first
SWAPS_AT_A_TIME = 16_000_000  # signs held in memory at once: 128 MB


@dataclass(frozen=True)
class Difference:
    """A metric of two runs in one slice."""

    metric: str
    column: str  # what the slice is by; EVERYBODY for all of them
    value: str
    requests: int
    users: int
    base: float  # mean over requests
    other: float
    difference: float  # other - base
    low: float  # 95 % interval over users
    high: float
    p: float  # permutation test
    corrected: float  # for all that was asked along with it

    @property
    def name(self) -> str:
        """The slice in words."""
        return self.column if self.column == EVERYBODY else f"{self.column} = {self.value}"

    @property
    def is_told(self) -> bool:
        """Whether chance alone seldom makes such a difference."""
        return self.corrected < LEVEL


def differences(
    base: Mapping[str, np.ndarray], other: Mapping[str, np.ndarray], user: np.ndarray,
    slices: Mapping[tuple[str, str], np.ndarray], metric: str, rng: np.random.Generator,
    n_permutations: int = PERMUTATIONS, n_resamples: int = 1000,
) -> list[Difference]:  # fmt: skip
    """Compare every metric over all requests, and one metric in every slice.

    Args:
        base: metric -> (n_requests,) float, NaN = left out.
        other: the same metrics on the same requests.
        user: (n_requests,) int64 user code.
        slices: (column, value) -> (n_requests,) bool.
        metric: the one that slices are compared by.
        rng: source of swaps and resamples.
        n_permutations: swaps.
        n_resamples: of users.

    Returns:
        All requests by `metric`, then by the other metrics, then the slices; not yet corrected for
        being many (`holm`).
    """
    everybody = np.ones(len(user), bool)
    names = [metric, *(name for name in base if name != metric)]
    asked = [(name, (EVERYBODY, ""), everybody) for name in names]
    asked += [(metric, key, mask) for key, mask in slices.items()]
    left, right = (
        np.stack([np.where(mask, side[name], np.nan) for name, _, mask in asked], 1).astype(float)
        for side in (base, other)
    )
    known = np.isfinite(left - right)
    left, right = np.where(known, left, np.nan), np.where(known, right, np.nan)
    gain, low, high = paired_interval(right, left, user, rng, n_resamples)
    p = permutation_test(right, left, user, rng, n_permutations)
    means = np.stack([mean_over_requests(left), mean_over_requests(right)])
    return [
        Difference(name, column, value, int(known[:, at].sum()), len(np.unique(user[known[:, at]])),
                   float(means[0, at]), float(means[1, at]), float(gain[at]), float(low[at]),
                   float(high[at]), float(p[at]), float(p[at]))
        for at, (name, (column, value), _) in enumerate(asked)
    ]  # fmt: skip


def permutation_test(
    a: np.ndarray, b: np.ndarray, user: np.ndarray, rng: np.random.Generator,
    n_permutations: int = PERMUTATIONS,
) -> np.ndarray:  # fmt: skip
    """Test whether two models differ by swapping them for random users; two-sided.

    Swapping a user turns the sign of their summed differences; the number of requests stays.

    Args:
        a: (n_requests,) or (n_requests, n_columns) float64, NaN = left out of both.
        b: like `a`, row for row the same requests.
        user: (n_requests,) int64 user code.
        rng: source of the swaps.
        n_permutations: how many.

    Returns:
        p-values, a scalar or (n_columns,): the share of swaps (what was found counted as one) whose
        difference is as large; 1 where nothing differs.

    Source: Pitman, "Significance Tests Which May be Applied to Samples From any Populations"
    (1937); for search results Smucker, Allan & Carterette (CIKM 2007). The one that is added:
    Phipson & Smyth (2010).
    """
    columns = (a - b)[:, None] if a.ndim == 1 else a - b
    sums = _sums_by_user(np.nan_to_num(columns), user)
    found = np.abs(sums.sum(axis=0)) - 1e-12 * np.abs(sums).sum(axis=0)  # equal but for rounding
    as_large = np.ones(sums.shape[1])
    step = max(1, SWAPS_AT_A_TIME // max(1, len(sums)))
    for start in range(0, n_permutations, step):
        n = min(step, n_permutations - start)
        kept = _coins(n, len(sums), rng)
        as_large += (np.abs(2 * (kept @ sums) - sums.sum(axis=0)) >= found).sum(axis=0)
    p: np.ndarray = as_large / (n_permutations + 1)
    return p.reshape(a.shape[1:])[()]


def _coins(n: int, each: int, rng: np.random.Generator) -> np.ndarray:
    """(n, each) float64: 0 or 1 by the toss of a coin."""
    bits = np.unpackbits(np.frombuffer(rng.bytes(-(-n * each // 8)), np.uint8), count=n * each)
    return bits.reshape(n, each).astype(float)


def _sums_by_user(columns: np.ndarray, user: np.ndarray) -> np.ndarray:
    """(n_users, n_columns): summed over the user's requests; only users with any difference."""
    some = (columns != 0).any(axis=1)
    row = np.unique(user[some], return_inverse=True)[1]
    n = int(row.max(initial=-1)) + 1
    sums = [np.bincount(row, column, n) for column in columns[some].T]
    return np.stack(sums, 1)


def holm(p: Sequence[float]) -> np.ndarray:
    """Correct p-values for being asked about together: (n,) float64, in the order given.

    Source: Holm, "A Simple Sequentially Rejective Multiple Test Procedure" (1979).
    """
    values = np.asarray(p, float)
    order = np.argsort(values, kind="stable")
    corrected = np.empty(len(values))
    corrected[order] = np.maximum.accumulate(values[order] * np.arange(len(values), 0, -1))
    return np.minimum(corrected, 1)


def corrected(found: Sequence[Sequence[Difference]]) -> list[list[Difference]]:
    """Correct the differences of all comparisons together."""
    values = iter(holm([one.p for some in found for one in some]).tolist())
    return [[replace(one, corrected=next(values)) for one in some] for some in found]


def seed_spread(values: Sequence[Sequence[float]]) -> tuple[float, int]:
    """Say how far two runs of one configuration lie apart that differ in nothing but their seed.

    Args:
        values: a metric of runs that differ only in their seed, for each configuration.

    Returns:
        (spread, runs): 95 of 100 such pairs differ by less, as t * sqrt(2) * the standard deviation
        pooled over the configurations; NaN where none has two runs. `runs` are those counted.
    """
    groups = [np.asarray(some, float) for some in values if len(some) > 1]
    free = sum(len(some) - 1 for some in groups)
    if not free:
        return float("nan"), 0
    pooled = np.sqrt(sum(((some - some.mean()) ** 2).sum() for some in groups) / free)
    return float(student.ppf(0.975, free) * np.sqrt(2) * pooled), sum(map(len, groups))


def slices_of(
    columns: Mapping[str, np.ndarray], user: np.ndarray, fewest: int = FEWEST_USERS
) -> tuple[dict[tuple[str, str], np.ndarray], int]:
    """Group requests by what is known of them.

    `history_events` is cut as in the report, `unseen_share` into none, some and all. Any other
    column with numbers is cut into quarters, one with words into its most frequent values.

    Args:
        columns: name -> (n_requests,) values.
        user: (n_requests,) int64 user code.
        fewest: users of a slice; smaller ones are left out.

    Returns:
        (column, value) -> (n_requests,) bool, and how many were left out as too small. A slice that
        holds every request is no slice.
    """
    found: dict[tuple[str, str], np.ndarray] = {}
    too_small = 0
    for column, values in columns.items():
        for value, mask in _cut(column, values).items():
            if len(np.unique(user[mask])) < fewest:
                too_small += bool(mask.any())
            elif not mask.all():
                found[column, value] = mask
    return found, too_small


def _cut(column: str, values: np.ndarray) -> dict[str, np.ndarray]:
    """Cut one column: value in words -> (n_requests,) bool."""
    if column == "history_events":
        names = {name: f"{low} to {high - 1:.0f}" if np.isfinite(high) else f"{low} or more"
                 for name, (low, high) in HISTORY_BINS.items()}  # fmt: skip
        names["history_0"] = "0"
        return {names[name]: mask for name, mask in history_slices(values).items()}
    if column == "unseen_share":
        return {"none": values == 0, "some": (values > 0) & (values < 1), "all": values == 1}
    if np.issubdtype(values.dtype, np.number):
        known = values[np.isfinite(values)]
        ends = np.unique(np.quantile(known, [0, 0.25, 0.5, 0.75, 1])) if len(known) else known
        at = np.clip(np.searchsorted(ends, values, side="right") - 1, 0, max(len(ends) - 2, 0))
        return {f"{low:g} to {high:g}": (at == i) & np.isfinite(values)
                for i, (low, high) in enumerate(pairwise(ends))}  # fmt: skip
    words, counts = np.unique(values.astype(str), return_counts=True)
    best = words[np.argsort(-counts, kind="stable")][:MOST_VALUES]
    return {str(word): values.astype(str) == word for word in best}
