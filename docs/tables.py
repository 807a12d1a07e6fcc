"""What the generated pages are made of: tables in Markdown, and the comments of models."""

from __future__ import annotations

import ast
import inspect
import io
import textwrap
import tokenize

from pydantic import BaseModel


def head(*names: str) -> list[str]:
    """Draw the first two lines of a table."""
    return [row(*names), row(*("---" for _ in names))]


def row(*cells: str) -> str:
    """Draw one line of a table."""
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def comments(model: type[BaseModel]) -> dict[str, str]:
    """Return field -> the comment behind it in the source."""
    source = textwrap.dedent(inspect.getsource(model))
    found = {token.start[0]: token.string.lstrip("# ")
             for token in tokenize.generate_tokens(io.StringIO(source).readline)
             if token.type == tokenize.COMMENT}  # fmt: skip
    [body] = ast.parse(source).body
    assert isinstance(body, ast.ClassDef)
    return {
        node.target.id: " ".join(found[line] for line in range(node.lineno, _end(node) + 1)
                                 if line in found)
        for node in body.body
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name)
    }  # fmt: skip


def _end(node: ast.AnnAssign) -> int:
    return node.end_lineno or node.lineno
