"""The data report: what `pipelines.profile` counted, in words, for the terminal and as a page."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np

from pipelines.itemprofile import QUANTILES, Spread, Texts
from pipelines.page import Grid, Page, Picture, Section, in_terminal, write_page
from pipelines.profile import BUSY, BUSY_DAY, Days, Profile, Window
from recsys.dataset import DAY

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
BLOCKS = " ▁▂▃▄▅▆▇█"
WIDEST = 64  # signs of a plot in the terminal
FEW_REQUESTS = 1_000


def sections_of(profile: Profile, plotted: bool) -> tuple[Section, ...]:
    """Put the profile into words, with small plots made of signs if `plotted`."""
    when = _when(profile, plotted)
    return (_what(profile), when, _activity(profile), _texts(profile), _split(profile))


def said(profile: Profile) -> list[Any]:
    """Return what the terminal shows: lines and tables."""
    return in_terminal(sections_of(profile, plotted=True))


def write_data_page(profile: Profile, file: Path, made: datetime) -> None:
    """Write the report as one page of HTML with figures."""
    from pipelines import figures

    pictures: dict[str, tuple[Picture, ...]] = {}
    if profile.days is not None:
        begins, counts, word = periods(profile.days, 400)
        cuts = {w.name: w.start / DAY for w in profile.windows[1:]} if _dated(profile) else {}
        caption = f"Events by {word}" + (
            ", by type; dotted: where the suggested windows begin." if cuts else ", by type."
        )
        pictures["When"] = (Picture(figures.draw_periods(begins, counts, cuts), caption),)
    bins = {"users, by events of each": profile.per_user.bins,
            "items, by events of each": profile.per_item.bins}  # fmt: skip
    caption = "How many users and items have 1 event, 2, up to 4, up to 8, and so on."
    pictures["Users and items"] = (Picture(figures.draw_bins(bins, "activity"), caption),)
    lengths = {"items, by characters of text": profile.texts.characters.bins}
    caption = "How long the texts are: up to so many characters each."
    pictures["Texts and columns"] = (Picture(figures.draw_bins(lengths, "lengths"), caption),)
    sections = tuple(
        replace(section, pictures=pictures.get(section.title, ()))
        for section in sections_of(profile, plotted=False)
    )
    checked = profile.checked
    facts = [("users", f"{checked.n_users:,}"), ("items", f"{checked.n_items:,}"),
             ("events", f"{checked.n_events - profile.copies:,}")]  # fmt: skip
    if profile.days is not None:
        first, last = (f"{_date(m // DAY)}" for m in (checked.first_moment, checked.last_moment))
        facts += [("first event", first), ("last event", last)]
    lead = f"{checked.sources['events']}, {checked.sources['items']}"
    foot = f"recsys validate, {made:%Y-%m-%d %H:%M} UTC. All times are UTC."
    write_page(Page("What is in the data", lead, tuple(facts), sections, foot), file)


def periods(days: Days, most: int) -> tuple[np.ndarray, dict[str, np.ndarray], str]:
    """Add up days to periods: days where they are few, else months, else several months.

    Returns:
        (n,) days since 1970 at which they begin, type -> (n,) events, and what a period is.
    """
    first, last = int(days.day[0]), int(days.day[-1])
    if last - first < min(most, 62):
        begins, word = np.arange(first, last + 1), "day"
    else:
        months = days.day[[0, -1]].astype("datetime64[D]").astype("datetime64[M]")
        n_months = int((months[1] - months[0]).astype(int)) + 1
        step = -(-n_months // most)
        begins = (months[0] + np.arange(0, n_months, step)).astype("datetime64[D]").astype(int)
        word = "month" if step == 1 else f"{step} months"
    at = np.searchsorted(begins, days.day, side="right") - 1
    counts = {name: np.bincount(at, n, len(begins)).astype(int) for name, n in days.events.items()}
    return begins, counts, word


def plot(values: np.ndarray) -> str:
    """Draw numbers as a line of blocks; anything above 0 can be seen."""
    most = max(int(values.max()), 1)
    return "".join(BLOCKS[-(-8 * int(value) // most)] for value in values)


def share_of(part: int, whole: int) -> str:
    """Say a share so that some is never 0 % and not all never 100 %."""
    percent = 100 * part / max(whole, 1)
    if 0 < percent < 0.1:
        return "<0.1 %"
    return ">99.9 %" if 99.9 < percent < 100 else f"{percent:.1f} %"


def _what(profile: Profile) -> Section:
    """Say what was read, from which columns, and what was dropped."""
    checked = profile.checked
    kept = checked.n_events - profile.copies
    dropped = checked.dropped | ({"is an exact copy of another row": profile.copies}
                                 if profile.copies else {})  # fmt: skip
    notes = [
        f"{checked.n_rows:,} rows of events: {kept:,} kept, of {checked.n_users:,} users and "
        f"{checked.n_items:,} items",
        *(f"dropped: {n:,} rows ({share_of(n, checked.n_rows)}): {why}"
          for why, n in dropped.items()),
    ]  # fmt: skip
    if checked.n_unknown_items:
        notes.append(f"{checked.n_unknown_items:,} different items of events are not in items")
    columns = tuple(
        (table, ", ".join(a if a == b else f"{a} = {b}" for a, b in some.items()))
        for table, some in checked.columns_used.items()
    )
    text = (("text of an item", ". ".join(checked.text_columns)),)
    grid = Grid(("table", "columns taken (ours = the file's)"), columns + text)
    return Section("What", tuple(notes), checked.warnings, grids=(grid,))


def _when(profile: Profile, plotted: bool) -> Section:
    """Say how the events lie in time."""
    days = profile.days
    if days is None:
        return Section("When", ("The events have an order and no times.",))
    _, counts, word = periods(days, WIDEST)
    rows: tuple[tuple[str, ...], ...] = tuple(
        (name, f"{n.sum():,}", plot(n)) for name, n in counts.items()
    )
    first, last = int(days.day[0]), int(days.day[-1])
    span, gaps = last - first + 1, days.gaps()
    notes = [f"{_date(first)} to {_date(last)}: {span:,} days, {len(days.day):,} of them with "
             "events"]  # fmt: skip
    if gaps:
        longest = ", ".join(f"{n:,} from {_date(day)}" for day, n in gaps[:3])
        notes.append(f"days in a row without events: {longest}"
                     + (f", and {len(gaps) - 3:,} more gaps" if len(gaps) > 3 else ""))  # fmt: skip
    sign = word if word[0].isdigit() else f"a {word}"
    head: tuple[str, ...] = ("event type", "events", f"one sign is {sign}")
    if not plotted:
        head, rows = head[:2], tuple(row[:2] for row in rows)
    return Section("When", tuple(notes), grids=(Grid(head, rows),))


def _activity(profile: Profile) -> Section:
    """Say how busy users and items are."""
    checked, bots = profile.checked, profile.bots
    rows = (_spread_row("events of a user", profile.per_user),
            _spread_row("events of an item", profile.per_item))  # fmt: skip
    notes = [
        f"{profile.idle_items:,} of {checked.n_items:,} items have no event",
        f"{100 * profile.repeat_share:.1f} % of what was taken"
        + (" before the ranker window" if _dated(profile) else "")
        + " its user had taken before (lists hold such items again from split.repeat_share on)",
    ]
    day_rule = f"more than {BUSY_DAY:,} events on one day, or " if profile.days else ""
    rule = (f"{day_rule}more than {bots.most:,.0f} in all: {BUSY[0]:,}, or {BUSY[1]:.0f} times "
            "what 99 of 100 users stay below")  # fmt: skip
    warnings, grids = [], [Grid(_quantile_head(), rows)]
    if bots.users:
        warnings.append(
            f"{_many(bots.users, 'user is', 'users are')} too active for a person ({rule}): "
            f"{bots.events:,} events, {share_of(bots.events, checked.n_events)} of all. They are "
            "kept; if they are robots or tills, take them out of your events."
        )
        some = tuple((name, f"{n:,}", f"{day:,}" if day else "") for name, n, day in bots.examples)
        grids.append(Grid(("user", "events", "most on one day"), some, "the most active"))
    else:
        notes.append(f"no user is too active for a person ({rule})")
    return Section("Users and items", tuple(notes), tuple(warnings), grids=tuple(grids))


def _texts(profile: Profile) -> Section:
    """Say what is known of the items."""
    texts, n_items = profile.texts, profile.checked.n_items
    filled = tuple((name, f"{n:,}", share_of(n, n_items)) for name, n in texts.filled.items() if n)
    lost = [name for name, n in texts.filled.items() if not n]
    notes = [f"empty or not given: {', '.join(lost)}"] if lost else []
    notes += [f"{texts.long:,} items have more words than the encoder reads tokens "
              "(encoder.max_tokens); the rest is cut off"] if texts.long else []  # fmt: skip
    if texts.categories:
        notes.append(f"{texts.categories:,} categories, {texts.single:,} of them with one item")
    if "median" in texts.prices:
        low, middle, high = (texts.prices[name] for name in ("lowest", "median", "highest"))
        zero, negative = texts.prices["zero"], texts.prices["negative"]
        notes.append(f"prices from {low:,.2f} to {high:,.2f}, median {middle:,.2f}; "
                     f"{zero:,.0f} are 0, {negative:,.0f} below 0")  # fmt: skip
    return Section(
        "Texts and columns", tuple(notes), _text_warnings(texts, n_items),
        grids=(Grid(("column", "items", "share"), filled),
               Grid(_quantile_head(), (_spread_row("characters of a text", texts.characters),)),
               Grid(("language, at a glance", "items", "share"),
                    tuple((name, f"{n:,}", share_of(n, texts.looked_at))
                          for name, n in texts.languages.items()),
                    f"by script and a few stop words, of {texts.looked_at:,} items")),
    )  # fmt: skip


def _text_warnings(texts: Texts, n_items: int) -> tuple[str, ...]:
    """Say which texts will not help."""
    if not texts.repeated:
        return ()
    text, n = texts.most_repeated
    share = share_of(texts.repeated, n_items)
    return (f"{texts.repeated:,} items ({share}) have a text that another item has too, most often "
            f"{text!r} ({n:,} items): the encoder cannot tell them apart",)  # fmt: skip


def _split(profile: Profile) -> Section:
    """Say what the split would be."""
    dated, test = _dated(profile), profile.windows[-1]
    by = "windows of time, cut at midnight" if dated else "each user's last events, held out"
    notes = [f"suggested protocol: {profile.checked.protocol} ({by})"]
    head = ("window", "from", "until", "events", "requests", "of new users", "events of new items")
    rows = tuple(_window_row(window, dated) for window in profile.windows)
    warnings = []
    if test.requests < FEW_REQUESTS:
        warnings.append(f"the test window has {test.requests:,} requests: differences between "
                        "models will be hard to tell from noise")  # fmt: skip
    if test.cold == test.requests:
        warnings.append("all requests of the test window are of new users: no history can help "
                        "them, and no model will look better than popularity")  # fmt: skip
    return Section("Suggested split", tuple(notes), tuple(warnings), grids=(Grid(head, rows),))


def _window_row(window: Window, dated: bool) -> tuple[str, ...]:
    where = (window.start, window.end)
    ends = [_date(at // DAY) if dated else f"{at}" for at in where]
    unseen = share_of(window.unseen, window.events) if dated and window.name != "encoder" else ""
    return (window.name, *ends, f"{window.events:,}", f"{window.requests:,}", f"{window.cold:,}",
            unseen)  # fmt: skip


def _dated(profile: Profile) -> bool:
    return profile.checked.protocol == "time"


def _quantile_head() -> tuple[str, ...]:
    ends = {0.0: "least", 0.5: "median", 1.0: "most"}
    return ("", *(ends.get(q, f"{q * 100:.0f} %") for q in QUANTILES), "mean")


def _spread_row(name: str, spread: Spread) -> tuple[str, ...]:
    return (name, *(f"{value:,.0f}" for value in spread.quantiles), f"{spread.mean:,.1f}")


def _many(n: int, one: str, several: str) -> str:
    return f"{n:,} {one if n == 1 else several}"


def _date(day: int) -> str:
    return f"{EPOCH + timedelta(days=day):%Y-%m-%d}"
