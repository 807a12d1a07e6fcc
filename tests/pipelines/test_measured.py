"""Order and fingerprint of a window depend on what was asked, not on how it was computed."""

from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest

from pipelines.evaluate import Outcome
from pipelines.measured import fingerprint, measured, popularity_bin
from pipelines.prepare import prepare
from recsys.schema import DataConfig

INF = np.inf


@pytest.fixture
def prepared(tmp_path):
    """Three users that took four items on ten days."""
    events = {"user_id": ["u2", *["u1", "u2", "u3"] * 3], "item_id": list("abcdabcdab"),
              "timestamp": [f"2026-01-{day:02d}T10:00:00Z" for day in range(1, 11)]}  # fmt: skip
    items = {"item_id": list("abcd"), "title": list("ABCD"),
             "category": ["x", "x", "y", None]}  # fmt: skip
    return prepare(pa.table(events), pa.table(items), tmp_path / "p", DataConfig())


def outcome(prepared, rows, **changes):
    """One request for each of (user id, moment, history, [(item, grade)])."""
    codes = {name: code for code, name in enumerate(prepared.user_ids())}
    counts = [len(taken) for *_, taken in rows]
    pairs = [pair for *_, taken in rows for pair in taken]
    item = np.array([item for item, _ in pairs])
    listed = np.tile(np.array([0, 1, -1]), (len(rows), 1))
    return Outcome(**({
        "user": np.array([codes[name] for name, *_ in rows]),
        "moment": np.array([moment for _, moment, *_ in rows]),
        "history": np.array([history for *_, history, _ in rows]),
        "request": np.repeat(np.arange(len(rows)), counts), "item": item,
        "grade": np.array([grade for _, grade in pairs]), "unseen": item == 3,
        "rank": {"full": item + 1.0}, "found": {}, "listed": {"full": listed},
    } | changes))  # fmt: skip


ROWS = [("u3", 7, 4, [(0, 1), (3, 2)]), ("u1", 7, 0, [(1, 1)]), ("u2", 5, 1, [(2, 1), (3, 1)])]
PAST = np.array([10.0, 6.0, 4.0, 0.0])  # of 20: shares held by more popular ones 0, .5, .8


def described(prepared, some):
    items = pa.table({"category": ["x", "x", "y", None]})
    return measured("test", some, prepared, items, PAST, {"land": np.array(["de", "fr", "it"])})


def told(prepared, some, ids="abcd", protocol="time", unseen_only=False):
    return fingerprint(protocol, unseen_only, described(prepared, some), pa.array(list(ids)))


def test_requests_stand_by_moment_and_user_id_whatever_order_they_were_ranked_in(prepared):
    one = described(prepared, outcome(prepared, ROWS)).about
    assert one["user_id"].to_pylist() == ["u2", "u1", "u3"]
    assert one["request_id"].to_pylist() == [0, 1, 2]
    assert one.equals(described(prepared, outcome(prepared, ROWS[::-1])).about)


def test_relevant_items_stand_with_their_request(prepared):
    one = described(prepared, outcome(prepared, ROWS[::-1]))
    assert one.request.tolist() == [0, 0, 1, 2, 2]
    assert one.item.tolist() == [2, 3, 1, 0, 3]


def test_slices_say_who_asked_and_what_was_taken(prepared):
    about = described(prepared, outcome(prepared, ROWS)).about.to_pydict()
    codes = prepared.user_ids().tolist()
    assert about["history_events"] == [1, 0, 4]
    assert about["user_kind"] == ["warm", "cold", "warm"]
    assert about["unseen_share"] == [1 / 2, 0, 1 / 2]
    assert about["popularity"] == ["never", "middle", "never"]  # of two items the less popular
    assert about["category"] == ["y", "x", "none"]  # u3 took d with the better grade
    assert about["user_land"] == [["de", "fr", "it"][codes.index(u)] for u in ("u2", "u1", "u3")]


def test_what_was_computed_changes_no_fingerprint(prepared):
    same = outcome(prepared, ROWS[::-1], rank={"full": np.full(5, INF)}, listed={})
    assert told(prepared, outcome(prepared, ROWS)) == told(prepared, same)


@pytest.mark.parametrize("changed", [
    [("u2", *ROWS[0][1:]), ROWS[1], ("u3", *ROWS[2][1:])], [("u3", 8, *ROWS[0][2:]), *ROWS[1:]],
    [("u3", 7, 4, [(0, 1), (3, 1)]), *ROWS[1:]], [("u3", 7, 4, [(0, 1), (2, 2)]), *ROWS[1:]],
    [("u3", 7, 4, [(0, 1)]), *ROWS[1:2], ("u2", 5, 1, [(2, 1), (3, 1), (0, 1)])], ROWS[:2],
])  # fmt: skip
def test_another_user_moment_item_or_grade_is_another_fingerprint(prepared, changed):
    assert told(prepared, outcome(prepared, ROWS)) != told(prepared, outcome(prepared, changed))


def test_other_ids_or_rules_are_another_fingerprint(prepared):
    some = outcome(prepared, ROWS)
    others = {told(prepared, some), told(prepared, some, "abce"), told(prepared, some, "abdc"),
              told(prepared, some, protocol="leave_last_out"),
              told(prepared, some, unseen_only=True)}  # fmt: skip
    assert len(others) == 5


def test_history_counts_in_no_fingerprint(prepared):
    some = outcome(prepared, ROWS)
    assert told(prepared, some) == told(prepared, replace(some, history=some.history + 1))


def test_popular_items_hold_the_first_half_of_all_events():
    past = np.array([1.0, 4, 0, 1, 2, 2])  # of 10: 4 | 2, 2 | 1, 1
    names = ["tail", "head", "never", "tail", "head", "head"]
    assert popularity_bin(past).tolist() == names  # 4 held above the twos, 8 above the ones
    assert popularity_bin(np.zeros(2)).tolist() == ["never", "never"]
