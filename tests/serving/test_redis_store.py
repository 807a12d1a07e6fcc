"""A release comes into Redis whole, leaves nothing behind, and expires only when superseded."""

import pytest
import redis

from serving.errors import (
    DamagedReleaseError,
    NoReleaseError,
    ServingError,
    StoreBusyError,
    StoreUnreachableError,
)
from serving.publish import publish
from serving.redis_store import AHEAD_S, PER_SHARD, RedisStore
from serving.release import open_release
from serving.stores import open_reader, open_store

ODD = ["a\nb", "*", "{u}", "a:b", "\x00", "ü 用户 \N{ROCKET}", "FLUSHALL\r\n", "", "current"]


@pytest.fixture
def client(running_redis):
    with redis.Redis(unix_socket_path=str(running_redis.socket)) as client:
        yield client


@pytest.fixture
def place(running_redis, tmp_path):
    return f"unix://{running_redis.socket}?prefix={tmp_path.name}&pointer_s=0&claim_s=0.5"


@pytest.fixture
def names(client, tmp_path):
    """Return a function: the names of the store's keys, without the prefix, sorted."""
    prefix = f"{tmp_path.name}:"
    return lambda: sorted(key.decode().removeprefix(prefix) for key in client.keys(f"{prefix}*"))


def test_keys_are_made_of_releases_and_never_of_ids(sealed, place, names):
    lists = {user: [f"for {user}", "FLUSHALL"] for user in ODD}
    publish(sealed("r1", lists=lists), place)
    assert names() == ["current", "release:r1", "release:r1:0", "releases"]
    with open_reader(place) as reader:
        found = reader.read([*ODD, "\ud800", "a"]).lists
    assert [answer.items[0].item_id for answer in found[:-2]] == [f"for {user}" for user in ODD]
    assert found[-2].is_fallback and found[-1].is_fallback


def test_users_are_dealt_to_shards_and_found_again(sealed, place, names, client, tmp_path):
    lists = {user: [user % 7] for user in range(2 * PER_SHARD)}
    publish(sealed("r1", lists=lists, fallback=[9]), place, reason="short lists will do here")
    shards = [name for name in names() if name.startswith("release:r1:")]
    sizes = [client.hlen(f"{tmp_path.name}:{shard}") for shard in shards]
    assert len(shards) == 3 and sum(sizes) == len(lists) + 3 and min(sizes) > PER_SHARD / 2
    with open_reader(place) as reader:
        found = reader.read([*range(-1, 2 * PER_SHARD)]).lists
    assert found[0].is_fallback
    assert [answer.items[0].item_id for answer in found[1:]] == [user % 7 for user in lists]


def test_only_what_was_superseded_expires_and_a_rollback_takes_that_off(
    sealed, place, client, tmp_path
):
    def lives(release):
        keys = (f"{tmp_path.name}:release:{release}{shard}" for shard in ("", ":0"))
        return [client.ttl(key) for key in keys]

    publish(sealed("r1"), place)
    assert lives("r1") == [-1, -1]  # for ever
    publish(sealed("r2"), place)
    assert lives("r2") == [-1, -1]
    fortnight = 14 * 86_400
    own, shard = lives("r1")
    assert fortnight - 60 < own <= fortnight and shard - own in (AHEAD_S, AHEAD_S - 1, AHEAD_S + 1)
    open_store(place).rollback()
    assert lives("r1") == [-1, -1] and lives("r2")[0] > 0
    assert client.ttl(f"{tmp_path.name}:current") == -1


def test_a_release_that_expired_cannot_be_gone_back_to(sealed, place, client, tmp_path):
    publish(sealed("r1"), place)
    publish(sealed("r2"), place)
    client.expire(f"{tmp_path.name}:release:r1", 0)
    store = open_store(place)
    with pytest.raises(NoReleaseError, match="r1 is gone from"):
        store.rollback()
    assert [one.release_id for one in store.releases()] == ["r2"]


def test_an_interrupted_load_leaves_nothing_and_can_be_done_again(sealed, place, names, client,
                                                                  tmp_path):  # fmt: skip
    publish(sealed("r1"), place)
    prefix, before = tmp_path.name, names()
    client.hset(f"{prefix}:releases", "r2", 2)  # what a killed publisher leaves
    client.hset(f"{prefix}:release:r2:1", "nobody knows", "half")
    folder = sealed("r2")
    with open_store(place).publishing():
        assert names() == sorted([*before, "publishing"])
    client.hset(f"{prefix}:releases", "r2", 1)
    client.hset(f"{prefix}:release:r2:0", "nobody", "half")
    RedisStore(place).load_release(folder)  # without the claim: nothing was cleared
    assert client.hlen(f"{prefix}:release:r2:0") == 4  # three users and the mark
    assert publish(folder, place).switched


def test_deleted_releases_leave_no_key(sealed, place, names):
    for day in range(3):
        publish(sealed(f"r{day}"), place, keep=0)
    assert names() == ["current", "release:r2", "release:r2:0", "releases"]


def test_a_publisher_that_lost_its_claim_switches_nothing(sealed, place, client, tmp_path):
    publish(sealed("r1"), place)
    store, loaded, folder = open_store(place), sealed("r2"), sealed("r3")
    store.load_release(loaded)
    with store.publishing():
        client.set(f"{tmp_path.name}:publishing", "another's")
        with pytest.raises(StoreBusyError, match="claim of this publisher ended"):
            store.load_release(folder)
        with pytest.raises(StoreBusyError, match="claim of this publisher ended"):
            store.switch("r2")
    assert [one.release_id for one in store.releases() if one.is_current] == ["r1"]


def test_lists_that_are_not_there_after_loading_are_missed(sealed, place):
    folder, store = sealed("r1"), RedisStore(place)
    manifest = open_release(folder)
    counts = manifest.counts.model_copy(update={"users": 5})
    with pytest.raises(ServingError, match="3 of 5 lists are there after loading"):
        store.load_release(folder, verified=manifest.model_copy(update={"counts": counts}))
    assert store.releases() == []


def test_a_server_killed_in_a_publish_is_said_and_the_same_publish_succeeds_later(
    sealed, own_redis, tmp_path
):
    place = f"unix://{own_redis.socket}?pointer_s=0&claim_s=0.5"
    publish(sealed("r1"), place)
    folder = sealed("r2", lists={"ann": ["new"], "bob": ["b"]}, parts=2)
    store = open_store(place)
    with store.publishing():
        own_redis.kill()
        with pytest.raises(StoreUnreachableError, match="is Redis running there"):
            store.load_release(folder)
    with pytest.raises(StoreUnreachableError):
        publish(folder, place)
    own_redis.start()
    with open_reader(place) as reader:
        assert reader.release().release_id == "r1"
        assert publish(folder, place).switched  # the claim of the killed one is waited for
        assert reader.read(["ann"]).lists[0].items[0].item_id == "new"


def test_a_user_in_two_parts_is_refused_while_loading(sealed, place):
    folder = sealed("r1", lists={"ann": ["a"], "bob": ["b"]}, parts=2)
    first, second = (folder / "lists" / f"part-0000{i}.parquet" for i in (0, 1))
    store, manifest = RedisStore(place), open_release(folder)
    second.write_bytes(first.read_bytes())
    with pytest.raises(DamagedReleaseError, match="two parts"):
        store.load_release(folder, verified=manifest)


def test_a_damaged_pointer_is_said_in_words(place, client, tmp_path):
    client.set(f"{tmp_path.name}:current", "{")
    for ask in (open_store(place).releases, open_store(place).rollback, open_reader(place).release):
        with pytest.raises(ServingError, match="current is damaged"):
            ask()
