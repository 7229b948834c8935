"""README's commands and code, run as they stand there.

The commands run in a small checkout: its chapter 04 has the parameters and the imports of the real
one, and stands in for its figure and its claim in no time. One point of the sweep is the real one.
"""

import ast
import os
import re
import subprocess
import sys
from pathlib import Path

import nbformat
import numpy as np
import pytest
import yaml

from companion import bootstrap, cli, fetch
from companion.chapters import find
from conftest import ROOT
from test_sweep import imports_of

README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```(\w*)\n(.*?)^```", README, re.M | re.S)
COMMANDS = [
    line.partition("#")[0].strip()
    for language, block in BLOCKS
    if not language
    for line in block.splitlines()
]
CODE = [block for language, block in BLOCKS if language == "python"]
WORDS = "zero one two three four five six seven eight nine ten".split()
CLAIM = re.search(r'"claim ([\w-]+)"', README)[1]
STANDS_IN = """\
x = np.arange(4.0) + seed
fig, ax = plt.subplots()
ax.plot(x, x * n_large)
publish(fig, "head-atlas", data={"x": x, "y": x * n_large})"""
CLAIMS = f'claim("C4", "{CLAIM}", "Stands in", float(n_large + head), "> 0", kind="result")'


@pytest.fixture(scope="module")
def accepted_04(tmp_path_factory):
    """A small checkout whose chapter 04 is executed, with the command in .venv/bin."""
    from conftest import Checkout

    root = tmp_path_factory.mktemp("readme") / "a checkout"
    root.mkdir()
    checkout = Checkout(root).create()
    checkout.notebook.unlink()
    real = find("04")
    parameters, *others = [c.source for c in real.code_cells()]
    imports = "\n".join(filter(None, map(imports_of, others)))
    sources = [parameters, f"{imports}\nimport numpy as np", STANDS_IN, CLAIMS]
    cells = [nbformat.v4.new_code_cell(s, id=f"c{i}") for i, s in enumerate(sources)]
    cells[0].metadata = {"tags": ["parameters"]}
    cells[2].metadata = {"mystnb": {"figure": {"name": "head-atlas", "caption": "A line."}}}
    cells.insert(0, nbformat.v4.new_markdown_cell("# Four {cite}`reimers2019`", id="title"))
    nbformat.write(nbformat.v4.new_notebook(cells=cells), root / "book" / real.path.name)
    for name in ("book/references.bib", "CITATION.cff", "pyproject.toml", "README.md"):
        (root / name).write_bytes((ROOT / name).read_bytes())
    command = root / ".venv/bin/tripartite"
    command.parent.mkdir(parents=True)
    command.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m companion.cli "$@"\n')
    command.chmod(0o755)
    checkout.accept()
    return checkout


def shell(checkout, command: str, pictures: str = "none") -> subprocess.CompletedProcess:
    environment = os.environ | {"PYTHONPATH": str(checkout.root / "code"), "MPLBACKEND": "agg"}
    environment |= {"TRIPARTITE_PICTURES": pictures}  # "none" is quicker
    options = {"capture_output": True, "text": True, "env": environment, "cwd": checkout.root}
    return subprocess.run(command, shell=True, **options)


def test_commands_run_as_they_stand(accepted_04):
    commands = [line for line in COMMANDS if line.startswith(".venv/bin/tripartite ")]
    names = [command.split()[1] for command in commands]
    assert names == ["list", "run", "run", "figure", "sweep", "verify", "cite", "doctor"]
    outputs = {}
    for name, command in zip(names, commands, strict=True):
        done = shell(accepted_04, command, "all" if name == "figure" else "none")
        # a doctor may find that this machine lacks something
        assert done.returncode in ((0, 1) if name == "doctor" else (0,)), done.stderr
        assert "Traceback" not in done.stderr
        outputs[name] = done.stdout
    assert "figure head-atlas" in outputs["list"] and "reimers2019" in outputs["cite"]
    assert (accepted_04.root / "atlas.pdf").stat().st_size > 1000
    assert "15 of 15 runs done" in outputs["sweep"]
    assert "cannot" not in outputs["verify"] and outputs["doctor"].startswith("ok       python")

    # the table that the sweep left, read as README says
    plot = [block for block in CODE if "table.parquet" in block]
    assert len(plot) == 1
    # the fifteen, and those that both runs and figure have left in the same folder
    code = plot[0] + "\nassert len(rows) == 18, rows\nassert len(plt.gca().lines) == 1\n"
    (accepted_04.root / "plot.py").write_text(code)
    done = shell(accepted_04, f'"{sys.executable}" plot.py')
    assert done.returncode == 0, done.stderr


def test_every_make_target_that_is_named_exists():
    named = set(re.findall(r"`?\bmake ([a-z]+)\b(?=`|\s+#)", README))
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    assert {"book", "test", "serve", "help"} <= named
    assert named <= set(re.findall(r"^([a-z]+):", makefile, re.M))
    others = [line for line in COMMANDS if not line.startswith(".venv/")]
    assert others == ["make book", "make test"]


def test_code_of_the_module_runs_as_it_stands():
    rng = np.random.default_rng(0)
    given = dict(zip(("queries", "keys", "values"), 0.3 * rng.normal(size=(3, 8, 32)), strict=True))
    given |= {"times": np.linspace(0, 5, 6), "levels": np.full(10_000, 0.3)}
    others = ("table.parquet", "hf.register")  # a sweep's; Transformers': test_hf
    blocks = [block for block in CODE if not any(name in block for name in others)]
    assert len(blocks) == 2
    for block in blocks:
        for name in ("phi = ", "astrocyte.simulate"):  # the sizes of the page take long
            block = block.replace("10_000", "100") if name in block else block
        given["levels"] = given["levels"][:100]
        exec(block, given)
    last = ast.parse(blocks[0]).body[-1]
    assert np.isfinite(eval(ast.unparse(last), given)).all()
    assert given["cells"] is not None and given["reading"].output.shape == (8, 32)


def test_one_point_of_the_sweep_in_the_real_chapter(tmp_path):
    try:
        fetch.model_directory("all-MiniLM-L6-v2")
    except fetch.FetchError as error:
        if os.environ.get("CI"):
            raise
        pytest.skip(str(error))
    (command,) = (line for line in COMMANDS if " sweep " in line)
    name, *arguments = command.split()[2:]
    first = [re.split(r",|\.\.", argument)[0] for argument in arguments]
    assert first == ["-p", "n_large=3000", "-p", "seed=0"]
    done = subprocess.run(
        [sys.executable, "-m", "companion.cli", "sweep", name, *first, "-o", str(tmp_path)],
        env=os.environ | {"PYTHONPATH": str(ROOT / "code"), "TRIPARTITE_PICTURES": "none"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"claim {CLAIM}" in (tmp_path / "table.csv").read_text()


# --- the page that says how to begin ----------------------------------------------------------------

START = (ROOT / "book/start.md").read_text(encoding="utf-8")


def test_commands_of_the_start_page_are_taken(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my-model").mkdir()
    for name in ("my-text.txt", "my-photo.jpg"):
        (tmp_path / name).write_text("x")
    verbs = set(re.findall(r"^tripartite (\w+)", START, re.M))
    assert verbs <= set(cli.main.commands) and {"run", "figure", "list"} <= verbs
    runs = re.findall(r"^tripartite (?:run|figure) (\d+)\S*(.*)", START, re.M)
    assert len(runs) == 5
    for number, options in runs:
        given = re.findall(r"-p (\w+)=(\S+)", options)
        assert given
        for name, value in given:
            find(number).parameters()[name].parse(value)
    for target in re.findall(r"^make (\w+)|`make (\w+)`", START, re.M):
        rule = f"{''.join(target)}:"
        assert re.search(rf"^{rule}", (ROOT / "Makefile").read_text(), re.M), rule


def test_code_of_the_start_page_runs():
    (code,) = re.findall(r"^```python\n(.*?)^```", START, re.M | re.S)
    tokens = np.random.default_rng(0).standard_normal((3, 5, 32))
    names = dict(zip(("queries", "keys", "values"), tokens, strict=True))
    exec(code, names)
    assert names["reading"].output.shape == (5, 32)


def test_numbers_that_pages_type_are_those_of_the_code():
    index = (ROOT / "book/index.md").read_text(encoding="utf-8")
    python = ".".join(map(str, bootstrap.OLDEST))
    for page in (README, START):
        assert f"Python {python} or newer" in page
        assert f"{WORDS[len(fetch.BOOK)]} " in re.search(r"fetches (.*?)models", page)[1]
    assert f"{bootstrap.NEEDED_GB} GB of disk" in START
    weights = [sum(f.size for f in fetch.MODELS[name].files.values()) for name in fetch.BOOK]
    assert int(re.search(r"\((\d+) MB each or less", README)[1]) >= max(weights) / 1e6

    runtime = f"{fetch.RUNTIME.wheel.size / 1e6:.0f} MB"
    (live,) = (o.help for o in cli.main.commands["book"].params if o.name == "live")
    for said in (live, (ROOT / "Makefile").read_text(encoding="utf-8")):
        assert re.findall(r"\d+ MB", said) == [runtime]

    listed = yaml.safe_load((ROOT / "_toc.yml").read_text(encoding="utf-8"))["parts"]
    parts = [
        [int(Path(c["file"]).name[:2]) for c in part["chapters"]]
        for part in listed
        if "numbered" in part
    ]
    first = [f"{part[0]} to {part[-1]}" for part in parts[:-2]]
    last = f"{parts[-2][0]} to {parts[-1][-1]}"  # these two are one in words
    assert re.findall(r"\(chapters (\d+ to \d+)\)", START) == [*first, last]
    assert re.findall(r"(\d+ to \d+) (?:go|from the|into|beyond)", index) == [*first, last]
