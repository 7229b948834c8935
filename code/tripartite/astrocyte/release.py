"""Release of gliotransmitter by cells whose calcium rises. De Pitta et al. 2011.

Concentrations in uM, times in s.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import numpy as np

from ..quantities import Quantities, quantity

Array = np.ndarray


_release = partial(quantity, source="De Pitta et al. 2011")


@dataclass(frozen=True)
class Gliotransmission(Quantities):
    """Parameters of gliotransmitter release. De Pitta et al. 2011."""

    C_Theta: float = _release("uM", "calcium threshold of exocytosis", 0, 100, above=True)
    Omega_A: float = _release("1/s", "recycling of gliotransmitter", above=True)
    U_A: float = _release("1", "released fraction of what is available", 0, 1, above=True)
    G_T: float = _release("uM", "gliotransmitter in a vesicle", 1e3, 1e7)
    rho_e: float = _release("1", "volume of vesicles over extracellular volume", 0, 1, above=True)
    Omega_e: float = _release("1/s", "clearance of gliotransmitter", above=True)


GLIOTRANSMISSION: dict[str, Gliotransmission] = {
    f"stimberg2019-ex{example}": Gliotransmission(
        C_Theta=0.5,
        Omega_A=0.6,
        U_A=0.6,
        G_T="200 mM",  # type: ignore[arg-type]  # text with a unit: Quantities reads it
        rho_e=6.5e-4,
        Omega_e=60.0,
    )
    for example in (3, 4, 6)
}
"""Published sets, by paper and example."""


class Store(NamedTuple):
    """Gliotransmitter of cells: x_A available, G_A outside, uM, and whether calcium is above C_Theta.

    A cell releases once for each excursion of calcium above the threshold.
    """

    x: Array
    G: Array
    above: Array


def full(C: Array, g: Gliotransmission) -> Store:
    """Stores of cells whose calcium is C, (n,): full, nothing outside."""
    return Store(np.ones_like(C), np.zeros_like(C), C > g.C_Theta)


def recycle(store: Store, dt: float, g: Gliotransmission) -> Store:
    """Exact state after dt seconds without a release."""
    x = 1 - (1 - store.x) * math.exp(-g.Omega_A * dt)
    return Store(x, store.G * math.exp(-g.Omega_e * dt), store.above)


def exocytose(store: Store, C: Array, g: Gliotransmission) -> tuple[Store, Array]:
    """State after calcium has reached C, and which cells released: those that crossed upwards."""
    above = C > g.C_Theta
    released = above & ~store.above
    G = store.G + np.where(released, g.rho_e * g.G_T * g.U_A * store.x, 0.0)
    return Store(np.where(released, (1 - g.U_A) * store.x, store.x), G, above), released
