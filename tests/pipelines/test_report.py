"""Every number stands at its documented path, and is the mean it says it is."""

import json
from math import log2

import numpy as np
import pytest

from pipelines.audience import Audience
from pipelines.evaluate import MODELS, Outcome
from pipelines.report import (
    CURATED,
    HEADLINE,
    SLICED,
    by_path,
    calibration_lines,
    candidate_recall,
    describe,
    headline,
    quality_table,
    slices,
    without_nan,
)
from recsys.diversity import mix_of

INF, N_ITEMS = np.inf, 20
NAMES = ["popularity", "full"]


@pytest.fixture(scope="module")
def outcome():
    """Four requests of three users; 1 and 2 took two items, 1 one that was never seen before."""
    listed = np.array([[0, 1], [0, 2], [0, 1], [-1, -1]])
    return Outcome(
        user=np.array([7, 7, 8, 9]), moment=np.array([1, 2, 1, 1]),
        history=np.array([0, 3, 25, 0]),
        request=np.array([0, 1, 1, 2, 2, 3]), item=np.array([0, 2, 3, 1, 5, 4]),
        grade=np.ones(6, int), unseen=np.arange(6) == 2,
        rank={"full": np.array([1, 2, INF, 2, INF, INF]),
              "popularity": np.array([2, INF, INF, 1, INF, INF])},
        found={"interest": np.array([True, True, False, False, False, False]),
               "union": np.array([True, True, False, True, True, False])},
        listed={"full": listed, "popularity": np.where(listed == 2, 1, listed)},
    )  # fmt: skip


@pytest.fixture(scope="module")
def audience():
    """The past of 20 items without categories; nobody had taken anything."""
    none = np.zeros(0, int)
    past_events = np.array([8.0, 4, 2, 0, 2] + 15 * [0])
    return Audience(past_events, np.full(N_ITEMS, -1), (), np.eye(N_ITEMS, dtype=np.float32),
                    np.arange(N_ITEMS), mix_of(none, none, 0), np.full(4, np.nan))  # fmt: skip


@pytest.fixture(scope="module")
def window(outcome, audience):
    return describe(outcome, audience, seed=0, resamples=50)


@pytest.fixture(scope="module")
def report(window):
    return by_path({"valid": window, "test": window})


# of 16 past events item 0 has the first half; 1, 2 and 4 begin before 80 %; 3 and 5 have none
POPULARITY = {"head_items": 1, "middle_items": 3}  # requests that took such items
IDEAL = 1 + 1 / log2(3)  # of two items
FULL = (1 / 1, 1 / log2(3) / IDEAL, 1 / log2(3) / IDEAL, 0)  # NDCG of each request
POPULAR = (1 / log2(3), 0, 1 / IDEAL, 0)


def test_values_stand_where_the_report_says(report):
    for window in ("valid", "test"):
        models = {name: report["models"][name][window] for name in NAMES}
        assert models["full"]["ndcg_at_10"] == pytest.approx(sum(FULL) / 4)
        assert models["popularity"]["ndcg_at_10"] == pytest.approx(sum(POPULAR) / 4)
        assert models["full"]["recall_at_20"] == pytest.approx((1 + 1 / 2 + 1 / 2 + 0) / 4)
        assert models["full"]["hr_at_10"] == pytest.approx((1 + 1 + 1 + 0) / 4)
        assert models["full"]["coverage_at_10"] == pytest.approx(3 / N_ITEMS)
        for name in NAMES:
            low, high = report["intervals"][name][window]["ndcg_at_10"]
            assert low <= models[name]["ndcg_at_10"] <= high


def test_novelty_is_the_mean_surprise_of_what_was_listed(report):
    surprise = {0: -log2(8 / 16), 1: -log2(4 / 16), 2: -log2(2 / 16)}
    lists = [(0, 1), (0, 2), (0, 1)]  # the empty list has none
    expected = sum(sum(surprise[item] for item in one) / 2 for one in lists) / 3
    assert report["models"]["full"]["test"]["novelty_at_10"] == pytest.approx(expected)


def test_a_difference_is_the_full_ranker_minus_the_model(report):
    assert report["differences"].keys() == {"popularity"}
    found = report["differences"]["popularity"]["test"]
    assert found.keys() == set(HEADLINE)
    by, low, high = found["ndcg_at_10"]
    assert by == pytest.approx(sum(FULL) / 4 - sum(POPULAR) / 4)
    assert low <= by <= high


def test_models_come_in_one_order_and_without_a_ranker_nothing_differs(outcome, audience):
    alone = {name: outcome.rank["popularity"] for name in MODELS if name != "full"}
    listed = dict.fromkeys(alone, outcome.listed["popularity"])
    some = Outcome(**(vars(outcome) | {"rank": dict(reversed(alone.items())), "listed": listed}))
    found = describe(some, audience, 0, 10)
    assert list(found["models"]) == list(alone)
    assert found["differences"] == {}


def test_slices_count_their_requests_and_average_over_them(outcome, audience):
    found = slices(outcome, NAMES, audience.n_events)
    counts = {name: cut["requests"] for name, cut in found.items()}
    assert counts == {"history_0": 2, "history_1_4": 1, "history_20_plus": 1, "cold_users": 2,
                      "warm_users": 2, "unseen_items": 1, "seen_items": 4,
                      **POPULARITY}  # fmt: skip
    history = sum(count for name, count in counts.items() if name.startswith("history"))
    assert history == counts["cold_users"] + counts["warm_users"] == len(outcome.user)
    ndcg = {name: cut["full"]["ndcg_at_10"] for name, cut in found.items()}
    assert ndcg["cold_users"] == ndcg["history_0"] == pytest.approx((FULL[0] + FULL[3]) / 2)
    assert ndcg["warm_users"] == pytest.approx((FULL[1] + FULL[2]) / 2)
    assert ndcg["unseen_items"] == 0
    # of the seen items request 1 took one only, at rank 2
    assert ndcg["seen_items"] == pytest.approx((1 + 1 / log2(3) + FULL[2] + 0) / 4)
    assert all(cut[name].keys() == set(SLICED) for cut in found.values() for name in NAMES)


def test_a_slice_of_nobody_is_left_out(outcome, audience):
    some = Outcome(**(vars(outcome) | {"unseen": np.zeros(6, bool), "history": np.full(4, 3)}))
    found = slices(some, NAMES, audience.n_events)
    assert found.keys() == {"history_1_4", "warm_users", "seen_items", *POPULARITY}


def test_candidate_recall_is_the_mean_share_of_what_was_taken(outcome):
    assert candidate_recall(outcome) == {
        "interest": pytest.approx((1 + 1 / 2 + 0 + 0) / 4),
        "union": pytest.approx((1 + 1 / 2 + 1 + 0) / 4),
    }


def test_requests_users_and_relevant_items_are_counted(report):
    found = {name: windows["test"] for name, windows in report["requests"].items()}
    assert found == {"requests": 4, "users": 3, "relevant": 6}


def test_paths_turn_inside_out_and_lose_nothing():
    windows = {
        "valid": {"models": {"a": 1, "b": 2}},
        "test": {"models": {"a": 3}, "cost": {"s": 4}},
    }
    assert by_path(windows) == {"models": {"a": {"valid": 1, "test": 3}, "b": {"valid": 2}},
                                "cost": {"s": {"test": 4}}}  # fmt: skip


def test_what_json_does_not_know_becomes_null():
    values = {"a": [1.5, float("nan")], "b": {"c": np.float64("nan"), "d": "nan"}, "e": None}
    assert without_nan(values) == {"a": [1.5, None], "b": {"c": None, "d": "nan"}, "e": None}


def test_the_headline_names_its_window_and_whose_it_is(report):
    models = report["models"] | {"tuned_encoder": report["models"]["popularity"]}
    found = headline(report | {"models": models})
    expected = {f"{window}/{key}": report["models"]["full"][window][key]
                for window in ("valid", "test") for key in HEADLINE}  # fmt: skip
    expected |= {f"test/{key}": report["models"]["full"]["test"][key] for key in CURATED}
    expected |= {f"{window}/tuned_encoder_ndcg_at_10": sum(POPULAR) / 4
                 for window in ("valid", "test")}  # fmt: skip
    assert found == pytest.approx(expected, nan_ok=True)


def test_probabilities_are_in_the_headline_and_in_a_line_for_each_grade(report):
    values = {"mean": 0.004, "share": 0.003, "ece": 0.001, "brier": 0.01}
    rarer = {"test": values | {"mean": 0.0002, "ece": 0.5}}
    told = report | {"calibration": {"at_least_1": {"test": values}, "at_least_2": rarer}}
    added = headline(told).items() - headline(report).items()
    assert added == {("test/probability_brier", 0.01), ("test/probability_ece", 0.001)}
    first, second = calibration_lines(told)
    assert first.startswith("probability of at least 1, test: mean 0.00400, taken 0.00300; off by")
    assert "at least 2" in second and "0.00020" in second and "0.50000" in second


def test_the_table_shows_every_model_with_its_interval_and_gain(report):
    table = quality_table(report)
    assert table.row_count == len(NAMES)
    assert "4 requests" in str(table.title)
    names, ndcg, *_, gain = ([*column.cells] for column in table.columns)
    assert names == list(report["models"])
    low, high = report["intervals"]["full"]["test"]["ndcg_at_10"]
    assert f"{sum(FULL) / 4:.4f} [{low:.4f}, {high:.4f}]" in ndcg
    by = report["differences"]["popularity"]["test"]["ndcg_at_10"][0]
    told = dict(zip(names, gain, strict=True))
    assert told["full"] == "" and told["popularity"].startswith(f"{by:+.4f} [")


def test_one_seed_one_report(outcome, audience, window):
    again = describe(outcome, audience, 0, 50)
    assert json.dumps(again) == json.dumps(window)  # NaN is not equal to itself
