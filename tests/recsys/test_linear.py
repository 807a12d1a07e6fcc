"""Each item's weights solve its own regression on the items closest to it, however it is cut."""

import numpy as np
import pytest
from scipy import sparse

from recsys import linear, neighbours
from recsys.errors import ConfigError
from recsys.linear import linear_neighbours
from recsys.neighbours import cosine_neighbours

N_ITEMS, RIDGE = 14, 3.0


@pytest.fixture
def users():
    """Who took what: common items, rare ones, one of a single user and one of nobody."""
    drawn = np.random.default_rng(0).random((70, N_ITEMS))
    taken = (drawn < np.linspace(0.6, 0.05, N_ITEMS)).astype(np.float32)
    taken[:, -2:] = 0
    taken[0] = np.arange(N_ITEMS) == N_ITEMS - 2  # a user of nothing else
    return sparse.csr_matrix(taken)


def solved(users, closest, item, ridge=RIDGE):
    """Regress one item on some others; what is negative is dropped."""
    past, target = users[:, closest].toarray(), users[:, [item]].toarray()[:, 0]
    weights = np.linalg.solve(past.T @ past + ridge * np.eye(len(closest)), past.T @ target)
    expected = np.zeros(N_ITEMS)
    expected[closest] = np.maximum(weights, 0)
    return expected


@pytest.mark.parametrize("near", [1, 4, 50])
def test_each_column_is_the_regression_on_the_closest_and_other_columns_are_empty(users, near):
    cosine, items = cosine_neighbours(users, N_ITEMS), np.array([0, 3, 8, 11, 12, 13])
    found = linear_neighbours(users, cosine, items, near, RIDGE).toarray()
    closeness = cosine.toarray()
    for item in items:
        closest = np.argsort(-closeness[item], kind="stable")[:near]
        closest = np.sort(closest[closeness[item, closest] > 0])
        np.testing.assert_allclose(found[:, item], solved(users, closest, item), atol=1e-5)
    assert not np.delete(found, items, axis=1).any()
    assert found[:, :12].any() and not found[:, 12:].any()  # close to none: predicted by none


def test_with_all_others_close_it_is_ease(users):
    """Where every pair shares a user, the columns are those of the closed form of all items."""
    common = users[:, :8]
    together = (common.T @ common).toarray()
    assert (together > 0).all()
    found = linear_neighbours(common, cosine_neighbours(common, 8), np.arange(8), 8, RIDGE)
    inverse = np.linalg.inv(together + RIDGE * np.eye(8))
    expected = np.maximum(np.eye(8) - inverse / np.diag(inverse), 0)
    np.testing.assert_allclose(found.toarray(), expected, atol=1e-5)


def test_how_many_are_solved_at_once_changes_nothing(users, monkeypatch):
    cosine, items = cosine_neighbours(users, N_ITEMS), np.arange(N_ITEMS)
    whole = linear_neighbours(users, cosine, items, 5, RIDGE)
    assert whole.nnz > N_ITEMS
    for module, name, cells in ((linear, "GROUP_CELLS", 90), (linear, "CHUNK_CELLS", 60),
                                (neighbours, "CHUNK_TERMS", 50)):  # fmt: skip
        monkeypatch.setattr(module, name, cells)
        few = linear_neighbours(users, cosine, items, 5, RIDGE)
        np.testing.assert_allclose(few.toarray(), whole.toarray(), atol=1e-6)


@pytest.mark.parametrize("items", [[], [N_ITEMS - 2, N_ITEMS - 1]])
def test_without_items_or_without_others_nothing_is_weighed(users, items):
    codes = np.array(items, np.int64)
    found = linear_neighbours(users, cosine_neighbours(users, 5), codes, 3, RIDGE)
    assert (found.shape, found.nnz) == ((N_ITEMS, N_ITEMS), 0)


def test_nothing_is_weighed_where_nobody_took_anything():
    nobody = sparse.csr_matrix((3, N_ITEMS), dtype=np.float32)
    found = linear_neighbours(nobody, cosine_neighbours(nobody, 5), np.arange(4), 3, RIDGE)
    assert found.nnz == 0


def test_a_ridge_that_vanishes_beside_the_users_is_refused_in_words():
    same = sparse.csr_matrix(np.ones((1200, 4), np.float32))
    with pytest.raises(ConfigError, match="state.ease_ridge: 1e-09 is too small"):
        linear_neighbours(same, cosine_neighbours(same, 4), np.arange(4), 3, 1e-9)
