"""What to serve and where: `[serving]` and `[gates]` of a run's config; the release that is meant.

Whoever only publishes or serves has the base install alone: no torch, and none of the models that
check the other tables of the config.
"""

from __future__ import annotations

import difflib
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from serving.errors import NoReleaseError, ServingError
from serving.release import is_sealed
from serving.settings import ApiConfig, GateConfig, ServingConfig

Section = TypeVar("Section", bound=BaseModel)


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
    return _section(ServingConfig, "serving", path, overrides, options)


def load_gates(path: Path | None, overrides: Sequence[str] = ()) -> GateConfig:
    """Read what a release must be like; as `load_serving`, of the table `[gates]`.

    Raises:
        ServingError: with one line for each key that is unknown or has a wrong value.
    """
    return _section(GateConfig, "gates", path, overrides, {})


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


def _section(
    model: type[Section], name: str, path: Path | None, overrides: Sequence[str],
    options: Mapping[str, object],
) -> Section:  # fmt: skip
    """Read one table of the config."""
    values = {} if path is None else _table(path, name)
    for override in overrides:
        _set(values, override, name)
    values |= {key: value for key, value in options.items() if value is not None}
    try:
        return model.model_validate(values)
    except ValidationError as error:
        found = [_words(detail, name, model) for detail in error.errors()]
    raise ServingError("\n".join(f"{path or 'config'}: {line}" for line in found))


def _table(path: Path, name: str) -> dict[str, Any]:
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8")).get(name, {})
    except OSError as error:
        raise ServingError(f"{path}: cannot be read ({error.strerror}); check the path") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ServingError(f"{path}: is not TOML: {error}") from error
    if not isinstance(values, dict):
        raise ServingError(f"{path}: {name}: found {values!r}, expected a table [{name}]")
    return values


def _set(values: dict[str, Any], override: str, name: str) -> None:
    """Put one override into the nested values."""
    place, equals, text = override.partition("=")
    section, *path = (part.strip() for part in place.split("."))
    if section != name or not path or not all((equals, *path)):
        raise ServingError(
            f"override {override!r}: expected {name}.key=value, nothing else is read"
        )
    *tables, key = path
    for table in tables:
        values = values.setdefault(table, {})
        if not isinstance(values, dict):
            raise ServingError(f"override {override!r}: {name}.{table} is a value, not a table")
    try:
        values[key] = tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        values[key] = text.strip()


def _words(detail: ErrorDetails, name: str, model: type[BaseModel]) -> str:
    *tables, last = (str(part) for part in detail["loc"])
    place = ".".join((name, *tables))
    if detail["type"] != "extra_forbidden":
        expected = detail["msg"].removeprefix("Input should be ")
        return f"{place}.{last}: found {detail['input']!r}, expected {expected}"
    keys = list((ApiConfig if tables else model).model_fields)
    near = difflib.get_close_matches(last, keys, 1)
    known = ", ".join(f"{place}.{one}" for one in keys)
    hint = f"did you mean {place}.{near[0]}?" if near else f"known here: {known}"
    return f"{place}.{last}: unknown key; {hint}"
