"""A release is compared with what the store answers, user by user, on every n-th list."""

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving.comparison import compare, overlap, sample
from serving.publish import publish
from serving.stores import open_reader


def rows(lists):
    pairs = [(user, item) for user, items in lists.items() for item in items]
    users, items = zip(*pairs, strict=True) if pairs else ((), ())
    return pa.table({"user_id": pa.array(users, pa.string()),
                     "item_id": pa.array(items, pa.string())})  # fmt: skip


def test_overlap_is_the_share_of_the_longer_list_over_users_in_both():
    ours = rows({"a": ["x", "y"], "b": ["x"], "c": ["x"], "only here": ["x"]})
    theirs = rows({"a": ["y", "x"], "b": ["x", "y", "z", "w"], "c": ["y"], "only there": ["x"]})
    assert overlap(ours, theirs) == pytest.approx((2 / 2 + 1 / 4 + 0 / 1) / 3)
    assert overlap(ours, rows({"only there": ["x"]})) == 0


LISTS = st.dictionaries(st.sampled_from("abcdef"),
                        st.lists(st.sampled_from("uvwxyz"), min_size=1, unique=True))  # fmt: skip


@given(LISTS, LISTS)
def test_overlap_is_the_same_one_user_at_a_time(ours, theirs):
    both = ours.keys() & theirs.keys()
    shares = [len(set(ours[user]) & set(theirs[user])) / max(len(ours[user]), len(theirs[user]))
              for user in both]  # fmt: skip
    expected = sum(shares) / len(shares) if shares else 0
    assert overlap(rows(ours), rows(theirs)) == pytest.approx(expected)


@pytest.mark.parametrize("most", [1, 2, 3, 7, 20, 100])
def test_every_nth_list_is_taken_wherever_parts_end(sealed, most):
    users = [f"u{user:02}" for user in range(20)]
    folder = sealed("r1", {user: [f"i{at}" for at in range(12)] for user in users}, parts=3)
    found = pa.concat_tables(list(sample(folder, 20, most)))
    in_order = [user for part in range(3) for user in users[part::3]]
    step = -(-20 // most)
    assert found["user_id"].unique().to_pylist() == in_order[step // 2 :: step]
    assert len(found) == 10 * len(found["user_id"].unique()) <= 10 * most


def test_numbers_and_texts_of_ids_are_the_same_user_and_item(sealed, store):
    lists = {7: [1, 2, 3], 8: [2], 9: [1]}
    publish(sealed("r1", lists, fallback=[9]), store)
    with open_reader(store) as reader:
        new = sealed("r2", {7: [3, 4], 8: [2], 10: [1]}, fallback=[9])
        found = compare(new, 3, reader, most_users=10)
    assert found.current.release_id == "r1"
    assert (found.sampled, found.both) == (3, 2)
    assert found.overlap == pytest.approx((1 / 3 + 1) / 2)


def test_nothing_published_is_nothing_to_compare_with(sealed, store):
    with open_reader(store) as reader:
        assert compare(sealed("r1"), 3, reader, 10) == "first publish, nothing to compare with"
