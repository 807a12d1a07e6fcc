"""Probabilities beside the ranking: heads of single rows, and the maps that make them mean it.

A ranker's score says what comes first within a request, and nothing across requests. A head says of
one candidate how likely it is taken, with at least some grade. It learned from all that was taken
and a sample of the rest, only of requests with a candidate that was taken, so what it says is too
high. An increasing map, fitted on every candidate of later requests, those where nothing was taken
among them, turns it into the share of such candidates that is taken.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.optimize import isotonic_regression

from recsys.cascade import FirstPass
from recsys.errors import ConfigError
from recsys.ranker import Ranker

GROUP_ROWS = 100  # a few lucky rows at the top of the valid window are no certainty
BINS = 10


@dataclass(frozen=True)
class Calibration:
    """An increasing, piecewise linear map of [0, 1] into itself."""

    raw: np.ndarray  # (n_points,) float64, increasing from 0 to 1
    probability: np.ndarray  # (n_points,) float64

    def apply(self, raw: np.ndarray) -> np.ndarray:
        """Return the probability of each raw output, in their shape."""
        return np.asarray(np.interp(raw, self.raw, self.probability))


@dataclass(frozen=True)
class Heads:
    """A fitted and calibrated head for each grade."""

    levels: tuple[int, ...]  # grades, ascending, at least one; the first means taken at all
    models: tuple[Ranker, ...]  # of each level
    maps: tuple[Calibration, ...]  # of each level

    @property
    def features(self) -> tuple[str, ...]:
        """Names of the features they read."""
        return self.models[0].features

    def predict(self, table: np.ndarray) -> np.ndarray:
        """Return (n_rows, n_levels) the probability of at least each level's grade.

        It never grows with the grade: to be bought, an item has to be taken.
        """
        return self.calibrated(raw_outputs(self.models, table))

    def calibrated(self, raw: np.ndarray) -> np.ndarray:
        """Return the probabilities of the raw outputs (n_rows, n_levels) of the heads."""
        columns = [one.apply(column) for one, column in zip(self.maps, raw.T, strict=True)]
        found: np.ndarray = np.minimum.accumulate(np.stack(columns, 1), axis=1)
        return found


@dataclass(frozen=True)
class Blend:
    """Orders rows by what they are expected to be worth, given the worth of each grade."""

    heads: Heads
    values: tuple[float, ...]  # of grade 0, 1, 2...

    @property
    def features(self) -> tuple[str, ...]:
        """Names of the features it reads."""
        return self.heads.features

    def scores(self, table: np.ndarray, request: np.ndarray, first: FirstPass) -> np.ndarray:
        """Score all rows alike: what they are expected to be worth."""
        return self.predict(table)

    def predict(self, table: np.ndarray) -> np.ndarray:
        """Return (n_rows,) expected values: values[grade] * P(grade), summed over the grades.

        A grade between two levels was never learned, so no row is expected to have it.
        """
        worth = np.array(self.values)[[0, *self.heads.levels]]
        gained = self.heads.predict(table) * np.diff(worth)  # by reaching the next level
        return np.asarray(worth[0] + gained.sum(axis=1))


@dataclass(frozen=True)
class Reliability:
    """Predicted against observed, in bins of rising probability; empty bins are left out."""

    predicted: np.ndarray  # (n_bins,) float64 mean probability
    observed: np.ndarray  # (n_bins,) float64 share taken
    rows: np.ndarray  # (n_bins,) int64
    brier: float  # mean square of what was predicted less what happened

    @property
    def ece(self) -> float:
        """Expected calibration error: mean over rows of how far their bin is off."""
        return float(np.average(np.abs(self.predicted - self.observed), weights=self.rows))


def raw_outputs(models: Sequence[Ranker], table: np.ndarray) -> np.ndarray:
    """Return (n_rows, n_models) what each head says before it is calibrated."""
    return np.stack([model.predict(table) for model in models], 1)


def calibrate(models: Mapping[int, Ranker], raw: np.ndarray, grade: np.ndarray) -> Heads:
    """Fit the map of each head.

    Args:
        models: level -> head, ascending.
        raw: (n_rows, n_levels) what they say of every candidate of some later requests.
        grade: (n_rows,) 0 where not taken.
    """
    maps = [fit_map(column, grade >= level) for level, column in zip(models, raw.T, strict=True)]
    return Heads(tuple(models), tuple(models.values()), tuple(maps))


def fit_map(raw: np.ndarray, taken: np.ndarray) -> Calibration:
    """Fit the share taken as an increasing function of a head's raw output.

    Rows in order of `raw` form groups of about `GROUP_ROWS`; isotonic regression pools groups whose
    shares fall. The map runs through the middle of the pools, so that it increases inside a pool
    too and no order is lost; outside of them it is proportional to `raw`. Where nothing was taken
    it counts half a row as taken: rare is not never.

    Args:
        raw: (n_rows,) float64, above 0 and below 1; at least one row.
        taken: (n_rows,) bool.

    Source: Zadrozny & Elkan, "Transforming classifier scores into accurate multiclass probability
    estimates" (KDD 2002); Oron & Flournoy, "Centered isotonic regression" (2017).
    """
    value, at, count = np.unique(raw, return_inverse=True, return_counts=True)
    above = (len(raw) - np.cumsum(count)) // GROUP_ROWS  # whole groups from the top down
    group = np.unique(-above, return_inverse=True)[1]
    rows = np.bincount(group, count)
    share = np.bincount(group[at], taken) / rows
    middle = np.bincount(group, count * value) / rows
    rising = isotonic_regression(share, weights=rows).x
    level, pool = np.unique(rising, return_inverse=True)
    size = np.bincount(pool, rows)
    centre = np.bincount(pool, rows * middle) / size
    if level[0] == 0:
        level[0] = min([0.5 / size[0], *(level[1:2] / 2)])
    last = min(1.0, level[-1] / centre[-1])
    return Calibration(np.concatenate([[0], centre, [1]]), np.concatenate([[0], level, [last]]))


def reliability(probability: np.ndarray, taken: np.ndarray) -> Reliability:
    """Compare (n_rows,) probabilities with what happened.

    Each of the `BINS` bins expects about as many rows to be taken as any other: with bins of as
    many rows, all the probabilities that matter would be in the last one. Equal probabilities share
    a bin.
    """
    value, at, count = np.unique(probability, return_inverse=True, return_counts=True)
    expected = value * count
    before = np.cumsum(expected) - expected
    bins = np.minimum(BINS * before / max(expected.sum(), 1e-300), BINS - 1).astype(np.int64)[at]
    rows = np.bincount(bins, minlength=BINS)
    some = rows > 0
    predicted, observed = (np.bincount(bins, one, BINS)[some] for one in (probability, taken))
    brier = float(np.mean((probability - taken) ** 2))
    return Reliability(predicted / rows[some], observed / rows[some], rows[some], brier)


def check_values(values: Sequence[float], top: int) -> None:
    """Check that a blend knows the worth of every grade up to `top`; no values are no blend.

    Raises:
        ConfigError: `ranker.values` has no value for some grade.
    """
    if values and len(values) <= top:
        raise ConfigError(
            f"ranker.values: {len(values)} values were given, but grades go up to {top}; give one "
            f"for each grade from 0 to {top}, or none at all"
        )
