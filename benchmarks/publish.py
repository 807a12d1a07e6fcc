"""Readers poll a store while publishers are killed in it and releases are switched under them.

    python -m benchmarks.publish --kills 50 --switches 1000 --store sqlite --json out.json
    python -m benchmarks.publish --kills 50 --switches 1000 --store redis

Reader processes read lists of known content a hundred times a second. Meanwhile `recsys publish` is
killed (SIGKILL) at random moments of its work, then releases are published and rolled back, one
after the other. A list that is mixed, partial, missing or of no release is printed, and so is any
error; the exit code is 1 if there was one. `redis` starts a redis-server of its own.
"""

from __future__ import annotations

import argparse
import json
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path

from rich.console import Console
from rich.table import Table

from benchmarks.quality import describe_run
from benchmarks.releases import item_names, user_name, write_release
from serving.publish import publish
from serving.stores import open_reader, open_store

K, ITEMS = 20, 1000
RELEASES = 4
AT_ONCE = 20  # users in a read
PAUSE_S = 0.01  # of a reader between two reads: publishers need the cores too
READER = "from benchmarks.publish import poll; poll({place!r}, {users}, {seed})"
PUBLISHER = """
import sys
from recsys import cli
import serving.publish, serving.folder{more}
print("ready", flush=True)
sys.stdin.readline()
cli.main()
"""
FORCED = ("--force", "--reason", "a release of a benchmark")


@dataclass
class Told:
    """What was done, and what readers saw."""

    kills: int = 0
    cut_short: int = 0  # kills that came before the publish was done
    switches: int = 0
    reads: int = 0
    wrong: list[str] = field(default_factory=list)
    publish_s: float = 0.0  # that was not killed
    rollback_s: float = 0.0  # the slowest


def main() -> None:
    """Run it and print a table."""
    asked = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    asked.add_argument("--store", choices=("sqlite", "redis"), default="sqlite")
    asked.add_argument("--kills", type=int, default=50)
    asked.add_argument("--switches", type=int, default=1000)
    asked.add_argument("--users", type=int, default=2000)
    asked.add_argument("--readers", type=int, default=4)
    asked.add_argument("--json", type=Path)
    options = asked.parse_args()
    with tempfile.TemporaryDirectory(prefix="stores-") as folder, ExitStack() as stack:
        place = f"{folder}/store"
        if options.store == "redis":
            server = stack.enter_context(redis_server(Path(folder)))
            place = f"unix://{server}?pointer_s=0.05&claim_s=1"
        told = torture(place, Path(folder), options.kills, options.switches, options.users,
                       options.readers)  # fmt: skip
    table = Table("what", options.store, title="readers beside killed publishers and switches")
    for name, value in asdict(told).items():
        table.add_row(name, f"{value:.2f}" if isinstance(value, float) else str(value))
    Console().print(table)
    if options.json:
        report = {"run": describe_run("synthetic"), "store": options.store, **asdict(told)}
        options.json.write_text(json.dumps(report, indent=2))
    sys.exit(bool(told.wrong))


@contextmanager
def redis_server(folder: Path) -> Iterator[Path]:
    """Run a Redis that keeps nothing on disk; yield its socket."""
    socket = folder / "redis.sock"
    command = ["redis-server", "--port", "0", "--unixsocket", socket, "--dir", folder,
               "--save", "", "--appendonly", "no"]  # fmt: skip
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    try:
        while not socket.exists():
            if server.poll() is not None:
                raise SystemExit("redis-server did not start")
            time.sleep(0.01)
        yield socket
    finally:
        server.terminate()
        server.wait()


def torture(place: str, folder: Path, kills: int, switches: int, users: int, readers: int) -> Told:
    """Publish, kill and switch under readers; say what they saw.

    Args:
        place: a store.
        folder: releases are made there.
        kills: of a publish.
        switches: publishes and rollbacks after that.
        users: in each release.
        readers: processes.
    """
    told, rng = Told(), random.Random(0)
    made = [write_release(folder / f"releases/r{n}", users, K, ITEMS, shift=n, mark=f"r{n}")
            for n in range(RELEASES)]  # fmt: skip
    publish(made[0], place, reason=FORCED[-1])
    polling = [start(READER.format(place=place, users=users, seed=seed)) for seed in range(readers)]
    for reader in polling:
        heard(reader, "ready")
    try:
        told.publish_s = publish_in_process(made[1], place, None)
        for kill in range(kills):
            after_s = rng.uniform(0, told.publish_s)
            told.cut_short += publish_in_process(made[kill % RELEASES], place, after_s) == 0
            told.kills += 1
        switch_on(told, made, place, switches)
    finally:
        for reader in polling:
            said, _ = reader.communicate("stop\n")
            found = json.loads(said)
            told.reads += found["reads"]
            told.wrong += found["wrong"]
    return told


def publish_in_process(release: Path, place: str, kill_after_s: float | None) -> float:
    """Run `recsys publish`, and kill it so long after it began; return the seconds it took.

    Imports are done before it begins, so that moments fall into its work. 0: it was killed first.
    """
    more = ", serving.redis_store" if "://" in place else ""
    publisher = start(PUBLISHER.format(more=more), "publish", str(release), "--store", place,
                      *FORCED)  # fmt: skip
    heard(publisher, "ready")
    began = time.monotonic()
    assert publisher.stdin is not None
    publisher.stdin.write("go\n")
    publisher.stdin.flush()
    try:
        said, _ = publisher.communicate(timeout=kill_after_s)
    except subprocess.TimeoutExpired:
        publisher.kill()
        publisher.communicate()
        return 0.0
    if publisher.returncode:
        raise SystemExit(f"a publish that was not killed failed: {said}")
    return time.monotonic() - began


def switch_on(told: Told, made: Sequence[Path], place: str, switches: int) -> None:
    """Publish and roll back by turns; every third time back."""
    for step in range(switches):
        began = time.monotonic()
        if step % 3 == 2:
            open_store(place).rollback()
            told.rollback_s = max(told.rollback_s, time.monotonic() - began)
        else:
            publish(made[step % RELEASES], place, keep=1, reason=FORCED[-1])
        told.switches += 1


def start(code: str, *arguments: str) -> subprocess.Popen[str]:
    """Start Python with some code; what it says comes through a pipe."""
    return subprocess.Popen([sys.executable, "-c", code, *arguments], text=True,
                            stdin=subprocess.PIPE, stdout=subprocess.PIPE)  # fmt: skip


def heard(process: subprocess.Popen[str], word: str) -> None:
    """Wait until a process says a word."""
    assert process.stdout is not None
    said = process.stdout.readline().strip()
    if said != word:
        raise SystemExit(f"expected {word!r} from a process, heard {said!r}")


def poll(place: str, users: int, seed: int) -> None:
    """Read until told to stop, in a process of its own; say how often, and what was wrong."""
    import threading

    stop = threading.Event()
    threading.Thread(target=lambda: (sys.stdin.readline(), stop.set()), daemon=True).start()
    rng, reads, wrong = random.Random(seed), 0, list[str]()
    with open_reader(place) as reader:
        reader.read([user_name(0)])
        print("ready", flush=True)
        while not stop.is_set() or not reads:
            asked = rng.sample(range(users), AT_ONCE)
            try:
                found = reader.read([*map(user_name, asked), "nobody"])
            except Exception as error:  # whatever it is, the reader saw no list
                wrong.append(f"{type(error).__name__}: {error}")
            else:
                release = found.release.release_id
                shift = int(release[1:])
                wanted = [item_names(user, K, ITEMS, shift) for user in asked]
                wanted.append(item_names(0, K, ITEMS, shift))
                for answer, items in zip(found.lists, wanted, strict=True):
                    if ([item.item_id for item in answer.items] != items
                            or {item.reason for item in answer.items} != {release}
                            or answer.is_fallback != (answer.user_id == "nobody")):  # fmt: skip
                        wrong.append(f"{answer.user_id} of {release}: {answer}")
            reads += 1
            time.sleep(PAUSE_S)
    print(json.dumps({"reads": reads, "wrong": wrong[:20]}), flush=True)


if __name__ == "__main__":
    main()
