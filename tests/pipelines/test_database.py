"""Laws of the door to DuckDB: what ends a query is said in our words."""

import signal
import threading

import pytest

from pipelines.database import open_database, row_of

LONG = "SELECT sum(hash(range)) FROM range(20_000_000_000)"  # a minute and more


def write(con):
    con.execute(f"CREATE TABLE t AS {LONG}")


def read(con):
    row_of(con, LONG)


@pytest.mark.parametrize("work", [write, read])
def test_ctrl_c_while_a_query_runs_is_ctrl_c(tmp_path, work):
    main = threading.main_thread().ident
    ctrl_c = threading.Timer(0.3, signal.pthread_kill, (main, signal.SIGINT))
    with pytest.raises(KeyboardInterrupt), open_database(tmp_path, "1GB") as con:
        ctrl_c.start()
        work(con)


def test_any_other_error_stays_what_it_is(tmp_path):
    with pytest.raises(RuntimeError, match="ours"), open_database(tmp_path, "1GB"):
        raise RuntimeError("ours")
