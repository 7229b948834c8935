"""What a figure holds and where, read from the SVG that Matplotlib wrote, in the figure's own units.

Letters are paths in it; a text is known by the group that scales letters of 100 units and turns them over.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from xml.etree import ElementTree

import numpy as np

SVG, LINK = "{http://www.w3.org/2000/svg}", "{http://www.w3.org/1999/xlink}href"
STEP = re.compile(r"(translate|scale|rotate|matrix)\(([^)]*)\)")
HERE = np.eye(3)
LETTERS = re.compile(r"scale\(([\d.]+) -[\d.]+\)")
NUMBER = re.compile(r"-?\d[\d.]*(?:e-?\d+)?")


@dataclass(frozen=True)
class Line:
    """One line, outline, glyph or picture: its points (n, 2), and what it belongs to.

    part: panel, legend or free text of the figure, by position; text: id of the text whose glyph it is, else
    None; size: of that text's letters; clip: the box (2, 2) of least and largest x, y beyond which it is not drawn.
    """

    points: np.ndarray
    part: int
    text: str | None
    size: float
    clip: np.ndarray | None

    @property
    def box(self) -> np.ndarray:
        """Least and largest x, y that it is drawn at: (2, 2)."""
        box = np.array([self.points.min(axis=0), self.points.max(axis=0)])
        return box if self.clip is None else np.clip(box, *self.clip)


def union(boxes) -> np.ndarray:
    """The box around boxes, (2, 2)."""
    boxes = np.array(list(boxes))
    return np.array([boxes[:, 0].min(axis=0), boxes[:, 1].max(axis=0)])


def read(path: Path) -> tuple[np.ndarray, list[Line]]:
    """Size (2,) of a figure and all that is drawn in it, without its ground.

    Raises KeyError or ValueError where the file is no figure of Matplotlib.
    """
    root = ElementTree.parse(path).getroot()
    known = {e.get("id"): e for e in root.iter() if e.get("id")}
    size = np.array(root.get("viewBox").split()[2:], dtype=float)
    parts = list(known["figure_1"])[1:]
    return size, [line for k, part in enumerate(parts) for line in _lines(part, known, Line(None, k, None, 0, None))]  # fmt: skip


def _lines(element, known, like: Line, outer=HERE) -> Iterator[Line]:
    kind = element.tag.removeprefix(SVG)
    written = element.get("transform", "")
    place = outer @ _matrix(written)
    if clip := element.get("clip-path"):
        (shape,) = known[clip[5:-1]]
        box = union(line.box for line in _lines(shape, known, Line(None, 0, None, 0, None)))
        like = Line(None, like.part, like.text, like.size, box)
    if kind == "g":
        name = element.get("id", "")
        letters = LETTERS.search(written)
        text = name if name.startswith("text_") else like.text
        size = 100 * float(letters[1]) if letters else like.size
        for child in element:
            yield from _lines(child, known, Line(None, like.part, text, size, like.clip), place)
    elif kind == "use":
        moved = place @ _shift(float(element.get("x", 0)), float(element.get("y", 0)))
        yield from _lines(known[element.get(LINK)[1:]], known, like, moved)
    elif kind != "defs":
        for points in _points(element, kind):
            moved = points @ place[:2, :2].T + place[:2, 2]
            yield Line(moved, like.part, like.text if like.size else None, like.size, like.clip)


def _points(element, kind: str) -> list[np.ndarray]:
    if kind == "path":
        return _of_path(element.get("d") or "")
    if kind not in ("rect", "image"):
        raise ValueError(f"<{kind}>: not known from figures of Matplotlib")
    x, y, w, h = (float(element.get(key, 0)) for key in ("x", "y", "width", "height"))
    return [np.array([(x, y), (x + w, y), (x + w, y + h), (x, y + h), (x, y)])]


@cache
def _of_path(path: str) -> list[np.ndarray]:
    """Points of each line of a path; those that bend a curve count as on it."""
    if unknown := set(re.sub(r"[\d.e\s-]", "", path)) - set("MLQCz"):
        raise ValueError(f"path with {unknown}: not known from figures of Matplotlib")
    lines = path.split("M")[1:]
    return [np.array(NUMBER.findall(line), dtype=float).reshape(-1, 2) for line in lines]


def _shift(x: float, y: float) -> np.ndarray:
    return np.array([[1, 0, x], [0, 1, y], [0, 0, 1]])


def _matrix(written: str) -> np.ndarray:
    made = np.eye(3)
    for kind, numbers in STEP.findall(written):
        given = [float(x) for x in re.split(r"[ ,]+", numbers.strip())]
        if kind == "translate":
            made = made @ _shift(*given)
        elif kind == "scale":
            made = made @ np.diag([given[0], given[-1], 1])
        elif kind == "rotate":
            c, s = np.cos(np.radians(given[0])), np.sin(np.radians(given[0]))
            x, y = given[1:] or (0, 0)
            turn = np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]])
            made = made @ _shift(x, y) @ turn @ _shift(-x, -y)
        else:
            a, b, c, d, e, f = given
            made = made @ np.array([[a, c, e], [b, d, f], [0, 0, 1]])
    return made
