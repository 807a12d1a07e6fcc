"""What the tables must look like, and what is said when they do not.

One place holds the columns, the names they are also known by, and every fault a table can have
with its remedy, so that each data set meets the same rules. Nothing here reads a file: whoever
reads the rows counts the faults, `check_tables` words and refuses them.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import pyarrow as pa
from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator

from recsys.dialect import EventSource, ItemSource, Source
from recsys.errors import SchemaError

Column = Any  # pa.Array or pa.ChunkedArray; the stubs of pyarrow refuse much of what it takes
Table = Any  # pa.Table

# What a column may hold: "id" string or integer, "time", "number", "integer" or "text" (anything
# that prints). CSV is all strings; numbers and times in it are parsed.
TABLES: dict[str, dict[str, str]] = {
    "events": {
        "user_id": "id",
        "item_id": "id",
        "timestamp": "time",
        "order_index": "integer",  # instead of timestamp: any integer that grows with time
        "event_type": "text",
        "value": "number",  # stars, seconds, quantity: for `min_value` and `ranker.weight_by`
        "price": "number",  # paid for one unit
        "request_id": "text",
        "position": "integer",  # in the list that was shown, 1 = top
        "session_id": "text",
    },
    "items": {
        "item_id": "id",
        "title": "text",
        "description": "text",
        "category": "text",
        "brand": "text",
        "price": "number",
        "available_from": "time",
        "available_until": "time",
    },
    "users": {"user_id": "id"},
}
REQUIRED = {"events": ("user_id", "item_id"), "items": ("item_id", "title"), "users": ("user_id",)}
SYNONYMS: dict[str, dict[str, tuple[str, ...]]] = {  # for a column neither there nor mapped
    "events": {"price": ("unit_price",)},
    "items": {
        "title": ("name",),
        "description": ("overview",),
        "category": ("categories", "genre", "genres"),
        "brand": ("author", "manufacturer"),
    },
    "users": {},
}
AUTO_TEXT = ("title", "brand", "category", "description")

ERRORS = {  # fault -> what to do
    "cannot be read": "check the path and the file",
    "has no rows": "bring a table with rows",
    "is missing": "add it, or name the column to take with {setting}.{column} = '...'{beside}",
    "has the wrong type": "convert the column",
    "has no id": "remove these rows or fill in the id",
    "is written another way": "say so beside the path: data.{table} = {{ path = '...', ... }}",
    "cannot be parsed": "write times as 2026-01-31T12:00:00Z and numbers as 12.5",
    "has other contents for the same id": "keep one row for each id, or see data.items.repeated",
    "has another type than items.item_id": "set text_ids = true beside the path of the integers",
    "has fewer than 2 different ids": "bring at least 2",
    "has types without a grade": "give each one a grade: data.event_types.<type> = {{grade = 1}}",
    "is compared by data.event_types but missing": "map the column or remove the rule",
    "has no event left": "bring tables that speak of the same ids, and events with a time",
    "has only events of grade 0": "give a type that occurs grade 1: data.event_types.<type>",
    "has fewer than 4 days with events that count": "more, or split.protocol = 'leave_last_out'",
    "is in the future": "remove these rows, or correct their unit, time zone or this clock",
    "lies in 1970": "seconds or milliseconds were taken for a smaller unit; convert the column",
}
WARNINGS = {  # fault -> what was done
    "has types but no data.event_types": "every event has grade 1",
    "has several contents for one id": "the most frequent was taken",
    "has no user": "dropped",
    "has no time": "dropped",
    "is not in items": "dropped",
    "matches no rule of data.event_types": "dropped",
    "is an exact copy of another row": "dropped",
    "has no text": "kept; the encoder sees an empty text",
    "has no time zone": "read as UTC",
    "may be thousands": "read as 1.234 < 2; for thousands set decimal = ',' beside the path",
    "has ids like 17001.0": "kept so; write integers if other tables and requests have 17001",
    "is read by nothing yet": "only its user_id was checked",
}


class EventRule(BaseModel):
    """What an event is worth: its grade (0 = shown or disliked, 1 = click-like, 2+ = purchase)."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    grade: int = Field(ge=0, le=20)
    weight: float = Field(1.0, ge=0, allow_inf_nan=False)  # in training
    min_value: float | None = Field(None, allow_inf_nan=False)  # holds only where `value` >= this


class DataConfig(BaseModel):
    """Where the tables are and how to read them."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    events: tuple[EventSource, ...] | None = None  # a path, a source, or a list of sources
    items: ItemSource | None = None  # a path or a source
    users: Source | None = None
    columns: dict[Literal["events", "items", "users"], dict[str, str]] = {}  # table: ours: theirs
    event_types: dict[str, tuple[EventRule, ...]] = {}  # first rule that holds; {} = all grade 1
    text: Literal["auto"] | Annotated[tuple[str, ...], Field(min_length=1)] = "auto"  # item columns
    memory_limit: str = Field("2GB", pattern=r"^\d+(\.\d+)? ?[KMGT]i?B$")
    bucket_rows: int = Field(1_000_000, ge=1)  # events in a bucket, about

    @field_validator("events", "items", "users", mode="before")
    @classmethod
    def _a_path_is_a_source(cls, value: Any, info: ValidationInfo) -> Any:
        several = value if isinstance(value, list | tuple) else [value]
        sources = [{"path": str(s)} if isinstance(s, str | Path) else s for s in several]
        if info.field_name == "events" and value is not None:
            if not sources:
                raise ValueError("expected at least one source")
            return sources
        return sources[0] if len(sources) == 1 else value

    @field_validator("event_types", mode="before")
    @classmethod
    def _one_rule_is_a_list_of_one(cls, value: Any) -> Any:
        if not isinstance(value, Mapping):
            return value
        return {k: [v] if isinstance(v, Mapping | EventRule) else v for k, v in value.items()}

    @field_validator("columns")
    @classmethod
    def _known_columns(cls, value: dict[str, dict[str, str]]) -> dict[str, dict[str, str]]:
        for table, names in value.items():
            _check_names(table, names)
        return value

    @field_validator("events", "items", "users")
    @classmethod
    def _known_columns_of_sources(cls, value: Any, info: ValidationInfo) -> Any:
        for source in value if isinstance(value, tuple) else [value]:
            if source is not None:
                _check_names(str(info.field_name), source.columns)
        return value


def _check_names(table: str, names: Iterable[str]) -> None:
    """Refuse a column that a table cannot have.

    Raises:
        ValueError: it names the nearest that it can.
    """
    for name in sorted(set(names) - TABLES[table].keys()):
        near = difflib.get_close_matches(name, TABLES[table], 1)
        hint = f"did you mean {near[0]!r}" if near else f"known: {', '.join(TABLES[table])}"
        raise ValueError(f"{table} has no column {name!r}; {hint}")


@dataclass(frozen=True)
class Fault:
    """One thing wrong with one table, counted by whoever read it; `kind` is in the tables above."""

    kind: str
    table: str
    column: str = ""
    rows: int = 0  # 0 = the whole column or table
    example: str = ""
    file: str = ""  # where the table has several
    beside_path: bool = False  # the source itself says which column it is


def file_names(table: str, ours: str, config: DataConfig) -> tuple[str, ...]:
    """Return the names that our column may have in the file, the first found counts."""
    mapped = {str(name): columns for name, columns in config.columns.items()}.get(table, {})
    return (mapped[ours],) if ours in mapped else (ours, *SYNONYMS[table].get(ours, ()))


def match_columns(
    table: str, schema: pa.Schema, config: DataConfig
) -> tuple[dict[str, str], list[Fault]]:
    """Find the file's column for each of ours: mapped, else of the same name, else a synonym.

    Returns:
        {ours: file's} in the order of `TABLES`, and the faults of missing or ill-typed columns.
    """
    columns: dict[str, str] = {}
    faults = []
    for ours, kind in TABLES[table].items():
        names = file_names(table, ours, config)
        theirs = next((name for name in names if name in schema.names), None)
        if theirs is not None:
            columns[ours] = theirs
            if not _fits(kind, value_type(schema.field(theirs).type)):
                found = f"column {theirs!r} is {schema.field(theirs).type}, expected {kind}"
                faults.append(Fault("has the wrong type", table, ours, example=found))
        elif ours not in names or ours in REQUIRED[table]:
            near = difflib.get_close_matches(names[0], schema.names, 1) or schema.names
            found = f"no {names[0]!r} among the file's columns, nearest {near[0]!r}"
            faults.append(Fault("is missing", table, ours, example=found))
    return columns, faults


def text_columns(
    config: DataConfig, columns: Mapping[str, str], schema: pa.Schema
) -> tuple[list[str], list[Fault]]:
    """Find the item columns (the file's names) that make up the encoder's text, in order."""
    if config.text == "auto":
        return [columns[name] for name in AUTO_TEXT if name in columns], []
    found = [columns.get(name, name) for name in config.text]
    missing = [name for name in found if name not in schema.names]
    return found, [
        Fault("is missing", "items", name, example=f"data.text names {name!r}") for name in missing
    ]


def match_event_types(
    types: Mapping[str, int], columns: Mapping[str, str], config: DataConfig
) -> list[Fault]:
    """Compare the event types that occur (type -> rows) with those that have rules."""
    faults = []
    rules = [rule for some in config.event_types.values() for rule in some]
    if any(rule.min_value is not None for rule in rules) and "value" not in columns:
        faults.append(Fault("is compared by data.event_types but missing", "events", "value"))
    unknown = {name: n for name, n in types.items() if name not in config.event_types}
    if unknown and (config.event_types or "event_type" in columns):
        kind = (
            "has types without a grade"
            if config.event_types
            else "has types but no data.event_types"
        )
        names = ", ".join(sorted(unknown)[:10])
        faults.append(Fault(kind, "events", "event_type", sum(unknown.values()), names))
    return faults


def value_type(kind: pa.DataType) -> pa.DataType:
    """Return the type of the values: that of the dictionary for a dictionary-encoded column."""
    return kind.value_type if pa.types.is_dictionary(kind) else kind


def is_text(kind: pa.DataType) -> bool:
    """Whether the column holds strings (of any Arrow string type)."""
    return bool(
        pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind)
    )


def _fits(kind: str, found: pa.DataType) -> bool:
    is_number = pa.types.is_integer(found) or pa.types.is_floating(found)
    if kind == "id":
        return is_text(found) or pa.types.is_integer(found)
    if kind == "time":
        times = pa.types.is_timestamp(found) or pa.types.is_date(found)
        return times or is_text(found) or pa.types.is_null(found)
    if kind in ("number", "integer"):
        decimal = pa.types.is_decimal(found) or pa.types.is_null(found)
        return is_number or decimal or is_text(found)
    return not (pa.types.is_struct(found) or pa.types.is_map(found) or pa.types.is_binary(found))


def check_tables(faults: Iterable[Fault], sources: Mapping[str, str]) -> list[str]:
    """Refuse the tables if any fault is an error; otherwise word the warnings.

    Args:
        faults: everything found, in any order.
        sources: {table: where it came from}, for the messages.

    Returns:
        One line for each fault that is only a warning.

    Raises:
        SchemaError: with one line for each fault that is an error, all of them at once.
    """
    faults = list(faults)
    errors = [_line(f, sources, ERRORS[f.kind]) for f in faults if f.kind in ERRORS]
    if errors:
        count = "1 problem" if len(errors) == 1 else f"{len(errors)} problems"
        raise SchemaError("\n".join([f"the input has {count}:", *errors]))
    return [_line(f, sources, WARNINGS[f.kind]) for f in faults]


def _line(fault: Fault, sources: Mapping[str, str], remedy: str) -> str:
    where = f"{fault.table} ({fault.file or sources.get(fault.table, 'not given')})"
    column = f", column {fault.column}" if fault.column else ""
    rows = f" in {fault.rows:,} row{'s' * (fault.rows != 1)}" if fault.rows else ""
    example = f" ({'e.g. ' * bool(fault.rows)}{fault.example})" if fault.example else ""
    name = fault.column or "..."
    setting = "columns" if fault.beside_path else f"data.columns.{fault.table}"
    beside = " beside the path" * fault.beside_path
    advice = remedy.format(table=fault.table, column=name, setting=setting, beside=beside)
    return f"{where}{column}: {fault.kind}{rows}{example}; {advice}"
