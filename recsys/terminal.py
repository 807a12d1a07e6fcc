"""What the command line prints: lines as they are, tables as wide as the terminal, and refusals."""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from typing import Any

import typer

from recsys.errors import out_of_space

# Module -> the extra that brings it, where it is not "train".
EXTRAS = {
    "fastapi": "serve", "httptools": "serve", "prometheus_client": "serve", "uvicorn": "serve",
    "redis": "redis", "ray": "ray", "optuna": "tune", "faiss": "ann",
}  # fmt: skip


def say(*things: Any) -> None:
    """Print lines and tables as results: on stdout, a line never broken, a table for people."""
    from rich.console import Console

    console = Console(width=None if sys.stdout.isatty() else 140)
    for thing in things:
        tell = typer.echo if isinstance(thing, str) else console.print
        tell(thing)


def facts_table(title: str, values: dict[str, Any]) -> Any:
    """Make a table of counts and settings; moments that have dates become dates."""
    from rich.markup import escape
    from rich.table import Table

    dated = values.get("ordered_by", values["protocol"]) in ("timestamp", "time")
    table = Table(title=escape(title), show_header=False)
    for name, value in values.items():
        is_moment = dated and name.endswith(("_moment", "windows"))
        if isinstance(value, dict):
            lines = [f"{key}: {_plain(one, is_moment)}" for key, one in value.items()]
        else:
            several = value if isinstance(value, tuple) else (value,)
            lines = [_plain(one, is_moment) for one in several]
        table.add_row(name.replace("_", " "), escape("\n".join(lines)))
    return table


def refusal(error: Exception, on_purpose: tuple[type[Exception], ...]) -> str | None:
    """Say what a user can do about an error; None for one that is a bug.

    Args:
        error: what ended a command.
        on_purpose: errors whose message is for the user as it is.
    """
    if isinstance(error, on_purpose):
        from recsys.address import without_secrets

        return without_secrets(str(error))
    if out_of_space(error):
        where = getattr(error, "filename", None) or "run_dir, or where temporary files are"
        return f"no space left on the disk ({where}); make room and run the same command again"
    if isinstance(error, ModuleNotFoundError):
        missing = (error.name or "").split(".")[0]
        if missing in ("recsys", "features", "pipelines", "serving"):
            return None
        extra = EXTRAS.get(missing, "train")
        return f"{missing} is not installed; pip install 'recsys-text[{extra}]'"
    if isinstance(error, OSError) and error.filename is not None:
        return f"{error.filename}: {error.strerror}"
    return None


def _plain(value: Any, is_moment: bool) -> str:
    if is_moment and type(value) is int:
        return f"{datetime.fromtimestamp(value / 1e6, UTC):%Y-%m-%d %H:%M:%S}"
    return f"{value:,}" if type(value) is int else str(value)
