"""The store in a folder: one SQLite file per release and one pointer to the current one.

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

from serving.errors import NoReleaseError, ServingError
from serving.inspection import verify
from serving.manifest import Manifest
from serving.pointer import locked, parse_pointer, pointer_bytes, read_pointer, write_pointer
from serving.release import open_release, write_whole
from serving.sqlite import OpenRelease, build_file, open_file
from serving.stores import Answers, Fallback, LoadedRelease, loaded_release


@dataclass(frozen=True)
class FolderStore:
    """A store of `serving.stores` on a disk; its locks end with the process that holds them."""

    folder: Path

    def load_release(self, release_folder: Path, verified: Manifest | None = None) -> Manifest:
        """Build the file of a release and give it its name when it is whole."""
        manifest = verified or open_release(release_folder)
        path = _sqlite_path(self.folder, manifest.release_id)
        if path.exists():
            with closing(open_file(path)) as opened:
                loaded = opened.manifest
            if loaded.as_sealed() != manifest.as_sealed():
                raise ServingError(
                    f"{path} was loaded from another release of the same id; "
                    "a release never changes: make a new one, it gets an id of its own"
                )
            if verified is None or loaded == verified:
                return loaded
        if verified is None:
            verify(release_folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        write_whole(path, lambda temp: build_file(temp, release_folder, manifest))
        return manifest

    def switch(self, release_id: str) -> bool:
        """Replace the pointer in one rename; False if it was so already."""
        with locked(self.folder, "switch"):
            if not _sqlite_path(self.folder, release_id).exists():
                raise NoReleaseError(
                    f"release {release_id} is not loaded in {self.folder}; load it first"
                )
            pointer = read_pointer(self.folder)
            if pointer and pointer.release_id == release_id:
                return False
            before = (pointer.release_id, *pointer.previous) if pointer else ()
            write_pointer(
                self.folder, release_id, [other for other in before if other != release_id]
            )
            return True

    def rollback(self) -> str:
        """Point to the release before; return its id."""
        with locked(self.folder, "switch"):
            pointer = read_pointer(self.folder)
            if pointer is None or not pointer.previous:
                raise NoReleaseError(
                    f"{self.folder} has no earlier release to go back to; publish one"
                )
            target, *before = pointer.previous
            if not _sqlite_path(self.folder, target).exists():
                raise NoReleaseError(
                    f"release {target} is gone from {self.folder}; publish its folder again"
                )
            write_pointer(self.folder, target, before)
            return target

    def prune(self, keep: int) -> list[str]:
        """Delete old files; readers in the middle of one finish their call."""
        with locked(self.folder, "switch"):
            pointer = read_pointer(self.folder)
            if pointer is None:
                return []
            kept = pointer.previous[:keep]
            if kept != pointer.previous:
                write_pointer(self.folder, pointer.release_id, kept)
            gone = [
                path
                for path in sorted(self.folder.glob("*.sqlite"))
                if path.stem not in (pointer.release_id, *kept)
            ]
            for path in gone:
                path.unlink()
            return [path.stem for path in gone]

    def releases(self) -> list[LoadedRelease]:
        """List the loaded releases, in the order of their ids."""
        pointer = read_pointer(self.folder)
        found = []
        for path in sorted(self.folder.glob("*.sqlite")):
            with closing(open_file(path)) as loaded:
                manifest = loaded.manifest
            is_current = pointer is not None and pointer.release_id == manifest.release_id
            found.append(loaded_release(manifest, is_current))
        return found

    @contextmanager
    def publishing(self) -> Iterator[None]:
        """Hold the lock of publishers; what a killed one left is deleted."""
        with locked(self.folder, "publish"):
            for left_by_a_crash in self.folder.glob(".*.sqlite.*.tmp*"):
                left_by_a_crash.unlink()
            yield

    def close(self) -> None:
        """Nothing is held between calls."""


class SqliteReader:
    """Reads the current release; any number of threads may share one reader.

    Each call borrows a connection of the current release from a pool, or opens one; connections of
    an earlier release are closed as they come back.
    """

    stale_s = 0.0  # the pointer is read anew at each call

    def __init__(self, store: Path) -> None:
        self._store = store
        self._lock = Lock()  # over the three below
        self._pointer = b""  # as last read; the idle connections are of this release
        self._idle: list[OpenRelease] = []
        self._known: OpenRelease | None = None  # of this release too, for what connections share
        self._opening = Lock()  # one thread opens a new release, the others wait for what it knows

    def read(self, user_ids: Sequence[str | int], k: int | None = None) -> Answers:
        """Read the lists of some users, all of one release."""
        with self._borrowed() as opened:
            return Answers(opened.manifest, [opened.answer(user_id, k) for user_id in user_ids])

    def fallback(self) -> Fallback:
        """Read the list for everyone."""
        with self._borrowed() as opened:
            return Fallback(opened.manifest, opened.fallback)

    def release(self) -> Manifest:
        """Say which release is current."""
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
        release_id = parse_pointer(self._store / "current.json", pointer).release_id
        try:
            with self._opening:
                return pointer, self._open(pointer, _sqlite_path(self._store, release_id))
        except NoReleaseError:
            if pointer_bytes(self._store) == pointer:
                raise
            return self._take()  # it was replaced and deleted since the pointer was read

    def _open(self, pointer: bytes, path: Path) -> OpenRelease:
        """Open a connection; the first of a release reads what all of them share."""
        with self._lock:
            known = self._known if pointer == self._pointer else None
        opened = open_file(path) if known is None else known.again()
        with self._lock:
            if pointer == self._pointer:
                self._known = opened
        return opened

    def _keep(self, pointer: bytes) -> OpenRelease | None:
        """Make the pool one of this pointer's release; take a connection out if it has one."""
        stale: list[OpenRelease] = []
        with self._lock:
            if pointer != self._pointer:
                stale, self._idle, self._pointer = self._idle, [], pointer
                self._known = None
            opened = self._idle.pop() if self._idle else None
        for old in stale:
            old.close()
        return opened


def _sqlite_path(store: Path, release_id: str) -> Path:
    return store / f"{release_id}.sqlite"
