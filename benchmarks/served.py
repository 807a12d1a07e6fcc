"""The champion behind `mlflow models serve`: are its answers the batch job's lists, and how fast?

    python -m benchmarks.served --config run.toml --requests 100 --users 20 --json out.json

The batch job makes its lists for a moment; then a real server answers requests of some users each,
drawn by seed, one request after the other, and every row of every answer is compared with the
lists: ids, ranks, scores, words, to the last digit. Without `--config` a small synthetic shop is
drawn and a model is trained on it; with it a run that has a champion is taken, its releases are
not touched.
"""

from __future__ import annotations

import argparse
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from rich.console import Console
from rich.table import Table

from benchmarks.champion import with_champion
from benchmarks.quality import describe_run
from benchmarks.scale import alone
from pipelines.settings import RunConfig
from pipelines.tracking import asked_model, find_model
from recsys.errors import RecsysError
from recsys.progress import showing
from serving.batch import recommend

COMPARED = ["user_id", "rank", "item_id", "score", "probability", "source", "reason", "drivers"]
START_S = 600  # that a server may take until it answers


def main() -> None:
    """Ask, compare, print a table, write it as JSON; exit 1 if an answer is another one."""
    parser = argparse.ArgumentParser(prog="benchmarks.served", description=__doc__)
    parser.add_argument("--config", type=Path, help="of a run with a champion")
    parser.add_argument("--set", action="append", default=[], help="of its config; repeatable")
    parser.add_argument("--requests", type=int, default=100)
    parser.add_argument("--users", type=int, default=20, help="of a request")
    parser.add_argument("--json", type=Path, help="where to write the report")
    asked = parser.parse_args()
    try:
        with tempfile.TemporaryDirectory() as folder:
            report = measured(asked, Path(folder))
    except RecsysError as error:
        print(error, file=sys.stderr)
        sys.exit(2)
    table = Table("what", "value", title=f"{asked.requests} requests of {asked.users} users")
    for what, value in report.items():
        table.add_row(what, f"{value:,.2f}" if isinstance(value, float) else f"{value:,}")
    Console(width=100, highlight=False).print(table)
    if asked.json:
        told = report | {"run": describe_run(str(asked.config or "synthetic"))}
        asked.json.write_text(json.dumps(told, indent=2) + "\n")
    sys.exit(int(report["the batch job's lists"] < asked.requests))


def measured(asked: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Make the lists, start the server, ask."""
    config = with_champion(asked, folder)
    serving = config.serving.model_copy(update={"releases": folder / "releases"})
    uri = asked_model(config, None)
    _, model = find_model(config, uri)
    lists = alone(lists_of, config.model_copy(update={"serving": serving}), uri)
    rng, users = np.random.default_rng(0), lists["user_id"].unique()
    size = sum(path.stat().st_size for path in Path(model).rglob("*") if path.is_file())
    same, seconds = 0, []
    with served(uri, config.tracking_uri, folder) as (url, ready_s):
        for _ in range(asked.requests):
            some = rng.choice(users, min(asked.users, len(users)), replace=False).tolist()
            began = time.perf_counter()
            found = answer(url, some, config.serving.k)
            seconds.append(time.perf_counter() - began)
            same += is_same(found, lists[lists["user_id"].isin(some)])
    return {
        "users in all": len(users), "the batch job's lists": same,
        "model, MB": size / 1e6, "ready after, s": ready_s,
        "first request, ms": 1000 * seconds[0],
        "p50, ms": 1000 * float(np.quantile(seconds, 0.5)),
        "p95, ms": 1000 * float(np.quantile(seconds, 0.95)),
    }  # fmt: skip


def lists_of(config: RunConfig, uri: str) -> pd.DataFrame:
    """Make everybody's lists by the batch job."""
    with showing() as show:
        release = recommend(config, uri, None, show)
    parts = [pq.read_table(path) for path in sorted((release / "lists").glob("*.parquet"))]
    return pa.concat_tables(parts).to_pandas()


@contextmanager
def served(uri: str, tracking_uri: str, folder: Path) -> Iterator[tuple[str, float]]:
    """Serve a model by MLflow's own command in a process of its own: (address, seconds it took)."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    env = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    env |= {
        "MLFLOW_TRACKING_URI": tracking_uri,
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
    }
    command = [sys.executable, "-m", "mlflow", "models", "serve", "-m", uri, "--env-manager",
               "local", "-p", str(port), "--workers", "1"]  # fmt: skip
    began = time.perf_counter()
    with (folder / "server.log").open("w") as said:
        server = subprocess.Popen(command, cwd=folder, env=env, stdout=said, stderr=said,
                                  start_new_session=True)  # fmt: skip
    try:
        url = f"http://127.0.0.1:{port}"
        while not is_ready(url):
            if server.poll() is not None or time.perf_counter() - began > START_S:
                sys.exit(f"the server does not answer:\n{(folder / 'server.log').read_text()}")
            time.sleep(0.2)
        yield url, time.perf_counter() - began
    finally:
        os.killpg(server.pid, 15)
        server.wait(30)


def is_ready(url: str) -> bool:
    """Say whether the server answers."""
    try:
        return httpx.get(f"{url}/ping", timeout=5).is_success
    except httpx.HTTPError:
        return False


def answer(url: str, users: list[Any], k: int) -> pd.DataFrame:
    """Ask for the lists of some users."""
    body = {"dataframe_records": [{"user_id": one} for one in users], "params": {"k": k}}
    found = httpx.post(f"{url}/invocations", json=body, timeout=120)
    found.raise_for_status()
    return pd.DataFrame(found.json()["predictions"])


def is_same(found: pd.DataFrame, expected: pd.DataFrame) -> bool:
    """Compare two tables of lists row by row."""
    one, other = (table.sort_values(["user_id", "rank"])[COMPARED].reset_index(drop=True)
                  for table in (found, expected))  # fmt: skip
    one = one.astype(dict.fromkeys(("score", "probability"), np.float32))
    return len(one) > 0 and one.equals(other.astype({"rank": one["rank"].dtype}))


if __name__ == "__main__":
    main()
