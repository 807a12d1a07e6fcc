"""A comparison's page stands alone and can be read in a browser; the terminal says the same."""

import re
import subprocess
from datetime import UTC, datetime

import pytest
from typer.testing import CliRunner

from pipelines.compare import compare_runs
from pipelines.comparereport import said, write_comparison
from pipelines.compareverdict import sentence
from recsys.cli import app

MOST_BYTES = 5_000_000


@pytest.fixture(scope="module")
def found(store):
    return compare_runs(store.config, ["last 6"])


@pytest.fixture(scope="module")
def page(found, tmp_path_factory):
    file = tmp_path_factory.mktemp("page") / "compare.html"
    write_comparison(found, file, datetime(2026, 1, 2, tzinfo=UTC))
    return file


def test_the_page_says_what_was_compared_on_what_and_what_came_of_it(found, page):
    text = page.read_text()
    assert sentence(found, found.best) in text.replace("&#39;", "'")
    for words in ("What was compared", "For whom", "How the lists differ", "How it was tested",
                  "What it costs", "Users whose lists changed most", "Holm"):  # fmt: skip
        assert words in text
    assert all(one.other.run.name in text for one in found.others)


def test_the_page_needs_nothing_but_itself(page):
    text = page.read_text()
    assert page.stat().st_size < MOST_BYTES
    assert not re.findall(r"<(?:link|img|script|iframe)|@import|url\((?!#)", text)
    ids = re.findall(r'\bid="([^"]+)"', text)
    assert len(ids) == len(set(ids)) > 10


@pytest.mark.parametrize("width", [1280, 400])
def test_the_page_fits_its_window_and_the_browser_complains_of_nothing(
    page, chromium, tmp_path, width
):
    """A frame as wide as asked for holds the page, and says whether it had to be scrolled."""
    frame = tmp_path / "frame.html"
    frame.write_text(
        f'<iframe id="f" style="width:{width}px;height:900px" src="{page.as_uri()}"></iframe>'
        "<script>onload = () => { const d = document.getElementById('f').contentDocument"
        ".documentElement; document.title = `${d.scrollWidth} of ${d.clientWidth}`; "
        "document.body.dataset.wide = document.title }</script>"
    )
    done = subprocess.run(
        [chromium, "--headless=new", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr",
         "--allow-file-access-from-files", f"--user-data-dir={tmp_path / 'profile'}",
         "--virtual-time-budget=5000", "--dump-dom", frame.as_uri()],
        capture_output=True, text=True, check=True, timeout=120,
    )  # fmt: skip
    assert "CONSOLE" not in done.stderr
    wide, window = re.search(r'data-wide="(\d+) of (\d+)"', done.stdout).groups()
    assert int(wide) <= int(window) <= width


def test_the_terminal_says_the_same(found):
    lines = [line for line in said(found) if isinstance(line, str)]
    assert sentence(found, found.best) in lines
    titles = [line for line in lines if line.startswith("──")]
    assert len(titles) == 7 and "What it costs" in titles[-1]


def test_the_command_compares_and_writes_the_page(store, tmp_path):
    file, where = tmp_path / "new" / "compare.html", f"run_dir={store.config.run_dir}"
    asked = ["compare", store.seeds[0], store.better[:10], "--html", str(file), "--set", where]
    done = CliRunner().invoke(app, asked)
    assert done.exit_code == 0, done.output
    assert f"{store.better[:8]} is better than {store.seeds[0][:8]}" in done.output
    assert file.exists()
