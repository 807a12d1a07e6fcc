"""Is this machine ready? All that can be missing is looked at, one line each; nothing is changed.

It runs on the base install too: whatever learns is imported only where it is looked at, and that it
is not installed is one of the findings.
"""

from __future__ import annotations

import importlib.metadata
import operator
import os
import re
import shutil
import sys
import tomllib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from serving.config import load_serving
from serving.reachable import Finding, existing, of_serving, readable, writable
from serving.settings import ServingConfig

if TYPE_CHECKING:
    from pipelines.settings import RunConfig

PROJECT = "recsys-text"
NEEDED_FOR = {  # extra -> what it is for; training is what a machine is for unless it only serves
    "train": "to prepare, train and make lists; a machine that only publishes or serves is ready",
    "serve": "for recsys serve",
    "tune": "for recsys tune ranker",
    "demo": "for recsys demo",
}
COMPARE: dict[str, Callable[[Any, Any], Any]] = {
    ">=": operator.ge, "<=": operator.le, "==": operator.eq, "!=": operator.ne,
    ">": operator.gt, "<": operator.lt,
}  # fmt: skip
LEAST_DISK, LEAST_MEMORY = 2 << 30, 2 << 30  # bytes


def examine(config: Path | None, overrides: Sequence[str]) -> list[Finding]:
    """Look at everything.

    Args:
        config: TOML file; None for the defaults.
        overrides: "section.key=value" each, stronger than the file.

    Raises:
        ConfigError, ServingError: the config itself is wrong.
    """
    found = [python_version(), *packages(requirements())]
    try:
        from pipelines.config import load_toml
        from pipelines.settings import RunConfig

        settings = load_toml(RunConfig, config, overrides)
    except ModuleNotFoundError:  # said by `packages`
        only = [one for one in overrides if one.strip().startswith("serving.")]
        places = load_serving(config, only)
    else:
        places = ServingConfig.model_validate(settings.serving.model_dump())
        found += [threads(), precision(), encoder(settings), memory(), tracking(settings),
                  disk(settings.run_dir), writable("run_dir", settings.run_dir)]  # fmt: skip
        found += [readable("data", one) for one in elsewhere(settings)]
    return [*found, *of_serving(places)]


def elsewhere(settings: RunConfig) -> list[str]:
    """Return the addresses of tables that are fetched before anything reads them."""
    from pipelines.fetching import sources_of
    from recsys.address import is_elsewhere

    return sorted({one.path for one in sources_of(settings.data) if is_elsewhere(one.path)})


def python_version() -> Finding:
    """Compare this Python with the oldest that is supported."""
    version, is_ok = sys.version.split()[0], sys.version_info >= (3, 11)
    return Finding("python", is_ok, version if is_ok else f"{version}; install 3.11 or later")


def requirements() -> list[str]:
    """Return what the project asks for, like 'torch>=2.6; extra == "train"'.

    In a checkout that is what its pyproject.toml says, else what was installed.
    """
    file = Path(__file__).parents[1] / "pyproject.toml"
    if not file.is_file():
        return importlib.metadata.requires(PROJECT) or []
    project = tomllib.loads(file.read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"].items()
    more = [f'{one}; extra == "{extra}"' for extra, some in extras for one in some]
    return [*project["dependencies"], *more]


def packages(asked: Sequence[str]) -> Iterator[Finding]:
    """Compare what is installed with what the project asks for, by extra.

    Args:
        asked: from `requirements`.
    """
    for extra in ("", *NEEDED_FOR):
        some = [one for one in map(_requirement, asked) if one[2] == extra]
        lost = [name for name, _, _ in some if not _version(name)]
        old = [p for name, specifier, _ in some if (p := _misfit(name, specifier))]
        target = f"{PROJECT}[{extra}]" if extra else PROJECT
        name = f"[{extra}]" if extra else "packages"
        if not lost and not old:
            yield Finding(name, True, ", ".join(f"{n} {_version(n)}" for n, _, _ in some))
        elif extra not in ("", "train") and not old:
            yield Finding(name, True, f"not installed; only needed {NEEDED_FOR[extra]}")
        else:
            why = f" ({NEEDED_FOR[extra]})" if extra else ""
            gone = [f"not installed: {', '.join(lost)}"] if lost else []
            said = f"{'; '.join([*gone, *old])}; pip install '{target}'{why}"
            yield Finding(name, False, said)


def threads() -> Finding:
    """Compare the threads of torch and BLAS with the cores this process may use."""
    import torch
    from threadpoolctl import threadpool_info

    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    cores = min(cores or 1, _quota() or cores or 1)
    blas = max((one["num_threads"] for one in threadpool_info()), default=1)
    said = f"torch {torch.get_num_threads()}, BLAS {blas}, on {cores} cores"
    if max(torch.get_num_threads(), blas) <= cores:
        return Finding("threads", True, said)
    return Finding("threads", False, f"{said}: they slow each other; set OMP_NUM_THREADS={cores}")


def precision() -> Finding:
    """Say how fast texts are encoded; without bfloat16 all works, slower."""
    import torch

    from recsys.encoder import has_bfloat16

    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    what = "yes" if has_bfloat16(device) else "no: texts are encoded in float32, at half the speed"
    return Finding("bfloat16", True, f"{what} ({device.type})")


def encoder(settings: RunConfig) -> Finding:
    """Load the text encoder and encode a text, without a network if HF_HUB_OFFLINE is set."""
    from recsys.encoder import load_encoder
    from recsys.errors import ConfigError

    try:
        dim = load_encoder(settings.encoder).encode(["red rose seeds"]).shape[1]
    except ConfigError as error:
        return Finding("encoder", False, str(error))
    return Finding("encoder", True, f"{settings.encoder.model}, {dim} dimensions, is on this disk")


def memory() -> Finding:
    """Look at the memory that is free."""
    free = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    whole = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    said = f"{free / 2**30:.1f} of {whole / 2**30:.1f} GiB free"
    is_ok = whole >= LEAST_MEMORY
    return Finding("memory", is_ok, said if is_ok else f"{said}: too little to train; 4 will do")


def disk(folder: Path) -> Finding:
    """Look at the room where a run writes."""
    there = existing(folder)
    free = shutil.disk_usage(there).free
    said = f"{free / 2**30:.1f} GiB free in {there}"
    is_ok = free >= LEAST_DISK
    return Finding("disk", is_ok, said if is_ok else f"{said}: make room, or set another run_dir")


def tracking(settings: RunConfig) -> Finding:
    """Ask MLflow."""
    from pipelines.tracking import reach
    from recsys.errors import ConfigError

    try:
        return Finding("MLflow", True, reach(settings))
    except ConfigError as error:
        return Finding("MLflow", False, str(error))


def _requirement(text: str) -> tuple[str, str, str]:
    """Cut 'name[x]>=1,<2; extra == "train"' into name, '>=1,<2' and 'train'."""
    needs, _, marker = text.partition(";")
    extra = re.search(r"extra\s*==\s*[\"']([\w-]+)[\"']", marker)
    cut = re.match(r"\s*([\w.-]+)\s*(?:\[[^\]]*\])?\s*(.*)", needs)
    assert cut is not None  # every requirement begins with a name
    return cut[1], cut[2].strip(), extra[1] if extra else ""


def _version(name: str) -> str:
    """Return the version of an installed package; "" if it is none."""
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return ""


def _misfit(name: str, specifier: str) -> str:
    """Say why an installed package is not what was asked for; "" if it is."""
    found = _version(name)
    for one in filter(None, specifier.split(",")):
        cut = re.match(r"\s*(>=|<=|==|!=|>|<)\s*([\w.]+)", one)
        if found and cut and not COMPARE[cut[1]](_numbers(found), _numbers(cut[2])):
            return f"{name} is {found}, asked for {specifier}"
    return ""


def _numbers(version: str) -> tuple[int, ...]:
    """Return (2, 13, 0) for "2.13.0+cpu"; no zeros are left out at the end."""
    found = re.match(r"\d+(?:\.\d+)*", version)
    numbers = [int(part) for part in found[0].split(".")] if found else []
    return (*numbers, *[0] * (4 - len(numbers)))


def _quota() -> int | None:
    """Return the cores that a container may use, rounded up; None if it may use all."""
    try:
        most, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
        return None if most == "max" else -(-int(most) // int(period))
    except (OSError, ValueError):
        return None
