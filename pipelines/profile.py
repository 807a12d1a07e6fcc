"""What is in the tables, counted so that a person can judge it; nothing is written but what is
fetched of tables that lie elsewhere.

The events that are kept go through one pass over wherever they are into a temporary table of five
columns, which DuckDB moves to disk where memory is too little; all counts are made of that.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from pipelines.checking import Checked, Inputs, read_inputs
from pipelines.database import Database, open_database, row_of
from pipelines.fetching import fetched, sources_of
from pipelines.itemprofile import Spread, Texts, describe_items, spread_of
from pipelines.lock import locked
from pipelines.settings import RunConfig
from recsys.address import is_elsewhere
from recsys.dataset import DAY
from recsys.errors import ConfigError
from recsys.progress import Show
from recsys.schema import DataConfig, Table
from recsys.split import Windows, cut_windows, leave_last_out

Say = Callable[[str], None]
MOST_TYPES = 8  # shown apart; the others are one
BUSY_DAY = 500  # events of one user on one day that no person makes
BUSY = (1_000, 20.0)  # or so many in all, and so many times what the 99th of 100 users has


@dataclass(frozen=True)
class Days:
    """The log by day; only where events have a time."""

    day: np.ndarray  # (n_days,) int64 days since 1970, ascending, none without events
    events: dict[str, np.ndarray]  # type -> (n_days,) int64, most frequent first
    taken: np.ndarray  # (n_days,) int64, of grade 1 or more

    def gaps(self) -> list[tuple[int, int]]:
        """Return (first day without events, how many), longest first."""
        empty = np.diff(self.day) - 1
        order = np.argsort(-empty, kind="stable")
        return [(int(self.day[at]) + 1, int(empty[at])) for at in order if empty[at]]


@dataclass(frozen=True)
class Window:
    """One window of the suggested split."""

    name: str
    start: int  # moment, or position from the end
    end: int
    events: int  # of grade 1 or more
    requests: int
    cold: int  # requests of users without an event before
    unseen: int  # events of items without an event before the window


@dataclass(frozen=True)
class Bots:
    """Users too active to be people, by the rule of `BUSY_DAY` and `BUSY`."""

    most: float  # events of one user in all that are too many
    users: int
    events: int
    examples: tuple[tuple[str, int, int], ...]  # (user_id, events, most on one day or 0)


@dataclass(frozen=True)
class Profile:
    """All of it."""

    checked: Checked
    copies: int  # exact copies of other rows
    days: Days | None
    per_user: Spread
    per_item: Spread  # of items with an event
    idle_items: int  # without an event
    repeat_share: float  # of taken events: the user had taken the item before
    bots: Bots
    texts: Texts
    windows: tuple[Window, ...]


def profile_data(config: RunConfig, show: Show) -> Profile:
    """Check the configured data and count what is in it.

    Raises:
        ConfigError: no data is configured, or no windows can be cut.
        RemoteError: the data lies elsewhere and cannot be fetched.
        SchemaError: the data has faults; all of them are named.
    """
    data = config.data
    if data.events is None or data.items is None:
        raise ConfigError("data.events and data.items: missing; set both to your tables")
    if any(is_elsewhere(source.path) for source in sources_of(data)):
        with locked(config.run_dir):
            data = fetched(data, config.run_dir / "fetched", show)
    profile = profile_inputs(
        data.events, data.items, data.users, data, config.split.protocol, config.split.share,
        config.encoder.max_tokens, time.time_ns() // 1000,
        lambda note: show("validate", 0, 1, note),
    )  # fmt: skip
    show("validate", 1, 1, "")
    return profile


def profile_inputs(
    events: Any,
    items: Any,
    users: Any,
    config: DataConfig,
    protocol: Literal["auto", "time", "leave_last_out"] = "auto",
    share: float = 0.1,
    max_tokens: int = 64,
    now: int | None = None,
    progress: Say = lambda line: None,
) -> Profile:
    """Check the tables as `check_inputs` does, then count what is in them.

    Args:
        events, items, users, config, protocol, now: as for `pipelines.checking.check_inputs`.
        share: of the events, for each of the ranker, valid and test windows.
        max_tokens: of a text that the encoder reads.
        progress: called with a line of text before each step.

    Raises:
        SchemaError: the tables break their contract; all problems are in the one message.
        ConfigError: no windows can be cut, or one has no request; too little memory.
    """
    sources = {"events": events, "items": items} | ({} if users is None else {"users": users})
    with (
        tempfile.TemporaryDirectory() as spill,
        open_database(Path(spill), config.memory_limit) as con,
    ):
        progress("check the tables")
        inputs = read_inputs(con, sources, config, protocol, now)
        progress(f"read {inputs.checked.n_rows:,} events")
        day = f"floor(moment / {DAY})" if inputs.checked.ordered_by == "timestamp" else "0"
        con.execute(
            f"CREATE TEMP TABLE kept AS SELECT user_id, item_code, moment, event_type, grade, "
            f"CAST({day} AS INTEGER) AS day FROM (SELECT DISTINCT * FROM ({inputs.events}))"
        )
        return _profile(con, inputs, share, max_tokens, progress)


def _profile(
    con: Database, inputs: Inputs, share: float, max_tokens: int, progress: Say
) -> Profile:
    """Count what is in the table `kept` and in the catalogue."""
    checked = inputs.checked
    progress("count users and items")
    con.execute(
        "CREATE TEMP TABLE by_user_day AS SELECT user_id, day, count(*) AS n, "
        "count(*) FILTER (grade > 0) AS taken FROM kept GROUP BY user_id, day"
    )
    con.execute(
        "CREATE TEMP TABLE by_user AS SELECT user_id, sum(n)::BIGINT AS n, "
        "sum(taken)::BIGINT AS taken, max(n) AS on_a_day, min(day) AS first "
        "FROM by_user_day GROUP BY user_id"
    )
    con.execute(
        "CREATE TEMP TABLE by_item AS SELECT item_code, count(*) AS n, min(day) AS first "
        "FROM kept GROUP BY item_code"
    )
    per_item, (n_kept,) = spread_of(con, "n", "by_item"), row_of(con, "SELECT count(*) FROM kept")
    days = _days(con) if checked.ordered_by == "timestamp" else None
    progress("cut windows")
    windows = _cut(con, checked, days, share)
    early = f"AND day < {windows.ranker // DAY}" if windows.dated else ""
    (repeat_share,) = row_of(
        con,
        "SELECT 1 - count(*) / greatest(sum(n), 1) FROM (SELECT count(*) AS n FROM kept "
        f"WHERE grade > 0 {early} GROUP BY user_id, item_code)",
    )
    progress("read the texts")
    return Profile(
        checked=checked,
        copies=checked.n_events - n_kept,
        days=days,
        per_user=spread_of(con, "n", "by_user"),
        per_item=per_item,
        idle_items=checked.n_items - sum(n for _, n in per_item.bins),
        repeat_share=repeat_share,
        bots=_bots(con, days is not None),
        texts=describe_items(con, inputs.items, max_tokens),
        windows=_windows(con, windows, days),
    )


def _days(con: Database) -> Days:
    """Count events by day and type; of many types the rarer ones together."""
    query = "SELECT event_type FROM kept GROUP BY 1 ORDER BY count(*) DESC, 1"
    types = [name for (name,) in con.execute(query).fetchall()]
    table: Table = con.sql(
        "SELECT day, event_type, count(*) AS n, count(*) FILTER (grade > 0) AS taken "
        "FROM kept GROUP BY ALL ORDER BY day, event_type"
    ).to_arrow_table()
    day, at = np.unique(table["day"].to_numpy().astype(np.int64), return_inverse=True)
    kind, n = table["event_type"].to_numpy(), table["n"].to_numpy()
    several = len(types) > MOST_TYPES
    shown = types[: MOST_TYPES - 1] if several else types
    events = {name: np.bincount(at, n * (kind == name), len(day)).astype(int) for name in shown}
    if several:
        other = ~np.isin(kind, shown)
        events["other types"] = np.bincount(at, n * other, len(day)).astype(int)
    return Days(day, events, np.bincount(at, table["taken"].to_numpy(), len(day)).astype(int))


def _cut(con: Database, checked: Checked, days: Days | None, share: float) -> Windows:
    """Cut the windows that `prepare` would cut."""
    if checked.protocol == "time" and days is not None:
        some = days.taken > 0
        return cut_windows(days.day[some], days.taken[some], share)
    taken, longest = row_of(con, "SELECT sum(taken)::BIGINT, max(taken) FROM by_user")
    if longest < 3:
        raise ConfigError(
            f"events: no user took more than {longest}, so that the windows of the last, the "
            "second last and the earlier ones are not all filled; bring a longer log"
        )
    return leave_last_out(taken, checked.n_users, share)


def _windows(con: Database, windows: Windows, days: Days | None) -> tuple[Window, ...]:
    """Count the events and requests of each window."""
    if windows.dated and days is not None:
        first = int(days.day[0]) * DAY
        edges = {"encoder": (first, windows.ranker)}
        count = _count_dated
    else:
        (longest,) = row_of(con, "SELECT max(taken) FROM by_user")
        edges = {"encoder": (-int(longest), windows.ranker)}
        count = _count_ordered
    edges |= {name: windows.span(name) for name in ("ranker", "valid", "test")}
    return tuple(
        Window(name, start, end, *count(con, start, end)) for name, (start, end) in edges.items()
    )


def _count_dated(con: Database, start: int, end: int) -> tuple[int, ...]:
    """Count events, requests, those of cold users, and events of unseen items."""
    inside = f"day >= {start // DAY} AND day < {end // DAY}"
    requests = row_of(
        con,
        "SELECT coalesce(sum(taken), 0)::BIGINT, count(*), count(*) FILTER (day = first) "
        f"FROM by_user_day JOIN (SELECT user_id, first FROM by_user) USING (user_id) "
        f"WHERE taken > 0 AND {inside}",
    )
    unseen = (
        "SELECT count(*) FROM kept JOIN (SELECT item_code, first FROM by_item) USING (item_code) "
        f"WHERE grade > 0 AND {inside} AND first >= {start // DAY}"
    )
    return *requests, *row_of(con, unseen)


def _count_ordered(con: Database, start: int, end: int) -> tuple[int, ...]:
    """Count the taken events at positions from the end; each is a request of its own."""
    n, cold = row_of(
        con,
        f"SELECT sum(greatest(least(taken, {-start}) - {-end}, 0))::BIGINT, "
        f"count(*) FILTER (taken > {-end} AND taken <= {-start}) FROM by_user",
    )
    return n, n, cold, 0


def _bots(con: Database, dated: bool) -> Bots:
    """Find the users that are too active."""
    (usual,) = row_of(con, "SELECT quantile_disc(n, 0.99) FROM by_user")
    most = max(float(BUSY[0]), BUSY[1] * usual)
    rule = f"n > {most}" + (f" OR on_a_day > {BUSY_DAY}" if dated else "")
    users, events = row_of(
        con, f"SELECT count(*), coalesce(sum(n), 0)::BIGINT FROM by_user WHERE {rule}"
    )
    on_a_day = "on_a_day" if dated else "0"
    examples = con.execute(
        f"SELECT CAST(user_id AS VARCHAR), n, {on_a_day} FROM by_user WHERE {rule} "
        "ORDER BY n DESC, 1 LIMIT 5"
    ).fetchall()
    return Bots(most, users, events, tuple(examples))
