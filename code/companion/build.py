"""Build the site: execute stale chapters into a staged copy, compare, run Jupyter Book on it."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import nbformat

from . import plotted
from .chapters import Chapter, chapters
from .compare import Comparison, compare
from .compare import cell as differences_of
from .execute import ChapterError, execute_all, save
from .files import write_bytes
from .freshness import state
from .paths import BOOK, BUILD, DATA, ROOT
from .publish import shown

EXECUTED = BUILD / "chapters"


class BuildError(RuntimeError):
    """The site could not be built."""


def stale(known: list[Chapter]) -> list[Chapter]:
    """Chapters whose executed copy is missing or was made from other sources."""
    return [c for c in known if _executed_state(c) != state(c)]


def refresh(known: list[Chapter], say) -> dict[str, Comparison]:
    """Execute what is stale and compare every chapter with its committed outputs.

    say: called with a line of text as each chapter ends. Raises BuildError after all have run if
    one has failed.
    """
    old = stale(known)
    states = {chapter: state(chapter) for chapter in old}
    environment = {"TRIPARTITE_FIGURES": str(BUILD / "figures")}
    errors = []
    if old:
        say(f"executing {len(old)} of {len(known)} chapters: up to 15 s each on an idle machine")
        for chapter, result in execute_all(old, EXECUTED, environment):
            if isinstance(result, ChapterError):
                errors.append(str(result))
                say(f"  {chapter.slug}: failed")
                continue
            write_bytes(EXECUTED / f"{chapter.slug}.state", states[chapter].encode())
            say(f"  {chapter.slug}: {result:.1f} s")
    if errors:
        raise BuildError("\n".join(errors))
    found = {}
    for chapter in known:
        save(notebook := executed(chapter), EXECUTED / chapter.path.name)
        found[chapter.slug] = compare(notebook, chapter.read())
    return found


def executed(chapter: Chapter) -> nbformat.NotebookNode:
    """The chapter as it is now, with the outputs of its last execution: prose is not executed."""
    before = {cell.id: cell for cell in nbformat.read(EXECUTED / chapter.path.name, 4).cells}
    notebook = chapter.read()
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs = before[cell.id].outputs
            cell.execution_count = before[cell.id].execution_count
    return notebook


def _executed_state(chapter: Chapter) -> str | None:
    """The state of the sources that the executed copy was made from, None where there is none."""
    note = EXECUTED / f"{chapter.slug}.state"
    there = note.exists() and (EXECUTED / chapter.path.name).exists()
    return note.read_text() if there else None


def stage(folder: Path, notebooks: dict[str, Path], figures: Path | None) -> None:
    """Mirror what Jupyter Book reads into a folder, with these notebooks as the chapters.

    Files that are the same are left alone, so that Sphinx reads only what has changed.
    """
    wanted = {Path(name): ROOT / name for name in ("_config.yml", "_toc.yml")}
    for path in BOOK.rglob("*"):
        ours = path.suffix != ".ipynb" and not any(p.startswith((".", "__")) for p in path.parts)
        if path.is_file() and ours:
            wanted[path.relative_to(ROOT)] = path
    wanted |= {Path("book") / name: path for name, path in notebooks.items()}
    if figures and figures.exists():
        for path in figures.rglob("*"):
            if path.is_file():
                inside = path.relative_to(figures)
                if len(inside.parts) == 1:  # data/reference is flat
                    inside = Path(path.stem, path.name)
                wanted[Path("book/_extra/figures") / inside] = path
    changed = [n for n, source in wanted.items() if write_bytes(folder / n, source.read_bytes())]
    built = folder / "_build"
    if any({"_ext", "_static", "_templates"} & set(name.parts) for name in changed):
        shutil.rmtree(built, ignore_errors=True)  # Sphinx does not ask whether these have changed
    staged = [p for p in folder.rglob("*") if p.is_file() and built not in p.parents]
    gone = [path for path in staged if path.relative_to(folder) not in wanted]
    for path in gone:
        path.unlink()
    if gone:
        shutil.rmtree(built, ignore_errors=True)  # it may hold pages of what is gone


def site(folder: Path, builder: str = "html") -> Path:
    """Build the staged book, with warnings as errors; returns the folder of the site.

    builder: html, or singlehtml for a book in one page.

    Raises BuildError with Sphinx's warnings.
    """
    # not by its script, whose first line a space in the path would break
    run = "import sys; from jupyter_book.cli.main import main; sys.exit(main())"
    command = [
        sys.executable,
        "-c",
        run,
        "build",
        "-W",
        "-n",
        "--keep-going",
        "-q",
        "--builder",
        builder,
    ]
    log = folder.with_suffix(".log")
    result = subprocess.run([*command, str(folder)], capture_output=True, text=True)
    log.write_text(result.stdout + result.stderr, encoding="utf-8")
    html = folder / "_build" / builder
    if result.returncode:
        warnings = [s for s in log.read_text().splitlines() if "WARNING" in s or "ERROR" in s]
        # else a second build would not read the page again, and pass over its warning
        shutil.rmtree(folder / "_build", ignore_errors=True)
        raise BuildError("\n".join([*(warnings or ["Jupyter Book failed"]), f"(all in {log})"]))
    return html


def stage_committed(folder: Path) -> Path:
    """Stage the committed outputs, with the committed numbers of their figures."""
    stage(folder, {c.path.name: c.path for c in chapters()}, DATA / "reference")
    return folder


def committed_site(folder: Path) -> Path:
    """Build the site from the committed outputs, executing nothing."""
    return site(stage_committed(folder))


def keep_what_agrees(
    fresh: nbformat.NotebookNode, committed: nbformat.NotebookNode
) -> nbformat.NotebookNode:
    """The fresh notebook, with committed outputs where only rounding differs; figures and explorers are drawn anew."""
    before = {cell.id: cell for cell in committed.cells if cell.cell_type == "code"}
    for run in fresh.cells:
        if run.cell_type != "code" or run.id not in before:
            continue
        old = before[run.id].outputs
        drawn = any(
            "figure" in o.get("metadata", {}).get("tripartite", {})
            or 'class="explorer"' in o.get("data", {}).get("text/html", "")
            for o in run.outputs
        )
        if old and not drawn and not differences_of(run.outputs, old):
            run.outputs = old
            for output in (o for o in old if "execution_count" in o):
                output.execution_count = run.execution_count
    return fresh


def _show(notebook: nbformat.NotebookNode, name: str, numbers: plotted.Plotted) -> None:
    """Put the fingerprint of these numbers under a figure, in place of its own."""
    for output in (o for cell in notebook.cells for o in cell.get("outputs", [])):
        if output.get("metadata", {}).get("tripartite", {}).get("figure") == name:
            output.data["text/plain"] = shown(name, numbers)


def accept(known: list[Chapter], say) -> None:
    """Execute chapters and make their outputs, and their figures' numbers, the new reference."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        environment = {
            "TRIPARTITE_FIGURES": str(folder / "figures"),
            "TRIPARTITE_REFERENCE": str(folder / "none"),
        }
        for chapter, result in execute_all(known, folder, environment):
            if isinstance(result, ChapterError):
                raise BuildError(str(result))
            fresh = nbformat.read(folder / chapter.path.name, 4)
            tolerances = compare(fresh, fresh).tolerances
            for name in chapter.figures():
                numbers = plotted.load(folder / "figures" / name / name)
                before = plotted.load(DATA / "reference" / name)
                if before and plotted.agree(numbers, before, tolerances[name]):
                    _show(fresh, name, before)
                else:
                    plotted.save(numbers, DATA / "reference" / name)
            save(keep_what_agrees(fresh, chapter.read()), chapter.path)
            say(f"  {chapter.slug}: {result:.1f} s, {len(chapter.figures())} figures")
