"""A small log as rows that a loop can go over, and a catalogue with and without gaps."""

from dataclasses import dataclass

import numpy as np
import pytest

from recsys.asof import Past, past_of
from recsys.candidates import Candidates
from recsys.dataset import ALWAYS_FROM, ALWAYS_UNTIL, DAY, Items, Log
from recsys.sources import SCORES
from recsys.state import ItemState, StateConfig, state_at

N_USERS, N_ITEMS = 14, 9
AS_OF = {True: 40 * DAY, False: -2}  # dated -> the state's moment


@dataclass(frozen=True)
class Scene:
    """Requests of a few users, one of them unknown, at moments before and after most events."""

    dated: bool
    rows: list[tuple[int, int, int, int, float]]  # (user, moment, item, grade, price), in order
    log: Log
    items: Items
    state: ItemState
    user: np.ndarray
    moment: np.ndarray
    past: Past
    candidates: Candidates  # some items of each request, none of the second one

    @property
    def unit(self) -> int:
        return DAY if self.dated else 1

    def before(self, request):
        """The request's rows strictly before its moment, oldest first, with how far back."""
        mine = [row for row in self.rows
                if row[0] == self.user[request] and row[1] < self.moment[request]]  # fmt: skip

        def days(some):
            return {row[1] // self.unit for row in some if row[3] > 0}

        return [(*row, len(days(mine[at + 1 :]) - days(mine[: at + 1])))
                for at, row in enumerate(mine)]  # fmt: skip

    def days_ago(self, request, row):
        return (self.moment[request] - row[1]) / DAY


def _rows(rng, dated):
    rows = []
    for user in range(N_USERS):
        n = int(rng.integers(1, 16))
        grade = rng.integers(0, 3, n)
        taken = np.cumsum(grade > 0)
        moment = rng.integers(0, 3 * 60, n) * (DAY // 3) if dated else taken - taken[-1] - 1
        price = np.where((grade == 0) | (rng.random(n) < 0.3), np.nan, rng.integers(1, 9, n))
        columns = (moment, rng.integers(0, N_ITEMS - 1, n), grade, price)  # the last: never taken
        rows += [(user, *row) for row in zip(*(c.tolist() for c in columns), strict=True)]
    return sorted(rows)


def _items(rng):
    n = N_ITEMS
    texts = np.array([f"item {at}" for at in range(n)], object)
    price = np.where(np.arange(n) % 2, np.nan, rng.integers(1, 9, n)).astype(np.float32)
    return Items(np.arange(n), texts, texts, rng.integers(-1, 3, n).astype(np.int32),
                 rng.integers(-1, 3, n).astype(np.int32), price, np.full(n, ALWAYS_FROM),
                 np.full(n, ALWAYS_UNTIL))  # fmt: skip


def _candidates(rng, n_requests):
    keys = rng.permutation(n_requests * N_ITEMS)[: 5 * n_requests]
    request, item = np.divmod(np.sort(keys[keys // N_ITEMS != 1]), N_ITEMS)
    score = {name: rng.integers(0, 4, len(item)).astype(np.float32) for name in SCORES}
    rank = {name: np.where(rng.random(len(item)) < 0.5, np.nan, 1).astype(np.float32)
            for name in SCORES}  # fmt: skip
    return Candidates(request, item, rank, score)


@pytest.fixture(params=[(True, 0), (True, 1), (False, 0)], ids=["dated", "dated too", "ordered"])
def scene(request):
    dated, seed = request.param
    rng = np.random.default_rng(seed)
    rows, items = _rows(rng, dated), _items(rng)
    user, moment, item, grade, price = (np.array(column) for column in zip(*rows, strict=True))
    users, lengths = np.unique(user, return_counts=True)
    log = Log(users, np.concatenate([[0], np.cumsum(lengths)]), item.astype(np.int32), moment,
              grade.astype(np.int8), np.ones(len(rows), np.float32),
              price.astype(np.float32))  # fmt: skip
    asked = np.array([0, 1, 2, 3, 4, 5, 6, 99])
    moments = np.where(asked % 3 == 0, AS_OF[dated], 61 * DAY if dated else 0)
    past = past_of(log, asked, moments, DAY if dated else 1, 1000)
    state = state_at([log], AS_OF[dated], N_ITEMS, dated, StateConfig())
    candidates = _candidates(rng, len(asked))
    return Scene(dated, rows, log, items, state, asked, moments, past, candidates)
