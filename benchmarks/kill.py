"""The list job, killed at random moments and run again: are its lists those of a job left alone?

    python -m benchmarks.kill --rounds 50 --json out.json

Each job is a fork of this process, which has imported and compiled everything but never opened
MLflow. It is killed (SIGKILL) at a moment drawn over the length of a whole job, wherever that
falls, and run again to its end. Then every file must have the bytes of the release that was made
without a kill, and the manifest must say the same but for its name. Work is lost where a bucket was
begun and its part is not kept: one at most, as buckets come one after the other.

Without `--config` a small synthetic shop (benchmarks/scale.py) is drawn and a model is trained on
it once. With it a run that has a champion is taken; its run folder is used, its releases are not.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from importlib import import_module
from itertools import count
from multiprocessing import get_context
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch: a pool of threads survives no fork

import numpy as np
from rich.console import Console
from rich.table import Table

from benchmarks.champion import with_champion
from benchmarks.quality import describe_run
from pipelines.config import changed
from pipelines.lock import locked
from pipelines.model import at_moment, load_model
from pipelines.prepared import open_prepared
from pipelines.run import git_commit
from pipelines.settings import RunConfig
from pipelines.tracking import asked_model, find_model
from recsys.errors import ConfigError, RecsysError
from serving.audience import ALL, bucket_of
from serving.batch import LISTS, recommend
from serving.inspection import verify
from serving.parts import Work, make_part
from serving.plan import made
from serving.release import is_sealed

FORK = get_context("fork")


@dataclass(frozen=True)
class Round:
    """A job that was killed, and what the next one came to."""

    killed_s: float  # after it began
    kept: int  # parts that were made and whole
    again: int  # buckets that were begun and not kept
    sealed: bool  # the kill came after the last file
    same: bool  # every byte, and the manifest but for its name


def main() -> None:
    """Kill, go on, compare; print a table, write it as JSON."""
    parser = argparse.ArgumentParser(prog="benchmarks.kill", description=__doc__)
    parser.add_argument("--rounds", type=int, default=50)
    parser.add_argument("--config", type=Path, help="of a run with a champion")
    parser.add_argument("--set", action="append", default=[], help="of its config; repeatable")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path, help="where to write the report")
    asked = parser.parse_args()
    try:
        with tempfile.TemporaryDirectory() as temporary:
            report = measured(asked, Path(temporary))
    except RecsysError as error:
        print(error, file=sys.stderr)
        sys.exit(2)
    Console(width=100, highlight=False).print(described(report))
    if asked.json:
        report["run"] = describe_run(str(asked.config or "synthetic"))
        asked.json.write_text(json.dumps(report, indent=2) + "\n")
    failed = [one for one in report["rounds"] if not one["same"] or one["again"] > 1]
    sys.exit(int(bool(failed) or not report["left_alone_same"]))


def measured(asked: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Make the release that all others are compared with, then kill as often as was asked."""
    config = with_champion(asked, folder)
    uri = asked_model(config, None)
    with locked(config.run_dir):
        expected = content(job(config, uri, folder / "expected"))
        warm(config, uri)
        began = time.perf_counter()
        again = content(job(config, uri, folder / "warm"))
        length_s = time.perf_counter() - began
        rng, rounds, commit = np.random.default_rng(asked.seed), [], git_commit()
        for number in count():
            place = folder / f"killed-{number}"
            one = killed(config, uri, place, float(rng.uniform(0, length_s)), expected)
            rounds += [one] if one else []
            if git_commit() != commit:  # it is in every plan and manifest
                raise ConfigError("the commit of the code changed meanwhile; begin again")
            if len(rounds) == asked.rounds:
                break
    return {"length_s": length_s, "buckets": len(expected) - 2,
            "left_alone_same": again == expected,
            "rounds": [asdict(one) for one in rounds]}  # fmt: skip


def described(report: dict[str, Any]) -> Table:
    """Draw the report."""
    rounds, buckets = report["rounds"], report["buckets"]
    fell = {
        "before the first part": sum(one["kept"] == 0 for one in rounds),
        "between parts": sum(0 < one["kept"] < buckets for one in rounds),
        "after the last part": sum(one["kept"] == buckets for one in rounds),
    }
    title = f"{buckets} buckets, a job of {report['length_s']:.1f} s"
    table = Table("what", "of", str(len(rounds)), title=title)
    for what, number in fell.items():
        table.add_row("killed", what, str(number))
    table.add_row("the same bytes", "as left alone", str(sum(one["same"] for one in rounds)))
    most = max(one["again"] for one in rounds)
    table.add_row("buckets made again", f"at most {most} in a job",
                  str(sum(one["again"] for one in rounds)))  # fmt: skip
    return table


def warm(config: RunConfig, uri: str) -> None:
    """Import, load and compile in this process what each job would; MLflow is not opened."""
    prepared = open_prepared(config.run_dir / "prepared")
    model_folder, modules = in_fork(lambda: (find_model(config, uri)[1], sorted(sys.modules)))
    for name in modules:
        if name.startswith(("mlflow.", "sqlalchemy.", "alembic.")):  # on its first question
            import_module(name)
    recommender = load_model(model_folder)
    moment = prepared.windows.test_end
    method, snapshot = at_moment(recommender, prepared, moment, config.run_dir / "embeddings")
    work = Work(method, snapshot, recommender.scorer, recommender.heads, moment, config.serving.k)
    make_part(work, bucket_of(prepared, 0, ALL, moment))


def killed(
    config: RunConfig, uri: str, place: Path, after_s: float, expected: dict[str, Any]
) -> Round | None:
    """Kill a job, run it again, compare; None if it was faster than the kill."""
    process = FORK.Process(target=make, args=(config, uri, place))
    process.start()
    process.join(after_s)
    in_time = process.is_alive()
    process.kill()
    process.join()
    if not in_time:
        return None
    sizes = open_prepared(config.run_dir / "prepared").bucket_sizes()
    folders = list((place / "releases").glob("*"))
    sealed = any(is_sealed(folder) for folder in folders)
    done = frozenset(range(len(sizes))) if sealed else frozenset[int]()
    if folders and not sealed:
        done, _ = made(folders[0], len(sizes))
    said = (place / "said").read_text().split() if (place / "said").exists() else []
    users = max(map(int, said), default=0)
    begun = int(np.searchsorted(np.cumsum(sizes), users)) + 1 if users else 0
    folder = folders[0] if sealed else job(config, uri, place)
    same = content(folder) == expected and len(list((place / "releases").glob("*"))) == 1
    return Round(after_s, len(done), max(0, begun - len(done)), sealed, same)


def job(config: RunConfig, uri: str, place: Path) -> Path:
    """Run the job to its end in a fork; return the release's folder."""
    return Path(in_fork(lambda: make(config, uri, place)))


def make(config: RunConfig, uri: str, place: Path) -> str:
    """Make a release below `place`, and write down there how many users have their lists."""
    place.mkdir(exist_ok=True)
    own = changed(config, [f'serving.releases="{place}/releases"', 'batch.executor="local"'])
    with (place / "said").open("a", buffering=1) as said:

        def show(task: str, done: int, total: int, note: str) -> None:
            if task == LISTS:
                said.write(f"{done}\n")

        return str(recommend(own, uri, None, show))


def in_fork(do: Callable[[], Any]) -> Any:
    """Call something in a fork of this process and return what it returns.

    Raises:
        EOFError: it failed; it has said why.
    """
    ours, theirs = FORK.Pipe(duplex=False)
    process = FORK.Process(target=lambda: theirs.send(do()))
    process.start()
    theirs.close()
    result = ours.recv()
    process.join()
    return result


def content(folder: Path) -> dict[str, Any]:
    """Return the bytes of every file of a release that is what its manifest says, and that."""
    manifest = verify(folder).model_dump(exclude={"created_at", "release_id"})
    files: dict[str, Any] = {path.relative_to(folder).as_posix(): path.read_bytes()
                             for path in sorted(folder.rglob("*.parquet"))}  # fmt: skip
    return files | {"manifest": manifest}


if __name__ == "__main__":
    main()
