"""Lists as few bytes: whole tables of them at a time, in the format of `serving.unpacking`.

Ids and texts are numbered in the order they are met, so that one pass packs a release.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import accumulate
from pathlib import Path
from typing import Any, TypeVar

import pyarrow as pa
import pyarrow.compute
import pyarrow.parquet as pq

from serving.lists import iter_lists, list_starts
from serving.manifest import Manifest
from serving.unpacking import (
    HEAD_BITS,
    ITEM_BITS,
    NO_CHANCES,
    OCTAVES,
    REASONS,
    STEPS,
    TENS,
    WIDE,
    Words,
)

ROWS = 1 << 19  # that are packed at a time
CODED = ("user_id", "item_id", "source", "reason", "drivers")  # texts that repeat
COLUMNS = [*CODED, "score", "probability"]
FALLBACK = "fallback.parquet"
SPAN = 65_534  # steps of a score in its list; rounding its two ends may add one
MOST = 2**31 - 2  # of the base of a list's scores
LOOKED_AT = 10_000  # distinct reasons that are asked how they begin
ALIKE = 100  # so many must begin alike to share a head
MOST_HEADS = 255
Made = TypeVar("Made")
Column = Any  # a pa.Array; typed, it could not be told from its dictionary
pc: Any = pyarrow.compute  # its stubs know no plain numbers among the arguments


def packed_lists(
    packer: Packer, release_folder: Path, manifest: Manifest
) -> Iterator[tuple[list[str], list[bytes]]]:
    """Yield users' keys and their packed lists, batch after batch.

    Meanwhile the next batch is packed, and the one after that is read.
    """
    parts = [release_folder / one.path for one in manifest.files if one.path != FALLBACK]
    tables = _ahead(table for part in parts for table in iter_lists(part, ROWS, CODED, COLUMNS))
    yield from _ahead(_packed(packer, table) for table in tables)


def packed_fallback(packer: Packer, release_folder: Path) -> bytes:
    """Pack the list for everyone."""
    [packed] = packer.pack(pq.read_table(release_folder / FALLBACK)).to_pylist()
    return bytes(packed)


def _ahead(made: Iterator[Made]) -> Iterator[Made]:
    """Yield what an iterator makes; a thread of its own makes the next one meanwhile."""
    with ThreadPoolExecutor(1) as thread:
        waiting = thread.submit(next, made, None)
        while (one := waiting.result()) is not None:
            waiting = thread.submit(next, made, None)
            yield one


def _packed(packer: Packer, table: pa.Table) -> tuple[list[str], list[bytes]]:
    users: Column = table["user_id"].combine_chunks()
    offsets = list_offsets(users)
    keys = users.take(offsets[:-1]).cast(pa.string())
    return keys.to_pylist(), packer.pack(table, offsets).to_pylist()


class Packer:
    """Packs the lists of one release, table after table; its words are whole after the last."""

    def __init__(
        self,
        narrow_items: int = 1 << ITEM_BITS,
        narrow_tags: int = 1 << 8,
        narrow_tails: int = 1 << HEAD_BITS[False],
    ) -> None:
        """Begin without words; a list is wide from the moment that there are more than these."""
        self._narrow = (narrow_items, narrow_tags, narrow_tails)
        self._items, self._tags, self._tails = Numbered(), Numbered(), Numbered()
        self._sources, self._drivers = Numbered(), Numbered()
        self._heads: list[str] | None = None

    def pack(self, table: pa.Table, offsets: Column | None = None) -> Column:
        """Pack whole lists: (n_lists,) binary, in their order.

        Args:
            table: `serving.lists.LIST_COLUMNS`.
            offsets: `list_offsets`; None = the table is one list.
        """
        column = {name: table[name].combine_chunks() for name in table.column_names}
        if offsets is None:
            offsets = pa.array([0, len(table)], pa.int32())
        items = self._items.numbers(column["item_id"]).cast(pa.uint32())
        tags = self._tag(column["source"], column["drivers"])
        reasons = self._reason(column["reason"])
        sizes = (len(self._items), len(self._tags), len(self._tails))
        wide = any(size > narrow for size, narrow in zip(sizes, self._narrow, strict=True))
        flags = WIDE * wide
        chances = chance_steps(column["probability"])
        if column["probability"].null_count:
            flags |= NO_CHANCES
        exponent, base, scores = scaled(column["score"], offsets)
        if wide:
            parts = [items, chances.cast(pa.uint16()), scores, tags.cast(pa.uint16())]
        else:
            parts = [_beside(chances, ITEM_BITS, items), scores, tags.cast(pa.uint8())]
        if reasons:
            flags |= REASONS
            heads, tails = reasons
            kind = pa.uint64() if wide else pa.uint32()
            parts.append(_beside(heads.cast(kind), HEAD_BITS[wide], tails.cast(kind)))
        return _joined(flags, exponent, base, parts, offsets)

    def words(self) -> Words:
        """Return what the lists packed so far name by number."""
        sources, drivers = self._sources.values(), self._drivers.values()
        pairs = [divmod(tag, 1 << 32) for tag in self._tags.values()]
        return Words(
            items=self._items.values(),
            sources=[sources[source] for source, _ in pairs],
            drivers=[drivers[driver] for _, driver in pairs],
            heads=self._heads or [],
            tails=self._tails.values(),
        )

    def _tag(self, source: Column, drivers: Column) -> Column:
        """Number the pair of source and drivers of each row: (n_rows,) int32."""
        first = self._sources.numbers(source).cast(pa.int64())
        second = self._drivers.numbers(drivers).cast(pa.int64())
        return self._tags.numbers(_beside(first, 32, second))

    def _reason(self, reason: Column) -> tuple[Column, Column] | None:
        """Number head and tail of each row's reason; None if no row has one."""
        coded = reason if pa.types.is_dictionary(reason.type) else reason.dictionary_encode()
        distinct = coded.dictionary
        if not pc.max(pc.binary_length(distinct)).as_py():
            return None
        if self._heads is None:
            self._heads = heads_of(distinct[:LOOKED_AT].to_pylist())
        cut = pc.extract_regex(distinct, _cutting(self._heads))
        heads = pc.index_in(cut.field("head"), value_set=pa.array(self._heads, pa.string()))
        tails = self._tails.numbers(cut.field("tail"))
        return heads.take(coded.indices), tails.take(coded.indices)


class Numbered:
    """Distinct values, each with a number: how many there were before it."""

    def __init__(self) -> None:
        self._values: Column | None = None

    def __len__(self) -> int:
        return 0 if self._values is None else len(self._values)

    def numbers(self, column: Column) -> Column:
        """Return the number of each row's value: (n_rows,) int32; new values get new numbers."""
        if pa.types.is_dictionary(column.type):
            return self.numbers(column.dictionary).take(column.indices)
        known = column[:0] if self._values is None else self._values
        found = pc.index_in(column, value_set=known)
        if self._values is None or found.null_count:
            new = pc.unique(column.filter(pc.is_null(found)))
            self._values = pa.concat_arrays([known, new])
            found = pc.index_in(column, value_set=self._values)
        return found

    def values(self) -> list[Any]:
        """Return the values in the order of their numbers."""
        return [] if self._values is None else self._values.to_pylist()


def list_offsets(users: Column) -> Column:
    """Find where each list begins and the last one ends: (n_lists + 1,) int32."""
    starts = list_starts(users).cast(pa.int32())
    return pa.concat_arrays([starts, pa.array([len(users)], pa.int32())])


def heads_of(reasons: list[str]) -> list[str]:
    """Find how reasons begin: the whole words that many share; longest first, the last is ""."""
    shared = Counter(
        head for reason in reasons for head in accumulate(re.findall(r"\S*\s+", reason)[:8])
    )
    heads = [head for head, n in shared.most_common(MOST_HEADS) if n >= ALIKE]
    return [*sorted(heads, key=lambda head: (-len(head), head)), ""]


def scaled(score: Column, offsets: Column) -> tuple[Column, Column, Column]:
    """Write the scores of each list as whole steps above its lowest.

    The step is the smallest power of ten with which the list fits, both its span into 16 bits and
    its lowest score into 32.

    Returns:
        (n_lists,) int8 exponent, (n_lists,) int32 base, (n_rows,) uint16 steps: a score is
        (base + steps) / 10**exponent.
    """
    lists = pc.list_parent_indices(pa.ListArray.from_arrays(offsets, score))
    score = score.cast(pa.float64())
    ends = pa.table({"list": lists, "score": score}).group_by("list", use_threads=False)
    found = ends.aggregate([("score", "min"), ("score", "max")])
    low, high = (found[f"score_{end}"].combine_chunks() for end in ("min", "max"))
    largest = pc.max_element_wise(pc.abs(low), pc.abs(high))
    fits = [pc.log10(pc.divide(float(most), size))
            for most, size in ((SPAN, pc.subtract(high, low)), (MOST, largest))]  # fmt: skip
    limits = min(TENS), max(TENS)
    exponent = pc.floor(pc.min_element_wise(*fits, float(limits[1])))
    exponent = pc.max_element_wise(exponent, float(limits[0])).cast(pa.int8())
    powers = pa.array([TENS[power] for power in sorted(TENS)])
    scale = powers.take(pc.subtract(exponent.cast(pa.int32()), limits[0]))
    base = pc.round(pc.multiply(low, scale))
    steps = pc.subtract(pc.round(pc.multiply(score, scale.take(lists))), base.take(lists))
    return exponent, base.cast(pa.int32()), steps.cast(pa.uint16())


def chance_steps(probability: Column) -> Column:
    """Write probabilities as steps of equal ratio: (n_rows,) uint32; null and 0 are 0."""
    known = probability.fill_null(0.0).cast(pa.float64())
    steps = pc.add(pc.multiply(pc.log2(known), (STEPS - 1) / OCTAVES), float(STEPS))
    above = pc.max_element_wise(pc.round(steps), 1.0)
    return pc.if_else(pc.equal(known, 0.0), 0.0, above).cast(pa.uint32())


def _beside(high: Column, bits: int, low: Column) -> Column:
    """Put two numbers into one."""
    return pc.bit_wise_or(pc.shift_left(high, pa.scalar(bits, high.type)), low)


def _cutting(heads: list[str]) -> str:
    """Return the pattern that cuts a reason behind the first of these heads that fits."""
    return f"(?s)^(?P<head>{'|'.join(map(re.escape, heads))})(?P<tail>.*)$"


def _joined(
    flags: int, exponent: Column, base: Column, parts: list[Column], offsets: Column
) -> Column:
    """Lay header and columns of each list back to back: (n_lists,) binary."""
    each = pa.array(range(len(exponent) + 1), pa.int32())
    pieces = [
        _pieces(exponent, each),
        _pieces(base, each),
        *(_pieces(part, offsets) for part in parts),
    ]
    return pc.binary_join_element_wise(bytes([flags]), *pieces, b"")


def _pieces(column: Column, offsets: Column) -> Column:
    """Cut the bytes of a column of numbers at some rows: (n_lists,) binary, without a copy."""
    width = column.type.bit_width // 8
    bounds = pc.multiply(offsets, pa.scalar(width, pa.int32()))
    assert not column.offset and not column.null_count and not bounds.offset
    buffers = [None, bounds.buffers()[1], column.buffers()[1]]
    return pa.Array.from_buffers(pa.binary(), len(bounds) - 1, buffers)
