"""What `recsys tune` can tune by search: the ranker, and what is learned over the text encoder.

Trials of the ranker learn from rows that are made once; half of the valid window's users say when
to stop, the other half measures. Trials of the encoder learn a head and the user pooling over text
vectors that are encoded once; the last tenth of the encoder window says when to stop, the valid
window measures the interest score alone, over texts. The transformer's layers are not searched
over: one trial would take hours.
"""

from __future__ import annotations

import hashlib

import numpy as np

from pipelines.halves import Halves, rows_in_halves, texts_of
from pipelines.run import Run, method_of, prepare_data
from pipelines.settings import RunConfig
from pipelines.stages import Stages
from pipelines.stopping import interest_ndcg, interest_values, some_requests, stopping_moment
from pipelines.textmodel import Show, distinct_texts, encode, with_head
from pipelines.throughput import Throughput
from pipelines.trials import Range
from pipelines.tuning import Target, Tuned, Watch, tune
from recsys.dataset import concat
from recsys.encoder import load_encoder
from recsys.errors import ConfigError
from recsys.ranker import RankerConfig, fit_ranker
from recsys.training import Tower, TrainingConfig, examples_in, new_tower, tuned_vectors

RANKER: dict[str, Range] = {
    "learning_rate": Range(0.02, 0.2, log=True),
    "leaves": Range(7, 127, log=True),
    "min_rows_in_leaf": Range(5, 500, log=True),
    "l2": Range(0.1, 500.0, log=True),
    "feature_fraction": Range(0.3, 1.0),
    "row_fraction": Range(0.4, 1.0),
    "truncation": Range(10, 60),
}
ENCODER: dict[str, Range] = {
    "history": Range(5, 50, log=True),
    "ridge": Range(0.1, 10.0, log=True),
    "learning_rate": Range(1e-4, 1e-2, log=True),
    "weight_decay": Range(0.1, 100.0, log=True),
    "dropout": Range(0.0, 0.5),
    "batch_events": Range(128, 1024, log=True),
}
TREES_BETWEEN = 10  # two looks at whether a ranker is behind


def tune_ranker(config: RunConfig, trials: int, minutes: float | None, show: Show) -> Tuned:
    """Choose the ranker's settings.

    Args:
        config: of the run.
        trials: how many there are to be in the end, those of earlier runs counted.
        minutes: no trial begins after so many; None = no limit.
        show: progress.

    Raises:
        ConfigError: no data, a ranker trained elsewhere, or nothing to learn from or measure on.
    """
    if config.ranker.model:
        raise ConfigError(
            f"ranker.model = {config.ranker.model}: a model trained elsewhere is not fitted here, "
            "so there is nothing to tune; leave the key out"
        )
    run = _begin(config, show)
    halves = rows_in_halves(run, texts_of(run))
    for window, rows in (("ranker", halves.train), ("valid", halves.stop)):
        if not len(rows.group):
            raise ConfigError(
                f"events: in the {window} window no candidate was ever taken, so a ranker cannot "
                "learn; bring a longer log, or raise the quotas under [candidates]"
            )
    return tune(run, ranker_target(run, halves), trials, minutes)


def tune_encoder(config: RunConfig, trials: int, minutes: float | None, show: Show) -> Tuned:
    """Choose how head and user pooling are learned over the text encoder.

    Args and errors as `tune_ranker`; also refused is a log with nothing to learn from before the
    valid window.
    """
    run = _begin(config, show)
    return tune(run, encoder_target(run), trials, minutes)


def ranker_target(run: Run, halves: Halves) -> Target:
    """Return the search over `[ranker]`, on rows made once."""

    def measure(settings: RankerConfig, watch: Watch) -> tuple[np.ndarray, int]:
        def on_tree(tree: int, ndcg: float) -> None:
            if tree % TREES_BETWEEN == 0:
                watch(tree, ndcg)

        ranker = fit_ranker(halves.train, halves.stop, halves.features, settings, run.config.seed,
                            on_tree)  # fmt: skip
        held = halves.held
        score = ranker.scores(held.table, held.request, run.method.first_pass)
        return held.ndcg(score), ranker.trees

    return Target("ranker", "ranker", RANKER, "trees", 5 * TREES_BETWEEN, halves.fingerprint(),
                  halves.held.user, measure, "half the users of the valid window")  # fmt: skip


def encoder_target(run: Run) -> Target:
    """Return the search over `[training]`, on text vectors encoded once.

    Raises:
        ConfigError: there is nothing to learn from, to stop by or to measure on.
    """
    config, windows, unit = run.config, run.prepared.windows, run.prepared.windows.unit
    log, items = concat(run.prepared.logs()), run.method.items
    texts, text_of_item = distinct_texts(items.text)
    encoder, speed = load_encoder(config.encoder), Throughput()
    frozen = encode(encoder, texts, config, run.show, "encode texts", speed)
    stop = stopping_moment(log, windows)
    spans = (stop, windows.ranker), windows.span("valid")
    stopping, held = (
        some_requests(log, windows, span, np.random.default_rng([config.seed, stream]))
        for span, stream in zip(spans, (1, 15), strict=True)
    )
    past = log.before(stop)
    enough = len(examples_in(past, unit, text_of_item, 1).target)
    if not (enough and len(stopping) and len(held)):
        raise ConfigError(
            f"events: {enough} to learn from, {len(stopping)} requests to stop by and {len(held)} "
            "to measure on before the test window; bring a longer log"
        )

    def looked_at(tower: Tower) -> tuple[int, Tower, np.ndarray, np.ndarray, bool]:
        return unit, tower, tuned_vectors(tower, frozen), text_of_item, run.method.exclude_seen

    def measure(settings: TrainingConfig, watch: Watch) -> tuple[np.ndarray, int]:
        rng, epoch = np.random.default_rng([config.seed, 1]), 0

        def score(tower: Tower) -> float:
            nonlocal epoch
            value = interest_ndcg(log, stopping, *looked_at(tower))
            watch(epoch, value)
            epoch += 1
            return value

        examples = examples_in(past, unit, text_of_item, settings.history)
        start = new_tower(frozen.shape[1], settings.history)
        tower, _ = with_head(start, frozen, examples, settings, score, rng, _silent, speed)
        values = interest_values(log, held, *looked_at(tower))
        return np.nan_to_num(values), epoch

    digest = hashlib.sha256(run.prepared.manifest.fingerprint.encode())
    digest.update(np.ascontiguousarray(frozen).data)
    return Target("encoder", "training", ENCODER, "epochs", 2, digest.hexdigest(), held.user,
                  measure, "of the valid window, by text alone")  # fmt: skip


def _begin(config: RunConfig, show: Show) -> Run:
    """Prepare the data."""
    prepared = prepare_data(config, show)
    return Run(config, prepared, method_of(config, prepared), Stages(), show)


def _silent(*_: object) -> None:
    """Show nothing: the search says how far it is."""
