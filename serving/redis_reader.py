"""Reading from a store in Redis: the pointer now and then, the lists in one round trip a call."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from threading import Lock
from time import monotonic
from typing import Self
from zlib import crc32

from serving.errors import NoReleaseError, ServingError
from serving.lists import Answer, ListedItem
from serving.manifest import Manifest, read_manifest
from serving.pointer import parse_pointer
from serving.redis_server import connected, in_words, read_place
from serving.stores import Answers, Fallback, shown
from serving.unpacking import Words, parse_words, unpack

MARK = b"\xff"  # in every shard; no text is these bytes, so no user has this key
TIMEOUT_S = 1.0  # of a read
TRIES = 3  # to read of one release, while others come and go


@dataclass(frozen=True)
class KnownRelease:
    """What every call needs of a release, but the lists."""

    manifest: Manifest
    words: Words
    fallback: list[ListedItem]
    shards: list[str]  # their keys


def shard_of(key: bytes, n_shards: int) -> int:
    """Say which shard of a release a user's list is in."""
    return crc32(key) % n_shards


def by_shard(keys: Sequence[str], packed: Sequence[bytes], n_shards: int) -> dict[int, list[bytes]]:
    """Deal lists to shards: key, list, key, list, ... for each."""
    fields = defaultdict[int, list[bytes]](list)
    for key, one in zip(map(str.encode, keys), packed, strict=True):
        fields[shard_of(key, n_shards)] += (key, one)
    return fields


class RedisReader:
    """A reader of `serving.stores`; it asks for the pointer again after `stale_s`."""

    def __init__(self, address: str) -> None:
        self._place = read_place(address, shown(address))
        self._redis = connected(self._place, TIMEOUT_S, retries=1)  # after a restart one was closed
        self.stale_s = self._place.pointer_s
        self._asked = float("-inf")  # when the pointer was read last
        self._known: KnownRelease | None = None
        self._opening = Lock()  # one thread reads what a new release brings, the others wait

    def read(self, user_ids: Sequence[str | int], k: int | None = None) -> Answers:
        """Read the lists of some users, all of one release."""
        with in_words(self._place):
            release = self._current(self.stale_s)
            for _ in range(TRIES):
                found = self._packed(release, user_ids)
                if found is not None:
                    break
                release = self._current(0.0)  # it was deleted since the pointer was read
            else:
                raise ServingError(
                    f"{self._place.shown}: lists of release {release.manifest.release_id} are "
                    "gone; does the server evict keys (maxmemory-policy)? "
                    "make a new release and publish it"
                )
        return Answers(release.manifest, [
            Answer(user_id, True, release.fallback[:k]) if one is None
            else Answer(user_id, False, unpack(one, release.words, k))
            for user_id, one in zip(user_ids, found, strict=True)
        ])  # fmt: skip

    def fallback(self) -> Fallback:
        """Read the list for everyone."""
        with in_words(self._place):
            release = self._current(self.stale_s)
        return Fallback(release.manifest, release.fallback)

    def release(self) -> Manifest:
        """Say which release is current."""
        with in_words(self._place):
            return self._current(self.stale_s).manifest

    def close(self) -> None:
        """Close the connections."""
        self._redis.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _packed(
        self, release: KnownRelease, user_ids: Sequence[str | int]
    ) -> list[bytes | None] | None:
        """Read lists in one round trip: one for each user, None for who has none.

        Returns:
            None if a shard is gone.
        """
        asked = defaultdict[int, list[int]](list)  # shard -> places in `user_ids`
        keys = [str(user_id).encode("utf-8", "surrogatepass") for user_id in user_ids]
        for place, key in enumerate(keys):
            asked[shard_of(key, len(release.shards))].append(place)
        with self._redis.pipeline(transaction=False) as pipe:
            for n, places in asked.items():
                pipe.hmget(release.shards[n], [MARK, *(keys[place] for place in places)])
            replies = pipe.execute()
        found: list[bytes | None] = [None] * len(keys)
        for places, (mark, *lists) in zip(asked.values(), replies, strict=True):
            if mark is None:
                return None
            for place, one in zip(places, lists, strict=True):
                found[place] = one
        return found

    def _current(self, stale_s: float) -> KnownRelease:
        """Return the current release, as of `stale_s` ago at most."""
        known, now = self._known, monotonic()
        if known is not None and now < self._asked + stale_s:
            return known
        for _ in range(TRIES):
            found = self._redis.get(self._place.key("current"))
            if found is None:
                raise NoReleaseError(
                    f"no release is published in {self._place.shown}; publish one first"
                )
            release_id = parse_pointer(f"{self._place.shown}: current", found).release_id
            with self._opening:
                if self._known is None or self._known.manifest.release_id != release_id:
                    opened = self._open(release_id)
                    if opened is None:
                        continue  # it was replaced and deleted since the pointer was read
                    self._known = opened
                self._asked = now
                return self._known
        raise NoReleaseError(f"{self._place.shown}: release {release_id} is gone; publish it again")

    def _open(self, release_id: str) -> KnownRelease | None:
        """Read what every call needs of a release; None if it is not there."""
        [own] = self._place.release_keys(release_id)
        found = self._redis.hgetall(own)
        if not found:
            return None
        try:
            manifest = read_manifest(found[b"manifest"], f"{self._place.shown}: {own}")
            told = parse_words(found[b"words"])
            fallback = list(unpack(found[b"fallback"], told))
            shards = self._place.release_keys(release_id, int(found[b"shards"]))[1:]
        except (KeyError, ValueError, ServingError) as error:
            raise ServingError(
                f"{self._place.shown}: {own} is damaged ({error}); "
                "make a new release and publish it"
            ) from error
        return KnownRelease(manifest, told, fallback, shards)
