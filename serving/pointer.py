"""Which release a store's readers get: one small file, replaced in one rename under a lock.

<store>/current.json  {release_id, previous, switched_at}
<store>/.<name>.lock  held by the one process that may do <name>
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from pydantic import BaseModel, ValidationError

from serving.errors import ServingError, StoreBusyError
from serving.manifest import ReleaseId
from serving.release import write_whole

LONGEST = 1 << 20  # bytes of a pointer


class Pointer(BaseModel, frozen=True, extra="forbid"):
    """Which release is current, and which ones were before it, the latest first."""

    release_id: ReleaseId
    previous: tuple[ReleaseId, ...]
    switched_at: str


def read_pointer(store: Path) -> Pointer | None:
    """Read the pointer; None if nothing was published yet.

    Raises:
        ServingError: it is damaged.
    """
    found = pointer_bytes(store)
    return None if found is None else parse_pointer(store / "current.json", found)


def pointer_bytes(store: Path) -> bytes | None:
    """Read the pointer as it is on disk: equal bytes, equal release; every read of a list asks."""
    try:
        file = os.open(f"{store}/current.json", os.O_RDONLY)
    except FileNotFoundError:
        return None
    try:
        return os.read(file, LONGEST)
    finally:
        os.close(file)


def parse_pointer(where: str | Path, found: bytes) -> Pointer:
    """Understand the bytes of a pointer found there; raises as `read_pointer` does."""
    try:
        return Pointer.model_validate_json(found)
    except ValidationError as error:
        raise ServingError(f"{where} is damaged; delete it and publish again: {error}") from error


def write_pointer(store: Path, release_id: str, previous: Sequence[str]) -> None:
    """Point every reader to another release; hold the lock "switch"."""
    pointer = Pointer(
        release_id=release_id,
        previous=tuple(previous),
        switched_at=datetime.now(UTC).isoformat(),
    )
    text = pointer.model_dump_json(indent=2)
    write_whole(store / "current.json", lambda temp: temp.write_text(text, encoding="utf-8"))


@contextmanager
def locked(store: Path, name: str) -> Iterator[None]:
    """Hold a lock that ends with the process that holds it; do not wait for it.

    Raises:
        StoreBusyError: another process holds it.
    """
    store.mkdir(parents=True, exist_ok=True)
    with (store / f".{name}.lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise StoreBusyError(
                f"another process is at work in {store} ({name}); wait until it is done, try again"
            ) from error
        yield
