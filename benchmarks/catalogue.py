"""What a user costs as the catalogue grows: every item scored, against the best looked up.

    python -m benchmarks.catalogue --json out.json

Catalogues are drawn: texts are unit vectors around centres, each item has neighbours, most of them
of its own centre, and users took items of a few centres. Both ways look at the same users, in one
thread; of those that score every item there are fewer. Printed beside the time: how long the index
takes to build, what it finds of the nearest texts, and what share of all candidates that scoring
every item finds is found without. `candidates.dense_items` is read off this table.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from scipy import sparse
from threadpoolctl import threadpool_limits

from benchmarks.quality import GIB, describe_run
from pipelines.recommender import Block, Method, chunks, look, snapshot_of
from pipelines.stages import Stages
from recsys.asof import last_items, past_of
from recsys.candidates import CandidateConfig
from recsys.dataset import ALWAYS_FROM, ALWAYS_UNTIL, DAY, Items, Log
from recsys.errors import RecsysError
from recsys.index import build_index
from recsys.interest import TextModel, UserPooling
from recsys.neighbours import Neighbours
from recsys.related import Related
from recsys.state import ItemState, StateConfig, state_at

SIZES = [10_000, 100_000, 1_000_000]
DIM, HISTORY, SAMPLE = 384, 20, 200  # of the packaged encoder; of TrainingConfig; of the recall
AROUND = 100  # items around a centre
NEIGHBOURS, OWN_SHARE = 100, 0.8  # of each item; of them, around the same centre
EVENTS, CENTRES, NOW = 30, 3, 200 * DAY  # of each user
SCORED_USERS = 64  # that every item is scored for
ROWS = 100_000  # drawn at a time


def main() -> None:
    """Measure each size, print a table, write it as JSON."""
    parser = argparse.ArgumentParser(prog="benchmarks.catalogue", description=__doc__)
    parser.add_argument("--sizes", type=int, nargs="+", default=SIZES, help="numbers of items")
    parser.add_argument("--users", type=int, default=512)
    parser.add_argument("--spread", type=float, default=1.0, help="how far around their centre")
    parser.add_argument("--json", type=Path, help="where to write the report")
    asked, points = parser.parse_args(), []
    table = Table("items", "index, s", "recall@100", "lists", "scored, ms a user",
                  "looked up, ms a user", "candidates found", "peak, GiB",
                  title=f"{asked.users} users, one thread")  # fmt: skip
    try:
        for n_items in asked.sizes:
            points.append(measured(n_items, asked.users, asked.spread))
            point = points[-1]
            table.add_row(f"{n_items:,}", f"{point['index_s']:.1f}", f"{point['recall']:.3f}",
                          f"{point['lists']:,} of {point['all_lists']:,}",
                          f"{point['scored_ms']:.2f}", f"{point['looked_up_ms']:.2f}",
                          f"{point['found']:.3f}", f"{point['peak_bytes'] / GIB:.1f}")  # fmt: skip
    except RecsysError as error:
        print(error, file=sys.stderr)
        sys.exit(2)
    Console(width=130).print(table)
    if asked.json:
        report = {"points": points, "run": describe_run("synthetic")}
        asked.json.write_text(json.dumps(report, indent=2) + "\n")


def measured(n_items: int, n_users: int, spread: float) -> dict[str, Any]:
    """Look at users both ways, in one catalogue."""
    rng, stages = np.random.default_rng(n_items), Stages()
    with stages.measure("all"):
        items, log = catalogue(n_items), histories(n_items, n_users, rng)
        texts, state, related = drawn(n_items, spread, rng)
        past = past_of(log, log.users[:SAMPLE], np.full(min(SAMPLE, n_users), NOW), DAY, EVENTS)
        users = texts.users(last_items(past, HISTORY))[1]
        began = time.perf_counter()
        index = build_index(texts.tuned, users)
        index_s = time.perf_counter() - began
        texts = replace(texts, frozen_index=index, tuned_index=index)  # the same vectors
        ways = {}
        for name, dense_items, some in (("scored", n_items, log.users[:SCORED_USERS]),
                                        ("looked_up", 0, log.users)):  # fmt: skip
            config = CandidateConfig(dense_items=dense_items)
            method = Method(items, config, dated=True, exclude_seen=True)
            snapshot = snapshot_of(method, state, related, texts)
            ways[name] = timed(method, snapshot, log, some)
    whole, found = (keys for _, keys in ways.values())
    return {"items": n_items, "index_s": index_s, "recall": index.recall, "lists": index.lists,
            "all_lists": index.faiss.nlist, "found": float(np.isin(whole, found).mean()),
            "peak_bytes": stages.peak_memory_bytes["all"],
            **{f"{name}_ms": ms for name, (ms, _) in ways.items()}}  # fmt: skip


def timed(method: Method, snapshot: Any, log: Log, users: np.ndarray) -> tuple[float, np.ndarray]:
    """Return ms a user, after a block to warm up, and the (user, item) found, as keys."""
    threads, keys, spent = torch.get_num_threads(), [], 0.0
    torch.set_num_threads(1)

    def looked_at(some: np.ndarray) -> Block:
        return look(method, snapshot, log, some, np.full(len(some), NOW))

    with threadpool_limits(1, "blas"):
        looked_at(users[: method.block_size])
        for rows in chunks(len(users), method.block_size):
            began = time.perf_counter()
            found = looked_at(users[rows]).candidates
            spent += time.perf_counter() - began
            keys.append(users[rows][found.request] * len(method.items) + found.item)
    torch.set_num_threads(threads)
    return 1000 * spent / len(users), np.concatenate(keys)


def catalogue(n_items: int) -> Items:
    """Items without any metadata."""
    text, none = np.full(n_items, "", object), np.full(n_items, -1, np.int32)
    return Items(np.arange(n_items), text, text, none, none, np.full(n_items, np.nan, np.float32),
                 np.full(n_items, ALWAYS_FROM), np.full(n_items, ALWAYS_UNTIL))  # fmt: skip


def centre_of(item: np.ndarray, n_items: int) -> np.ndarray:
    """Return the centre that each item lies around."""
    return item % max(1, n_items // AROUND)


def around(centre: np.ndarray, n_items: int, rng: np.random.Generator) -> np.ndarray:
    """Draw an item around each centre."""
    n_centres = max(1, n_items // AROUND)
    return np.minimum(rng.integers(0, AROUND, centre.shape) * n_centres + centre, n_items - 1)


def histories(n_items: int, n_users: int, rng: np.random.Generator) -> Log:
    """Draw what users took, each around a few centres."""
    mine = rng.integers(0, max(1, n_items // AROUND), (n_users, CENTRES))
    row, which = np.repeat(np.arange(n_users), EVENTS), rng.integers(0, CENTRES, n_users * EVENTS)
    item = around(mine[row, which], n_items, rng).astype(np.int32)
    moment = np.sort(rng.integers(0, 199, (n_users, EVENTS)), axis=1).ravel() * DAY
    grade, weight = np.ones(len(row), np.int8), np.ones(len(row), np.float32)
    ends, price = np.arange(n_users + 1) * EVENTS, np.full(len(row), np.nan, np.float32)
    return Log(np.arange(n_users), ends, item, moment, grade, weight, price)


def drawn(
    n_items: int, spread: float, rng: np.random.Generator
) -> tuple[TextModel, ItemState, Related]:
    """Draw what is known of the items; all neighbour sources have the same neighbours."""
    centres = rng.standard_normal((max(1, n_items // AROUND), DIM), np.float32)
    vectors = np.empty((n_items, DIM), np.float32)
    for at in range(0, n_items, ROWS):
        some = np.arange(at, min(at + ROWS, n_items))
        noise = rng.standard_normal((len(some), DIM), np.float32)
        vectors[some] = centres[centre_of(some, n_items)] + spread * noise
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    near = neighbours(n_items, rng)
    texts = TextModel(np.arange(n_items), vectors, vectors, UserPooling(DIM, HISTORY), near)
    count = np.floor(n_items / (1 + rng.permutation(n_items)))  # Zipfian
    once = np.full(n_items, float(NOW - 100 * DAY))
    state = replace(state_at([], NOW, n_items, True, StateConfig()), count=count, users=count,
                    popularity=count, first=once, last=once, follows=near,
                    precedes=near)  # fmt: skip
    return texts, state, Related(near, near)


def neighbours(n_items: int, rng: np.random.Generator) -> Neighbours:
    """Draw the neighbours of each item, most of them around its own centre."""
    columns = np.empty((n_items, NEIGHBOURS), np.int32)
    for at in range(0, n_items, ROWS):
        some = np.arange(at, min(at + ROWS, n_items))
        centre = np.broadcast_to(centre_of(some, n_items)[:, None], (len(some), NEIGHBOURS))
        own = rng.random(centre.shape, np.float32) < OWN_SHARE
        columns[some] = np.where(own, around(centre, n_items, rng),
                                 rng.integers(0, n_items, centre.shape))  # fmt: skip
    columns.sort(axis=1)
    indptr = np.arange(n_items + 1) * NEIGHBOURS
    strength = rng.random(columns.size, np.float32)
    return sparse.csr_matrix((strength, columns.ravel(), indptr), (n_items, n_items))


if __name__ == "__main__":
    main()
