"""The address of a store says where it is and how it behaves; a claim is held by one and ends."""

import time

import pytest
import redis

from serving.errors import ServingError, StoreBusyError, StoreUnreachableError
from serving.redis_server import RedisPlace, claimed, connected, in_words, read_place
from serving.stores import is_address, open_reader, shown


def test_an_address_is_a_server_and_options():
    address = "redis://me:secret@host:1/2?prefix=shop&pointer_s=0.5&claim_s=3&kept_days=1"
    assert read_place(address, "shown") == RedisPlace(
        url="redis://me:secret@host:1/2", shown="shown", prefix="shop", pointer_s=0.5, claim_s=3,
        kept_days=1,
    )  # fmt: skip
    assert read_place("unix:///run/redis.sock?db=3", "").url == "unix:///run/redis.sock?db=3"
    plain = read_place("redis://host", "")
    assert (plain.prefix, plain.pointer_s, plain.key("current")) == ("recsys", 1, "recsys:current")
    assert plain.release_keys("r1", 2) == [
        "recsys:release:r1", "recsys:release:r1:0", "recsys:release:r1:1",
    ]  # fmt: skip


def test_a_password_is_not_shown():
    assert shown("redis://me:secret@host:1/2") == "redis://me:***@host:1/2"
    assert shown("redis://:secret@host") == "redis://:***@host"
    assert shown("some/folder") == "some/folder"
    assert is_address("rediss://host") and not is_address("runs/store")


@pytest.mark.parametrize(
    ("options", "said"),
    [("prefiks=a", "prefiks: Extra inputs"), ("prefix=a:b", "prefix: String should match"),
     ("prefix=", "prefix: String"), ("pointer_s=-1", "pointer_s: Input"),
     ("claim_s=x", "claim_s: Input"), ("url=redis://other", "")],
)  # fmt: skip
def test_a_wrong_option_is_said_in_words(options, said):
    if not said:  # what the store is told by itself cannot be overridden
        assert read_place(f"redis://host?{options}", "").url == "redis://host"
        return
    with pytest.raises(ServingError, match=said):
        read_place(f"redis://host?{options}", "here")


def test_an_address_without_sense_is_said_in_words():
    with pytest.raises(ServingError, match=r"write redis://host:6379/0"):
        open_reader("redis://host:port/0")


def test_a_server_that_is_not_there_is_said_in_words(tmp_path):
    place = read_place(f"unix://{tmp_path}/none.sock", "here")
    with pytest.raises(StoreUnreachableError, match="here does not answer"), in_words(place):
        connected(place, 1.0, 0).get("x")


def test_what_the_server_refuses_is_said_in_words(running_redis):
    place = read_place(f"unix://{running_redis.socket}", "here")
    client = connected(place, 1.0, 0)
    client.set("text", "x")
    with pytest.raises(ServingError, match="here refuses: .*WRONGTYPE"), in_words(place):
        client.hget("text", "x")


@pytest.fixture
def place(running_redis, tmp_path):
    return read_place(f"unix://{running_redis.socket}?prefix={tmp_path.name}&claim_s=0.5", "here")


def test_a_claim_is_held_by_one_for_as_long_as_it_works(place):
    client = connected(place, 1.0, 0)
    until = time.monotonic() + 2 * place.claim_s
    with claimed(client, place) as still_ours:
        while time.monotonic() < until:  # longer than a claim lasts without being extended
            with pytest.raises(StoreBusyError, match="another process is at work in here"):
                claimed(client, place).__enter__()
        still_ours()
    with claimed(client, place):
        pass
    assert not client.exists(place.key("publishing"))


def test_the_claim_of_a_dead_publisher_is_waited_for(place):
    client = connected(place, 1.0, 0)
    client.set(place.key("publishing"), "of a dead one", px=300)
    with claimed(client, place) as still_ours:
        still_ours()


def test_a_claim_that_was_lost_is_noticed(place):
    client = connected(place, 1.0, 0)
    with claimed(client, place) as still_ours:
        client.set(place.key("publishing"), "of another one")
        with pytest.raises(StoreBusyError, match="nothing was switched"):
            still_ours()
    assert client.get(place.key("publishing")) == b"of another one"  # it is not ours to release


def test_a_switch_in_the_same_moment_is_said_in_words():
    with pytest.raises(StoreBusyError, match=r"switch"), in_words(read_place("redis://h", "here")):
        raise redis.WatchError
