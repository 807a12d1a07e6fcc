"""A job goes on only with parts that are what their records say, and only with the same plan."""

import hashlib
from pathlib import Path

import pytest

from serving.parts import Part
from serving.plan import Plan, begin, finish, made, open_folder, write_made
from serving.release import part_path

PLAN = Plan(
    created_at="2026-08-20T03:00:00+00:00", as_of="2026-08-20T00:00:00+00:00",
    model_uri="models:/recommender/3", model_run="r1", data_fingerprint="data",
    config_fingerprint="config", code_commit="482d2c3", k=20, n_buckets=3, users="all", exclude="",
    packages="numpy 2", threads=2,
)  # fmt: skip
LATER = {"created_at": "2026-08-20T04:00:00+00:00"}
DATA = b"lists of some users"
SHA = hashlib.sha256(DATA).hexdigest()


@pytest.fixture
def begun(tmp_path):
    """An unfinished release with parts 0 and 2 of 3."""
    folder, plan, _ = open_folder(tmp_path, PLAN)
    begin(folder, plan)
    for number in (0, 2):
        write_made(folder, Part(number, DATA, SHA, rows=2, users=1))
    return folder


def test_parts_that_are_there_whole_are_made(begun):
    assert made(begun, 3) == ({0, 2}, 0)


@pytest.mark.parametrize(
    ("what", "content"),
    [("lists/part-00002.parquet", DATA[:-1]), ("lists/part-00002.parquet", DATA[:-1] + b"S"),
     ("lists/part-00002.parquet", b""), ("done/part-00002.json", b""),
     ("done/part-00002.json", b'{"path": "lists/part-')],
)  # fmt: skip
def test_a_part_that_is_cut_changed_or_half_recorded_is_not(begun, what, content):
    (begun / what).write_bytes(content)
    assert made(begun, 3) == ({0}, 1)


def test_a_part_without_a_record_or_a_record_without_its_part_is_not(begun):
    (begun / "done/part-00000.json").unlink()
    part_path(begun, 2).unlink()
    assert made(begun, 3) == (set(), 1)


def test_the_record_of_another_part_does_not_count(begun):
    (begun / "done/part-00002.json").rename(begun / "done/part-00001.json")
    part_path(begun, 2).rename(part_path(begun, 1))
    assert made(begun, 3) == ({0}, 1)


def test_the_same_plan_goes_on_with_its_release_and_keeps_its_moment(begun):
    folder, plan, said = open_folder(begun.parent, PLAN.model_copy(update=LATER))
    assert (folder, plan) == (begun, PLAN)
    assert said == f"{begun.name} was begun and goes on"


def test_a_sealed_release_goes_on_where_something_is_left_to_do_for_it(begun):
    (begun / "manifest.json").touch()
    later = PLAN.model_copy(update=LATER)
    folder, plan, said = open_folder(begun.parent, later, lambda folder: False)
    assert (folder, plan) == (begun, PLAN)
    assert said == f"{begun.name} is sealed and only to be sent"
    assert open_folder(begun.parent, later)[0] != begun
    other = later.model_copy(update={"k": 10})
    assert open_folder(begun.parent, other, lambda folder: False)[1:] == (other, "")
    (begun / "plan.json").write_text("{}")
    assert open_folder(begun.parent, later, lambda folder: False)[1:] == (later, "")


@pytest.mark.parametrize(
    ("field", "value", "words"),
    [("model_uri", "models:/recommender/4", "models:/recommender/3, is models:/recommender/4"),
     ("data_fingerprint", "more", "data, is more"), ("config_fingerprint", "other", "config, is"),
     ("k", 10, "20, is 10"), ("n_buckets", 4, "3, is 4"), ("threads", 1, "2, is 1"),
     ("users", "active in 7 days", "all, is active in 7 days"), ("exclude", "abc", "none, is abc"),
     ("packages", "numpy 3", "numpy 2, is numpy 3"), ("as_of", "2026-08-21T00:00:00+00:00", "is")],
)  # fmt: skip
def test_another_plan_begins_a_new_release_and_says_what_is_other(begun, field, value, words):
    asked = PLAN.model_copy(update=LATER | {field: value})
    folder, plan, said = open_folder(begun.parent, asked)
    assert folder != begun and not folder.exists() and plan == asked
    assert said.startswith(f"{begun.name} stays unfinished: {field} was ") and words in said
    assert said.count(" was ") == 1


def test_data_with_an_order_only_goes_on_whenever_it_is_asked_again(tmp_path):
    now = PLAN.model_copy(update={"as_of": PLAN.created_at})
    folder, plan, _ = open_folder(tmp_path, now)
    begin(folder, plan)
    later = PLAN.model_copy(update=LATER | {"as_of": LATER["created_at"]})
    assert open_folder(tmp_path, later)[:2] == (folder, now)


def test_a_sealed_release_and_one_of_another_version_are_left_alone(begun):
    (begun / "manifest.json").write_text("{}")
    assert open_folder(begun.parent, PLAN.model_copy(update=LATER))[1:] == (
        PLAN.model_copy(update=LATER), "",
    )  # fmt: skip
    (begun / "manifest.json").unlink()
    (begun / "plan.json").write_text('{"as_of": "2026"}')
    said = open_folder(begun.parent, PLAN.model_copy(update=LATER))[2]
    assert said == f"{begun.name} stays unfinished: its plan is of another version"


def test_going_on_clears_what_was_half_written_and_finishing_the_records(begun):
    left = begun / "lists/.part-00001.parquet.7.tmp"
    left.write_bytes(DATA)
    begin(begun, PLAN)
    assert not left.exists() and made(begun, 3) == ({0, 2}, 0)
    finish(begun)
    names = {path.relative_to(begun) for path in begun.rglob("*") if path.is_file()}
    assert names == {Path("plan.json"), *(Path(f"lists/part-0000{at}.parquet") for at in (0, 2))}


def test_another_plan_of_the_same_second_gets_a_folder_of_its_own(begun):
    asked = PLAN.model_copy(update={"k": 7})
    folder, plan, _ = open_folder(begun.parent, asked)
    assert folder != begun and not folder.exists()
    assert plan == asked.model_copy(update={"created_at": "2026-08-20T03:00:01+00:00"})
    assert folder.name.endswith("20260820T030001Z")
