"""Do conclusions survive other choices? Execute the alternatives that book/choices.yml lists."""

from __future__ import annotations

import argparse
import hashlib
import json
import shutil
import tempfile
from functools import partial
from pathlib import Path

import nbformat
import yaml

from .chapters import find
from .files import write_bytes
from .freshness import computed
from .passport import commit
from .paths import BOOK, BUILD, ROOT
from .rerun import rerun, together
from .results import report


def listed() -> list[dict]:
    """The choices as book/choices.yml has them."""
    return yaml.safe_load((BOOK / "choices.yml").read_text(encoding="utf-8"))


def key(chapter: str, alternative: dict) -> str:
    """Name of an alternative's result: it follows from what the alternative does."""
    does = {name: alternative.get(name) for name in ("parameters", "edits")}
    digest = hashlib.sha256(json.dumps([chapter, does], sort_keys=True).encode()).hexdigest()
    return f"{chapter}-{digest[:12]}"


def edited(chapter: str, edits: list, folder: Path) -> Path:
    """A checkout in which cells of a chapter have other source; ValueError where they lack it."""
    for name in ("code", "book", "data"):
        ignored = shutil.ignore_patterns("__pycache__", "*.egg-info")
        shutil.copytree(ROOT / name, folder / name, ignore=ignored)
    shutil.copy(ROOT / "requirements.lock", folder)
    notebook = find(chapter).read()
    for cell_id, old, new in edits:
        (cell,) = (cell for cell in notebook.cells if cell.id == cell_id)
        if old not in cell.source:
            raise ValueError(f"book/choices.yml: {chapter} {cell_id} has no {old!r}")
        cell.source = cell.source.replace(old, new)
    write_bytes(folder / "book" / f"{chapter}.ipynb", nbformat.writes(notebook).encode())
    return folder


def run(chapter: str, alternative: dict) -> dict:
    values = alternative.get("parameters", {})
    kept = BUILD / "choices" / f"{key(chapter, alternative)}.json"
    of = computed(find(chapter))
    if "edits" not in alternative:
        return rerun(chapter, values, kept, of)
    with tempfile.TemporaryDirectory() as temporary:
        root = edited(chapter, alternative["edits"], Path(temporary) / "checkout")
        return rerun(chapter, values, kept, of, root=root)


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--workers", type=int, default=1)
    jobs = {
        key(choice["chapter"], alternative): partial(run, choice["chapter"], alternative)
        for choice in listed()
        for alternative in choice.get("alternatives", [])
    }
    runs = together(jobs, options.parse_args().workers, lambda line: print(line, flush=True))
    keys = ("of", "claims", "error")
    found = {name: {k: result[k] for k in keys if k in result} for name, result in runs}
    report("choices", {"commit": commit(), "runs": dict(sorted(found.items()))})


if __name__ == "__main__":
    main()
