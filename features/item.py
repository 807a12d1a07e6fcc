"""Features of the item at the moment of the counted state."""

from __future__ import annotations

import numpy as np

from recsys.dataset import DAY, Items
from recsys.interest import TextModel
from recsys.state import ItemState

NEIGHBOURS = frozenset(("item_text_neighbours", "item_text_conversion"))
PRIOR_EVENTS = 20.0  # pseudo events that an item's share leans on its category's with


def item_features(state: ItemState, items: Items, dated: bool) -> dict[str, np.ndarray]:
    """Describe every item; each array is (n_items,) float, NaN = unknown."""
    share = state.popularity / max(state.popularity.sum(), 1e-12)
    by_category = np.bincount(items.category + 1, state.popularity)
    of_category = by_category[items.category + 1]
    place = np.empty(len(items))
    place[state.by_popularity] = np.arange(len(items)) / max(len(items), 1)
    table = {
        "item_events": state.count,
        "item_users": state.users,
        "item_repeat_share": (state.repeaters + 0.1) / (state.users + 1.0),
        "item_negative_share": state.negative / (state.negative + state.count + 1.0),
        "item_conversion": conversion(state, items),
        "item_taken_share": shrunk_share(state.count, state.count + state.negative, items.category),
        "item_popularity_share": np.log10(share + 1e-9),
        "item_popularity_rank": place,
        "item_price": item_prices(state, items).astype(float),
        "item_category_share": state.popularity / np.maximum(of_category, 1e-12),
    }
    if dated:
        week, month, quarter = state.recent
        table |= {
            "item_events_7d": week,
            "item_events_28d": month,
            "item_events_91d": quarter,
            "item_decayed_7d": state.lately,
            "item_trend": state.trend,
            "item_age_days": (state.as_of - state.first) / DAY,
            "item_idle_days": (state.as_of - state.last) / DAY,
        }
    return table


def item_prices(state: ItemState, items: Items) -> np.ndarray:
    """Return the catalogue price of each item, or the mean price paid so far; NaN = unknown."""
    return np.where(np.isfinite(items.price), items.price, state.price)


def conversion(state: ItemState, items: Items) -> np.ndarray:
    """(n_items,) share of an item's events with grade > 0 that have grade > 1, shrunk."""
    return shrunk_share(state.bought, state.count, items.category)


def shrunk_share(hits: np.ndarray, tries: np.ndarray, category: np.ndarray) -> np.ndarray:
    """Divide hits by tries, with the category's share as so many pseudo tries of each item.

    So a new item starts at its category's share, one without a category at that of all; a
    category leans on all in the same way.

    Args:
        hits: (n_items,) float, none above `tries`.
        tries: (n_items,) float.
        category: (n_items,) int codes, -1 = none.

    Returns:
        (n_items,) float64; NaN where nobody tried anything.

    Source: Efron and Morris, "Stein's paradox in statistics" (1977), with a fixed prior weight.
    """
    with np.errstate(invalid="ignore"):
        of_all = hits.sum() / tries.sum()
    hits_in, tries_in = (np.bincount(category + 1, values) for values in (hits, tries))
    prior = (hits_in + PRIOR_EVENTS * of_all) / (tries_in + PRIOR_EVENTS)
    prior[0] = of_all
    leaning: np.ndarray = (hits + PRIOR_EVENTS * prior[category + 1]) / (tries + PRIOR_EVENTS)
    return leaning


def neighbour_features(state: ItemState, items: Items, texts: TextModel) -> dict[str, np.ndarray]:
    """Describe every item by how the items of the nearest other texts do; (n_items,) float."""
    n_texts = len(texts.tuned)
    share = state.popularity / max(state.popularity.sum(), 1e-12)
    of_text = np.bincount(texts.text_of_item, share, minlength=n_texts)
    converted = np.bincount(texts.text_of_item, conversion(state, items), minlength=n_texts)
    sold = converted / np.maximum(np.bincount(texts.text_of_item, minlength=n_texts), 1)
    near = texts.nearest[texts.text_of_item]
    with np.errstate(invalid="ignore"):  # only one text has no others
        popular, selling = (each[near].sum(1) / near.shape[1] for each in (of_text, sold))
    return {
        "item_text_neighbours": np.log10(popular + 1e-9),
        "item_text_conversion": selling,
    }
