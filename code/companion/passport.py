"""A figure's passport: all that is needed to make it again, or to see why it differs."""

from __future__ import annotations

import math
import platform
import subprocess
from functools import cache
from importlib.metadata import version
from pathlib import Path

from .chapters import Chapter
from .freshness import sha256_of, source_digests
from .paths import ROOT

PACKAGES = ("numpy", "scipy", "matplotlib")
LICENCE = "CC BY 4.0"


def passport(chapter: Chapter, name: str, fig, table: Path, deviation: dict | None) -> dict:
    """Everything that went into a figure, as plain JSON values."""
    parameters = _values(chapter)
    return {
        "figure": name,
        "chapter": chapter.slug,
        **chapter.figures()[name],
        "size_inches": [float(x) for x in fig.get_size_inches()],
        "parameters": parameters,
        "seed": parameters.get("seed"),
        "commit": commit(),
        "digests": source_digests(chapter),
        "data_file": {"name": table.name, "sha256": sha256_of(table)},
        # JSON has no infinity: null is a series that cannot be compared
        "deviation_from_reference": deviation
        and {k: d if math.isfinite(d) else None for k, d in deviation.items()},
        "packages": {p: version(p) for p in PACKAGES} | {"python": platform.python_version()},
        "licence": LICENCE,
        "reproduce": " ".join(
            ["tripartite run", chapter.number, *(f"-p {k}={v}" for k, v in parameters.items())]
        ),
    }


def _values(chapter: Chapter) -> dict:
    """The parameters as they are in the running kernel, else the chapter's defaults."""
    from IPython import get_ipython

    shell = get_ipython()
    live = shell.user_ns if shell else {}
    return {name: live.get(name, p.default) for name, p in chapter.parameters().items()}


@cache
def commit() -> str | None:
    """The checkout's commit, with "+" where files differ from it; None outside a checkout."""
    try:
        if not is_checkout():
            return None
        head = git("rev-parse", "HEAD")
        return head + ("+" if git("status", "--porcelain") else "")
    except (OSError, subprocess.CalledProcessError):
        return None


def is_checkout() -> bool:
    """Whether this is a git checkout of the project, and no folder within that of another one."""
    return Path(git("rev-parse", "--show-toplevel")).resolve() == ROOT.resolve()


def git(*arguments: str) -> str:
    command = ["git", "-C", str(ROOT), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
