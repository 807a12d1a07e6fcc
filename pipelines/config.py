"""One TOML file and `section.key=value` on the command line become one frozen, checked model.

The models are pydantic and sit beside the code they configure; here is only how values get into
them, and that what is wrong is said in words: the full key, what was found, what was expected.
Relative paths in a config are relative to the current directory, nothing is rewritten.
"""

from __future__ import annotations

import difflib
import hashlib
import json
import tomllib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar, get_args

import tomli_w
from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from recsys.errors import ConfigError

Model = TypeVar("Model", bound=BaseModel)


def load_toml(
    model_class: type[Model], path: str | Path | None, overrides: Sequence[str] = ()
) -> Model:
    """Read a run's config.

    Args:
        model_class: what the config must be.
        path: TOML file; None for the defaults.
        overrides: "section.key=value" each, stronger than the file, the last one wins. The value
            is TOML; what is not TOML is a string, so quotes may be left out.

    Raises:
        ConfigError: with one line for each key that is unknown or has a wrong value.
    """
    source = "config" if path is None else str(path)
    return _validated(model_class, {} if path is None else _read(Path(path)), overrides, source)


def changed(model: Model, overrides: Sequence[str]) -> Model:
    """Return the model with "section.key=value" overrides; errors are those of `load_toml`."""
    return _validated(type(model), model.model_dump(), overrides, "config")


def _validated(
    model_class: type[Model], values: dict[str, Any], overrides: Sequence[str], source: str
) -> Model:
    for override in overrides:
        _set(values, override)
    try:
        return model_class.model_validate(values)
    except ValidationError as error:
        lines = [_line(model_class, detail) for detail in error.errors(include_url=False)]
    raise ConfigError("\n".join(f"{source}: {line}" for line in dict.fromkeys(lines)))


def fingerprint(model: BaseModel) -> str:
    """Return 12 hex digits that are equal for equal values, in whatever order they were written."""
    text = json.dumps(model.model_dump(mode="json"), sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def config_toml(model: BaseModel) -> str:
    """Write a config as TOML that `load_toml` reads again; what is not set is left out."""
    return tomli_w.dumps(model.model_dump(mode="json", exclude_none=True))


def _read(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror}); check the path") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: is not TOML: {error}") from error


def _set(values: dict[str, Any], override: str) -> None:
    """Put one override into the nested values."""
    key, equals, text = override.partition("=")
    *sections, last = (part.strip() for part in key.split("."))
    if not equals or not all([*sections, last]):
        raise ConfigError(f"override {override!r}: expected section.key=value")
    try:
        value = tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        value = text.strip()
    for i, section in enumerate(sections):
        values = values.setdefault(section, {})
        if not isinstance(values, dict):
            above = ".".join(sections[: i + 1])
            raise ConfigError(f"override {override!r}: {above} is a value, not a section")
    values[last] = value


def _line(model_class: type[BaseModel], detail: ErrorDetails) -> str:
    """Word one error of pydantic: where, found, expected, do this."""
    where = [part for part in detail["loc"] if not _is_branch(part)]
    key = ".".join(str(part) for part in where)
    if detail["type"] == "extra_forbidden":
        return f"{key}: unknown key; {_nearest(model_class, where)}"
    if detail["type"] == "missing":
        return f"{key}: missing; set it"
    message = detail["msg"].removeprefix("Value error, ")
    expected = message.removeprefix("Input should be ")
    if expected != message:
        message = f"expected {expected}"
    return f"{key or 'config'}: found {detail['input']!r}, {message}"


def _is_branch(part: int | str) -> bool:
    """Whether pydantic put this into the place of an error to name a branch of a union."""
    return isinstance(part, str) and ("[" in part or "(" in part)


def _nearest(model_class: type[BaseModel], where: Sequence[int | str]) -> str:
    """Name the known key that was probably meant: beside the unknown one, else anywhere."""
    *sections, last = (str(part) for part in where)
    models = [model_class]
    for section in sections:  # an index or a free key stays at the same models
        fields = [m.model_fields[section] for m in models if section in m.model_fields]
        models = [m for f in fields for m in _models(f.annotation)] if fields else models
    beside = {name: ".".join([*sections, name]) for m in models for name in m.model_fields}
    anywhere = {key.rpartition(".")[2]: key for key in _keys(model_class)}
    for known in (beside, anywhere):
        if near := difflib.get_close_matches(last, known, 1):
            return f"did you mean {known[near[0]]}?"
    return f"known here: {', '.join(beside.values())}"


def _models(annotation: Any) -> list[type[BaseModel]]:
    """List the models in a type, also inside dicts, tuples and unions."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for inner in get_args(annotation) for model in _models(inner)]


def _keys(model_class: type[BaseModel], prefix: str = "") -> Iterator[str]:
    """List the full keys of a model and of the models in it."""
    for name, field in model_class.model_fields.items():
        yield prefix + name
        if field.annotation in _models(field.annotation):
            for model in _models(field.annotation):
                yield from _keys(model, f"{prefix}{name}.")
