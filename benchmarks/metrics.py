"""Time to evaluate many lists: every metric of every request at 5, 10, 20 and 50, and its memory.

    python -m benchmarks.metrics --json out.json
    python -m benchmarks.metrics --rectools-python rectools/bin/python

Lists are synthetic: 50 different items of 50,000 each, popular ones more often, with one to five
relevant items a request, of which a list holds about half. Requests are evaluated a block at a
time, blocks in threads. "All" is NDCG, recall, HR, MRR, MAP, novelty, popularity, serendipity,
intra-list distance by vectors and miscalibration by categories. With `--rectools-python` RecTools
evaluates the same lists in a process of its own (benchmarks/rectools_metrics.py says how to install
it) by the metrics that both have, all but the last two; ours are then timed on these alone too,
and must agree. Making tables of the lists is not counted on either side.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from math import log2
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from benchmarks.quality import GIB, describe_run
from pipelines.stages import Stages
from recsys.diversity import Mix, intra_list_distance, miscalibration, serendipity
from recsys.exposure import list_means, surprise
from recsys.metrics import KS, ranks_in_lists, request_metrics
from recsys.threads import in_threads

LENGTH = max(KS)
BLOCK = 25_000  # requests evaluated at once
TASTES = 5  # categories that a user took from
AGREE = ("ndcg", "recall", "hr", "mrr", "map", "novelty", "popularity")
CLOSE = 1e-5


@dataclass(frozen=True)
class Shop:
    """Lists, what was taken, and what is known of items and users."""

    lists: np.ndarray  # (n_requests, LENGTH) int32
    request: np.ndarray  # (n_relevant,) int64, ascending
    item: np.ndarray  # (n_relevant,) int32
    taste: np.ndarray  # (n_requests, TASTES) int32 categories of what the user took, ascending
    past_user: np.ndarray  # (n_past,) int64
    past_item: np.ndarray  # (n_past,) int32, no item twice of one user
    category: np.ndarray  # (n_items,) int32
    vectors: np.ndarray  # (n_items, dims) float32

    @property
    def n_events(self) -> np.ndarray:
        """(n_items,) past events."""
        return np.bincount(self.past_item, minlength=len(self.category))


def main() -> None:
    """Make lists, evaluate them, let RecTools do so too, print a table, write it as JSON."""
    parser = argparse.ArgumentParser(prog="benchmarks.metrics", description=__doc__)
    parser.add_argument("--requests", type=int, default=1_000_000)
    parser.add_argument("--items", type=int, default=50_000)
    parser.add_argument("--dims", type=int, default=384, help="of the items' text vectors")
    parser.add_argument("--categories", type=int, default=200)
    parser.add_argument("--rectools-python", help="a Python that has RecTools")
    parser.add_argument("--json", type=Path, help="where to write the report")
    asked = parser.parse_args()
    rng, stages = np.random.default_rng(0), Stages()
    shop = shop_of(asked.requests, asked.items, asked.dims, asked.categories, rng)
    report: dict[str, Any] = {"requests": asked.requests, "relevant": len(shop.item)}
    with stages.measure("all"):
        report["values"] = evaluated(shop, beyond_both=True)
    title = f"{asked.requests:,} requests x {LENGTH} items, {len(report['values'])} values each"
    table = Table("what", "seconds", "requests/s", "peak, GiB", title=title)
    if asked.rectools_python:
        with stages.measure("both"):
            shared = evaluated(shop, beyond_both=False)
        report["rectools"] = rectools(shop, asked.rectools_python)
        report["ratio"] = report["rectools"]["seconds"] / stages.seconds["both"]
    report |= {"seconds": stages.seconds, "peak_memory_bytes": stages.peak_memory_bytes}
    rows = [("ours, all metrics", stages.seconds["all"], stages.peak_memory_bytes["all"])]
    if asked.rectools_python:
        told = report["rectools"]
        ours = (stages.seconds["both"], stages.peak_memory_bytes["both"])
        rows += [("ours, those that RecTools has", *ours),
                 (f"RecTools {told['version']}", told["seconds"], told["peak_bytes"])]  # fmt: skip
    for what, seconds, peak in rows:
        rate = f"{asked.requests / seconds:,.0f}"
        table.add_row(what, f"{seconds:.1f}", rate, f"{peak / GIB:.2f}")
    Console(width=110, highlight=False).print(table)
    if asked.rectools_python:
        print(f"ours, times as fast as RecTools: {report['ratio']:.1f}")
    if asked.json:
        report["run"] = describe_run("synthetic lists")
        asked.json.write_text(json.dumps(report, indent=2) + "\n")
    if asked.rectools_python and (wrong := disagreements(shop, shared, told["values"])):
        sys.exit(f"the two sides do not say the same: {wrong}")


def shop_of(
    n_requests: int, n_items: int, dims: int, n_categories: int, rng: np.random.Generator
) -> Shop:
    """Draw everything; a place of a list comes from a range of popularity of its own."""
    edges = np.floor(n_items * (np.arange(LENGTH + 1) / LENGTH) ** 2).astype(np.int64)
    code = rng.permutation(n_items).astype(np.int32)  # of each place in the order of popularity
    lists = np.empty((n_requests, LENGTH), np.int32)
    for start in range(0, n_requests, BLOCK):
        rows = min(BLOCK, n_requests - start)
        drawn = rng.integers(edges[:-1], edges[1:], (rows, LENGTH))
        lists[start : start + rows] = code[rng.permuted(drawn, axis=1)]
    count = rng.integers(1, 6, n_requests)
    request = np.repeat(np.arange(n_requests), count)
    place = np.minimum(rng.geometric(0.05, len(request)) - 1, LENGTH - 1)
    other = code[(n_items * rng.random(len(request)) ** 2).astype(np.int64)]
    item = np.where(rng.random(len(request)) < 0.5, lists[request, place], other)
    key = np.unique(request * n_items + item)  # no item twice
    n_past = 2 * n_requests
    past = np.unique(rng.integers(0, n_requests, n_past) * n_items
                     + code[(n_items * rng.random(n_past) ** 2).astype(np.int64)])  # fmt: skip
    vectors = rng.standard_normal((n_items, dims), np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    steps = rng.integers(1, max(2, n_categories // TASTES), (n_requests, TASTES), np.int32)
    return Shop(
        lists, key // n_items, (key % n_items).astype(np.int32), steps.cumsum(1, np.int32) - 1,
        past // n_items, (past % n_items).astype(np.int32),
        rng.integers(0, n_categories, n_items).astype(np.int32), vectors,
    )  # fmt: skip


def evaluated(shop: Shop, beyond_both: bool) -> dict[str, float]:
    """Work out every value of every request; return the means.

    Args:
        shop: what there is.
        beyond_both: also what RecTools has not.
    """
    n_events = shop.n_events
    bits, place = surprise(n_events), np.empty(len(n_events))
    place[np.lexsort((np.arange(len(n_events)), -n_events))] = np.arange(1.0, len(n_events) + 1)

    def use(rows: range) -> dict[str, np.ndarray]:
        lists = shop.lists[rows.start : rows.stop]
        first, last = np.searchsorted(shop.request, [rows.start, rows.stop])
        request, item = shop.request[first:last] - rows.start, shop.item[first:last]
        rank = ranks_in_lists(lists, request, item)
        values = request_metrics(request, np.ones(len(item), int), rank, len(rows), KS)
        tables = {"novelty": list_means(lists, bits, KS),
                  "popularity": list_means(lists, n_events, KS),
                  "serendipity": serendipity(request, rank, place[item], len(rows), KS),
                  }  # fmt: skip
        if beyond_both:
            tables["intra_list_distance"] = intra_list_distance(lists, shop.vectors, KS)
            wanted = mix(shop.taste[rows.start : rows.stop])
            tables["miscalibration"] = miscalibration(lists, shop.category, wanted, KS)
        for name, table in tables.items():
            values |= {f"{name}_at_{k}": table[:, at] for at, k in enumerate(KS)}
        return values

    total: dict[str, float] = {}
    for values in in_threads(use, blocks(len(shop.lists))):
        for name, column in values.items():
            total[name] = total.get(name, 0.0) + float(column.sum())
    return {name: value / len(shop.lists) for name, value in total.items()}


def blocks(n: int) -> Iterator[range]:
    """Cut requests into blocks."""
    return (range(at, min(at + BLOCK, n)) for at in range(0, n, BLOCK))


def mix(taste: np.ndarray) -> Mix:
    """Give each category that a user took from the same share."""
    request = np.repeat(np.arange(len(taste)), TASTES)
    return Mix(request, taste.ravel().astype(np.int64), np.full(taste.size, 1 / TASTES))


def rectools(shop: Shop, python: str) -> dict[str, Any]:
    """Let RecTools evaluate the same lists in a process of its own."""
    script = Path(__file__).with_name("rectools_metrics.py")
    with tempfile.TemporaryDirectory() as folder:
        given, out = Path(folder) / "lists.npz", Path(folder) / "out.json"
        np.savez(
            given, lists=shop.lists, request=shop.request, item=shop.item,
            past_user=shop.past_user, past_item=shop.past_item, n_items=len(shop.category),
        )  # fmt: skip
        subprocess.run([python, str(script), "time", str(given), str(out)], check=True)
        found: dict[str, Any] = json.loads(out.read_text())
    return found


def disagreements(
    shop: Shop, ours: dict[str, float], theirs: dict[str, float]
) -> dict[str, tuple[float, float]]:
    """Return the values that are not the same; novelty has another unit of popularity there."""
    apart = log2(len(shop.past_user) / len(np.unique(shop.past_user)))
    shifted = {name: value - apart * name.startswith("novelty") for name, value in ours.items()}
    return {
        name: (value, theirs[name])
        for name, value in shifted.items()
        if name.startswith(AGREE) and abs(value / theirs[name] - 1) > CLOSE
    }


if __name__ == "__main__":
    main()
