"""The door to MLflow's runs: parameters, metrics, curves, data sets, artifacts; finding models.

A run is written into a database in the run folder while it works, also where `tracking.uri` names a
server: what is slow or gone there holds nothing up. `pipelines.upload` brings it to the server.
"""

from __future__ import annotations

import contextlib
import logging
import os
import tempfile
import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")  # nothing leaves the machine
# MLflow would wait 120 s for an answer and try eight times, half an hour for one that hangs
os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "30")
os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")
os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")  # we show our own
os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")

import httpx
import mlflow
import numpy as np
from mlflow import MlflowClient
from mlflow.data.dataset import Dataset
from mlflow.data.dataset_source_registry import resolve_dataset_source
from mlflow.data.meta_dataset import MetaDataset
from mlflow.entities import Metric, Run
from mlflow.exceptions import MlflowException

from pipelines.settings import RunConfig
from recsys.address import shown, without_secrets
from recsys.errors import ConfigError

CHAMPION, CHALLENGER, PREVIOUS = "champion", "challenger", "previous"  # aliases

MOST_POINTS = 200  # of a curve
MOST_NAMED = 10  # versions of a model, the newest
NAME_ONE = "name one as models:/NAME@champion or models:/NAME/VERSION, or run 'recsys train'"


@dataclass(frozen=True)
class Registered:
    """A version in the model registry."""

    uri: str  # models:/NAME/VERSION
    name: str
    version: str
    alias: str
    run_id: str


@dataclass(frozen=True)
class DataSet:
    """A table that a run read, as MLflow shows it; of the table itself nothing is kept."""

    name: str
    source: str  # path or URI
    digest: str
    context: str  # training, validation or test


def connect(config: RunConfig, to_record: bool = False) -> None:
    """Point MLflow at the configured store and experiment, making them if they are new.

    Args:
        config: of the run.
        to_record: at the store that runs are written into while they work, see
            `RunConfig.recording_uri`.

    Raises:
        ConfigError: it does not answer.
    """
    config.run_dir.mkdir(parents=True, exist_ok=True)
    quiet()
    uri = config.recording_uri if to_record else config.tracking_uri
    mlflow.set_tracking_uri(uri)
    mlflow.set_registry_uri(uri)
    name = config.tracking.experiment
    try:
        if mlflow.get_experiment_by_name(name) is None:
            local = uri.startswith("sqlite:")
            place = (config.run_dir / "artifacts").resolve().as_uri() if local else None
            mlflow.create_experiment(name, artifact_location=place)
        mlflow.set_experiment(name)
    except MlflowException as error:
        said = without_secrets((str(error).splitlines() or [""])[0])[:200]
        raise ConfigError(
            f"tracking.uri: {shown(uri)} does not answer ({said}); start it, or correct the address"
        ) from error


def end_killed(config: RunConfig) -> None:
    """Say of runs that are still at work in this run folder's own store that they were killed.

    Whoever calls holds the run folder, so nobody can be at work in it.
    """
    if config.recording_uri != config.own_uri:
        return  # others may be at work there
    client = MlflowClient(config.own_uri)
    known = client.get_experiment_by_name(config.tracking.experiment)
    ids = [] if known is None else [known.experiment_id]
    for left in client.search_runs(ids, "attributes.status = 'RUNNING'") if ids else ():
        client.set_terminated(left.info.run_id, "KILLED")


def quiet() -> None:
    """Let MLflow and its database say errors only."""
    for name in ("mlflow", "alembic"):
        logging.getLogger(name).setLevel(logging.ERROR)


@contextlib.contextmanager
def run(
    name: str, tags: Mapping[str, str], nested: bool = False, again: str | None = None
) -> Iterator[str]:
    """Open a run (a child of the open one if `nested`) and yield its id.

    MLflow samples the machine (processor, memory, disk, network, GPU) for the outer run.
    With `again`, a tag's name, the last run of this name and that tag goes on, if there is one.
    """
    known = None if again is None else _last_run(name, again, tags[again])
    with mlflow.start_run(
        known, run_name=name, nested=nested, tags=dict(tags), log_system_metrics=not nested
    ) as active:
        yield str(active.info.run_id)


def _last_run(name: str, tag: str, value: str) -> str | None:
    """Find the newest run of the experiment by its name and a tag."""
    asked = f"attributes.run_name = '{name}' and tags.`{tag}` = '{value}'"
    found: list[Run] = mlflow.search_runs(filter_string=asked, max_results=1, output_format="list")
    return str(found[0].info.run_id) if found else None


def log_params(params: Mapping[str, object]) -> None:
    """Log a few short parameters; the whole config belongs in an artifact."""
    mlflow.log_params({key: str(value)[:250] for key, value in params.items()})


def log_tags(tags: Mapping[str, str]) -> None:
    """Set tags of the open run."""
    mlflow.set_tags(dict(tags))


def log_metrics(
    metrics: Mapping[str, float | None],
    step: int | None = None,
    model: str | None = None,
    data: DataSet | None = None,
) -> None:
    """Log metrics; None and NaN are left out.

    Args:
        metrics: name -> value.
        step: of a curve.
        model: id of the logged model that they are of.
        data: what they were measured on.
    """
    finite = {key: value for key, value in metrics.items() if value is not None and value == value}
    dataset = None if data is None else _as_dataset(data)
    mlflow.log_metrics(finite, step=step, model_id=model, dataset=dataset)


def log_curve(name: str, values: Sequence[float], steps: Sequence[int] | None = None) -> None:
    """Log one metric with a value a step, from step 0; of a long curve MOST_POINTS, the last too.

    Args:
        name: of the metric.
        values: (n,).
        steps: (n,) of the values, else 0, 1, 2, ...
    """
    at = np.unique(np.linspace(0, len(values) - 1, min(len(values), MOST_POINTS)).round())
    steps, now = range(len(values)) if steps is None else steps, int(time.time() * 1000)
    points = [Metric(name, values[i], now, steps[i]) for i in at.astype(int).tolist()]
    active = mlflow.active_run()
    if points and active is not None:
        MlflowClient().log_batch(active.info.run_id, metrics=points)


def log_data(datasets: Sequence[DataSet]) -> None:
    """Log what the open run reads."""
    for one in datasets:
        mlflow.log_input(_as_dataset(one), context=one.context)


def _as_dataset(data: DataSet) -> Dataset:
    """Describe a table in MLflow's words; nothing is read."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # several of MLflow's kinds of source can mean one path
        source = resolve_dataset_source(data.source)
    described: Any = MetaDataset  # its abstract `profile` is never filled in
    made: Dataset = described(source, name=data.name, digest=data.digest)
    return made


def log_folder(folder: Path) -> None:
    """Log a folder's files as artifacts of the open run."""
    mlflow.log_artifacts(str(folder))


def asked_model(config: RunConfig, uri: str | None) -> str:
    """Return the URI of the model to use, the champion if none is named; nothing is made.

    Raises:
        ConfigError: the store is a database that no training has made yet.
    """
    uri = uri or f"models:/{config.tracking.model}@{CHAMPION}"
    file = Path(config.tracking_uri.removeprefix("sqlite:///"))
    if config.tracking_uri.startswith("sqlite:///") and not file.exists():
        raise ConfigError(
            f"{uri}: no such model in {config.shown_tracking_uri}; it holds none, {NAME_ONE}"
        )
    return uri


def find_model(config: RunConfig, uri: str) -> tuple[Registered, Path]:
    """Resolve a model URI (an alias or a version) and return it with its local folder.

    Nothing is made where no training made a store before.

    Raises:
        ConfigError: the registry holds no such model.
    """
    uri = asked_model(config, uri)
    connect(config)
    client = MlflowClient()
    name, _, asked = uri.removeprefix("models:/").replace("@", "/").partition("/")
    try:
        by_alias = "@" in uri
        found = (client.get_model_version_by_alias(name, asked) if by_alias
                 else client.get_model_version(name, asked))  # fmt: skip
        folder = _here(config, str(found.source))
    except (MlflowException, OSError, AttributeError) as error:
        raise ConfigError(
            f"{uri}: no such model in {config.shown_tracking_uri}; it holds {_held(client)}, "
            + NAME_ONE
        ) from error
    resolved = f"models:/{name}/{found.version}"
    alias = asked if by_alias else ""
    registered = Registered(resolved, name, str(found.version), alias, str(found.run_id))
    return registered, folder / "data" / "model" if (folder / "data").exists() else folder


def _held(client: MlflowClient) -> str:
    """Name the models of the registry, with their newest versions and aliases."""
    found = []
    for model in client.search_registered_models():
        versions = client.search_model_versions(f"name = '{model.name}'", max_results=MOST_NAMED)
        aliases = "".join(f", {alias} = {version}" for alias, version in model.aliases.items())
        numbers = ", ".join(str(one.version) for one in versions)
        found.append(f"{model.name} (versions {numbers or 'none'}{aliases})")
    return ", ".join(found) or "none"


def _here(config: RunConfig, source: str) -> Path:
    """Return a version's folder: where a registry in a file keeps it, else fetched once."""
    if config.tracking_uri.startswith("sqlite:"):
        return Path(mlflow.artifacts.download_artifacts(artifact_uri=source))
    place = config.run_dir / "models" / source.replace(":", "-").replace("/", "-")
    if not place.exists():
        place.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=place.parent) as half:
            mlflow.artifacts.download_artifacts(artifact_uri=source, dst_path=half)
            Path(half).rename(place)
            Path(half).mkdir()  # which the block removes
    return place


def reach(config: RunConfig) -> str:
    """Say what is at the configured store; nothing is made there.

    Raises:
        ConfigError: it does not answer.
    """
    uri = config.tracking_uri
    file = Path(uri.removeprefix("sqlite:///"))
    if uri.startswith("sqlite:///") and not file.exists():
        return f"{shown(uri)}: made by the first training"
    try:
        if uri.startswith(("http://", "https://")):
            httpx.get(f"{uri.rstrip('/')}/health", timeout=5).raise_for_status()
            return f"{shown(uri)} answers"
        logging.getLogger("mlflow").setLevel(logging.ERROR)
        models = MlflowClient(uri, uri).search_registered_models()
    except Exception as error:  # of httpx, MLflow or the database below it: all say the same here
        first = without_secrets((str(error).splitlines() or [""])[0])
        raise ConfigError(
            f"tracking.uri: {shown(uri)} does not answer ({first}); "
            "start it, or correct the address"
        ) from error
    return f"{shown(uri)}: {len(models)} registered models"
