"""The rules of docs/architecture.md, checked on the syntax tree of every file."""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
MAY_IMPORT: dict[str, set[str]] = {  # package -> project packages it may import
    "recsys": set(),
    "features": {"recsys"},
    "pipelines": {"recsys", "features"},
    "serving": {"recsys", "features", "pipelines"},
}
COMMAND_LINE = {  # the one door above all rooms: imports upwards, but lazily
    f"recsys/{name}.py"
    for name in ("cli", "cli_data", "cli_learning", "cli_lists", "cli_settings", "cli_whole")
}
READING_SIDE = {  # runs with the base install alone, and imports nothing else of ours
    f"serving/{name}.py"
    for name in (
        "access",
        "api",
        "attribution",
        "client",
        "comparison",
        "config",
        "entrance",
        "errors",
        "folder",
        "gates",
        "inspection",
        "listening",
        "lists",
        "manifest",
        "monitoring",
        "packing",
        "pointer",
        "publications",
        "publish",
        "redis_reader",
        "redis_server",
        "redis_store",
        "release",
        "replies",
        "settings",
        "sqlite",
        "standby",
        "statistics",
        "stores",
        "transfer",
        "unpacking",
    )
}
BASE_INSTALL = {"httpx", "pyarrow", "pydantic", "pydantic_core", "rich", "typer"}
ONE_DOOR = {  # outside system -> the only files that import it
    "accelerate": {"recsys/finetuning.py"},
    "peft": {"recsys/finetuning.py"},
    "duckdb": {"pipelines/database.py"},
    "faiss": {"recsys/index.py"},
    "fastapi": {"serving/api.py"},
    "implicit": {"recsys/baselines.py"},
    "jinja2": {"pipelines/page.py"},
    "lightgbm": {"recsys/ranker.py"},
    "matplotlib": {
        "pipelines/figures.py",
        "pipelines/comparefigures.py",
        "pipelines/pagefigures.py",
    },
    "mlflow": {
        "pipelines/registry.py",
        "pipelines/runs.py",
        "pipelines/tracking.py",
        "pipelines/upload.py",
    },
    "numba": {"recsys/kernels.py"},
    "optuna": {"pipelines/tuning.py"},
    "prometheus_client": {"serving/monitoring.py"},
    "ray": {"serving/ray_cluster.py"},
    "redis": {"serving/redis_server.py"},
    "sklearn": {"recsys/lexical.py"},
    "sqlite3": {"serving/sqlite.py"},
    "transformers": {"recsys/encoder.py", "recsys/training.py"},
    "uvicorn": {"serving/listening.py"},
}
LOAD_TORCH = {  # importing these files imports torch; the others do so inside functions, if at all
    "features/pair.py",
    "pipelines/explain.py",
    "recsys/candidates.py",
    "recsys/encoder.py",
    "recsys/alignment.py",
    "recsys/diversity.py",
    "recsys/finetuning.py",
    "recsys/index.py",
    "recsys/interest.py",
    "recsys/linear.py",
    "recsys/neighbours.py",
    "recsys/related.py",
    "recsys/scores.py",
    "recsys/threads.py",
    "recsys/training.py",
}
SAYS_NOTHING = {"base", "common", "handler", "helper", "manager", "misc", "processor", "util"}
LONGEST_FILE = 300  # lines

FILES = [
    str(path.relative_to(ROOT)) for package in MAY_IMPORT for path in (ROOT / package).rglob("*.py")
]
each_file = pytest.mark.parametrize("file", sorted(FILES))


def tree(file: str) -> ast.Module:
    return ast.parse((ROOT / file).read_text())


def run_at_import(node: ast.AST) -> Iterator[ast.AST]:
    """Yield the nodes below `node` that run when the module is imported."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            continue
        if isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test):
            continue
        yield child
        yield from run_at_import(child)


def imported(file: str, at_import: bool = False) -> set[str]:
    """Return the imports of a file, like "recsys.split.Windows"; `at_import`: without lazy ones."""
    names = set()
    for node in run_at_import(tree(file)) if at_import else ast.walk(tree(file)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            here = file.split("/")[:1] if node.level else []  # no package of ours has folders
            module = [*here, *([node.module] if node.module else [])]
            names |= {".".join([*module, alias.name]) for alias in node.names}
    return names


def packages(names: set[str]) -> set[str]:
    return {name.split(".")[0] for name in names}


def words(name: str) -> set[str]:
    """Split a file or class name into lower-case words in the singular."""
    return {word.lower().removesuffix("s") for word in re.findall(r"[A-Z]?[a-z]+|[A-Z]+", name)}


def test_there_is_something_to_check():
    assert {file.split("/")[0] for file in FILES} == MAY_IMPORT.keys()
    assert "recsys/dataset.py" in FILES
    assert "numpy" in packages(imported("recsys/dataset.py", at_import=True))


@each_file
def test_imports_only_point_down(file):
    package = file.split("/")[0]
    lazy_only = file in COMMAND_LINE
    ours = packages(imported(file, at_import=lazy_only)) & MAY_IMPORT.keys()
    forbidden = ours - MAY_IMPORT[package] - {package}
    how = "at import" if lazy_only else "at all"
    assert not forbidden, f"{file} must not import {sorted(forbidden)} {how}"


@each_file
def test_the_command_line_is_imported_by_nobody(file):
    if file not in COMMAND_LINE:
        assert not any(re.match(r"recsys\.cli(_\w+)?\b", name) for name in imported(file))


@pytest.mark.parametrize("file", sorted(READING_SIDE.intersection(FILES)))
def test_the_reading_side_imports_nothing_of_ours_but_itself(file):
    ours = {name for name in imported(file) if name.split(".")[0] in MAY_IMPORT}
    wrong = {name for name in ours if "/".join(name.split(".")[:2]) + ".py" not in READING_SIDE}
    assert not wrong, f"{file} must run without {sorted(wrong)}"


@pytest.mark.parametrize("file", sorted(READING_SIDE.intersection(FILES)))
def test_the_reading_side_needs_only_the_base_install(file):
    doors = {system for system, files in ONE_DOOR.items() if file in files}
    known = sys.stdlib_module_names | BASE_INSTALL | MAY_IMPORT.keys() | doors
    assert not packages(imported(file)) - known


@each_file
def test_each_outside_system_has_one_door(file):
    wrong = {
        system: sorted(ONE_DOOR[system])
        for system in packages(imported(file)) & ONE_DOOR.keys()
        if file not in ONE_DOOR[system]
    }
    assert not wrong, f"{file} must go through the door: {wrong}"


@each_file
def test_places_that_a_uri_names_have_one_door(file):
    names = {node.attr for node in ast.walk(tree(file)) if isinstance(node, ast.Attribute)}
    assert file == "recsys/remote.py" or not names & {"from_uri", "S3FileSystem"}


@each_file
def test_only_the_encoder_side_loads_torch_at_import(file):
    if file not in LOAD_TORCH:
        assert "torch" not in packages(imported(file, at_import=True))


@each_file
def test_names_are_nouns_of_the_field(file):
    classes = [node.name for node in ast.walk(tree(file)) if isinstance(node, ast.ClassDef)]
    wrong = [name for name in [Path(file).stem, *classes] if words(name) & SAYS_NOTHING]
    assert not wrong, f"{file}: {wrong} say nothing about what is inside"


@each_file
def test_a_file_says_why_it_exists(file):
    module = tree(file)
    assert ast.get_docstring(module) or not module.body, f"{file} has no module docstring"


@each_file
def test_a_file_is_short(file):
    n_lines = len((ROOT / file).read_text().splitlines())
    assert n_lines <= LONGEST_FILE, f"{file} has {n_lines} lines"
