"""Commands for lists: recommend, send, publish, rollback, releases, serve, key."""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from recsys import options as opt
from recsys.cli_settings import gate_config, run_config, serving_config
from recsys.terminal import say

if TYPE_CHECKING:
    from pipelines.settings import RunConfig
    from serving.gates import Verdict
    from serving.settings import GateConfig, ServingConfig


commands = typer.Typer()


@commands.command(epilog="Example: recsys recommend --as-of 2026-08-20T00:00:00Z --k 10")
def recommend(
    model: opt.Model = None, as_of: opt.AsOf = None, k: opt.K = None, users: opt.Users = None,
    active_days: opt.ActiveDays = None, exclude: opt.Exclude = None, executor: opt.Executor = None,
    workers: opt.Workers = None, ray_address: opt.RayAddress = None, dry_run: opt.Outlook = False,
    config: opt.Config = None, set_: opt.Set = None,
) -> None:  # fmt: skip
    """Make every user's list: a sealed release, not published yet."""
    given = {
        "serving.k": k, "batch.users": users, "batch.active_days": active_days,
        "batch.exclude": exclude, "batch.executor": executor, "batch.workers": workers,
        "batch.ray_address": ray_address,
    }  # fmt: skip
    overrides = [f"{key}={json.dumps(value)}" for key, value in given.items() if value is not None]
    settings = run_config(config, [*(set_ or []), *overrides])
    if dry_run:
        tell_outlook(settings, model, as_of)
        return
    folder = make_release(settings, model, as_of)
    say(f"publish it: recsys publish {folder}")


@commands.command(epilog="Example: recsys send -c run.toml")
def send(release: opt.Sealed = None, config: opt.Config = None, set_: opt.Set = None) -> None:
    """Bring a sealed release to serving.remote, or go on with that."""
    from serving.errors import ServingError

    places = serving_config(config, set_)
    if not places.remote:
        raise ServingError(
            "serving.remote is empty: set it to where releases go, like s3://bucket/folder"
        )
    from recsys.progress import showing
    from recsys.remote import open_place
    from serving.config import find_release
    from serving.transfer import send_release

    folder = find_release(release, places.releases)
    place = open_place(places.remote).below(folder.name)
    with showing() as show:
        send_release(folder, place, show)
    say(f"release {place.shown}")


@commands.command(epilog="Example: recsys publish --store runs/store --dry-run")
def publish(
    release: opt.Release = None, config: opt.Config = None, set_: opt.Set = None,
    store: opt.Store = None, dry_run: opt.DryRun = False, force: opt.Anyway = False,
    reason: opt.Reason = None,
) -> None:  # fmt: skip
    """Let readers read a release: judge it, load it, switch to it."""
    from serving.errors import ServingError

    if force != bool((reason or "").strip()):
        raise ServingError("--force and --reason TEXT belong together: give both or none")
    of_gates = [one for one in set_ or [] if one.strip().startswith("gates.")]
    places = serving_config(config, [one for one in set_ or [] if one not in of_gates], store=store)
    gates = gate_config(config, of_gates)
    folder = meant_release(release, places)
    if dry_run:
        judge_release(folder, places.store, gates)
    else:
        publish_release(folder, places.store, gates, reason)


@commands.command(epilog="Example: recsys rollback --store runs/store")
def rollback(config: opt.Config = None, set_: opt.Set = None, store: opt.Store = None) -> None:
    """Go back to the release before the current one."""
    place = serving_config(config, set_, store=store).store
    from serving.stores import open_store, shown

    with closing(open_store(place)) as opened:
        say(f"{shown(place)}: release {opened.rollback()} is current again")


@commands.command(epilog="Example: recsys releases -c run.toml")
def releases(config: opt.Config = None, set_: opt.Set = None, store: opt.Store = None) -> None:
    """List the releases in the store."""
    place = serving_config(config, set_, store=store).store
    from rich.table import Table

    from serving.stores import open_store, shown

    with closing(open_store(place)) as opened:
        found = opened.releases()
    table = Table("release", "as of", "users", "model", "", title=f"releases in {shown(place)}")
    for one in found:
        current = ", ".join(["current"] * one.is_current + ["forced"] * bool(one.forced))
        table.add_row(one.release_id, one.as_of, f"{one.users:,}", one.model, current)
    say(table if found else f"{shown(place)}: no release yet; recsys publish brings one")


@commands.command(epilog="Example: recsys serve --store runs/store --port 8000")
def serve(
    host: opt.Host = None, port: opt.Port = None, config: opt.Config = None, set_: opt.Set = None,
    store: opt.Store = None,
) -> None:  # fmt: skip
    """Answer over HTTP from the store, until Ctrl-C."""
    places = serving_config(config, set_, store=store, host=host, port=port)
    from serving import api

    api.serve(places)


@commands.command(epilog="Example: recsys key checkout -c run.toml")
def key(name: opt.Holder, config: opt.Config = None, set_: opt.Set = None) -> None:
    """Make an API key: shown once, let in by its hash."""
    file = serving_config(config, set_).api.keys
    from serving.access import KEYS_VARIABLE, add_key, new_key

    secret, entry = new_key(name)
    if file is not None:
        add_key(file, entry)
    where = f"in {file}" if file else f"for serving.api.keys or {KEYS_VARIABLE}"
    say(f"key    {secret}  (for the holder; it is not kept)", f"entry  {entry}  ({where})")


def meant_release(release: str | None, places: ServingConfig) -> Path:
    """Find the release that is meant; one that lies elsewhere is brought here."""
    from serving import transfer
    from serving.config import find_release

    address = release if release and "://" in release else None
    is_here = not address and release and transfer.is_here(release, places.releases)
    if is_here or not (address or places.remote):
        return find_release(release, places.releases)
    from recsys.progress import showing
    from recsys.remote import open_place_near

    place = open_place_near(address or places.remote, places.remote)
    with showing() as show:
        if address:
            return transfer.fetch_release(place, places.releases, show)
        return transfer.meant_release(release, places.releases, place, show)


def make_release(settings: RunConfig, model: str | None, as_of: str | None) -> Path:
    """Make a release of everybody's lists; return its folder."""
    from pipelines import lock, tracking
    from serving import batch

    uri = tracking.asked_model(settings, model)  # before anything is made
    with lock.at_work(settings.run_dir) as show:
        folder = batch.recommend(settings, uri, as_of, show)
    say(f"release {folder}")
    return folder


def tell_outlook(settings: RunConfig, model: str | None, as_of: str | None) -> None:
    """Say what making a release would come to."""
    from pipelines import lock, tracking
    from serving import outlook

    uri = tracking.asked_model(settings, model)
    with lock.at_work(settings.run_dir) as show:
        found = outlook.outlook(settings, uri, as_of, show)
    say(*outlook.told(found))


def judge_release(release: Path, store: str, gates: GateConfig) -> None:
    """Say what the gates say of a release, and change nothing."""
    from serving import publish as publishing

    manifest, verdicts = publishing.judge_release(release, store, gates, datetime.now(UTC))
    say(*(one.line for one in verdicts))
    publishing.refuse_failed(verdicts, manifest.release_id)


def publish_release(
    release: Path, store: str, gates: GateConfig, reason: str | None = None, brief: bool = False
) -> None:
    """Publish a release; say what the gates say (`brief`: mostly what failed) and what changed."""
    from serving import publish as publishing
    from serving.gates import in_brief
    from serving.stores import shown

    def show(verdicts: Sequence[Verdict]) -> None:
        say(*(in_brief(verdicts) if brief else [one.line for one in verdicts]))

    done = publishing.publish(release, store, gates=gates, reason=reason, show=show)
    if done.forced:
        say(f"forced, {len(done.forced.failed)} gates failed: {done.forced.reason}")
    if not done.recorded:
        say(f"careful: {release.parent} cannot be written to; nothing there tells of this publish")
    what = "is current now" if done.switched else "was current already"
    say(f"{shown(store)}: release {done.release_id} {what}; {done.users:,} users")
    say(*(f"{shown(store)}: release {old} was too old and is deleted" for old in done.deleted))
