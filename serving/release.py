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
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from pathlib import Path
from typing import Annotated, Literal

import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import AfterValidator, BaseModel, Field, FiniteFloat, ValidationError

from serving.errors import DamagedReleaseError, ServingError, UnfinishedReleaseError
from serving.lists import (
    LIST_COLUMNS,
    ROW_GROUP,
    Counts,
    check_fallback,
    check_lists,
    count_lists,
    typed_table,
)


def _utc(moment: str) -> str:
    if datetime.fromisoformat(moment).utcoffset() != timedelta(0):
        raise ValueError(f"{moment!r} is not in UTC; write it as 2026-08-20T00:00:00Z")
    return moment


UtcText = Annotated[str, AfterValidator(_utc)]
ReleaseId = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")]


class Model(BaseModel, frozen=True, extra="forbid"):
    """The model that made the lists, as the MLflow registry knows it."""

    name: str
    version: str
    uri: str
    run_id: str

    @property
    def label(self) -> str:
        """How answers name the model: name/version."""
        return f"{self.name}/{self.version}"


class FileEntry(BaseModel, frozen=True, extra="forbid"):
    """One Parquet file of the release; `path` is relative to its folder."""

    path: str
    rows: int
    bytes: int
    sha256: str


class Manifest(BaseModel, frozen=True, extra="forbid"):
    """What a release is: its lineage, its size and the checksum of every file."""

    schema_version: Literal[1, 2] = 2  # 1 had neither probabilities nor drivers
    release_id: ReleaseId
    created_at: UtcText
    as_of: UtcText  # the lists know events strictly before this moment
    model: Model
    data_fingerprint: str
    config_fingerprint: str
    code_commit: str
    k: int = Field(ge=1)  # no list is longer
    counts: Counts
    files: tuple[FileEntry, ...]
    metrics: dict[str, FiniteFloat]


def new_release_id(as_of: str, created_at: str | datetime) -> str:
    """Name a release so that names sort by `as_of`, then by `created_at` (to the second).

    Raises:
        ServingError: one of the two is not a moment in UTC.
    """
    created = created_at if isinstance(created_at, str) else created_at.isoformat()
    try:
        moments = [datetime.fromisoformat(_utc(moment)) for moment in (as_of, created)]
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
) -> Manifest:
    """Check every list, then write the manifest: the release is finished and never changes again.

    The release id is the name of the folder; counts and checksums come from the files on disk.

    Raises:
        DamagedReleaseError: the folder does not hold whole and valid lists of at most `k` items.
        ServingError: the release is sealed already, or a field is wrong.
    """
    _refuse_sealed(folder)
    counts, rows = _count(folder, k)
    files = [_file_entry(folder, path, rows[path]) for path in sorted(rows)]
    try:
        manifest = Manifest(
            release_id=folder.name, created_at=created_at, as_of=as_of, model=model,
            data_fingerprint=data_fingerprint, config_fingerprint=config_fingerprint,
            code_commit=code_commit, k=k, counts=counts, files=tuple(files), metrics=dict(metrics),
        )  # fmt: skip
    except ValidationError as error:
        raise ServingError(f"release {folder.name} cannot be sealed: {_words(error)}") from error
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
    try:
        manifest = Manifest.model_validate_json((folder / "manifest.json").read_bytes())
    except ValidationError as error:
        raise DamagedReleaseError(f"{folder / 'manifest.json'}: {_words(error)}") from error
    if manifest.release_id != folder.name:
        raise DamagedReleaseError(
            f"{folder}: its manifest is of release {manifest.release_id!r}; "
            "a release folder must not be renamed, copy it under its own name"
        )
    return manifest


def verify(folder: Path) -> Manifest:
    """Check that a release is what its manifest says: files, checksums, counts and every list.

    Raises:
        UnfinishedReleaseError: the folder has no manifest.
        DamagedReleaseError: which file, what was found, what was expected, what to do.
    """
    manifest = open_release(folder)
    if manifest.schema_version == 1:
        raise DamagedReleaseError(
            f"{folder}: a release of an earlier version, its lists have no probabilities; make a "
            "new one with recsys recommend (what is published already can still be read)"
        )
    listed = {entry.path for entry in manifest.files}
    on_disk = {path.relative_to(folder).as_posix() for path in folder.rglob("*.parquet")}
    if listed != on_disk:
        raise DamagedReleaseError(
            f"{folder}: missing files {sorted(listed - on_disk)}, files its manifest does not name "
            f"{sorted(on_disk - listed)}; copy the release again or make a new one"
        )
    for entry in manifest.files:
        found = _file_entry(folder, entry.path, entry.rows)
        if found != entry:
            raise DamagedReleaseError(
                f"{folder / entry.path}: found {found.bytes} bytes, sha256 {found.sha256[:12]}..., "
                f"expected {entry.bytes} bytes, sha256 {entry.sha256[:12]}...; the file changed "
                "after the release was sealed, copy it again or make a new release"
            )
    counts, rows = _count(folder, manifest.k)
    expected = {entry.path: entry.rows for entry in manifest.files}
    if counts != manifest.counts or rows != expected:
        raise DamagedReleaseError(
            f"{folder}: found {counts} and rows {rows}, its manifest says {manifest.counts} "
            f"and {expected}; make a new release"
        )
    return manifest


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
    write_whole(
        path,
        lambda temp: pq.write_table(table, temp, row_group_size=ROW_GROUP, compression="zstd"),
    )


def _refuse_sealed(folder: Path) -> None:
    if is_sealed(folder):
        raise ServingError(f"{folder} is sealed and never changes again; make a new release")


def _file_entry(folder: Path, path: str, rows: int) -> FileEntry:
    with (folder / path).open("rb") as file:
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    return FileEntry(path=path, rows=rows, bytes=(folder / path).stat().st_size, sha256=sha256)


def _count(folder: Path, k: int) -> tuple[Counts, dict[str, int]]:
    """Check and count the lists of parts 0, 1, ..., which are as many as there are files."""
    n_parts = len(list(folder.glob("lists/*.parquet")))
    return count_lists(folder, [part_path(folder, i) for i in range(max(1, n_parts))], k)


def _words(error: ValidationError) -> str:
    """Say in one line what pydantic found."""
    found = ((".".join(map(str, one["loc"])) or "it", one["msg"]) for one in error.errors())
    return "; ".join(f"{where}: {message}" for where, message in found)
