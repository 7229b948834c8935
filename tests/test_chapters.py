"""What every committed chapter must be: executed, without errors, described, free of paths."""

import re

import pytest

from companion import plotted
from companion.chapters import chapters
from companion.parameters import ParameterError, parse_parameters
from companion.paths import DATA, ROOT

CHAPTERS = {chapter.slug: chapter for chapter in chapters()}
every_chapter = pytest.mark.parametrize("chapter", CHAPTERS.values(), ids=CHAPTERS)


def notes(chapter):
    outputs = [output for cell in chapter.code_cells() for output in cell.outputs]
    return [output.get("metadata", {}).get("tripartite", {}) for output in outputs]


def test_there_are_chapters():
    assert len(CHAPTERS) >= 4


@every_chapter
def test_chapter_was_executed_in_order_without_errors(chapter):
    cells = [cell for cell in chapter.code_cells() if cell.source.strip()]
    counts = [cell.execution_count for cell in cells]
    assert counts == list(range(1, len(cells) + 1)), f"tripartite accept {chapter.number}"
    outputs = [output for cell in cells for output in cell.outputs]
    assert not [output for output in outputs if output.output_type == "error"]
    assert not [output for output in outputs if output.get("name") == "stderr"]


@every_chapter
def test_chapter_and_the_page_of_claims_name_what_it_checks(chapter):
    checked = {claim["paper_claim"] for claim in chapter.claims().values()}
    head = re.search(r"^- \*\*Carries\*\*(.*)", chapter.cells()[0].source, re.M)[1]
    assert checked <= set(re.findall(r"\bC\d\b", head)), "its line Carries"
    page = (ROOT / "book/claims.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (C\d) \| [^|]* \|([^|]*)\|[^|]*\|$", page, re.M)
    assert checked <= {name for name, where in rows if f"<{chapter.slug}>" in where}, "claims.md"


@every_chapter
def test_chapter_declares_its_parameters(chapter):
    assert chapter.parameters()  # raises where a line has no meaning, unit or range


@every_chapter
def test_chapter_describes_and_publishes_its_figures(chapter):
    described = chapter.figures()
    assert described
    for name, words in described.items():
        assert len(words["caption"]) > 40 and len(words["alt"]) > 40, name
    published = [note["figure"] for note in notes(chapter) if "figure" in note]
    assert sorted(published) == sorted(described)
    for name in described:
        assert list((DATA / "reference").glob(f"{name}.*")), f"{name}: run make accept"


@every_chapter
def test_chapter_shows_the_fingerprints_of_the_reference(chapter):
    for cell in chapter.code_cells():
        for output in cell.outputs:
            if name := output.get("metadata", {}).get("tripartite", {}).get("figure"):
                numbers = plotted.load(DATA / "reference" / name)
                shown = output["data"]["text/plain"]
                assert shown == f"figure {name}\n{plotted.fingerprint(numbers)}"


@every_chapter
def test_chapter_checks_claims_and_all_of_them_hold(chapter):
    claims = [note["claim"] for note in notes(chapter) if "claim" in note]
    assert claims
    assert all(claim["holds"] for claim in claims)
    made = [
        c.source for c in chapter.code_cells() if "conditional" not in c.metadata.get("tags", [])
    ]
    assert sum(source.count("claim(") for source in made) == len(claims)


@every_chapter
def test_chapter_has_exercises_whose_solutions_are_executed(chapter):
    cells = chapter.cells()
    (start,) = (k for k, cell in enumerate(cells) if "## Exercises" in cell.source)
    prose = "\n".join(cell.source for cell in cells[start:] if cell.cell_type == "markdown")
    assert prose.count("{dropdown} Solution") >= 3
    assert not re.search(r"```+ *(\{code|python)", prose)  # nothing executes it there
    executed = [cell for cell in cells[start:] if cell.cell_type == "code"]
    assert executed
    for cell in executed:  # which nbval compares, or which checks itself
        assert cell.outputs or "assert" in cell.source


def test_figure_names_are_unique():
    names = [name for chapter in CHAPTERS.values() for name in chapter.figures()]
    assert len(names) == len(set(names))


def test_reference_holds_published_figures_only():
    names = {name for chapter in CHAPTERS.values() for name in chapter.figures()}
    assert {path.stem for path in (DATA / "reference").iterdir()} == names


def test_code_folder_is_no_package():
    # it would shadow the standard library's module code, which pdb and IPython import
    assert not (ROOT / "code/__init__.py").exists()


@pytest.mark.parametrize(
    "line",
    [
        "n = 3  # count of things; count; 1 .. 5",
        "n: int = 3",
        "n: int = 3  # no unit or range",
        "n: list = []  # a list; none; 0 .. 1",
        "n: int = f(3)  # computed; count; 0 .. 1",
        "n: int = 9  # out of its own range; count; 1 .. 5",
    ],
)
def test_parameter_lines_that_say_too_little_are_refused(line):
    with pytest.raises(ParameterError):
        parse_parameters(line)
