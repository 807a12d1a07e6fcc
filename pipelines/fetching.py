"""Tables that lie elsewhere are brought here before anything reads them.

    <run_dir>/fetched/<place>/fetched.json   what was brought: file -> its version there
    <run_dir>/fetched/<place>/data/...       the files, as they lie there

A file appears when all of it is here. One that is the same there as it was is not brought again;
one that is gone there goes here too, and so does a place that the config names no more.
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from pathlib import Path, PurePosixPath
from typing import TypeVar
from urllib.parse import urlsplit

from recsys.address import is_elsewhere, shown
from recsys.dialect import Source
from recsys.errors import RemoteError
from recsys.progress import Show
from recsys.remote import Place, RemoteFile, open_place
from recsys.schema import DataConfig
from recsys.writing import write_whole

AnySource = TypeVar("AnySource", bound=Source)
RECORD, DATA = "fetched.json", "data"


def fetched(data: DataConfig, folder: Path, show: Show) -> DataConfig:
    """Bring what lies elsewhere; only for who holds the run folder.

    Args:
        data: whose sources may be URIs.
        folder: where to; made if it is needed.
        show: progress, in bytes.

    Returns:
        The config with paths that are here.

    Raises:
        RemoteError: a place cannot be read, or has no file.
    """
    addresses = {source.path for source in sources_of(data) if is_elsewhere(source.path)}
    places = {address: folder / _folder_name(address) for address in sorted(addresses)}
    for left in set(folder.glob("*/")) - set(places.values()):
        shutil.rmtree(left)
    here = {address: _mirrored(open_place(address), at, show) for address, at in places.items()}
    if not here:
        return data

    def moved(source: AnySource) -> AnySource:
        return source.model_copy(update={"path": str(here.get(source.path, source.path))})

    named = {name: moved(source) for name in ("items", "users")
             if (source := getattr(data, name)) is not None}  # fmt: skip
    events = data.events and tuple(moved(source) for source in data.events)
    return data.model_copy(update=named | {"events": events})


def sources_of(data: DataConfig) -> list[Source]:
    """Return every source that is configured."""
    return [*(data.events or ()), *(one for one in (data.items, data.users) if one is not None)]


def _mirrored(place: Place, folder: Path, show: Show) -> Path:
    """Make a folder here what the place is; return the path of the data."""
    files = [one for one in place.files() if not _is_hidden(one.name)]
    if not files:
        raise RemoteError(f"{place.shown}: there is no file in it; check the address")
    known, target = _read_record(folder / RECORD), folder / DATA / place.name
    paths = {one: _path_of(target, one, place) for one in files}
    for left in set(target.rglob("*")) - set(paths.values()):
        if left.is_file():
            left.unlink()
    kept = {one for one, path in paths.items()
            if path.is_file() and path.stat().st_size == one.size
            and known.get(one.name) == place.version(one.name)}  # fmt: skip
    task, done = f"fetch {place.shown}", 0
    total = sum(one.size for one in files if one not in kept)
    show(task, 0, total, f"{len(kept)} of {len(files)} files are here already")

    def on_bytes(count: int) -> None:
        nonlocal done
        done += count
        show(task, min(done, total), total, "bytes")

    known = {one.name: known[one.name] for one in kept}
    for one in files:
        if one not in kept:
            known[one.name] = place.fetch(one.name, paths[one], on_bytes)
            _write_record(folder / RECORD, known)
    return target


def _folder_name(address: str) -> str:
    """Name the folder of a place: readable, and another one for another endpoint."""
    endpoint = re.findall(r"(?:^|&)endpoint_override=([^&]*)", urlsplit(address).query)
    digest = hashlib.sha256(" ".join([shown(address), *endpoint]).encode()).hexdigest()
    return f"{re.sub(r'[^A-Za-z0-9.]+', '-', shown(address))[:80]}-{digest[:8]}"


def _path_of(target: Path, file: RemoteFile, place: Place) -> Path:
    """Return where a file goes.

    Raises:
        RemoteError: its name leads out of the folder.
    """
    parts = PurePosixPath(file.name).parts
    if ".." in parts or file.name.startswith("/"):
        raise RemoteError(f"{place.shown}: {file.name!r} is no name of a file here; rename it")
    return target.joinpath(*parts)


def _is_hidden(name: str) -> bool:
    """Whether no table is read from a file: its own name begins with "." or "_"."""
    return PurePosixPath(name).name.startswith((".", "_"))


def _write_record(path: Path, known: dict[str, str]) -> None:
    write_whole(path, lambda temp: temp.write_text(json.dumps(known, indent=1)))


def _read_record(path: Path) -> dict[str, str]:
    try:
        found = json.loads(path.read_text())
    except (OSError, ValueError):  # none yet, or damaged: all is brought again
        return {}
    return found if isinstance(found, dict) else {}
