"""Letters of a figure that stay legible where the figure is drawn small: a style sheet within its SVG.

A picture in a page answers to its own width, so the one file has letters of their published size on a desk, and
larger ones on a phone. Each text grows where it covers neither another text nor a line. Where names beside an axis
need more room than the margin has, all else becomes smaller by that much.
"""

import drawing
import numpy as np
from PIL import Image, ImageDraw

PHONE, SMALL = 380, 480  # pixels across: for what width letters are sized, up to which they grow
LEAST = 10  # pixels: size of letters on the phone
NEAR = 4.0  # units of the figure that a text may move, beside what it grows by
APART = np.array([4.0, 1.0])  # units between texts: one after the other, one above the other
EDGE = 1.0  # units to the edge of the figure
MORE = 0.15  # of its size: what a figure may gain on a side, at most
FINE = 2  # dots of the drawn lines along one unit
STEPS = np.stack(np.meshgrid(*2 * [np.linspace(-1, 1, 9)]), axis=-1).reshape(-1, 2)
STEPS = STEPS[np.argsort(np.hypot(*STEPS.T), kind="stable")]  # the shortest first
MARK = "<style>@media (max-width: "


def sheet(size: np.ndarray, lines: list[drawing.Line]) -> str:
    """The style element for a figure's SVG; empty where all its letters are large enough."""
    names, boxes, factors = texts(size, lines)
    if not names or factors.max() <= 1:
        return ""
    grown, gained, larger = place(size, lines, boxes, factors)
    rules = []
    if larger.max() > 1:
        (x, y), (right, down) = 1 / larger, gained / larger
        rules.append(f"#figure_1{{transform:matrix({x:.4f},0,0,{y:.4f},{right:.1f},{down:.1f})}}")
    scales = (grown[:, 1] - grown[:, 0]) / (boxes[:, 1] - boxes[:, 0])
    shifts = grown[:, 0] - scales * boxes[:, 0]
    for name, (x, y), (right, down) in zip(names, scales, shifts):
        if max(x, y) > 1:
            rules.append(f"#{name}{{transform:matrix({x:.3f},0,0,{y:.3f},{right:.1f},{down:.1f})}}")
    return f"{MARK}{SMALL}px){{{''.join(rules)}}}</style>"


def texts(size, lines) -> tuple[list[str], np.ndarray, np.ndarray]:
    """Ids of the texts, their boxes (n, 2, 2), and how many times they must be larger on a phone (n,)."""
    of = {}
    for line in lines:
        if line.text:
            of.setdefault(line.text, []).append(line)
    boxes = np.array([drawing.union(part.box for part in parts) for parts in of.values()])
    least = np.array([min(part.size for part in parts) for parts in of.values()])
    return list(of), boxes, np.maximum(1, LEAST / PHONE * size[0] / least)


def place(size, lines, boxes, factors) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Boxes (n, 2, 2) of the grown texts, what the figure gains left and above (2,), how many times larger it is (2,)."""
    ink = _ink(size, lines)
    gained, larger = np.zeros(2), np.ones(2)
    for _ in range(3):  # all of a larger figure is drawn smaller, and its letters must be larger
        grown = _placed(size, ink, boxes, factors[:, None] * larger)
        gained = np.maximum(0, EDGE - grown[:, 0].min(axis=0))
        beyond = np.maximum(0, grown[:, 1].max(axis=0) + EDGE - size)
        if np.array_equal(larger, larger := 1 + (gained + beyond) / size):
            break
    sized = _grown(boxes, factors[:, None] * larger, _middle(grown) - _middle(boxes))
    return sized, gained, larger


def _placed(size, ink, boxes, by) -> np.ndarray:
    moves = np.maximum(0, by - 1) * (boxes[:, 1] - boxes[:, 0]) / 2 + NEAR
    moves[by.max(axis=1) <= 1] = 0
    grown = _grown(boxes, by, 0)
    for _ in range(4):  # later texts make room for earlier ones
        earlier = grown.copy()
        for k in np.flatnonzero(by.max(axis=1) > 1):
            made = _grown(boxes[k], by[k], STEPS * moves[k])
            others = np.arange(len(boxes)) != k
            before = _shared(boxes[k][None], boxes[others])
            cost = 20 * np.maximum(0, _shared(made, grown[others]) - before).sum(axis=1)
            cost += np.maximum(0, _covered(ink, made) - _covered(ink, boxes[k][None]))
            cost += np.hypot(*(STEPS * moves[k]).T)
            beyond = np.maximum(0, np.stack([EDGE - made[:, 0], made[:, 1] - size + EDGE]))
            cost += (beyond + 1000 * np.maximum(0, beyond - MORE * size)).sum(axis=(0, 2))
            grown[k] = made[np.argmin(cost)]
        if np.array_equal(earlier, grown):
            break
    return grown


def _middle(boxes) -> np.ndarray:
    return boxes.mean(axis=-2)


def _grown(boxes, by, shift) -> np.ndarray:
    """Boxes (..., 2, 2) by times as large, (..., 2), their middles moved by shift, (..., 2)."""
    middle = _middle(boxes) + shift
    half = by * (boxes[..., 1, :] - boxes[..., 0, :]) / 2
    return np.stack([middle - half, middle + half], axis=-2)


def _shared(ones, others) -> np.ndarray:
    """How far (n, m) boxes lie within each other, each with room around it."""
    low = np.maximum(ones[:, None, 0], others[None, :, 0])
    high = np.minimum(ones[:, None, 1], others[None, :, 1])
    room = np.minimum(_room(ones)[:, None], _room(others)[None])
    return np.maximum(0, (high - low + room).min(axis=-1))


def _room(boxes) -> np.ndarray:
    """What texts (n, 2, 2) leave free around them, across and down, (n, 2): more at their ends."""
    across, down = (boxes[:, 1] - boxes[:, 0]).T
    return np.where((across >= down)[:, None], APART, APART[::-1])


def _ink(size, lines) -> np.ndarray:
    """For every dot of the figure, how many dots above and left of it belong to lines."""
    picture = Image.new("1", tuple(np.ceil(FINE * size).astype(int).tolist()))
    pen = ImageDraw.Draw(picture)
    for line in lines:
        if not line.text and len(line.points) > 1:
            points = line.points if line.clip is None else np.clip(line.points, *line.clip)
            pen.line([tuple(point) for point in (FINE * points).tolist()], fill=1, width=FINE)
    return np.pad(np.asarray(picture, dtype=int), ((1, 0), (1, 0))).cumsum(axis=0).cumsum(axis=1)


def _covered(ink, boxes) -> np.ndarray:
    """Dots of lines under boxes (n, 2, 2)."""
    most = np.array(ink.shape[::-1]) - 1
    (x0, y0), (x1, y1) = (
        np.clip(f(FINE * boxes[:, k]).astype(int), 0, most).T
        for k, f in enumerate((np.floor, np.ceil))
    )
    return ink[y1, x1] - ink[y0, x1] - ink[y1, x0] + ink[y0, x0]
