"""Training rows are of what could be had, and one ranker's depend on nothing of the other's."""

from collections import Counter

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
from recsys.ranker import RankerConfig
from recsys.related import related_items
from recsys.schema import DataConfig
from recsys.state import StateConfig

N_USERS, N_ITEMS, DIM, DAYS = 25, 60, 6, 40
QUOTAS = CandidateConfig(**{name: 2 for name in SOURCES if name not in OPTIONAL})
NAMES = {name: active_features(True, (), name == "full") for name in RANKERS}


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    """A small shop with dates; an item's price says which it is, some come or go one noon."""
    rng = np.random.default_rng(3)
    n = 1_500
    items = pd.DataFrame({"item_id": [f"i{at:02d}" for at in range(N_ITEMS)]})
    items["title"] = [f"kind{at % 7} colour{at % 5} no{at}" for at in range(N_ITEMS)]
    items["price"] = np.arange(N_ITEMS, dtype=float)
    code, start = np.arange(N_ITEMS), pd.Timestamp("2026-01-01", tz="UTC")
    noon = start + pd.Timedelta(days=DAYS - 10.5)
    items["available_from"] = np.where(code % 6 == 1, noon, None)
    items["available_until"] = np.where(code % 6 == 2, noon, None)
    minutes = pd.to_timedelta(rng.integers(0, DAYS * 24 * 60, n), unit="min")
    events = pd.DataFrame({
        "user_id": rng.integers(0, N_USERS, n).astype(str),
        "item_id": items["item_id"].to_numpy()[np.minimum(rng.geometric(0.04, n), N_ITEMS) - 1],
        "timestamp": start + minutes,
        "event_type": rng.choice(["view", "buy", "shown"], n, p=[0.4, 0.1, 0.5]),
        "value": rng.choice([np.nan, 1.0, 4.0], n),
        "position": rng.integers(1, 9, n),
    })  # fmt: skip
    events = pd.concat([events, events.sample(700, random_state=0).assign(event_type="shown")])
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


def rows_of(prepared, names=NAMES, seed=0, texts=0, choose=None, shown=True, exclude_seen=False,
            quotas=QUOTAS):  # fmt: skip
    """Make the rows of the ranker window, three negatives a request unless told to `choose`."""
    items, config, span = prepared.items(), StateConfig(), prepared.windows.span("ranker")
    method = Method(items, quotas, dated=True, exclude_seen=exclude_seen)
    related = related_items(prepared.buckets(), span[0], N_ITEMS, config)
    fitted = Fitted(span[0], text_model(items, texts), related)
    requests = window_requests(prepared, "ranker", shown)
    sampled = samplers(names, RankerConfig(negatives=3, impressions=2), (seed, 20))
    return ranker_rows(prepared, method, fitted, requests, span, config, names, choose or sampled)


def all_rows(prepared, name="full", **options):
    """Return all rows of one ranker, of each request {item: row}, and which rows were shown."""
    told = {}

    def every_row(number, request, grade, shown):  # in another order inside a request
        order = np.lexsort((np.random.default_rng(number).random(len(request)), request))
        told[number] = shown[order]
        return order

    rows = rows_of(prepared, {name: NAMES[name]}, choose={name: every_row}, **options)[name]
    item = rows.table[:, NAMES[name].index("item_price")].astype(int).tolist()
    ends = np.cumsum(rows.group).tolist()
    found = [{item[row]: row for row in range(end - size, end)}
             for end, size in zip(ends, rows.group.tolist(), strict=True)]  # fmt: skip
    return rows, found, np.concatenate([told[number] for number in sorted(told)])


def days(prepared):
    """Return of each request of the ranker window (moment, {item: grade}, items shown)."""
    found = []
    for part in window_requests(prepared, "ranker", shown=True):
        for at in range(len(part)):
            one = part.take(np.array([at]))
            grades = dict(zip(one.item.tolist(), one.grade.tolist(), strict=True))
            found.append((int(one.moment[0]), grades, set(one.item[one.shown].tolist())))
    return found


def can_be_had(items, item, moment):
    return items.available_from[item] <= moment < items.available_until[item]


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
    rows = all_rows(prepared)[0]
    values = [part.value[start:end] for part in window_requests(prepared, "ranker")
              for start, end in zip(part.indptr, part.indptr[1:], strict=False)]  # fmt: skip
    assert len(values) == len(rows.value) > 20 and np.isnan(rows.value).any()
    for found, value in zip(rows.value, values, strict=True):
        known = value[~np.isnan(value)]
        assert found == known.mean() if len(known) else np.isnan(found)


@pytest.mark.parametrize("name", RANKERS)
def test_every_row_is_a_candidate_or_was_shown_that_day_and_its_grade_is_the_best_of_the_day(
    prepared, name
):
    items = prepared.items()
    rows, found, told = all_rows(prepared, name)
    _, candidates, none = all_rows(prepared, name, shown=False)
    assert len(told) == len(rows.table) and len(none) and not none.any()
    requests, times = days(prepared), Counter()
    assert len(found) == len(candidates) == len(requests) > 50
    for row_of, before, (moment, grades, shown) in zip(found, candidates, requests, strict=True):
        assert set(row_of) == set(before) | {
            item for item in shown if can_be_had(items, item, moment)
        }
        for item, row in row_of.items():
            assert (rows.grade[row], told[row]) == (grades.get(item, 0), item in shown)
            times["added"] += item not in before
            times["added and taken"] += item not in before and item in shown and grades[item] > 0
            times["shown and found"] += item in before and item in shown
    assert min(times[kind] for kind in ("added", "added and taken", "shown and found")) > 10


def test_no_row_is_of_an_item_that_could_not_be_had_at_the_moment_of_the_request(prepared):
    items, (_, found, _) = prepared.items(), all_rows(prepared)
    too_early = 0
    for row_of, (moment, _, shown) in zip(found, days(prepared), strict=True):
        assert all(can_be_had(items, item, moment) for item in row_of)
        too_early += sum(not can_be_had(items, item, moment) for item in shown)
    assert too_early > 10  # else the law would hold of anything


@pytest.mark.parametrize("name", RANKERS)
def test_what_was_shown_changes_no_feature_of_a_candidate(prepared, name):
    more, found, _ = all_rows(prepared, name)
    plain, candidates, _ = all_rows(prepared, name, shown=False)
    pairs = [(row_of[item], row) for row_of, before in zip(found, candidates, strict=True)
             for item, row in before.items()]  # fmt: skip
    after, before = map(list, zip(*pairs, strict=True))
    assert len(before) == len(plain.table) < len(more.table)
    np.testing.assert_allclose(more.table[after], plain.table[before], rtol=0, atol=1e-6)


def test_a_row_knows_the_best_position_that_it_was_shown_at_and_a_candidate_beside_none(prepared):
    rows, found, shown = all_rows(prepared)
    places = [dict(zip(part.item[start:end].tolist(), part.position[start:end].tolist(),
                       strict=True))
              for part in window_requests(prepared, "ranker", shown=True)
              for start, end in zip(part.indptr, part.indptr[1:], strict=False)]  # fmt: skip
    for row_of, place in zip(found, places, strict=True):
        for item, row in row_of.items():
            assert rows.position[row] == place.get(item, -1)
    assert (rows.position[shown] > 0).all() and (rows.position < 0).sum() > 100
    assert all_rows(prepared, shown=False)[0].position is None


def test_an_added_row_has_the_rank_that_it_would_have_among_the_candidates(prepared):
    rows, found, _ = all_rows(prepared)
    candidates = all_rows(prepared, shown=False)[1]
    lowest = 0
    for source in ("covisitation", "item_cosine", "repeat"):
        score, rank = (rows.table[:, NAMES["full"].index(name)]
                       for name in (source, f"{source}_rank"))  # fmt: skip
        for row_of, before in zip(found, candidates, strict=True):
            others = score[[row_of[item] for item in before]]
            for item in row_of.keys() - before.keys():
                assert rank[row_of[item]] == 1 + (others > score[row_of[item]]).sum()
                lowest = max(lowest, rank[row_of[item]])
    assert lowest > 5


def test_nothing_that_the_user_had_before_is_a_row_where_seen_items_are_left_out(prepared):
    times = NAMES["full"].index("pair_events")
    for exclude_seen in (True, False):
        rows = all_rows(prepared, exclude_seen=exclude_seen)[0]
        assert len(rows.table) > 300 and (rows.table[:, times] > 0).any() != exclude_seen


def test_rows_of_a_large_catalogue_are_those_of_a_small_one(prepared):
    large = QUOTAS.model_copy(update={"dense_items": N_ITEMS - 1})
    one, two = (all_rows(prepared, quotas=quotas) for quotas in (QUOTAS, large))
    np.testing.assert_allclose(one[0].table, two[0].table, rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(one[0].grade, two[0].grade)
    np.testing.assert_array_equal(one[2], two[2])  # which were shown, found by a source or not
    assert one[1] == two[1] and one[2].any()
