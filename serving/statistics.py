"""What a release's lists are like, counted from its files in bounded memory.

Lists go by in tables of whole lists; of each only counts are kept: by item, by source and by
length. So memory is bounded by the catalogue, whatever the number of users.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pydantic import BaseModel, FiniteFloat

from serving.errors import DamagedReleaseError
from serving.lists import (
    LIST_COLUMNS,
    Counts,
    check_fallback,
    check_lists,
    iter_lists,
    list_starts,
    listed_twice,
    typed_table,
)

MERGE_ROWS, MERGE_TABLES = 1_000_000, 256  # of counts that may wait to be added up


class Top(BaseModel, frozen=True, extra="forbid"):
    """What has most rows, of items or of categories; of equals the first by name."""

    name: str | int
    rows: int


class Offer(BaseModel, frozen=True, extra="forbid"):
    """What the catalogue says of the rows, those of the fallback list too."""

    items: int  # on offer at as_of
    categories: int  # of all items; an item without one has none
    unavailable_rows: int  # of items that were not on offer at as_of
    top_category: Top | None  # of the users' lists
    top_category_items: int  # on offer at as_of, of that category


class Statistics(BaseModel, frozen=True, extra="forbid"):
    """What the users' lists are like, the fallback list apart."""

    lengths: dict[int, int]  # items in a list -> lists
    duplicates: int  # rows whose item the list has already
    sources: dict[str, int]  # source -> rows
    top_item: Top | None  # None: no user has a list
    exposure_gini: FiniteFloat  # 0 = every item is listed equally often, 1 = all rows are one item
    mean_score: FiniteFloat
    fingerprint: str  # of all files: the same for the same lists
    offer: Offer | None  # None: a release made without a catalogue

    @property
    def lists(self) -> int:
        return sum(self.lengths.values())

    @property
    def rows(self) -> int:
        return sum(length * lists for length, lists in self.lengths.items())

    def short(self, items: int) -> int:
        """Count the lists of fewer items."""
        return sum(lists for length, lists in self.lengths.items() if length < items)


class Survey(NamedTuple):
    """What was found in the files of a release."""

    counts: Counts
    rows: dict[str, int]  # path relative to the folder -> rows
    items: pa.Table  # value: item_id, n: rows of the users' lists
    lengths: pa.Table  # value: items in a list, n: lists
    sources: pa.Table  # value: source, n: rows
    duplicates: int
    score_sum: float
    fallback: pa.Table
    faults: tuple[str, ...]  # of what is not a list; empty where all is well


class _Seen(NamedTuple):
    """Counts of one table of whole lists, or of many added up."""

    items: pa.Table
    lengths: pa.Table
    sources: pa.Table
    users: int
    duplicates: int
    score_sum: float


def survey(folder: Path, parts: Sequence[Path], k: int) -> Survey:
    """Look at every list of a release once; what breaks the format is counted all the same.

    Args:
        folder: the release.
        parts: the files in it that must be there, at least one.
        k: no list may be longer.

    Raises:
        DamagedReleaseError: a file is missing or cannot be read as lists at all.
    """
    wanted = [folder / "fallback.parquet", *parts]
    if missing := [path.name for path in wanted if not path.exists()]:
        raise DamagedReleaseError(f"{folder}: {missing} not there; write them before sealing")
    try:
        fallback = pq.read_table(wanted[0])
        check_fallback(fallback, k)
        first = pq.read_schema(parts[0]).empty_table()
        schema = typed_table(first, LIST_COLUMNS, parts[0].name).schema
        if schema.field("item_id") != fallback.schema.field("item_id"):
            raise DamagedReleaseError(f"{folder}: item_id has one type in the fallback list only")
        faults, rows = list[str](), list[int]()
        seen = [_seen(schema.empty_table(), True)]
        for part in parts:
            part_rows, part_seen = _of_part(part, schema, k, faults)
            rows, seen = [*rows, part_rows], _merged([*seen, *part_seen])
    except (pa.ArrowException, OSError) as error:
        raise DamagedReleaseError(f"{folder}: a file cannot be read as Parquet: {error}") from error
    [all_] = _merged(seen, always=True)
    counts = Counts(users=all_.users, rows=sum(rows), items_listed=len(all_.items))
    paths = [path.relative_to(folder).as_posix() for path in wanted]
    by_path = dict(zip(paths, (len(fallback), *rows), strict=True))
    return Survey(counts, by_path, all_.items, all_.lengths, all_.sources, all_.duplicates,
                  all_.score_sum, fallback, tuple(faults))  # fmt: skip


def statistics_of(found: Survey, fingerprint: str, catalogue: pa.Table | None) -> Statistics:
    """Put what was found into numbers.

    Args:
        found: in the files.
        fingerprint: of the files.
        catalogue: item_id (in the lists' type), category (string, null = none) and available
            (bool: at as_of), a row for each item; None where it is not known.
    """
    offer = None if catalogue is None else _offer(found, catalogue)
    n_items = max(len(found.items), 1 if offer is None else offer.items)
    rows = found.counts.rows
    return Statistics(
        lengths=_as_dict(found.lengths),
        duplicates=found.duplicates,
        sources=_as_dict(found.sources),
        top_item=_top(found.items),
        exposure_gini=gini(found.items["n"], n_items),
        mean_score=found.score_sum / rows if rows else 0.0,
        fingerprint=fingerprint,
        offer=offer,
    )


def gini(counts: pa.ChunkedArray[Any], n: int) -> float:
    """Return the Gini index of `counts` and of as many zeros as make them `n`; 0 of one item.

    sum over i of (2i - n - 1) x_i / sum(x) / (n - 1), counts x_i ascending, i from 1 (Shani &
    Gunawardana, 2011; `recsys.exposure.gini` is the same for arrays).
    """
    total = pc.sum(counts).as_py()
    if not total or n < 2:
        return 0.0
    ascending = counts.take(pc.sort_indices(counts)).cast(pa.float64())
    weights = pa.array(range(n + 1 - 2 * len(counts), n, 2), pa.float64())
    return float(pc.sum(pc.multiply(ascending, weights)).as_py() / total / (n - 1))


def _of_part(part: Path, schema: pa.Schema, k: int, faults: list[str]) -> tuple[int, list[_Seen]]:
    """Count the rows of a part and what its lists are like; note what is wrong with them."""
    rows, seen, last = 0, list[_Seen](), None
    for table in iter_lists(part):
        if table.schema != schema:
            found, expected = (", ".join(str(one).split("\n")) for one in (table.schema, schema))
            raise DamagedReleaseError(
                f"{part.name}: found {found}; expected, as in the first part, {expected}"
            )
        good = True
        try:
            check_lists(table, part.name, k)
        except DamagedReleaseError as error:
            faults.append(str(error))
            good = False
        ids = table["user_id"]
        if last is not None and ids[0].as_py() <= last:
            faults.append(f"{part.name}: user {ids[0]} comes after user {last}")
        last = ids[-1].as_py()
        rows, seen = rows + len(table), _merged([*seen, _seen(table, good)])
    return rows, seen


def _seen(table: pa.Table, is_list: bool) -> _Seen:
    """Count one table of whole lists; `is_list` says that no list in it has an item twice."""
    users = table["user_id"].combine_chunks()
    starts = list_starts(users).cast(pa.int64()) if len(users) else pa.array([], pa.int64())
    ends = pa.concat_arrays([starts[1:], pa.array([len(users)] * min(1, len(users)), pa.int64())])
    duplicates = 0 if is_list else _sum(pc.subtract(listed_twice(table)["count_all"], 1))
    return _Seen(
        items=_counted(table["item_id"].combine_chunks()),
        lengths=_counted(pc.subtract(ends, starts)),
        sources=_counted(table["source"].combine_chunks()),
        users=len(starts),
        duplicates=duplicates,
        score_sum=pc.sum(table["score"].cast(pa.float64())).as_py() or 0.0,
    )


def _counted(values: pa.Array[Any]) -> pa.Table:
    """Count each value: columns value and n, in no order."""
    found = pa.table({"value": values}).group_by("value", use_threads=False)
    return found.aggregate([([], "count_all")]).rename_columns(["value", "n"])


def _merged(seen: Sequence[_Seen], always: bool = False) -> list[_Seen]:
    """Add up what waits, once it is much."""
    few = len(seen) < MERGE_TABLES and sum(len(one.items) for one in seen) < MERGE_ROWS
    if few and not always:
        return list(seen)
    return [_Seen(
        items=_added(one.items for one in seen),
        lengths=_added(one.lengths for one in seen),
        sources=_added(one.sources for one in seen),
        users=sum(one.users for one in seen),
        duplicates=sum(one.duplicates for one in seen),
        score_sum=sum(one.score_sum for one in seen),
    )]  # fmt: skip


def _added(counts: Iterable[pa.Table]) -> pa.Table:
    """Add up tables of counts, in the order of their values."""
    together = pa.concat_tables(list(counts)).group_by("value", use_threads=False)
    return together.aggregate([("n", "sum")]).rename_columns(["value", "n"]).sort_by("value")


def _as_dict(counts: pa.Table) -> dict[Any, int]:
    return {row["value"]: row["n"] for row in counts.to_pylist()}


def _sum(numbers: Any) -> int:
    return int(pc.sum(numbers).as_py() or 0)


def _top(counts: pa.Table) -> Top | None:
    if not len(counts):
        return None
    first = counts.sort_by([("n", "descending"), ("value", "ascending")])
    return Top(name=first["value"][0].as_py(), rows=first["n"][0].as_py())


def _offer(found: Survey, catalogue: pa.Table) -> Offer:
    """Look the listed items up in the catalogue; an item that it does not name is not on offer."""
    listed = found.items.rename_columns(["item_id", "n"])
    shown = found.fallback.select(["item_id"])
    shown = shown.append_column("n", pa.array([1] * len(shown), pa.int64()))
    named, everyone = (
        one.join(catalogue, "item_id", "item_id", "left outer") for one in (listed, shown)
    )
    rows = pa.concat_tables([named, everyone])
    no = pa.scalar(False)
    is_off: Any = pc.equal(pc.fill_null(rows["available"], no), no)
    off = rows.filter(is_off)
    categories = named.select(["category", "n"]).rename_columns(["value", "n"])
    top = _top(_added([categories.filter(pc.is_valid(categories["value"]))]))
    of_top: Any = pc.equal(catalogue["category"], pa.scalar(top.name if top else None, pa.string()))
    return Offer(
        items=_sum(catalogue["available"]),
        categories=pc.count_distinct(catalogue["category"]).as_py(),
        unavailable_rows=_sum(off["n"]),
        top_category=top,
        top_category_items=_sum(pc.and_(catalogue["available"], of_top)),
    )
