"""Parts made by this process, by worker processes of this machine, or by a Ray cluster.

All three take buckets one after the other and hold no more of them than there are workers, and one.
Parts come as they are ready. A worker has one thread; this process makes one bucket at a time with
all it has. What a worker needs beside a bucket is the same for all of them and shared.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from typing import TypeAlias

from recsys.errors import BucketError
from recsys.threads import one_thread
from serving.parts import Bucket, Part, Work, make_part
from serving.sharing import share, shared

TRIES = 3  # of a bucket, before the job gives up
WORDS = 4_000  # of what a worker said, at most, in characters

Failed: TypeAlias = tuple[Bucket, BaseException]

_held: list[Work] = []  # in a worker: what all buckets share


def in_this_process(
    work: Work, buckets: Iterable[Bucket], on_block: Callable[[int], None]
) -> Iterator[Part]:
    """Make parts here, blocks of users in threads; `on_block` hears how far a bucket is."""
    return (make_part(work, bucket, on_block) for bucket in buckets)


def in_processes(work: Work, buckets: Iterable[Bucket], workers: int, path: Path) -> Iterator[Part]:
    """Make parts in worker processes; a bucket that fails, or whose worker dies, is made again.

    Which of several buckets killed a worker cannot be told, so those that were begun are done again
    one at a time, each by a new worker: a machine short of memory gets by with that, too.

    Args:
        work: what is known to all; written to `path`, and mapped by every worker.
        buckets: taken one after the other, in this process.
        workers: how many processes.
        path: a file for the time of the call.

    Raises:
        BucketError: a bucket failed `TRIES` times.
    """
    rest = iter(buckets)
    try:
        share(work, path)
        while failed := (yield from _until_a_failure(rest, workers, path)):
            for bucket, error in failed:
                yield _alone(bucket, error, path)
    finally:
        path.unlink(missing_ok=True)


def give_up(number: int, said: str) -> BucketError:
    """Say which bucket cannot be made, and what its worker said."""
    return BucketError(
        f"bucket {number} failed {TRIES} times, so no release was made (the parts that are done "
        f"stay; the same command goes on with the rest); the last time: {said[-WORDS:]}"
    )


def _until_a_failure(
    rest: Iterator[Bucket], workers: int, path: Path
) -> Generator[Part, None, list[Failed]]:
    """Yield parts until all are made or something fails; return what failed."""
    running: dict[Future[Part], Bucket] = {}
    failed: list[Failed] = []
    with _pool(workers, path) as pool:
        while True:
            bucket = None if failed else next(rest, None)
            if bucket is not None:
                running[_submitted(pool, bucket)] = bucket
                if len(running) <= workers:  # one waits, so that no worker does
                    continue
            if not running:
                return failed
            for one in wait(running, return_when=FIRST_COMPLETED).done:
                bucket, error = running.pop(one), one.exception()
                if error is None:
                    yield one.result()
                else:
                    failed.append((bucket, error))


def _alone(bucket: Bucket, error: BaseException, path: Path) -> Part:
    """Make a bucket that failed once, each time in a new worker.

    Raises:
        BucketError: it fails again and again.
    """
    for _ in range(TRIES - 1):
        with _pool(1, path) as pool:
            one = _submitted(pool, bucket)
            again = one.exception()
            if again is None:
                return one.result()
            error = again
    died = isinstance(error, BrokenProcessPool)
    said = "its worker died; is there too little memory?" if died else str(error.__cause__ or error)
    raise give_up(bucket.number, said) from error


@contextmanager
def _pool(workers: int, path: Path) -> Iterator[ProcessPoolExecutor]:
    """Start workers that end with the block, whatever they are at, and if this process is killed.

    They hold the other end of a pipe: it closes when we go. All are forked from one process that
    has loaded this file and done nothing yet, so a new one costs no seconds of importing.
    """
    context = get_context("forkserver")
    context.set_forkserver_preload([__name__])
    theirs, ours = context.Pipe(duplex=False)
    pool = ProcessPoolExecutor(workers, context, _begin, (path, theirs))
    try:
        yield pool
    finally:
        ours.close()
        pool.shutdown(cancel_futures=True)
        theirs.close()


def _submitted(pool: ProcessPoolExecutor, bucket: Bucket) -> Future[Part]:
    """Hand a bucket over; a pool that is broken already is a failure like any other."""
    try:
        return pool.submit(_make, bucket)
    except BrokenProcessPool as error:
        failed: Future[Part] = Future()
        failed.set_exception(error)
        return failed


def _begin(path: Path, alive: Connection) -> None:
    """Begin a worker: one thread, the shared work, and an end when the job's process ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the job, which closes the pipe
    threading.Thread(target=_end_with, args=(alive,), daemon=True).start()
    one_thread()
    _held.append(shared(path))


def _end_with(alive: Connection) -> None:
    try:
        alive.recv_bytes()  # nothing is ever sent
    except EOFError:
        os._exit(1)


def _make(bucket: Bucket) -> Part:
    """Make one part, in a worker."""
    return make_part(_held[0], bucket)
