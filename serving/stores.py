"""What a store of releases can do, whichever it is, and how to open the one that is meant.

A store is named by a place: a folder (one SQLite file for each release, `serving.folder`), or the
address of a Redis server, `redis://host:port/db?prefix=shop` (`serving.redis_store`; also rediss://
and unix://). Both keep the same promises: a release is loaded beside the current one, unseen; one
switch makes it current for every reader; rollback switches back; everything in one answer is of one
release.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, Protocol, Self

from serving.lists import Answer, ListedItem
from serving.manifest import Manifest

ADDRESS = re.compile(r"(redis|rediss|unix)://")


class Answers(NamedTuple):
    """One answer per user, in the order asked, all of one release."""

    release: Manifest
    lists: list[Answer]


class Fallback(NamedTuple):
    """The list for everyone, and the release that it is of."""

    release: Manifest
    items: Sequence[ListedItem]


@dataclass(frozen=True)
class LoadedRelease:
    """One line of `releases`."""

    release_id: str
    as_of: str
    users: int
    model: str  # name/version
    is_current: bool
    forced: str | None = None  # why it was published although gates had failed


def loaded_release(manifest: Manifest, is_current: bool) -> LoadedRelease:
    """Return the line of a release, from the manifest that the store keeps."""
    forced = manifest.forced.reason if manifest.forced else None
    return LoadedRelease(manifest.release_id, manifest.as_of, manifest.counts.users,
                         manifest.model.label, is_current, forced)  # fmt: skip


class Store(Protocol):
    """Where releases are loaded and which one is current.

    Every call raises ServingError in words; StoreUnreachableError where the store is a server that
    does not answer.
    """

    def load_release(self, release_folder: Path, verified: Manifest | None = None) -> Manifest:
        """Verify a release and load it, unseen by readers; one already loaded is left alone.

        Memory is bounded by one batch of rows, whatever the number of users. Where others may
        publish at the same time, hold `publishing`.

        Args:
            release_folder: a sealed release.
            verified: its manifest, if it was verified just now, and maybe why its publish is
                forced; what is loaded keeps it, also where it was loaded with another one. None =
                verify it here.

        Returns:
            The manifest that the store keeps.

        Raises:
            ServingError: it is unfinished or damaged, or another one of that id is loaded.
        """

    def switch(self, release_id: str) -> bool:
        """Make a loaded release the current one, at once, for every reader.

        Returns:
            False if it was the current one already, and nothing changed.

        Raises:
            NoReleaseError: the release is not loaded.
            StoreBusyError: someone else is switching.
        """

    def rollback(self) -> str:
        """Go back to the release that was current before this one; return its id.

        Raises:
            NoReleaseError: there is nothing to go back to.
            StoreBusyError: someone else is switching.
        """

    def prune(self, keep: int) -> list[str]:
        """Delete all releases but the current one and the `keep` before it; return their ids."""

    def releases(self) -> list[LoadedRelease]:
        """List the loaded releases, in the order of their ids."""

    def publishing(self) -> AbstractContextManager[None]:
        """Be the only publisher of this store; reading and rolling back go on meanwhile.

        Raises:
            StoreBusyError: someone else is publishing.
        """

    def close(self) -> None:
        """Let go of connections."""


class Reader(Protocol):
    """Reads the current release; any number of threads may share one reader.

    Every call raises NoReleaseError if nothing was published yet, StoreUnreachableError if the
    store is a server that does not answer (the next call tries again), and another ServingError if
    the store is damaged.
    """

    @property
    def stale_s(self) -> float:
        """For so long a release may still be read after another one became current."""

    def read(self, user_ids: Sequence[str | int], k: int | None = None) -> Answers:
        """Read the lists of some users, all of one release.

        Args:
            user_ids: in any order, repeats allowed; a user without a list gets the fallback list.
            k: at most this many items each; a list is never longer than the release's own k.
        """

    def fallback(self) -> Fallback:
        """Read the list for everyone, for when there is nothing better to answer with."""

    def release(self) -> Manifest:
        """Say which release is current."""

    def close(self) -> None:
        """Close what is idle; a call after this one opens what it needs again."""

    def __enter__(self) -> Self:
        """Be closed at the end of the block."""

    def __exit__(self, *_: object) -> None:
        """Close."""


def open_store(place: str | Path) -> Store:
    """Open a store to publish in; nothing is made or asked before its first use.

    Args:
        place: a folder, or the address of a Redis server.

    Raises:
        ServingError: the address cannot be understood, or its package is not installed.
    """
    if is_address(place):
        from serving.redis_store import RedisStore

        return RedisStore(str(place))
    from serving.folder import FolderStore

    return FolderStore(Path(place))


def open_reader(place: str | Path) -> Reader:
    """Open a store to read from, which may be empty still; raises as `open_store` does."""
    if is_address(place):
        from serving.redis_reader import RedisReader

        return RedisReader(str(place))
    from serving.folder import SqliteReader

    return SqliteReader(Path(place))


def is_address(place: str | Path) -> bool:
    """Say whether a store is a server's; otherwise it is a folder."""
    return isinstance(place, str) and ADDRESS.match(place) is not None


def shown(place: str | Path) -> str:
    """Return a place as it may be printed: without the password in it."""
    return re.sub(r"(?<=://)([^/@]*):[^/@]*@", r"\1:***@", str(place))
