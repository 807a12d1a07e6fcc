"""The heads of a run: fitted on the ranker window, calibrated on valid, measured on test.

They are not fitted again when the ranker is (`ranker.refit`): valid would then be what they learned
from, and no place to calibrate them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from pipelines.recommender import table_of
from pipelines.rows import labels
from pipelines.run import Run
from pipelines.windows import Fitted, Step, walk
from recsys.calibration import (
    Heads,
    Reliability,
    calibrate,
    check_values,
    raw_outputs,
    reliability,
)
from recsys.ranker import Ranker, fit_heads
from recsys.rows import Rows

STREAMS = {"valid": 13, "test": 14}  # of the requests that are drawn


def learn_heads(run: Run, rows: Rows, features: tuple[str, ...]) -> dict[int, Ranker]:
    """Fit a head for each grade in the training rows.

    Raises:
        ConfigError: `ranker.values` has no value for some grade.
    """
    config = run.config
    check_values(config.ranker.values, int(rows.grade.max()))
    return fit_heads(rows, features, config.heads, config.seed)


def calibrate_heads(run: Run, fitted: Fitted, models: Mapping[int, Ranker]) -> Heads:
    """Fit the maps of the heads on every candidate of requests of the valid window."""
    raw, grade = outputs(run, "valid", fitted, tuple(models.values()))
    return calibrate(models, raw, grade)


def measure_heads(run: Run, fitted: Fitted, heads: Heads) -> dict[str, Any]:
    """Compare probabilities with what happened in the test window: level -> values."""
    raw, grade = outputs(run, "test", fitted, heads.models)
    found, probability = {}, heads.calibrated(raw)
    for at, level in enumerate(heads.levels):
        taken = grade >= level
        before, after = (reliability(some[:, at], taken) for some in (raw, probability))
        found[f"at_least_{level}"] = {
            "rows": len(taken), "taken": int(taken.sum()), "share": float(taken.mean()),
            "mean": float(probability[:, at].mean()),
            "brier": after.brier, "brier_raw": before.brier,
            "brier_constant": float(taken.var()),
            "ece": after.ece, "ece_raw": before.ece, "bins": _table(after),
        }  # fmt: skip
    return found


def outputs(
    run: Run, window: str, fitted: Fitted, models: tuple[Ranker, ...]
) -> tuple[np.ndarray, np.ndarray]:
    """Let heads look at every candidate of some requests, also where none of them was taken.

    Args:
        run: what steps share.
        window: whose requests, at most `heads.max_requests`, drawn by seed.
        fitted: parts fitted before it.
        models: the heads.

    Returns:
        (n_rows, n_models) float64 raw outputs, (n_rows,) int64 grades, 0 where not taken.
    """
    prepared, method = run.prepared, run.method
    requests = run.requests(window, run.config.heads.max_requests, STREAMS[window])
    advance = run.progress(f"calibration, {window} window", requests)
    raw, grade = [], []

    def use(step: Step) -> tuple[int, np.ndarray, np.ndarray]:
        table = table_of(method, step.snapshot, step.block, models[0].features)
        taken = labels(step.requests, step.block.candidates, len(method.items))
        return len(step.requests), raw_outputs(models, table), taken

    span, state = prepared.windows.span(window), run.config.state
    for count, said, taken in walk(prepared, method, fitted, requests, span, state, use):
        raw.append(said)
        grade.append(taken)
        advance(count)
    return np.concatenate(raw), np.concatenate(grade)


def _table(found: Reliability) -> list[dict[str, float]]:
    """Return the bins as rows of a table."""
    columns = (found.predicted.tolist(), found.observed.tolist(), found.rows.tolist())
    return [dict(zip(("mean", "share", "rows"), row, strict=True))
            for row in zip(*columns, strict=True)]  # fmt: skip
