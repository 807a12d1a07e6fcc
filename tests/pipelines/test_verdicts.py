"""A sentence says better, worse or noise as its interval does."""

import pytest

from pipelines.verdicts import (
    best_single,
    fairness_words,
    funnel_words,
    high_words,
    interval,
    judged,
    never_words,
    number,
    quality_words,
    requests_words,
    slice_words,
    text_words,
)


def report_with(gain, low, high):
    """A report in which full differs from every other model by `gain` [low, high]."""
    names = ("popularity", "ease", "frozen_encoder", "tuned_encoder", "ranker_without_text", "full")
    values = dict(zip(names, (0.03, 0.08, 0.02, 0.05, 0.09, 0.1), strict=True))
    return {
        "models": {name: {"test": {"ndcg_at_10": value}} for name, value in values.items()},
        "intervals": {name: {"test": {"ndcg_at_10": [v - 0.01, v + 0.01]}}
                      for name, v in values.items()},
        "differences": {name: {"test": {"ndcg_at_10": [gain, low, high]}} for name in names[:-1]},
        "fairness": {"taste": {"valid": {}, "test": {
            "best": "niche", "worst": "popular", "gap": [gain, low, high]}}},
        "slices": {"cold_users": {"test": {"requests": 1200, "full": {"ndcg_at_10": 0.01}}}},
        "candidates": {"ease": {"test": 0.5}, "union": {"test": 0.7}, "als": {"valid": 0.1}},
        "funnel": {"steps": {"test": [{"step": "candidates", "items": 9, "recall": 0.7},
                                      {"step": "first 10 of the list", "items": 10,
                                       "recall": 0.2}]}},
    }  # fmt: skip


@pytest.mark.parametrize(
    ("row", "full", "text", "apart"),
    [
        ((0.004, 0.002, 0.006), "beats", "Text helps: +0.0040 [+0.0020, +0.0060]", "apart."),
        ((-0.004, -0.006, -0.002), "is worse than", "Text hurts", "apart."),
        ((0.004, -0.001, 0.009), "cannot be told from", "Text may help or not", "(may be noise)."),
    ],
)
def test_words_follow_the_interval(row, full, text, apart):
    report = report_with(*row)
    first, second = quality_words(report)
    assert f"The full ranker {full} the best single model, ease: " in first
    assert f"The full ranker {full} popularity: " in second
    assert text_words(report)[0].startswith(text)
    assert ("may be noise" in first) == (row[1] < 0 < row[2])
    assert fairness_words(report)[0].endswith(apart)
    assert judged(row, "up", "down", "open") == {"b": "up", "i": "down", "c": "open"}[full[0]]


def test_the_best_single_model_is_no_ranker_and_named_once_where_it_is_popularity():
    report = report_with(0.01, 0.005, 0.02)
    assert best_single(report) == "ease"
    report["models"]["popularity"]["test"]["ndcg_at_10"] = 0.5
    assert len(quality_words(report)) == 1


def test_the_funnel_shares_the_loss_out_between_candidates_and_ranking():
    first, second = funnel_words(report_with(0, 0, 0))
    assert "70.0 are among the candidates and 20.0 among the first ten" in first
    assert "30.0 could be won by better candidates at most, 50.0 by better ranking" in first
    assert second == "The best source alone is ease: 50.0 of 100."


def test_groups_of_users_are_named_in_words():
    report = report_with(0.01, 0.005, 0.02)
    groups = {"best": "history_1_4", "worst": "history_20_plus", "gap": [0.01, 0.005, 0.02]}
    report["fairness"] = {"history": {"test": groups}}
    [said] = fairness_words(report)
    assert "users with 20 events or more are served worst, users with 1 to 4 events best" in said


def test_slices_that_are_empty_are_said_to_be():
    cold, unseen, untested = slice_words(report_with(0, 0, 0))
    assert "not tested here, and the smallest has 1,200 requests" in untested
    assert "1,200 requests are of users without any event: NDCG@10 0.0100" in cold
    assert unseen.startswith("No request is of items")


def test_numbers_have_the_digits_that_matter():
    assert [number(one) for one in (0.12345, 1234.56, None)] == ["0.1235", "1,234.6", "-"]
    assert interval([0.5, -0.25, 1], sign=True) == "+0.5000 [-0.2500, +1.0000]"


def test_what_is_tested_in_a_slice_is_told_with_its_interval():
    report = report_with(0, 0, 0)
    report["slices"]["unseen_catalogue"] = {"test": {"requests": 50, "differences": {
        "ranker_without_text": {"ndcg_at_10": [0.02, -0.01, 0.05]}}}}  # fmt: skip
    said = slice_words(report)
    assert "the smallest has 50 requests" in said[2]
    assert said[3].endswith("text gives +0.0200 [-0.0100, +0.0500] NDCG@10; may be noise.")


LOW = [{"mean": 0.001, "share": 0.001, "rows": 100_000}] * 8  # of ten bins


@pytest.mark.parametrize(
    ("said", "happened", "rows", "verdict"),
    [
        (0.1, 0.05, 2000, "(200): 2.0 times too high."),
        (0.05, 0.1, 2000, "(400): 2.0 times too low."),
        (0.1, 0.1, 2000, "(400): as said."),
        (0.1, 0.095, 2000, "(380): as said."),
        (0.1, 0.05, 20, "(2): 2.0 times too high, or noise."),
        (0.1, 0.09, 2000, "(360): 1.1 times too high."),  # 2.1 standard deviations
        (0.1, 0.09, 1000, "(180): 1.1 times too high, or noise."),  # 1.5
        (0.1, 0.0, 2000, "(0): too high."),
        (0.1, 0.0, 5, "(0): too high, or noise."),
    ],
)
def test_the_highest_probabilities_are_judged_by_their_ratio(said, happened, rows, verdict):
    high = {"mean": said, "share": happened, "rows": rows}
    [words] = high_words([*LOW, high, high])
    assert words.endswith(verdict)
    assert f"({2 * rows:,} candidates, the top 2 of 10 bins" in words
    assert f"{said:.3f} was said, {happened:.3f} happened" in words


def test_bins_weigh_as_many_candidates_as_they_have_and_none_say_nothing():
    bins = [*LOW, {"mean": 0.1, "share": 0.1, "rows": 3000}, {"mean": 0.3, "share": 0.2,
                                                              "rows": 1000}]  # fmt: skip
    [words] = high_words(bins)
    assert "0.150 was said, 0.125 happened (500): 1.2 times too high" in words
    assert high_words([]) == ()


def test_a_sample_of_requests_is_said_to_be_one():
    report = {"requests": {"requests": {"test": 1500}, "in_window": {"test": 5991}}}
    assert requests_words(report) == "1,500 of 5,991 requests, drawn by seed"
    report["requests"]["in_window"]["test"] = 1500
    assert requests_words(report) == "1,500 requests"
    del report["requests"]["in_window"]  # a report of an earlier version
    assert requests_words(report) == "1,500 requests"


def test_items_without_a_past_are_said_to_be_in_the_last_tenths():
    shares = {"catalogue": 0.3, "full": 0.45, "popularity": 0.6, "taken": 0.33}
    said = never_words({"exposure": {"never": {"test": shares}}})
    assert "30% of the catalogue, 33% of what was taken" in said
    assert "places in lists, 45% of full, 60% of popularity. Lists follow" in said
    assert never_words({"exposure": {}}).startswith("Items that had no event before the window")
