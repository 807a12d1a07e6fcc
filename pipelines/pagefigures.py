"""Figures of a run's page, as SVG in the page's own colours: see `pipelines.figures.as_svg`.

Beside `pipelines.figures` the second door to matplotlib, because one file would be too long for
both. All figures are narrow enough to be read on a telephone.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator, PercentFormatter

from pipelines.comparefigures import Line
from pipelines.comparefigures import draw_forest as draw_lines
from pipelines.figures import INK, LINE, PAGE_STYLE, SERIES, SOFT, as_svg, wilson

WIDTH = 6.0  # inches
ROW = 0.31  # inches of a bar or a line of a forest
LABEL = 24  # letters, of which two stand side by side


@contextmanager
def _figure(height: float) -> Iterator[tuple[Figure, Axes]]:
    """Open a figure with one axes, in the style of pages."""
    with rc_context(PAGE_STYLE):
        figure = Figure(figsize=(WIDTH, height), layout="constrained")
        yield figure, figure.subplots()


def _legend(figure: Figure) -> None:
    """Name what is drawn above the axes, where it can cover nothing."""
    labels = figure.axes[0].get_legend_handles_labels()[1]
    columns = 2 if max(map(len, labels)) <= LABEL else 1
    figure.legend(loc="outside upper left", ncols=columns, labelcolor=INK)


def draw_forest(
    rows: Sequence[tuple[str, float, float, float]], name: str, xlabel: str, zero: bool = False
) -> str:
    """Draw (label, value, low, high) as dots with intervals, the first on top.

    With `zero` a line marks no difference, and intervals that do not hold 0 are coloured.
    """
    lines = [
        Line(label, value, low, high, low > 0 or high < 0 if zero else label == "full")
        for label, value, low, high in rows
    ]
    return draw_lines(lines, name, xlabel, zero=zero)


def draw_bars(values: Mapping[str, float], name: str, xlabel: str, strong: str = "") -> str:
    """Draw one bar for each name, the first on top; that of `strong` in colour."""
    with _figure(0.9 + ROW * len(values)) as (figure, axes):
        colours = [SERIES[0] if one == strong or not strong else SERIES[7] for one in values]
        axes.barh(list(values), list(values.values()), 0.7, color=colours)
        axes.tick_params(axis="y", length=0, labelcolor=INK)
        axes.set_ylim(len(values) - 0.4, -0.6)
        axes.grid(visible=True, axis="x")
        axes.set_axisbelow(True)
        axes.set_xlabel(xlabel)
        return as_svg(figure, name)


def draw_funnel(steps: Sequence[Mapping[str, Any]], name: str) -> str:
    """Draw the recall of each step, the share that it lost in pale."""
    with _figure(0.9 + 0.42 * len(steps)) as (figure, axes):
        recall = [step["recall"] for step in steps]
        before = [1.0, *recall[:-1]]
        places = range(len(steps))
        axes.barh(places, before, 0.72, color=LINE)
        axes.barh(places, recall, 0.72, color=SERIES[0])
        for at, value in enumerate(recall):
            axes.text(before[at] + 0.01, at, f"{value:.1%}", va="center", color=INK, fontsize=10)
        axes.set_yticks(places, [step["step"] for step in steps])
        axes.tick_params(axis="y", length=0, labelcolor=INK)
        axes.set_ylim(len(steps) - 0.4, -0.6)
        axes.set_xlim(0, 1.1)
        axes.set_xticks(np.linspace(0, 1, 6))
        axes.xaxis.set_major_formatter(PercentFormatter(1.0))
        axes.set_xlabel("of what was taken, what is still there; pale: lost in this step")
        return as_svg(figure, name)


def draw_curves(
    curves: Mapping[str, Sequence[float]], name: str, xlabel: str, ylabel: str,
    marks: Mapping[str, tuple[int, float]] | None = None,
) -> str:  # fmt: skip
    """Draw a line for each name over the steps 1, 2, ...; ring what `marks` names."""
    with _figure(3.7) as (figure, axes):
        for (label, values), colour in zip(curves.items(), SERIES, strict=False):
            steps = range(1, len(values) + 1)
            dot = "o" if len(values) < 25 else ""
            axes.plot(steps, values, marker=dot, color=colour, label=label)
        for (label, (step, value)), mark in zip((marks or {}).items(), "os", strict=False):
            axes.plot(step, value, marker=mark, markersize=13, fillstyle="none", linestyle="",
                      color=INK, label=label)  # fmt: skip
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.set(xlabel=xlabel, ylabel=ylabel)
        axes.grid(visible=True)
        _legend(figure)
        return as_svg(figure, name)


def draw_lorenz(curves: Mapping[str, Sequence[float]], gini: Mapping[str, float], name: str) -> str:
    """Draw Lorenz curves; the Gini index of each stands beside its name."""
    with _figure(5.2) as (figure, axes):
        axes.plot([0, 1], [0, 1], color=SOFT, linestyle=":", label="all items alike")
        for (label, curve), colour in zip(curves.items(), SERIES, strict=False):
            index = f", Gini {gini[label]:.3f}" if gini.get(label) is not None else ""
            at = np.linspace(0, 1, len(curve))
            axes.plot(at, curve, color=colour, label=f"{label}{index}", linewidth=2)
        axes.set(xlabel="share of the catalogue, least shown first", ylabel="share of all places")
        axes.xaxis.set_major_formatter(PercentFormatter(1.0))
        axes.yaxis.set_major_formatter(PercentFormatter(1.0))
        axes.grid(visible=True)
        _legend(figure)
        return as_svg(figure, name)


def draw_groups(
    groups: Sequence[str], shares: Mapping[str, Sequence[float]], name: str, xlabel: str
) -> str:
    """Draw shares of groups, a bar for each name beside each other, all from left to right."""
    with _figure(4.0) as (figure, axes):
        width = 0.85 / len(shares)
        for number, (label, values) in enumerate(shares.items()):
            places = np.arange(len(groups)) + (number - (len(shares) - 1) / 2) * width
            axes.bar(places, values, width * 0.92, color=SERIES[number], label=label)
        axes.set_xticks(range(len(groups)), groups)
        axes.set_axisbelow(True)
        axes.grid(visible=True, axis="y")
        axes.yaxis.set_major_formatter(PercentFormatter(1.0))
        axes.set_xlabel(xlabel)
        _legend(figure)
        return as_svg(figure, name)


def draw_reliability(levels: Mapping[str, Mapping[str, Any]], name: str) -> str:
    """Draw the share taken against the probability, both logarithmic, with Wilson intervals."""
    with _figure(5.0) as (figure, axes):
        seen: list[float] = []
        for (level, found), colour in zip(levels.items(), SERIES, strict=False):
            mean, share, rows = (np.array([one[key] for one in found["bins"]])
                                 for key in ("mean", "share", "rows"))  # fmt: skip
            low, high = wilson(share, rows)
            taken = share > 0
            axes.vlines(mean, low, high, color=colour, alpha=0.6)
            axes.plot(mean[taken], share[taken], marker="o", color=colour,
                      label=level.replace("_", " "))  # fmt: skip
            axes.plot(mean[~taken], high[~taken], marker="v", linestyle="", color=colour)
            seen += [*mean, *share[taken], *high[~taken]]
        ends = (min(seen) / 2, min(1.0, max(seen) * 2))
        axes.plot(ends, ends, linestyle=":", color=SOFT, label="as predicted")
        axes.set(xscale="log", yscale="log", xlim=ends, ylim=ends,
                 xlabel="probability said", ylabel="share taken")  # fmt: skip
        axes.minorticks_off()
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axes.grid(visible=True)
        _legend(figure)
        return as_svg(figure, name)
