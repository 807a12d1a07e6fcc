"""Which column of a file is which of ours.

Names decide first (`pipelines.naming`), values confirm them or decide alone: how many different
ones there are, whether they are times, numbers or text, and which ids occur in which file.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pipelines.naming import column_scores, plain
from pipelines.samples import Column, Sample
from recsys.dialect import UNITS
from recsys.schema import TABLES

SURE, LIKELY, GUESS = "sure", "likely", "a guess"
IDS = ("user_id", "item_id")
TEXT = ("title", "brand", "category", "description")
NUMBERS = ("value", "price")
LINKED = 0.5  # of the ids of one column are in another: they mean the same


@dataclass(frozen=True)
class Found:
    """One thing that was guessed."""

    what: str  # our name
    value: str  # theirs
    sure: str  # SURE, LIKELY or GUESS
    why: str


def guess_columns(sample: Sample, samples: Sequence[Sample]) -> dict[str, Found]:
    """Guess which columns of a file are ours.

    Args:
        sample: the file.
        samples: all files, by whose ids nameless columns are told.

    Returns:
        {ours: what was found}; the same column is never two of ours.
    """
    named = _by_name(sample)
    return _by_links(sample, samples, named) | named


def _by_name(sample: Sample) -> dict[str, Found]:
    """Give each of our columns the file's whose name says it most and whose values may be it."""
    scored = [
        (score, -at, ours, column)
        for at, column in enumerate(sample.columns.values())
        for ours, score in column_scores(column.name).items()
        if _may_be(ours, column)
    ]
    found: dict[str, Found] = {}
    taken: set[str] = set()
    for score, _, ours, column in sorted(scored, key=lambda one: one[:2], reverse=True):
        if ours not in found and column.name not in taken:
            doubt = ours in NUMBERS and column.thousands
            sure = GUESS if doubt else SURE if score > 2 else LIKELY
            found[ours] = Found(ours, column.name, sure, f"name, {_holds(ours, column)}")
            taken.add(column.name)
    bare = [c for c in sample.columns.values() if plain(c.name) in ("id", "code", "nr", "key")]
    if "item_id" not in found and "user_id" not in found and "title" in found and bare:
        found["item_id"] = Found("item_id", bare[0].name, LIKELY, "name, beside a title")
    lists = [column.name for column in sample.columns.values() if column.lists]
    if lists:
        found["item_id"] = Found("item_id", lists[0], LIKELY, "lists of what was shown and clicked")
    return found


def _may_be(ours: str, column: Column) -> bool:
    """Whether a column's values can be what one of ours holds."""
    if not column.filled:
        return False
    kind = next(table[ours] for table in TABLES.values() if ours in table)
    if kind == "id":
        return column.whole and not column.lists
    if kind == "time":
        return bool(column.times)
    if kind in ("number", "integer"):
        return bool(column.decimal)
    if ours == "title":
        return column.prose and len(column.distinct) > 1
    if ours == "event_type":
        return not column.times and len(column.distinct) <= min(50, max(1, column.filled // 2))
    return ours not in TEXT or column.prose


def _holds(ours: str, column: Column) -> str:
    """Say what speaks for it in the values."""
    if ours in ("timestamp", "available_from", "available_until"):
        return f"times such as {column.examples[0]}"
    if ours in NUMBERS and column.thousands:
        pointed = next(value for value in column.examples if "." in value)
        return f"numbers such as {pointed}: thousands or decimals"
    if ours in (*NUMBERS, "position", "order_index"):
        return f"numbers such as {column.examples[0]}"
    return f"{len(column.distinct):,} different in {column.filled:,} rows"


def _by_links(
    sample: Sample, samples: Sequence[Sample], named: Mapping[str, Found]
) -> dict[str, Found]:
    """Find ids and times that no name gives away by what they hold, and who else has the ids."""
    taken = {one.value for one in named.values()}
    free = [c for c in sample.columns.values() if c.filled and c.name not in taken]
    found = _as_dimension(sample, samples, named)
    links = [
        (_inside(column, theirs), _titled(other, theirs), column.name, other.path, theirs.name)
        for column in free if column.whole and len(column.distinct) > 1 and not column.unique
        for other in samples if other is not sample
        for theirs in other.columns.values() if theirs.unique and theirs.whole
    ]  # fmt: skip
    for share, titled, column, path, theirs in sorted(links, reverse=True):
        ours = "item_id" if titled else "user_id"
        used = {one.value for one in found.values()}
        if share >= LINKED and ours not in {*named, *found} and column not in used:
            why = f"{share:.0%} of its values are in {Path(path).name}, column {theirs}"
            found[ours] = Found(ours, column, LIKELY, why)
    used = {one.value for one in found.values()}
    timed = [column for column in free if column.times and column.name not in used]
    timed.sort(key=lambda column: (column.times[0] in UNITS, column.unique))
    if "timestamp" not in named and timed:
        found["timestamp"] = Found("timestamp", timed[0].name, GUESS, "the values are times")
    return found


def _as_dimension(
    sample: Sample, samples: Sequence[Sample], named: Mapping[str, Found]
) -> dict[str, Found]:
    """Find the id of a catalogue by who points at it, and its title by its text."""
    if {"user_id", "timestamp"} & named.keys():
        return {}
    ids = [c for c in sample.columns.values() if c.unique and c.whole and not c.prose]
    others = [(Path(other.path).name, o) for other in samples if other is not sample
              for o in other.columns.values() if o.filled and o.whole and not o.unique]  # fmt: skip
    pointing = [(_inside(o, c), c.name, path, o.name) for c in ids for path, o in others]
    best = max(pointing, default=(0.0, "", "", ""))
    if best[0] < LINKED:
        return {}
    why = f"{best[0]:.0%} of {best[2]}, column {best[3]}, are in it"
    prose = [c for c in sample.columns.values() if c.prose and 2 * len(c.distinct) > c.filled]
    ours = "item_id" if prose or "title" in named else "user_id"
    found = {ours: Found(ours, best[1], LIKELY, why)}
    if prose and "title" not in named:
        short = min(prose, key=lambda column: column.length)
        found["title"] = Found("title", short.name, GUESS, "the shortest text of its own")
    return found


def _titled(sample: Sample, but: Column) -> bool:
    """Whether a file has, beside a column of ids, a text of its own for most of its rows."""
    others = [column for column in sample.columns.values() if column is not but and column.prose]
    return any(c.length > 5 and 2 * len(c.distinct) > sample.n_rows for c in others)


def _inside(column: Column, other: Column) -> float:
    """Return the share of a column's values that another holds too."""
    return len(column.distinct & other.distinct) / max(1, len(column.distinct))
