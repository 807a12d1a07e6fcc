"""What a training leaves in MLflow can be read there: few columns, curves, data, one model."""

import json
from pathlib import Path

import mlflow
import pytest

from pipelines import tracking
from pipelines.config import load_toml
from pipelines.prepared import open_prepared
from pipelines.registration import MOST_CHANGED, data_name, datasets, shown_params
from pipelines.run import Run, method_of
from pipelines.settings import RunConfig
from pipelines.stages import Stages

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def runs(small_world):
    """Name -> run: the parent and its children."""
    tracking.connect(small_world.config)
    client, run_id = mlflow.MlflowClient(), small_world.trained.run_id
    parent = client.get_run(run_id)
    children = client.search_runs(
        [parent.info.experiment_id], f"tags.`mlflow.parentRunId` = '{run_id}'"
    )
    return {"parent": parent} | {one.info.run_name: one for one in children}


def test_data_elsewhere_is_named_without_what_nobody_may_read():
    source = "s3://key:hidden@shop/events?endpoint_override=here"
    config = RunConfig.model_validate({"data": {"events": source}})
    named = {one.source for one in datasets(config, "fingerprint").values()}
    assert named == {"s3://shop/events"}


@pytest.mark.parametrize(
    ("source", "name"),
    [("s3://key:hidden@shop/2026/events.csv", "2026"), ("data/ifdb/events.csv", "ifdb"),
     ("a.csv", "")],
)  # fmt: skip
def test_data_has_the_name_of_its_folder(source, name):
    assert data_name(RunConfig.model_validate({"data": {"events": source}})) == name
    assert data_name(RunConfig()) == ""


def test_a_training_is_one_run_with_three_below(runs):
    assert runs.keys() == {"parent", "encoder", "ranker", "evaluation"}
    for run in runs.values():
        tags = {"git_commit", "data_fingerprint", "config_fingerprint", "protocol"}
        assert run.data.tags.keys() >= tags and run.info.status == "FINISHED"


def test_the_table_of_runs_has_fewer_than_40_metrics_and_40_parameters(runs):
    metrics, params = (set().union(*(getattr(run.data, kind) for run in runs.values()))
                       for kind in ("metrics", "params"))  # fmt: skip
    system = {name for name in metrics if name.startswith("system/")}
    assert len(metrics - system) > 15 and 8 < len(params) < 40
    assert len(metrics - system) + 8 < 40  # MLflow samples eight, and none in a short run
    assert not [name for name in metrics if "@" in name]
    headline = runs["parent"].data.metrics["test/ndcg_at_10"]
    assert 0 < headline < 1


def test_curves_have_a_value_a_step(runs, small_world):
    tracking.connect(small_world.config)
    report, client = small_world.trained.report, mlflow.MlflowClient()
    for child, name, least in (("encoder", "stopping/ndcg_at_10", len(report["encoder"]["curve"])),
                               ("encoder", "train/loss", 3),
                               ("ranker", "full/stopping_ndcg_at_10", 3)):  # fmt: skip
        history = client.get_metric_history(runs[child].info.run_id, name)
        steps = [point.step for point in history]
        assert len(steps) >= least and sorted(set(steps)) == sorted(steps), name


def test_the_data_is_named_with_its_digest_and_metrics_hang_on_model_and_data(runs, small_world):
    tracking.connect(small_world.config)
    inputs = runs["parent"].inputs.dataset_inputs
    digest = runs["parent"].data.tags["data_fingerprint"]
    contexts = {tag.value for one in inputs for tag in one.tags if tag.key.endswith("context")}
    assert contexts == {"training", "validation", "test"}
    assert {one.dataset.digest for one in inputs} == {digest}
    assert all(str(small_world.folder / "events.parquet") in one.dataset.source for one in inputs)
    found = mlflow.search_logged_models(output_format="list")
    [model] = [one for one in found if one.source_run_id == small_world.trained.run_id]
    of_test = {metric.key for metric in model.metrics if metric.dataset_name == "events, test"}
    assert "test/ndcg_at_10" in of_test and "valid/ndcg_at_10" not in of_test


def test_the_logged_config_runs_again(small_world):
    folder = Path(small_world.trained.folder)
    logged = json.loads((folder / "config.json").read_text())
    again = load_toml(RunConfig, folder / "config.toml")
    assert again == small_world.config == RunConfig.model_validate(logged)


def test_however_many_settings_were_changed_the_parameters_stay_few(small_world):
    ranker = {name: value * 2 for name, value in small_world.config.ranker.model_dump().items()
              if type(value) is int}  # fmt: skip
    heads = {"trees": 7, "leaves": 3, "min_rows_in_leaf": 9, "max_requests": 5}
    state = {"every_days": 3, "popularity_days": 3.0, "pair_distance": 3, "neighbours": 3}
    training = {"batch_events": 3, "ridge": 3.0, "replay": 0.5, "refit_epochs": 7, "max_epochs": 9}
    config = small_world.config
    for section, values in (("ranker", ranker), ("heads", heads), ("state", state),
                            ("training", training)):  # fmt: skip
        changed = getattr(config, section).model_copy(update=values)
        config = config.model_copy(update={section: changed})
    prepared = open_prepared(small_world.config.run_dir / "prepared")
    run = Run(config, prepared, method_of(config, prepared), Stages(), lambda *_: None)
    params = shown_params(run)
    bring = [name for name, quota in config.candidates.quotas.items() if quota]
    assert params["sources"].split(", ") == bring and len(bring) > 3
    assert len([name for name in params if "." in name]) == MOST_CHANGED
    assert params["also_changed"].count(", ") >= 1 and len(params) < 40
