"""Resolve pyproject.toml into requirements.lock (pip, hashes) and environment.yml (conda, Binder)."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from collections.abc import Sequence
from pathlib import Path

from .files import write_bytes
from .paths import LOCK, ROOT

ENVIRONMENT = ROOT / "environment.yml"
HEAD = """\
# Made by `make lock` from pyproject.toml; pins and hashes are those of requirements.lock.
# After creating the environment: pip install --no-deps --no-build-isolation -e .
name: tripartite
channels: [conda-forge, nodefaults]
dependencies:
  - python=3.11
  - pip
  - pip:
      - -r requirements.lock
"""


def requirements(extras: Sequence[str] | None = None) -> list[str]:
    """Names of all that pyproject.toml asks for, with these extras; by default those of the book."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    optional = project["optional-dependencies"]
    book = [extra for extra in optional if extra != "hf"]  # PyTorch: by hand, where it is wanted
    lines = project["dependencies"] + sum((optional[e] for e in extras or book), [])
    names = {re.match(r"[A-Za-z0-9._-]+", line)[0].lower() for line in lines}
    return sorted(names - {project["name"]})


def pins(lock: str) -> dict[str, str]:
    """Name -> version of every package in a lock."""
    return dict(re.findall(r"^([a-z0-9._-]+)==([^\s;\\]+)", lock, re.M))


def environment(lock: str) -> str:
    """environment.yml: what we ask for, at the lock's versions; the rest comes by -r."""
    pinned = pins(lock)
    return HEAD + "".join(f"      - {name}=={pinned[name]}\n" for name in requirements())


def main() -> None:
    fresh = LOCK.with_suffix(".new")
    command = [sys.executable, "-m", "uv", "pip", "compile", "--universal", "--extra", "dev"]
    command += ["--python-version", "3.11", "--fork-strategy", "fewest", "--generate-hashes"]
    command += ["--no-header", "--no-annotate", "--no-emit-index-url", "--quiet"]
    try:
        subprocess.run([*command, "-o", str(fresh), str(ROOT / "pyproject.toml")], check=True)
        text = Path(fresh).read_text()
    finally:
        fresh.unlink(missing_ok=True)
    write_bytes(LOCK, text.encode())
    write_bytes(ENVIRONMENT, environment(text).encode())


if __name__ == "__main__":
    main()
