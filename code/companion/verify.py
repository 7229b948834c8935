"""Re-execute chapters, compare with the references, and say what a difference can come from."""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import nbformat

from .chapters import Chapter
from .compare import Comparison
from .execute import processes
from .freshness import data_read, modules, registry, sha256_of
from .lock import pins
from .parameters import ParameterError, Value, parse_parameters
from .passport import git, is_checkout
from .paths import DATA, LOCK, ROOT
from .run import run

NO_CHECKOUT = "code: cannot tell, this is no git checkout"


def verify(known: list[Chapter], values: dict[str, Value]) -> Iterator[tuple[Chapter, Comparison]]:
    """Execute every chapter, two at a time, and compare; yields each, in order, when it has run.

    Raises ChapterError where a cell fails.
    """
    if len(known) == 1:
        yield known[0], _compared(known[0], values)
        return
    with processes(2) as pool:
        jobs = {chapter: pool.submit(_compared, chapter, values) for chapter in known}
        for chapter, job in jobs.items():
            yield chapter, job.result()


def _compared(chapter: Chapter, values: dict[str, Value]) -> Comparison:
    with tempfile.TemporaryDirectory() as folder:
        return run(chapter, values, Path(folder) / "run")[1]


def causes(chapter: Chapter, values: dict[str, Value]) -> list[str]:
    """What differs from how the references were made: parameters, seed, packages, data, code."""
    found = [*_parameters(chapter, values), *_packages(), *_data(chapter), *_edits(chapter)]
    return found or [
        "nothing found in parameters, seed, packages, data or code: "
        "another processor or BLAS, or randomness without a seed"
    ]


def _parameters(chapter: Chapter, values: dict[str, Value]) -> list[str]:
    before, lines = _committed_defaults(chapter), []
    for name, parameter in chapter.parameters().items():
        now, was = values.get(name, parameter.default), before.get(name, parameter.default)
        if now != was:
            kind = "seed" if name.endswith("seed") else "parameters"
            lines.append(f"{kind}: {name} = {now!r}, the reference has {was!r}")
    return lines


def _committed_defaults(chapter: Chapter) -> dict[str, Value]:
    try:
        here = chapter.path.relative_to(ROOT).as_posix()
        text = git("show", f"{_reference_commit(chapter) or 'HEAD'}:./{here}")
        cells = nbformat.reads(text, 4).cells
        (cell,) = (c for c in cells if "parameters" in c.metadata.get("tags", []))
        return {name: p.default for name, p in parse_parameters(cell.source).items()}
    except (OSError, subprocess.CalledProcessError, ValueError, ParameterError):
        return {}


def _packages() -> list[str]:
    different = differing_packages()
    return [f"package version: {', '.join(different)}"] if different else []


def differing_packages() -> list[str]:
    """Installed packages whose version is not that of the lock."""
    lines = []
    for name, pin in pins(LOCK.read_text(encoding="utf-8")).items():
        try:
            if (installed := version(name)) != pin:
                lines.append(f"{name} {installed}, the lock has {pin}")
        except PackageNotFoundError:  # of another platform, or of an extra
            pass
    return lines


def _data(chapter: Chapter) -> list[str]:
    """Files that the chapter reads and that are not what data/registry.txt says of them."""
    stated = registry()
    names = {path.relative_to(DATA).as_posix(): path for path in data_read(chapter)}
    return [
        f"data: {name} has another SHA-256 than data/registry.txt states"
        for name, path in names.items()
        if name in stated and (not path.exists() or sha256_of(path) != stated[name])
    ]


def _edits(chapter: Chapter) -> list[str]:
    """What git knows to have changed since the chapter's references were committed."""
    here = chapter.path.relative_to(ROOT).as_posix()
    data = [path.relative_to(ROOT).as_posix() for path in data_read(chapter)]
    try:
        if not is_checkout():
            return [NO_CHECKOUT]
        if not (commit := _reference_commit(chapter)):
            return []
        lines = []
        if git("rev-parse", "--is-shallow-repository") == "true":
            lines.append("history: cut off in this clone; git fetch --unshallow, then verify again")
        code = [path.relative_to(ROOT).as_posix() for path in modules(chapter.code())]
        for part, paths in {"code": code, "data": data, "chapter": [here]}.items():
            if changed := _changed("HEAD", paths):
                lines.append(f"{part}: edited, not committed: {changed}")
        for part, paths in {"code": code, "data": data}.items():
            if not any(line.startswith(part) for line in lines):
                if changed := _changed(commit, paths):
                    lines.append(f"{part}: changed since the reference ({commit}): {changed}")
        before, now = pins(git("show", f"{commit}:./{LOCK.name}")), pins(LOCK.read_text())
        moved = [f"{k} {before[k]} to {v}" for k, v in now.items() if before.get(k, v) != v]
        if moved:
            lines.append(f"lock: changed since the reference ({commit}): {_short(moved)}")
        return lines
    except (OSError, subprocess.CalledProcessError):
        return [NO_CHECKOUT]


def _changed(commit: str, paths: list[str]) -> str:
    """Files under these paths that differ from the commit."""
    if not paths:
        return ""
    return _short(git("diff", "--relative", "--name-only", commit, "--", *paths).splitlines())


def _reference_commit(chapter: Chapter) -> str:
    """The last commit that touched the numbers of the chapter's figures; empty where none did."""
    references = [f"data/reference/{name}.*" for name in chapter.figures()]
    return git("log", "-1", "--format=%h", "--", *references)


def _short(listed: list[str]) -> str:
    return ", ".join(listed[:4]) + (f" and {len(listed) - 4} more" if len(listed) > 4 else "")


def lines(report: dict) -> list[str]:
    """A chapter's report: figure, quantity, difference, tolerance, verdict; texts; causes."""
    table = [("figure", "quantity", "difference, value", "tolerance", "verdict")]
    for row in report["rows"]:
        difference = "" if row["difference"] is None else f"{row['difference']:.2g}"
        difference = difference.replace("inf", "shape or words")
        quantity = row["quantity"] if len(row["quantity"]) <= 60 else row["quantity"][:57] + "..."
        limit = str(row["tolerance"])
        table.append((row["figure"] or "-", quantity, difference, limit, row["verdict"]))
    widths = [max(len(row[column]) for row in table) for column in range(5)]
    shown = ["  ".join(f"{x:{w}}" for x, w in zip(row, widths)).rstrip() for row in table]
    texts = [line for text in report["texts"] for line in text.splitlines()]
    causes = [f"cause? {cause}" for cause in report["causes"]]
    return [report["chapter"], *(f"  {line}" for line in [*shown, *texts, *causes])]
