"""One battery of laws for every candidate source, the optional ones too."""

import shutil
from dataclasses import replace
from functools import cache

import numpy as np
import pandas as pd
import pytest

from features.catalogue import CATALOGUE, SPARE, active_features
from pipelines import tracking
from pipelines.explain import REASONS
from pipelines.model import at_moment, load_model
from pipelines.prepared import open_prepared
from pipelines.recommender import Method, look, snapshot_of, table_of
from pipelines.rows import ranker_rows
from pipelines.settings import FeatureConfig
from pipelines.textmodel import distinct_texts, words_in_common
from pipelines.train import train
from pipelines.windows import Fitted, window_requests
from recsys.candidates import OPTIONAL, SOURCES, TEXT_SOURCES, CandidateConfig
from recsys.dataset import ALWAYS_FROM, ALWAYS_UNTIL, DAY, Items, Log
from recsys.errors import ConfigError
from recsys.index import TextIndex
from recsys.interest import TextModel, UserPooling
from recsys.related import related_items
from recsys.sources import HAS_TO_SCORE, SCORES
from recsys.state import StateConfig, state_at

N_USERS, N_ITEMS, DIM, COLD = 25, 40, 6, 999
QUOTA = 5
ALL_ON = CandidateConfig(**dict.fromkeys(SOURCES, QUOTA))
FOR_ALL_ALIKE = {"popularity", "trending"}  # a user without a past has these
BY_A_DENSE_PRODUCT = {
    "interest",
    "frozen_interest",
    "fresh",
    "als",
}  # rounds by the size of a block
IN_ORDER = {"interest", "frozen_interest", "fresh"}  # a user vector weighs items by their place
STATE = StateConfig(pair_distance=100, ease_ridge=5.0, ease_items=30, ease_beyond=10)

each_source = pytest.mark.parametrize("name", SCORES)
each_calendar = pytest.mark.parametrize("dated", [True, False], ids=["dated", "ordered"])
each_path = pytest.mark.parametrize("wide", [False, True], ids=["scored whole", "looked up"])


def moment_of(dated):
    return 50 * DAY if dated else 0


@cache
def events(dated):
    """Draw a log with baskets: events of one user and one moment."""
    rng = np.random.default_rng(0)
    n = rng.integers(2, 16, N_USERS)
    indptr = np.concatenate([[0], np.cumsum(n)])
    row = np.repeat(np.arange(N_USERS), n)
    day = np.sort(rng.integers(0, 6, indptr[-1]) + 6 * row) - 6 * row  # ascending for each user
    moment = (20 + 5 * day) * DAY if dated else day - 6
    liked = (rng.integers(0, N_ITEMS // 2, indptr[-1]) + row % 3 * 10) % N_ITEMS
    return Log(np.arange(N_USERS), indptr, liked.astype(np.int32), moment,
               (rng.random(indptr[-1]) < 0.9).astype(np.int8), np.ones(indptr[-1], np.float32),
               np.full(indptr[-1], np.nan, np.float32))  # fmt: skip


@cache
def catalogue():
    rng = np.random.default_rng(1)
    texts = np.array([f"kind{at % 7} colour{at % 5} no{at}" for at in range(N_ITEMS)], object)
    none = np.full(N_ITEMS, -1, np.int32)
    return Items(np.arange(N_ITEMS), texts, texts, rng.integers(-1, 4, N_ITEMS).astype(np.int32),
                 none, np.full(N_ITEMS, np.nan, np.float32), np.full(N_ITEMS, ALWAYS_FROM),
                 np.full(N_ITEMS, ALWAYS_UNTIL))  # fmt: skip


def texts_of(items):
    drawn = np.random.default_rng(2).normal(size=(2, N_ITEMS, DIM)).astype(np.float32)
    drawn /= np.linalg.norm(drawn, axis=2, keepdims=True)
    of_item = distinct_texts(items.text)[1]
    return TextModel(of_item, *drawn, UserPooling(DIM, 4), words_in_common(items, 20))


def learned(dated, log):
    """Return what is counted and fitted at the moment."""
    moment = moment_of(dated)
    return (state_at([log], moment, N_ITEMS, dated, STATE),
            related_items([log], moment, N_ITEMS, STATE, with_als=True))  # fmt: skip


def on_path(quotas, wide):
    """Say whether every item is scored, or a catalogue of this size is too large for that."""
    return quotas.model_copy(update={"dense_items": N_ITEMS - wide})


@cache
def plain(dated, wide):
    """Return (method, snapshot) of the world as it is, all sources on."""
    method = Method(catalogue(), on_path(ALL_ON, wide), dated, exclude_seen=False)
    return method, snapshot_of(method, *learned(dated, events(dated)), texts_of(catalogue()))


def looked_at(dated, wide, world=None, log=None, users=None, only=None):
    log = events(dated) if log is None else log
    users = log.users if users is None else users
    moments = np.full(len(users), moment_of(dated))
    return look(*(world or plain(dated, wide)), log, users, moments, only)


def with_quotas(dated, wide, quotas):
    method, snapshot = plain(dated, wide)
    return replace(method, candidates=on_path(quotas, wide)), snapshot


def scores_of(block, name):
    """Return every score of a source, each pair looked up."""
    pairs = np.divmod(np.arange(len(block.user) * N_ITEMS), N_ITEMS)
    return block.scores.at(*pairs)[name].reshape(-1, N_ITEMS)


def found(block, name):
    """The (request, item) that the source found."""
    some = np.isfinite(block.candidates.rank[name])
    rows = block.candidates.request[some].tolist(), block.candidates.item[some].tolist()
    return set(zip(*rows, strict=True))


def test_every_source_is_computed_and_has_its_words():
    assert set(SOURCES) <= SCORES.keys() and set(OPTIONAL) < set(SOURCES)
    assert REASONS.keys() == set(SOURCES)
    offered = {one.source for one in CATALOGUE if one.optional}
    assert offered == set(OPTIONAL) - {"trending"}  # item_trend says the same


@each_calendar
@each_path
@each_source
def test_a_score_is_a_finite_float32_for_each_request_and_item(dated, wide, name):
    block = looked_at(dated, wide)
    scores = scores_of(block, name)
    assert (scores.shape, scores.dtype) == ((N_USERS, N_ITEMS), np.float32)
    assert np.isfinite(scores).all()
    if name in SOURCES and (dated or name != "trending"):
        assert len(found(block, name)) >= N_USERS // 2  # nothing here is about an empty world


@each_calendar
@each_path
@each_source
def test_a_score_is_masked_where_an_item_must_not_be_listed_and_nowhere_else(dated, wide, name):
    log, only = events(dated), np.arange(N_ITEMS) % 9 > 0
    from_, until = (np.full(N_ITEMS, value) for value in (ALWAYS_FROM, ALWAYS_UNTIL))
    from_[3], until[4], until[5] = moment_of(dated) + 1, moment_of(dated), moment_of(dated) + 1
    items = replace(catalogue(), available_from=from_, available_until=until)
    allowed = np.tile(only, (N_USERS, 1))
    allowed[:, [3, 4]] = False  # 5 is still on offer
    taken = (log.grade > 0) & (log.moment < moment_of(dated))
    allowed[log.row[taken], log.item[taken]] = False
    quotas = CandidateConfig(**dict.fromkeys(SOURCES, N_ITEMS))
    world = Method(items, on_path(quotas, wide), dated, exclude_seen=True), plain(dated, wide)[1]
    block = looked_at(dated, wide, world, only=only)
    np.testing.assert_array_equal(np.isfinite(scores_of(block, name)), allowed)
    if name in SOURCES:
        least = HAS_TO_SCORE.get(name, -np.inf)
        own = scores_of(block, name)
        scores = [own[place] for place in found(block, name)]
        assert min(scores, default=np.inf) > least  # what is masked is -inf


@each_calendar
@each_path
@each_source
def test_the_order_of_a_basket_does_not_matter(dated, wide, name):
    """But to user vectors; preparing gives a basket one order, whatever order the rows came in."""
    log, rng = events(dated), np.random.default_rng(3)
    order = np.lexsort((rng.random(len(log)), log.moment, log.row))
    other = replace(log, item=log.item[order], grade=log.grade[order])
    assert (other.item != log.item).sum() > len(log) // 4
    method, snapshot = plain(dated, wide)
    world = method, snapshot_of(method, *learned(dated, other), snapshot.texts)
    one = scores_of(looked_at(dated, wide), name)
    two = scores_of(looked_at(dated, wide, world, other), name)
    if name in IN_ORDER:
        assert not np.allclose(one, two, atol=1e-3)
    else:
        np.testing.assert_allclose(one, two, rtol=1e-5, atol=1e-6)


@each_calendar
@each_path
@each_source
def test_a_batch_equals_one_by_one(dated, wide, name):
    together = scores_of(looked_at(dated, wide), name)
    for row in range(0, N_USERS, 4):
        alone = scores_of(looked_at(dated, wide, users=events(dated).users[row : row + 1]), name)[0]
        if name in BY_A_DENSE_PRODUCT:
            np.testing.assert_allclose(alone, together[row], rtol=1e-5, atol=1e-6)
        else:
            np.testing.assert_array_equal(alone, together[row])


@each_calendar
@each_path
@pytest.mark.parametrize("users", [[COLD], [0, COLD, 3]], ids=["alone", "among others"])
def test_for_who_took_nothing_only_what_is_the_same_for_all_is_found(dated, wide, users):
    block = looked_at(dated, wide, users=np.array(users))
    cold = users.index(COLD)
    finders = {name for name in SOURCES if any(row == cold for row, _ in found(block, name))}
    assert finders == (FOR_ALL_ALIKE if dated else {"popularity"})


@each_calendar
@each_path
@pytest.mark.parametrize("name", SOURCES)
def test_without_a_source_only_what_it_alone_found_is_missing(dated, wide, name):
    whole = looked_at(dated, wide)
    less = looked_at(dated, wide, with_quotas(dated, wide, ALL_ON.model_copy(update={name: 0})))
    others = [other for other in SOURCES if other != name]
    assert (name in less.scores) == (name not in OPTIONAL)
    for other in less.scores:
        np.testing.assert_array_equal(less.scores[other], whole.scores[other])
    rows = set(zip(less.candidates.request.tolist(), less.candidates.item.tolist(), strict=True))
    assert rows == set().union(*(found(whole, other) for other in others))
    assert all(found(less, other) == found(whole, other) for other in others)


@each_calendar
@each_path
@each_source
def test_other_ids_in_the_same_order_change_nothing(dated, wide, name):
    renamed = replace(events(dated), users=events(dated).users * 7 + 3)
    items = replace(catalogue(), ids=np.array([f"item {at:03d}" for at in range(N_ITEMS)], object))
    method = replace(plain(dated, wide)[0], items=items)
    world = method, snapshot_of(method, *learned(dated, renamed), texts_of(items))
    two = scores_of(looked_at(dated, wide, world, renamed), name)
    np.testing.assert_array_equal(two, scores_of(looked_at(dated, wide), name))


@each_calendar
@each_path
@pytest.mark.parametrize("name", OPTIONAL)
def test_the_features_of_an_optional_source_come_and_go_with_it(dated, wide, name):
    quotas = CandidateConfig().model_copy(update={name: QUOTA})
    without, more = (active_features(dated, switched_on=some.switched_on)
                   for some in (CandidateConfig(), quotas))  # fmt: skip
    own = () if name == "trending" else (name, f"{name}_rank")
    assert tuple(one for one in more if one not in own) == without and set(own) <= set(more)
    world = with_quotas(dated, wide, quotas)
    block = looked_at(dated, wide, world)
    table = table_of(*world, block, more)
    assert table.shape[1] == len(more)
    if own:
        score = scores_of(block, name)[block.candidates.request, block.candidates.item]
        np.testing.assert_array_equal(table[:, more.index(name)], score)


@each_calendar
@each_path
def test_sources_that_read_text_are_those_that_are_said_to(dated, wide):
    items = replace(catalogue(), text=catalogue().text[::-1].copy())
    method, snapshot = plain(dated, wide)
    world = replace(method, items=items), replace(snapshot, texts=texts_of(items))
    one, two = looked_at(dated, wide).scores, looked_at(dated, wide, world).scores
    changed = {name for name in SCORES if not np.array_equal(one[name], two[name])}
    assert changed == TEXT_SOURCES | {"last_lexical"}


@each_calendar
@pytest.mark.parametrize("shared", [False, True], ids=["a text each", "shared texts"])
@pytest.mark.parametrize("exclude_seen", [False, True], ids=["all again", "nothing again"])
@pytest.mark.parametrize("index", [False, True], ids=["in parts", "by index"])
def test_both_paths_find_the_same_candidates_with_the_same_features(
    dated, shared, exclude_seen, index
):
    items, log = catalogue(), events(dated)
    if shared:
        texts = np.array([text[: text.index(" no")] for text in items.text], object)
        items = replace(items, text=texts, title=texts)
    if exclude_seen and dated:
        items = replace(items, available_until=np.where(np.arange(N_ITEMS) % 7, ALWAYS_UNTIL,
                                                        moment_of(dated) - 3 * DAY))  # fmt: skip
    vectors = texts_of(items)
    n_texts = len(distinct_texts(items.text)[0])
    vectors = replace(vectors, frozen=vectors.frozen[:n_texts], tuned=vectors.tuned[:n_texts])
    if index:
        faiss = pytest.importorskip("faiss")
        for name, some in (("frozen_index", vectors.frozen), ("tuned_index", vectors.tuned)):
            lists = faiss.index_factory(DIM, "IVF2,Flat", faiss.METRIC_INNER_PRODUCT)
            lists.cp.min_points_per_centroid = 1
            lists.train(some)
            lists.add(some)
            vectors = replace(vectors, **{name: TextIndex(lists, 2, 1.0)})  # looks at all
    moments = np.full(N_USERS, moment_of(dated))
    if dated:
        moments[::2] -= 5 * DAY
    only = np.arange(N_ITEMS) % 11 > 0 if exclude_seen else None
    blocks, tables = [], []
    for wide in (False, True):
        method = Method(items, on_path(ALL_ON, wide), dated, exclude_seen)
        snapshot = snapshot_of(method, *learned(dated, log), vectors)
        blocks.append(look(method, snapshot, log, log.users, moments, only))
        names = active_features(dated, switched_on=OPTIONAL)
        tables.append(table_of(method, snapshot, blocks[-1], names))
    one, two = (block.candidates for block in blocks)
    np.testing.assert_array_equal(one.request, two.request)
    np.testing.assert_array_equal(one.item, two.item)
    assert list(one.score) == list(two.score) and len(one.item) > 5 * N_USERS
    for name in one.score:
        np.testing.assert_array_equal(one.rank[name], two.rank[name], err_msg=name)
        np.testing.assert_allclose(one.score[name], two.score[name], rtol=1e-5, atol=1e-6)
        np.testing.assert_array_equal(blocks[0].scores[name], blocks[1].scores[name])
    np.testing.assert_allclose(*tables, rtol=1e-5, atol=1e-6)


@pytest.mark.slow
@each_path
def test_a_model_with_every_source_is_served_as_it_was_trained(small_world, tmp_path, wide):
    """Same user, item, moment: training row and serving row agree to the bit, ALS refitted too.

    So do the features of sessions: here a visit is a week.
    """
    run_dir, before = tmp_path / "run", small_world.config
    shutil.copytree(before.run_dir / "embeddings", run_dir / "embeddings")
    events = pd.read_parquet(small_world.folder / "events.parquet")
    week = events["timestamp"].dt.strftime("%G-%V")
    events["session_id"] = events["user_id"] + " in " + week
    events.to_parquet(tmp_path / "events.parquet")
    source = before.data.events[0].model_copy(update={"path": str(tmp_path / "events.parquet")})
    data = before.data.model_copy(update={"events": (source,)})
    if wide:
        pytest.importorskip("faiss")
    quotas = ALL_ON.model_copy(update={"dense_items": 30 if wide else 50})  # of 48 items
    update = {"run_dir": run_dir, "candidates": quotas, "data": data,
              "features": FeatureConfig(on=SPARE)}  # fmt: skip
    config = before.model_copy(update=update)
    trained = train(config, lambda *_: None)
    recommender = load_model(tracking.find_model(config, trained.model_uri)[1])
    names = recommender.card.features
    assert names == active_features(True, switched_on=OPTIONAL, with_sessions=True, on=SPARE)
    with pytest.raises(ConfigError, match="the events have no session_id, which the model was"):
        at_moment(recommender, open_prepared(before.run_dir / "prepared"), 0, run_dir)
    assert trained.report["candidates"]["due"]["test"] > 0
    prepared = open_prepared(run_dir / "prepared")
    windows = prepared.windows
    moment = windows.test + config.state.every_days * DAY  # when training rolls the state
    method, snapshot = at_moment(recommender, prepared, moment, run_dir / "embeddings")
    requests = [part.take(np.flatnonzero(part.moment == moment))
                for part in window_requests(prepared, "test")]  # fmt: skip
    fitted = Fitted(moment, snapshot.texts, snapshot.related)
    every_row = lambda number, request, grade, shown: np.arange(len(request))  # noqa: E731
    learned = ranker_rows(prepared, method, fitted, requests, windows.span("test"), config.state,
                          {"full": names}, {"full": every_row})  # fmt: skip
    served = [
        table_of(method, snapshot, look(method, snapshot, log, part.user, part.moment), names)
        for log, part in zip(prepared.buckets(), requests, strict=True)
    ]
    assert sum(len(part) for part in requests) > 3
    in_session = learned["full"].table[:, names.index("pair_last_session_category")]
    assert (in_session > 0).any()
    np.testing.assert_array_equal(np.concatenate(served), learned["full"].table)
