"""MathJax from the locked `sphinx-mathjax-offline` wheel, so that mathematics needs no other host.

The wheel is itself an extension, but it copies all of MathJax (24 MB) into every build.
Pages need a few components and their fonts (1.2 MB), which `mathematics.js` loads.
"""

import shutil
from importlib.util import find_spec
from pathlib import Path

from companion.files import write_bytes

COMPONENTS = (
    "startup",
    "core",
    "input/tex",
    "output/chtml",
    "output/chtml/fonts/tex",
    "a11y/assistive-mml",
)
FONTS = "output/chtml/fonts/woff-v2"


def copy_mathjax(app, error):
    if error or app.builder.format != "html":
        return
    source = Path(find_spec("sphinx-mathjax-offline").origin).parent / "static" / "mathjax"
    target = Path(app.outdir) / "_static" / "mathjax"
    shutil.copytree(source / FONTS, target / FONTS, dirs_exist_ok=True)
    for name in COMPONENTS:
        write_bytes(target / f"{name}.js", (source / f"{name}.js").read_bytes())


def setup(app):
    app.connect("build-finished", copy_mathjax)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
