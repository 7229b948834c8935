"""The machinery on a tiny chapter: accept, nbval, freshness, runs with other parameters."""

import json
import re
import shutil
from pathlib import Path

import nbformat
import pytest
from click.testing import CliRunner

from companion import chapters, cli, freshness, plotted
from companion.chapters import Chapter
from companion.paths import ROOT


def outputs(path):
    return [o for c in nbformat.read(path, 4).cells for o in c.get("outputs", [])]


REFRESH = """
from companion import build, chapters
if __name__ == "__main__":
    found = build.refresh(chapters.chapters(), print)
    [print(c.summary(), c.details()) for c in found.values()]
"""


def refresh(checkout) -> str:
    (checkout.root / "refresh.py").write_text(REFRESH)
    return checkout.call("refresh").stdout


def state(checkout, monkeypatch) -> str:
    """The digest of the chapter's sources, without starting anything."""
    monkeypatch.setattr(freshness, "ROOT", checkout.root)
    monkeypatch.setattr(freshness, "CODE", checkout.root / "code")
    monkeypatch.setattr(freshness, "DATA", checkout.root / "data")
    monkeypatch.setattr(freshness, "LOCK", checkout.root / "requirements.lock")
    return freshness.state(Chapter(checkout.notebook))


def test_accepted_chapter_passes_nbval_and_a_change_of_one_percent_fails_it(accepted):
    passed = accepted.nbval()
    assert passed.returncode == 0, passed.stdout
    # the series, not its statistics alone: one point of fifty, by one percent
    for old, new in (("+ 2", "* 1.01 + 2"), ("+ 2", "+ 2 + 0.03 * (x == x[25])")):
        original = accepted.notebook.read_text()
        accepted.edit("book/01-tiny.ipynb", old, new)
        failed = accepted.nbval()
        assert failed.returncode == 1
        assert "figure tiny-wave: series 'y' differs by 0.0" in failed.stdout
        accepted.notebook.write_text(original)


def test_rounding_on_another_machine_changes_no_output(accepted):
    accepted.edit("book/01-tiny.ipynb", "+ 2", "+ 2.0000001")
    assert accepted.nbval().returncode == 0


def test_a_claim_that_fails_stops_accept_and_leaves_the_chapter_alone(checkout):
    checkout.edit("book/01-tiny.ipynb", "< 4", "< 2")
    before = checkout.notebook.read_bytes()
    result = checkout.tripartite("accept")
    assert result.returncode == 2
    assert "ClaimError: C1 largest-value: Largest value: 3 (must be < 2)" in result.stderr
    assert "Traceback" not in result.stderr
    assert checkout.notebook.read_bytes() == before
    assert not (checkout.root / "data/reference").exists()


def test_accept_twice_gives_the_same_bytes(accepted):
    def committed():
        files = [accepted.notebook, *(accepted.root / "data/reference").iterdir()]
        return {path: path.read_bytes() for path in files}

    first = committed()
    accepted.accept()
    assert committed() == first and len(first) == 2


def shown(accepted) -> str:
    cells = nbformat.read(accepted.notebook, 4).cells
    return next(
        o.data["text/plain"]
        for c in cells
        for o in c.get("outputs", [])
        if "text/plain" in o.get("data", {})
    )


def test_accept_keeps_the_reference_of_a_figure_in_which_only_rounding_differs(accepted):
    (reference,) = (accepted.root / "data/reference").iterdir()
    before = reference.read_bytes()
    accepted.edit("book/01-tiny.ipynb", "+ 2", "+ 2.0000001")
    accepted.accept()
    assert reference.read_bytes() == before
    assert plotted.fingerprint(plotted.load(reference.with_suffix(""))) in shown(accepted)
    accepted.edit("book/01-tiny.ipynb", "+ 2.0000001", "+ 2.01")
    accepted.accept()
    assert reference.read_bytes() != before


def test_chapters_are_executed_again_only_when_stale(accepted):
    assert "executing 1 of 1 chapters" in refresh(accepted)
    again = refresh(accepted)
    assert "executing" not in again and "1 figures (largest deviation 0)" in again
    accepted.edit("code/tripartite/attention.py", '"""Softmax', '"""Scaled softmax')
    assert "executing 1 of 1 chapters" in refresh(accepted)
    accepted.edit("book/01-tiny.ipynb", "# Tiny", "# Other words")  # shown at once
    assert "executing" not in refresh(accepted)
    assert "# Other words" in (accepted.root / "_build/chapters/01-tiny.ipynb").read_text()


@pytest.mark.parametrize(
    ("name", "old", "new"),
    [
        ("code/tripartite/attention.py", '"""Softmax', '"""Scaled softmax'),
        ("code/tripartite/checks.py", '"""', '"""All '),  # imported by what chapters import
        ("code/companion/companion.mplstyle", "font.size: 10", "font.size: 11"),
        ("data/gain.txt", "1.0", "1.5"),
        ("requirements.lock", "numpy==", "numpy== "),
        ("book/01-tiny.ipynb", "size: float = 1.0", "size: float = 1.25"),
    ],
)
def test_a_change_in_any_source_makes_a_chapter_stale(checkout, monkeypatch, name, old, new):
    before = state(checkout, monkeypatch)
    (checkout.root / "data/unread.txt").write_text("no chapter reads this")
    checkout.edit("code/companion/doctor.py", '"""', '"""No chapter imports this. ')
    checkout.edit("code/tripartite/beyond/rivals.py", '"""', '"""Nor this. ')
    assert state(checkout, monkeypatch) == before
    checkout.edit(name, old, new)
    assert state(checkout, monkeypatch) != before


def test_a_new_reference_makes_a_chapter_stale(accepted, monkeypatch):
    before = state(accepted, monkeypatch)
    accepted.edit("data/reference/tiny-wave.csv", "\n0,", "\n0.5,")
    assert state(accepted, monkeypatch) != before


def make_site(accepted, queries):
    """What a site needs besides the one chapter; its index is written by the test."""
    for name in ("_ext", "_static", "_extra", "_live", "references.bib"):
        copy = shutil.copytree if (ROOT / "book" / name).is_dir() else shutil.copy
        copy(ROOT / "book" / name, accepted.root / "book" / name)
    for name in ("_config.yml", "CITATION.cff", "pyproject.toml"):
        shutil.copy(ROOT / name, accepted.root)
    (accepted.root / "_toc.yml").write_text(
        "format: jb-book\nroot: book/index\nchapters:\n- file: book/01-tiny\n"
    )
    (accepted.root / "book/queries.yml").write_text(queries)
    config = accepted.root / "_config.yml"  # of the pages that this small book lacks
    config.write_text(re.sub(r"companion_live: .*", "companion_live: []", config.read_text()))
    (accepted.root / "book/claims.md").write_text("# Claims\n| C1 | x | shown |\n")


def test_a_page_stays_in_the_search_when_only_others_are_built_again(accepted):
    make_site(accepted, "01-tiny: [smallest]\n")
    index = accepted.root / "book/index.md"
    for text in ("One.", "Another."):
        index.write_text(f"# Title\n{text} See {{doc}}`01-tiny`.\n```{{ledger}} claims\n```\n")
        result = accepted.tripartite("site")
        assert result.returncode == 0, result.stderr
        site = Path(result.stdout.strip())
        assert '"smallest": [[' in (site / "searchindex.js").read_text(encoding="utf-8")


def test_a_warning_or_an_unchecked_claim_fails_every_build_until_it_is_mended(accepted):
    make_site(accepted, "{}\n")
    index = accepted.root / "book/index.md"
    ledger = "```{ledger} claims\n```\n"
    index.write_text(f"# Title\nSee {{doc}}`nowhere`.\n{ledger}")
    for _ in range(2):
        result = accepted.tripartite("site")
        assert result.returncode == 2 and "WARNING: unknown document" in result.stderr
        assert "Traceback" not in result.stderr
    index.write_text(f"# Title\nSee {{doc}}`01-tiny`.\n{ledger}")
    assert accepted.tripartite("site").returncode == 0
    # a claim that nothing has checked, and one that the table only says is shown
    notebook = nbformat.read(accepted.notebook, 4)
    (cell,) = (cell for cell in notebook.cells if cell.source.startswith("claim("))
    cell.outputs = []
    nbformat.write(notebook, accepted.notebook)
    result = accepted.tripartite("site")
    assert result.returncode == 2 and "a claim is not checked" in result.stderr
    assert "claims.md says that C1 is shown, and no chapter checks it" in result.stderr


def test_a_change_in_the_code_shows_in_the_comparison(accepted):
    accepted.edit("data/gain.txt", "1.0", "1.5")
    report = refresh(accepted)
    assert "figure tiny-wave: series 'y' differs by" in report


def test_run_with_other_parameters_reports_what_changed(accepted):
    result = accepted.tripartite("run", "1", "-p", "size=3", "-p", "wave=cosine")
    assert result.returncode == 1  # the claim does not hold with them
    assert "claim largest-value fails: Largest value: 5" in result.stdout
    assert "figure tiny-wave: series 'y' differs by" in result.stdout
    (folder,) = (accepted.root / "runs/01-tiny").glob("[!.]*")
    assert folder.name == "size=3.0-wave=cosine"
    report = json.loads((folder / "report.json").read_text())
    assert report["parameters"] == {"seed": 0, "size": 3.0, "wave": "cosine"}
    published = folder / "figures/tiny-wave"
    for kind in ("svg", "pdf", "png", "csv"):
        assert (published / f"tiny-wave.{kind}").stat().st_size > 0
    passport = json.loads((published / "passport.json").read_text())
    assert passport["parameters"] == {"seed": 0, "size": 3.0, "wave": "cosine"}
    assert passport["reproduce"] == "tripartite run 01 -p seed=0 -p size=3.0 -p wave=cosine"
    assert passport["alt"] == "A wave over time."


def test_run_with_other_parameters_succeeds_where_claims_hold(accepted):
    assert accepted.tripartite("run", "tiny", "-p", "size=1.5").returncode == 0


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["1", "-p", "amplitude=2"], "'amplitude' is not one of its parameters"),
        (["1", "-p", "amplitude=2"], "size: float = 1.0"),
        (["1", "-p", "size"], "must read name=value"),
        (["1", "-p", "size=big"], "size = 'big': must be of type float"),
        (["1", "-p", "size=100"], "size = 100.0: must be 0.1 .. 10.0"),
        (["1", "-p", "size=nan"], "size = 'nan': must be of type float"),
        (["1", "-p", "seed=1.5"], "seed = 1.5: must be of type int"),
        (["1", "-p", "seed=True"], "seed = True: must be of type int"),
        (["1", "-p", "wave=square"], "wave = 'square': must be sine | cosine"),
        (["1", "-p", "wave=$(touch x); rm"], "must be sine | cosine"),
        (["7"], "chapter '7': must be one of 01-tiny"),
    ],
)
def test_bad_parameters_are_refused_at_once(checkout, monkeypatch, arguments, named):
    monkeypatch.setattr(chapters, "BOOK", checkout.root / "book")
    result = CliRunner().invoke(cli.main, ["run", *arguments])
    assert result.exit_code == 2
    assert named in result.output
    assert "Traceback" not in result.output
    assert not (checkout.root / "runs").exists()


def test_a_failing_cell_keeps_its_notebook_and_no_result(checkout):
    checkout.edit("book/01-tiny.ipynb", "+ 2", "+ undefined")
    result = checkout.tripartite("run", "1")
    assert result.returncode == 2
    assert "01-tiny: NameError: name 'undefined' is not defined" in result.stderr
    left = {path.name for path in (checkout.root / "runs/01-tiny").iterdir()}
    assert left == {".locks", "defaults-failed"}


def test_outputs_hold_the_fingerprint_and_the_picture(accepted):
    figure = next(o for o in outputs(accepted.notebook) if "image/svg+xml" in o.data)
    assert figure.data["text/plain"].splitlines()[0] == "figure tiny-wave"
    claim = next(o for o in outputs(accepted.notebook) if "text/html" in o.data)
    assert claim.data["text/plain"] == "[C1] holds: Largest value: 3 (must be < 4)"
    note = claim.metadata.tripartite.claim
    assert note.paper_claim == "C1" and note.holds and 2.9 < note.observed < 3.0
