"""Merging keeps every source's best once, with where it came from; nothing masked gets through."""

import numpy as np
import pytest
from pydantic import ValidationError
from scipy import sparse

from recsys.asof import past_of
from recsys.candidates import (
    SOURCES,
    CandidateConfig,
    add_rows,
    block_size,
    history_matrix,
    merge_candidates,
    text_scores,
    top_items,
    without_small,
)

N_REQUESTS, N_ITEMS = 6, 20
QUOTAS = {"a": 3, "b": 5, "c": 2, "unused": 0}


@pytest.fixture
def scores():
    """No two scores of a source are equal; half of those of "b" are 0."""
    rng = np.random.default_rng(0)
    drawn = {name: rng.permuted(np.tile(np.arange(1.0, N_ITEMS + 1), (N_REQUESTS, 1)), axis=1)
             for name in QUOTAS}  # fmt: skip
    drawn["b"] = np.maximum(drawn["b"] - 17, 0)  # three above 0 in each row
    return {name: values.astype(np.float32) for name, values in drawn.items()}


def found(candidates, name):
    """(request, item) -> rank of what the source found."""
    known = ~np.isnan(candidates.rank[name])
    keys = zip(candidates.request[known].tolist(), candidates.item[known].tolist(), strict=True)
    return dict(zip(keys, candidates.rank[name][known].tolist(), strict=True))


def pairs(candidates):
    return list(zip(candidates.request.tolist(), candidates.item.tolist(), strict=True))


def test_each_source_brings_its_best_with_their_places(scores):
    merged = merge_candidates(scores, QUOTAS, {"b": 0.0})
    for name, quota in QUOTAS.items():
        least, expected = {"b": 0.0}.get(name, -np.inf), {}
        for request, row in enumerate(scores[name].tolist()):
            best = sorted(row, reverse=True)[:quota]
            expected |= {(request, row.index(score)): place + 1
                         for place, score in enumerate(best) if score > least}  # fmt: skip
        assert found(merged, name) == expected
    assert len(found(merged, "b")) == N_REQUESTS * 3  # of a quota of 5: a score of 0 says nothing


def test_no_pair_comes_twice_and_none_from_nowhere(scores):
    merged = merge_candidates(scores, QUOTAS, {})
    assert pairs(merged) == sorted(set(pairs(merged)))
    assert set(pairs(merged)) == set().union(*(found(merged, name) for name in QUOTAS))
    per_request = np.bincount(merged.request)
    assert (per_request >= max(QUOTAS.values())).all()
    assert (per_request <= sum(QUOTAS.values())).all()


def test_another_order_chooses_but_the_source_keeps_its_own_scores(scores):
    tied = {"a": np.zeros_like(scores["a"]), "b": scores["b"]}
    merged = merge_candidates(tied, QUOTAS, {}, {"a": scores["a"]})
    assert found(merged, "a") == found(merge_candidates(scores, QUOTAS, {}), "a")
    assert not merged.score["a"].any()


def test_every_score_is_carried_also_where_another_source_found_the_row(scores):
    merged = merge_candidates(scores, QUOTAS, {})
    for name, values in scores.items():
        np.testing.assert_array_equal(merged.score[name], values[merged.request, merged.item])


@pytest.mark.parametrize("name", ["a", "b", "c"])
def test_removing_a_source_removes_only_what_it_alone_found(scores, name):
    whole = merge_candidates(scores, QUOTAS, {})
    less = merge_candidates(scores, QUOTAS | {name: 0}, {})
    others = set().union(*(found(whole, other) for other in QUOTAS if other != name))
    assert set(pairs(less)) == others
    assert len(others) < len(pairs(whole))
    for other in QUOTAS:
        assert found(less, other) == ({} if other == name else found(whole, other))


def test_what_is_masked_is_no_candidate_even_of_a_quota_for_all(scores):
    for values in scores.values():
        values[:, :4] = values[[0, 2], [10, 11]] = -np.inf
    merged = merge_candidates(scores, dict.fromkeys(scores, 10 * N_ITEMS), {})
    allowed = {(request, item) for request in range(N_REQUESTS) for item in range(4, N_ITEMS)}
    assert set(pairs(merged)) == allowed - {(0, 10), (2, 11)}


@pytest.mark.parametrize("quota", [0, 3])
def test_without_quota_or_without_scores_there_is_no_candidate(quota):
    scores = {"a": np.full((2, 5), -np.inf, np.float32)}
    assert len(merge_candidates(scores, {"a": quota}, {}).item) == 0


def test_keeping_rows_keeps_their_provenance(scores):
    merged = merge_candidates(scores, QUOTAS, {})
    some = merged.keep(merged.request == 2)
    for name in QUOTAS:
        mine = {key: rank for key, rank in found(merged, name).items() if key[0] == 2}
        assert found(some, name) == mine
        np.testing.assert_array_equal(some.score[name], scores[name][2, some.item])


def test_added_rows_are_in_order_and_found_by_nobody(scores):
    for values in scores.values():
        values[:, 7] = -np.inf
    plain = merge_candidates(scores, QUOTAS, {})
    keys = (plain.request * N_ITEMS + plain.item).tolist()
    request, item = np.divmod(np.arange(0, N_REQUESTS * N_ITEMS, 3)[::-1], N_ITEMS)
    scores_at = lambda row, column: {name: some[row, column] for name, some in scores.items()}  # noqa: E731
    twice = np.append(request, 3), np.append(item, 0)  # (3, 0)
    more = add_rows(plain, *twice, N_ITEMS, scores_at)
    expected = set(keys) | {key for key in range(0, N_REQUESTS * N_ITEMS, 3) if key % N_ITEMS != 7}
    assert (more.request * N_ITEMS + more.item).tolist() == sorted(expected)
    assert len(expected) > len(keys) > len(set(keys) & set(range(0, N_REQUESTS * N_ITEMS, 3))) > 0
    assert more.found.tolist() == [key in keys for key in sorted(expected)]
    for name in scores:
        np.testing.assert_array_equal(more.rank[name][more.found], plain.rank[name])
        assert np.isnan(more.rank[name][~more.found]).all()
        np.testing.assert_array_equal(more.score[name], scores[name][more.request, more.item])
    again = more.keep(more.found)
    assert again.found.all() and again.item.tolist() == plain.item.tolist()
    assert more.keep(~more.found).found.tolist() == [False] * (len(expected) - len(keys))


def test_the_top_is_sorted_and_never_longer_than_the_catalogue():
    items, best = top_items(np.array([[0.1, 0.3, 0.2]], np.float32), 2)
    assert (items.tolist(), best.tolist()) == ([[1, 2]], np.float32([[0.3, 0.2]]).tolist())
    assert top_items(np.zeros((4, 3), np.float32), 10)[0].shape == (4, 3)


def test_a_history_weighs_each_event_by_how_far_back_it_is(log_of):
    log = log_of([(1, 0, 3), (1, 0, 4), (1, 2, 3), (1, 5, 0, 0), (1, 6, 4), (2, 0, 1, 0)])
    past = past_of(log, np.array([1, 2, 9]), np.full(3, 9), 1, 9)
    expected = np.zeros((3, 5))  # user 1: back 2, 2, 1, (shown only), 0
    expected[0, 3], expected[0, 4] = 0.5**2 + 0.5**1, 0.5**2 + 0.5**0
    np.testing.assert_array_equal(history_matrix(past, 5, 0.5).toarray(), expected)


def test_what_weighs_little_is_left_out_and_the_rest_stays():
    weights = sparse.csr_matrix(np.array([[1, 0.5, 0], [0.1, 0, 0.05]], np.float32))
    some = without_small(weights, 0.1)
    assert some.toarray().tolist() == np.float32([[1, 0.5, 0], [0.1, 0, 0]]).tolist()
    assert (some.nnz, weights.nnz) == (3, 4)


def test_items_that_share_a_text_share_its_score():
    rng = np.random.default_rng(0)
    users, vectors = (rng.normal(size=(n, 4)).astype(np.float32) for n in (3, 5))
    text_of_item = np.array([4, 0, 0, 2])
    expected = [[sum(u * v) for v in vectors[text_of_item]] for u in users]
    np.testing.assert_allclose(text_scores(users, vectors, text_of_item), expected, rtol=1e-5)
    alone = text_scores(users, vectors, np.arange(5))
    np.testing.assert_allclose(alone[:, text_of_item], expected, rtol=1e-5)


def test_a_block_is_as_large_as_memory_allows():
    assert block_size(1000, cells=10_000) == 10_000 // 1000
    assert (block_size(10**9), block_size(0)) == (1, 512)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("k", [1, 7, 60, 61, 299, 300, 301])
def test_the_top_goes_by_score_and_then_by_item(seed, k):
    """Few levels, of both signs, zeros of both, and what is masked: nearly all scores are equal."""
    rng = np.random.default_rng(seed)
    scores = rng.choice(np.float32([-np.inf, -2, -1e-9, -0.0, 0.0, 1e-9, 3]), (9, 300))
    scores[0] = 0.0
    scores[1] = np.where(np.arange(300) < 295, 0, 1)  # the best stand last
    items, best = top_items(scores, k)
    for row, mine in enumerate(scores.tolist()):
        expected = sorted(range(300), key=lambda item: (-mine[item], item))[:k]
        assert items[row].tolist() == expected
        assert best[row].tolist() == [mine[item] for item in expected]


def test_equal_scores_are_taken_by_ascending_item():
    n, quota = 500, 40
    merged = merge_candidates({"a": np.zeros((2, n), np.float32)}, {"a": quota}, {})
    assert merged.item.tolist() == [*range(quota), *range(quota)]


@pytest.mark.parametrize(("each", "said"), [(0, "add up to 0"), (2_000, "add up to 26,000")])
def test_quotas_that_leave_nothing_or_too_much_to_rank_are_refused(each, said):
    with pytest.raises(ValidationError, match=f"{said} candidates; they must be 1 to 10,000"):
        CandidateConfig(**dict.fromkeys(SOURCES, each))
