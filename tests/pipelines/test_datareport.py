"""The report says what was counted, on the terminal and as a page."""

import io
from datetime import UTC, datetime

import numpy as np
import pandas as pd
import pytest
from rich.console import Console

from pipelines.datareport import periods, plot, said, sections_of, share_of, write_data_page
from pipelines.profile import Days, profile_inputs
from recsys.schema import DataConfig

CONFIG = DataConfig(event_types={"view": {"grade": 1}, "buy": {"grade": 2}, "shown": {"grade": 0}})


def printed(profile):
    console = Console(file=io.StringIO(), width=140)
    for one in said(profile):
        console.print(one, markup=False)
    return console.file.getvalue()


def days_of(first, n):
    day = np.datetime64(first).astype(int) + np.arange(n)
    return Days(day, {"buy": np.ones(n, int)}, np.ones(n, int))


def test_the_report_holds_what_was_counted(world):
    events, items = world()
    events.loc[:4, "item_id"] = ["x", "x", "y", "x", "y"]
    items.loc[0, "title"] = "[bold]no markup[/bold]"
    profile = profile_inputs(events, items, None, CONFIG)
    text = printed(profile)
    assert "600 rows of events: 595 kept, of 30 users and 40 items" in text
    assert "2 different items of events are not in items" in text
    assert "dropped: 5 rows (0.8 %): is not in items" in text
    for window in profile.windows:
        assert f"{window.requests:,}" in text
    assert f"{pd.Timestamp(profile.windows[-1].start, unit='us'):%Y-%m-%d}" in text
    assert "the test window has" in text and "hard to tell from noise" in text


def test_each_type_has_a_plot_with_a_sign_for_each_period(world):
    profile = profile_inputs(*world(), None, CONFIG)
    [section] = [one for one in sections_of(profile, plotted=True) if one.title == "When"]
    [grid] = section.grids
    assert grid.header[-1] == "one sign is a month"
    assert [row[0] for row in grid.rows] == ["view", "buy", "shown"]
    assert {len(row[-1]) for row in grid.rows} == {4}  # 100 days from the first of January


def test_a_plot_shows_whatever_is_there():
    assert plot(np.array([0, 1, 500, 1000])) == " ▁▄█"
    assert plot(np.zeros(3, int)) == "   "


@pytest.mark.parametrize(
    ("first", "n", "word", "size"),
    [
        ("2026-01-31", 1, "day", 1),
        ("2026-01-31", 30, "day", 30),
        ("2026-01-31", 90, "month", 4),  # to the last of April
        ("2000-01-01", 366 + 365 * 9 + 2, "2 months", 60),  # ten years have 120 months
    ],
)
def test_periods_hold_every_event_once(first, n, word, size):
    begins, counts, found = periods(days_of(first, n), 64)
    assert (found, len(begins)) == (word, size)
    assert counts["buy"].sum() == n and (counts["buy"] > 0).all()


def test_a_share_of_some_is_never_none_and_of_not_all_never_all():
    shares = [share_of(part, 10_000) for part in (0, 1, 10, 5_000, 9_999, 10_000)]
    assert shares == ["0.0 %", "<0.1 %", "0.1 %", "50.0 %", ">99.9 %", "100.0 %"]
    assert share_of(0, 0) == "0.0 %"


def test_a_user_too_active_and_texts_that_are_alike_stand_out(world):
    events, items = world(n=2000)
    events.loc[:1200, "user_id"] = "robot"
    events.loc[:1200, "timestamp"] = "2026-02-01T00:00:00Z"
    items["title"], items["genre"] = "same", ""
    profile = profile_inputs(events, items, None, CONFIG)
    warned = " ".join(w for one in sections_of(profile, plotted=False) for w in one.warnings)
    assert "1 user is too active for a person (more than 500 events on one day" in warned
    assert "40 items (100.0 %) have a text that another item has too" in warned


@pytest.mark.parametrize("dated", [True, False])
def test_the_page_says_what_the_terminal_says(tmp_path, world, order_only, dated):
    rows = [(user, item, at, "buy") for user in "uv" for at, item in enumerate("abcd")]
    profile = profile_inputs(*(world() if dated else order_only(rows)), None, CONFIG)
    write_data_page(profile, tmp_path / "data.html", datetime(2026, 8, 20, tzinfo=UTC))
    text = (tmp_path / "data.html").read_text()
    assert text.count("<svg") == (3 if dated else 2)
    for section in sections_of(profile, plotted=False):
        assert all(row[0] in text for grid in section.grids for row in grid.rows)
    assert "2026-08-20 00:00 UTC" in text
