"""What the columns of a table mean, in the SQL of DuckDB, and what can be wrong with them.

It is only text: whoever has the database runs it. The rows of each part of a table are there under
the part's name.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import pyarrow as pa

from recsys.dialect import (
    DECIMAL_ID,
    NO_IDS,
    SPACES,
    THOUSANDS,
    EventSource,
    ItemSource,
    text_number_sql,
    text_time_sql,
)
from recsys.matching import MatchedTable, Part
from recsys.schema import TABLES, DataConfig, is_text, value_type

ZONE = r"\d:\d\d.*(Z|UTC|[+-]\d\d(:?\d\d)?)$"  # what a text ends in that names its time zone
CLICKED = "CASE right({cell}, 2) WHEN '-1' THEN 'clicked' ELSE 'shown' END"
EVENTS = {  # what the SQL of events has besides ids, moment and event_type
    "value": "DOUBLE", "price": "DOUBLE", "position": "BIGINT", "request_id": "VARCHAR",
    "session_id": "VARCHAR",
}  # fmt: skip
ALWAYS = ("value", "price", "position", "session_id")  # of these also where no file has them


class Probe(NamedTuple):
    """One fault to be counted, in SQL."""

    fault: str
    column: str
    rows: str  # that have it
    example: str
    unless: str = "FALSE"  # rows that acquit the whole column


REPEATS = Probe("has several contents for one id", "item_id", "TRUE", "item_id::VARCHAR")


def column_probes(table: str, part: Part) -> list[Probe]:
    """List the faults to be counted in the columns as they were given."""
    probes: list[Probe] = []
    columns, schema = part.columns, part.rows.schema
    may_lack = {}
    if isinstance(part.source, EventSource):
        may_lack = {"user_id": part.source.anonymous == "drop", "item_id": part.source.shown}
    for ours, theirs in columns.items():
        kind, text = TABLES[table][ours], f"CAST({_quote(theirs)} AS VARCHAR)"
        found, typed = schema.field(theirs).type, typed_sql(part, ours, table)
        parsed = is_text(value_type(found))
        if kind == "id" and not may_lack.get(ours):
            others = [name for name in columns.values() if name != theirs][:2]
            row = [f"{literal(f'{n}=')}, CAST({_quote(n)} AS VARCHAR)" for n in others] or ["''"]
            example = "concat(" + ", ', ', ".join(row) + ")"
            probes.append(Probe("has no id", ours, f"{typed} IS NULL", example))
        if kind == "id" and parsed:
            decimals = f"regexp_full_match({typed}, '{DECIMAL_ID}')"
            probes.append(Probe("has ids like 17001.0", ours, decimals, typed))
        elif kind not in ("id", "text") and parsed:
            bad = f"trim({text}) <> '' AND {typed} IS NULL"
            probes.append(Probe("cannot be parsed", ours, bad, text))
        if kind == "number" and parsed and part.source.decimal == "plain":
            grouped = f"regexp_full_match(trim({text}), '{THOUSANDS}')"
            other = f"contains({text}, '.') AND NOT {grouped}"
            probes.append(Probe("may be thousands", ours, grouped, text, other))
        way = part.source.time
        if kind == "time" and not getattr(found, "tz", None) and (way == "iso" or "%" in way):
            naive = f"{typed} IS NOT NULL" + " AND FALSE" * ("%z" in way and parsed)
            if parsed and way == "iso":
                naive += f" AND NOT regexp_matches({text}, '{ZONE}')"
            probes.append(Probe("has no time zone", ours, naive, text))
    return probes


def typed_sql(part: Part, ours: str, table: str) -> str:
    """SQL of our column of a part as what its kind is, null where it is not."""
    theirs = part.columns[ours]
    return value_sql(part, theirs, TABLES[table][ours])


def value_sql(part: Part, theirs: str, kind: str) -> str:
    """SQL of the file's column `theirs` as what its `kind` is here, null where it is not."""
    column, found = _quote(theirs), value_type(part.rows.schema.field(theirs).type)
    if kind == "time" and (pa.types.is_timestamp(found) or pa.types.is_date(found)):
        zoned = getattr(found, "tz", None)
        return f"epoch_us(TRY_CAST({column} AS {'TIMESTAMPTZ' if zoned else 'TIMESTAMP'}))"
    if kind == "time":
        return text_time_sql(column, part.source.time)
    if kind in ("number", "integer"):
        number = text_number_sql(column, part.source.decimal if is_text(found) else "plain")
        whole = kind == "integer"
        return f"TRY_CAST({column} AS BIGINT)" if whole else f"nullif({number}, 'NaN'::DOUBLE)"
    if kind == "id" and not is_text(found) and not part.source.text_ids:
        return f"TRY_CAST({column} AS BIGINT)"
    if pa.types.is_list(found) or pa.types.is_large_list(found):
        nested = pa.types.is_list(found.value_type) or pa.types.is_large_list(found.value_type)
        flat = f"flatten({column})" if nested else column
        return f"nullif(array_to_string({flat}, ', '), '')"
    if kind == "id":
        return _id_sql(f"CAST({column} AS VARCHAR)")
    return f"nullif(CAST({column} AS VARCHAR), '')"


def _id_sql(text: str) -> str:
    """SQL of a text as an id: no spaces at its ends, null where it is a word for nothing."""
    odd = f"{text} < '!' OR {text} > '~' OR right({text}, 1) NOT BETWEEN '!' AND '~'"
    bare = f"CASE WHEN {odd} THEN trim({text}, '{SPACES}') ELSE {text} END"  # trim alone is slow
    return f"CASE WHEN lower({bare}) NOT IN {NO_IDS} THEN {bare} END"


def items_sql(table: MatchedTable) -> str:
    """SQL of the different rows of the catalogue: our columns, and `text0`, ... of the encoder.

    Of several contents for one id there are all, or the most frequent one that has a title, if the
    source says so.
    """
    select = _contents(table)
    rows = f"SELECT {_columns(select)} FROM {table.parts[0].name}"
    if not _takes_most_frequent(table):
        return f"SELECT DISTINCT * FROM ({rows}) ORDER BY ALL"
    counted = f"SELECT *, count(*) AS times FROM ({rows}) WHERE item_id IS NOT NULL GROUP BY ALL"
    order = ", ".join(["title IS NULL", "times DESC", *select])
    first = f"row_number() OVER (PARTITION BY item_id ORDER BY {order}) = 1"
    return f"SELECT * EXCLUDE (times) FROM (FROM ({counted}) QUALIFY {first}) ORDER BY ALL"


def repeats_sql(table: MatchedTable) -> str:
    """SQL of the `item_id` with several contents of which the most frequent is taken."""
    rows = f"SELECT DISTINCT {_columns(_contents(table))} FROM {table.parts[0].name}"
    taken = str(_takes_most_frequent(table)).upper()
    return f"SELECT item_id FROM ({rows}) WHERE {taken} GROUP BY item_id HAVING count(*) > 1"


def _contents(table: MatchedTable) -> dict[str, str]:
    [part] = table.parts
    select = {ours: typed_sql(part, ours, "items") for ours in part.columns}
    return select | {f"text{i}": value_sql(part, c, "text") for i, c in enumerate(table.text)}


def _takes_most_frequent(table: MatchedTable) -> bool:
    source = table.parts[0].source
    return isinstance(source, ItemSource) and source.repeated == "most_frequent"


def moment_sql(part: Part, order: str = "timestamp") -> str:
    """SQL of what orders the events of a part, null where it has no such column."""
    return typed_sql(part, order, "events") if order in part.columns else "NULL::BIGINT"


def events_sql(table: MatchedTable, config: DataConfig, by_order: bool) -> str:
    """SQL of all events in our types, with `moment` (to sort by), `grade` and `weight`.

    A missing event type is "event". With `by_order` the moment is the order_index, if there is one.
    """
    order = "order_index" if by_order and "order_index" in table.columns else "timestamp"
    others = [name for name in EVENTS if name in table.columns or name in ALWAYS]
    select = " UNION ALL ".join(f"({_part_sql(part, order, others)})" for part in table.parts)
    rules = [(name, rule) for name, some in config.event_types.items() for rule in some]
    cases = {"grade": "1", "weight": "1.0"}
    for column in cases if rules else ():
        branches = [
            f"WHEN event_type = {literal(name)}"
            + (f" AND value >= {rule.min_value!r}::DOUBLE" if rule.min_value is not None else "")
            + f" THEN {getattr(rule, column)!r}"
            for name, rule in rules
        ]
        cases[column] = f"CASE {' '.join(branches)} END"
    graded = f"({cases['grade']})::TINYINT AS grade, ({cases['weight']})::FLOAT AS weight"
    return f"SELECT *, {graded} FROM ({select})"


def _part_sql(part: Part, order: str, others: Sequence[str]) -> str:
    """SQL of the events of one source, every part with the same columns."""
    source = part.source if isinstance(part.source, EventSource) else EventSource(path="in memory")
    rows = part.name
    item = typed_sql(part, "item_id", "events")
    event_type = typed_sql(part, "event_type", "events") if "event_type" in part.columns else "NULL"
    if source.shown:
        cells = f"unnest(string_split_regex(trim({_quote(source.shown)}), '\\s+'))"
        rows = f"(SELECT *, {cells} AS cell FROM {rows} WHERE trim({_quote(source.shown)}) <> '')"
        item, event_type = "regexp_replace(cell, '-[01]$', '')", CLICKED.format(cell="cell")
    if source.event_type is not None:
        event_type = literal(source.event_type)
    select = {
        "user_id": typed_sql(part, "user_id", "events"),
        "moment": moment_sql(part, order),
        "item_id": item,
        "event_type": f"coalesce({event_type}, 'event')",
    }
    for name in others:
        there = name in part.columns
        select[name] = typed_sql(part, name, "events") if there else f"NULL::{EVENTS[name]}"
    return f"SELECT {_columns(select)} FROM {rows}"


def _columns(select: Mapping[str, str]) -> str:
    return ", ".join(f"{sql} AS {name}" for name, sql in select.items())


def _quote(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def literal(text: str) -> str:
    """Quote a text for SQL."""
    return "'" + text.replace("'", "''") + "'"
