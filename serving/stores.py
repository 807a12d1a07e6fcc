"""The store products read from: one SQLite file per release and one pointer to the current one.

    <store>/<release_id>.sqlite  never changes once it has its name
    <store>/current.json         {release_id, previous, switched_at}, replaced in one rename

A release is loaded beside the current one, then the pointer is switched; rollback switches it back.
A reader takes the pointer once per call, so that everything in one answer is of one release.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import NamedTuple

from serving.errors import NoReleaseError, ServingError
from serving.lists import Answer
from serving.pointer import locked, parse_pointer, pointer_bytes, read_pointer, write_pointer
from serving.release import Manifest, open_release, verify, write_whole
from serving.sqlite import OpenRelease, build_file, open_file


class Answers(NamedTuple):
    """One answer per user, in the order asked, all of one release."""

    release: Manifest
    lists: list[Answer]


@dataclass(frozen=True)
class LoadedRelease:
    """One line of `releases`."""

    release_id: str
    as_of: str
    users: int
    model: str  # name/version
    is_current: bool


def load_release(store: Path, release_folder: Path) -> Manifest:
    """Verify a release and build its file in the store; a release already loaded is left alone.

    Memory is bounded by one batch of rows, whatever the number of users. Where others may publish
    at the same time, hold `publishing`.

    Raises:
        ServingError: the release is unfinished or damaged, or another one of that id is loaded.
    """
    manifest = open_release(release_folder)
    path = _sqlite_path(store, manifest.release_id)
    if path.exists():
        with closing(open_file(path)) as loaded:
            if loaded.manifest == manifest:
                return manifest
        raise ServingError(
            f"{path} was loaded from another release of the same id; "
            "a release never changes: make a new one, it gets an id of its own"
        )
    verify(release_folder)
    store.mkdir(parents=True, exist_ok=True)
    write_whole(path, lambda temp: build_file(temp, release_folder, manifest))
    return manifest


def switch(store: Path, release_id: str) -> bool:
    """Make a loaded release the current one, at once, for every reader.

    Returns:
        False if it was the current one already, and nothing changed.

    Raises:
        NoReleaseError: the release is not loaded.
        StoreBusyError: someone else is switching.
    """
    with locked(store, "switch"):
        if not _sqlite_path(store, release_id).exists():
            raise NoReleaseError(f"release {release_id} is not loaded in {store}; load it first")
        pointer = read_pointer(store)
        if pointer and pointer.release_id == release_id:
            return False
        before = (pointer.release_id, *pointer.previous) if pointer else ()
        write_pointer(store, release_id, [other for other in before if other != release_id])
        return True


def rollback(store: Path) -> str:
    """Go back to the release that was current before this one; return its id.

    Raises:
        NoReleaseError: there is nothing to go back to.
        StoreBusyError: someone else is switching.
    """
    with locked(store, "switch"):
        pointer = read_pointer(store)
        if pointer is None or not pointer.previous:
            raise NoReleaseError(f"{store} has no earlier release to go back to; publish one")
        target, *before = pointer.previous
        if not _sqlite_path(store, target).exists():
            raise NoReleaseError(f"release {target} is gone from {store}; publish its folder again")
        write_pointer(store, target, before)
        return target


def prune(store: Path, keep: int) -> list[str]:
    """Delete all releases but the current one and the `keep` before it; return the ids deleted.

    Readers in the middle of a deleted release finish their call.
    """
    with locked(store, "switch"):
        pointer = read_pointer(store)
        if pointer is None:
            return []
        kept = pointer.previous[:keep]
        if kept != pointer.previous:
            write_pointer(store, pointer.release_id, kept)
        gone = [
            path
            for path in sorted(store.glob("*.sqlite"))
            if path.stem not in (pointer.release_id, *kept)
        ]
        for path in gone:
            path.unlink()
        return [path.stem for path in gone]


def releases(store: Path) -> list[LoadedRelease]:
    """List the loaded releases, in the order of their ids."""
    pointer = read_pointer(store)
    found = []
    for path in sorted(store.glob("*.sqlite")):
        with closing(open_file(path)) as loaded:
            manifest = loaded.manifest
        is_current = pointer is not None and pointer.release_id == manifest.release_id
        found.append(LoadedRelease(manifest.release_id, manifest.as_of, manifest.counts.users,
                                   manifest.model.label, is_current))  # fmt: skip
    return found


@contextmanager
def publishing(store: Path) -> Iterator[None]:
    """Be the only publisher of this store; reading and rolling back go on meanwhile.

    Raises:
        StoreBusyError: someone else is publishing.
    """
    with locked(store, "publish"):
        for left_by_a_crash in store.glob(".*.sqlite.*.tmp*"):
            left_by_a_crash.unlink()
        yield


class SqliteReader:
    """Reads the current release; any number of threads may share one reader.

    Each call borrows a connection of the current release from a pool, or opens one; connections of
    an earlier release are closed as they come back.
    """

    def __init__(self, store: Path) -> None:
        self._store = store
        self._lock = Lock()
        self._pointer = b""  # as last read; the idle connections are of this release
        self._idle: list[OpenRelease] = []

    def read(self, user_ids: Sequence[str | int], k: int | None = None) -> Answers:
        """Read the lists of some users, all of one release.

        Args:
            user_ids: in any order, repeats allowed; a user without a list gets the fallback list.
            k: at most this many items each; a list is never longer than the release's own k.

        Raises:
            NoReleaseError: nothing was published yet.
            ServingError: the store is damaged.
        """
        with self._borrowed() as opened:
            return Answers(opened.manifest, [opened.answer(user_id, k) for user_id in user_ids])

    def release(self) -> Manifest:
        """Say which release is current; raises as `read` does."""
        with self._borrowed() as opened:
            return opened.manifest

    def close(self) -> None:
        """Close what is idle; a call after this one opens what it needs again."""
        self._keep(b"")

    def __enter__(self) -> SqliteReader:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @contextmanager
    def _borrowed(self) -> Iterator[OpenRelease]:
        pointer, opened = self._take()
        try:
            yield opened
        finally:
            with self._lock:
                still_current = pointer == self._pointer
                if still_current:
                    self._idle.append(opened)
            if not still_current:
                opened.close()

    def _take(self) -> tuple[bytes, OpenRelease]:
        pointer = pointer_bytes(self._store)
        if pointer is None:
            raise NoReleaseError(f"no release is published in {self._store}; publish one first")
        opened = self._keep(pointer)
        if opened is not None:
            return pointer, opened
        release_id = parse_pointer(self._store, pointer).release_id
        try:
            return pointer, open_file(_sqlite_path(self._store, release_id))
        except NoReleaseError:
            if pointer_bytes(self._store) == pointer:
                raise
            return self._take()  # it was replaced and deleted since the pointer was read

    def _keep(self, pointer: bytes) -> OpenRelease | None:
        """Make the pool one of this pointer's release; take a connection out if it has one."""
        stale: list[OpenRelease] = []
        with self._lock:
            if pointer != self._pointer:
                stale, self._idle, self._pointer = self._idle, [], pointer
            opened = self._idle.pop() if self._idle else None
        for old in stale:
            old.close()
        return opened


def _sqlite_path(store: Path, release_id: str) -> Path:
    return store / f"{release_id}.sqlite"
