"""The door to MLflow's model registry: a model folder is logged, becomes a version, gets aliases.

A logged model is what `mlflow models serve` and `mlflow.pyfunc.load_model` take: the folder, our
code as it was, the exact versions of what that imports, and what goes in and comes out.
"""

from __future__ import annotations

import contextlib
import re
import tempfile
from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path
from typing import Any

import mlflow
import mlflow.pyfunc
import pandas as pd
from mlflow import MlflowClient
from mlflow.entities import LoggedModelOutput, LoggedModelStatus
from mlflow.exceptions import MlflowException
from mlflow.models import Model, ModelSignature
from mlflow.types import ColSpec, DataType, ParamSchema, ParamSpec, Schema

from pipelines.settings import RunConfig
from pipelines.tracking import CHALLENGER, CHAMPION, NAME_ONE, Registered, connect
from recsys.errors import ConfigError

OURS = ("recsys", "features", "pipelines")  # packages that a served model runs
PARAMS = ParamSchema([
    ParamSpec("k", DataType.long, 10), ParamSpec("events", DataType.string, ""),
    ParamSpec("as_of", DataType.string, ""),
])  # fmt: skip
ANSWER = {
    "user_id": "", "rank": "long", "item_id": "", "score": "float", "probability": "float",
    "source": "string", "reason": "string", "drivers": "string", "is_fallback": "boolean",
}  # fmt: skip


def log_model(
    folder: Path, users: Sequence[Any], items: Sequence[Any], params: Mapping[str, Any],
    extras: Sequence[str] = (),
) -> str:  # fmt: skip
    """Log a model folder under the open run; return the model's id.

    MLflow's own `log_model` would load the model once more, to try the example.

    Args:
        folder: of `pipelines.model.save_model`.
        users: a few ids, for the example and the kind of an id.
        items: at least one id, for its kind.
        params: a few short ones, shown beside the model.
        extras: of ours, that loading it needs beside `train`.
    """
    active, client = mlflow.active_run(), MlflowClient()
    assert active is not None
    run_id = active.info.run_id
    model = client.create_logged_model(
        active.info.experiment_id, name="model", source_run_id=run_id, model_type="recommender",
        params={name: str(value)[:250] for name, value in params.items()},
    )  # fmt: skip
    with tempfile.TemporaryDirectory() as place:
        described = Model(artifact_path=model.artifact_location, run_id=run_id,
                          model_uuid=model.model_id, model_id=model.model_id)  # fmt: skip
        mlflow.pyfunc.save_model(
            str(Path(place) / "model"), loader_module="pipelines.pyfunc", data_path=str(folder),
            code_paths=[str(Path(__file__).parents[1] / name) for name in OURS],
            signature=signature(_kind(users), _kind(items)),
            input_example=pd.DataFrame({"user_id": list(users)}),
            pip_requirements=requirements(["train", *extras]), mlflow_model=described,
        )  # fmt: skip
        client.log_model_artifacts(model.model_id, str(Path(place) / "model"))
    client.log_outputs(run_id, [LoggedModelOutput(model.model_id, step=0)])
    client.finalize_logged_model(model.model_id, LoggedModelStatus.READY)
    return str(model.model_id)


def signature(user_kind: str, item_kind: str) -> ModelSignature:
    """Say what goes in and comes out; ids are "string" or "long"."""
    kinds = ANSWER | {"user_id": user_kind, "item_id": item_kind}
    asked: list[Any] = [ColSpec(user_kind, "user_id"), ColSpec("long", "k", required=False)]
    answer: list[Any] = [ColSpec(kind, name, required=name != "probability")
                         for name, kind in kinds.items()]  # fmt: skip
    return ModelSignature(Schema(asked), Schema(answer), PARAMS)


def requirements(extras: Sequence[str]) -> list[str]:
    """Pin what we need, with these extras, to the versions that are installed.

    We are not among it: the model has our code with it.
    """
    pins = set()
    for line in requires("recsys-text") or ():
        name, marker = re.split(r"[^\w.-]", line, maxsplit=1)[0], line.partition(";")[2]
        if "extra" not in marker or any(f'"{extra}"' in marker for extra in extras):
            with contextlib.suppress(PackageNotFoundError):
                pins.add(f"{name}=={version(name).partition('+')[0]}")  # no +cpu of torch
    return sorted(pins)


def register(name: str, run_id: str, model_id: str) -> Registered:
    """Make a logged model a version; the first of a name becomes champion, others challenger.

    Raises:
        ConfigError: the registry refuses.
    """
    client = MlflowClient()
    try:
        with contextlib.suppress(MlflowException):  # it is there from an earlier run
            client.create_registered_model(name)
        made = client.create_model_version(
            name, f"models:/{model_id}", run_id=run_id, model_id=model_id
        )
        alias = CHALLENGER if CHAMPION in client.get_registered_model(name).aliases else CHAMPION
        client.set_registered_model_alias(name, alias, made.version)
    except MlflowException as error:
        raise ConfigError(
            f"the registry at {mlflow.get_registry_uri()} refuses a version of {name} "
            f"({first_line(error)})"
        ) from error
    return Registered(f"models:/{name}/{made.version}", name, str(made.version), alias, run_id)


def version_of_run(config: RunConfig, run_id: str) -> str:
    """Return the URI of the version that a run registered.

    Raises:
        ConfigError: there is none.
    """
    connect(config)
    name = config.tracking.model
    found = MlflowClient().search_model_versions(f"name = '{name}' and run_id = '{run_id}'")
    if not found:
        raise ConfigError(f"run {run_id}: it registered no version of {name}; {NAME_ONE}")
    return f"models:/{name}/{max(int(one.version) for one in found)}"


def versions_by_alias(name: str) -> dict[str, str]:
    """Return alias -> version."""
    return {alias: str(version) for alias, version in
            MlflowClient().get_registered_model(name).aliases.items()}  # fmt: skip


def move_alias(name: str, alias: str, version: str | None) -> None:
    """Let an alias name a version; None takes it away."""
    if version is not None:
        MlflowClient().set_registered_model_alias(name, alias, version)
    elif alias in versions_by_alias(name):
        MlflowClient().delete_registered_model_alias(name, alias)


def tags_of(registered: Registered) -> dict[str, str]:
    """Return the tags of a version."""
    return dict(MlflowClient().get_model_version(registered.name, registered.version).tags)


def tag_version(registered: Registered, tags: Mapping[str, str]) -> None:
    """Set tags of a version."""
    for key, value in tags.items():
        MlflowClient().set_model_version_tag(registered.name, registered.version, key, value)


def first_line(error: Exception) -> str:
    """Say what went wrong, shortly."""
    return (str(error).splitlines() or [type(error).__name__])[0][:200]


def _kind(ids: Sequence[Any]) -> str:
    return "string" if isinstance(ids[0], str) else "long"
