"""The curves of the authors' stored figures, read from their pixels, into results/published-*.csv.

    python scripts/make_published.py language ALBERT_Neuron_Astrocyte.ipynb
    python scripts/make_published.py vision ViT_Neuron_Astrocyte.ipynb

The notebooks are in https://github.com/kozleo/Building_Transformers_from_Neurons_and_Astrocytes, which
has no licence: the pictures are not kept here, only the numbers. They have no ticks on the ordinate.
For language, the notebook sets the limits 120 below and 120 above the curve of 1,000 neurons, so the
height of that curve in the frame gives the unit; where zero lies remains unknown. For vision, limits
are Matplotlib's own, 5 % beyond all curves, and neither unit nor zero can be known: values are given
in units of the span of all curves, from the lowest.
"""

from __future__ import annotations

import base64
import hashlib
import io
import sys
from pathlib import Path
from typing import NamedTuple

import matplotlib
import nbformat
import numpy as np
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from PIL import Image

from common import table


class Stored(NamedTuple):
    """A stored picture: its SHA-256, rows and columns inside its frame, colour of the normaliser."""

    sha256: str
    frame: tuple[slice, slice]
    normaliser: str


STORED = {
    "language": Stored(
        "f659ab1d2122c920fb5ba58f2c1bd1426c4af0f0d35b132bf82763c030ce7833",
        (slice(227, 663), slice(54, 1329)),
        "#056eee",
    ),
    "vision": Stored(
        "3efcc8975944e711fbbd00174e9547be7c49279b79fa242e84e2d5ff350b1a63",
        (slice(226, 656), slice(54, 1329)),
        "indigo",
    ),
}
SLACK = 120  # of the limits of the ordinate, beyond the curve of 1,000 neurons
TOKENS = 196  # that are plotted
A_TOKEN = 1275 / 200  # pixels from one token to the next: the abscissa ends at 200
PROBE, APART = 2.0, 4  # pixels by which a height is moved, tokens between those moved at once
LEAPS = -96, -48, -24, -12, 12, 24, 48, 96  # pixels, tried where small steps may be caught
STIFFNESS, LEGIBLE = 1e4, 5e4  # squared differences of colour that count as little, and as enough
NEAR = 30, 0  # pixels up to which an edge of p_100000, of p_1000, may be that of the later curve
ALIKE = 40  # root mean square difference of colour up to which a place is drawn as in the picture
RESEMBLES, OF_TOKENS = 25, 0.8  # the same, of all ink at a token, and the share that must be below
BORDER = 4  # pixels at each side of the frame that its line may cover
NAMES = "p_1000", "p_100000", "Z"
OVER_WHITE = (
    [(175, 234, 187)],
    [(193, 148, 52), (177, 144, 38)],
)  # inks of responses, also over each other

Curves = dict[str, tuple[str, float, float]]


def curves_of(normaliser: str) -> Curves:
    """In the order in which the notebooks draw them: colour, width in points (a pixel each), opacity."""
    return dict(zip(NAMES, (("#9be5aa", 10, 0.8), ("#b27a01", 10, 0.8), (normaliser, 5, 1.0))))


LANGUAGE, VISION = (curves_of(stored.normaliser) for stored in STORED.values())


def draw(heights: np.ndarray, shape: tuple[int, int], curves: Curves = LANGUAGE) -> np.ndarray:
    """What a notebook's settings make of curves.

    heights: pixels above the lower limit, (curves, tokens); shape: rows and columns of the frame.
    Returns colours, (rows, columns, 3).
    """
    with matplotlib.rc_context(matplotlib.rcParamsDefault):
        figure = Figure(figsize=(shape[1] / 72, shape[0] / 72), dpi=72)
        ax = figure.add_axes((0, 0, 1, 1))
        for (colour, width, alpha), line in zip(curves.values(), heights, strict=True):
            ax.plot(line, color=colour, linewidth=width, alpha=alpha)
        ax.set(xlim=(0, shape[1] / A_TOKEN), ylim=(0, shape[0]))
        ax.axis("off")
        buffer = io.BytesIO()
        figure.savefig(buffer, dpi=72, format="rgba", facecolor="white")
    return np.frombuffer(buffer.getvalue(), np.uint8).reshape(*shape, 4)[..., :3]


def edges(picture: np.ndarray, n_tokens: int, curves: Curves = LANGUAGE) -> np.ndarray:
    """Upper and lower edge of every curve's ink at every token, in pixels from below.

    Returns (2, curves, tokens); NaN where a later curve lies on the edge or hides the ink.
    """
    rows, columns = picture.shape[:2]
    tokens = np.arange(n_tokens)
    at = np.minimum(np.round(tokens * A_TOKEN).astype(int), columns - 1)
    inked = picture[::-1, at].astype(int)
    inks = *OVER_WHITE, [[round(255 * part) for part in to_rgb(curves["Z"][0])]]
    # a pixel that two colours share is nobody's
    seen = np.array(
        [np.any([np.abs(inked - ink).sum(-1) < 12 for ink in some], 0) for some in inks]
    )  # curves, rows from below, tokens
    found = np.full((2, *seen.shape[::2]), np.nan)
    for i, ink in enumerate(seen):
        upper, lower = rows - 1 - np.argmax(ink[::-1], 0), np.argmax(ink, 0)
        later = seen[i + 1 :].any(0)
        for side, edge, out in ((0, upper, 1), (1, lower, -1)):
            beyond = np.clip(edge + out * np.arange(1, 4)[:, None], 0, rows - 1)
            free = ink.any(0) & ~later[beyond, tokens].any(0)
            found[side, i, free] = edge[free]
    return found


def heights_of(
    picture: np.ndarray, n_tokens: int = TOKENS, curves: Curves = LANGUAGE, *, rounds: int = 60
) -> np.ndarray:
    """Curves whose drawing is the picture, by coordinate descent on the squared difference of pixels.

    Every round moves each height by its own Gauss-Newton step, from drawings in which it alone (and
    others too far away to matter) is moved; before three of them larger moves are tried as well.
    Returns pixels above the lower limit, (curves, tokens); NaN where a move changes too little to be
    seen (a later curve hides this one), or where the drawing stays unlike the picture. Raises ValueError
    where the final drawing resembles the picture at too few tokens: these settings did not draw it.
    """
    seen, shape = edges(picture, n_tokens, curves), picture.shape[:2]
    half = np.array([width for _, width, _ in curves.values()])[:, None] / 2
    heights = np.where(np.isnan(seen[0]), seen[1] + half, seen[0] - half)
    tokens = np.arange(n_tokens)
    last = heights[-1]
    known = ~np.isnan(last)
    last[~known] = np.interp(tokens[~known], tokens[known], last[known])
    for line, later, near in zip(heights[-2::-1], heights[:0:-1], NEAR, strict=True):
        covered = np.isnan(line) | (
            np.abs(line - later) < near
        )  # the search begins on the later one
        line[covered] = later[covered]
    window = np.abs(np.arange(shape[1]) / A_TOKEN - tokens[:, None]) < APART / 2  # tokens, columns
    ends = np.nanmin(seen), np.nanmax(seen)
    visible, unlike, moves = np.empty((3, *heights.shape))
    for step in range(rounds):
        if step in (rounds // 6, rounds // 3, rounds // 2):
            heights = leapt(picture, heights, window, ends, curves)
        drawn = draw(heights, shape, curves).astype(float)
        missing = picture - drawn
        for curve, first in np.ndindex(len(curves), APART):
            some = slice(first, None, APART)
            moved = heights.copy()
            moved[curve, some] += PROBE
            change = draw(moved, shape, curves) - drawn
            power = window[some] @ (change**2).sum((0, 2))
            gain = window[some] @ (change * missing).sum((0, 2))
            moves[curve, some] = PROBE * gain / (power + STIFFNESS)
            visible[curve, some] = power
            unlike[curve, some] = window[some] @ (change**2 * missing**2).sum((0, 2)) / (power + 1)
        moves = np.clip(moves, -6, 6) * (0.8 if step < rounds // 2 else 0.4)
        heights = np.clip(heights + moves, *ends)
    legible = (visible > LEGIBLE) & (unlike < ALIKE**2)
    resembles = unlikeness(picture, draw(heights, shape, curves), n_tokens) < RESEMBLES
    if resembles.mean() < OF_TOKENS:
        raise ValueError(
            f"the drawing of what was found resembles the picture at {resembles.sum()} of {n_tokens} "
            f"tokens, must be at least {OF_TOKENS:.0%}: not drawn with the notebook's colours and widths"
        )
    return np.where(legible, heights, np.nan)


def leapt(
    picture: np.ndarray, heights: np.ndarray, window: np.ndarray, ends: tuple, curves: Curves
) -> np.ndarray:
    """Heights of which each has made the move among LEAPS, if any, that makes the drawing more alike.

    window: columns that show a token, (tokens, columns); ends: lowest and highest height.
    """

    def unlike(heights: np.ndarray) -> np.ndarray:  # (tokens,)
        missing = picture - draw(heights, picture.shape[:2], curves).astype(float)
        return window @ (missing**2).sum((0, 2))

    for curve, first in np.ndindex(len(curves), APART):
        some = slice(first, None, APART)
        least, best = unlike(heights)[some], heights[curve, some].copy()
        start = best.copy()
        for leap in LEAPS:
            moved = heights.copy()
            moved[curve, some] = np.clip(start + leap, *ends)
            now = unlike(moved)[some]
            best = np.where(now < least, moved[curve, some], best)
            least = np.minimum(now, least)
        heights = heights.copy()
        heights[curve, some] = best
    return heights


def unlikeness(picture: np.ndarray, drawn: np.ndarray, n_tokens: int) -> np.ndarray:
    """Root mean square difference of colour around each token, where either has ink: (tokens,)."""
    inside = slice(BORDER, -BORDER)
    some, others = (x[inside, inside].astype(float) for x in (picture, drawn))
    inked = (np.minimum(some, others) < 250).any(-1)
    columns = np.arange(BORDER, picture.shape[1] - BORDER) / A_TOKEN
    window = np.abs(columns - np.arange(n_tokens)[:, None]) < 0.5  # tokens, columns
    squared = window @ (((some - others) ** 2).sum(-1) * inked).sum(0)
    return np.sqrt(squared / np.maximum(window @ inked.sum(0), 1))


def calibrated(heights: np.ndarray, rows: int) -> tuple[np.ndarray, float]:
    """Language: heights in the notebook's units above the lowest response of 1,000 neurons; units a pixel.

    Raises ValueError where the margins below and above that curve differ: then one of its ends is hidden.
    """
    lowest, highest = np.nanmin(heights[0]), np.nanmax(heights[0])
    unit = 2 * SLACK / (rows - (highest - lowest))
    if abs(unit * lowest - SLACK) > 3:
        above = unit * (rows - highest)
        raise ValueError(f"margins of {unit * lowest:.0f} and {above:.0f} units, not {SLACK} each")
    return unit * (heights - lowest), unit


def in_spans(heights: np.ndarray, rows: int) -> tuple[np.ndarray, float]:
    """Vision: heights in units of the span of all curves, from the lowest; units a pixel.

    The frame gives both, since Matplotlib leaves 5 % of the span below and above all curves. Raises
    ValueError where a curve lies in these margins, or none ends at one of them.
    """
    margin, unit = rows * 0.05 / 1.1, 1.1 / rows
    beyond = margin - np.array([np.nanmin(heights), rows - np.nanmax(heights)])
    if not -3 < beyond.max() < 3:
        ends = margin - beyond
        raise ValueError(f"margins of {ends[0]:.1f} and {ends[1]:.1f} pixels, not {margin:.1f}")
    return unit * (heights - margin), unit


def stored_picture(notebook: Path, stored: Stored) -> np.ndarray:
    """The frame of the picture that the notebook holds. Raises ValueError where it has no such one."""
    outputs = [o for c in nbformat.read(notebook, 4).cells for o in c.get("outputs", [])]
    pngs = [
        base64.b64decode(o.data["image/png"]) for o in outputs if "image/png" in o.get("data", {})
    ]
    found = [png for png in pngs if hashlib.sha256(png).hexdigest() == stored.sha256]
    if not found:
        raise ValueError(f"{notebook}: has no picture whose frame is known here")
    return np.asarray(Image.open(io.BytesIO(found[0])).convert("RGB"))[stored.frame]


def main() -> None:
    kind, notebook = sys.argv[1:]
    stored = STORED[kind]
    picture = stored_picture(Path(notebook), stored)
    heights = heights_of(picture, curves=curves_of(stored.normaliser))
    to_values, digits = {"language": (calibrated, 0), "vision": (in_spans, 4)}[kind]
    values, unit = to_values(heights, picture.shape[0])
    shown = [["" if np.isnan(v) else f"{v:.{digits}f}" for v in line] for line in values]
    with table(f"published-{kind}", ["token", *NAMES]) as writer:
        writer.writerows(zip(range(TOKENS), *shown))
    print(f"{unit:.4g} units a pixel; tokens that cannot be read: {np.isnan(values).sum(1)}")


if __name__ == "__main__":
    main()
