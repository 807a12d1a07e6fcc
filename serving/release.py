"""The release: every user's list, frozen in one folder that says what it holds.

    <releases>/<release_id>/
        lists/part-00000.parquet ...  user_id, rank, item_id, score, source, reason
        fallback.parquet              the same without user_id: the list of a user nobody knows
        manifest.json                 written last; a folder without it is unfinished

A part is sorted by (user_id, rank), holds whole lists, and no user is in two parts. Ids are strings
or int64 and keep their type; ranks run 1..n; nothing is null; scores are finite. Every file is
written under another name, synced and renamed, so a crash leaves a whole file or none.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime, timedelta
from pathlib import Path
from typing import Annotated, Any, Literal

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pydantic import AfterValidator, BaseModel, Field, FiniteFloat, ValidationError

from serving.errors import DamagedReleaseError, ServingError, UnfinishedReleaseError

ROW_GROUP = 65_536  # rows: what one step of writing or reading holds in memory
LIST_COLUMNS = ("user_id", "rank", "item_id", "score", "source", "reason")
COLUMN_TYPES: dict[str, pa.DataType] = {  # the ids bring their own
    "rank": pa.int16(),
    "score": pa.float32(),
    "source": pa.string(),
    "reason": pa.string(),
}


def _utc(moment: str) -> str:
    if datetime.fromisoformat(moment).utcoffset() != timedelta(0):
        raise ValueError(f"{moment!r} is not in UTC; write it as 2026-08-20T00:00:00Z")
    return moment


UtcText = Annotated[str, AfterValidator(_utc)]
ReleaseId = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")]


class Model(BaseModel, frozen=True, extra="forbid"):
    """The model that made the lists, as the MLflow registry knows it."""

    name: str
    version: str
    uri: str
    run_id: str

    @property
    def label(self) -> str:
        """How answers name the model: name/version."""
        return f"{self.name}/{self.version}"


class Counts(BaseModel, frozen=True, extra="forbid"):
    """What the parts hold together."""

    users: int
    rows: int
    items_listed: int  # distinct items in any list, the fallback list apart


class FileEntry(BaseModel, frozen=True, extra="forbid"):
    """One Parquet file of the release; `path` is relative to its folder."""

    path: str
    rows: int
    bytes: int
    sha256: str


class Manifest(BaseModel, frozen=True, extra="forbid"):
    """What a release is: its lineage, its size and the checksum of every file."""

    schema_version: Literal[1] = 1
    release_id: ReleaseId
    created_at: UtcText
    as_of: UtcText  # the lists know events strictly before this moment
    model: Model
    data_fingerprint: str
    config_fingerprint: str
    code_commit: str
    k: int = Field(ge=1)  # no list is longer
    counts: Counts
    files: tuple[FileEntry, ...]
    metrics: dict[str, FiniteFloat]


def new_release_id(as_of: str, created_at: str | datetime) -> str:
    """Name a release so that names sort by `as_of`, then by `created_at` (to the second).

    Raises:
        ServingError: one of the two is not a moment in UTC.
    """
    created = created_at if isinstance(created_at, str) else created_at.isoformat()
    try:
        moments = [datetime.fromisoformat(_utc(moment)) for moment in (as_of, created)]
    except ValueError as error:
        raise ServingError(f"release id: {error}") from error
    return "-".join(f"{moment:%Y%m%dT%H%M%SZ}" for moment in moments)


def part_path(folder: Path, index: int) -> Path:
    """Say where part `index` of the release is, written or not."""
    return folder / "lists" / f"part-{index:05d}.parquet"


def write_part(folder: Path, index: int, table: pa.Table) -> None:
    """Write the lists of some users as one part; an unsealed part may be written again.

    Args:
        folder: the release; made if it is not there.
        index: of the part, from 0.
        table: `LIST_COLUMNS` in any order, sorted by (user_id, rank); may be empty.

    Raises:
        DamagedReleaseError: the table is not a valid part.
        ServingError: the release is sealed.
    """
    path = part_path(folder, index)
    table = _typed(table, LIST_COLUMNS, path.name)
    if len(table):
        _check_lists(table, path.name)
    _write(folder, path, table)


def write_fallback(folder: Path, table: pa.Table) -> None:
    """Write the list of an unknown user: columns rank, item_id, score, source, reason.

    Raises:
        DamagedReleaseError: the table is not one valid list of at least one item.
        ServingError: the release is sealed.
    """
    path = folder / "fallback.parquet"
    table = _typed(table, LIST_COLUMNS[1:], path.name)
    _check_fallback(table)
    _write(folder, path, table)


def is_sealed(folder: Path) -> bool:
    """Say whether the release is finished."""
    return (folder / "manifest.json").exists()


def seal(
    folder: Path,
    *,
    created_at: str,
    as_of: str,
    model: Model,
    data_fingerprint: str,
    config_fingerprint: str,
    code_commit: str,
    k: int,
    metrics: Mapping[str, float],
) -> Manifest:
    """Check every list, then write the manifest: the release is finished and never changes again.

    The release id is the name of the folder; counts and checksums come from the files on disk.

    Raises:
        DamagedReleaseError: the folder does not hold whole and valid lists of at most `k` items.
        ServingError: the release is sealed already, or a field is wrong.
    """
    _refuse_sealed(folder)
    counts, rows = _count(folder, k)
    files = [_file_entry(folder, path, rows[path]) for path in sorted(rows)]
    try:
        manifest = Manifest(
            release_id=folder.name, created_at=created_at, as_of=as_of, model=model,
            data_fingerprint=data_fingerprint, config_fingerprint=config_fingerprint,
            code_commit=code_commit, k=k, counts=counts, files=tuple(files), metrics=dict(metrics),
        )  # fmt: skip
    except ValidationError as error:
        raise ServingError(f"release {folder.name} cannot be sealed: {_words(error)}") from error
    text = manifest.model_dump_json(indent=2)
    write_whole(folder / "manifest.json", lambda temp: temp.write_text(text, encoding="utf-8"))
    return manifest


def open_release(folder: Path) -> Manifest:
    """Read the manifest of a finished release; the lists are not looked at.

    Raises:
        UnfinishedReleaseError: the folder has no manifest.
        DamagedReleaseError: the manifest cannot be read or belongs to another folder.
    """
    if not is_sealed(folder):
        raise UnfinishedReleaseError(
            f"{folder} has no manifest.json: the release is unfinished (or the path is wrong); "
            "run the batch job again to finish it"
        )
    try:
        manifest = Manifest.model_validate_json((folder / "manifest.json").read_bytes())
    except ValidationError as error:
        raise DamagedReleaseError(f"{folder / 'manifest.json'}: {_words(error)}") from error
    if manifest.release_id != folder.name:
        raise DamagedReleaseError(
            f"{folder}: its manifest is of release {manifest.release_id!r}; "
            "a release folder must not be renamed, copy it under its own name"
        )
    return manifest


def verify(folder: Path) -> Manifest:
    """Check that a release is what its manifest says: files, checksums, counts and every list.

    Raises:
        UnfinishedReleaseError: the folder has no manifest.
        DamagedReleaseError: which file, what was found, what was expected, what to do.
    """
    manifest = open_release(folder)
    listed = {entry.path for entry in manifest.files}
    on_disk = {path.relative_to(folder).as_posix() for path in folder.rglob("*.parquet")}
    if listed != on_disk:
        raise DamagedReleaseError(
            f"{folder}: missing files {sorted(listed - on_disk)}, files its manifest does not name "
            f"{sorted(on_disk - listed)}; copy the release again or make a new one"
        )
    for entry in manifest.files:
        found = _file_entry(folder, entry.path, entry.rows)
        if found != entry:
            raise DamagedReleaseError(
                f"{folder / entry.path}: found {found.bytes} bytes, sha256 {found.sha256[:12]}..., "
                f"expected {entry.bytes} bytes, sha256 {entry.sha256[:12]}...; the file changed "
                "after the release was sealed, copy it again or make a new release"
            )
    counts, rows = _count(folder, manifest.k)
    expected = {entry.path: entry.rows for entry in manifest.files}
    if counts != manifest.counts or rows != expected:
        raise DamagedReleaseError(
            f"{folder}: found {counts} and rows {rows}, its manifest says {manifest.counts} "
            f"and {expected}; make a new release"
        )
    return manifest


def iter_lists(part: Path, rows: int = ROW_GROUP) -> Iterator[pa.Table]:
    """Yield a part as tables of about `rows` rows that never cut a user's list in two."""
    carry: pa.Table | None = None
    with pq.ParquetFile(part) as file:
        for batch in file.iter_batches(batch_size=rows):
            table = pa.Table.from_batches([batch])
            table = table if carry is None else pa.concat_tables([carry, table])
            users = table["user_id"]
            cut = pc.index(users, users[-1]).as_py()  # the last list may go on in the next batch
            if cut:
                yield table.slice(0, cut).combine_chunks()
            carry = table.slice(cut)
    if carry is not None:
        yield carry.combine_chunks()


def list_starts(users: pa.Array[Any]) -> pa.Array[Any]:
    """Find the row at which each list begins: (n_lists,) uint64; `users` has at least one row."""
    changes = pc.not_equal(users[1:], users[:-1])
    return pc.indices_nonzero(pa.concat_arrays([pa.array([True]), changes]))


def write_whole(path: Path, write: Callable[[Path], object]) -> None:
    """Let `write` fill a temporary file beside `path`, sync it and rename it: all or nothing."""
    temp = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    temp.unlink(missing_ok=True)
    try:
        write(temp)
        _sync(temp)
        temp.replace(path)
    finally:
        temp.unlink(missing_ok=True)
    _sync(path.parent)


def _sync(path: Path) -> None:
    """Force a file or a folder's entries to disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _write(folder: Path, path: Path, table: pa.Table) -> None:
    _refuse_sealed(folder)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(
        path,
        lambda temp: pq.write_table(table, temp, row_group_size=ROW_GROUP, compression="zstd"),
    )


def _refuse_sealed(folder: Path) -> None:
    if is_sealed(folder):
        raise ServingError(f"{folder} is sealed and never changes again; make a new release")


def _typed(table: pa.Table, columns: tuple[str, ...], where: str) -> pa.Table:
    """Put the columns in their order and give them the types of the format."""
    if set(table.column_names) != set(columns) or len(table.column_names) != len(columns):
        raise DamagedReleaseError(
            f"{where}: found columns {sorted(table.column_names)}, expected {sorted(columns)}"
        )
    types = [COLUMN_TYPES.get(name) or _id_type(table, name, where) for name in columns]
    try:
        return table.select(columns).cast(pa.schema(zip(columns, types, strict=True)))
    except pa.ArrowInvalid as error:
        raise DamagedReleaseError(f"{where}: {error}") from error


def _id_type(table: pa.Table, name: str, where: str) -> pa.DataType:
    """Ids keep their kind: every integer becomes int64, every text string."""
    found = table.schema.field(name).type
    found = found.value_type if pa.types.is_dictionary(found) else found
    if pa.types.is_integer(found):
        return pa.int64()
    if pa.types.is_string(found) or pa.types.is_large_string(found):
        return pa.string()
    raise DamagedReleaseError(f"{where}: {name} is {found}; ids are strings or integers")


def _check_lists(table: pa.Table, where: str, k: int | None = None) -> None:
    """Check whole lists, at least one: by user, ranks 1..n, n <= k, no item twice, no holes."""
    holes = [name for name in table.column_names if table[name].null_count]
    if holes or not pc.all(pc.is_finite(table["score"])).as_py():
        raise DamagedReleaseError(
            f"{where}: nulls in columns {holes} or scores that are not finite; "
            "every row needs every column (an empty string where there is no reason)"
        )
    users, ranks = table["user_id"].combine_chunks(), table["rank"].combine_chunks()
    row = pc.index(pc.less(users[1:], users[:-1]), True).as_py() + 1
    if row:
        raise DamagedReleaseError(
            f"{where}: user {users[row]} comes after user {users[row - 1]}; "
            "sort the lists by user_id and rank"
        )
    goes_on = pa.concat_arrays([pa.array([False]), pc.equal(users[1:], users[:-1])])
    above = pa.concat_arrays([pa.array([0], pa.int16()), ranks[:-1]]).cast(pa.int32())
    expected = pc.if_else(goes_on, pc.add(above, 1), 1)
    row = pc.index(pc.not_equal(ranks, expected), True).as_py()
    if row >= 0:
        raise DamagedReleaseError(
            f"{where}: user {users[row]} has rank {ranks[row]} where {expected[row]} was expected; "
            "ranks run 1..n without gaps"
        )
    if k is not None and pc.max(ranks).as_py() > k:
        raise DamagedReleaseError(f"{where}: a list has {pc.max(ranks)} items, k is {k}")
    pairs = table.select(["user_id", "item_id"]).group_by(["user_id", "item_id"], use_threads=False)
    twice = pairs.aggregate([([], "count_all")]).filter(pc.field("count_all") > 1)
    if len(twice):
        raise DamagedReleaseError(
            f"{where}: user {twice['user_id'][0]} has item {twice['item_id'][0]} "
            f"{twice['count_all'][0]} times; an item is listed once"
        )


def _check_fallback(table: pa.Table, k: int | None = None) -> None:
    """Check the fallback list as the list of a user of that name."""
    if not len(table):
        raise DamagedReleaseError(
            "fallback.parquet: no item; an unknown user needs an answer, list the popular items"
        )
    name = pa.array(["(fallback)"] * len(table))
    _check_lists(table.add_column(0, "user_id", name), "fallback.parquet", k)


def _file_entry(folder: Path, path: str, rows: int) -> FileEntry:
    with (folder / path).open("rb") as file:
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    return FileEntry(path=path, rows=rows, bytes=(folder / path).stat().st_size, sha256=sha256)


def _count(folder: Path, k: int) -> tuple[Counts, dict[str, int]]:
    """Check every list of the release; count what there is, and the rows of each file by path."""
    parts = [part_path(folder, index) for index in range(len(list(folder.glob("lists/*.parquet"))))]
    wanted = [folder / "fallback.parquet", *(parts or [part_path(folder, 0)])]
    if missing := [path.name for path in wanted if not path.exists()]:
        raise DamagedReleaseError(f"{folder}: {missing} not there; write them before sealing")
    try:
        fallback = pq.read_table(wanted[0])
        _check_fallback(fallback, k)
        schema = _typed(pq.read_schema(parts[0]).empty_table(), LIST_COLUMNS, parts[0].name).schema
        if schema.field("item_id") != fallback.schema.field("item_id"):
            raise DamagedReleaseError(f"{folder}: item_id has one type in the fallback list only")
        rows, users, items = list[int](), 0, set[Any]()
        for part in parts:
            part_rows, part_users, part_items = _count_part(part, schema, k)
            rows, users, items = [*rows, part_rows], users + part_users, items | part_items
    except (pa.ArrowException, OSError) as error:
        raise DamagedReleaseError(f"{folder}: a file cannot be read as Parquet: {error}") from error
    counts = Counts(users=users, rows=sum(rows), items_listed=len(items))
    paths = [path.relative_to(folder).as_posix() for path in wanted]
    return counts, dict(zip(paths, (len(fallback), *rows), strict=True))


def _count_part(part: Path, schema: pa.Schema, k: int) -> tuple[int, int, set[Any]]:
    """Check the lists of a part; return its rows, its users and the items in its lists."""
    rows, users, items, last = 0, 0, set[Any](), None
    for table in iter_lists(part):
        if table.schema != schema:
            found, expected = (", ".join(str(one).split("\n")) for one in (table.schema, schema))
            raise DamagedReleaseError(
                f"{part.name}: found {found}; expected, as in the first part, {expected}"
            )
        _check_lists(table, part.name, k)
        ids = table["user_id"].combine_chunks()
        if last is not None and ids[0].as_py() <= last:
            raise DamagedReleaseError(f"{part.name}: user {ids[0]} comes after user {last}")
        last = ids[-1].as_py()
        rows, users = rows + len(table), users + len(list_starts(ids))
        items.update(pc.unique(table["item_id"]).to_pylist())
    return rows, users, items


def _words(error: ValidationError) -> str:
    """Say in one line what pydantic found."""
    found = ((".".join(map(str, one["loc"])) or "it", one["msg"]) for one in error.errors())
    return "; ".join(f"{where}: {message}" for where, message in found)
