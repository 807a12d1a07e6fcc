"""The metrics say what others' say: NIST's trec_eval and scikit-learn live, RecTools as recorded.

Where definitions differ, the test turns one into the other, so that the difference is written down:

* trec_eval's NDCG takes the grade itself as the gain, ours 2**grade - 1: it is given our gains.
* trec_eval's MAP at k and RecTools' divide by all relevant items, ours by min(n_relevant, k).
* trec_eval's reciprocal rank has no cut-off: it is given lists of length k.
* a request without anything relevant is NaN here; trec_eval and RecTools leave it out.
* equal scores are put in order by trec_eval (by name), here they share their average rank: lists
  without ties are compared.
* RecTools' NDCG knows no grades, and by default divides by a list of k relevant items: it is asked
  for `divide_by_achievable`.
* RecTools' novelty has the share of users, ours of events: a constant, log2(events / users), apart.
"""

import json
from math import inf, log2
from pathlib import Path

import numpy as np
import pytest
import pytrec_eval
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import ndcg_score

from recsys.diversity import intra_list_distance
from recsys.exposure import catalogue_coverage, mean_popularity, novelty
from recsys.metrics import ranks_in_lists, request_metrics

KS = (1, 3, 5, 10)
N_ITEMS = 14
ONE = st.tuples(
    st.lists(st.integers(0, N_ITEMS - 1), unique=True, max_size=12),  # may be empty
    st.dictionaries(st.integers(0, N_ITEMS - 1), st.integers(1, 4), max_size=6),  # item -> grade
)
REQUESTS = st.lists(ONE, min_size=1, max_size=8)
RECTOOLS = json.loads((Path(__file__).parent / "rectools_0_19.json").read_text())


def ours(requests) -> dict[str, np.ndarray]:
    """Our metrics of (list, item -> grade) pairs."""
    lists = np.full((len(requests), 12), -1)
    for row, (listed, _) in enumerate(requests):
        lists[row, : len(listed)] = listed
    rows = [(row, item, grade) for row, (_, relevant) in enumerate(requests)
            for item, grade in relevant.items()]  # fmt: skip
    request, item, grade = np.array(rows, np.int64).reshape(-1, 3).T
    rank = ranks_in_lists(lists, request, item)
    return request_metrics(request, grade, rank, len(requests), KS)


def trec(requests, measures, k=None) -> list[dict[str, float]]:
    """trec_eval's values of each request; of none that it leaves out."""
    relevant = {str(row): {str(item): 2**grade - 1 for item, grade in some.items()}
                for row, (_, some) in enumerate(requests) if some}  # fmt: skip
    run = {str(row): {str(item): -float(place) for place, item in enumerate(listed[:k])}
           for row, (listed, _) in enumerate(requests)}  # fmt: skip
    if not relevant:
        return [{} for _ in requests]
    found = pytrec_eval.RelevanceEvaluator(relevant, measures).evaluate(run)
    return [found.get(str(row), {}) for row in range(len(requests))]


@settings(deadline=None)
@given(requests=REQUESTS)
def test_trec_eval_finds_the_same(requests):
    cut = ",".join(map(str, KS))
    asked = {f"{name}.{cut}" for name in ("ndcg_cut", "recall", "map_cut", "P", "success")}
    here, there = ours(requests), trec(requests, asked)
    for k in KS:
        first = trec(requests, {"recip_rank"}, k)
        for row, (listed, relevant) in enumerate(requests):
            mine = {name: here[f"{name}_at_{k}"][row]
                    for name in ("ndcg", "recall", "hr", "mrr", "map")}  # fmt: skip
            if not relevant:
                assert np.isnan(list(mine.values())).all() and not there[row]
            elif not listed:
                assert not any(mine.values())
            else:
                n, theirs = len(relevant), there[row]
                assert mine["ndcg"] == pytest.approx(theirs[f"ndcg_cut_{k}"])
                assert mine["recall"] == pytest.approx(theirs[f"recall_{k}"])
                assert mine["recall"] * n / k == pytest.approx(theirs[f"P_{k}"])
                assert mine["hr"] == theirs[f"success_{k}"]
                assert mine["map"] * min(n, k) / n == pytest.approx(theirs[f"map_cut_{k}"])
                assert mine["mrr"] == pytest.approx(first[row]["recip_rank"])


@settings(deadline=None)
@given(scores=st.permutations(range(N_ITEMS)), data=st.data())
def test_scikit_learn_finds_the_same_ndcg_of_a_whole_ranking(scores, data):
    grade = np.array(data.draw(st.lists(st.integers(0, 3), min_size=14, max_size=14)))
    relevant = np.flatnonzero(grade)
    if not len(relevant):
        return
    rank = 1.0 + np.array([(np.array(scores) > scores[item]).sum() for item in relevant])
    mine = request_metrics(np.zeros(len(relevant), int), grade[relevant], rank, 1, KS)
    for k in KS:
        theirs = ndcg_score([2.0**grade - 1], [scores], k=k)
        assert mine[f"ndcg_at_{k}"][0] == pytest.approx(theirs)


# --- RecTools: its values of the lists that are recorded with them --------------------------------


@pytest.fixture(scope="module")
def recorded():
    """Lists, relevant items and past events that RecTools was given, as arrays."""
    given = RECTOOLS["given"]
    lists = np.array(given["lists"])
    request, item = np.array(given["relevant"]).T
    past = np.bincount(np.array(given["past"])[:, 1], minlength=given["n_items"])
    return lists, request, item, past


def values_of(metric):
    """RecTools' value of each request, NaN where it has none."""
    found = RECTOOLS["values"][metric]
    return np.array([found.get(str(row), np.nan) for row in range(len(RECTOOLS["given"]["lists"]))])


def test_the_record_has_requests_without_lists_and_without_anything_relevant(recorded):
    lists, request, _, past = recorded
    assert (lists < 0).all(axis=1).any() and (lists[:, -1] < 0).sum() > 5
    assert len(np.unique(request)) < len(lists) and (past == 0).any()
    assert RECTOOLS["version"].startswith("0.19")


@pytest.mark.parametrize("k", RECTOOLS["ks"])
def test_rectools_finds_the_same_accuracy(recorded, k):
    lists, request, item, _ = recorded
    rank, n = ranks_in_lists(lists, request, item), len(lists)
    here = request_metrics(request, np.ones(len(request), int), rank, n, (k,))
    count = np.bincount(request, minlength=n)
    for name in ("ndcg", "recall", "hr", "mrr"):
        np.testing.assert_allclose(here[f"{name}_at_{k}"], values_of(f"{name}_at_{k}"))
    over_all = here[f"map_at_{k}"] * np.minimum(count, k) / np.where(count > 0, count, np.nan)
    np.testing.assert_allclose(over_all, values_of(f"map_at_{k}"))
    precision = here[f"recall_at_{k}"] * count / k
    np.testing.assert_allclose(precision, values_of(f"precision_at_{k}"))


@pytest.mark.parametrize("k", RECTOOLS["ks"])
def test_rectools_finds_the_same_beyond_accuracy(recorded, k):
    lists, _, _, past = recorded
    users = len({user for user, _ in RECTOOLS["given"]["past"]})
    listed = (lists >= 0).any(axis=1)
    apart = log2(past.sum() / users)
    known = listed & ~np.isin(lists[:, :k], np.flatnonzero(past == 0)).any(axis=1)
    assert known.sum() > 5  # what nobody took has another share there: of one user
    mine = novelty(lists, past, k)
    np.testing.assert_allclose(mine[known] - apart, values_of(f"novelty_at_{k}")[known])
    popular = mean_popularity(lists, past, k)
    np.testing.assert_allclose(popular, values_of(f"popularity_at_{k}"))
    vectors = np.array(RECTOOLS["given"]["vectors"], np.float32)
    distance = intra_list_distance(lists, vectors, (k,))[:, 0]
    theirs = values_of(f"intra_list_distance_at_{k}")
    several = (lists[:, :k] >= 0).sum(axis=1) > 1  # of one item RecTools says 0, we nothing
    np.testing.assert_allclose(distance[several], theirs[several], atol=1e-5)
    coverage = catalogue_coverage(lists[:, :k], RECTOOLS["given"]["n_items"])
    assert coverage == pytest.approx(RECTOOLS["values"][f"coverage_at_{k}"])


def test_infinity_is_no_rank_of_a_listed_item(recorded):
    lists, request, item, _ = recorded
    rank = ranks_in_lists(lists, request, item)
    assert 0 < (rank < inf).sum() < len(rank)
