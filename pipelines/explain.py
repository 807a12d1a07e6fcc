"""Why an item is in a list: the source that ranked it best, a reason in words, what drove it."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import torch

from features.catalogue import CATALOGUE, Feature
from recsys.asof import Past, last_items
from recsys.candidates import Candidates
from recsys.contributions import Contributions, contributions, contributions_of
from recsys.dataset import Items
from recsys.interest import TextModel
from recsys.ranker import Ranker

REASONS = {
    "interest": "matches what you took: {title}",
    "frozen_interest": "reads like {title}",
    "lexical": "described like {title}",
    "covisitation": "often taken after {title}",
    "item_cosine": "taken by people who took {title}",
    "ease": "goes with {title}",
    "popularity": "popular now",
    "repeat": "you took this before",
    "als": "taken by people of your taste",
    "category_popularity": "popular in a category you take from",
    "trending": "taken more and more",
    "fresh": "new, and matches what you took: {title}",
    "due": "you may need this again",
}
DRIVERS = 2  # at most
LAST_TAKEN = 10  # items that a reason may name one of
OWN = ("repeat", "due")  # sources of what the user took before
OF_FAMILY = {"user": "user", "item": "item", "pair": "history", "source": "neighbours"}


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
    closest = _closest(texts, past, rows)
    titles = np.where(closest >= 0, items.title[closest], "what you took")
    reason = [REASONS[name].format(title=title) for name, title in zip(source, titles, strict=True)]
    return source, np.array(reason, dtype=object)


def _closest(texts: TextModel, past: Past, rows: Candidates) -> np.ndarray:
    """(n_rows,) the item, of the last few taken, with the nearest frozen text; -1 = none taken.

    Rows of a request are together; a request is one small product, so that no text is copied for
    each row and past item.
    """
    recent = last_items(past.keep(past.grade > 0), LAST_TAKEN)
    sizes = np.bincount(rows.request, minlength=len(recent))
    place = np.arange(len(rows.request)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    theirs = np.zeros((len(recent), int(sizes.max(initial=0))), np.int64)
    theirs[rows.request, place] = rows.item
    frozen, row = torch.from_numpy(texts.frozen), torch.from_numpy(texts.text_of_item)
    mine = frozen[row[torch.from_numpy(np.maximum(recent, 0))]]
    closeness = torch.bmm(frozen[row[torch.from_numpy(theirs)]], mine.transpose(1, 2))
    closeness.masked_fill_(torch.from_numpy(recent < 0)[:, None], float("-inf"))
    nearest = closeness.argmax(2).numpy()[rows.request, place]
    return np.asarray(recent[rows.request, nearest])


def group_of(feature: Feature) -> str:
    """Return what a feature speaks for: text, history, neighbours, item or user."""
    if feature.text:
        return "text"
    return "history" if feature.name.startswith(OWN) else OF_FAMILY[feature.family]


def drivers(ranker: Ranker, table: np.ndarray) -> np.ndarray:
    """Name what raised each row's score most: (n_rows,) object, like "text, history".

    Of the groups that raised it, the first `DRIVERS`; what is known of the user alone is left out,
    as it is the same for all of a list. No group raised it: an empty string.
    """
    known = _contributions(ranker)
    named = [at for at, name in enumerate(known.groups) if name != "user"]
    parts = contributions(known, ranker, table)[:, named]
    order = np.argsort(-parts, axis=1, kind="stable")[:, :DRIVERS]
    names = np.array([known.groups[at] for at in named], dtype=object)[order]
    raised = np.take_along_axis(parts, order, 1) > 0
    found = [", ".join(row[some]) for row, some in zip(names, raised, strict=True)]
    return np.array(found, dtype=object)


@lru_cache(maxsize=4)
def _contributions(ranker: Ranker) -> Contributions:
    """Work out the leaves of a ranker once."""
    groups = {feature.name: group_of(feature) for feature in CATALOGUE}
    return contributions_of(ranker, groups)
