"""The reading door to MLflow's store: which run is meant, its other seeds, and the files it kept.

Only the runs that are asked for are read, however many there are.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mlflow
from mlflow import MlflowClient
from mlflow.entities import Run
from mlflow.exceptions import MlflowException

from pipelines import tracking
from pipelines.settings import RunConfig
from recsys.errors import ConfigError

MEASURED = "tags.evaluation_fingerprint LIKE '_%'"  # every request's results were kept
TRAINED = "tags.variant_fingerprint LIKE '_%'"
MOST_SEEDS = 50  # runs of one configuration that are looked at


@dataclass(frozen=True)
class StoredRun:
    """A run in the store."""

    run_id: str
    name: str  # for people: what was asked for, and the first of its id
    title: str  # MLflow's name of the run
    started_ms: int
    tags: dict[str, str]
    metrics: dict[str, float]
    params: dict[str, str]

    @property
    def fingerprint(self) -> str:
        """Of the requests of its test window; empty if none were kept."""
        return self.tags.get("evaluation_fingerprint", "")


def find_runs(config: RunConfig, asked: Sequence[str]) -> list[StoredRun]:
    """Find runs by id (or how it begins), by model (alias or URI), or as "last 3", oldest first.

    A model stands for the run that trained it. No run is returned twice.

    Raises:
        ConfigError: something names no run, or more than one.
    """
    tracking.asked_model(config, asked[0])  # refuses where no training has made a store
    tracking.connect(config)
    found: dict[str, StoredRun] = {}
    for words in asked:
        for run in _last(config, words) or [_one(config, words)]:
            found.setdefault(run.run_id, run)
    return list(found.values())


def other_seeds(config: RunConfig, run: StoredRun) -> list[StoredRun]:
    """Return the runs with the same configuration but for the seed, on the same requests.

    The run itself is among them; of several with one seed only the newest.
    """
    variant = run.tags.get("variant_fingerprint")
    if variant is None:
        return [run]
    asked = f"tags.variant_fingerprint = '{variant}' AND tags.evaluation_fingerprint = "
    found = _search(config, f"{asked}'{run.fingerprint}'", MOST_SEEDS)
    by_seed = {run.params.get("seed"): run}
    for other in found:
        by_seed.setdefault(other.params.get("seed"), other)
    return list(by_seed.values())


def measured_again(config: RunConfig, run: StoredRun) -> list[StoredRun]:
    """Return the runs of `recsys evaluate` that measured this run's model, newest first."""
    found = _search(config, f"tags.model_run = '{run.run_id}' AND {MEASURED}", MOST_SEEDS)
    return [_stored(one, run.name) for one in found]


def fetch(config: RunConfig, run: StoredRun, names: Iterable[str]) -> Path:
    """Return the folder of the run's report with these files, the last of them fetched last.

    Raises:
        ConfigError: the run did not keep one of them.
    """
    folder = config.run_dir / "reports" / run.run_id
    for name in names:
        if (folder / name).is_file():
            continue
        try:
            folder.mkdir(parents=True, exist_ok=True)
            mlflow.artifacts.download_artifacts(
                run_id=run.run_id, artifact_path=name, dst_path=str(folder)
            )
        except (MlflowException, OSError) as error:
            raise ConfigError(
                f"run {run.name}: {name} is neither in {folder} nor in {config.shown_tracking_uri} "
                f"({(str(error).splitlines() or [''])[0]}); measure its model again with "
                "'recsys evaluate --model URI'"
            ) from error
    return folder


def _last(config: RunConfig, words: str) -> list[StoredRun]:
    """Return the runs that "last 3" means; none if it says something else."""
    several = re.fullmatch(r"last\s+(\d+)", words.strip())
    if several is None:
        return []
    found = _search(config, f"{MEASURED} AND {TRAINED}", int(several[1]))
    if len(found) < 2:
        raise ConfigError(f"{words!r}: {config.shown_tracking_uri} holds {len(found)} runs with "
                          "results of requests; train two with 'recsys train'")  # fmt: skip
    return found[::-1]


def _one(config: RunConfig, words: str) -> StoredRun:
    if not re.fullmatch(r"[0-9a-f]{3,32}", words):
        uri = words if words.startswith("models:/") else f"models:/{config.tracking.model}@{words}"
        version = _version(config, uri, words)
        return _stored(MlflowClient().get_run(version.run_id), f"{words} = {version.run_id[:8]}")
    found = _search(config, f"attributes.run_id LIKE '{words}%'", 5)
    kept = [run for run in found if run.fingerprint]
    if len(kept) == 1:
        return kept[0]
    known = ", ".join(f"{run.run_id[:8]} ({run.title})" for run in kept)
    if kept:
        raise ConfigError(f"{words}: several runs begin so: {known}; write more of the id")
    if found:
        raise ConfigError(
            f"{words}: run {found[0].title!r} kept no results of its requests; "
            "train again, or measure its model with 'recsys evaluate --model URI'"
        )
    last = _search(config, f"{MEASURED} AND {TRAINED}", 5)
    known = ", ".join(run.run_id[:8] for run in last) or "none"
    raise ConfigError(f"{words}: no run of experiment {config.tracking.experiment!r} in "
                      f"{config.shown_tracking_uri} begins so; "
                      f"the last ones are {known}")  # fmt: skip


def _version(config: RunConfig, uri: str, words: str) -> Any:
    """Return the registered version that a URI means."""
    client = MlflowClient()
    name, _, asked = uri.removeprefix("models:/").replace("@", "/").partition("/")
    try:
        if "@" in uri:
            return client.get_model_version_by_alias(name, asked)
        return client.get_model_version(name, asked)
    except MlflowException as error:
        raise ConfigError(
            f"{words}: neither the beginning of a run's id nor a model in "
            f"{config.shown_tracking_uri}; name a run id, champion, challenger, "
            "models:/NAME/VERSION or 'last 3'"
        ) from error


def _search(config: RunConfig, asked: str, most: int) -> list[StoredRun]:
    """Search the experiment, newest first."""
    found = mlflow.search_runs(
        experiment_names=[config.tracking.experiment], filter_string=asked, max_results=most,
        order_by=["attributes.start_time DESC"], output_format="list",
    )  # fmt: skip
    return [_stored(run, run.info.run_id[:8]) for run in found]


def _stored(run: Run | StoredRun, name: str) -> StoredRun:
    if isinstance(run, StoredRun):
        return StoredRun(**(vars(run) | {"name": name}))
    info, data = run.info, run.data
    return StoredRun(info.run_id, name, str(info.run_name), int(info.start_time), dict(data.tags),
                     dict(data.metrics), dict(data.params))  # fmt: skip
