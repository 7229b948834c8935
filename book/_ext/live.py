"""Chapters that run in the page: Python for browsers, from this site's own host, on a click.

Where its files are in the cache (`tripartite book --live` fetches and verifies them), pages of the chapters in
`companion_live` of `_config.yml` get a button under their parameters, and the site a folder `live/`: the files, a
lock of their hashes that the browser checks, the modules, and for each chapter its cells and the data they read.
Where they are not, pages are as they would be without this extension.
"""

import hashlib
import io
import json
import re
import shutil
import zipfile
from importlib.util import find_spec
from pathlib import Path

from docutils import nodes

from companion.chapters import find
from companion.fetch import RUNTIME, cached_runtime, is_verified
from companion.files import write_bytes
from companion.freshness import CODE, data_read
from companion.paths import DATA, ROOT

BOOK = Path(__file__).parents[1]
SCRIPTS = ("live.js", "live-worker.js", "live.css")
SHARED = ("claims", "files", "parameters", "paths", "plotted", "prose", "style")
LARGEST = 5_000_000  # bytes of a data file that a page loads
DEPENDS = {  # the packages that chapters import, and what these need of what is loaded
    "scipy": ["numpy", "openblas"],
    "matplotlib": "contourpy cycler kiwisolver numpy packaging pillow pyparsing python-dateutil".split(),
    "python-dateutil": ["six"],
    "cycler": ["six"],
}
IMPORTS = {"python-dateutil": "dateutil", "pillow": "PIL"}


def packages():
    """The lock of the packages: what Pyodide loads and the SHA-256 that each must have."""
    found = {}
    for name, file in RUNTIME.files.items():
        if match := re.match(r"([\w.]+)-([\w.]+)(?:-.*\.whl|\.zip)$", name):
            package = match[1].replace("_", "-").lower()
            found[package] = {
                "name": package,
                "version": match[2],
                "file_name": name,
                "install_dir": "site" if name.endswith(".whl") else "dynlib",
                "sha256": file.sha256,
                "package_type": "package" if name.endswith(".whl") else "shared_library",
                "imports": [IMPORTS.get(package, package)],
                "depends": DEPENDS.get(package, []),
                "unvendored_tests": False,
            }
    return found


def lock():
    info = {"abi_version": "2024_0", "arch": "wasm32", "platform": "emscripten_3_1_58"}
    return {"info": info | {"python": "3.12.7", "version": "0.27.7"}, "packages": packages()}


def archive(files):
    """A zip of these files, {name in it: content}, the same bytes for the same files."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as target:
        for name in sorted(files):
            info = zipfile.ZipInfo(name)
            target.writestr(info, files[name], zipfile.ZIP_DEFLATED)
    return buffer.getvalue()


def modules():
    """What chapters import, as a page has it."""
    files = {p.relative_to(ROOT).as_posix(): p for p in (CODE / "tripartite").rglob("*.py")}
    files |= {f"code/companion/{name}.py": CODE / "companion" / f"{name}.py" for name in SHARED}
    files["code/companion/companion.mplstyle"] = CODE / "companion/companion.mplstyle"
    files["code/companion/__init__.py"] = CODE / "companion/inpage.py"
    for name in ("fetch", "inputs", "notebooks"):
        files[f"code/companion/{name}.py"] = CODE / "companion/inpage_models.py"
    files["code/safetensors/__init__.py"] = CODE / "companion/inpage_safetensors.py"
    package = Path(find_spec("array_api_compat").origin).parent
    for path in package.rglob("*.py"):
        files[f"code/array_api_compat/{path.relative_to(package).as_posix()}"] = path
    return {name: path.read_bytes() for name, path in files.items()}


def data(chapter):
    """The data that a chapter's cells name, and its figures' committed numbers."""
    names = chapter.figures()
    paths = [p for p in data_read(chapter) if p.is_file() and p.stat().st_size <= LARGEST]
    paths += [p for p in (DATA / "reference").iterdir() if p.stem in names]
    return {p.relative_to(ROOT).as_posix(): p.read_bytes() for p in paths}


def described(chapter):
    """A chapter's cells and parameters, as the script of the page takes them."""
    cells = [
        {
            "id": c.id,
            "source": c.source,
            "parameters": "parameters" in c.metadata.get("tags", []),
            "text": "".join(o.get("data", {}).get("text/plain", "") for o in c.outputs),
        }
        for c in chapter.code_cells()
        if c.source.strip()
    ]
    parameters = [
        {
            "name": p.name,
            "kind": p.kind.__name__,
            # a page has recordings, and no model to run
            "default": "recording" if "recording" in p.choices else str(p.default),
            "meaning": p.meaning,
            "unit": p.unit,
            "allowed": p.allowed.replace("_", "") if p.limits else p.allowed,
            "limits": p.limits,
            "choices": [] if p.limits else p.choices,
        }
        for p in chapter.parameters().values()
    ]
    return {"slug": chapter.slug, "cells": cells, "parameters": parameters}


# --- the page ---------------------------------------------------------------------------------------


def decide(app, config):
    """A digest of the runtime where it is here, nothing else: a change of it writes all pages again."""
    there = cached_runtime() is not None
    config.companion_runtime = (
        hashlib.sha256(repr(RUNTIME.files).encode()).hexdigest()[:8] if there else ""
    )


def add_button(app, doctree, docname):
    """Under the parameters; results go to the anchors of cells, which ledgers.py gives."""
    slug = docname.rpartition("/")[2]
    if app.builder.name != "html" or not app.config.companion_runtime:
        return
    if slug[:2] not in app.config.companion_live or not docname.startswith("book/"):
        return
    size = sum(file.size for file in RUNTIME.files.values()) / 1e6
    cells = [n for n in doctree.findall(nodes.container) if n.get("nb_element") == "cell_code"]
    button = (
        f'<button type="button" class="live-open" onclick="import(\'../live/live.js\').then(m=>m.open(this,\'{slug}\'))">'
        f"Change and run in this page ({size:.0f} MB)</button>"
    )
    for cell in cells:
        if "tag_parameters" in cell["classes"]:
            cell.parent.insert(cell.parent.index(cell) + 1, nodes.raw("", button, format="html"))


def write(app, error):
    if error or app.builder.name != "html":
        return
    folder = Path(app.outdir) / "live"
    source = cached_runtime()
    if source is None or not app.config.companion_runtime:
        shutil.rmtree(folder, ignore_errors=True)
        return
    folder.mkdir(exist_ok=True)
    for name, file in RUNTIME.files.items():
        if not is_verified(folder / name, file):
            shutil.copyfile(source / name, folder / name)
    for name in SCRIPTS:
        write_bytes(folder / name, (BOOK / "_live" / name).read_bytes())
    write_bytes(folder / "pyodide-lock.json", json.dumps(lock()).encode())
    for path in folder.glob("*-????????.zip"):  # of an earlier build
        path.unlink()
    code = _named(folder, "code", archive(modules()))
    sizes = {name: file.size for name, file in RUNTIME.files.items()}
    for number in app.config.companion_live:
        chapter = find(number)
        its_data = _named(folder, chapter.slug, archive(data(chapter)))
        archives = {p: (folder / p).stat().st_size for p in (code, its_data)}
        page = described(chapter) | {"archives": archives, "sizes": sizes | archives}
        write_bytes(folder / f"{chapter.slug}.json", json.dumps(page).encode())


def _named(folder, name, content):
    file = f"{name}-{hashlib.sha256(content).hexdigest()[:8]}.zip"
    write_bytes(folder / file, content)
    return file


def setup(app):
    app.add_config_value("companion_live", [], "env")  # pages name these chapters
    app.add_config_value("companion_runtime", "", "html")
    app.connect("config-inited", decide)
    app.connect("doctree-resolved", add_button)
    app.connect("build-finished", write)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
