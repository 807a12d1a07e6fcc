"""Pictures are drawn of whatever a report can hold."""

import pytest

from pipelines.figures import draw_calibration


def bins(*rows):
    return [dict(zip(("mean", "share", "rows"), row, strict=True)) for row in rows]


@pytest.mark.parametrize(
    "found",
    [
        bins((0.001, 0.0009, 50_000), (0.02, 0.03, 900), (0.4, 0.5, 10)),
        bins((0.001, 0.0, 50_000), (1.0, 1.0, 1)),  # nothing taken; everything
        bins((1e-6, 0.0, 10)),
    ],
)
def test_reliability_is_drawn_also_where_nothing_was_taken(found, tmp_path):
    level = {"test": {"bins": found, "taken": 1_000, "rows": 50_910}}
    draw_calibration({"at_least_1": level, "at_least_2": level}, tmp_path / "in/calibration.png")
    assert (tmp_path / "in/calibration.png").stat().st_size > 5_000
