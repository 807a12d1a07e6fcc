"""The settings of a command: its config file and what overrides it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pipelines.settings import RunConfig
    from serving.settings import GateConfig, ServingConfig


def config_file(config: Path | None) -> Path | None:
    """Return the config file that is meant: the one named, or ./run.toml if it is there."""
    here = Path("run.toml")
    return config or (here if here.is_file() else None)


def run_config(config: Path | None, overrides: Sequence[str] | None) -> RunConfig:
    """Read the whole configuration of a run."""
    from pipelines.config import load_toml
    from pipelines.settings import RunConfig

    return load_toml(RunConfig, config_file(config), overrides or ())


def serving_config(
    config: Path | None, overrides: Sequence[str] | None, **options: object
) -> ServingConfig:
    """Read where releases and the store are; the base install is enough."""
    from serving.config import load_serving

    return load_serving(config_file(config), overrides or (), **options)


def gate_config(config: Path | None, overrides: Sequence[str] | None) -> GateConfig:
    """Read what a release must be like; the base install is enough."""
    from serving.config import load_gates

    return load_gates(config_file(config), overrides or ())
