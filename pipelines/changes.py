"""What changed between two runs beside the numbers: settings, lists, and for whom most."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from pipelines.results import Results
from recsys.overlap import rank_biased_overlap
from recsys.schema import Table

MOST_USERS = 10
PLACES = ("run_dir", "tracking.", "serving.")  # what no result depends on


@dataclass(frozen=True)
class Lists:
    """The lists of several runs, in codes that they share."""

    codes: list[np.ndarray]  # of each run (n_requests, k) int64, -1 = empty
    ids: np.ndarray  # (n_items,) object or int64
    titles: np.ndarray  # (n_items,) object
    past_events: np.ndarray  # (n_items,)


@dataclass(frozen=True)
class Shown:
    """A user's lists side by side."""

    user_id: str
    request_time: str
    history_events: int
    agreement: float  # rank-biased overlap
    difference: float  # of the metric
    taken: list[str]  # titles
    base: list[tuple[str, bool]]  # titles, best first, and whether it was taken
    other: list[tuple[str, bool]]


def settings_changed(
    base: Mapping[str, Any], other: Mapping[str, Any]
) -> list[tuple[str, str, str]]:
    """Return the settings that differ: (section.key, base, other)."""
    if not base or not other:
        return []
    names = [name for name in {**base, **other} if not name.startswith(PLACES)]
    return [(name, str(base.get(name, "")), str(other.get(name, ""))) for name in sorted(names)
            if base.get(name) != other.get(name)]  # fmt: skip


def read_lists(results: Sequence[Results], window: str, model: str) -> Lists | None:
    """Read one model's lists of several runs; None where they kept none of that model."""
    tables = [one.table("lists", window=window, model=model) for one in results]
    if not all(len(table) for table in tables):
        return None
    named = [one.table("items") for one in results]
    ids = np.concatenate([table["item_id"].to_numpy() for table in named])
    ids, first = np.unique(ids, return_index=True)
    titles = np.concatenate([table["title"].to_numpy() for table in named])[first]
    past = np.concatenate([table["past_events"].to_numpy() for table in named])[first]
    n = results[0].manifest.windows[window].requests
    k = max(int(table["rank"].to_numpy().max()) for table in tables)
    codes = []
    for table in tables:
        grid = np.full((n, k), -1)
        at = table["request_id"].to_numpy(), table["rank"].to_numpy() - 1
        grid[at] = np.searchsorted(ids, table["item_id"].to_numpy())
        codes.append(grid)
    return Lists(codes, ids, titles, past)


def changed_users(
    lists: Lists, at: int, relevant: Table, about: Table, gain: np.ndarray
) -> list[Shown]:
    """Pick the users whose lists changed most, one request each.

    Args:
        lists: of all runs, the base first.
        at: which other run.
        relevant: request_id and item_id of what was taken.
        about: user_id, request_time and history_events of the requests.
        gain: (n_requests,) difference of the metric; decides between lists that changed as much.
    """
    base, other = lists.codes[0], lists.codes[at]
    same = rank_biased_overlap(base, other)
    user = about["user_id"].to_numpy()
    order = np.lexsort((np.arange(len(same)), -np.abs(gain), np.nan_to_num(same, nan=2.0)))
    first = np.sort(np.unique(user[order], return_index=True)[1])[:MOST_USERS]
    request, item = (relevant[name].to_numpy() for name in ("request_id", "item_id"))
    shown = []
    for row in order[first].tolist():  # ten
        if not same[row] < 1:
            break
        taken = np.searchsorted(lists.ids, item[request == row])
        shown.append(Shown(
            str(user[row]), _time(about["request_time"][row].as_py()),
            int(about["history_events"][row].as_py()), float(same[row]), float(gain[row]),
            [str(title) for title in lists.titles[taken]],
            *([(str(lists.titles[code]), code in taken) for code in some[row][some[row] >= 0]]
              for some in (base, other)),
        ))  # fmt: skip
    return shown


def _time(value: Any) -> str:
    return f"{value:%Y-%m-%d}" if hasattr(value, "strftime") else f"position {value}"
