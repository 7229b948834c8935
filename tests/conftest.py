"""What tests share: quiet kernels, and a small checkout of its own for each that changes one."""

import functools
import http.server
import os
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import nbformat
import pytest
from bs4 import BeautifulSoup
from hypothesis import settings

import shapes

# no test asserts a time: on a busy machine an example may take seconds
settings.register_profile("no-deadline", deadline=None)
settings.load_profile("no-deadline")

ROOT = Path(__file__).resolve().parents[1]

TINY_PARAMETERS = """\
seed: int = 0  # seed of the noise; none; 0 .. 100
size: float = 1.0  # amplitude of the wave; volt; 0.1 .. 10.0
wave: str = "sine"  # its shape; none; sine | cosine
"""
TINY_IMPORTS = """\
import matplotlib.pyplot as plt
import numpy as np
from companion import claim, data, publish, use_style
from tripartite import attention
use_style()
x = np.linspace(0, 6, 50)
gain = float(data("gain.txt").read_text())
y = gain * size * {"sine": np.sin, "cosine": np.cos}[wave](x) + 2"""
TINY_FIGURE = """\
fig, ax = plt.subplots()
ax.plot(x, y)
publish(fig, "tiny-wave", data={"x": x, "y": y})"""
TINY_CLAIM = 'claim("C1", "largest-value", "Largest value", y.max(), "< 4", kind="result")'


class Checkout:
    """A copy of the code with one tiny chapter, in a folder with a space in its name."""

    def __init__(self, root: Path):
        self.root = root

    def create(self) -> "Checkout":
        root = self.root
        # compiled modules too: else every first import compiles them again
        shutil.copytree(ROOT / "code", root / "code", ignore=shutil.ignore_patterns("*.egg-info"))
        shutil.copy(ROOT / "requirements.lock", root)
        (root / "data").mkdir()
        (root / "data/gain.txt").write_text("1.0")
        (root / "book").mkdir()
        self.write([TINY_PARAMETERS, TINY_IMPORTS, TINY_FIGURE, TINY_CLAIM])
        return self

    @property
    def notebook(self) -> Path:
        return self.root / "book/01-tiny.ipynb"

    def write(self, sources: list[str]) -> None:
        cells = [nbformat.v4.new_code_cell(source, id=f"c{i}") for i, source in enumerate(sources)]
        cells[0].metadata = {"tags": ["parameters"]}
        cells[2].metadata = {
            "mystnb": {
                "figure": {"name": "tiny-wave", "caption": "A wave."},
                "image": {"alt": "A wave over time."},
            }
        }
        cells.insert(0, nbformat.v4.new_markdown_cell("# Tiny", id="title"))
        nbformat.write(nbformat.v4.new_notebook(cells=cells), self.notebook)

    def edit(self, name: str, old: str, new: str) -> None:
        path = self.root / name
        text = path.read_text()
        assert old in text
        path.write_text(text.replace(old, new))

    def call(self, *command: str, **environment: str) -> subprocess.CompletedProcess:
        """Run a Python module of this checkout, not of the one under test."""
        settings = os.environ | {"PYTHONPATH": str(self.root / "code")} | environment
        return subprocess.run(
            [sys.executable, "-m", *command],
            cwd=self.root,
            env=settings,
            capture_output=True,
            text=True,
        )

    def tripartite(self, *arguments: str, **environment: str) -> subprocess.CompletedProcess:
        return self.call("companion.cli", *arguments, **environment)

    def accept(self) -> None:
        result = self.tripartite("accept")
        assert result.returncode == 0, result.stderr

    def nbval(self) -> subprocess.CompletedProcess:
        options = ["-p", "companion.pytest_nbval", "--nbval", "--nbval-current-env"]
        return self.call("pytest", "-q", "-p", "no:cacheprovider", *options, str(self.notebook))


@pytest.fixture
def checkout(tmp_path) -> Checkout:
    """A checkout whose chapter was never executed."""
    root = tmp_path / "a checkout"
    root.mkdir()
    return Checkout(root).create()


@pytest.fixture(scope="session")
def accepted_once(tmp_path_factory) -> Checkout:
    root = tmp_path_factory.mktemp("accepted") / "a checkout"
    root.mkdir()
    checkout = Checkout(root).create()
    checkout.accept()
    return checkout


@pytest.fixture
def accepted(accepted_once, tmp_path) -> Checkout:
    """A checkout of its own whose chapter is executed and committed."""
    shutil.copytree(accepted_once.root, tmp_path / "a checkout")
    return Checkout(tmp_path / "a checkout")


@pytest.fixture(scope="session")
def site() -> Path:
    """The site built from the committed outputs, warnings as errors; or that in TRIPARTITE_SITE."""
    if given := os.environ.get("TRIPARTITE_SITE"):
        return Path(given).resolve()
    from filelock import FileLock

    from companion.build import committed_site
    from companion.paths import BUILD

    # one worker builds, and the other goes on with its tests until it needs the site
    BUILD.mkdir(exist_ok=True)
    built, now = BUILD / "committed.of", os.environ.get("PYTEST_XDIST_TESTRUNUID", "")
    with FileLock(BUILD / "committed.lock"):
        html = BUILD / "committed/_build/html"
        if not now or not built.exists() or built.read_text() != now:
            html = committed_site(BUILD / "committed")
            built.write_text(now)
    return html


@pytest.fixture(scope="session")
def documents(site):
    """Every HTML file of the site, parsed, by path."""
    return {
        path: BeautifulSoup(path.read_bytes(), "html.parser")
        for path in sorted(site.rglob("*.html"))
        if "_static" not in path.relative_to(site).parts
    }


@pytest.fixture(scope="session")
def origin(site):
    class Handler(http.server.SimpleHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_):
            pass

    server = http.server.ThreadingHTTPServer(
        ("127.0.0.1", 0), functools.partial(Handler, directory=site)
    )
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def unavailable(reason: str) -> None:
    """Skip on a reader's machine; fail where nothing may be left out."""
    pytest.fail(reason) if os.environ.get("CI") else pytest.skip(reason)


@pytest.fixture(scope="session")
def browser():
    from playwright.sync_api import sync_playwright

    executable = shutil.which("chromium") or shutil.which("google-chrome")
    if executable is None:
        unavailable("no Chromium on this machine: the pages cannot be opened")
    with sync_playwright() as playwright:
        # No name resolves but this machine's: a page that needs another host fails here.
        chromium = playwright.chromium.launch(
            executable_path=executable,
            args=["--no-sandbox", "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1"],
        )
        yield chromium
        chromium.close()


def pytest_collection_modifyitems(items):
    """One file that needs the site comes first, others after those that do not: one worker builds, none waits."""
    files = {}
    for item in items:
        needs = "site" in getattr(item, "fixturenames", ())
        files[item.path] = files.get(item.path, False) or needs
    first = next((path for path, needs in files.items() if needs), None)

    def place(item):
        if item.path.suffix == ".ipynb":
            return 3  # last: many of a like size end at about the same time
        return 0 if item.path == first else 1 + files[item.path]

    items.sort(key=place)


@pytest.fixture(scope="session", autouse=True)
def shapes_as_docstrings_say():
    """Every call that a test makes is held to the shapes that the function's docstring states."""
    for name, module in list(sys.modules.items()):
        if name.startswith("tripartite."):
            shapes.watch(module)
