"""Laws of the door to DuckDB: what ends a query is said in our words."""

import duckdb
import pytest

from pipelines.database import open_database


@pytest.mark.parametrize(
    "error", [RuntimeError("Query interrupted"), duckdb.InterruptException("Interrupted!")]
)
def test_ctrl_c_while_a_query_runs_is_ctrl_c(tmp_path, error):
    with pytest.raises(KeyboardInterrupt), open_database(tmp_path, "1GB"):
        raise error  # as DuckDB does between two of its tasks


def test_any_other_error_stays_what_it_is(tmp_path):
    with pytest.raises(RuntimeError, match="ours"), open_database(tmp_path, "1GB"):
        raise RuntimeError("ours")
