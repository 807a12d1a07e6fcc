"""Whoever makes the parts, and whatever happens to them: the same bytes, or a bucket is named."""

import os
import signal
import time
from dataclasses import replace
from multiprocessing import active_children

import numpy as np
import pytest

from recsys.errors import BucketError
from serving.audience import ALL, bucket_of
from serving.executors import _pool, in_processes, in_this_process
from serving.sharing import share

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def buckets(shop):
    prepared, work = shop
    return [bucket_of(prepared, number, ALL, work.moment) for number in range(prepared.n_buckets)]


@pytest.fixture(scope="module")
def expected(shop, buckets):
    parts = list(in_this_process(shop[1], buckets, lambda done: None))
    assert len(parts) == len({part.data for part in parts}) >= 4
    return {part.number: part for part in parts}


class Deadly:
    """Ends the process that reads it."""

    def __reduce__(self):
        return os._exit, (1,)


def test_worker_processes_write_the_same_bytes_whatever_the_order_and_though_one_is_killed(
    shop, buckets, expected, tmp_path
):
    found = {}
    path = tmp_path / "shared.bin"
    for part in in_processes(shop[1], reversed(buckets), 2, path):
        if not found:
            os.kill(active_children()[0].pid, signal.SIGKILL)
        found[part.number] = part
    assert found == expected
    assert not path.exists() and not active_children()


def test_a_bucket_that_kills_its_workers_is_named(shop, buckets, tmp_path):
    bad = [replace(one, ids=Deadly()) if one.number == 1 else one for one in buckets]
    with pytest.raises(BucketError, match="bucket 1 failed 3 times.* worker died"):
        list(in_processes(shop[1], bad, 2, tmp_path / "shared.bin"))
    assert not active_children()


def test_a_bucket_that_cannot_be_made_is_named_with_what_its_worker_said(shop, buckets, tmp_path):
    log = replace(buckets[1].log, item=buckets[1].log.item + np.int32(10**6))
    bad = [replace(one, log=log) if one.number == 1 else one for one in buckets]
    with pytest.raises(BucketError, match="(?s)bucket 1 failed 3 times.*ValueError"):
        list(in_processes(shop[1], bad, 2, tmp_path / "shared.bin"))


def test_workers_end_with_their_job_whatever_they_are_at(tmp_path):
    share("nothing", tmp_path / "shared.bin")
    with _pool(2, tmp_path / "shared.bin") as pool:
        assert [pool.submit(abs, -at).result() for at in range(4)] == [0, 1, 2, 3]
        at_work = [pool.submit(time.sleep, 3600) for _ in range(2)]
        workers = active_children()
        assert len(workers) == 2
    assert all(worker.exitcode is not None for worker in workers)
    assert all(one.exception() for one in at_work)
