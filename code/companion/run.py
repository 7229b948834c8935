"""Re-execute one chapter with other parameters, by papermill, into runs/."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from dataclasses import asdict
from pathlib import Path

import nbformat

from .chapters import Chapter, ParameterError, Value
from .compare import Comparison, compare
from .execute import ARGUMENTS, KERNEL, ChapterError
from .paths import BOOK, ROOT


def parse(chapter: Chapter, assignments: tuple[str, ...]) -> dict[str, Value]:
    """Parameters from name=value texts, checked against what the chapter declares.

    Raises ParameterError that lists the chapter's parameters for an unknown name, and says what
    is allowed for a value of the wrong type or out of range.
    """
    declared = chapter.parameters()
    values = {}
    for assignment in assignments:
        name, equals, text = assignment.partition("=")
        if not equals or name not in declared:
            listed = "\n".join(f"  {p}" for p in declared.values())
            problem = "is not one of its parameters" if equals else "must read name=value"
            raise ParameterError(f"{chapter.slug}: {name!r} {problem}, which are\n{listed}")
        values[name] = declared[name].parse(text)
    return values


def run(
    chapter: Chapter, values: dict[str, Value], folder: Path | None = None
) -> tuple[Path, Comparison]:
    """Execute a chapter with these parameters; returns the run's folder and what changed.

    The folder (default runs/SLUG/NAME, NAME from the parameters) appears when the run is
    complete: chapter.ipynb, figures/, report.json. Claims that do not hold with these parameters
    are reported, not raised. Raises ChapterError where a cell fails; its notebook is kept.
    """
    import papermill
    from papermill.exceptions import PapermillExecutionError

    folder = folder or ROOT / "runs" / chapter.slug / _name(values)
    folder.parent.mkdir(parents=True, exist_ok=True)
    partial = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}."))
    os.environ |= {
        "TRIPARTITE_FIGURES": str(partial / "figures"),
        "TRIPARTITE_CLAIMS": "report",
    } | KERNEL
    try:
        papermill.execute_notebook(
            str(chapter.path),
            str(partial / "chapter.ipynb"),
            parameters=values,
            cwd=str(BOOK),
            kernel_name="python3",
            extra_arguments=ARGUMENTS,
        )
    except PapermillExecutionError as error:
        failed = folder.with_name(folder.name + "-failed")
        _replace(partial, failed)
        raise ChapterError(
            f"{chapter.slug}: {error.ename}: {error.evalue} (see {failed})"
        ) from None
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise
    fresh = nbformat.read(partial / "chapter.ipynb", 4)
    comparison = compare(fresh, chapter.read())
    report = {"chapter": chapter.slug, "parameters": values} | asdict(comparison)
    (partial / "report.json").write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    _replace(partial, folder)
    return folder, comparison


def _name(values: dict[str, Value]) -> str:
    if not values:
        return "defaults"
    canonical = json.dumps(values, sort_keys=True)
    readable = "-".join(f"{k}={v}" for k, v in sorted(values.items()))
    if len(readable) <= 60 and all(c.isalnum() or c in "=-_." for c in readable):
        return readable
    return hashlib.sha256(canonical.encode()).hexdigest()[:16]


def _replace(source: Path, target: Path) -> None:
    source.chmod(0o755)  # mkdtemp makes it private
    if target.exists():
        shutil.rmtree(target)
    source.rename(target)
