"""Execute chapters by papermill, two at a time, and write each result whole or not at all."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import contextmanager
from multiprocessing import active_children, get_context
from pathlib import Path

import nbformat

from .chapters import Chapter, ChapterError
from .files import write_bytes
from .parameters import Value
from .paths import BOOK

TIMEOUT_S = 600  # for one cell; a chapter takes 15 s at its defaults

# chapters run side by side: one thread each, or they wait for each other's
THREADS = os.environ.get("TRIPARTITE_THREADS", "1")
KERNEL = {"TRIPARTITE_QUIET": "1", "OMP_NUM_THREADS": THREADS, "OPENBLAS_NUM_THREADS": THREADS}
# else every kernel warns that it talks over a local port, and a busy one that its end interrupts it
ARGUMENTS = ["--IPKernelApp.log_level=50"]


class CellError(ChapterError):
    """A cell failed: the chapter's slug, and the cell's own error."""

    def __str__(self) -> str:
        return ": ".join(self.args)


def by_papermill(
    chapter: Chapter,
    output: Path,
    values: dict[str, Value] | None = None,
    *,
    engine: str | None = None,
    progress: bool = False,
    timeout: float | None = None,
) -> nbformat.NotebookNode:
    """Execute a chapter in book/ with these parameters; returns it as executed.

    output: where papermill writes it as it goes, so that what failed can be looked at.
    engine: papermill's; "warm" executes in this process. timeout: seconds for one cell.
    Raises CellError where a cell fails, ChapterError where no kernel starts.
    """
    import papermill
    from papermill.exceptions import PapermillExecutionError

    try:
        return papermill.execute_notebook(
            chapter.read(),
            str(output).replace("{", "{{").replace("}", "}}"),  # papermill formats it
            parameters=values,
            cwd=str(BOOK),
            kernel_name="python3",
            language="python",
            engine_name=engine,
            progress_bar=progress,
            request_save_on_cell_execute=False,
            **({} if engine else {"extra_arguments": ARGUMENTS, "execution_timeout": timeout}),
        )
    except PapermillExecutionError as error:
        raise CellError(chapter.slug, f"{error.ename}: {error.evalue}") from None
    except RuntimeError as error:
        raise no_kernel(chapter, error) from None


def execute(chapter: Chapter, output: Path, environment: dict[str, str]) -> float:
    """Execute a chapter at its defaults and write it as it is committed; returns seconds.

    environment: what its kernel gets besides this process's. Raises ChapterError as by_papermill.
    """
    os.environ.update(environment | KERNEL)
    start = time.monotonic()
    notebook = chapter.read()
    with tempfile.TemporaryDirectory() as folder:
        done = by_papermill(chapter, Path(folder) / "chapter.ipynb", timeout=TIMEOUT_S)
    for cell, executed in zip(notebook.cells, done.cells, strict=True):
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = executed.outputs, executed.execution_count
    save(notebook, output)
    return time.monotonic() - start


@contextmanager
def processes(workers: int) -> Iterator[ProcessPoolExecutor]:
    """A pool whose processes end at once where its block is left by an error or an interrupt.

    Else it would first execute all that was submitted; the kernels end with their parents.
    """
    pool = ProcessPoolExecutor(workers, mp_context=get_context("spawn"))
    try:
        yield pool
    except BaseException:
        pool.shutdown(wait=False, cancel_futures=True)
        for process in active_children():
            process.terminate()
            process.join()
        raise
    pool.shutdown()


def no_kernel(chapter: Chapter, error: RuntimeError) -> ChapterError:
    """What to say of a kernel that does not start (no loopback network, no memory) or dies."""
    reason = " ".join(str(error).split())
    return ChapterError(f"{chapter.slug}: {reason}; tripartite doctor checks what a kernel needs")


def execute_all(
    chapters: list[Chapter], folder: Path, environment: dict[str, str]
) -> Iterator[tuple[Chapter, float | ChapterError]]:
    """Execute chapters into a folder; yields each with its seconds, or its error, as it ends."""
    workers = min(len(chapters), os.cpu_count() or 1)
    with processes(workers) as pool:
        jobs = {
            pool.submit(execute, chapter, folder / chapter.path.name, environment): chapter
            for chapter in chapters
        }
        for job in as_completed(jobs):
            try:
                yield jobs[job], job.result()
            except ChapterError as error:
                yield jobs[job], error


def save(notebook: nbformat.NotebookNode, path: Path) -> None:
    """Write a notebook as it is committed: without what differs from machine to machine."""
    notebook.metadata = nbformat.from_dict(
        {
            "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
            "language_info": {"name": "python"},
        }
    )
    nbformat.validate(notebook)
    write_bytes(path, (nbformat.writes(notebook) + "\n").encode())
