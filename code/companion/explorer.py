"""A figure that answers: its lines for every choice of parameters, which explorer.js puts in place."""

from __future__ import annotations

import base64
import html
import io
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from . import plotted
from .chapters import find
from .parameters import ParameterError
from .style import COLOURS

UNIT, GAP = 64, 65535  # steps in a point of the picture, as explorer.js expects; what is no number


@dataclass(frozen=True)
class Choice:
    """A control: a parameter of the chapter, or a view of its results (parameter=False).

    words: what a reader sees in place of each value; a choice of words is a list, of numbers a slider.
    """

    name: str
    label: str
    values: Sequence
    unit: str = ""
    parameter: bool = True
    words: Sequence[str] = ()

    def texts(self) -> list[str]:
        shown = [v if isinstance(v, str) else f"{v:,.6g}" for v in self.values]
        return [f"{text} {self.unit}".strip() for text in self.words or shown]

    def nearest(self, value) -> int:
        """Index of a value, or of the one closest to it."""
        values = list(self.values)
        if value in values:
            return values.index(value)
        if isinstance(value, str):
            raise ValueError(f"{self.name} = {value!r}: must be one of {values}")
        return int(np.argmin(np.abs(np.array(values, dtype=float) - value)))


@dataclass(frozen=True)
class Explorer:
    """An explorer, as a notebook shows it: a page's markup, and its numbers' fingerprint."""

    markup: str
    text: str

    def _repr_mimebundle_(self, include=None, exclude=None):
        return {"text/plain": self.text, "text/html": self.markup}


def explorer(
    fig,
    name: str,
    *,
    chapter: str,
    choices: Sequence[Choice],
    start: Sequence,
    lines: Sequence[tuple],
    readouts: Mapping[str, tuple],
    title: str,
    task: str,
    notice: str,
    caption: str,
    alt: str,
) -> Explorer:
    """Let a reader choose among results computed before; the cell ends in what it returns.

    fig: the picture, with its limits set and one Matplotlib line for every entry of lines, which
    are (line, x, y), x of shape (points,), y of shape (choices..., points), where an axis of
    length 1 says that a choice does not matter; a polygon in place of a line is filled, and for a
    PathPatch x is (2, points), the middles of squares, and y the parts of a unit square they fill;
    start: the values shown first, and all there is without JavaScript; readouts: label ->
    (numbers of shape (choices...), format); chapter: its number, whose command with the
    parameters chosen is printed; title: the idea, as a sentence; task: what to move; notice:
    what the reader should see then, folded. Raises ParameterError where the chapter would
    refuse a choice, ValueError where shapes do not fit.
    """
    found = find(chapter)
    known = found.parameters()
    for choice in (c for c in choices if c.parameter):
        if choice.name not in known:
            listed = ", ".join(known)
            raise ParameterError(f"{found.slug}: {choice.name!r} is not one of {listed}")
        for value in choice.values:
            known[choice.name].parse(str(value))
    shape = tuple(len(c.values) for c in choices)
    at = tuple(c.nearest(value) for c, value in zip(choices, start, strict=True))
    drawn = [(line, *_checked(name, shape, x, y)) for line, x, y in lines]
    shown = {
        label: (_fits(name, shape, values), form) for label, (values, form) in readouts.items()
    }
    fig.set_dpi(72)  # so that a pixel is a point of the SVG
    for k, (line, x, y) in enumerate(drawn):
        _place(line, x, _framed(line, _at(y, at)))
        line.set_gid(f"line-{k}")
    if layout := fig.get_layout_engine():
        layout.execute(fig)
        fig.set_layout_engine("none")
    for ax in fig.axes:
        ax.apply_aspect()  # as drawing does
    data = {
        "command": f"tripartite run {found.number}",
        "choices": [
            {
                "name": c.name,
                "label": c.label,
                "values": [str(v) for v in c.values],
                "texts": c.texts(),
                "select": isinstance(c.values[0], str),
                "parameter": c.parameter,
            }
            for c in choices
        ],
        "start": at,
        "lines": [_encoded(fig, *entry) for entry in drawn],
        "readouts": [
            {"shape": v.shape, "texts": [_text(form, x) for x in v.ravel()]}
            for v, form in shown.values()
        ],
    }
    now = {label: _text(form, _at(v, at)) for label, (v, form) in shown.items()}
    command = " ".join(
        [data["command"]]
        + [f"-p {c.name}={c.values[i]}" for c, i in zip(choices, at) if c.parameter]
    )
    words = {"title": title, "task": task, "notice": notice, "caption": caption, "alt": alt}
    markup = _markup(name, _svg(fig, name), data, now, command, **words)
    numbers = {f"line {k}": y for k, (_, _, y) in enumerate(drawn)}
    numbers |= {label: v for label, (v, _) in shown.items()}
    _close(fig)
    return Explorer(markup, f"explorer {name}\n{plotted.fingerprint(plotted.tidy(numbers))}")


def _text(form: str, x: float) -> str:
    return form.format(x) if np.isfinite(x) else "none"


def _fits(name: str, shape: tuple, values) -> np.ndarray:
    values = np.asarray(values, dtype=float)
    if values.ndim != len(shape) or any(n not in (1, m) for n, m in zip(values.shape, shape)):
        raise ValueError(f"{name}: numbers of shape {values.shape} for choices of shape {shape}")
    return values


def _checked(name: str, shape: tuple, x, y) -> tuple[np.ndarray, np.ndarray]:
    x, y = np.asarray(x, dtype=float), np.asarray(y, dtype=float)
    if x.shape[-1:] != y.shape[-1:]:
        raise ValueError(f"{name}: a line of {y.shape[-1]} points has {x.size} places")
    _fits(name, shape, y[..., 0])
    return x, y


def _at(values: np.ndarray, at: tuple):
    return values[tuple(i if n > 1 else 0 for i, n in zip(at, values.shape))]


def _is_squares(line) -> bool:
    from matplotlib.patches import PathPatch

    return isinstance(line, PathPatch)


def _framed(line, y):
    """Values on the edge of the frame where they lie beyond it; parts of squares as they are."""
    return y if _is_squares(line) else np.clip(y, *sorted(line.axes.get_ylim()))


def _place(line, x, y) -> None:
    from matplotlib.patches import Polygon
    from matplotlib.path import Path

    if isinstance(line, Polygon):
        line.set_xy(np.stack([x, y], axis=1))
    elif _is_squares(line):
        corners = np.array([(-1, -1), (1, -1), (1, 1), (-1, 1), (-1, -1)])
        sides, middles = np.sqrt(y[y > 0]), x.T[y > 0]
        around = middles[:, None] + corners * sides[:, None, None] / 2
        squares = [Path(square, closed=True) for square in around]
        line.set_path(Path.make_compound_path(*squares))
    else:
        line.set_data(x, y)


def _encoded(fig, line, x, y) -> dict:
    """A line's places in the picture: points from its left, and from its top in bytes."""
    ax = line.axes
    if _is_squares(line):  # their sides in bytes
        middles = ax.transData.transform(x.T)
        side = np.abs(np.diff(ax.transData.transform([(0, 0), (1, 1)])[:, 0])).item()
        return {
            "x": [round(v, 1) for v in middles[:, 0].tolist()],
            "tops": [round(fig.get_figheight() * 72 - v, 1) for v in middles[:, 1].tolist()],
            "side": round(side, 2),
            "shape": y.shape[:-1],
            "y": base64.b64encode(np.rint(255 * np.sqrt(y)).astype("u1").tobytes()).decode(),
        }
    places = np.stack([np.broadcast_to(x, y.shape), _framed(line, y)], axis=-1).reshape(-1, 2)
    height = fig.get_figheight() * 72
    foot = np.full(x.size, min(ax.get_ylim()))
    across = ax.transData.transform(np.stack([x, foot], axis=1))[:, 0]
    up = ax.transData.transform(places)[:, 1]
    steps = np.where(np.isfinite(up), np.rint(UNIT * (height - up)), GAP).astype("<u2")
    return {
        "x": [round(v, 1) for v in across.tolist()],
        "shape": y.shape[:-1],
        "y": base64.b64encode(steps.tobytes()).decode(),
    }


def _svg(fig, name: str) -> str:
    buffer = io.StringIO()
    fig.savefig(buffer, format="svg", metadata={"Date": None})
    svg = buffer.getvalue()
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg[svg.index("<svg") :], flags=re.DOTALL)
    # the same photograph twice has one name, to which nothing refers
    svg = re.sub(r'(<image [^>]*?) id="[^"]*"', r"\1", svg)
    # several pictures may share a page: their names must differ
    svg = re.sub(r'(\bid="|href="#|url\(#)', rf"\g<1>{name}-", svg)
    svg = re.sub(r'(<svg [^>]*?)width="[^"]*"', r"\1", svg, count=1)
    svg = re.sub(r'(<svg [^>]*?)height="[^"]*"', r'\1aria-hidden="true"', svg, count=1)
    for colour, ink in COLOURS.items():  # so that it follows the theme
        svg = re.sub(ink, f"var(--ink-{colour})", svg, flags=re.IGNORECASE)
    return re.sub(r"\n\s*", "\n", svg)


def _markup(name, svg, data, readouts, command, *, title, task, notice, caption, alt) -> str:
    esc = html.escape
    rows = "".join(f"<div><dt>{esc(k)}</dt><dd>{esc(v)}</dd></div>" for k, v in readouts.items())
    packed = json.dumps(data, separators=(",", ":"), allow_nan=False).replace("<", "\\u003c")
    return (
        f'<figure class="explorer" id="{name}">\n'
        f'<p class="explorer-title">{esc(title)}</p>\n'
        f'<p class="explorer-task">{esc(task)}</p>\n'
        f'<div class="explorer-picture" role="img" aria-label="{esc(alt)}">\n{svg}</div>\n'
        '<div class="explorer-controls"></div>\n'
        f'<div class="explorer-status"><dl class="explorer-readouts">{rows}</dl></div>\n'
        '<details class="explorer-notice"><summary>What to notice</summary>\n'
        f"<p>{esc(notice)}</p></details>\n"
        f'<div class="explorer-command highlight"><pre>{esc(command)}</pre></div>\n'
        f"<figcaption>{esc(caption)}</figcaption>\n"
        "<noscript>The controls need JavaScript; without it, one choice is shown.</noscript>\n"
        f'<script type="application/json">{packed}</script>\n</figure>'
    )


def _close(fig) -> None:
    import matplotlib.pyplot as plt

    plt.close(fig)  # else Jupyter shows it a second time
