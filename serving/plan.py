"""What a release is made from, and which of its parts are made: what lets a killed job go on.

    <release>/plan.json             what the job was asked; written first
    <release>/done/part-00000.json  rows, bytes and checksum of a part; written once that is on disk
    <release>/manifest.json         from `serving.release`; with it `done/` goes

A part counts as made if the file is what its record says. Everything else of the folder is made
again, so a cut, changed or half-known part costs time and nothing more.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from serving.manifest import FileEntry
from serving.parts import Part
from serving.release import is_sealed, new_release_id, part_path, write_whole

PLAN, DONE = "plan.json", "done"


class Plan(BaseModel):
    """What a release is made from: the same plan goes on with the same release."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    created_at: str
    as_of: str
    model_uri: str
    model_run: str
    data_fingerprint: str
    config_fingerprint: str
    code_commit: str
    k: int
    n_buckets: int
    users: str  # who gets a list
    exclude: str  # fingerprint of the items that are never listed; empty = none
    packages: str  # versions that the last bits of a score depend on
    threads: int  # that the state is counted with: sums in another order have other last bits


def open_folder(
    releases: Path, plan: Plan, is_done: Callable[[Path], bool] = is_sealed
) -> tuple[Path, Plan, str]:
    """Find a release with this plan that is not done, or say that a new one begins.

    Args:
        releases: folder of releases.
        plan: what is asked now.
        is_done: whether nothing is left to do for the release in a folder.

    Returns:
        The folder, made or not; the plan to follow, which keeps the moment that it was begun; and
        what became of the newest unfinished release, in words, empty where there is none.
    """
    same = {"created_at", "as_of"} if plan.as_of == plan.created_at else {"created_at"}
    asked, why = plan.model_dump(exclude=same), ""
    for found in sorted(releases.glob(f"*/{PLAN}"), reverse=True):
        if is_done(found.parent):
            continue
        is_whole = is_sealed(found.parent)
        try:
            earlier = Plan.model_validate_json(found.read_bytes())
        except ValidationError:  # of another version of this code
            if not is_whole:
                why = why or f"{found.parent.name} stays unfinished: its plan is of another version"
            continue
        before = earlier.model_dump(exclude=same)
        if before == asked:
            said = "is sealed and only to be sent" if is_whole else "was begun and goes on"
            return found.parent, earlier, f"{found.parent.name} {said}"
        if is_whole:
            continue
        other = ", ".join(f"{name} was {before[name] or 'none'}, is {asked[name] or 'none'}"
                          for name in asked if asked[name] != before[name])  # fmt: skip
        why = why or f"{found.parent.name} stays unfinished: {other}"
    return *_free_folder(releases, plan), why


def begin(folder: Path, plan: Plan) -> None:
    """Make the folder of a release and write its plan, or clear up what a killed job left there."""
    folder.mkdir(parents=True, exist_ok=True)
    for left in folder.rglob(".*.tmp"):
        left.unlink()
    text = json.dumps(plan.model_dump(), indent=2) + "\n"
    if not (folder / PLAN).exists():
        write_whole(folder / PLAN, lambda path: path.write_text(text))


def write_made(folder: Path, part: Part) -> None:
    """Put a part on disk, then the record that it is there; each is whole or not there at all."""
    path, record = part_path(folder, part.number), _record_path(folder, part.number)
    for one in (path, record):
        one.parent.mkdir(parents=True, exist_ok=True)
    entry = FileEntry(path=path.relative_to(folder).as_posix(), rows=part.rows,
                      bytes=len(part.data), sha256=part.sha256)  # fmt: skip
    write_whole(path, lambda temp: temp.write_bytes(part.data))
    write_whole(record, lambda temp: temp.write_text(entry.model_dump_json() + "\n"))


def made(folder: Path, n_buckets: int) -> tuple[frozenset[int], int]:
    """Read every part that is there and compare it with its record.

    Returns:
        The numbers of the parts that are made, and how many files cannot be trusted.
    """
    whole = frozenset(number for number in range(n_buckets) if _is_whole(folder, number))
    files = {path.name for path in (folder / "lists").glob("*.parquet")}
    return whole, len(files - {part_path(folder, number).name for number in whole})


def finish(folder: Path) -> None:
    """Remove the records of a sealed release: its manifest has them all."""
    shutil.rmtree(folder / DONE, ignore_errors=True)


def _free_folder(releases: Path, plan: Plan) -> tuple[Path, Plan]:
    """Name a folder that is not there yet: jobs begun in the same second go a second apart."""
    while (folder := releases / new_release_id(plan.as_of, plan.created_at)).exists():
        later = datetime.fromisoformat(plan.created_at) + timedelta(seconds=1)
        plan = plan.model_copy(update={"created_at": later.isoformat(timespec="seconds")})
    return folder, plan


def _record_path(folder: Path, number: int) -> Path:
    return (folder / DONE / part_path(folder, number).name).with_suffix(".json")


def _is_whole(folder: Path, number: int) -> bool:
    path = part_path(folder, number)
    try:
        entry = FileEntry.model_validate_json(_record_path(folder, number).read_bytes())
        with path.open("rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
    except (FileNotFoundError, ValidationError):
        return False
    return (found, path.name) == (entry.sha256, Path(entry.path).name)
