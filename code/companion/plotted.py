"""The numbers behind a figure: on disk, as a fingerprint, and against a reference."""

from __future__ import annotations

import csv
import hashlib
import io
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from .files import write_bytes

Plotted = dict[str, np.ndarray]
TOLERANCE = 1e-3
"""Relative difference up to which two numbers count as the same.

Processors, BLAS libraries and package versions change plotted numbers by far less, as the page of
environments counts; a reader cannot see a thousandth in a figure.
"""
SMALL = 1e-6  # of a series' largest value: below it differences count as absolute


def tidy(data: Mapping[str, object]) -> Plotted:
    """Arrays of numbers (rounded to 9 digits, as stored) or of text, by the name of the series.

    Raises ValueError on no series, or on one that is empty or holds other objects.
    """
    if not data:
        raise ValueError("data: must hold the plotted numbers, at least one series")
    return {str(name): _tidy(str(name), values) for name, values in data.items()}


def _tidy(name: str, values: object) -> np.ndarray:
    x = np.asarray(values)
    if x.size == 0 or x.dtype.kind not in "biufU":
        raise ValueError(f"data[{name!r}]: must be numbers or text, and not empty")
    if x.dtype.kind == "f":
        rounded = np.array([float(f"{v:.9g}") for v in x.ravel()])
        return rounded.reshape(x.shape) + 0.0  # no negative zero, which a table would not keep
    return x.astype(int) if x.dtype.kind in "biu" else x


def is_table(data: Plotted) -> bool:
    """True where all series are columns of one table."""
    return all(x.ndim == 1 for x in data.values()) and len({x.size for x in data.values()}) == 1


def save(data: Plotted, stem: Path) -> Path:
    """Write the series beside stem, as one CSV table where they are one, else as NPZ."""
    kind, buffer = "csv" if is_table(data) else "npz", io.BytesIO()
    write(buffer, data, kind)
    path = stem.with_suffix(f".{kind}")
    write_bytes(path, buffer.getvalue())
    for other in {"csv", "npz"} - {kind}:  # of a time when they were, or were not, one table
        stem.with_suffix(f".{other}").unlink(missing_ok=True)
    return path


def write(file: io.BytesIO, data: Plotted, kind: str) -> None:
    """Write the series into an open file, as "csv" or "npz"."""
    if kind == "csv":
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(data)
        writer.writerows(zip(*(_cells(x) for x in data.values()), strict=True))
        file.write(text.getvalue().encode())
    else:
        np.savez_compressed(file, **data)


def _cells(x: np.ndarray) -> list[str]:
    return [f"{v:.9g}" for v in x] if x.dtype.kind == "f" else [str(v) for v in x]


def load(stem: Path) -> Plotted | None:
    """Read what save wrote, or None where there is neither file."""
    if (path := stem.with_suffix(".npz")).exists():
        with np.load(path, allow_pickle=False) as file:
            return {name: file[name] for name in file.files}
    if (path := stem.with_suffix(".csv")).exists():
        with path.open(newline="", encoding="utf-8") as file:
            header, *rows = csv.reader(file)
        return {name: _column(cells) for name, cells in zip(header, zip(*rows), strict=True)}
    return None


def _column(cells: tuple[str, ...]) -> np.ndarray:
    for kind in (int, float):
        try:
            return np.array([kind(cell) for cell in cells])
        except ValueError:
            pass
    return np.array(cells)


def deviation(fresh: Plotted, reference: Plotted) -> dict[str, float]:
    """Largest relative difference of each series; infinite where one is missing or reshaped."""
    names = list(fresh) + [name for name in reference if name not in fresh]
    return {
        name: _deviation(fresh[name], reference[name])
        if name in fresh and name in reference
        else np.inf
        for name in names
    }


def agree(fresh: Plotted, reference: Plotted, tolerance: float) -> bool:
    """Whether every series deviates by the tolerance at most."""
    return all(d <= tolerance for d in deviation(fresh, reference).values())


def _deviation(a: np.ndarray, b: np.ndarray) -> float:
    if a.shape != b.shape or (a.dtype.kind == "U") != (b.dtype.kind == "U"):
        return np.inf
    if a.dtype.kind == "U":
        return 0.0 if np.array_equal(a, b) else np.inf
    a, b = a.astype(float), b.astype(float)
    sound = np.isfinite(a) & np.isfinite(b)
    same = (a == b) | (np.isnan(a) & np.isnan(b))  # of what is not finite
    if not np.all(sound | same):
        return np.inf
    if not sound.any():
        return 0.0
    a, b = a[sound], b[sound]
    scale = np.maximum(np.abs(b), SMALL * np.abs(b).max())
    difference = np.abs(a - b)
    return float(np.max(np.divide(difference, scale, out=difference.copy(), where=scale > 0)))


def unlike(fresh: Plotted, reference: Plotted) -> dict[str, str]:
    """In words what of each series no number can tell: it is new, gone, or of another shape."""
    words = {name: "is gone" for name in reference if name not in fresh}
    for name, x in fresh.items():
        if name not in reference:
            words[name] = "is new"
        elif x.shape != reference[name].shape:
            now, before = (" x ".join(map(str, y.shape)) or "1" for y in (x, reference[name]))
            words[name] = f"has {now} points, the reference {before}"
        elif np.isinf(_deviation(x, reference[name])):
            text = "U" in (x.dtype.kind, reference[name].dtype.kind)
            words[name] = "has other words" if text else "has NaN or infinity at other points"
    return words


def fingerprint(data: Plotted) -> str:
    """The series as a short table of statistics: what nbval compares in place of a picture."""
    width = max(len(name) for name in data)
    head = f"{'series':{width}}  {'shape':>9}  {'mean':>10}  {'rms':>10}  {'min':>10}  {'max':>10}"
    return "\n".join([head, *(_line(name, x, width) for name, x in data.items())])


def _line(name: str, x: np.ndarray, width: int) -> str:
    shape = "x".join(map(str, x.shape)) or "1"
    if x.dtype.kind == "U":
        text = hashlib.sha256("\0".join(x.ravel()).encode()).hexdigest()[:12]
        return f"{name:{width}}  {shape:>9}  text {text}"
    finite = x[np.isfinite(x)].astype(float)
    if finite.size == 0:
        return f"{name:{width}}  {shape:>9}  no finite number"
    rms = np.sqrt(np.mean(finite**2))
    mean = finite.mean() if abs(finite.mean()) > 1e-9 * rms else 0.0  # a sum that cancels
    numbers = (mean, rms, finite.min(), finite.max())
    return f"{name:{width}}  {shape:>9}  " + "  ".join(f"{v:>10.4g}" for v in numbers)
