"""A file is on disk, whole, before its name says so: what makes a crash harmless.

`serving.release` has the same for the reading side, which imports nothing of ours.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path


def write_whole(path: Path, write: Callable[[Path], object]) -> None:
    """Let `write` fill a temporary file beside `path`, sync it and rename it: all or nothing."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temp = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    temp.unlink(missing_ok=True)
    try:
        write(temp)
        sync(temp)
        temp.replace(path)
    finally:
        temp.unlink(missing_ok=True)
    sync(path.parent)


def sync_all(folder: Path) -> None:
    """Force everything in a folder to disk, before it is renamed to what others look for."""
    for path in (*folder.rglob("*"), folder):
        sync(path)


def sync(path: Path) -> None:
    """Force a file or a folder's entries to disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
