"""Where releases and the store are, and where the read API listens."""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel, Field


class ServingConfig(BaseModel, frozen=True, extra="forbid"):
    """The `serving` section of the project's configuration."""

    releases: Path = Path("runs/releases")  # the batch job writes a folder per release
    store: str = "runs/store"  # what readers read: a folder, or redis://host:port/db?prefix=name
    host: str = "127.0.0.1"
    port: int = Field(default=8000, ge=0, le=65535)  # 0 = any free port
    k: int = Field(default=20, ge=1, le=1000)  # items in a list
