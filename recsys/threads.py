"""Blocks of work in threads, each on one core: as many as the process has, the same bytes with any.

Most of a block's work is a library's (NumPy, SciPy, torch, LightGBM), which lets other threads run
meanwhile, but only some of it uses more than one core by itself.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
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
    n_threads = torch.get_num_threads()
    waiting: deque[Future[Result]] = deque()
    with _one_each(), ThreadPoolExecutor(n_threads) as pool:
        for task in tasks:
            waiting.append(pool.submit(work, task))
            if len(waiting) > n_threads:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


@contextmanager
def _one_each() -> Iterator[None]:
    """Give torch and BLAS one thread, and back what they had."""
    n_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with threadpool_limits(1, "blas"):
            yield
    finally:
        torch.set_num_threads(n_threads)
