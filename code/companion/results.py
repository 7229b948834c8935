"""Results of the jobs that try to break the book, data/results/NAME.json: written and read.

Each result carries "of", a digest of all that it depends on; `companion.stale` compares them.
"""

from __future__ import annotations

import json
from pathlib import Path

from .files import write_bytes
from .freshness import sha256_of
from .paths import DATA, ROOT

JOBS = ("seeds", "choices", "environments", "mutants")
RESULTS = DATA / "results"


def read(name: str) -> dict:
    """data/results/NAME.json, empty where the job has not run yet."""
    path = RESULTS / f"{name}.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}


def report(name: str, content: dict) -> Path:
    """Write a result that the book shows."""
    path = RESULTS / f"{name}.json"
    write_bytes(path, (json.dumps(content, indent=1) + "\n").encode())
    return path


def source_of(module: str, root: Path = ROOT) -> Path:
    """File of a module of tripartite, by its name within it: "network", or "beyond.memory"."""
    return root.joinpath("code", "tripartite", *module.split(".")).with_suffix(".py")


def of_mutant(module: str, test: str) -> str:
    """Digest of what a mutant's verdict depends on: the module and the file of the test."""
    files = source_of(module), ROOT / f"tests/test_{test.split('::')[0]}.py"
    return "".join(sha256_of(path)[:32] if path.exists() else "gone" for path in files)
