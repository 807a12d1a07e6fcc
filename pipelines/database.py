"""The one door to DuckDB: a database in memory that goes on on disk where that is too little."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import duckdb

from recsys.errors import ConfigError
from recsys.queries import Probe, literal
from recsys.schema import Fault

Database = duckdb.DuckDBPyConnection
DatabaseError = duckdb.Error
OutOfMemory = duckdb.OutOfMemoryException
INTERRUPTED = "Query interrupted"  # all that DuckDB's RuntimeError says after Ctrl-C


@contextmanager
def open_database(spill: Path, memory_limit: str) -> Iterator[Database]:
    """Give an empty database in memory that goes on in the folder `spill` where that is too little.

    Raises:
        ConfigError: what is done with it needs more than `memory_limit` all the same.
        KeyboardInterrupt: Ctrl-C while a query ran, of which DuckDB makes an error of its own.
    """
    try:
        with duckdb.connect(":memory:") as con:
            con.execute("SET TimeZone = 'UTC'")
            con.execute(f"SET memory_limit = {literal(memory_limit)}")
            con.execute(f"SET temp_directory = {literal(str(spill))}")
            con.execute("SET preserve_insertion_order = false")  # every result is sorted anyway
            yield con
    except (duckdb.InterruptException, RuntimeError) as error:
        if isinstance(error, duckdb.InterruptException) or str(error) == INTERRUPTED:
            raise KeyboardInterrupt from error
        raise
    except OutOfMemory as error:
        raise ConfigError(
            f"data.memory_limit = {memory_limit!r} is too little: {str(error).splitlines()[0]}; "
            "raise it or set a smaller data.bucket_rows"
        ) from error


def count_faults(
    con: Database,
    table: str,
    source: str,
    probes: Sequence[Probe],
    more: Sequence[str],
) -> tuple[list[Fault], list[Any]]:
    """Count all probes in one pass, and find the values of `more`.

    The example of a fault is the smallest, so that it is the same on every run.
    """
    counts = [
        f"count(*) FILTER ({probe.rows}) * (count(*) FILTER ({probe.unless}) = 0)::BIGINT"
        for probe in probes
    ]
    examples = [f"min({probe.example}) FILTER ({probe.rows})" for probe in probes]
    select = ", ".join([*more, *counts, *examples])
    [row] = con.execute(f"SELECT {select} FROM {source}").fetchall()
    found = iter(row)
    values = [next(found) for _ in more]
    numbers = [next(found) for _ in probes]
    rows = zip(probes, numbers, found, strict=True)
    return [Fault(probe.fault, table, probe.column, n, str(e)) for probe, n, e in rows if n], values


def row_of(con: Database, query: str) -> tuple[Any, ...]:
    """Run a query of one row."""
    [row] = con.execute(query).fetchall()
    return tuple(row)
