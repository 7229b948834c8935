"""Re-execute one chapter with other parameters, by papermill, into runs/."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import sys
import tempfile
import time
from dataclasses import asdict
from multiprocessing import parent_process
from pathlib import Path

import nbformat

from . import plotted
from .chapters import Chapter, ChapterError
from .compare import Comparison, compare
from .execute import KERNEL, CellError, by_papermill
from .files import from_json, to_json
from .freshness import sha256_of, state
from .parameters import PATHS, Parameter, ParameterError, Value
from .paths import ROOT, reference

CONTENT = {"chapter.ipynb", "figures", "report.json"}  # of a run's folder


def parse(chapter: Chapter, assignments: dict[str, object]) -> dict[str, Value]:
    """Parameters from texts or values, checked against what the chapter declares.

    Raises ParameterError that lists the chapter's parameters for an unknown name, and says what
    is allowed for a value of the wrong type or out of range.
    """
    return {k: value(declared(chapter, k), given) for k, given in assignments.items()}


def declared(chapter: Chapter, name: str) -> Parameter:
    known = chapter.parameters()
    if name not in known:
        listed = "\n".join(f"  {p}" for p in known.values())
        problem = f"{name!r} is not one of its parameters"
        raise ParameterError(f"{chapter.slug}: {problem}, which are\n{listed}")
    return known[name]


def value(parameter: Parameter, given: object) -> Value:
    return parameter.parse(given) if isinstance(given, str) else parameter.check(given)


def read_file(path: Path) -> dict[str, object]:
    """Parameters of a YAML file, name: value; raises ParameterError where it is anything else."""
    import yaml

    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        reason = " ".join(str(error).split())
        raise ParameterError(f"{path}: {reason}: write plain lines, name: value") from None
    if not isinstance(content, dict) or not all(isinstance(name, str) for name in content):
        raise ParameterError(f"{path}: must hold lines that read name: value")
    return content


def default_folder(chapter: Chapter, values: dict[str, Value]) -> Path:
    return ROOT / "runs" / chapter.slug / name_of(chapter, values)


def name_of(chapter: Chapter, values: dict[str, Value]) -> str:
    """The folder's name of a run: what differs from the defaults, or a hash where that is long.

    Files and folders of the reader's own are in it by name and content.
    """
    known = chapter.parameters()
    changed = {
        k: _own(v) if PATHS.intersection(known[k].choices) and Path(v).is_absolute() else v
        for k, v in sorted(values.items())
        if v != known[k].default
    }
    if not changed:
        return "defaults"
    readable = "-".join(f"{k}={v}" for k, v in changed.items())
    if len(readable) <= 60 and all(c.isalnum() or c in "=-_." for c in readable):
        return readable
    return hashlib.sha256(json.dumps(changed).encode()).hexdigest()[:16]


def _own(path: str) -> str:
    """Name of a file and a digest of its content; of a folder, of what changes with its files."""
    place = Path(path)
    if place.is_dir():
        # two levels, as of a model, and no content: it may be a whole disk, by mistake
        files = [p for level in ("*", "*/*") for p in place.glob(level) if os.path.isfile(p)]
        stats = [(p.relative_to(place).as_posix(), p.stat()) for p in sorted(files)]
        content = [[name, stat.st_size, stat.st_mtime_ns] for name, stat in stats]
    else:
        content = sha256_of(place) if place.is_file() else None
    return f"{place.name}-{hashlib.sha256(json.dumps(content).encode()).hexdigest()[:12]}"


def run(
    chapter: Chapter,
    values: dict[str, Value],
    folder: Path | None = None,
    *,
    keep: str | None = None,
    engine: str | None = None,
) -> tuple[Path, Comparison]:
    """Execute a chapter with these parameters; returns the run's folder and what changed.

    The folder (default runs/SLUG/NAME, NAME from the parameters) appears when the run is
    complete: chapter.ipynb, figures/, report.json. One process at a time works on it; what a
    killed one left half-done is removed. Claims that do not hold with these parameters are
    reported, not raised. keep: where the folder holds a run of this state of the sources, it is
    returned. engine: papermill's; "warm" executes in this process.
    Raises OSError where the folder is something else than a run, and ChapterError where a cell
    fails; its notebook is kept beside the folder, which is left as it was.
    """
    from filelock import FileLock

    folder = (folder or default_folder(chapter, values)).absolute()
    refuse(folder)
    locks = folder.parent / ".locks"
    locks.mkdir(parents=True, exist_ok=True)
    with FileLock(locks / folder.name):
        if keep and (known := finished(folder, keep)):
            return folder, known
        for left in folder.parent.iterdir():
            if left.name.startswith(f".{folder.name}~"):
                shutil.rmtree(left, ignore_errors=True)
        partial = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}~"))
        # what is kept has the name that its values had when it was asked for
        of = (keep, folder.name) if keep else (state(chapter), name_of(chapter, values))
        try:
            return folder, _run(chapter, values, folder, partial, of, engine)
        finally:
            shutil.rmtree(partial, ignore_errors=True)


def _run(chapter, values, folder: Path, partial: Path, of: tuple[str, str], engine) -> Comparison:
    if engine == "warm":
        from papermill.engines import papermill_engines

        from .warm import engine as warm

        papermill_engines.register("warm", warm())
    os.environ |= {
        "TRIPARTITE_FIGURES": str(partial / "figures"),
        "TRIPARTITE_CLAIMS": "report",
    } | KERNEL
    start = time.monotonic()
    sources, named = of
    notebook = partial / "chapter.ipynb"
    failed = folder.with_name(folder.name + "-failed")
    report = {
        "chapter": chapter.slug,
        "parameters": {k: p.default for k, p in chapter.parameters().items()} | values,
        "sources": sources,
    }
    progress = engine is None and parent_process() is None and sys.stderr.isatty()
    try:
        by_papermill(chapter, notebook, values, engine=engine, progress=progress)
    except CellError as error:
        seconds = time.monotonic() - start
        _write(partial, report | {"error": error.args[1], "seconds": seconds})
        replace(partial, failed)
        raise ChapterError(f"{error} (see {failed})") from None
    seconds = time.monotonic() - start
    comparison = compare(nbformat.read(notebook, 4), chapter.read())
    # edited meanwhile: it is shown, but never taken for fresh
    if state(chapter) != sources or name_of(chapter, values) != named:
        report["sources"] = None
    _write(partial, report | {"seconds": seconds} | asdict(comparison))
    replace(partial, folder)
    shutil.rmtree(failed, ignore_errors=True)
    return comparison


def _write(folder: Path, report: dict) -> None:
    (folder / "report.json").write_text(to_json(report), encoding="utf-8")


def report_of(folder: Path) -> dict | None:
    """The report of a run, or None where there is none that can be read."""
    try:
        return from_json((folder / "report.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None


def details(folder: Path, comparison: Comparison) -> list[str]:
    """A line for everything that differs in a run; for a series of another shape, which one."""
    known = {}
    for name in comparison.figures:
        fresh, before = (plotted.load(at / name) for at in (folder / "figures" / name, reference()))
        for series, words in plotted.unlike(fresh, before).items() if fresh and before else ():
            known[name, series] = f"series {series!r} {words}"
    return comparison.details(known)


def finished(folder: Path, sources: str) -> Comparison | None:
    """What a run there of these very sources found; None where there is none."""
    report = report_of(folder)
    if not report or report.get("sources") != sources or "error" in report:
        return None
    if not all((folder / "figures" / name).is_dir() for name in report["figures"]):
        return None
    return Comparison(**{k: report[k] for k in Comparison.__dataclass_fields__})


def refuse(folder: Path) -> None:
    """Raise OSError where replacing the folder could destroy what is no run."""
    if folder.is_symlink():
        raise OSError(f"{folder} is a symbolic link: give the folder that it points to")
    if folder.exists() and not folder.is_dir():
        raise OSError(f"{folder} is a file: give a folder")
    if folder.exists() and not {path.name for path in folder.iterdir()} <= CONTENT:
        raise OSError(f"{folder} holds other files: give a new folder, or that of an earlier run")


def replace(source: Path, target: Path) -> None:
    """Give a finished folder its name; the one that had it goes when the new one is whole."""
    source.chmod(0o755)  # mkdtemp makes it private
    if target.exists():
        old = source.with_name(source.name + "-old")
        target.rename(old)
        source.rename(target)
        shutil.rmtree(old, ignore_errors=True)
    else:
        source.rename(target)
