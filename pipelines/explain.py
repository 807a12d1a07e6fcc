"""Why an item is in a list: the source that ranked it best, and a reason in words."""

from __future__ import annotations

import numpy as np

from recsys.asof import Past, last_items
from recsys.candidates import Candidates
from recsys.dataset import Items
from recsys.interest import TextModel

REASONS = {
    "interest": "matches what you took: {title}",
    "frozen_interest": "reads like {title}",
    "lexical": "described like {title}",
    "covisitation": "often taken after {title}",
    "item_cosine": "taken by people who took {title}",
    "ease": "goes with {title}",
    "popularity": "popular now",
    "repeat": "you took this before",
}


def explain(
    items: Items, texts: TextModel, past: Past, rows: Candidates
) -> tuple[np.ndarray, np.ndarray]:
    """Name each row's strongest source, and say why in words with the past item closest in text.

    What the user took before says just that, whatever else found it.
    """
    names = [name for name in REASONS if name in rows.rank]
    ranks = np.array([np.nan_to_num(rows.rank[name], nan=np.inf) for name in names])
    ranks[names.index("repeat"), np.isfinite(rows.rank["repeat"])] = 0
    source = np.array(names, dtype=object)[ranks.argmin(0)]
    recent = last_items(past.keep(past.grade > 0), 10)[rows.request]
    theirs = texts.frozen[texts.text_of_item[rows.item]]
    mine = texts.frozen[texts.text_of_item[np.maximum(recent, 0)]]
    closeness = np.where(recent >= 0, np.einsum("nd,nhd->nh", theirs, mine), -np.inf)
    closest = recent[np.arange(len(recent)), closeness.argmax(1)] if len(recent) else recent[:, 0]
    titles = np.where(closest >= 0, items.title[closest], "what you took")
    reason = [REASONS[name].format(title=title) for name, title in zip(source, titles, strict=True)]
    return source, np.array(reason, dtype=object)
