"""The store in a Redis server: hashes for each release, one key that names the current one.

With a prefix of the store's own, `recsys` if the address names none:

    <prefix>:current              {release_id, previous, switched_at}, as in a folder
    <prefix>:releases             hash: each release here, whole or not -> how many shards it has
    <prefix>:release:<id>         hash: manifest, words, fallback, shards; written last, gone first
    <prefix>:release:<id>:<n>     hash, shard n: keys of users -> packed lists, and a mark
    <prefix>:publishing           the claim of a publisher; it ends by itself if they die

No key is made of a user's id: an id is a field of a hash, where any bytes are welcome. Shards are
small, so that a release comes, goes and expires in small steps, and few, so that one transaction
can give all of them a time to live or take it off. A shard without its mark is gone, which is not
the same as a user without a list.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

from serving.errors import DamagedReleaseError, NoReleaseError, ServingError
from serving.inspection import verify
from serving.manifest import Manifest, read_manifest
from serving.packing import Packer, packed_fallback, packed_lists
from serving.pointer import Pointer, parse_pointer
from serving.redis_reader import MARK, by_shard
from serving.redis_server import claimed, connected, in_words, read_place
from serving.release import open_release
from serving.stores import LoadedRelease, loaded_release, shown

PER_SHARD = 4096  # users
AHEAD_S = 60  # a release is gone for so long before its shards are


class RedisStore:
    """A store of `serving.stores` in a server."""

    def __init__(self, address: str) -> None:
        self._place = read_place(address, shown(address))
        self._redis = connected(self._place, timeout_s=30.0, retries=0)
        self._still_ours: Callable[[], None] = _nobody_asks

    def load_release(self, release_folder: Path, verified: Manifest | None = None) -> Manifest:
        """Send all lists, shard by shard; the release is there when its own hash is, at the end."""
        manifest = verified or open_release(release_folder)
        with in_words(self._place):
            found = self._redis.hget(self._own(manifest.release_id), "manifest")
            loaded = read_manifest(found, self._place.shown) if found else None
            if loaded and loaded.as_sealed() != manifest.as_sealed():
                raise ServingError(
                    f"{self._place.shown}: {manifest.release_id} was loaded from another release "
                    "of the same id; a release never changes: make a new one, it gets an id of "
                    "its own"
                )
            if loaded and (verified is None or loaded == verified):
                return loaded
            if loaded:  # the same lists, published for another reason
                self._redis.hset(self._own(manifest.release_id), "manifest",
                                 manifest.model_dump_json())  # fmt: skip
                return manifest
            if verified is None:
                verify(release_folder)
            self._fill(release_folder, manifest)
        return manifest

    def switch(self, release_id: str) -> bool:
        """Name another release in one transaction; False if it was so already."""

        def other(pointer: Pointer | None) -> tuple[str, list[str]] | None:
            if pointer and pointer.release_id == release_id:
                return None
            before = (pointer.release_id, *pointer.previous) if pointer else ()
            return release_id, [one for one in before if one != release_id]

        return self._move(other, "is not loaded in {}; load it first") is not None

    def rollback(self) -> str:
        """Name the release before in one transaction; return its id."""

        def earlier(pointer: Pointer | None) -> tuple[str, list[str]]:
            if pointer is None or not pointer.previous:
                raise NoReleaseError(
                    f"{self._place.shown} has no earlier release to go back to; publish one"
                )
            return pointer.previous[0], list(pointer.previous[1:])

        target = self._move(earlier, "is gone from {}; publish its folder again")
        assert target is not None  # `earlier` always names one
        return target

    def prune(self, keep: int) -> list[str]:
        """Delete old releases, each at once; the server frees their memory in the background."""
        with in_words(self._place), self._redis.pipeline() as pipe:
            pipe.watch(self._place.key("current"))
            pointer = self._pointer(pipe.get(self._place.key("current")))
            if pointer is None:
                return []
            kept = pointer.previous[:keep]
            shards = {
                one.decode(): int(n) for one, n in pipe.hgetall(self._place.key("releases")).items()
            }
            gone = sorted(shards.keys() - {pointer.release_id, *kept})
            whole = [one for one in gone if pipe.exists(self._own(one))]
            pipe.multi()
            if kept != pointer.previous:
                pointer = pointer.model_copy(update={"previous": kept})
                pipe.set(self._place.key("current"), pointer.model_dump_json())
            for one in gone:
                pipe.unlink(*self._place.release_keys(one, shards[one]))
                pipe.hdel(self._place.key("releases"), one)
            pipe.execute()
            return whole

    def releases(self) -> list[LoadedRelease]:
        """List the loaded releases, in the order of their ids."""
        with in_words(self._place):
            pointer = self._pointer(self._redis.get(self._place.key("current")))
            ids = sorted(one.decode() for one in self._redis.hkeys(self._place.key("releases")))
            found = [self._redis.hget(self._own(one), "manifest") for one in ids]
        loaded = [read_manifest(one, self._place.shown) for one in found if one]
        return [
            loaded_release(one, pointer is not None and pointer.release_id == one.release_id)
            for one in loaded
        ]

    @contextmanager
    def publishing(self) -> Iterator[None]:
        """Hold the claim of publishers; clear what a dead one left."""
        with claimed(self._redis, self._place) as self._still_ours:
            try:
                with in_words(self._place):
                    self._clear()
                yield
            finally:
                self._still_ours = _nobody_asks

    def close(self) -> None:
        """Close the connections."""
        self._redis.close()

    def _fill(self, release_folder: Path, manifest: Manifest) -> None:
        release_id, users = manifest.release_id, manifest.counts.users
        n_shards = users // PER_SHARD + 1
        self._redis.hset(self._place.key("releases"), release_id, n_shards)
        meta, *shards = self._place.release_keys(release_id, n_shards)
        with self._redis.pipeline(transaction=False) as pipe:
            pipe.unlink(meta, *shards)  # of a load that was interrupted
            for shard in shards:
                pipe.hset(shard, MARK, b"")
            pipe.execute()
            packer = Packer()
            for keys, packed in packed_lists(packer, release_folder, manifest):
                self._still_ours()
                for n, fields in by_shard(keys, packed, n_shards).items():
                    pipe.hset(shards[n], items=fields)
                if sum(pipe.execute()) < len(keys):
                    raise DamagedReleaseError(
                        f"{release_folder}: a user has a list in two parts; make a new release "
                        "whose parts have no user in common"
                    )
            for shard in shards:
                pipe.hlen(shard)
            if (there := sum(pipe.execute()) - n_shards) != users:
                raise ServingError(
                    f"{self._place.shown}: {there:,} of {users:,} lists are there after loading; "
                    "was it restarted, or does it evict keys (maxmemory-policy)? publish again"
                )
        fallback = packed_fallback(packer, release_folder)
        self._redis.hset(meta, mapping={
            "manifest": manifest.model_dump_json(), "words": packer.words().as_bytes(),
            "fallback": fallback, "shards": n_shards,
        })  # fmt: skip

    def _move(
        self, choose: Callable[[Pointer | None], tuple[str, list[str]] | None], absent: str
    ) -> str | None:
        """Point to what `choose` says: a release and those before it; None = leave it as it is."""
        current = self._place.key("current")
        with in_words(self._place), self._redis.pipeline() as pipe:
            pipe.watch(current)
            pointer = self._pointer(pipe.get(current))
            chosen = choose(pointer)
            if chosen is None:
                return None
            target, previous = chosen
            pipe.watch(self._own(target))
            n_shards = pipe.hget(self._own(target), "shards")
            if n_shards is None:
                raise NoReleaseError(f"release {target} {absent.format(self._place.shown)}")
            old = pipe.hget(self._own(pointer.release_id), "shards") if pointer else None
            self._still_ours()
            pipe.multi()
            for key in self._place.release_keys(target, int(n_shards)):
                pipe.persist(key)
            now = datetime.now(UTC)
            new = Pointer(release_id=target, previous=tuple(previous), switched_at=now.isoformat())
            pipe.set(current, new.model_dump_json())
            if pointer and old and pointer.release_id != target:
                end = now + timedelta(days=self._place.kept_days)
                meta, *shards = self._place.release_keys(pointer.release_id, int(old))
                pipe.expireat(meta, end)
                for shard in shards:
                    pipe.expireat(shard, end + timedelta(seconds=AHEAD_S))
            pipe.execute()
            return target

    def _clear(self) -> None:
        """Delete what an interrupted load left."""
        for one, n_shards in self._redis.hgetall(self._place.key("releases")).items():
            if not self._redis.exists(self._own(one.decode())):
                self._redis.unlink(*self._place.release_keys(one.decode(), int(n_shards)))
                self._redis.hdel(self._place.key("releases"), one)

    def _own(self, release_id: str) -> str:
        """Name a release's own key."""
        return self._place.release_keys(release_id)[0]

    def _pointer(self, found: bytes | None) -> Pointer | None:
        return parse_pointer(f"{self._place.shown}: current", found) if found else None


def _nobody_asks() -> None:
    """Outside of `publishing` there is no claim to lose."""
