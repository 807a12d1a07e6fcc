"""Text finds nothing for a user without a past, and words nothing without a word in common.

The ranker alone orders a list, unless a blend is asked for; lists are the same however many threads
make them.
"""

import numpy as np
import pytest
import torch

from features.catalogue import active_features
from pipelines.recommender import (
    Method,
    chunks,
    lists_of,
    look,
    make_lists,
    snapshot_of,
    table_of,
)
from pipelines.textmodel import distinct_texts, words_in_common
from recsys.calibration import Blend, Heads, calibrate, raw_outputs
from recsys.candidates import SOURCES, TEXT_SOURCES, CandidateConfig
from recsys.dataset import ALWAYS_FROM, ALWAYS_UNTIL, DAY, Items
from recsys.interest import TextModel, UserPooling
from recsys.ranker import HeadConfig, RankerConfig, fit_heads, fit_ranker, refit_ranker
from recsys.related import related_items
from recsys.rows import Rows
from recsys.state import StateConfig, state_at

N_ITEMS, N_USERS, DIM, COLD, MOMENT = 24, 12, 6, 99, 50 * DAY
QUOTAS = CandidateConfig(**(dict.fromkeys(SOURCES, 5) | {"lexical": 20}))


def world(log_of, shared):
    """Return (method, snapshot, log): texts of two words, two items a text or one."""
    rng = np.random.default_rng(0)
    kind = [f"kind{at // 2 % 6} size{at // 2 % 4}" + ("" if shared else f" no{at}")
            for at in range(N_ITEMS)]  # fmt: skip
    text, none = np.array(kind, dtype=object), np.full(N_ITEMS, -1, np.int32)
    items = Items(np.arange(N_ITEMS), text, text, none, none, np.full(N_ITEMS, np.nan, np.float32),
                  np.full(N_ITEMS, ALWAYS_FROM), np.full(N_ITEMS, ALWAYS_UNTIL))  # fmt: skip
    rows = [(user, int(rng.integers(0, 40 * DAY)), int(rng.integers(N_ITEMS)))
            for user in range(N_USERS) for _ in range(3)]  # fmt: skip
    log = log_of(rows)
    texts, text_of_item = distinct_texts(items.text)
    assert (len(texts) < N_ITEMS) == shared
    vectors = rng.normal(size=(len(texts), DIM)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    model = TextModel(text_of_item, vectors, vectors, UserPooling(DIM, 4),
                      words_in_common(items, 20))  # fmt: skip
    config = StateConfig()
    state = state_at([log], MOMENT, N_ITEMS, True, config)
    method = Method(items, QUOTAS, dated=True, exclude_seen=False)
    related = related_items([log], MOMENT, N_ITEMS, config, with_als=True)
    return method, snapshot_of(method, state, related, model), log


def candidates_of(method, snapshot, log, users):
    return look(method, snapshot, log, users, np.full(len(users), MOMENT)).candidates


@pytest.mark.parametrize("shared", [True, False])
def test_words_find_only_what_has_a_word_in_common(log_of, shared):
    method, snapshot, log = world(log_of, shared)
    rows = candidates_of(method, snapshot, log, np.append(log.users, COLD))
    found = np.isfinite(rows.rank["lexical"])
    words = [set(text.split()) for text in method.items.text]
    for request, item in zip(rows.request[found], rows.item[found], strict=True):
        taken = log.item[log.row == request]
        assert any(words[item] & words[one] for one in taken)
    assert found.sum() > N_USERS


@pytest.mark.parametrize("shared", [True, False])
def test_text_finds_nothing_for_a_user_who_took_nothing(log_of, shared):
    method, snapshot, log = world(log_of, shared)
    rows = candidates_of(method, snapshot, log, np.append(log.users, COLD))
    cold = rows.request == N_USERS
    assert np.isfinite(rows.rank["popularity"][cold]).sum() == 5
    for name in TEXT_SOURCES:
        assert np.isnan(rows.rank[name][cold]).all() and np.isfinite(rows.rank[name]).any()


@pytest.mark.parametrize("shared", [True, False])
def test_a_cold_user_in_the_block_changes_nobody_elses_candidates(log_of, shared):
    method, snapshot, log = world(log_of, shared)
    alone = candidates_of(method, snapshot, log, log.users)
    among = candidates_of(method, snapshot, log, np.append(log.users, COLD))
    among = among.keep(among.request < N_USERS)
    np.testing.assert_array_equal(among.item, alone.item)
    for name in TEXT_SOURCES:
        np.testing.assert_array_equal(among.rank[name], alone.rank[name])


def test_threads_change_no_list(log_of):
    method, snapshot, log = world(log_of, shared=True)
    features, rng = active_features(dated=True), np.random.default_rng(1)
    table = rng.random((600, len(features))).astype(np.float32)
    rows = Rows(table, (rng.random(600) < 0.3).astype(np.int64), np.full(20, 30))
    ranker = refit_ranker([rows], features, RankerConfig(min_rows_in_leaf=5), seed=0, trees=30)
    models = fit_heads(rows, features, HeadConfig(trees=5, min_rows_in_leaf=5), seed=0)
    heads = calibrate(models, raw_outputs(tuple(models.values()), table), rows.grade)
    users = np.tile(log.users, 100)
    assert len(list(chunks(len(users), method.block_size))) == 3

    def lists(threads):
        before = torch.get_num_threads()
        torch.set_num_threads(threads)
        made = list(lists_of(method, snapshot, log, users, MOMENT, ranker, heads, 5))
        torch.set_num_threads(before)
        return made

    for (one, alone), (same, among) in zip(lists(1), lists(3), strict=True):
        np.testing.assert_array_equal(one, same)
        for name in (
            "request",
            "rank",
            "item",
            "score",
            "probability",
            "source",
            "reason",
            "drivers",
        ):
            np.testing.assert_array_equal(getattr(alone, name), getattr(among, name))
    assert len(np.unique(alone.score)) > 5


@pytest.fixture
def ranked(log_of):
    """Return (method, snapshot, block, table, ranker, heads): fitted on grades drawn by chance."""
    method, snapshot, log = world(log_of, False)
    block = look(method, snapshot, log, log.users, np.full(N_USERS, MOMENT))
    features = active_features(dated=True)
    table = table_of(method, snapshot, block, features)
    rng = np.random.default_rng(1)
    grade = rng.integers(0, 3, len(table))
    rows = Rows(table, grade, np.unique(block.candidates.request, return_counts=True)[1])
    ranker = fit_ranker(rows, rows, features, RankerConfig(max_trees=5, min_rows_in_leaf=3), 0)
    models = fit_heads(rows, features, HeadConfig(trees=5, min_rows_in_leaf=3), 0)
    heads = calibrate(models, raw_outputs(tuple(models.values()), table), grade)
    return method, snapshot, block, table, ranker, heads


def places(block, lists):
    """Return the row of each listed item among the candidates."""
    keys, asked = (some.request * N_ITEMS + some.item for some in (block.candidates, lists))
    return np.searchsorted(keys, asked)  # candidates are sorted by both


def test_the_order_is_the_rankers_whatever_the_heads_say(ranked):
    method, snapshot, block, table, ranker, heads = ranked
    swapped = Heads(heads.levels, heads.models[::-1], heads.maps[::-1])
    one, other = (make_lists(method, snapshot, block, ranker, some, 5) for some in (heads, swapped))
    for name in ("request", "rank", "item", "score", "source", "reason", "drivers"):
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name))
    rows = places(block, one)
    np.testing.assert_array_equal(one.score, ranker.predict(table)[rows])
    for lists, some in ((one, heads), (other, swapped)):
        np.testing.assert_array_equal(lists.probability, some.predict(table)[rows, 0])
    assert (one.probability != other.probability).any()
    assert (np.diff(one.probability)[np.diff(one.request) == 0] > 0).any()  # another order than its


def test_with_values_the_order_is_that_of_the_expected_value_and_ties_go_to_the_lower_code(ranked):
    method, snapshot, block, table, _, heads = ranked
    candidates = block.candidates
    for values in ((0.0, 1.0, 20.0), (0.0, 1.0, 1.0), (1.0, 1.0, 1.0)):
        lists = make_lists(method, snapshot, block, Blend(heads, values), heads, 5)
        taken, bought = heads.predict(table).T
        worth = values[0] * (1 - taken) + values[1] * (taken - bought) + values[2] * bought
        for request in range(N_USERS):
            own = np.flatnonzero(candidates.request == request)
            best = sorted(own, key=lambda row: (-round(worth[row], 9), candidates.item[row]))[:5]
            listed = lists.request == request
            np.testing.assert_array_equal(lists.item[listed], candidates.item[best])
            np.testing.assert_allclose(lists.score[listed], worth[best])
            np.testing.assert_array_equal(lists.probability[listed], taken[best])
