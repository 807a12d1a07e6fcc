"""A repetition holds if all is equal, or, elsewhere, within what a seed changes."""

from dataclasses import replace

import pytest

from pipelines.reproduce import Reproduction, numbers

EQUAL = Reproduction("a", "b", [], {"test/ndcg_at_10": (0.5, 0.5)}, 4, 0, {}, 0)
OTHER = replace(EQUAL, values={"test/ndcg_at_10": (0.5, 0.51)}, unequal=1)


@pytest.mark.parametrize(
    ("changed", "spread", "holds", "said"),
    [([], {}, False, "unknown"),
     ([], {"test/ndcg_at_10": 0.02}, False, "some by more"),
     (["code was a, is b"], {}, False, "unknown"),
     (["code was a, is b"], {"test/ndcg_at_10": 0.02}, True, "no more than seeds do"),
     (["code was a, is b"], {"test/ndcg_at_10": 0.005}, False, "some by more")],
)  # fmt: skip
def test_a_difference_is_allowed_elsewhere_and_inside_the_spread_of_seeds(
    changed, spread, holds, said
):
    one = replace(OTHER, changed=changed, spread=spread, seeds=3)
    assert one.holds is holds
    *careful, table, end = one.said()
    assert careful == [f"careful: {line}" for line in changed]
    assert table.row_count == 1 and said in end and end.startswith("1 of 4 numbers differ")


def test_equal_is_equal_wherever_it_was_trained():
    assert EQUAL.holds and replace(EQUAL, changed=["code was a, is b"]).holds
    assert EQUAL.said() == ["equal: all 4 numbers of run a came out again, in run b"]


def test_numbers_are_found_wherever_they_are_nested():
    assert numbers({"a": {"b": 1.0, "c": {"d": None}}, "e": 2}) == {"a/b": 1.0, "a/c/d": None,
                                                                    "e": 2}  # fmt: skip
