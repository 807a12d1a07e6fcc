"""One run at a time in a run folder: a lock that ends with the process that holds it.

Two runs in one folder would replace each other's prepared data. The lock is the system's, so a run
that was killed leaves none; what is written in the file only says who holds it.
"""

from __future__ import annotations

import fcntl
import json
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from recsys.errors import ConfigError
from recsys.progress import Show, showing

LOCK = ".lock"


@contextmanager
def at_work(run_dir: Path) -> Iterator[Show]:
    """Hold the run folder, which is made if it is new, and show progress while the block runs.

    Raises:
        ConfigError: another run holds it.
    """
    with locked(run_dir), showing() as show:
        yield show


@contextmanager
def locked(run_dir: Path) -> Iterator[None]:
    """Hold the run folder; do not wait for it.

    Raises:
        ConfigError: another run holds it.
    """
    run_dir.mkdir(parents=True, exist_ok=True)
    with (run_dir / LOCK).open("a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise ConfigError(
                f"{run_dir} is in use by another run ({_holder(run_dir / LOCK)}); wait until it is "
                "done, or give this one a run_dir of its own"
            ) from error
        who = {"pid": os.getpid(), "host": socket.gethostname(),
               "since": datetime.now(UTC).isoformat(timespec="seconds")}  # fmt: skip
        file.truncate(0)
        file.write(json.dumps(who))
        file.flush()
        yield


def _holder(file: Path) -> str:
    """Say who wrote the lock file."""
    try:
        who = json.loads(file.read_text())
        return f"process {who['pid']} on {who['host']}, since {who['since']}"
    except (OSError, ValueError, KeyError, TypeError):
        return "it does not say which"
