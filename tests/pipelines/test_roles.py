"""Which column is which: by its name where the values allow it, by the values where they must."""

import pandas as pd
import pytest

from pipelines.roles import GUESS, LIKELY, SURE, guess_columns
from pipelines.samples import look


@pytest.fixture
def columns(tmp_path):
    """Guess the columns of one frame: {ours: (theirs, how sure)}."""

    def guess(**values):
        pd.DataFrame(values).to_csv(tmp_path / "t.csv", index=False)
        sample = look(str(tmp_path / "t.csv"))
        return {k: (one.value, one.sure) for k, one in guess_columns(sample, [sample]).items()}

    return guess


def test_a_name_counts_only_where_the_values_may_be_it(columns):
    found = columns(price=["cheap", "dear"], prix=[1.5, 2.5], date=["soon", "later"],
                    datum=["2026-01-31", "2026-02-01"], kunde=["a", "b"])  # fmt: skip
    assert found == {"price": ("prix", SURE), "timestamp": ("datum", SURE),
                     "user_id": ("kunde", SURE)}  # fmt: skip


def test_the_name_that_says_it_most_is_taken(columns):
    found = columns(kunde_alt=["a", "b"], kunde=["c", "d"], x=[1, 2])
    assert found == {"user_id": ("kunde", SURE)}
    assert columns(kunde_alt=["a", "b"], x=[1, 2]) == {"user_id": ("kunde_alt", LIKELY)}


def test_a_column_is_never_two_of_ours(columns):
    found = columns(category_name=["red things", "spades"], x=[1, 2])
    assert [theirs for theirs, _ in found.values()] == ["category_name"]


def test_an_id_beside_a_title_is_that_of_an_item(columns):
    found = columns(id=[1, 2], name=["a rose", "a spade"])
    assert found == {"item_id": ("id", LIKELY), "title": ("name", SURE)}


def test_times_without_a_name_are_a_guess(columns):
    found = columns(x=["31.01.2026", "01.02.2026"], y=["a", "b"])
    assert found == {"timestamp": ("x", GUESS)}


def test_a_written_date_is_rather_a_time_than_a_number_of_that_size(columns):
    found = columns(barcode=[4006381333900, 4006381333901], x=["31.01.2026", "01.02.2026"])
    assert found == {"timestamp": ("x", GUESS)}


def test_an_empty_column_is_nothing(columns):
    assert columns(user=[None, None], x=[1, 2]) == {}
