"""Users a second by who makes the lists: threads, worker processes, Ray; and that the bytes agree.

    python -m benchmarks.executors --users 20000 --json out.json

A synthetic shop and models of benchmarks/scale.py are made once; each way makes everybody's lists
in a process of its own, by the path of the batch job, one way after the other and that `--rounds`
times. Its clock runs from before the first bucket is read to the last part, so starting workers is
in it; beside it stands the rate from the first part on, with workers that are at work. A worker has
one thread. Parts must have the same checksums, whoever makes them.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

from benchmarks.look import known
from benchmarks.quality import describe_run
from benchmarks.scale import alone, shop, some_models
from benchmarks.speed import K
from pipelines.config import changed
from pipelines.prepare import prepare
from pipelines.prepared import Prepared, open_prepared
from pipelines.recommender import Method
from pipelines.settings import RunConfig
from pipelines.stages import Stages
from recsys.candidates import CandidateConfig
from recsys.schema import DataConfig
from serving.audience import ALL, bucket_of
from serving.batch import make_parts
from serving.parts import Bucket, Work
from serving.sharing import share, shared

EXECUTORS = ("local", "processes", "ray")
WORK = "work.bin"


def main() -> None:
    """Measure each way, print a table, write it as JSON; fail if the bytes differ."""
    parser = argparse.ArgumentParser(prog="benchmarks.executors", description=__doc__)
    parser.add_argument("--users", type=int, default=20_000)
    parser.add_argument("--items", type=int, default=3_000)
    parser.add_argument("--events", type=int, default=20, help="of each user")
    parser.add_argument("--bucket-rows", type=int, default=20_000, help="events in a bucket")
    parser.add_argument("--executors", nargs="+", choices=EXECUTORS, default=list(EXECUTORS))
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2], help="or threads")
    parser.add_argument("--rounds", type=int, default=1, help="the median of so many is taken")
    parser.add_argument("--json", type=Path, help="where to write the report")
    asked = parser.parse_args()
    ways = [(executor, workers) for executor in asked.executors for workers in asked.workers]
    found: dict[tuple[str, int], list[dict[str, Any]]] = {way: [] for way in ways}
    with tempfile.TemporaryDirectory() as folder:
        alone(made_ready, folder, asked.users, asked.items, asked.events, asked.bucket_rows)
        for _ in range(asked.rounds):
            for way in ways:
                found[way].append(alone(timed, folder, *way))
    sums = [one["sha256"] for some in found.values() for one in some]
    points = [{"executor": executor, "workers": workers} | median(some)
              for (executor, workers), some in found.items()]  # fmt: skip
    same = all(one == sums[0] for one in sums)
    report = {"users": asked.users, "buckets": len(sums[0]), "same": same, "points": points}
    Console(width=100, highlight=False).print(described(report))
    if asked.json:
        report["run"] = describe_run("synthetic")
        asked.json.write_text(json.dumps(report, indent=2) + "\n")
    sys.exit(0 if same else 1)


def described(report: dict[str, Any]) -> Table:
    """Draw the report; ratios are to the first way."""
    points = report["points"]
    agree = "the same bytes" if report["same"] else "BYTES DIFFER"
    title = f"{report['users']:,} users in {report['buckets']} buckets, {agree}"
    table = Table("lists by", "workers", "users/s", "to the first", "users/s at work",
                  "to the first", "first part, s", title=title)  # fmt: skip
    for point in points:
        cells = [str(point["workers"])]
        for what in ("users_per_second", "at_work"):
            cells += [f"{point[what]:.0f}", f"{point[what] / points[0][what]:.2f}"]
        table.add_row(point["executor"], *cells, f"{point['first_s']:.1f}")
    return table


def median(some: list[dict[str, Any]]) -> dict[str, float]:
    """Return the median of each number over the rounds."""
    names = ("users_per_second", "at_work", "first_s")
    return {name: statistics.median(one[name] for one in some) for name in names}


def made_ready(folder: str, users: int, items: int, events: int, bucket_rows: int) -> None:
    """Draw and prepare a shop, fit models, and share what all ways make lists from."""
    prepare(*shop(users, items, events), Path(folder) / "prepared",
            DataConfig(bucket_rows=bucket_rows), "time")  # fmt: skip
    prepared = open_prepared(Path(folder) / "prepared")
    method = Method(prepared.items(), CandidateConfig(), dated=True, exclude_seen=True)
    snapshot = known(prepared, method, Stages())
    ranker, heads = some_models(prepared, method, snapshot)
    work = Work(method, snapshot, ranker, heads, prepared.windows.test_end, K)
    share(work, Path(folder) / WORK)


def timed(folder: str, executor: str, workers: int) -> dict[str, Any]:
    """Make everybody's lists by one executor; `local` has `workers` threads."""
    if executor == "local":
        torch.set_num_threads(workers)
    sys.modules["__main__"] = ModuleType(
        "__main__"
    )  # workers import it; the command line's is light
    asked = [f'batch.executor="{executor}"', f"batch.workers={workers}", f'run_dir="{folder}/run"']
    config = changed(RunConfig(), asked)
    prepared, work = open_prepared(Path(folder) / "prepared"), shared(Path(folder) / WORK)
    began, sums, came, users = time.perf_counter(), {}, [], []
    for part in make_parts(work, read(prepared, work.moment), config, lambda done: None):
        sums[part.number] = part.sha256
        came.append(time.perf_counter() - began)
        users.append(part.users)
    at_work = sum(users[1:]) / (came[-1] - came[0])
    return {"sha256": sums, "users_per_second": sum(users) / came[-1], "at_work": at_work,
            "first_s": came[0]}  # fmt: skip


def read(prepared: Prepared, moment: int) -> Iterator[Bucket]:
    """Read the buckets, one after the other."""
    return (bucket_of(prepared, at, ALL, moment) for at in range(prepared.n_buckets))


if __name__ == "__main__":
    main()
