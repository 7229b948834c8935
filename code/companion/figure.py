"""One figure as one file: from a fresh build or run where there is one, else by executing."""

from __future__ import annotations

import io
from pathlib import Path

from . import build, plotted
from .chapters import Chapter, Value
from .files import write_bytes
from .freshness import state
from .paths import BUILD
from .run import default_folder, finished, run

PICTURES, NUMBERS = ("pdf", "svg", "png"), ("csv", "npz")


def write(chapter: Chapter, name: str, values: dict[str, Value], path: Path) -> tuple[Path, bool]:
    """Write a figure to path, in the format of its ending.

    Returns the folder it was published in, and whether the chapter had to be executed. Raises
    OSError before that where path has no folder, another ending, or is one, and after it where
    the numbers are arrays that a table cannot hold.
    """
    kind = path.suffix.lower().lstrip(".")
    if kind not in PICTURES + NUMBERS:
        raise OSError(f"{path}: must end in .{', .'.join(PICTURES + NUMBERS)}")
    if path.is_dir() or not path.absolute().parent.is_dir():
        raise OSError(f"{path}: must be a file in a folder that exists")
    folder, executed = _published(chapter, name, values)
    write_bytes(path.resolve(), _content(folder / name, name, kind))
    return folder / name, executed


def _published(chapter: Chapter, name: str, values: dict[str, Value]) -> tuple[Path, bool]:
    declared = chapter.parameters()
    defaults = all(v == declared[k].default for k, v in values.items())
    built = BUILD / "figures"
    if defaults and (built / name).is_dir() and not build.stale([chapter]):
        return built, False
    sources = state(chapter)
    known = finished(default_folder(chapter, values), sources)
    folder, _ = run(chapter, values, keep=sources)
    return folder / "figures", known is None


def _content(folder: Path, name: str, kind: str) -> bytes:
    if kind in PICTURES:
        return (folder / f"{name}.{kind}").read_bytes()
    buffer, numbers = io.BytesIO(), plotted.load(folder / name)
    if kind == "csv" and not plotted.is_table(numbers):
        raise OSError(f"{name}: its numbers are arrays of several shapes: end the file in .npz")
    plotted.write(buffer, numbers, kind)
    return buffer.getvalue()
