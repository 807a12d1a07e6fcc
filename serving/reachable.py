"""Whether the places that a config names can be read and written; looking changes nothing."""

from __future__ import annotations

import os
import socket
import tempfile
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from recsys.errors import RemoteError
from recsys.remote import open_place
from serving.errors import ServingError
from serving.settings import ServingConfig
from serving.stores import is_address, open_store, shown


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at."""

    name: str
    is_ok: bool
    said: str  # what is there, or what to do

    @property
    def line(self) -> str:
        """Return what is printed."""
        return f"{'ok' if self.is_ok else 'NO':3}{self.name:12} {self.said}"


def of_serving(places: ServingConfig) -> Iterator[Finding]:
    """Look at where releases are, are sent and are read."""
    yield writable("releases", places.releases)
    if places.remote:
        yield sendable("remote", places.remote)
    if not is_address(places.store):
        yield writable("store", Path(places.store))
    found = published(places.store)
    yield found
    if is_address(places.store) and found.is_ok:
        yield eviction(places.store)


def writable(name: str, folder: Path) -> Finding:
    """Find out whether a folder can be written to, or made."""
    there = existing(folder)
    try:
        with tempfile.TemporaryFile(dir=there):
            pass
    except OSError as error:
        said = f"{there}: {error.strerror}; give it to this user, or set another place"
        return Finding(name, False, said)
    new = "" if there == folder.absolute() else ", will be made"
    return Finding(name, True, f"{folder.absolute()} can be written to{new}")


def readable(name: str, address: str) -> Finding:
    """Find out whether tables elsewhere can be read, and how large they are."""
    try:
        place = open_place(address)
        files = place.files()
    except RemoteError as error:
        return Finding(name, False, str(error))
    if not files:
        return Finding(name, False, f"{place.shown}: there is no file in it; check the address")
    size = sum(one.size for one in files) / 2**20
    return Finding(name, True, f"{place.shown} can be read; {len(files)} files, {size:,.1f} MiB")


def sendable(name: str, address: str) -> Finding:
    """Find out whether a place elsewhere can be written: a small file is sent and deleted."""
    probe = f"doctor-{socket.gethostname()}-{os.getpid()}"
    try:
        place = open_place(address)
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder, probe)
            file.write_text("recsys doctor\n")
            place.send(file, probe)
        place.delete(probe)
    except RemoteError as error:
        return Finding(name, False, str(error))
    return Finding(name, True, f"{place.shown} can be written to")


def published(store: str | Path) -> Finding:
    """Look at the store that products read."""
    try:
        with closing(open_store(store)) as opened:
            current = [one for one in opened.releases() if one.is_current]
    except ServingError as error:
        return Finding("published", False, str(error))
    if not current:
        return Finding("published", True, "nothing yet; recsys publish brings a release")
    [one] = current
    return Finding("published", True, f"{one.release_id} by {one.model}, {one.users:,} users")


def eviction(store: str) -> Finding:
    """Look at what a Redis server that is full takes away: never a list that is being read."""
    from serving.redis_server import eviction_policy, read_place

    try:
        policy = eviction_policy(read_place(store, shown(store)))
    except ServingError as error:
        return Finding("eviction", False, str(error))
    if policy == "noeviction" or policy.startswith("volatile-"):  # what is current never expires
        return Finding("eviction", True, policy)
    return Finding("eviction", False, f"maxmemory-policy is {policy}: a full server takes "
                   "away lists of the current release; set noeviction")  # fmt: skip


def existing(folder: Path) -> Path:
    """Return the folder, or what is there of the way to it."""
    whole = folder.absolute()
    return next(one for one in (whole, *whole.parents) if one.exists())
