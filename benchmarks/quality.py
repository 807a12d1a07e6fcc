"""Quality of every model on any folder with events.parquet and items.parquet, one set of defaults.

    python -m benchmarks.quality --data DIR --protocol time --json out.json

Nothing here knows any data set: events need user_id, item_id and a timestamp or order_index, items
need item_id and title (see docs/data.md for what else is used when it is there).
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from pipelines.config import load_toml
from pipelines.report import quality_table
from pipelines.run import git_commit
from pipelines.settings import RunConfig
from pipelines.textmodel import Show
from pipelines.train import train
from recsys.errors import RecsysError
from recsys.progress import showing

GIB = 2**30


def main() -> None:
    """Train on the folder's data, print the tables, write the report."""
    asked = arguments("benchmarks.quality", __doc__).parse_args()
    with run_of(asked) as (config, show):
        trained = train(config, show)
    report = trained.report | {"run": describe_run(asked.data.name)}
    console = Console(width=170)
    for window in ("valid", "test"):
        console.print(quality_table(report, window))
    console.print(stages_table(report))
    console.print(report["run"])
    if asked.json:
        asked.json.write_text(json.dumps(report, indent=2) + "\n")


def stages_table(report: dict[str, Any]) -> Table:
    """Draw each stage's seconds and peak memory, and the highest peak without the encoder's."""
    peaks, table = report["peak_memory_bytes"], Table("stage", "seconds", "peak, GiB")
    for stage, seconds in report["seconds"].items():
        table.add_row(stage, f"{seconds:.1f}", f"{peaks[stage] / GIB:.2f}")
    aside = max(peak for stage, peak in peaks.items() if not stage.startswith("encoder"))
    table.add_row(
        "all", f"{sum(report['seconds'].values()):.1f}", f"{max(peaks.values()) / GIB:.2f}"
    )
    table.add_row("all but the encoder", "", f"{aside / GIB:.2f}")
    return table


def arguments(name: str, about: str | None) -> argparse.ArgumentParser:
    """Return the arguments that every benchmark on a folder of data takes."""
    parser = argparse.ArgumentParser(prog=name, description=about)
    parser.add_argument(
        "--data", type=Path, required=True, help="folder with events.parquet and items.parquet"
    )
    parser.add_argument("--protocol", choices=["time", "leave_last_out"], required=True)
    parser.add_argument("--json", type=Path, help="where to write the report")
    parser.add_argument("--run-dir", type=Path, help="keep the run here (default: nowhere)")
    parser.add_argument("--set", action="append", default=[], metavar="SECTION.KEY=VALUE")
    return parser


@contextmanager
def run_of(asked: argparse.Namespace) -> Iterator[tuple[RunConfig, Show]]:
    """Give the defaults on the folder with the overrides, and progress; a fault ends in words."""
    with tempfile.TemporaryDirectory() as temporary:
        settings = {
            "run_dir": str(asked.run_dir or temporary),
            "data.events": str(asked.data / "events.parquet"),
            "data.items": str(asked.data / "items.parquet"),
            "split.protocol": asked.protocol,
        }
        own = [f"{key}={json.dumps(value)}" for key, value in settings.items()]
        try:
            config = load_toml(RunConfig, None, [*own, *asked.set])
            with showing() as show:
                yield config, show
        except RecsysError as error:
            print(error, file=sys.stderr)
            sys.exit(2)


def describe_run(data: str) -> dict[str, Any]:
    """Return what makes a number a result: data, command, commit, machine, date."""
    module = f"benchmarks.{Path(sys.argv[0]).stem}"
    return {
        "data": data, "command": " ".join(["python -m", module, *sys.argv[1:]]),
        "commit": git_commit(), "machine": f"{platform.machine()}, {os.cpu_count()} cores",
        "python": platform.python_version(), "date": f"{datetime.now(UTC):%Y-%m-%d}",
    }  # fmt: skip


if __name__ == "__main__":
    main()
