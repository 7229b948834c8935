"""A digest of Python code that comments, docstrings, annotations, layout and order of imports do not change."""

from __future__ import annotations

import ast
import hashlib
import json
from functools import cache
from itertools import groupby

DOCUMENTED = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
SAID = {"annotation", "returns", "type_comment"}  # what is said of types computes nothing


@cache
def meaning(code: str) -> str:
    """SHA-256 of the syntax tree, the same in every version of Python; of the text if it does not parse.

    code: of a module, or of a notebook's cell, whose magics are left out.
    """
    try:
        content = _plain(ast.parse(without_magics(code)))
    except SyntaxError:
        content = code
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()


def without_magics(code: str) -> str:
    return "\n".join(line for line in code.splitlines() if not line.lstrip().startswith(("%", "!")))


def _plain(node):
    """A syntax tree as lists. What is absent or empty is left out: versions of Python differ in it."""
    if isinstance(node, list):
        runs = groupby(node, lambda item: isinstance(item, ast.Import | ast.ImportFrom))
        parts = [(imports, [_plain(item) for item in run]) for imports, run in runs]
        return sum((sorted(p, key=json.dumps) if imports else p for imports, p in parts), [])
    if not isinstance(node, ast.AST):
        return repr(node)
    fields = {
        name: value
        for name, value in ast.iter_fields(node)
        if value not in (None, []) and name not in SAID
    }
    if isinstance(node, DOCUMENTED) and ast.get_docstring(node, clean=False) is not None:
        fields["body"] = node.body[1:]
    if isinstance(node, ast.Import | ast.ImportFrom):
        fields["names"] = sorted(node.names, key=ast.dump)
    if isinstance(node, ast.JoinedStr):  # Python 3.12 puts empty texts into formats
        fields["values"] = [v for v in node.values if getattr(v, "value", None) != ""]
    return [type(node).__name__, {name: _plain(value) for name, value in sorted(fields.items())}]
