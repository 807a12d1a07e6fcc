"""Features of the item at the moment of the counted state."""

from __future__ import annotations

import numpy as np

from recsys.dataset import DAY, Items
from recsys.state import ItemState


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
            "item_trend": state.trend,
            "item_age_days": (state.as_of - state.first) / DAY,
            "item_idle_days": (state.as_of - state.last) / DAY,
        }
    return table


def item_prices(state: ItemState, items: Items) -> np.ndarray:
    """Return the catalogue price of each item, or the mean price paid so far; NaN = unknown."""
    return np.where(np.isfinite(items.price), items.price, state.price)
