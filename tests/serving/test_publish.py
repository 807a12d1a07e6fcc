"""Publishing is whole or nothing, and twice is once."""

import pytest

from serving.errors import DamagedReleaseError, ServingError, StoreBusyError, UnfinishedReleaseError
from serving.publish import Published, publish
from serving.release import part_path
from serving.stores import open_reader, open_store


def snapshot(folder):
    return {path: path.read_bytes() for path in folder.iterdir() if not path.name.startswith(".")}


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
        with pytest.raises(DamagedReleaseError, match="part-00000"):
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
