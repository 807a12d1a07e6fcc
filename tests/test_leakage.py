"""Rewriting the future changes no candidate, no feature, no vector, no score, no threshold."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from features.catalogue import SPARE, active_features
from pipelines.config import load_toml
from pipelines.continual import Start, learn_further
from pipelines.recommender import Method, look, snapshot_of, table_of
from pipelines.settings import RunConfig
from pipelines.textmodel import learn_texts, words_in_common
from recsys.candidates import OPTIONAL, SOURCES, CandidateConfig
from recsys.dataset import ALWAYS_FROM, ALWAYS_UNTIL, DAY, Items, Log
from recsys.interest import TextModel
from recsys.related import related_items
from recsys.sources import SCORES
from recsys.split import Windows, leave_last_out
from recsys.state import StateConfig, state_at
from recsys.training import TrainingConfig, examples_in, train_head, tuned_vectors

N_USERS, N_ITEMS, DIM = 40, 30, 8


def world(dated: bool, seed: int = 0) -> tuple[Items, Log]:
    rng = np.random.default_rng(seed)
    n = rng.integers(3, 40, N_USERS)
    indptr = np.concatenate([[0], np.cumsum(n)])
    total = indptr[-1]
    row = np.repeat(np.arange(N_USERS), n)
    moment = rng.integers(0, 60 * DAY, total) if dated else np.zeros(total, np.int64)
    order = np.lexsort((moment, row))
    moment = moment[order] if dated else np.arange(total) - indptr[1:][row]
    log = Log(np.arange(N_USERS), indptr, rng.integers(0, N_ITEMS, total).astype(np.int32), moment,
              rng.integers(0, 3, total).astype(np.int8), rng.random(total).astype(np.float32) + 0.5,
              (rng.random(total) * 9 + 1).astype(np.float32),
              session=moment // (7 * DAY if dated else 2))  # fmt: skip
    items = Items(
        np.arange(N_ITEMS), np.array([f"item {at}" for at in range(N_ITEMS)], object),
        np.array([f"{at:03d} kind{at % 7} colour{at % 5}" for at in range(N_ITEMS)], object),
        rng.integers(-1, 4, N_ITEMS).astype(np.int32),
        rng.integers(-1, 3, N_ITEMS).astype(np.int32),
        np.full(N_ITEMS, np.nan, np.float32), np.full(N_ITEMS, ALWAYS_FROM),
        np.full(N_ITEMS, ALWAYS_UNTIL),
    )  # fmt: skip
    return items, log


def rewritten(log: Log, moment: int, seed: int) -> Log:
    """Another future: other items, grades, prices and sessions from `moment` on."""
    rng = np.random.default_rng(seed)
    future = log.moment >= moment
    assert 0 < future.sum() < len(log)
    return replace(
        log,
        item=np.where(future, rng.integers(0, N_ITEMS, len(log)), log.item).astype(np.int32),
        grade=np.where(future, rng.integers(0, 3, len(log)), log.grade).astype(np.int8),
        price=np.where(future, 99.0, log.price).astype(np.float32),
        session=np.where(future, log.session[rng.permutation(len(log))], log.session),
    )


def known_at(items: Items, log: Log, moment: int, dated: bool) -> dict[str, np.ndarray]:
    """Everything the recommender knows and says at a moment, learned from scratch."""
    rng = np.random.default_rng(7)
    frozen = rng.normal(size=(N_ITEMS, DIM)).astype(np.float32)
    frozen /= np.linalg.norm(frozen, axis=1, keepdims=True)
    unit, text_of_item = DAY if dated else 1, np.arange(N_ITEMS)
    examples = examples_in(log.before(moment), unit, text_of_item, 5)
    config = TrainingConfig(history=5, batch_events=64)
    tower, _ = train_head(frozen, examples, config, np.random.default_rng(0), epochs=1)
    lexical = words_in_common(items, 20)
    texts = TextModel(text_of_item, frozen, tuned_vectors(tower, frozen), tower.pooling, lexical)
    state = state_at([log], moment, N_ITEMS, dated, StateConfig())
    quotas = CandidateConfig(**dict.fromkeys(SOURCES, 4), fresh_days=39)
    method = Method(items, quotas, dated, exclude_seen=False)
    moments = np.full(N_USERS, moment)
    settings = StateConfig(ease_items=N_ITEMS // 2, ease_beyond=10)
    related = related_items([log], moment, N_ITEMS, settings, with_als=True)
    snapshot = snapshot_of(method, state, related, texts)
    block = look(method, snapshot, log, log.users, moments)
    names = active_features(dated, switched_on=OPTIONAL, with_sessions=True, on=SPARE)
    table = table_of(method, snapshot, block, names)
    scores = {f"score {name}": values for name, values in block.scores.items()}
    return scores | {
        "candidate requests": block.candidates.request, "candidate items": block.candidates.item,
        "features": table, "tuned vectors": texts.tuned, "popularity": state.popularity,
        "prices": state.price, "negatives": state.negative,
    }  # fmt: skip


@pytest.mark.parametrize("dated", [True, False], ids=["dated", "ordered"])
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_rewriting_the_future_changes_nothing(dated, seed):
    items, log = world(dated)
    moment = 40 * DAY if dated else -2
    before = known_at(items, log, moment, dated)
    after = known_at(items, rewritten(log, moment, seed), moment, dated)
    assert len(before["candidate items"]) > N_USERS  # an empty world would pass too
    assert {f"score {name}" for name in SCORES} <= before.keys()
    for name, values in before.items():
        np.testing.assert_array_equal(after[name], values, err_msg=name)


@pytest.mark.parametrize("dated", [True, False], ids=["dated", "ordered"])
def test_rewriting_the_past_changes_every_part(dated):
    items, log = world(dated)
    moment = 40 * DAY if dated else -2
    before = known_at(items, log, moment, dated)
    after = known_at(items, rewritten(log, moment - (DAY if dated else 1), 1), moment, dated)
    same = [name for name, values in before.items() if np.array_equal(after[name], values)]
    without = {"score frozen_interest"} | (set() if dated else {"score trending"})
    assert not set(same) - without  # the law above is not empty for any part


@pytest.mark.slow
@pytest.mark.parametrize("dated", [True, False], ids=["dated", "ordered"])
def test_the_encoder_learns_the_same_without_a_future(dated, tmp_path):
    """Its examples, its stopping window, its negatives and its tuned layer end with its window."""
    items, log = world(dated)
    dates = Windows(40 * DAY, 45 * DAY, 50 * DAY, 60 * DAY, True)
    windows = dates if dated else leave_last_out(len(log), N_USERS)
    late = (log.moment >= windows.ranker) & (log.item >= N_ITEMS - 5)
    log = replace(log, item=np.where(late, log.item, log.item % (N_ITEMS - 5)).astype(np.int32))
    assert late.any()  # texts that nobody took before
    config = load_toml(RunConfig, None, [
        f'run_dir="{tmp_path}"', "encoder.max_tokens=8", "training.max_epochs=2",
        "training.layers=1", "training.layer_passes=1",
    ])  # fmt: skip
    whole, past = (learn_texts(items, some, windows, config, False, lambda *_: None)
                   for some in (log, log.before(windows.ranker)))  # fmt: skip
    assert len(whole.curve) == 4 and whole.curve == past.curve
    assert whole.layers_score == past.layers_score
    for one, other in zip(whole.tower.parameters(), past.tower.parameters(), strict=True):
        assert torch.equal(one, other)
    np.testing.assert_array_equal(whole.text_model().tuned, past.text_model().tuned)


@pytest.mark.slow
def test_training_on_from_a_model_learns_the_same_without_a_future(tmp_path):
    """Its new and replayed events, and both windows it is measured on, end with its window."""
    items, log = world(dated=True)
    config = load_toml(RunConfig, None, [
        f'run_dir="{tmp_path}"', "encoder.max_tokens=8", "training.max_epochs=2",
        "training.layers=1", "training.layer_passes=1",
    ])  # fmt: skip
    early, windows = (Windows(day * DAY, (day + 5) * DAY, (day + 10) * DAY, 60 * DAY, True)
                      for day in (15, 45))  # fmt: skip
    begun = learn_texts(items, log, early, config, False, lambda *_: None)
    start = Start("models:/recommender/1", begun.tuned_encoder, begun.frozen_encoder, begun.tower,
                  early.test, True)  # fmt: skip
    rest = windows, config, False, lambda *_: None
    (whole, found), (past, expected), (changed, _) = (
        learn_further(start, items, some, *rest)
        for some in (log, log.before(windows.ranker), rewritten(log, windows.ranker - DAY, 1))
    )
    assert len(whole.curve) == 5 and whole.curve == past.curve
    assert found == expected and found.new_events > 0 and found.replayed_events > 0
    assert not np.isnan([found.new_before, found.old_before]).any()
    for one, other in zip(whole.tower.parameters(), past.tower.parameters(), strict=True):
        assert torch.equal(one, other)
    np.testing.assert_array_equal(whole.text_model().tuned, past.text_model().tuned)
    assert changed.curve != whole.curve  # the law above is not empty


def test_nothing_of_the_day_itself_is_known_at_its_midnight():
    items, log = world(dated=True)
    evening = replace(log, moment=np.where(log.moment // DAY == 40, 40 * DAY, log.moment))
    before, after = (known_at(items, some, 40 * DAY, True) for some in (log, evening))
    np.testing.assert_array_equal(after["features"], before["features"])
