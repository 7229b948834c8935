"""What `pip install .` gives: the module, and a command that says where it works."""

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy
import pytest

from companion.paths import ROOT


@pytest.fixture(scope="module")
def installed(tmp_path_factory) -> Path:
    """The wheel of a copy of this checkout, since a build leaves files, unpacked."""
    folder = tmp_path_factory.mktemp("wheel")
    sources = folder / "sources"
    shutil.copytree(ROOT / "code", sources / "code", ignore=shutil.ignore_patterns("*.egg-info"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, sources)
    command = [sys.executable, "-m", "uv", "build", "--wheel", "--no-build-isolation", "--offline"]
    done = subprocess.run(
        [*command, "-o", str(folder), str(sources)], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    (wheel,) = folder.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder / "site")
    return folder / "site"


def python(installed: Path, program: str, *, libraries: bool = True) -> subprocess.CompletedProcess:
    """Run a program where only the wheel and, if wished, the packages of this environment are."""
    found = [str(installed)] + [str(Path(numpy.__file__).parents[1])] * libraries
    return subprocess.run(
        [sys.executable, "-S", "-c", program],
        env={"PYTHONPATH": os.pathsep.join(found)},
        cwd=installed,
        capture_output=True,
        text=True,
    )


def test_the_wheel_holds_the_module_and_nothing_else(installed):
    top = {path.name for path in installed.iterdir() if not path.name.endswith(".dist-info")}
    assert top == {"tripartite"}
    science = ROOT / "code/tripartite"
    modules = {path.relative_to(science) for path in science.rglob("*.py")}
    found = installed / "tripartite"
    assert {path.relative_to(found) for path in found.rglob("*.py")} == modules
    assert (found / "py.typed").exists()


def test_the_module_works_without_the_book(installed):
    program = """
import numpy as np
from tripartite import attention, features, network
q, k, v = np.random.default_rng(0).normal(size=(3, 5, 4)) / 2
phi = features.sample("positive", n_neurons=200_000, d_key=4, seed=0)
error = network.attend(phi, q, k, v).output - attention.softmax_attention(q, k, v)
print(np.abs(error).max() < 0.05)
"""
    done = python(installed, program)
    assert done.stdout == "True\n", done.stderr


@pytest.mark.parametrize("libraries", [True, False])
def test_the_command_says_where_it_works(installed, libraries):
    done = python(installed, "from tripartite.__main__ import main; main()", libraries=libraries)
    assert done.returncode == 2 and done.stdout == ""
    assert done.stderr.count("\n") == 1
    assert "belongs to the book" in done.stderr and "make setup" in done.stderr


def test_the_command_names_a_tool_that_is_missing(installed):
    program = f"import sys; sys.path.append({str(ROOT / 'code')!r}); "
    program += "from tripartite.__main__ import main; main()"
    done = python(installed, program, libraries=False)
    assert done.returncode == 2
    assert "tools are not installed here (" in done.stderr and "is missing)" in done.stderr
