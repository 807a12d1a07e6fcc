"""Which items lists show, all lists together: how much of the catalogue, how evenly, how popular.

`lists` is (n_requests, length) item codes, best first, -1 = empty place. `n_events` (n_items,) are
past events of each item: popularity as it was known, never that of the window under measurement.
What cannot be said, of an empty list or of a catalogue of one item, is NaN and never 0.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def catalogue_coverage(lists: np.ndarray, n_items: int) -> float:
    """Share of the catalogue in at least one list; NaN without a catalogue.

    Source: Ge, Delgado-Battenfeld & Jannach, "Beyond accuracy" (RecSys 2010), catalog coverage.
    """
    if not n_items:
        return float("nan")
    return float((times_shown(lists, n_items) > 0).mean())


def times_shown(lists: np.ndarray, n_items: int) -> np.ndarray:
    """Count the lists that each item is in: (n_items,) int64."""
    return np.bincount(lists[lists >= 0], minlength=n_items)


def gini(counts: np.ndarray) -> float:
    """Say how unevenly counts are spread: 0 = all alike, 1 = one has everything.

    G = sum over j of (2j - n - 1) p(j), over n - 1, with the shares p ascending and j = 1 .. n.

    Args:
        counts: (n,) of each item, also of those that have none.

    Returns:
        NaN for fewer than two items, and where all counts are 0.

    Source: Shani & Gunawardana, "Evaluating Recommendation Systems" (Recommender Systems Handbook,
    2011), section 8.3.8. The textbook index divides by n, so it is this times (n - 1) / n.
    """
    n, total = len(counts), counts.sum()
    if n < 2 or total == 0:
        return float("nan")
    weights = 2 * np.arange(1, n + 1) - n - 1
    return float(weights @ np.sort(counts) / total / (n - 1))


def lorenz(counts: np.ndarray, points: int = 101) -> np.ndarray:
    """Return the share of all counts that the least shown items have: (points,) from 0 to 1.

    Point i is of the i / (points - 1) of items that have least; between two items on a straight
    line. NaN where all counts are 0.

    Source: Lorenz, "Methods of measuring the concentration of wealth" (1905).
    """
    total = counts.sum()
    if total == 0:
        return np.full(points, np.nan)
    reached = np.concatenate([[0], np.cumsum(np.sort(counts))]) / total
    share = np.interp(np.linspace(0, 1, points), np.linspace(0, 1, len(reached)), reached)
    return np.asarray(share)


def surprise(n_events: np.ndarray) -> np.ndarray:
    """Return the self-information of each item in bits: -log2 of its share of past events.

    Args:
        n_events: (n_items,); an item without any has the share 1 / (total + 1).

    Returns:
        (n_items,) float64.

    Source: Zhou et al., "Solving the apparent diversity-accuracy dilemma" (PNAS 2010); with the
    share of events as in Castells, Hurley & Vargas, "Novelty and Diversity in Recommender Systems"
    (Recommender Systems Handbook, 2015), where Zhou has the share of users.
    """
    total = n_events.sum()
    share = np.where(n_events > 0, n_events / max(total, 1), 1 / (total + 1))
    bits: np.ndarray = -np.log2(share)
    return bits


def novelty(lists: np.ndarray, n_events: np.ndarray, k: int = 10) -> np.ndarray:
    """Mean self-information of a list's first k items: (n_requests,) bits, NaN if it is empty."""
    return list_means(lists, surprise(n_events), (k,))[:, 0]


def mean_popularity(lists: np.ndarray, n_events: np.ndarray, k: int = 10) -> np.ndarray:
    """Mean past events of a list's first k items: (n_requests,), NaN for an empty list.

    Its mean over requests is the average recommendation popularity (ARP).

    Source: Yin et al., "Challenging the Long Tail Recommendation" (VLDB 2012).
    """
    return list_means(lists, n_events, (k,))[:, 0]


def popularity_lift(listed: np.ndarray, taken: np.ndarray) -> float:
    """Say how much more popular lists are than what their users took: 0 = as popular, 1 = twice.

    (mean of listed - mean of taken) / mean of taken, over the requests that have both.

    Args:
        listed: (n_requests,) mean popularity of each list.
        taken: (n_requests,) mean popularity of what the user took before.

    Returns:
        NaN where no request has both.

    Source: Abdollahpouri et al., "The Connection Between Popularity Bias, Calibration, and Fairness
    in Recommendation" (RecSys 2020); the group is everybody.
    """
    both = ~(np.isnan(listed) | np.isnan(taken))
    before = taken[both].sum()
    return float(listed[both].sum() / before - 1) if before > 0 else float("nan")


def shares_by_group(counts: np.ndarray, group: np.ndarray, n_groups: int) -> np.ndarray:
    """Share out counts among groups of items.

    Args:
        counts: (n_items,) how often each item is shown; ones: the groups' shares of the catalogue.
        group: (n_items,) int, -1 = in none; what these have counts for no group.
        n_groups: how many there are.

    Returns:
        (n_groups,) float64, NaN where no item of a group has any count. They add up to 1.
    """
    known = group >= 0
    found = np.bincount(group[known], counts[known], n_groups)
    return found / found.sum() if found.sum() > 0 else np.full(n_groups, np.nan)


def popularity_tenths(n_events: np.ndarray) -> np.ndarray:
    """Cut the catalogue into tenths by popularity: (n_items,) int64, 0 = the most popular tenth.

    Items that are equally popular are cut by their code, so tenths have equally many items.
    """
    order = np.lexsort((np.arange(len(n_events)), -n_events))
    tenth = np.empty(len(n_events), np.int64)
    tenth[order] = np.arange(len(n_events)) * 10 // max(len(n_events), 1)
    return tenth


def list_means(lists: np.ndarray, value: np.ndarray, ks: Sequence[int]) -> np.ndarray:
    """Average an item value over the first k of each list, for several k at once.

    Args:
        lists: (n_requests, length) item codes, -1 = empty place.
        value: (n_items,) float.
        ks: cut-offs, ascending.

    Returns:
        (n_requests, n_ks) float64, NaN where nothing is listed.
    """
    padded = np.append(np.asarray(value, float), 0.0)  # an empty place is -1, so the last: 0
    total, count = np.zeros(len(lists)), np.zeros(len(lists))
    means, begin = np.empty((len(lists), len(ks))), 0
    for at, k in enumerate(ks):
        some = lists[:, begin:k]
        total = total + padded[some].sum(axis=1)
        count = count + np.count_nonzero(some >= 0, axis=1)
        means[:, at] = total / np.where(count > 0, count, np.nan)
        begin = k
    return means
