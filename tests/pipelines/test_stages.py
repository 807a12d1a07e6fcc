"""Stages add up their seconds and keep their own peak of memory."""

import time
from pathlib import Path

import numpy as np
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


def test_a_peak_is_that_of_the_stage_alone():
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        pytest.skip("this system cannot reset the peak")
    measured, size = Stages(), 64 * 2**20
    with measured.measure("large"):
        np.ones(size, np.uint8).sum()
    with measured.measure("small"):
        pass
    grown = measured.peak_memory_bytes["large"] - measured.peak_memory_bytes["small"]
    assert size * 0.9 < grown < size * 1.5


def test_a_stage_that_failed_is_not_counted():
    measured = Stages()
    with pytest.raises(ZeroDivisionError), measured.measure("wrong"):
        1 / 0  # noqa: B018
    assert measured == Stages()
