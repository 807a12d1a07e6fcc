"""Whatever becomes of the store, there is an answer in time, and it says what it is."""

import asyncio
import threading
from contextlib import asynccontextmanager, closing

import pytest

from serving.errors import NoReleaseError, ServingError
from serving.publish import publish
from serving.standby import GATHERED, StandbyReader
from serving.stores import open_reader, open_store

LONG_S = 30.0  # a bound that a busy machine does not reach


class Stuck:
    """A reader over a real store that can be made to hang."""

    def __init__(self, place):
        self._reader = open_reader(place)
        self.stale_s = 0.0
        self.free = threading.Event()
        self.free.set()
        self.reads = []

    def __getattr__(self, name):
        def waiting(*asked):
            self.reads.append((name, *asked))
            self.free.wait()
            return getattr(self._reader, name)(*asked)

        return waiting


@asynccontextmanager
async def standing(reader, timeout_s=LONG_S, poll_s=0.02):
    standby = StandbyReader(reader, timeout_s, poll_s)
    standby.start()
    try:
        yield standby
    finally:
        standby.close()


async def until(condition):
    async with asyncio.timeout(LONG_S):
        while not condition():
            await asyncio.sleep(0.005)


def items(found):
    return [[item.item_id for item in answer.items] for answer in found.lists]


def test_lists_asked_for_together_are_read_together(sealed, store):
    lists = {f"u{at}": [10 * at + rank for rank in range(5)] for at in range(2 * GATHERED)}
    publish(sealed("r1", lists=lists, fallback=[7, 8]), store)

    async def run():
        reader = Stuck(store)
        async with standing(reader) as standby:
            await until(lambda: standby.known is not None)
            asked = [*lists, "nobody"]
            found = await asyncio.gather(*(standby.read(user, None) for user in asked))
            cut = await asyncio.gather(standby.read("nobody", 1), standby.read("nobody", None))
        return found, cut, [read for read in reader.reads if read[0] == "read"]

    found, cut, reads = asyncio.run(run())
    assert [items(one) for one in found] == [*([own] for own in lists.values()), [[7, 8]]]
    assert [items(one) for one in cut] == [[[7]], [[7, 8]]]
    assert len(reads) == 4  # 64, 64, 1, and the two that were cut


def test_before_any_release_there_is_no_answer_and_after_it_at_once(sealed, store):
    async def run():
        async with standing(open_reader(store), poll_s=LONG_S) as standby:
            for ask in (standby.read("ann", None), standby.read_many(["ann"], None)):
                with pytest.raises(NoReleaseError):
                    await ask
            publish(sealed("r1"), store)
            return await standby.read("ann", None), await standby.read_many(["bob"], None)

    one, many = asyncio.run(run())
    assert (items(one), items(many)) == ([["i1", "i2", "i3"]], [["i2"]])
    assert not one.failure and not many.failure


def test_a_store_that_goes_away_leaves_the_last_known_list_until_it_is_back(sealed, store):
    publish(sealed("r1", fallback=["i9", "i1"]), store)
    away = store.with_name("away")

    async def run():
        async with standing(open_reader(store)) as standby:
            await until(lambda: standby.known is not None)
            store.rename(away)
            gone = [await standby.read("ann", 1), await standby.read_many(["ann", "bob"], None)]
            await until(lambda: standby.failure)
            stale = standby.stale_s
            await until(lambda: standby.stale_s > stale)
            away.rename(store)
            await until(lambda: not standby.failure)
            return gone, await standby.read("ann", None), standby.stale_s

    (one, many), back, stale_s = asyncio.run(run())
    assert (items(one), items(many)) == ([["i9"]], [["i9", "i1"]] * 2)
    for found in (one, many):
        assert "no release is published" in found.failure and found.release.release_id == "r1"
        assert all(answer.is_fallback for answer in found.lists)
    assert (items(back), back.failure, stale_s) == ([["i1", "i2", "i3"]], "", 0.0)


def test_a_store_that_hangs_is_waited_for_no_longer_than_the_bound(sealed, store):
    publish(sealed("r1"), store)

    async def run():
        reader = Stuck(store)
        async with standing(reader, timeout_s=0.05) as standby:
            await until(lambda: standby.known is not None)
            reader.free.clear()
            asked = [standby.read("ann", None), standby.read("bob", None),
                     standby.read_many(["ann"], None)]  # fmt: skip
            first = await asyncio.gather(*asked)
            reads = len(reader.reads)
            later = [await standby.read("ann", None) for _ in range(100)]
            left_alone = len(reader.reads) - reads
            reader.free.set()
            await until(lambda: not standby.failure)
        return first, later, left_alone

    first, later, left_alone = asyncio.run(run())
    assert all(items(found) == [["i9", "i1"]] and found.failure for found in [*first, *later])
    assert "did not answer within 0.05 s" in first[0].failure
    assert left_alone <= 1  # the one look


def test_a_new_release_brings_its_own_list_for_everyone(sealed, store):
    publish(sealed("r1", fallback=["i9"]), store)

    async def run():
        async with standing(open_reader(store), poll_s=LONG_S) as standby:
            await until(lambda: standby.known is not None)
            publish(sealed("r2", fallback=["i1"]), store)
            assert standby.known.release.release_id == "r1"
            await standby.read("ann", None)
            await until(lambda: standby.known.release.release_id == "r2")
            return [item.item_id for item in standby.known.items]

    assert asyncio.run(run()) == ["i1"]


def test_whoever_asks_while_releases_change_gets_all_of_one(sealed, store):
    users = [f"u{at}" for at in range(20)]
    for name in ("r1", "r2"):
        publish(sealed(name, lists={user: [name] for user in users}, fallback=[name]), store)
    over = threading.Event()

    def switch():
        with closing(open_store(store)) as opened:
            while not over.is_set():
                for name in ("r1", "r2"):
                    opened.switch(name)

    async def run():
        seen = set()
        async with standing(open_reader(store)) as standby:
            thread = threading.Thread(target=switch)
            thread.start()
            try:
                async with asyncio.timeout(LONG_S):
                    while len(seen) < 2:
                        singles = (standby.read(user, None) for user in [*users, "nobody"])
                        for found in [await standby.read_many([*users, "nobody"], None),
                                      *await asyncio.gather(*singles)]:  # fmt: skip
                            seen.add(found.release.release_id)
                            assert not found.failure
                            assert items(found) == [[found.release.release_id]] * len(found.lists)
            finally:
                over.set()
                thread.join()
        return seen

    assert asyncio.run(run()) == {"r1", "r2"}


def test_one_damaged_list_takes_nobody_else_along(sealed, store):
    publish(sealed("r1"), store)

    class Damaged(Stuck):
        def __getattr__(self, name):
            real = super().__getattr__(name)

            def reading(*asked):
                if name == "read" and "bob" in asked[0]:
                    raise ServingError("the list of bob is damaged")
                return real(*asked)

            return reading

    async def run():
        async with standing(Damaged(store)) as standby:
            await until(lambda: standby.known is not None)
            return await asyncio.gather(*(standby.read(user, None) for user in ("ann", "bob")))

    ann, bob = asyncio.run(run())
    assert (items(ann), ann.failure) == ([["i1", "i2", "i3"]], "")
    assert (items(bob), bob.failure) == ([["i9", "i1"]], "the list of bob is damaged")


def test_a_fault_of_the_reader_itself_ends_neither_reading_nor_looking(sealed, store, caplog):
    publish(sealed("r1"), store)

    class Faulty(Stuck):
        faulty = False

        def __getattr__(self, name):
            real = super().__getattr__(name)

            def reading(*asked):
                if self.faulty:
                    raise RuntimeError("a bug")
                return real(*asked)

            return reading

    async def run():
        reader = Faulty(store)
        async with standing(reader) as standby:
            await until(lambda: standby.known is not None)
            reader.faulty = True
            found = await standby.read("ann", None)
            reader.faulty = False
            await until(lambda: not standby.failure)
            return found, await standby.read("ann", None)

    broken, whole = asyncio.run(run())
    assert "RuntimeError: a bug" in broken.failure and not whole.failure
    assert "the store failed in a way of its own" in caplog.text
