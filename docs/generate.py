"""Writes the documents that the code already says: docs/features.md, docs/config.md, docs/api.md.

    python -m docs.generate

`tests/test_docs.py` fails when a page is not what this would write.
"""

from __future__ import annotations

import json
from pathlib import Path
from types import NoneType
from typing import Any, Literal, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from docs.openapi import api_page
from docs.tables import comments, head, row
from features.catalogue import CATALOGUE
from pipelines.settings import RunConfig
from recsys.dialect import EventSource, ItemSource, Source
from recsys.schema import EventRule
from serving.settings import ApiConfig, GateConfig, ServingConfig

FOLDER = Path(__file__).parent
WORDS = {int: "integer", float: "number", str: "text", bool: "true or false", Path: "path",
         Any: "value"}  # fmt: skip
WORDED: dict[str, type[BaseModel]] = {"serving": ServingConfig, "gates": GateConfig}
SIGNS = {"gt": ">", "ge": ">=", "lt": "<", "le": "<="}
FEATURES = """\
# Features

Generated from `features/catalogue.py` by `python -m docs.generate`; do not edit.

What the ranker sees: one row for each candidate of a request, one column for each feature below, in
this order. Values are computed from events strictly before the request; user and pair features to
the request's own moment, item features to the moment of the counted state
([concepts](concepts.md#counted-state-and-fitted-parts)). A value that does not exist is NaN, which
LightGBM treats as missing.

*Needs*: a feature that needs **dates** is off where events only have an order; one that needs
**text** is off in `ranker_without_text`, the model that shows what text is worth; one that needs a
**quota** is of a candidate source that is off, and not computed, until the configuration gives it a
quota; one that needs **sessions** is off where the events have no `session_id`; one that needs
**naming** gained nothing on our data sets and is off, unless `features.on` names it.
Switch others off by name with `features.off`, and all that read text, with the sources by text, by
`features.text = false`: a quota of 0 alone takes candidates away, not what the ranker sees. The
names travel with the model: what it was trained with is what it is served with, and code that does
not know one of them refuses to load it.
"""
CONFIG = """\
# Configuration

Generated from `pipelines/settings.py` and the models it names by `python -m docs.generate`; do not
edit.

One TOML file, `run.toml`, holds everything a run depends on. Each section below is a table of that
file. An unknown key or a wrong value is an error that names the full key; nothing is ignored.
`--set section.key=value` on the command line is stronger than the file, and the last one wins; the
value is TOML, and what is not TOML is taken as text. Relative paths start at the current folder.
[examples/run.toml](../examples/run.toml) is a file to begin with.

`recsys publish`, `rollback`, `releases` and `serve` read only the table `[serving]` (publish also
`[gates]`), so they run on the base install.
"""
SOURCE = """\
A source is a path (`items = "items.csv"`), or a path and how the file is written
(`items = { path = "items.csv", delimiter = ";" }`); `data.events` may be a list of them
([bring your own data](data.md#foreign-files)):
"""


def features_page() -> str:
    """Return docs/features.md: a table for each family of the catalogue."""
    lines = [FEATURES]
    for family in dict.fromkeys(feature.family for feature in CATALOGUE):
        lines += [f"## {family.capitalize()}", "", *head("feature", "unit", "meaning", "needs")]
        for feature in CATALOGUE:
            if feature.family == family:
                flags = {
                    "dates": feature.dated,
                    "text": feature.text,
                    "quota": feature.optional,
                    "sessions": feature.session,
                    "naming": feature.spare,
                }
                needs = [word for word, needed in flags.items() if needed]
                lines.append(row(f"`{feature.name}`", feature.unit, feature.meaning,
                                  ", ".join(needs)))  # fmt: skip
        lines.append("")
    n_dated, n_text = (sum(getattr(f, name) for f in CATALOGUE) for name in ("dated", "text"))
    lines.append(f"{len(CATALOGUE)} in all; {n_dated} need dates, {n_text} need text.")
    return "\n".join(lines) + "\n"


def config_page() -> str:
    """Return docs/config.md: a table for each section of the run configuration."""
    lines = [CONFIG, "## The file itself", "", *_keys(RunConfig, ""), ""]
    for name, model in sections().items():
        described = WORDED.get(name, model)  # the same keys, better worded
        lines += [f"## {name}", "", _summary(described), "", *_keys(described, f"{name}."), ""]
        if name == "data":
            lines += ["A rule of `data.event_types`:", "", *_keys(EventRule, ""), ""]
            lines += [SOURCE, *_keys(EventSource, ""), "", "Of items instead of the last three:",
                      "", *_keys(ItemSource, "", Source), ""]  # fmt: skip
        if name == "serving":
            lines += ["## serving.api", "", _summary(ApiConfig), "",
                      *_keys(ApiConfig, "serving.api."), ""]  # fmt: skip
    return "\n".join(lines).rstrip() + "\n"


def sections() -> dict[str, type[BaseModel]]:
    """Return section -> the model of its keys."""
    found = {name: field.annotation for name, field in RunConfig.model_fields.items()}
    return {name: kind for name, kind in found.items()
            if isinstance(kind, type) and issubclass(kind, BaseModel)}  # fmt: skip


def _keys(model: type[BaseModel], prefix: str, but: type[BaseModel] = BaseModel) -> list[str]:
    """Draw the table of a model's own keys, without those of `but`."""
    bases = [base for base in model.__mro__ if issubclass(base, BaseModel) and base.model_fields]
    said = {name: said for base in bases for name, said in comments(base).items()}
    rows = head("key", "type", "default", "meaning")
    for name, field in model.model_fields.items():
        if not _is_model(field.annotation) and name not in but.model_fields:
            rows.append(row(f"`{prefix}{name}`", _type(field), _default(field),
                             said.get(name, "")))  # fmt: skip
    return rows


def _type(field: FieldInfo) -> str:
    """Say in words what a value may be."""
    words = _annotation(field.annotation)
    for limit in field.metadata:
        words += "".join(f" {sign} {_number(getattr(limit, name))}"
                         for name, sign in SIGNS.items() if hasattr(limit, name))  # fmt: skip
        if pattern := getattr(limit, "pattern", None):
            words += f" like `{pattern}`"
    return words


def _annotation(kind: Any) -> str:
    inner = get_args(kind)
    if get_origin(kind) is Literal:
        return " or ".join(json.dumps(value) for value in inner)
    if get_origin(kind) is tuple:
        return f"list of {_annotation(inner[0])}"
    if get_origin(kind) is dict:
        return f"table of {_annotation(inner[1])}"
    if hasattr(kind, "__metadata__"):
        return _annotation(inner[0])
    if inner:  # a union
        return " or ".join(_annotation(one) for one in inner if one is not NoneType)
    if _is_model(kind):
        return "rules" if kind is EventRule else "source"
    return WORDS[kind]


def _default(field: FieldInfo) -> str:
    """Write a default as TOML does."""
    value = field.default
    if field.is_required():
        return "required"
    if value is None:
        return "not set"
    if isinstance(value, float):
        return f"`{_number(value)}`"
    return f"`{json.dumps(str(value) if isinstance(value, Path) else value)}`"


def _number(value: float) -> str:
    return f"{value:g}" if isinstance(value, float) else f"{value:,}".replace(",", "_")


def _summary(model: type[BaseModel]) -> str:
    return (model.__doc__ or "").strip().splitlines()[0]


def _is_model(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, BaseModel)


PAGES = {"features.md": features_page, "config.md": config_page, "api.md": api_page}

if __name__ == "__main__":
    for page, write in PAGES.items():
        (FOLDER / page).write_text(write(), encoding="utf-8")
