"""A full disk ends a run in one line, and the same command goes on when there is room.

A limit on the size of a file stands in for the disk: writing beyond it fails in the same calls.
"""

import resource
import runpy
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from recsys.errors import ConfigError, out_of_space

ROOT = Path(__file__).parent.parent


def recsys(arguments, most=None):
    """Run a command with files of at most `most` bytes: (exit code, what it says of errors)."""
    limit = (most, most) if most else None
    done = subprocess.run(
        [sys.executable, "-m", "recsys.cli", *arguments], cwd=ROOT, capture_output=True, text=True,
        check=False,
        preexec_fn=lambda: limit and resource.setrlimit(resource.RLIMIT_FSIZE, limit),
    )  # fmt: skip
    assert "Traceback" not in done.stderr, done.stderr[-3000:]
    return done.returncode, [one for one in done.stderr.splitlines() if one.startswith("recsys:")]


@pytest.mark.parametrize("most", [2_000, 8_000])
def test_preparing_on_a_full_disk_leaves_nothing_and_goes_on_with_room(tmp_path, most):
    events, items = runpy.run_path(str(ROOT / "tests/conftest.py"))["small_tables"]()
    events.to_parquet(tmp_path / "e.parquet")
    items.to_parquet(tmp_path / "i.parquet")
    command = ["prepare"]
    for one in ("run_dir={}/run", "data.events={}/e.parquet", "data.items={}/i.parquet"):
        command += ["--set", one.format(tmp_path)]
    code, [line] = recsys(command, most)
    assert code == 2 and line.startswith("recsys: no space left on the disk (")
    assert [path.name for path in (tmp_path / "run").iterdir()] == [".lock"]
    assert recsys(command) == (0, [])


@pytest.mark.slow
def test_a_list_job_on_a_full_disk_can_be_done_again(small_world, settings_in, tmp_path):
    shutil.copytree(small_world.config.run_dir, tmp_path / "run")
    for name in ("events.parquet", "items.parquet"):
        shutil.copy2(small_world.folder / name, tmp_path / name)
    command = ["recommend"]
    for one in settings_in(tmp_path):
        command += ["--set", one]
    code, lines = recsys(command, 4_000)
    assert code == 2 and len(lines) == 1 and "no space left on the disk" in lines[0]
    assert not list(tmp_path.glob("releases/*/manifest.json"))
    assert recsys(command) == (0, [])
    assert len(list(tmp_path.glob("releases/*/manifest.json"))) == 1


def test_a_full_disk_is_known_by_any_of_its_words():
    assert out_of_space(OSError(28, "No space left on device"))
    assert out_of_space(RuntimeError("(sqlite3.OperationalError) database or disk is full"))
    led_to = ConfigError("cannot be written")
    led_to.__cause__ = OSError(122, "Disk quota exceeded")
    assert out_of_space(led_to)
    assert not out_of_space(OSError(2, "No such file or directory"))
