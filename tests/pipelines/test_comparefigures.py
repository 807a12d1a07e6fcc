"""Figures of a comparison are drawn of whatever it can hold."""

import numpy as np
import pytest

from pipelines.comparefigures import BETTER, UNSURE, WORSE, Line, draw_differences, draw_forest
from pipelines.figures import PAGE_COLOURS


def variable(stand_in):
    return f"var(--{PAGE_COLOURS[stand_in]})"


@pytest.mark.parametrize(("line", "colour"), [
    (Line("a", 0.1, 0.05, 0.2, True), BETTER), (Line("a", -0.1, -0.2, -0.05, True), WORSE),
    (Line("a", 0.1, 0.05, 0.2, False), UNSURE),
])  # fmt: skip
def test_only_what_chance_seldom_makes_has_a_colour(line, colour):
    svg = draw_forest([line], "x", "difference")
    assert variable(colour) in svg
    assert not [c for c in (BETTER, WORSE, UNSURE) if c != colour and variable(c) in svg]


def test_a_band_is_drawn_where_the_spread_of_seeds_is_known():
    lines = [Line("a", 0.1, 0.05, 0.2, True)]
    assert variable("#010104") in draw_forest(lines, "x", "d", 0.01)
    assert variable("#010104") not in draw_forest(lines, "x", "d")


@pytest.mark.parametrize("values", [np.zeros(3), np.array([0.5, -0.1, 0.0]), np.array([])])
def test_differences_are_drawn_also_where_there_are_none(values):
    assert draw_differences(values, "x", "d").startswith("<svg")
