"""Who published what, when, and with which verdicts: one line for each publish, never changed.

    <releases>/publications.jsonl  beside the release folders, which are sealed and stay as they are

The line comes after the switch. A publish that was killed between the two leaves none; that it was
forced is in the store's copy of the manifest all the same, which comes before the switch.
"""

from __future__ import annotations

import getpass
import os
import socket
from pathlib import Path

from pydantic import BaseModel

from serving.manifest import Forced, ReleaseId, UtcText

RECORD = "publications.jsonl"


class Publication(BaseModel, frozen=True, extra="forbid"):
    """One publish."""

    release_id: ReleaseId
    store: str
    at: UtcText
    by: str  # user@host
    forced: Forced | None
    verdicts: tuple[str, ...]  # a line for each gate


def record(release_folder: Path, publication: Publication) -> bool:
    """Write a line beside the release; False if that place cannot be written to."""
    line = publication.model_dump_json() + "\n"
    try:
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT
        descriptor = os.open(release_folder.parent / RECORD, flags, 0o644)
        try:
            os.write(descriptor, line.encode())  # at once, so that two publishers' lines stay two
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    except OSError:  # the lists are published; a folder that is read only must not undo that
        return False
    return True


def who() -> str:
    """Name who is at work here: user@host."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a container's user need not have a name
        user = str(os.getuid())
    return f"{user}@{socket.gethostname()}"
