"""An index finds the nearest as far as it says, and says so in words; without faiss it refuses."""

import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest

from recsys import index as module
from recsys.errors import ConfigError
from recsys.index import (
    CAREFUL,
    ENOUGH,
    NEAREST,
    TextIndex,
    build_index,
    check_index,
    exact_nearest,
    recall_words,
)

N, DIM = 3000, 16


def unit(values):
    return (values / np.linalg.norm(values, axis=1, keepdims=True)).astype(np.float32)


@pytest.fixture(scope="module")
def world():
    """Return (vectors in clusters, users between the vectors of one)."""
    rng = np.random.default_rng(0)
    centre = rng.normal(size=(60, DIM))
    vectors = unit(centre[rng.integers(0, 60, N)] + 0.3 * rng.normal(size=(N, DIM)))
    return vectors, unit(vectors[rng.integers(0, N, 50)] + 0.2 * rng.normal(size=(50, DIM)))


@pytest.fixture(scope="module")
def index(world):
    pytest.importorskip("faiss")
    return build_index(*world)


def test_the_exact_nearest_are_those_of_all_vectors(world):
    vectors, users = world
    scores = users.astype(float) @ vectors.T.astype(float)
    np.testing.assert_array_equal(exact_nearest(users, vectors, 5), np.argsort(-scores, 1)[:, :5])
    assert exact_nearest(users, vectors[:3], 5).shape == (50, 3)


def test_the_recall_is_the_share_of_the_nearest_that_a_search_finds(world, index):
    vectors, users = world
    found = index.search(users, NEAREST)
    nearest = exact_nearest(users, vectors, NEAREST)
    shares = [len(set(a) & set(b)) / NEAREST for a, b in zip(found, nearest, strict=True)]
    assert index.recall == pytest.approx(np.mean(shares)) and index.recall >= ENOUGH
    one = replace(index, lists=1).search(users, NEAREST)
    fewer = [len(set(a) & set(b)) / NEAREST for a, b in zip(one, nearest, strict=True)]
    assert np.mean(fewer) < CAREFUL  # one list is too few here, so recall is no constant


def test_more_lists_are_looked_at_until_enough_is_found(monkeypatch):
    pytest.importorskip("faiss")
    spread = unit(np.random.default_rng(1).normal(size=(N, DIM)))  # the nearest are in many lists
    lists = []
    for enough in (0.0, 0.6, 2.0):
        monkeypatch.setattr(module, "ENOUGH", enough)
        lists.append(build_index(spread, spread[:40]).lists)
    n_lists = int(module.LISTS_PER_ROOT * N**0.5)
    assert lists[0] == module.FEWEST_LISTS < lists[1] <= lists[2] <= module.MOST_SHARE * n_lists


def test_where_all_lists_are_looked_at_nothing_is_missed_but_by_rounding(world, index):
    vectors, users = world
    found = replace(index, lists=10**6).search(users, 10)
    scores = np.take_along_axis(users @ vectors.T, found, 1)
    best = np.sort(users @ vectors.T, 1)[:, ::-1][:, :10]
    np.testing.assert_allclose(scores, best, atol=2e-3)  # vectors in 16 bits


def test_same_vectors_same_index_and_threads_change_nothing(world, index):
    vectors, users = world
    again = build_index(vectors, users)
    expected = index.search(users, 20)
    np.testing.assert_array_equal(again.search(users, 20), expected)
    with ThreadPoolExecutor(4) as pool:
        for found in pool.map(lambda _: index.search(users, 20), range(12)):
            np.testing.assert_array_equal(found, expected)


def test_a_few_vectors_are_indexed_too(capfd):
    pytest.importorskip("faiss")
    vectors = unit(np.random.default_rng(0).normal(size=(5, 3)))
    index = build_index(vectors, vectors)
    assert index.recall == 1.0
    assert (index.search(vectors, 9) == -1).sum() == 5 * 4  # five there are
    assert capfd.readouterr() == ("", "")


def test_the_recall_is_said_in_words_and_a_low_one_with_care():
    said = recall_words(TextIndex(None, 8, 0.987), 1_000_000, 200)
    assert said == "over 1,000,000 texts, recall@100 0.987 of exact on 200 users"
    assert recall_words(TextIndex(None, 8, CAREFUL - 0.001), 10**6, 1).startswith("careful: over")
    assert "nobody took anything" in recall_words(TextIndex(None, 8, np.nan), 10**6, 0)


def test_without_faiss_it_is_said_what_to_install(monkeypatch, world):
    monkeypatch.setitem(sys.modules, "faiss", None)
    for do in (check_index, lambda: build_index(*world)):
        with pytest.raises(ConfigError, match=r"dense_items.*pip install 'recsys-text\[ann\]'"):
            do()


def test_a_search_leaves_the_number_of_threads_as_it_was(world, index):
    faiss = pytest.importorskip("faiss")
    before = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(2)
    index.search(world[1][:3], 5)
    after = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(before)
    assert after == 2
