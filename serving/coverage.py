"""What the batch job knows of a release and the lists do not say: who is active, what is on offer.

Both go into the manifest, so that gates can judge the release wherever it is published.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pipelines.prepared import Prepared
from recsys.dataset import DAY
from serving.audience import ALL, Audience, bucket_of, takers
from serving.manifest import Reach
from serving.release import part_path

ACTIVE_DAYS = 28  # took something in so many days before a moment


def reach_of(
    prepared: Prepared, folder: Path, moment: int, audience: Audience = ALL,
    active_days: int = ACTIVE_DAYS,
) -> Reach:  # fmt: skip
    """Count whom the lists of a release reach, one bucket and its part in memory at a time.

    Args:
        prepared: the events.
        folder: the release; part i holds lists of users of bucket i only.
        moment: of the release; only events before it count.
        audience: who was to get a list.
        active_days: a user with something taken in so many days before `moment` is active. Of
            events with an order only, every user with something taken is.
    """
    dated = prepared.windows.dated
    since = moment - active_days * DAY if dated else np.iinfo(np.int64).min
    n_asked, n_active, n_listed, last = 0, 0, 0, np.iinfo(np.int64).min
    for number in range(prepared.n_buckets):
        bucket = bucket_of(prepared, number, audience, moment)
        log = bucket.log
        past = log.moment < moment
        own = pq.read_table(part_path(folder, number), columns=["user_id"])["user_id"].unique()
        active = prepared.ids_of(takers(log, moment, since)).cast(own.type)
        n_asked += len(bucket.users)
        n_active += len(active)
        n_listed += pc.is_in(active, own).true_count
        last = max(last, int(log.moment[past].max(initial=last)))
    known = dated and last > np.iinfo(np.int64).min
    return Reach(
        asked=n_asked,
        active=n_active,
        active_listed=n_listed,
        active_days=active_days if dated else None,
        last_event=_text(last) if known else None,
    )


def catalogue_of(prepared: Prepared, moment: int) -> pa.Table:
    """Read what is on offer at a moment: item_id, category and available, a row for each item.

    The category is null where an item has none. Without dates every item is on offer.
    """
    items = prepared.items()
    available = (items.available_from <= moment) & (moment < items.available_until)
    named = pq.read_table(prepared.folder / "items.parquet", columns=["item_id", "category"])
    category = named["category"].cast(pa.string())
    named = named.set_column(1, "category", category)
    return named.append_column("available", pa.array(available))


def _text(moment: int) -> str:
    return (datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=moment)).isoformat()
