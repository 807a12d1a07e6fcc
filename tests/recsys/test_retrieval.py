"""What is retrieved is what scoring everything finds, ties and masks too, in bounded memory."""

import tracemalloc
from dataclasses import replace

import numpy as np
import pytest
from scipy import sparse

from recsys import retrieval
from recsys.candidates import TEXT_SOURCES, merge_candidates
from recsys.dataset import ALWAYS_FROM, ALWAYS_UNTIL, Items
from recsys.offer import Offer
from recsys.retrieval import BETWEEN, retrieve, shelve
from recsys.scores import Alike, Listed, NewOnly, Products, Scored, Shares

N_REQUESTS, N_ITEMS, DIM = 12, 150, 4
A_LITTLE = 2.0**-15  # less than popularity adds, and exact in a float32
LEAST = {"lexical": 0.0, "covisitation": 0.0, "fresh": 0.0, "als": 0.0, "category_popularity": 0.0,
         "trending": 1.0}  # fmt: skip
QUOTAS = {"interest": 9, "frozen_interest": 6, "fresh": 5, "lexical": 9, "covisitation": 8,
          "repeat": 0, "popularity": 7, "trending": 7, "als": 6,
          "category_popularity": 6}  # fmt: skip


class Exact:
    """An index that finds what is nearest, and of equally near vectors the later ones."""

    def __init__(self, vectors):
        self.vectors, self.asked = vectors, []

    def search(self, users, k):
        self.asked.append(k)
        order = np.argsort((users @ self.vectors.T)[:, ::-1] * -1, axis=1, kind="stable")
        return (len(self.vectors) - 1 - order)[:, :k]


def whole(rng, *shape, levels=3):
    """Draw small whole numbers: sums of their products are exact, and many are equal."""
    return rng.integers(-levels, levels + 1, shape).astype(np.float32)


def world(seed, shared, limits, index=False, n_items=N_ITEMS, n_requests=N_REQUESTS):
    """Return (sources, offer, shelves, popularity, cold) with many equal scores."""
    rng = np.random.default_rng(seed)
    n_texts = n_items // 4 if shared else n_items
    text = np.concatenate([rng.permutation(n_texts), rng.integers(0, n_texts, n_items - n_texts)])
    order = rng.permutation(n_items)
    popularity = np.empty(n_items, np.float32)
    popularity[order] = np.linspace(1, 0, n_items)
    from_, until = np.full(n_items, ALWAYS_FROM), np.full(n_items, ALWAYS_UNTIL)
    if limits:
        from_, until = rng.integers(0, 9, n_items), rng.integers(6, 15, n_items)
    none, names = np.full(n_items, -1, np.int32), np.full(n_items, "x", object)
    items = Items(np.arange(n_items), names, names, none, none, np.full(n_items, np.nan), from_,
                  until)  # fmt: skip
    moment = rng.integers(5, 10, n_requests)
    taken = rng.integers(0, 60, n_requests) // 20 * 5
    seen = sparse.csr_matrix(
        (np.ones(taken.sum()), (np.repeat(np.arange(n_requests), taken),
                                rng.integers(0, n_items, taken.sum()))), (n_requests, n_items)
    )  # fmt: skip
    offer = Offer(items, moment, rng.random(n_items) < 0.9 if limits else None, seen)
    cold = rng.random(n_requests) < 0.2

    def products():
        users, vectors = whole(rng, n_requests, DIM), whole(rng, n_texts, DIM)
        users[:, 0], vectors[:, 0] = 1, rng.integers(0, 3, n_texts) * A_LITTLE
        return Products(users, vectors, text, Exact(vectors) if index else None)

    def entries(n_columns):
        row = np.repeat(np.arange(n_requests), 20)
        at = row, rng.integers(0, n_columns, len(row))
        values = (rng.integers(1, 4, len(row)) + rng.integers(0, 3, len(row)) * A_LITTLE).astype(
            "f4"
        )
        return sparse.csr_matrix((values, at), (n_requests, n_columns))

    interest = products()
    sources = {
        "interest": interest, "frozen_interest": products(),
        "fresh": NewOnly(interest, rng.random(n_items) < 0.3),
        "lexical": Listed(entries(n_texts), text), "covisitation": Listed(entries(n_items)),
        "repeat": Listed(entries(n_items)), "popularity": Alike(popularity, n_requests),
        "trending": Alike(rng.integers(0, 4, n_items).astype(np.float32), n_requests),
        "als": Products(whole(rng, n_requests, DIM), whole(rng, n_items, DIM)),
        "category_popularity": Shares(rng.integers(0, 3, (n_requests, 4)).astype(np.float32),
                                      rng.integers(0, 4, n_items),
                                      rng.integers(0, 3, n_items).astype(np.float32)),
    }  # fmt: skip
    return sources, offer, shelve(text, n_texts, order), popularity, cold


def retrieved(sources, offer, shelves, popularity, cold):
    looked_up = Scored(sources, offer, keep=False)
    return retrieve(sources, QUOTAS, LEAST, offer, shelves, popularity, cold, looked_up.at)


def scored_whole(sources, offer, shelves, popularity, cold):
    tables = Scored(sources, offer, keep=True)
    order = {}
    for name in TEXT_SOURCES & tables.keys():
        between = BETWEEN * popularity if shelves.shared else 0
        order[name] = np.where(tables[name] > LEAST.get(name, -np.inf), tables[name] + between,
                               -np.inf).astype(np.float32)  # fmt: skip
        order[name][cold] = -np.inf
    return merge_candidates(tables, QUOTAS, LEAST, order)


def assert_same(one, two):
    np.testing.assert_array_equal(one.request, two.request)
    np.testing.assert_array_equal(one.item, two.item)
    assert list(one.rank) == list(two.rank) and list(one.score) == list(two.score)
    for name in one.rank:
        np.testing.assert_array_equal(one.rank[name], two.rank[name], err_msg=name)
        np.testing.assert_array_equal(one.score[name], two.score[name], err_msg=name)


@pytest.mark.parametrize("shared", [False, True], ids=["a text each", "shared texts"])
@pytest.mark.parametrize("limits", [False, True], ids=["always", "with dates"])
@pytest.mark.parametrize("index", [False, True], ids=["in parts", "by index"])
@pytest.mark.parametrize("seed", range(4))
def test_retrieving_finds_what_scoring_everything_finds(monkeypatch, shared, limits, index, seed):
    monkeypatch.setattr(retrieval, "CELLS", 40 * N_REQUESTS)  # several parts
    some = world(seed, shared, limits, index)
    expected = scored_whole(*some)
    assert_same(retrieved(*some), expected)
    for name, quota in QUOTAS.items():
        assert np.isfinite(expected.rank[name]).any() == (quota > 0)
    ties = [len(np.unique(expected.score[name])) < len(expected.item) / 9 for name in QUOTAS]
    assert sum(ties) >= 5


def test_popularity_decides_between_texts_that_are_nearly_as_near(monkeypatch):
    monkeypatch.setattr(retrieval, "DEEPEST", 40)
    sources, *rest = world(5, True, False)
    rng, text = np.random.default_rng(5), sources["lexical"].text_of_item
    n_texts = text.max() + 1
    little = rng.permutation(n_texts).astype(np.float32) * 2.0**-21  # in all, far less than 1e-4
    users, vectors = np.ones((N_REQUESTS, 1), np.float32), 1 + little[:, None]
    near = {"interest": Products(users, vectors, text, Exact(vectors)),
            "lexical": Listed(sparse.csr_matrix(np.tile(1 + little, (N_REQUESTS, 1))), text),
            "popularity": sources["popularity"]}  # fmt: skip
    monkeypatch.setitem(QUOTAS, "interest", 2)
    monkeypatch.setitem(QUOTAS, "lexical", 2)
    rest[0] = replace(rest[0], seen=None)
    assert_same(retrieved(near, *rest), scored_whole(near, *rest))


def test_the_index_is_asked_for_more_only_where_the_best_may_not_be_among_them():
    sources, *rest = world(0, False, False, index=True)
    rng = np.random.default_rng(9)
    users, vectors = (rng.normal(size=(n, DIM)).astype(np.float32) for n in (N_REQUESTS, N_ITEMS))
    apart = Products(users, vectors, sources["interest"].text_of_item, Exact(vectors))  # no ties
    retrieved({"interest": apart}, *rest)
    assert apart.index.asked == [QUOTAS["interest"] + rest[0].spare + 1]
    tied = Products(users, vectors * 0, apart.text_of_item, Exact(vectors * 0))
    retrieved({"interest": tied}, *rest)
    assert tied.index.asked == [apart.index.asked[0] * 4**step for step in range(2)]


def test_what_the_index_does_not_find_is_missing_and_nothing_else_changes():
    class Half(Exact):
        def search(self, users, k):
            found = super().search(users, len(self.vectors))
            odd = np.sort(np.where(found % 2, np.arange(found.shape[1]), 10**6), 1)[:, :k]
            return np.take_along_axis(found, np.minimum(odd, found.shape[1] - 1), 1)

    sources, *rest = world(1, False, False)
    rng = np.random.default_rng(9)
    users, vectors = (rng.normal(size=(n, DIM)).astype(np.float32) for n in (N_REQUESTS, N_ITEMS))
    text = sources["interest"].text_of_item
    whole = retrieved({"interest": Products(users, vectors, text)}, *rest)
    half = retrieved({"interest": Products(users, vectors, text, Half(vectors))}, *rest)
    assert (text[half.item] % 2).all() and not (text[whole.item] % 2).all()
    pairs, odd = ({*zip(some.request, some.item, strict=True)} for some in (half, whole))
    assert {pair for pair in odd if text[pair[1]] % 2} <= pairs
    assert np.bincount(half.request).max() == QUOTAS["interest"]


def test_a_text_of_very_many_items_brings_no_more_of_them_than_are_asked_for():
    text = np.zeros(1000, np.int64)
    shelves = shelve(text, 1, np.arange(1000)[::-1])
    row, item = shelves.of(np.array([0, 0]), 3)
    assert (row.tolist(), item.tolist()) == ([0, 0, 0, 1, 1, 1], [999, 998, 997] * 2)
    fewer = shelves.keep(np.arange(1000) % 2 == 0)
    assert fewer.of(np.array([0]), 2)[1].tolist() == [998, 996]


def test_memory_of_a_block_does_not_grow_with_requests_times_items(monkeypatch):
    monkeypatch.setattr(retrieval, "CELLS", 64 * 1000)  # so both catalogues have several parts

    class Anything:
        def search(self, users, k):
            return np.tile(np.arange(k), (len(users), 1))

    peaks = {}
    for n_items in (5_000, 100_000):
        sources, *rest = world(0, False, False, n_items=n_items, n_requests=64)
        for name in ("interest", "frozen_interest"):
            sources[name] = replace(sources[name], index=Anything())
        tracemalloc.start()
        retrieved(sources, *rest)
        peaks[n_items] = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert peaks[100_000] - peaks[5_000] < 95_000 * 64 * 4 / 2  # half of one source's table
