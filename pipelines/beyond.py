"""Beyond accuracy: what a model's lists show, to whom they are worse, and what cannot be said.

Values of a request stand beside its accuracy (`models.<model>.<window>`), with intervals; what only
all lists together have (coverage, Gini, lift) stands there without. Definitions and their sources
are in `recsys.exposure` and `recsys.diversity`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from pipelines.audience import Audience
from pipelines.evaluate import LISTED, Outcome
from recsys.diversity import intra_list_distance, miscalibration, serendipity
from recsys.evaluation import group_gap, history_slices
from recsys.exposure import (
    catalogue_coverage,
    gini,
    list_means,
    lorenz,
    popularity_lift,
    popularity_tenths,
    shares_by_group,
    surprise,
    times_shown,
)

OF_LISTS = ("coverage_at_10", "gini_at_10", "popularity_lift_at_10")
WHY_NOT = {  # metric -> why it has no value, where it has none
    "gini_at_10": "nothing was listed, or the catalogue has one item",
    "popularity_lift_at_10": "no user had taken anything before",
    "novelty_at_10": "nothing was listed",
    "popularity_at_10": "nothing was listed",
    "serendipity_at_10": "the popularity model was not measured",
    "intra_list_distance_at_10": "no list has two items",
    "miscalibration_at_10": "no user had taken an item with a category and was listed another",
}
SHOWN_BY = ("full", "ranker_without_text", "popularity")  # models whose exposure is kept
MOST_GROUPS, FEWEST_REQUESTS = 8, 30  # categories that users are grouped by; requests of a group
TASTES = {"niche": 0.2, "mixed": 0.8, "popular": 1.0}  # of users, by popularity of what they took


def beyond_metrics(outcome: Outcome, name: str, audience: Audience) -> dict[str, np.ndarray]:
    """Return metric -> (n_requests,) of one model's first ten items."""
    lists, n, ks = outcome.listed[name], len(outcome.user), (LISTED,)
    texts = np.where(lists >= 0, audience.text_of_item[np.maximum(lists, 0)], -1)
    ordinary = outcome.rank.get("popularity")
    columns = {
        "novelty_at_10": list_means(lists, surprise(audience.n_events), ks),
        "popularity_at_10": list_means(lists, audience.n_events, ks),
        "serendipity_at_10": np.full((n, 1), np.nan)
        if ordinary is None
        else serendipity(outcome.request, outcome.rank[name], ordinary, n, ks),
        "intra_list_distance_at_10": intra_list_distance(texts, audience.vectors, ks),
        "miscalibration_at_10": miscalibration(lists, audience.category, audience.taken, ks),
    }
    return {metric: column[:, 0] for metric, column in columns.items()}


def list_metrics(
    outcome: Outcome, name: str, audience: Audience, popularity: np.ndarray
) -> dict[str, float]:
    """Return what only all lists of one model together have.

    Args:
        outcome: of a window.
        name: of the model.
        audience: of the same window.
        popularity: (n_requests,) the model's `popularity_at_10`.
    """
    lists, n_items = outcome.listed[name], len(audience.n_events)
    values = (catalogue_coverage(lists, n_items), gini(times_shown(lists, n_items)),
              popularity_lift(popularity, audience.taken_popularity))  # fmt: skip
    return dict(zip(OF_LISTS, values, strict=True))


def undefined(models: Mapping[str, Mapping[str, float]]) -> dict[str, str]:
    """Say of each metric that no model has a value of why that is."""
    return {metric: reason for metric, reason in WHY_NOT.items()
            if all(np.isnan(values[metric]) for values in models.values())}  # fmt: skip


def exposure(outcome: Outcome, audience: Audience) -> dict[str, Any]:
    """Share out what some models list, and what was taken, among items.

    Returns:
        lorenz: model or "taken" -> 51 points of the Lorenz curve.
        tenths: the same -> shares of the tenths of the catalogue, the most popular first.
        never: the same and "catalogue" -> share of the items without an event before; they are in
            the last tenths.
        categories: a row each, those with most items first: shares of the catalogue, of what was
            taken and of each model's lists; at most `MOST_GROUPS`, then "others".
    """
    n_items = len(audience.n_events)
    counts = {name: times_shown(outcome.listed[name], n_items)
              for name in SHOWN_BY if name in outcome.listed}  # fmt: skip
    counts["taken"] = np.bincount(outcome.item, minlength=n_items)
    tenth, never = popularity_tenths(audience.n_events), audience.n_events == 0
    places = {"catalogue": np.ones(n_items)} | counts
    return {
        "lorenz": {name: lorenz(one, 51).round(5).tolist() for name, one in counts.items()},
        "tenths": {name: shares_by_group(one, tenth, 10).tolist() for name, one in counts.items()},
        "never": {name: float(one[never].sum() / max(one.sum(), 1))
                  for name, one in places.items()},
        "categories": _categories(counts, audience),
    }  # fmt: skip


def fairness(
    values: np.ndarray, outcome: Outcome, audience: Audience, seed: int, resamples: int
) -> dict[str, Any]:
    """Compare groups of users by the mean of one metric: how far is the worst from the best?

    A group needs `FEWEST_REQUESTS` requests; a grouping with fewer than two groups is left out.

    Args:
        values: (n_requests,) the metric.
        outcome: of a window.
        audience: of the same window.
        seed: of the bootstrap.
        resamples: of users.
    """
    found = {}
    for grouping, groups in user_groups(outcome, audience).items():
        kept = {name: rows for name, rows in groups.items()
                if np.count_nonzero(rows & ~np.isnan(values)) >= FEWEST_REQUESTS}  # fmt: skip
        if len(kept) < 2:
            continue
        rng = np.random.default_rng(seed)
        table = np.stack(list(kept.values()), 1)
        gap = group_gap(values, table, outcome.user, rng, resamples)
        names = list(kept)
        rows = [{"group": name, "requests": int(np.count_nonzero(kept[name])), "mean": mean,
                 "low": low, "high": high}
                for name, mean, low, high in zip(names, gap.mean.tolist(), gap.low.tolist(),
                                                 gap.high.tolist(), strict=True)]  # fmt: skip
        found[grouping] = {"groups": rows, "best": names[gap.best], "worst": names[gap.worst],
                           "gap": list(gap.gap)}  # fmt: skip
    return found


def user_groups(outcome: Outcome, audience: Audience) -> dict[str, dict[str, np.ndarray]]:
    """Group requests by their user: grouping -> group -> (n_requests,) bool.

    `taste` cuts users in three by how popular what they took is: the fifth that takes the least
    popular items, three fifths, and the fifth that takes the most popular (Abdollahpouri et al.,
    "The Unfairness of Popularity Bias in Recommendation", RMSE workshop 2019).
    """
    groups = {"history": history_slices(outcome.history), "taste": {}, "category": {}}
    known = audience.taken_popularity[~np.isnan(audience.taken_popularity)]
    if len(known):
        ends = np.quantile(known, list(TASTES.values()))
        with np.errstate(invalid="ignore"):
            at = np.searchsorted(ends, audience.taken_popularity)
        for number, name in enumerate(TASTES):
            groups["taste"][name] = at == number
    main = audience.main_category
    kinds, counts = np.unique(main[main >= 0], return_counts=True)
    for kind in _first(kinds[np.argsort(-counts, kind="stable")]):
        groups["category"][audience.names[kind]] = main == kind
    return groups


def _categories(counts: Mapping[str, np.ndarray], audience: Audience) -> list[dict[str, Any]]:
    """Return a row for each of the largest categories, and one for the others."""
    n, everything = len(audience.names), np.ones(len(audience.n_events))
    if not n:
        return []
    shares = {"catalogue": shares_by_group(everything, audience.category, n)}
    shares |= {name: shares_by_group(one, audience.category, n) for name, one in counts.items()}
    order = np.argsort(-shares["catalogue"], kind="stable")
    rows: list[dict[str, Any]] = [
        {"category": audience.names[at], **{name: float(one[at]) for name, one in shares.items()}}
        for at in _first(order)
    ]
    if n > MOST_GROUPS:
        rest = order[MOST_GROUPS:]
        rows.append({"category": f"{len(rest):,} others",
                     **{name: float(one[rest].sum()) for name, one in shares.items()}})  # fmt: skip
    return rows


def _first(codes: np.ndarray) -> Iterable[int]:
    """Return the first `MOST_GROUPS` codes."""
    few: list[int] = codes[:MOST_GROUPS].tolist()
    return few
