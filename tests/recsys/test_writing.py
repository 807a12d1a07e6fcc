"""A file that has its name is whole and on disk."""

import os

import pytest

from recsys.writing import sync_all, write_whole


def test_a_file_is_on_disk_before_it_has_its_name(tmp_path, synced):
    write_whole(tmp_path / "new" / "a", lambda temp: temp.write_text("x"))
    temp = f".a.{os.getpid()}.tmp"
    assert synced == [(temp, [temp]), ("new", ["a"])]
    assert (tmp_path / "new" / "a").read_text() == "x"


def test_a_write_that_fails_leaves_what_was_there(tmp_path):
    (tmp_path / "a").write_text("before")

    def fail(temp):
        temp.write_text("half")
        raise OSError("disk")

    with pytest.raises(OSError, match="disk"):
        write_whole(tmp_path / "a", fail)
    assert [path.name for path in tmp_path.iterdir()] == ["a"]
    assert (tmp_path / "a").read_text() == "before"


def test_a_folder_is_synced_with_all_that_is_in_it(tmp_path, synced):
    (tmp_path / "b" / "c").mkdir(parents=True)
    (tmp_path / "b" / "c" / "d").write_text("x")
    sync_all(tmp_path / "b")
    assert {name for name, _ in synced} == {"b", "c", "d"}
