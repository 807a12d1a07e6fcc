"""Every benchmark, one after the other: `make bench`. Reports land in runs/benchmarks/.

Data sets are found through the environment variable RECSYS_DATA; one that is not there is named
and left out.
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


def main() -> None:
    """Run benchmarks.quality on each data set that is there, in a process of its own."""
    data, results = Path(os.environ.get("RECSYS_DATA", "")), Path("runs/benchmarks")
    results.mkdir(parents=True, exist_ok=True)
    failed = False
    for name, protocol in SETS.items():
        if not os.environ.get("RECSYS_DATA") or not (data / name).is_dir():
            print(f"{name}: not found under RECSYS_DATA, left out")
            continue
        command = [sys.executable, "-m", "benchmarks.quality", "--data", str(data / name),
                   "--protocol", protocol, "--json", str(results / f"{name}.json"),
                   "--run-dir", str(results / name)]  # fmt: skip
        print(f"== {name}", flush=True)
        failed |= subprocess.run(command, check=False).returncode != 0
    sys.exit(int(failed))


if __name__ == "__main__":
    main()
