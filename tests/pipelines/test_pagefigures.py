"""Figures of a run's page hold every name, whatever it is, and take their colours from the page."""

import re

import pytest

from pipelines.figures import PAGE_COLOURS
from pipelines.pagefigures import (
    draw_bars,
    draw_curves,
    draw_forest,
    draw_funnel,
    draw_groups,
    draw_lorenz,
    draw_reliability,
)

HOSTILE = "<b>$x^2$ & co</b>"


def bins(*rows):
    return {"bins": [dict(zip(("mean", "share", "rows"), row, strict=True)) for row in rows]}


FIGURES = {
    "forest": lambda name: draw_forest([(name, 0.1, 0.0, 0.2), ("full", 0.3, 0.3, 0.3)], "f", "x"),
    "gains": lambda name: draw_forest([(name, -0.1, -0.2, -0.05)], "g", "x", zero=True),
    "bars": lambda name: draw_bars({name: 1.0, "b": 0.0}, "b", "x"),
    "funnel": lambda name: draw_funnel(
        [{"step": "all", "items": 9, "recall": 1.0}, {"step": name, "items": 3, "recall": 0.0}], "u"
    ),
    "curves": lambda name: draw_curves({name: [0.1]}, "c", "x", "y", {"kept": (1, 0.1)}),
    "lorenz": lambda name: draw_lorenz({name: [0, 0, 1]}, {name: None}, "l"),
    "groups": lambda name: draw_groups(["1", "2"], {name: [0.5, 0.5]}, "r", "x"),
    "reliability": lambda name: draw_reliability({name: bins((0.01, 0.0, 50), (0.2, 1, 3))}, "p"),
}
each = pytest.mark.parametrize("draw", FIGURES.values(), ids=FIGURES.keys())


@each
def test_names_are_text_and_never_markup(draw):
    svg = draw(HOSTILE)
    assert "<b>" not in svg and "&lt;b&gt;$x^2$ &amp; co&lt;/b&gt;" in svg
    assert svg.count("<") == draw("plain").count("<")


@each
def test_colours_are_the_pages_and_numbers_no_formulas(draw):
    svg = draw("plain")
    assert not [stand_in for stand_in in PAGE_COLOURS if stand_in in svg]
    assert set(re.findall(r"(?:fill|stroke): (#\w+)", svg)) <= {"#000000", "#ffffff"}
    assert "var(--" in svg and "mathdefault" not in svg


@pytest.mark.parametrize("kind", ["curves", "lorenz", "groups", "reliability"])
@pytest.mark.parametrize("name", ["short", "a name so long that it has a line of its own"])
def test_a_legend_stands_above_the_axes_and_inside_the_figure(kind, name):
    assert_legend_stands_apart(FIGURES[kind](name), name)


@pytest.mark.parametrize("name", ["ranker_without_text", "a name so long that it fills a line"])
def test_names_of_four_models_stand_in_lines_that_fit(name):
    models = [f"{name} {at}" for at in range(4)]
    svg = draw_groups(["1"], {model: [1.0] for model in models}, "b", "x")
    assert_legend_stands_apart(svg, models[3])


def assert_legend_stands_apart(svg, name):
    width = float(re.search(r'viewBox="0 0 ([\d.]+)', svg)[1])
    legend = svg[svg.index("-legend_1") :]
    names = re.findall(r' x="([\d.]+)" y="([\d.]+)"[^>]*>([^<]+)</text>', legend)
    assert name in [text for _, _, text in names]
    axes = re.search(r'-patch_2">\s*<path d="([^"]+)z', svg)[1]
    top = min(float(y) for y in re.findall(r"[ML] [\d.]+ ([\d.]+)", axes))
    for x, y, text in names:
        assert float(y) < top, text
        assert float(x) + 5 * len(text) < width, text  # points, about as wide as a letter is
