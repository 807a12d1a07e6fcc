"""What a list costs as users double: time a user and peak memory, in synthetic shops of one size.

    python -m benchmarks.scale --json out.json

Each number of users is listed in a process of its own, by the path of the batch job: buckets are
read from disk one after the other, and each one's lists are written. All users have as many events,
most of them of one taste; the catalogue, the ranker's trees and the events in a bucket are the same
for every size. Text vectors are random, no encoder runs. What is known of the items is made before
the lists and shown apart.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import tempfile
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import lightgbm
import numpy as np
import pyarrow as pa
from rich.console import Console
from rich.table import Table

from benchmarks.look import known
from benchmarks.quality import GIB, describe_run
from benchmarks.speed import REFERENCE, REFERENCE_TREES, K
from features.catalogue import active_features
from pipelines.prepare import prepare
from pipelines.prepared import Prepared, open_prepared
from pipelines.recommender import Method, Snapshot, look, table_of
from pipelines.stages import Stages
from recsys.calibration import Calibration, Heads
from recsys.candidates import CandidateConfig
from recsys.dataset import DAY
from recsys.ranker import HeadConfig, Ranker, fit_heads
from recsys.rows import Rows
from recsys.schema import DataConfig
from serving.audience import ALL, bucket_of
from serving.parts import Work, make_part
from serving.plan import write_made

SIZES = [25_000, 50_000, 100_000, 200_000]
START, N_DAYS = 1_704_067_200_000_000, 180  # from 2024-01-01 on
VOCABULARY, TITLE_WORDS = 3_000, 6
TASTE_ITEMS, TASTE_SHARE = 120, 0.8  # items of one taste; of a user's events, those of their own
TAKEN_SHARE = 0.1  # of the ranker's training rows
STATE = ("item cosine and EASE", "state")


def main() -> None:
    """Measure each size, print a table, write it as JSON."""
    parser = argparse.ArgumentParser(prog="benchmarks.scale", description=__doc__)
    parser.add_argument("--sizes", type=int, nargs="+", default=SIZES, help="numbers of users")
    parser.add_argument("--items", type=int, default=12_000)
    parser.add_argument("--events", type=int, default=20, help="of each user")
    parser.add_argument("--bucket-rows", type=int, default=250_000, help="events in a bucket")
    parser.add_argument("--json", type=Path, help="where to write the report")
    asked = parser.parse_args()
    points, config = [], DataConfig(bucket_rows=asked.bucket_rows)
    for users in asked.sizes:
        with tempfile.TemporaryDirectory() as folder:
            events, items = shop(users, asked.items, asked.events)
            prepare(events, items, Path(folder) / "prepared", config, "time")
            points.append(alone(listed, folder))
    title = f"{asked.items:,} items, {asked.events} events a user, lists of {K}"
    table = Table("users", "state, s", "its peak, GiB", "lists, ms a user", "to the first",
                  "their peak, GiB", "to the first", title=title)  # fmt: skip
    for point in points:
        times, peaks = (point[what] / points[0][what] for what in ("ms_a_user", "lists_bytes"))
        table.add_row(f"{point['users']:,}", f"{point['state_s']:.1f}",
                      f"{point['state_bytes'] / GIB:.2f}", f"{point['ms_a_user']:.2f}",
                      f"{times:.2f}", f"{point['lists_bytes'] / GIB:.2f}",
                      f"{peaks:.2f}")  # fmt: skip
    Console(width=120).print(table)
    if asked.json:
        report = {"points": points, "run": describe_run("synthetic")}
        asked.json.write_text(json.dumps(report, indent=2) + "\n")


def alone(do: Any, *what: Any) -> Any:
    """Call a function of this file in a new process, so that its peak of memory is its own."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as process:
        return process.submit(do, *what).result()


def shop(users: int, n_items: int, n_events: int, first: int = 0) -> tuple[pa.Table, pa.Table]:
    """Draw (events, items), seeded by the number of users; items of one taste are Zipfian.

    Users are numbered from `first` on, which is in the seed too.
    """
    rng = np.random.default_rng((users, first) if first else users)
    words = rng.integers(0, VOCABULARY, (n_items, TITLE_WORDS)).astype(str).astype(object)
    names = np.array([f"item-{at:06d}" for at in range(n_items)])
    items = pa.table({"item_id": names, "title": [" ".join(some) for some in words],
                      "price": rng.lognormal(2, 1, n_items)})  # fmt: skip
    n, n_tastes = users * n_events, max(1, n_items // TASTE_ITEMS)
    user = np.repeat(np.arange(users), n_events)
    own = rng.integers(0, n_tastes, users)[user]
    taste = np.where(rng.random(n) < TASTE_SHARE, own, rng.integers(0, n_tastes, n))
    weight = 1 / np.arange(1, n_items // n_tastes + 1)
    rank = rng.choice(len(weight), n, p=weight / weight.sum())
    moment = pa.array(START + rng.integers(0, N_DAYS * DAY, n), pa.timestamp("us", "UTC"))
    events = pa.table({"user_id": np.char.add("user-", (first + user).astype(str)),
                       "item_id": names[rank * n_tastes + taste], "timestamp": moment})  # fmt: skip
    return events, items


def listed(folder: str) -> dict[str, Any]:
    """Make and write everybody's lists; return time and memory, the state's apart."""
    prepared, stages = open_prepared(Path(folder) / "prepared"), Stages()
    method = Method(prepared.items(), CandidateConfig(), dated=True, exclude_seen=True)
    snapshot = known(prepared, method, stages)
    ranker, heads = some_models(prepared, method, snapshot)
    users, moment, rows = prepared.manifest.n_users, prepared.windows.test_end, 0
    work = Work(method, snapshot, ranker, heads, moment, K)
    with stages.measure("lists"):
        for number in range(prepared.n_buckets):
            bucket = bucket_of(prepared, number, ALL, moment)
            part = make_part(work, bucket)
            write_made(Path(folder) / "release", part)
            rows += part.rows
    seconds, peaks = stages.seconds, stages.peak_memory_bytes
    return {"users": users, "buckets": prepared.n_buckets, "rows": rows,
            "ms_a_user": 1000 * seconds["lists"] / users, "lists_bytes": peaks["lists"],
            "state_s": sum(seconds[stage] for stage in STATE),
            "state_bytes": max(peaks[stage] for stage in STATE), "seconds": seconds,
            "peak_memory_bytes": peaks}  # fmt: skip


def some_models(
    prepared: Prepared, method: Method, snapshot: Snapshot, trees: int = REFERENCE_TREES
) -> tuple[Ranker, Heads]:
    """Fit a ranker and a head on the rows of one block, some of them drawn as taken."""
    log, names = prepared.bucket(0), active_features(method.dated)
    users = log.users[: method.block_size]
    block = look(method, snapshot, log, users, np.full(len(users), prepared.windows.test_end))
    table = table_of(method, snapshot, block, names)
    taken = (np.random.default_rng(0).random(len(table)) < TAKEN_SHARE).astype(np.int64)
    booster = lightgbm.train(REFERENCE, lightgbm.Dataset(table, taken), trees)
    rows, config = Rows(table, taken, np.array([len(table)])), HeadConfig(trees=min(trees, 100))
    heads = fit_heads(rows, names, config, 0)
    as_it_is = Calibration(np.array([0.0, 1.0]), np.array([0.0, 1.0]))
    return Ranker(booster, names), Heads((1,), tuple(heads.values()), (as_it_is,))


if __name__ == "__main__":
    main()
