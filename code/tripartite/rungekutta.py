"""Explicit Runge-Kutta steps, by table of coefficients.

A table needs no time: the inputs of our populations are held over a step.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

Array = np.ndarray


class Table(NamedTuple):
    """stages: for every stage, the weights of the slopes before it; weights: those of the step.

    stable: dt * rate up to which a decay at that rate does not grow.
    """

    stages: tuple[tuple[float, ...], ...]
    weights: tuple[float, ...]
    stable: float


TABLES: dict[str, Table] = {
    # Kutta 1901: order 4
    "rk4": Table(((), (1 / 2,), (0, 1 / 2), (0, 0, 1)), (1 / 6, 1 / 3, 1 / 3, 1 / 6), 2.785),
    # Tsitouras 2011, table 1: order 5; for the accuracy that cells need, steps five times longer
    "tsit5": Table(
        (
            (),
            (0.161,),
            (-0.008480655492356989, 0.335480655492357),
            (2.8971530571054935, -6.359448489975075, 4.3622954328695815),
            (5.325864828439257, -11.748883564062828, 7.4955393428898365, -0.09249506636175525),
            (
                5.86145544294642, -12.92096931784711, 8.159367898576159, -0.071584973281401,
                -0.028269050394068383,
            ),
        ),
        (
            0.09646076681806523, 0.01, 0.4798896504144996, 1.379008574103742, -3.290069515436081,
            2.324710524099774,
        ),
        3.507,
    ),
}  # fmt: skip


def step(slope: Callable[[Array], Array], y: Array, dt: float, table: Table) -> Array:
    """The state after dt seconds, of the same shape as y; slope: dy/dt of a state."""
    rows = np.empty((len(table.weights) + 1, y.size))
    rows[0] = y.ravel()
    for i, stage in enumerate(table.stages):
        rows[i + 1] = np.ravel(slope(_along(rows, stage, dt).reshape(y.shape)))
    return _along(rows, table.weights, dt).reshape(y.shape)


def _along(rows: Array, weights: tuple[float, ...], dt: float) -> Array:
    # not np.dot: for a handful of weights it would start a team of threads, at thrice the cost
    return np.einsum("i,ij->j", [1.0, *(dt * w for w in weights)], rows[: len(weights) + 1])
