"""MathJax from the locked `sphinx-mathjax-offline` wheel, so that mathematics needs no other host.

The wheel is itself an extension, but it copies all of MathJax (24 MB) into every build.
A page needs one component and its fonts (1.6 MB).
"""

import shutil
from importlib.util import find_spec
from pathlib import Path

COMPONENT = "tex-mml-chtml.js"
FONTS = "output/chtml/fonts/woff-v2"


def copy_mathjax(app, error):
    if error or app.builder.format != "html":
        return
    source = Path(find_spec("sphinx-mathjax-offline").origin).parent / "static" / "mathjax"
    target = Path(app.outdir) / "_static" / "mathjax"
    shutil.copytree(source / FONTS, target / FONTS, dirs_exist_ok=True)
    shutil.copyfile(source / COMPONENT, target / COMPONENT)


def setup(app):
    app.connect("build-finished", copy_mathjax)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
