"""What makes a result stale: another meaning of code, and not its layout."""

import json
import re
import shutil
import subprocess

import pytest

from companion import freshness, meaning
from companion.chapters import chapters, find
from companion.paths import ROOT

CODE = '''"""Docstring."""

import math
from os import path, sep


def area(r, n=2):
    """Of a circle."""
    # the usual formula
    return math.pi * r**n


names = ["a", "b"]
print(f"{area(1.0):.3f}", "one " "two")
'''


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('"""Docstring."""\n', ""),
        ('    """Of a circle."""\n', '    """Of a disc."""\n'),
        ("    # the usual formula\n", ""),
        ("import math\nfrom os import path, sep", "from os import sep, path\nimport math"),
        ("math.pi * r**n", "(\n        math.pi * r ** n\n    )"),
        ('["a", "b"]', "[\n    'a',\n    'b',\n]"),
        ("def area(r, n=2):", "def area(r: float, n: int = 2) -> float:"),
        ('"one " "two"', '"one two"'),
    ],
)
def test_layout_and_comments_have_no_meaning(old, new):
    assert CODE.count(old) == 1
    assert meaning.meaning(CODE.replace(old, new)) == meaning.meaning(CODE)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("n=2", "n=3"),
        ("r**n", "r*n"),
        ("math.pi *", "math.pi /"),
        ('["a", "b"]', '("a", "b")'),
        ('["a", "b"]', '["a", "b", None]'),
        ("1.0", "1"),
        (":.3f", ":.4f"),
        ("import math", "import math as math"),
        ("from os import path, sep", "from os import path"),
        ("area(r, n=2)", "area(r, *, n=2)"),
    ],
)
def test_what_changes_a_result_changes_the_meaning(old, new):
    assert CODE.count(old) == 1
    assert meaning.meaning(CODE.replace(old, new)) != meaning.meaning(CODE)


def test_code_that_does_not_parse_means_its_text():
    assert meaning.meaning("x =") != meaning.meaning("x = =")


def test_magics_are_left_out():
    assert meaning.meaning("%matplotlib inline\nx = 1") == meaning.meaning("x = 1")


@pytest.mark.parametrize("version", ["3.12", "3.13", "3.14"])
def test_another_python_finds_the_same_meaning(version):
    python = shutil.which(f"python{version}")
    if python is None or subprocess.run([python, "--version"], capture_output=True).returncode:
        pytest.skip(f"no Python {version} here")
    sources = [cell.source for chapter in chapters() for cell in chapter.code_cells()]
    sources += [path.read_text(encoding="utf-8") for path in (ROOT / "code").rglob("*.py")]
    program = "import json, sys, meaning; print(json.dumps([*map(meaning.meaning, json.load(sys.stdin))]))"
    done = subprocess.run(
        [python, "-c", program],
        input=json.dumps(sources),
        cwd=ROOT / "code/companion",
        capture_output=True,
        text=True,
        check=True,
    )
    assert json.loads(done.stdout) == [meaning.meaning(source) for source in sources]


def test_of_the_lock_only_what_the_module_requires_counts(monkeypatch, tmp_path):
    chapter, lock = find("04"), freshness.LOCK.read_text()
    before = freshness.computed(chapter)
    for package, counts in (
        ("numpy", True),
        ("tokenizers", True),
        ("sphinx", False),
        ("ruff", False),
    ):
        other, n = re.subn(rf"^{package}==.*$", f"{package}==0.0.1 \\\\", lock, flags=re.M)
        assert n == 1, package
        path = tmp_path / f"{package}.lock"
        path.write_text(other)
        monkeypatch.setattr(freshness, "LOCK", path)
        assert (freshness.computed(chapter) != before) == counts, package
