"""A large catalogue gets an index of its texts, built once; what is measured does not notice."""

import sys
from dataclasses import fields, replace
from types import SimpleNamespace

import numpy as np
import pytest

from pipelines import evaluate
from pipelines.evaluate import Outcome, run_models
from pipelines.prepare import prepare
from pipelines.recommender import Method
from pipelines.run import Run, method_of
from pipelines.settings import RunConfig
from pipelines.stages import Stages
from pipelines.textindex import check_texts, indexed
from pipelines.textmodel import words_in_common
from pipelines.windows import Fitted, window_requests
from recsys.candidates import CandidateConfig
from recsys.errors import ConfigError
from recsys.index import CAREFUL
from recsys.interest import TextModel, UserPooling
from recsys.related import related_items
from recsys.schema import DataConfig
from recsys.state import StateConfig

N_ITEMS, DIM = 40, 6
RULES = {"view": {"grade": 1}, "buy": {"grade": 2}, "shown": {"grade": 0}}


@pytest.fixture
def prepared(world, tmp_path):
    return prepare(*world(), tmp_path / "prepared", DataConfig(event_types=RULES, bucket_rows=200))


def text_model(items, seed=0):
    drawn = np.random.default_rng(seed).normal(size=(2, N_ITEMS, DIM)).astype(np.float32)
    drawn /= np.linalg.norm(drawn, axis=2, keepdims=True)
    return TextModel(np.arange(N_ITEMS), *drawn, UserPooling(DIM, 4), words_in_common(items, 20))


def test_an_index_is_built_above_the_size_and_its_recall_is_shown(prepared):
    pytest.importorskip("faiss")
    texts, said, before = text_model(prepared.items()), [], prepared.windows.test
    few = CandidateConfig(dense_items=N_ITEMS)
    assert indexed(texts, few, prepared, before, lambda *told: said.append(told)) is texts
    many = CandidateConfig(dense_items=N_ITEMS - 1)
    found = indexed(texts, many, prepared, before, lambda *told: said.append(told))
    users = len(prepared.bucket(0).users)
    words = "over 40 texts, recall@40 {:.3f} of exact on {} users"
    recalls = found.frozen_index.recall, found.tuned_index.recall
    assert max(recalls) < CAREFUL  # all 40 are the nearest, and not all are looked at
    assert [told for told in said if told[3]] == [
        (f"index of {name}", 1, 1, "careful: " + words.format(recall, users))
        for name, recall in zip(("frozen_interest", "interest"), recalls, strict=True)
    ]
    mine = found.tuned_index.search(texts.tuned[:3], 1)[:, 0]
    assert mine.tolist() == [0, 1, 2]  # each is nearest to itself
    again = indexed(found, many, prepared, before, lambda *_: 1 / 0)
    assert again.tuned_index is found.tuned_index
    without = many.model_copy(update={"frozen_interest": 0})
    assert indexed(texts, without, prepared, before, lambda *_: None).frozen_index is None


def test_where_few_texts_are_shared_by_many_items_none_is_needed(prepared):
    texts = text_model(prepared.items())
    shared = replace(texts, text_of_item=np.arange(N_ITEMS) // 2, frozen=texts.frozen[:20],
                     tuned=texts.tuned[:20])  # fmt: skip
    config = CandidateConfig(dense_items=30)
    assert indexed(shared, config, prepared, prepared.windows.test, lambda *_: 1 / 0) is shared


def test_a_run_builds_the_index_of_a_text_model_once(prepared):
    pytest.importorskip("faiss")
    config = RunConfig(candidates=CandidateConfig(dense_items=N_ITEMS - 1))
    said, frozen = [], text_model(prepared.items())
    run = Run(
        config, prepared, method_of(config, prepared), Stages(), lambda *told: said.append(told)
    )
    first, second, third = (
        SimpleNamespace(text_model=lambda seed=seed: replace(frozen, tuned=text_model(
            prepared.items(), seed).tuned))
        for seed in range(3)
    )  # fmt: skip
    once = run.texts_of(first, prepared.windows.valid)
    assert run.texts_of(first, prepared.windows.valid) is once
    again = run.texts_of(second, prepared.windows.valid)
    assert again.frozen_index is once.frozen_index and again.tuned_index is not once.tuned_index
    run.texts_of(third, prepared.windows.test)
    assert len(run.indexed) == 2  # the oldest is gone
    tasks = [task for task, done, *_ in said if done]
    assert tasks == ["index of frozen_interest", *["index of interest"] * 3]


def test_without_faiss_a_large_catalogue_is_refused_before_anything_is_made(monkeypatch, prepared):
    monkeypatch.setitem(sys.modules, "faiss", None)
    many = CandidateConfig(dense_items=N_ITEMS - 1)
    with pytest.raises(ConfigError, match=r"faiss is not installed"):
        method_of(RunConfig(candidates=many), prepared)
    with pytest.raises(ConfigError, match=r"faiss is not installed"):
        check_texts(prepared.items(), many)
    check_texts(prepared.items(), CandidateConfig(dense_items=N_ITEMS))
    one = replace(prepared.items(), text=np.full(N_ITEMS, "the same", object))
    check_texts(one, many)


def test_a_large_catalogue_is_measured_as_a_small_one(prepared, monkeypatch):
    monkeypatch.setattr(evaluate, "block_size", lambda n_items: 7)
    items, state, window = prepared.items(), StateConfig(), "test"
    span = prepared.windows.span(window)
    related = related_items(prepared.buckets(), span[0], N_ITEMS, state)
    outcomes, sizes = [], []
    for dense_items in (N_ITEMS, N_ITEMS - 1):
        quotas = CandidateConfig(dense_items=dense_items, interest=9, lexical=5, popularity=4)
        method = Method(items, quotas, dated=True, exclude_seen=False)
        fitted = Fitted(span[0], text_model(items), related)
        requests = window_requests(prepared, window)
        outcomes.append(run_models(prepared, method, fitted, None, {}, requests, span, state,
                                   on_block=sizes.append))  # fmt: skip
    one, two = outcomes
    for field in fields(Outcome):
        mine, other = getattr(one, field.name), getattr(two, field.name)
        assert type(mine) is type(other)
        for name in mine if isinstance(mine, dict) else [...]:
            np.testing.assert_array_equal(mine[name], other[name], err_msg=f"{field.name} {name}")
    assert max(sizes) == 7  # whose scores of every item fit, not as many as are looked up
    assert len(one.user) > 20 and 0 < one.found["interest"].mean() < 1
