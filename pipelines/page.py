"""One page of HTML that needs nothing else: sections of notes, tables and figures, light and dark.

What a page says is made elsewhere, as plain values; here they are only escaped and laid out
(`page.html`). Figures are SVG text of `pipelines.figures`, which takes its colours from the page.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined


@dataclass(frozen=True)
class Grid:
    """A table. Columns of numbers stand to the right, as those do in which each cell has a digit
    first."""

    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    title: str = ""
    notes: tuple[str, ...] = ()  # below the title

    @property
    def numeric(self) -> tuple[bool, ...]:
        """Say of each column whether it holds numbers."""
        columns = zip(*self.rows, strict=True)
        return tuple(all(not c or c.lstrip("-+<>")[:1].isdigit() for c in one) for one in columns)


@dataclass(frozen=True)
class Picture:
    """A figure and what it shows, in words: they are also read aloud instead of it."""

    svg: str
    caption: str
    narrow: bool = False  # drawn to fit a telephone; a wide one is scrolled there


@dataclass(frozen=True)
class Section:
    """A heading and what stands below it, in this order."""

    title: str
    notes: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()  # notes that stand out
    pictures: tuple[Picture, ...] = ()
    grids: tuple[Grid, ...] = ()


@dataclass(frozen=True)
class Page:
    """All of it."""

    title: str
    lead: str
    facts: tuple[tuple[str, str], ...]  # (name, value) of what matters most, large
    sections: tuple[Section, ...]
    foot: str = ""

    @property
    def contents(self) -> bool:
        """Whether sections are so many that the page begins with links to them."""
        return len(self.sections) > 6


def write_page(page: Page, file: Path) -> None:
    """Write the page, with folders that are missing; one that is there is replaced."""
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(render(page), encoding="utf-8")


def in_terminal(sections: Sequence[Section]) -> list[Any]:
    """Return sections as the terminal shows them: lines and tables, no pictures."""
    from rich.markup import escape
    from rich.table import Table

    lines: list[Any] = []
    for section in sections:
        lines += ["", f"── {section.title} ".ljust(100, "─"), *section.notes]
        lines += [f"! {warning}" for warning in section.warnings]
        for grid in section.grids:
            table = Table(title=escape(grid.title) or None, title_justify="left")
            for name, numeric in zip(grid.header, grid.numeric, strict=True):
                table.add_column(name, justify="right" if numeric else "left", overflow="fold")
            for row in grid.rows:
                table.add_row(*map(escape, row))
            lines.append(table)
    return lines


def render(page: Page) -> str:
    """Return the page as HTML; text is escaped, figures are not."""
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent), autoescape=True, undefined=StrictUndefined,
        trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    return environment.get_template("page.html").render(page=page)
