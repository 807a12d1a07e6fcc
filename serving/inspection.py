"""Whether a sealed release is what its manifest says: every byte, every list, every count."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from serving.errors import DamagedReleaseError
from serving.manifest import Manifest
from serving.release import content_fingerprint, file_entry, open_release, parts_of
from serving.statistics import Statistics, Survey, statistics_of, survey


class Inspection(NamedTuple):
    """What a sealed release is found to be."""

    manifest: Manifest
    statistics: Statistics | None  # counted from the files; None: they cannot be read as lists
    faults: tuple[str, ...]  # what is not as its manifest or the format says; empty: all is well


def verify(folder: Path) -> Manifest:
    """Check that a release is what its manifest says: files, checksums, counts and every list.

    Raises:
        UnfinishedReleaseError: the folder has no manifest.
        DamagedReleaseError: which file, what was found, what was expected, what to do.
    """
    found = inspect(folder)
    if found.faults:
        raise DamagedReleaseError(found.faults[0])
    return found.manifest


def inspect(folder: Path) -> Inspection:
    """Look at all that `verify` checks, and at the lists even if something is wrong with them.

    Raises:
        UnfinishedReleaseError: the folder has no manifest.
        DamagedReleaseError: its manifest cannot be read, belongs to another folder, or is of a
            version whose lists were other ones.
    """
    manifest = open_release(folder)
    if manifest.schema_version == 1:
        raise DamagedReleaseError(
            f"{folder}: a release of an earlier version, its lists have no probabilities; make a "
            "new one with recsys recommend (what is published already can still be read)"
        )
    faults = _changed_files(folder, manifest)
    try:
        found = survey(folder, parts_of(folder), manifest.k)
    except DamagedReleaseError as error:
        return Inspection(manifest, None, (*faults, str(error)))
    statistics = statistics_of(found, content_fingerprint(manifest.files), None)
    faults += [*found.faults, *_miscounted(folder, manifest, found, statistics)]
    return Inspection(manifest, statistics, tuple(faults))


def _changed_files(folder: Path, manifest: Manifest) -> list[str]:
    """Compare the files on disk with those that the manifest names."""
    listed = {entry.path: entry for entry in manifest.files}
    on_disk = {path.relative_to(folder).as_posix() for path in folder.rglob("*.parquet")}
    faults = []
    if listed.keys() != on_disk:
        faults.append(
            f"{folder}: missing files {sorted(listed.keys() - on_disk)}, files its manifest does "
            f"not name {sorted(on_disk - listed.keys())}; copy the release again or make a new one"
        )
    for path in sorted(listed.keys() & on_disk):
        entry, found = listed[path], file_entry(folder, path, listed[path].rows)
        if found != entry:
            faults.append(
                f"{folder / path}: found {found.bytes} bytes, sha256 {found.sha256[:12]}..., "
                f"expected {entry.bytes} bytes, sha256 {entry.sha256[:12]}...; the file changed "
                "after the release was sealed, copy it again or make a new release"
            )
    return faults


def _miscounted(
    folder: Path, manifest: Manifest, found: Survey, statistics: Statistics
) -> list[str]:
    """Compare what the manifest counts with what is there."""
    faults = []
    expected = {entry.path: entry.rows for entry in manifest.files}
    if found.counts != manifest.counts or found.rows != expected:
        faults.append(
            f"{folder}: found {found.counts} and rows {found.rows}, its manifest says "
            f"{manifest.counts} and {expected}; make a new release"
        )
    counted = {"lengths", "duplicates", "sources", "top_item"}  # whole numbers, on any machine
    here = statistics.model_dump(include=counted)
    if manifest.statistics and here != (said := manifest.statistics.model_dump(include=counted)):
        wrong = sorted(name for name in counted if here[name] != said[name])
        faults.append(
            f"{folder}: found other {', '.join(wrong)} than the statistics of its manifest say; "
            "make a new release"
        )
    return faults
