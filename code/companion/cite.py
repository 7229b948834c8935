"""BibTeX for the companion, the paper, and the methods that a chapter cites."""

from __future__ import annotations

import re
import tomllib
from functools import cache
from pathlib import Path

from .chapters import Chapter
from .passport import commit
from .paths import BOOK, ROOT

PAPER = "kozachkov2023"
CITED = re.compile(r"\{cite(?::\w+)?\}`([^`]+)`")


def cite(chapter: Chapter | None = None, figure: str | None = None) -> dict[str, str]:
    """BibTeX entries by key: the companion at this version and commit, the paper, the methods.

    The methods are what the chapter cites. Raises OSError where book/references.bib is missing,
    and LookupError where it lacks a key.
    """
    known = _references(BOOK / "references.bib", (BOOK / "references.bib").stat().st_mtime_ns)
    keys = dict.fromkeys([PAPER, *(cited(chapter) if chapter else [])])
    if missing := [key for key in keys if key not in known]:
        raise LookupError(f"book/references.bib lacks {', '.join(missing)}")
    return {"companion": companion(chapter, figure)} | {key: known[key] for key in keys}


@cache
def _references(path: Path, changed: int) -> dict[str, str]:
    """Every entry of the book's references in BibTeX, made once for each version of the file."""
    from pybtex.database import BibliographyData, parse_file

    entries = parse_file(str(path), "bibtex").entries
    return {k: BibliographyData({k: e}).to_string("bibtex").strip() for k, e in entries.items()}


def cited(chapter: Chapter) -> list[str]:
    """Keys that the chapter cites, in its order; figure captions count."""
    captions = [figure["caption"] for figure in chapter.figures().values()]
    prose = [cell.source for cell in chapter.cells() if cell.cell_type == "markdown"]
    groups = CITED.findall("\n".join(prose + captions))
    return list(dict.fromkeys(key.strip() for group in groups for key in group.split(",")))


def companion(chapter: Chapter | None, figure: str | None) -> str:
    """The entry of this very checkout; its note has the commit, and where in the book to look."""
    import yaml

    meta = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    authors = " and ".join("{" + author["name"] + "}" for author in meta["authors"])
    places = [f"version {project['version']}"]
    if made := commit():
        changed = " with changes" if made.endswith("+") else ""
        places.append(f"commit {made.rstrip('+')[:12]}{changed}")
    if chapter:
        anchor = f"#{figure}" if figure else ""
        places.append(f"book/{chapter.slug}.html{anchor}")
    fields = {
        "author": authors,
        "title": meta["title"],
        "year": str(meta["date-released"])[:4],
        "version": project["version"],
        "note": ", ".join(places[1:]) or places[0],
    }
    if url := meta.get("url") or meta.get("repository-code"):
        fields["url"] = url
    lines = [f"    {name} = {{{content}}}" for name, content in fields.items()]
    name = "-".join(["tripartite-companion", *filter(None, [chapter and chapter.slug, figure])])
    return f"@software{{{name},\n" + ",\n".join(lines) + "\n}"
