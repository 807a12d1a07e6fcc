"""The close look shows what was measured, and its funnel loses nothing twice."""

import numpy as np
import pyarrow.compute as pc
import pytest

from pipelines.closeup import LOOKED_AT, SHOWN, drawn, funnel
from pipelines.evaluate import Outcome
from pipelines.results import open_results

INF = np.inf


def requests(history, moment=None, user=None):
    """Requests without anything relevant, of users of their own."""
    n, none = len(history), np.zeros(0, int)
    return Outcome(
        user=np.arange(n) if user is None else user,
        moment=np.arange(n) if moment is None else moment, history=np.array(history),
        request=none, item=none, grade=none, unseen=none > 0, rank={}, found={}, listed={},
    )  # fmt: skip


def test_some_warm_and_some_cold_users_are_drawn_and_each_once():
    outcome = requests(np.arange(200) % 4, user=np.arange(200) // 2)
    shown, others = drawn(outcome, None, seed=0)
    cold = outcome.history[shown] == 0
    assert (~cold).sum() == SHOWN["warm"] and cold.sum() == SHOWN["cold"]
    both = np.concatenate([shown, others])
    assert len(both) == LOOKED_AT == len(np.unique(outcome.user[both]))
    assert np.array_equal(drawn(outcome, None, seed=0)[0], shown)
    assert not np.array_equal(drawn(outcome, None, seed=1)[0], shown)


def test_requests_are_drawn_from_a_moment_on_and_from_all_if_there_are_none():
    outcome = requests(np.ones(100, int))
    shown, others = drawn(outcome, 90, seed=0)
    assert min(*shown, *others) == 90 and len(shown) + len(others) == 10
    assert len(np.concatenate(drawn(outcome, 1000, seed=0))) == LOOKED_AT
    few = drawn(requests([0, 0]), None, seed=0)
    assert sorted(few[0]) == [0, 1] and len(few[1]) == 0


@pytest.fixture
def outcome():
    """Request 0 took items at ranks 3 and 120, request 1 one at rank 15 and one never found."""
    rank = np.array([3, 120, 15, INF])
    return Outcome(
        user=np.arange(2), moment=np.arange(2), history=np.zeros(2, int),
        request=np.array([0, 0, 1, 1]), item=np.arange(4), grade=np.ones(4, int),
        unseen=np.zeros(4, bool), rank={"full": rank}, found={"union": np.isfinite(rank)},
        listed={},
    )  # fmt: skip


def test_a_funnel_has_recall_of_each_step_down_to_the_list(outcome):
    steps = funnel(outcome, n_items=1000, second_pass=100, candidates=380.5)
    assert [one["recall"] for one in steps] == [1, 3 / 4, 1 / 2, 1 / 2, 1 / 2, 1 / 4]
    assert [one["items"] for one in steps] == [1000, 380.5, 100, 50, 20, 10]
    assert steps[2]["step"] == "first pass" and steps[-1]["step"] == "first 10 of the list"


def test_a_funnel_of_one_pass_has_no_step_for_it_and_few_candidates_all_pass(outcome):
    names = [one["step"] for one in funnel(outcome, 1000, None, None)]
    assert "first pass" not in names and len(names) == 5
    assert funnel(outcome, 1000, 100, 40.0)[2]["items"] == 40


@pytest.mark.slow
def test_an_examples_list_is_the_list_that_was_measured(small_world):
    trained = small_world.trained
    results = open_results(trained.folder)
    about = results.table("requests", window="test", model="full")
    lists = results.table("lists", window="test", model="full")
    relevant = results.table("relevant", window="test")
    examples = trained.report["examples"]
    assert len(examples) == SHOWN["warm"]  # nobody is cold there
    for one in examples:
        mine = pc.equal(about["user_id"], one["user"])
        mine = pc.and_(mine, pc.equal(pc.cast(about["request_time"], "int64"), one["moment"]))
        [number] = about.filter(mine)["request_id"].to_pylist()
        listed = lists.filter(pc.equal(lists["request_id"], number)).sort_by("rank")
        assert [row["item"] for row in one["list"]] == listed["item_id"].to_pylist()
        taken = relevant.filter(pc.equal(relevant["request_id"], number))["item_id"].to_pylist()
        assert sorted(row["item"] for row in one["taken"]) == sorted(taken)
        hits = {row["item"]: row["rank"] for row in one["list"] if row["taken"]}
        ranks = {row["item"]: row["rank"] for row in one["taken"] if (row["rank"] or 99) <= 10}
        assert hits == ranks
        assert len(one["history"]) == min(10, one["history_events"])
        assert all(row["reason"] and 0 < row["probability"] < 1 for row in one["list"])


@pytest.mark.slow
def test_the_last_step_of_the_funnel_is_the_recall_of_the_list(small_world):
    report = small_world.trained.report
    for window in ("valid", "test"):
        full = report["models"]["full"][window]
        steps = {one["step"]: one["recall"] for one in report["funnel"]["steps"][window]}
        assert steps["candidates"] == pytest.approx(report["candidates"]["union"][window])
        for k in (10, 20, 50):
            assert steps[f"first {k} of the list"] == pytest.approx(full[f"recall_at_{k}"])
    assert report["ranker"]["contributions"].keys() == report["ranker"]["importance"].keys()
    assert report["ranker"]["contribution_rows"] == LOOKED_AT * 8
