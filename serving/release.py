"""The release: every user's list, frozen in one folder that says what it holds.

    <releases>/<release_id>/
        lists/part-00000.parquet ...  user_id, rank, item_id, score, probability, source,
                                      reason, drivers
        fallback.parquet              the same without user_id: the list of a user nobody knows;
                                      every probability null
        manifest.json                 written last; a folder without it is unfinished

A part holds whole lists as `serving.lists` says, and no user is in two parts. Every file is written
under another name, synced and renamed, so a crash leaves a whole file or none.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from pathlib import Path

import pyarrow as pa
from pydantic import ValidationError

from serving.errors import DamagedReleaseError, ServingError, UnfinishedReleaseError
from serving.lists import LIST_COLUMNS, check_fallback, check_lists, parquet_bytes, typed_table
from serving.manifest import (
    FileEntry,
    Manifest,
    Model,
    Reach,
    read_manifest,
    utc_text,
    words,
)
from serving.statistics import statistics_of, survey


def new_release_id(as_of: str, created_at: str | datetime) -> str:
    """Name a release so that names sort by `as_of`, then by `created_at` (to the second).

    Raises:
        ServingError: one of the two is not a moment in UTC.
    """
    created = created_at if isinstance(created_at, str) else created_at.isoformat()
    try:
        moments = [datetime.fromisoformat(utc_text(moment)) for moment in (as_of, created)]
    except ValueError as error:
        raise ServingError(f"release id: {error}") from error
    return "-".join(f"{moment:%Y%m%dT%H%M%SZ}" for moment in moments)


def part_path(folder: Path, index: int) -> Path:
    """Say where part `index` of the release is, written or not."""
    return folder / "lists" / f"part-{index:05d}.parquet"


def write_part(folder: Path, index: int, table: pa.Table) -> None:
    """Write the lists of some users as one part; an unsealed part may be written again.

    Args:
        folder: the release; made if it is not there.
        index: of the part, from 0.
        table: `LIST_COLUMNS` in any order, sorted by (user_id, rank); may be empty.

    Raises:
        DamagedReleaseError: the table is not a valid part.
        ServingError: the release is sealed.
    """
    path = part_path(folder, index)
    table = typed_table(table, LIST_COLUMNS, path.name)
    if len(table):
        check_lists(table, path.name)
    _write(folder, path, table)


def write_fallback(folder: Path, table: pa.Table) -> None:
    """Write the list of an unknown user: `LIST_COLUMNS` but user_id.

    Raises:
        DamagedReleaseError: the table is not one valid list of at least one item.
        ServingError: the release is sealed.
    """
    path = folder / "fallback.parquet"
    table = typed_table(table, LIST_COLUMNS[1:], path.name)
    check_fallback(table)
    _write(folder, path, table)


def is_sealed(folder: Path) -> bool:
    """Say whether the release is finished."""
    return (folder / "manifest.json").exists()


def seal(
    folder: Path,
    *,
    created_at: str,
    as_of: str,
    model: Model,
    data_fingerprint: str,
    config_fingerprint: str,
    code_commit: str,
    k: int,
    metrics: Mapping[str, float],
    catalogue: pa.Table | None = None,
    reach: Reach | None = None,
) -> Manifest:
    """Check every list, then write the manifest: the release is finished and never changes again.

    The release id is the name of the folder; counts, checksums and statistics come from the files
    on disk, in memory that the catalogue bounds.

    Args:
        folder: the release, written but for its manifest.
        created_at: ISO moment in UTC.
        as_of: ISO moment in UTC; the lists know events strictly before it.
        model: that made the lists.
        data_fingerprint: of the data.
        config_fingerprint: of the settings.
        code_commit: of the code.
        k: the most items in a list.
        metrics: of the model; name -> finite value.
        catalogue: as `statistics.statistics_of` says; without it no gate can tell what was on
            offer.
        reach: whom the lists are for; without it no gate can tell who has none.

    Raises:
        DamagedReleaseError: the folder does not hold whole and valid lists of at most `k` items.
        ServingError: the release is sealed already, or a field is wrong.
    """
    _refuse_sealed(folder)
    found = survey(folder, parts_of(folder), k)
    if found.faults:
        raise DamagedReleaseError(found.faults[0])
    files = [file_entry(folder, path, found.rows[path]) for path in sorted(found.rows)]
    try:
        manifest = Manifest(
            release_id=folder.name, created_at=created_at, as_of=as_of, model=model,
            data_fingerprint=data_fingerprint, config_fingerprint=config_fingerprint,
            code_commit=code_commit, k=k, counts=found.counts, files=tuple(files),
            metrics=dict(metrics), reach=reach,
            statistics=statistics_of(found, content_fingerprint(files), catalogue),
        )  # fmt: skip
    except ValidationError as error:
        raise ServingError(f"release {folder.name} cannot be sealed: {words(error)}") from error
    text = manifest.model_dump_json(indent=2)
    write_whole(folder / "manifest.json", lambda temp: temp.write_text(text, encoding="utf-8"))
    return manifest


def open_release(folder: Path) -> Manifest:
    """Read the manifest of a finished release; the lists are not looked at.

    Raises:
        UnfinishedReleaseError: the folder has no manifest.
        DamagedReleaseError: the manifest cannot be read or belongs to another folder.
    """
    if not is_sealed(folder):
        raise UnfinishedReleaseError(
            f"{folder} has no manifest.json: the release is unfinished (or the path is wrong); "
            "run the batch job again to finish it"
        )
    path = folder / "manifest.json"
    manifest = read_manifest(path.read_bytes(), str(path))
    if manifest.release_id != folder.name:
        raise DamagedReleaseError(
            f"{folder}: its manifest is of release {manifest.release_id!r}; "
            "a release folder must not be renamed, copy it under its own name"
        )
    return manifest


def parts_of(folder: Path) -> list[Path]:
    """Name parts 0, 1, ..., as many as there are files, at least one."""
    n_parts = len(list(folder.glob("lists/*.parquet")))
    return [part_path(folder, index) for index in range(max(1, n_parts))]


def file_entry(folder: Path, path: str, rows: int) -> FileEntry:
    """Describe a file of the release as it is on disk."""
    with (folder / path).open("rb") as file:
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    return FileEntry(path=path, rows=rows, bytes=(folder / path).stat().st_size, sha256=sha256)


def content_fingerprint(files: Sequence[FileEntry]) -> str:
    """Return 12 hex digits that are the same for the same lists."""
    together = "\n".join(f"{entry.path} {entry.sha256}" for entry in files)
    return hashlib.sha256(together.encode()).hexdigest()[:12]


def write_whole(path: Path, write: Callable[[Path], object]) -> None:
    """Let `write` fill a temporary file beside `path`, sync it and rename it: all or nothing."""
    temp = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    temp.unlink(missing_ok=True)
    try:
        write(temp)
        _sync(temp)
        temp.replace(path)
    finally:
        temp.unlink(missing_ok=True)
    _sync(path.parent)


def _sync(path: Path) -> None:
    """Force a file or a folder's entries to disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _write(folder: Path, path: Path, table: pa.Table) -> None:
    _refuse_sealed(folder)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, lambda temp: temp.write_bytes(parquet_bytes(table)))


def _refuse_sealed(folder: Path) -> None:
    if is_sealed(folder):
        raise ServingError(f"{folder} is sealed and never changes again; make a new release")
