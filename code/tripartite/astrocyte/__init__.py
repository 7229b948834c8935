"""The astrocyte: IP3 and calcium (G-ChI), gap junctions, release of gliotransmitter.

States are values: they go in and come out. Concentrations in uM, times in s. Its four parts are
imported from here: parameters, calcium (a cell by itself), tissue (many cells) and release.
"""

from .calcium import (
    Equilibria,
    Input,
    State,
    at_rest,
    bound,
    calcium_nullcline,
    check_input,
    check_state,
    equilibria,
    gate,
    jacobian,
    rates,
    threshold_flow,
    trace,
)  # fmt: skip
from .parameters import ASTROCYTES, Astrocyte
from .release import GLIOTRANSMISSION, Gliotransmission, Store, exocytose, full, recycle
from .tissue import (
    Recording,
    check_step,
    coupling,
    fastest_rate,
    gate_noise,
    lattice,
    ring,
    simulate,
    step,
)  # fmt: skip

__all__ = [
    "ASTROCYTES", "Astrocyte",
    "Equilibria", "Input", "State", "at_rest", "bound", "calcium_nullcline", "check_input", "check_state",
    "equilibria", "gate", "jacobian", "rates", "threshold_flow", "trace",
    "Recording", "check_step", "coupling", "fastest_rate", "gate_noise", "lattice", "ring",
    "simulate", "step",
    "GLIOTRANSMISSION", "Gliotransmission", "Store", "exocytose", "full", "recycle",
]  # fmt: skip
