"""Where things are in a checkout, and where a run may write."""

from __future__ import annotations

import os
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
BOOK = ROOT / "book"
DATA = ROOT / "data"
BUILD = ROOT / "_build"
LOCK = ROOT / "requirements.lock"


def data(name: str) -> Path:
    """Path of a file in data/; a chapter that names it here is re-executed when it changes.

    Raises FileNotFoundError that lists what is there.
    """
    path = DATA / name
    if not path.exists():
        there = ", ".join(sorted(p.name for p in path.parent.glob("*"))) or "nothing"
        raise FileNotFoundError(f"data/{name}: no such file; data/{Path(name).parent} has {there}")
    return path


def figures() -> Path:
    """Folder into which figures are published; a run says which, a reader in Jupyter need not."""
    return Path(os.environ.get("TRIPARTITE_FIGURES", BUILD / "scratch"))


def reference() -> Path:
    """Folder with the committed plotted numbers that fresh ones are compared with."""
    return Path(os.environ.get("TRIPARTITE_REFERENCE", DATA / "reference"))
