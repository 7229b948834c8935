"""A moving picture: frames on one sheet, which film.js plays, and which is a picture without it."""

from __future__ import annotations

import base64
import io
from dataclasses import dataclass

import numpy as np

COLUMNS, GAP = 10, 2  # frames in a row of the sheet, as film.js expects; pixels around each frame


@dataclass(frozen=True)
class Film:
    """A sheet of frames, as a notebook shows it."""

    png: bytes
    text: str

    def _repr_mimebundle_(self, include=None, exclude=None):
        return {"text/plain": self.text, "image/png": base64.b64encode(self.png).decode()}


def film(frames, seconds: float, *, low: float, high: float, colours: str = "inferno") -> Film:
    """Put frames, seconds apart, on one PNG sheet; the cell ends in what it returns.

    frames: (n, side, side), row 0 on top, n a multiple of ten; low, high: values at the two ends
    of the colour map. The cell's metadata gives the picture the class film, and its pace as a
    class film-4000ms. Raises ValueError on frames of another shape or with values not finite.
    """
    frames = np.asarray(frames, dtype=float)
    if frames.ndim != 3 or frames.shape[1] != frames.shape[2] or not len(frames):
        raise ValueError(f"frames have shape {frames.shape}: must be (n, side, side)")
    if len(frames) % COLUMNS:
        raise ValueError(f"{len(frames)} frames: must be a multiple of {COLUMNS}")
    if not np.all(np.isfinite(frames)):
        raise ValueError("frames: must be finite")
    if not low < high:
        raise ValueError(f"low = {low:g}, high = {high:g}: low must be below high")
    n, side, _ = frames.shape
    levels = 1 + np.rint(254 * np.clip((frames - low) / (high - low), 0, 1)).astype(np.uint8)
    cells = np.pad(levels, ((0, 0), (GAP, GAP), (GAP, GAP)))  # 0 is transparent
    sheet = cells.reshape(n // COLUMNS, COLUMNS, *cells.shape[1:]).swapaxes(1, 2)
    text = f"film of {n} frames, {side} by {side}, {1000 * seconds:.0f} ms apart"
    return Film(_png(sheet.reshape(-1, COLUMNS * cells.shape[2]), colours), text)


def _png(sheet: np.ndarray, colours: str) -> bytes:
    from matplotlib import colormaps
    from PIL import Image

    picture = Image.frombytes("P", sheet.shape[::-1], sheet.tobytes())
    inks = colormaps[colours](np.linspace(0, 1, 255), bytes=True)[:, :3]
    picture.putpalette(bytes(3) + inks.tobytes())
    buffer = io.BytesIO()
    picture.save(buffer, "png", transparency=0, optimize=True)
    return buffer.getvalue()
