"""A packed list comes back: ids, order and words as they were, numbers as near as is said."""

import math
from itertools import pairwise

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving.lists import COLUMN_TYPES
from serving.packing import ALIKE, Numbered, Packer, heads_of, list_offsets
from serving.unpacking import CHANCES, unpack

LEAST = CHANCES[1]
FLOATS = st.floats(width=32, allow_nan=False, allow_infinity=False)
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=5)
ROWS = st.lists(
    st.tuples(FLOATS, st.floats(0, 1, width=32), TEXTS, TEXTS, TEXTS), min_size=1, max_size=6
)


def table_of(lists, items=None):
    """Rows of {user: [(score, probability, source, reason, drivers)]}; items count up from 0."""
    rows = [(user, rank, f"i{rank}", *row) for user in sorted(lists)
            for rank, row in enumerate(lists[user], start=1)]  # fmt: skip
    names = ("user_id", "rank", "item_id", "score", "probability", "source", "reason", "drivers")
    types = {"user_id": pa.string(), "item_id": pa.string()} | COLUMN_TYPES
    columns = list(zip(*rows, strict=True))
    return pa.table({name: pa.array(column, types[name])
                     for name, column in zip(names, columns, strict=True)})  # fmt: skip


def near(found, score, lowest, highest):
    """Say whether a score is as near as `serving.unpacking` says."""
    step = max((highest - lowest) / 6_553, max(abs(lowest), abs(highest)) * 1e-8, 1e-39)
    return abs(found - score) <= step


@pytest.mark.parametrize("narrow", [(1 << 20, 256, 1 << 24), (0, 256, 1), (1, 0, 1)])
@given(lists=st.dictionaries(TEXTS, ROWS, min_size=1, max_size=3))
def test_lists_come_back(narrow, lists):
    packer = Packer(*narrow)
    table = table_of(lists)
    packed = packer.pack(table, list_offsets(table["user_id"].combine_chunks())).to_pylist()
    words = packer.words()
    for user, one in zip(sorted(lists), packed, strict=True):
        rows, found = lists[user], unpack(one, words)
        scores = [score for score, *_ in rows]
        assert [item[0] for item in found] == list(range(1, len(rows) + 1))
        assert (
            found.item_ids
            == [item.item_id for item in found]
            == [f"i{rank}" for rank in range(1, len(rows) + 1)]
        )
        assert [item[-3:] for item in found] == [row[-3:] for row in rows]
        assert found.scores == [item.score for item in found]
        for item, (score, chance, *_) in zip(found, rows, strict=True):
            assert near(item.score, score, min(scores), max(scores))
            assert item.probability == (0 if chance == 0 else pytest.approx(
                max(chance, LEAST), rel=0.002))  # fmt: skip
        ranked = sorted(range(len(rows)), key=lambda at: scores[at])
        assert all(found.scores[a] <= found.scores[b]
                   for a, b in pairwise(ranked))  # fmt: skip


def test_probabilities_are_within_a_five_hundredth_and_both_ends_exact():
    chances = [0.0, 1.0, *(10 ** (-exponent / 50) for exponent in range(1, 301))]
    packer = Packer()
    rows = [(1.0, chance, "", "", "") for chance in chances]
    [packed] = packer.pack(table_of({"ann": rows})).to_pylist()
    found = [item.probability for item in unpack(packed, packer.words())]
    assert found[:2] == [0.0, 1.0] and len(found) == 302
    assert found[2:] == pytest.approx(chances[2:], rel=0.002)
    assert math.isclose(LEAST, 2**-20, rel_tol=1e-4)


def test_a_list_of_50_without_reasons_takes_356_bytes_and_wide_506():
    rows = [(float(50 - at), 0.5, "interest", "", "text") for at in range(50)]
    for packer, size in ((Packer(), 6 + 50 * 7), (Packer(narrow_items=0), 6 + 50 * 10)):
        [packed] = packer.pack(table_of({"ann": rows})).to_pylist()
        assert len(packed) == size


def test_a_list_turns_wide_when_there_are_too_many_items():
    packer = Packer(narrow_items=2)
    short = table_of({"ann": [(1.0, 0.5, "s", "r", "d")] * 2})
    long = table_of({"ann": [(1.0, 0.5, "s", "r", "d")] * 3})
    packed = [packer.pack(table).to_pylist()[0] for table in (short, long)]
    assert [len(one) for one in packed] == [6 + 2 * (7 + 4), 6 + 3 * (10 + 8)]
    assert [unpack(one, packer.words()).item_ids for one in packed] == [
        ["i1", "i2"], ["i1", "i2", "i3"],
    ]  # fmt: skip


def test_equal_scores_stay_as_exact_as_they_were():
    rows = [(1 / 3, 0.5, "", "", "")] * 2
    packer = Packer()
    [packed] = packer.pack(table_of({"ann": rows})).to_pylist()
    assert unpack(packed, packer.words()).scores == pytest.approx([1 / 3, 1 / 3], rel=1e-7)


def test_reasons_share_their_heads_and_titles():
    titles = [f"{colour} {at}" for at in range(ALIKE) for colour in ("red", "blue")]
    reasons = [f"{head}{title}" for head in ("goes with ", "reads like: ") for title in titles]
    heads = heads_of(reasons)
    assert {"goes with ", "reads like: ", "goes with red ", ""} <= set(heads) and heads[-1] == ""
    assert [len(head) for head in heads] == sorted(map(len, heads), reverse=True)
    packer = Packer()
    rows = [(1.0, 0.5, "s", reason, "d") for reason in reasons]
    [packed] = packer.pack(table_of({"ann": rows})).to_pylist()
    words = packer.words()
    assert [item.reason for item in unpack(packed, words)] == reasons
    assert len(words.tails) < len(set(reasons)) / 2


def test_values_keep_the_number_they_got_first():
    numbered = Numbered()
    assert numbered.numbers(pa.array(["b", "a", "b"])).to_pylist() == [0, 1, 0]
    again = pa.array(["c", "b"]).dictionary_encode()
    assert numbered.numbers(again).to_pylist() == [2, 0]
    assert numbered.values() == ["b", "a", "c"] and len(numbered) == 3
    assert len(Numbered()) == 0 and Numbered().values() == []
