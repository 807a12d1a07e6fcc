"""Counts of a key's events in windows before a moment: ours against polars' join_asof.

    python -m benchmarks.asof --json out.json

Synthetic events in the order of time over three years, keys of unequal activity; requests at
midnights, for keys drawn as often as they are active. Both sides answer the same questions, which
is checked, in the same rounds; the ratio is of the medians. Ours runs on one thread, polars on all
it takes; its frames are made before the clock starts, and it is told that events are sorted.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from rich.console import Console
from rich.table import Table

from benchmarks.quality import describe_run
from recsys.asof import counts_before
from recsys.dataset import DAY

DAYS, WINDOWS_DAYS = 3 * 365, (7, 28, 91)
WINDOWS = [days * DAY for days in WINDOWS_DAYS]


def main() -> None:
    """Time both for each number of keys, print a table, write it as JSON."""
    parser = argparse.ArgumentParser(prog="benchmarks.asof", description=__doc__)
    parser.add_argument("--events", type=int, default=10_000_000)
    parser.add_argument("--requests", type=int, default=2_000_000)
    parser.add_argument("--keys", type=int, nargs="+", default=[12_000, 500_000])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", type=Path, help="where to write the report")
    asked = parser.parse_args()
    title = f"{asked.events:,} events, {asked.requests:,} requests, windows of {WINDOWS_DAYS} days"
    table = Table("keys", "ours, s", "polars join_asof, s", "times as fast", "counts equal",
                  title=title)  # fmt: skip
    points = [measured(n, asked.events, asked.requests, asked.rounds) for n in asked.keys]
    for point in points:
        table.add_row(f"{point['keys']:,}", f"{point['ours_s']:.2f}", f"{point['polars_s']:.2f}",
                      f"{point['ratio']:.1f}", f"{point['equal']:.2%}")  # fmt: skip
    Console(width=120).print(table)
    if asked.json:
        report = {"points": points, "threads_of_polars": pl.thread_pool_size(),
                  "run": describe_run("synthetic")}  # fmt: skip
        asked.json.write_text(json.dumps(report, indent=2) + "\n")
    if any(point["equal"] < 1 for point in points):
        sys.exit("the two sides count differently: one of them is wrong")


def measured(n_keys: int, n_events: int, n_requests: int, rounds: int) -> dict[str, Any]:
    """Time both in rounds; also say which share of the counts is equal, and their sum."""
    key, moment, asked_key, asked_moment = drawn(n_keys, n_events, n_requests)
    events = pl.DataFrame({"key": key, "moment": moment}).with_columns(
        pl.col("moment").set_sorted()
    )
    requests = pl.DataFrame({"key": asked_key, "asked": asked_moment}).with_row_index("row")
    spent: tuple[list[float], list[float]] = ([], [])
    for _ in range(rounds):
        began = time.perf_counter()
        ours = counts_before(key, moment, asked_key, asked_moment, WINDOWS)
        between = time.perf_counter()
        theirs = joined(events, requests)
        spent[0].append(between - began)
        spent[1].append(time.perf_counter() - between)
    ours_s, polars_s = (float(np.median(seconds)) for seconds in spent)
    return {"keys": n_keys, "events": n_events, "requests": n_requests, "ours_s": ours_s,
            "polars_s": polars_s, "ratio": polars_s / ours_s,
            "equal": float((ours == theirs).mean()), "counted": ours.sum(1).tolist()}  # fmt: skip


def drawn(
    n_keys: int, n_events: int, n_requests: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Draw (keys, ascending moments) of events and (keys, midnights) of requests, all int64."""
    rng = np.random.default_rng(0)
    active = np.cumsum(rng.lognormal(sigma=1.5, size=n_keys))
    key, asked = (np.searchsorted(active, rng.random(n) * active[-1])
                  for n in (n_events, n_requests))  # fmt: skip
    moment = np.sort(rng.integers(0, DAYS * DAY, n_events))
    return key, moment, asked, rng.integers(0, DAYS, n_requests) * DAY


def joined(events: pl.DataFrame, requests: pl.DataFrame) -> np.ndarray:
    """Count by one join_asof: of each key's running count at both ends of each window.

    Returns:
        (n_windows, n_requests) counts.
    """
    counted = events.with_columns(count=pl.col("key").cum_count().over("key"))
    ends = [
        requests.select("row", "key", at=pl.col("asked") - window, window=pl.lit(window, pl.Int64))
        for window in (0, *WINDOWS)
    ]
    found = pl.concat(ends).sort("at").join_asof(
        counted, left_on="at", right_on="moment", by="key", allow_exact_matches=False,
        check_sortedness=False,
    )  # fmt: skip
    until = found.select("row", "window", pl.col("count").fill_null(0)).sort("window", "row")
    counts = until["count"].to_numpy().reshape(len(ends), -1).astype(np.int64)
    return np.asarray(counts[0] - counts[1:])


if __name__ == "__main__":
    main()
