"""When is a result stale? When what computes it has changed: cells, imported modules, data or lock."""

from __future__ import annotations

import ast
import hashlib
import json
from collections.abc import Iterable
from functools import cache
from pathlib import Path

from .chapters import Chapter
from .lock import pins, requirements
from .meaning import meaning, without_magics
from .paths import DATA, LOCK, ROOT

CODE = ROOT / "code"
SCIENCE = CODE / "tripartite"
MODULE = ("pretrained",)  # extras of pyproject.toml that the module tripartite itself uses
PACKAGES = ("tripartite", "companion")
MADE = ("reference", "results")  # folders of data/ with what the book itself has found


def sha256_of(path: Path) -> str:
    """SHA-256 of a file's content, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def registry() -> dict[str, str]:
    """SHA-256 of each file in data/ that is an input or a stored result, as its registry states it."""
    import pooch

    if not (DATA / "registry.txt").exists():
        return {}
    known = pooch.create(DATA, base_url="")
    known.load_registry(DATA / "registry.txt")
    return known.registry


def source_digests(chapter: Chapter) -> dict[str, str]:
    """Digests of all that a chapter computes with: its code cells, modules, data read, lock."""
    return {
        "cells": _digest([cell.source for cell in chapter.code_cells()]),
        "code": _tree(modules(chapter.code())),
        "data": _tree(data_read(chapter)),
        "lock": sha256_of(LOCK),
    }


def computed(chapter: Chapter) -> str:
    """One digest of what a chapter's numbers depend on: seeds and choices are valid for this only.

    The book's machinery is not in it: it shows numbers, and computes none. Of code, what it means
    is in it, and not its comments, annotations or layout; of the lock, what the module requires.
    """
    science = [path for path in modules(chapter.code()) if path.is_relative_to(SCIENCE)]
    code = {
        ".".join(path.relative_to(SCIENCE).with_suffix("").parts): meaning(
            path.read_text(encoding="utf-8")
        )
        for path in science
    }
    cells = [meaning(cell.source) for cell in chapter.code_cells()]
    versions = pins(LOCK.read_text(encoding="utf-8"))
    required = {name: versions.get(name) for name in requirements(MODULE)}
    return _digest([cells, code, _tree(data_read(chapter)), required])


def state(chapter: Chapter) -> str:
    """One digest of what its executed copy depends on: all sources, captions, style, references."""
    metadata = [dict(cell.metadata) for cell in chapter.code_cells()]
    names = chapter.figures()
    shown = [path for path in (DATA / "reference").glob("*") if path.stem in names]
    shown += CODE.rglob("*.mplstyle")
    return _digest([source_digests(chapter), metadata, _tree(shown)])


def modules(code: str) -> list[Path]:
    """Files of code/ that Python code imports, and those that they import, anywhere in them."""
    found: dict[Path, None] = {}
    queue = list(_imports_of(without_magics(code), None, CODE))
    while queue:
        if (path := queue.pop()) not in found:
            found[path] = None
            queue += _imports_of(path.read_text(encoding="utf-8"), path, CODE)
    return sorted(found)


@cache  # publishing a figure asks several times
def _imports_of(code: str, path: Path | None, root: Path) -> list[Path]:
    """Files under root that this code imports; path: its own, where it is a module."""
    return list(_imported(code, path, root))


def _imported(code: str, path: Path | None, root: Path) -> Iterable[Path]:
    package = list(path.relative_to(root).with_suffix("").parts[:-1]) if path else []
    for node in _nodes(code):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield from _files(alias.name.split("."), root)
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) + 1 - node.level] if node.level else []
            parent = [*above, *(node.module.split(".") if node.module else [])]
            yield from _files(parent, root)
            for alias in node.names:
                yield from _files([*parent, alias.name], root)


def _files(parts: list[str], root: Path) -> Iterable[Path]:
    """The module of that name and the packages it lies in, as far as they are ours."""
    if not parts or parts[0] not in PACKAGES:
        return
    for k in range(1, len(parts) + 1):
        for path in (
            root.joinpath(*parts[:k], "__init__.py"),
            root.joinpath(*parts[:k]).with_suffix(".py"),
        ):
            if path.exists():
                yield path


def data_read(chapter: Chapter) -> list[Path]:
    """Files of data/ that the chapter names in data("..."), with any text in an f-string's fields.

    All inputs where a name is computed otherwise.
    """
    files: list[Path] = []
    for call in _calls_of_data(chapter.code()):
        name = call.args[0] if len(call.args) == 1 else None
        if isinstance(name, ast.Constant):
            files.append(DATA / str(name.value))
        elif isinstance(name, ast.JoinedStr):
            parts = [str(p.value) if isinstance(p, ast.Constant) else "*" for p in name.values]
            files += DATA.glob("".join(parts))
        else:
            return [p for p in DATA.rglob("*") if p.is_file() and p.parent.name not in MADE]
    return files


@cache
def _calls_of_data(code: str) -> list[ast.Call]:
    return [
        node
        for node in _nodes(without_magics(code))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "data"
    ]


def _nodes(code: str) -> list[ast.AST]:
    """All nodes of Python code; none of code that does not parse, whose execution will say so."""
    try:
        return list(ast.walk(ast.parse(code)))
    except SyntaxError:
        return []


def _digest(content) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _tree(paths: Iterable[Path]) -> str:
    digest = hashlib.sha256()
    for path in sorted(set(paths)):
        content = sha256_of(path) if path.exists() else "missing"
        digest.update(f"{path.relative_to(ROOT).as_posix()} {content}\n".encode())
    return digest.hexdigest()
