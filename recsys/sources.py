"""The candidate sources: each scores the whole catalogue for a block of requests.

All have one signature and one battery of tests (tests/test_every_source.py): a `View` of what is
known goes in, scores of each request and item come out, in the form they have by nature
(recsys/scores.py); higher is better and nothing is masked yet.
The sources in `recsys.candidates.OPTIONAL` are computed only where they may bring candidates.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy import sparse

from recsys.asof import Past, last_items, returns_by_key
from recsys.baselines import Als, als_users
from recsys.candidates import (
    OPTIONAL,
    CandidateConfig,
    history_matrix,
    without_small,
)
from recsys.dataset import DAY, Items
from recsys.interest import TextModel
from recsys.neighbours import Neighbours
from recsys.related import Related
from recsys.scores import Alike, Listed, NewOnly, Products, Scores, Shares
from recsys.state import ItemState

NEGLIGIBLE = 0.01  # what an item taken so long ago weighs says nothing of its neighbours
PRIOR_GAPS = 2.0  # gaps of the next larger group that stand beside those of a user, item, category
PRIOR_RETURNS = 2.0  # returns in the item's own share that stand beside a user's
HAS_TO_SCORE = {  # a score up to this says nothing, so the item is not found; -inf where absent
    **dict.fromkeys(("lexical", "covisitation", "item_cosine", "ease", "repeat"), 0.0),
    **dict.fromkeys(("als", "category_popularity", "fresh", "due"), 0.0),
    "trending": 1.0,
}


@dataclass(frozen=True)
class View:
    """What a source may look at: some requests and what is known at their moments."""

    past: Past
    moment: np.ndarray  # (n_requests,) int64
    items: Items
    state: ItemState
    related: Related
    texts: TextModel
    config: CandidateConfig
    dated: bool

    @cached_property
    def taken(self) -> Past:
        """The past without what was only shown."""
        return self.past.keep(self.past.grade > 0)

    @cached_property
    def history(self) -> sparse.csr_matrix:
        """(n_requests, n_items): what was taken, faded."""
        return history_matrix(self.past, len(self.items), self.config.history_decay)

    @cached_property
    def heard(self) -> sparse.csr_matrix:
        """The history without what weighs next to nothing."""
        return without_small(self.history, NEGLIGIBLE)

    @cached_property
    def last(self) -> sparse.csr_matrix:
        """(n_requests, n_items): what was taken last, a basket if it was one."""
        return history_matrix(self.taken.keep(self.taken.back == 0), len(self.items), 1.0)

    @cached_property
    def users(self) -> tuple[np.ndarray, np.ndarray]:
        """User vectors before and after fine-tuning, (n_requests, dim) each."""
        return self.texts.users(last_items(self.taken, self.texts.pooling.history))


def source_scores(view: View) -> dict[str, Scores]:
    """Return what every source in use says."""
    on = view.config.switched_on
    return {name: source(view) for name, source in SCORES.items()
            if name not in OPTIONAL or name in on}  # fmt: skip


def interest(view: View) -> Products:
    """Cosine of the fine-tuned user and item vectors."""
    texts = view.texts
    return Products(view.users[1], texts.tuned, texts.text_of_item, texts.tuned_index)


def frozen_interest(view: View) -> Products:
    """The same before fine-tuning."""
    texts = view.texts
    return Products(view.users[0], texts.frozen, texts.text_of_item, texts.frozen_index)


def popularity(view: View) -> Alike:
    """Place by recent popularity: 1 for the most popular item down to 0, no two alike."""
    return Alike(view.state.popularity_place, len(view.past.total))


def als(view: View) -> Products:
    """Matrix factorisation: the user's factors from the past, times the items' factors."""
    model: Als = view.related.als
    users = als_users(model, history_matrix(view.past, len(view.items), 1.0))
    return Products(users, model.item_factors)


def category_popularity(view: View) -> Shares:
    """The user's faded share of the item's category, times the item's recent share of it.

    An item without a category scores 0.
    """
    group, past = view.items.category.astype(np.int64) + 1, view.taken  # 0 = no category
    n_groups = int(group.max(initial=0)) + 1
    weight = view.config.history_decay**past.back
    shape = (len(past.total), n_groups)
    cell = past.request * n_groups + group[past.item]
    faded: np.ndarray = np.bincount(cell, weight, shape[0] * n_groups).reshape(shape)
    mine = (faded / np.maximum(faded.sum(1, keepdims=True), 1e-12)).astype(np.float32)
    mine[:, 0] = 0.0
    of_group = np.bincount(group, view.state.popularity, n_groups)
    share = view.state.popularity / np.maximum(of_group[group], 1e-12)
    return Shares(mine, group, share.astype(np.float32))


def trending(view: View) -> Alike:
    """How much more the item is taken lately than before, the same for all; 0 without dates."""
    trend = view.state.trend if view.dated else np.zeros(len(view.items))
    return Alike(trend.astype(np.float32), len(view.past.total))


def fresh(view: View) -> NewOnly:
    """The interest score plus 1 of new items, 0 of others: whom a new item matches, it is shown."""
    new = new_items(view.state, view.items, view.config.fresh_days, view.dated)
    return NewOnly(interest(view), new)


def new_items(state: ItemState, items: Items, days: float, dated: bool) -> np.ndarray:
    """(n_items,) bool: never taken, or first taken or on offer in the last `days`.

    Under an order: those taken least, which is never if there are such.
    """
    if not dated:
        return np.asarray(state.count == state.count.min(initial=np.inf))
    since = state.as_of - days * DAY
    known = np.isfinite(state.first)
    return np.asarray(~known | (state.first >= since) | (items.available_from >= since))


def due(view: View) -> Listed:
    """How likely a user takes again on this day what they took before and not since.

    They come back for it at all with a chance, and if so after a gap that is exponential at an
    unknown rate. The chance starts from the item's share of users who did and learns from each
    return; the rate starts from the item's mean gap, which leans on its category's, that on all,
    and learns from the pair's own gaps. Each day without it speaks for a long gap, or for none to
    come, the more so the shorter the gaps were. Under an order, a day is an event.

    Source: Bhagat, Muralidharan, Lobzhanidze, Vishwanath, "Buy it again: Modeling repeat purchase
    recommendations" (KDD 2018): chance of a return times Poisson-gamma. Deviation: the hazard, so
    that the silence since counts against the chance too.
    """
    past, n_items, unit = view.taken, len(view.items), DAY if view.dated else 1
    pairs = returns_by_key(past.request * n_items + past.item, past.moment // unit)
    request, item = np.divmod(pairs.key, n_items)
    gaps, since = pairs.days - 1, np.maximum(view.moment[request] // unit - pairs.last, 1)
    share = (view.state.repeaters[item] + 0.1) / (view.state.users[item] + 1.0)
    chance = (gaps + PRIOR_RETURNS * share) / (gaps + PRIOR_RETURNS)
    shape = gaps + PRIOR_GAPS
    scale = pairs.last - pairs.first + PRIOR_GAPS * mean_gaps(view.state, view.items.category)[item]
    not_yet = (1.0 + since / scale) ** -shape  # of those who come back
    score = chance * not_yet * shape / (scale + since) / (1.0 - chance + chance * not_yet)
    entries = (score.astype(np.float32), (request, item))
    return Listed(sparse.csr_matrix(entries, (len(past.total), n_items)))


def mean_gaps(state: ItemState, category: np.ndarray) -> np.ndarray:
    """(n_items,) days (or events) from one time a user takes an item to the next; 1 at least."""
    group = category.astype(np.int64) + 1
    total, count = (np.bincount(group, some) for some in (state.gap_days, state.gaps))
    overall = total.sum() / count.sum() if count.sum() else 1.0
    of_group = (total + PRIOR_GAPS * overall) / (count + PRIOR_GAPS)
    gap = (state.gap_days + PRIOR_GAPS * of_group[group]) / (state.gaps + PRIOR_GAPS)
    return np.asarray(np.maximum(gap, 1.0))


def goes_with(history: sparse.csr_matrix, neighbours: Neighbours) -> Listed:
    """Return the strengths of all past items (n_requests, n_items), weighted and summed."""
    return Listed(history, strengths=neighbours)


def words(view: View, history: sparse.csr_matrix) -> Listed:
    """Return the cosines of words with all past items, weighted and summed."""
    texts = view.texts
    return Listed(texts.past_texts(history), texts.text_of_item, texts.lexical)


SCORES: dict[str, Callable[[View], Scores]] = {
    "interest": interest,
    "frozen_interest": frozen_interest,
    "lexical": lambda view: words(view, view.heard),
    "last_lexical": lambda view: words(view, view.last),
    "covisitation": lambda view: goes_with(view.heard, view.state.follows),
    "precedes": lambda view: goes_with(view.heard, view.state.precedes),
    "item_cosine": lambda view: goes_with(view.heard, view.related.cosine),
    "ease": lambda view: goes_with(view.heard, view.related.ease),
    "last_covisitation": lambda view: goes_with(view.last, view.state.follows),
    "last_ease": lambda view: goes_with(view.last, view.related.ease),
    "popularity": popularity,
    "repeat": lambda view: Listed(view.history),
    "als": als,
    "category_popularity": category_popularity,
    "trending": trending,
    "fresh": fresh,
    "due": due,
}
