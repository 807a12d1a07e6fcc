"""Measure on a window: what valid decides, the one look at test, a registered model again."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from pipelines import tracking
from pipelines.audience import audience_of
from pipelines.calibrate import measure_heads
from pipelines.evaluate import Outcome, run_models
from pipelines.model import at_moment, load_model
from pipelines.report import by_path, describe, headline, model_metrics, without_nan
from pipelines.results import write_results
from pipelines.run import Run, git_commit, prepare_data
from pipelines.settings import RunConfig
from pipelines.stages import Stages
from pipelines.textmodel import Learned, Show
from pipelines.windows import Fitted, window_requests
from recsys.baselines import fit_als
from recsys.evaluation import paired_interval
from recsys.interest import TextModel
from recsys.neighbours import taken_matrix
from recsys.ranker import Scorer


def outcome_of(
    run: Run, window: str, fitted: Fitted, rankers: Mapping[str, Scorer],
    only: np.ndarray | None = None, with_als: bool = True,
) -> Outcome:  # fmt: skip
    """Let the models rank for the requests of a window."""
    prepared, config = run.prepared, run.config
    requests = run.measured_on(window)
    if only is not None:
        requests = [some.keep_relevant(only) for some in requests]
    als = fitted.related.als if with_als else None  # where it is a source: the same fit
    if with_als and als is None:
        n_items = len(run.method.items)
        users = taken_matrix(prepared.buckets(), fitted.before, n_items, counted=True)
        als = fit_als(users, config.seed)
    return run_models(
        prepared, run.method, fitted, als, rankers, requests, prepared.windows.span(window),
        config.state, only, run.progress(f"evaluate, {window} window", requests),
    )  # fmt: skip


def choose_refit(
    run: Run, first: Learned, second: Learned, rankers: Mapping[str, Scorer]
) -> tuple[Outcome, Learned]:
    """Decide on the valid window whether the encoder's second fit keeps what the ranker learned.

    It is used unless it is clearly worse there (paired interval over users): it knows more, and a
    coin toss between two fits would throw that away half the time.
    """
    start = run.prepared.windows.valid
    outcome = outcome_of(run, "valid", run.fitted(second, start), rankers)
    if second is first or run.config.evaluation.refit_encoder == "always":
        return outcome, second
    only_full = {"full": rankers["full"]}
    kept = outcome_of(run, "valid", run.fitted(first, start), only_full, with_als=False)
    without, refitted = (model_metrics(some, "full")["ndcg_at_10"] for some in (kept, outcome))
    rng = np.random.default_rng(run.config.seed)
    resamples = run.config.evaluation.resamples
    loss, low, high = paired_interval(without, refitted, outcome.user, rng, resamples)
    run.show("choose refit", 1, 1, f"without it NDCG@10 {loss:+.4f} [{low:+.4f}, {high:+.4f}]")
    if not low > 0:
        return outcome, second
    return with_ranker_of(outcome, kept), first


def with_ranker_of(outcome: Outcome, kept: Outcome) -> Outcome:
    """Return `outcome` with what `kept` ranked, and with the candidates it ranked them from."""
    rank, listed = outcome.rank | kept.rank, outcome.listed | kept.listed
    return replace(outcome, rank=rank, listed=listed, found=kept.found)


def unseen_catalogue(run: Run, fitted: Fitted, rankers: Mapping[str, Scorer]) -> Outcome | None:
    """Rank only items that had no event when the parts were fitted; None where nobody took one."""
    only = np.ones(len(run.method.items), bool)
    for log in run.prepared.buckets():
        only[log.item[(log.moment < fitted.before) & (log.grade > 0)]] = False
    requests = run.measured_on("test")
    if not any(len(some.keep_relevant(only)) for some in requests):
        return None
    return outcome_of(run, "test", fitted, rankers, only)


def described(run: Run, outcome: Outcome, window: str, texts: TextModel) -> dict[str, Any]:
    """Describe an outcome, with what is known of its items and users; `texts` are of the run."""
    audience = audience_of(run, outcome, window, texts)
    part = describe(outcome, audience, run.config.seed, run.config.evaluation.resamples)
    part["requests"]["in_window"] = sum(map(len, window_requests(run.prepared, window)))
    return part


def evaluate_model(config: RunConfig, model_uri: str, show: Show) -> dict[str, Any]:
    """Measure a registered model on the test window of the configured data.

    A run `evaluate` in MLflow keeps the report and what every request got, so that the model can be
    compared with one that was trained on this data.

    Raises:
        ConfigError: no such model, or the data does not fit it.
    """
    registered, folder = tracking.find_model(config, model_uri)
    prepared = prepare_data(config, show)
    recommender, stages = load_model(folder), Stages()
    card = recommender.card
    with stages.measure("evaluation"):
        start = prepared.windows.test
        method, snapshot = at_moment(recommender, prepared, start, config.run_dir / "embeddings",
                                     show)  # fmt: skip
        run = Run(config, prepared, method, stages, show)
        fitted = Fitted(start, snapshot.texts, snapshot.related)
        outcome = outcome_of(run, "test", fitted, {"full": recommender.scorer})
        calibration = measure_heads(run, fitted, recommender.heads)
    if card.fitted_before > start:
        show("evaluate", 1, 1, "careful: the model was fitted on events of this test window")
    parts = described(run, outcome, "test", fitted.texts) | {"calibration": calibration}
    tags = {"evaluated_model": registered.uri, "model_run": registered.run_id,
            "data_fingerprint": prepared.manifest.fingerprint[:16], "git_commit": git_commit(),
            "protocol": prepared.manifest.protocol}  # fmt: skip
    with tracking.run(f"evaluate {registered.uri}", tags) as run_id:
        folder = config.run_dir / "reports" / run_id
        told = write_results(folder, prepared, {"test": outcome}, not method.exclude_seen)
        parts["requests"]["fingerprint"] = told.windows["test"].fingerprint
        tracking.log_tags({"evaluation_fingerprint": parts["requests"]["fingerprint"]})
        report: dict[str, Any] = without_nan(by_path({"test": parts})) | {
            "model": registered.uri, "seconds": stages.seconds,
            "peak_memory_bytes": stages.peak_memory_bytes,
        }  # fmt: skip
        (folder / "report.json").write_text(json.dumps(report, indent=2) + "\n")
        tracking.log_folder(folder)
        tracking.log_metrics(headline(report))
    return report
