"""Features of a user and an item: what the user's own past says about this item."""

from __future__ import annotations

import numpy as np
import torch

from recsys.asof import Past, last_items, match_keys, new_days
from recsys.candidates import Candidates
from recsys.dataset import DAY, Items

LAST_ITEMS = 10  # past items whose text is compared with a candidate's
RECENT_DAYS = (28, 91)  # windows that events of a category or brand are counted in
RECENT = frozenset(
    f"pair_{group}_{days}d" for group in ("category", "brand") for days in RECENT_DAYS
)


def pair_features(
    past: Past, candidates: Candidates, moment: np.ndarray, items: Items, decay: float, dated: bool
) -> dict[str, np.ndarray]:
    """Describe each candidate row by its user's past; arrays are (n_rows,) float, NaN = never.

    Args:
        past: events strictly before each request.
        candidates: the rows to describe.
        moment: (n_requests,) int64 of the requests.
        items: the catalogue, for category and brand.
        decay: weight of an event a day (or event) further back.
        dated: whether moments are microseconds.
    """
    taken, shown = past.keep(past.grade > 0), past.keep(past.grade == 0)
    table = _of_the_item(taken, shown, candidates, moment, len(items), dated)
    weight = decay**taken.back
    total = np.bincount(taken.request, weight, minlength=len(moment))[candidates.request]
    for name, group in (("category", items.category), ("brand", items.brand)):
        found = match_keys(*_group_keys(taken, candidates, group))
        weights, back = found.sums(weight), found.least(taken.back.astype(float))
        none = group[candidates.item] < 0
        columns = {
            f"pair_{name}_share": found.look_up(weights, 0) / np.maximum(total, 1e-12),
            f"pair_{name}_back": found.look_up(back, np.nan),
        }
        if name == "category":
            place = _places(found.keys // _span(group), weights)
            columns["pair_interest_place"] = found.look_up(place, np.nan)
        table |= {name: np.where(none, np.nan, values) for name, values in columns.items()}
    return table


def recent_features(
    past: Past, candidates: Candidates, moment: np.ndarray, items: Items
) -> dict[str, np.ndarray]:
    """Count what each row's user took lately of its category and brand; NaN where it has none.

    Args as for `pair_features`, with dates.
    """
    taken = past.keep(past.grade > 0)
    days_ago = (moment[taken.request] - taken.moment) / DAY
    table = {}
    for name, group in (("category", items.category), ("brand", items.brand)):
        found, none = match_keys(*_group_keys(taken, candidates, group)), group[candidates.item] < 0
        for days in RECENT_DAYS:
            count = found.look_up(found.sums((days_ago <= days).astype(float)), 0)
            table[f"pair_{name}_{days}d"] = np.where(none, np.nan, count)
    return table


def text_similarity(
    past: Past, candidates: Candidates, vectors: np.ndarray, text_of_item: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Compare each candidate's text with the texts of the user's last items.

    Args:
        past: events strictly before each request.
        candidates: the rows to describe.
        vectors: (n_texts, dim) float32 unit rows.
        text_of_item: (n_items,) row of each item's text.

    Returns:
        last: (n_rows,) cosine with the item taken last; NaN without a past.
        best: (n_rows,) best cosine with the last `LAST_ITEMS` items; NaN without a past.
    """
    recent = last_items(past.keep(past.grade > 0), LAST_ITEMS)  # (n_requests, LAST_ITEMS)
    sizes = np.bincount(candidates.request, minlength=len(recent))
    ends = np.cumsum(sizes)
    table = torch.from_numpy(vectors)
    theirs = torch.from_numpy(text_of_item[candidates.item].astype(np.int64))
    mine = torch.from_numpy(text_of_item[np.maximum(recent, 0)].astype(np.int64))
    cosine = torch.empty(len(theirs), LAST_ITEMS)
    some = torch.empty(int(sizes.max(initial=0)), table.shape[1])  # one request's, so in the cache
    for request, (start, end) in enumerate(zip(ends - sizes, ends, strict=True)):
        torch.index_select(table, 0, theirs[start:end], out=some[: end - start])
        torch.mm(some[: end - start], table[mine[request]].T, out=cosine[start:end])
    cosine.masked_fill_(torch.from_numpy(recent < 0)[candidates.request], float("-inf"))
    last, best = cosine[:, 0].numpy(), cosine.max(1).values.numpy()
    return np.where(np.isinf(last), np.nan, last), np.where(np.isinf(best), np.nan, best)


def _of_the_item(
    taken: Past, shown: Past, candidates: Candidates, moment: np.ndarray, n_items: int, dated: bool
) -> dict[str, np.ndarray]:  # fmt: skip
    """Describe each candidate row by what the user did with this very item."""
    asked = candidates.request * n_items + candidates.item
    found = match_keys(taken.request * n_items + taken.item, asked)
    seen = match_keys(shown.request * n_items + shown.item, asked)
    count = found.look_up(found.sums(np.ones(len(taken.item))), 0)
    table = {
        "pair_events": count,
        "pair_negative": seen.look_up(seen.sums(np.ones(len(shown.item))), 0),
        "pair_back": found.look_up(found.least(taken.back.astype(float)), np.nan),
    }
    if dated:
        days_ago = (moment[taken.request] - taken.moment) / DAY
        newest = found.look_up(found.least(days_ago), np.nan)
        oldest = -found.look_up(found.least(-days_ago), np.nan)
        gap = np.where(count > 1, (oldest - newest) / np.maximum(count - 1, 1), np.nan)
        table |= {"pair_idle_days": newest, "pair_due": newest / np.maximum(gap, 1.0)}
    return table


def _group_keys(
    taken: Past, candidates: Candidates, group: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return (request, group) keys of past events and of candidates; no group never matches."""
    span = _span(group)
    past_group, asked_group = group[taken.item].astype(np.int64), group[candidates.item]
    past_key = np.where(past_group < 0, -1, taken.request * span + past_group)
    asked_key = np.where(asked_group < 0, -2, candidates.request * span + asked_group)
    return past_key, asked_key


def _span(group: np.ndarray) -> int:
    """Return how far apart two requests' keys of one group are."""
    return int(group.max(initial=0)) + 2


def _places(request: np.ndarray, value: np.ndarray) -> np.ndarray:
    """(n,) float64 place of each value in its request, 1 = largest; equal ones share the best."""
    order = np.lexsort((-value, request))
    at, request, value = np.arange(len(order)), request[order], value[order]
    first = np.maximum.accumulate(np.where(new_days(request, request), at, 0))
    best = np.maximum.accumulate(np.where(new_days(request, value), at, 0))
    places = np.empty(len(order))
    places[order] = best - first + 1
    return places
