"""What to serve and where: the `[serving]` table of a run's config, and the release that is meant.

Whoever only publishes or serves has the base install alone: no torch, and none of the models that
check the other tables of the config.
"""

from __future__ import annotations

import difflib
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from serving.errors import NoReleaseError, ServingError
from serving.release import is_sealed
from serving.settings import ServingConfig


def load_serving(
    path: Path | None, overrides: Sequence[str] = (), **options: object
) -> ServingConfig:
    """Read where releases and the store are, and where the read API listens.

    Args:
        path: TOML file; None for the defaults.
        overrides: "serving.key=value" each, stronger than the file, the last one wins. The value is
            TOML; what is not TOML is a string, so quotes may be left out.
        options: values by key, stronger than both; None is not set.

    Raises:
        ServingError: with one line for each key that is unknown or has a wrong value.
    """
    values = {} if path is None else _table(path)
    for override in overrides:
        key, value = _override(override)
        values[key] = value
    values |= {key: value for key, value in options.items() if value is not None}
    try:
        return ServingConfig.model_validate(values)
    except ValidationError as error:
        lines = [f"{path or 'config'}: {_words(detail)}" for detail in error.errors()]
    raise ServingError("\n".join(lines))


def find_release(release: str | None, releases: Path) -> Path:
    """Find the release that is meant.

    Args:
        release: a folder, or the name of one in `releases`; None is the newest sealed one there.
        releases: folder of releases.

    Raises:
        NoReleaseError: there is no sealed release to choose.
    """
    if release is not None:
        given, named = Path(release), releases / release
        return (named if named.is_dir() and not given.is_dir() else given).resolve()
    sealed = [folder for folder in releases.glob("*") if is_sealed(folder)]
    if not sealed:
        raise NoReleaseError(f"{releases}: no sealed release; recsys recommend makes one")
    return max(sealed, key=lambda folder: folder.name)  # names sort by as_of, then by creation


def _table(path: Path) -> dict[str, Any]:
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8")).get("serving", {})
    except OSError as error:
        raise ServingError(f"{path}: cannot be read ({error.strerror}); check the path") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ServingError(f"{path}: is not TOML: {error}") from error
    if not isinstance(values, dict):
        raise ServingError(f"{path}: serving: found {values!r}, expected a table [serving]")
    return values


def _override(override: str) -> tuple[str, Any]:
    name, equals, text = override.partition("=")
    section, _, key = (part.strip() for part in name.partition("."))
    if section != "serving" or not key or not equals:
        raise ServingError(
            f"override {override!r}: expected serving.key=value, nothing else is read"
        )
    try:
        return key, tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return key, text.strip()


def _words(detail: ErrorDetails) -> str:
    key = ".".join(str(part) for part in detail["loc"])
    if detail["type"] != "extra_forbidden":
        expected = detail["msg"].removeprefix("Input should be ")
        return f"serving.{key}: found {detail['input']!r}, expected {expected}"
    near = difflib.get_close_matches(key, ServingConfig.model_fields, 1)
    known = ", ".join(f"serving.{name}" for name in ServingConfig.model_fields)
    hint = f"did you mean serving.{near[0]}?" if near else f"known here: {known}"
    return f"serving.{key}: unknown key; {hint}"
