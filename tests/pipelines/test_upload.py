"""A training does not need its tracking server; `sync` brings everything there, once."""

import os
import signal
import socket
import subprocess
import sys
import time

import httpx
import mlflow
import pandas as pd
import pytest

from pipelines import tracking
from pipelines.config import changed
from pipelines.model import load_model
from pipelines.reproduce import reproduce
from pipelines.train import train
from pipelines.upload import REPRODUCES, sync
from recsys.errors import ConfigError

pytestmark = pytest.mark.slow


class Server:
    """A real `mlflow server` on a port of its own, which can be stopped and started again."""

    def __init__(self, folder):
        self.folder, self.process = folder, None
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.uri = f"http://127.0.0.1:{self.port}"

    def start(self):
        command = [sys.executable, "-m", "mlflow", "server", "--port", str(self.port), "--workers",
                   "1", "--backend-store-uri", f"sqlite:///{self.folder}/server.db",
                   "--artifacts-destination", str(self.folder / "kept")]  # fmt: skip
        env = os.environ | {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
        with (self.folder / "said").open("a") as said:
            self.process = subprocess.Popen(command, cwd=self.folder, env=env, stdout=said,
                                            stderr=said, start_new_session=True)  # fmt: skip
        until = time.monotonic() + 240
        while self.process.poll() is None and time.monotonic() < until:
            try:
                httpx.get(f"{self.uri}/health", timeout=5).raise_for_status()
                return
            except httpx.HTTPError:
                time.sleep(0.3)
        raise AssertionError((self.folder / "said").read_text()[-3000:])

    def stop(self):
        if self.process is not None and self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait(30)


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    one = Server(tmp_path_factory.mktemp("server"))
    yield one
    one.stop()


@pytest.fixture(scope="module")
def kept(small_world, server, tmp_path_factory):
    """A training whose server was down all the time: config, what it left, what was said."""
    run_dir = tmp_path_factory.mktemp("kept") / "run"
    at_server = small_world.config.tracking.model_copy(update={"uri": server.uri})
    config = small_world.config.model_copy(update={"run_dir": run_dir, "tracking": at_server})
    said = []
    return config, train(config, lambda *words: said.append(words[-1])), said


def on_server(config):
    """Run id -> run, as the server has them."""
    tracking.connect(config)
    client = mlflow.MlflowClient()
    experiment = client.get_experiment_by_name(config.tracking.experiment)
    return {run.info.run_id: run for run in client.search_runs([experiment.experiment_id])}, client


def test_without_its_server_a_training_ends_and_says_what_to_do(kept, small_world, server):
    config, trained, said = kept
    assert trained.model_uri == trained.alias == ""
    [careful] = [note for note in said if server.uri in note]
    assert "does not answer" in careful and f"recsys sync {config.run_dir}" in careful
    assert trained.report["models"] == small_world.trained.report["models"]
    assert (trained.folder / "report.json").exists()
    with pytest.raises(ConfigError, match="does not answer"):
        sync(config, lambda *_: None)
    with pytest.raises(ConfigError, match="does not answer"):
        tracking.find_model(config, "models:/recommender@champion")


def test_sync_brings_runs_curves_data_and_model_once(kept, server):
    config, trained, _ = kept
    server.start()
    made = sync(config, lambda *_: None)
    assert made[trained.run_id].uri == "models:/recommender/1"
    runs, client = on_server(config)
    parent = next(run for run in runs.values() if run.data.tags["recorded_as"] == trained.run_id)
    children = [run for run in runs.values()
                if run.data.tags.get("mlflow.parentRunId") == parent.info.run_id]  # fmt: skip
    assert {run.info.run_name for run in children} == {"encoder", "ranker", "evaluation"}
    assert {run.info.status for run in runs.values()} == {"FINISHED"}
    ndcg = trained.report["models"]["full"]["test"]["ndcg_at_10"]
    assert parent.data.metrics["test/ndcg_at_10"] == ndcg
    [encoder] = [run for run in children if run.info.run_name == "encoder"]
    curve = client.get_metric_history(encoder.info.run_id, "stopping/ndcg_at_10")
    assert [point.value for point in curve] == trained.report["encoder"]["curve"]
    assert len(parent.inputs.dataset_inputs) == 3
    listed = {file.path for file in client.list_artifacts(parent.info.run_id)}
    assert {"report.json", "config.toml", "requests.parquet"} <= listed
    registered, folder = tracking.find_model(config, "models:/recommender@champion")
    assert registered.run_id == parent.info.run_id
    assert load_model(folder).card.metrics["test/ndcg_at_10"] == ndcg
    described = (folder.parents[1] / "MLmodel").read_text()
    assert f"run_id: {parent.info.run_id}" in described
    [model] = mlflow.search_logged_models(output_format="list")
    linked = {metric.key: metric.value for metric in model.metrics}
    assert linked["test/ndcg_at_10"] == ndcg

    assert sync(config, lambda *_: None) == {}
    recorded = mlflow.MlflowClient(config.recording_uri)
    recorded.set_tag(trained.run_id, "uploaded", "")  # as if it had broken off at the end
    assert sync(config, lambda *_: None)[trained.run_id].version == "1"
    again, client = on_server(config)
    assert again.keys() == runs.keys()
    same = client.get_metric_history(parent.info.run_id, "test/ndcg_at_10")
    assert len(same) == 1
    assert len(mlflow.search_logged_models(output_format="list")) == 1


def test_a_run_that_is_trained_again_gives_the_same_numbers(kept, server, small_world, tmp_path):
    """From what the server has; the repetition is there too and is no version."""
    config, trained, _ = kept
    if server.process is None:
        server.start()
        sync(config, lambda *_: None)
    runs, client = on_server(config)
    [parent] = [run.info.run_id for run in runs.values()
                if run.data.tags["recorded_as"] == trained.run_id]  # fmt: skip
    done = reproduce(config, parent[:12], lambda *_: None)
    assert (done.unequal, done.changed, done.holds) == (0, [], True)
    assert done.compared > 100
    assert done.said() == [
        f"equal: all {done.compared:,} numbers of run {parent} came out again, in run {done.again}"
    ]
    runs, client = on_server(config)
    again = [run for run in runs.values() if run.data.tags.get(REPRODUCES) == parent]
    assert sum("mlflow.parentRunId" not in run.data.tags for run in again) == 1
    assert len(again) == 4  # with its children
    assert len(client.search_model_versions("name = 'recommender'")) == 1

    events = pd.read_parquet(small_world.folder / "events.parquet")
    events[:-50].to_parquet(tmp_path / "events.parquet")
    other = changed(config, [f'data.events="{tmp_path}/events.parquet"'])
    with pytest.raises(ConfigError, match="was trained on the data .*, here is the data"):
        reproduce(other, parent, lambda *_: None)
