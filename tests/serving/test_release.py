"""A finished release holds exactly what was written, and anything else is refused in words."""

import pyarrow as pa
import pytest

from serving.errors import DamagedReleaseError, ServingError, UnfinishedReleaseError
from serving.inspection import verify
from serving.lists import Counts
from serving.manifest import Model
from serving.release import (
    new_release_id,
    open_release,
    part_path,
    seal,
    write_fallback,
    write_part,
)

LINEAGE = {
    "created_at": "2026-08-20T03:00:00Z", "as_of": "2026-08-20T00:00:00Z",
    "model": Model(name="recsys", version="3", uri="models:/recsys/3", run_id="r1"),
    "data_fingerprint": "data", "config_fingerprint": "config", "code_commit": "482d2c3",
    "k": 3, "metrics": {"test/ndcg_at_10": 0.0709},
}  # fmt: skip


def rows(users, ranks, items, **changed):
    columns = {"user_id": users, "rank": ranks, "item_id": items, "score": [0.5] * len(users),
               "probability": [0.1] * len(users), "source": ["text"] * len(users),
               "reason": [""] * len(users), "drivers": [""] * len(users)}  # fmt: skip
    return pa.table(columns | changed)


def fallback(ranks, items):
    columns = rows([""] * len(ranks), ranks, items, probability=[None] * len(ranks))
    return columns.drop_columns("user_id")


def test_release_ids_sort_by_as_of_then_by_creation_and_are_safe_names():
    late, later = "2026-08-21T03:00:00Z", "2026-08-21T04:00:00+00:00"
    ids = [new_release_id(as_of, created) for as_of, created in
           [("2026-08-19T00:00:00Z", later), ("2026-08-20T00:00:00Z", late),
            ("2026-08-20T00:00:00Z", later)]]  # fmt: skip
    assert ids == sorted(ids) and len(set(ids)) == 3
    assert ids[0] == "20260819T000000Z-20260821T040000Z"


@pytest.mark.parametrize("as_of", ["yesterday", "2026-08-20", "2026-08-20T00:00:00+02:00"])
def test_a_moment_that_is_not_utc_is_refused(as_of):
    with pytest.raises(ServingError, match="release id"):
        new_release_id(as_of, "2026-08-20T03:00:00Z")


def test_manifest_counts_what_was_written(unsealed):
    folder = unsealed(lists={"a": ["x", "y"], "b": ["y"], "c": ["z", "y", "x"]})
    manifest = seal(folder, **LINEAGE)
    assert manifest.counts == Counts(users=3, rows=2 + 1 + 3, items_listed=len({"x", "y", "z"}))
    assert {entry.path for entry in manifest.files} == {
        "fallback.parquet", "lists/part-00000.parquet", "lists/part-00001.parquet",
    }  # fmt: skip
    assert open_release(folder) == verify(folder) == manifest


def test_a_part_that_breaks_the_format_is_refused_when_written(tmp_path):
    with pytest.raises(DamagedReleaseError, match="part-00000.*rank 3 where 2 was expected"):
        write_part(tmp_path, 0, rows(["a", "a"], [1, 3], ["x", "y"]))
    assert not list(tmp_path.rglob("*.parquet*"))


def test_a_part_without_users_is_a_part(tmp_path):
    write_part(tmp_path, 0, rows(["a"], [1], ["x"]))
    write_part(tmp_path, 1, rows(["a"], [1], ["x"]).slice(0, 0))
    write_fallback(tmp_path, fallback([1], ["x"]))
    assert seal(tmp_path, **LINEAGE).counts.users == 1


def test_no_fallback_means_no_release(unsealed):
    folder = unsealed()
    (folder / "fallback.parquet").unlink()
    with pytest.raises(DamagedReleaseError, match=r"fallback\.parquet.*not there"):
        seal(folder, **LINEAGE)
    with pytest.raises(DamagedReleaseError, match="no item"):
        write_fallback(folder, fallback([1], ["x"]).slice(0, 0))


def test_a_hole_between_parts_is_found(unsealed):
    folder = unsealed(parts=3)
    part_path(folder, 1).unlink()
    with pytest.raises(DamagedReleaseError, match=r"part-00001.*not there"):
        seal(folder, **LINEAGE)


def test_no_part_at_all_is_no_release(unsealed):
    with pytest.raises(DamagedReleaseError, match="part-00000"):
        seal(unsealed(parts=0), **LINEAGE)


def test_parts_of_different_types_are_refused(unsealed):
    folder = unsealed(parts=1)
    write_part(folder, 1, rows([7], [1], ["i1"]))
    with pytest.raises(DamagedReleaseError, match=r"part-00001.*int64.*as in the first part"):
        seal(folder, **LINEAGE)
    write_part(folder, 1, rows(["z"], [1], ["i1"]))
    write_fallback(folder, fallback([1], [5]))
    with pytest.raises(DamagedReleaseError, match="fallback"):
        seal(folder, **LINEAGE)


def test_a_list_longer_than_k_is_refused(unsealed):
    with pytest.raises(DamagedReleaseError, match="3 items, k is 2"):
        seal(unsealed(lists={"a": ["x", "y", "z"]}), **LINEAGE | {"k": 2})


@pytest.mark.parametrize(
    ("field", "value"),
    [("as_of", "today"), ("k", 0), ("metrics", {"test/ndcg_at_10": float("nan")})],
)
def test_a_wrong_field_is_named(unsealed, field, value):
    folder = unsealed(lists={"a": ["x"]}, fallback=["x"])
    with pytest.raises(ServingError, match=field if field != "k" else "k is 0"):
        seal(folder, **LINEAGE | {field: value})
    assert not (folder / "manifest.json").exists()


def test_a_sealed_release_never_changes(sealed):
    folder = sealed()
    for change in (
        lambda: write_part(folder, 0, rows(["a"], [1], ["x"])),
        lambda: write_fallback(folder, fallback([1], ["x"])),
        lambda: seal(folder, **LINEAGE),
    ):
        with pytest.raises(ServingError, match="sealed"):
            change()
    verify(folder)


def test_an_unsealed_release_is_unfinished(unsealed):
    with pytest.raises(UnfinishedReleaseError, match=r"no manifest\.json"):
        verify(unsealed())


@pytest.mark.parametrize("name", ["lists/part-00000.parquet", "fallback.parquet"])
def test_one_flipped_byte_is_found_wherever_it_is(sealed, name):
    path = sealed() / name
    whole = path.read_bytes()
    for place in (0, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        with pytest.raises(DamagedReleaseError, match=f"{name}: found .* expected"):
            verify(path.parent if name == "fallback.parquet" else path.parent.parent)


def test_a_missing_or_added_file_is_found(sealed):
    folder = sealed()
    part = part_path(folder, 1)
    part.rename(part_path(folder, 2))
    with pytest.raises(DamagedReleaseError, match=r"missing.*00001.*not name.*00002"):
        verify(folder)


def test_checksums_that_match_do_not_excuse_a_manifest_that_miscounts(sealed):
    folder = sealed()
    path = folder / "manifest.json"
    path.write_text(path.read_text().replace('"users": 3', '"users": 4'))
    with pytest.raises(DamagedReleaseError, match=r"users=3.*users=4"):
        verify(folder)


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ('"schema_version": 3', '"schema_version": 4', "schema_version"),
        ('"statistics": {', '"reach": null, "older": {', "older"),
        ('"k": 20', '"k": 20, "later": 1', "later"),
        ('"release_id": "r1"', '"release_id": "../r1"', "release_id"),
        ("{", "", "manifest.json"),
    ],
)
def test_a_manifest_of_another_shape_is_refused(sealed, old, new, words):
    path = sealed() / "manifest.json"
    path.write_text(path.read_text().replace(old, new, 1))
    with pytest.raises(DamagedReleaseError, match=words):
        open_release(path.parent)


def test_a_release_of_before_there_were_probabilities_is_refused_in_words(sealed):
    path = sealed() / "manifest.json"
    path.write_text(path.read_text().replace('"schema_version": 3', '"schema_version": 1'))
    with pytest.raises(DamagedReleaseError, match="have no probabilities; make a new one with"):
        verify(path.parent)


def test_a_renamed_folder_is_refused(sealed):
    folder = sealed()
    with pytest.raises(DamagedReleaseError, match="must not be renamed"):
        verify(folder.rename(folder.with_name("r2")))


def test_same_lists_same_bytes(unsealed):
    one, two = unsealed("r1"), unsealed("r2", parts=2)
    table = rows(["a", "b"], [1, 1], ["x", "y"])
    for folder in (one, two):
        write_part(folder, 0, table)
    assert part_path(one, 0).read_bytes() == part_path(two, 0).read_bytes()
