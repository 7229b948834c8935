"""When is a chapter stale? When its source, the code, its data or the lock has changed."""

from __future__ import annotations

import ast
import hashlib
import json
from pathlib import Path

from .chapters import Chapter
from .paths import DATA, LOCK, ROOT


def sha256_of(path: Path) -> str:
    """SHA-256 of a file's content, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def source_digests(chapter: Chapter) -> dict[str, str]:
    """Digests of all that a chapter's outputs depend on: its source, code/, data/ read, lock."""
    return {
        "chapter": _source(chapter),
        "code": _tree(p for p in (ROOT / "code").rglob("*") if p.suffix in (".py", ".mplstyle")),
        "data": _tree(data_read(chapter)),
        "lock": sha256_of(LOCK),
    }


def state(chapter: Chapter) -> str:
    """One digest of a chapter's sources and references: cached outputs are valid for this only."""
    references = (DATA / "reference").glob("*")
    names = chapter.figures()
    compared = {"reference": _tree(path for path in references if path.stem in names)}
    return hashlib.sha256(json.dumps(source_digests(chapter) | compared).encode()).hexdigest()


def data_read(chapter: Chapter) -> list[Path]:
    """Files of data/ that the chapter names in data("..."); all of them where a name is computed."""
    everything = [p for p in DATA.rglob("*") if p.is_file() and "reference" not in p.parts]
    files: list[Path] = []
    for call in _calls_of_data(chapter.code()):
        if len(call.args) != 1 or not isinstance(call.args[0], ast.Constant):
            return everything
        files.append(DATA / str(call.args[0].value))
    return files


def _calls_of_data(code: str) -> list[ast.Call]:
    nodes = ast.walk(ast.parse(_without_magics(code)))
    return [
        node
        for node in nodes
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "data"
    ]


def _without_magics(code: str) -> str:
    return "\n".join(line for line in code.splitlines() if not line.lstrip().startswith(("%", "!")))


def _source(chapter: Chapter) -> str:
    # prose counts too: what is built is the executed copy
    cells = [(c.cell_type, c.source, dict(c.metadata)) for c in chapter.read().cells]
    return hashlib.sha256(json.dumps(cells, sort_keys=True).encode()).hexdigest()


def _tree(paths) -> str:
    digest = hashlib.sha256()
    for path in sorted(set(paths)):
        content = sha256_of(path) if path.exists() else "missing"
        digest.update(f"{path.relative_to(ROOT).as_posix()} {content}\n".encode())
    return digest.hexdigest()
