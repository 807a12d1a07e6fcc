"""Who counts as active and what as on offer is decided strictly before the moment."""

import pandas as pd
import pyarrow as pa
import pytest

from pipelines.prepare import prepare
from recsys.dataset import DAY
from recsys.schema import DataConfig
from serving.coverage import catalogue_of, reach_of
from serving.lists import LIST_COLUMNS
from serving.manifest import Reach
from serving.release import write_part

START = pd.Timestamp("2026-01-01", tz="UTC")
MOMENT = int(START.value // 1000) + 40 * DAY
TYPES = {"buy": {"grade": 2}, "seen": {"grade": 0}}


@pytest.fixture
def shop(tmp_path):
    """60 users: user u buys on day u at noon; user 30 was shown something on day 39 as well."""
    days = [*range(60), 39]
    kinds = ["buy"] * 60 + ["seen"]
    events = pd.DataFrame({
        "user_id": [*range(60), 30], "item_id": [day % 4 for day in days], "event_type": kinds,
        "timestamp": [START + pd.Timedelta(days=day, hours=12) for day in days],
    })  # fmt: skip
    items = pd.DataFrame({
        "item_id": range(4), "title": list("abcd"), "category": ["x", "x", None, "y"],
        "available_until": [pd.NaT, START + pd.Timedelta(days=40), pd.NaT, pd.NaT],
    })  # fmt: skip
    config = DataConfig(bucket_rows=10, event_types=TYPES)
    return prepare(events, items, tmp_path / "prepared", config)


def write_lists(prepared, folder, users):
    """Write the lists of some users into the parts of their buckets."""
    ids = prepared.user_ids()
    for bucket in range(prepared.n_buckets):
        some = [int(one) for one in ids[prepared.bucket(bucket).users] if one in users]
        columns = {"user_id": some, "item_id": [0] * len(some), "rank": [1] * len(some)}
        columns |= {"score": [0.0] * len(some), "probability": [0.5] * len(some)}
        columns |= {name: [""] * len(some) for name in ("source", "reason", "drivers")}
        ids_typed = {name: pa.array(columns[name], pa.int64()) for name in ("user_id", "item_id")}
        texts = {name: pa.array(columns[name], pa.string()) for name in LIST_COLUMNS[5:]}
        columns |= ids_typed | texts
        write_part(folder, bucket, pa.table(columns))


def test_active_is_who_took_something_in_the_last_days_before_the_moment(shop, tmp_path):
    assert shop.n_buckets > 1
    write_lists(shop, tmp_path, users={5, 33, 34, 35})
    assert reach_of(shop, tmp_path, MOMENT, active_days=7) == Reach(
        asked=40,  # days 0 to 39 are before day 40
        active=7,  # those of days 33 to 39; being shown something is not taking it
        active_listed=3,
        active_days=7,
        last_event="2026-02-09T12:00:00+00:00",  # day 39
    )


def test_nobody_is_active_before_the_first_event(shop, tmp_path):
    write_lists(shop, tmp_path, users=set())
    found = reach_of(shop, tmp_path, MOMENT - 40 * DAY, active_days=7)
    assert found == Reach(asked=0, active=0, active_listed=0, active_days=7, last_event=None)


def test_an_item_is_on_offer_until_the_moment_it_is_not(shop):
    one = catalogue_of(shop, MOMENT - 1)
    assert one.to_pydict() == {
        "item_id": [0, 1, 2, 3], "category": ["x", "x", None, "y"], "available": [True] * 4,
    }  # fmt: skip
    assert catalogue_of(shop, MOMENT)["available"].to_pylist() == [True, False, True, True]


def test_of_an_order_everybody_counts_as_active(tmp_path):
    events = pd.DataFrame({
        "user_id": [user for user in range(9) for _ in range(5)],
        "item_id": [0, 1, 2, 3, 0] * 9, "order_index": [0, 1, 2, 3, 4] * 9,
    })  # fmt: skip
    items = pd.DataFrame({"item_id": range(4), "title": list("abcd")})
    prepared = prepare(events, items, tmp_path / "prepared", DataConfig(bucket_rows=10))
    write_lists(prepared, tmp_path, users={1, 2})
    assert reach_of(prepared, tmp_path, prepared.windows.test_end) == Reach(
        asked=9, active=9, active_listed=2, active_days=None, last_event=None
    )
    assert all(catalogue_of(prepared, 0)["available"].to_pylist())
