"""The commands on a tiny chapter: what they print, write and exit with."""

import csv
import json
import os
import re
import signal
import subprocess
import time
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from pybtex.database import parse_string

from companion import cite, cli, doctor, fetch, figure
from companion import verify as verifier
from companion.chapters import ChapterError, chapters, find
from companion.compare import Comparison
from companion.lock import pins
from conftest import Checkout


def invoke(*arguments):
    return CliRunner().invoke(cli.main, arguments)


def git(checkout: Checkout, *arguments: str) -> str:
    identity = ["-c", "user.name=a", "-c", "user.email=a@b.c"]
    command = ["git", *identity, *arguments]
    done = subprocess.run(command, cwd=checkout.root, check=True, capture_output=True, text=True)
    return done.stdout.strip()


# --- list, cite, doctor: on the book itself ---


def test_list_has_every_parameter_figure_and_claim():
    listed = json.loads(invoke("list", "--json").output)
    assert list(listed) == [c.slug for c in chapters()]
    for chapter in chapters():
        shown = listed[chapter.slug]
        assert set(shown["figures"]) == set(chapter.figures())
        assert len(shown["claims"]) == len(chapter.claims())
        for parameter in shown["parameters"].values():
            assert parameter.keys() == {"type", "default", "meaning", "unit", "allowed"}
    text = invoke("list").output
    assert (
        "-p head: int = 4" in text
        and "figure head-atlas (4.4)" in text
        and "claim exponent-of-the-error " in text
    )


def test_every_key_that_the_book_cites_has_an_entry_that_bibtex_reads():
    for chapter in chapters():
        entries = cite.cite(chapter)
        prose = "\n".join(c.source for c in chapter.cells() if c.cell_type == "markdown")
        assert "kozachkov2023" in entries
        for key in re.findall(r"\{cite\}`(\w+)`", prose):
            assert key in entries
        parsed = parse_string("\n".join(entries.values()), "bibtex").entries
        assert len(parsed) == len(entries)


def test_citation_of_a_figure_names_version_commit_and_anchor():
    entries = json.loads(invoke("cite", "head-atlas", "--json").output)
    (entry,) = parse_string(entries["companion"], "bibtex").entries.values()
    assert entry.fields["version"] and "book/04-language.html#head-atlas" in entry.fields["note"]
    assert list(entries)[1] == "kozachkov2023" and "reimers2019" in entries
    plain = invoke("cite").output
    assert plain.count("@") == 2 and "head-atlas" not in plain
    refused = invoke("cite", "head-atlsa")
    assert refused.exit_code == 2 and "near it: head-atlas" in refused.output


def test_doctor_reports_every_check_and_fails_on_a_problem(monkeypatch, tmp_path):
    monkeypatch.setenv("TRIPARTITE_CACHE", str(tmp_path))
    monkeypatch.setattr(fetch, "TIMEOUT", (0.2, 0.2))

    def _broken():
        raise OSError("no such machine")

    monkeypatch.setattr(doctor, "CHECKS", [*doctor.CHECKS, _broken])
    result = invoke("doctor", "--json")
    assert result.exit_code == 1
    checks = {check["name"]: check for check in json.loads(result.output)}
    assert checks["models"]["state"] == "warning"  # make book fetches them
    assert checks["models"]["advice"].startswith("tripartite fetch")
    assert "lacks all-MiniLM-L6-v2" in checks["models"]["found"]
    assert checks["kernel"]["state"] == "ok", checks["kernel"]
    assert checks["packages"]["state"] == "ok", checks["packages"]
    assert checks["broken"] == {
        "name": "broken", "state": "problem", "found": "OSError: no such machine", "advice": "",
    }  # fmt: skip
    assert {"python", "checkout", "disk", "hub", "browser"} <= set(checks)


# --- figure ---


def test_figure_in_every_format_from_one_execution(accepted):
    def figure(name, *arguments):
        result = accepted.tripartite("figure", "tiny-wave", "-o", name, *arguments, "--json")
        assert result.returncode == 0, result.stderr
        return accepted.root / name, json.loads(result.stdout)["executed"]

    svg, executed = figure("wave.svg", "-p", "size=1.5")
    assert executed and b"<svg" in svg.read_bytes()
    assert figure("wave.pdf", "-p", "size=1.5")[1] is False  # by the run that has just been made
    table, _ = figure("wave.csv", "-p", "size=1.5")
    with table.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert max(float(row["y"]) for row in rows) == pytest.approx(3.5, abs=0.01)
    with np.load(figure("wave.npz", "-p", "size=1.5")[0]) as arrays:
        assert arrays["y"].tolist() == [float(row["y"]) for row in rows]
    accepted.edit("data/gain.txt", "1.0", "2.0")  # now that run is stale
    table, executed = figure("wave.csv", "-p", "size=1.5")
    assert executed and "4.99" in table.read_text()


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["tiny-wave", "-o", "wave.doc"], "wave.doc: must end in .pdf, .svg, .png, .csv, .npz"),
        (["tiny-wave", "-o", "nowhere/wave.pdf"], "must be a file in a folder that exists"),
        (["../tiny-wave"], "'../tiny-wave': no cell in book/ has it"),
        (["tiny/../../wave"], "tripartite list shows them all"),
        (["tiny-wvae"], "near it: tiny-wave"),
        (["tiny-wave", "-p", "size=99"], "size = 99.0: must be 0.1 .. 10.0"),
        (["tiny-wave", "-p", "colour=red"], "'colour' is not one of its parameters"),
    ],
)
def test_bad_figures_are_refused_before_anything_runs(checkout, tiny_book, arguments, named):
    result = invoke("figure", *arguments)
    assert result.exit_code == 2 and named in result.output
    assert not (checkout.root / "runs").exists()


def test_a_figure_that_cannot_be_written_is_refused_before_anything_runs(
    checkout, tiny_book, monkeypatch
):
    monkeypatch.setattr(figure.os, "access", lambda path, mode: False)
    result = invoke("figure", "tiny-wave", "-o", "wave.csv")
    assert result.exit_code == 2 and "can be written" in result.output
    assert not (checkout.root / "runs").exists()


@pytest.mark.parametrize("number", ["1.2", "01.2"])
def test_figures_can_be_named_by_number(accepted, number):
    """As the site counts: a drawing in the text is the chapter's first figure."""
    drawing = "# Tiny\\n\\n```{figure} _static/drawing.svg\\nA drawing.\\n```"
    accepted.edit("book/01-tiny.ipynb", "# Tiny", drawing)
    result = accepted.tripartite("figure", number, "-o", "wave.csv")
    assert result.returncode == 0, result.stderr
    assert (accepted.root / "wave.csv").read_text().startswith("x,y\n")
    result = accepted.tripartite("figure", number)
    assert result.returncode == 0 and (accepted.root / "tiny-wave.pdf").exists()
    for wrong, named in (("1.1", "the figures of 01-tiny that it makes are 1.2 tiny-wave"),
                         ("4.1", "there is no chapter 4")):  # fmt: skip
        result = accepted.tripartite("figure", wrong)
        assert result.returncode == 2 and named in result.stderr


def test_numbers_of_figures_are_those_of_the_site(site):
    for chapter in chapters():
        page = (site / "book" / f"{chapter.slug}.html").read_text(encoding="utf-8")
        for place, name in figure.numbered(chapter).items():
            shown = page.partition(f'id="{name}"')[2].partition("caption-number")[2][:40]
            assert re.search(rf"\b{int(chapter.number)}\.{place}\b", shown), (name, shown)


def test_figures_that_are_no_table_are_refused_before_anything_runs(accepted, monkeypatch):
    accepted.edit("book/01-tiny.ipynb", '\\"x\\": x, ', '\\"x\\": x[:4], ')
    accepted.accept()
    accepted.edit("data/gain.txt", "1.0", "2.0")  # all that was executed is stale now
    result = accepted.tripartite("figure", "tiny-wave", "-o", "wave.csv")
    assert result.returncode == 2
    assert "its numbers are arrays of several shapes: end the file in .npz" in result.stderr
    assert not (accepted.root / "runs").exists() and not (accepted.root / "wave.csv").exists()
    result = accepted.tripartite("figure", "tiny-wave", "-o", "wave.npz")
    assert result.returncode == 0, result.stderr


def test_run_says_in_words_what_no_number_tells(accepted):
    figure = 'data={\\"x\\": x, \\"y\\": y}'
    words = 'data={\\"x\\": x[:7], \\"y\\": np.where(x > 1, y, np.nan), \\"z\\": y}'
    accepted.edit("book/01-tiny.ipynb", figure, words)
    result = accepted.tripartite("run", "1")
    assert "inf" not in result.stdout.replace("infinity", "")
    for line in (
        "figure tiny-wave: series 'x' has 7 points, the reference 50",
        "figure tiny-wave: series 'y' has NaN or infinity at other points",
        "figure tiny-wave: series 'z' is new",
    ):
        assert f"  {line}\n" in result.stdout, result.stdout
    accepted.edit("book/01-tiny.ipynb", words, 'data={\\"y\\": list(\\"waves\\")}')
    result = accepted.tripartite("run", "1")
    assert "series 'x' is gone\n" in result.stdout
    assert "series 'y' has 5 points, the reference 50\n" in result.stdout


@pytest.fixture
def tiny_book(checkout, monkeypatch):
    """The commands in this process see the book of the tiny checkout."""
    from companion import chapters as module

    module._by_figure.cache_clear()
    monkeypatch.setattr(module, "BOOK", checkout.root / "book")
    monkeypatch.chdir(checkout.root)
    yield
    module._by_figure.cache_clear()


# --- verify ---


def verify(checkout, *arguments):
    result = checkout.tripartite("verify", *arguments, "--json")
    assert result.stdout, result.stderr
    (report,) = json.loads(result.stdout)
    verdicts = {row["quantity"]: row["verdict"] for row in report["rows"]}
    return result.returncode, verdicts, "\n".join(report["causes"])


def test_verify_all_reports_a_chapter_before_the_next_has_run(monkeypatch):
    def two(known, values):
        yield known[0], Comparison()
        raise ChapterError("the second failed")

    monkeypatch.setattr(verifier, "verify", two)
    result = invoke("verify", "--all")
    assert result.exit_code == 2 and chapters()[0].slug in result.output


def test_verify_says_what_differs_and_why(accepted):
    git(accepted, "init", "-q")
    (accepted.root / ".gitignore").write_text("__pycache__\nruns\n")
    digest = fetch._sha256(accepted.root / "data/gain.txt")
    (accepted.root / "data/registry.txt").write_text(f"gain.txt {digest}\n")
    git(accepted, "add", ".")
    git(accepted, "commit", "-qm", "reference")

    code, verdicts, causes = verify(accepted, "1")
    assert (code, causes) == (0, "")
    assert verdicts == {
        "x": "same", "y": "same", "C1 largest-value: Largest value": "holds", "other outputs that differ": "same"
    }  # fmt: skip

    code, verdicts, causes = verify(accepted, "tiny-wave", "-p", "size=3", "-p", "seed=4")
    assert code == 1 and verdicts == {"x": "same", "y": "DIFFERS"}
    assert "parameters: size = 3.0, the reference has 1.0" in causes
    assert "seed: seed = 4, the reference has 0" in causes

    accepted.edit("data/gain.txt", "1.0", "2.5")
    result = accepted.tripartite("verify", "--all")
    assert result.returncode == 1
    for line in (
        "C1 largest-value: Largest value 4.5 < 4 FAILS",
        "data: gain.txt has another SHA-256 than data/registry.txt states",
        "data: edited, not committed: data/gain.txt",
    ):
        assert line in re.sub(" +", " ", result.stdout), result.stdout
    assert "code" not in result.stdout and "seed" not in result.stdout


CAUSES = """
from companion import chapters, verify
print(*verify.causes(chapters.find("1"), {}), sep="\\n")
"""


def test_causes_that_git_and_the_lock_know(accepted):
    def causes():
        result = accepted.call("causes")
        assert result.returncode == 0, result.stderr
        return result.stdout.splitlines()

    (accepted.root / "causes.py").write_text(CAUSES)
    # the chapter imports features, and that checks; neither imports rivals
    accepted.edit(
        "book/01-tiny.ipynb", "import numpy as np", "import numpy as np, tripartite.features"
    )
    assert causes() == ["code: cannot tell, this is no git checkout"]
    git(accepted, "init", "-q")
    git(accepted, "add", ".")
    git(accepted, "commit", "-qm", "reference")
    assert len(causes()) == 1 and causes()[0].startswith("nothing found in parameters, seed")
    lock = (accepted.root / "requirements.lock").read_text()
    pin, commit = pins(lock)["numpy"], git(accepted, "log", "-1", "--format=%h")
    accepted.edit("requirements.lock", "\nnumpy==", "\nnumpy==0.")
    accepted.edit("code/tripartite/beyond/rivals.py", '"""', '"""All ')
    accepted.edit("code/tripartite/checks.py", '"""', '"""All ')
    accepted.edit("book/01-tiny.ipynb", "size: float = 1.0", "size: float = 1.25")
    found = causes()
    assert found[0] == "parameters: size = 1.25, the reference has 1.0"
    assert found[1].startswith("package version: numpy ") and ", the lock has 0." in found[1]
    assert found[2:] == [
        "code: edited, not committed: code/tripartite/checks.py",
        "chapter: edited, not committed: book/01-tiny.ipynb",
        f"lock: changed since the reference ({commit}): numpy {pin} to 0.{pin}",
    ]
    (accepted.root / "requirements.lock").write_text(lock)
    git(accepted, "commit", "-qam", "changed, not accepted")
    first, second = causes()
    assert first == "parameters: size = 1.25, the reference has 1.0"
    assert second == f"code: changed since the reference ({commit}): code/tripartite/checks.py"


def test_a_clone_without_history_is_a_cause_that_is_named(accepted, tmp_path):
    (accepted.root / "causes.py").write_text(CAUSES)
    git(accepted, "init", "-q")
    git(accepted, "add", ".")
    git(accepted, "commit", "-qm", "reference")
    git(accepted, "commit", "-q", "--allow-empty", "-m", "later")
    shallow = Checkout(tmp_path / "shallow")
    origin = accepted.root.as_uri()
    git(accepted, "clone", "-q", "--depth", "1", origin, str(shallow.root))
    assert shallow.call("causes").stdout.startswith("history: cut off in this clone")


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ([], "name a chapter or a figure, or say --all"),
        (["1", "--all"], "name a chapter or a figure, or say --all"),
        (["--all", "-p", "size=1"], "-p and -f need one chapter"),
        (["tiny/wave"], "chapter 'tiny/wave': must be one of 01-tiny"),
    ],
)
def test_verify_refuses_what_it_cannot_mean(tiny_book, arguments, named):
    result = invoke("verify", *arguments)
    assert result.exit_code == 2 and named in result.output


# --- parameter files, and the rest ---


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("size: !!python/object/apply:os.system ['touch hacked']", "could not determine a constr"),
        ("size: !wave 1", "could not determine a constructor for the tag '!wave'"),
        ("- size", "must hold lines that read name: value"),
        ("1: 2", "must hold lines that read name: value"),
        ("size: [1", "write plain lines, name: value"),
        ("size: [1, 2]", "size = [1, 2]: must be of type float"),
        ("size: 99", "size = 99.0: must be 0.1 .. 10.0"),
        ("size: {a: 1}", "size = {'a': 1}: must be of type float"),
        ("size: null", "size = None: must be of type float"),
        ("colour: red", "'colour' is not one of its parameters"),
        ("\x00\x01", "write plain lines, name: value"),
        ("size: \udcff", "write plain lines, name: value"),
    ],
)
def test_bad_parameter_files_are_one_line(checkout, tiny_book, text, named):
    Path("params.yml").write_bytes(text.encode("utf-8", "surrogateescape"))
    for command in ("run", "verify"):
        result = invoke(command, "1", "-f", "params.yml")
        assert result.exit_code == 2 and named in result.output, result.output
        assert "Traceback" not in result.output
    assert not Path("hacked").exists() and not Path("runs").exists()


def test_parameters_of_a_file_give_way_to_the_command_line(tiny_book, monkeypatch):
    from companion import run as runs

    asked = {}

    def note(chapter, values, folder):
        asked.update(values)
        raise OSError("noted")

    monkeypatch.setattr(runs, "run", note)
    Path("params.yml").write_text("size: 2\nseed: 7\nwave: cosine\n")
    assert "noted" in invoke("run", "1", "-f", "params.yml", "-p", "seed=8").output
    assert asked == {"size": 2.0, "seed": 8, "wave": "cosine"} and type(asked["size"]) is float
    Path("params.yml").write_text("size: 1e0\n")  # which YAML takes for a text
    invoke("run", "1", "-f", "params.yml")
    assert asked["size"] == 1.0


def test_errors_show_a_traceback_only_when_asked(tiny_book):
    quiet, loud = invoke("run", "9"), invoke("--debug", "run", "9")
    assert quiet.exit_code == 2 and quiet.output.startswith("Error: chapter '9': must be one of")
    assert isinstance(loud.exception, LookupError)


@pytest.mark.parametrize("made_of_it", [None, ImportError("multiarray failed to import")])
def test_ctrl_c_ends_with_130_whatever_a_library_makes_of_it(tiny_book, monkeypatch, made_of_it):
    from companion import run as runs

    def interrupted(*_):
        try:
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(60)
        except KeyboardInterrupt:
            raise made_of_it or KeyboardInterrupt from None

    monkeypatch.setattr(runs, "run", interrupted)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        result = invoke("run", "1")
        assert (result.exit_code, result.output) == (130, "interrupted\n")
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    finally:
        signal.signal(signal.SIGINT, before)


def test_help_names_every_command_and_exit_code():
    text = invoke("--help").output
    for word in ("figure", "verify", "sweep", "cite", "doctor", "Exit codes:", "interrupted"):
        assert word in text
    for command in cli.main.commands:
        assert invoke(command, "--help").exit_code == 0


def test_find_takes_number_slug_or_name():
    assert find("4") == find("04") == find("04-language") == find("language")
