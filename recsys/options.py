"""The options and arguments of the command line, each said once."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Config = Annotated[
    Path | None,
    typer.Option("--config", "-c", metavar="FILE", help="TOML; without it ./run.toml, if there."),
]
Set = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="SECTION.KEY=VALUE", help="Overrides the file; repeatable."),
]
Store = Annotated[str | None, typer.Option(metavar="FOLDER|URL", help="Instead of serving.store.")]
From = Annotated[str | None, typer.Option("--from", metavar="URI", help="A model to go on from.")]
Model = Annotated[str | None, typer.Option(metavar="URI", help="Without it the champion.")]
AsOf = Annotated[str | None, typer.Option(metavar="UTC", help="Only earlier events count.")]
K = Annotated[int | None, typer.Option(help="Items in a list, instead of serving.k.")]
Users = Annotated[str | None, typer.Option(metavar="WHO", help="all, active, or a file of ids.")]
ActiveDays = Annotated[int | None, typer.Option(help="What active means, instead of 28.")]
Exclude = Annotated[str | None, typer.Option(metavar="FILE", help="Items that are never listed.")]
Executor = Annotated[str | None, typer.Option(metavar="BY", help="local, processes or ray.")]
Workers = Annotated[int | None, typer.Option(help="How many; without it one a core.")]
RayAddress = Annotated[str | None, typer.Option(metavar="HOST:PORT", help="Of a running cluster.")]
Outlook = Annotated[bool, typer.Option("--dry-run", help="Make no list: say what, how long, big.")]
Host = Annotated[str | None, typer.Option(help="Instead of serving.host.")]
Port = Annotated[int | None, typer.Option(help="Instead of serving.port; 0 = any free one.")]
Holder = Annotated[str, typer.Argument(help="Who will hold the key; seen in the log.")]
Release = Annotated[
    str | None, typer.Argument(help="Folder, name or address; without it the newest.")
]
Sealed = Annotated[str | None, typer.Argument(help="Folder or name; without it the newest.")]
Anyway = Annotated[bool, typer.Option("--force", help="Publish though gates fail; needs --reason.")]
Reason = Annotated[str | None, typer.Option(metavar="TEXT", help="Why; the manifest keeps it.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Only say what the gates say.")]
Version = Annotated[str, typer.Argument(help="A version, an alias, a run id or models:/NAME/N.")]
Run = Annotated[str, typer.Argument(help="Its id in MLflow.")]
RunDir = Annotated[Path | None, typer.Argument(help="Instead of the config's run_dir.")]
Retrained = Annotated[bool, typer.Option("--retrained", help="Not much worse is enough.")]
Forced = Annotated[bool, typer.Option("--force", help="Whatever the gate says; needs --reason.")]
Because = Annotated[str, typer.Option("--reason", help="Kept with the version.")]
Budget = Annotated[int, typer.Option(min=5, help="What all quotas add up to, at most.")]
Trials = Annotated[int, typer.Option(min=1, help="In all, those of an earlier run counted.")]
Minutes = Annotated[float | None, typer.Option(min=0, help="No trial begins after so many.")]
Runs = Annotated[
    list[str],
    typer.Argument(
        metavar="RUN...",
        help="Run ids or how they begin, champion, models:/NAME/VERSION, or 'last 3'; the first is "
        "what the others are compared with.",
    ),
]
Metric = Annotated[str, typer.Option(help="By which runs are judged; of those in the report.")]
Window = Annotated[str, typer.Option(help="test, valid or unseen_catalogue.")]
Ranked = Annotated[str, typer.Option("--model", help="Which model of each run; see the report.")]
Html = Annotated[Path | None, typer.Option(metavar="FILE", help="Also as a page with figures.")]
Folder = Annotated[Path, typer.Option(help="Everything is made in there.")]
Files = Annotated[list[str], typer.Argument(help="Your exports: events, items, maybe users.")]
Out = Annotated[Path, typer.Option(metavar="FILE", help="The config to write.")]
Force = Annotated[bool, typer.Option("--force", help="Replace it if it is there.")]
