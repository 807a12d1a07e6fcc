"""A packed list back into its items: the format, and as little work for each read as can be.

A packed list is a header (flags, the scale and the base of its scores) and columns back to back,
little-endian. What many lists share (item ids, sources, drivers, the words of reasons) is in the
`Words` of the release, and a list names it by number:

    narrow  uint32 item + chance << 20 | uint16 score | uint8 tag                 7 bytes an item
    wide    uint32 item | uint16 chance | uint16 score | uint16 tag               10
    and if any item of the list has a reason: uint32 head << 24 + tail (wide: uint64, head << 32)

Ids, order, sources, drivers and reasons come back exactly. A score is rounded to a decimal place
with at least 6,553 steps between the highest and the lowest of its list; a probability is within
0.2 % of what it was, and above zero not below one in a million.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from itertools import count, repeat
from struct import Struct, calcsize
from struct import error as StructError
from typing import Any, overload

from serving.errors import ServingError
from serving.lists import ListedItem

WIDE, REASONS, NO_CHANCES = 1, 2, 4  # flags
HEADER = "Bbi"  # flags, exponent, base: a score is (base + its number) / 10**exponent
ITEM_BITS = 20  # of a narrow item's number; its chance has the other 12
NARROW = (1 << ITEM_BITS) - 1  # the highest of them
HEAD_BITS = {False: 24, True: 32}  # wide? -> where the number of a head begins
STEPS = 4095  # of a chance: 0, then equal ratios from 2**-OCTAVES to 1
OCTAVES = 20
CHANCES = (0.0, *(float(f"{2 ** ((step - STEPS) * OCTAVES / (STEPS - 1)):.5g}")
                  for step in range(1, STEPS + 1)))  # fmt: skip
AGAIN = "make a new release and publish it"
TENS = {exponent: float(f"1e{exponent}") for exponent in range(-40, 41)}


@dataclass(frozen=True)
class Words:
    """What the lists of one release name by number."""

    items: list[str] | list[int]  # ids
    sources: list[str]  # of each tag
    drivers: list[str]  # of each tag
    heads: list[str]  # a reason is a head and a tail, like "goes with " and a title
    tails: list[str]

    def as_bytes(self) -> bytes:
        """Return what `parse_words` reads."""
        return zlib.compress(json.dumps(asdict(self), ensure_ascii=False).encode(), 1)


def parse_words(found: bytes) -> Words:
    """Read the words of a release.

    Raises:
        ValueError: these are none.
    """
    try:
        return Words(**json.loads(zlib.decompress(found)))
    except (zlib.error, TypeError) as error:
        raise ValueError(f"not the words of a release: {error}") from error


def unpack(packed: bytes, words: Words, k: int | None = None) -> PackedItems:
    """Open the first `k` items of a list, or all.

    Raises:
        ServingError: this is not a list.
    """
    try:
        columns, n = _columns(packed[0], len(packed))
        return PackedItems(columns.unpack(packed), words, n, n if k is None else min(n, k))
    except (IndexError, StructError) as error:
        raise ServingError(f"a list is damaged ({error}); {AGAIN}") from error


class PackedItems(Sequence[ListedItem]):
    """The items of a list, made when they are looked at; equal to any list of the same items.

    Looking raises ServingError if the list names what the words of its release do not have.
    """

    __slots__ = ("_n", "_numbers", "_some", "_wide", "_words")

    def __init__(self, numbers: tuple[Any, ...], words: Words, n: int, some: int) -> None:
        self._numbers, self._words, self._n, self._some = numbers, words, n, some
        self._wide = numbers[0] & WIDE

    @property
    def item_ids(self) -> list[str | int]:
        """The ids alone, best first: less work than the items."""
        items, low = self._words.items, -1 if self._wide else NARROW
        try:
            return [items[number & low] for number in self._column(0)]
        except IndexError as error:
            raise ServingError(f"a list names an item that is not there; {AGAIN}") from error

    @property
    def scores(self) -> list[float]:
        """The scores alone."""
        base = self._numbers[2]
        try:
            scale = TENS[self._numbers[1]]
        except KeyError as error:
            raise ServingError(f"a list has scores of no known scale; {AGAIN}") from error
        return [(base + steps) / scale for steps in self._column(2 if self._wide else 1)]

    def __len__(self) -> int:
        return self._some

    @overload
    def __getitem__(self, index: int) -> ListedItem: ...
    @overload
    def __getitem__(self, index: slice) -> list[ListedItem]: ...
    def __getitem__(self, index: int | slice) -> ListedItem | list[ListedItem]:
        return list(self)[index]

    def __iter__(self) -> Iterator[ListedItem]:
        try:
            rows = zip(count(1), self.item_ids, self.scores, *self._others(), strict=False)
        except IndexError as error:
            raise ServingError(f"a list names a text that is not there; {AGAIN}") from error
        return map(tuple.__new__, repeat(ListedItem), rows)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sequence) and list(self) == list(other)

    def __repr__(self) -> str:
        return repr(list(self))

    def _column(self, at: int) -> tuple[int, ...]:
        """Return the numbers of one column."""
        begin = 3 + at * self._n
        return self._numbers[begin : begin + self._some]

    def _others(self) -> Iterator[Sequence[Any]]:
        """Yield probabilities, sources, reasons and drivers."""
        words, flags, wide = self._words, self._numbers[0], self._wide
        if flags & NO_CHANCES:
            yield [None] * self._some
        else:
            steps = self._column(1) if wide else [both >> ITEM_BITS for both in self._column(0)]
            yield [CHANCES[step] for step in steps]
        tags = self._column(3 if wide else 2)
        yield [words.sources[tag] for tag in tags]
        if flags & REASONS:
            bits = HEAD_BITS[bool(wide)]
            low = (1 << bits) - 1
            yield [words.heads[both >> bits] + words.tails[both & low]
                   for both in self._column(4 if wide else 3)]  # fmt: skip
        else:
            yield [""] * self._some
        yield [words.drivers[tag] for tag in tags]


@lru_cache(maxsize=4096)
def _columns(flags: int, n_bytes: int) -> tuple[Struct, int]:
    """Return the columns of a list of that many bytes, and how many items it has."""
    kinds = "IHHH" if flags & WIDE else "IHB"
    if flags & REASONS:
        kinds += "Q" if flags & WIDE else "I"
    n = (n_bytes - calcsize("<" + HEADER)) // calcsize("<" + kinds)
    return Struct("<" + HEADER + "".join(f"{n}{kind}" for kind in kinds)), n
