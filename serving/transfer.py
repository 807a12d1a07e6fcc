"""A release goes to another place and comes from there, with its manifest last both ways.

    <place>/<release_id>/lists/part-00000.parquet ...  as in the release's own folder
    <place>/<release_id>/fallback.parquet
    <place>/<release_id>/manifest.json                 without it there is no release there

What is there already is not sent again: `sent.jsonl` beside a sealed release remembers the version
that a place gave each file. What is here already is not fetched again: the manifest has checksums.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Protocol

from serving.config import find_release
from serving.errors import (
    DamagedReleaseError,
    NoReleaseError,
    ServingError,
    UnfinishedReleaseError,
)
from serving.manifest import FileEntry, Manifest, read_manifest
from serving.release import file_entry, is_sealed, open_release, write_whole

MANIFEST, SENT = "manifest.json", "sent.jsonl"
FILES = re.compile(r"fallback\.parquet|lists/part-\d{5,}\.parquet")  # what a manifest may name
Show = Callable[[str, int, int, str], None]  # task, done, total, note


class Place(Protocol):
    """A folder elsewhere, as `recsys.remote.Place` is one; whoever calls us opens it."""

    @property
    def shown(self) -> str:
        """Its address, as it may be printed."""

    @property
    def name(self) -> str:
        """The last part of its path."""

    def below(self, name: str) -> Place:
        """Return a folder in this one."""

    def names(self) -> list[str]:
        """Name what is right below it; nothing if it is not there yet."""

    def version(self, name: str) -> str | None:
        """Return what changes when a file does; None if it is not there."""

    def read(self, name: str) -> bytes:
        """Return the content of a small file."""

    def fetch(self, name: str, target: Path, on_bytes: Callable[[int], object]) -> str:
        """Bring a file here, whole or not at all."""

    def send(self, source: Path, name: str) -> str:
        """Bring a file there, whole or not at all; return its version."""


def send_release(folder: Path, place: Place, show: Show) -> Manifest:
    """Make a place hold a sealed release; what is there already, and unchanged, is not sent.

    Args:
        folder: the release.
        place: of this release, whose name is the release id.
        show: progress, in bytes.

    Raises:
        DamagedReleaseError: a file here is not what the manifest says.
        ServingError: another release of this name is there.
    """
    manifest = open_release(folder)
    if place.version(MANIFEST) is not None:
        _refuse_another(place, folder, place.read(MANIFEST))
    known, task = dict(_sent(folder, place)), f"send {place.shown}"
    left = [entry for entry in manifest.files
            if (version := known.get((entry.path, entry.sha256))) is None
            or version != place.version(entry.path)]  # fmt: skip
    total = sum(entry.bytes for entry in manifest.files)
    done = total - sum(entry.bytes for entry in left)
    if not left:
        show(task, done, total, "bytes, all of them there already")
    for entry in left:
        if file_entry(folder, entry.path, entry.rows) != entry:
            raise DamagedReleaseError(
                f"{folder / entry.path} was changed after the release was sealed, copy it "
                "again or make a new release"
            )
        version = place.send(folder / entry.path, entry.path)
        _note(folder, place, entry.path, entry.sha256, version)
        done += entry.bytes
        show(task, done, total, "bytes")
    if place.version(MANIFEST) is None:
        place.send(folder / MANIFEST, MANIFEST)
    _note(folder, place, MANIFEST, "", "")
    return manifest


def is_sent(folder: Path, place: Place) -> bool:
    """Say whether all of a release was brought to its place once; the place is not asked."""
    return any(path == MANIFEST for (path, _), _ in _sent(folder, place))


def fetch_release(place: Place, releases: Path, show: Show) -> Path:
    """Bring a release here, every file checked; until all are, the folder has no manifest.

    Args:
        place: of this release, whose name is the release id.
        releases: folder of releases.
        show: progress, in bytes.

    Returns:
        The release's folder, sealed.

    Raises:
        UnfinishedReleaseError: there is no manifest there.
        DamagedReleaseError: what is there is not what the manifest says.
        ServingError: another release, or an unfinished one, has this name here.
    """
    if place.version(MANIFEST) is None:
        raise UnfinishedReleaseError(
            f"{place.shown} has no manifest.json: there is no such release, or it is being sent"
        )
    content = place.read(MANIFEST)
    manifest = read_manifest(content, f"{place.shown}/{MANIFEST}")
    wrong = [entry.path for entry in manifest.files if not FILES.fullmatch(entry.path)]
    if manifest.release_id != place.name or wrong:
        of = wrong[0] if wrong else f"release {manifest.release_id!r}"
        raise DamagedReleaseError(f"{place.shown}/{MANIFEST} is of {of}; send the release again")
    folder = releases / manifest.release_id
    if is_sealed(folder):
        _refuse_another(place, folder, content)
        return folder
    if (folder / "plan.json").exists():
        raise ServingError(f"{folder} was begun by recsys recommend and is not sealed; run that "
                           "again, or delete it")  # fmt: skip
    _fetch_files(place, manifest, folder, show)
    write_whole(folder / MANIFEST, lambda temp: temp.write_bytes(content))
    return folder


def is_here(release: str, releases: Path) -> bool:
    """Say whether a release is the folder that it seems to be, or one of that name is here."""
    return "/" in release or is_sealed(Path(release)) or is_sealed(releases / release)


def meant_release(release: str | None, releases: Path, place: Place, show: Show) -> Path:
    """Find the release that is meant, here or there, and bring it here.

    Args:
        release: a folder, or the name of one here or there; None is the newest, wherever it is.
        releases: folder of releases here.
        place: of all releases there.
        show: progress, in bytes.

    Raises:
        NoReleaseError: there is none, neither here nor there.
        ServingError: as `fetch_release` does.
    """
    if release is None:
        here = max((one.name for one in releases.glob("*") if is_sealed(one)), default="")
        there = (name for name in sorted(place.names(), reverse=True) if name > here
                 and place.below(name).version(MANIFEST) is not None)  # fmt: skip
        release = next(there, here)
    if not release:
        raise NoReleaseError(f"no sealed release, neither in {releases} nor at {place.shown}; "
                             "recsys recommend makes one")  # fmt: skip
    if is_here(release, releases):
        return find_release(release, releases)
    return fetch_release(place.below(release), releases, show)


def _fetch_files(place: Place, manifest: Manifest, folder: Path, show: Show) -> None:
    """Fetch what is not here yet, or not what the manifest says.

    Raises:
        DamagedReleaseError: a file there is not what the manifest says.
    """
    (folder / "lists").mkdir(parents=True, exist_ok=True)
    for left in folder.rglob(".*.tmp"):
        left.unlink()
    task, total, done = f"fetch {place.shown}", sum(entry.bytes for entry in manifest.files), 0

    def on_bytes(count: int) -> None:
        nonlocal done
        done += count
        show(task, min(done, total), total, "bytes")

    for entry in manifest.files:
        if _is_whole(folder, entry):
            on_bytes(entry.bytes)
            continue
        place.fetch(entry.path, folder / entry.path, on_bytes)
        if not _is_whole(folder, entry):
            (folder / entry.path).unlink()
            raise DamagedReleaseError(
                f"{place.shown}/{entry.path} is not what its manifest says; send the release again "
                "from where it was made"
            )


def _is_whole(folder: Path, entry: FileEntry) -> bool:
    is_there = (folder / entry.path).is_file()
    return is_there and file_entry(folder, entry.path, entry.rows) == entry


def _refuse_another(place: Place, folder: Path, content: bytes) -> None:
    """Refuse a place whose manifest is not the one that is here.

    Raises:
        ServingError: it is another one.
    """
    if (folder / MANIFEST).read_bytes() != content:
        raise ServingError(f"{place.shown} and {folder} are two releases of one name; delete one")


def _sent(folder: Path, place: Place) -> Iterator[tuple[tuple[str, str], str]]:
    """Read what was sent to a place: (path, checksum), version; the last line may be cut."""
    path = folder / SENT
    for line in path.read_text().splitlines() if path.exists() else ():
        try:
            to, *sent, version = json.loads(line)
        except ValueError:
            continue
        if to == place.shown:
            yield (sent[0], sent[1]), version


def _note(folder: Path, place: Place, *sent: str) -> None:
    """Write down that a file is there: path, checksum, version."""
    with (folder / SENT).open("a") as file:
        file.write(json.dumps([place.shown, *sent]) + "\n")
