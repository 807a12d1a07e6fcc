"""Who may ask the read API: keys that are drawn at random, kept as hashes, compared in equal time.

A key has 256 random bits, so its SHA-256 cannot be turned back and needs no salt and no slow hash.
A file or the environment variable RECSYS_API_KEYS holds `name:sha256` for each key; several of one
name are allowed, so that a new key can be handed out before the old one is taken away.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import re
import secrets
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from serving.errors import ServingError

KEYS_VARIABLE = "RECSYS_API_KEYS"
LOCAL = ("127.0.0.1", "::1", "localhost")
ENTRY = re.compile(r"([A-Za-z0-9_.-]{1,64}):([0-9a-f]{64})")


class Key(NamedTuple):
    """One key that is let in."""

    name: str  # of who holds it; in the log
    sha256: str  # of the key, 64 hex digits


def new_key(name: str) -> tuple[str, str]:
    """Draw a key; return it and the entry `name:sha256` that lets it in.

    Raises:
        ServingError: the name cannot stand in an entry.
    """
    key = "rk_" + secrets.token_urlsafe(32)
    entry = f"{name}:{_sha256(key.encode())}"
    if ENTRY.fullmatch(entry) is None:
        raise ServingError(
            f"the name of a key: found {name!r}, expected 1 to 64 letters, digits, dots, dashes or "
            "underscores"
        )
    return key, entry


def add_key(file: Path, entry: str) -> None:
    """Append an entry to a file that only its owner may read; made if it is not there."""
    file.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(file, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    with os.fdopen(descriptor, "w") as opened:
        opened.write(entry + "\n")


def load_keys(file: Path | None, environment: str = "") -> tuple[Key, ...]:
    """Read all keys that are let in.

    Args:
        file: one entry a line, `#` begins a comment; None for no file.
        environment: more entries, with spaces or commas between them.

    Raises:
        ServingError: the file cannot be read, or something in it is no entry.
    """
    if file is None:
        return tuple(_parse(environment, KEYS_VARIABLE))
    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ServingError(
            f"serving.api.keys = {file}: cannot be read ({error}); recsys key makes it"
        ) from error
    return (*_parse(text, str(file)), *_parse(environment, KEYS_VARIABLE))


def key_name(keys: Iterable[Key], key: bytes) -> str | None:
    """Return the name of the holder of a key; None if it is not let in.

    Every key is compared, and each in a time that says nothing about where it differs.
    """
    found = None
    sha256 = _sha256(key)
    for name, expected in keys:
        if hmac.compare_digest(sha256, expected):
            found = name
    return found


def refuse_open_door(host: str, keys: tuple[Key, ...], is_open: bool) -> None:
    """Refuse to answer everybody beyond this machine, unless that is wanted.

    Raises:
        ServingError: it would.
    """
    if host not in LOCAL and not keys and not is_open:
        raise ServingError(
            f"serving.host = {host} can be reached from other machines and no API key is set; make "
            "one with recsys key NAME, or set serving.api.open = true if something in front of it "
            "lets in only whom you know"
        )


def _parse(text: str, where: str) -> Iterable[Key]:
    for line in text.splitlines():
        for word in re.split(r"[\s,]+", line.partition("#")[0].strip()):
            found = ENTRY.fullmatch(word)
            if found is None and word:
                raise ServingError(
                    f"{where}: an entry is no key; expected name:sha256 with 64 hex digits, as "
                    "recsys key NAME prints it"  # not the entry itself: it may be a key in plain
                )
            if found is not None:
                yield Key(found[1], found[2])


def _sha256(key: bytes) -> str:
    return hashlib.sha256(key).hexdigest()
