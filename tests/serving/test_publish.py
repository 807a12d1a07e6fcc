"""Publishing is whole or nothing, and twice is once."""

import json

import pytest

from serving.errors import GateError, ServingError, StoreBusyError, UnfinishedReleaseError
from serving.publications import RECORD, who
from serving.publish import Published, publish
from serving.release import part_path
from serving.settings import GateConfig
from serving.stores import open_reader, open_store


def snapshot(folder):
    return {path: path.read_bytes() for path in folder.iterdir() if not path.name.startswith(".")}


def content(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_publishing_says_what_it_did(sealed, store):
    assert publish(sealed("r1"), store) == Published("r1", users=3, switched=True, deleted=())


def test_publishing_twice_changes_nothing(sealed, store):
    publish(sealed("r1"), store)
    publish(sealed("r2"), store)
    before = snapshot(store)
    again = publish(store.parent / "releases" / "r2", store)
    assert again == Published("r2", users=3, switched=False, deleted=())
    assert snapshot(store) == before and len(before) == 3  # two releases and the pointer


def test_an_unsealed_release_is_refused(unsealed, store):
    with pytest.raises(UnfinishedReleaseError):
        publish(unsealed(), store)
    assert open_store(store).releases() == []


def test_a_damaged_release_is_refused_and_the_current_one_goes_on(sealed, store):
    publish(sealed("r1"), store)
    with open_reader(store) as reader:
        before = reader.read(["ann", "nobody"])
        part = part_path(sealed("r2"), 0)
        whole = part.read_bytes()
        part.write_bytes(whole[:100] + bytes([whole[100] ^ 1]) + whole[101:])
        with pytest.raises(GateError, match=r"\(files\).*part-00000.*no reason excuses"):
            publish(store.parent / "releases" / "r2", store)
        assert reader.read(["ann", "nobody"]) == before
    assert [release.release_id for release in open_store(store).releases()] == ["r1"]


def test_a_publish_cut_short_leaves_nothing_behind_and_can_be_done_again(
    sealed, store, monkeypatch
):
    publish(sealed("r1"), store)
    before = snapshot(store)
    with monkeypatch.context() as crash:
        crash.setattr("serving.sqlite.SORTED", "INSERT nonsense")
        with pytest.raises(ServingError, match="cannot be built"):
            publish(sealed("r2"), store)
    assert snapshot(store) == before and not list(store.glob("*.tmp"))
    (store / ".r2.sqlite.1.tmp").write_text("what a killed process leaves")
    assert publish(store.parent / "releases" / "r2", store).switched
    assert not list(store.glob("*.tmp"))


def lists_of_many(items, users=60):
    """Lists of as many users as the gates judge."""
    return {f"u{user:02}": items for user in range(users)}


def records(folder):
    return [json.loads(line) for line in (folder / RECORD).read_text().splitlines()]


def test_a_reason_publishes_what_a_gate_stops_and_is_kept_where_readers_see_it(sealed, store):
    folder = sealed("r1", lists_of_many(["i1"]))
    as_sealed = content(folder)
    with pytest.raises(GateError, match=r"\(short lists\)"):
        publish(folder, store)
    assert not (folder.parent / RECORD).exists()
    done = publish(folder, store, reason="only one thing is for sale")
    assert done.switched and done.recorded
    with open_reader(store) as reader:
        kept = reader.release()
    assert kept.forced == done.forced and kept.forced.reason == "only one thing is for sale"
    [line] = kept.forced.failed
    assert kept.forced.by == who() and line.startswith("FAIL  short lists: 1.000, 60 of 60")
    assert content(folder) == as_sealed
    [line] = records(folder.parent)
    assert line["forced"] == kept.forced.model_dump(mode="json") and len(line["verdicts"]) > 8
    assert (line["release_id"], line["store"], line["at"]) == ("r1", str(store), kept.forced.at)


def test_a_reason_that_was_not_needed_is_not_kept(sealed, store):
    done = publish(sealed("r1"), store, reason="to be sure")
    assert done.forced is None
    with open_reader(store) as reader:
        assert reader.release().forced is None
    assert [line["forced"] for line in records(store.parent / "releases")] == [None]


def test_the_note_follows_the_last_publish_of_a_release_that_stayed_in_the_store(sealed, store):
    folder = sealed("r1", lists_of_many(["i1"]))
    other, lax = (
        sealed("r2", lists_of_many(["i2"])),
        GateConfig(short_lists=1, overlap=0),
    )
    for one in (folder, other):
        publish(one, store, gates=lax)  # both pass
    assert publish(folder, store, gates=lax, reason="back to it").forced is None
    publish(other, store, gates=lax)
    assert publish(folder, store, reason="back to it").forced.reason == "back to it"
    with open_reader(store) as reader:
        assert reader.release().forced.reason == "back to it"
        assert reader.read(["u00"]).lists[0].items[0].item_id == "i1"
    before = snapshot(store)
    assert not publish(folder, store).switched  # and the note stays
    assert snapshot(store) == before
    assert len(records(folder.parent)) == 5


def test_what_is_current_is_not_judged_again(sealed, store):
    folder = sealed("r1", lists_of_many(["i1"]))
    publish(folder, store, reason="only one thing is for sale")
    shown = []
    publish(folder, store, show=shown.extend)
    assert shown == []


def test_a_folder_that_cannot_be_written_to_does_not_undo_a_publish(sealed, store):
    folder = sealed("r1")
    (folder.parent / RECORD).mkdir()
    done = publish(folder, store)
    assert done.switched and not done.recorded


def test_of_two_publishers_one_is_told_to_wait(sealed, store):
    with (
        open_store(store).publishing(),
        pytest.raises(StoreBusyError, match="another process is at work"),
    ):
        publish(sealed("r1"), store)
    assert publish(store.parent / "releases" / "r1", store).switched


def test_rolling_back_does_not_wait_for_a_publisher(sealed, store):
    publish(sealed("r1"), store)
    publish(sealed("r2"), store)
    with open_store(store).publishing():
        assert open_store(store).rollback() == "r1"


def test_only_the_last_releases_are_kept(sealed, store):
    deleted = [publish(sealed(f"r{day}"), store, keep=2).deleted for day in range(5)]
    assert deleted == [(), (), (), ("r0",), ("r1",)]
    assert [release.release_id for release in open_store(store).releases()] == ["r2", "r3", "r4"]
    assert (open_store(store).rollback(), open_store(store).rollback()) == ("r3", "r2")
