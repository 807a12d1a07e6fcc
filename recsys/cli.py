"""The command line: the one door above all rooms.

Everything of ours is imported inside the commands, so that `recsys --help` is there at once, and so
that publish, rollback, releases and serve need the base install alone (serve also its extra).
"""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from recsys import options as opt
from recsys.errors import RecsysError
from recsys.terminal import facts_table, refusal, say

if TYPE_CHECKING:
    from pipelines.settings import RunConfig
    from serving.settings import ServingConfig

app = typer.Typer(
    no_args_is_help=True, add_completion=False, rich_markup_mode=None,  # rich: 0.2 s more for help
    pretty_exceptions_enable=False,
    help="Personalized recommendations that understand item text: learn, rank, publish, serve.",
)  # fmt: skip
tune = typer.Typer(no_args_is_help=True, help="Choose settings on the valid window.")
app.add_typer(tune, name="tune")


def main() -> None:
    """Run the command line; what a user can get wrong is said in words, with exit code 2."""
    from serving.errors import ServingError

    try:
        app(prog_name="recsys")
    except SystemExit as end:
        if end.code == 130:  # Ctrl-C
            typer.echo("stopped; run the same command again to go on", err=True)
        raise
    except Exception as error:
        message = refusal(error, (RecsysError, ServingError))
        if message is None:
            raise
        typer.echo(f"recsys: {message}", err=True)
        raise SystemExit(2) from None


@app.command(epilog="Example: recsys init orders.csv views.csv products.csv")
def init(files: opt.Files, out: opt.Out = Path("run.toml"), force: opt.Force = False) -> None:
    """Look at your files, guess what is what, write a run.toml."""
    from pipelines.drafting import guess_table, write_config

    table = guess_table(write_config(files, out, force))
    say(table, f"wrote {out}; look through it, then: recsys run -c {out}")


@app.command(epilog="Example: recsys validate -c run.toml --html data.html")
def validate(config: opt.Config = None, set_: opt.Set = None, html: opt.Html = None) -> None:
    """Check the input tables: all that is wrong, or what is in them."""
    settings = _run_config(config, set_)
    from pipelines.datareport import said, write_data_page
    from pipelines.profile import profile_data
    from recsys.progress import showing

    with showing() as show:
        profile = profile_data(settings, show)
    say(*said(profile))
    if html is not None:
        write_data_page(profile, html, datetime.now(UTC))
        say(f"the same with figures: {html}")


@app.command(epilog="Example: recsys doctor -c run.toml")
def doctor(config: opt.Config = None, set_: opt.Set = None) -> None:
    """Check this machine: packages, threads, encoder, disk, stores."""
    os.environ.setdefault("HF_HUB_OFFLINE", "1")  # is what we need here already?
    from serving.doctor import examine

    findings = examine(_config_file(config), set_ or ())
    say(*(one.line for one in findings))
    if not all(one.is_ok for one in findings):
        raise typer.Exit(1)


@app.command(epilog="Example: recsys prepare -c run.toml --set data.memory_limit=8GB")
def prepare(config: opt.Config = None, set_: opt.Set = None) -> None:
    """Check the tables, lay them out for training; once for a log."""
    settings = _run_config(config, set_)
    from pipelines.lock import at_work
    from pipelines.run import prepare_data

    with at_work(settings.run_dir) as show:
        prepared = prepare_data(settings, show)
    say(facts_table(f"prepared in {prepared.folder}", prepared.manifest.model_dump()))


@app.command(epilog="Example: recsys train -c run.toml --set training.max_epochs=5")
def train(config: opt.Config = None, set_: opt.Set = None, start: opt.From = None) -> None:
    """Train and measure a model; register it in MLflow."""
    _train(_run_config(config, set_), start)


@app.command(epilog="Example: recsys evaluate -c run.toml --model models:/recommender/3")
def evaluate(model: opt.Model = None, config: opt.Config = None, set_: opt.Set = None) -> None:
    """Measure a registered model on the test window."""
    settings = _run_config(config, set_)
    from pipelines import lock, measure, tracking
    from pipelines.report import calibration_lines, quality_table

    uri = tracking.asked_model(settings, model)  # before anything is made
    with lock.at_work(settings.run_dir) as show:
        report = measure.evaluate_model(settings, uri, show)
    say(quality_table(report), *calibration_lines(report))


@app.command(epilog="Example: recsys recommend --as-of 2026-08-20T00:00:00Z --k 10")
def recommend(
    model: opt.Model = None,
    as_of: opt.AsOf = None,
    k: opt.K = None,
    config: opt.Config = None,
    set_: opt.Set = None,
) -> None:
    """Make every user's list: a sealed release, not published yet."""
    overrides = [*(set_ or []), *([] if k is None else [f"serving.k={k}"])]
    folder = _recommend(_run_config(config, overrides), model, as_of)
    say(f"publish it: recsys publish {folder}")


@app.command(epilog="Example: recsys publish --store runs/store")
def publish(
    release: opt.Release = None,
    config: opt.Config = None,
    set_: opt.Set = None,
    store: opt.Store = None,
) -> None:
    """Let readers read a release: verify it, load it, switch to it."""
    from serving.config import find_release

    places = _serving_config(config, set_, store=store)
    _publish(find_release(release, places.releases), places.store)


@app.command(epilog="Example: recsys rollback --store runs/store")
def rollback(config: opt.Config = None, set_: opt.Set = None, store: opt.Store = None) -> None:
    """Go back to the release before the current one."""
    folder = _serving_config(config, set_, store=store).store
    from serving import stores

    say(f"{folder}: release {stores.rollback(folder)} is current again")


@app.command(epilog="Example: recsys releases -c run.toml")
def releases(config: opt.Config = None, set_: opt.Set = None, store: opt.Store = None) -> None:
    """List the releases in the store."""
    folder = _serving_config(config, set_, store=store).store
    from rich.table import Table

    from serving import stores

    table = Table("release", "as of", "users", "model", "", title=f"releases in {folder}")
    for one in stores.releases(folder):
        current = "current" if one.is_current else ""
        table.add_row(one.release_id, one.as_of, f"{one.users:,}", one.model, current)
    say(table if table.rows else f"{folder}: no release yet; recsys publish brings one")


@app.command(epilog="Example: recsys serve --store runs/store --port 8000")
def serve(
    host: opt.Host = None, port: opt.Port = None, config: opt.Config = None, set_: opt.Set = None,
    store: opt.Store = None,
) -> None:  # fmt: skip
    """Answer over HTTP from the store, until Ctrl-C."""
    places = _serving_config(config, set_, store=store, host=host, port=port)
    from serving import api

    api.serve(places.store, places.host, places.port)


@app.command(epilog="Example: recsys run -c run.toml")
def run(config: opt.Config = None, set_: opt.Set = None) -> None:
    """Prepare, train, make the champion's lists, publish them."""
    _run(_run_config(config, set_))


@tune.command(epilog="Example: recsys tune candidates -c run.toml --budget 300")
def candidates(config: opt.Config = None, set_: opt.Set = None, budget: opt.Budget = 300) -> None:
    """Choose how many candidates each source brings; print it for the config file."""
    settings = _run_config(config, set_)
    from pipelines import quotas
    from pipelines.lock import at_work

    with at_work(settings.run_dir) as show:
        reach, path = quotas.tune_candidates(settings, budget, show)
    say(*quotas.quotas_said(settings, reach, path))


@tune.command(epilog="Example: recsys tune ranker -c run.toml --trials 50 --minutes 60")
def ranker(
    config: opt.Config = None,
    set_: opt.Set = None,
    trials: opt.Trials = 30,
    minutes: opt.Minutes = None,
) -> None:
    """Choose the ranker's settings; goes on where it was stopped."""
    settings = _run_config(config, set_)
    from pipelines.lock import at_work
    from pipelines.tuning import tune_ranker

    with at_work(settings.run_dir) as show:
        tuned = tune_ranker(settings, trials, minutes, show)
    say(*tuned.said())
    if tuned.stopped:
        raise typer.Exit(130)


@app.command(epilog="Example: recsys demo --folder runs/demo")
def demo(folder: opt.Folder = Path("runs/demo"), set_: opt.Set = None) -> None:
    """From raw data to lists over HTTP, on a year of real purchases."""
    began = time.monotonic()
    from pipelines.demo import write_demo
    from serving.demo import how_to_go_on, lists_over_http

    config = write_demo(folder)
    settings = _run_config(config, set_)
    release, quality = _run(settings)
    say(*lists_over_http(folder, config, settings.serving.store), quality)
    say(*how_to_go_on(settings, config, release))
    say(f"{time.monotonic() - began:.0f} seconds in all")


def _run(settings: RunConfig) -> tuple[Path, Any]:
    """Run every step; return the published release and the table of the model's quality."""
    table = _train(settings)  # prepares first
    release = _recommend(settings, None, None)
    _publish(release, settings.serving.store)
    return release, table


def _train(settings: RunConfig, start: str | None = None) -> Any:
    from pipelines import train as training
    from pipelines.lock import at_work
    from pipelines.report import calibration_lines, continued_lines, quality_table

    with at_work(settings.run_dir) as show:
        trained = training.train(settings, show, start)
    table = quality_table(trained.report)
    say(table, *calibration_lines(trained.report), *continued_lines(trained.report))
    say(f"{trained.alias} {trained.model_uri}, run {trained.run_id}: {trained.folder}")
    return table


def _recommend(settings: RunConfig, model: str | None, as_of: str | None) -> Path:
    from pipelines import lock, tracking
    from serving import batch

    uri = tracking.asked_model(settings, model)  # before anything is made
    with lock.at_work(settings.run_dir) as show:
        folder = batch.recommend(settings, uri, as_of, show)
    say(f"release {folder}")
    return folder


def _publish(release: Path, store: Path) -> None:
    from serving import publish as publishing

    done = publishing.publish(release, store)
    what = "is current now" if done.switched else "was current already"
    say(f"{store}: release {done.release_id} {what}; {done.users:,} users")
    say(*(f"{store}: release {old} was too old and is deleted" for old in done.deleted))


def _config_file(config: Path | None) -> Path | None:
    here = Path("run.toml")
    return config or (here if here.is_file() else None)


def _run_config(config: Path | None, overrides: Sequence[str] | None) -> RunConfig:
    from pipelines.config import load_toml
    from pipelines.settings import RunConfig

    return load_toml(RunConfig, _config_file(config), overrides or ())


def _serving_config(
    config: Path | None, overrides: Sequence[str] | None, **options: object
) -> ServingConfig:
    from serving.config import load_serving

    return load_serving(_config_file(config), overrides or (), **options)


if __name__ == "__main__":
    main()
