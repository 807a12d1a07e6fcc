"""What a release says of itself: its lineage, its size, the checksum of every file, its lists.

`manifest.json` is written last and never changes. A store keeps a copy of it; there, and only
there, it also says if the release was published although gates had failed.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Annotated, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    Field,
    FiniteFloat,
    ValidationError,
    model_validator,
)

from serving.errors import DamagedReleaseError
from serving.lists import Counts
from serving.statistics import Statistics


def utc_text(moment: str) -> str:
    """Return the text of a moment as it is.

    Raises:
        ValueError: it is no ISO moment in UTC.
    """
    if datetime.fromisoformat(moment).utcoffset() != timedelta(0):
        raise ValueError(f"{moment!r} is not in UTC; write it as 2026-08-20T00:00:00Z")
    return moment


UtcText = Annotated[str, AfterValidator(utc_text)]
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


class FileEntry(BaseModel, frozen=True, extra="forbid"):
    """One Parquet file of the release; `path` is relative to its folder."""

    path: str
    rows: int
    bytes: int
    sha256: str


class Reach(BaseModel, frozen=True, extra="forbid"):
    """Whom the lists are for, as the batch job counted them."""

    asked: int  # users that a list was to be made for
    active: int  # of all users, those with something taken in the last `active_days` before as_of
    active_listed: int  # of those, with a list of their own
    active_days: int | None  # None: events with an order only, where every user counts as active
    last_event: UtcText | None  # before as_of; None: events with an order only


class Forced(BaseModel, frozen=True, extra="forbid"):
    """Why a release was published although gates had failed."""

    reason: str = Field(min_length=1)
    by: str  # user@host
    at: UtcText
    failed: tuple[str, ...]  # a line for each gate


class Manifest(BaseModel, frozen=True, extra="forbid"):
    """What a release is: its lineage, its size, the checksum of every file and its lists."""

    # 1 had neither probabilities nor drivers; 1 and 2 had no statistics
    schema_version: Literal[1, 2, 3] = 3
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
    statistics: Statistics | None = None  # of the lists; None before version 3
    reach: Reach | None = None  # None: a release made without the batch job
    forced: Forced | None = None  # only in the copy that a store keeps

    @model_validator(mode="after")
    def _has_statistics(self) -> Self:
        if self.schema_version == 3 and self.statistics is None:
            raise ValueError("statistics are missing, which version 3 has")
        return self

    def as_sealed(self) -> Manifest:
        """Return the manifest as it lies in the release's own folder."""
        return self.model_copy(update={"forced": None})


def read_manifest(content: bytes, where: str) -> Manifest:
    """Understand a manifest.

    Args:
        content: of the file.
        where: what to call it in an error.

    Raises:
        DamagedReleaseError: it is not one of a version that is known.
    """
    try:
        return Manifest.model_validate_json(content)
    except ValidationError as error:
        raise DamagedReleaseError(f"{where}: {words(error)}") from error


def words(error: ValidationError) -> str:
    """Say in one line what pydantic found."""
    found = ((".".join(map(str, one["loc"])) or "it", one["msg"]) for one in error.errors())
    said = "; ".join(f"{where}: {message}" for where, message in found)
    return " ".join(said.split())  # a key may hold anything, also line ends
