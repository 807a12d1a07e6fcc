"""Commands for what learns: train, evaluate, tune."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import typer

from recsys import options as opt
from recsys.cli_settings import run_config
from recsys.terminal import say

if TYPE_CHECKING:
    from pipelines.settings import RunConfig
    from pipelines.tuning import Tuned


commands = typer.Typer()
tune = typer.Typer(no_args_is_help=True, help="Choose settings on the valid window.")
commands.add_typer(tune, name="tune")


@commands.command(epilog="Example: recsys train -c run.toml --set training.max_epochs=5")
def train(config: opt.Config = None, set_: opt.Set = None, start: opt.From = None) -> None:
    """Train and measure a model; register it in MLflow."""
    train_model(run_config(config, set_), start)


@commands.command(epilog="Example: recsys evaluate -c run.toml --model models:/recommender/3")
def evaluate(model: opt.Model = None, config: opt.Config = None, set_: opt.Set = None) -> None:
    """Measure a registered model on the test window."""
    settings = run_config(config, set_)
    from pipelines import lock, measure, tracking
    from pipelines.report import calibration_lines, quality_table

    uri = tracking.asked_model(settings, model)  # before anything is made
    with lock.at_work(settings.run_dir) as show:
        report = measure.evaluate_model(settings, uri, show)
    say(quality_table(report), *calibration_lines(report))


@commands.command(epilog="Example: recsys compare champion 3f9a 41c0 --html compare.html")
def compare(
    asked: opt.Runs,
    config: opt.Config = None,
    set_: opt.Set = None,
    metric: opt.Metric = "ndcg_at_10",
    window: opt.Window = "test",
    model: opt.Ranked = "full",
    html: opt.Html = None,
) -> None:
    """Say which run is better, whether it is noise, for whom."""
    settings = run_config(config, set_)
    from datetime import UTC, datetime

    from pipelines.compare import compare_runs
    from pipelines.comparereport import said, write_comparison

    found = compare_runs(settings, asked, metric, window, model)
    say(*said(found))
    if html is not None:
        write_comparison(found, html, datetime.now(UTC))
        say(f"{html}: the same with figures")


@commands.command(epilog="Example: recsys promote challenger -c run.toml")
def promote(
    version: opt.Version = "challenger",
    retrained: opt.Retrained = False,
    force: opt.Forced = False,
    reason: opt.Because = "",
    config: opt.Config = None,
    set_: opt.Set = None,
) -> None:
    """Make a model champion if it passes the gate; else exit code 3."""
    settings = run_config(config, set_)
    from pipelines import lock, promotion, tracking

    tracking.asked_model(settings, None)  # before anything is made
    with lock.at_work(settings.run_dir) as show:
        done = promotion.promote(settings, version, show, retrained, force, reason)
    say(*done.said())
    if not done.is_champion:
        raise typer.Exit(3)


@commands.command(epilog="Example: recsys demote -c run.toml --reason shoes")
def demote(reason: opt.Because = "", config: opt.Config = None, set_: opt.Set = None) -> None:
    """Make the champion of before champion again."""
    from pipelines import promotion

    gone, again = promotion.demote(run_config(config, set_), reason)
    say(f"{again.uri} is champion again, {gone.uri} is not")


@commands.command(epilog="Example: recsys reproduce 0f6d1e0c2b7a4c55 -c run.toml")
def reproduce(run: opt.Run, config: opt.Config = None, set_: opt.Set = None) -> None:
    """Train a logged run again and say what differs."""
    settings = run_config(config, set_)
    from pipelines.lock import at_work
    from pipelines.reproduce import reproduce as train_again

    with at_work(settings.run_dir) as show:
        done = train_again(settings, run, show)
    say(*done.said())
    if not done.holds:
        raise typer.Exit(1)


@commands.command(epilog="Example: recsys sync runs/mine -c run.toml")
def sync(run_dir: opt.RunDir = None, config: opt.Config = None, set_: opt.Set = None) -> None:
    """Bring runs to a tracking server that was down."""
    places = [] if run_dir is None else [f"run_dir={json.dumps(str(run_dir))}"]
    settings = run_config(config, [*places, *(set_ or [])])
    from pipelines import upload
    from pipelines.lock import at_work
    from recsys.address import shown

    with at_work(settings.run_dir) as show:
        made = upload.sync(settings, show)
    say(*(f"{one.alias} {one.uri}, run {one.run_id}" for one in made.values()))
    say(f"{shown(settings.tracking_uri)} has all runs of {settings.run_dir}")


@tune.command(epilog="Example: recsys tune candidates -c run.toml --budget 300")
def candidates(config: opt.Config = None, set_: opt.Set = None, budget: opt.Budget = 300) -> None:
    """Choose how many candidates each source brings; print it for the config file."""
    settings = run_config(config, set_)
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
    settings = run_config(config, set_)
    from pipelines.targets import tune_ranker

    _search(tune_ranker, settings, trials, minutes)


@tune.command(epilog="Example: recsys tune encoder -c run.toml --trials 30 --minutes 60")
def encoder(
    config: opt.Config = None,
    set_: opt.Set = None,
    trials: opt.Trials = 30,
    minutes: opt.Minutes = None,
) -> None:
    """Choose how text is learned; goes on where it was stopped."""
    settings = run_config(config, set_)
    from pipelines.targets import tune_encoder

    _search(tune_encoder, settings, trials, minutes)


def _search(
    tuned_by: Callable[..., Tuned], settings: RunConfig, trials: int, minutes: float | None
) -> None:
    """Try settings and say what came of it; a search that was stopped ends as Ctrl-C does."""
    from pipelines.lock import at_work

    with at_work(settings.run_dir) as show:
        tuned = tuned_by(settings, trials, minutes, show)
    say(*tuned.said())
    if tuned.stopped:
        raise typer.Exit(130)


def train_model(settings: RunConfig, start: str | None = None) -> Any:
    """Train, say what came of it, return the table of its quality."""
    from pipelines import train as training
    from pipelines.lock import at_work
    from pipelines.report import calibration_lines, continued_lines, quality_table

    with at_work(settings.run_dir) as show:
        trained = training.train(settings, show, start)
    table = quality_table(trained.report)
    say(table, *calibration_lines(trained.report), *continued_lines(trained.report))
    named = f"{trained.alias} {trained.model_uri}" if trained.model_uri else "not registered"
    say(f"{named}, run {trained.run_id}: {trained.folder}")
    return table
