"""Publishing: the one way a release reaches the readers."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from serving.stores import load_release, prune, publishing, switch


@dataclass(frozen=True)
class Published:
    """What `publish` did."""

    release_id: str
    users: int
    switched: bool  # False: it was the current release already, nothing changed
    deleted: tuple[str, ...]  # releases too old to be kept in the store


def publish(release_folder: Path, store: Path, keep: int = 7) -> Published:
    """Verify a sealed release, load it beside the current one, and switch to it.

    A crash or an error on the way leaves the readers with the release they had; doing it again
    goes on where it stopped.

    Args:
        release_folder: a sealed release.
        store: the store; made if it is not there.
        keep: how many earlier releases stay in the store to roll back to.

    Raises:
        ServingError: the release is unfinished or damaged, or someone else is publishing.
    """
    with publishing(store):
        manifest = load_release(store, release_folder)
        switched = switch(store, manifest.release_id)
        deleted = prune(store, keep)
    return Published(manifest.release_id, manifest.counts.users, switched, tuple(deleted))
