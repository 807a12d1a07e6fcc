"""The command line: the one door above all rooms.

Everything of ours is imported inside the commands, so that `recsys --help` is there at once, and so
that publish, rollback, releases and serve need the base install alone (serve also its extra).
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

from recsys.errors import ConfigError, RecsysError
from recsys.terminal import facts_table, say

if TYPE_CHECKING:
    from pipelines.settings import RunConfig
    from serving.settings import ServingConfig

# Module -> the extra that brings it, where it is not "train".
EXTRAS = {"fastapi": "serve", "uvicorn": "serve", "redis": "redis", "ray": "ray", "optuna": "tune"}

app = typer.Typer(
    no_args_is_help=True, add_completion=False, rich_markup_mode=None,  # rich: 0.2 s more for help
    pretty_exceptions_enable=False,
    help="Personalized recommendations that understand item text: learn, rank, publish, serve.",
)  # fmt: skip
tune = typer.Typer(no_args_is_help=True, help="Choose settings on the valid window.")
app.add_typer(tune, name="tune")
Config = Annotated[
    Path | None,
    typer.Option("--config", "-c", metavar="FILE", help="TOML; without it ./run.toml, if there."),
]
Set = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="SECTION.KEY=VALUE", help="Overrides the file; repeatable."),
]
Store = Annotated[Path | None, typer.Option(metavar="FOLDER", help="Instead of serving.store.")]
From = Annotated[str | None, typer.Option("--from", metavar="URI", help="A model to go on from.")]
Model = Annotated[str | None, typer.Option(metavar="URI", help="Without it the champion.")]
AsOf = Annotated[str | None, typer.Option(metavar="UTC", help="Only earlier events count.")]
K = Annotated[int | None, typer.Option(help="Items in a list, instead of serving.k.")]
Host = Annotated[str | None, typer.Option(help="Instead of serving.host.")]
Port = Annotated[int | None, typer.Option(help="Instead of serving.port; 0 = any free one.")]
Release = Annotated[str | None, typer.Argument(help="Folder or name; without it the newest.")]
Budget = Annotated[int, typer.Option(min=5, help="What all quotas add up to, at most.")]
Folder = Annotated[Path, typer.Option(help="Everything is made in there.")]


def main() -> None:
    """Run the command line; what a user can get wrong is said in words, with exit code 2."""
    from serving.errors import ServingError

    try:
        app(prog_name="recsys")
    except SystemExit as end:
        if end.code == 130:  # Ctrl-C
            typer.echo("stopped; run the same command again to go on", err=True)
        raise
    except (RecsysError, ServingError) as error:
        _refuse(str(error))
    except ModuleNotFoundError as error:
        missing = (error.name or "").split(".")[0]
        if missing in ("recsys", "features", "pipelines", "serving"):
            raise
        extra = EXTRAS.get(missing, "train")
        _refuse(f"{missing} is not installed; pip install 'recsys-text[{extra}]'")
    except OSError as error:
        if error.filename is None:
            raise
        _refuse(f"{error.filename}: {error.strerror}")


@app.command(epilog="Example: recsys validate -c run.toml")
def validate(config: Config = None, set_: Set = None) -> None:
    """Check the input tables: all that is wrong, at once."""
    settings = _run_config(config, set_)
    from pipelines.checking import check_inputs

    data = settings.data
    if data.events is None or data.items is None:
        raise ConfigError("data.events and data.items: missing; set both to your tables")
    checked = check_inputs(data.events, data.items, data.users, data, settings.split.protocol)
    say(facts_table("the input is good", asdict(checked)))


@app.command(epilog="Example: recsys prepare -c run.toml --set data.memory_limit=8GB")
def prepare(config: Config = None, set_: Set = None) -> None:
    """Check the tables, lay them out for training; once for a log."""
    settings = _run_config(config, set_)
    from pipelines.run import prepare_data
    from recsys.progress import showing

    with showing() as show:
        prepared = prepare_data(settings, show)
    say(facts_table(f"prepared in {prepared.folder}", prepared.manifest.model_dump()))


@app.command(epilog="Example: recsys train -c run.toml --set training.max_epochs=5")
def train(config: Config = None, set_: Set = None, start: From = None) -> None:
    """Train and measure a model; register it in MLflow."""
    _train(_run_config(config, set_), start)


@app.command(epilog="Example: recsys evaluate -c run.toml --model models:/recommender/3")
def evaluate(model: Model = None, config: Config = None, set_: Set = None) -> None:
    """Measure a registered model on the test window."""
    settings = _run_config(config, set_)
    from pipelines.measure import evaluate_model
    from pipelines.report import quality_table
    from recsys.progress import showing

    uri = model or f"models:/{settings.tracking.model}@champion"
    with showing() as show:
        report = evaluate_model(settings, uri, show)
    say(quality_table(report))


@app.command(epilog="Example: recsys recommend --as-of 2026-08-20T00:00:00Z --k 10")
def recommend(
    model: Model = None, as_of: AsOf = None, k: K = None, config: Config = None, set_: Set = None
) -> None:
    """Make every user's list: a sealed release, not published yet."""
    overrides = [*(set_ or []), *([] if k is None else [f"serving.k={k}"])]
    folder = _recommend(_run_config(config, overrides), model, as_of)
    say(f"publish it: recsys publish {folder}")


@app.command(epilog="Example: recsys publish --store runs/store")
def publish(
    release: Release = None, config: Config = None, set_: Set = None, store: Store = None
) -> None:
    """Let readers read a release: verify it, load it, switch to it."""
    from serving.config import find_release

    places = _serving_config(config, set_, store=store)
    _publish(find_release(release, places.releases), places.store)


@app.command(epilog="Example: recsys rollback --store runs/store")
def rollback(config: Config = None, set_: Set = None, store: Store = None) -> None:
    """Go back to the release before the current one."""
    folder = _serving_config(config, set_, store=store).store
    from serving import stores

    say(f"{folder}: release {stores.rollback(folder)} is current again")


@app.command(epilog="Example: recsys releases -c run.toml")
def releases(config: Config = None, set_: Set = None, store: Store = None) -> None:
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
    host: Host = None, port: Port = None, config: Config = None, set_: Set = None,
    store: Store = None,
) -> None:  # fmt: skip
    """Answer over HTTP from the store, until Ctrl-C."""
    places = _serving_config(config, set_, store=store, host=host, port=port)
    from serving import api

    api.serve(places.store, places.host, places.port)


@app.command(epilog="Example: recsys run -c run.toml")
def run(config: Config = None, set_: Set = None) -> None:
    """Prepare, train, make the champion's lists, publish them."""
    _run(_run_config(config, set_))


@tune.command(epilog="Example: recsys tune candidates -c run.toml --budget 300")
def candidates(config: Config = None, set_: Set = None, budget: Budget = 300) -> None:
    """Choose how many candidates each source brings; print it for the config file."""
    settings = _run_config(config, set_)
    from pipelines import figures, quotas
    from recsys.progress import showing

    with showing() as show:
        reach, path = quotas.tune_candidates(settings, budget, show)
    now = settings.candidates.quotas
    points = [(reach.candidates(some), reach.recall(some)) for some in (*path, now)]
    picture = settings.run_dir / "candidates.png"
    figures.draw_quotas(points[:-1], points[-1], picture)
    say(quotas.quotas_table(reach, now, path[-1]), f"the curve: {picture}", "")
    say(quotas.quotas_toml(path[-1], settings.candidates))


@app.command(epilog="Example: recsys demo --folder runs/demo")
def demo(folder: Folder = Path("runs/demo"), set_: Set = None) -> None:
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
    from pipelines.report import continued_lines, quality_table
    from recsys.progress import showing

    with showing() as show:
        trained = training.train(settings, show, start)
    table = quality_table(trained.report)
    say(table, *continued_lines(trained.report))
    say(f"{trained.alias} {trained.model_uri}, run {trained.run_id}: {trained.folder}")
    return table


def _recommend(settings: RunConfig, model: str | None, as_of: str | None) -> Path:
    from recsys.progress import showing
    from serving import batch

    uri = model or f"models:/{settings.tracking.model}@champion"
    with showing() as show:
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


def _refuse(message: str) -> NoReturn:
    typer.echo(f"recsys: {message}", err=True)
    raise SystemExit(2)


if __name__ == "__main__":
    main()
