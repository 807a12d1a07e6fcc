"""What a training ran on: the same machine kind, threads and versions give the same numbers."""

from __future__ import annotations

import contextlib
import platform
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pipelines.registry import requirements


def environment() -> dict[str, Any]:
    """Describe machine, threads and the versions of what we import."""
    import torch  # slow to load, and only for the number of its threads

    return {
        "python": platform.python_version(), "machine": platform.machine(),
        "processor": _processor(), "threads": torch.get_num_threads(),
        "cuda": torch.cuda.is_available(),
        "packages": requirements(["train"]),
    }  # fmt: skip


def differences(was: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Say in a line each what is not as it was."""
    lines = [f"{name} was {was.get(name)}, is {now[name]}" for name in now
             if name != "packages" and was.get(name) != now[name]]  # fmt: skip
    pins, here = (dict(pin.split("==") for pin in one.get("packages", [])) for one in (was, now))
    return lines + [f"{name} was {pins.get(name)}, is {here.get(name)}"
                    for name in sorted(pins.keys() | here.keys())
                    if pins.get(name) != here.get(name)]  # fmt: skip


def _processor() -> str:
    """Name the processor, as Linux does; else what Python knows."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor()
