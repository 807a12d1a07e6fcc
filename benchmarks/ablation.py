"""What each part of the encoder's fine-tuning adds, on the valid window (test is not read).

    python -m benchmarks.ablation --data DIR --protocol time --json out.json

For each variant two numbers over the full catalogue, text alone: NDCG@10 of the interest score on
the valid window, and recall@20 among items taken out of training (a fifth of the texts), for the
users who took them. Every variant is learned twice, with all texts and without that fifth.
"""

from __future__ import annotations

import json
import time
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from benchmarks.encoder import learned_until, removed_items, unseen_recall
from benchmarks.quality import arguments, describe_run, run_of
from pipelines.run import Run, method_of, prepare_data
from pipelines.settings import RunConfig
from pipelines.stages import Stages
from pipelines.stopping import interest_ndcg
from pipelines.textmodel import Show
from recsys.dataset import concat
from recsys.evaluation import mean_over_requests
from recsys.split import requests_in
from recsys.training import tuned_vectors

MOST_REQUESTS = 2_000
LORA = {"peft_type": "LORA", "r": 8, "target_modules": ["query", "value"]}
VARIANTS: dict[str, dict[str, Any]] = {
    "frozen": {"align": False, "max_epochs": 0},
    "whitened": {"ridge": 1e9, "max_epochs": 0},
    "aligned": {"max_epochs": 0},
    "head": {"align": False},
    "aligned, head": {},
    "aligned, head, next to no decay": {"weight_decay": 0.01},
    "aligned, head, no dropout": {"dropout": 0.0},
    "aligned, head, history of 5": {"history": 5},
    "aligned, head, 512 negatives": {"negative_texts": 512},
    "aligned, head, 2 layers": {"layers": 2},
    "aligned, head, LoRA": {"peft": LORA, "layer_learning_rate": 3e-4},
}
USUAL = list(VARIANTS)[:6]  # the layers take many times longer


def main() -> None:
    """Learn the variants asked for, print them as a table, write them as JSON."""
    parser = arguments("benchmarks.ablation", __doc__)
    parser.add_argument("--variants", nargs="+", choices=VARIANTS, default=USUAL)
    asked = parser.parse_args()
    table = Table("variant", "NDCG@10, valid", "over frozen", "recall@20, unseen", "over frozen",
                  "seconds", title=asked.data.name)  # fmt: skip
    found: dict[str, dict[str, Any]] = {}
    with run_of(asked) as (config, show):
        for name in ("frozen", *(name for name in asked.variants if name != "frozen")):
            found[name] = measured(name, config, show)
            over = [found[name][what] / found["frozen"][what] for what in ("seen", "unseen")]
            table.add_row(name, f"{found[name]['seen']:.4f}", f"{over[0]:.2f}",
                          f"{found[name]['unseen']:.4f}", f"{over[1]:.2f}",
                          f"{found[name]['seconds']:.0f}")  # fmt: skip
    Console(width=120).print(table)
    if asked.json:
        report = found | {"run": describe_run(asked.data.name)}
        asked.json.write_text(json.dumps(report, indent=2) + "\n")


def measured(name: str, config: RunConfig, show: Show) -> dict[str, Any]:
    """Learn one variant before the valid window and measure it there."""
    training = config.training.model_validate(config.training.model_dump() | VARIANTS[name])
    config = config.model_copy(update={"training": training})
    prepared = prepare_data(config, show)
    run = Run(config, prepared, method_of(config, prepared), Stages(), show)
    log, windows = concat(prepared.logs()), prepared.windows
    began = time.perf_counter()
    learned = learned_until(run, log, windows.valid)
    seconds = time.perf_counter() - began
    requests = requests_in(log, windows, windows.valid, windows.test)
    drawn = np.random.default_rng([config.seed, 32]).permutation(len(requests))[:MOST_REQUESTS]
    seen = interest_ndcg(
        log, requests.take(np.sort(drawn)), windows.unit, learned.tower,
        tuned_vectors(learned.tower, learned.pooled), learned.text_of_item, run.method.exclude_seen,
    )  # fmt: skip
    removed = removed_items(run)
    without = learned_until(run, log.keep(~removed[log.item]), windows.valid)
    _, recall = unseen_recall(run, without, log, removed, windows.valid)
    unseen = float(mean_over_requests(recall["tuned_encoder"]))
    return {"seen": seen, "unseen": unseen, "seconds": seconds, "curve": learned.curve,
            "kept": learned.kept}  # fmt: skip


if __name__ == "__main__":
    main()
