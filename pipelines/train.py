"""Train and measure: encoder, ranker, evaluation, one model in the registry.

Everything that is chosen is chosen on the encoder window's last tenth or on the valid window; the
test window is looked at once, at the end.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from features.catalogue import active_features
from pipelines import tracking, upload
from pipelines.calibrate import calibrate_heads, learn_heads, measure_heads
from pipelines.closeup import funnels, look_closer
from pipelines.config import fingerprint
from pipelines.continual import Start, check_start, find_start, learn_further
from pipelines.measure import choose_refit, described, outcome_of, unseen_catalogue
from pipelines.model import has_seen
from pipelines.registration import (
    datasets,
    keep_model,
    log_encoder,
    log_rankers,
    shown_params,
)
from pipelines.report import by_path, data_summary, without_nan
from pipelines.results import write_results
from pipelines.rows import ranker_rows, samplers
from pipelines.run import (
    Run,
    check_ranker,
    git_commit,
    method_of,
    prepare_data,
    ranker_from_elsewhere,
)
from pipelines.settings import RunConfig
from pipelines.stages import Stages
from pipelines.textmodel import Learned, Show, learn_texts, refit
from recsys.calibration import Blend, Heads
from recsys.dataset import concat
from recsys.errors import ConfigError
from recsys.ranker import Ranker, Scorer, fit_ranker, refit_ranker
from recsys.rows import Rows, position_kinds


@dataclass(frozen=True)
class Trained:
    """What a training run leaves."""

    run_id: str
    model_uri: str  # empty: not registered, and why was said
    alias: str
    report: dict[str, Any]
    folder: Path


def train(
    config: RunConfig, show: Show, start: str | None = None, reproduces: str | None = None
) -> Trained:
    """Run everything from prepared data to a registered model with its report.

    Args:
        config: of the run.
        show: progress.
        start: URI of a registered model that the text side goes on from; None = begin anew.
        reproduces: id of the run that this one repeats; it makes no version then.
    """
    stages = Stages()
    begin = None if start is None else find_start(config, start)
    with stages.measure("prepare"):
        prepared = prepare_data(config, show)
    run = Run(config, prepared, method_of(config, prepared), stages, show)
    tracking.connect(config, to_record=True)
    tracking.end_killed(config)
    if has_seen(config.encoder.model, prepared.windows):
        show("train", 1, 1, "careful: encoder.model was fitted on events it is now measured on")
    tags = {"data_fingerprint": prepared.manifest.fingerprint[:16],
            "config_fingerprint": fingerprint(config.portable()), "git_commit": git_commit(),
            "variant_fingerprint": fingerprint(config.portable().model_copy(update={"seed": 0})),
            "protocol": prepared.manifest.protocol}  # fmt: skip
    if begin is not None:
        check_start(begin, prepared.windows, concat(prepared.logs()))
        tags["continued_from"] = begin.uri
    if reproduces is not None:
        tags[upload.REPRODUCES] = reproduces
    with tracking.run(f"train {prepared.manifest.protocol}", tags) as run_id:
        tracking.log_params(shown_params(run))
        tracking.log_data(list(datasets(config, tags["data_fingerprint"]).values()))
        folder = config.run_dir / "reports" / run_id
        learned, ranker, heads, report = learn(run, tags, begin, folder)
        tracking.log_tags({"evaluation_fingerprint": report["requests"]["fingerprint"]["test"]})
        model_id = keep_model(run, learned, ranker, heads, report, folder, tags)
    made = upload.deliver(config, run_id, model_id, show, reproduces is None)
    uri, alias = ("", "") if made is None else (made.uri, made.alias)
    return Trained(run_id, uri, alias, report, folder)


def learn(
    run: Run, tags: dict[str, str], start: Start | None, folder: Path
) -> tuple[Learned, Ranker, Heads, dict[str, Any]]:
    """Train the encoder and the rankers, evaluate all models; return the model and the report.

    What every request got is written into `folder`.
    """
    config, stages, windows = run.config, run.stages, run.prepared.windows
    log = concat(run.prepared.logs())
    more = (config.candidates.switched_on, run.prepared.manifest.has_sessions, config.features.on)
    names = {
        name: active_features(windows.dated, config.features.off, with_text, *more)
        for name, with_text in (("full", config.features.text), ("ranker_without_text", False))
    }
    check_ranker(names["full"], run.prepared.manifest.columns_used["events"], config.ranker)
    foreign = ranker_from_elsewhere(config, names["full"], run.show)
    names |= {name: ranker.features for name, ranker in foreign.items()}
    fitted_here = [name for name in names if name not in foreign]
    with tracking.run("encoder", tags, nested=True), stages.measure("encoder"):
        given = (run.method.items, log, windows, config, run.method.exclude_seen, run.show)
        if start is None:
            first, continued = learn_texts(*given), {}
        else:
            first, numbers = learn_further(start, *given)
            continued = {"continued": {"from": start.uri, **asdict(numbers)}}
        log_encoder(first)
    with stages.measure("encoder refit"):
        second = first
        if config.evaluation.refit_encoder != "never":
            second = refit(first, log.before(windows.valid), windows.unit, config, run.show)
    with tracking.run("ranker", tags, nested=True):
        with stages.measure("ranker rows"):
            train_rows, valid_rows = rows_for_ranker(run, first, second, names)
        with stages.measure("ranker"):
            rankers = foreign | {name: fit(run, name, names[name], train_rows, valid_rows)
                                 for name in fitted_here}  # fmt: skip
        with stages.measure("heads"):
            models = learn_heads(run, train_rows["full"], names["full"])
        kinds = None if foreign else position_kinds([train_rows["full"]])
        if not config.ranker.refit:
            train_rows, valid_rows = {}, {}
        log_rankers(run)
    with tracking.run("evaluation", tags, nested=True):
        with stages.measure("evaluate valid"):
            valid, kept = choose_refit(run, first, second, rankers)
        with stages.measure("calibrate"):
            heads = calibrate_heads(run, run.fitted(kept, windows.valid), models)
        with stages.measure("refit"):
            if config.ranker.refit:
                if kept is not second:  # whose valid rows they were
                    valid_rows.clear()  # before there are others
                    valid_rows = window_rows(run, "valid", kept, names)
                again = {name: rankers[name] for name in fitted_here}
                rankers |= refit_rankers(run, again, train_rows, valid_rows)
            del train_rows, valid_rows
            third = kept
            if kept is not first:
                third = refit(kept, log.before(windows.test), windows.unit, config, run.show)
        with stages.measure("evaluate test"):
            fitted, values = run.fitted(third, windows.test), config.ranker.values
            served: dict[str, Scorer] = {**rankers}
            if values:
                served["full"] = Blend(heads, values)
            test = outcome_of(run, "test", fitted, served)
            unseen = unseen_catalogue(run, fitted, served)
            calibration = measure_heads(run, fitted, heads)
        with stages.measure("close look"):
            seen = look_closer(run, fitted, served["full"], rankers["full"], heads, test)
    parts = {window: described(run, some, window, fitted.texts)
             for window, some in (("valid", valid), ("test", test))}  # fmt: skip
    parts["valid"]["funnel"], parts["test"]["funnel"] = funnels(run, valid, test, seen)
    parts["test"]["calibration"] = calibration
    outcomes = {"valid": valid, "test": test}
    if unseen is not None:
        outcomes["unseen_catalogue"] = unseen
        cut = described(run, unseen, "test", fitted.texts)
        parts["test"]["slices"]["unseen_catalogue"] = {
            "requests": cut["requests"]["requests"], **cut["models"],
            "differences": cut["differences"],
        }  # fmt: skip
    with stages.measure("results"):
        told = write_results(folder, run.prepared, outcomes, not run.method.exclude_seen)
    for window, part in parts.items():
        part["requests"]["fingerprint"] = told.windows[window].fingerprint
    report = by_path(parts) | {
        "encoder": {"curve": first.curve, "steps": first.steps, "kept": first.kept,
                    "layers_score": first.layers_score, "layers_kept": first.layers_kept,
                    "refit": kept is not first,
                    "throughput": first.throughput.described()} | continued,
        "ranker": {"trees": rankers["full"].trees, "model": config.ranker.model,
                   "refit": config.ranker.refit and not foreign, "values": values,
                   "position_bias": config.ranker.position_bias and kinds is not None,
                   "curve": run.curves.get("full", []),
                   "importance": rankers["full"].importance(),
                   "contributions": seen.contributions, "contribution_rows": seen.rows},
        "data": {"fingerprint": run.prepared.manifest.fingerprint,
                 "protocol": run.prepared.manifest.protocol,
                 "seen": "exclude" if run.method.exclude_seen else "list",
                 **data_summary(run.prepared.manifest, log)},
        "examples": seen.examples,
        "seconds": stages.seconds, "peak_memory_bytes": stages.peak_memory_bytes,
    }  # fmt: skip
    return third, rankers["full"], heads, without_nan(report)


def rows_for_ranker(
    run: Run, first: Learned, second: Learned, names: dict[str, tuple[str, ...]]
) -> tuple[dict[str, Rows], dict[str, Rows]]:
    """Make the training rows (ranker window) and the early-stopping rows (valid window)."""
    return window_rows(run, "ranker", first, names), window_rows(run, "valid", second, names)


def window_rows(
    run: Run, window: str, learned: Learned, names: dict[str, tuple[str, ...]]
) -> dict[str, Rows]:
    """Make the rows of one window, as the text side `learned` sees it."""
    config, stream = run.config, {"ranker": 10, "valid": 11}[window]
    shown = config.ranker.impressions > 0
    requests = run.requests(window, config.ranker.max_requests, stream, shown)
    span = run.prepared.windows.span(window)
    choose = samplers(names, config.ranker, (config.seed, stream + 10))
    return ranker_rows(
        run.prepared, run.method, run.fitted(learned, span[0]), requests, span, config.state,
        names, choose, run.progress(f"rows, {window} window", requests),
    )  # fmt: skip


def fit(
    run: Run, name: str, features: tuple[str, ...], train_rows: dict[str, Rows],
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
    most, curve = run.config.ranker.max_trees, run.curves.setdefault(name, [])
    curve.clear()

    def on_tree(tree: int, ndcg: float) -> None:
        curve.append(ndcg)
        run.show(f"fit {name}", tree, most, f"valid NDCG@10 {ndcg:.4f}")

    return fit_ranker(rows["ranker"], rows["valid"], features, run.config.ranker, run.config.seed,
                      on_tree)  # fmt: skip


def refit_rankers(
    run: Run, rankers: dict[str, Ranker], train_rows: dict[str, Rows], valid_rows: dict[str, Rows]
) -> dict[str, Ranker]:
    """Fit the rankers anew on both windows' rows; early stopping has said how many trees.

    Takes the rows out of what it is given, so that those of one ranker are gone before the next.
    """
    found = {}
    for name, ranker in rankers.items():
        samples = [rows.pop(name) for rows in (train_rows, valid_rows)]
        found[name] = refit_ranker(samples, ranker.features, run.config.ranker, run.config.seed,
                                   ranker.trees)  # fmt: skip
        run.show("refit rankers", len(found), len(rankers), name)
    return found
