"""The end of a training: the model folder is written and logged, with report, config and figures.

The registered version comes after the run, because a server gets the run first.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path, PurePath
from typing import Any

from pipelines import registry, tracking
from pipelines.carried import carry_state
from pipelines.config import config_toml
from pipelines.environment import environment
from pipelines.figures import draw_report
from pipelines.model import ModelCard, save_model
from pipelines.report import continued_values, headline
from pipelines.run import Run
from pipelines.runpage import write_run_page
from pipelines.settings import RunConfig
from pipelines.textmodel import Learned
from recsys.address import shown
from recsys.calibration import Heads
from recsys.ranker import Ranker

PLACES = ("run_dir", "seed", "encoder.model", "data.", "tracking.", "serving.")  # no settings
MOST_CHANGED = 24  # settings shown, so that MLflow's table of runs can be read
CONTEXTS = {"training": "encoder and ranker windows", "validation": "valid", "test": "test"}


def keep_model(
    run: Run, learned: Learned, ranker: Ranker, heads: Heads, report: dict[str, Any], folder: Path,
    tags: Mapping[str, str],
) -> str:  # fmt: skip
    """Write model, report, config and figures; log them under the open run.

    Returns:
        The id of the logged model.
    """
    config = run.config
    folder.mkdir(parents=True, exist_ok=True)
    values = headline(report)
    with run.stages.measure("model"):
        model_folder = folder / "model"
        shutil.rmtree(model_folder, ignore_errors=True)
        save_model(model_folder, learned, ranker, heads, card_of(run, learned, ranker, tags,
                                                                 values))  # fmt: skip
        carry_state(model_folder, run.prepared, run.method.items, learned, config)
        model_bytes = sum(path.stat().st_size for path in model_folder.rglob("*"))
        users, items = run.prepared.user_ids()[:2].tolist(), run.method.items.ids[:1].tolist()
        model_id = registry.log_model(
            model_folder, users, items, {"features": len(ranker.features), "trees": ranker.trees}
        )
        shutil.rmtree(model_folder)
    report["model_bytes"] = model_bytes
    (folder / "report.json").write_text(json.dumps(report, indent=2) + "\n")
    (folder / "config.json").write_text(config.model_dump_json(indent=2) + "\n")
    (folder / "config.toml").write_text(config_toml(config))
    (folder / "environment.json").write_text(json.dumps(environment(), indent=2) + "\n")
    draw_report(report, folder)
    write_run_page(
        report, tags, folder / "report.html", datetime.now(UTC), folder.name, data_name(config)
    )
    tracking.log_folder(folder)
    for context, data in datasets(config, tags["data_fingerprint"]).items():
        window = {"validation": "valid"}.get(context, context)
        measured = {key: value for key, value in values.items() if key.startswith(f"{window}/")
                    and (window == "test" or key == "valid/ndcg_at_10")}  # fmt: skip
        tracking.log_metrics(measured, model=model_id, data=data)
    peak = max(run.stages.peak_memory_bytes.values(), default=0)
    tracking.log_metrics(continued_values(report) | {
        "cost/seconds": sum(run.stages.seconds.values()), "cost/peak_memory_gb": peak / 1e9,
        "cost/model_mb": model_bytes / 1e6,
    }, model=model_id)  # fmt: skip
    return model_id


def log_encoder(learned: Learned) -> None:
    """Log the curves of the text side under the open run."""
    speed = learned.throughput
    tracking.log_curve("stopping/ndcg_at_10", learned.curve)
    tracking.log_curve("train/loss", speed.losses)
    tracking.log_curve("train/texts_per_second", speed.speeds)


def log_rankers(run: Run) -> None:
    """Log LightGBM's metric after each tree under the open run."""
    for name, curve in run.curves.items():
        tracking.log_curve(f"{name}/stopping_ndcg_at_10", curve, range(1, len(curve) + 1))


def shown_params(run: Run) -> dict[str, object]:
    """Pick the few parameters that runs are told apart by: the data, and what is no default."""
    config, manifest = run.config, run.prepared.manifest
    fixed = {
        "encoder": config.encoder.model, "seed": config.seed, "items": len(run.method.items),
        "users": manifest.n_users, "events": manifest.n_events, "protocol": manifest.protocol,
        "seen": "exclude" if run.method.exclude_seen else "list",
        "sources": ", ".join(name for name, quota in run.method.candidates.quotas.items() if quota),
    }  # fmt: skip
    usual = _flat(RunConfig().model_dump(mode="json"))
    changed = {key: value for key, value in _flat(config.model_dump(mode="json")).items()
               if usual.get(key) != value and not key.startswith(PLACES)}  # fmt: skip
    shown = dict(list(changed.items())[:MOST_CHANGED])
    rest = {"also_changed": ", ".join(list(changed)[MOST_CHANGED:])}
    return fixed | shown | (rest if len(changed) > MOST_CHANGED else {})


def _flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Turn nested sections into section.key -> value."""
    found: dict[str, Any] = {}
    for key, value in values.items():
        is_section = isinstance(value, dict) and value
        found |= _flat(value, f"{prefix}{key}.") if is_section else {f"{prefix}{key}": value}
    return found


def card_of(
    run: Run, learned: Learned, ranker: Ranker, tags: Mapping[str, str],
    metrics: dict[str, float],
) -> ModelCard:  # fmt: skip
    """Say what the model needs to be used, and where it comes from."""
    config, prepared = run.config, run.prepared
    return ModelCard(
        dated=prepared.windows.dated, exclude_seen=run.method.exclude_seen,
        encoder=config.encoder, candidates=run.method.candidates, state=config.state,
        first_pass=run.method.first_pass, features=ranker.features, values=config.ranker.values,
        history=learned.tower.pooling.history, fitted_before=prepared.windows.test,
        data_fingerprint=tags["data_fingerprint"], config_fingerprint=tags["config_fingerprint"],
        prepared=str(prepared.folder.resolve()), metrics=metrics,
    )  # fmt: skip


def data_name(config: RunConfig) -> str:
    """Name the data as its folder is named; empty for tables in memory."""
    return PurePath(shown(config.data.events[0].path)).parent.name if config.data.events else ""


def datasets(config: RunConfig, fingerprint: str) -> dict[str, tracking.DataSet]:
    """Return context -> the events as the run reads them: one table, three windows of it."""
    where = shown(config.data.events[0].path) if config.data.events else "tables in memory"
    return {context: tracking.DataSet(f"events, {windows}", where, fingerprint, context)
            for context, windows in CONTEXTS.items()}  # fmt: skip
