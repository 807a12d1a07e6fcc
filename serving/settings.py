"""Where releases and the store are, what a release must be like, where the read API listens."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

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


class ServingConfig(BaseModel, frozen=True, extra="forbid"):
    """The `serving` section of the project's configuration."""

    releases: Path = Path("runs/releases")  # the batch job writes a folder per release
    store: str = "runs/store"  # what readers read: a folder, or redis://host:port/db?prefix=name
    host: str = "127.0.0.1"
    port: int = Field(default=8000, ge=0, le=65535)  # 0 = any free port
    k: int = Field(default=20, ge=1, le=1000)  # items in a list
