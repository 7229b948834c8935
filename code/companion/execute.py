"""Execute chapters, two at a time, and write each result whole or not at all."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import get_context
from pathlib import Path

import nbformat

from .chapters import Chapter, ChapterError
from .files import write_bytes
from .paths import BOOK

TIMEOUT_S = 600  # for one cell; a chapter takes 15 s at its defaults

# chapters run side by side: one thread each, or they wait for each other's
THREADS = os.environ.get("TRIPARTITE_THREADS", "1")
KERNEL = {"TRIPARTITE_QUIET": "1", "OMP_NUM_THREADS": THREADS, "OPENBLAS_NUM_THREADS": THREADS}
# else every kernel warns that it talks over a local port, and a busy one that its end interrupts it
ARGUMENTS = ["--IPKernelApp.log_level=50"]


def execute(chapter: Chapter, output: Path, environment: dict[str, str]) -> float:
    """Execute a chapter in book/ and write it with its outputs; returns seconds.

    environment: what its kernel gets besides this process's. Raises ChapterError, with the
    cell's own error, where a cell fails.
    """
    from nbclient import NotebookClient
    from nbclient.exceptions import CellExecutionError

    os.environ.update(environment | KERNEL)
    start = time.monotonic()
    notebook = chapter.read()
    client = NotebookClient(
        notebook,
        timeout=TIMEOUT_S,
        kernel_name="python3",
        record_timing=False,
        extra_arguments=ARGUMENTS,
        resources={"metadata": {"path": str(BOOK)}},
    )
    try:
        client.execute()
    except CellExecutionError as error:
        raise ChapterError(f"{chapter.slug}: {error.ename}: {error.evalue}") from None
    except RuntimeError as error:
        raise no_kernel(chapter, error) from None
    save(notebook, output)
    return time.monotonic() - start


def no_kernel(chapter: Chapter, error: RuntimeError) -> ChapterError:
    """What to say of a kernel that does not start (no loopback network, no memory) or dies."""
    reason = " ".join(str(error).split())
    return ChapterError(f"{chapter.slug}: {reason}; tripartite doctor checks what a kernel needs")


def execute_all(
    chapters: list[Chapter], folder: Path, environment: dict[str, str]
) -> Iterator[tuple[Chapter, float | ChapterError]]:
    """Execute chapters into a folder; yields each with its seconds, or its error, as it ends."""
    workers = min(len(chapters), os.cpu_count() or 1)
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
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
