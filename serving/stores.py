"""The store products read from: one SQLite file per release and one pointer to the current one.

    <store>/<release_id>.sqlite  never changes once it has its name
    <store>/current.json         {release_id, previous, switched_at}, replaced in one rename

A release is loaded beside the current one, then the pointer is switched; rollback switches it back.
A reader takes the pointer once per call, so that everything in one answer is of one release.

A user is found by the text of its id: 42 and "42" are the same user, because a request over HTTP
cannot tell them apart. ("042" is another one.)
"""

from __future__ import annotations

import fcntl
import json
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from threading import Lock
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pydantic import BaseModel, ValidationError

from serving.errors import DamagedReleaseError, NoReleaseError, ServingError, StoreBusyError
from serving.release import (
    Manifest,
    ReleaseId,
    iter_lists,
    list_starts,
    open_release,
    verify,
    write_whole,
)

# Rows in the order they come and an index at the end: built 2-4x faster, read 2x faster and up to
# 3x smaller than WITHOUT ROWID, whose rows of 1 kB and more spill into overflow pages (100,000
# lists of 20, SQLite 3.40).
TABLES = """
CREATE TABLE lists (key TEXT NOT NULL, payload BLOB NOT NULL);
CREATE TABLE meta (manifest TEXT NOT NULL, fallback BLOB NOT NULL);
"""
INDEX = "CREATE UNIQUE INDEX by_key ON lists (key)"


class Pointer(BaseModel, frozen=True, extra="forbid"):
    """Which release is current, and which ones were before it, the latest first."""

    release_id: ReleaseId
    previous: tuple[ReleaseId, ...]
    switched_at: str


class ListedItem(NamedTuple):
    """One place in a list."""

    rank: int  # from 1
    item_id: str | int
    score: float
    source: str
    reason: str


class Answer(NamedTuple):
    """The list of one user; `user_id` as it was asked for."""

    user_id: str | int
    is_fallback: bool  # the user has no list in this release: the same list for everyone
    items: list[ListedItem]


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
        with closing(_open(path)) as loaded:
            if loaded.manifest == manifest:
                return manifest
        raise ServingError(
            f"{path} was loaded from another release of the same id; "
            "a release never changes: make a new one, it gets an id of its own"
        )
    verify(release_folder)
    store.mkdir(parents=True, exist_ok=True)
    try:
        write_whole(path, lambda temp: _build(temp, release_folder, manifest))
    except sqlite3.IntegrityError as error:
        raise DamagedReleaseError(
            f"{release_folder}: a user has a list in two parts ({error}); make a new release "
            "whose parts have no user in common"
        ) from error
    except sqlite3.Error as error:
        raise ServingError(f"{path} cannot be built: {error}; is the disk full?") from error
    return manifest


def switch(store: Path, release_id: str) -> bool:
    """Make a loaded release the current one, at once, for every reader.

    Returns:
        False if it was the current one already, and nothing changed.

    Raises:
        NoReleaseError: the release is not loaded.
        StoreBusyError: someone else is switching.
    """
    with _locked(store, "switch"):
        if not _sqlite_path(store, release_id).exists():
            raise NoReleaseError(f"release {release_id} is not loaded in {store}; load it first")
        pointer = _read_pointer(store)
        if pointer and pointer.release_id == release_id:
            return False
        before = (pointer.release_id, *pointer.previous) if pointer else ()
        _point(store, release_id, [other for other in before if other != release_id])
        return True


def rollback(store: Path) -> str:
    """Go back to the release that was current before this one; return its id.

    Raises:
        NoReleaseError: there is nothing to go back to.
        StoreBusyError: someone else is switching.
    """
    with _locked(store, "switch"):
        pointer = _read_pointer(store)
        if pointer is None or not pointer.previous:
            raise NoReleaseError(f"{store} has no earlier release to go back to; publish one")
        target, *before = pointer.previous
        if not _sqlite_path(store, target).exists():
            raise NoReleaseError(f"release {target} is gone from {store}; publish its folder again")
        _point(store, target, before)
        return target


def prune(store: Path, keep: int) -> list[str]:
    """Delete all releases but the current one and the `keep` before it; return the ids deleted.

    Readers in the middle of a deleted release finish their call.
    """
    with _locked(store, "switch"):
        pointer = _read_pointer(store)
        if pointer is None:
            return []
        kept = pointer.previous[:keep]
        if kept != pointer.previous:
            _point(store, pointer.release_id, kept)
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
    pointer = _read_pointer(store)
    found = []
    for path in sorted(store.glob("*.sqlite")):
        with closing(_open(path)) as loaded:
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
    with _locked(store, "publish"):
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
        self._idle: list[_Open] = []

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
    def _borrowed(self) -> Iterator[_Open]:
        pointer, opened = self._take()
        try:
            yield opened
        except sqlite3.Error as error:
            raise ServingError(f"{opened.path} cannot be read: {error}") from error
        finally:
            with self._lock:
                still_current = pointer == self._pointer
                if still_current:
                    self._idle.append(opened)
            if not still_current:
                opened.close()

    def _take(self) -> tuple[bytes, _Open]:
        pointer = _pointer_bytes(self._store)
        if pointer is None:
            raise NoReleaseError(f"no release is published in {self._store}; publish one first")
        opened = self._keep(pointer)
        if opened is not None:
            return pointer, opened
        release_id = _parse_pointer(self._store, pointer).release_id
        try:
            return pointer, _open(_sqlite_path(self._store, release_id))
        except NoReleaseError:
            if _pointer_bytes(self._store) == pointer:
                raise
            return self._take()  # it was replaced and deleted since the pointer was read

    def _keep(self, pointer: bytes) -> _Open | None:
        """Make the pool one of this pointer's release; take a connection out if it has one."""
        stale: list[_Open] = []
        with self._lock:
            if pointer != self._pointer:
                stale, self._idle, self._pointer = self._idle, [], pointer
            opened = self._idle.pop() if self._idle else None
        for old in stale:
            old.close()
        return opened


@dataclass(frozen=True)
class _Open:
    """One connection to one release, and what every call needs of it."""

    path: Path
    connection: sqlite3.Connection
    manifest: Manifest
    fallback: list[list[Any]]

    def answer(self, user_id: str | int, k: int | None) -> Answer:
        found = self.connection.execute(
            "SELECT payload FROM lists WHERE key = ?", (str(user_id),)
        ).fetchone()
        rows = json.loads(found[0]) if found else self.fallback
        items = [
            ListedItem(rank, item_id, float(score), source, reason)
            for rank, (item_id, score, source, reason) in enumerate(rows[:k], start=1)
        ]
        return Answer(user_id, found is None, items)

    def close(self) -> None:
        self.connection.close()


def _open(path: Path) -> _Open:
    """Open a release's file: read only, and without locks, since it never changes."""
    uri = f"{path.resolve().as_uri()}?mode=ro&immutable=1"
    connection: sqlite3.Connection | None = None
    try:
        connection = sqlite3.connect(uri, uri=True, check_same_thread=False)
        manifest, fallback = connection.execute("SELECT manifest, fallback FROM meta").fetchone()
        return _Open(path, connection, Manifest.model_validate_json(manifest), json.loads(fallback))
    except (sqlite3.Error, TypeError, ValueError) as error:
        if connection is not None:
            connection.close()
        if not path.exists():
            raise NoReleaseError(f"{path} is gone; publish its release again") from error
        raise ServingError(f"{path} is damaged ({error}); delete it and publish again") from error


def _build(path: Path, release_folder: Path, manifest: Manifest) -> None:
    """Write the release as a new SQLite file; nobody reads it before it has its final name."""
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("PRAGMA journal_mode = OFF")
        connection.execute("PRAGMA synchronous = OFF")
        connection.executescript(f"BEGIN; {TABLES}")
        for entry in manifest.files:
            if entry.path != "fallback.parquet":
                for table in iter_lists(release_folder / entry.path):
                    connection.executemany("INSERT INTO lists VALUES (?, ?)", _keyed(table))
        fallback = pq.read_table(release_folder / "fallback.parquet")
        connection.execute("INSERT INTO meta VALUES (?, ?)", (
            manifest.model_dump_json(),
            _payloads(fallback, pa.array([0, len(fallback)], pa.int32()))[0].as_py(),
        ))  # fmt: skip
        connection.execute(INDEX)
        connection.execute("COMMIT")


def _keyed(table: pa.Table) -> Iterator[tuple[str | None, bytes | None]]:
    """Turn whole lists into (key, payload), one per user."""
    users = table["user_id"].combine_chunks()
    starts = list_starts(users)
    ends = pa.array([len(users)], starts.type)
    offsets = pa.concat_arrays([starts, ends]).cast(pa.int32())
    keys = users.take(starts).cast(pa.string())
    return zip(keys.to_pylist(), _payloads(table, offsets).to_pylist(), strict=True)


def _payloads(table: pa.Table, offsets: pa.Int32Array) -> pa.Array[Any]:
    """Write each list as JSON, [[item_id, score, source, reason], ...]: (n_lists,) binary.

    Args:
        table: the rows of the lists, back to back.
        offsets: (n_lists + 1,) int32, where each list begins and the last one ends.
    """
    names = ("item_id", "score", "source", "reason")
    columns = [_json(table[name].combine_chunks()) for name in names]
    join: Any = pc.binary_join_element_wise  # its stubs know no plain text among the arguments
    lists = pc.binary_join(pa.ListArray.from_arrays(offsets, join(*columns, ",")), "],[")
    return join("[[", lists, "]]", "").cast(pa.binary())  # type: ignore[no-any-return]


def _json(column: pa.Array[Any]) -> pa.Array[Any]:
    """Write each value as JSON; a float32 takes the fewest digits that read back the same."""
    if not pa.types.is_string(column.type):
        return column.cast(pa.string())
    encode = json.JSONEncoder(ensure_ascii=False).encode
    coded = column.dictionary_encode()
    texts = [encode(text) for text in coded.dictionary.to_pylist()]
    return pa.array(texts, pa.string()).take(coded.indices)


def _sqlite_path(store: Path, release_id: str) -> Path:
    return store / f"{release_id}.sqlite"


def _read_pointer(store: Path) -> Pointer | None:
    found = _pointer_bytes(store)
    return None if found is None else _parse_pointer(store, found)


def _pointer_bytes(store: Path) -> bytes | None:
    try:
        return (store / "current.json").read_bytes()
    except FileNotFoundError:
        return None


def _parse_pointer(store: Path, found: bytes) -> Pointer:
    try:
        return Pointer.model_validate_json(found)
    except ValidationError as error:
        raise ServingError(
            f"{store / 'current.json'} is damaged; delete it and publish again: {error}"
        ) from error


def _point(store: Path, release_id: str, previous: Sequence[str]) -> None:
    pointer = Pointer(
        release_id=release_id,
        previous=tuple(previous),
        switched_at=datetime.now(UTC).isoformat(),
    )
    text = pointer.model_dump_json(indent=2)
    write_whole(store / "current.json", lambda temp: temp.write_text(text, encoding="utf-8"))


@contextmanager
def _locked(store: Path, name: str) -> Iterator[None]:
    """Hold a lock that ends with the process that holds it; do not wait for it."""
    store.mkdir(parents=True, exist_ok=True)
    with (store / f".{name}.lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise StoreBusyError(
                f"another process is at work in {store} ({name}); wait until it is done, try again"
            ) from error
        yield
