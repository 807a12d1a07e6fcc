"""Features of a user and an item: what the user's own past says about this item."""

from __future__ import annotations

import numpy as np
import torch

from recsys.asof import Past, last_items, least_by_key, sums_by_key
from recsys.candidates import Candidates
from recsys.dataset import DAY, Items

LAST_ITEMS = 10  # past items whose text is compared with a candidate's


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
    n_items = len(items)
    asked = candidates.request * n_items + candidates.item
    key = taken.request * n_items + taken.item
    count = sums_by_key(key, np.ones(len(key)), asked)
    table = {
        "pair_events": count,
        "pair_negative": sums_by_key(
            shown.request * n_items + shown.item, np.ones(len(shown.item)), asked
        ),
        "pair_back": least_by_key(key, taken.back.astype(float), asked),
    }
    weight = decay**taken.back
    total = np.bincount(taken.request, weight, minlength=len(moment))[candidates.request]
    for name, group in (("category", items.category), ("brand", items.brand)):
        known, group_asked = _group_keys(taken, candidates, group)
        share = sums_by_key(known, weight, group_asked) / np.maximum(total, 1e-12)
        back = least_by_key(known, taken.back.astype(float), group_asked)
        none = group[candidates.item] < 0
        table[f"pair_{name}_share"] = np.where(none, np.nan, share)
        table[f"pair_{name}_back"] = np.where(none, np.nan, back)
    if dated:
        days_ago = (moment[taken.request] - taken.moment) / DAY
        newest = least_by_key(key, days_ago, asked)
        oldest = -least_by_key(key, -days_ago, asked)
        gap = np.where(count > 1, (oldest - newest) / np.maximum(count - 1, 1), np.nan)
        table["pair_idle_days"] = newest
        table["pair_due"] = newest / np.maximum(gap, 1.0)
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


def _group_keys(
    taken: Past, candidates: Candidates, group: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return (request, group) keys of past events and of candidates; no group never matches."""
    span = int(group.max(initial=0)) + 2
    past_group, asked_group = group[taken.item].astype(np.int64), group[candidates.item]
    past_key = np.where(past_group < 0, -1, taken.request * span + past_group)
    asked_key = np.where(asked_group < 0, -2, candidates.request * span + asked_group)
    return past_key, asked_key
