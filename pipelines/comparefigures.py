"""Figures of a comparison, as SVG in the page's own colours: see `pipelines.figures.as_svg`.

A door to matplotlib of its own, because one file would be too long for all figures.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib import rc_context
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, StrMethodFormatter

from pipelines.figures import BAND, INK, PAGE_STYLE, SERIES, SOFT, as_svg

WIDTH, ROW = 6.0, 0.3  # inches: of a figure, and of a line of a forest
BETTER, WORSE, UNSURE = SERIES[0], SERIES[4], SERIES[7]


@dataclass(frozen=True)
class Line:
    """A value or difference with its interval."""

    label: str
    difference: float
    low: float
    high: float
    is_told: bool  # apart from chance, or what the figure is about: in colour


def draw_forest(
    lines: Sequence[Line], name: str, xlabel: str, spread: float = np.nan, zero: bool = True
) -> str:
    """Draw values as dots with intervals, the first on top.

    Args:
        lines: what is drawn; what chance may have made is grey.
        name: of the figure in its page.
        xlabel: what the axis is.
        spread: half the width of a band around 0; NaN = none.
        zero: whether they are differences: a line marks 0, and numbers have signs.
    """
    with rc_context(PAGE_STYLE):
        figure = Figure(figsize=(WIDTH, 0.95 + ROW * len(lines)), layout="constrained")
        axes = figure.subplots()
        for at, line in enumerate(lines):
            colour = UNSURE if not line.is_told else BETTER if line.difference > 0 else WORSE
            axes.plot([line.low, line.high], [at, at], color=colour, linewidth=2.4,
                      solid_capstyle="round")  # fmt: skip
            axes.plot(line.difference, at, marker="o", color=colour, markersize=7)
        if np.isfinite(spread):
            axes.axvspan(-spread, spread, color=BAND, zorder=0)
        if zero:
            axes.axvline(0, color=SOFT, linewidth=1.2)
            axes.xaxis.set_major_locator(MaxNLocator(6))
            axes.xaxis.set_major_formatter(StrMethodFormatter("{x:+g}"))
        axes.set_yticks(range(len(lines)), [line.label for line in lines])
        axes.tick_params(axis="y", length=0, labelcolor=INK)
        axes.set_ylim(len(lines) - 0.4, -0.6)
        axes.grid(visible=True, axis="x")
        axes.set_axisbelow(True)
        axes.set_xlabel(xlabel)
        return as_svg(figure, name)


def draw_differences(values: np.ndarray, name: str, xlabel: str) -> str:
    """Draw how many users gain and lose how much; those without a difference are left out."""
    with rc_context(PAGE_STYLE):
        figure = Figure(figsize=(WIDTH, 3.0), layout="constrained")
        axes = figure.subplots()
        most = max(float(np.abs(values).max(initial=0)), 1e-9)
        for some, colour in ((values[values < 0], WORSE), (values[values > 0], BETTER)):
            axes.hist(some, bins=np.linspace(-most, most, 41).tolist(), color=colour, rwidth=0.92)
        axes.axvline(0, color=SOFT, linewidth=1.2)
        axes.set_xlim(-most * 1.03, most * 1.03)
        axes.xaxis.set_major_formatter(StrMethodFormatter("{x:+g}"))
        axes.yaxis.set_major_locator(MaxNLocator(integer=True))
        axes.yaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
        axes.set(xlabel=xlabel, ylabel="users")
        return as_svg(figure, name)
