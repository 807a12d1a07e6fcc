"""What is known of the items, counted: columns, prices, and the texts that the encoder reads."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pipelines.database import Database, row_of
from recsys.languages import MOST_TEXTS, languages_sql
from recsys.schema import Table

QUANTILES = (0.0, 0.1, 0.25, 0.5, 0.75, 0.9, 0.99, 1.0)


@dataclass(frozen=True)
class Spread:
    """How a number varies."""

    quantiles: tuple[float, ...]  # at QUANTILES
    mean: float
    bins: tuple[tuple[int, int], ...]  # (1, 2, 4, ...: above half of it and up to it, how many)


@dataclass(frozen=True)
class Texts:
    """What the encoder will read, and what else is known of items."""

    filled: dict[str, int]  # column of the catalogue -> items that have it
    characters: Spread  # of items with any text
    long: int  # items with more words than `encoder.max_tokens`
    repeated: int  # items whose text another item has too
    most_repeated: tuple[str, int]  # a text (its beginning), items that have it
    languages: dict[str, int]  # of the items looked at
    looked_at: int
    categories: int
    single: int  # categories with one item
    prices: dict[str, float]  # "zero", "negative": items; "lowest", "median", "highest"


def describe_items(con: Database, items: Table, max_tokens: int) -> Texts:
    """Describe the catalogue."""
    con.register("catalogue", items)
    known = {name: f"{name} IS NOT NULL" for name in items.column_names if name != "item_id"}
    known |= {name: f"{name} <> ''" for name in ("title", "text")}
    filled = row_of(con, f"SELECT {', '.join(f'count(*) FILTER ({k})' for k in known.values())} "
                       "FROM catalogue")  # fmt: skip
    words = "len(regexp_split_to_array(text, '\\s+'))"
    long, several, (common, times) = (
        row_of(con, f"SELECT count(*) FROM catalogue WHERE {words} > {max_tokens}")[0],
        "(SELECT text, count(*) AS n FROM catalogue WHERE text <> '' GROUP BY text)",
        ("", 0),
    )
    (repeated,) = row_of(con, f"SELECT coalesce(sum(n), 0)::BIGINT FROM {several} WHERE n > 1")
    if repeated:
        common, times = row_of(
            con, f"SELECT left(text, 80), n FROM {several} ORDER BY n DESC, text LIMIT 1"
        )
    single = "count(*) FILTER (n = 1)"
    categories = row_of(
        con,
        f"SELECT count(*), {single} FROM (SELECT category, count(*) AS n "
        "FROM catalogue WHERE category IS NOT NULL GROUP BY category)",
    )
    prices = row_of(
        con,
        "SELECT count(*) FILTER (price = 0), count(*) FILTER (price < 0), "
        "min(price), median(price), max(price) FROM catalogue",
    )
    names = ("zero", "negative", "lowest", "median", "highest")
    rows = np.unique(np.linspace(0, len(items) - 1, min(MOST_TEXTS, len(items))).astype(int))
    con.register("glance", items.select(["text"]).take(rows))
    con.execute("CREATE TEMP TABLE lengths AS SELECT length(text) AS n FROM catalogue "
                "WHERE text <> ''")  # fmt: skip
    return Texts(
        filled=dict(zip(known, filled, strict=True)),
        characters=spread_of(con, "n", "lengths"),
        long=long,
        repeated=repeated,
        most_repeated=(common, times),
        languages=dict(con.execute(languages_sql("glance")).fetchall()),
        looked_at=len(rows),
        categories=categories[0],
        single=categories[1],
        prices={k: v for k, v in zip(names, prices, strict=True) if v is not None},
    )


def spread_of(con: Database, column: str, table: str) -> Spread:
    """Describe a column of counts."""
    quantiles, mean = row_of(
        con, f"SELECT quantile_disc({column}, {list(QUANTILES)}), avg({column}) FROM {table}"
    )
    bins = con.execute(
        f"SELECT CAST(2 ** ceil(log2(greatest({column}, 1))) AS BIGINT), count(*) "
        f"FROM {table} GROUP BY 1 ORDER BY 1"
    ).fetchall()
    return Spread(tuple(map(float, quantiles or ())), float(mean or 0), tuple(bins))
