"""The chapters as files: which there are, their parameters, their figures."""

from __future__ import annotations

from dataclasses import dataclass
from difflib import get_close_matches
from functools import cache
from pathlib import Path

import nbformat

from .parameters import Parameter, ParameterError, parse_parameters
from .paths import BOOK


class ChapterError(RuntimeError):
    """A chapter cannot be read, or did not run to its end."""


@dataclass(frozen=True)
class Chapter:
    """A chapter's notebook in book/."""

    path: Path

    @property
    def slug(self) -> str:
        return self.path.stem

    @property
    def number(self) -> str:
        return self.slug.split("-")[0]

    def read(self) -> nbformat.NotebookNode:
        """The notebook, which the caller may change; raises ChapterError where the file is not one."""
        return _read(self.path)

    def cells(self) -> list:
        """All cells, parsed once for each version of the file: to read, not to change."""
        return _cells(self.path, self.path.stat().st_mtime_ns)

    def code_cells(self) -> list:
        return [cell for cell in self.cells() if cell.cell_type == "code"]

    def parameters(self) -> dict[str, Parameter]:
        """Parameters by name; raises ParameterError where there is not just one cell of them."""
        found = [c for c in self.code_cells() if "parameters" in c.metadata.get("tags", [])]
        if len(found) != 1:
            raise ParameterError(f"{self.slug}: has {len(found)} parameters cells, must have one")
        return parse_parameters(found[0].source)

    def figures(self) -> dict[str, dict]:
        """Name -> caption and alt text of every figure that the chapter publishes."""
        described = {}
        for cell in self.code_cells():
            shown = cell.metadata.get("mystnb", {})
            if "figure" in shown:
                figure = {"caption": shown["figure"].get("caption", "")}
                described[shown["figure"]["name"]] = figure | {
                    "alt": shown.get("image", {}).get("alt", "")
                }
        return described

    def claims(self) -> dict[str, dict]:
        """The claims among the committed outputs, by name."""
        outputs = [output for cell in self.code_cells() for output in cell.get("outputs", [])]
        notes = [output.get("metadata", {}).get("tripartite", {}) for output in outputs]
        return named([note["claim"] for note in notes if "claim" in note])

    def code(self) -> str:
        return "\n".join(cell.source for cell in self.code_cells())


def named(claims: list[dict]) -> dict[str, dict]:
    """A chapter's claims by name; raises ChapterError where two have the same."""
    names = {claim["name"]: claim for claim in claims}
    if len(names) != len(claims):
        raise ChapterError("two claims of a chapter have the same name")
    return names


@cache
def _cells(path: Path, changed: int) -> list:
    return _read(path).cells


def _read(path: Path) -> nbformat.NotebookNode:
    try:
        invalid: dict = {}
        notebook = nbformat.read(path, 4, capture_validation_error=invalid)
        if error := invalid.get("ValidationError"):
            raise ValueError(error)
        return notebook
    except (ValueError, TypeError, AttributeError, KeyError, nbformat.ValidationError) as error:
        reason = str(error).splitlines()[0][:100]
        raise ChapterError(
            f"{path.name} is not a notebook ({reason}): git checkout book/{path.name} restores it"
        ) from None


def chapters() -> list[Chapter]:
    """All chapters in reading order."""
    return [Chapter(path) for path in sorted(BOOK.glob("[0-9][0-9]-*.ipynb"))]


def find(name: str) -> Chapter:
    """The chapter of that number ("04") or slug; raises LookupError that lists all."""
    known = chapters()
    number = name.zfill(2)
    for chapter in known:
        if name == chapter.slug or number == chapter.number or name == chapter.slug[3:]:
            return chapter
    raise LookupError(f"chapter {name!r}: must be one of {', '.join(c.slug for c in known)}")


@cache
def _by_figure() -> dict[str, Chapter]:
    return {name: chapter for chapter in chapters() for name in chapter.figures()}


def chapter_of_figure(name: str) -> Chapter:
    """The chapter whose cell metadata declares that figure; raises ValueError where none does."""
    try:
        return _by_figure()[name]
    except KeyError:
        near = get_close_matches(name, _by_figure(), 3, 0.5)
        hint = f"; near it: {', '.join(near)}" if near else ""
        raise ValueError(
            f"name = {name!r}: no cell in book/ has it as its metadata mystnb.figure.name{hint}"
        ) from None
