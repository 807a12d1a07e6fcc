"""Who gets a list, and what is never listed: everybody and nothing unless the job was told."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipelines.prepared import Prepared
from pipelines.settings import BatchConfig
from recsys.dataset import DAY, Items, Log
from recsys.errors import ConfigError, SchemaError
from recsys.reading import read_ids
from serving.parts import Bucket, ids_array

EVERYBODY, ACTIVE = "all", "active"


@dataclass(frozen=True)
class Audience:
    """The users that get a list, if they took anything before the moment."""

    words: str = EVERYBODY  # what tells this audience from another
    since: int = np.iinfo(np.int64).min  # moment: they took something from then on
    named: pa.Array[Any] | None = None  # distinct ids, of the type of the prepared ones; None = all
    n_unknown: int = 0  # ids that the file names and the events do not have


ALL = Audience()


def audience_of(config: BatchConfig, prepared: Prepared, moment: int) -> Audience:
    """Read who is meant.

    Args:
        config: `batch.users` and `batch.active_days`.
        prepared: whose users they are.
        moment: that lists are made for.

    Raises:
        ConfigError: days are asked of data without dates, the file cannot be read, or it names
            nobody that the events know.
    """
    if config.users == EVERYBODY:
        return ALL
    if config.users == ACTIVE:
        if not prepared.windows.dated:
            raise ConfigError(
                "batch.users = 'active': the events have an order only, so there are no days; "
                "use 'all', or a file of user ids"
            )
        days = config.active_days
        return Audience(f"{ACTIVE} in {days} days", since=moment - days * DAY)
    given = _ids("batch.users", config.users, "user_id")
    kind = prepared.ids_of(np.zeros(0, np.int64)).type
    named = _typed(given, kind)
    known = sum(pc.is_in(ids, named).true_count for ids in prepared.iter_user_ids())
    if not known:
        raise ConfigError(
            f"batch.users: {config.users} names {len(given):,} users and the events know none of "
            f"them (theirs are like {next(prepared.iter_user_ids())[0]}); check the ids"
        )
    words = f"{len(named):,} named, {fingerprint_of(named)}"
    return Audience(words, named=named, n_unknown=len(given) - known)


def bucket_of(prepared: Prepared, number: int, audience: Audience, moment: int) -> Bucket:
    """Read a bucket: its events, and those of its users that get a list."""
    log = prepared.bucket(number)
    users = takers(log, moment, audience.since)
    ids = prepared.ids_of(users)
    if audience.named is not None:
        some = pc.is_in(ids, audience.named)
        users, ids = users[some.to_numpy(zero_copy_only=False)], ids.filter(some)
    return Bucket(number, log, users, ids)


def takers(log: Log, moment: int, since: int) -> np.ndarray:
    """Return the (n,) codes of users who took something from `since` on and before `moment`."""
    taken = (log.moment < moment) & (log.moment >= since) & (log.grade > 0)
    return log.users[np.bincount(log.row[taken], minlength=len(log.users)) > 0]


def allowed_items(exclude: Path | str | None, items: Items) -> tuple[np.ndarray | None, str, int]:
    """Read what may be listed.

    Args:
        exclude: file of item ids that must not be; None = all may.
        items: the catalogue.

    Returns:
        (n_items,) bool, None = all; a fingerprint, empty = all; how many ids are no items.

    Raises:
        ConfigError: the file cannot be read, or names every item.
    """
    if exclude is None:
        return None, "", 0
    given, known = _ids("batch.exclude", str(exclude), "item_id"), ids_array(items.ids)
    out = _typed(given, known.type)
    allowed = ~pc.is_in(known, out).to_numpy(zero_copy_only=False)
    if not allowed.any():
        raise ConfigError(f"batch.exclude: {exclude} names every item, so nothing can be listed")
    n_out = len(allowed) - int(np.count_nonzero(allowed))
    return allowed, fingerprint_of(out), len(given) - n_out


def fingerprint_of(ids: pa.Array[Any]) -> str:
    """Return 12 hex digits that are equal for the same ids in any order."""
    text = "\n".join(map(str, ids.sort().to_pylist()))
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def _ids(key: str, path: str, name: str) -> pa.Array[Any]:
    try:
        return read_ids(path, name)
    except SchemaError as error:
        raise ConfigError(f"{key}: {path}: {error}") from error


def _typed(ids: pa.Array[Any], kind: pa.DataType) -> pa.Array[Any]:
    """Return ids as the type that ours have; what cannot be one of ours is left out."""
    if not pa.types.is_integer(kind) or pa.types.is_integer(ids.type):
        return ids.cast(kind)
    texts = ids.cast(pa.string())
    return texts.filter(pc.match_substring_regex(texts, r"^-?\d{1,18}$")).cast(kind)
