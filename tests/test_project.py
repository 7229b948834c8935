"""The project's own files: one list of requirements, hashes, citations, nothing of a machine."""

import ast
import importlib
import json
import os
import re
import subprocess
import sys
import tomllib
from importlib.metadata import version
from pathlib import Path

import pytest
import yaml

from companion import lock
from companion.chapters import chapters
from companion.paths import DATA, ROOT

LOCK = lock.LOCK.read_text()
# what this machine's platform and Python do not install
CONDITIONAL = set(re.findall(r"^([a-z0-9._-]+)==[^\n]*;", LOCK, re.M))


def tracked() -> list[Path]:
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True)
    if listed.returncode:
        pytest.skip("not a git checkout")
    return [ROOT / name for name in listed.stdout.split("\0") if name]


def test_environment_and_lock_come_from_one_list():
    assert lock.ENVIRONMENT.read_text() == lock.environment(LOCK)
    environment = yaml.safe_load(lock.ENVIRONMENT.read_text())
    pinned = environment["dependencies"][-1]["pip"]
    assert pinned[0] == "-r requirements.lock"
    assert dict(line.split("==") for line in pinned[1:]).items() <= lock.pins(LOCK).items()
    for core in ("jupyter-book", "numpy", "scipy", "matplotlib", "papermill", "nbval"):
        assert core in lock.requirements()


def test_every_locked_package_has_hashes_and_no_index():
    blocks = re.split(r"\n(?=[a-z0-9])", LOCK.strip())
    assert all("--hash=sha256:" in block for block in blocks)
    assert "://" not in LOCK and "index" not in re.sub(r"^[a-z].*$", "", LOCK, flags=re.M)


def test_the_environment_is_the_locked_one():
    differing = {
        name: (version(name), pin)
        for name, pin in lock.pins(LOCK).items()
        if name not in CONDITIONAL and version(name) != pin
    }
    assert not differing


def test_versions_agree():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert citation["version"] == project
    assert citation["references"][0]["doi"] == "10.1073/pnas.2219150120"
    for name in ("codemeta.json", ".zenodo.json"):
        archive = json.loads((ROOT / name).read_text())
        assert (archive["version"], archive["title" if "title" in archive else "name"]) == (
            project,
            citation["title"],
        )
        date = archive.get("datePublished") or archive["publication_date"]
        assert date == citation["date-released"].isoformat()
    changelog = (ROOT / "CHANGELOG.md").read_text()
    assert re.search(r"^## \[?([0-9.]+)", changelog, re.M)[1] == project


def test_the_manifest_for_a_code_check_names_figures_of_the_book():
    named = [
        Path(entry["file"])
        for entry in yaml.safe_load((ROOT / "codecheck.yml").read_text())["manifest"]
    ]
    figures = {name for chapter in chapters() for name in chapter.figures()}
    assert named and {path.stem for path in named} <= figures
    for path in named:
        assert path.as_posix() == f"_build/figures/{path.stem}/{path.stem}.pdf"


def test_data_files_match_the_registry_and_are_described():
    from companion.freshness import registry, sha256_of

    stated, described = registry(), (DATA / "README.md").read_text(encoding="utf-8")
    assert stated
    for name, digest in stated.items():
        assert sha256_of(DATA / name) == digest, name
        assert f"`{name}`" in described, name
    for path in DATA.rglob("*"):
        inside = path.relative_to(DATA).as_posix()
        made = path.suffix in (".py", ".md") or inside == "registry.txt"
        made |= inside.startswith("reference/")
        made |= inside.startswith("results/") and path.suffix == ".json"  # commands write them
        assert path.is_dir() or made or "__pycache__" in path.parts or inside in stated, inside


def test_no_file_names_a_machine_or_a_package_registry():
    hosts = ["pypi" + ".org", "pythonhosted" + ".org", "registry.npmjs" + ".org"]
    secret_paths = ["/ro" + "ot/", "/wo" + "rk/", "/ho" + "me/"]
    for path in tracked():
        if path.suffix in (".safetensors", ".npz", ".png", ".jpg", ".pdf") or not path.exists():
            continue
        text = path.read_text(encoding="utf-8")
        assert not [word for word in hosts + secret_paths if word in text], path


def test_make_help_lists_every_target():
    makefile = (ROOT / "Makefile").read_text()
    targets = " ".join(re.findall(r"\.PHONY: (.*)", makefile)).split()
    described = set(re.findall(r"^([a-z]+):.*## ", makefile, re.M))
    assert set(targets) == described


@pytest.mark.parametrize(
    "module",
    ["attention", "features", "network", "dynamics", "synapse", "astrocyte", "beyond.tuning"],
)
def test_the_core_needs_numpy_alone(module):
    """SciPy is imported where a function needs it: importing it takes half a second."""
    program = f"import sys, tripartite.{module}; sys.exit('scipy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], cwd=ROOT).returncode == 0


def test_the_core_knows_nothing_beyond_it():
    """But for `hf.fit`, which gives models of others the tuning of chapter 13."""
    for path in set(_core()) - {ROOT / "code/tripartite/hf.py"}:
        assert "beyond import" not in path.read_text(), path
        assert "import beyond" not in path.read_text(), path


def test_the_astrocyte_is_imported_from_one_place():
    part = re.compile(r"astrocyte\.(calcium|inward|parameters|release|tissue)\b")
    for path in (
        *_core(),
        *(ROOT / "code/tripartite/beyond").glob("*.py"),
        *(ROOT / "book").glob("*.ipynb"),
    ):
        assert not part.search(path.read_text(encoding="utf-8")), path


def _core() -> list[Path]:
    science = ROOT / "code/tripartite"
    return [p for p in science.rglob("*.py") if not p.is_relative_to(science / "beyond")]


@pytest.mark.parametrize("command", [["check"], ["format", "--check"]])
def test_style_is_that_of_the_tool(command):
    """Rules and width are in pyproject.toml; `python -m ruff check --fix` and `ruff format` mend."""
    done = subprocess.run(
        [sys.executable, "-m", "ruff", *command, "--no-cache", "."],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout


def test_types_of_the_module_agree():
    """Which files and how strictly is in pyproject.toml."""
    command = [sys.executable, "-m", "mypy", "--cache-dir", os.devnull]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


SCRIPTS = {path.stem: path for path in (ROOT / "scripts").glob("*.py")}


def names_of(script: Path) -> set[str]:
    """What a script defines or imports at its top level."""
    found = set()
    for node in ast.parse(script.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            found.add(node.name)
        elif isinstance(node, ast.Assign):
            found |= {n.id for t in node.targets for n in ast.walk(t) if isinstance(n, ast.Name)}
        elif isinstance(node, ast.Import | ast.ImportFrom):
            found |= {alias.asname or alias.name for alias in node.names}
    return found


@pytest.mark.parametrize("script", SCRIPTS.values(), ids=lambda path: path.stem)
def test_scripts_find_what_they_import_from_here(script):
    """What moves in the module moves in them as well; what they need besides is their own affair."""
    for node in ast.walk(ast.parse(script.read_text(encoding="utf-8"))):
        if not isinstance(node, ast.ImportFrom):
            continue
        wanted = {alias.name for alias in node.names}
        if node.module in SCRIPTS:
            assert wanted <= names_of(SCRIPTS[node.module])
        elif node.module.split(".")[0] in ("tripartite", "companion"):
            module = importlib.import_module(node.module)
            for name in wanted:
                if not hasattr(module, name):
                    importlib.import_module(f"{node.module}.{name}")
