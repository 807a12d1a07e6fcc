"""The later sections of a run's page: what lists show, single users, cost, and what words mean."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pipelines import pagefigures as figures
from pipelines.page import Grid, Picture, Section
from pipelines.verdicts import catalogue_words, never_words, number, tested

Report = Mapping[str, Any]
BEYOND = {"coverage_at_10": "coverage", "gini_at_10": "Gini", "novelty_at_10": "novelty, bits",
          "popularity_at_10": "popularity", "popularity_lift_at_10": "lift",
          "serendipity_at_10": "serendipity", "intra_list_distance_at_10": "list distance",
          "miscalibration_at_10": "miscalibration"}  # fmt: skip
GLOSSARY = (
    (
        "NDCG@10",
        "how high what the user then took stands in the first ten places, the first counting "
        "most: 1 = all of it on top, 0 = none of it listed",
    ),
    (
        "recall@10",
        "share of what the user then took that is in the first ten; recall@50 in the first fifty",
    ),
    ("HR@10", "share of requests with at least one hit in the first ten"),
    ("MRR@10", "1 / place of the first hit, 0 if it is not in the first ten"),
    ("MAP@10", "precision at the place of each hit in the first ten, averaged"),
    (
        "request",
        "a moment at which a user took something; the list is made of what was known before",
    ),
    ("coverage of the catalogue", "share of all items that are in at least one list's first ten"),
    (
        "95 % interval",
        "the value again, had other users been drawn; a difference whose interval holds "
        "0 may be noise",
    ),
)


def catalogue(report: Report) -> Section:
    """Show how evenly items are listed, and how popular they are."""
    shown = report["exposure"]
    curves, tenths = shown["lorenz"]["test"], shown["tenths"]["test"]
    gini = {name: windows["test"]["gini_at_10"] for name, windows in report["models"].items()}
    pictures = [
        Picture(figures.draw_lorenz(curves, gini, "lorenz"),
                "How much of all places the least shown items have (Lorenz curve). The further "
                "below the dotted line, the fewer items have most places. Taken: what users took.",
                narrow=True),
        Picture(figures.draw_groups([str(at) for at in range(1, 11)], tenths, "tenths",
                                    "tenths of the catalogue, 1 = the most popular before"),
                "How lists and what was taken are spread over popular and rare items. "
                + never_words(report), narrow=True),
    ]  # fmt: skip
    names = [name for name in (shown["categories"]["test"] or [{}])[0] if name != "category"]
    rows = tuple((one["category"], *(f"{one[name]:.1%}" if one[name] is not None else ""
                                     for name in names))
                 for one in shown["categories"]["test"])  # fmt: skip
    grids = (Grid(("category", *names), rows, "Places by category"),) if rows else ()
    return Section("Catalogue and popularity", catalogue_words(report), pictures=tuple(pictures),
                   grids=grids)  # fmt: skip


def beyond(report: Report) -> Section:
    """Tell the metrics that are not of accuracy."""
    rows = tuple((name, *(number(windows["test"][key]) for key in BEYOND))
                 for name, windows in report["models"].items())  # fmt: skip
    notes = [
        "Of the first ten items. Coverage: share of the catalogue in at least one list. Gini: 0 = "
        "all items alike, 1 = one item has every place. Novelty: how rare listed items are, in "
        "bits: one more is half as many past events. Popularity: mean past events of an item; "
        "lift: how much more popular than what the user had taken (0 = as popular). Serendipity: "
        "places with something taken that popularity does not list. List distance: 1 - cosine of "
        "the frozen texts of two items. Miscalibration: divergence of a list's categories from the "
        "user's (0 = the same, 4.6 = nothing in common). docs/report.md has formulas and sources.",
        *(f"No {BEYOND[metric]}: {why}."
          for metric, why in tested(report.get("undefined", {})).items()),
    ]  # fmt: skip
    return Section("Beyond accuracy", tuple(notes),
                   grids=(Grid(("model", *BEYOND.values()), rows),))  # fmt: skip


def examples(report: Report) -> Section:
    """Show a few users: what they took, what was listed, what they then took."""
    grids = []
    for one in report["examples"]:
        rows = tuple((str(row["rank"]), row["title"], row["reason"], row["drivers"],
                      f"{row['probability']:.4f}", "taken" if row["taken"] else "")
                     for row in one["list"])  # fmt: skip
        taken = "; ".join(
            row["title"] + (f" (rank {row['rank']})" if row["rank"] else " (not listed)")
            for row in one["taken"]
        )
        past = "; ".join(one["history"]) or "nothing"
        kind = "warm" if one["history_events"] else "cold"
        grids.append(Grid(
            ("rank", "item", "reason", "raised by", "probability", ""), rows,
            f"User {one['user']}, {kind}: {one['history_events']:,} events before",
            (f"Last taken, latest first: {past}", f"Then took: {taken}")))  # fmt: skip
    notes = ("Drawn by seed, not chosen. What was then taken has its rank in the whole list; not "
             "listed means that no candidate source found it.",)  # fmt: skip
    return Section("Single users", notes, grids=tuple(grids))


def cost(report: Report) -> Section:
    """Say how long each stage took, and in how much memory."""
    peaks = report["peak_memory_bytes"]
    rows = tuple((stage, f"{seconds:,.1f}", f"{peaks[stage] / 2**30:.2f}")
                 for stage, seconds in report["seconds"].items())  # fmt: skip
    total = sum(report["seconds"].values())
    notes = (f"{total:,.0f} s in all, {max(peaks.values()) / 2**30:.2f} GiB at most.",)
    return Section("What it cost", notes, grids=(Grid(("stage", "seconds", "peak, GiB"), rows),))


def glossary() -> Section:
    """Say what the metrics are, in a line each."""
    return Section("What the words mean", grids=(Grid(("", "what it is"), GLOSSARY),))
