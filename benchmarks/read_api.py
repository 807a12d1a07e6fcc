"""How many lists a second the read API answers, and how long the slowest wait, beside its load.

    python -m benchmarks.read_api --users 1000000 --connections 32 --seconds 10 --store sqlite

A release of as many users is made and published, `recsys serve` runs in a process of its own with
its default settings, and a lean generator in a third process asks over keep-alive connections, each
the next list as soon as it has the last. Users are drawn by seed, one in twenty unknown. Every
answer's status is looked at, and one in fifty is read whole and compared with what was published.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import numpy as np
import pyarrow as pa
from rich.console import Console
from rich.table import Table

from serving.client import RecommendationClient
from serving.errors import ServingError
from serving.manifest import Model
from serving.publish import publish
from serving.release import is_sealed, seal, write_fallback, write_part
from serving.stores import open_store

PART_USERS, ITEMS = 50_000, 100_000
UNKNOWN, LOOKED_AT = 0.05, 0.02  # shares of the requests
WARM_S = 1.0


def main() -> None:
    """Make what is missing, serve it, measure, print a table, write it as JSON."""
    parser = argparse.ArgumentParser("benchmarks.read_api", description=__doc__)
    parser.add_argument("--users", type=int, default=1_000_000)
    parser.add_argument("--k", type=int, default=20)
    parser.add_argument("--connections", type=int, default=32)
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--store", default="sqlite", help="sqlite, redis (a server is started), "
                        "or the place of a store")  # fmt: skip
    parser.add_argument("--folder", type=Path, help="keeps release and store for the next time")
    parser.add_argument("--set", action="append", default=[], help="of recsys serve; repeatable")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--load", type=int, help=argparse.SUPPRESS)  # port: be the generator
    asked = parser.parse_args()
    if asked.load is not None:
        print(json.dumps(asyncio.run(load(asked.load, asked.users, asked.k, asked.connections,
                                          asked.seconds))))  # fmt: skip
        return
    with tempfile.TemporaryDirectory() as temporary:
        folder: Path = asked.folder or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        release = make_release(folder, asked.users, asked.k)
        with store_of(asked.store, folder) as place:
            provide(place, release)
            with server(place, asked.set, folder / "serve.log") as (port, pid):
                before = cpu_s(pid)
                found = generate(port, asked)
                found["server_cpu_us"] = 1e6 * (cpu_s(pid) - before) / found["answered"]
    show(found, asked)
    if asked.json:
        asked.json.write_text(json.dumps(vars(asked) | found, indent=2, default=str) + "\n")


def item_of(user: int, rank: int) -> int:
    """Say which item a user has at a rank, from 1."""
    return (user * 31 + rank * 97) % ITEMS


def make_release(folder: Path, users: int, k: int) -> Path:
    """Write a sealed release of users 0, 1, ..., unless it is there; return its folder."""
    release = folder / "releases" / f"{users}-users-of-{k}"
    if is_sealed(release):
        return release
    rank = np.arange(1, k + 1)
    for part, first in enumerate(range(0, users, PART_USERS)):
        user = np.arange(first, min(users, first + PART_USERS))
        write_part(release, part, lists_of(user, rank))
    everyone = lists_of(np.array([-1]), rank).drop_columns(["user_id", "probability"])
    none = pa.nulls(k, pa.float32())
    write_fallback(release, everyone.append_column("probability", none))
    seal(release, created_at="2026-01-01T00:00:00Z", as_of="2026-01-01T00:00:00Z",
         model=Model(name="recsys", version="1", uri="models:/recsys/1", run_id="none"),
         data_fingerprint="none", config_fingerprint="none", code_commit="none", k=k,
         metrics={})  # fmt: skip
    return release


def lists_of(user: np.ndarray, rank: np.ndarray) -> pa.Table:
    """Return the lists of some users as rows."""
    rows = len(user) * len(rank)
    ranks = np.tile(rank, len(user))
    texts = {"source": "interest", "reason": "like what you looked at", "drivers": "text, history"}
    return pa.table({
        "user_id": np.repeat(user, len(rank)),
        "rank": ranks.astype(np.int16),
        "item_id": (np.repeat(user, len(rank)) * 31 + ranks * 97) % ITEMS,
        "score": (1 / ranks).astype(np.float32),
        "probability": (0.1 / ranks).astype(np.float32),
    } | {name: pa.repeat(text, rows) for name, text in texts.items()})  # fmt: skip


@contextmanager
def store_of(store: str, folder: Path) -> Iterator[str]:
    """Yield the place of the store that is meant; a Redis server lives as long as the block."""
    if store != "redis":
        yield str(folder / "store") if store == "sqlite" else store
        return
    port = free_port()
    command = ["redis-server", "--port", str(port), "--save", "", "--appendonly", "no"]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as redis:
        try:
            until_open(port)
            yield f"redis://127.0.0.1:{port}/0"
        finally:
            redis.terminate()


def provide(place: str, release: Path) -> None:
    """Publish the release, unless it is current."""
    with closing(open_store(place)) as store:
        if any(one.is_current and one.release_id == release.name for one in store.releases()):
            return
    began = time.perf_counter()
    publish(release, place)
    print(f"published in {time.perf_counter() - began:.1f} s", file=sys.stderr)


@contextmanager
def server(place: str, settings: list[str], log: Path) -> Iterator[tuple[int, int]]:
    """Yield port and process id of `recsys serve` in a process of its own."""
    port = free_port()
    command = [sys.executable, "-m", "recsys.cli", "serve", "--store", place, "--port", str(port)]
    command += [word for one in settings for word in ("--set", one)]
    with log.open("w") as said, subprocess.Popen(command, stderr=said) as process:
        try:
            with RecommendationClient(f"http://127.0.0.1:{port}") as client:
                while not ready(client):
                    if process.poll() is not None:
                        raise SystemExit(f"the server did not start; {log} says why")
                    time.sleep(0.1)
            yield port, process.pid
        finally:
            process.kill()


def ready(client: RecommendationClient) -> bool:
    """Say whether the server answers with lists."""
    try:
        return client.ready().ready
    except ServingError:
        return False


def generate(port: int, asked: argparse.Namespace) -> dict[str, float]:
    """Run the generator in a process of its own; return what it saw."""
    command = [sys.executable, "-m", "benchmarks.read_api", "--load", str(port)]
    for name in ("users", "k", "connections", "seconds"):
        command += [f"--{name}", str(getattr(asked, name))]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    found: dict[str, float] = json.loads(done.stdout)
    return found


async def load(port: int, users: int, k: int, connections: int, seconds: float) -> dict[str, float]:
    """Ask over keep-alive connections for a while; times in ms."""
    loop = asyncio.get_running_loop()
    began = time.perf_counter() + WARM_S
    until = began + seconds
    asking = [Asking(users, k, random.Random(seed), began, until) for seed in range(connections)]
    for one in asking:
        await loop.create_connection(lambda one=one: one, "127.0.0.1", port)
    await asyncio.wait([one.ended for one in asking], timeout=WARM_S + seconds + 30)
    times = np.array([ms for one in asking for ms in one.times_ms])
    p50, p95, p99 = np.percentile(times, [50, 95, 99])
    return {
        "answered": sum(one.answered for one in asking),
        "requests": len(times),
        "requests_per_s": len(times) / seconds,
        "p50_ms": p50,
        "p95_ms": p95,
        "p99_ms": p99,
        "max_ms": times.max(),
        "looked_at": sum(one.looked_at for one in asking),
        "degraded": sum(one.degraded for one in asking),
        "wrong": sum(one.wrong for one in asking),
        "cut_off": sum(not one.ended.done() or one.ended.result() for one in asking),
    }


class Asking(asyncio.Protocol):
    """One connection: asks, waits for the whole answer, asks again."""

    def __init__(self, users: int, k: int, rng: random.Random, began: float, until: float) -> None:
        self.users, self.k, self.rng, self.began, self.until = users, k, rng, began, until
        self.ended: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self.times_ms: list[float] = []
        self.wrong = self.looked_at = self.answered = self.degraded = 0
        self.data = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        self.ask()

    def ask(self) -> None:
        known = self.rng.random() >= UNKNOWN
        self.user = self.rng.randrange(self.users) + (0 if known else self.users)
        self.asked_at = time.perf_counter()
        self.transport.write(
            b"GET /v1/users/%d/recommendations HTTP/1.1\r\nhost: localhost\r\n\r\n" % self.user
        )

    def data_received(self, data: bytes) -> None:
        self.data += data
        head, end, body = self.data.partition(b"\r\n\r\n")
        at = head.find(b"content-length: ") + 16
        if not end or len(body) < int(head[at : (head + b"\r").index(b"\r", at)]):
            return
        now = time.perf_counter()
        self.answered += 1
        if now >= self.began:
            self.times_ms.append(1000 * (now - self.asked_at))
        self.check(head, body)
        self.data = b""
        if now < self.until:
            self.ask()
        else:
            self.ended.set_result(False)
            self.transport.close()

    def check(self, head: bytes, body: bytes) -> None:
        """Count an answer that is not what was published."""
        good = head.startswith(b"HTTP/1.1 200 ")
        if good and self.rng.random() < LOOKED_AT:
            self.looked_at += 1
            answer = json.loads(body)
            self.degraded += answer["degraded"]
            known = self.user < self.users
            items = [item_of(self.user if known else -1, rank + 1) for rank in range(self.k)]
            good = [item["item_id"] for item in answer["items"]] == items
            good = (good and answer["is_fallback"] is not known) or answer["degraded"]
        self.wrong += not good

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.ended.done():
            self.ended.set_result(True)


def show(found: dict[str, float], asked: argparse.Namespace) -> None:
    """Print the table."""
    table = Table("store", "connections", "requests/s", "p50 ms", "p95 ms", "p99 ms", "max ms",
                  "server CPU us", "read whole", "degraded", "wrong", "cut off",
                  title=f"{asked.users:,} users, lists of {asked.k}")  # fmt: skip
    table.add_row(
        asked.store, str(asked.connections), f"{found['requests_per_s']:,.0f}",
        *(f"{found[name]:.1f}" for name in ("p50_ms", "p95_ms", "p99_ms", "max_ms")),
        f"{found['server_cpu_us']:,.0f}",
        *(f"{found[name]:,}" for name in ("looked_at", "degraded", "wrong", "cut_off")),
    )  # fmt: skip
    Console(width=120).print(table)


def cpu_s(pid: int) -> float:
    """Return the processor time that a process has taken, of all its threads."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def free_port() -> int:
    """Return a port that nobody listens at."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def until_open(port: int) -> None:
    """Wait until somebody listens there."""
    while True:
        try:
            socket.create_connection(("127.0.0.1", port)).close()
            return
        except OSError:
            time.sleep(0.05)


if __name__ == "__main__":
    main()
