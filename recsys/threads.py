"""Blocks of work in threads, each on one core: as many as the process has, the same bytes with any.

Most of a block's work is a library's (NumPy, SciPy, torch, LightGBM), which lets other threads run
meanwhile, but only some of it uses more than one core by itself.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from threading import Lock
from typing import TypeVar

import torch
from threadpoolctl import threadpool_limits

Task = TypeVar("Task")
Result = TypeVar("Result")


def in_threads(work: Callable[[Task], Result], tasks: Iterable[Task]) -> Iterator[Result]:
    """Yield `work(task)` for each task, in their order.

    Inside `work` torch and BLAS have one thread, so a result has the same bits however many run at
    once. At most one result a thread waits to be taken: memory is that of some blocks.

    Args:
        work: must not change what other tasks read, and draw nothing from a shared generator.
        tasks: taken one after the other, in the caller's thread.
    """
    waiting: deque[Future[Result]] = deque()
    with _ONE_EACH as n_threads, ThreadPoolExecutor(n_threads) as pool:
        for task in tasks:
            waiting.append(pool.submit(work, task))
            if len(waiting) > n_threads:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


def n_threads() -> int:
    """Return how many threads this process works with."""
    return int(torch.get_num_threads())


def one_thread() -> None:
    """Leave torch and BLAS one thread for good: for a process that works beside others."""
    threadpool_limits(1, "blas")
    torch.set_num_threads(1)


class _OneEach:
    """Torch and BLAS have one thread while anybody is inside, and what they had when all are out.

    The setting is the process's: two servings at once, one ended before the other, must not leave
    the first one's limit behind.
    """

    def __init__(self) -> None:
        self.lock, self.inside, self.n_threads = Lock(), 0, 1

    def __enter__(self) -> int:
        """Return how many threads torch had."""
        with self.lock:
            if not self.inside:
                self.n_threads = torch.get_num_threads()
                torch.set_num_threads(1)
                self.blas = threadpool_limits(1, "blas")
            self.inside += 1
            return self.n_threads

    def __exit__(self, *_: object) -> None:
        with self.lock:
            self.inside -= 1
            if not self.inside:
                self.blas.restore_original_limits()
                torch.set_num_threads(self.n_threads)  # last: a BLAS may share torch's threads


_ONE_EACH = _OneEach()
