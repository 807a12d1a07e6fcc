"""The first trees sort out what the others need not see; what they keep is ranked by all trees."""

import numpy as np
import pytest

from recsys.cascade import FirstPass, cascade_scores
from recsys.ranker import RankerConfig, refit_ranker
from recsys.rows import Rows

SIZES = np.array([40, 3, 90, 25])
REQUEST = np.repeat(np.arange(len(SIZES)), SIZES)


@pytest.fixture(scope="module")
def learned():
    rng = np.random.default_rng(0)
    table = rng.normal(size=(len(REQUEST), 4)).astype(np.float32)
    worth = table[:, 0] + table[:, 1] * table[:, 2]
    grade = (worth > 1).astype(np.int64)
    config = RankerConfig(min_rows_in_leaf=2, l2=1.0, learning_rate=0.2)
    ranker = refit_ranker([Rows(table, grade, SIZES)], list("abcd"), config, 0, 40)
    return ranker, table


def order(request, score):
    return np.lexsort((-score, request))


def test_what_passes_is_in_the_order_of_all_trees_and_stands_above_the_rest(learned):
    ranker, table = learned
    score = cascade_scores(ranker, table, REQUEST, FirstPass(trees=0.25, rows=10))
    early, whole = ranker.split(10)[0].predict(table), ranker.predict(table)
    changed = 0
    for one, size in enumerate(SIZES):
        rows = np.flatnonzero(one == REQUEST)
        best = rows[np.argsort(-early[rows], kind="stable")[:10]]
        rest = np.setdiff1d(rows, best)
        np.testing.assert_allclose(score[best], whole[best])
        if size > 10:
            assert score[rest].max() < score[best].min()
            np.testing.assert_array_equal(
                np.argsort(-score[rest], kind="stable"), np.argsort(-early[rest], kind="stable")
            )
            changed += (np.argsort(-whole[rows]) != np.argsort(-score[rows])).any()
    assert changed  # somewhere the rest was not in the order of all trees


def test_a_first_pass_that_keeps_all_or_is_all_trees_changes_nothing(learned):
    ranker, table = learned
    whole = ranker.predict(table)
    kept = cascade_scores(ranker, table, REQUEST, FirstPass(trees=0.3, rows=90))
    np.testing.assert_allclose(kept, whole, atol=1e-12)
    np.testing.assert_array_equal(order(REQUEST, kept), order(REQUEST, whole))
    all_trees = cascade_scores(ranker, table, REQUEST, FirstPass(trees=1, rows=1))
    np.testing.assert_array_equal(all_trees, whole)


def test_a_request_alone_scores_as_it_does_among_others(learned):
    ranker, table = learned
    first = FirstPass(trees=0.2, rows=7)
    together = cascade_scores(ranker, table, REQUEST, first)
    for one in range(len(SIZES)):
        rows = one == REQUEST
        alone = cascade_scores(ranker, table[rows], np.zeros(rows.sum(), np.int64), first)
        np.testing.assert_array_equal(alone, together[rows])


def test_no_row_is_no_score(learned):
    ranker, table = learned
    none = cascade_scores(ranker, table[:0], REQUEST[:0], FirstPass())
    assert none.shape == (0,)


def test_the_parts_of_the_trees_add_up(learned):
    ranker, table = learned
    first, rest = ranker.split(13)
    assert (first.trees, rest.trees) == (13, 27)
    parts = first.predict(table) + rest.predict(table)
    np.testing.assert_allclose(parts, ranker.predict(table), atol=1e-12)
    assert not np.allclose(rest.predict(table), ranker.predict(table))
