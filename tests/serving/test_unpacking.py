"""Bytes of a list are that list, or damaged and said to be; never anything else."""

import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving.errors import ServingError
from serving.lists import ListedItem
from serving.unpacking import Words, parse_words, unpack

WORDS = Words(["i1", "i2"], ["text", "ease"], ["item", ""], ["goes with ", ""], ["a rose"])
# flags 2 (reasons), one decimal place, base -5; items 1 and 0; steps 15 and 0; tags 1 and 0
LIST = bytes.fromhex("02 01 fbffffff 0100f0ff 00000000 0f00 0000 01 00 00000000 00000001")
ITEMS = [
    ListedItem(1, "i2", 1.0, 1.0, "ease", "goes with a rose", ""),
    ListedItem(2, "i1", -0.5, 0.0, "text", "a rose", "item"),
]


def test_a_list_is_read_as_the_format_says():
    found = unpack(LIST, WORDS)
    assert found == ITEMS and list(found) == ITEMS and repr(found) == repr(ITEMS)
    assert (found.item_ids, found.scores) == (["i2", "i1"], [1.0, -0.5])
    assert found[1] == ITEMS[1] and found[:1] == ITEMS[:1] and len(found) == 2
    assert found != ITEMS[:1] and found != 7


@pytest.mark.parametrize("k", [0, 1, 2, 3, None])
def test_k_cuts_a_list(k):
    found = unpack(LIST, WORDS, k)
    assert list(found) == ITEMS[:k] and found.item_ids == [item.item_id for item in ITEMS[:k]]


def test_words_come_back_and_anything_else_is_refused():
    assert parse_words(WORDS.as_bytes()) == WORDS
    for damaged in (b"", b"{}", zlib.compress(b"{}"), zlib.compress(b"{"), zlib.compress(b"[1]")):
        with pytest.raises(ValueError, match="words|Expecting"):
            parse_words(damaged)


CHANGES = st.tuples(st.integers(0, len(LIST) - 1), st.binary(min_size=1, max_size=1))


@given(
    st.binary(max_size=60)
    | st.integers(0, len(LIST)).map(lambda cut: LIST[:cut])
    | CHANGES.map(lambda change: LIST[: change[0]] + change[1] + LIST[change[0] + 1 :])
)
def test_any_bytes_are_a_list_or_said_to_be_damaged(packed):
    try:
        found = list(unpack(packed, WORDS))
    except ServingError:
        return
    assert all(item.item_id in WORDS.items for item in found)
