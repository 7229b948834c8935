"""Figures on a phone: larger letters, and two panels that stand side by side one below the other.

A figure of two panels is shown as two views of its one file: the picture itself and a second `<img>`, which a desk
does not show, each cut by the style sheet (reading.css) where nothing is drawn. In all others letters grow
(letters.py). Both are done to the files of the site: no chapter is executed again, and no file is loaded twice.
"""

import re
from pathlib import Path

import drawing
import letters

from companion.files import write_bytes

FIGURE = re.compile(
    r'<a class="figure-open"(?P<link>[^>]*)>\s*(?P<image><img [^>]*\bsrc="(?P<source>[^"]*\.svg)"[^>]*>)'
)
ALT = re.compile(r'\balt="[^"]*"')
ROOT = re.compile(r"<svg [^>]*>")
NARROW = 0.35  # of the figure: what is narrower is a colour bar, or one of many small panels
TALL = 1.6  # times its width: what is taller has rows to compare, and would fill two screens


def columns(lines: list[drawing.Line]) -> list[tuple[float, float]]:
    """From where to where the columns of a figure reach: between two of them nothing is drawn."""
    reach = {}
    for line in lines:
        (left, _), (right, _) = line.box
        known = reach.get(line.part, (left, right))
        reach[line.part] = min(left, known[0]), max(right, known[1])
    found = []
    for left, right in sorted(reach.values()):
        if found and left < found[-1][1]:
            found[-1] = found[-1][0], max(right, found[-1][1])
        else:
            found.append((left, right))
    return found


def halves(size, lines: list[drawing.Line]) -> list[tuple[float, float]]:
    """The two columns of a figure of two panels side by side, cut midway between them; else nothing.

    Nothing also where the right panel has no numbers at its left edge: it shares those of the left panel.
    """
    found = columns(lines)
    widths = [right - left for left, right in found]
    if len(found) != 2 or min(widths) < max(NARROW * size[0], size[1] / TALL):
        return []
    middle = (found[0][1] + found[1][0]) / 2
    words, drawn = (
        [line.box[0, 0] for line in lines if bool(line.text) == is_text and line.box[0, 0] > middle]
        for is_text in (True, False)
    )
    if not words or min(words) >= min(drawn):
        return []
    return [(0, middle), (middle, size[0])]


def stacked(match: re.Match, size, cut) -> str:
    """A figure as two pictures of one file, each said to be the left or the right one."""
    left, right = (
        match["image"].replace("<img ", f'<img style="--shape: {(b - a) / size[1]:.4f}" ', 1)
        for a, b in cut
    )
    right = ALT.sub('alt="The right panel of this figure"', right)
    right = right.replace("<img ", '<img class="phone-only" ', 1)
    said = '<span class="phone-only">{}</span>'.format
    opened = f'<a class="figure-open stacked"{match["link"]}>'
    return f"{opened}\n{said('Left')}{left}{said('Right')}{right}"


def fit(page: Path) -> None:
    """Make the figures of a page fit a phone."""

    def fitted(match):
        path = page.parent / match["source"]
        size, lines = drawing.read(path)
        if cut := halves(size, lines):
            return stacked(match, size, cut)
        if letters.MARK not in (picture := path.read_text(encoding="utf-8")):
            sheet = letters.sheet(size, lines)
            write_bytes(path, ROOT.sub(lambda m: m[0] + sheet, picture, count=1).encode())
        return match[0]

    text = page.read_text(encoding="utf-8")
    if (new := FIGURE.sub(fitted, text)) != text:
        write_bytes(page, new.encode())


def fit_all(app, error):
    if error or app.builder.name != "html":
        return
    for page in Path(app.outdir, "book").glob("*.html"):
        fit(page)


def setup(app):
    app.connect("build-finished", fit_all, priority=600)  # when pictures say their size
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
