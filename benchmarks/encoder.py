"""What fine-tuning does to the text encoder, text alone: seen items, unseen items, shuffled texts.

    python -m benchmarks.encoder --data DIR --protocol time --json out.json

Three parts, all over the full catalogue and without any other signal:

test      NDCG@10 on the test window, fine-tuned (and always refitted) over frozen
unseen    a fifth of the texts, with all their items, is taken out of the log before training;
          recall@20 among those items, for the users who took them, from what else they took (as
          beeFormer measures it; recall is of all items the user took)
shuffled  item texts dealt out at random before training: what is left is not text
"""

from __future__ import annotations

import json
import time
from dataclasses import replace
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from benchmarks.quality import arguments, describe_run, run_of
from pipelines.measure import outcome_of
from pipelines.report import model_metrics, without_nan
from pipelines.run import Run, method_of, prepare_data
from pipelines.settings import RunConfig
from pipelines.stages import Stages
from pipelines.textmodel import Learned, Show, distinct_texts, learn_texts, refit
from recsys.asof import last_items, past_of
from recsys.candidates import block_size, top_items
from recsys.dataset import Log, concat
from recsys.errors import ConfigError
from recsys.evaluation import bootstrap_interval, mean_over_requests, ratio_interval
from recsys.metrics import ranks_from_scores, request_metrics

PARTS = ("test", "unseen", "shuffled")
MODELS = ("popularity", "frozen_encoder", "tuned_encoder")
UNSEEN_SHARE, UNSEEN_USERS = 0.2, 5_000


def main() -> None:
    """Measure the parts asked for, print them as a table, write them as JSON."""
    parser = arguments("benchmarks.encoder", __doc__)
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS)
    asked = parser.parse_args()
    with run_of(asked) as (config, show):
        found = {part: measured(part, config, show) for part in asked.parts}
    table = Table("part", "model", "value [95 %]", "over frozen [95 %]", title=asked.data.name)
    for part, numbers in found.items():
        for name, (value, low, high) in numbers["models"].items():
            over = "{:.2f} [{:.2f}, {:.2f}]".format(*numbers["ratio"])
            what = f"{part}, {numbers['metric']}, {numbers['requests']:,} requests"
            table.add_row(what, name, f"{value:.4f} [{low:.4f}, {high:.4f}]",
                          over if name == "tuned_encoder" else "")  # fmt: skip
    Console(width=150).print(table)
    report = found | {"run": describe_run(asked.data.name)}
    if asked.json:
        asked.json.write_text(json.dumps(without_nan(report), indent=2) + "\n")


def measured(part: str, config: RunConfig, show: Show) -> dict[str, Any]:
    """Train and measure one part: values and their ratio with intervals over users."""
    prepared, began = prepare_data(config, show), time.perf_counter()
    method, log = method_of(config, prepared), concat(prepared.logs())
    rng = np.random.default_rng([config.seed, 30])
    if part == "shuffled":
        dealt = rng.permutation(method.items.text)
        method = replace(method, items=replace(method.items, text=dealt))
    run = Run(config, prepared, method, Stages(), show)
    end = prepared.windows.test
    if part == "unseen":
        removed = removed_items(run)
        learned = learned_until(run, log.keep(~removed[log.item]), end)
        metric, user, values = "recall_at_20", *unseen_recall(run, learned, log, removed, end)
    else:
        learned = learned_until(run, log, end)
        fitted = run.fitted(learned, prepared.windows.test)
        outcome = outcome_of(run, "test", fitted, {}, with_als=False)
        metric, user = "ndcg_at_10", outcome.user
        values = {name: model_metrics(outcome, name)[metric] for name in MODELS}

    def interval(name: str) -> tuple[float, ...]:
        drawn = np.random.default_rng(config.seed)
        ends = bootstrap_interval(values[name], user, drawn, config.evaluation.resamples)
        return (float(mean_over_requests(values[name])), *map(float, ends))

    ratio = ratio_interval(values["tuned_encoder"], values["frozen_encoder"], user,
                           np.random.default_rng(config.seed),
                           config.evaluation.resamples)  # fmt: skip
    return {
        "metric": metric, "requests": int(np.isfinite(values["tuned_encoder"]).sum()),
        "models": {name: interval(name) for name in values}, "ratio": ratio,
        "curve": learned.curve, "seconds": time.perf_counter() - began,
    }  # fmt: skip


def removed_items(run: Run) -> np.ndarray:
    """Draw a fifth of the texts and return (n_items,) bool: items that have one of them."""
    texts, text_of_item = distinct_texts(run.method.items.text)
    drawn = np.random.default_rng([run.config.seed, 30])
    return np.asarray((drawn.random(len(texts)) < UNSEEN_SHARE)[text_of_item])


def learned_until(run: Run, log: Log, end: int) -> Learned:
    """Fine-tune as a training run does, and refit before the later windows up to moment `end`."""
    windows, items = run.prepared.windows, run.method.items
    learned = learn_texts(items, log, windows, run.config, run.method.exclude_seen, run.show)
    for moment in (windows.valid, windows.test):
        if moment <= end:
            learned = refit(learned, log.before(moment), windows.unit, run.config, run.show)
    return learned


def unseen_recall(
    run: Run, learned: Learned, log: Log, removed: np.ndarray, end: int
) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Rank the removed items for users who took any before `end`, from the others they took.

    Returns:
        (n_users,) user codes, and model -> (n_users,) recall@20.
    """
    windows, texts = run.prepared.windows, learned.text_model()
    log = log.before(end)
    log = log.keep(log.grade > 0)
    kept, gone = log.keep(~removed[log.item]), log.keep(removed[log.item])
    user = np.intersect1d(log.users[np.unique(kept.row)], log.users[np.unique(gone.row)])
    drawn = np.random.default_rng([run.config.seed, 31]).permutation(len(user))[:UNSEEN_USERS]
    user = user[np.sort(drawn)]
    if not len(user):
        raise ConfigError(
            "events: nobody took both an item left in and one taken out; too few users"
        )
    code = np.cumsum(removed) - 1  # of a removed item, among the removed ones
    text = texts.text_of_item[removed]
    tables = texts.frozen[text], texts.tuned[text]
    parts: dict[str, list[np.ndarray]] = {"frozen_encoder": [], "tuned_encoder": []}
    for at in range(0, len(user), block_size(len(text))):
        some = user[at : at + block_size(len(text))]
        past = past_of(kept, some, np.full(len(some), end), windows.unit, len(kept))
        vectors = texts.users(last_items(past, texts.pooling.history))
        wanted = past_of(gone, some, np.full(len(some), end), windows.unit, len(gone))
        pairs = np.unique(wanted.request * len(text) + code[wanted.item])
        request, item = np.divmod(pairs, len(text))
        for name, users, table in zip(parts, vectors, tables, strict=True):
            scores = users @ table.T
            least = top_items(scores, 20)[1][:, -1]
            rank = ranks_from_scores(scores, request, item, least, 20)
            metrics = request_metrics(request, np.ones(len(item), int), rank, len(some), (20,))
            parts[name].append(metrics["recall_at_20"])
    return user, {name: np.concatenate(values) for name, values in parts.items()}


if __name__ == "__main__":
    main()
