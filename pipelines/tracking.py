"""The one door to MLflow: runs, metrics, artifacts, the model registry."""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")  # nothing leaves the machine

import httpx
import mlflow
from mlflow import MlflowClient
from mlflow.entities import Run
from mlflow.exceptions import MlflowException

from pipelines.settings import RunConfig
from recsys.errors import ConfigError

CHAMPION, CHALLENGER = "champion", "challenger"

NAME_ONE = "name one as models:/NAME@champion or models:/NAME/VERSION, or run 'recsys train'"


@dataclass(frozen=True)
class Registered:
    """A version in the model registry."""

    uri: str  # models:/NAME/VERSION
    name: str
    version: str
    alias: str
    run_id: str


def connect(config: RunConfig) -> None:
    """Point MLflow at the configured store and experiment, making them if they are new."""
    config.run_dir.mkdir(parents=True, exist_ok=True)
    for name in ("mlflow", "alembic"):
        logging.getLogger(name).setLevel(logging.ERROR)
    mlflow.set_tracking_uri(config.tracking_uri)
    mlflow.set_registry_uri(config.tracking_uri)
    name = config.tracking.experiment
    if mlflow.get_experiment_by_name(name) is None:
        local = config.tracking_uri.startswith("sqlite:")
        place = (config.run_dir / "artifacts").resolve().as_uri() if local else None
        mlflow.create_experiment(name, artifact_location=place)
    mlflow.set_experiment(name)


@contextlib.contextmanager
def run(
    name: str, tags: Mapping[str, str], nested: bool = False, again: str | None = None
) -> Iterator[str]:
    """Open a run (a child of the open one if `nested`) and yield its id.

    With `again`, a tag's name, the last run of this name and that tag goes on, if there is one.
    """
    known = None if again is None else _last_run(name, again, tags[again])
    with mlflow.start_run(known, run_name=name, nested=nested, tags=dict(tags)) as active:
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


def log_metrics(metrics: Mapping[str, float | None], step: int | None = None) -> None:
    """Log metrics; None and NaN are left out."""
    finite = {key: value for key, value in metrics.items() if value is not None and value == value}
    mlflow.log_metrics(finite, step=step)


def log_curve(name: str, values: list[float]) -> None:
    """Log one metric with a value a step, from step 0."""
    for step, value in enumerate(values):
        mlflow.log_metric(name, value, step=step)


def log_folder(folder: Path) -> None:
    """Log a folder's files as artifacts of the open run."""
    mlflow.log_artifacts(str(folder))


def log_model(folder: Path, config: RunConfig) -> Registered:
    """Log a model folder as a pyfunc and register it; the first version becomes champion."""
    name = config.tracking.model
    logged = mlflow.pyfunc.log_model(
        name="model",
        loader_module="pipelines.pyfunc",
        data_path=str(folder),
        pip_requirements=["recsys-text[train]"],
    )
    client = MlflowClient()
    with contextlib.suppress(MlflowException):  # it is there from an earlier run
        client.create_registered_model(name)
    version = client.create_model_version(
        name, logged.model_uri, run_id=logged.run_id, model_id=logged.model_id
    )
    aliases = client.get_registered_model(name).aliases
    alias = CHALLENGER if CHAMPION in aliases else CHAMPION
    client.set_registered_model_alias(name, alias, version.version)
    uri = f"models:/{name}/{version.version}"
    return Registered(uri, name, str(version.version), alias, str(version.run_id))


def asked_model(config: RunConfig, uri: str | None) -> str:
    """Return the URI of the model to use, the champion if none is named; nothing is made.

    Raises:
        ConfigError: the store is a database that no training has made yet.
    """
    uri = uri or f"models:/{config.tracking.model}@{CHAMPION}"
    file = Path(config.tracking_uri.removeprefix("sqlite:///"))
    if config.tracking_uri.startswith("sqlite:///") and not file.exists():
        raise ConfigError(
            f"{uri}: no such model in {config.tracking_uri}; it holds none, {NAME_ONE}"
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
        folder = Path(mlflow.artifacts.download_artifacts(artifact_uri=found.source))
    except (MlflowException, OSError, AttributeError) as error:
        known = [model.name for model in client.search_registered_models()]
        raise ConfigError(
            f"{uri}: no such model in {config.tracking_uri}; it holds {known or 'none'}, "
            + NAME_ONE
        ) from error
    resolved = f"models:/{name}/{found.version}"
    alias = asked if by_alias else ""
    registered = Registered(resolved, name, str(found.version), alias, str(found.run_id))
    return registered, folder / "data" / "model" if (folder / "data").exists() else folder


def reach(config: RunConfig) -> str:
    """Say what is at the configured store; nothing is made there.

    Raises:
        ConfigError: it does not answer.
    """
    uri = config.tracking_uri
    file = Path(uri.removeprefix("sqlite:///"))
    if uri.startswith("sqlite:///") and not file.exists():
        return f"{uri}: made by the first training"
    try:
        if uri.startswith(("http://", "https://")):
            httpx.get(f"{uri.rstrip('/')}/health", timeout=5).raise_for_status()
            return f"{uri} answers"
        logging.getLogger("mlflow").setLevel(logging.ERROR)
        models = MlflowClient(uri, uri).search_registered_models()
    except Exception as error:  # of httpx, MLflow or the database below it: all say the same here
        first = (str(error).splitlines() or [""])[0]
        raise ConfigError(
            f"tracking.uri: {uri} does not answer ({first}); start it, or correct the address"
        ) from error
    return f"{uri}: {len(models)} registered models"
