"""Train a logged run again and say what differs.

With the same data, code, machine kind, threads and versions every number is equal. Where one of
them is another, a difference is set beside the spread of runs that differ by their seed alone.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from rich.table import Table

from pipelines.environment import differences, environment
from pipelines.report import headline
from pipelines.run import git_commit, prepare_data
from pipelines.runs import fetch, find_runs, other_seeds
from pipelines.settings import RunConfig
from pipelines.textmodel import Show
from pipelines.train import train
from pipelines.upload import REPRODUCES
from recsys.errors import ConfigError


@dataclass(frozen=True)
class Reproduction:
    """A run and the run that repeats it."""

    run_id: str
    again: str
    changed: list[str]  # what is not as it was
    values: dict[str, tuple[float, float]]  # headline metric -> logged, now
    compared: int  # numbers of all models and windows
    unequal: int  # of these
    spread: dict[str, float]  # metric -> largest minus smallest over seeds
    seeds: int

    @property
    def holds(self) -> bool:
        """Whether all is equal, or, where something has changed, within what a seed changes."""
        within = all(abs(now - was) <= self.spread.get(name, 0.0)
                     for name, (was, now) in self.values.items())  # fmt: skip
        return not self.unequal or bool(self.changed and within)

    def said(self) -> list[Any]:
        """Return what the command prints."""
        lines = [f"careful: {one}" for one in self.changed]
        if not self.unequal:
            return [*lines, f"equal: all {self.compared:,} numbers of run {self.run_id} came out "
                            f"again, in run {self.again}"]  # fmt: skip
        table = Table("metric", "logged", "again", "difference", f"spread of {self.seeds} seeds",
                      title=f"run {self.run_id} and its repetition {self.again}")  # fmt: skip
        for name, (was, now) in self.values.items():
            spread = f"{self.spread[name]:.4f}" if name in self.spread else "unknown"
            table.add_row(name, f"{was:.4f}", f"{now:.4f}", f"{now - was:+.5f}", spread)
        end = f"{self.unequal:,} of {self.compared:,} numbers differ; "
        unknown = "how much seeds differ is unknown: train with other values of seed, two at least"
        more = "some by more than seeds do" if self.spread else unknown
        end += "each by no more than seeds do" if self.holds else more
        return [*lines, table, end]


def reproduce(config: RunConfig, run_id: str, show: Show) -> Reproduction:
    """Train again from what a run has logged.

    Args:
        config: where the run is logged; its data replaces the logged paths if it names any.
        run_id: of the run.
        show: progress.

    Raises:
        ConfigError: no such run, one that kept no config, or other data.
    """
    [logged_run] = find_runs(config, [run_id])
    run_id = logged_run.run_id  # of which a part may have been given
    tags = logged_run.tags
    folder = fetch(config, logged_run, ["config.json", "environment.json", "report.json"])
    logged = RunConfig.model_validate_json((folder / "config.json").read_text())
    data = config.data if config.data.events else logged.data
    again = logged.model_copy(update={"run_dir": config.run_dir, "tracking": config.tracking,
                                      "serving": config.serving, "data": data})  # fmt: skip
    here = prepare_data(again, show).manifest.fingerprint[:16]
    if here != tags["data_fingerprint"]:
        raise ConfigError(
            f"run {run_id}: it was trained on the data {tags['data_fingerprint']}, here is the "
            f"data {here}; bring back the tables of then, or name them with --set data.events=PATH"
        )
    changed = [f"code was {tags['git_commit']}, is {git_commit()}"
               for _ in range(tags["git_commit"] != git_commit())]  # fmt: skip
    changed += differences(json.loads((folder / "environment.json").read_text()), environment())
    for line in changed:
        show("reproduce", 0, 0, f"careful: {line}")
    done = train(again, show, tags.get("continued_from"), run_id)
    report = json.loads((folder / "report.json").read_text())
    was, now = numbers(report["models"]), numbers(done.report["models"])
    known = headline(report)
    values = {name: (known[name], value) for name, value in headline(done.report).items()
              if name in known}  # fmt: skip
    seeds = [one.metrics for one in other_seeds(config, logged_run)
             if REPRODUCES not in one.tags]  # fmt: skip
    spread = {name: max(found) - min(found) for name in values
              if len(found := [one[name] for one in seeds if name in one]) > 1}  # fmt: skip
    unequal = sum(was.get(path) != value for path, value in now.items())
    return Reproduction(run_id, done.run_id, changed, values, len(now), unequal, spread, len(seeds))


def numbers(values: Mapping[str, Any], path: str = "") -> dict[str, float | None]:
    """Turn nested sections into path -> number."""
    found: dict[str, float | None] = {}
    for key, value in values.items():
        is_section = isinstance(value, dict)
        found |= numbers(value, f"{path}{key}/") if is_section else {f"{path}{key}": value}
    return found
