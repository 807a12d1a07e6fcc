"""The door to object stores and other places that a URI names: s3://, gs://, abfs://, hdfs://.

Calls end within a bounded time, and what goes wrong is said in words, without credentials. What is
brought here or sent there appears whole or not at all: an object when its last byte is there, a
file by being renamed.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

import pyarrow as pa
import pyarrow.fs as pa_fs

from recsys.address import shown, without_secrets
from recsys.errors import RemoteError, out_of_space
from recsys.writing import write_whole

CONNECT_S, SILENT_S, TRIES = 5.0, 20.0, 3  # no answer for so long is none; so many times
CHUNK = 8 << 20  # bytes read at a time
OBJECT_STORES = {"s3", "gcs", "abfs"}  # an object is not seen before it is whole
S3_OPTIONS = ("endpoint_override", "region", "scheme")
REFUSED = re.compile(r"\b(ACCESS_DENIED|\w*ACCESS_KEY\w*|\w*TOKEN\w*|SIGNATURE\w*|UNAUTHENTICATED|"
                     r"\w*CREDENTIALS?\w*|UNRECOGNIZED_CLIENT|PERMISSION_DENIED)\b")  # fmt: skip
SILENT = re.compile(
    r"NETWORK_CONNECTION|REQUEST_TIMEOUT|UNAVAILABLE|SLOW_DOWN|curlCode|CURL error|[Tt]imed out"
)
NOT_THERE = re.compile(r"NO_SUCH_|NOT_FOUND|does not exist")


@dataclass(frozen=True)
class RemoteFile:
    """A file of a place."""

    name: str  # below the place; empty: the place itself is the file
    size: int  # bytes


@dataclass(frozen=True)
class Place:
    """A file or folder elsewhere. Every call raises RemoteError in words."""

    shown: str  # its address, as it may be printed
    filesystem: pa_fs.FileSystem
    path: str

    @property
    def name(self) -> str:
        """The last part of its path."""
        return self.path.rpartition("/")[2]

    def below(self, name: str) -> Place:
        """Return a place in this one."""
        return replace(self, shown=f"{self.shown}/{name}", path=f"{self.path}/{name}")

    def files(self) -> list[RemoteFile]:
        """List the files of a folder and all that are below it, or the one file that it is."""
        with in_words(self.shown):
            info = self.filesystem.get_file_info(self.path)
            if info.is_file:
                return [RemoteFile("", info.size)]
            found = self.filesystem.get_file_info(pa_fs.FileSelector(self.path, recursive=True))
        start = len(self.path) + 1
        files = [RemoteFile(one.path[start:], one.size) for one in found if one.is_file]
        return sorted(files, key=lambda one: one.name)

    def names(self) -> list[str]:
        """Name what is right below the place; nothing if it is not there yet."""
        selector = pa_fs.FileSelector(self.path, allow_not_found=True)
        with in_words(self.shown):
            return sorted(one.base_name for one in self.filesystem.get_file_info(selector))

    def version(self, name: str) -> str | None:
        """Return what changes when a file does (size and ETag or time); None if it is not there."""
        with in_words(self._shown(name)):
            try:
                with self.filesystem.open_input_stream(self._at(name)) as stream:
                    metadata: Any = stream.metadata()  # the stubs say bytes; names are text
            except FileNotFoundError:
                return None
            size, tag = metadata.get("Content-Length"), metadata.get("ETag")
            if size and tag:
                return f"{size.decode()} bytes, {tag.decode()}"
            info = self.filesystem.get_file_info(self._at(name))
        return f"{info.size} bytes, {info.mtime_ns}"

    def read(self, name: str) -> bytes:
        """Return the content of a small file."""
        opened = self.filesystem.open_input_stream
        with in_words(self._shown(name)), opened(self._at(name)) as stream:
            return bytes(stream.read())

    def fetch(self, name: str, target: Path, on_bytes: Callable[[int], object]) -> str:
        """Bring a file here, whole or not at all; call back with the bytes of each piece.

        Returns:
            Its version.
        """
        before, where = self.version(name), self._shown(name)

        def copy(temp: Path) -> None:
            opened = self.filesystem.open_input_stream
            with in_words(where), temp.open("wb") as out, opened(self._at(name)) as stream:
                while piece := stream.read(CHUNK):
                    out.write(piece)
                    on_bytes(len(piece))
            size = temp.stat().st_size
            if not str(before).startswith(f"{size} bytes") or self.version(name) != before:
                raise RemoteError(
                    f"{where}: it was changed while it was fetched; let its writer end, then run "
                    "the same command again"
                )

        write_whole(target, copy)
        return str(before)

    def send(self, source: Path, name: str) -> str:
        """Bring a file there, whole or not at all; one of that name is replaced.

        Returns:
            Its version.
        """
        target, kind = self._at(name), self.filesystem.type_name
        with in_words(self._shown(name)):
            if kind == "local":
                write_whole(Path(target), lambda temp: shutil.copyfile(source, temp))
            elif kind in OBJECT_STORES:
                self._write(source, target)
            else:
                self.filesystem.create_dir(target.rpartition("/")[0])
                self._write(source, f"{target}.tmp")
                self.filesystem.move(f"{target}.tmp", target)
        version = self.version(name)
        if version is None or not version.startswith(f"{source.stat().st_size} bytes"):
            raise RemoteError(f"{self._shown(name)}: it did not arrive whole; run it again")
        return version

    def delete(self, name: str) -> None:
        """Delete a file."""
        with in_words(self._shown(name)):
            self.filesystem.delete_file(self._at(name))

    def _write(self, source: Path, target: str) -> None:
        """Write in one call: nothing that ends this process half way completes the object."""
        opened = self.filesystem.open_output_stream
        with pa.memory_map(str(source)) as mapped, opened(target) as out:
            out.write(mapped.read_buffer())

    def _at(self, name: str) -> str:
        return f"{self.path}/{name}" if name else self.path

    def _shown(self, name: str) -> str:
        return f"{self.shown}/{name}" if name else self.shown


def open_place(address: str) -> Place:
    """Open a file or folder that a URI names; it need not be there.

    Raises:
        RemoteError: the address cannot be understood.
    """
    filesystem, path = connected(address)
    return Place(shown(address).rstrip("/"), filesystem, path.rstrip("/"))


def open_place_near(address: str, known: str) -> Place:
    """Open a place; one below a `known` place, as that is printed, is reached as that is.

    Raises:
        RemoteError: an address cannot be understood.
    """
    above = f"{shown(known).rstrip('/')}/"
    if known and address.startswith(above) and shown(address) == address:
        return open_place(known).below(address.removeprefix(above).rstrip("/"))
    return open_place(address)


def connected(address: str) -> tuple[pa_fs.FileSystem, str]:
    """Return the file system of a URI and the path in it; only a region may be asked for.

    Raises:
        RemoteError: the address cannot be understood.
    """
    with in_words(shown(address), address):
        if address.startswith("s3://"):
            return _s3(address)
        if address.startswith(("gs://", "gcs://")) and "retry_limit_seconds" not in address:
            address += f"{'&' if '?' in address else '?'}retry_limit_seconds={SILENT_S}"
        return pa_fs.FileSystem.from_uri(address)


def _s3(address: str) -> tuple[pa_fs.FileSystem, str]:
    """Open S3 as pyarrow does from a URI, but never waiting for long."""
    parts = urlsplit(address)
    user, _, bucket = parts.netloc.rpartition("@")
    key, _, secret = user.partition(":")
    options = dict(parse_qsl(parts.query, keep_blank_values=True))
    if unknown := sorted(options.keys() - set(S3_OPTIONS)):
        raise RemoteError(
            f"{shown(address)}: unknown option {unknown[0]}; known are {', '.join(S3_OPTIONS)}"
        )
    if not bucket or ":" in bucket or bool(key) != bool(secret):
        raise RemoteError(
            f"{shown(address)}: write s3://BUCKET/FOLDER or s3://KEY:SECRET@BUCKET/FOLDER; in a "
            "secret / is %2F, + is %2B and @ is %40"
        )
    endpoint, scheme = _endpoint(options)
    if scheme not in ("http", "https"):
        raise RemoteError(f"{shown(address)}: scheme = {scheme!r}, expected http or https")
    region = options.get("region") or os.environ.get("AWS_REGION", os.environ.get(
        "AWS_DEFAULT_REGION", "us-east-1" if endpoint else ""))  # fmt: skip
    more: dict[str, Any] = {"allow_delayed_open": True, "scheme": scheme}  # not in the stubs so
    filesystem = pa_fs.S3FileSystem(
        access_key=unquote(key) or None, secret_key=unquote(secret) or None,
        region=region or pa_fs.resolve_s3_region(bucket),
        endpoint_override=endpoint,
        connect_timeout=CONNECT_S, request_timeout=SILENT_S, background_writes=False,
        retry_strategy=pa_fs.AwsStandardS3RetryStrategy(max_attempts=TRIES), **more,
    )  # fmt: skip
    return filesystem, bucket + unquote(parts.path)


def _endpoint(options: dict[str, str]) -> tuple[str | None, str]:
    """Return host and scheme of the server; no host is Amazon's."""
    variables = ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL")
    named = [options.get("endpoint_override"), *map(os.environ.get, variables)]
    given = next(filter(None, named), "")
    scheme, _, host = given.rstrip("/").rpartition("://")
    return host or None, options.get("scheme") or scheme or "https"


@contextmanager
def in_words(where: str, address: str = "") -> Iterator[None]:
    """Say in our words what goes wrong in a block.

    Raises:
        RemoteError: where, what, and what to do.
    """
    try:
        yield
    except (pa.ArrowException, OSError) as error:
        if out_of_space(error) or getattr(error, "filename", None):  # of a file here
            raise
        raise RemoteError(f"{where}: {_said(error, address)}") from error


def _said(error: Exception, address: str) -> str:
    text = (str(error).splitlines() or [""])[0]
    if found := REFUSED.search(text):
        return (
            f"refused ({found[0]}); give credentials that may read or write there: "
            "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, a profile, or a role of this machine"
        )
    if SILENT.search(text):
        detail = re.sub(r".*(?:operation|message of): ?", "", text)[:160]
        return f"does not answer ({detail}); check address and network, then run it again"
    if NOT_THERE.search(text) or isinstance(error, FileNotFoundError):
        return "there is no such file, folder or bucket; check the address"
    if "Unrecognized filesystem" in text:
        return "unknown kind of place; known are s3://, gs://, abfs://, hdfs:// and file://"
    return without_secrets(text.replace(address, shown(address)) if address else text)
