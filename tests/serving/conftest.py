"""Small releases, and a real server on localhost."""

import subprocess
import tempfile
import threading
import time
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import redis

from serving.api import create_app
from serving.listening import bind, server_of
from serving.manifest import Model
from serving.release import (
    file_entry,
    open_release,
    part_path,
    seal,
    write_fallback,
    write_part,
)
from serving.settings import ApiConfig, ServingConfig

LISTS = {"ann": ["i1", "i2", "i3"], "bob": ["i2"], "cy/ü 7": ["i3", "i1"]}
FALLBACK = ["i9", "i1"]


def table_of(lists, mark):
    """Long-form rows of {user: items}: score is 1 / rank, probability .1 of it, reason `mark`."""
    users = [user for user in sorted(lists) for _ in lists[user]]
    ranks = [rank for user in sorted(lists) for rank in range(1, len(lists[user]) + 1)]
    items = [item for user in sorted(lists) for item in lists[user]]
    scores = [1 / rank for rank in ranks]
    texts = {"source": ["text"] * len(users), "reason": [mark] * len(users),
             "drivers": ["text, item"] * len(users)}  # fmt: skip
    numbers = {"score": scores, "probability": [0.1 * score for score in scores]}
    return pa.table({"user_id": users, "rank": ranks, "item_id": items} | numbers | texts)


def write_lists(folder, lists, fallback, mark, parts):
    """Write a release up to the point of sealing; users are dealt to the parts in turn."""
    for index in range(parts):
        write_part(
            folder, index, table_of({u: lists[u] for u in sorted(lists)[index::parts]}, mark)
        )
    everyone = table_of({"": fallback}, mark).drop_columns(["user_id", "probability"])
    none = pa.nulls(len(fallback), pa.float32())
    write_fallback(folder, everyone.append_column("probability", none))


@pytest.fixture
def seal_lists():
    """Seal a folder with a lineage that does not matter; `known` is what the batch job adds."""

    def make(folder, **known) -> None:
        seal(
            folder,
            created_at="2026-08-20T03:00:00Z",
            as_of="2026-08-20T00:00:00Z",
            model=Model(name="recsys", version="3", uri="models:/recsys/3", run_id="run"),
            data_fingerprint="data",
            config_fingerprint="config",
            code_commit="482d2c3",
            k=20,
            metrics={"test/ndcg_at_10": 0.0709},
            **known,
        )

    return make


@pytest.fixture
def unsealed(tmp_path):
    """Make an unfinished release: `unsealed(name, lists, fallback, parts)` is its folder."""

    def make(name="r1", lists=LISTS, fallback=FALLBACK, parts=2) -> Path:
        folder = tmp_path / "releases" / name
        write_lists(folder, lists, fallback, mark=name, parts=min(parts, len(lists)))
        return folder

    return make


@pytest.fixture
def sealed(unsealed, seal_lists):
    """Make a finished release, as `unsealed` does; `reason` of every row is the release id."""

    def make(*args, **named) -> Path:
        folder = unsealed(*args, **named)
        seal_lists(folder)
        return folder

    return make


@pytest.fixture
def break_part():
    """Change the first part of a sealed release and let its manifest agree with the new bytes."""

    def change_it(folder, change):
        part = part_path(folder, 0)
        pq.write_table(change(pq.read_table(part)), part)
        manifest = open_release(folder)
        path = part.relative_to(folder).as_posix()
        entry = file_entry(folder, path, pq.read_metadata(part).num_rows)
        files = tuple(entry if one.path == path else one for one in manifest.files)
        changed = manifest.model_copy(update={"files": files})
        (folder / "manifest.json").write_text(changed.model_dump_json())

    return change_it


@pytest.fixture
def store(tmp_path):
    return tmp_path / "store"


@contextmanager
def served(settings, keys=(), log_key=""):
    """Serve a store in a thread, as `recsys serve` does, for as long as the block lasts."""
    app = create_app(settings, keys, log_key)
    server = server_of(app, settings.api, lambda: None)
    listening = bind("127.0.0.1", 0)
    thread = threading.Thread(target=server.run, args=([listening],))
    thread.start()
    while not server.started:
        time.sleep(0.005)
    try:
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join()


@pytest.fixture
def serving_of():
    """Return `served`."""
    return served


@pytest.fixture
def url(store):
    """The base URL of a real server over `store`, which has no release yet."""
    patient = ApiConfig(store_timeout_s=30, log="none")  # a busy machine is no broken store
    with served(ServingConfig(store=str(store), api=patient)) as base_url:
        yield base_url


@dataclass
class Server:
    """A real Redis of the test's own; `kill` is a crash, what was not saved is lost."""

    program: str
    folder: Path
    process: subprocess.Popen | None = None

    @property
    def socket(self) -> Path:
        return self.folder / "redis.sock"

    def start(self) -> None:
        command = [self.program, "--port", "0", "--unixsocket", self.socket, "--dir", self.folder,
                   "--save", "", "--appendonly", "yes", "--appendfsync", "always"]  # fmt: skip
        self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        client = redis.Redis(unix_socket_path=str(self.socket))
        while True:
            try:
                client.ping()
                break
            except redis.exceptions.ConnectionError:
                assert self.process.poll() is None, "redis-server did not start"
                time.sleep(0.005)
        client.close()

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()


@pytest.fixture(scope="session")
def running_redis(redis_server):
    """A Redis for all tests of this process; each takes a prefix of its own."""
    with tempfile.TemporaryDirectory(prefix="redis-") as folder:  # a socket's path must be short
        server = Server(redis_server, Path(folder))
        server.start()
        yield server
        server.kill()


@pytest.fixture
def own_redis(redis_server):
    """A Redis of one test, to kill and start again."""
    with tempfile.TemporaryDirectory(prefix="redis-") as folder:
        server = Server(redis_server, Path(folder))
        server.start()
        yield server
        server.kill()


@pytest.fixture(params=["folder", "redis"])
def place(request, tmp_path):
    """A store of each kind, empty, whose readers follow a switch at once."""
    if request.param == "folder":
        return tmp_path / "store"
    server = request.getfixturevalue("running_redis")
    return f"unix://{server.socket}?prefix={tmp_path.name}&pointer_s=0&claim_s=1"


@pytest.fixture(scope="session")
def shop(tmp_path_factory):
    """(prepared, work): 150 users in some buckets, small models that learned nothing real."""
    from benchmarks.look import known
    from benchmarks.scale import shop as drawn_shop
    from benchmarks.scale import some_models
    from pipelines.prepare import prepare
    from pipelines.recommender import Method
    from pipelines.stages import Stages
    from recsys.candidates import CandidateConfig
    from recsys.schema import DataConfig
    from serving.parts import Work

    folder = tmp_path_factory.mktemp("shop")
    events, items = drawn_shop(150, 240, 12)
    config = DataConfig(bucket_rows=400)
    prepared = prepare(events, items, folder / "prepared", config, "time")
    method = Method(prepared.items(), CandidateConfig(), dated=True, exclude_seen=True)
    snapshot = known(prepared, method, Stages())
    ranker, heads = some_models(prepared, method, snapshot, trees=10)
    return prepared, Work(method, snapshot, ranker, heads, prepared.windows.test_end, 10)
