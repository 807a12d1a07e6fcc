"""A page needs nothing but itself, and no word of the data becomes markup."""

import re

import numpy as np

from pipelines.figures import PAGE_COLOURS, draw_bins, draw_periods
from pipelines.page import Grid, Page, Picture, Section, render, write_page

HOSTILE = '<script>alert("x")</script> & $x^2$'


def page_with(words):
    counts = {words: np.array([1, 2]), "b": np.array([0, 1])}
    svg = draw_periods(np.array([20000.0, 20001.0]), counts, {"test": 20001.0})
    grid = Grid((words, "n"), ((words, "1"),), words)
    section = Section(words, (words,), (words,), (Picture(svg, words),), (grid,))
    return render(Page(words, words, ((words, words),), (section,), words))


def test_words_of_the_data_never_become_markup():
    text = page_with(HOSTILE)
    assert "<script" not in text and text.count("&lt;script&gt;") >= 10
    assert text.count("<") == page_with("plain").count("<")


def test_a_page_asks_for_nothing_from_elsewhere():
    text = page_with("plain")
    addresses = set(re.findall(r"https?://[^\"' )]+", text))
    assert {one.split("/")[2] for one in addresses} <= {"www.w3.org"}  # names of SVG, not fetched
    assert not re.findall(r"<(?:link|img|script|iframe)|@import|url\((?!#)", text)


def test_figures_take_their_colours_from_the_page():
    text = page_with("plain")
    assert not [stand_in for stand_in in PAGE_COLOURS if stand_in in text]
    used = set(re.findall(r"var\(--(\w+)\)", text))
    light, dark = text.split("prefers-color-scheme: dark")
    assert used >= {"ink", "s1", "band"}
    assert all(f"--{name}:" in light and f"--{name}:" in dark for name in used)


def test_two_figures_of_a_page_share_no_id():
    ids = [re.findall(r'\bid="([^"]+)"', draw_bins({"a": [(1, 5), (2, 3)]}, name)) for name in "xy"]
    assert ids[0] and not set(ids[0]) & set(ids[1])
    linked = re.findall(r"url\(#([^)]+)\)", draw_bins({"a": [(1, 5), (2, 3)]}, "x"))
    assert set(linked) <= set(ids[0])


def test_the_same_figure_has_the_same_bytes():
    assert draw_bins({"a": [(1, 5)]}, "x") == draw_bins({"a": [(1, 5)]}, "x")


def test_numbers_stand_to_the_right():
    rows = (("a", "1", "", "2 %"), ("2b", "-1,000", "", "<0.1 %"))
    assert Grid(("", "", "", ""), rows).numeric == (False, True, True, True)


def test_a_page_is_written_with_its_folder(tmp_path):
    write_page(Page("t", "l", (), ()), tmp_path / "new" / "page.html")
    assert "<h1>t</h1>" in (tmp_path / "new" / "page.html").read_text()


def test_a_long_page_begins_with_links_to_its_sections():
    sections = tuple(Section(f"part {at}", grids=(Grid(("a",), (("b",),), "t", ("note",)),))
                     for at in range(7))  # fmt: skip
    text = render(Page("t", "l", (), sections))
    links = re.findall(r'<a href="#(\w+)">([^<]+)</a>', text)
    assert [name for _, name in links] == [one.title for one in sections]
    assert all(f'<h2 id="{link}">{name}</h2>' in text for link, name in links)
    assert text.count('<p class="about">note</p>') == 7
    assert "<nav>" not in render(Page("t", "l", (), sections[:6]))
