"""What every page gets: the explorers, its paper layout, sound roles.

Every picture says its size, so that nothing jumps.
"""

import re
from functools import cache
from pathlib import Path

IMAGE = re.compile(r'<img (?![^>]*\b(?:width|style)=)[^>]*\bsrc="(?P<source>[^":?]*)"[^>]*>')
NAMED = '<summary aria-label="Pages of this part">'
PIXELS = {"pt": 4 / 3, "px": 1, "": 1}


@cache
def size_of(path: Path) -> tuple[int, int] | None:
    """Width and height in CSS pixels, where the file says so."""
    if path.suffix == ".svg":
        head = path.read_text(encoding="utf-8")[:3000]
        found = [
            re.search(rf'<svg [^>]*?\b{side}="([\d.]+)(pt|px|)"', head)
            for side in ("width", "height")
        ]
        return tuple(round(float(f[1]) * PIXELS[f[2]]) for f in found) if all(found) else None
    if path.suffix in (".png", ".jpg"):
        from PIL import Image

        with Image.open(path) as picture:
            return picture.size
    return None


def improve(page: Path) -> None:
    """Room for pictures, so that text does not jump when one arrives, and names for arrows."""

    def sized(image):
        path = (page.parent / image["source"]).resolve()
        size = size_of(path) if path.is_file() else None
        return f'<img width="{size[0]}" height="{size[1]}" {image[0][5:]}' if size else image[0]

    text = page.read_text(encoding="utf-8")
    # the theme's arrows that unfold a list have no words
    new = re.sub(r"<summary>(?=<span [^>]*><i [^>]*></i></span></summary>)", NAMED, text)
    if (new := IMAGE.sub(sized, new)) != text:
        page.write_text(new, encoding="utf-8")


def tidy(app, page, template, context, doctree):
    """Drop roles that assistive programs reject: docutils' list of references holds anchors too."""
    if "citation-list" in context.get("body", ""):
        context["body"] = (
            context["body"]
            .replace('<div role="list" class="citation-list">', '<div class="citation-list">')
            .replace(' role="doc-biblioentry"', "")
        )


def improve_all(app, error):
    if error or app.builder.format != "html":
        return
    site = Path(app.outdir)
    for page in site.rglob("*.html"):
        improve(page)


def setup(app):
    app.add_css_file("explorer.css", priority=801)  # after custom.css
    app.add_css_file("page.css", priority=802)
    app.add_js_file("explorer.js")
    app.connect("html-page-context", tidy)
    app.connect("build-finished", improve_all)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
