"""Fonts of icons with only the glyphs that the style sheet names: a few kilobytes, not a few hundred.

A browser fetches a font whole where a page shows one of its icons: 156 kB for that of the book's
admonitions, more than all else of a page.
"""

import io
import re
from os.path import basename
from pathlib import Path

from fontTools import subset

from companion.files import write_bytes

GLYPH = re.compile(r'"(?:\\(f[0-9a-f]{3})|([\ue000-\uf8ff]))"')  # escaped, or the letter itself
FACE = re.compile(
    r'url\("(?P<font>[^"]*)\.woff2"\) format\("woff2"\),\s*url\("(?P=font)\.ttf"\) format\("truetype"\)'
)


def named(css: str) -> set[int]:
    """The code points of the glyphs that a sheet names."""
    return {int(code, 16) if code else ord(letter) for code, letter in GLYPH.findall(css)}


def only(font: Path, points: set[int]) -> bytes:
    """A font, as WOFF, with the glyphs of these code points."""
    options = subset.Options(flavor="woff", layout_features=[], notdef_outline=True)
    made = subset.load_font(font, options)
    subsetter = subset.Subsetter(options)
    subsetter.populate(unicodes=points)
    subsetter.subset(made)
    written = io.BytesIO()
    made.save(written)
    return written.getvalue()


def fewer(css: str, folder: Path, fonts: Path) -> str:
    """The sheet, which lies in folder, with small fonts beside the large ones of its faces, which go."""
    points = named(css)

    def small(face: re.Match) -> str:
        path = folder / face["font"]
        write_bytes(path.with_suffix(".woff"), only(fonts / f"{basename(path)}.ttf", points))
        for suffix in (".woff2", ".ttf"):
            path.with_suffix(suffix).unlink(missing_ok=True)
        return f'url("{face["font"]}.woff") format("woff")'

    return FACE.sub(small, css)
