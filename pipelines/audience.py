"""What is known of items and users beside an outcome: popularity, categories, texts, the past.

Metrics beyond accuracy compare lists with it. It is looked up once a window, strictly before each
request's moment, and is the same for every model.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pipelines.evaluate import Outcome
from pipelines.recommender import LOOK_BACK
from pipelines.run import Run
from recsys.asof import past_of
from recsys.diversity import Mix, mix_of
from recsys.interest import TextModel

REQUESTS_AT_A_TIME = 5_000


@dataclass(frozen=True)
class Audience:
    """Items as they were before the window, and what the user of each request had taken."""

    n_events: np.ndarray  # (n_items,) float64 past events before the window
    category: np.ndarray  # (n_items,) int32, -1 = none
    names: tuple[str, ...]  # of the categories
    vectors: np.ndarray  # (n_texts, dims) float32 of length 1, of the frozen encoder
    text_of_item: np.ndarray  # (n_items,) int64 row in `vectors`
    taken: Mix  # categories of what the user of each request had taken
    taken_popularity: np.ndarray  # (n_requests,) mean `n_events` of it, NaN = nothing

    @property
    def main_category(self) -> np.ndarray:
        """(n_requests,) int64: the category that the user had taken most of, -1 = none."""
        mix, main = self.taken, np.full(len(self.taken_popularity), -1)
        order = np.lexsort((-mix.category, mix.share, mix.request))
        main[mix.request[order]] = mix.category[order]  # the last one of a request stays
        return main


def audience_of(run: Run, outcome: Outcome, window: str, texts: TextModel) -> Audience:
    """Look up what is known, of the last `LOOK_BACK` events of each user.

    Args:
        run: what steps share.
        outcome: whose requests.
        window: in which they are.
        texts: for what the frozen encoder says of items, so that runs can be compared.
    """
    prepared, method = run.prepared, run.method
    n_events = prepared.taken_before(prepared.windows.span(window)[0])
    request, item = taken_before_requests(run, outcome)
    total = np.bincount(request, n_events[item], len(outcome.user))
    count = np.bincount(request, minlength=len(outcome.user))
    names = prepared.category_names()
    return Audience(
        n_events, method.items.category, names, texts.frozen, texts.text_of_item,
        mix_of(request, method.items.category[item], len(names)),
        total / np.where(count > 0, count, np.nan),
    )  # fmt: skip


def taken_before_requests(run: Run, outcome: Outcome) -> tuple[np.ndarray, np.ndarray]:
    """Return (request rows, items), back to back, of what users took before their requests."""
    requests, items = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)]
    for log in run.prepared.buckets():
        inside = np.flatnonzero(np.isin(outcome.user, log.users))
        for start in range(0, len(inside), REQUESTS_AT_A_TIME):
            rows = inside[start : start + REQUESTS_AT_A_TIME]
            past = past_of(log, outcome.user[rows], outcome.moment[rows], run.method.unit,
                           LOOK_BACK)  # fmt: skip
            liked = past.grade > 0
            requests.append(rows[past.request[liked]])
            items.append(past.item[liked].astype(np.int64))
    request, item = np.concatenate(requests), np.concatenate(items)
    order = np.argsort(request, kind="stable")
    return request[order], item[order]
