"""What a list job would do, how long and how big: measured on a block of users, nothing is written.

Nothing of a release, that is: data is prepared and texts are encoded, which the job itself then
finds done.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from itertools import cycle, islice

from pipelines.settings import RunConfig
from pipelines.textmodel import Show
from recsys.threads import n_threads
from serving.audience import bucket_of
from serving.batch import Job, left_buckets, open_job
from serving.parts import make_part

BLOCKS = 2  # that warm up; the one after them is measured


@dataclass(frozen=True)
class Outlook:
    """A list job that was not done."""

    release: str  # name of its folder
    model: str
    as_of: str
    users: int  # that get a list, in all
    left: int  # of them, in parts that are not done
    buckets: int
    done: int  # parts
    seconds: float  # for the parts that are left, with the threads or workers asked for
    bytes: int  # of all parts


def outlook(config: RunConfig, model_uri: str, as_of: str | None, show: Show) -> Outlook:
    """Settle what a job would do, make the lists of some users and throw them away.

    Args:
        config, model_uri, as_of, show: as `serving.batch.recommend` takes them.

    Raises:
        ConfigError: as `recommend` does.
    """
    job = open_job(config, model_uri, as_of, show)
    numbers = range(job.plan.n_buckets)
    sizes = [len(bucket_of(job.prepared, one, job.audience, job.moment).users) for one in numbers]
    left = sum(size for one, size in enumerate(sizes) if one not in job.done)
    seconds, size = measured(job)
    at_once = config.batch.workers or n_threads()
    return Outlook(
        release=job.folder.name, model=job.plan.model_uri, as_of=job.plan.as_of, users=sum(sizes),
        left=left, buckets=len(sizes), done=len(job.done), seconds=left * seconds / at_once,
        bytes=round(sum(sizes) * size),
    )  # fmt: skip


def measured(job: Job) -> tuple[float, float]:
    """Make the lists of some blocks, one after the other: (seconds, bytes) a user of the last.

    The first ones warm up what is computed once; a bucket of fewer blocks begins again. Nothing is
    left to make: (0, 0).
    """
    bucket = next((one for one in left_buckets(job) if len(one.users)), None)
    if bucket is None:
        return 0.0, 0.0
    size, seconds, n_bytes = job.work.method.block_size, 0.0, 0.0
    for at in islice(cycle(range(0, len(bucket.users), size)), BLOCKS + 1):
        block = replace(bucket, users=bucket.users[at : at + size], ids=bucket.ids[at : at + size])
        began = time.perf_counter()
        part = make_part(job.work, block)
        seconds = (time.perf_counter() - began) / part.users
        n_bytes = len(part.data) / part.users
    return seconds, n_bytes


def told(found: Outlook) -> list[str]:
    """Say it, a line a fact."""
    minutes, rest = divmod(round(found.seconds), 60)
    return [
        f"would make release {found.release}",
        f"model {found.model}, events before {found.as_of}",
        f"{found.users:,} users in {found.buckets:,} buckets; {found.done:,} parts are done, "
        f"{found.left:,} users are left",
        f"about {minutes} min {rest} s for the lists that are left and {found.bytes / 2**20:,.1f} "
        "MiB for all, by a block of users; nothing was written",
    ]
