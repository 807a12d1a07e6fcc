"""How far the lists of a release are those that readers have now.

A sample of the release's users, every n-th list, is looked up in the store as any reader would look
it up, so it is compared with what is answered today, whichever store that is and wherever the
folder of the current release went.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

from serving.errors import (
    NoReleaseError,
    ServingError,
    StoreBusyError,
    StoreUnreachableError,
)
from serving.lists import iter_lists, list_starts
from serving.manifest import Manifest
from serving.release import parts_of
from serving.stores import Reader

TOP = 10  # items of a list that are compared
READ_AT_ONCE = 1000  # users
NOBODY = pa.table({name: pa.array([], pa.string()) for name in ("user_id", "item_id")})


class Comparison(NamedTuple):
    """A release beside the current one."""

    current: Manifest
    sampled: int  # users of the release that were looked up
    both: int  # of these, with a list of their own in the current release too
    overlap: float  # of those, the mean share of first items that both lists have; 0 for nobody


def compare(folder: Path, n_lists: int, reader: Reader, most_users: int) -> Comparison | str:
    """Compare a release with the current one.

    Args:
        folder: the release.
        n_lists: in it.
        reader: of the store.
        most_users: of whom lists are compared; if there are more, every n-th.

    Returns:
        The comparison, or in words why there is none.

    Raises:
        ServingError: the store does not answer, or another release became current meanwhile.
    """
    try:
        current = reader.release()
    except NoReleaseError:
        return "first publish, nothing to compare with"
    except StoreUnreachableError:
        raise
    except ServingError as error:
        return f"the current release cannot be read ({error})"
    ours = pa.concat_tables([NOBODY, *sample(folder, n_lists, most_users)])
    users: list[Any] = ours["user_id"].unique().to_pylist()
    blocks = (users[at : at + READ_AT_ONCE] for at in range(0, len(users), READ_AT_ONCE))
    answered = (_answered(reader, block, current.release_id) for block in blocks)
    theirs = pa.concat_tables([NOBODY, *answered])
    return Comparison(current, len(users), len(theirs["user_id"].unique()), overlap(ours, theirs))


def sample(folder: Path, n_lists: int, most_users: int) -> Iterator[pa.Table]:
    """Yield the first items of every n-th list, so that there are at most `most_users`.

    Returns:
        user_id and item_id as texts, as the store finds them.
    """
    step = -(-n_lists // most_users) or 1
    at = -(step // 2)  # of the next list, counted so that every multiple of `step` is taken
    for part in parts_of(folder):
        for table in iter_lists(part, columns=["user_id", "rank", "item_id"]):
            starts = list_starts(table["user_id"].combine_chunks())
            chosen = starts.take(pa.array(range(-at % step, len(starts), step), pa.int64()))
            at += len(starts)
            users = table["user_id"].take(chosen)
            is_in: Any = pc.is_in(table["user_id"], users.combine_chunks())
            rows = table.filter(is_in).filter(pc.field("rank") <= TOP)
            yield rows.select(["user_id", "item_id"]).cast(NOBODY.schema)


def overlap(ours: pa.Table, theirs: pa.Table) -> float:
    """Return the mean share of items that both lists of a user have, of the longer list.

    Args:
        ours, theirs: user_id and item_id; only users in both count, 0 if there is none.
    """
    keys = ["user_id", "item_id"]
    same = _counted(ours.join(theirs, keys, join_type="inner"), "same")
    both = _counted(ours, "ours").join(_counted(theirs, "theirs"), "user_id", join_type="inner")
    if not len(both):
        return 0.0
    found = both.join(same, "user_id", join_type="left outer")
    longer = pc.max_element_wise(found["ours"], found["theirs"])
    hits: Any = pc.fill_null(found["same"], pa.scalar(0, pa.int64()))
    return float(pc.mean(pc.divide(hits.cast(pa.float64()), longer)).as_py())


def _counted(rows: pa.Table, name: str) -> pa.Table:
    """Count the rows of each user: user_id and `name`."""
    found = rows.group_by("user_id", use_threads=False).aggregate([([], "count_all")])
    return found.rename_columns(["user_id", name])


def _answered(reader: Reader, users: Sequence[str], release_id: str) -> pa.Table:
    """Read the first items of users who have a list; a thousand answers at most are in memory."""
    found = reader.read(users, TOP)
    if found.release.release_id != release_id:
        raise StoreBusyError(
            f"release {found.release.release_id} became current while lists of {release_id} were "
            "compared; publish again"
        )
    own = [one for one in found.lists if not one.is_fallback]
    return pa.table({
        "user_id": pa.array([str(one.user_id) for one in own for _ in one.items], pa.string()),
        "item_id": pa.array([str(item.item_id) for one in own for item in one.items], pa.string()),
    })  # fmt: skip
