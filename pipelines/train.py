"""Train and measure: encoder, ranker, evaluation, one model in the registry.

Everything that is chosen is chosen on the encoder window's last tenth or on the valid window; the
test window is looked at once, at the end.
"""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from features.catalogue import active_features
from pipelines import tracking
from pipelines.config import fingerprint
from pipelines.evaluate import Outcome, run_models
from pipelines.figures import draw_report
from pipelines.model import ModelCard, at_moment, load_model, save_model
from pipelines.prepare import prepare
from pipelines.prepared import Prepared
from pipelines.recommender import Method
from pipelines.report import by_path, describe, headline, model_metrics
from pipelines.rows import Rows, ranker_rows, sampler
from pipelines.settings import RunConfig
from pipelines.stages import Stages
from pipelines.textmodel import Learned, Show, learn_texts, refit
from pipelines.windows import Fitted, sample_requests, window_requests
from recsys.baselines import fit_als
from recsys.dataset import concat
from recsys.errors import ConfigError
from recsys.neighbours import cosine_neighbours
from recsys.ranker import Ranker, fit_ranker
from recsys.split import Requests

STOPPING_REQUESTS = 4000  # valid requests that the ranker's early stopping looks at


@dataclass(frozen=True)
class Trained:
    """What a training run leaves."""

    run_id: str
    model_uri: str
    alias: str
    report: dict[str, Any]
    folder: Path


@dataclass(frozen=True)
class Bench:
    """What every step of a run shares."""

    config: RunConfig
    prepared: Prepared
    method: Method
    stages: Stages
    show: Show
    known: dict[int, Fitted] = field(default_factory=dict)

    def fitted(self, learned: Learned, before: int) -> Fitted:
        """Fit what is fitted once a window, on events strictly before it; reuse what is known."""
        if before not in self.known:
            cosine = cosine_neighbours(
                self.prepared.buckets(), before, len(self.method.items),
                self.config.state.neighbours,
            )  # fmt: skip
            self.known.clear()  # windows come one after the other
            self.known[before] = Fitted(before, learned.text_model(), cosine)
        return replace(self.known[before], texts=learned.text_model())

    def requests(self, window: str, most: int, stream: int) -> list[Requests]:
        """Draw requests of a window; a stream of its own for each use."""
        rng = np.random.default_rng([self.config.seed, stream])
        return sample_requests(window_requests(self.prepared, window), most, rng)

    def progress(self, task: str, requests: list[Requests]) -> Callable[[int], None]:
        """Return a callback that counts requests."""
        done, total = 0, sum(len(part) for part in requests)

        def advance(count: int) -> None:
            nonlocal done
            done += count
            self.show(task, done, total, "requests")

        return advance


def prepare_data(config: RunConfig, show: Show) -> Prepared:
    """Prepare the configured data, or reuse what is prepared already.

    Raises:
        ConfigError: no data is configured.
        SchemaError: the data has faults; all of them are named.
    """
    if config.data.events is None or config.data.items is None:
        raise ConfigError(
            "data.events and data.items must name your tables; put them into the config file or "
            "pass --set data.events=PATH --set data.items=PATH"
        )
    return prepare(
        config.data.events, config.data.items, config.run_dir / "prepared", config.data,
        config.split.protocol, config.data.users, config.split.share,
        lambda note: show("prepare", 0, 0, note),
    )  # fmt: skip


def train(config: RunConfig, show: Show) -> Trained:
    """Run everything from prepared data to a registered model with its report."""
    stages = Stages()
    with stages.measure("prepare"):
        prepared = prepare_data(config, show)
    items = prepared.items()
    bench = Bench(config, prepared, method_of(config, prepared), stages, show)
    tracking.connect(config)
    tags = {"data_fingerprint": prepared.manifest.fingerprint[:16],
            "config_fingerprint": fingerprint(config), "git_commit": git_commit(),
            "protocol": prepared.manifest.protocol}  # fmt: skip
    with tracking.run(f"train {prepared.manifest.protocol}", tags) as run_id:
        tracking.log_params({
            "encoder": config.encoder.model, "seed": config.seed, "items": len(items),
            "users": prepared.manifest.n_users, "events": prepared.manifest.n_events,
            "seen": "exclude" if bench.method.exclude_seen else "list",
        })  # fmt: skip
        learned, rankers, report = learn(bench, tags)
        folder = config.run_dir / "reports" / run_id
        registered = publish_model(bench, learned, rankers["full"], report, folder, tags)
    return Trained(run_id, registered.uri, registered.alias, report, folder)


def learn(bench: Bench, tags: dict[str, str]) -> tuple[Learned, dict[str, Ranker], dict[str, Any]]:
    """Train the encoder and the rankers, evaluate all models; return the model and the report."""
    config, stages, windows = bench.config, bench.stages, bench.prepared.windows
    log = concat(bench.prepared.logs())
    with tracking.run("encoder", tags, nested=True), stages.measure("encoder"):
        first = learn_texts(bench.prepared, config, bench.method.exclude_seen, bench.show)
        tracking.log_curve("stopping/ndcg_at_10", first.curve)
    with stages.measure("encoder refit"):
        second = first
        if config.evaluation.refit_encoder != "never":
            second = refit(first, log.before(windows.valid), windows.unit, config, bench.show)
    names = {
        name: active_features(windows.dated, config.features.off, name == "full")
        for name in ("full", "ranker_without_text")
    }
    with tracking.run("ranker", tags, nested=True):
        with stages.measure("ranker rows"):
            train_rows, valid_rows = rows_for_ranker(bench, first, second, names)
        with stages.measure("ranker"):
            rankers = {
                name: fit(bench, name, names[name], train_rows, valid_rows) for name in names
            }
        tracking.log_metrics({f"{name}/trees": ranker.trees for name, ranker in rankers.items()})
    del train_rows, valid_rows
    with tracking.run("evaluation", tags, nested=True), stages.measure("evaluation"):
        valid, second = choose_refit(bench, first, second, rankers)
        third = second
        if second is not first:
            third = refit(second, log.before(windows.test), windows.unit, config, bench.show)
        fitted = bench.fitted(third, windows.test)
        test = outcome_of(bench, "test", fitted, rankers)
        unseen = unseen_catalogue(bench, fitted, rankers)
    parts = {"valid": described(bench, valid, "valid"), "test": described(bench, test, "test")}
    if unseen is not None:
        cut = described(bench, unseen, "test")
        parts["test"]["slices"]["unseen_catalogue"] = {
            "requests": cut["requests"]["requests"], **cut["models"],
            "differences": cut["differences"],
        }  # fmt: skip
    report = by_path(parts) | {
        "encoder": {"curve": first.curve, "layers_score": first.layers_score,
                    "layers_kept": first.layers_kept, "refit": second is not first},
        "ranker": {"trees": rankers["full"].trees, "importance": rankers["full"].importance()},
        "data": {"fingerprint": bench.prepared.manifest.fingerprint,
                 "protocol": bench.prepared.manifest.protocol,
                 "seen": "exclude" if bench.method.exclude_seen else "list"},
        "seconds": stages.seconds, "peak_memory_bytes": stages.peak_memory_bytes,
    }  # fmt: skip
    return third, rankers, report


def method_of(config: RunConfig, prepared: Prepared) -> Method:
    """Settle what the config leaves open: whether seen items are listed again."""
    seen = config.split.seen
    if seen == "auto":
        repeats = prepared.manifest.repeat_share >= config.split.repeat_share
        seen = "list" if repeats else "exclude"
    return Method(prepared.items(), config.candidates, prepared.windows.dated, seen == "exclude")


def rows_for_ranker(
    bench: Bench, first: Learned, second: Learned, names: dict[str, tuple[str, ...]]
) -> tuple[dict[str, Rows], dict[str, Rows]]:
    """Make the training rows (ranker window) and the early-stopping rows (valid window)."""
    config, windows, found = bench.config, bench.prepared.windows, []
    for window, learned, most, negatives, stream in (
        ("ranker", first, config.ranker.max_requests, config.ranker.negatives, 10),
        ("valid", second, STOPPING_REQUESTS, 10_000, 11),
    ):
        requests, span = bench.requests(window, most, stream), windows.span(window)
        choose = sampler(negatives, np.random.default_rng([config.seed, stream + 10]))
        found.append(ranker_rows(
            bench.prepared, bench.method, bench.fitted(learned, span[0]), requests, span,
            config.state, names, choose, bench.progress(f"rows, {window} window", requests),
        ))  # fmt: skip
    return found[0], found[1]


def fit(
    bench: Bench, name: str, features: tuple[str, ...], train_rows: dict[str, Rows],
    valid_rows: dict[str, Rows],
) -> Ranker:  # fmt: skip
    """Fit one ranker.

    Raises:
        ConfigError: no request of a window has a candidate that was taken.
    """
    rows = {"ranker": train_rows[name], "valid": valid_rows[name]}
    for window, some in rows.items():
        if not len(some.group):
            raise ConfigError(
                f"events: in the {window} window no candidate was ever taken, so a ranker cannot "
                "learn; bring a longer log, or raise the quotas under [candidates]"
            )
    train_set, valid_set = ((some.table, some.grade, some.group) for some in rows.values())
    most = bench.config.ranker.max_trees
    return fit_ranker(
        train_set, valid_set, features, bench.config.ranker, bench.config.seed,
        lambda tree, ndcg: bench.show(f"fit {name}", tree, most, f"valid NDCG@10 {ndcg:.4f}"),
    )  # fmt: skip


def outcome_of(
    bench: Bench, window: str, fitted: Fitted, rankers: dict[str, Ranker],
    only: np.ndarray | None = None, with_als: bool = True,
) -> Outcome:  # fmt: skip
    """Let the models rank for the requests of a window."""
    prepared, config = bench.prepared, bench.config
    requests = bench.requests(window, config.evaluation.max_requests, 12)
    if only is not None:
        requests = [some.keep_relevant(only) for some in requests]
    als = None
    if with_als:
        als = fit_als(prepared.buckets(), fitted.before, len(bench.method.items), config.seed)
    return run_models(
        prepared, bench.method, fitted, als, rankers, requests, prepared.windows.span(window),
        config.state, only, bench.progress(f"evaluate, {window} window", requests),
    )  # fmt: skip


def choose_refit(
    bench: Bench, first: Learned, second: Learned, rankers: dict[str, Ranker]
) -> tuple[Outcome, Learned]:
    """Decide on the valid window whether the encoder's second fit keeps what the ranker learned."""
    start = bench.prepared.windows.valid
    outcome = outcome_of(bench, "valid", bench.fitted(second, start), rankers)
    if second is first or bench.config.evaluation.refit_encoder == "always":
        return outcome, second
    only_full = {"full": rankers["full"]}
    kept = outcome_of(bench, "valid", bench.fitted(first, start), only_full, with_als=False)
    better = [np.nanmean(model_metrics(some, "full")["ndcg_at_10"]) for some in (outcome, kept)]
    if better[0] >= better[1]:
        return outcome, second
    both = replace(outcome, rank=outcome.rank | kept.rank, listed=outcome.listed | kept.listed)
    return both, first


def unseen_catalogue(bench: Bench, fitted: Fitted, rankers: dict[str, Ranker]) -> Outcome | None:
    """Rank only items that had no event when the parts were fitted; None where nobody took one."""
    only = np.ones(len(bench.method.items), bool)
    for log in bench.prepared.buckets():
        only[log.item[(log.moment < fitted.before) & (log.grade > 0)]] = False
    requests = bench.requests("test", bench.config.evaluation.max_requests, 12)
    if not any(len(some.keep_relevant(only)) for some in requests):
        return None
    return outcome_of(bench, "test", fitted, rankers, only)


def described(bench: Bench, outcome: Outcome, window: str) -> dict[str, Any]:
    """Describe an outcome, with the popularity that novelty is measured against."""
    config, start = bench.config, bench.prepared.windows.span(window)[0]
    past = np.zeros(len(bench.method.items))
    for log in bench.prepared.buckets():
        taken = (log.moment < start) & (log.grade > 0)
        past += np.bincount(log.item[taken], minlength=len(past))
    return describe(outcome, len(past), past, config.seed, config.evaluation.resamples)


def publish_model(
    bench: Bench, learned: Learned, ranker: Ranker, report: dict[str, Any], folder: Path,
    tags: dict[str, str],
) -> tracking.Registered:  # fmt: skip
    """Write model, report and figures; log them; register the model."""
    config, prepared = bench.config, bench.prepared
    with bench.stages.measure("model"):
        values = headline(report)
        card = ModelCard(
            dated=prepared.windows.dated, exclude_seen=bench.method.exclude_seen,
            encoder=config.encoder, candidates=config.candidates, state=config.state,
            features=ranker.features, history=learned.tower.pooling.history,
            fitted_before=prepared.windows.test, data_fingerprint=tags["data_fingerprint"],
            config_fingerprint=tags["config_fingerprint"],
            prepared=str(prepared.folder.resolve()), metrics=values,
        )  # fmt: skip
        model_folder = folder / "model"
        shutil.rmtree(model_folder, ignore_errors=True)
        save_model(model_folder, learned, ranker, card)
        registered = tracking.log_model(model_folder, config)
        shutil.rmtree(model_folder)
    (folder / "report.json").write_text(json.dumps(report, indent=2) + "\n")
    (folder / "config.json").write_text(config.model_dump_json(indent=2) + "\n")
    draw_report(report, folder)
    tracking.log_folder(folder)
    tracking.log_metrics(values | {f"seconds/{name.replace(' ', '_')}": value
                                   for name, value in bench.stages.seconds.items()})  # fmt: skip
    return registered


def evaluate_model(config: RunConfig, model_uri: str, show: Show) -> dict[str, Any]:
    """Measure a registered model on the test window of the configured data.

    Raises:
        ConfigError: no such model, or the data does not fit it.
    """
    prepared = prepare_data(config, show)
    registered, folder = tracking.find_model(config, model_uri)
    recommender, stages = load_model(folder), Stages()
    card = recommender.card
    with stages.measure("evaluation"):
        start = prepared.windows.test
        method, snapshot = at_moment(recommender, prepared, start, config.run_dir / "embeddings")
        bench = Bench(config, prepared, method, stages, show)
        fitted = Fitted(start, snapshot.texts, snapshot.cosine)
        outcome = outcome_of(bench, "test", fitted, {"full": recommender.ranker})
    if card.fitted_before > start:
        show("evaluate", 1, 1, "careful: the model was fitted on events of this test window")
    report = by_path({"test": described(bench, outcome, "test")})
    return report | {"model": registered.uri, "seconds": stages.seconds,
                     "peak_memory_bytes": stages.peak_memory_bytes}  # fmt: skip


def git_commit() -> str:
    """Return the commit of the code, "unknown" outside a checkout."""
    command = ["git", "-C", str(Path(__file__).parent), "rev-parse", "HEAD"]
    try:
        found = subprocess.run(command, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return found.stdout.strip()
