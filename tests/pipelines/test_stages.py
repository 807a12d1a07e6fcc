"""Stages add up their seconds and keep their own peak of memory."""

import subprocess
import sys
import time
from pathlib import Path

import pytest

from pipelines import stages
from pipelines.stages import Stages


def test_seconds_add_up_by_name_in_the_order_stages_ran(monkeypatch):
    clock = iter([10.0, 11.0, 20.0, 22.0, 30.0, 34.0])
    monkeypatch.setattr(time, "perf_counter", lambda: next(clock))
    measured = Stages()
    for name in ("read", "learn", "read"):
        with measured.measure(name):
            pass
    assert measured.seconds == {"read": (11 - 10) + (34 - 30), "learn": 22 - 20}
    assert list(measured.seconds) == list(measured.peak_memory_bytes) == ["read", "learn"]


def test_a_stage_keeps_the_larger_of_its_peaks(monkeypatch):
    peaks = iter([300, 200, 500])
    monkeypatch.setattr(stages, "_peak", lambda: next(peaks))
    measured = Stages()
    for name in ("read", "read", "learn"):
        with measured.measure(name):
            pass
    assert measured.peak_memory_bytes == {"read": max(300, 200), "learn": 500}


ALONE = """
import numpy as np
from pipelines.stages import Stages
measured = Stages()
with measured.measure("large"):
    np.ones({size}, np.uint8).sum()
with measured.measure("small"):
    pass
print(measured.peak_memory_bytes["large"] - measured.peak_memory_bytes["small"])
"""


def test_a_peak_is_that_of_the_stage_alone():
    """In a process of its own: threads that other tests left here take and give back memory too."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        pytest.skip("this system cannot reset the peak")
    size = 64 * 2**20
    command = [sys.executable, "-c", ALONE.format(size=size)]
    grown = int(subprocess.run(command, capture_output=True, check=True).stdout)
    assert size * 0.9 < grown < size * 1.5


def test_a_stage_that_failed_is_not_counted():
    measured = Stages()
    with pytest.raises(ZeroDivisionError), measured.measure("wrong"):
        1 / 0  # noqa: B018
    assert measured == Stages()
