"""A small shop: its tables, and what a prepared folder of them holds."""

from dataclasses import dataclass

import numpy as np
import pandas as pd
import pytest

START = pd.Timestamp("2026-01-01")


@pytest.fixture
def world():
    """Make (events, items): 100 days; users and items are strings such as "007"."""

    def make(n=600, n_users=30, n_items=40):
        rng = np.random.default_rng(7)
        seconds = pd.to_timedelta(rng.integers(0, 100 * 86400, n), unit="s")
        events = pd.DataFrame(
            {
                "user_id": [f"{u:03d}" for u in rng.integers(0, n_users, n)],
                "item_id": [f"{i:02d}" for i in rng.integers(0, n_items, n)],
                "event_type": rng.choice(["view", "buy", "shown"], n, p=[0.6, 0.3, 0.1]),
                "timestamp": (START + seconds).strftime("%Y-%m-%dT%H:%M:%SZ"),
                "value": np.where(rng.random(n) < 0.2, np.nan, rng.integers(1, 6, n).astype(float)),
                "price": rng.random(n).round(2),
            }
        )
        items = pd.DataFrame({"item_id": [f"{i:02d}" for i in range(n_items)]})
        items["title"] = "item " + items["item_id"]
        items["genre"] = "a|b"
        return events, items

    return make


@pytest.fixture
def order_only():
    """Make (events, items) from (user, item, order, type)."""

    def make(rows):
        events = pd.DataFrame(rows, columns=["user_id", "item_id", "order_index", "event_type"])
        ids = sorted(set(events["item_id"]))
        return events, pd.DataFrame({"item_id": ids, "title": [f"t{i}" for i in ids]})

    return make


@pytest.fixture
def content():
    """Read every event as it is seen by its user's and item's id, in order, by user."""

    def read(prepared):
        ids, items, found = prepared.user_ids(), prepared.items().ids, {}
        for log in prepared.buckets():
            for r, user in enumerate(log.users):
                rows = range(log.indptr[r], log.indptr[r + 1])
                found[ids[user]] = [
                    (items[log.item[e]], log.moment[e], log.grade[e], log.weight[e], log.price[e])
                    for e in rows
                ]
        return found

    return read


@dataclass(frozen=True)
class Store:
    """An MLflow store of runs with made-up results."""

    config: object
    prepared: object
    seeds: list  # ids of five runs that differ in the seed alone
    better: str  # id of a run that ranks far better
    elsewhere: str  # id of a run on other data


@pytest.fixture(scope="session")
def store(tmp_path_factory):
    """Write seven runs, as training does, into a store."""
    from benchmarks.compare import keep_run, made_up, small_shop
    from pipelines.settings import RunConfig

    folder = tmp_path_factory.mktemp("store")
    config = RunConfig(run_dir=folder / "run")
    prepared = small_shop(config, 300)
    other = small_shop(RunConfig(run_dir=folder / "other"), 200)

    def keep(data, quality, variant, seed):
        outcome = made_up(data, "test", quality, 10 * int(variant[1:]) + seed)
        return keep_run(config, data, outcome, variant, seed).name

    elsewhere = keep(other, 0, "v7", 0)
    seeds = [keep(prepared, 0, "v0", seed) for seed in range(5)]
    return Store(config, prepared, seeds, keep(prepared, 4, "v1", 0), elsewhere)
