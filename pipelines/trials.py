"""Trials of settings: what each reached, and the best of them beside the config.

Trial 0 is the config as it is. All are measured on the same held requests, but those that were
given up, which are measured on none.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import BaseModel
from rich.table import Table

from recsys.evaluation import paired_interval


@dataclass(frozen=True)
class Range:
    """Where a setting is looked for; both ends are in it. Integers between integers."""

    low: float
    high: float
    log: bool = False  # equal factors are equally likely, not equal steps


@dataclass(frozen=True)
class Trial:
    """One choice of settings, and what was reached by them."""

    number: int
    settings: dict[str, float]  # key of the section -> value
    ndcg: np.ndarray  # (n_requests,) float64 NDCG@10 of each held request; empty if given up
    steps: int  # trees or epochs
    seconds: float  # fitting and measuring

    @property
    def given_up(self) -> bool:
        """Whether it was clearly behind the others, so that it was not finished."""
        return not len(self.ndcg)

    @property
    def score(self) -> float:
        """Mean NDCG@10; NaN if it was given up."""
        return float("nan") if self.given_up else float(self.ndcg.mean())


@dataclass(frozen=True)
class Choice:
    """The best trial beside trial 0, on the requests that it was chosen on."""

    best: Trial
    difference: float  # best minus trial 0, NDCG@10
    low: float
    high: float

    @property
    def is_clear(self) -> bool:
        """Whether the interval is above 0."""
        return self.low > 0


def choose(trials: Sequence[Trial], user: np.ndarray, seed: int, resamples: int) -> Choice:
    """Take the trial of the highest score, the earliest of equals, and compare it with trial 0."""
    best = max((one for one in trials if not one.given_up), key=lambda trial: trial.score)
    rng = np.random.default_rng(seed)
    interval = paired_interval(best.ndcg, trials[0].ndcg, user, rng, resamples)
    return Choice(best, *(float(value) for value in interval))


def settings_table(
    trials: Sequence[Trial], choice: Choice, section: str, steps: str, measured_on: str,
    importance: Mapping[str, float],
) -> Table:  # fmt: skip
    """Make a table of the settings now and at best, and of what both reached."""
    now, best = trials[0], choice.best
    given_up = sum(one.given_up for one in trials)
    said = f", {given_up} given up early" if given_up else ""
    title = f"{len(trials)} trials{said}; {measured_on}"
    table = Table(section, "now", f"best, trial {best.number}", "importance", title=title)
    for name, value in best.settings.items():
        share = f"{importance[name]:.2f}" if name in importance else ""
        table.add_row(name, f"{now.settings[name]:g}", f"{value:g}", share)
    table.add_section()
    table.add_row("NDCG@10", f"{now.score:.4f}", f"{best.score:.4f}")
    table.add_row(steps, str(now.steps), str(best.steps))
    table.add_row("seconds", f"{now.seconds:.1f}", f"{best.seconds:.1f}")
    return table


def verdict(choice: Choice) -> str:
    """Say in words how sure the best is, and which settings to take."""
    if choice.best.number == 0:
        return "no trial is better than the config as it is: keep it"
    interval = f"{choice.difference:+.4f} [{choice.low:+.4f}, {choice.high:+.4f}]"
    said = f"best minus now {interval} over users; optimistic, as these requests chose it"
    if not choice.is_clear:
        return f"{said}. Not clearly better: keep the config as it is"
    return f"{said}. Clearly better here: train with it, and compare on the test window"


def section_toml(name: str, section: BaseModel, always: Collection[str]) -> str:
    """Write a section of a config file: the keys `always` and all others that have no default."""
    own = section.model_dump(mode="json", exclude_defaults=True).keys() | set(always)
    lines = [f"{key} = {_toml(value)}" for key, value in section.model_dump(mode="json").items()
             if key in own]  # fmt: skip
    return "\n".join([f"[{name}]", *lines])


def write_trials(trials: Sequence[Trial], steps: str, file: Path) -> None:
    """Write a row for each trial as CSV; one that was given up has no score."""
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("w", newline="") as out:
        rows = csv.writer(out)
        rows.writerow(["trial", *trials[0].settings, "ndcg_at_10", steps, "seconds"])
        for one in trials:
            score = "" if one.given_up else one.score
            values = [*one.settings.values(), score, one.steps, round(one.seconds, 3)]
            rows.writerow([one.number, *values])


def _toml(value: Any) -> str:
    """Write a value as TOML: as JSON, but for a table."""
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{json.dumps(key)} = {_toml(value[key])}" for key in value) + " }"
    return json.dumps(value)
