"""Lists as tables: what they must look like, and reading them in pieces that never cut one in two.

One row is one place in one user's list. Ids are strings or int64 and keep their type; ranks run
1..n; nothing is null; scores are finite; a part is sorted by (user_id, rank). A probability is that
the user takes the item in their next request, so 0 to 1; the fallback list, which is of no user,
has none: there the column is null throughout.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pydantic import BaseModel

from serving.errors import DamagedReleaseError

ROW_GROUP = 1 << 19  # rows: what one step of writing or packing holds in memory
STEP_ROWS = 1 << 16  # what one step of looking at lists holds
DICTIONARY_BYTES = 1 << 24  # of a column's distinct texts in a row group: item ids of a million
LIST_COLUMNS = (
    "user_id", "rank", "item_id", "score", "probability", "source", "reason", "drivers",
)  # fmt: skip
COLUMN_TYPES: dict[str, pa.DataType] = {  # the ids bring their own
    "rank": pa.int16(),
    "score": pa.float32(),
    "probability": pa.float32(),
    "source": pa.string(),
    "reason": pa.string(),
    "drivers": pa.string(),
}


class ListedItem(NamedTuple):
    """One place in a list."""

    rank: int  # from 1
    item_id: str | int
    score: float
    probability: float | None  # None: the fallback list, or a release of before there were any
    source: str
    reason: str
    drivers: str  # what raised its score most, like "text, history"; empty where unknown


class Answer(NamedTuple):
    """The list of one user; `user_id` as it was asked for."""

    user_id: str | int
    is_fallback: bool  # the user has no list in this release: the same list for everyone
    items: Sequence[ListedItem]


class Counts(BaseModel, frozen=True, extra="forbid"):
    """What the parts hold together."""

    users: int
    rows: int
    items_listed: int  # distinct items in any list, the fallback list apart


def iter_lists(
    part: Path, rows: int = STEP_ROWS, coded: Sequence[str] = (), columns: list[str] | None = None
) -> Iterator[pa.Table]:
    """Yield a part as tables of about `rows` rows that never cut a user's list in two.

    Args:
        part: of a release.
        rows: what is held in memory at a time.
        coded: columns of texts to be read as dictionaries, which is faster where texts repeat.
        columns: user_id and what else is wanted; None = all.
    """
    carry: pa.Table | None = None
    with pq.ParquetFile(part, read_dictionary=list(coded)) as file:
        for batch in file.iter_batches(batch_size=rows, columns=columns):
            table = pa.Table.from_batches([batch])
            table = table if carry is None else pa.concat_tables([carry, table])
            users = _codes(table["user_id"].combine_chunks())
            cut = pc.index(users, users[-1]).as_py()  # the last list may go on in the next batch
            if cut:
                yield table.slice(0, cut).combine_chunks()
            carry = table.slice(cut)
    if carry is not None:
        yield carry.combine_chunks()


def list_starts(users: pa.Array[Any]) -> pa.Array[Any]:
    """Find the row at which each list begins: (n_lists,) uint64; `users` has at least one row."""
    codes = _codes(users)
    changes = pc.not_equal(codes[1:], codes[:-1])
    return pc.indices_nonzero(pa.concat_arrays([pa.array([True]), changes]))


def _codes(users: pa.Array[Any]) -> pa.Array[Any]:
    """Return what differs where users differ: numbers, where they were read as a dictionary."""
    return users.indices if isinstance(users, pa.DictionaryArray) else users


def listed_twice(table: pa.Table) -> pa.Table:
    """Find the items that one list has more than once: user_id, item_id, count_all."""
    pairs = table.select(["user_id", "item_id"]).group_by(["user_id", "item_id"], use_threads=False)
    return pairs.aggregate([([], "count_all")]).filter(pc.field("count_all") > 1)


def typed_table(table: pa.Table, columns: tuple[str, ...], where: str) -> pa.Table:
    """Put the columns in their order and give them the types of the format.

    Raises:
        DamagedReleaseError: `where` a column is missing, too many or of another type.
    """
    if set(table.column_names) != set(columns) or len(table.column_names) != len(columns):
        raise DamagedReleaseError(
            f"{where}: found columns {sorted(table.column_names)}, expected {sorted(columns)}"
        )
    types = [COLUMN_TYPES.get(name) or _id_type(table, name, where) for name in columns]
    try:
        return table.select(columns).cast(pa.schema(zip(columns, types, strict=True)))
    except pa.ArrowInvalid as error:
        raise DamagedReleaseError(f"{where}: {error}") from error


def parquet_bytes(table: pa.Table) -> pa.Buffer:
    """Return the file that holds a part or a fallback list."""
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, row_group_size=ROW_GROUP, compression="zstd",
                   dictionary_pagesize_limit=DICTIONARY_BYTES)  # fmt: skip
    return sink.getvalue()


def check_lists(table: pa.Table, where: str, k: int | None = None) -> None:
    """Check whole lists, at least one: by user, ranks 1..n, n <= k, no item twice, no holes.

    Raises:
        DamagedReleaseError: `where` which user's list is not what it must be.
    """
    _check_places(table, where, k)
    chance = table["probability"].combine_chunks()
    none, certain = pa.scalar(0, pa.float32()), pa.scalar(1, pa.float32())
    good = pc.and_(pc.greater_equal(chance, none), pc.less_equal(chance, certain))
    row = pc.index(good.fill_null(False), False).as_py()
    if row >= 0:
        raise DamagedReleaseError(
            f"{where}: user {table['user_id'][row]} has the probability {chance[row]} at rank "
            f"{table['rank'][row]}; each is a number from 0 to 1"
        )


def check_fallback(table: pa.Table, k: int | None = None) -> None:
    """Check the fallback list as a user's, but for probabilities, which it must not have.

    Raises:
        DamagedReleaseError: what is wrong with it.
    """
    if not len(table):
        raise DamagedReleaseError(
            "fallback.parquet: no item; an unknown user needs an answer, list the popular items"
        )
    name = pa.array(["(fallback)"] * len(table))
    _check_places(table.add_column(0, "user_id", name), "fallback.parquet", k)
    if table["probability"].null_count < len(table):
        raise DamagedReleaseError(
            "fallback.parquet: has probabilities, but the list for everyone is of no user; "
            "leave them null"
        )


def _check_places(table: pa.Table, where: str, k: int | None) -> None:
    """Check whole lists but for their probabilities; raises as `check_lists` does."""
    needed = [name for name in table.column_names if name != "probability"]
    holes = [name for name in needed if table[name].null_count]
    if holes or not pc.all(pc.is_finite(table["score"])).as_py():
        raise DamagedReleaseError(
            f"{where}: nulls in columns {holes} or scores that are not finite; "
            "every row needs every column (an empty string where a text is missing)"
        )
    users, ranks = table["user_id"].combine_chunks(), table["rank"].combine_chunks()
    row = pc.index(pc.less(users[1:], users[:-1]), True).as_py() + 1
    if row:
        raise DamagedReleaseError(
            f"{where}: user {users[row]} comes after user {users[row - 1]}; "
            "sort the lists by user_id and rank"
        )
    goes_on = pa.concat_arrays([pa.array([False]), pc.equal(users[1:], users[:-1])])
    above = pa.concat_arrays([pa.array([0], pa.int16()), ranks[:-1]]).cast(pa.int32())
    expected = pc.if_else(goes_on, pc.add(above, 1), 1)
    row = pc.index(pc.not_equal(ranks, expected), True).as_py()
    if row >= 0:
        raise DamagedReleaseError(
            f"{where}: user {users[row]} has rank {ranks[row]} where {expected[row]} was expected; "
            "ranks run 1..n without gaps"
        )
    if k is not None and pc.max(ranks).as_py() > k:
        raise DamagedReleaseError(f"{where}: a list has {pc.max(ranks)} items, k is {k}")
    twice = listed_twice(table)
    if len(twice):
        raise DamagedReleaseError(
            f"{where}: user {twice['user_id'][0]} has item {twice['item_id'][0]} "
            f"{twice['count_all'][0]} times; an item is listed once"
        )


def _id_type(table: pa.Table, name: str, where: str) -> pa.DataType:
    """Ids keep their kind: every integer becomes int64, every text string."""
    found = table.schema.field(name).type
    found = found.value_type if pa.types.is_dictionary(found) else found
    if pa.types.is_integer(found):
        return pa.int64()
    if pa.types.is_string(found) or pa.types.is_large_string(found):
        return pa.string()
    raise DamagedReleaseError(f"{where}: {name} is {found}; ids are strings or integers")
