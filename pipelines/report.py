"""The report of a run: every model's metrics with intervals, slices, candidate recall, cost.

Values stand at `models.<name>.<window>.<metric>` and their intervals under `intervals` at the same
path; `differences.<name>` is the full ranker minus that model, paired, with its interval.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from rich.table import Table

from pipelines.audience import Audience
from pipelines.beyond import beyond_metrics, exposure, fairness, list_metrics, undefined
from pipelines.evaluate import MODELS, Outcome
from pipelines.measured import SHARES, popularity_bin
from pipelines.prepared import Manifest
from recsys.dataset import DAY, Log
from recsys.evaluation import (
    bootstrap_interval,
    history_slices,
    mean_over_requests,
    paired_interval,
)
from recsys.metrics import request_metrics

CURATED = ("coverage_at_10", "gini_at_10", "novelty_at_10", "popularity_lift_at_10",
           "serendipity_at_10", "intra_list_distance_at_10", "miscalibration_at_10")  # fmt: skip
CONTINUED = ("new_before", "new_after", "old_before", "old_after")
HEADLINE = ("ndcg_at_10", "hr_at_10", "recall_at_20", "mrr_at_10", "map_at_10")
SLICED = ("ndcg_at_10", "recall_at_20", "hr_at_10")


def describe(outcome: Outcome, audience: Audience, seed: int, resamples: int) -> dict[str, Any]:
    """Turn one window's outcome into the window's part of each section of the report.

    Args:
        outcome: ranks of every model.
        audience: what is known of its items and users.
        seed: of the bootstrap.
        resamples: of users.
    """
    names = [name for name in MODELS if name in outcome.rank]
    values = {name: model_metrics(outcome, name) | beyond_metrics(outcome, name, audience)
              for name in names}  # fmt: skip
    metrics = list(values[names[0]])
    tables = {name: np.stack([values[name][metric] for metric in metrics], 1) for name in names}
    models, intervals, differences = {}, {}, {}
    for name in names:
        low, high = bootstrap_interval(
            tables[name], outcome.user, np.random.default_rng(seed), resamples
        )
        means = mean_over_requests(tables[name])
        models[name] = dict(zip(metrics, means.tolist(), strict=True))
        models[name] |= list_metrics(outcome, name, audience, values[name]["popularity_at_10"])
        bounds = np.stack([low, high], 1).tolist()
        intervals[name] = dict(zip(metrics, bounds, strict=True))
        if "full" in tables and name != "full":
            paired = paired_interval(
                tables["full"], tables[name], outcome.user, np.random.default_rng(seed), resamples
            )
            rows = np.stack(paired, 1).tolist()
            differences[name] = {
                metric: row for metric, row in zip(metrics, rows, strict=True) if metric in HEADLINE
            }
    full = values[names[-1]]["ndcg_at_10"]
    return {
        "models": models,
        "intervals": intervals,
        "differences": differences,
        "slices": slices(outcome, names, audience.n_events),
        "candidates": candidate_recall(outcome),
        "exposure": exposure(outcome, audience),
        "fairness": fairness(full, outcome, audience, seed, resamples),
        "undefined": undefined(models),
        "requests": {"requests": len(outcome.user), "users": len(np.unique(outcome.user)),
                     "relevant": len(outcome.item)},
    }  # fmt: skip


def model_metrics(
    outcome: Outcome, name: str, rows: np.ndarray | None = None
) -> dict[str, np.ndarray]:
    """Return metric -> (n_requests,) of one model, over all relevant items or those at `rows`."""
    rows = np.ones(len(outcome.item), bool) if rows is None else rows
    return request_metrics(
        outcome.request[rows], outcome.grade[rows], outcome.rank[name][rows], len(outcome.user)
    )


def slices(outcome: Outcome, names: list[str], n_events: np.ndarray) -> dict[str, Any]:
    """Cut by the user's history, by whether the item was seen when the parts were fitted, and by
    how popular it was (`popularity_bin` of `n_events`)."""
    by_user = history_slices(outcome.history)
    by_user |= {"cold_users": outcome.history == 0, "warm_users": outcome.history > 0}
    cuts = {name: (mask[outcome.request], int(mask.sum())) for name, mask in by_user.items()}
    by_item = {"unseen_items": outcome.unseen, "seen_items": ~outcome.unseen}
    popularity = popularity_bin(n_events)[outcome.item]
    by_item |= {f"{name}_items": popularity == name for name in SHARES}
    for name, rows in by_item.items():
        cuts[name] = (rows, len(np.unique(outcome.request[rows])))
    found: dict[str, Any] = {}
    for cut, (rows, count) in cuts.items():
        if not count:
            continue
        found[cut] = {"requests": count}
        for name in names:
            values = model_metrics(outcome, name, rows)
            found[cut][name] = {key: float(np.nanmean(values[key])) for key in SLICED}
    return found


def candidate_recall(outcome: Outcome) -> dict[str, float]:
    """Return the mean share of a request's relevant items that each source's candidates hold."""
    n, found = len(outcome.user), {}
    total = np.bincount(outcome.request, minlength=n)
    for source, hit in outcome.found.items():
        hits = np.bincount(outcome.request, hit, minlength=n)
        found[source] = float((hits[total > 0] / total[total > 0]).mean())
    return found


def data_summary(manifest: Manifest, log: Log) -> dict[str, Any]:
    """Say what a run was trained on: sizes, windows, what the check of the tables said.

    Args:
        manifest: of the prepared data.
        log: all of its events.
    """
    windows = manifest.windows
    starts = [manifest.first_moment, windows.ranker, windows.valid, windows.test, windows.test_end]
    if not windows.dated:
        starts[0] = int(log.moment.min(initial=0))
    at = np.searchsorted(starts[1:], log.moment, side="right")
    events = np.bincount(at, minlength=5)

    def told(moment: int) -> str | int:
        return str(np.datetime64(moment // DAY, "D")) if windows.dated else moment

    return {
        "users": manifest.n_users, "items": manifest.n_items, "events": manifest.n_events,
        "event_types": [[name, n] for name, n in manifest.event_types.items()],
        "windows": [{"window": name, "from": told(starts[i]), "until": told(starts[i + 1]),
                     "events": int(events[i])}
                    for i, name in enumerate(("encoder", "ranker", "valid", "test"))],
        "repeat_share": manifest.repeat_share,
        "dropped": [[reason, n] for reason, n in manifest.dropped.items()],
        "text_columns": list(manifest.text_columns), "warnings": list(manifest.warnings),
    }  # fmt: skip


def headline(report: Mapping[str, Any]) -> dict[str, float]:
    """Return the few values that MLflow's run table shows."""
    values: dict[str, float] = {}
    for name in ("full", "ranker_without_text", "tuned_encoder", "frozen_encoder"):
        for window, metrics in report["models"].get(name, {}).items():
            if name == "full":
                values |= {f"{window}/{key}": metrics[key] for key in HEADLINE}
                if window == "test":
                    values |= {f"test/{key}": metrics[key] for key in CURATED}
            else:
                values[f"{window}/{name}_ndcg_at_10"] = metrics["ndcg_at_10"]
    for windows in list(report.get("calibration", {}).values())[:1]:  # taken at all
        for window, found in windows.items():
            values |= {f"{window}/probability_{key}": found[key] for key in ("brier", "ece")}
    return {name: value for name, value in values.items() if value is not None}


def continued_values(report: Mapping[str, Any]) -> dict[str, float]:
    """Pick what going on from a model did, as metric name -> value; empty if it began anew."""
    continued = report["encoder"].get("continued", {})
    return {f"continued/{name}": continued[name] for name in CONTINUED if continued}


def continued_lines(report: Mapping[str, Any]) -> list[str]:
    """Say in a line what going on from a model did; none if it began anew."""
    continued = report["encoder"].get("continued")
    if continued is None:
        return []
    was, now, old_was, old_now = (
        "none" if continued[name] is None else f"{continued[name]:.4f}" for name in CONTINUED
    )
    return [
        f"went on from {continued['from']} with {continued['new_events']:,} new and "
        f"{continued['replayed_events']:,} old events; NDCG@10 of the interest score on new "
        f"requests {now}, was {was}; on old ones {old_now}, was {old_was}"
    ]


def calibration_lines(report: Mapping[str, Any]) -> list[str]:
    """Say in a line for each grade how well probabilities hold on the test window."""
    found = {level: windows["test"] for level, windows in report["calibration"].items()}
    return [
        f"probability of {level.replace('_', ' ')}, test: mean {one['mean']:.5f}, "
        f"taken {one['share']:.5f}; off by {one['ece']:.5f} in the mean of its bins"
        for level, one in found.items()
    ]


def by_path(windows: Mapping[str, dict[str, Any]]) -> dict[str, Any]:
    """Turn window -> section -> name -> values into section -> name -> window -> values."""
    report: dict[str, Any] = {}
    for window, sections in windows.items():
        for section, names in sections.items():
            for name, values in names.items():
                report.setdefault(section, {}).setdefault(name, {})[window] = values
    return report


def without_nan(values: Any) -> Any:
    """Return nested dicts and lists with None for NaN and infinity, which JSON does not know."""
    if isinstance(values, dict):
        return {key: without_nan(value) for key, value in values.items()}
    if isinstance(values, list | tuple):
        return [without_nan(value) for value in values]
    return None if isinstance(values, float) and not np.isfinite(values) else values


def quality_table(report: Mapping[str, Any], window: str = "test") -> Table:
    """Draw the report's models as a table, with what the full ranker gains over each."""
    table = Table(title=f"{window} window, {report['requests']['requests'][window]:,} requests")
    for column in ("model", *HEADLINE, "full is better by (NDCG@10)"):
        table.add_column(column, justify="left" if column == "model" else "right")
    for name, windows in report["models"].items():
        metrics = windows[window]
        low, high = report["intervals"][name][window]["ndcg_at_10"]
        cells = [f"{metrics[key]:.4f}" for key in HEADLINE]
        cells[0] += f" [{low:.4f}, {high:.4f}]"
        gain = ""
        if name in report.get("differences", {}):
            by, least, most = report["differences"][name][window]["ndcg_at_10"]
            gain = f"{by:+.4f} [{least:+.4f}, {most:+.4f}]"
        table.add_row(name, *cells, gain)
    return table
