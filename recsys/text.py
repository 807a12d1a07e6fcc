"""What text looks like once it is clean, and the catalogue that is made of it.

Every data set meets the same rules here: no HTML, single spaces, no trace of empty fields.
"""

from __future__ import annotations

import html
from collections.abc import Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from recsys.schema import Column, Fault, Table

_TAG = r"<(?:!--.*?--|/?[A-Za-z][^<>]*)>"
_SPACE = r"[\s\p{Z}\p{Cc}\x{200B}\x{FEFF}]+"  # also no-break, zero-width and control characters


def clean_text(column: Column) -> Column:
    """Turn (n,) strings into plain text: no HTML entities or tags, single spaces, null as "".

    Entities are decoded twice, because web shops often encode them twice ("R&amp;amp;D").
    """
    text: Column = pc.fill_null(column.cast(pa.large_string()), "")
    if isinstance(text, pa.ChunkedArray):
        text = text.combine_chunks()
    if pc.any(pc.match_substring(text, "&")).as_py():
        plain = [html.unescape(html.unescape(s)) if "&" in s else s for s in text.to_pylist()]
        text = pa.array(plain, pa.large_string())
    text = pc.replace_substring_regex(text, _TAG, " ")
    return pc.utf8_trim_whitespace(pc.replace_substring_regex(text, _SPACE, " "))


def clean_list(column: Column) -> Column:
    """Turn (n,) strings "a|b|c" or "a,b,c" into clean "a, b, c"."""
    return pc.replace_substring_regex(clean_text(column), r"\s*[|,][\s|,]*", ", ")


def join_text(fields: Sequence[Column]) -> Column:
    """Join one or more clean fields into one text each: "first. second", no empty ones, no ".."."""
    none = pa.scalar("", pa.large_string())
    # not null_handling="skip": pyarrow 25 then leaves out the rows in which all fields are null
    text, *rest = [pc.utf8_rtrim(field, ". ") for field in fields]
    for field in rest:
        both = pc.and_(pc.not_equal(text, none), pc.not_equal(field, none))
        stop = pc.if_else(both, pa.scalar(". ", pa.large_string()), none)
        text = pc.binary_join_element_wise(text, stop, field, none)
    return text


def clean_items(table: Table, text: Sequence[Column]) -> Table:
    """Make the catalogue out of typed columns.

    Args:
        table: (n_items,) columns named as in `TABLES`, times as int64 microseconds.
        text: clean fields of the encoder's text, in order.

    Returns:
        Every column of the prepared catalogue; null where nothing is known, "" for title and text.
    """
    empty: Column = pa.nulls(len(table))
    given: Any = {name: table[name] for name in table.column_names}
    moment, string = pa.timestamp("us", "UTC"), pa.large_string()
    category, brand = (given.get(name, empty).cast(string) for name in ("category", "brand"))
    columns: Any = {
        "item_id": table["item_id"],
        "title": clean_text(table["title"]),
        "text": join_text(text),
        "category": _none(clean_list(category)),
        "brand": _none(clean_text(brand)),
        "price": given.get("price", empty).cast(pa.float32()),
        "available_from": given.get("available_from", empty).cast(pa.int64()).cast(moment),
        "available_until": given.get("available_until", empty).cast(pa.int64()).cast(moment),
    }
    return pa.table(columns)


def check_items(items: Table) -> list[Fault]:
    """Find what is wrong with a catalogue of `clean_items`, apart from single columns."""
    faults = []
    counted = items["item_id"].drop_null().value_counts()
    twice = counted.field("values").filter(pc.greater(counted.field("counts"), pa.scalar(1)))
    if len(twice):
        kind = "has other contents for the same id"
        faults.append(Fault(kind, "items", "item_id", len(twice), str(twice[0])))
    if len(counted) < 2:
        kind = "has fewer than 2 different ids"
        faults.append(Fault(kind, "items", "item_id", example=f"{len(counted)} found"))
    silent = items.filter(pc.equal(items["text"], pa.scalar("", pa.large_string())))["item_id"]
    if len(silent):
        faults.append(Fault("has no text", "items", "", len(silent), str(silent[0])))
    return faults


def _none(column: Column) -> Column:
    """Return the strings with null for ""."""
    return pc.if_else(
        pc.equal(column, pa.scalar("", column.type)), pa.scalar(None, column.type), column
    )
