"""A form of scores says the same of a pair, of some columns and of the whole catalogue."""

import numpy as np
import pytest
from scipy import sparse

from recsys.candidates import items_of_texts
from recsys.dataset import ALWAYS_FROM, ALWAYS_UNTIL, Items
from recsys.offer import Offer
from recsys.scores import PAIRS_AT_ONCE, Alike, Listed, NewOnly, Products, Scored, Shares
from recsys.sources import goes_with

N_REQUESTS, N_ITEMS, N_TEXTS, DIM = 7, 30, 11, 4


def forms():
    """Return every form, by name, with its whole table written out."""
    rng = np.random.default_rng(0)
    text = rng.integers(0, N_TEXTS, N_ITEMS)
    entries = rng.random((N_REQUESTS, N_ITEMS)).astype(np.float32)
    entries[entries > 0.3] = 0
    backwards = sparse.csr_matrix(entries)
    for start, end in zip(backwards.indptr[:-1], backwards.indptr[1:], strict=True):  # as a product
        backwards.indices[start:end] = backwards.indices[start:end][::-1].copy()
        backwards.data[start:end] = backwards.data[start:end][::-1].copy()
    backwards.has_sorted_indices = False
    users, vectors = (rng.normal(size=(n, DIM)).astype(np.float32) for n in (N_REQUESTS, N_TEXTS))
    new, group = rng.random(N_ITEMS) < 0.4, rng.integers(0, 3, N_ITEMS)
    mine, share = rng.random((N_REQUESTS, 3)).astype("f4"), rng.random(N_ITEMS).astype("f4")
    cosine = users @ vectors[text].T
    products = Products(users, vectors, text)
    return {
        "listed": (Listed(backwards), entries),
        "texts": (Listed(sparse.csr_matrix(entries[:, :N_TEXTS]), text), entries[:, text]),
        "alike": (Alike(share, N_REQUESTS), np.tile(share, (N_REQUESTS, 1))),
        "products": (products, cosine),
        "factors": (Products(users, vectors[text]), cosine),
        "new": (NewOnly(products, new), np.where(new, 1 + cosine, 0)),
        "shares": (Shares(mine, group, share), mine[:, group] * share),
    }


each_form = pytest.mark.parametrize("name", forms())


@each_form
def test_a_pair_is_looked_up_as_the_table_has_it(name):
    scores, expected = forms()[name]
    table = scores.dense()
    assert (table.dtype, table.shape) == (np.float32, (N_REQUESTS, N_ITEMS))
    np.testing.assert_allclose(table, expected, rtol=1e-5, atol=1e-6)
    none = np.zeros(0, np.int64)
    assert (scores.at(none, none).dtype, scores.at(none, none).shape) == (np.float32, (0,))
    rng = np.random.default_rng(1)
    request, item = (rng.integers(0, n, 2 * PAIRS_AT_ONCE + 5) for n in (N_REQUESTS, N_ITEMS))
    looked_up = scores.at(request, item)
    assert looked_up.dtype == np.float32
    np.testing.assert_allclose(looked_up, table[request, item], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", ["products", "factors", "new", "shares"])
def test_a_part_is_a_part_of_the_table(name):
    scores, _ = forms()[name]
    rows, items = np.array([1, 2, 5]), np.arange(0, N_ITEMS, 3)
    if name == "new":
        items = items[scores.new[items]]
    part = scores.part(rows, items)
    np.testing.assert_allclose(part, scores.dense()[np.ix_(rows, items)], rtol=1e-5, atol=1e-6)


def test_what_is_looked_up_is_masked_as_the_tables_are():
    text, none = np.full(N_ITEMS, "x", object), np.full(N_ITEMS, -1, np.int32)
    items = Items(np.arange(N_ITEMS), text, text, none, none, np.full(N_ITEMS, np.nan),
                  np.full(N_ITEMS, ALWAYS_FROM), np.full(N_ITEMS, ALWAYS_UNTIL))  # fmt: skip
    seen = sparse.csr_matrix(([1.0, 1.0], ([0, 3], [4, 5])), (N_REQUESTS, N_ITEMS))
    offer = Offer(items, np.zeros(N_REQUESTS, np.int64), np.arange(N_ITEMS) != 9, seen)
    sources = {name: scores for name, (scores, _) in forms().items()}
    tables, looked_up = Scored(sources, offer, keep=True), Scored(sources, offer, keep=False)
    pairs = np.divmod(np.arange(N_REQUESTS * N_ITEMS), N_ITEMS)
    assert list(looked_up) == list(tables) and len(looked_up) == len(tables)
    for name, value in looked_up.at(*pairs).items():
        assert tables[name] is tables[name] and looked_up[name] is not looked_up[name]
        np.testing.assert_array_equal(looked_up[name], tables[name])
        np.testing.assert_allclose(value, tables.at(*pairs)[name], rtol=1e-5, atol=1e-6)
        assert np.isinf(value).sum() == N_REQUESTS + 2


def test_a_neighbour_score_sums_the_strengths_of_all_past_items():
    history = sparse.csr_matrix(np.array([[1, 0.5, 0], [0, 0, 0]], np.float32))
    strengths = sparse.csr_matrix(np.array([[0, 0.2, 0.4], [0.6, 0, 0], [0, 0, 0]], np.float32))
    expected = [[0.5 * 0.6, 1 * 0.2, 1 * 0.4], [0, 0, 0]]
    found = goes_with(history, strengths)
    np.testing.assert_allclose(found.dense(), expected, rtol=1e-6)
    request, item = np.array([0, 1, 0, 0, 1]), np.array([0, 2, 2, 1, 0])  # in no order
    np.testing.assert_array_equal(found.at(request, item), found.dense()[request, item])


def test_items_of_a_text_of_their_own_are_not_copied():
    scores = np.zeros((2, 3), np.float32)
    assert items_of_texts(scores, np.arange(3)) is scores
