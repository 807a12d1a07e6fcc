"""What `recsys compare` claims: few false alarms, quick with many runs, seeds told from gains.

    python -m benchmarks.compare --runs 200 --rounds 200 --json out.json
    python -m benchmarks.compare --data DIR --protocol time --run-dir RUN --json out.json

Without data: many small runs with made-up results go into an MLflow store, `recsys compare` of the
last ten is timed in a process of its own, and one run is compared with itself with the two sides
swapped for random users, again and again (A/A): how often is a difference told that is none?

With data: one configuration is trained with several seeds, and once without anything computed from
text; the comparison is printed, and A/A is done on the results of the first run.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from rich.console import Console
from rich.table import Table

from benchmarks.quality import describe_run
from pipelines import tracking
from pipelines.compare import compare_runs
from pipelines.comparereport import said
from pipelines.config import changed
from pipelines.evaluate import Outcome
from pipelines.prepare import prepare
from pipelines.prepared import Prepared
from pipelines.report import HEADLINE, model_metrics
from pipelines.results import Results, open_results, write_results
from pipelines.settings import RunConfig
from pipelines.textmodel import Show
from pipelines.train import train
from pipelines.windows import window_requests
from recsys.comparison import corrected, differences, slices_of
from recsys.progress import showing
from recsys.schema import DataConfig

N_ITEMS, N_DAYS, LISTED = 200, 100, 10


def main() -> None:
    """Make or train runs, compare them, print what was found."""
    parser = argparse.ArgumentParser(prog="benchmarks.compare", description=__doc__)
    parser.add_argument("--data", type=Path, help="folder with events.parquet and items.parquet")
    parser.add_argument("--protocol", choices=["time", "leave_last_out"], default="time")
    parser.add_argument("--seeds", type=int, default=5, help="runs of one configuration")
    parser.add_argument("--runs", type=int, default=200, help="made-up runs in the store")
    parser.add_argument("--users", type=int, default=2_000, help="of the made-up runs")
    parser.add_argument("--last", type=int, default=10, help="runs that are compared")
    parser.add_argument("--rounds", type=int, default=200, help="of A/A")
    parser.add_argument("--json", type=Path, help="where to write the report")
    parser.add_argument("--run-dir", type=Path, help="keep the runs here (default: nowhere)")
    parser.add_argument("--set", action="append", default=[], metavar="SECTION.KEY=VALUE")
    asked = parser.parse_args()
    console, report = Console(width=140), {}
    with tempfile.TemporaryDirectory() as temporary, showing() as show:
        folder = asked.run_dir or Path(temporary)
        if asked.data is None:
            config = RunConfig(run_dir=folder / "run")
            first = made_up_runs(config, asked.users, asked.runs, show)
            report |= timed(config, asked.last, asked.runs)
        else:
            report, first = trained_runs(asked, folder, show, console)
        report |= false_alarms(open_results(first), asked.rounds, show)
    table = Table("what", "value", title="recsys compare")
    for name, value in report.items():
        table.add_row(name, f"{value:,.4g}" if isinstance(value, float) else str(value))
    console.print(table)
    if asked.json:
        about = describe_run("made up" if asked.data is None else asked.data.name)
        asked.json.write_text(json.dumps(report | {"run": about}, indent=2) + "\n")


def false_alarms(results: Results, rounds: int, show: Show) -> dict[str, Any]:
    """Swap two models of a run for random users; count how often a difference is told."""
    manifest, rng = results.manifest, np.random.default_rng(0)
    models = manifest.windows["test"].models
    a, b = (results.table("requests", window="test", model=name)
            for name in ("full", next(name for name in models if name != "full")))  # fmt: skip
    user = np.unique(a["user_id"].to_numpy(), return_inverse=True)[1]
    slices, _ = slices_of({name: a[name].to_numpy() for name in manifest.slices}, user)
    sides = [{name: table[name].to_numpy() for name in HEADLINE} for table in (a, b)]
    one, outside, any_told = 0, 0, 0
    for at in range(rounds):
        swap = (rng.random(user.max() + 1) < 0.5)[user]
        left, right = ({name: np.where(swap, x[name], y[name]) for name in HEADLINE}
                       for x, y in (sides, sides[::-1]))  # fmt: skip
        [found] = corrected([differences(left, right, user, slices, HEADLINE[0], rng, 1000, 200)])
        one += found[0].p < 0.05
        outside += not found[0].low <= 0 <= found[0].high
        any_told += any(some.is_told for some in found)
        show("A/A", at + 1, rounds, "rounds")
    return {
        "A/A rounds": rounds, "A/A users": int(user.max()) + 1,
        "A/A questions a round": len(HEADLINE) + len(slices),
        "A/A false alarms at 5 %, NDCG@10": one / rounds,
        "A/A intervals (95 %) without 0": outside / rounds,
        "A/A rounds with any alarm after correction": any_told / rounds,
    }  # fmt: skip


# --- made-up runs --------------------------------------------------------------------------------


def made_up_runs(config: RunConfig, n_users: int, n_runs: int, show: Show) -> Path:
    """Fill a store: five seeds of each configuration, ever so little better than the one before.

    Returns:
        The results of the first run.
    """
    prepared, folders = small_shop(config, n_users), []
    for at in range(n_runs):
        variant, seed = divmod(at, 5)
        outcome = made_up(prepared, "test", variant / max(n_runs, 1), seed + 5 * variant)
        folders.append(keep_run(config, prepared, outcome, f"v{variant}", seed))
        show("runs", at + 1, n_runs, "written")
    return folders[0]


def keep_run(
    config: RunConfig, prepared: Prepared, outcome: Outcome, variant: str, seed: int
) -> Path:
    """Write one run as training does, with the results of an outcome; return its folder."""
    tracking.connect(config)
    tags = {"variant_fingerprint": variant, "protocol": prepared.manifest.protocol}
    with tracking.run("train time", tags) as run_id:
        folder = config.run_dir / "reports" / run_id
        about = write_results(folder, prepared, {"test": outcome}, seen=True)
        values = model_metrics(outcome, "full")
        means = {name: float(values[name].mean()) for name in HEADLINE}
        report = {"requests": {"requests": {"test": len(outcome.user)}}, "model_bytes": 1_000_000,
                  "models": {"full": {"test": means}}, "seconds": {"encoder": 10.0 + seed},
                  "peak_memory_bytes": {"encoder": 2**30}}  # fmt: skip
        (folder / "report.json").write_text(json.dumps(report))
        own = changed(config, [f"seed={seed}", f"ranker.max_trees={100 + int(variant[1:])}"])
        (folder / "config.json").write_text(own.model_dump_json())
        tracking.log_folder(folder)
        tracking.log_tags({"evaluation_fingerprint": about.windows["test"].fingerprint})
        tracking.log_params({"seed": seed})
        tracking.log_metrics({f"test/{name}": value for name, value in means.items()})
    return folder


def small_shop(config: RunConfig, n_users: int) -> Prepared:
    """Prepare a shop of 200 items in six categories, ten events a user."""
    rng, n = np.random.default_rng(0), 10 * n_users
    day = np.datetime64("2026-01-01") + rng.integers(0, N_DAYS, n).astype("timedelta64[D]")
    events = pa.table({
        "user_id": [f"u{at}" for at in rng.integers(0, n_users, n)],
        "item_id": [f"i{at}" for at in (rng.power(0.4, n) * N_ITEMS).astype(int)],
        "timestamp": day.astype("datetime64[us]"),
    })  # fmt: skip
    names = [f"i{at}" for at in range(N_ITEMS)]
    items = pa.table({"item_id": names, "title": [f"thing {name}" for name in names],
                      "category": [f"kind {at % 6}" for at in range(N_ITEMS)]})  # fmt: skip
    return prepare(events, items, config.run_dir / "prepared", DataConfig())


def made_up(prepared: Prepared, window: str, quality: float, seed: int) -> Outcome:
    """Rank at random: a relevant item is sooner among the first, the larger the quality."""
    rng, parts = np.random.default_rng(seed), window_requests(prepared, window)
    user, moment = (np.concatenate([getattr(part, name) for part in parts])
                    for name in ("user", "moment"))  # fmt: skip
    counts = np.concatenate([np.diff(part.indptr) for part in parts])
    item = np.concatenate([part.item for part in parts]).astype(np.int64)
    request = np.repeat(np.arange(len(user)), counts)
    listed = np.argsort(rng.random((len(user), N_ITEMS)), axis=1)[:, :LISTED]
    known = np.random.default_rng(1)  # who is cold and what is unseen is the same in every run
    history, unseen = known.integers(0, 30, len(user)), known.random(len(item)) < 0.1
    rank = np.where(rng.random(len(item)) < 0.3 + 0.1 * quality,
                    rng.integers(1, LISTED + 1, len(item)), np.inf)  # fmt: skip
    ranks = {"full": rank, "popularity": rng.permutation(rank)}
    return Outcome(user, moment, history, request, item, np.ones(len(item), np.int64), unseen,
                   ranks, {}, {"full": listed, "popularity": listed})  # fmt: skip


def timed(config: RunConfig, last: int, n_runs: int) -> dict[str, Any]:
    """Time the command in a process of its own, its modules compiled as pip leaves them."""
    command = [sys.executable, "-m", "recsys.cli", "compare", f"last {last}",
               "--set", f"run_dir={config.run_dir}"]  # fmt: skip
    env = os.environ | {"PYTHONPYCACHEPREFIX": str(config.run_dir / "pycache")}
    env.pop("PYTHONDONTWRITEBYTECODE", None)
    took = []
    for _ in range(3):
        began = time.perf_counter()
        done = subprocess.run(command, capture_output=True, text=True, check=True, env=env)
        took.append(time.perf_counter() - began)
    return {"runs in the store": n_runs, "lines printed": done.stdout.count("\n"),
            f"seconds of compare 'last {last}'": min(took[1:])}  # fmt: skip


# --- trained runs --------------------------------------------------------------------------------


def trained_runs(
    asked: argparse.Namespace, folder: Path, show: Show, console: Console
) -> tuple[dict[str, Any], Path]:
    """Train seeds of one configuration and one without text; compare and print them."""
    config = changed(RunConfig(run_dir=folder), [
        f'data.events="{asked.data}/events.parquet"', f'data.items="{asked.data}/items.parquet"',
        f"split.protocol={asked.protocol}", *asked.set,
    ])  # fmt: skip
    seeds = [train(changed(config, [f"seed={seed}"]), show) for seed in range(asked.seeds)]
    without = train(changed(config, ["features.text=false"]), show)
    found = compare_runs(config, [seeds[0].run_id, without.run_id,
                                  *(one.run_id for one in seeds[1:])])  # fmt: skip
    pair = compare_runs(config, [seeds[0].run_id, without.run_id])
    for line in [*said(replace(found, left_out=[])), *said(pair)]:
        console.print(line)
    values = [one.total.difference for one in found.others[1:]]
    return {
        "NDCG@10 of the first seed": found.base.report["models"]["full"]["test"]["ndcg_at_10"],
        "largest difference of another seed": max(map(abs, values), default=0.0),
        "seed spread": pair.others[0].seed_spread, "without text": pair.others[0].total.difference,
        "verdict without text": pair.others[0].verdict,
        "verdicts of other seeds": ", ".join(one.verdict for one in found.others[1:]),
    }, seeds[0].folder  # fmt: skip


if __name__ == "__main__":
    main()
