"""The page of a run says what report.json says, needs nothing else, and opens in a browser."""

import copy
import html
import re
import subprocess
from datetime import UTC, datetime

import pytest

from pipelines.page import render
from pipelines.runpage import run_page, write_run_page
from pipelines.verdicts import SLICES

pytestmark = pytest.mark.slow
MADE = datetime(2026, 8, 20, tzinfo=UTC)


@pytest.fixture
def report(small_world):
    return copy.deepcopy(small_world.trained.report)


def page_of(report):
    return render(run_page(report, {"git_commit": "abc"}, MADE))


def test_training_writes_a_page_beside_the_report(small_world):
    [file] = small_world.trained.folder.glob("report.html")
    assert 50_000 < file.stat().st_size < 5_000_000
    assert (small_world.trained.folder / "report.json").is_file()


def test_every_model_slice_and_example_of_the_report_is_on_the_page(report):
    text = html.unescape(page_of(report))
    for name, windows in report["models"].items():
        assert name in text and f"{windows['test']['ndcg_at_10']:.4f}" in text
    for name, windows in report["slices"].items():
        assert SLICES[name] in text or "test" not in windows
    for one in report["examples"]:
        assert f"User {one['user']}, warm" in text
        assert all(row["reason"] in text for row in one["list"])
    for one in report["funnel"]["steps"]["test"]:
        assert one["step"] in text and f"{one['recall']:.4f}" in text
    assert "history_" not in text
    assert text.count("<svg") >= 12 and "git_commit abc" in text


def test_pages_of_two_runs_can_be_told_apart(report, small_world):
    run = small_world.trained.folder.name
    text = (small_world.trained.folder / "report.html").read_text()
    title = re.search("<title>(.*?)</title>", text)[1]
    assert title.startswith(f"Run {run[:8]}: what it learned") and f"<h1>{title}</h1>" in text
    assert f"recsys train, run {run}," in text
    assert run_page(report, {}, MADE, "abc", "shop").title == "Run abc: what it learned from shop"
    assert run_page(report, {}, MADE).title == "The run: what it learned"


def test_a_page_asks_for_nothing_from_elsewhere(report):
    text = page_of(report)
    assert not re.findall(r"<(?:link|img|script|iframe)|@import|url\((?!#)", text)
    links = set(re.findall(r'<a href="([^"]+)"', text))
    assert links == {f"#s{at}" for at in range(1, 14)}
    assert all(f'id="{link[1:]}"' in text for link in links)


def test_titles_of_the_data_never_become_markup(report):
    plain = page_of(report)
    hostile = '<script>alert("x")</script>'
    for one in report["examples"]:
        one["user"] = one["history"][0] = one["list"][0]["title"] = hostile
    text = page_of(report)
    assert "<script" not in text and text.count("&lt;script&gt;") >= 3 * len(report["examples"])
    assert text.count("<") == plain.count("<")


def test_a_report_with_little_in_it_has_a_page_too(report):
    report["encoder"] |= {"curve": [], "layers_score": None}
    report["ranker"] |= {"curve": [], "contributions": {}}
    report |= {"fairness": {}, "examples": [], "undefined": {
        "miscalibration_at_10": {"test": "no user had taken an item with a category"}}}  # fmt: skip
    report["exposure"]["categories"]["test"] = []
    for windows in report["models"].values():
        windows["test"] |= {"miscalibration_at_10": None, "popularity_lift_at_10": None,
                            "gini_at_10": None}  # fmt: skip
    text = html.unescape(page_of(report))
    assert "No miscalibration: no user had taken an item with a category." in text
    assert "There was nothing to fine-tune the encoder on." in text
    assert "LightGBM does not take linear trees apart" in text


PROBE = """<!doctype html><title>.</title>
<iframe id="page" width="{width}" height="900" srcdoc="{page}">
</iframe><script>
const frame = document.getElementById("page");
frame.onload = () => {{
  const inside = frame.contentDocument;
  document.title = [frame.contentWindow.innerWidth, inside.documentElement.scrollWidth,
    inside.querySelectorAll("svg").length].join(" ");
}};
</script>"""


@pytest.mark.parametrize("width", [1280, 400])
def test_it_fits_a_screen_and_the_console_stays_empty(report, tmp_path, chromium, width):
    write_run_page(report, {}, tmp_path / "report.html", MADE)
    page = html.escape((tmp_path / "report.html").read_text())
    (tmp_path / "probe.html").write_text(PROBE.format(width=width, page=page))
    command = [
        chromium, "--headless=new", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr",
        f"--user-data-dir={tmp_path / 'profile'}", "--window-size=1400,1000", "--dump-dom",
        "--virtual-time-budget=10000", (tmp_path / "probe.html").as_uri(),
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0 and "CONSOLE" not in done.stderr
    [seen] = re.findall(r"<title>([\d ]+)</title>", done.stdout)
    inner, scrolled, figures = map(int, seen.split())
    assert inner == width and scrolled <= width
    assert figures >= 12
