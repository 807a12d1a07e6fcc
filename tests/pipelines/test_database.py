"""Laws of the door to DuckDB: what ends a query is said in our words."""

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from pipelines.database import open_database

ROOT = Path(__file__).parents[2]
LONG = "CREATE TABLE t AS SELECT sum(hash(range)) FROM range(20_000_000_000)"  # a minute and more
WORK = """
import sys; from pathlib import Path; from pipelines.database import open_database
try:
    with open_database(Path(sys.argv[2]), "1GB") as con:
        print("at work", flush=True)
        con.execute(sys.argv[1])
except KeyboardInterrupt:
    print("Ctrl-C")
"""


def test_ctrl_c_while_a_query_writes_is_ctrl_c(tmp_path):
    command = [sys.executable, "-c", WORK, LONG, str(tmp_path)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as work:
        assert work.stdout.readline() == "at work\n"
        time.sleep(0.3)
        work.send_signal(signal.SIGINT)
        try:
            assert work.communicate(timeout=10)[0] == "Ctrl-C\n"
        finally:
            work.kill()


def test_any_other_error_stays_what_it_is(tmp_path):
    with pytest.raises(RuntimeError, match="ours"), open_database(tmp_path, "1GB"):
        raise RuntimeError("ours")
