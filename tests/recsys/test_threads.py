"""Work in threads: results in order, one thread inside each, and everything put back after."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import pytest
import torch

from recsys.threads import in_threads


@pytest.fixture(params=[1, 3])
def n_threads(request: pytest.FixtureRequest) -> Iterator[int]:
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(before)


def test_results_come_in_the_order_of_the_tasks(n_threads: int) -> None:
    def slower_first(task: int) -> int:
        time.sleep(0.02 * (task == 0))
        return task * task

    assert list(in_threads(slower_first, range(7))) == [0, 1, 4, 9, 16, 25, 36]


def test_as_many_tasks_run_at_once_as_torch_has_threads(n_threads: int) -> None:
    meeting = threading.Barrier(n_threads, timeout=10)  # breaks if fewer ever come together
    found = list(in_threads(lambda _: meeting.wait(), range(n_threads * 2)))
    assert sorted(found) == sorted(2 * [*range(n_threads)])


def test_inside_the_work_torch_has_one_thread_and_after_it_what_it_had(n_threads: int) -> None:
    inside = list(in_threads(lambda _: torch.get_num_threads(), range(4)))
    assert inside == [1, 1, 1, 1]
    assert torch.get_num_threads() == n_threads


def test_a_fault_is_raised_and_the_threads_are_given_back(n_threads: int) -> None:
    def fails_at_two(task: int) -> int:
        if task == 2:
            raise ValueError("two")
        return task

    results = in_threads(fails_at_two, range(9))
    assert [next(results), next(results)] == [0, 1]
    with pytest.raises(ValueError, match="two"):
        next(results)
    assert torch.get_num_threads() == n_threads


def test_few_results_wait_while_nobody_takes_them(n_threads: int) -> None:
    taken = []

    def tasks() -> Iterator[int]:
        for task in range(50):
            taken.append(task)
            yield task

    next(in_threads(lambda task: task, tasks()))
    assert len(taken) == n_threads + 1


def test_two_at_once_have_as_many_threads_each_and_leave_what_there_was(n_threads: int) -> None:
    meeting = threading.Barrier(n_threads, timeout=10)
    one = in_threads(lambda task: task, range(2 * n_threads + 2))
    next(one)
    other = in_threads(lambda _: meeting.wait(), range(2 * n_threads))
    next(other)
    assert len(list(one)) == 2 * n_threads + 1  # the first to begin is the first to end
    assert torch.get_num_threads() == 1
    assert len(list(other)) == 2 * n_threads - 1
    assert torch.get_num_threads() == n_threads
