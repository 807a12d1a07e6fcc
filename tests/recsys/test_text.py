"""Text is cleaned and nothing else, and the catalogue has every column."""

import pyarrow as pa
import pytest

from recsys.text import check_items, clean_items, clean_list, clean_text, join_text


def cleaned(text, how=clean_text):
    return how(pa.array([text], pa.string()))[0].as_py()


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (None, ""),
        ("  a \n\t b\u00a0c\u200b ", "a b c"),
        ("<p>One<br/>two</p><!-- no -->", "One two"),
        ("R&amp;D &lt;b&gt;bold&lt;/b&gt;", "R&D bold"),
        ("R&amp;amp;D", "R&D"),
        ("5 < 6 and 7 > 2", "5 < 6 and 7 > 2"),
        ("crème brûlée 日本語", "crème brûlée 日本語"),
    ],
)
def test_text_is_cleaned_and_nothing_else(given, expected):
    assert cleaned(given) == expected


@pytest.mark.parametrize("given", ["a|b|c", "a,b,c", "a, b , c", "a||b|c"])
def test_lists_of_values_look_the_same(given):
    assert cleaned(given, clean_list) == "a, b, c"


def test_empty_fields_leave_no_trace_in_the_text():
    title, brand, words = (clean_text(pa.array(x)) for x in (["T", ""], ["", ""], ["It is.", ""]))
    assert join_text([title, brand, words]).to_pylist() == ["T. It is", ""]
    assert join_text([words, title]).to_pylist() == ["It is. T", ""]


def test_the_catalogue_has_every_column_whatever_was_given():
    table = pa.table({"item_id": [1], "title": ["<b>T</b>"], "brand": [""], "available_from": [60]})
    [row] = clean_items(table, [clean_text(table["title"])]).to_pylist()
    assert (row["title"], row["text"], row["brand"], row["price"]) == ("T", "T", None, None)
    assert row["available_from"].timestamp() == 60e-6
    assert row["available_until"] is None


def test_what_is_wrong_with_a_catalogue_is_counted():
    table = pa.table({"item_id": [7, 7, None], "title": ["a", "b", ""]})
    faults = check_items(clean_items(table, [clean_text(table["title"])]))
    assert [(fault.kind, fault.rows, fault.example) for fault in faults] == [
        ("has other contents for the same id", 1, "7"),
        ("has fewer than 2 different ids", 0, "1 found"),
        ("has no text", 1, "None"),
    ]
