"""A run is found by what people call it, and only what is asked for is read."""

import shutil
import sys

import pytest
from mlflow import MlflowClient

from benchmarks.compare import keep_run, made_up
from pipelines import tracking
from pipelines.runs import fetch, find_runs, measured_again, other_seeds
from pipelines.settings import RunConfig, TrackingConfig
from recsys.errors import ConfigError


@pytest.fixture
def copy(store, tmp_path):
    """A store of one's own to change; the files that runs kept stay where they were."""
    shutil.copytree(store.config.run_dir, tmp_path / "run")
    return RunConfig(run_dir=tmp_path / "run")


def ids(config, *asked):
    return [run.run_id for run in find_runs(config, asked)]


def test_a_run_is_found_by_the_beginning_of_its_id(store):
    assert ids(store.config, store.better[:12], store.seeds[2]) == [store.better, store.seeds[2]]


def test_the_last_runs_come_oldest_first_and_none_twice(store):
    assert ids(store.config, "last 3") == [*store.seeds[3:], store.better]
    assert ids(store.config, store.better, "last 2") == [store.better, store.seeds[4]]


def test_a_model_stands_for_the_run_that_trained_it(copy, store):
    tracking.connect(copy)
    client = MlflowClient()
    client.create_registered_model("recommender")
    version = client.create_model_version(
        "recommender", f"runs:/{store.better}/m", run_id=store.better
    )
    client.set_registered_model_alias("recommender", "champion", version.version)
    for words in ("champion", "models:/recommender@champion", "models:/recommender/1"):
        [run] = find_runs(copy, [words])
        assert run.run_id == store.better and run.name == f"{words} = {store.better[:8]}"


def test_a_model_measured_again_is_found_by_the_run_that_trained_it(copy, store):
    outcome = made_up(store.prepared, "test", 0, 77)
    again = keep_run(copy, store.prepared, outcome, "v3", 0).name
    MlflowClient().set_tag(again, "model_run", store.elsewhere)
    [run] = find_runs(copy, [store.elsewhere])
    [other] = measured_again(copy, run)
    assert other.run_id == again and other.name == run.name and measured_again(copy, other) == []


def test_other_seeds_are_of_the_same_settings_and_the_same_requests(store):
    [run] = find_runs(store.config, store.seeds[:1])
    assert {one.run_id for one in other_seeds(store.config, run)} == set(store.seeds)
    [run] = find_runs(store.config, [store.better])
    assert [one.run_id for one in other_seeds(store.config, run)] == [store.better]


def test_only_the_files_that_are_asked_for_are_fetched(copy, store):
    shutil.rmtree(copy.run_dir / "reports")
    [run] = find_runs(copy, store.seeds[:1])
    folder = fetch(copy, run, ["report.json", "lists.parquet"])
    assert {path.name for path in folder.iterdir()} == {"report.json", "lists.parquet"}
    assert [path.name for path in (copy.run_dir / "reports").iterdir()] == [run.run_id]
    with pytest.raises(ConfigError, match=r"gone.parquet is neither in .* measure its model again"):
        fetch(copy, run, ["gone.parquet"])


@pytest.mark.parametrize(("words", "said"), [
    ("abcdef0123456789abcdef", "begins so; the last ones are"),
    ("winner", "winner: neither the beginning of a run's id nor a model"),
    ("models:/recommender/9", "neither the beginning of a run's id nor a model"),
])  # fmt: skip
def test_a_name_that_means_nothing_is_refused_with_what_there_is(store, words, said):
    with pytest.raises(ConfigError, match=said):
        find_runs(store.config, [words])


def test_a_store_that_no_training_made_is_not_made(tmp_path):
    with pytest.raises(ConfigError, match="no such model"):
        find_runs(RunConfig(run_dir=tmp_path / "new"), ["last 2"])
    assert not (tmp_path / "new").exists()


def test_a_child_run_and_a_run_without_results_are_no_runs_to_compare(copy):
    tracking.connect(copy)
    with tracking.run("tune ranker", {}) as run_id:
        pass
    with pytest.raises(ConfigError, match="'tune ranker' kept no results of its requests"):
        find_runs(copy, [run_id])
    assert run_id not in ids(copy, f"last {sys.maxsize % 50}")


def test_what_a_kill_left_at_work_is_killed_where_nobody_else_works(copy, store):
    tracking.connect(copy)
    client = MlflowClient()
    known = client.get_run(store.better).info.experiment_id
    left = client.create_run(known).info.run_id
    client.create_run(known)  # its child, say
    shared = copy.model_copy(update={"tracking": TrackingConfig(uri="sqlite:///elsewhere.db")})
    tracking.end_killed(shared)
    assert client.get_run(left).info.status == "RUNNING"
    tracking.end_killed(copy)
    found = client.search_runs([known])
    assert [run.info.status for run in found].count("KILLED") == 2
    assert client.get_run(store.better).info.status == "FINISHED"
    assert "RUNNING" not in {run.info.status for run in found}
