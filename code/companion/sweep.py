"""Run a chapter over a grid of parameters, on local cores or a Dask cluster, into one table."""

from __future__ import annotations

import io
import itertools
import os
import shutil
import threading
from collections.abc import Iterator
from concurrent.futures import Executor, Future, ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from . import plotted
from .chapters import Chapter, named
from .files import to_json, write_bytes
from .freshness import state
from .parameters import Parameter, ParameterError, Value
from .run import declared, finished, name_of, refuse, report_of, value
from .warm import Server

SCHEDULER_S = 10  # for it to answer
STATISTICS = {
    "mean": np.mean,
    "rms": lambda x: np.sqrt(np.mean(x**2)),
    "min": np.min,
    "max": np.max,
}


@dataclass
class Swept:
    """How many runs of a grid there are, and with which error each failed one ended."""

    folder: Path
    runs: int
    kept: int = 0
    failed: dict[str, str] = field(default_factory=dict)
    tables: list[Path] = field(default_factory=list)


def grid(chapter: Chapter, assignments: dict[str, object]) -> list[dict[str, Value]]:
    """Every combination of the values: lists, or texts such as "100,1000" and "0..9".

    Raises ParameterError as `run.parse` does, before anything runs.
    """
    axes = {k: _values(declared(chapter, k), given) for k, given in assignments.items()}
    return [dict(zip(axes, point, strict=True)) for point in itertools.product(*axes.values())]


def _values(parameter: Parameter, given: object) -> list[Value]:
    if isinstance(given, str):
        given = [v for text in given.split(",") for v in _span(parameter, text)]
    listed = given if isinstance(given, list) else [given]
    if not listed:
        raise ParameterError(f"{parameter.name}: must have at least one value")
    return list(dict.fromkeys(value(parameter, v) for v in listed))


def _span(parameter: Parameter, text: str) -> list:
    """The whole numbers of "0..9", or of "0..90..10" in steps; else the text itself."""
    ends = text.split("..")
    if parameter.kind is not int or len(ends) not in (2, 3):
        return [text]
    try:
        first, last, step = (int(end) for end in [*ends, "1"][:3])
        return list(range(first, last + 1, step)) or [text]
    except ValueError:
        return [text]


def sweep(
    chapter: Chapter,
    points: list[dict[str, Value]],
    folder: Path,
    *,
    workers: int | None = None,
    scheduler: str | None = None,
    retry: bool = False,
) -> Swept:
    """Run every point that the folder does not hold yet; a failed one does not stop the rest.

    Finished runs of the same sources are kept, and so are runs in which a cell failed, unless
    retry; a run whose process died is tried again. Several sweeps may share the folder: each run
    is executed once. workers: processes on this machine; scheduler: of a Dask cluster whose
    workers see this checkout and the folder under the same paths.
    """
    from tqdm import tqdm

    folder = folder.absolute()
    sources = state(chapter)
    places = {folder / name_of(chapter, point): point for point in points}
    for place in places:
        refuse(place)
    result = Swept(folder, len(places))
    todo = []
    for place, point in places.items():
        report = _failure(place, sources)
        if finished(place, sources):
            result.kept += 1
        elif report and not retry and "retry" not in report:
            result.failed[place.name] = report["error"]
        else:
            todo.append((place, point))
    done = len(places) - len(todo)
    with (
        _executor(scheduler, workers) as executor,
        tqdm(total=len(places), initial=done, unit="run", disable=None) as bar,
    ):
        what = {"chapter": str(chapter.path), "state": sources}
        jobs = {
            executor.submit(attempt, what | {"values": point, "folder": str(place)}): place
            for place, point in todo
        }
        for future in as_completed(jobs):
            place = jobs[future]
            if error := _outcome(future):
                _record(place, places[place], chapter, sources, error)
                result.failed[place.name] = error
                bar.set_postfix(failed=len(result.failed))
            bar.update()
    result.tables = write_table(chapter, folder, sources)
    return result


_mine = threading.local()


def attempt(job: dict) -> str | None:
    """Run one point in this thread's warm server; returns the error of the run, or None."""
    key = job["chapter"], job["state"]  # other sources need a server that has imported them
    if getattr(_mine, "key", None) != key or not _mine.server.alive():
        _mine.server, _mine.key = Server(Path(job["chapter"])), key
    return _mine.server(job)


@contextmanager
def _executor(scheduler: str | None, workers: int | None) -> Iterator[Executor]:
    """Runs what it is given; after an error or Ctrl-C, what has begun and no more."""
    if scheduler is None:
        with ThreadPoolExecutor(workers or os.cpu_count() or 1) as executor:
            try:
                yield executor
            except BaseException:
                executor.shutdown(wait=False, cancel_futures=True)
                raise
        return
    from distributed import Client

    try:
        client = Client(scheduler, timeout=SCHEDULER_S)
    except (OSError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise OSError(f"--scheduler {scheduler}: no Dask scheduler answers ({reason})") from None
    with client:
        # two sweeps of one folder are two tasks, of which the second finds the first's run
        executor = client.get_executor(pure=False)
        try:
            yield executor
        except BaseException:
            executor.shutdown(wait=False)  # which cancels
            raise


def _outcome(future: Future) -> str | None:
    try:
        return future.result()
    except Exception as error:  # the worker that ran it is gone, and so were those after it
        return f"Died: {type(error).__name__}: {' '.join(str(error).split())[:200]}"


def _record(place: Path, point: dict, chapter: Chapter, sources: str, error: str) -> None:
    """Note the error of a run that could not do so itself: another try may end otherwise."""
    failed = place.with_name(place.name + "-failed")
    if _failure(place, sources) and error.startswith("ChapterError"):
        return
    known = {k: p.default for k, p in chapter.parameters().items()}
    report = {"chapter": chapter.slug, "parameters": known | point, "sources": sources}
    shutil.rmtree(failed, ignore_errors=True)
    text = to_json(report | {"error": error, "retry": True})
    write_bytes(failed / "report.json", text.encode())


def _failure(place: Path, sources: str) -> dict | None:
    report = report_of(place.with_name(place.name + "-failed"))
    return report if report and report.get("sources") == sources else None


def write_table(chapter: Chapter, folder: Path, sources: str) -> list[Path]:
    """All runs of these sources in the folder as table.csv and table.parquet.

    One row for each claim of a run, and for each statistic of each series of each figure: the
    parameters, then run, quantity, value, holds, bound, statement, seconds, error. A failed run
    has one row with its error.
    """
    import pyarrow as pa
    from pyarrow import csv, parquet

    kinds = {int: pa.int64(), float: pa.float64(), bool: pa.bool_(), str: pa.string()}
    schema = {k: kinds[p.kind] for k, p in chapter.parameters().items()} | {
        "run": pa.string(),
        "quantity": pa.string(),
        "value": pa.float64(),
        "holds": pa.bool_(),
        "bound": pa.string(),
        "statement": pa.string(),
        "seconds": pa.float64(),
        "error": pa.string(),
    }
    rows = [row for place in sorted(folder.iterdir()) for row in _rows(place, sources)]
    table = pa.Table.from_pylist(rows, pa.schema(list(schema.items())))
    written = []
    for suffix, write in (("csv", csv.write_csv), ("parquet", parquet.write_table)):
        buffer = io.BytesIO()
        write(table, buffer)
        written.append(folder / f"table.{suffix}")
        write_bytes(written[-1], buffer.getvalue())
    return written


def _rows(place: Path, sources: str) -> Iterator[dict]:
    report = None if place.name.startswith(".") else report_of(place)
    if not report or report.get("sources") != sources:
        return
    row = report["parameters"] | {"run": place.name, "seconds": report.get("seconds")}
    if "error" in report:
        yield row | {"error": report["error"]}
        return
    for name, claim in named(report["claims"]).items():
        yield row | {
            "quantity": f"claim {name}",
            "value": claim["observed"],
            **{k: claim[k] for k in ("holds", "bound", "statement")},
        }
    for name in report["figures"]:
        data = plotted.load(place / "figures" / name / name) or {}
        for series, x in data.items():
            for statistic, number in _summary(x):
                yield row | {"quantity": f"figure {name}/{series}/{statistic}", "value": number}


def _summary(x: np.ndarray) -> Iterator[tuple[str, float]]:
    """Statistics of what is finite in a series; a single number is its value."""
    if x.dtype.kind not in "U" and (finite := x[np.isfinite(x)].astype(float)).size:
        if x.size == 1:
            yield "value", float(finite[0])
            return
        for name, statistic in STATISTICS.items():
            yield name, float(statistic(finite))
