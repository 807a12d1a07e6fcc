"""Lists are whole and in order, or refused in words."""

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from serving.errors import DamagedReleaseError
from serving.lists import (
    LIST_COLUMNS,
    check_fallback,
    check_lists,
    iter_lists,
    list_starts,
    typed_table,
)


def rows(users, ranks, items, **changed):
    columns = {"user_id": users, "rank": ranks, "item_id": items, "score": [0.5] * len(users),
               "probability": [0.1] * len(users), "source": ["text"] * len(users),
               "reason": [""] * len(users), "drivers": [""] * len(users)}  # fmt: skip
    return pa.table(columns | changed)


def fallback(ranks, items):
    columns = rows([""] * len(ranks), ranks, items, probability=[None] * len(ranks))
    return columns.drop_columns("user_id")


@pytest.mark.parametrize("coded", [(), ("user_id", "item_id")])
def test_lists_are_never_cut(tmp_path, coded):
    path, users = tmp_path / "part.parquet", ["a"] * 5 + ["b"] + ["c"] * 4 + ["d"] * 2
    ranks = [1, 2, 3, 4, 5, 1, 1, 2, 3, 4, 1, 2]
    table = rows(users, ranks, [f"i{rank}" for rank in ranks])
    pq.write_table(table, path)
    for size in range(1, len(users) + 1):
        found = list(iter_lists(path, size, coded))
        assert pa.concat_tables(found).to_pylist() == table.to_pylist()
        assert all(found[i]["user_id"][-1] != found[i + 1]["user_id"][0]
                   for i in range(len(found) - 1))  # fmt: skip
        assert size >= len(users) or len(found) > 1


def test_a_list_starts_where_the_user_changes():
    assert list_starts(pa.array(["a", "a", "b", "c", "c"])).to_pylist() == [0, 2, 3]
    assert list_starts(pa.array(["a", "a", "b"]).dictionary_encode()).to_pylist() == [0, 2]
    assert list_starts(pa.array([7])).to_pylist() == [0]


def test_every_kind_of_integer_and_text_becomes_int64_or_string():
    users = pa.array([7], pa.uint32())
    items = pa.array(["x"], pa.large_string()).dictionary_encode()
    table = typed_table(rows(users, [1], items).select(LIST_COLUMNS[::-1]), LIST_COLUMNS, "here")
    assert table.column_names == list(LIST_COLUMNS)
    assert (table["user_id"].type, table["item_id"].type) == (pa.int64(), pa.string())


@pytest.mark.parametrize(
    ("table", "words"),
    [
        (rows(["a", "a"], [1, 3], ["x", "y"]), "rank 3 where 2 was expected"),
        (rows(["a", "b"], [1, 2], ["x", "y"]), "user b has rank 2 where 1"),
        (rows(["a"], [0], ["x"]), "rank 0 where 1"),
        (rows(["a", "a"], [1, 2], ["x", "x"]), "item x 2 times"),
        (rows(["b", "a"], [1, 1], ["x", "x"]), "user a comes after user b"),
        (rows(["a"], [1], ["x"], score=[float("nan")]), "not finite"),
        (
            rows(["a", "b"], [1, 1], ["x", "y"], probability=[0.0, None]),
            "user b has the probability None at rank 1; each is a number from 0 to 1",
        ),
        (rows(["a"], [1], ["x"], probability=[1.25]), "user a has the probability 1.25"),
        (rows(["a"], [1], ["x"], probability=[-0.5]), "probability -0.5"),
        (rows(["a"], [1], ["x"], probability=[float("nan")]), "probability nan"),
        (rows(["a"], [1], [None]), "item_id is null"),
        (rows(["a"], [1], ["x"], reason=pa.array([None], pa.string())), r"nulls in.*reason"),
        (rows(["a"], [70_000], ["x"]), "70000"),
        (rows([1.5], [1], ["x"]), "user_id is double"),
        (rows(["a"], [1], ["x"]).drop_columns("source"), "expected.*source"),
    ],
)
def test_a_table_that_is_no_list_is_refused_in_words(table, words):
    with pytest.raises(DamagedReleaseError, match=f"here: .*{words}"):
        check_lists(typed_table(table, LIST_COLUMNS, "here"), "here")


def test_no_list_is_longer_than_k():
    table = typed_table(rows(["a", "a"], [1, 2], ["x", "y"]), LIST_COLUMNS, "here")
    check_lists(table, "here", k=2)
    with pytest.raises(DamagedReleaseError, match="2 items, k is 1"):
        check_lists(table, "here", k=1)


def test_the_fallback_is_one_list_with_an_item():
    table = typed_table(fallback([1, 2], ["x", "y"]), LIST_COLUMNS[1:], "here")
    check_fallback(table)
    with pytest.raises(DamagedReleaseError, match="no item"):
        check_fallback(table.slice(0, 0))
    with pytest.raises(DamagedReleaseError, match="rank 2 where 1 was expected"):
        check_fallback(table.slice(1))


def test_the_fallback_list_is_of_no_user_and_has_no_probability():
    table = typed_table(rows(["", ""], [1, 2], ["x", "y"]), LIST_COLUMNS, "here")
    with pytest.raises(DamagedReleaseError, match="is of no user; leave them null"):
        check_fallback(table.drop_columns("user_id"))
