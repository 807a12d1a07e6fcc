"""The metrics equal their formulas written out for one list, whatever the order of the rows."""

from math import inf, isnan, log2

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recsys.metrics import ranks_from_scores, ranks_in_lists, request_metrics

KS = (1, 2, 3, 5)


def of_one_list(grade_at_rank: dict[int, int], missed: list[int], k: int) -> dict[str, float]:
    """Every metric of one request without ties, as loops over ranks."""
    grades = [*grade_at_rank.values(), *missed]
    ideal_order = sorted(grades, reverse=True)[:k]
    dcg = sum((2**g - 1) / log2(rank + 1) for rank, g in grade_at_rank.items() if rank <= k)
    ideal = sum((2**g - 1) / log2(rank + 1) for rank, g in enumerate(ideal_order, start=1))
    hits = sorted(rank for rank in grade_at_rank if rank <= k)
    return {
        f"ndcg_at_{k}": dcg / ideal,
        f"recall_at_{k}": len(hits) / len(grades),
        f"hr_at_{k}": 1.0 if hits else 0.0,
        f"mrr_at_{k}": 1 / hits[0] if hits else 0.0,
        f"map_at_{k}": sum(n / r for n, r in enumerate(hits, 1)) / min(len(grades), k),
    }


LISTS = st.lists(
    st.tuples(
        st.dictionaries(st.integers(1, 8), st.integers(1, 3), max_size=6),
        st.lists(st.integers(1, 3), max_size=3),
    ),
    min_size=1,
    max_size=6,
)


def flat(requests) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Put (grade_at_rank, missed) pairs back to back as `request_metrics` takes them."""
    rows = [
        (row, grade, rank)
        for row, (grade_at_rank, missed) in enumerate(requests)
        for rank, grade in [*grade_at_rank.items(), *((inf, g) for g in missed)]
    ]
    table = np.array(rows, float).reshape(-1, 3)
    return table[:, 0].astype(np.int64), table[:, 1].astype(np.int8), table[:, 2]


@given(requests=LISTS)
def test_every_metric_is_its_formula_written_out(requests):
    metrics = request_metrics(*flat(requests), len(requests), KS)
    for row, (grade_at_rank, missed) in enumerate(requests):
        for k in KS:
            if grade_at_rank or missed:
                for name, expected in of_one_list(grade_at_rank, missed, k).items():
                    assert metrics[name][row] == pytest.approx(expected), name
            else:
                assert isnan(metrics[f"ndcg_at_{k}"][row])


def test_one_request_by_hand():
    # grade 2 at rank 2, grade 1 at rank 3, grade 1 missed; the best list has 2, 1, 1
    metrics = request_metrics(np.zeros(3, int), np.array([2, 1, 1]), np.array([2.0, 3, inf]), 1)
    ideal = 3 + 1 / log2(3) + 1 / log2(4)
    assert metrics["ndcg_at_5"][0] == pytest.approx((3 / log2(3) + 1 / log2(4)) / ideal)
    assert metrics["recall_at_5"][0] == pytest.approx(2 / 3)
    assert metrics["hr_at_5"][0] == 1
    assert metrics["mrr_at_5"][0] == pytest.approx(1 / 2)
    assert metrics["map_at_5"][0] == pytest.approx((1 / 2 + 2 / 3) / 3)


def test_nothing_relevant_is_undefined_and_not_zero():
    metrics = request_metrics(np.array([1]), np.array([1]), np.array([1.0]), 3)
    assert len(metrics) == 5 * 4
    for values in metrics.values():
        np.testing.assert_array_equal(values, [np.nan, 1, np.nan])


def test_no_request_at_all_gives_empty_arrays():
    none = np.zeros(0, np.int64)
    assert {v.shape for v in request_metrics(none, none, none, 0).values()} == {(0,)}


@given(grades=st.lists(st.integers(1, 3), min_size=1, max_size=9))
def test_a_perfect_ranking_scores_one(grades):
    best_first = np.array(sorted(grades, reverse=True))
    ranks = np.arange(1.0, len(grades) + 1)
    metrics = request_metrics(np.zeros(len(grades), int), best_first, ranks, 1, KS)
    for k in KS:
        for name in ("ndcg", "hr", "mrr", "map"):
            assert metrics[f"{name}_at_{k}"][0] == pytest.approx(1)
        assert metrics[f"recall_at_{k}"][0] == pytest.approx(min(k, len(grades)) / len(grades))


@given(requests=LISTS, missed=st.integers(1, 3))
def test_a_relevant_item_that_was_never_listed_costs_ndcg(requests, missed):
    k = 20  # above every rank: a full ideal list would not change
    more = [(listed, [*unlisted, missed]) for listed, unlisted in requests]
    before = request_metrics(*flat(requests), len(requests), (k,))["ndcg_at_20"]
    after = request_metrics(*flat(more), len(requests), (k,))["ndcg_at_20"]
    assert np.all((after < before) | (before == 0) | np.isnan(before))


@st.composite
def tied_ranks(draw) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Relevant items of one request scored on a coarse scale, so that many ranks are tied."""
    scores = np.array(draw(st.lists(st.integers(0, 3), min_size=1, max_size=12)))
    relevant = np.array(draw(st.lists(st.booleans(), min_size=len(scores), max_size=len(scores))))
    grades = np.array(draw(st.lists(st.integers(1, 3), min_size=12, max_size=12)))
    larger = (scores[None, :] > scores[:, None]).sum(axis=1)
    equal = (scores[None, :] == scores[:, None]).sum(axis=1)
    ranks = 1 + larger + (equal - 1) / 2
    return np.zeros(relevant.sum(), int), grades[: len(scores)][relevant], ranks[relevant]


@given(rows=tied_ranks(), seed=st.integers(0, 99))
def test_ties_never_score_above_one_nor_depend_on_the_order_of_the_rows(rows, seed):
    metrics = request_metrics(*rows, 1, KS)
    shuffled = np.random.default_rng(seed).permutation(len(rows[0]))
    again = request_metrics(*(column[shuffled] for column in rows), 1, KS)
    for name, values in metrics.items():
        assert isnan(values[0]) or -1e-12 <= values[0] <= 1 + 1e-12
        np.testing.assert_allclose(values, again[name], rtol=1e-12)


def test_a_tie_counts_at_its_average_rank():
    # two relevant items share ranks 1 and 2 with nothing else: any order of them is perfect
    metrics = request_metrics(np.zeros(2, int), np.ones(2, int), np.array([1.5, 1.5]), 1, (2,))
    assert metrics["map_at_2"][0] == 1
    assert metrics["mrr_at_2"][0] == pytest.approx(1 / 1.5)
    assert metrics["ndcg_at_2"][0] == pytest.approx((2 / log2(2.5)) / (1 + 1 / log2(3)))


def test_the_order_of_the_requests_changes_nothing():
    rng = np.random.default_rng(0)
    n = 50
    request, grade = np.sort(rng.integers(0, n, 200)), rng.integers(1, 4, 200)
    rank = rng.integers(1, 60, 200) / 2 + 0.5
    rank[rng.random(200) < 0.3] = inf
    new_row = rng.permutation(n)
    moved = request_metrics(new_row[request], grade, rank, n)
    for name, values in request_metrics(request, grade, rank, n).items():
        assert np.nansum(values) > 0
        np.testing.assert_allclose(moved[name][new_row], values, rtol=1e-12)


@given(seed=st.integers(0, 999), k_max=st.integers(1, 12))
def test_ranks_agree_with_sorting_all_scores(seed, k_max):
    rng = np.random.default_rng(seed)
    scores = rng.integers(0, 6, (4, 12)).astype(np.float32)  # many ties
    scores[rng.random(scores.shape) < 0.3] = -inf
    rows, items = np.repeat(np.arange(4), 12), np.tile(np.arange(12), 4)
    threshold = -np.sort(-scores, axis=1)[:, k_max - 1]
    ranks = ranks_from_scores(scores, rows, items, threshold, k_max)
    for row, item, rank in zip(rows, items, ranks, strict=True):
        own, others = scores[row, item], sorted(scores[row], reverse=True)
        same = [place for place, score in enumerate(others, start=1) if score == own]
        average = sum(same) / len(same)
        assert rank == (average if own > -inf and average <= k_max else inf)


def test_a_rank_in_a_kept_list_is_its_place():
    lists = np.array([[4, 2, -1], [0, 4, 3], [-1, -1, -1]])
    ranks = ranks_in_lists(lists, np.array([0, 0, 0, 1, 2]), np.array([2, 4, 3, 3, 0]))
    assert ranks.tolist() == [2, 1, inf, 3, inf]
    assert ranks_in_lists(lists[:, :0], np.array([1]), np.array([0])).tolist() == [inf]
