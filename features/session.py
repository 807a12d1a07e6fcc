"""Features of the user's last session before the request, where the log says what a session is."""

from __future__ import annotations

import numpy as np

from recsys.asof import Past, match_keys
from recsys.candidates import Candidates
from recsys.dataset import Items

SESSION = frozenset(("user_session_items", "pair_in_last_session", "pair_last_session_category"))


def session_features(past: Past, candidates: Candidates, items: Items) -> dict[str, np.ndarray]:
    """Describe each candidate row by what its user took in their last session.

    Args:
        past: events strictly before each request, with sessions.
        candidates: the rows to describe.
        items: the catalogue, for categories.

    Returns:
        Name -> (n_rows,) float; NaN where the user has no session, or the item no category.
    """
    last = last_session(past)
    n_items, span = len(items), int(items.category.max(initial=0)) + 2
    asked = candidates.request * n_items + candidates.item
    found = match_keys(last.request * n_items + last.item, asked)
    distinct = np.bincount(found.keys // n_items, minlength=len(past.total))
    size = np.where(distinct > 0, distinct, np.nan)[candidates.request]
    of_key, of_row = (items.category[item] for item in (found.keys % n_items, candidates.item))
    alike = match_keys(found.keys // n_items * span + of_key, candidates.request * span + of_row)
    same = alike.look_up(alike.sums(np.ones(len(found.keys))), 0)
    return {
        "user_session_items": size,
        "pair_in_last_session": np.where(np.isnan(size), np.nan, found.asked < len(found.keys)),
        "pair_last_session_category": np.where(of_row < 0, np.nan, same / size),
    }


def last_session(past: Past) -> Past:
    """Keep what was taken in the session of the event taken last; nothing where it has none."""
    taken = past.keep(past.grade > 0)
    assert taken.session is not None
    at = np.where(np.diff(taken.indptr) > 0, taken.indptr[1:] - 1, -1)
    last = np.append(taken.session, -1)[at]
    return taken.keep((taken.session >= 0) & (taken.session == last[taken.request]))
