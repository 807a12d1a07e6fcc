"""The door to a tracking server: what was written in the run folder is brought there.

A run is written into the run folder's own database while it works, so a server that is down or slow
stops nothing. At its end, or when `recsys sync` is called, the server gets what it lacks; what was
sent before is known by a tag, so sending again changes nothing and a broken upload goes on.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import mlflow
from mlflow import MlflowClient
from mlflow.entities import LoggedModel, LoggedModelOutput, LoggedModelStatus, Metric, Param, Run
from mlflow.exceptions import MlflowException
from mlflow.models import Model

from pipelines import registry
from pipelines.settings import RunConfig
from pipelines.textmodel import Show
from pipelines.tracking import Registered, connect, quiet, reach
from recsys.errors import ConfigError

RECORDED = "recorded_as"  # tag there: the id here
UPLOADED = "uploaded"  # tag here: the id there, and when the run had ended
REPRODUCES = "reproduces"  # a run with this tag repeats another and makes no version
PARENT = "mlflow.parentRunId"
AT_ONCE = 500  # metrics in a request


def deliver(
    config: RunConfig, run_id: str, model_id: str, show: Show, is_version: bool = True
) -> Registered | None:
    """Register a run's model where the registry is; a server gets the run first.

    Args:
        config: of the run.
        run_id: of the run, in `RunConfig.recording_uri`.
        model_id: of its logged model.
        show: progress; also says why there is no version.
        is_version: whether the model is to be one.

    Returns:
        The version; None if the server or its registry refuses: all is kept in the run folder.
    """
    try:
        if config.recording_uri == config.tracking_uri:
            name = config.tracking.model
            return registry.register(name, run_id, model_id) if is_version else None
        return sync(config, show).get(run_id)
    except ConfigError as error:
        kept = f"all is kept; later: recsys sync {config.run_dir}"
        show("mlflow", 1, 1, f"careful: {error}; {kept}")
        return None


def sync(config: RunConfig, show: Show) -> dict[str, Registered]:
    """Bring all runs of the run folder to the server that lacks them, and register their models.

    Returns:
        Run id here -> version made now or before, of runs that were sent now.

    Raises:
        ConfigError: no server is configured, it does not answer, or it refuses.
    """
    if config.recording_uri == config.tracking_uri:
        return _register_here(config)
    quiet()
    if not Path(config.recording_uri.removeprefix("sqlite:///")).exists():
        raise ConfigError(f"{config.run_dir}: no run was written there, so nothing to upload")
    reach(config)
    made: dict[str, Registered] = {}
    try:
        connect(config)
        here, there = (MlflowClient(uri, uri) for uri in (config.recording_uri,
                                                          config.tracking_uri))  # fmt: skip
        home, away = (_experiment(client, config) for client in (here, there))
        ended = list(_ended(here, home)) if home else []
        ids = {run.info.run_id: _sent_id(run) for run in ended}
        waiting = [run for run in ended if run.data.tags.get(UPLOADED) != _mark(run, ids)]
        for number, run in enumerate(waiting):
            show("sync", number, len(waiting), run.info.run_name)
            new_id = _send_run(here, there, run, away, ids)
            ids[run.info.run_id] = new_id
            model_id = _send_model(here, there, run, away, new_id)
            if model_id and REPRODUCES not in run.data.tags:
                made[run.info.run_id] = _registered(config, new_id, model_id)
            here.set_tag(run.info.run_id, UPLOADED, _mark(run, ids))
        show("sync", len(waiting), len(waiting), "runs")
    except MlflowException as error:
        raise ConfigError(
            f"tracking.uri: {config.shown_tracking_uri} took not all of the runs "
            f"({registry.first_line(error)})"
        ) from error
    return made


def _register_here(config: RunConfig) -> dict[str, Registered]:
    """Register what a registry in a file has refused before."""
    connect(config)
    client, made = MlflowClient(), {}
    for run in _ended(client, _experiment(client, config)):
        outputs = run.outputs.model_outputs if run.outputs else []
        if outputs and REPRODUCES not in run.data.tags:
            known = client.search_model_versions(f"run_id = '{run.info.run_id}'")
            if not known:
                made[run.info.run_id] = registry.register(
                    config.tracking.model, run.info.run_id, outputs[0].model_id
                )
    return made


def _experiment(client: MlflowClient, config: RunConfig) -> str:
    """Return the id of the experiment, empty where there is none."""
    found = client.get_experiment_by_name(config.tracking.experiment)
    return "" if found is None else str(found.experiment_id)


def _ended(client: MlflowClient, experiment_id: str) -> Iterator[Run]:
    """Yield the runs that are not at work, parents and older ones first."""
    found, token = list[Run](), None
    while True:
        page = client.search_runs([experiment_id], page_token=token,
                                  order_by=["attributes.start_time ASC"])  # fmt: skip
        found += [run for run in page if run.info.status != "RUNNING"]
        token = page.token
        if not token:
            break
    yield from sorted(found, key=lambda run: PARENT in run.data.tags)


def _mark(run: Run, ids: dict[str, str]) -> str:
    """Say where a run was sent and what it was then: a run that went on is sent again."""
    return f"{ids.get(run.info.run_id, '')} {run.info.end_time}"


def _sent_id(run: Run) -> str:
    return str(run.data.tags.get(UPLOADED, "")).partition(" ")[0]


def _send_run(
    here: MlflowClient, there: MlflowClient, run: Run, experiment_id: str, ids: dict[str, str]
) -> str:
    """Send parameters, metrics, data sets, tags and artifacts of a run; return its id there."""
    tags = {key: value for key, value in run.data.tags.items() if key not in (PARENT, UPLOADED)}
    tags[RECORDED] = run.info.run_id
    if parent := ids.get(run.data.tags.get(PARENT, "")):
        tags[PARENT] = parent
    known = there.search_runs([experiment_id], f"tags.`{RECORDED}` = '{run.info.run_id}'")
    new_id = str((known[0] if known else there.create_run(
        experiment_id, run.info.start_time, tags, run.info.run_name)).info.run_id)  # fmt: skip
    params = [Param(key, value) for key, value in run.data.params.items()]
    there.log_batch(new_id, params=params)
    points = [point for key in run.data.metrics
              for point in here.get_metric_history(run.info.run_id, key)]  # fmt: skip
    _send_metrics(there, new_id, points)
    if run.inputs and run.inputs.dataset_inputs:
        there.log_inputs(new_id, run.inputs.dataset_inputs)
    if here.list_artifacts(run.info.run_id):
        with tempfile.TemporaryDirectory() as place:
            there.log_artifacts(new_id, here.download_artifacts(run.info.run_id, "", place))
    there.set_terminated(new_id, run.info.status, run.info.end_time)
    return new_id


def _send_model(
    here: MlflowClient, there: MlflowClient, run: Run, experiment_id: str, new_id: str
) -> str | None:
    """Send the logged model of a run with its metrics; return its id there, None without one."""
    outputs = run.outputs.model_outputs if run.outputs else []
    if not outputs:
        return None
    model = here.get_logged_model(outputs[0].model_id)
    known = there.search_logged_models([experiment_id], f"source_run_id = '{new_id}'")
    ready = [one for one in known if one.status == LoggedModelStatus.READY]
    if ready:
        return str(ready[0].model_id)
    made = there.create_logged_model(
        experiment_id, name=model.name, source_run_id=new_id, model_type=model.model_type,
        params=model.params, tags={RECORDED: model.model_id},
    )  # fmt: skip
    with tempfile.TemporaryDirectory() as place:
        there.log_model_artifacts(made.model_id, _named_anew(model, made, new_id, Path(place)))
    there.log_outputs(new_id, [LoggedModelOutput(made.model_id, step=0)])
    there.finalize_logged_model(made.model_id, LoggedModelStatus.READY)
    points = [Metric(one.key, one.value, one.timestamp, one.step, made.model_id, one.dataset_name,
                     one.dataset_digest, new_id) for one in model.metrics or []]  # fmt: skip
    _send_metrics(there, new_id, points)
    return str(made.model_id)


def _named_anew(model: LoggedModel, made: LoggedModel, run_id: str, place: Path) -> str:
    """Copy a model's folder and write its ids there into what describes it; return the copy."""
    found = mlflow.artifacts.download_artifacts(artifact_uri=model.artifact_location)
    folder = Path(shutil.copytree(found, place / "model"))
    described = Model.load(str(folder))
    described.run_id, described.artifact_path = run_id, made.artifact_location
    described.model_id = described.model_uuid = made.model_id
    described.save(str(folder / "MLmodel"))
    return str(folder)


def _send_metrics(there: MlflowClient, run_id: str, points: list[Metric]) -> None:
    for start in range(0, len(points), AT_ONCE):
        there.log_batch(run_id, metrics=points[start : start + AT_ONCE])


def _registered(config: RunConfig, run_id: str, model_id: str) -> Registered:
    """Register a model, or find the version that an earlier upload made."""
    name = config.tracking.model
    found = MlflowClient().search_model_versions(f"name = '{name}' and run_id = '{run_id}'")
    if not found:
        return registry.register(name, run_id, model_id)
    version = str(found[0].version)
    return Registered(f"models:/{name}/{version}", name, version, "", run_id)
