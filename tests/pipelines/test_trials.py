"""The best of all trials, how sure that is, and what of it goes into a config file."""

import csv
import tomllib

import numpy as np
import pytest

from pipelines.trials import Trial, choose, section_toml, settings_table, verdict, write_trials
from recsys.evaluation import paired_interval
from recsys.ranker import RankerConfig

USER = np.arange(40) // 2


def trial(number, ndcg, **settings):
    """Make a trial of 40 requests; one number is every request's."""
    values = np.broadcast_to(np.asarray(ndcg, float), 40)
    return Trial(number, settings or {"leaves": 31 + number}, values, 10 + number, 0.5 * number)


def test_the_best_is_the_first_of_the_highest_and_trial_0_if_none_is_higher():
    assert choose([trial(0, 0.1), trial(1, 0.3), trial(2, 0.3)], USER, 0, 50).best.number == 1
    kept = choose([trial(0, 0.3), trial(1, 0.3), trial(2, 0.2)], USER, 0, 50)
    assert (kept.best.number, kept.difference, kept.is_clear) == (0, 0.0, False)
    assert verdict(kept) == "no trial is better than the config as it is: keep it"


def test_the_interval_is_paired_over_users():
    rng = np.random.default_rng(0)
    now, best = rng.random(40), rng.random(40) + 0.1
    choice = choose([trial(0, now), trial(1, best)], USER, 7, 200)
    expected = paired_interval(best, now, USER, np.random.default_rng(7), 200)
    assert (choice.difference, choice.low, choice.high) == pytest.approx(expected)


def test_the_best_is_taken_only_if_it_is_clearly_better():
    now = np.linspace(0, 1, 40)
    everywhere = choose([trial(0, now), trial(1, now + 0.01)], USER, 0, 200)
    assert everywhere.is_clear and "+0.0100 [+0.0100, +0.0100]" in verdict(everywhere)
    assert "train with it" in verdict(everywhere)
    one_user = choose([trial(0, now), trial(1, now + (USER == 3))], USER, 0, 200)
    assert one_user.difference == pytest.approx(1 / 20) and one_user.low == 0
    assert not one_user.is_clear and "keep the config as it is" in verdict(one_user)


def test_the_section_is_the_config_again():
    config = RankerConfig(
        leaves=12, max_trees=40, label_gain=(0.0, 1.0, 5.0), model='a\\b "c"', refit=False,
        monotone={"interest": 1, "pair_due": -1},
    )  # fmt: skip
    section = tomllib.loads(section_toml("ranker", config, ("leaves", "l2")))["ranker"]
    assert RankerConfig(**section) == config
    changed = {"max_trees", "label_gain", "model", "refit", "monotone"}
    assert section.keys() == changed | {"leaves", "l2"}


def test_the_table_names_every_setting_now_and_at_best():
    trials = [trial(0, 0.1, leaves=31, l2=50.0), trial(1, 0.2, leaves=7, l2=0.25)]
    table = settings_table(trials, choose(trials, USER, 0, 50), "ranker", "trees", "40 requests",
                           {"l2": 0.75})  # fmt: skip
    columns = [list(column.cells) for column in table.columns]
    assert columns[:3] == [["leaves", "l2", "NDCG@10", "trees", "seconds"],
                           ["31", "50", "0.1000", "10", "0.0"],
                           ["7", "0.25", "0.2000", "11", "0.5"]]  # fmt: skip
    assert columns[3][:2] == ["", "0.75"]
    assert "40 requests" in table.title


def test_what_was_given_up_is_counted_but_has_no_score(tmp_path):
    gone = Trial(2, {"leaves": 3}, np.zeros(0), 5, 0.1)
    trials = [trial(0, 0.1), trial(1, 0.2), gone]
    choice = choose(trials, USER, 0, 50)
    assert choice.best.number == 1
    table = settings_table(trials, choice, "ranker", "trees", "40 requests", {})
    assert table.title == "3 trials, 1 given up early; 40 requests"
    write_trials(trials, "trees", tmp_path / "trials.csv")
    assert (tmp_path / "trials.csv").read_text().splitlines()[-1] == "2,3,,5,0.1"


def test_every_trial_is_a_row(tmp_path):
    write_trials([trial(0, 0.25), trial(1, 0.5)], "trees", tmp_path / "new" / "trials.csv")
    with (tmp_path / "new" / "trials.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert rows == [
        {"trial": "0", "leaves": "31", "ndcg_at_10": "0.25", "trees": "10", "seconds": "0.0"},
        {"trial": "1", "leaves": "32", "ndcg_at_10": "0.5", "trees": "11", "seconds": "0.5"},
    ]
