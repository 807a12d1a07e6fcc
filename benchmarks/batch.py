"""The batch job at size: users a second, where the time goes, the peak of memory, what is found.

    python -m benchmarks.batch --users 1000000 --items 100000 --json out.json

A synthetic shop (benchmarks/scale.py) is drawn and prepared in parts, then everybody's lists are
made and written by the path of the batch job, each number of users in a process of its own. Text
vectors are drawn around the tastes; no encoder runs. After each bucket a reference LightGBM (300
trees, 31 leaves) scores 200 rows for each of some of its users, so that both meet the same machine.
Shares of the stages are of some blocks, one thread each. What a narrowed search finds is compared
with scoring every item, for some users. `--listed 50000` lists only so many users and says what all
would take; the state is always of all.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import lightgbm
import numpy as np
import pyarrow.parquet as pq
from rich.console import Console
from rich.table import Table

from benchmarks.look import HISTORY
from benchmarks.quality import GIB, describe_run
from benchmarks.scale import TASTE_ITEMS, alone, shop, some_models
from benchmarks.speed import REFERENCE, REFERENCE_ROWS, REFERENCE_TREES
from pipelines.prepare import prepare
from pipelines.prepared import Prepared, open_prepared
from pipelines.recommender import Method, Snapshot, look, make_lists, snapshot_of, table_of
from pipelines.stages import Stages
from pipelines.textindex import indexed
from pipelines.textmodel import distinct_texts, words_in_common
from recsys.calibration import Heads
from recsys.candidates import CandidateConfig
from recsys.dataset import Log
from recsys.interest import TextModel, UserPooling
from recsys.ranker import Ranker
from recsys.related import related_items
from recsys.schema import DataConfig
from recsys.state import StateConfig, state_at
from recsys.threads import in_threads
from serving.audience import ALL, bucket_of
from serving.parts import Work, lists_table, make_part
from serving.plan import write_made
from serving.release import write_part

DIM, PART_USERS = 384, 50_000  # of the packaged encoder; users of a file of events
TIMED_USERS, COMPARED_USERS, LOOKED_BUCKETS = 2_000, 256, 4
PARTS = ("look", "features", "scoring", "explaining", "writing")


def main() -> None:
    """Measure each number of users, print a table, write it as JSON."""
    parser = argparse.ArgumentParser(prog="benchmarks.batch", description=__doc__)
    parser.add_argument("--users", type=int, nargs="+", default=[1_000_000])
    parser.add_argument("--items", type=int, default=100_000)
    parser.add_argument("--events", type=int, default=20, help="of each user")
    parser.add_argument("--k", type=int, default=50)
    parser.add_argument("--spread", type=float, default=1.0, help="of texts around their taste")
    parser.add_argument("--dense-items", type=int, default=CandidateConfig().dense_items)
    parser.add_argument("--listed", type=int, help="list only so many users")
    parser.add_argument("--json", type=Path, help="where to write the report")
    asked, points = parser.parse_args(), []
    for users in asked.users:
        with tempfile.TemporaryDirectory() as folder:
            drawn = alone(drawn_and_prepared, folder, users, asked.items, asked.events)
            points.append(drawn | alone(listed, folder, asked.k, asked.spread, asked.dense_items,
                                        asked.listed))  # fmt: skip
    for point in points:
        Console(width=100, highlight=False).print(described(point))
    if asked.json:
        report = {"points": points, "run": describe_run("synthetic")}
        asked.json.write_text(json.dumps(report, indent=2) + "\n")


def described(point: dict[str, Any]) -> Table:
    """Draw one number of users."""
    table = Table("what", "value", title=f"{point['users']:,} users, {point['items']:,} items")
    shares = ", ".join(f"{name} {point['shares'][name]:.0%}" for name in PARTS)
    rows = {
        "prepare": f"{point['prepare_s']:.0f} s, peak {point['prepare_bytes'] / GIB:.2f} GiB",
        "state": f"{point['state_s']:.0f} s, peak {point['state_bytes'] / GIB:.2f} GiB",
        "lists": f"{point['lists_s']:.0f} s, peak {point['lists_bytes'] / GIB:.2f} GiB",
        "users a second": f"{point['users_per_second']:.0f}",
        "candidates a user": f"{point['rows']:.0f}",
        "of the lists' time": shares,
        "bytes a list, as Parquet": f"{point['bytes_per_list']:.0f}",
        "lists over the reference": f"{point['over_reference']:.2f}",
        "state and lists over it": f"{point['whole_over_reference']:.2f}",
        "candidates found of exact": f"{point['found']:.4f}",
    }
    for name, value in rows.items():
        table.add_row(name, value)
    return table


def drawn_and_prepared(folder: str, users: int, n_items: int, n_events: int) -> dict[str, Any]:
    """Draw a shop in files of some users each, and prepare it."""
    events, stages = Path(folder) / "events", Stages()
    events.mkdir()
    for first in range(0, users, PART_USERS):
        some, items = shop(min(PART_USERS, users - first), n_items, n_events, first)
        pq.write_table(some, events / f"part-{first:09d}.parquet")
    del some
    pq.write_table(items, Path(folder) / "items.parquet")
    with stages.measure("prepare"):
        prepare(events, Path(folder) / "items.parquet", Path(folder) / "prepared",
                DataConfig(), "time")  # fmt: skip
    return {"users": users, "items": n_items, "prepare_s": stages.seconds["prepare"],
            "prepare_bytes": stages.peak_memory_bytes["prepare"]}  # fmt: skip


def listed(
    folder: str, k: int, spread: float, dense_items: int, most: int | None
) -> dict[str, Any]:
    """Make and write the lists of all users (or the first `most`)."""
    prepared, stages = open_prepared(Path(folder) / "prepared"), Stages()
    candidates = CandidateConfig(dense_items=dense_items)
    method = Method(prepared.items(), candidates, dated=True, exclude_seen=True)
    snapshot = known(prepared, method, spread, stages)
    with stages.measure("models"):
        ranker, heads = some_models(prepared, method, snapshot)
        rows, reference = reference_of(prepared, method, snapshot, ranker)
    users, moment = prepared.manifest.n_users, prepared.windows.test_end
    work = Work(method, snapshot, ranker, heads, moment, k)
    models = method, snapshot, ranker, heads
    warm = dict.fromkeys(PARTS, 0.0)  # what is compiled is compiled before the clock runs
    by_stage(*models, prepared.bucket(0), moment, k, prepared, warm)
    spent = dict.fromkeys(("lists", "reference", *PARTS), 0.0)
    done, peak, n_rows, n_bytes = 0, 0, 0.0, 0
    for number in range(prepared.n_buckets):
        lists = Stages()
        with lists.measure("lists"):
            bucket = bucket_of(prepared, number, ALL, moment)
            part = make_part(work, bucket)
            write_made(Path(folder) / "release", part)
        log = bucket.log
        spent["lists"] += lists.seconds["lists"]
        peak = max(peak, lists.peak_memory_bytes["lists"])
        n_bytes += len(part.data)
        spent["reference"] += _scored(reference, rows) * len(log.users)
        if number < LOOKED_BUCKETS:
            n_rows = by_stage(method, snapshot, ranker, heads, log, moment, k, prepared, spent)
        done += len(log.users)
        if most and done >= most:
            break
    state_s = sum(stages.seconds[stage] for stage in ("texts", "related", "counted", "index"))
    spent["explaining"] -= spent["features"] + spent["scoring"]
    share, parts = users / done, sum(spent[name] for name in PARTS)
    return {
        "listed": done, "state_s": state_s, "lists_s": share * spent["lists"], "rows": n_rows,
        "reference_s": share * spent["reference"], "bytes_per_list": n_bytes / done,
        "state_bytes": max(stages.peak_memory_bytes.values()), "lists_bytes": peak,
        "users_per_second": done / spent["lists"],
        "shares": {name: spent[name] / parts for name in PARTS},
        "over_reference": spent["lists"] / spent["reference"],
        "whole_over_reference": (state_s + share * spent["lists"]) / (share * spent["reference"]),
        "found": found_of_exact(method, snapshot, log, moment),
        "seconds": stages.seconds, "peak_memory_bytes": stages.peak_memory_bytes,
    }  # fmt: skip


def known(prepared: Prepared, method: Method, spread: float, stages: Stages) -> Snapshot:
    """Count and fit everything at the end of the log; draw the vectors of the texts."""
    end, n_items, config = prepared.windows.test_end, len(method.items), StateConfig()
    with stages.measure("texts"):
        texts, text_of_item = distinct_texts(method.items.text)
        rng, first = np.random.default_rng(0), np.unique(text_of_item, return_index=True)[1]
        n_tastes = max(1, n_items // TASTE_ITEMS)
        centres = rng.standard_normal((n_tastes, DIM), np.float32)
        noise = rng.standard_normal((len(texts), DIM), np.float32)
        vectors = centres[first % n_tastes] + spread * noise
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        lexical = words_in_common(method.items, config.neighbours)
        model = TextModel(text_of_item, vectors, vectors, UserPooling(DIM, HISTORY), lexical)
    with stages.measure("related"):
        related = related_items(prepared.buckets(), end, n_items, config)
    with stages.measure("counted"):
        state = state_at(prepared.buckets(), end, n_items, method.dated, config)
    with stages.measure("index"):
        model = indexed(model, method.candidates, prepared, end, lambda *_: None)
    return snapshot_of(method, state, related, model)


def reference_of(
    prepared: Prepared, method: Method, snapshot: Snapshot, ranker: Ranker
) -> tuple[np.ndarray, lightgbm.Booster]:
    """Return rows of some users, 200 for each, and a LightGBM of its own that scores them."""
    log, end = prepared.bucket(0), prepared.windows.test_end
    users = log.users[: method.block_size]
    block = look(method, snapshot, log, users, np.full(len(users), end))
    table = table_of(method, snapshot, block, ranker.features)
    rng = np.random.default_rng(0)
    taken = (rng.random(len(table)) < 0.1).astype(np.int64)
    booster = lightgbm.train(REFERENCE, lightgbm.Dataset(table, taken), REFERENCE_TREES)
    return table[rng.integers(0, len(table), TIMED_USERS * REFERENCE_ROWS)], booster


def _scored(reference: lightgbm.Booster, rows: np.ndarray) -> float:
    """Return the seconds a user, on all cores."""
    began = time.perf_counter()
    reference.predict(rows)
    return (time.perf_counter() - began) / TIMED_USERS


def by_stage(
    method: Method, snapshot: Snapshot, ranker: Ranker, heads: Heads, log: Log, moment: int,
    k: int, prepared: Prepared, spent: dict[str, float],
) -> float:  # fmt: skip
    """Add the seconds of each part of one block; return its candidates a user."""
    users = log.users[: method.block_size]

    def clock(part: str, began: float) -> float:
        spent[part] += time.thread_time() - began
        return time.thread_time()

    def one_by_one(some: np.ndarray) -> float:
        now = time.thread_time()
        block = look(method, snapshot, log, some, np.full(len(some), moment, np.int64))
        now = clock("look", now)
        table = table_of(method, snapshot, block, ranker.features)
        now = clock("features", now)
        ranker.scores(table, block.candidates.request, method.first_pass)
        now = clock("scoring", now)
        lists = make_lists(method, snapshot, block, ranker, heads, k)  # both of them once more
        now = clock("explaining", now)
        ids = prepared.ids_of(some)
        with tempfile.TemporaryDirectory() as folder:
            write_part(Path(folder), 0, lists_table(lists, ids, method.items.ids))
        clock("writing", now)
        return len(table) / len(some)

    [rows] = in_threads(one_by_one, [users])
    return rows


def found_of_exact(method: Method, snapshot: Snapshot, log: Log, moment: int) -> float:
    """Return the share of the candidates of scoring every item that some users have."""
    users = log.users[:COMPARED_USERS]
    exact = replace(method, candidates=method.candidates.model_copy(
        update={"dense_items": len(method.items)}))  # fmt: skip
    keys = []
    for one in (exact, method):
        for some in np.array_split(users, 8):
            block = look(one, snapshot, log, some, np.full(len(some), moment, np.int64))
            rows = block.candidates
            keys.append(some[rows.request] * len(method.items) + rows.item)
    half = len(keys) // 2
    return float(np.isin(np.concatenate(keys[:half]), np.concatenate(keys[half:])).mean())


if __name__ == "__main__":
    main()
