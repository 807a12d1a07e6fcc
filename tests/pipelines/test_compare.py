"""Runs are compared on the same requests only, and what is said of them is so."""

import dataclasses
import shutil

import numpy as np
import pytest

from benchmarks.compare import keep_run, made_up
from features.catalogue import CATALOGUE
from pipelines import tracking
from pipelines.compare import compare_runs
from pipelines.compareverdict import slice_that_matters
from pipelines.config import changed
from pipelines.model import load_model
from pipelines.results import open_results
from pipelines.settings import RunConfig
from pipelines.train import train
from recsys.candidates import TEXT_SOURCES
from recsys.comparison import LEVEL
from recsys.errors import ConfigError


@pytest.fixture(scope="module")
def found(store):
    return compare_runs(store.config, [store.seeds[0], store.better, store.seeds[1]])


def test_a_far_better_run_is_called_better_and_another_seed_is_not(found):
    better, seed = found.others
    assert better.verdict == "better" and better.total.corrected < LEVEL
    assert seed.verdict in ("noise", "seed noise")
    assert found.best is better


def test_a_difference_is_that_of_the_means_that_the_runs_logged(found):
    for one in found.others:
        for some in one.differences[:5]:
            means = [side.run.metrics[f"test/{some.metric}"] for side in (found.base, one.other)]
            assert [some.base, some.other] == pytest.approx(means, abs=1e-6)
            assert some.difference == pytest.approx(means[1] - means[0], abs=1e-6)
            assert some.low <= some.difference <= some.high


def test_a_gain_within_what_seeds_do_is_noise_however_small_its_p(found):
    better = found.others[0]
    assert better.seed_runs == 5  # those of the base line; the other run has one seed only
    assert 0 < better.seed_spread < better.total.difference
    wider = dataclasses.replace(better, seed_spread=better.total.difference * 1.01)
    assert wider.verdict == "seed noise"
    unknown = dataclasses.replace(better, seed_spread=float("nan"))
    assert unknown.verdict == "better"


def test_the_mean_over_users_of_their_gains_has_the_sign_of_the_whole(found):
    assert len(found.others[0].per_user) == found.others[0].total.users
    assert found.others[0].per_user.mean() > 0


def test_settings_that_differ_are_named_and_places_are_not(found):
    assert found.others[0].settings == [("ranker.max_trees", "100", "101")]
    assert found.others[1].settings == [("seed", "0", "1")]


def test_a_run_on_other_requests_is_refused_with_what_differs(store):
    with pytest.raises(ConfigError) as refused:
        compare_runs(store.config, [store.seeds[0], store.elsewhere])
    windows = [open_results(store.config.run_dir / "reports" / run).manifest.windows["test"]
               for run in (store.seeds[0], store.elsewhere)]  # fmt: skip
    said = str(refused.value)
    assert "was measured on other requests" in said and "data " in said
    assert f"requests {windows[0].requests} against {windows[1].requests}" in said
    assert "recsys evaluate --model" in said


def test_of_the_last_runs_those_on_other_requests_are_left_out_with_a_word(store):
    found = compare_runs(store.config, [store.seeds[0], "last 20"])
    assert [one.other.run.run_id for one in found.others] == [*store.seeds[1:], store.better]
    assert len(found.left_out) == 1 and store.elsewhere[:8] in found.left_out[0]


@pytest.mark.parametrize(("asked", "said"), [
    ({"metric": "auc"}, "--metric auc: run .* has ndcg_at_10, hr_at_10"),
    ({"window": "valid"}, "--window valid: run .* has test"),
    ({"model": "als"}, "--model als: run .* has full, popularity"),
])  # fmt: skip
def test_what_a_run_has_not_measured_is_refused_in_words(store, asked, said):
    with pytest.raises(ConfigError, match=said):
        compare_runs(store.config, store.seeds[:2], **asked)


def test_another_metric_and_another_model_can_be_asked_for(store):
    found = compare_runs(store.config, store.seeds[:2], metric="mrr_at_10", model="popularity")
    assert found.others[0].total.metric == "mrr_at_10"
    rows = [open_results(store.config.run_dir / "reports" / run).table(
        "requests", window="test", model="popularity")["mrr_at_10"].to_numpy().astype(float)
        for run in store.seeds[:2]]  # fmt: skip
    assert found.others[0].total.difference == pytest.approx(np.mean(rows[1] - rows[0]), abs=1e-9)


def test_the_same_question_has_the_same_answer(store, found):
    again = compare_runs(store.config, [store.seeds[0], store.better, store.seeds[1]])
    assert [one.differences for one in again.others] == [one.differences for one in found.others]


def test_a_run_that_loses_one_category_is_worse_and_that_slice_is_named(store, tmp_path):
    shutil.copytree(store.config.run_dir, tmp_path / "run")
    config = RunConfig(run_dir=tmp_path / "run")
    outcome = made_up(store.prepared, "test", 4, 10)  # as the better run is made up
    lost = store.prepared.items().category[outcome.item] == 0
    full = np.where(lost, np.inf, outcome.rank["full"])
    outcome = dataclasses.replace(outcome, rank=outcome.rank | {"full": full})
    worse = keep_run(config, store.prepared, outcome, "v2", 0).name
    [one] = compare_runs(config, [store.better, worse]).others
    assert one.verdict == "worse" and one.total.difference < 0
    assert slice_that_matters(one).name == "category = kind 0"
    others = [some for some in one.differences if some.column == "category"][1:]
    assert others and all(abs(some.difference) < 0.1 for some in others)


@pytest.mark.slow
def test_trained_runs_are_compared_with_what_was_changed_and_what_they_cost(small_world, tmp_path):
    """One without text, in a store of its own; 53 users are too few to tell them apart."""
    shutil.copytree(small_world.config.run_dir, tmp_path / "run")
    config = small_world.config.model_copy(update={"run_dir": tmp_path / "run"})
    without = train(changed(config, ["features.text=false"]), lambda *_: None)
    found = compare_runs(config, [small_world.trained.run_id, without.run_id])
    [one] = found.others
    names = {name for name, *_ in one.settings}
    assert names == {"features.text"}
    model = load_model(tracking.find_model(config, "models:/recommender@challenger")[1])
    reads = {feature.name for feature in CATALOGUE if feature.text}
    assert reads.isdisjoint(model.card.features) and not reads.isdisjoint(
        load_model(tracking.find_model(config, "models:/recommender@champion")[1]).card.features
    )
    assert all(not model.card.candidates.quotas[name] for name in TEXT_SOURCES)
    assert one.other.cost["training_s"] > 0 and one.users and 0 < one.change.churn < 1
    means = [
        some.report["models"]["full"]["test"]["ndcg_at_10"] for some in (found.base, one.other)
    ]
    assert one.total.difference == pytest.approx(means[1] - means[0], abs=1e-6)
