"""Compare runs by what each of their requests got: nothing is trained or ranked again.

The first run is the base line. All runs must have been measured on the same requests, which the
fingerprint of the window says; a model that was trained on other data is compared where
`recsys evaluate` has measured it on these.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from pipelines import runs
from pipelines.changes import Lists, Shown, changed_users, read_lists, settings_changed
from pipelines.results import Results, open_results
from pipelines.runs import StoredRun
from pipelines.settings import RunConfig
from recsys.comparison import Difference, corrected, differences, seed_spread, slices_of
from recsys.dataset import DAY
from recsys.errors import ConfigError
from recsys.overlap import Change, change

FILES = ("report.json", "requests.parquet", "lists.parquet", "relevant.parquet", "items.parquet",
         "results.json")  # fmt: skip


@dataclass(frozen=True)
class Side:
    """A run, and what it kept."""

    run: StoredRun
    results: Results
    report: dict[str, Any]
    settings: dict[str, Any]  # section.key -> value; empty for `recsys evaluate`

    @cached_property
    def cost(self) -> dict[str, float]:
        """What it took: seconds, bytes and requests a second; only what is known."""
        seconds, memory = self.report.get("seconds", {}), self.report.get("peak_memory_bytes", {})
        test = seconds.get("evaluate test", 0)
        requests = self.report["requests"]["requests"]["test"]
        found = {
            "training_s": sum(seconds.values()) if self.settings else None,
            "requests_per_s": requests / test if test else None,
            "peak_memory_bytes": max(memory.values(), default=None),
            "model_bytes": self.report.get("model_bytes"),
        }
        return {name: value for name, value in found.items() if value is not None}


@dataclass(frozen=True)
class Versus:
    """The base line against another run."""

    other: Side
    differences: list[Difference]  # the first: all requests, the metric that was asked for
    per_user: np.ndarray  # (n_users,) float64 mean difference of each user
    seed_spread: float  # two seeds of one configuration seldom lie further apart; NaN = unknown
    seed_runs: int  # that it was computed from
    settings: list[tuple[str, str, str]]  # that differ: name, base, other
    change: Change | None  # of the lists; None where none were kept
    users: list[Shown]  # whose lists changed most

    @property
    def total(self) -> Difference:
        """All requests, by the metric that was asked for."""
        return self.differences[0]

    @property
    def is_within_seeds(self) -> bool:
        """Whether another seed would have made as large a difference."""
        return abs(self.total.difference) <= self.seed_spread

    @property
    def verdict(self) -> str:
        """ "better" or "worse", "seed noise" where another seed does as much, "noise" else."""
        if not self.total.is_told:
            return "noise"
        if self.is_within_seeds:
            return "seed noise"
        return "better" if self.total.difference > 0 else "worse"


@dataclass(frozen=True)
class Comparison:
    """Everything that was found."""

    base: Side
    others: list[Versus]
    metric: str
    window: str
    model: str
    questions: int  # differences that p-values are corrected for
    too_small: int  # slices with too few users
    left_out: list[str]  # runs that cannot be compared, and why

    @property
    def best(self) -> Versus:
        """The other run with the largest mean."""
        return max(self.others, key=lambda one: one.total.difference)


def compare_runs(
    config: RunConfig, asked: Sequence[str], metric: str = "ndcg_at_10", window: str = "test",
    model: str = "full",
) -> Comparison:  # fmt: skip
    """Compare the first run with each other one.

    Raises:
        ConfigError: a run is not there, kept no results, or fewer than two have the same requests.
    """
    found = runs.find_runs(config, asked)
    chosen, left_out = _on_the_same_requests(config, found)
    sides = [_side(config, run) for run in chosen]
    for side in sides:
        _check(side, sides[0], metric, window, model)
    base, *others = sides
    columns = [
        "user_id",
        "request_time",
        *base.results.manifest.slices,
        *base.results.manifest.metrics,
    ]
    before = base.results.table("requests", columns, window=window, model=model)
    user = np.unique(before["user_id"].to_numpy(), return_inverse=True)[1]
    slices, too_small = slices_of(
        {name: before[name].to_numpy() for name in base.results.manifest.slices}, user
    )
    metrics = base.results.manifest.metrics
    lists = read_lists([side.results for side in sides], window, model)
    values = [{name: _values(side.results, name, window, model) for name in metrics}
              for side in sides]  # fmt: skip
    tested = corrected([
        differences(values[0], some, user, slices, metric, np.random.default_rng(0))
        for some in values[1:]
    ])  # fmt: skip
    versus = []
    for at, (side, told) in enumerate(zip(others, tested, strict=True), start=1):
        spread, n_runs = _spread(config, (base, side), metric, window, model)
        gain = np.nan_to_num(values[at][metric] - values[0][metric])
        versus.append(Versus(
            side, told, np.bincount(user, gain) / np.bincount(user), spread, n_runs,
            settings_changed(base.settings, side.settings),
            None if lists is None else change(lists.codes[0], lists.codes[at], lists.past_events),
            [] if lists is None else _changed(base, lists, at, window, before, gain),
        ))  # fmt: skip
    questions = sum(map(len, tested))
    return Comparison(base, versus, metric, window, model, questions, too_small, left_out)


def _side(config: RunConfig, run: StoredRun) -> Side:
    """Fetch what a run kept."""
    trained = "variant_fingerprint" in run.tags
    folder = runs.fetch(config, run, [*(["config.json"] if trained else []), *FILES])
    settings = json.loads((folder / "config.json").read_text()) if trained else {}
    return Side(run, open_results(folder), json.loads((folder / "report.json").read_text()),
                flat(settings))  # fmt: skip


def flat(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Turn nested sections into section.key -> value."""
    found: dict[str, Any] = {}
    for key, value in values.items():
        inside = isinstance(value, dict) and value
        found |= flat(value, f"{prefix}{key}.") if inside else {f"{prefix}{key}": value}
    return found


def _changed(
    base: Side, lists: Lists, at: int, window: str, about: Any, gain: np.ndarray
) -> list[Shown]:
    taken = base.results.table("relevant", window=window)
    return changed_users(lists, at, taken, about, gain)


def _on_the_same_requests(
    config: RunConfig, found: list[StoredRun]
) -> tuple[list[StoredRun], list[str]]:
    """Choose for each run a measurement on requests that the first shares with most of the others.

    Returns:
        The measurements, and for each run that is left out why.

    Raises:
        ConfigError: fewer than two share them; says what differs.
    """
    if len(found) < 2:
        raise ConfigError(f"{found[0].name}: name at least two runs to compare")
    if len({run.fingerprint for run in found}) == 1:
        return found, []
    measured = [{one.fingerprint: one for one in (*runs.measured_again(config, run)[::-1], run)}
                for run in found]  # fmt: skip
    shared = {mine: sum(mine in some for some in measured) for mine in measured[0] if mine}
    if not shared:
        raise ConfigError(f"run {found[0].name} kept no results of its requests; measure its model "
                          "with 'recsys evaluate --model URI'")  # fmt: skip
    mine = max(shared, key=shared.__getitem__)
    base = measured[0][mine]
    left_out = [_why_not(config, base, run) for run, some in zip(found, measured, strict=True)
                if mine not in some]  # fmt: skip
    chosen = [some[mine] for some in measured if mine in some]
    if len(chosen) < 2:
        raise ConfigError("\n".join(left_out))
    return chosen, left_out


def _why_not(config: RunConfig, base: StoredRun, run: StoredRun) -> str:
    """Say why two runs cannot be compared."""
    try:
        one, two = (open_results(runs.fetch(config, some, ["results.json"])).manifest
                    for some in (base, run))  # fmt: skip
    except ConfigError as error:
        return str(error)
    was, now = one.windows["test"], two.windows["test"]
    differ = [
        f"{what} {a} against {b}" for what, a, b in (
            ("protocol", one.protocol, two.protocol),
            ("data", one.data_fingerprint[:12], two.data_fingerprint[:12]),
            ("test window", _span(was, one.protocol), _span(now, two.protocol)),
            ("requests", f"{was.requests:,}", f"{now.requests:,}"),
            ("relevant items", f"{was.relevant:,}", f"{now.relevant:,}"),
        ) if a != b
    ] or ["as many requests, but others (evaluation.seed, evaluation.max_requests)"]  # fmt: skip
    return (f"run {run.name} was measured on other requests than {base.name}: {'; '.join(differ)}. "
            "Measure its model on the same data: recsys evaluate --model URI")  # fmt: skip


def _span(window: Any, protocol: str) -> str:
    if protocol != "time":
        return f"{window.start} to {window.end}"
    return " to ".join(str(np.datetime64(at // DAY, "D")) for at in (window.start, window.end))


def _check(side: Side, base: Side, metric: str, window: str, model: str) -> None:
    """Refuse what a run has not measured.

    Raises:
        ConfigError: it has no such window, model or metric, or other requests in the window.
    """
    manifest = side.results.manifest
    known = manifest.windows.get(window)
    for what, asked, there in (
        ("--window", window, tuple(manifest.windows)), ("--metric", metric, manifest.metrics),
        ("--model", model, known.models if known else (model,)),
    ):  # fmt: skip
        if asked not in there:
            raise ConfigError(f"{what} {asked}: run {side.run.name} has {', '.join(there)}")
    if known and known.fingerprint != base.results.manifest.windows[window].fingerprint:
        raise ConfigError(f"run {side.run.name} has other requests than {base.run.name} in its "
                          f"{window} window; the test windows are the same")  # fmt: skip


def _spread(
    config: RunConfig, sides: tuple[Side, Side], metric: str, window: str, model: str
) -> tuple[float, int]:
    """Say how far runs that differ in the seed alone lie apart, and from how many it is known."""
    groups: dict[str, list[float]] = {}
    for side in sides:
        variant = side.run.tags.get("variant_fingerprint", side.run.run_id)
        if variant not in groups:
            some = runs.other_seeds(config, side.run)
            groups[variant] = [_mean(config, one, metric, window, model) for one in some]
    return seed_spread(list(groups.values()))


def _mean(config: RunConfig, run: StoredRun, metric: str, window: str, model: str) -> float:
    """Return a run's mean, from MLflow's metrics where it is among them."""
    logged = run.metrics.get(f"{window}/{metric}") if model == "full" else None
    if logged is not None:
        return logged
    kept = open_results(runs.fetch(config, run, ["requests.parquet", "results.json"]))
    return float(np.nanmean(_values(kept, metric, window, model)))


def _values(results: Results, metric: str, window: str, model: str) -> np.ndarray:
    """(n_requests,) float64: a model's metric of each request."""
    column = results.table("requests", [metric], window=window, model=model)[metric]
    return np.asarray(column.to_numpy(), float)
