"""What every request got, kept with a run, so that any two runs can be compared later.

    requests.parquet  a row for each (window, model, request): slices and metrics
    lists.parquet     the first items that some models listed: window, model, request_id, rank, item
    relevant.parquet  what was taken: window, request_id, item_id, grade
    items.parquet     title, category and past events of every item in the two above
    results.json      written last: protocol, windows with their fingerprints, models, slices

`request_id` means the same in every run whose window has the same fingerprint (see
`pipelines.measured`). A column of requests.parquet that the manifest calls a slice may hold
anything that groups requests: what is known of users beyond their events comes in by
`user_columns`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import BaseModel, ConfigDict, ValidationError

from pipelines.evaluate import Outcome
from pipelines.measured import IDENTITY, KEPT_LISTS, Measured, fingerprint, measured
from pipelines.prepared import Prepared
from pipelines.report import HEADLINE, model_metrics
from recsys.errors import ConfigError
from recsys.schema import Column, Table

VERSION = 1
File = Literal["requests", "lists", "relevant", "items"]


class Window(BaseModel):
    """What was measured in one window."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    fingerprint: str  # of requests and relevant items
    start: int  # moment
    end: int
    requests: int
    users: int
    relevant: int
    models: tuple[str, ...]


class Manifest(BaseModel):
    """What a results folder holds."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    version: int
    protocol: Literal["time", "leave_last_out"]
    data_fingerprint: str
    seen: Literal["list", "exclude"]  # whether what a user took before was listed again
    n_items: int  # in the catalogue
    windows: dict[str, Window]
    metrics: tuple[str, ...]
    slices: tuple[str, ...]  # columns of requests.parquet


@dataclass(frozen=True)
class Results:
    """A results folder, opened."""

    folder: Path
    manifest: Manifest

    def table(self, file: File, columns: list[str] | None = None, **equal: str) -> Table:
        """Read a file's rows where each column of `equal` has that value."""
        filters: Any = [(name, "=", value) for name, value in equal.items()] or None
        return pq.read_table(self.folder / f"{file}.parquet", columns=columns, filters=filters)


def open_results(folder: Path) -> Results:
    """Open a folder that `write_results` has finished.

    Raises:
        ConfigError: there is none, or none of this version.
    """
    path = folder / "results.json"
    if not path.is_file():
        raise ConfigError(f"{folder}: holds no results of requests (results.json); train again, "
                          "or measure the model with 'recsys evaluate --model URI'")  # fmt: skip
    try:
        manifest = Manifest.model_validate_json(path.read_text())
    except ValidationError as error:
        raise ConfigError(
            f"{path}: damaged, or written by another version; measure again"
        ) from error
    return Results(folder, manifest)


def write_results(
    folder: Path, prepared: Prepared, outcomes: Mapping[str, Outcome], seen: bool,
    user_columns: Mapping[str, np.ndarray] | None = None,
) -> Manifest:  # fmt: skip
    """Write a folder of results; what was there of an earlier one is replaced.

    Args:
        folder: is made if it is missing.
        prepared: the data that was measured on.
        outcomes: "valid", "test" or "unseen_catalogue" (of the test window, only items nobody had
            taken before) -> what every model did.
        seen: whether what a user took before was listed again.
        user_columns: name -> (n_users,) values by user code, to slice by; none is kept by
            `prepare` so far.
    """
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "results.json").unlink(missing_ok=True)
    table = pq.read_table(prepared.folder / "items.parquet",
                          columns=["item_id", "title", "category"])  # fmt: skip
    ids, windows, parts = table["item_id"].combine_chunks(), {}, []
    for name, outcome in outcomes.items():
        start, end = prepared.windows.span("test" if name == "unseen_catalogue" else name)
        past = prepared.taken_before(start)
        part = measured(name, outcome, prepared, table, past, user_columns or {})
        parts.append(part)
        told = fingerprint(prepared.manifest.protocol, name == "unseen_catalogue", part, ids)
        windows[name] = Window(
            fingerprint=told, start=start, end=end, requests=len(outcome.user),
            users=len(np.unique(outcome.user)), relevant=len(outcome.item),
            models=tuple(outcome.rank),
        )  # fmt: skip
    _write(folder / "requests.parquet", (one for part in parts for one in _request_rows(part)))
    _write(folder / "relevant.parquet", (_relevant_rows(part, ids) for part in parts))
    _write(folder / "lists.parquet", (one for part in parts for one in _list_rows(part, ids)))
    named = np.unique(np.concatenate([part.listed_or_taken() for part in parts]))
    known = table.take(named).append_column("past_events", pa.array(past[named].astype(np.int64)))
    _write(folder / "items.parquet", [known])
    manifest = Manifest(
        version=VERSION, protocol=prepared.manifest.protocol,
        data_fingerprint=prepared.manifest.fingerprint, seen="list" if seen else "exclude",
        n_items=len(table), windows=windows, metrics=HEADLINE,
        slices=tuple(name for name in parts[0].about.column_names if name not in IDENTITY),
    )  # fmt: skip
    (folder / "results.json").write_text(manifest.model_dump_json(indent=2) + "\n")
    return manifest


def _request_rows(part: Measured) -> Iterator[Table]:
    """Yield the rows of one model after the other."""
    for name in part.outcome.rank:
        values = model_metrics(part.outcome, name)
        columns = {key: values[key][part.order].astype(np.float32) for key in HEADLINE}
        yield _named(part, pa.table({**_columns(part.about), **columns}), name)


def _relevant_rows(part: Measured, ids: Column) -> Table:
    grade = part.outcome.grade[part.rows].astype(np.int8)
    columns = {"request_id": part.request.astype(np.int32),
               "item_id": ids.take(pa.array(part.item)),
               "grade": grade, "unseen": part.outcome.unseen[part.rows]}  # fmt: skip
    return _named(part, pa.table(columns))


def _list_rows(part: Measured, ids: Column) -> Iterator[Table]:
    """Yield the lists of one model after the other."""
    for name in KEPT_LISTS:
        if name not in part.outcome.listed:
            continue
        items = part.outcome.listed[name][part.order]
        request, place = np.nonzero(items >= 0)
        columns = {"request_id": request.astype(np.int32), "rank": (place + 1).astype(np.int16),
                   "item_id": ids.take(pa.array(items[request, place]))}  # fmt: skip
        yield _named(part, pa.table(columns), name)


def _named(part: Measured, table: Table, model: str | None = None) -> Table:
    """Return the table with its window and model in front."""
    names = {"window": part.window} | ({} if model is None else {"model": model})
    front: dict[str, Any] = {key: pa.repeat(value, len(table)) for key, value in names.items()}
    return pa.table(front | _columns(table))


def _columns(table: Table) -> dict[str, Any]:
    return dict(zip(table.column_names, table.columns, strict=True))


def _write(file: Path, tables: Any) -> None:
    """Write tables of one schema, a row group each, so that a reader takes only what it needs."""
    writer = None
    for table in tables:
        writer = writer or pq.ParquetWriter(file, table.schema, compression="zstd")
        writer.write_table(table)
    if writer is not None:
        writer.close()
