"""Lighter pictures: the site's copies of vector figures, to a hundredth of a point and without idle space.

A quarter of their weight is digits that no screen shows. What a reader downloads under a figure is untouched.
"""

import re
from pathlib import Path

from companion.files import write_bytes

NUMBER = re.compile(r"-?\d+\.\d{3,}")


def lighter(svg):
    """The same picture, its coordinates rounded to 0.01."""
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r'(\s[xy]=")([^"]*)', lambda m: m[1] + NUMBER.sub(_short, m[2]), svg)
    svg = re.sub(r'(\sd=")([^"]*)', lambda m: m[1] + _tight(NUMBER.sub(_short, m[2])), svg)
    return re.sub(r"\n\s+", "\n", svg)


def _short(number):
    return f"{float(number[0]):.2f}".rstrip("0").rstrip(".")


def _tight(path):
    return re.sub(r"\s*([A-Za-z])\s*", r"\1", path).strip()


def lighten(app, error):
    if not error and app.builder.name == "html":
        for path in (Path(app.outdir) / "_images").glob("*.svg"):
            write_bytes(path, lighter(path.read_text(encoding="utf-8")).encode())


def setup(app):
    app.connect("build-finished", lighten)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
