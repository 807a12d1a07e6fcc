"""Pictures of a report (quality, learning curve, features, recall, reliability) and of a page.

Those of a report are files; those of a page are SVG text in the page's own colours.
"""

from __future__ import annotations

import io
import re
from collections.abc import Mapping, Sequence
from itertools import cycle
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, StrMethodFormatter

COLOURS = ("tab:green", "tab:blue", "tab:orange", "tab:purple")


def draw_report(report: Mapping[str, Any], folder: Path) -> None:
    """Write quality.png, learning.png and calibration.png into `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    figure = Figure(figsize=(11, 4.5), layout="constrained")
    left, right = figure.subplots(1, 2)
    _quality(left, report)
    _sources(right, report)
    figure.savefig(folder / "quality.png", dpi=120)
    figure = Figure(figsize=(11, 4.5), layout="constrained")
    left, right = figure.subplots(1, 2)
    _curve(left, report)
    _importance(right, report)
    figure.savefig(folder / "learning.png", dpi=120)
    draw_calibration(report["calibration"], folder / "calibration.png")


def draw_calibration(calibration: Mapping[str, Any], file: Path) -> None:
    """Draw the share taken against the probability, both logarithmic: a curve for each grade.

    Bars are 95 % of a share of that many rows (Wilson), as if rows were independent.
    """
    figure = Figure(figsize=(6.5, 6), layout="constrained")
    axes = figure.subplots()
    seen = []
    for (level, windows), colour in zip(calibration.items(), cycle(COLOURS), strict=False):
        found = windows["test"]
        mean, share, rows = (np.array([one[key] for one in found["bins"]])
                             for key in ("mean", "share", "rows"))  # fmt: skip
        low, high = wilson(share, rows)
        taken = share > 0
        label = f"{level.replace('_', ' ')}: {found['taken']:,} of {found['rows']:,} rows"
        axes.vlines(mean, low, high, color=colour, alpha=0.5)
        axes.plot(mean[taken], share[taken], marker="o", color=colour, label=label)
        axes.plot(mean[~taken], high[~taken], marker="v", linestyle="", color=colour)
        seen += [*mean, *share[taken], *high[~taken]]
    ends = (min(seen) / 2, min(1.0, max(seen) * 2))
    axes.plot(ends, ends, linestyle=":", color="tab:gray", label="as predicted")
    axes.set(xscale="log", yscale="log", xlim=ends, ylim=ends, aspect="equal",
             xlabel="mean probability of a bin of candidates",
             ylabel="share of them taken (triangle: none was, its bar's end)",
             title="Probabilities on the test window")  # fmt: skip
    axes.grid(visible=True, alpha=0.3)
    axes.legend(loc="upper left")
    file.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(file, dpi=120)


def draw_quotas(path: Sequence[tuple[float, float]], now: tuple[float, float], file: Path) -> None:
    """Draw recall against candidates a request: (candidates, recall) of each choice, and of now."""
    figure = Figure(figsize=(7, 4.5), layout="constrained")
    axes = figure.subplots()
    axes.plot(*zip(*path, strict=True), marker=".", color="tab:green",
              label="by growing quotas, best step first")  # fmt: skip
    axes.plot(*path[-1], marker="o", markersize=14, fillstyle="none", linestyle="", color="black",
              label="chosen")  # fmt: skip
    axes.plot(*now, marker="x", markersize=10, linestyle="", color="tab:gray", label="quotas now")
    axes.set_xlabel("candidates a request")
    axes.set_ylabel("share of what was taken that is a candidate")
    axes.set_title("Candidate recall on the valid window")
    axes.legend(loc="lower right")
    file.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(file, dpi=120)


def draw_importance(importance: Mapping[str, float], file: Path) -> None:
    """Draw the share of each setting in what decides the score, the largest on top."""
    figure = Figure(figsize=(7, 1 + 0.4 * len(importance)), layout="constrained")
    axes = figure.subplots()
    names = sorted(importance, key=importance.__getitem__)
    axes.barh(names, [importance[name] for name in names], color="tab:gray")
    axes.set_xlabel("share in what decides NDCG@10 (fANOVA)")
    figure.savefig(file, dpi=120)


def draw_trials(score: Sequence[float], seconds: Sequence[float], title: str, file: Path) -> None:
    """Draw the score of each trial, and the score against the seconds it took; the first is now."""
    figure = Figure(figsize=(11, 4.5), layout="constrained")
    left, right = figure.subplots(1, 2, sharey=True)
    best = int(np.argmax(score))
    left.step(range(len(score)), np.maximum.accumulate(score), where="post", color="tab:green",
              label="best so far")  # fmt: skip
    for axes, places in ((left, range(len(score))), (right, seconds)):
        axes.plot(places, score, marker=".", linestyle="", color="tab:gray", label="trials")
        axes.plot(places[0], score[0], marker="x", markersize=10, linestyle="", color="black",
                  label="config now")  # fmt: skip
        axes.plot(places[best], score[best], marker="o", markersize=14, fillstyle="none",
                  linestyle="", color="black", label="best")  # fmt: skip
    left.set_xlabel("trial")
    left.xaxis.set_major_locator(MaxNLocator(integer=True))
    left.set_ylabel("NDCG@10, held requests of the valid window")
    left.legend(loc="best")
    right.set_xlabel("seconds to fit and measure")
    right.set_xlim(left=0)
    figure.suptitle(title)
    file.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(file, dpi=120)


def wilson(share: np.ndarray, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Bound shares of `rows` draws at 95 %: Wilson's score interval."""
    z = 1.96
    middle = (share + z**2 / (2 * rows)) / (1 + z**2 / rows)
    half = z / (1 + z**2 / rows) * np.sqrt(share * (1 - share) / rows + (z / (2 * rows)) ** 2)
    return np.maximum(middle - half, 0), middle + half


def _quality(axes: Axes, report: Mapping[str, Any]) -> None:
    """Bars of NDCG@10 with intervals, worst on top."""
    values = {name: windows["test"]["ndcg_at_10"] for name, windows in report["models"].items()}
    names = sorted(values, key=values.__getitem__)
    bounds = [report["intervals"][name]["test"]["ndcg_at_10"] for name in names]
    below = [values[name] - low for name, (low, _) in zip(names, bounds, strict=True)]
    above = [high - values[name] for name, (_, high) in zip(names, bounds, strict=True)]
    colours = ["tab:green" if name == "full" else "tab:gray" for name in names]
    axes.barh(
        names, [values[name] for name in names], xerr=[below, above], color=colours, capsize=3
    )
    axes.set_xlabel("NDCG@10, test window, 95 % interval over users")
    axes.set_title("Models on the same requests")


def _sources(axes: Axes, report: Mapping[str, Any]) -> None:
    """Bars of candidate recall by source."""
    recall = {name: windows["test"] for name, windows in report["candidates"].items()}
    recall = {name: value for name, value in recall.items() if value > 0}
    names = sorted(recall, key=recall.__getitem__)
    colours = ["tab:green" if name == "union" else "tab:gray" for name in names]
    axes.barh(names, [recall[name] for name in names], color=colours)
    axes.set_xlabel("share of what was taken that the candidates hold")
    axes.set_title("Candidate recall")


def _curve(axes: Axes, report: Mapping[str, Any]) -> None:
    """Line of the encoder's NDCG@10 over epochs, what was kept ringed."""
    encoder = report["encoder"]
    curve, layers, kept = encoder["curve"], encoder["layers_score"], encoder["kept"]
    axes.plot(range(len(curve)), curve, marker="o", color="tab:green")
    if curve:
        axes.axhline(curve[0], linestyle=":", color="tab:gray", label="frozen encoder")
        if layers is not None:
            axes.plot(len(curve), layers, marker="s", color="tab:blue", label="with layers tuned")
        best = (len(curve), layers) if kept == "layers" else (int(np.argmax(curve)), max(curve))
        axes.plot(*best, marker="o", markersize=14, fillstyle="none", linestyle="", color="black",
                  label=f"kept: {kept}")  # fmt: skip
        axes.legend()
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.set_ylim(bottom=0)
    first = [name for name in encoder["steps"] if name != "head"]
    named = [f"{at} = {name}" for at, name in enumerate(first)]
    axes.set_xlabel(", ".join([*named, "then epochs of the head"]))
    axes.set_ylabel("NDCG@10 over distinct texts (not items),\nlast tenth of the encoder window")
    axes.set_title("Fine-tuning the text encoder")


def _importance(axes: Axes, report: Mapping[str, Any]) -> None:
    """Bars of the strongest features."""
    gains = list(report["ranker"]["importance"].items())[:15][::-1]
    axes.barh([name for name, _ in gains], [gain for _, gain in gains], color="tab:gray")
    axes.set_xlabel("total gain of the feature's splits")
    axes.set_title("What the ranker looks at")


# --- figures inside a page -----------------------------------------------------------------------

# A page has a light and a dark face, so its figures are drawn in stand-ins for its own colours.
INK, SOFT, LINE, BAND = "#010101", "#010102", "#010103", "#010104"
SERIES = tuple(f"#0201{at:02d}" for at in range(1, 9))
PAGE_COLOURS = {INK: "ink", SOFT: "soft", LINE: "line", BAND: "band"} | {
    stand_in: f"s{at}" for at, stand_in in enumerate(SERIES, start=1)
}
PAGE_STYLE: Any = {
    "text.parse_math": False, "text.color": INK, "axes.labelcolor": SOFT, "axes.edgecolor": LINE,
    "xtick.color": SOFT, "ytick.color": SOFT, "axes.facecolor": "none", "axes.spines.top": False,
    "axes.spines.right": False, "grid.color": LINE, "legend.frameon": False, "font.size": 11,
}  # fmt: skip


def as_svg(figure: Figure, name: str) -> str:
    """Return a figure drawn in `PAGE_STYLE` as SVG to stand in a page that has one `name`."""
    text = io.StringIO()
    with rc_context({"svg.fonttype": "none", "svg.hashsalt": name}):
        figure.savefig(text, format="svg", transparent=True, metadata={"Date": None})
    svg = text.getvalue()
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg[svg.index("<svg") :], flags=re.DOTALL)
    svg = re.sub(r"'DejaVu Sans'[^;\"]*", "system-ui, sans-serif", svg)
    svg = re.sub(r'\b(id="|href="#|url\(#)', rf"\g<1>{name}-", svg)
    for stand_in, colour in PAGE_COLOURS.items():
        svg = svg.replace(stand_in, f"var(--{colour})")
    return svg


def draw_periods(
    begins: np.ndarray, counts: Mapping[str, np.ndarray], cuts: Mapping[str, float]
) -> str:
    """Draw events by period, the types on top of each other, and where windows begin.

    Args:
        begins: (n,) days since 1970 at which the periods begin, ascending.
        counts: type -> (n,) events.
        cuts: window -> day since 1970 at which it begins.
    """
    with rc_context(PAGE_STYLE):
        figure = Figure(figsize=(10, 3.6), layout="constrained")
        axes = figure.subplots()
        width = np.diff(begins, append=2 * begins[-1] - begins[-2] if len(begins) > 1 else 1)
        below = np.zeros(len(begins))
        for (name, values), colour in zip(counts.items(), cycle(SERIES), strict=False):
            axes.bar(begins, values, width * 0.9, below, align="edge", color=colour, label=name)
            below = below + values
        ends = [*list(cuts.values())[1:], begins[-1] + width[-1]]
        for name, end, colour in zip(cuts, ends, cycle((BAND, "none")), strict=False):
            axes.axvspan(cuts[name], end, color=colour, zorder=0)
            axes.axvline(cuts[name], color=SOFT, linestyle=":", linewidth=1)
            place = axes.get_xaxis_transform()
            axes.text(cuts[name], 1.02, name, color=SOFT, fontsize=9, transform=place)
        axes.set_ylabel("events")
        axes.xaxis_date()
        axes.yaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
        if len(counts) > 1:
            figure.legend(loc="outside upper left", ncols=4)
        return as_svg(figure, "periods")


def draw_bins(bins: Mapping[str, Sequence[tuple[int, int]]], name: str) -> str:
    """Draw how numbers vary: bars for 1, 2, up to 4, up to 8, ...; a panel for each title."""
    with rc_context(PAGE_STYLE):
        figure = Figure(figsize=(10, 3.0), layout="constrained")
        panels = figure.subplots(1, len(bins), squeeze=False)[0]
        for axes, (title, some) in zip(panels, bins.items(), strict=True):
            labels = [f"{most:,}" if most < 10_000 else f"{most // 1000:,}k" for most, _ in some]
            axes.bar(range(len(some)), [n for _, n in some], 0.9, color=SERIES[0])
            axes.set_xticks(range(len(some)), labels, rotation=45, ha="right")
            axes.set_xlim(-0.6, max(len(some), 12) - 0.4)
            axes.set_title(title, fontsize=11, loc="left")
            axes.yaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
        return as_svg(figure, name)
