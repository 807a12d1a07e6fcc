"""The page about the read API, from the OpenAPI that it describes itself with."""

from __future__ import annotations

from typing import Any

from docs.tables import comments, head, row
from serving import api, client
from serving.settings import ServingConfig

API = """\
# The read API

Generated from the OpenAPI of `serving/api.py` by `python -m docs.generate`; do not edit. A running
server has the description itself at `/openapi.json`. How to run it:
[operations](operations.md#the-read-api).
"""


def api_page() -> str:
    """Return docs/api.md: each route with what it takes and answers, and each model once."""
    described = api.create_app(ServingConfig()).openapi()
    lines = [API, described["info"]["description"].strip(), ""]
    for path, methods in described["paths"].items():
        for method, operation in methods.items():
            locked = " With an API key, where there are any." if "security" in operation else ""
            lines += [f"## {method.upper()} {path}", "", operation["description"] + locked, ""]
            lines += _asked(operation)
            lines += [*head("status", "meaning", "answer", "headers")]
            for status, answer in sorted(operation["responses"].items()):
                lines.append(
                    row(
                        status,
                        answer["description"],
                        _content(answer),
                        ", ".join(f"`{name}`" for name in answer.get("headers", {})),
                    )
                )
            lines.append("")
    lines += ["## Models", ""]
    for name, model in sorted(described["components"]["schemas"].items()):
        if name != "HTTPValidationError" and name != "ValidationError":
            lines += [f"### {name}", "", model["description"], "", *_fields(name, model), ""]
    return "\n".join(lines).rstrip() + "\n"


def _asked(operation: dict[str, Any]) -> list[str]:
    """Draw the table of what a route takes; nothing where it takes nothing."""
    rows = [row(f"`{one['name']}`", one["in"], _schema(one["schema"]),
                 one.get("description") or one["schema"].get("description", ""))
            for one in operation.get("parameters", [])]  # fmt: skip
    if body := operation.get("requestBody"):
        rows.append(row("", "body", _content(body), ""))
    return [*head("parameter", "in", "type", "meaning"), *rows, ""] if rows else []


def _fields(name: str, model: dict[str, Any]) -> list[str]:
    """Draw the table of a model's fields; what they mean is the comment behind each."""
    meaning = comments((vars(client) | vars(api))[name])
    required = set(model.get("required", ()))
    rows = [
        row(f"`{field}`", _schema(schema) + ("" if field in required else ", may be left out"),
            meaning.get(field, ""))
        for field, schema in model["properties"].items()
    ]  # fmt: skip
    return [*head("field", "type", "meaning"), *rows]


def _content(answer: dict[str, Any]) -> str:
    """Name the model of an answer or a body."""
    [(kind, content)] = answer.get("content", {"": {}}).items()
    return _schema(content.get("schema", {})) if kind == "application/json" else kind


def _schema(schema: dict[str, Any]) -> str:
    """Say in words what a JSON schema lets in."""
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        return f"[{name}](#{name.lower()})"
    if "anyOf" in schema:
        return " or ".join(_schema(one) for one in schema["anyOf"])
    if schema.get("type") == "array":
        most = f", at most {schema['maxItems']}" if "maxItems" in schema else ""
        return f"list of {_schema(schema['items'])}{most}"
    limits = [f"{sign} {schema[key]}" for key, sign in (("minimum", ">="), ("maximum", "<="))
              if key in schema]  # fmt: skip
    return " ".join([schema.get("type", ""), *limits])
