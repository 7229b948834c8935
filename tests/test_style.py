"""The book's colours, as numbers: contrast on both grounds, and what colour-blind readers tell apart."""

import re
from itertools import combinations

import numpy as np
import pytest

from companion import COLOURS
from companion.paths import ROOT

STATIC = ROOT / "book/_static"
# Machado, Oliveira and Fernandes 2009 (doi:10.1109/TVCG.2009.113), severity 1, on linear RGB
DEFICIENCIES = {
    "protanopia": [
        [0.152286, 1.052583, -0.204868],
        [0.114503, 0.786281, 0.099216],
        [-0.003882, -0.048116, 1.051998],
    ],
    "deuteranopia": [
        [0.367322, 0.860646, -0.227968],
        [0.280085, 0.672501, 0.047413],
        [-0.011820, 0.042940, 0.968881],
    ],
    "tritanopia": [
        [1.255528, -0.076749, -0.178779],
        [-0.078411, 0.930809, 0.147602],
        [0.004733, 0.691367, 0.303900],
    ],
}
TO_LMS = np.array(  # of OKLab, Ottosson 2020, from linear sRGB
    [
        [0.4122214708, 0.5363325363, 0.0514459929],
        [0.2119034982, 0.6806995451, 0.1073969566],
        [0.0883024619, 0.2817188376, 0.6299787005],
    ]
)
TO_LAB = np.array(
    [
        [0.2104542553, 0.7936177850, -0.0040720468],
        [1.9779984951, -2.4285922050, 0.4505937099],
        [0.0259040371, 0.7827717662, -0.8086757660],
    ]
)
APART = 0.06  # in OKLab, where 0.02 is a just noticeable difference


def rgb(code):
    return np.array([int(code[i : i + 2], 16) for i in (1, 3, 5)]) / 255


def linear(colour):
    return np.where(colour <= 0.04045, colour / 12.92, ((colour + 0.055) / 1.055) ** 2.4)


def luminance(colour):
    return linear(colour) @ [0.2126, 0.7152, 0.0722]


def contrast(a, b):
    high, low = sorted((luminance(a), luminance(b)), reverse=True)
    return (high + 0.05) / (low + 0.05)


def lab(linear_colour):
    return TO_LAB @ np.cbrt(TO_LMS @ np.clip(linear_colour, 0, 1))


def variables(text, theme):
    """CSS variables that a theme sets to a colour."""
    block = "".join(re.findall(rf'data-theme="{theme}"\] \{{(.*?)\}}', text, re.DOTALL))
    return dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6});", block))


def flipped(colour):
    """A colour after the filter with which the dark theme shows figures (Filter Effects, 2018)."""
    css = (STATIC / "custom.css").read_text(encoding="utf-8")
    found = re.search(r"filter: invert\((.*?)\) hue-rotate\(180deg\) brightness\((.*?)\);", css)
    invert, brightness = float(found[1]), float(found[2])
    weights = np.array([0.213, 0.715, 0.072])
    turn = 2 * np.outer(np.ones(3), weights) - np.eye(
        3
    )  # the specification's matrix at 180 degrees
    step = invert + colour * (1 - 2 * invert)
    return np.clip(np.clip(turn @ step, 0, 1) * brightness, 0, 1)


def inks(theme):
    """Colours in which lines appear in this theme, of figures and of explorers."""
    css = (STATIC / "explorer.css").read_text(encoding="utf-8")
    explorers = {k.removeprefix("ink-"): rgb(v) for k, v in variables(css, theme).items()}
    figures = {name: rgb(code) for name, code in COLOURS.items()}
    if theme == "dark":
        figures = {name: flipped(colour) for name, colour in figures.items()}
    return {"figures": figures, "explorers": explorers}


def ground(theme):
    if theme == "light":
        return rgb("#ffffff")
    css = (STATIC / "custom.css").read_text(encoding="utf-8")
    return rgb(variables(css, "dark")["pst-color-background"])


PALETTES = [(theme, kind) for theme in ("light", "dark") for kind in ("figures", "explorers")]
every_palette = pytest.mark.parametrize(("theme", "kind"), PALETTES)


@every_palette
def test_lines_stand_out_from_the_ground(theme, kind):
    ratios = {n: contrast(c, ground(theme)) for n, c in inks(theme)[kind].items()}
    assert len(ratios) >= 5
    assert min(ratios.values()) >= 3, ratios


@every_palette
@pytest.mark.parametrize("deficiency", [None, *DEFICIENCIES])
def test_colours_differ_for_every_eye(theme, kind, deficiency):
    matrix = np.array(DEFICIENCIES[deficiency]) if deficiency else np.eye(3)
    # not of the muted grey, which draws grids and thresholds beside a word
    coloured = {n: c for n, c in inks(theme)[kind].items() if n != "muted"}
    seen = {name: lab(matrix @ linear(colour)) for name, colour in coloured.items()}
    gaps = {(a, b): np.linalg.norm(seen[a] - seen[b]) for a, b in combinations(seen, 2)}
    closest = min(gaps, key=gaps.get)
    assert gaps[closest] > APART, f"{closest}: {gaps[closest]:.3f}"


def test_lines_without_a_colour_get_one_of_these():
    style = (ROOT / "code/companion/companion.mplstyle").read_text(encoding="utf-8")
    (cycle,) = re.findall(r"cycler\('color', \[(.*?)\]\)", style)
    assert ["#" + c for c in re.findall(r"[0-9A-F]{6}", cycle)] == [
        code for name, code in COLOURS.items() if name != "exact"
    ]
