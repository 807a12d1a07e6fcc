"""A file gives back every list that was built into it, and nobody can change it."""

import json
import sqlite3
from contextlib import closing

import pytest

from serving.errors import DamagedReleaseError, NoReleaseError, ServingError
from serving.lists import Answer, ListedItem
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


JSON_TABLES = """
CREATE TABLE lists (key TEXT NOT NULL, payload BLOB NOT NULL);
CREATE TABLE meta (manifest TEXT NOT NULL, fallback BLOB NOT NULL);
CREATE UNIQUE INDEX by_key ON lists (key);
"""


@pytest.mark.parametrize(
    ("version", "stored", "last"),
    [(1, b'[["i1",0.5,"text","why"]]', ListedItem(1, "i1", 0.5, None, "text", "why", "")),
     (2, b'[["i1",0.5,0.25,"text","why","item"]]',
      ListedItem(1, "i1", 0.5, 0.25, "text", "why", "item"))],
)  # fmt: skip
def test_a_file_of_before_lists_were_packed_is_read(built, tmp_path, version, stored, last):
    with closing(open_file(built)) as opened:
        sealed = opened.manifest.model_dump(exclude={"statistics", "reach", "forced"})
    manifest = json.dumps(sealed | {"schema_version": version})
    path = tmp_path / "earlier.sqlite"
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.executescript(JSON_TABLES)
        connection.execute("INSERT INTO meta VALUES (?, ?)", (manifest, stored))
        connection.execute("INSERT INTO lists VALUES ('ann', ?)", (stored,))
    with closing(open_file(path)) as opened:
        assert opened.manifest.schema_version == version
        for user in ("ann", "nobody"):
            assert opened.answer(user, None) == Answer(user, user == "nobody", [last])
            assert opened.answer(user, 0).items == []


def test_a_file_of_a_later_version_is_refused(built):
    with closing(sqlite3.connect(built)) as connection:
        connection.execute("PRAGMA user_version = 3")
    with pytest.raises(ServingError, match="format 3, which this version does not know"):
        open_file(built)


def test_connections_to_one_file_share_its_words(built):
    with closing(open_file(built)) as opened, closing(opened.again()) as another:
        assert another.words is opened.words and another.connection is not opened.connection
        assert another.answer("ann", None) == opened.answer("ann", None)
        built.unlink()
        with pytest.raises(NoReleaseError, match="gone"):
            opened.again()


def test_half_a_character_is_nobody(built):
    with closing(open_file(built)) as opened:
        assert opened.answer("\ud800", None).is_fallback


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
