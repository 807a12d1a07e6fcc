"""The ranker's table: one row a candidate, one column a feature of the catalogue."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from features.pair import RECENT, pair_features, recent_features, text_similarity
from features.session import SESSION, session_features
from features.user import user_features
from recsys.asof import Past
from recsys.candidates import TEXT_SOURCES, Candidates
from recsys.dataset import Items

RANKED = (
    "interest", "frozen_interest", "lexical", "covisitation", "item_cosine", "ease", "repeat",
    "als", "category_popularity", "fresh", "due",
)  # fmt: skip


def feature_table(
    names: Sequence[str],
    past: Past,
    moment: np.ndarray,
    candidates: Candidates,
    of_items: Mapping[str, np.ndarray],
    items: Items,
    texts: Mapping[str, tuple[np.ndarray, np.ndarray]],
    decay: float,
    dated: bool,
) -> np.ndarray:
    """Compute the features `names` of all candidate rows; training and serving both call this.

    Args:
        names: columns, as `features.catalogue.active_features` gives them.
        past: events strictly before each request.
        moment: (n_requests,) int64 of the requests.
        candidates: the rows, with the score of every source.
        of_items: what `features.item.item_features` says of every item.
        items: the catalogue.
        texts: "tuned" and "frozen" -> (vectors, text_of_item).
        decay: weight of an event a day (or event) further back.
        dated: whether moments are microseconds.

    Returns:
        (n_rows, n_features) float32, NaN where a value does not exist.
    """
    request, item = candidates.request, candidates.item
    columns = {name: value[request] for name, value in user_features(past, moment, dated).items()}
    columns |= {name: value[item] for name, value in of_items.items()}
    columns |= pair_features(past, candidates, moment, items, decay, dated)
    if dated and not RECENT.isdisjoint(names):
        columns |= recent_features(past, candidates, moment, items)
    columns |= source_features(candidates)
    if past.session is not None and not SESSION.isdisjoint(names):
        columns |= session_features(past, candidates, items)
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = np.log(columns["item_price"] / columns["user_price"])
    columns["pair_price_ratio"] = np.where(np.isfinite(ratio), ratio, np.nan)
    for kind, last, best in (
        ("tuned", "pair_last_similarity", "pair_best_similarity"),
        ("frozen", "", "pair_best_frozen_similarity"),
    ):
        if {last, best} & set(names):
            columns[last], columns[best] = text_similarity(past, candidates, *texts[kind])
    table = np.empty((len(item), len(names)), np.float32)
    for at, name in enumerate(names):
        table[:, at] = columns[name]
    return table


def source_features(candidates: Candidates) -> dict[str, np.ndarray]:
    """Scores of the sources, and their ranks among the candidates of the request."""
    columns: dict[str, np.ndarray] = dict(candidates.score)
    for name in (name for name in RANKED if name in candidates.score):
        columns[f"{name}_rank"] = rank_within(
            candidates.request, candidates.score[name], candidates.found
        )
    plain = [rank for name, rank in candidates.rank.items() if name not in TEXT_SOURCES]
    columns["sources"] = np.sum([np.isfinite(rank) for rank in plain], axis=0)
    return columns


def rank_within(
    request: np.ndarray, score: np.ndarray, counted: np.ndarray | None = None
) -> np.ndarray:
    """Rank rows by score within their request, 1 = best; equal scores share the best rank.

    Only better rows that are `counted` (n_rows,) bool push a row down; None = all are.
    """
    sizes, order = np.bincount(request), np.argsort(request, kind="stable")
    place = np.empty(len(request), np.int64)
    place[order] = np.arange(len(request)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    table = np.full((len(sizes), int(sizes.max(initial=0))), np.inf, score.dtype)
    table[request, place] = -score
    order = table.argsort(1)
    ordered = np.take_along_axis(table, order, 1)
    new = np.ones(ordered.shape, bool)
    new[:, 1:] = ordered[:, 1:] != ordered[:, :-1]
    rank = np.broadcast_to(np.arange(1, ordered.shape[1] + 1), ordered.shape)
    if counted is not None:
        counts = np.zeros(table.shape, np.int64)
        counts[request, place] = counted
        counts = np.take_along_axis(counts, order, 1)
        rank = 1 + np.cumsum(counts, 1) - counts
    best = np.maximum.accumulate(np.where(new, rank, 0), 1)
    ranks = np.empty(ordered.shape, np.float32)
    np.put_along_axis(ranks, order, best, 1)
    return np.asarray(ranks[request, place])
