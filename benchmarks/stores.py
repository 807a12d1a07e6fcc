"""Loading a release into a store, the bytes a list takes there, and direct reads a second.

    python -m benchmarks.stores --lists 1000000 --json out.json
    python -m benchmarks.stores --lists 100000 --reasons --store redis

The release is synthetic (benchmarks/releases.py): lists of 50 out of 100,000 items, with sources
and drivers, and with `--reasons` a reason with a title for each row; making it is not timed.
Verifying reads every file, checks its sum and every list; loading is what comes after. Reads are of
random users from this one process: one user a call or 100, looking at ids alone or at every field.
`redis` starts a redis-server of its own; its bytes are what its memory grew by.
"""

from __future__ import annotations

import argparse
import json
import resource
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack, closing
from pathlib import Path

import numpy as np
from redis import Redis
from rich.console import Console
from rich.table import Table

from benchmarks.publish import redis_server
from benchmarks.quality import describe_run
from benchmarks.releases import user_name, write_release
from serving.inspection import verify
from serving.lists import Answer
from serving.stores import open_reader, open_store

READS = 50_000
AT_ONCE = 100


def main() -> None:
    """Measure one store or both, and print a table."""
    asked = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    asked.add_argument("--lists", type=int, default=1_000_000)
    asked.add_argument("--k", type=int, default=50)
    asked.add_argument("--items", type=int, default=100_000)
    asked.add_argument("--reads", type=int, default=READS)
    asked.add_argument("--reasons", action="store_true")
    asked.add_argument("--store", choices=("sqlite", "redis", "both"), default="both")
    asked.add_argument("--json", type=Path)
    options = asked.parse_args()
    kinds = ("sqlite", "redis") if options.store == "both" else (options.store,)
    report: dict[str, dict[str, float]] = {}
    with tempfile.TemporaryDirectory(prefix="stores-") as folder, ExitStack() as stack:
        mark = None if options.reasons else ""
        release = write_release(Path(folder) / "r1", options.lists, options.k, options.items,
                                mark=mark)  # fmt: skip
        for kind in kinds:
            place, size = f"{folder}/store", folder_size
            if kind == "redis":
                socket = stack.enter_context(redis_server(Path(folder)))
                place, size = f"unix://{socket}", server_size
            report[kind] = measured(release, place, size, options.lists, options.reads)
    table = Table("what", *kinds, title=f"{options.lists:,} lists of {options.k}")
    for what in report[kinds[0]]:
        table.add_row(what, *(f"{report[kind][what]:,.1f}" for kind in kinds))
    Console().print(table)
    if options.json:
        told = {"run": describe_run("synthetic"), "lists": options.lists, **report}
        options.json.write_text(json.dumps(told, indent=2))


def measured(
    release: Path, place: str, size: Callable[[str], int], n_lists: int, n_reads: int
) -> dict[str, float]:
    """Load a release, read from it, switch to another one and back."""
    began = time.perf_counter()
    manifest = verify(release)
    verify_s, empty = time.perf_counter() - began, size(place)
    with closing(open_store(place)) as store:
        began = time.perf_counter()
        store.load_release(release, verified=manifest)
        load_s = time.perf_counter() - began
        bytes_a_list = (size(place) - empty) / n_lists
        store.switch("r1")
        found = {
            "verified lists/s": n_lists / verify_s,
            "loaded lists/s": n_lists / load_s,
            "bytes a list": bytes_a_list,
            "peak memory of this process, MiB": (
                resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
            ),
        }
    rng = np.random.default_rng(0)
    users = [user_name(user) for user in rng.integers(0, n_lists, n_reads)]
    with open_reader(place) as reader:
        began = time.perf_counter()
        reader.release()
        found["opening a release, ms"] = (time.perf_counter() - began) * 1000
        for at_once in (1, AT_ONCE):
            calls = [users[at : at + at_once] for at in range(0, n_reads, at_once)]
            for what, look in (("ids", ids_of), ("every field", list_of)):
                began = time.perf_counter()
                for call in calls:
                    for answer in reader.read(call).lists:
                        look(answer)
                reads_s = n_reads / (time.perf_counter() - began)
                found[f"reads/s, {at_once} a call, {what}"] = reads_s
    return found


def ids_of(answer: Answer) -> object:
    """Look at the ids of a list."""
    return answer.items.item_ids


def list_of(answer: Answer) -> object:
    """Look at every field of a list."""
    return list(answer.items)


def folder_size(place: str) -> int:
    """Return the bytes of the files of a store."""
    return sum(path.stat().st_size for path in Path(place).glob("*.sqlite"))


def server_size(place: str) -> int:
    """Return the bytes of memory that a server uses."""
    with Redis.from_url(place) as client:
        return int(client.info("memory")["used_memory"])


if __name__ == "__main__":
    main()
