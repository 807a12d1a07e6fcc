"""How a file writes what it holds: its delimiter, letters, decimal sign and times.

A `Source` says it, in words of the config. Where it says nothing, or the wrong thing, the first
rows tell: the same look serves the refusal of a table (which says what to set) and `recsys init`
(which sets it). Values are read as text here; the SQL below reads them for good.
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Sequence
from datetime import UTC, datetime
from itertools import product
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

from recsys.address import Address

UNITS = {"s": 1, "ms": 1_000, "us": 1_000_000}  # in a second
UNIT_WORDS = {"s": "Unix seconds", "ms": "Unix milliseconds", "us": "Unix microseconds"}
DELIMITERS = (",", ";", "\t", "|")
DATES = ("%d.%m.%Y", "%d/%m/%Y", "%m/%d/%Y", "%d-%m-%Y", "%m-%d-%Y", "%Y/%m/%d", "%Y.%m.%d",
         "%Y%m%d", "%d.%m.%y", "%d/%m/%y", "%m/%d/%y", "%d %b %Y", "%b %d, %Y")  # fmt: skip
HALF_DAYS = ("%Y-%m-%d %I:%M:%S %p", "%Y-%m-%d %I:%M %p")  # ISO but for the clock
CLOCKS = ("", " %H:%M", " %H:%M:%S", " %H:%M:%S.%f", " %I:%M:%S %p", " %I:%M %p", "T%H:%M:%S",
          ", %H:%M", ", %H:%M:%S")  # fmt: skip
DIRECTIVE = re.compile(r"%(-?[aAbBdfHIjmMpSyYzT%])?")
ISO = re.compile(r"\d{4}-\d\d?-\d\d?([ T]\d\d?:\d\d(:\d\d)?(?!.*[AaPp][Mm]\s*$).*)?$")
PLAIN = r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?"
SIGNS = {  # decimal -> a number as it is written with it, in groups of three or not
    "plain": PLAIN,
    ".": r"[+-]?(\d{1,3}([, '\x{A0}\x{202F}]\d{3})+|\d+)(\.\d+)?",
    ",": r"[+-]?(\d{1,3}([. '\x{A0}\x{202F}]\d{3})+|\d+)(,\d+)?",
}
THOUSANDS = r"[+-]?[1-9]\d{0,2}\.\d{3}"  # 1.234: also a decimal number, and nobody can tell
DECIMAL_ID = r"\d+\.0"  # an integer that went through a column of decimals
NO_IDS = ("", "null", "nan", "none", "n/a")  # in any case, where an id is text
SPACES = (
    "\t\n\v\f\r\x1c\x1d\x1e\x1f \x85\xa0\u2002\u2003\u2009\u202f\u3000"  # cut off the ends of ids
)
CURRENCY = r"[\s\x{A0}$€£¥]|EUR|USD|GBP|CHF"  # may stand beside a number, where `decimal` is set


class Source(BaseModel):
    """One file or folder, and how it is written."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    path: Address = Field(min_length=1)  # or URI of a file or folder
    columns: dict[str, str] = {}  # {ours: the file's}; stronger than data.columns
    delimiter: str = Field(",", min_length=1, max_length=1)  # between the cells of CSV
    encoding: str = "utf-8"  # of CSV: utf-8, cp1252, utf-16, ...
    quote: str = Field('"', max_length=1)  # around the cells of CSV; "" = none
    names: tuple[str, ...] = ()  # of all columns, where CSV has no line of names
    decimal: Literal["plain", ".", ","] = "plain"  # plain: 1234.5; ".": $1,234.50; ",": 1.234,50 €
    text_ids: bool = False  # integer ids become text, where another file has them as text
    time: str = "iso"  # or "s", "ms", "us" since 1970, or a format such as "%d.%m.%Y %H:%M"

    @field_validator("encoding")
    @classmethod
    def _known_encoding(cls, value: str) -> str:
        try:
            return codecs.lookup(value).name
        except LookupError as error:
            raise ValueError("no such encoding; known are utf-8, cp1252, latin-1, ...") from error

    @field_validator("time")
    @classmethod
    def _known_time(cls, value: str) -> str:
        known = all(found[1] for found in DIRECTIVE.finditer(value))
        if value != "iso" and value not in UNITS and not (known and "%" in value):
            raise ValueError('expected "iso", "s", "ms", "us" or a format like "%d.%m.%Y %H:%M"')
        return value


class EventSource(Source):
    """One file or folder of events; several make one log."""

    event_type: str | None = None  # of every row, where no column says it
    shown: str | None = None  # column of lists such as "N1-1 N2-0": events clicked and shown
    anonymous: Literal["refuse", "drop"] = "refuse"  # rows without a user


class ItemSource(Source):
    """The file or folder of the items."""

    repeated: Literal["refuse", "most_frequent"] = "refuse"  # other contents for the same id


# --- what the first rows look like ---------------------------------------------------------------


def guess_time(values: Sequence[str]) -> tuple[str, ...]:
    """List the ways to write times ("iso", a unit or formats) that all of some values fit.

    Args:
        values: not empty each.

    Returns:
        The likeliest first; more than one where day and month cannot be told apart.
    """
    if not values:
        return ()
    return tuple(way for way in ("iso", *UNITS, *_formats(values[0])) if fits_time(values, way))


def fits_time(values: Sequence[str], way: str) -> bool:
    """Whether all values are times written in that way; those of a unit are within 1973-2286."""
    if way == "iso":
        return all(ISO.match(value.strip()) for value in values)
    if way in UNITS:
        low, high = 1e8 * UNITS[way], 1e10 * UNITS[way]
        return all(re.fullmatch(PLAIN, v.strip()) and low <= float(v) < high for v in values)
    return all(_strptime(value, way) is not None for value in values)


def guess_decimal(values: Sequence[str]) -> str:
    """Return the plainest way to write numbers that all of some values fit, "" for none."""
    return next((way for way in SIGNS if values and fits_number(values, way)), "")


def fits_number(values: Sequence[str], way: str) -> bool:
    """Whether all values are numbers written in that way."""
    pattern = re.compile(_python(SIGNS[way]))
    strip = re.compile(_python(CURRENCY))
    texts = [value.strip() if way == "plain" else strip.sub("", value) for value in values]
    return all(pattern.fullmatch(text) for text in texts)


def maybe_thousands(values: Sequence[str]) -> bool:
    """Whether points stand only before three digits: "1.234" may be a thousand or little over 1."""
    pointed = [value.strip() for value in values if "." in value]
    return bool(pointed) and all(re.fullmatch(THOUSANDS, value) for value in pointed)


def guess_delimiter(line: str) -> str:
    """Return what most often separates the names in a first line; "," where nothing does."""
    bare = re.sub(r'"[^"]*"', "", line)
    return max(DELIMITERS, key=bare.count)


def written_otherwise(kind: str, values: Sequence[str], source: Source) -> str:
    """Say how values are written, where that is not what their source says; "" if it may be.

    Args:
        kind: "time", "number" or "integer".
        values: of one column, not empty each.
        source: what is configured.
    """
    if kind == "time" and not any(fits_time([value], source.time) for value in values):
        ways = guess_time(values)
        if ways and source.time not in ways:
            said = " or ".join(f"time = '{way}'" for way in ways)
            return f"{values[0]} looks like {said}, {time_words(values[0], ways[0])}"
    if kind in ("number", "integer") and not fits_number(values, source.decimal):
        way = guess_decimal(values)
        odd = next(value for value in values if not fits_number([value], source.decimal))
        if way and way != source.decimal:
            return f"{odd} looks like decimal = '{way}'"
    return ""


def time_words(value: str, way: str) -> str:
    """Say what a value means: "Unix seconds: 2014-04-22T00:00:00Z"."""
    if way in UNITS:
        moment = datetime.fromtimestamp(float(value) / UNITS[way], UTC)
        return f"{UNIT_WORDS[way]}: {moment:%Y-%m-%dT%H:%M:%SZ}"
    found = None if way == "iso" else _strptime(value, way)
    return value if found is None else f"{found:%Y-%m-%dT%H:%M:%S}"


def _formats(value: str) -> list[str]:
    """List the formats that one value may have."""
    given = [*HALF_DAYS, *(date + clock for date, clock in product(DATES, CLOCKS))]
    return [way for way in given if _strptime(value, way) is not None]


def _strptime(value: str, way: str) -> datetime | None:
    try:
        return datetime.strptime(value.strip(), way)
    except ValueError:
        return None


def _python(pattern: str) -> str:
    """Turn a pattern of RE2, which DuckDB reads, into one of Python."""
    return re.sub(r"\\x\{(\w+)\}", lambda found: chr(int(found[1], 16)), pattern)


# --- the same as SQL -----------------------------------------------------------------------------


def text_time_sql(column: str, way: str) -> str:
    """SQL of a column of texts or numbers as microseconds UTC, null where it is no time."""
    text = f"nullif(trim(CAST({column} AS VARCHAR)), '')"
    if way == "iso":
        return f"epoch_us(TRY_CAST({column} AS TIMESTAMPTZ))"
    if way in UNITS:
        micros = 1_000_000 // UNITS[way]
        return f"TRY_CAST(round(TRY_CAST({text} AS DOUBLE) * {micros}) AS BIGINT)"
    quoted = way.replace("'", "''")
    return f"epoch_us(try_strptime({text}, '{quoted}'))"


def text_number_sql(column: str, way: str) -> str:
    """SQL of a column of texts as numbers, null where it is none."""
    if way == "plain":
        return f"TRY_CAST({column} AS DOUBLE)"
    bare = f"regexp_replace({column}, '{CURRENCY}', '', 'g')"
    point = f"replace(regexp_replace({bare}, '[^0-9{way}eE+-]', '', 'g'), '{way}', '.')"
    fits = f"regexp_full_match({bare}, '{SIGNS[way].replace(chr(39), chr(39) * 2)}')"
    return f"CASE WHEN {fits} THEN TRY_CAST({point} AS DOUBLE) END"
