"""Releases of many lists, made in no time: what the benchmarks of the stores publish."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa

from serving.manifest import Model
from serving.release import seal, write_fallback, write_part

PART = 20_000  # users in a part
SOURCES = ("interest", "covisitation", "ease", "popularity", "repeat", "lexical")
DRIVERS = ("text", "history", "item", "neighbours", "text, history", "history, item", "")


def write_release(
    folder: Path, users: int, k: int = 50, items: int = 100_000, shift: int = 0,
    mark: str | None = "",
) -> Path:  # fmt: skip
    """Make a sealed release of user0000000, user0000001, ... with lists of k different items.

    Args:
        folder: of the release; its name is the id.
        users: how many lists.
        k: items in each.
        items: in all.
        shift: the list of user u holds the items (u * 7919 + shift + 61 * rank) modulo `items`.
        mark: reason of every row; None = reasons with titles, as the batch job writes them.

    Returns:
        The folder.
    """
    rng = np.random.default_rng(0)
    ids = pa.array([f"item{at:07d}" for at in range(items)])
    for part, first in enumerate(range(0, users, PART)):
        user = np.arange(first, min(first + PART, users))
        write_part(folder, part, lists_of(user, k, ids, shift, mark, rng))
    everyone = lists_of(np.array([0]), k, ids, shift, mark, rng).drop_columns(["user_id"])
    none = pa.nulls(len(everyone), pa.float32())
    at = everyone.column_names.index("probability")
    write_fallback(folder, everyone.set_column(at, "probability", none))
    seal(
        folder, created_at="2026-08-20T03:00:00Z", as_of="2026-08-20T00:00:00Z",
        model=Model(name="synthetic", version="1", uri="models:/synthetic/1", run_id="none"),
        data_fingerprint="synthetic", config_fingerprint="synthetic", code_commit="", k=k,
        metrics={},
    )  # fmt: skip
    return folder


def user_name(user: int) -> str:
    """Return the id of a user."""
    return f"user{user:07d}"


def item_names(user: int, k: int, items: int, shift: int) -> list[str]:
    """Return the list of a user, as `write_release` makes it."""
    return [f"item{(user * 7919 + shift + 61 * rank) % items:07d}" for rank in range(1, k + 1)]


def lists_of(
    user: np.ndarray, k: int, ids: pa.Array, shift: int, mark: str | None, rng: np.random.Generator
) -> pa.Table:
    """Return the table of some users' lists, in the columns of a part."""
    n, rank = len(user) * k, np.tile(np.arange(1, k + 1), len(user))
    of = np.repeat(user, k)
    item = (of * 7919 + shift + 61 * rank) % len(ids)
    score = -np.sort(-rng.normal(0, 2, (len(user), k)).astype(np.float32), axis=1).ravel()
    heads = np.array(["goes with ", "reads like ", "often taken after "], dtype=object)
    titles = np.array([f"the title of item {at}" for at in range(len(ids))], dtype=object)
    past = (of * 31 + rng.integers(0, 10, n)) % len(ids)
    reason = [mark] * n if mark is not None else heads[item % 3] + titles[past]
    names = pa.array([user_name(one) for one in user])
    return pa.table({
        "user_id": names.take(pa.array(of - user[0])), "rank": pa.array(rank, pa.int16()),
        "item_id": ids.take(pa.array(item)), "score": score,
        "probability": (1 / (1 + np.exp(3 - score))).astype(np.float32),
        "source": pa.array(SOURCES).take(pa.array(rng.integers(0, len(SOURCES), n))),
        "reason": pa.array(reason, pa.string()),
        "drivers": pa.array(DRIVERS).take(pa.array(rng.integers(0, len(DRIVERS), n))),
    })  # fmt: skip
