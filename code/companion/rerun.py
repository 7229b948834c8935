"""Run a chapter in a process of its own, under any settings, and keep what it found."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path

import nbformat

from .claims import recorded
from .files import write_bytes
from .parameters import Value
from .paths import ROOT
from .run import report_of


def rerun(
    slug: str,
    values: dict[str, Value],
    kept: Path,
    of: str,
    *,
    python: str = sys.executable,
    root: Path = ROOT,
    environment: dict[str, str] | None = None,
    prefix: Iterable[str] = (),
) -> dict:
    """Claims by name, deviation and tolerance of each figure, texts that differ, seconds; or an error.

    kept: JSON file with the result, which is read where it is there and of the same sources: an
    interrupted job resumes. of: digest of these sources, `freshness.computed`.
    python, root, environment: interpreter, checkout and variables of the run; prefix: words before
    its command.
    """
    if kept.exists() and (known := json.loads(kept.read_text(encoding="utf-8"))).get("of") == of:
        return known
    command = [*prefix, python, "-P", "-m", "companion.cli", "run", slug]
    command += [word for name, value in values.items() for word in ("-p", f"{name}={value}")]
    settings = os.environ | {"PYTHONPATH": str(root / "code"), "TRIPARTITE_PICTURES": "none"}
    settings |= environment or {}
    start = time.monotonic()
    for _ in range(2):  # a busy machine may not start a kernel in time
        with tempfile.TemporaryDirectory() as temporary:
            folder = Path(temporary) / "run"
            done = subprocess.run(
                [*command, "-o", str(folder)],
                env=settings,
                cwd=root,
                capture_output=True,
                text=True,
            )
            found = _read(folder)
        result = {"of": of, "parameters": values, "seconds": round(time.monotonic() - start, 1)}
        if found:
            write_bytes(kept, json.dumps(result | found).encode())
            return result | found
    message = (done.stderr.strip().splitlines() or ["no message"])[-1]
    return result | {"error": message.split(" (see ")[0]}  # its folder is gone


def _read(folder: Path) -> dict:
    report = report_of(folder)
    if not report:
        return {}
    figures = {
        name: (max(d.values()) if d else math.inf, report["tolerances"][name])
        for name, d in report["figures"].items()
    }
    claims = recorded(nbformat.read(folder / "chapter.ipynb", 4).cells)
    return {"claims": claims, "figures": figures, "differences": report["differences"]}


def together(jobs: dict, workers: int, say) -> Iterator[tuple[object, dict]]:
    """Results of calls by name as they end, some at a time; say: gets a line for each."""
    with ThreadPoolExecutor(workers) as pool:
        futures = {pool.submit(job): name for name, job in jobs.items()}
        for n, future in enumerate(as_completed(futures), 1):
            name, result = futures[future], future.result()
            failed = [c for c in result.get("claims", {}).values() if not c["holds"]]
            verdict = result.get("error") or f"{len(failed)} claims fail"
            say(f"{n}/{len(jobs)} {name}: {result['seconds']:.0f} s, {verdict}")
            yield name, result
