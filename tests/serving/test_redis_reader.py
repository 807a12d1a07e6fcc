"""A reader of Redis gives whole lists of one release, or says why not, and recovers by itself."""

import pytest
import redis

from serving.errors import NoReleaseError, ServingError, StoreUnreachableError
from serving.publish import publish
from serving.redis_reader import MARK, by_shard, shard_of
from serving.stores import open_reader, open_store


@pytest.fixture
def client(running_redis):
    with redis.Redis(unix_socket_path=str(running_redis.socket)) as client:
        yield client


@pytest.fixture
def address(running_redis, tmp_path):
    return f"unix://{running_redis.socket}?prefix={tmp_path.name}&claim_s=1"


def test_every_list_is_dealt_to_the_shard_that_is_asked_for_it():
    keys = [f"user {n}" for n in range(100)]
    fields = by_shard(keys, [f"list of {key}".encode() for key in keys], 7)
    assert set(fields) == set(range(7))
    pairs = [(n, pair) for n, one in fields.items()
             for pair in zip(one[::2], one[1::2], strict=True)]  # fmt: skip
    assert len(pairs) == 100
    assert all(shard_of(key, 7) == n and one == b"list of " + key for n, (key, one) in pairs)
    with pytest.raises(UnicodeDecodeError):  # so no user's key is the mark
        MARK.decode()


def test_the_pointer_is_cached_for_as_long_as_the_reader_says(sealed, address):
    publish(sealed("r1"), address)
    with (
        open_reader(f"{address}&pointer_s=60") as patient,
        open_reader(f"{address}&pointer_s=0") as strict,
    ):
        assert (patient.stale_s, strict.stale_s) == (60, 0)
        for reader in (patient, strict):
            assert reader.read(["ann"]).release.release_id == "r1"
        publish(sealed("r2"), address)
        assert patient.read(["ann"]).release.release_id == "r1"
        assert strict.read(["ann"]).release.release_id == "r2"


def test_a_cached_release_that_was_deleted_is_not_taken_for_users_without_lists(sealed, address):
    publish(sealed("r1"), address)
    with open_reader(f"{address}&pointer_s=60") as reader:
        assert not reader.read(["ann"]).lists[0].is_fallback
        publish(sealed("r2"), address, keep=0)
        found = reader.read(["ann", "bob", "nobody"])
    assert [answer.is_fallback for answer in found.lists] == [False, False, True]
    assert {item.reason for answer in found.lists for item in answer.items} == {"r2"}
    assert found.release.release_id == "r2"


def test_evicted_lists_are_said_in_words_and_are_no_fallback(sealed, address, client, tmp_path):
    publish(sealed("r1"), address)
    client.delete(f"{tmp_path.name}:release:r1:0")
    with open_reader(address) as reader, pytest.raises(ServingError, match="evict keys"):
        reader.read(["ann"])


def test_an_evicted_or_damaged_release_is_said_in_words(sealed, address, client, tmp_path):
    publish(sealed("r1"), address)
    own = f"{tmp_path.name}:release:r1"
    for field, content in (("words", "x"), ("manifest", "{"), ("fallback", "?"), ("shards", "?")):
        before = client.hget(own, field)
        client.hset(own, field, content)
        with open_reader(address) as reader, pytest.raises(ServingError, match="is damaged"):
            reader.release()
        client.hset(own, field, before)
    client.delete(own)
    with open_reader(address) as reader, pytest.raises(NoReleaseError, match="r1 is gone"):
        reader.fallback()


def test_a_reader_says_that_the_server_is_away_and_recovers_by_itself(sealed, own_redis):
    address = f"unix://{own_redis.socket}?pointer_s=0"
    publish(sealed("r1"), address)
    with open_reader(address) as reader:
        before = reader.read(["ann", "nobody"])
        own_redis.kill()
        for ask in (lambda: reader.read(["ann"]), reader.fallback, reader.release):
            with pytest.raises(StoreUnreachableError, match="is Redis running there"):
                ask()
        own_redis.start()
        assert reader.read(["ann", "nobody"]) == before
        assert open_store(address).releases()[0].is_current
