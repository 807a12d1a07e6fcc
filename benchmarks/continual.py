"""Going on from a model against learning anew, text alone (test is not read).

    python -m benchmarks.continual --data DIR --protocol time --json out.json

A model learns from the first seven tenths of the encoder window. Then the window's other events
come, and four ways to deal with them are measured by NDCG@10 over texts: on what came after all of
them (the ranker and valid windows), and on the last tenth of what the first model had learned from.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import replace

import numpy as np
from rich.console import Console
from rich.table import Table

from benchmarks.quality import arguments, describe_run, run_of
from pipelines.continual import Start, last_tenth, learn_further
from pipelines.run import method_of, prepare_data
from pipelines.settings import RunConfig
from pipelines.stopping import interest_ndcg, some_requests
from pipelines.textmodel import Learned, Show, learn_texts
from recsys.dataset import DAY, concat
from recsys.errors import ConfigError
from recsys.split import Requests
from recsys.training import tuned_vectors

FIRST_SHARE = 0.7


def main() -> None:
    """Measure the four ways, print them as a table, write them as JSON."""
    asked = arguments("benchmarks.continual", __doc__).parse_args()
    with run_of(asked) as (config, show):
        found = measured(config, show)
    table = Table("way", "NDCG@10, later", "NDCG@10, old", "kept", "seconds", title=asked.data.name)
    for way, (later, old, kept, seconds) in found.items():
        table.add_row(way, f"{later:.4f}", f"{old:.4f}", kept, f"{seconds:.0f}")
    Console(width=120).print(table)
    if asked.json:
        report = {"ways": found, "run": describe_run(asked.data.name)}
        asked.json.write_text(json.dumps(report, indent=2) + "\n")


def measured(config: RunConfig, show: Show) -> dict[str, tuple[float, float, str, float]]:
    """Return way -> NDCG@10 on later and on old requests, what was kept, seconds to learn.

    Raises:
        ConfigError: the windows are not of time.
    """
    prepared = prepare_data(config, show)
    method, windows, log = method_of(config, prepared), prepared.windows, concat(prepared.logs())
    if not windows.dated:
        raise ConfigError(
            "--protocol: going on needs moments; use time, and events with a timestamp"
        )
    items, seen = method.items, method.exclude_seen
    taken = np.sort(log.moment[(log.moment < windows.ranker) & (log.grade > 0)])
    end = int(taken[int(FIRST_SHARE * len(taken))]) // DAY * DAY
    rng = np.random.default_rng([config.seed, 33])
    later = some_requests(log, windows, (windows.ranker, windows.test), rng)
    old = some_requests(log, windows, last_tenth(log, windows, end), rng)
    found = {}

    def way(name: str, learn: Callable[[], Learned]) -> Learned:
        began = time.perf_counter()
        learned = learn()
        seconds = time.perf_counter() - began
        vectors = tuned_vectors(learned.tower, learned.pooled)

        def ndcg(requests: Requests) -> float:
            return interest_ndcg(log, requests, windows.unit, learned.tower, vectors,
                                 learned.text_of_item, method.exclude_seen)  # fmt: skip

        found[name] = (ndcg(later), ndcg(old), learned.kept, seconds)
        return learned

    def further(replay: float) -> Learned:
        training = config.training.model_copy(update={"replay": replay})
        config_of = config.model_copy(update={"training": training})
        return learn_further(start, items, log, windows, config_of, seen, show)[0]

    before = replace(windows, ranker=end)
    first = way("the first model as it is",
                lambda: learn_texts(items, log, before, config, seen, show))  # fmt: skip
    start = Start("the first model", first.tuned_encoder, first.frozen_encoder, first.tower, end,
                  True)  # fmt: skip
    way("on from it", lambda: further(config.training.replay))
    way("on from it, nothing replayed", lambda: further(0.0))
    way("anew", lambda: learn_texts(items, log, windows, config, seen, show))
    return found


if __name__ == "__main__":
    main()
