"""The page of a run: what report.json holds, in words, tables and figures, for somebody else.

It is made of report.json alone, so the page of an old run can be made again from its report.
`pipelines.verdicts` puts the numbers into sentences, `pipelines.pagefigures` draws.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from pipelines import pagefigures as figures
from pipelines.listsections import beyond, catalogue, cost, examples, glossary
from pipelines.page import Grid, Page, Picture, Section, write_page
from pipelines.verdicts import (
    BY_HISTORY,
    GROUPINGS,
    SLICES,
    best_single,
    data_words,
    fairness_words,
    feature_words,
    funnel_words,
    interval,
    learning_words,
    number,
    probability_words,
    quality_words,
    requests_words,
    slice_words,
    tested,
    text_words,
)

Report = Mapping[str, Any]
ACCURACY = {"ndcg_at_10": "NDCG@10", "recall_at_10": "recall@10", "recall_at_50": "recall@50",
            "hr_at_10": "HR@10", "mrr_at_10": "MRR@10", "map_at_10": "MAP@10"}  # fmt: skip
MOST_FEATURES = 20
WHAT_FOR = ("the text encoder learns", "the ranker learns", "what is chosen, is chosen on it",
            "everything is measured on it, once")  # fmt: skip


def write_run_page(
    report: Report, tags: Mapping[str, str], file: Path, made: datetime, run: str = "",
    trained_on: str = "",
) -> None:  # fmt: skip
    """Write the page of a training run.

    Args:
        report: what report.json holds.
        tags: of the run, shown at its foot.
        file: is replaced.
        made: when, in UTC.
        run: its id in MLflow, whose beginning tells pages apart; empty if unknown.
        trained_on: a name of the data; empty if unknown.
    """
    write_page(run_page(report, tags, made, run, trained_on), file)


def run_page(
    report: Report, tags: Mapping[str, str], made: datetime, run: str = "", trained_on: str = ""
) -> Page:
    """Lay out the page; see `write_run_page`."""
    full, data = report["models"]["full"]["test"], report["data"]
    best = best_single(report)
    gain = report["differences"][best]["test"]["ndcg_at_10"]
    facts = [("NDCG@10, test", number(full["ndcg_at_10"])),
             (f"over {best}", f"{number(gain[0], sign=True)}"),
             ("recall@10", number(full["recall_at_10"])),
             ("coverage of the catalogue", f"{full['coverage_at_10']:.1%}"),
             ("requests measured", f"{report['requests']['requests']['test']:,}")]  # fmt: skip
    named = f"Run {run[:8]}" if run else "The run"
    title = f"{named}: what it learned" + (f" from {trained_on}" if trained_on else "")
    lead = (f"Trained on {data['events']:,} events of {data['users']:,} users with "
            f"{data['items']:,} items; measured on {requests_words(report)}, of the test window, "
            "which nothing was chosen on. Full catalogue, intervals of 95 % over users."
            )  # fmt: skip
    sections = (
        Section("In short", (*quality_words(report), *text_words(report), *funnel_words(report)[:1],
                             *fairness_words(report)[:1])),
        _data(report), _quality(report), _funnel(report), _slices(report), _learning(report),
        _features(report), _probabilities(report), catalogue(report), beyond(report),
        examples(report), cost(report), glossary(),
    )  # fmt: skip
    told = ", ".join(f"{name} {value}" for name, value in tags.items())
    which = f" run {run}," if run else ""
    foot = (
        f"recsys train,{which} {made:%Y-%m-%d %H:%M} UTC; {told}. Every number is in report.json."
    )
    return Page(title, lead, tuple(facts), sections, foot)


def _picture(svg: str, caption: str) -> Picture:
    return Picture(svg, caption, narrow=True)


def _data(report: Report) -> Section:
    data = report["data"]
    windows = tuple((one["window"], str(one["from"]), str(one["until"]), f"{one['events']:,}", what)
                    for one, what in zip(data["windows"], WHAT_FOR, strict=True))  # fmt: skip
    types = tuple((name, f"{n:,}") for name, n in data["event_types"])
    return Section(
        "What was trained on what", data_words(report), tuple(data["warnings"]),
        grids=(Grid(("window", "from", "until", "events", "what for"), windows),
               Grid(("event type", "events"), types)),
    )  # fmt: skip


def _quality(report: Report) -> Section:
    models = tested(report["models"])
    names = sorted(models, key=lambda name: -models[name]["ndcg_at_10"])
    bounds = {name: report["intervals"][name]["test"]["ndcg_at_10"] for name in names}
    forest = [(name, models[name]["ndcg_at_10"], *bounds[name]) for name in names]
    others = [name for name in names if name != "full"]
    gains = [(name, *report["differences"][name]["test"]["ndcg_at_10"]) for name in others]
    rows = tuple((name, *(number(models[name][key]) for key in ACCURACY),
                  interval(report["differences"][name]["test"]["ndcg_at_10"], sign=True)
                  if name != "full" else "") for name in names)  # fmt: skip
    return Section(
        "Quality against baselines", quality_words(report),
        pictures=(
            _picture(figures.draw_forest(forest, "models", "NDCG@10, test window"),
                    "Every model on the same requests, with 95 % intervals over users."),
            _picture(figures.draw_forest(gains, "gains", "full minus the model, NDCG@10",
                                        zero=True),
                    "What the full ranker gains over each model on the same requests (paired). "
                    "Grey: the interval holds 0, so it may be noise. Red: full is worse."),
        ),
        grids=(Grid(("model", *ACCURACY.values(), "full is better by, NDCG@10"), rows),),
    )  # fmt: skip


def _funnel(report: Report) -> Section:
    steps = report["funnel"]["steps"]["test"]
    rows = tuple((one["step"], "" if one["items"] is None else f"{one['items']:,.0f}",
                  f"{one['recall']:.4f}") for one in steps)  # fmt: skip
    recall = tested(report["candidates"])
    found = {name: recall[name] for name in sorted(recall, key=lambda n: -recall[n])
             if recall[name] > 0}  # fmt: skip
    return Section(
        "From the catalogue to the list", funnel_words(report),
        pictures=(
            _picture(figures.draw_funnel(steps, "funnel"),
                    "Share of what a user took that is still there after each step."),
            _picture(figures.draw_bars(found, "sources", "recall of the source's candidates",
                                      "union"),
                    "Recall of each candidate source alone, and of all of them together."),
        ),
        grids=(Grid(("step", "items a request", "recall"), rows),),
    )  # fmt: skip


def _slices(report: Report) -> Section:
    best = best_single(report)
    shown = ("full", "ranker_without_text", best)
    cuts = tested(report["slices"])
    rows = tuple((SLICES.get(name, name), f"{cut['requests']:,}",
                  *(number(cut[model]["ndcg_at_10"]) if model in cut else "" for model in shown))
                 for name, cut in cuts.items())  # fmt: skip
    groups = tested(report.get("fairness", {}))
    pictures = tuple(
        _picture(
            figures.draw_forest([(BY_HISTORY.get(one["group"], one["group"]), one["mean"],
                                  one["low"], one["high"])
                                 for one in found["groups"]],
                                f"group-{name}", "NDCG@10 of full"),
            f"Users grouped by {GROUPINGS[name]}.",
        ) for name, found in groups.items()
    )  # fmt: skip
    return Section(
        "For whom it is better and worse", (*slice_words(report), *fairness_words(report)),
        pictures=pictures,
        grids=(Grid(("NDCG@10 for", "requests", *(name.replace("_", " ") for name in shown)),
                    rows),),
    )  # fmt: skip


def _learning(report: Report) -> Section:
    encoder, ranker, pictures = report["encoder"], report["ranker"], []
    if curve := encoder["curve"]:
        marks = {f"kept: {encoder['kept']}": (curve.index(max(curve)) + 1, max(curve))}
        if encoder["layers_score"] is not None:
            name = "with layers tuned" + (", kept" if encoder["kept"] == "layers" else "")
            marks = marks if encoder["kept"] != "layers" else {}
            marks[name] = (len(curve) + 1, encoder["layers_score"])
        svg = figures.draw_curves({"interest score": curve}, "encoder", "step, 1 = frozen encoder",
                                  "NDCG@10 over texts", marks)  # fmt: skip
        said = "The text encoder after each step of fine-tuning, on its stopping window."
        pictures.append(_picture(svg, said))
    if curve := ranker["curve"]:
        at = min(ranker["trees"], len(curve))
        svg = figures.draw_curves({"full": curve}, "trees", "trees", "NDCG@10 of sampled rows",
                                  {f"kept: {at} trees": (at, curve[at - 1])})  # fmt: skip
        said = (
            "The ranker on rows of the valid window after each tree. Only a sample of the "
            "candidates competes here, so values are higher than those of whole lists."
        )
        pictures.append(_picture(svg, said))
    return Section("How it learned", learning_words(report), pictures=tuple(pictures))


def _features(report: Report) -> Section:
    gain, parts = report["ranker"]["importance"], report["ranker"]["contributions"]
    whole = sum(gain.values()) or 1.0
    share = {name: value / whole for name, value in list(gain.items())[:MOST_FEATURES]}
    said = "What the trees split on, by what the splits gained in training."
    bars = figures.draw_bars(share, "gain", "share of the gain of all splits")
    pictures = [_picture(bars, said)]
    if parts:
        few = dict(list(parts.items())[:MOST_FEATURES])
        rows = report["ranker"]["contribution_rows"]
        pictures.append(_picture(
            figures.draw_bars(few, "shap", "mean |contribution| to the score"),
            f"What moves scores (TreeSHAP), over {rows:,} candidates of test requests, half of "
            "them listed."))  # fmt: skip
    return Section("What the ranker looks at", feature_words(report), pictures=tuple(pictures))


def _probabilities(report: Report) -> Section:
    levels = tested(report["calibration"])
    rows = tuple((name.replace("_", " "), f"{one['rows']:,}", f"{one['taken']:,}",
                  f"{one['mean']:.5f}", f"{one['share']:.5f}", f"{one['ece']:.5f}",
                  f"{one['brier']:.5f}", f"{one['brier_constant']:.5f}")
                 for name, one in levels.items())  # fmt: skip
    head = ("grade", "candidates", "taken", "mean said", "share taken", "off by (ECE)", "Brier",
            "Brier of a constant")  # fmt: skip
    picture = _picture(figures.draw_reliability(levels, "reliability"),
                      "Ten bins of candidates: on the dotted line a probability is what happens. "
                      "A triangle: none was taken, the end of its interval.")  # fmt: skip
    return Section("Probabilities", probability_words(report), pictures=(picture,),
                   grids=(Grid(head, rows),))  # fmt: skip
