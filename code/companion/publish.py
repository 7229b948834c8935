"""Publish a figure: the picture in three formats, the plotted numbers, and a passport."""

from __future__ import annotations

import io
import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass

from . import plotted
from .chapters import chapter_of_figure
from .compare import TOLERANCE, deviates
from .files import write_bytes
from .passport import passport
from .paths import figures, reference

FORMATS = "svg", "pdf", "png"


@dataclass(frozen=True)
class Published:
    """A published figure, as a notebook shows it: an SVG, and its fingerprint in plain text."""

    name: str
    svg: str
    fingerprint: str
    deviation: dict[str, float] | None
    tolerance: float

    def _repr_mimebundle_(self, include=None, exclude=None):
        shown = {"text/plain": self.fingerprint, "image/svg+xml": self.svg}
        note = {"figure": self.name, "deviation": self.deviation, "tolerance": self.tolerance}
        return shown, {"tripartite": note}


def publish(fig, name: str, *, data: Mapping[str, object], tolerance: float = TOLERANCE):
    """Write a figure's SVG, PDF, PNG, numbers and passport; the cell ends in what it returns.

    name: as in the cell's metadata, mystnb.figure.name; data: the plotted numbers by series;
    tolerance: relative difference to the committed reference up to which the fingerprint shows
    the reference's digits, so that another processor's rounding changes nothing. Raises
    ValueError on a name that is no file name, that no chapter declares, or on empty data.
    """
    if not re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", name):
        raise ValueError(f"name = {name!r}: must be lower-case words joined by hyphens")
    chapter = chapter_of_figure(name)
    numbers = plotted.tidy(data)
    known = plotted.load(reference() / name)
    deviation = plotted.deviation(numbers, known) if known else None
    folder = figures() / name
    pictures = _pictures(fig)
    for kind, content in pictures.items():
        write_bytes(folder / f"{name}.{kind}", content)
    table = plotted.save(numbers, folder / name)
    note = passport(chapter, name, fig, table, deviation)
    write_bytes(folder / "passport.json", (json.dumps(note, indent=1) + "\n").encode())
    _close(fig)
    text = _text(name, numbers, known, deviation, tolerance)
    return Published(name, pictures.get("svg", b"").decode(), text, deviation, tolerance)


def shown(name: str, numbers: plotted.Plotted) -> str:
    """What stands under a figure as text, for nbval to compare: its name and fingerprint."""
    return f"figure {name}\n{plotted.fingerprint(numbers)}"


def _text(name, numbers, known, deviation, tolerance) -> str:
    if deviation is None:
        return shown(name, numbers)
    beyond = {series: d for series, d in deviation.items() if not d <= tolerance}
    if not beyond:
        return shown(name, known)
    lines = [f"figure {name}", plotted.fingerprint(numbers), "differs from its reference:"]
    return "\n".join(lines + [f"  {deviates(series, d)}" for series, d in beyond.items()])


def _pictures(fig) -> dict[str, bytes]:
    # a run for its numbers alone is faster, and a test looks at no file
    kinds = {"none": (), "svg": ("svg",)}.get(os.environ.get("TRIPARTITE_PICTURES"), FORMATS)
    if not kinds:
        return {}
    if layout := fig.get_layout_engine():
        layout.execute(fig)
        fig.set_layout_engine("none")  # laid out once, not once for each format
    return {kind: _render(fig, kind) for kind in kinds}


def _render(fig, kind: str) -> bytes:
    buffer = io.BytesIO()
    # no dates: the same figure gives the same bytes
    metadata = {"svg": {"Date": None}, "pdf": {"CreationDate": None}, "png": None}[kind]
    fig.savefig(buffer, format=kind, metadata=metadata)
    return buffer.getvalue()


def _close(fig) -> None:
    import matplotlib.pyplot as plt

    plt.close(fig)  # else Jupyter shows it a second time
