"""What is special about a store in a folder: files, connections, locks."""

import sqlite3

import pytest

from serving.errors import NoReleaseError, ServingError, StoreBusyError
from serving.pointer import locked
from serving.publish import publish
from serving.stores import open_reader, open_store


def test_a_release_deleted_after_the_pointer_was_read_is_not_missed(sealed, store, monkeypatch):
    publish(sealed("r1"), store)
    old = (store / "current.json").read_bytes()
    publish(sealed("r2"), store, keep=0)
    new = (store / "current.json").read_bytes()
    pointers = iter([old, new, new])
    monkeypatch.setattr("serving.folder.pointer_bytes", lambda _: next(pointers))
    with open_reader(store) as reader:
        assert reader.read(["ann"]).release.release_id == "r2"


def test_old_connections_are_closed(sealed, store):
    publish(sealed("r1"), store)
    with open_reader(store) as reader:
        reader.read(["ann"])
        (old,) = reader._idle
        publish(sealed("r2"), store)
        reader.read(["ann"])
        (new,) = reader._idle
    for opened in (old, new):
        with pytest.raises(sqlite3.ProgrammingError, match="closed"):
            opened.connection.execute("SELECT 1")


def test_damage_in_the_store_is_said_in_words(sealed, store):
    publish(sealed("r1"), store)
    path = store / "r1.sqlite"
    whole = path.read_bytes()
    for damaged, words in ((whole[:3000], "damaged"), (b"", "damaged")):
        path.write_bytes(damaged)
        with open_reader(store) as reader, pytest.raises(ServingError, match=words):
            reader.read(["ann"])
    path.unlink()
    with open_reader(store) as reader, pytest.raises(NoReleaseError, match="gone"):
        reader.read(["ann"])
    (store / "current.json").write_text("{")
    with open_reader(store) as reader, pytest.raises(ServingError, match=r"current\.json"):
        reader.read(["ann"])


def test_a_second_switch_at_the_same_moment_is_told_to_try_again(sealed, store):
    publish(sealed("r1"), store)
    with locked(store, "switch"):
        for change in (
            lambda: open_store(store).switch("r1"),
            lambda: open_store(store).rollback(),
            lambda: open_store(store).prune(0),
        ):
            with pytest.raises(StoreBusyError, match="switch"):
                change()
