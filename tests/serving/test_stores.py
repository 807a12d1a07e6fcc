"""A store gives back every list it was given, always of one release."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pyarrow as pa
import pytest

from serving.errors import DamagedReleaseError, NoReleaseError, ServingError, StoreBusyError
from serving.lists import STEP_ROWS
from serving.publish import publish
from serving.release import write_part
from serving.stores import LoadedRelease, open_reader, open_store

TEXT_IDS = {
    "ann": ["i1", 'quoted "i" \\ 2', "i/3"],
    "a/b/../c d?e#f%2F&=": ["ü", "推荐", "\N{ROCKET}", "line\nbreak\ttab\x01"],
    "": ["i1"],
    "..": ["i2"],
    "42": ["i3"],
    "042": ["i4"],
    "Ünïcödé 用户": ["i5"],
}
INT_IDS = {42: [7, -1, 2**63 - 1], -(2**63): [0], 2**63 - 1: [5]}


@pytest.mark.parametrize(("lists", "fallback"), [(TEXT_IDS, ["i9", "i1"]), (INT_IDS, [9, 1])])
@pytest.mark.parametrize("parts", [1, 3])
def test_every_list_comes_back_as_it_was_written(sealed, place, lists, fallback, parts):
    publish(sealed("r1", lists=lists, fallback=fallback, parts=parts), place)
    with open_reader(place) as reader:
        found = reader.read([*lists, "nobody"])
    assert [answer.user_id for answer in found.lists] == [*lists, "nobody"]
    assert [answer.is_fallback for answer in found.lists] == [False] * len(lists) + [True]
    for answer, items in zip(found.lists, [*lists.values(), fallback], strict=True):
        assert [(item.rank, item.item_id, item.source, item.reason, item.drivers)
                for item in answer.items] == [
            (rank, item, "text", "r1", "text, item") for rank, item in enumerate(items, start=1)
        ]  # fmt: skip
        scores = [1 / rank for rank in range(1, len(items) + 1)]
        assert [item.score for item in answer.items] == pytest.approx(scores, abs=1e-4)
        chances = [item.probability for item in answer.items]
        told = [None if answer.is_fallback else 0.1 * score for score in scores]
        assert chances == (told if answer.is_fallback else pytest.approx(told, rel=0.002))
        assert all(type(item.item_id) is type(items[0]) for item in answer.items)


def test_lists_across_the_border_of_a_batch_are_whole(sealed, place):
    length = 7
    lists = {user: list(range(user, user + length)) for user in range(STEP_ROWS // length + 100)}
    assert STEP_ROWS % length  # or no list would cross
    publish(sealed("r1", lists=lists, fallback=[1], parts=1), place)
    with open_reader(place) as reader:
        found = reader.read(list(lists)).lists
    assert {answer.user_id: [item.item_id for item in answer.items] for answer in found} == lists


def test_an_integer_and_its_text_are_one_user(sealed, place):
    publish(sealed("r1", lists=INT_IDS, fallback=[1]), place)
    with open_reader(place) as reader:
        integer, text = reader.read([42, "42"]).lists
        assert integer.items == text.items and not text.is_fallback
        assert (integer.user_id, text.user_id) == (42, "42")
        assert reader.read(["042"]).lists[0].is_fallback


def test_a_batch_is_the_single_reads_in_order(sealed, place):
    publish(sealed("r1", lists=TEXT_IDS), place)
    asked = ["..", "nobody", "ann", "ann", ""]
    with open_reader(place) as reader:
        for k in (1, 2, 20, None):
            singles = [reader.read([user], k).lists[0] for user in asked]
            assert reader.read(asked, k).lists == singles
        assert reader.read([]).lists == []


def test_k_cuts_the_list_and_never_makes_it_longer(sealed, place):
    publish(sealed("r1", lists={"ann": ["a", "b", "c"]}), place)
    with open_reader(place) as reader:
        ids = {k: [item.item_id for item in reader.read(["ann"], k).lists[0].items]
               for k in (1, 2, 3, 1000)}  # fmt: skip
    assert ids == {1: ["a"], 2: ["a", "b"], 3: ["a", "b", "c"], 1000: ["a", "b", "c"]}


def test_loading_alone_changes_no_answer_and_switching_does_at_once(sealed, place):
    publish(sealed("r1"), place)
    with open_reader(place) as reader:
        open_store(place).load_release(sealed("r2", lists={"ann": ["new"]}))
        assert reader.read(["ann"]).release.release_id == "r1"
        assert open_store(place).switch("r2") is True
        assert reader.read(["ann"]).lists[0].items[0].item_id == "new"
        assert open_store(place).switch("r2") is False


def test_rollback_restores_the_very_same_answers(sealed, place):
    publish(sealed("r1"), place)
    with open_reader(place) as reader:
        before = reader.read(["ann", "bob", "nobody"])
        publish(sealed("r2", lists={"ann": ["new"]}), place)
        assert reader.read(["ann", "bob", "nobody"]) != before
        assert open_store(place).rollback() == "r1"
        assert reader.read(["ann", "bob", "nobody"]) == before


def test_rollback_goes_back_step_by_step_until_there_is_nothing(sealed, place):
    for name in ("r1", "r2", "r3"):
        publish(sealed(name), place)
    assert (open_store(place).rollback(), open_store(place).rollback()) == ("r2", "r1")
    with pytest.raises(NoReleaseError, match="no earlier release"):
        open_store(place).rollback()


def test_publishing_an_earlier_release_again_keeps_the_way_back(sealed, place):
    for name in ("r1", "r2"):
        publish(sealed(name), place)
    open_store(place).switch("r1")
    assert open_store(place).rollback() == "r2"
    with pytest.raises(NoReleaseError):  # r1 is not kept twice
        open_store(place).rollback()


def test_releases_say_which_one_is_current(sealed, place):
    assert open_store(place).releases() == []
    publish(sealed("r1"), place)
    publish(sealed("r2", lists={"ann": ["new"]}), place)
    open_store(place).rollback()
    assert open_store(place).releases() == [
        LoadedRelease("r1", "2026-08-20T00:00:00Z", 3, "recsys/3", is_current=True),
        LoadedRelease("r2", "2026-08-20T00:00:00Z", 1, "recsys/3", is_current=False),
    ]


def test_readers_never_see_two_releases_in_one_answer_or_an_error(sealed, place):
    users = [f"u{number}" for number in range(20)]
    folders = [sealed(f"r{n}", lists={user: [f"{n}-{user}", "x"] for user in users})
               for n in range(4)]  # fmt: skip
    publish(folders[0], place)
    done, seen = threading.Event(), set()

    def poll():
        reads = 0
        while not done.is_set() or not reads:
            found = reader.read([*users, "nobody"])
            marks = {item.reason for answer in found.lists for item in answer.items}
            assert marks == {found.release.release_id}
            assert all(len(answer.items) == 2 for answer in found.lists)
            seen.add(found.release.release_id)
            reads += 1
            time.sleep(0.001)  # let the publisher have the interpreter too
        return reads

    with open_reader(place) as reader, ThreadPoolExecutor(4) as pool:
        polls = [pool.submit(poll) for _ in range(4)]
        try:
            for step in range(30):
                if step % 3 == 2:
                    open_store(place).rollback()
                else:  # keep=1: the release before the last is deleted under the readers
                    publish(folders[step % 4], place, keep=1)
        finally:
            done.set()
        assert sum(poll.result() for poll in polls) > 30
    assert len(seen) > 2


def test_nothing_published_is_said_in_words(sealed, place):
    with open_reader(place) as reader:
        with pytest.raises(NoReleaseError, match="no release is published"):
            reader.read(["ann"])
        open_store(place).load_release(sealed("r1"))  # loaded, not switched to
        with pytest.raises(NoReleaseError, match="no release is published"):
            reader.read(["ann"])
    with pytest.raises(NoReleaseError, match="no earlier release"):
        open_store(place).rollback()
    with pytest.raises(NoReleaseError, match="r7 is not loaded"):
        open_store(place).switch("r7")


def test_a_user_in_two_parts_is_refused(unsealed, seal_lists, place):
    folder = unsealed("r1", lists={"ann": ["a"], "bob": ["b"]}, parts=1)
    row = {"user_id": "ann", "rank": 1, "item_id": "c", "score": 1.0, "probability": 0.5,
           "source": "", "reason": "", "drivers": ""}  # fmt: skip
    write_part(folder, 1, pa.Table.from_pylist([row]))
    seal_lists(folder)
    with pytest.raises(DamagedReleaseError, match="two parts"):
        open_store(place).load_release(folder)
    assert open_store(place).releases() == []


def test_another_release_of_the_same_id_is_refused(sealed, place, tmp_path):
    publish(sealed("r1"), place)
    other = tmp_path / "elsewhere" / "r1"
    sealed("r0", lists={"ann": ["other"]})
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "releases" / "r0").rename(other)
    manifest = other / "manifest.json"
    manifest.write_text(manifest.read_text().replace('"r0"', '"r1"'))
    with pytest.raises(ServingError, match="another release of the same id"):
        open_store(place).load_release(other)


def test_publishing_twice_is_publishing_once(sealed, place):
    publish(sealed("r1"), place)
    folder = sealed("r2")
    first, second = publish(folder, place), publish(folder, place)
    assert (first.switched, second.switched) == (True, False)
    assert open_store(place).rollback() == "r1"  # r2 is not kept twice


def test_only_the_last_releases_are_kept(sealed, place):
    deleted = [publish(sealed(f"r{day}"), place, keep=2).deleted for day in range(5)]
    assert deleted == [(), (), (), ("r0",), ("r1",)]
    store = open_store(place)
    assert [release.release_id for release in store.releases()] == ["r2", "r3", "r4"]
    assert (store.rollback(), store.rollback()) == ("r3", "r2")
    assert store.prune(0) == ["r3", "r4"] and store.prune(0) == []


def test_of_two_publishers_one_wins_and_the_other_is_told(sealed, place):
    folder, store = sealed("r1"), open_store(place)
    with store.publishing(), pytest.raises(StoreBusyError, match="another process is at work"):
        publish(folder, place)
    assert publish(folder, place).switched


def test_rolling_back_does_not_wait_for_a_publisher(sealed, place):
    publish(sealed("r1"), place)
    publish(sealed("r2"), place)
    with open_store(place).publishing():
        assert open_store(place).rollback() == "r1"


def test_the_fallback_can_be_read_alone(sealed, place):
    publish(sealed("r1"), place)
    with open_reader(place) as reader:
        manifest, items = reader.fallback()
        assert list(items) == list(reader.read(["nobody"]).lists[0].items)
        assert manifest == reader.release() and reader.stale_s == 0
