"""Commands for everything in one go: run, demo."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from recsys import options as opt
from recsys.cli_learning import train_model
from recsys.cli_lists import make_release, publish_release
from recsys.cli_settings import run_config
from recsys.terminal import say

if TYPE_CHECKING:
    from pipelines.settings import RunConfig


commands = typer.Typer()


@commands.command(epilog="Example: recsys run -c run.toml")
def run(config: opt.Config = None, set_: opt.Set = None) -> None:
    """Prepare, train, make the champion's lists, publish them."""
    run_everything(run_config(config, set_))


@commands.command(epilog="Example: recsys demo --folder runs/demo")
def demo(folder: opt.Folder = Path("runs/demo"), set_: opt.Set = None) -> None:
    """From raw data to lists over HTTP, on a year of real purchases."""
    began = time.monotonic()
    from pipelines.demo import write_demo
    from serving.demo import how_to_go_on, lists_over_http

    config = write_demo(folder)
    settings = run_config(config, set_)
    release, quality = run_everything(settings)
    say(*lists_over_http(folder, config, settings.serving.store), quality)
    say(*how_to_go_on(settings, config, release))
    say(f"{time.monotonic() - began:.0f} seconds in all")


def run_everything(settings: RunConfig) -> tuple[Path, Any]:
    """Run every step; return the published release and the table of the model's quality."""
    table = train_model(settings)  # prepares first
    release = make_release(settings, None, None)
    from serving.settings import GateConfig

    gates = GateConfig.model_validate(settings.gates.model_dump())
    publish_release(release, settings.serving.store, gates, brief=True)
    return release, table
