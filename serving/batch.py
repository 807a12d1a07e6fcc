"""The batch job: a registered model and today's events become one sealed release.

Users go through by bucket, in blocks; each bucket's lists are one Parquet part, written whole. A
job that was killed goes on with the same release: parts that are what their records say stay, the
rest is made. The manifest comes last, so a release is either complete or no release. Only then is
it sent to where other machines find it, if the config names a place.
"""

from __future__ import annotations

import platform
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path

from pipelines import tracking
from pipelines.config import fingerprint
from pipelines.model import Recommender, at_moment, load_model
from pipelines.moments import read_moment
from pipelines.prepared import Prepared
from pipelines.run import git_commit, prepare_data
from pipelines.settings import RunConfig
from pipelines.textmodel import Show
from recsys.errors import RemoteError
from recsys.remote import Place, open_place
from recsys.threads import n_threads
from serving.audience import ALL, Audience, allowed_items, audience_of, bucket_of
from serving.coverage import catalogue_of, reach_of
from serving.executors import in_processes, in_this_process
from serving.manifest import Model
from serving.parts import Bucket, Part, Work, fallback_table
from serving.plan import Plan, begin, finish, made, open_folder, write_made
from serving.release import is_sealed, seal, write_fallback
from serving.transfer import is_sent, send_release

LISTS = "make lists"  # the task that progress is shown of
DEPENDS_ON = ("numpy", "scipy", "torch", "lightgbm", "pyarrow")  # packages that lists are made with


@dataclass(frozen=True)
class Job:
    """Everything that is settled before the first list is made."""

    config: RunConfig
    prepared: Prepared
    recommender: Recommender
    model: Model
    moment: int
    audience: Audience
    plan: Plan
    folder: Path  # of the release, made or not
    done: frozenset[int]  # parts that are there and whole
    work: Work
    remote: Place | None  # where releases are sent


def recommend(config: RunConfig, model_uri: str, as_of: str | None, show: Show) -> Path:
    """Make lists for users with a history before `as_of`, plus the fallback list.

    Args:
        config: data, cache and release folders; whose lists, and who makes them.
        model_uri: models:/NAME@ALIAS or models:/NAME/VERSION.
        as_of: ISO moment (UTC if it names no zone); None = just after the last day with events.
        show: progress.

    Returns:
        The sealed release folder.

    Raises:
        ConfigError: no such model, a moment or file that cannot be read, or data that does not fit.
        BucketError: the lists of a bucket cannot be made; the release stays unsealed.
        RemoteError: data cannot be fetched, or the sealed release not be sent.
    """
    job = open_job(config, model_uri, as_of, show)
    if not is_sealed(job.folder):
        _make(job, show)
    if job.remote is not None:
        _send(job.folder, job.remote, show)
    return job.folder


def _send(folder: Path, remote: Place, show: Show) -> None:
    """Bring a sealed release to the place of all releases.

    Raises:
        RemoteError: the place cannot be written; what is there is no release before it is whole.
    """
    try:
        send_release(folder, remote.below(folder.name), show)
    except RemoteError as error:
        raise RemoteError(
            f"{error}; {folder} is whole and waits here: 'recsys send {folder.name}' goes on"
        ) from error


def _make(job: Job, show: Show) -> None:
    """Make the lists that are left and seal the release."""
    plan = job.plan
    begin(job.folder, plan)
    write_fallback(job.folder, fallback_table(job.work))
    for part in shown_parts(job, show):
        write_made(job.folder, part)
    seal(
        job.folder, created_at=plan.created_at, as_of=plan.as_of, model=job.model,
        data_fingerprint=plan.data_fingerprint, config_fingerprint=plan.config_fingerprint,
        code_commit=plan.code_commit, k=plan.k, metrics=job.recommender.card.metrics,
        catalogue=catalogue_of(job.prepared, job.moment),
        reach=reach_of(job.prepared, job.folder, job.moment, job.audience),
    )  # fmt: skip
    finish(job.folder)


def open_job(config: RunConfig, model_uri: str, as_of: str | None, show: Show) -> Job:
    """Settle everything that is not a list, and find out what is done already; no list is made.

    Data is prepared and texts are encoded on the way, as far as that was not done before.

    Raises:
        ConfigError: as `recommend` does.
    """
    now = datetime.now(UTC).isoformat(timespec="seconds")
    remote = open_place(config.serving.remote) if config.serving.remote else None
    registered, model_folder = tracking.find_model(config, model_uri)
    prepared = prepare_data(config, show)
    moment, as_of_text = read_moment(as_of, prepared, now)
    audience = audience_of(config.batch, prepared, moment)
    only, exclude, n_unknown = allowed_items(config.batch.exclude, prepared.items())
    for what, count in (("batch.users", audience.n_unknown), ("batch.exclude", n_unknown)):
        if count:
            show(what, 0, 0, f"careful: {count:,} of its ids are not in the data")
    recommender = load_model(model_folder)
    plan = Plan(
        created_at=now, as_of=as_of_text, model_uri=registered.uri, model_run=registered.run_id,
        data_fingerprint=prepared.manifest.fingerprint,
        config_fingerprint=fingerprint(config.portable()), code_commit=git_commit(),
        k=config.serving.k, n_buckets=prepared.n_buckets, users=audience.words, exclude=exclude,
        packages=packages(), threads=n_threads(),
    )  # fmt: skip

    def is_done(folder: Path) -> bool:
        return is_sealed(folder) and (remote is None or is_sent(folder, remote.below(folder.name)))

    folder, plan, why = open_folder(config.serving.releases, plan, is_done)
    done, n_bad = made(folder, plan.n_buckets)
    if is_sealed(folder):
        done, n_bad = frozenset(range(plan.n_buckets)), 0
    if why:
        bad = f", {n_bad} not as their records say and made again" if n_bad else ""
        show("release", 0, 0, f"{why}; {len(done)} of {plan.n_buckets} parts are done{bad}")
    method, snapshot = at_moment(recommender, prepared, moment, config.run_dir / "embeddings",
                                  show)  # fmt: skip
    work = Work(method, snapshot, recommender.scorer, recommender.heads, moment, plan.k, only)
    model = Model(name=registered.name, version=registered.version, uri=registered.uri,
                  run_id=registered.run_id)  # fmt: skip
    return Job(config, prepared, recommender, model, moment, audience, plan, folder, done, work,
               remote)  # fmt: skip


def shown_parts(job: Job, show: Show) -> Iterator[Part]:
    """Make the parts that are not done, and show how many users are behind us."""
    sizes = job.prepared.bucket_sizes()
    total, behind = int(sizes.sum()), int(sizes[sorted(job.done)].sum())
    what = "users" if job.audience.words == ALL.words else "users looked through"

    def on_block(count: int) -> None:
        show(LISTS, behind + count, total, what)

    if job.done:
        on_block(0)
    for part in make_parts(job.work, left_buckets(job), job.config, on_block):
        yield part  # is on disk when we go on
        behind += int(sizes[part.number])
        on_block(0)


def left_buckets(job: Job) -> Iterator[Bucket]:
    """Read the buckets whose parts are not done, one after the other."""
    for number in range(job.plan.n_buckets):
        if number not in job.done:
            yield bucket_of(job.prepared, number, job.audience, job.moment)


def make_parts(
    work: Work, buckets: Iterator[Bucket], config: RunConfig, on_block: Callable[[int], None]
) -> Iterator[Part]:
    """Make parts by whoever the config names; they come as they are ready.

    Raises:
        BucketError: the lists of a bucket cannot be made.
        ConfigError: there is no Ray cluster where the config says.
    """
    batch = config.batch
    if batch.executor == "local":
        return in_this_process(work, buckets, on_block)
    if batch.executor == "processes":
        workers = batch.workers or n_threads()
        return in_processes(work, buckets, workers, config.run_dir / "shared.bin")
    from serving.ray_cluster import in_ray

    return in_ray(work, buckets, batch.workers, batch.ray_address)


def packages() -> str:
    """Name the versions that the last bits of a score depend on."""
    found = [f"{name} {metadata.version(name)}" for name in DEPENDS_ON]
    return ", ".join([f"python {platform.python_version()} {platform.machine()}", *found])
