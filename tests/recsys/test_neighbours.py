"""Pruning keeps what a sort would keep; the cosine is the dense formula."""

import numpy as np
import pytest
from scipy import sparse

from recsys import neighbours
from recsys.neighbours import (
    cosine_neighbours,
    dense_product,
    keep_strongest,
    nearest_rows,
    product_at,
    taken_matrix,
)

N_ITEMS = 8


def drawn(rng, levels, shape=(12, 40)):
    """Draw a matrix of few distinct values, about half of them zero."""
    return np.where(rng.random(shape) < 0.5, rng.choice(levels, shape), 0).astype(np.float32)


def sorted_out(table, keep):
    """Sort each row by (strength, column) and keep the first ones."""
    kept = np.zeros_like(table)
    for at, row in enumerate(table.tolist()):
        columns = sorted((-value, column) for column, value in enumerate(row) if value > 0)[:keep]
        for value, column in columns:
            kept[at, column] = -value
    return kept


@pytest.mark.parametrize("keep", [1, 5, 20, 40])
@pytest.mark.parametrize(
    "levels",
    [[0.25, 0.5, 1.0], [0.5, 0.5 + 2**-20, 0.5 + 2**-10], [2.0**-30, 2.0**-25, 2.0**-20], None],
    ids=["ties", "one size class", "below the smallest class", "no ties"],
)
def test_what_is_kept_is_what_a_sort_would_keep(levels, keep):
    rng = np.random.default_rng(0)
    table = drawn(rng, 1 - rng.random(500) if levels is None else levels)
    kept = keep_strongest(sparse.csr_matrix(table), keep)
    np.testing.assert_array_equal(kept.toarray(), sorted_out(table, keep))
    assert kept.nnz == np.count_nonzero(sorted_out(table, keep))


def test_equal_strengths_stay_by_ascending_column_however_they_are_stored():
    columns = np.array([3, 0, 2, 1])
    table = sparse.csr_matrix((np.full(4, 0.5, np.float32), columns, [0, 4]), (1, 4))
    assert keep_strongest(table, 2).toarray().tolist() == [[0.5, 0.5, 0, 0]]
    assert table.indices.tolist() == columns.tolist()  # the argument is left as it was


def test_empty_and_short_rows_stay_whole():
    table = np.array([[0, 0, 0], [0.5, 0, 0], [0.5, 0.25, 0]], np.float32)
    np.testing.assert_array_equal(keep_strongest(sparse.csr_matrix(table), 2).toarray(), table)
    empty = keep_strongest(sparse.csr_matrix((4, 4)), 2)
    assert (empty.shape, empty.nnz) == ((4, 4), 0)


def dense_cosine(rows, as_of):
    """|users of both| / sqrt(|users of i| |users of j|), from sets."""
    users = [{row[0] for row in rows if row[1] < as_of and row[2] == item and row[3] > 0}
             for item in range(N_ITEMS)]  # fmt: skip
    return np.array([
        [len(a & b) / (len(a) * len(b)) ** 0.5 if i != j and a and b else 0
         for j, b in enumerate(users)] for i, a in enumerate(users)
    ])  # fmt: skip


@pytest.mark.parametrize("dated", [True, False], ids=["dated", "ordered"])
@pytest.mark.parametrize("seed", range(2))
def test_the_cosine_is_the_formula_over_users_strictly_before(log_of, random_rows, dated, seed):
    rows, as_of = random_rows(seed, dated), 20 * 86_400_000_000 if dated else -2
    found = cosine_neighbours(taken_matrix([log_of(rows)], as_of, N_ITEMS), N_ITEMS).toarray()
    expected = dense_cosine(rows, as_of)
    assert np.count_nonzero(expected) > N_ITEMS
    np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_buckets_and_chunks_change_no_neighbour(log_of, random_rows, monkeypatch):
    rows = random_rows(0, True)
    whole = cosine_neighbours(taken_matrix([log_of(rows)], 10**18, N_ITEMS), 3)
    parts = [log_of([row for row in rows if row[0] % 2 == part]) for part in range(2)]
    bucketed = cosine_neighbours(taken_matrix(iter(parts), 10**18, N_ITEMS), 3)
    monkeypatch.setattr(neighbours, "CHUNK_TERMS", 5)
    chunked = cosine_neighbours(taken_matrix([log_of(rows)], 10**18, N_ITEMS), 3)
    assert 0 < whole.nnz < N_ITEMS * (N_ITEMS - 1)
    np.testing.assert_array_equal(bucketed.toarray(), whole.toarray())
    np.testing.assert_array_equal(chunked.toarray(), whole.toarray())


def test_two_items_of_the_same_users_have_cosine_one_and_none_is_its_own_neighbour(log_of):
    log = log_of([(1, 0, 0), (1, 1, 1), (2, 0, 0), (2, 1, 1), (2, 2, 2), (3, 0, 3, 0)])
    found = cosine_neighbours(taken_matrix([log], 9, 4), 4).toarray()
    one, half = 2 / (2 * 2) ** 0.5, 1 / (2 * 1) ** 0.5
    expected = [[0, one, half, 0], [one, 0, half, 0], [half, half, 0, 0], [0, 0, 0, 0]]
    np.testing.assert_allclose(found, expected, rtol=1e-6)


@pytest.mark.parametrize(
    ("most", "among"), [(99, range(13)), (13, range(13)), (5, [0, 2, 5, 7, 10])]
)
@pytest.mark.parametrize("keep", [1, 3, 30])
def test_the_nearest_rows_are_those_of_a_sort_and_never_the_row_itself(
    monkeypatch, keep, most, among
):
    monkeypatch.setattr(neighbours, "BLOCK_ROWS", 5)
    vectors = np.random.default_rng(0).normal(size=(13, 4)).astype(np.float32)
    vectors[0] = vectors[7]  # twins are neighbours
    found = nearest_rows(vectors, keep, most)
    assert (found.shape, found.dtype) == ((13, min(keep, len(among) - 1)), np.int64)
    for row, near in enumerate(found.tolist()):
        cosines = {other: float(vectors[row] @ vectors[other])
                   for other in among if other != row}  # fmt: skip
        best = sorted(cosines.values(), reverse=True)[: found.shape[1]]
        assert row not in near and len(set(near)) == len(near)
        np.testing.assert_allclose([cosines[one] for one in near], best, atol=1e-6)


def test_one_row_has_no_nearest():
    assert nearest_rows(np.ones((1, 3), np.float32), 5, 9).shape == (1, 0)


def test_a_product_as_a_table_is_the_sparse_product_to_the_last_bit():
    rng = np.random.default_rng(0)
    weights = sparse.random_array((70, 50), density=0.2, rng=rng, dtype=np.float32).tocsr()
    strengths = sparse.random_array((50, 90), density=0.3, rng=rng, dtype=np.float32).tocsr()
    table = dense_product(weights, strengths)
    assert table.dtype == np.float32 and (table > 0).mean() > 0.5
    np.testing.assert_array_equal(table, (weights @ strengths).toarray())
    np.testing.assert_array_equal(dense_product(weights[:0], strengths), np.zeros((0, 90)))
    row, column = rng.integers(0, 70, 500), rng.integers(0, 90, 500)  # from row to row and back
    np.testing.assert_array_equal(product_at(weights, strengths, row, column), table[row, column])
