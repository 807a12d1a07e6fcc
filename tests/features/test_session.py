"""What a loop over the user's last session finds, and unknown where there is none."""

from dataclasses import replace

import numpy as np
import pytest

from features.catalogue import SPARE, active_features
from features.item import item_features
from features.session import last_session, session_features
from features.table import feature_table


@pytest.fixture
def past(scene):
    """The scene's past in sessions of a few events each, one in four unknown."""
    rng = np.random.default_rng(0)
    session = scene.past.moment // ((20 if scene.dated else 3) * scene.unit) + 100
    return replace(scene.past, session=np.where(rng.random(len(session)) < 0.25, -1, session))


def last_items(past, request):
    """The distinct items taken in the session of the event taken last."""
    start, end = past.indptr[request : request + 2]
    taken = [(past.session[at], past.item[at]) for at in range(start, end) if past.grade[at] > 0]
    last = taken[-1][0] if taken else -1
    return {item for session, item in taken if session == last >= 0}


def test_every_feature_is_what_a_loop_finds(scene, past):
    category, rows = scene.items.category, scene.candidates
    table = session_features(past, rows, scene.items)
    met = 0
    for row, (request, item) in enumerate(zip(rows.request, rows.item, strict=True)):
        last = last_items(past, request)
        met += item in last
        alike = sum(category[one] == category[item] for one in last)
        expected = {
            "user_session_items": len(last) or np.nan,
            "pair_in_last_session": float(item in last) if last else np.nan,
            "pair_last_session_category":
                alike / len(last) if last and category[item] >= 0 else np.nan,
        }  # fmt: skip
        assert {name: table[name][row] for name in table} == pytest.approx(expected, nan_ok=True)
    assert met and np.isnan(table["user_session_items"]).any()


def test_only_what_was_taken_in_the_last_session_is_kept(scene, past):
    last = last_session(past)
    assert (last.grade > 0).all() and (last.session >= 0).all()
    for request in range(len(scene.user)):
        kept = set(last.item[last.indptr[request] : last.indptr[request + 1]].tolist())
        assert kept == last_items(past, request)
    assert 0 < len(last.item) < (past.grade > 0).sum()


def test_a_past_keeps_its_sessions_beside_its_events(scene, past):
    some = past.item % 2 == 0
    np.testing.assert_array_equal(past.keep(some).session, past.session[some])
    assert scene.past.keep(some[: len(scene.past.item)]).session is None


def test_the_table_has_them_where_the_log_has_sessions(scene, past):
    every = active_features(scene.dated, with_text=False, with_sessions=True, on=SPARE)
    names = [name for name in every if "session" in name]
    table = feature_table(
        names, past, scene.moment, scene.candidates,
        item_features(scene.state, scene.items, scene.dated), scene.items, {}, 0.5, scene.dated,
    )  # fmt: skip
    expected = session_features(past, scene.candidates, scene.items)
    assert len(names) == len(expected) == 3
    for at, name in enumerate(names):
        np.testing.assert_allclose(table[:, at], expected[name], rtol=1e-6)
