"""How many users a second get a list, and what fewer candidates cost in quality (test is not read).

    python -m benchmarks.speed --data DIR --protocol leave_last_out --json out.json

Candidates, features, scores and the best k of users drawn by seed, with everything fitted and the
state counted; beside it, in the same rounds, the time a reference LightGBM (300 trees, 31 leaves)
takes for nothing but scoring 200 rows a user. The text side is aligned only, which costs the same.
The last row is the last quotas again, with every candidate through every tree. Parts are timed on
one thread each, the whole and the reference on all.
"""

from __future__ import annotations

import json
import time
from typing import Any

import lightgbm
import numpy as np
from rich.console import Console
from rich.table import Table

from benchmarks.quality import arguments, describe_run, run_of
from features.catalogue import active_features
from pipelines.calibrate import calibrate_heads, learn_heads
from pipelines.measure import outcome_of
from pipelines.recommender import lists_of, look, snapshot_of, table_of
from pipelines.report import model_metrics
from pipelines.run import Run, method_of, prepare_data
from pipelines.settings import RunConfig
from pipelines.stages import Stages
from pipelines.textmodel import Learned, Show, learn_texts, refit
from pipelines.train import fit, rows_for_ranker
from recsys.calibration import Heads
from recsys.candidates import CandidateConfig
from recsys.cascade import FirstPass
from recsys.dataset import concat
from recsys.evaluation import mean_over_requests
from recsys.ranker import Ranker
from recsys.rows import Rows
from recsys.state import state_at

REFERENCE = {"objective": "binary", "num_leaves": 31, "verbosity": -1, "seed": 0}
REFERENCE_TREES, REFERENCE_ROWS, K = 300, 200, 20


def main() -> None:
    """Measure each share of the default quotas, print a table, write it as JSON."""
    parser = arguments("benchmarks.speed", __doc__)
    parser.add_argument("--users", type=int, default=2_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--requests", type=int, default=2_000, help="to learn from and measure on")
    parser.add_argument("--quotas", type=float, nargs="+", default=[0.25, 0.5, 1.0],
                        help="shares of the default quotas")  # fmt: skip
    asked = parser.parse_args()
    table = Table("quotas", "first pass", "rows a user", "trees", "NDCG@10, valid", "users/s",
                  "look", "describe", "score", "over the reference",
                  title=f"{asked.data.name}: {asked.users:,} users, ms a user")  # fmt: skip
    with run_of(asked) as (config, show):
        config = quick(config, asked.requests)
        texts = learned_twice(config, show)
        points = [measured(config, show, texts, share, asked.users, asked.rounds)
                  for share in asked.quotas]  # fmt: skip
        no_pass = config.model_copy(update={"first_pass": FirstPass(trees=1)})
        points.append(measured(no_pass, show, texts, asked.quotas[-1], asked.users, asked.rounds))
    for point in points:
        table.add_row(f"{point['quotas']:g}", f"{point['first_pass']:g}", f"{point['rows']:.0f}",
                      f"{point['trees']}",
                      f"{point['ndcg_at_10']:.4f}", f"{point['users_per_second']:.0f}",
                      *(f"{1000 * point[part]:.2f}" for part in ("look", "describe", "score")),
                      f"{point['over_reference']:.2f}")  # fmt: skip
    Console(width=130).print(table)
    if asked.json:
        report = {"points": points, "run": describe_run(asked.data.name)}
        asked.json.write_text(json.dumps(report, indent=2) + "\n")


def quick(config: RunConfig, requests: int) -> RunConfig:
    """Return the config with texts aligned only, and few requests to learn from and measure on."""
    changes = {"max_requests": requests}
    return config.model_copy(update={
        "training": config.training.model_copy(update={"max_epochs": 0}),
        "ranker": config.ranker.model_copy(update=changes),
        "heads": config.heads.model_copy(update=changes),
        "evaluation": config.evaluation.model_copy(update=changes),
    })  # fmt: skip


def learned_twice(config: RunConfig, show: Show) -> tuple[Learned, Learned]:
    """Return the text side as it is before the ranker window and, refitted, before valid."""
    prepared = prepare_data(config, show)
    method, log, windows = method_of(config, prepared), concat(prepared.logs()), prepared.windows
    first = learn_texts(method.items, log, windows, config, method.exclude_seen, show)
    return first, refit(first, log.before(windows.valid), windows.unit, config, show)


def measured(
    config: RunConfig, show: Show, texts: tuple[Learned, Learned], share: float, n_users: int,
    rounds: int,
) -> dict[str, Any]:  # fmt: skip
    """Fit a ranker at a share of the quotas; return its quality and its times (medians)."""
    own = {name: round(share * value) for name, value in config.candidates.quotas.items()}
    candidates = CandidateConfig(**(config.candidates.model_dump() | own))
    config = config.model_copy(update={"candidates": candidates})
    prepared = prepare_data(config, show)
    run = Run(config, prepared, method_of(config, prepared), Stages(), show)
    start, (first, learned) = prepared.windows.valid, texts
    features = active_features(prepared.windows.dated, switched_on=candidates.switched_on)
    rows, held = rows_for_ranker(run, first, learned, {"full": features})
    ranker = fit(run, "full", features, rows, held)
    outcome = outcome_of(run, "valid", run.fitted(learned, start), {"full": ranker}, with_als=False)
    quality = mean_over_requests(model_metrics(outcome, "full")["ndcg_at_10"])
    heads = calibrate_heads(
        run, run.fitted(learned, start), learn_heads(run, rows["full"], features)
    )
    times, rows_each = timed(run, learned, ranker, heads, rows["full"], n_users, rounds)
    whole, reference = times.pop("whole"), times.pop("reference")
    return {"quotas": share, "first_pass": config.first_pass.trees, "rows": rows_each,
            "trees": ranker.trees, "ndcg_at_10": float(quality), **times,
            "users_per_second": 1 / whole, "over_reference": whole / reference}  # fmt: skip


def timed(
    run: Run, learned: Learned, ranker: Ranker, heads: Heads, rows: Rows, n_users: int, rounds: int
) -> tuple[dict[str, float], float]:
    """Return part -> median seconds a user, in rounds of all parts; and candidates a user."""
    config, method, prepared = run.config, run.method, run.prepared
    fitted, moment = run.fitted(learned, prepared.windows.valid), prepared.windows.valid
    n_items = len(method.items)
    state = state_at(prepared.buckets(), moment, n_items, method.dated, config.state)
    snapshot = snapshot_of(method, state, fitted.related, fitted.texts)
    log = prepared.bucket(0)
    rng = np.random.default_rng(config.seed)
    users = np.sort(rng.permutation(log.users)[:n_users])
    data = lightgbm.Dataset(rows.table, rows.grade > 0)
    reference = lightgbm.train(REFERENCE, data, REFERENCE_TREES)
    table = rows.table[rng.integers(0, len(rows.table), len(users) * REFERENCE_ROWS)]
    spent: dict[str, list[float]] = {}

    def clock(part: str, began: float) -> float:
        now = time.perf_counter()
        spent.setdefault(part, []).append((now - began) / len(users))
        return now

    for _ in range(rounds + 1):  # the first warms up
        now = time.perf_counter()
        for _ in lists_of(method, snapshot, log, users, moment, ranker, heads, K):
            pass
        now = clock("whole", now)
        reference.predict(table)
        now = clock("reference", now)
        blocks = [look(method, snapshot, log, some, np.full(len(some), moment))
                  for some in np.array_split(users, max(1, len(users) // 300))]  # fmt: skip
        now = clock("look", now)
        tables = [table_of(method, snapshot, block, ranker.features) for block in blocks]
        now = clock("describe", now)
        for one, block in zip(tables, blocks, strict=True):
            ranker.scores(one, block.candidates.request, method.first_pass)
        clock("score", now)
    found = {part: float(np.median(values[1:])) for part, values in spent.items()}
    return found, sum(map(len, tables)) / len(users)


if __name__ == "__main__":
    main()
