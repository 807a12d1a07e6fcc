"""Users a second, against the same candidates, features and lists made with pandas joins.

    python -m benchmarks.joins --data DIR --protocol leave_last_out --json out.json

Both sides get the same snapshot, the same users, drawn by seed, and the same LightGBM ranker with
all its trees (`ranker.max_trees`), whatever early stopping would have said. What they make is
compared first: candidates, features, the best k (benchmarks/pandas_lists.py is the other side).
Then both make it in rounds, and the ratio is of the medians. In the same rounds: our whole lists,
which also give each item a probability, a source and reasons; and LightGBM alone, on all cores. The
text side is aligned only, which costs the same.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
from rich.console import Console
from rich.table import Table

from benchmarks.pandas_lists import PAIR, PLAIN, Tables, candidates, described, look_at, tables_of
from benchmarks.pandas_lists import lists as joined_lists
from benchmarks.quality import arguments, describe_run, run_of
from benchmarks.speed import K, learned_twice, quick
from features.catalogue import active_features
from pipelines.calibrate import calibrate_heads, learn_heads
from pipelines.recommender import (
    best_rows,
    chunks,
    lists_of,
    look,
    snapshot_of,
    table_of,
)
from pipelines.run import Run, method_of, prepare_data
from pipelines.settings import RunConfig
from pipelines.stages import Stages
from pipelines.textmodel import Show
from pipelines.train import window_rows
from recsys.calibration import Heads
from recsys.candidates import top_items
from recsys.dataset import Log
from recsys.errors import ConfigError
from recsys.ranker import Ranker, refit_ranker
from recsys.sources import HAS_TO_SCORE
from recsys.state import state_at
from recsys.threads import in_threads

CLOSE = {"rtol": 1e-4, "atol": 1e-5}  # float32 sums in another order
CANDIDATES, FEATURES = "candidates, but for ties at a quota", "features"
LISTED = "listed items, of the same candidates"
LEAST = {CANDIDATES: 0.999, FEATURES: 0.999, LISTED: 0.95}  # a leaf may hang on the last bit


def main() -> None:
    """Compare and time both sides, print a table, write it as JSON."""
    parser = arguments("benchmarks.joins", __doc__)
    parser.add_argument("--users", type=int, default=2_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--requests", type=int, default=2_000, help="to learn from")
    parser.add_argument("--block", type=int, default=400, help="users that pandas takes at once")
    asked = parser.parse_args()
    with run_of(asked) as (config, show):
        config = quick(config, asked.requests)
        report = measured(config, show, asked.users, asked.rounds, asked.block)
    same = report["same"]
    title = f"{asked.data.name}: {report['rows']:.0f} rows a user, {report['trees']} trees"
    table = Table("side", "users/s", "ms a user", title=title)
    sides = {"ours": "ours", "pandas": "pandas", "our whole lists": "whole", "LightGBM": "score"}
    for side, name in sides.items():
        seconds = report[f"{name}_s"]
        table.add_row(side, f"{1 / seconds:.0f}", f"{1000 * seconds:.2f}")
    table.add_row("ours, times as fast as pandas", f"{report['ratio']:.1f}")
    shares = [f"  {share:.2%} of {what}" for what, share in same.items()]
    Console(width=120, highlight=False).print(table, "the same on both sides:", *shares, sep="\n")
    if asked.json:
        report["run"] = describe_run(asked.data.name)
        asked.json.write_text(json.dumps(report, indent=2) + "\n")
    if any(same[what] < share for what, share in LEAST.items()):
        sys.exit("the two sides do not make the same lists: one of them is wrong")


def measured(
    config: RunConfig, show: Show, n_users: int, rounds: int, block: int
) -> dict[str, Any]:
    """Make both sides' lists, compare them, time them."""
    tables, log, ranker, heads = known(config, show)
    method, snapshot, moment = tables.method, tables.snapshot, tables.moment
    has_taken = tables.events.loc[tables.events["grade"] > 0, "user"].unique()  # as in a release
    users = np.sort(np.random.default_rng(config.seed).permutation(has_taken)[:n_users])

    def best_of(rows: np.ndarray) -> pd.DataFrame:
        some = users[rows]
        block = look(method, snapshot, log, some, np.full(len(some), moment))
        found = block.candidates
        table = table_of(method, snapshot, block, ranker.features)
        score = ranker.scores(table, found.request, method.first_pass)
        order, rank = best_rows(found.request, found.item, score, K)
        return pd.DataFrame({"user": some[found.request[order]], "item": found.item[order],
                             "rank": rank})  # fmt: skip

    def ours() -> pd.DataFrame:
        return pd.concat(in_threads(best_of, chunks(len(users), method.block_size)))

    def whole() -> int:
        made = lists_of(method, snapshot, log, users, moment, ranker, heads, K)
        return sum(len(lists.item) for _, lists in made)

    def theirs() -> pd.DataFrame:
        cuts = range(0, len(users), block)
        return pd.concat(joined_lists(tables, users[at : at + block], ranker, K) for at in cuts)

    listed = ours().merge(theirs(), on=PAIR, how="outer")  # both are warm now
    same, alike, rows = compared(tables, log, users[:block], ranker)
    listed = listed[listed["user"].isin(alike)]
    inside = listed[["rank_x", "rank_y"]].notna().all(axis=1)
    places = listed.loc[inside, "rank_x"] == listed.loc[inside, "rank_y"]
    same |= {LISTED: float(inside.mean()), "their places": float(places.mean())}
    seconds = timed(rounds, show, ours=ours, pandas=theirs, whole=whole,
                    score=lambda: ranker.booster.predict(rows))  # fmt: skip
    n_rows = len(users[:block])
    each = {f"{side}_s": seconds[side] / (n_rows if side == "score" else len(users))
            for side in seconds}  # fmt: skip
    return each | {"ratio": each["pandas_s"] / each["ours_s"], "same": same,
                   "rows": len(rows) / n_rows, "trees": ranker.trees}  # fmt: skip


def known(config: RunConfig, show: Show) -> tuple[Tables, Log, Ranker, Heads]:
    """Learn and count everything before the valid window; fit a ranker with all its trees.

    Raises:
        ConfigError: an optional source is switched on, which the other side does not have.
    """
    for source in config.candidates.switched_on:
        raise ConfigError(f"candidates.{source}: pandas has no such source here; leave it at 0")
    texts, prepared = learned_twice(config, show), prepare_data(config, show)
    run = Run(config, prepared, method_of(config, prepared), Stages(), show)
    features, trees = active_features(prepared.windows.dated), config.ranker.max_trees
    rows = window_rows(run, "ranker", texts[0], {"full": features})["full"]
    ranker = refit_ranker([rows], features, config.ranker, config.seed, trees)
    method, moment = run.method, prepared.windows.valid
    fitted = run.fitted(texts[1], moment)
    heads = calibrate_heads(run, fitted, learn_heads(run, rows, features))
    state = state_at(prepared.buckets(), moment, len(method.items), method.dated, config.state)
    snapshot = snapshot_of(method, state, fitted.related, fitted.texts)
    log = prepared.bucket(0)
    return tables_of(method, snapshot, log, moment), log, ranker, heads


def timed(rounds: int, show: Show, **sides: Callable[[], Any]) -> dict[str, float]:
    """Return each side's median seconds, in rounds of all of them."""
    spent: dict[str, list[float]] = {side: [] for side in sides}
    for done in range(rounds):
        for side, make in sides.items():
            began = time.perf_counter()
            make()
            spent[side].append(time.perf_counter() - began)
        show("time both sides", done + 1, rounds, "rounds")
    return {side: float(np.median(seconds)) for side, seconds in spent.items()}


def compared(
    tables: Tables, log: Log, users: np.ndarray, ranker: Ranker
) -> tuple[dict[str, float], np.ndarray, np.ndarray]:
    """Return shares that are the same, the users with the same candidates, and our feature rows.

    Features are of our candidates, so that one more does not move the ranks of the others. Where
    scores tie at a source's quota, either item may be the last.
    """
    method, snapshot = tables.method, tables.snapshot
    block = look(method, snapshot, log, users, np.full(len(users), tables.moment))
    rows, names = block.candidates, list(ranker.features)
    table = table_of(method, snapshot, block, names)
    ours = pd.DataFrame(table, columns=names)
    found = pd.DataFrame({"user": users[rows.request], "item": rows.item})
    found["sources"] = sum(np.isfinite(rows.rank[name]).astype(int) for name in PLAIN)
    looked = look_at(tables, users)
    theirs = described(tables, looked, found)[names]
    close = pd.Series({name: np.isclose(ours[name], theirs[name], **CLOSE, equal_nan=True).mean()
                       for name in names})  # fmt: skip
    both = found.merge(candidates(tables, looked), on=PAIR, how="outer")
    equal = both["sources_x"] == both["sources_y"]
    at = np.searchsorted(users, both["user"]), both["item"]
    tied = np.zeros(len(both), bool)
    for name, scores in block.scores.items():
        if quota := getattr(method.candidates, name, 0):
            own, last = scores[at], top_items(scores, quota)[1][:, -1][at[0]]
            tied |= (own > HAS_TO_SCORE.get(name, -np.inf)) & np.isclose(own, last, 1e-5, 0.0)
    same = {
        "candidates": equal.mean(), CANDIDATES: (equal | tied).mean(),
        FEATURES: close.mean(), f"the worst feature ({close.idxmin()})": close.min(),
    }  # fmt: skip
    alike = np.setdiff1d(users, both["user"][~equal])
    return {what: float(share) for what, share in same.items()}, alike, table


if __name__ == "__main__":
    main()
