"""One release as one SQLite file: built once, then only read.

A user is found by the text of its id: 42 and "42" are the same user, because a request over HTTP
cannot tell them apart. ("042" is another one.) Lists are as `serving.packing` makes them. Files
that an earlier version built, with lists as JSON, are still read.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path
from typing import Any

from serving.errors import DamagedReleaseError, NoReleaseError, ServingError
from serving.lists import Answer, ListedItem
from serving.manifest import Manifest
from serving.packing import Packer, packed_fallback, packed_lists
from serving.unpacking import Words, parse_words, unpack

FORMAT = 2  # the file's user_version; 0 had lists as JSON
# Lists in the order they come, and users sorted once at the end: the file is written from front to
# back, without splitting a page. Large pages waste less behind their last list.
TABLES = f"""
PRAGMA page_size = 16384;
PRAGMA journal_mode = OFF;
PRAGMA synchronous = OFF;
PRAGMA user_version = {FORMAT};
BEGIN;
CREATE TABLE lists (list INTEGER PRIMARY KEY, packed BLOB NOT NULL);
CREATE TABLE users (key TEXT PRIMARY KEY, list INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE meta (manifest TEXT NOT NULL, words BLOB NOT NULL, fallback BLOB NOT NULL);
CREATE TEMP TABLE met (key TEXT NOT NULL, list INTEGER NOT NULL);
"""
SORTED = "INSERT INTO users SELECT key, list FROM met ORDER BY key"
MAPPED = 1 << 40  # bytes of a file that may be read as memory: all of it
FIND = "SELECT packed FROM lists WHERE list = (SELECT list FROM users WHERE key = ?)"
FIND_JSON = "SELECT payload FROM lists WHERE key = ?"


@dataclass(frozen=True)
class OpenRelease:
    """One connection to one release, and what every call needs of it."""

    path: Path
    connection: sqlite3.Connection
    manifest: Manifest
    words: Words | None  # None: a file of the earlier version
    fallback: Sequence[ListedItem]

    def answer(self, user_id: str | int, k: int | None) -> Answer:
        """Read the list of a user, or the fallback list; at most `k` items of it.

        Raises:
            ServingError: the file is damaged.
        """
        key = str(user_id)
        try:
            found = self.connection.execute(FIND if self.words else FIND_JSON, (key,)).fetchone()
        except UnicodeEncodeError:  # half a character, which no list is kept under
            found = None
        except sqlite3.Error as error:
            raise ServingError(f"{self.path} cannot be read: {error}") from error
        if found is None:
            return Answer(user_id, True, self.fallback[:k])
        if self.words is None:
            return Answer(user_id, False, _from_json(found[0], self.manifest)[:k])
        return Answer(user_id, False, unpack(found[0], self.words, k))

    def again(self) -> OpenRelease:
        """Open another connection to the same file, for another thread.

        Raises:
            NoReleaseError: the file was deleted meanwhile.
        """
        try:
            return replace(self, connection=_connect(self.path))
        except sqlite3.Error as error:
            raise NoReleaseError(f"{self.path} is gone; publish its release again") from error

    def close(self) -> None:
        """Close the connection."""
        self.connection.close()


def open_file(path: Path) -> OpenRelease:
    """Open a release's file: read only, and without locks, since it never changes.

    Raises:
        NoReleaseError: there is no such file.
        ServingError: it is damaged, or a later version built it.
    """
    connection: sqlite3.Connection | None = None
    try:
        connection = _connect(path)
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        if version not in (0, FORMAT):
            raise ValueError(f"format {version}, which this version does not know")
        manifest, *words, fallback = connection.execute("SELECT * FROM meta").fetchone()
        known = Manifest.model_validate_json(manifest)
        if not version:
            return OpenRelease(path, connection, known, None, _from_json(fallback, known))
        told = parse_words(words[0])
        return OpenRelease(path, connection, known, told, list(unpack(fallback, told)))
    except (sqlite3.Error, TypeError, ValueError, IndexError, ServingError) as error:
        if connection is not None:
            connection.close()
        if not path.exists():
            raise NoReleaseError(f"{path} is gone; publish its release again") from error
        raise ServingError(f"{path} is damaged ({error}); delete it and publish again") from error


def build_file(path: Path, release_folder: Path, manifest: Manifest) -> None:
    """Write a verified release as a new SQLite file, to be renamed once it is whole.

    Raises:
        DamagedReleaseError: a user has a list in two parts.
        ServingError: the file cannot be written.
    """
    try:
        with closing(sqlite3.connect(path, isolation_level=None)) as connection:
            _fill(connection, release_folder, manifest)
    except sqlite3.IntegrityError as error:
        raise DamagedReleaseError(
            f"{release_folder}: a user has a list in two parts ({error}); make a new release "
            "whose parts have no user in common"
        ) from error
    except sqlite3.Error as error:
        raise ServingError(
            f"{path.parent}: the file of release {manifest.release_id} cannot be built: {error}; "
            "is the disk full?"
        ) from error


def _fill(connection: sqlite3.Connection, release_folder: Path, manifest: Manifest) -> None:
    """Write all lists, one batch of rows in memory at a time; the file is no use before the end."""
    connection.executescript(TABLES)
    packer, numbers = Packer(), count(1)
    for keys, packed in packed_lists(packer, release_folder, manifest):
        connection.executemany("INSERT INTO lists (packed) VALUES (?)", zip(packed, strict=True))
        connection.executemany("INSERT INTO met VALUES (?, ?)", zip(keys, numbers, strict=False))
    fallback = packed_fallback(packer, release_folder)
    row = (manifest.model_dump_json(), packer.words().as_bytes(), fallback)
    connection.execute("INSERT INTO meta VALUES (?, ?, ?)", row)
    connection.execute(SORTED)
    connection.execute("COMMIT")


def _connect(path: Path) -> sqlite3.Connection:
    uri = f"{path.resolve().as_uri()}?mode=ro&immutable=1"
    connection = sqlite3.connect(uri, uri=True, check_same_thread=False)
    connection.execute(f"PRAGMA mmap_size = {MAPPED}")
    return connection


def _from_json(payload: bytes, manifest: Manifest) -> list[ListedItem]:
    """Read a list of the earlier version: [[item_id, score, probability, ...], ...]."""
    rows: list[list[Any]] = json.loads(payload)
    if manifest.schema_version == 1:  # neither probabilities nor drivers
        rows = [[item_id, score, None, *texts, ""] for item_id, score, *texts in rows]
    return [
        ListedItem(rank, item_id, float(score), *rest)
        for rank, (item_id, score, *rest) in enumerate(rows, start=1)
    ]
