"""One figure as one file: from a fresh build or run where there is one, else by executing."""

from __future__ import annotations

import io
import os
import re
from pathlib import Path

from . import build, plotted
from .chapters import Chapter, chapter_of_figure, chapters
from .files import write_bytes
from .freshness import state
from .parameters import Value
from .paths import BUILD, reference
from .run import default_folder, finished, run

PICTURES, NUMBERS = ("pdf", "svg", "png"), ("csv", "npz")


def find(name: str) -> tuple[Chapter, str]:
    """The chapter of a figure and the figure's name, given that or its number as the site shows it.

    Raises ValueError that lists what there is.
    """
    if not (number := re.fullmatch(r"0*(\d+)\.(\d+)", name)):
        return chapter_of_figure(name), name
    known = next((c for c in chapters() if int(c.number) == int(number[1])), None)
    if known is None:
        raise ValueError(f"{name!r}: there is no chapter {int(number[1])}")
    numbers = numbered(known)
    if found := numbers.get(int(number[2])):
        return known, found
    listed = ", ".join(f"{int(known.number)}.{n} {figure}" for n, figure in numbers.items())
    raise ValueError(f"{name!r}: the figures of {known.slug} that it makes are {listed}")


def numbered(chapter: Chapter) -> dict[int, str]:
    """The names of a chapter's figures by position; drawings in its text count, and have none."""
    place, found = 0, {}
    for cell in chapter.cells():
        if cell.cell_type == "markdown":
            place += len(re.findall(r"^ *(?:`{3,}|:{3,})\{figure\}", cell.source, re.M))
        elif figure := cell.metadata.get("mystnb", {}).get("figure"):
            place += 1
            found[place] = figure["name"]
    return found


def write(chapter: Chapter, name: str, values: dict[str, Value], path: Path) -> tuple[Path, bool]:
    """Write a figure to path, in the format of its ending.

    Returns the folder it was published in, and whether the chapter had to be executed. Raises
    OSError before that where path has no folder, another ending, or is one, or the reference's
    numbers are arrays that a table cannot hold; after it where only these are.
    """
    kind = path.suffix.lower().lstrip(".")
    if kind not in PICTURES + NUMBERS:
        raise OSError(f"{path}: must end in .{', .'.join(PICTURES + NUMBERS)}")
    folder = path.resolve().parent
    if path.is_dir() or not (folder.is_dir() and os.access(folder, os.W_OK)):
        raise OSError(f"{path}: must be a file in a folder that exists and can be written")
    if kind == "csv" and (known := plotted.load(reference() / name)):
        _refuse_arrays(name, known)
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
    if kind == "csv":
        _refuse_arrays(name, numbers)
    plotted.write(buffer, numbers, kind)
    return buffer.getvalue()


def _refuse_arrays(name: str, numbers: plotted.Plotted) -> None:
    if not plotted.is_table(numbers):
        raise OSError(f"{name}: its numbers are arrays of several shapes: end the file in .npz")
