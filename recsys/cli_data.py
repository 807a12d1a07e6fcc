"""Commands for what comes in: init, validate, doctor, prepare."""

from __future__ import annotations

import os
from datetime import UTC, datetime
from pathlib import Path

import typer

from recsys import options as opt
from recsys.cli_settings import config_file, run_config
from recsys.terminal import facts_table, say

commands = typer.Typer()


@commands.command(epilog="Example: recsys init orders.csv views.csv products.csv")
def init(files: opt.Files, out: opt.Out = Path("run.toml"), force: opt.Force = False) -> None:
    """Look at your files, guess what is what, write a run.toml."""
    from pipelines.drafting import guess_table, write_config

    table = guess_table(write_config(files, out, force))
    say(table, f"wrote {out}; look through it, then: recsys run -c {out}")


@commands.command(epilog="Example: recsys validate -c run.toml --html data.html")
def validate(config: opt.Config = None, set_: opt.Set = None, html: opt.Html = None) -> None:
    """Check the input tables: all that is wrong, or what is in them."""
    settings = run_config(config, set_)
    from pipelines.datareport import said, write_data_page
    from pipelines.profile import profile_data
    from recsys.progress import showing

    with showing() as show:
        profile = profile_data(settings, show)
    say(*said(profile))
    if html is not None:
        write_data_page(profile, html, datetime.now(UTC))
        say(f"the same with figures: {html}")


@commands.command(epilog="Example: recsys doctor -c run.toml")
def doctor(config: opt.Config = None, set_: opt.Set = None) -> None:
    """Check this machine: packages, threads, encoder, disk, stores."""
    os.environ.setdefault("HF_HUB_OFFLINE", "1")  # is what we need here already?
    from serving.doctor import examine

    findings = examine(config_file(config), set_ or ())
    say(*(one.line for one in findings))
    if not all(one.is_ok for one in findings):
        raise typer.Exit(1)


@commands.command(epilog="Example: recsys prepare -c run.toml --set data.memory_limit=8GB")
def prepare(config: opt.Config = None, set_: opt.Set = None) -> None:
    """Check the tables, lay them out for training; once for a log."""
    settings = run_config(config, set_)
    from pipelines.lock import at_work
    from pipelines.run import prepare_data

    with at_work(settings.run_dir) as show:
        prepared = prepare_data(settings, show)
    say(facts_table(f"prepared in {prepared.folder}", prepared.manifest.model_dump()))
