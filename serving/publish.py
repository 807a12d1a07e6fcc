"""Publishing: the one way a release reaches the readers."""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from serving.stores import open_store


@dataclass(frozen=True)
class Published:
    """What `publish` did."""

    release_id: str
    users: int
    switched: bool  # False: it was the current release already, nothing changed
    deleted: tuple[str, ...]  # releases too old to be kept in the store


def publish(release_folder: Path, store: str | Path, keep: int = 7) -> Published:
    """Verify a sealed release, load it beside the current one, and switch to it.

    A crash or an error on the way leaves the readers with the release they had; doing it again
    goes on where it stopped.

    Args:
        release_folder: a sealed release.
        store: a folder, made if it is not there, or the address of a Redis server.
        keep: how many earlier releases stay in the store to roll back to.

    Raises:
        ServingError: the release is unfinished or damaged, or someone else is publishing.
    """
    with closing(open_store(store)) as opened, opened.publishing():
        manifest = opened.load_release(release_folder)
        switched = opened.switch(manifest.release_id)
        deleted = opened.prune(keep)
    return Published(manifest.release_id, manifest.counts.users, switched, tuple(deleted))
