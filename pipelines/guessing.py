"""Which file is which, and what its events are worth, guessed from samples.

What the columns of each file are is guessed in `pipelines.roles`. Each guess says how sure it is
and what it was made from; nothing is asked.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pyarrow as pa

from pipelines.naming import QUANTITIES, RATINGS, event_of, grades, likeness
from pipelines.roles import GUESS, IDS, LIKELY, LINKED, SURE, Found, guess_columns
from pipelines.samples import Column, Sample
from recsys.errors import ConfigError
from recsys.schema import TABLES, EventRule

FEW = 20  # rows: with so few, that all ids differ says nothing
LEAST = 1e-6  # of a quantity that is no integer: nothing was bought below
CLEARLY = 0.1  # so much more of another column's values are item ids: it is the one meant
NAMED = ("title", "description")  # columns by which events may name their items


@dataclass(frozen=True)
class TableGuess:
    """One file as a table of ours."""

    kind: str  # "events", "items", "users" or "" for none of them
    sample: Sample
    found: dict[str, Found]  # our column -> the file's
    event_type: Found | None = None  # of every row, where no column says it
    settings: dict[str, str | bool] = field(default_factory=dict)  # more of the source
    notes: tuple[str, ...] = ()

    def column(self, ours: str) -> Column:
        """Return the file's column of one of ours."""
        return self.sample.columns[self.found[ours].value]


@dataclass(frozen=True)
class Draft:
    """All that was guessed from some files."""

    events: tuple[TableGuess, ...]
    items: TableGuess
    users: TableGuess | None
    unused: tuple[TableGuess, ...]
    rules: dict[str, tuple[tuple[EventRule, ...], str]]  # event type -> rules, how sure
    repeats: float  # share of the sampled events that repeat an item of their user


def guess_tables(samples: Sequence[Sample]) -> Draft:
    """Guess everything a run needs to know about some files.

    Raises:
        ConfigError: no file holds events, or none holds items with a title.
    """
    tables = [_classify(sample, samples) for sample in samples]
    events = tuple(_event_table(table) for table in tables if table.kind == "events")
    if not events:
        raise ConfigError(f"no events found (users, items and times in one file); {_seen(tables)}")
    items = max((t for t in tables if t.kind == "items"), default=None,
                key=lambda table: _overlap(events, table, "item_id"))  # fmt: skip
    if items is None:
        named = (table for table in events if {*NAMED} & table.found.keys())
        items = next(map(_derived, named), None)
    if items is None:
        raise ConfigError(f"no items with a title found; {_seen(tables)}")
    users = next((table for table in tables if table.kind == "users"), None)
    events = tuple(_confirmed(table, items) for table in events)
    *events_too, items = _one_type_of_ids([*events, items])
    events = tuple(events_too)
    used = {id(t.sample) for t in (*events, items, *([users] if users else []))}
    unused = tuple(table for table in tables if id(table.sample) not in used)
    items = _item_table(items, _overlap(events, items, "item_id"))
    events, items = tuple(map(_noting_decimal_ids, events)), _noting_decimal_ids(items)
    return Draft(events, items, users, unused, _rules(events), _repeats(events))


def _classify(sample: Sample, samples: Sequence[Sample]) -> TableGuess:
    """Guess the columns of a file by their names, then by its links, and what it is by those."""
    found = guess_columns(sample, samples)
    columns = {ours: sample.columns[one.value] for ours, one in found.items()}
    ordered = "timestamp" in found or "order_index" in found
    unique = {ours for ours in IDS if ours in columns and columns[ours].unique
              and columns[ours].filled >= FEW}  # fmt: skip
    if {*IDS} <= found.keys() and ordered and "item_id" not in unique:
        kind = "events"
    elif {"item_id", "title"} <= found.keys() and ("user_id" not in found or "item_id" in unique):
        kind = "items"
    elif "user_id" in found and columns["user_id"].unique and "item_id" not in found:
        kind = "users"
    else:
        kind = ""
    return TableGuess(kind, sample, found)


def _event_table(table: TableGuess) -> TableGuess:
    """Settle the type of the events of a file and how its lists and missing users are read."""
    known = [ours for ours in (*TABLES["events"], *NAMED) if ours in table.found]
    table = replace(table, found={ours: table.found[ours] for ours in known})
    settings: dict[str, str | bool] = {}
    notes = []
    if table.column("item_id").lists:
        settings["shown"] = table.found["item_id"].value
    missing = table.column("user_id").without_id
    if missing:
        settings["anonymous"] = "drop"
        notes.append(f"{missing:,} of the first {table.sample.n_rows:,} rows have no user")
    constant = None
    if "event_type" not in table.found and "shown" not in settings:
        constant = _constant(table)
    return replace(table, settings=settings, notes=tuple(notes), event_type=constant)


def _noting_decimal_ids(table: TableGuess) -> TableGuess:
    """Say where ids went through a column of decimals: elsewhere they will be other ids."""
    notes = [
        f"{table.found[ours].value}: ids look like {table.column(ours).decimal_id}, from a column "
        "of decimals; write integers if other tables and requests have them so"
        for ours in IDS
        if ours in table.found and table.column(ours).decimal_id
    ]
    return replace(table, notes=(*table.notes, *notes))


def _constant(table: TableGuess) -> Found:
    """Guess what happens in a file whose events are all of one type."""
    value = table.found["value"].value if "value" in table.found else ""
    name = event_of(Path(table.sample.path).name.split(".")[0])
    if value and likeness(value, RATINGS):
        return Found("event_type", "rating", SURE, f"the column {value}")
    if name:
        return Found("event_type", name[0], LIKELY, "the name of the file")
    if "price" in table.found or (value and likeness(value, QUANTITIES)):
        return Found("event_type", "purchase", LIKELY, "there are prices or quantities")
    return Found("event_type", "event", GUESS, "nothing says what happened")


def _derived(events: TableGuess) -> TableGuess:
    """Take the items from the events, where these name them and nothing else does."""
    title = next(events.found[name] for name in NAMED if name in events.found)
    kept = {"item_id": events.found["item_id"], "title": replace(title, what="title")}
    note = "no file of items: made from the events, the most frequent title of each"
    return TableGuess("items", events.sample, kept, settings={"repeated": "most_frequent"},
                      notes=(note,))  # fmt: skip


def _item_table(table: TableGuess, share: float) -> TableGuess:
    """Leave of the found columns those that items have; a share of the events' ids are in them."""
    found = {ours: table.found[ours] for ours in TABLES["items"] if ours in table.found}
    if share > 0.9:
        why = f"{share:.0%} of the ids of the events are in it"
        found["item_id"] = replace(found["item_id"], sure=SURE, why=why)
    column, settings, notes = table.column("item_id"), dict(table.settings), table.notes
    if len(column.distinct) < column.filled and not settings:
        settings["repeated"] = "most_frequent"
        notes = (*notes, "some ids have several rows: the most frequent contents are kept")
    return replace(table, found=found, settings=settings, notes=notes)


def _confirmed(events: TableGuess, items: TableGuess) -> TableGuess:
    """Let the overlap of the item ids say how sure the column is, or that another one is meant."""
    if events.sample is items.sample or "shown" in events.settings:
        return events
    there, taken = items.column("item_id").distinct, {f.value for f in events.found.values()}
    named = events.column("item_id")
    others = [c for c in events.sample.columns.values() if c.whole and c.name not in taken]
    shares = {c.name: len(c.distinct & there) / max(1, len(c.distinct)) for c in (named, *others)}
    best = max(shares, key=lambda name: shares[name])
    best = best if shares[best] > shares[named.name] + CLEARLY else named.name
    why = f"{shares[best]:.0%} of its values are in {Path(items.sample.path).name}"
    sure = SURE if shares[best] > 0.9 else LIKELY if shares[best] > LINKED else GUESS
    return replace(events, found=events.found | {"item_id": Found("item_id", best, sure, why)})


def _one_type_of_ids(tables: Sequence[TableGuess]) -> list[TableGuess]:
    """Make the ids of all tables text where those of one of them are."""
    mixed = any(len({table.column(ours).text for table in tables if ours in table.found}) > 1
                for ours in IDS)  # fmt: skip
    note = "its ids are integers; another file has such ids as text"
    return [
        replace(table, settings=table.settings | {"text_ids": True}, notes=(*table.notes, note))
        if mixed and not all(table.column(ours).text for ours in IDS if ours in table.found)
        else table
        for table in tables
    ]


def _overlap(events: Sequence[TableGuess], table: TableGuess, ours: str) -> float:
    """Return the mean share of the events' ids that are in the table."""
    there = table.column(ours).distinct
    return float(np.mean([len(e.column(ours).distinct & there) / len(e.column(ours).distinct)
                          for e in events]))  # fmt: skip


def _repeats(events: Sequence[TableGuess]) -> float:
    """Return the share of the sampled events that repeat an item of their user."""
    rows = repeats = 0
    for table in events:
        pairs = pa.table({name: table.column(name).texts for name in IDS})
        rows += len(pairs)
        repeats += len(pairs) - len(pairs.group_by(list(IDS)).aggregate([]))
    return repeats / max(1, rows)


def _rules(events: Sequence[TableGuess]) -> dict[str, tuple[tuple[EventRule, ...], str]]:
    """Guess what each type of event is worth."""
    rules: dict[str, tuple[tuple[EventRule, ...], str]] = {}
    for table in events:
        if "shown" in table.settings:
            rules["clicked"] = (EventRule(grade=1),), SURE
            rules["shown"] = (EventRule(grade=0),), SURE
            continue
        constant = table.event_type
        types = [constant.value] if constant else sorted(table.column("event_type").distinct)
        for name, (grade, known) in grades(types).items():
            rules[name] = (_graded(table, name, grade), LIKELY if known else GUESS)
        if "event_type" in table.found and (table.column("event_type").texts.null_count):
            rules["event"] = (EventRule(grade=1),), GUESS
    return rules


def _graded(table: TableGuess, name: str, grade: int) -> tuple[EventRule, ...]:
    """Make the rules of one type: by threshold for ratings, and for returned quantities."""
    value, event = table.found.get("value"), event_of(name)
    rated = value is not None and event is not None and event[0] == "rating"
    if value is None or not (table.event_type or rated):
        return (EventRule(grade=grade),)
    written = [t.replace(",", ".") for t in table.column("value").examples]
    low, high = min(map(float, written)), max(map(float, written))
    if rated:
        top = next((scale for scale in (1.0, 5.0, 10.0, 100.0) if high <= scale), high)
        steps = [(2, 0.8), (1, 0.6)] if top > 1 else [(1, 1.0)]
        return (*(EventRule(grade=g, min_value=s * top) for g, s in steps), EventRule(grade=0))
    counted = bool(likeness(value.value, QUANTITIES))
    if grade and (low < 0 or (low == 0 < high and counted)):
        least = 1.0 if all(float(text).is_integer() for text in written) else LEAST
        return EventRule(grade=grade, min_value=least), EventRule(grade=0)
    return (EventRule(grade=grade),)


def _seen(tables: Sequence[TableGuess]) -> str:
    """Say what is in the files that were given."""
    files = []
    for table in tables:
        known = [f"{one.value} as {ours}" for ours, one in table.found.items()]
        rest = [name for name in table.sample.columns if name not in
                {one.value for one in table.found.values()}]  # fmt: skip
        said = ", ".join([*known, *(f"{name}?" for name in rest)])
        files.append(f"{table.sample.path} has {said}")
    return "; ".join(files)
