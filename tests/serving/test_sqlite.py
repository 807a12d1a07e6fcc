"""A file gives back every list that was built into it, and nobody can change it."""

import sqlite3
from contextlib import closing

import pytest

from serving.errors import DamagedReleaseError, NoReleaseError, ServingError
from serving.lists import ListedItem
from serving.release import open_release
from serving.sqlite import build_file, open_file

LISTS = {"ann": ["i1", 'quoted "i" \\ 2', "\N{ROCKET}"], "042": ["i4"], "": ["line\nbreak"]}


@pytest.fixture
def built(sealed, tmp_path):
    folder = sealed("r1", lists=LISTS, fallback=["i9"])
    build_file(tmp_path / "r1.sqlite", folder, open_release(folder))
    return tmp_path / "r1.sqlite"


def test_each_user_gets_their_list_and_everyone_else_the_fallback(built):
    with closing(open_file(built)) as opened:
        assert opened.manifest.release_id == "r1"
        for user, items in [*LISTS.items(), ("42", ["i9"]), (42, ["i9"])]:
            answer = opened.answer(user, None)
            assert [(item.rank, item.item_id) for item in answer.items] == list(
                enumerate(items, start=1)
            )
            assert (answer.user_id, answer.is_fallback) == (user, user not in LISTS)
        assert [item.item_id for item in opened.answer("ann", 1).items] == ["i1"]


def test_a_file_of_before_there_were_probabilities_is_read_without_them(built):
    old = b'[["i1",0.5,"text","why"],["i2",0.25,"text",""]]'
    with closing(sqlite3.connect(built)) as connection, connection:
        (manifest,) = connection.execute("SELECT manifest FROM meta").fetchone()
        manifest = manifest.replace('"schema_version":2', '"schema_version":1')
        connection.execute("UPDATE meta SET manifest = ?, fallback = ?", (manifest, old))
        connection.execute("UPDATE lists SET payload = ? WHERE key = 'ann'", (old,))
    with closing(open_file(built)) as opened:
        assert opened.manifest.schema_version == 1
        for user in ("ann", "nobody"):
            first, second = opened.answer(user, None).items
            assert first == ListedItem(1, "i1", 0.5, None, "text", "why", "")
            assert (second.rank, second.probability, second.reason) == (2, None, "")


def test_a_file_is_read_only(built):
    with closing(open_file(built)) as opened, pytest.raises(sqlite3.OperationalError):
        opened.connection.execute("DELETE FROM lists")


def test_a_missing_file_is_not_made(tmp_path):
    with pytest.raises(NoReleaseError, match="gone"):
        open_file(tmp_path / "r1.sqlite")
    assert list(tmp_path.iterdir()) == []


def test_damage_in_the_lists_is_said_in_words_when_they_are_read(sealed, tmp_path):
    lists = {f"{user:04d}": [f"i{n}" for n in range(20)] for user in range(400)}
    folder, path = sealed("r1", lists=lists), tmp_path / "r1.sqlite"
    build_file(path, folder, open_release(folder))
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2] + b"\xff" * (len(whole) - len(whole) // 2))
    with closing(open_file(path)) as opened, pytest.raises(ServingError, match="cannot be read"):
        [opened.answer(user, None) for user in lists]


def test_a_user_in_two_parts_is_refused(sealed, tmp_path):
    folder = sealed("r1", lists={"ann": ["a"], "bob": ["b"]}, parts=2)
    first, second = (folder / "lists" / f"part-0000{i}.parquet" for i in (0, 1))
    manifest = open_release(folder)
    second.write_bytes(first.read_bytes())
    with pytest.raises(DamagedReleaseError, match="two parts"):
        build_file(tmp_path / "r1.sqlite", folder, manifest)


def test_a_file_that_cannot_be_written_is_said_in_words(sealed, tmp_path):
    folder = sealed("r1")
    with pytest.raises(ServingError, match="file of release r1 cannot be built"):
        build_file(tmp_path / "missing" / "r1.sqlite", folder, open_release(folder))
