"""What each source, family of features and choice of the ranker's loss is worth, and what it costs.

    python -m benchmarks.variants --data DIR --protocol time --json out.json
    python -m benchmarks.variants --data DIR --protocol time \\
        --variant "candidates.due=60" "candidates.repeat=0 candidates.due=60"

Each variant is the defaults with some settings changed. The text side is learned once, candidates
and rows are made anew; rankers stop by one half of the valid window's users and are measured on the
other, all candidates ranked, on the same requests (test is not read).
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from benchmarks.quality import arguments, describe_run, run_of
from features.catalogue import CATALOGUE
from pipelines.config import changed
from pipelines.halves import Halves, rows_in_halves, texts_of
from pipelines.recommender import lists_of, snapshot_of
from pipelines.run import Run, method_of, prepare_data
from pipelines.settings import RunConfig
from pipelines.stages import Stages
from pipelines.textmodel import Learned, Show
from pipelines.train import fit
from recsys.calibration import Calibration, Heads
from recsys.candidates import OPTIONAL, SOURCES
from recsys.evaluation import paired_interval
from recsys.ranker import Ranker, fit_heads
from recsys.state import state_at

K, ROUNDS = 20, 3
POINTWISE = "pointwise"  # not a setting: the order of a head


def main() -> None:
    """Measure the variants asked for, print them as a table, write them as JSON."""
    parser = arguments("benchmarks.variants", __doc__)
    parser.add_argument("--variant", nargs="+", metavar="'SECTION.KEY=VALUE ...'",
                        help="instead of each source, family and loss")  # fmt: skip
    parser.add_argument("--seeds", type=int, default=1, help="rankers of each variant, averaged")
    parser.add_argument("--users", type=int, default=500, help="to time lists of")
    asked = parser.parse_args()
    with run_of(asked) as (config, show):
        found = measured(config, asked, show)
    Console(width=150).print(variants_table(asked.data.name, found))
    if asked.json:
        report = {"variants": found, "run": describe_run(asked.data.name)}
        asked.json.write_text(json.dumps(report, indent=2) + "\n")


def usual() -> dict[str, list[str]]:
    """Return name -> overrides: without each source, with each optional one, and so on."""
    found = {}
    for name in SOURCES:
        own = [feature.name for feature in CATALOGUE if feature.name in (name, f"{name}_rank")]
        off = f"features.off={json.dumps(own)}"
        found |= (
            {f"with {name}": [f"candidates.{name}=30"]} if name in OPTIONAL
            else {f"without {name}": [f"candidates.{name}=0", off]}
        )  # fmt: skip
    families = {kind: [f.name for f in CATALOGUE if f.family == kind and not f.optional]
                for kind in ("user", "item", "pair", "source")}  # fmt: skip
    families["text"] = [f.name for f in CATALOGUE if f.text and not f.optional]
    for kind, names in families.items():
        found[f"without features of {kind}"] = [f"features.off={json.dumps(names)}"]
    found |= {
        "linear gains": ["ranker.label_gain=[0, 1, 2, 3, 4, 5]"],
        "truncation 10": ["ranker.truncation=10"],
        "truncation 100": ["ranker.truncation=100"],
        "no impressions first": ["ranker.impressions=0"],
        "50 negatives": ["ranker.negatives=50"],
        POINTWISE: [],
    }
    return found


def measured(config: RunConfig, asked: argparse.Namespace, show: Show) -> list[dict[str, Any]]:
    """Fit and measure the defaults and each variant on the same requests."""
    prepared = prepare_data(config, show)
    run = Run(config, prepared, method_of(config, prepared), Stages(), show)
    texts = texts_of(run)
    variants: dict[str, list[str]] = {"as it is": []}
    if asked.variant:
        variants |= {changes: changes.split() for changes in asked.variant}
    else:
        variants |= usual()
    found: list[dict[str, Any]] = []
    first, timed = np.zeros(0), None
    for number, (name, changes) in enumerate(variants.items()):
        show("variants", number, len(variants), name)
        own = changed(config, changes)
        mine = replace(run, config=own, method=method_of(own, prepared), known={})
        halves = rows_in_halves(mine, texts)
        rankers = [fitted(mine, halves, name == POINTWISE, seed) for seed in range(asked.seeds)]
        held, first_pass = halves.held, mine.method.first_pass
        scores = [one.scores(held.table, held.request, first_pass) for one in rankers]
        ndcg = np.mean([held.ndcg(score) for score in scores], 0)
        first, timed = (first, timed) if number else (ndcg, (mine, rankers[0]))
        assert timed is not None
        ratio, seconds = timed_beside((mine, rankers[0]), timed, texts[1], asked.users)
        rng = np.random.default_rng(config.seed)
        interval = paired_interval(ndcg, first, held.user, rng, config.evaluation.resamples)
        found.append({
            "name": name, "changes": changes, "requests": len(held.user),
            "ndcg_at_10": float(ndcg.mean()), "difference": [float(value) for value in interval],
            "recall": float((held.row >= 0).mean()), "rows": len(held.item) / len(held.user),
            "trees": float(np.mean([one.trees for one in rankers])),
            "seconds_a_user": seconds, "time_over_first": ratio,
        })  # fmt: skip
        done = found[-1]
        words = "{ndcg_at_10:.4f}, recall {recall:.3f}, {rows:.0f} rows".format(**done)
        show("variants", number + 1, len(variants),
             f"{name}: {words}, {done['difference'][0]:+.4f} "
             f"[{done['difference'][1]:+.4f}, {done['difference'][2]:+.4f}]")  # fmt: skip
    return found


def fitted(run: Run, halves: Halves, pointwise: bool, seed: int) -> Ranker:
    """Fit a ranker, or the head of what was taken at all, on the rows of one half."""
    if pointwise:
        return fit_heads(halves.train, halves.features, run.config.heads, seed)[1]
    config = run.config.model_copy(update={"seed": seed})
    rows = ({"full": halves.train}, {"full": halves.stop})
    return fit(replace(run, config=config), "full", halves.features, *rows)


def timed_beside(
    one: tuple[Run, Ranker], other: tuple[Run, Ranker], texts: Learned, n_users: int
) -> tuple[float, float]:
    """Make lists of the same users by both in turn; return the ratio of times, seconds a user."""
    spent: list[list[float]] = []
    makers = [list_maker(*some, texts, n_users) for some in (one, other)]
    for _ in range(ROUNDS + 1):  # the first warms up
        spent.append([])
        for make in makers:
            began = time.perf_counter()
            make()
            spent[-1].append(time.perf_counter() - began)
    mine, theirs = np.median(np.array(spent[1:]), 0)
    return float(mine / theirs), float(mine / n_users)


def list_maker(run: Run, ranker: Ranker, texts: Learned, n_users: int) -> Any:
    """Return what makes lists of users drawn by seed, with the state counted before valid."""
    method, prepared, moment = run.method, run.prepared, run.prepared.windows.valid
    related = run.fitted(texts, moment).related
    state = state_at(prepared.buckets(), moment, len(method.items), method.dated, run.config.state)
    snapshot = snapshot_of(method, state, related, texts.text_model())
    log = prepared.bucket(0)
    rng = np.random.default_rng(run.config.seed)
    users = np.sort(rng.permutation(log.users)[:n_users])
    ends = np.array([0.0, 1.0])
    heads = Heads((1,), (ranker,), (Calibration(ends, ends),))  # scored for listed rows only

    def make() -> None:
        for _ in lists_of(method, snapshot, log, users, moment, ranker, heads, K):
            pass

    return make


def variants_table(data: str, found: Sequence[dict[str, Any]]) -> Table:
    """Make a table of what `measured` found."""
    title = f"{data}: {found[0]['requests']:,} requests, half the users of the valid window"
    table = Table("variant", "NDCG@10", "difference", "recall", "rows", "trees", "ms a user",
                  "time over the first", title=title)  # fmt: skip
    for one in found:
        difference, low, high = one["difference"]
        clear = "*" if low > 0 or high < 0 else ""
        table.add_row(one["name"], f"{one['ndcg_at_10']:.4f}",
                      f"{difference:+.4f} [{low:+.4f}, {high:+.4f}]{clear}",
                      f"{one['recall']:.3f}", f"{one['rows']:.0f}", f"{one['trees']:.0f}",
                      f"{1000 * one['seconds_a_user']:.2f}",
                      f"{one['time_over_first']:.2f}")  # fmt: skip
    return table


if __name__ == "__main__":
    main()
