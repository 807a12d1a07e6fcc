"""The model as an MLflow pyfunc: a table of user ids in, ranked lists out.

MLflow calls `_load_pyfunc` with the model folder. The events come from the prepared data the model
was trained on, rolled forward to their end.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from pipelines.model import at_moment, load_model
from pipelines.prepared import open_prepared
from pipelines.recommender import lists_of


class PyfuncRecommender:
    """Ranked lists for known users; a user without history is left out of the answer."""

    def __init__(self, folder: Path):
        self.recommender = load_model(folder)
        self.prepared = open_prepared(self.recommender.card.prepared)
        embeddings = self.prepared.folder.parent / "embeddings"
        self.as_of = self.prepared.windows.test_end
        self.method, self.snapshot = at_moment(
            self.recommender, self.prepared, self.as_of, embeddings
        )
        self.user_ids = pd.Index(self.prepared.user_ids())

    def predict(self, model_input: Any, params: dict[str, Any] | None = None) -> pd.DataFrame:
        """Rank for each user.

        Args:
            model_input: DataFrame with the column `user_id`.
            params: `k`, items in a list (default 10).

        Returns:
            Columns user_id, rank, item_id, score, probability, source, reason, drivers.
        """
        asked = pd.Index(pd.DataFrame(model_input)["user_id"])
        user = np.unique(self.user_ids.get_indexer(asked))
        user = user[user >= 0].astype(np.int64)
        parts = [self._lists(log, user, int((params or {}).get("k", 10)))
                 for log in self.prepared.buckets()]  # fmt: skip
        return pd.concat(parts, ignore_index=True)

    def _lists(self, log: Any, user: np.ndarray, k: int) -> pd.DataFrame:
        """Rank for the users of one bucket."""
        mine = user[np.isin(user, log.users)]
        parts = [
            pd.DataFrame({
                "user_id": self.user_ids[some[lists.request]], "rank": lists.rank,
                "item_id": self.method.items.ids[lists.item], "score": lists.score,
                "probability": lists.probability, "source": lists.source, "reason": lists.reason,
                "drivers": lists.drivers,
            })
            for some, lists in lists_of(self.method, self.snapshot, log, mine, self.as_of,
                                        self.recommender.scorer, self.recommender.heads, k)
        ]  # fmt: skip
        return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame()


def _load_pyfunc(data_path: str) -> PyfuncRecommender:
    """Load the model folder; the name is MLflow's contract."""
    return PyfuncRecommender(Path(data_path))
