"""What the gate lets through, on values small enough to work out by hand."""

from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest

from pipelines.gate import Line, Sample, Scored, compared, sliced, slices, whole
from pipelines.settings import EvaluationConfig, PromotionConfig, RunConfig
from recsys.evaluation import paired_interval

N = 400
OLD = np.tile([0.4, 0.6], N // 2)  # mean 0.5


def scored(value, history=0, category="shoes"):
    about = pa.table({
        "history_events": np.broadcast_to(history, N).astype(np.int32),
        "user_kind": np.full(N, "warm", object), "popularity": np.full(N, "head", object),
        "category": np.broadcast_to(category, N).astype(object), "unseen_share": np.zeros(N),
    })  # fmt: skip
    return Scored(about, np.arange(N), np.asarray(value, float))


def config(**promotion):
    return RunConfig(promotion=PromotionConfig(slice_users=50, **promotion))


@pytest.mark.parametrize(("by", "passed", "as_retrained"),
                         [(0.01, True, True), (0.0, False, True), (-0.009, False, True),
                          (-0.011, False, False)])  # fmt: skip
def test_a_challenger_is_better_and_a_retraining_at_most_two_percent_worse(
    by, passed, as_retrained
):
    """Every request moves by the same, so the interval is a point; 2 % of 0.5 is 0.01."""
    new, old = scored(OLD + by), scored(OLD)
    assert compared(new, old, config(), False).passed is passed
    line = compared(new, old, config(), True)
    assert line.passed is as_retrained
    assert f"{0.5 + by:.4f}, the champion 0.5000: {by:+.4f}" in line.said and "0.0100" in line.said


def test_a_gain_inside_its_own_noise_is_no_gain():
    noise = np.tile([0.3, -0.29], N // 2)  # 0.005 better on average
    assert not compared(scored(OLD + noise), scored(OLD), config(), False).passed


@pytest.mark.parametrize(("loss", "passed"), [(0.04, True), (0.06, False)])
def test_a_slice_may_be_a_tenth_worse_however_good_the_rest_is(loss, passed):
    """Of 0.5 in that slice, 0.05 is allowed."""
    few = np.arange(N) < 100
    new = scored(OLD + np.where(few, -loss, 0.2), category=np.where(few, "hats", "shoes"))
    old = scored(OLD, category=np.where(few, "hats", "shoes"))
    lines = {line.what: line for line in sliced(new, old, config())}
    assert lines["slice category hats"].passed is passed
    assert "100 users; 0.0500 worse is allowed" in lines["slice category hats"].said
    assert lines["slice category shoes"].passed and lines["slice user_kind warm"].passed


def test_chance_has_no_more_goes_with_more_slices():
    """No model is better; 20 categories of 50 users: intervals of 95 % each would refuse many."""
    rng, n = np.random.default_rng(0), 1000
    about = pa.table({
        "history_events": np.full(n, 9), "user_kind": np.full(n, "warm", object),
        "popularity": np.full(n, "head", object), "unseen_share": np.zeros(n),
        "category": np.repeat(np.arange(20), 50).astype(str).astype(object),
    })  # fmt: skip
    settings = RunConfig(promotion=PromotionConfig(slice_users=50, slice_margin=0.0),
                         evaluation=EvaluationConfig(resamples=100))  # fmt: skip
    refused, alone = 0, 0
    for _ in range(20):
        new, old = (Scored(about, np.arange(n), rng.random(n)) for _ in range(2))
        refused += not all(line.passed for line in sliced(new, old, settings))
        alone += any(
            paired_interval(new.value[some], old.value[some], new.user[some], rng, 100)[2] < 0
            for some in slices(about).values() if some.any()
        )  # fmt: skip
    assert refused <= 2 and alone >= 5


def test_a_slice_of_few_users_decides_nothing():
    few = np.arange(N) < 49
    new = scored(OLD - np.where(few, 0.4, 0), category=np.where(few, "hats", "shoes"))
    old = scored(OLD, category=np.where(few, "hats", "shoes"))
    names = {line.what for line in sliced(new, old, config())}
    assert "slice category shoes" in names and "slice category hats" not in names


LISTS = Sample(np.array([1, 1, 2, 2]), np.array([5, 6, 5, 7]), np.ones(4), np.full(4, 0.5),
               np.full(4, "", object))  # fmt: skip


@pytest.mark.parametrize(
    ("broken", "what"),
    [({}, set()),
     ({"user": np.array([1, 1, 2, 3])}, {"full lists"}),
     ({"why_not": np.array(["", "", "not on offer", ""], object)}, {"items"}),
     ({"probability": np.array([0.5, 1.01, 0, 1])}, {"numbers"}),
     ({"probability": np.array([0.5, np.nan, 0, 1])}, {"numbers"}),
     ({"score": np.array([np.inf, 0, 0, 0])}, {"numbers"})],
)  # fmt: skip
def test_a_broken_list_is_named(broken, what):
    lines = list(whole(replace(LISTS, **broken), LISTS, 2))
    assert {line.what for line in lines if not line.passed} == what
    assert len(lines) == 3


def test_short_lists_are_no_fault_where_the_champion_has_as_many():
    [full, *_] = whole(LISTS, LISTS, 9)
    assert full == Line("full lists", True, "2 of 2 hold fewer than 9 items, 2 of the champion's")
