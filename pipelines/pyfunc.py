"""The model as an MLflow pyfunc: a table of user ids in, ranked lists out.

MLflow calls `_load_pyfunc` with the model folder. The model carries the log it knows; a question
may bring newer events and name a moment, and gets the lists that the batch job would make of them.
"""

from __future__ import annotations

import tempfile
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from pipelines.carried import carried, how_events_are_read
from pipelines.model import at_moment, load_model
from pipelines.moments import read_moment
from pipelines.recommender import Lists, Method, Snapshot, lists_of, most_popular
from pipelines.rolling import roll_on
from recsys.dataset import Log
from recsys.errors import ConfigError
from recsys.reading import stamp

KEPT_MOMENTS = 2  # rolled states in memory, beside the model's own
K = 10
COLUMNS = ("user_id", "rank", "item_id", "score", "probability", "source", "reason", "drivers",
           "is_fallback")  # fmt: skip


@dataclass(frozen=True)
class Known:
    """All that is known at a moment."""

    as_of: int
    method: Method
    snapshot: Snapshot
    user_ids: pd.Index[Any]  # by user code
    logs: list[Log]  # one a bucket; user codes ascend from each to the next


class PyfuncRecommender:
    """Ranked lists for users; who is unknown gets what is popular, marked as fallback."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.recommender = load_model(folder)
        self.lock = threading.Lock()  # a server asks from several threads
        self.moments: dict[str, Known] = {}
        self.own = self._known("", "")

    def predict(self, model_input: Any, params: dict[str, Any] | None = None) -> pd.DataFrame:
        """Rank for each user, in the order they are asked for.

        Args:
            model_input: DataFrame with the column `user_id`, and maybe `k`, items in that list.
            params: `k` where no column says it (default 10); `events`, path or URI of a table of
                events that came later; `as_of`, the moment, else just after the last day known.

        Returns:
            Columns user_id, rank, item_id, score, probability, source, reason, drivers,
            is_fallback.

        Raises:
            ConfigError: an id of another kind, or a moment or events that cannot be used.
        """
        said = {name: value for name, value in (params or {}).items() if value is not None}
        known = self.known(str(said.get("events", "")), str(said.get("as_of", "")))
        asked = pd.DataFrame(model_input)
        of_row = asked["k"] if "k" in asked else pd.Series(np.nan, asked.index)
        k = of_row.fillna(int(said.get("k", K))).astype(np.int64).to_numpy()
        code = _codes(known.user_ids, asked["user_id"])
        rows = pd.DataFrame({"row": np.arange(len(asked)), "code": code, "k": k,
                             "user_id": asked["user_id"].to_numpy()})  # fmt: skip
        lists = self._lists(known, np.unique(code[code >= 0]), int(k.max(initial=1)))
        rows["code"] = rows["code"].where(rows["code"].isin(lists["code"]), -1)
        fallback = self._fallback(known, int(k.max(initial=1)))
        found = rows.merge(pd.concat([lists, fallback], ignore_index=True), on="code")
        found = found[found["rank"] <= found["k"]].sort_values(["row", "rank"], ignore_index=True)
        if found["is_fallback"].any():  # JSON knows null, not NaN
            values = found["probability"].astype(object)
            found["probability"] = values.where(found["probability"].notna(), None)
        return found[list(COLUMNS)]

    def known(self, events: str, as_of: str) -> Known:
        """Return what is known at a moment with these newer events; the last ones are kept."""
        if not events and not as_of:
            return self.own
        with self.lock:
            key = repr((as_of, events, stamp(events) if events else None))
            if key not in self.moments:
                while len(self.moments) >= KEPT_MOMENTS:
                    del self.moments[next(iter(self.moments))]
                self.moments[key] = self._known(events, as_of)
            return self.moments[key]

    def _known(self, events: str, as_of: str) -> Known:
        """Roll the state forward to the moment."""
        prepared, vectors = carried(self.folder, self.recommender.card.prepared)
        with tempfile.TemporaryDirectory() as place:
            if events:
                config = how_events_are_read(self.folder)
                prepared = roll_on(prepared, events, config, Path(place) / "prepared")
            now = datetime.now(UTC).isoformat(timespec="seconds")
            moment, _ = read_moment(as_of or None, prepared, now)
            method, snapshot = at_moment(self.recommender, prepared, moment, vectors)
            return Known(moment, method, snapshot, pd.Index(prepared.user_ids()), prepared.logs())

    def _lists(self, known: Known, codes: np.ndarray, k: int) -> pd.DataFrame:
        """Rank for users, (n,) codes ascending; who took nothing before the moment is left out."""
        parts = [pd.DataFrame({
            "code": some[lists.request], **_columns(lists, known.method),
            "probability": lists.probability.astype(np.float32), "is_fallback": False,
        }) for some, lists in self._blocks(known, codes, k)]  # fmt: skip
        if parts:
            return pd.concat(parts, ignore_index=True)
        return self._fallback(known, 1).iloc[:0]

    def _blocks(
        self, known: Known, codes: np.ndarray, k: int
    ) -> Iterator[tuple[np.ndarray, Lists]]:
        """Yield (user codes, their lists), one bucket after the other."""
        for log in known.logs:
            row = np.flatnonzero(np.isin(log.users, codes))
            some = log.take(row)
            taken = (some.moment < known.as_of) & (some.grade > 0)
            users = some.users[np.bincount(some.row[taken], minlength=len(row)) > 0]
            if len(users):
                yield from lists_of(known.method, known.snapshot, some, users, known.as_of,
                                    self.recommender.scorer, self.recommender.heads, k)  # fmt: skip

    def _fallback(self, known: Known, k: int) -> pd.DataFrame:
        """Return the list of users that nothing is known of, under the code -1."""
        best = most_popular(known.method, known.snapshot, known.as_of, k)
        return pd.DataFrame({
            "code": -1, "rank": np.arange(1, len(best) + 1),
            "item_id": known.method.items.ids[best],
            "score": known.snapshot.state.popularity[best].astype(np.float32),
            "source": "popularity", "reason": "popular now", "drivers": "",
            "probability": np.full(len(best), np.nan, np.float32), "is_fallback": True,
        })  # fmt: skip


def _columns(lists: Lists, method: Method) -> dict[str, np.ndarray]:
    """Return the columns of lists that stay as they are."""
    return {
        "rank": lists.rank, "item_id": method.items.ids[lists.item],
        "score": lists.score.astype(np.float32), "source": lists.source, "reason": lists.reason,
        "drivers": lists.drivers,
    }  # fmt: skip


def _codes(known: pd.Index[Any], asked: pd.Series[Any]) -> np.ndarray:
    """Return the user code of each id, -1 = unknown.

    Raises:
        ConfigError: ids are text here and numbers there.
    """
    are_text = [bool(len(ids)) and isinstance(ids[0], str) for ids in (known, asked.tolist())]
    if len(asked) and are_text[0] != are_text[1]:
        kind = {True: "text", False: "numbers"}
        raise ConfigError(
            f"user_id: found {kind[are_text[1]]}, the model's users are {kind[are_text[0]]}; "
            "send ids as they are in the events"
        )
    return known.get_indexer(pd.Index(asked)).astype(np.int64)


def _load_pyfunc(data_path: str) -> PyfuncRecommender:
    """Load the model folder; the name is MLflow's contract."""
    return PyfuncRecommender(Path(data_path))
