"""How long it takes to look at requests and to describe their candidates, by size of block.

    python -m benchmarks.look --prepared runs/demo/run/prepared

On any prepared folder, without training: text vectors are random, the time is the same. Blocks that
fit the cache are compared with larger ones, on the same users at the end of the log.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from features.catalogue import active_features
from pipelines.prepared import Prepared, open_prepared
from pipelines.recommender import Method, Snapshot, look, snapshot_of, table_of
from pipelines.stages import Stages
from pipelines.textmodel import distinct_texts, words_in_common
from recsys.candidates import CandidateConfig, block_size
from recsys.errors import RecsysError
from recsys.interest import TextModel, UserPooling
from recsys.related import related_items
from recsys.state import StateConfig, state_at

DIM, HISTORY = 384, 20  # of the packaged encoder; of TrainingConfig


def main() -> None:
    """Time blocks of several sizes and print milliseconds a request."""
    parser = argparse.ArgumentParser(prog="benchmarks.look", description=__doc__)
    parser.add_argument("--prepared", type=Path, required=True, help="of recsys prepare or train")
    parser.add_argument("--requests", type=int, default=360)
    asked = parser.parse_args()
    try:
        prepared = open_prepared(asked.prepared)
    except RecsysError as error:
        print(error, file=sys.stderr)
        sys.exit(2)
    items, windows = prepared.items(), prepared.windows
    method = Method(items, CandidateConfig(), windows.dated, exclude_seen=False)
    stages = Stages()
    snapshot = known(prepared, method, stages)
    size = block_size(len(items))
    title = f"{len(items):,} items, {asked.requests} requests"
    table = Table(
        "requests in a block", "look, ms a request", "describe, ms a request", title=title
    )
    for block in (size, 2 * size, 8 * size):
        times = timed(prepared, method, snapshot, asked.requests, min(block, asked.requests))
        table.add_row(f"{block:,}", *(f"{1000 * value:.2f}" for value in times))
    console = Console()
    console.print(table)
    console.print({part: f"{value:.1f} s" for part, value in stages.seconds.items()})


def known(prepared: Prepared, method: Method, stages: Stages) -> Snapshot:
    """Count and fit everything at the end of the log."""
    texts, text_of_item = distinct_texts(method.items.text)
    drawn = np.random.default_rng(0).normal(size=(len(texts), DIM)).astype(np.float32)
    drawn /= np.linalg.norm(drawn, axis=1, keepdims=True)
    end, n_items, config = prepared.windows.test_end, len(method.items), StateConfig()
    with stages.measure("item cosine and EASE"):
        related = related_items(prepared.buckets(), end, n_items, config)
    with stages.measure("state"):
        state = state_at(prepared.buckets(), end, n_items, method.dated, config)
    lexical = words_in_common(method.items, config.neighbours)
    model = TextModel(text_of_item, drawn, drawn, UserPooling(DIM, HISTORY), lexical)
    return snapshot_of(method, state, related, model)


def timed(
    prepared: Prepared, method: Method, snapshot: Snapshot, n_requests: int, size: int
) -> tuple[float, float]:
    """Return the seconds a request of looking and of describing, after one block to warm up."""
    log, names = prepared.bucket(0), active_features(method.dated)
    users = log.users[:n_requests]
    spent = np.zeros(2)
    for step, at in enumerate((0, *range(0, len(users), size))):
        some = users[at : at + size]
        began = time.perf_counter()
        moment = np.full(len(some), prepared.windows.test_end)
        block = look(method, snapshot, log, some, moment)
        looked = time.perf_counter()
        table_of(method, snapshot, block, names)
        spent += (looked - began, time.perf_counter() - looked) if step else (0, 0)
    return float(spent[0] / len(users)), float(spent[1] / len(users))


if __name__ == "__main__":
    main()
