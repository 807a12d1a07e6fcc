"""Tables come as files, folders, URIs or objects in memory; everything after sees one kind.

That kind is a `pyarrow.dataset.Dataset`: it knows its columns without reading the rows, and
whoever scans it holds a few batches at a time, however large the log is.

In CSV every column is read as strings, so that the id "007" stays "007" (ids from CSV are
therefore always strings); numbers and times are parsed later, and what does not parse is counted.
In JSON Lines what looks like a time stays a string for the same reason. The columns of a folder are
those of its first file by name; of a JSON Lines file, those of its first 8 MiB.

How a file is written is said by its `recsys.dialect.Source`. Which of its columns is which is found
in `recsys.matching`, and what they mean is said in SQL by `recsys.queries`.
"""

from __future__ import annotations

import csv
import json
import warnings
from collections.abc import Collection
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.dataset as ds
import pyarrow.fs as pa_fs
import pyarrow.json as pa_json

from recsys.address import shown
from recsys.dialect import Source, guess_delimiter
from recsys.errors import RemoteError, SchemaError
from recsys.remote import connected, in_words

LINE = 1 << 16  # bytes in which the first line of a CSV file is looked for
BLOCK = 8 << 20  # bytes read at a time; no row may be longer
FORMATS = {
    ".parquet": "parquet",
    ".pq": "parquet",
    ".csv": "csv",
    ".tsv": "csv",
    ".txt": "csv",
    ".jsonl": "json",
    ".ndjson": "json",
    ".json": "json",
}

INSTEAD = {".xlsx": "save it as CSV", ".xls": "save it as CSV", ".zip": "unpack it"}


def open_table(source: Any, numbers: Collection[str] = ()) -> ds.Dataset:
    """Open a table without reading its rows.

    Args:
        source: path or URI of a Parquet, CSV or JSON Lines file (CSV and JSON Lines also .gz) or
            of a folder of such files of one format; or a pandas, polars or Arrow table (anything
            with `__arrow_c_stream__`); or a `Source`, which also says how the file is written.
        numbers: columns that are decimal in JSON Lines, even where the first rows have no point.

    Raises:
        SchemaError: it is not there, is empty, cannot be read or is of an unknown kind.
    """
    if isinstance(source, ds.Dataset):
        return source
    dialect = source if isinstance(source, Source) else Source(path="in memory")
    source = source.path if isinstance(source, Source) else source
    if not isinstance(source, str | Path):
        if not hasattr(source, "__arrow_c_stream__"):
            raise SchemaError(
                f"expected a path, a URI or a pandas, polars or Arrow table, found {type(source)}"
            )
        with warnings.catch_warnings():  # pyarrow 25 uses what pandas 3.1 deprecates
            warnings.simplefilter("ignore", DeprecationWarning)
            table = pa.table(source)
        return ds.dataset(table)
    filesystem, files = _files(source)
    kinds = {_format(info.path) for info in files}
    if len(kinds) != 1 or None in kinds:
        found = ", ".join(sorted({Path(info.path).name for info in files})[:3]) or "no file"
        hint = {
            INSTEAD[end] for info in files if (end := Path(info.path.lower()).suffix) in INSTEAD
        }
        said = f"found {found}; expected files of one format of {sorted(FORMATS)}"
        raise SchemaError("; ".join([said, *sorted(hint)]))
    try:
        paths = [info.path for info in files]
        return _open(paths, filesystem, kinds.pop() or "", numbers, dialect)
    except (pa.ArrowException, OSError, ValueError) as error:
        raise SchemaError(reason(error)) from error


def read_ids(path: str, name: str) -> pa.Array[Any]:
    """Return the distinct ids in a file: its column `name`, or the lines of a .txt file.

    Raises:
        SchemaError: the file cannot be read or has no such column.
    """
    is_list = shown(path).lower().removesuffix(".gz").endswith(".txt")
    lines = Source(path=path, names=(name,), delimiter="\t", quote="")
    table = open_table(lines if is_list else path)
    if name not in table.schema.names:
        has = ", ".join(table.schema.names)
        raise SchemaError(f"no column {name} (it has {has}); name it so, or write one id a line "
                          "into a .txt file")  # fmt: skip
    try:
        ids = table.to_table(columns=[name])[name].combine_chunks()
    except (pa.ArrowException, OSError) as error:
        raise SchemaError(reason(error)) from error
    if pa.types.is_dictionary(ids.type):
        ids = ids.cast(ids.type.value_type)
    return ids.unique().drop_null()


def first_bytes(path: str, n: int) -> bytes | None:
    """Return the first bytes of a CSV file, or of the first of a folder; None for another format.

    Raises:
        SchemaError: it is not there or cannot be read.
    """
    filesystem, files = _files(path)
    if not files or _format(files[0].path) != "csv":
        return None
    try:
        with filesystem.open_input_stream(files[0].path, compression="detect") as stream:
            return bytes(stream.read(n))
    except OSError as error:
        raise SchemaError(reason(error)) from error


def stamp(source: Any) -> list[list[str | int]] | None:
    """Return what tells a table from another: the files and how they are read; None in memory.

    Returns:
        Path, size in bytes and time of change of each file, and for a `Source` what it says.
    """
    if isinstance(source, list | tuple):
        stamps = [stamp(one) for one in source]
        return None if None in stamps else [row for some in stamps for row in some or ()]
    if isinstance(source, Source):
        said = source.model_dump_json(exclude={"path"}, exclude_defaults=True)
        return [*(stamp(source.path) or ()), [said]]
    if not isinstance(source, str | Path):
        return None
    return [[info.path, info.size or 0, info.mtime_ns or 0] for info in _files(source)[1]]


def place(source: Any) -> str:
    """Say where a table is, for messages."""
    if isinstance(source, list | tuple):
        return ", ".join(place(one) for one in source)
    path = source.path if isinstance(source, Source) else source
    return shown(str(path)) if isinstance(path, str | Path) else "in memory"


def reason(error: Exception) -> str:
    """Say in a line why a file cannot be read."""
    said = (str(error).splitlines() or [type(error).__name__])[0]
    letters = isinstance(error, UnicodeError) or "UTF8" in said or "codec can't decode" in said
    hint = "; these are other letters: set encoding = 'cp1252', or whatever wrote the file"
    return said + hint * letters


def _files(source: str | Path) -> tuple[pa_fs.FileSystem, list[pa_fs.FileInfo]]:
    """List the data files at a path or URI, sorted; hidden ones (".x", "_x") are left out."""
    where = place(source)
    try:
        with in_words(where):
            if "://" in str(source):
                filesystem, path = connected(str(source))
            else:
                filesystem, path = pa_fs.LocalFileSystem(), str(Path(source).absolute())
            info = filesystem.get_file_info(path)
            if info.type == pa_fs.FileType.NotFound:
                raise SchemaError("there is no such file or folder")
            if info.type != pa_fs.FileType.Directory:
                return filesystem, [info]
            found = filesystem.get_file_info(pa_fs.FileSelector(path, recursive=True))
    except RemoteError as error:  # whoever reads the table says where
        raise SchemaError(str(error).removeprefix(f"{where}: ")) from error
    hidden = (".", "_")
    files = [f for f in found if f.is_file and not Path(f.path).name.startswith(hidden)]
    return filesystem, sorted(files, key=lambda f: f.path)


def _format(path: str) -> str | None:
    return FORMATS.get(Path(path.lower().removesuffix(".gz")).suffix)


def _open(
    paths: list[str],
    filesystem: pa_fs.FileSystem,
    kind: str,
    numbers: Collection[str],
    source: Source,
) -> ds.Dataset:
    if kind == "parquet":
        return ds.dataset(paths, filesystem=filesystem, format="parquet")
    if kind == "csv":
        _check_first_lines(paths, filesystem, source)
        form: Any = ds.CsvFileFormat(
            read_options=pa_csv.ReadOptions(
                block_size=BLOCK, encoding=source.encoding, column_names=list(source.names) or None
            ),
            parse_options=pa_csv.ParseOptions(
                delimiter=source.delimiter,
                quote_char=source.quote or False,
                newlines_in_values=bool(source.quote),
            ),
            convert_options=pa_csv.ConvertOptions(strings_can_be_null=True, null_values=[""]),
        )
    else:
        _check_first_object(paths[0], filesystem)
        form = ds.JsonFileFormat(read_options=pa_json.ReadOptions(block_size=BLOCK))
    guess = ds.dataset(paths, filesystem=filesystem, format=form).schema
    types = {field.name: _plain(field, kind, numbers) for field in guess}
    return ds.dataset(paths, filesystem=filesystem, format=form, schema=pa.schema(types))


def _plain(guess: Any, kind: str, numbers: Collection[str]) -> Any:
    """Return the type to read a column as, given what its first rows look like."""
    if kind == "csv" or pa.types.is_timestamp(guess.type) or pa.types.is_null(guess.type):
        return pa.string()
    if pa.types.is_integer(guess.type) and guess.name in numbers:
        return pa.float64()
    return guess.type


def _check_first_lines(paths: list[str], filesystem: pa_fs.FileSystem, source: Source) -> None:
    """Refuse CSV files whose first lines are not what the source and the first file say.

    Raises:
        SchemaError: one is empty, is separated by something else than is said, or lacks a column.
    """
    first: list[str] = []
    for path in paths:
        line = _first_line(path, filesystem, source)
        guess, name = guess_delimiter(line), Path(path).name
        if source.delimiter not in line and guess in line:
            said = "delimiter = " + json.dumps(guess)
            raise SchemaError(
                f"its first line {line[:60]!r} looks like {said}; set it beside the path"
            )
        cells = csv.reader(
            [line],
            delimiter=source.delimiter,
            quotechar=source.quote or None,
            quoting=csv.QUOTE_MINIMAL if source.quote else csv.QUOTE_NONE,
        )
        names = next(cells, [])
        first = first or names
        missing = [one for one in first if one not in names]
        if missing and not source.names:
            has = ", ".join([one for one in names if one not in first] or names)
            raise SchemaError(f"{name} has no column {', '.join(missing)} (it has {has})")


def _first_line(path: str, filesystem: pa_fs.FileSystem, source: Source) -> str:
    """Read the first line of a CSV file.

    Raises:
        SchemaError: the file is empty.
    """
    with filesystem.open_input_stream(path, compression="detect") as stream:
        start = stream.read(LINE)
    if not start:
        raise SchemaError(f"{Path(path).name} is empty")
    text = start.decode(source.encoding, "ignore").lstrip("\ufeff")
    return str(text.split("\n")[0].rstrip("\r"))


def _check_first_object(path: str, filesystem: pa_fs.FileSystem) -> None:
    """Refuse a JSON file that is empty or one array.

    Raises:
        SchemaError: it is.
    """
    with filesystem.open_input_stream(path, compression="detect") as stream:
        start = stream.read(LINE).lstrip()
    if not start:
        raise SchemaError(f"{Path(path).name} is empty")
    if start.startswith(b"["):
        raise SchemaError("it is one JSON array; write one object per line")
