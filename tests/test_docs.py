"""What the docs say is so: pages are generated, links lead somewhere, keys exist, commands run."""

import ast
import os
import re
import runpy
import shlex
import shutil
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import typer

from docs import generate
from pipelines.config import load_toml
from pipelines.settings import RunConfig
from recsys import cli
from recsys.schema import ERRORS, WARNINGS
from serving.settings import ApiConfig

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / name for name in ("README.md", "CHANGELOG.md", "CONTRIBUTING.md")]
PAGES += sorted((ROOT / "docs").rglob("*.md"))
RUN_IN_ORDER = [ROOT / "README.md"]
RUN_IN_ORDER += [ROOT / "docs" / f"{name}.md" for name in ("quickstart", "data", "operations")]
SMALL = """
[encoder]
max_tokens = 16
[training]
max_epochs = 2
layer_passes = 1
layer_batch_events = 16
[ranker]
max_trees = 20
min_rows_in_leaf = 5
[evaluation]
resamples = 50
"""
each_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))


def blocks(text: str) -> list[tuple[str, str]]:
    """Return (language, content) of every fenced block."""
    return re.findall(r"^```(\w+)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


def code_spans(text: str) -> list[str]:
    """Return what stands between single backticks in a line."""
    return re.findall(r"(?<!`)`([^`\n]+)`(?!`)", text)


def cells(text: str) -> list[list[str]]:
    """Return the cells of every table row."""
    rows = [line for line in text.splitlines() if line.startswith("| ")]
    return [[cell.strip() for cell in re.split(r"(?<!\\)\|", row)[1:-1]] for row in rows]


def anchors(page: Path) -> set[str]:
    headings = re.findall(r"^#+ (.+)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


# --- pages and the code they are about ------------------------------------------------------------


@pytest.mark.parametrize("name", generate.PAGES)
def test_a_generated_page_is_what_the_code_says(name):
    text = (ROOT / "docs" / name).read_text()
    assert text == generate.PAGES[name](), "run python -m docs.generate"


@each_page
def test_every_link_leads_somewhere(page):
    for link in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
        if "://" in link:
            continue
        path, _, anchor = link.partition("#")
        target = page.parent / path if path else page
        assert target.exists(), link
        assert not anchor or anchor in anchors(target), link


@each_page
def test_every_file_of_ours_that_is_named_exists(page):
    rooms = "recsys|features|pipelines|serving|tests|benchmarks|examples|docs"
    for path in re.findall(rf"(?<![\w/.])(?:{rooms})/[\w/]+\.(?:py|md|toml|svg)", page.read_text()):
        assert (ROOT / path).exists(), path


@each_page
def test_every_config_key_exists(page):
    sections = generate.sections()
    text = page.read_text()
    named = code_spans(text) if page.name != "report.md" else []  # whose paths look like keys
    named += re.findall(r"--set ([a-z_.]+)", text)
    for name in named:
        section, _, rest = name.partition(".")
        key = re.match(r"\w*", rest)[0]
        is_module = (ROOT / section / f"{key}.py").exists()
        if section in sections and key and not is_module:
            assert key in sections[section].model_fields, name
        if below := re.match(r"serving\.api\.(\w+)", name):
            assert below[1] in ApiConfig.model_fields, name


@each_page
def test_every_config_is_valid(page, tmp_path):
    for language, content in blocks(page.read_text()):
        if language == "toml":
            (tmp_path / "run.toml").write_text(content)
            load_toml(RunConfig, tmp_path / "run.toml")


@each_page
def test_every_command_exists_with_its_options(page):
    commands = typer.main.get_command(cli.app).commands
    text = page.read_text()
    lines = [line.removeprefix("$ ") for language, content in blocks(text)
             if language in ("sh", "console", "text") for line in content.splitlines()]  # fmt: skip
    for line in [*lines, *code_spans(text)]:
        words = shlex.split(line, comments=True) if line.startswith("recsys ") else []
        if len(words) > 1 and not words[1].startswith("-"):
            arguments = words[2 : words.index("&") if "&" in words else None]
            command = commands[words[1]]
            while arguments and (below := getattr(command, "commands", None)):
                command = below[arguments.pop(0)]
            command.make_context(words[1], arguments)  # refuses unknown options


def test_every_fault_of_the_input_is_explained():
    rows = {row[0] for row in cells((ROOT / "docs/data.md").read_text())}
    assert rows >= ERRORS.keys() | WARNINGS.keys()


def test_every_fault_of_the_input_is_a_heading_of_the_troubleshooting_page():
    text = (ROOT / "docs/troubleshooting.md").read_text()
    refused, taken, run = (
        re.findall(r"^### (.+)$", part, re.MULTILINE) for part in text.split("\n## ")[1:]
    )
    assert (set(refused), set(taken)) == (ERRORS.keys(), WARNINGS.keys())
    assert len(run) >= 6
    assert [one for one in run if not any(one in text for text in all_that_is_said())] == []


def all_that_is_said() -> set[str]:
    """Return every string in our code, "…" where a value stands."""
    said = set()
    for room in ("recsys", "features", "pipelines", "serving"):
        for path in (ROOT / room).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.JoinedStr):
                    parts = [getattr(part, "value", "") for part in node.values]
                    said.add("".join(part if isinstance(part, str) else "…" for part in parts))
                elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                    said.add(node.value)
    return said


def test_every_message_that_is_explained_can_be_said():
    said = all_that_is_said()
    text = (ROOT / "docs/operations.md").read_text().split("## What a message means")[1]
    messages = [row[0].strip("`") for row in cells(text)[1:]]
    assert len(messages) > 20
    assert [one for one in messages if not any(one in text for text in said)] == []


def test_the_architecture_page_says_what_its_test_enforces():
    rules = runpy.run_path(str(ROOT / "tests/test_architecture.py"))
    text = (ROOT / "docs/architecture.md").read_text()
    tables = {row[0].strip("`"): set(code_spans(row[-1])) for row in cells(text)}
    assert {room: tables[room] for room in rules["MAY_IMPORT"]} == rules["MAY_IMPORT"]
    for system, allowed in rules["ONE_DOOR"].items():
        doors = {file for file in allowed if system in rules["packages"](rules["imported"](file))}
        assert tables.get(system, set()) == doors, system
    reading = text.split("**The reading side of serving**")[1].split("\n\n")[0]
    assert {f"serving/{name}.py" for name in code_spans(reading)} == rules["READING_SIDE"]
    assert all(name.split("_")[0] in reading for name in rules["BASE_INSTALL"])


@pytest.mark.slow
def test_the_report_page_names_every_path_of_a_report(later_world):
    report = later_world.report

    def leaves(value, path=""):
        if not isinstance(value, dict):
            return [path]
        return [leaf for key in value for leaf in leaves(value[key], f"{path}.{key}".lstrip("."))]

    text = (ROOT / "docs/report.md").read_text().split("\n## ")[0]  # other tables follow
    named = [row[0].strip("`") for row in cells(text)[1:]]
    patterns = {path: re.sub(r"<\w+>", "[^.]+", path.replace(".", r"\.")) for path in named}
    found = leaves(report)
    assert len(found) > 500
    assert [p for p in found if not any(re.fullmatch(q, p) for q in patterns.values())] == []
    unused = [path for path, q in patterns.items() if not any(re.fullmatch(q, p) for p in found)]
    rare = ("unseen_catalogue", "undefined")  # not in every report
    assert [path for path in unused if not any(word in path for word in rare)] == []


# --- the commands, run ----------------------------------------------------------------------------


def script(port: int) -> str:
    """Join the blocks of the docs that a reader runs, in order, into one for bash."""
    lines = ["set -euo pipefail"]
    for page in RUN_IN_ORDER:
        for number, (language, content) in enumerate(blocks(page.read_text()), start=1):
            content = content.replace("127.0.0.1:8000", f"127.0.0.1:{port}")
            if content.startswith("# run.toml\n"):
                content += f"port = {port}\n{SMALL}"  # its last table is [serving]
                lines.append(f"cat > run.toml <<'END_OF_BLOCK'\n{content}END_OF_BLOCK")
            elif language in ("sh", "python"):
                lines.append(f"echo '=== {page.name}, block {number}'")
                kept = [one for one in content.splitlines() if not one.startswith("make ")]
                if language == "python":
                    kept = ["python - <<'END_OF_BLOCK'", *kept, "END_OF_BLOCK"]
                lines += kept
    return "\n".join(lines) + "\n"


@pytest.fixture
def shop(tmp_path):
    """A checkout's examples and a small shop's tables; `recsys` and `python` are ours."""
    events, items = runpy.run_path(str(ROOT / "tests/conftest.py"))["small_tables"]()
    events["user_id"] = events["user_id"].str.removeprefix("u/")
    (tmp_path / "data").mkdir()
    events.to_parquet(tmp_path / "data/events.parquet")
    items.to_parquet(tmp_path / "data/items.parquet")
    shutil.copytree(ROOT / "examples", tmp_path / "examples")
    (tmp_path / "bin").mkdir()
    for name, command in (("recsys", "-m recsys.cli"), ("python", "")):
        path = tmp_path / "bin" / name
        path.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} {command} "$@"\n')
        path.chmod(0o755)
    return tmp_path


def test_the_docs_have_blocks_to_run():
    text = script(8000)
    assert text.count("\nrecsys ") >= 10 and "curl " in text and "python - " in text


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
def test_every_block_of_the_docs_runs(shop):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    env = os.environ | {"PATH": f"{shop / 'bin'}:{os.environ['PATH']}", "PYTHONPATH": str(ROOT)}
    with (shop / "said.txt").open("w") as said:
        shell = subprocess.Popen(
            ["bash", "-c", script(port)], cwd=shop, env=env, stdout=said, stderr=said,
            start_new_session=True,
        )  # fmt: skip
        try:
            code = shell.wait(timeout=900)
        finally:
            if shell.poll() is None or code:
                os.killpg(shell.pid, signal.SIGKILL)  # also a server in the background
            shell.wait()
    text = (shop / "said.txt").read_text()
    assert code == 0, text[-3000:]
    assert '"ready":true' in text and '"is_fallback":true' in text and "is current again" in text
