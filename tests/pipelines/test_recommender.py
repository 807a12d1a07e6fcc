"""Text finds nothing for a user without a past, and words nothing without a word in common."""

import numpy as np
import pytest

from pipelines.recommender import Method, look, snapshot_of
from pipelines.textmodel import distinct_texts, words_in_common
from recsys.candidates import TEXT_SOURCES, CandidateConfig
from recsys.dataset import ALWAYS_FROM, ALWAYS_UNTIL, DAY, Items
from recsys.interest import TextModel, UserPooling
from recsys.related import related_items
from recsys.state import StateConfig, state_at

N_ITEMS, N_USERS, DIM, COLD, MOMENT = 24, 12, 6, 99, 50 * DAY
QUOTAS = CandidateConfig(**{name: 20 if name == "lexical" else 5
                            for name in CandidateConfig.model_fields
                            if name != "history_decay"})  # fmt: skip


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
    related = related_items([log], MOMENT, N_ITEMS, config)
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
