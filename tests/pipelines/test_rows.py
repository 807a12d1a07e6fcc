"""Training rows are of what could be had, and one ranker's depend on nothing of the other's."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from features.catalogue import active_features
from pipelines.evaluate import RANKERS
from pipelines.prepare import prepare
from pipelines.recommender import Method
from pipelines.rows import ranker_rows, samplers
from pipelines.textmodel import words_in_common
from pipelines.windows import Fitted, window_requests
from recsys.candidates import OPTIONAL, SOURCES, CandidateConfig
from recsys.dataset import Items
from recsys.interest import TextModel, UserPooling
from recsys.related import related_items
from recsys.schema import DataConfig
from recsys.state import StateConfig

N_USERS, N_ITEMS, DIM, DAYS = 25, 60, 6, 40
QUOTAS = CandidateConfig(**{name: 4 for name in SOURCES if name not in OPTIONAL})
NAMES = {name: active_features(True, (), name == "full") for name in RANKERS}


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    """A small shop with dates."""
    rng = np.random.default_rng(3)
    n = 1_500
    items = pd.DataFrame({"item_id": [f"i{at:02d}" for at in range(N_ITEMS)]})
    items["title"] = [f"kind{at % 7} colour{at % 5} no{at}" for at in range(N_ITEMS)]
    minutes = pd.to_timedelta(rng.integers(0, DAYS * 24 * 60, n), unit="min")
    events = pd.DataFrame({
        "user_id": rng.integers(0, N_USERS, n).astype(str),
        "item_id": items["item_id"].to_numpy()[np.minimum(rng.geometric(0.06, n), N_ITEMS) - 1],
        "timestamp": pd.Timestamp("2026-01-01", tz="UTC") + minutes,
        "event_type": rng.choice(["view", "buy", "shown"], n, p=[0.4, 0.1, 0.5]),
        "value": rng.choice([np.nan, 1.0, 4.0], n),
    })  # fmt: skip
    rules = {"view": {"grade": 1}, "buy": {"grade": 2}, "shown": {"grade": 0}}
    config = DataConfig(event_types=rules, bucket_rows=600)
    return prepare(events, items, tmp_path_factory.mktemp("shop") / "prepared", config)


def text_model(items: Items, seed: int) -> TextModel:
    """Vectors of no meaning, and the words."""
    rng = np.random.default_rng(seed)
    frozen, tuned = rng.normal(size=(2, N_ITEMS, DIM)).astype(np.float32)
    frozen, tuned = (some / np.linalg.norm(some, axis=1, keepdims=True) for some in (frozen, tuned))
    pooling = UserPooling(DIM, 4)
    return TextModel(np.arange(N_ITEMS), frozen, tuned, pooling, words_in_common(items, 20))


def rows_of(prepared, names=NAMES, seed=0, texts=0, choose=None, **changes):
    """Make the rows of the ranker window, three negatives a request unless told to `choose`."""
    items, config, span = prepared.items(), StateConfig(), prepared.windows.span("ranker")
    method = replace(Method(items, QUOTAS, dated=True, exclude_seen=False), **changes)
    related = related_items(prepared.buckets(), span[0], N_ITEMS, config)
    fitted = Fitted(span[0], text_model(items, texts), related)
    return ranker_rows(prepared, method, fitted, window_requests(prepared, "ranker"), span, config,
                       names, choose or samplers(names, 3, (seed, 20)))  # fmt: skip


def every_row(number, request, grade):
    return np.arange(len(request))


def assert_same(one, other):
    for name in ("table", "grade", "group"):
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name), err_msg=name)


@pytest.mark.parametrize("name", RANKERS)
def test_the_rows_of_a_ranker_are_the_same_with_and_without_the_other(prepared, name):
    alone, together = rows_of(prepared, {name: NAMES[name]})[name], rows_of(prepared)[name]
    assert len(alone.group) > 20 and (alone.grade > 0).sum() > 20 < (alone.grade == 0).sum()
    assert_same(alone, together)
    assert_same(together, rows_of(prepared, dict(reversed(NAMES.items())))[name])


def test_other_texts_change_no_row_of_the_ranker_without_text(prepared):
    one, other = rows_of(prepared), rows_of(prepared, texts=1)
    assert_same(one["ranker_without_text"], other["ranker_without_text"])
    tables = (one["full"].table[:20], other["full"].table[:20])
    assert not np.array_equal(*tables, equal_nan=True)


def test_another_seed_samples_other_negatives(prepared):
    one, other = (rows_of(prepared, seed=seed)["ranker_without_text"] for seed in (0, 1))
    assert not np.array_equal(one.table, other.table, equal_nan=True)
    assert (one.table.shape, one.grade.sum()) == (other.table.shape, other.grade.sum())


def test_a_request_is_worth_the_mean_of_what_it_took(prepared):
    rows = rows_of(prepared, {"full": NAMES["full"]}, choose={"full": every_row})["full"]
    values = [part.value[start:end] for part in window_requests(prepared, "ranker")
              for start, end in zip(part.indptr, part.indptr[1:], strict=False)]  # fmt: skip
    assert len(values) == len(rows.value) > 20 and np.isnan(rows.value).any()
    for found, value in zip(rows.value, values, strict=True):
        known = value[~np.isnan(value)]
        assert found == known.mean() if len(known) else np.isnan(found)
