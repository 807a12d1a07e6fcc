"""What is counted in a release's files is what is in them, however they are cut."""

from collections import Counter

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recsys import exposure
from serving import statistics
from serving.errors import DamagedReleaseError
from serving.inspection import inspect
from serving.release import content_fingerprint, open_release, part_path
from serving.statistics import Offer, Statistics, Top, gini

LISTS = {"a": ["x", "y"], "b": ["y"], "c": ["z", "y", "x"], "d": ["y"]}
CATALOGUE = pa.table({
    "item_id": ["w", "x", "y", "z"],
    "category": pa.array(["toys", "toys", "books", None]),
    "available": [True, True, False, True],
})  # fmt: skip


def test_lists_are_counted_by_length_source_and_item(unsealed, seal_lists):
    folder = unsealed(lists=LISTS, fallback=["x", "y", "q"], parts=3)
    seal_lists(folder, catalogue=CATALOGUE)
    found = open_release(folder).statistics
    offer = Offer(
        items=3,  # w, x and z
        categories=2,
        unavailable_rows=4 + 1 + 1,  # y in four lists and the fallback list; nobody knows q
        top_category=Top(name="books", rows=4),
        top_category_items=0,  # y is its only item, and not on offer
    )
    assert found == Statistics(
        lengths={1: 2, 2: 1, 3: 1},
        duplicates=0,
        sources={"text": 7},
        top_item=Top(name="y", rows=4),
        exposure_gini=gini(pa.chunked_array([[2, 4, 1]]), 3),
        mean_score=found.mean_score,
        fingerprint=content_fingerprint(open_release(folder).files),
        offer=offer,
    )
    scores = [1, 1 / 2, 1, 1, 1 / 2, 1 / 3, 1]  # of rank r: 1 / r
    assert found.mean_score == pytest.approx(sum(scores) / 7)
    assert (found.lists, found.rows) == (4, 7)
    assert [found.short(items) for items in (1, 2, 3, 4)] == [0, 2, 3, 4]


def test_of_equals_the_first_by_name_is_on_top(sealed):
    assert open_release(sealed(lists={"a": ["z"], "b": ["x"]})).statistics.top_item.name == "x"


def test_without_a_catalogue_nothing_is_said_of_the_offer(sealed):
    assert open_release(sealed()).statistics.offer is None


def test_a_release_of_nobodys_lists_has_statistics(unsealed, seal_lists):
    folder = unsealed(parts=1)
    part = part_path(folder, 0)
    pq.write_table(pq.read_table(part).slice(0, 0), part)
    seal_lists(folder, catalogue=CATALOGUE)
    found = open_release(folder).statistics
    assert (found.lists, found.top_item, found.offer.top_category) == (0, None, None)


def test_gini_is_zero_of_equals_and_one_of_a_single_item():
    assert gini(pa.chunked_array([[3, 3, 3, 3]]), 4) == pytest.approx(0)
    assert gini(pa.chunked_array([[7]]), 10) == pytest.approx(1)
    assert gini(pa.chunked_array([pa.array([], pa.int64())]), 1) == 0


@given(st.lists(st.integers(1, 50), min_size=1, max_size=20), st.integers(0, 20))
def test_gini_is_the_same_as_in_an_evaluation(counts, zeros):
    all_ = [0] * zeros + counts
    expected = exposure.gini(np.array(all_)) if len(all_) > 1 else 0
    assert gini(pa.chunked_array([counts]), len(all_)) == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("rows", [1, 2, 1000])
def test_adding_up_early_or_late_counts_the_same(unsealed, monkeypatch, rows):
    folder = unsealed(lists=LISTS, parts=3)
    parts = [part_path(folder, index) for index in range(3)]
    monkeypatch.setattr(statistics, "MERGE_ROWS", rows)
    found = statistics.survey(folder, parts, k=20)
    items = dict(zip(found.items["value"].to_pylist(), found.items["n"].to_pylist(), strict=True))
    assert items == Counter(item for items in LISTS.values() for item in items)
    assert found.counts.users == 4 and found.faults == ()


def test_duplicates_are_a_fault_and_still_counted(sealed, break_part):
    folder = sealed(lists=LISTS, parts=1)
    items = pa.array(["x", "x", "y", "z", "z", "z", "y"])
    break_part(folder, lambda table: table.set_column(2, "item_id", items))
    found = inspect(folder)
    assert found.statistics.duplicates == 1 + 2
    assert "user a has item x 2 times" in found.faults[0]


def test_statistics_that_are_not_those_of_the_files_are_a_fault(sealed):
    folder = sealed()
    path = folder / "manifest.json"
    path.write_text(path.read_text().replace('"text": 6', '"text": 5'))
    [fault] = inspect(folder).faults
    assert "found other sources than the statistics" in fault


def test_a_part_that_is_no_parquet_is_refused(sealed):
    folder = sealed()
    part_path(folder, 0).write_bytes(b"PAR1")
    with pytest.raises(DamagedReleaseError, match="cannot be read as Parquet"):
        statistics.survey(folder, [part_path(folder, 0)], k=20)
    found = inspect(folder)
    assert found.statistics is None and len(found.faults) == 2  # its bytes, and that
