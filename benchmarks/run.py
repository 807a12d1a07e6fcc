"""Quality and speed, one benchmark after the other: `make bench`. Reports land in runs/benchmarks/.

Data sets are found through the environment variable RECSYS_DATA; one that is not there is named
and left out. What needs no data comes last.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

SETS = {  # folder -> protocol (ml: users rate in one or two sittings, so time says little)
    "ifdb": "time",
    "online_retail": "time",
    "amazon_beauty_2014": "leave_last_out",
    "amazon_scientific_2018": "leave_last_out",
    "ml_latest_small_text": "leave_last_out",
}


SYNTHETIC = {  # module -> arguments
    "asof": (),
    "metrics": (),
    "scale": (),
    "executors": ("--users", "5000"),
    "kill": ("--rounds", "20"),
}


def main() -> None:
    """Run each benchmark in a process of its own; fail at the end if one did."""
    data, results = Path(os.environ.get("RECSYS_DATA", "")), Path("runs/benchmarks")
    results.mkdir(parents=True, exist_ok=True)
    failed = False

    def run(module: str, report: str, *arguments: str) -> None:
        nonlocal failed
        print(f"== {report}", flush=True)
        command = [sys.executable, "-m", f"benchmarks.{module}", *arguments,
                   "--json", str(results / f"{report}.json")]  # fmt: skip
        failed |= subprocess.run(command, check=False).returncode != 0

    for name, protocol in SETS.items():
        if not os.environ.get("RECSYS_DATA") or not (data / name).is_dir():
            print(f"{name}: not found under RECSYS_DATA, left out")
            continue
        folder = ("--data", str(data / name), "--protocol", protocol)
        run("quality", name, *folder, "--run-dir", str(results / name))
        run("joins", f"{name}_joins", *folder, "--run-dir", str(results / name))
    for module, arguments in SYNTHETIC.items():
        run(module, module, *arguments)
    sys.exit(int(failed))


if __name__ == "__main__":
    main()
