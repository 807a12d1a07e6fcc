"""A run folder has one run at a time, and a killed one leaves it free."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from pipelines.lock import at_work, locked
from recsys.errors import ConfigError

ROOT = Path(__file__).parents[2]
HOLD = "import sys, time; from pathlib import Path; from pipelines.lock import locked\n"
HOLD += "with locked(Path(sys.argv[1])): print('held', flush=True); time.sleep(60)"


def test_the_second_run_says_who_holds_the_folder(tmp_path):
    with locked(tmp_path / "run"):
        said = rf"run is in use by another run \(process {os.getpid()} on .*, since 20\d\d-"
        with pytest.raises(ConfigError, match=said), at_work(tmp_path / "run"):
            pass
    with at_work(tmp_path / "run"), locked(tmp_path / "other"):
        pass  # free again, and another folder always was


def test_a_run_that_failed_leaves_the_folder_free(tmp_path):
    with pytest.raises(KeyboardInterrupt), locked(tmp_path):
        raise KeyboardInterrupt
    with locked(tmp_path):
        pass


def test_a_killed_run_leaves_the_folder_free(tmp_path):
    command = [sys.executable, "-c", HOLD, str(tmp_path)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(ConfigError, match=f"process {holder.pid} on"), locked(tmp_path):
            pass
        holder.send_signal(signal.SIGKILL)
    with locked(tmp_path):
        pass


def test_a_lock_file_that_says_nothing_is_no_traceback(tmp_path):
    with locked(tmp_path):
        (tmp_path / ".lock").write_text("{")
        with pytest.raises(ConfigError, match="it does not say which"), locked(tmp_path):
            pass
