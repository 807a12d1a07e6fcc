"""Where releases and the store are, what a release must be like, where the read API listens."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, Field

Share = Annotated[float, Field(ge=0, le=1)]
Count = Annotated[int, Field(ge=1)]


class GateConfig(BaseModel, frozen=True, extra="forbid"):
    """What a release must be like before readers get it; shares are from 0 to 1."""

    active_coverage: Share = 0.95  # least share of active users with a list of their own
    short_items: Count = 5  # a list of fewer is short (or of fewer than the release's k)
    short_lists: Share = 0.05  # most share of users with a short list or none
    unavailable_rows: Share = 0.0  # most share of rows of items not on offer at as_of
    item_share: Share = 0.99  # most share of lists that hold one and the same item
    category_share: Share = 0.95  # most share of rows of one category
    overlap: Share = 0.1  # least mean share of a user's first 10 items that stay
    overlap_users: Count = 10_000  # whose lists are compared; of more, every n-th
    users_lost: Share = 0.1  # most share of the current release's users that have no list now
    items_lost: Share = 0.5  # most share by which fewer items are in lists
    data_age_days: float = Field(0.0, ge=0)  # most since the last event; 0 = any age
    least_users: Count = 50  # of fewer users or lists no share is judged


class ApiConfig(BaseModel, frozen=True, extra="forbid"):
    """What the read API lets in, how long it waits and what it writes down."""

    keys: Path | None = None  # file of API keys, a hash each; `recsys key NAME` adds one
    open: bool = False  # answer without any key also where other machines can reach it
    max_body_bytes: int = Field(default=1_048_576, ge=1024)  # of a request; beyond it 413
    max_head_bytes: int = Field(default=16_384, ge=1024)  # request line and headers; beyond it 431
    max_headers: int = Field(default=100, ge=10)  # beyond it 431
    max_requests: int = Field(default=256, ge=1)  # at work at the same time; beyond it 503
    max_connections: int = Field(default=2048, ge=1)  # open at the same time; beyond it 503
    request_timeout_s: float = Field(
        default=5.0, gt=0
    )  # for a head, and again for a body; then 408
    keep_alive_s: int = Field(default=30, ge=1)  # an idle connection is closed after so long
    store_timeout_s: float = Field(default=0.1, gt=0)  # then the last known fallback list
    store_poll_s: float = Field(default=0.5, gt=0)  # between looks at the store
    drain_s: float = Field(default=1.0, ge=0)  # told to stop: not ready for so long, then no more
    log: Literal["all", "failed", "none"] = "all"  # a line for which requests
    log_users: Literal["no", "hashed", "plain"] = "no"  # hashed: keyed with RECSYS_LOG_KEY


class ServingConfig(BaseModel, frozen=True, extra="forbid"):
    """The `serving` section of the project's configuration."""

    releases: Path = Path("runs/releases")  # the batch job writes a folder per release
    remote: str = ""  # where sealed releases are sent: s3://bucket/folder; empty = nowhere
    store: str = "runs/store"  # what readers read: a folder, or redis://host:port/db?prefix=name
    host: str = "127.0.0.1"
    port: int = Field(default=8000, ge=0, le=65535)  # 0 = any free port
    k: int = Field(default=20, ge=1, le=1000)  # items in a list
    api: ApiConfig = ApiConfig()
