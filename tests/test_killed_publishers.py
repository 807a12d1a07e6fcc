"""Whatever moment a publisher is killed at, readers see whole releases and nothing else."""

import json
import subprocess
import sys

import pytest


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["sqlite", "redis"])
def test_readers_beside_killed_publishers_see_whole_releases_only(tmp_path, kind, redis_server):
    command = [sys.executable, "-m", "benchmarks.publish", "--store", kind, "--kills", "2",
               "--switches", "6", "--users", "100", "--readers", "2",
               "--json", str(tmp_path / "out.json")]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    told = json.loads((tmp_path / "out.json").read_text())
    assert (told["kills"], told["switches"], told["wrong"]) == (2, 6, [])
    assert told["reads"] > 10
