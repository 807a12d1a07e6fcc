"""What lists show and to whom they are worse, on lists small enough to count by hand."""

from math import isnan, log, log2

import numpy as np
import pytest

from pipelines.audience import Audience
from pipelines.beyond import (
    WHY_NOT,
    beyond_metrics,
    exposure,
    fairness,
    list_metrics,
    undefined,
    user_groups,
)
from pipelines.evaluate import Outcome
from recsys.diversity import mix_of

INF = np.inf
N_EVENTS = np.array([8.0, 4, 2, 0, 2])


@pytest.fixture
def outcome():
    """Three requests: item 0 and 2 are listed, then 0 alone, then nothing."""
    lists = np.array([[0, 2], [0, -1], [-1, -1]])
    return Outcome(
        user=np.arange(3), moment=np.arange(3), history=np.array([5, 1, 0]),
        request=np.arange(3), item=np.array([2, 0, 1]), grade=np.ones(3, int),
        unseen=np.zeros(3, bool), found={},
        rank={"full": np.array([2, 1, INF]), "popularity": np.array([11, 1, 2])},
        listed={"full": lists, "popularity": np.where(lists == 2, 1, lists)},
    )  # fmt: skip


@pytest.fixture
def audience():
    """Items 0 and 1 are of category a, 2 of b; the first user had taken 0 and 2, the second 1."""
    request, item = np.array([0, 0, 1]), np.array([0, 2, 1])
    category = np.array([0, 0, 1, -1, -1])
    vectors = np.array([[1, 0], [0, 1]], np.float32)
    popularity = np.array([(8 + 2) / 2, 4, np.nan])
    return Audience(N_EVENTS, category, ("a", "b"), vectors, np.array([0, 0, 1, 1, 1]),
                    mix_of(request, category[item], 2), popularity)  # fmt: skip


def test_values_of_requests_are_their_formulas(outcome, audience):
    found = beyond_metrics(outcome, "full", audience)
    bits = -log2(8 / 16), -log2(2 / 16)
    np.testing.assert_allclose(found["novelty_at_10"], [sum(bits) / 2, bits[0], np.nan])
    np.testing.assert_allclose(found["popularity_at_10"], [5, 8, np.nan])
    # the first took what popularity has at 11; the second what popularity has too
    np.testing.assert_allclose(found["serendipity_at_10"], [1 / 10, 0, 0])
    np.testing.assert_allclose(found["intra_list_distance_at_10"], [1, np.nan, np.nan])
    np.testing.assert_allclose(found["miscalibration_at_10"], [0, 0, np.nan], atol=1e-12)
    # popularity lists 0 and 1, all of category a, to a user of half a, half b
    other = beyond_metrics(outcome, "popularity", audience)["miscalibration_at_10"][0]
    assert other == pytest.approx(0.5 * log(0.5 / 0.995) + 0.5 * log(0.5 / 0.005))


def test_values_of_all_lists_together(outcome, audience):
    popularity = beyond_metrics(outcome, "full", audience)["popularity_at_10"]
    found = list_metrics(outcome, "full", audience, popularity)
    assert found["coverage_at_10"] == 2 / 5
    # places 0, 0, 0, 1, 2: (2 * 4 - 6) * 1 + (2 * 5 - 6) * 2 over 3 places and 5 - 1
    assert found["gini_at_10"] == pytest.approx((2 * 1 + 4 * 2) / 3 / 4)
    assert found["popularity_lift_at_10"] == pytest.approx((5 + 8) / (5 + 4) - 1)


def test_what_has_no_value_has_a_reason(outcome, audience):
    nothing = mix_of(np.zeros(0, int), np.zeros(0, int), 0)
    bare = Audience(**(vars(audience) | {"category": np.full(5, -1), "names": (), "taken": nothing,
                                         "taken_popularity": np.full(3, np.nan)}))  # fmt: skip
    values = beyond_metrics(outcome, "full", bare)
    models = {"full": {name: float(np.nanmean(column)) if not np.isnan(column).all() else np.nan
                       for name, column in values.items()}}  # fmt: skip
    models["full"] |= list_metrics(outcome, "full", bare, values["popularity_at_10"])
    assert undefined(models).keys() == {"miscalibration_at_10", "popularity_lift_at_10"}
    assert WHY_NOT.keys() | {"coverage_at_10"} == models["full"].keys()
    assert exposure(outcome, bare)["categories"] == []
    assert (bare.main_category == -1).all()


def test_without_a_popularity_model_nothing_is_called_serendipitous(outcome, audience):
    alone = Outcome(**(vars(outcome) | {"rank": {"full": outcome.rank["full"]}}))
    assert np.isnan(beyond_metrics(alone, "full", audience)["serendipity_at_10"]).all()


def test_exposure_shares_out_what_is_listed_and_what_was_taken(outcome, audience):
    found = exposure(outcome, audience)
    assert found["categories"] == [
        {"category": "a", "catalogue": 2 / 3, "full": 2 / 3, "popularity": 1, "taken": 2 / 3},
        {"category": "b", "catalogue": 1 / 3, "full": 1 / 3, "popularity": 0, "taken": 1 / 3},
    ]
    # five items are in every second tenth, from the most popular on: 0, 1, 2, 4, 3
    assert found["tenths"]["full"][::2] == pytest.approx([2 / 3, 0, 1 / 3, 0, 0])
    assert all(one[0] == 0 and one[-1] == 1 for one in found["lorenz"].values())
    assert found["never"] == {"catalogue": 1 / 5, "full": 0, "popularity": 0, "taken": 0}
    rare = Outcome(**(vars(outcome) | {"item": np.array([3, 0, 3])}))  # item 3 had no event
    assert exposure(rare, audience)["never"]["taken"] == 2 / 3
    assert found["lorenz"].keys() == {"full", "popularity", "taken"}


def test_a_user_belongs_to_the_category_taken_most_of_and_to_one_taste(outcome, audience):
    assert audience.main_category.tolist() == [0, 0, -1]  # of two alike the first
    groups = user_groups(outcome, audience)
    assert groups["category"]["a"].tolist() == [True, True, False]
    taste = np.array(list(groups["taste"].values()))
    assert taste.sum(0).tolist() == [1, 1, 0]
    assert groups["taste"]["niche"].tolist() == [False, True, False]


def test_the_gap_is_between_the_best_and_the_worst_group_that_is_large_enough():
    n = 300
    history = np.repeat([0, 3, 25], [100, 195, 5])
    values = np.where(history == 0, 0.2, np.where(history == 3, 0.5, 0.9))
    values[::10] += 0.1
    none = np.zeros(0, int)
    outcome = Outcome(
        user=np.arange(n), moment=np.arange(n), history=history, request=none, item=none,
        grade=none, unseen=none > 0, rank={}, found={}, listed={},
    )  # fmt: skip
    audience = Audience(N_EVENTS, np.full(5, -1), (), np.eye(2, dtype=np.float32),
                        np.zeros(5, int), mix_of(none, none, 0), np.full(n, np.nan))  # fmt: skip
    found = fairness(values, outcome, audience, seed=0, resamples=200)
    assert found.keys() == {"history"}  # nobody had taken anything
    history = found["history"]
    assert [row["group"] for row in history["groups"]] == ["history_0", "history_1_4"]
    assert (history["best"], history["worst"]) == ("history_1_4", "history_0")
    gap, low, high = history["gap"]
    means = [row["mean"] for row in history["groups"]]
    assert gap == pytest.approx(means[1] - means[0]) and low < gap < high
    assert all(row["low"] <= row["mean"] <= row["high"] for row in history["groups"])
    assert not isnan(low) and fairness(values, outcome, audience, 0, 200) == found
