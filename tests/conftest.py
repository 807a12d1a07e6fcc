"""A small world whose taste follows its texts, trained once for all tests that need a model."""

from __future__ import annotations

import json
import logging
import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

import numpy as np
import pandas as pd
import pytest
from hypothesis import settings as hypothesis_settings

from recsys.dataset import Log

# The gate draws the same examples each time: a change is judged by what it changed. Runs at a desk
# draw new ones.
hypothesis_settings.register_profile("gate", derandomize=True)
if os.environ.get("CI"):
    hypothesis_settings.load_profile("gate")


def service(program: str) -> str:
    """Return the path of a program that is no Python package; skip without it, but in the gate."""
    if path := shutil.which(program):
        return path
    if os.environ.get("CI"):
        pytest.fail(f"{program} is not installed; .ci/run installs it")
    pytest.skip(f"{program} is not installed (apt-get install redis-server chromium)")


@pytest.fixture(scope="session")
def redis_server() -> str:
    """Where the Redis server program is."""
    return service("redis-server")


@pytest.fixture(scope="session")
def chromium() -> str:
    """Where the browser is."""
    return service("chromium")


@dataclass(frozen=True)
class Bucket:
    """A bucket of a test's own on a real S3 server, looked at by another library than ours."""

    name: str
    port: int
    client: object  # of boto3
    secret: str = "s3/cr+et"  # as AWS makes them; in a URI it is written s3%2Fcr%2Bet

    def uri(self, path: str = "", port: int | None = None) -> str:
        return (f"s3://key:{quote(self.secret, safe='')}@{self.name}/{path}"
                f"?scheme=http&endpoint_override=127.0.0.1:{port or self.port}")  # fmt: skip

    def put(self, key: str, content: bytes) -> None:
        self.client.put_object(Bucket=self.name, Key=key, Body=content)

    def get(self, key: str) -> bytes:
        return self.client.get_object(Bucket=self.name, Key=key)["Body"].read()

    def objects(self) -> list[str]:
        found = self.client.list_objects_v2(Bucket=self.name).get("Contents", [])
        return sorted(one["Key"] for one in found)


@pytest.fixture(scope="session")
def s3_server():
    """Run a real S3 server on a free port of this machine: (port, client of boto3)."""
    import boto3
    from moto.server import ThreadedMotoServer

    logging.getLogger("werkzeug").setLevel(logging.WARNING)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    port = server.get_host_and_port()[1]
    client = boto3.client(
        "s3", endpoint_url=f"http://127.0.0.1:{port}", region_name="us-east-1",
        aws_access_key_id="key", aws_secret_access_key="secret",
    )  # fmt: skip
    yield port, client
    client.close()
    server.stop()


@pytest.fixture
def bucket(s3_server, tmp_path):
    """An empty bucket."""
    port, client = s3_server
    name = re.sub("[^a-z0-9]+", "-", tmp_path.name.lower())[-40:].strip("-")
    name = f"b-{abs(hash(tmp_path)):x}-{name}"
    client.create_bucket(Bucket=name)
    return Bucket(name, port, client)


@pytest.fixture
def requests_of(caplog):
    """Return what tells which objects the S3 server was asked for, by a method, since last told."""
    caplog.set_level(logging.INFO, "werkzeug")

    def since(method):
        lines = [record.getMessage() for record in caplog.records]
        caplog.clear()
        form = re.compile(rf"{method} /[^/?]+/([^ ?]+) ")
        return [found[1] for line in lines if (found := form.search(line))]

    return since


TOPICS = {
    "garden": ["rose seeds", "watering can", "spade", "compost", "tulip bulbs", "hedge shears"],
    "kitchen": ["frying pan", "bread knife", "rolling pin", "tea pot", "soup ladle", "whisk"],
    "office": ["stapler", "fountain pen", "desk lamp", "note book", "paper clips", "envelope"],
    "sport": ["tennis ball", "yoga mat", "running shoes", "swim goggles", "dumbbell", "jump rope"],
}


def small_tables(n_users: int = 60, seed: int = 0) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return (events, items): 48 items of four topics; a user stays mostly with one topic."""
    rng = np.random.default_rng(seed)
    names = [(topic, f"{colour} {thing}") for topic, things in TOPICS.items()
             for thing in things for colour in ("red", "blue")]  # fmt: skip
    items = pd.DataFrame({
        "item_id": [f"i{at:02d}" for at in range(len(names))],
        "title": [name for _, name in names],
        "category": [topic for topic, _ in names],
        "price": rng.uniform(1, 20, len(names)).round(2),
    })  # fmt: skip
    n = rng.integers(15, 40, n_users)
    user = np.repeat(np.arange(n_users), n)
    size = len(names) // len(TOPICS)
    own = rng.integers(0, len(TOPICS), n_users)[user] * size + rng.integers(0, size, len(user))
    item = np.where(rng.random(len(user)) < 0.8, own, rng.integers(0, len(names), len(user)))
    when = pd.Timestamp("2026-01-01", tz="UTC") + pd.to_timedelta(
        rng.integers(0, 120 * 24 * 60, len(user)), unit="min"
    )
    events = pd.DataFrame({
        "user_id": [f"u/{at}" for at in user], "item_id": items["item_id"].to_numpy()[item],
        "timestamp": when, "event_type": "purchase",
    })  # fmt: skip
    return events, items


@pytest.fixture
def synced(monkeypatch):
    """Note what is synced, and what its folder held at that moment."""
    found = []
    plain = os.fsync

    def note(descriptor):
        path = Path(f"/proc/self/fd/{descriptor}").readlink()
        folder = path if path.is_dir() else path.parent
        found.append((path.name, sorted(one.name for one in folder.iterdir())))
        plain(descriptor)

    monkeypatch.setattr(os, "fsync", note)
    return found


THINGS = {  # a shop's rooms -> (German or French names of things, how they are described)
    "Küche": (["Bratpfanne", "Brotmesser", "Suppenkelle", "Teekanne", "Schneebesen"],
              "Für die Küche, spülmaschinenfest."),
    "Garten": (["Gießkanne", "Spaten", "Rosensamen", "Heckenschere", "Blumenzwiebeln"],
               "Für Beet und Balkon, wetterfest."),
    "Bureau": (["Agrafeuse", "Stylo plume", "Lampe de bureau", "Cahier", "Enveloppes"],
               "Pour le bureau, très élégant; prêt à offrir."),
    "Sport": (["Tennisball", "Yogamatte", "Laufschuhe", "Schwimmbrille", "Springseil"],
              "Für Training und Freizeit."),
}  # fmt: skip
COLOURS = ("rot", "blau", "grün", "gelb", "weiß", "schwarz", "braun", "rosa", "türkis", "grau")


def write_shop(folder: Path, n_users: int = 300, n_views: int = 12_000, n_orders: int = 3_000):
    """Write a German shop's exports as its systems do: orders, products, page views.

    Orders and products come from a till that writes cp1252, semicolons and decimal commas; the
    views from a web log in English with Unix milliseconds. A customer stays mostly in one room.
    """
    rng = np.random.default_rng(5)
    items = pd.DataFrame(
        [(room, f"{thing} {colour}", said) for room, (things, said) in THINGS.items()
         for thing in things for colour in COLOURS],
        columns=["Warengruppe", "Bezeichnung", "Beschreibung"],
    )  # fmt: skip
    items.insert(0, "Artikelnr", [f"A{4711 + at:06d}" for at in range(len(items))])
    cents = rng.integers(199, 150_000, len(items))
    items["Preis"] = [_euros(one) for one in cents]
    size = len(items) // len(THINGS)
    home = rng.integers(0, len(THINGS), n_users)

    def draw(n):
        user = rng.integers(0, n_users, n)
        own = home[user] * size + rng.integers(0, size, n)
        item = np.where(rng.random(n) < 0.8, own, rng.integers(0, len(items), n))
        minute = np.sort(rng.integers(0, 200 * 1440, n))
        return user, item, pd.Timestamp("2026-01-02") + pd.to_timedelta(minute, unit="min")

    user, item, when = draw(n_orders)
    orders = pd.DataFrame({
        "Bestellnr": [f"B{100_000 + at // 2}" for at in range(n_orders)],
        "Kundennr": 10_000 + user, "Artikelnr": items["Artikelnr"].to_numpy()[item],
        "Bestelldatum": when.strftime("%d.%m.%Y %H:%M"), "Menge": rng.integers(1, 4, n_orders),
        "Einzelpreis": [_euros(one) for one in cents[item]],
    })  # fmt: skip
    user, item, when = draw(n_views)
    views = pd.DataFrame({
        "viewed_at": when.astype("datetime64[ms]").astype("int64"), "customer_id": 10_000 + user,
        "product_id": items["Artikelnr"].to_numpy()[item],
        "page": "/p/" + items["Artikelnr"].to_numpy()[item],
    })  # fmt: skip
    german = {"index": False, "sep": ";", "encoding": "cp1252"}
    items.to_csv(folder / "Artikel.csv", **german)
    orders.to_csv(folder / "Bestellungen.csv", **german)
    views.to_csv(folder / "page_views.csv", index=False)
    return ["Bestellungen.csv", "Artikel.csv", "page_views.csv"]


def _euros(cents: int) -> str:
    """Write 123450 cents as "1.234,50"."""
    return f"{cents / 100:,.2f}".translate(str.maketrans(",.", ".,"))


@pytest.fixture(scope="session")
def tables_of():
    """Return `small_tables`."""
    return small_tables


@pytest.fixture(scope="session")
def shop_in():
    """Return `write_shop`."""
    return write_shop


@dataclass(frozen=True)
class World:
    """A trained small world and where its parts are."""

    folder: Path
    config: object
    trained: object


@dataclass(frozen=True)
class Later:
    """The small world a while later, where a run went on from its champion."""

    folder: Path
    config: object
    said: str  # on the terminal
    report: dict


def world_settings(folder: Path) -> list[str]:
    """Return the overrides of a run that trains in seconds."""
    return [
        f'run_dir="{folder}/run"', f'data.events="{folder}/events.parquet"',
        f'data.items="{folder}/items.parquet"', "data.bucket_rows=800", "encoder.max_tokens=16",
        "training.max_epochs=3", "training.layers=1", "training.layer_passes=1",
        "training.layer_batch_events=16",
        "ranker.max_trees=30", "ranker.min_rows_in_leaf=5", "evaluation.resamples=50",
        f'serving.releases="{folder}/releases"', f'serving.store="{folder}/store"', "serving.k=10",
    ]  # fmt: skip


@pytest.fixture(scope="session")
def settings_in():
    """Return `world_settings`, for runs of a test's own."""
    return world_settings


@pytest.fixture(scope="session")
def moved_columns():
    """Rewrite a LightGBM text for columns in another order: new column i is the old order[i]."""

    def move(text, order):
        new = {str(old): str(at) for at, old in enumerate(order)}

        def change(line):
            name, values = line[1], line[2].split(" ")
            moved = ([values[old] for old in order] if name.startswith("feature_")
                     else [new[value] for value in values])  # fmt: skip
            return f"{name}={' '.join(moved)}"

        pattern = r"^(feature_names|feature_infos|split_feature)=(.+)$"
        text = re.sub(pattern, change, text, flags=re.MULTILINE)
        return re.sub(r"^tree_sizes=.*\n", "", text, flags=re.MULTILINE)  # of trees as they were

    return move


@pytest.fixture(scope="session")
def small_world(tmp_path_factory):
    """Train on the small world, under the time protocol."""
    from pipelines.config import load_toml
    from pipelines.settings import RunConfig
    from pipelines.train import train

    folder = tmp_path_factory.mktemp("world")
    events, items = small_tables()
    events.to_parquet(folder / "events.parquet")
    items.to_parquet(folder / "items.parquet")
    config = load_toml(RunConfig, None, world_settings(folder))
    return World(folder, config, train(config, lambda *_: None))


@pytest.fixture(scope="session")
def later_world(small_world, tmp_path_factory):
    """Go on from the small world's champion, by the command line, with 120 more days of events."""
    from pipelines.config import load_toml
    from pipelines.settings import RunConfig

    folder = tmp_path_factory.mktemp("later")
    (first, items), (second, _) = small_tables(), small_tables(seed=1)
    second["timestamp"] += pd.Timedelta(days=120)
    pd.concat([first, second]).to_parquet(folder / "events.parquet")
    items.to_parquet(folder / "items.parquet")
    (folder / "run").mkdir()
    shutil.copy(small_world.config.run_dir / "mlflow.db", folder / "run")
    shutil.copytree(small_world.config.run_dir / "embeddings", folder / "run/embeddings")
    settings = world_settings(folder)
    command = [
        sys.executable,
        "-m",
        "recsys.cli",
        "train",
        "--from",
        "models:/recommender@champion",
    ]
    command += [word for one in settings for word in ("--set", one)]
    done = subprocess.run(
        command, cwd=Path(__file__).parent.parent, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    [report] = (folder / "run/reports").glob("*/report.json")
    config = load_toml(RunConfig, None, settings)
    return Later(folder, config, done.stdout, json.loads(report.read_text()))


@pytest.fixture(scope="session")
def log_of():
    """Make a log of rows in any order; grade, weight and price may be left out: 1, 1.0, unknown."""

    def make(rows):
        rows = sorted((*row, *(1, 1.0, np.nan)[len(row) - 3 :]) for row in rows)
        users, lengths = np.unique([row[0] for row in rows], return_counts=True)
        indptr = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
        kinds = (np.int64, np.int32, np.int8, np.float32, np.float32)
        columns = list(zip(*rows, strict=True))[1:]
        moment, item, *rest = (np.array(c, kind) for c, kind in zip(columns, kinds, strict=True))
        return Log(users, indptr, item, moment, *rest)

    return make
