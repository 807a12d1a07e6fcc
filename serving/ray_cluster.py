"""The one door to Ray: parts made by the workers of a cluster.

Ray does what it is for: it holds what all buckets share once a node (arrays are read in place, not
copied), spreads buckets over the nodes, and does them again where a worker or a node dies. Here is
only how a bucket is handed over and a part taken back. Buckets and parts pass through the object
store, so the machines of a cluster need this code and no folder in common.
"""

from __future__ import annotations

import logging
import os
import warnings
from collections.abc import Iterable, Iterator
from typing import Any

# before ray is loaded: nothing leaves the machine, and no warning of what it will do one day
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")

import ray

from recsys.errors import ConfigError
from recsys.threads import one_thread
from serving.executors import TRIES, give_up
from serving.parts import Bucket, Part, Work, make_part

_held: dict[str, Work] = {}  # in a worker: what all buckets of a job share


def in_ray(
    work: Work, buckets: Iterable[Bucket], workers: int | None, address: str | None
) -> Iterator[Part]:
    """Make parts on a Ray cluster, one bucket a worker of one CPU at a time.

    Args:
        work: what is known to all.
        buckets: taken one after the other, in this process.
        workers: how many buckets at once; None = as many as the cluster has CPUs.
        address: of a running cluster, such as "auto"; None = one is started here and ended after.

    Raises:
        ConfigError: no cluster answers at the address.
        BucketError: a bucket failed `TRIES` times.
    """
    _join(address, workers)
    try:
        resources: Any = ray.cluster_resources  # has no types
        at_once = workers or max(1, int(resources().get("CPU", 1)))
        held = ray.put(work)
        make: Any = ray.remote(_make).options(
            num_cpus=1, max_retries=TRIES - 1, retry_exceptions=True, scheduling_strategy="SPREAD"
        )
        running: dict[Any, int] = {}
        for bucket in buckets:
            ready = _next_part(running) if len(running) >= at_once else None
            running[make.remote([held], bucket)] = bucket.number
            if ready is not None:
                yield ready
        while running:
            yield _next_part(running)
    finally:
        ray.shutdown()


def _join(address: str | None, workers: int | None) -> None:
    """Connect to a cluster, or start one of this machine's own.

    Raises:
        ConfigError: no cluster answers at the address.
    """
    quiet: dict[str, Any] = {"logging_level": logging.ERROR, "log_to_driver": False}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of Ray about its own settings
        if address is None:
            ray.init(num_cpus=workers, include_dashboard=False, **quiet)
            return
        try:
            ray.init(address, **quiet)
        except (ConnectionError, ValueError, RuntimeError) as error:
            first = (str(error).splitlines() or [type(error).__name__])[0]
            raise ConfigError(
                f"batch.ray_address: no Ray cluster answers at {address} ({first}); start one with "
                "'ray start --head', or leave the address out to use this machine alone"
            ) from error


def _next_part(running: dict[Any, int]) -> Part:
    """Wait for the part that is ready first.

    Raises:
        BucketError: its bucket failed `TRIES` times.
    """
    [ready], _ = ray.wait(list(running))
    number = running.pop(ready)
    try:
        part: Part = ray.get(ready)
    except ray.exceptions.RayError as error:
        raise give_up(number, str(error)) from error
    return part


def _make(held: list[Any], bucket: Bucket) -> Part:
    """Make one part, in a worker; what is shared is opened once by each."""
    key = held[0].hex()
    if key not in _held:
        one_thread()
        # arrays in Ray's store are read-only, which torch says of each; we write to none
        warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
        _held.clear()
        _held[key] = ray.get(held[0])
    return make_part(_held[key], bucket)
