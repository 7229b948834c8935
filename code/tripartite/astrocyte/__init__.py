"""The astrocyte: IP3 and calcium (G-ChI), gap junctions, release of gliotransmitter.

States are values: they go in and come out. Concentrations in uM, times in s. Its five parts are
imported from here: parameters, calcium (a cell by itself), tissue (many cells), release, and inward
(a slow current into the neuron, as another simulator has it).
"""

from .calcium import (
    COOPERATIVITY,
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
    peaks,
    rates,
    threshold_flow,
    trace,
)  # fmt: skip
from .inward import Inward, driven, slow_inward_current
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
    "COOPERATIVITY", "Equilibria", "Input", "State", "at_rest", "bound", "calcium_nullcline", "check_input", "check_state",
    "equilibria", "gate", "jacobian", "peaks", "rates", "threshold_flow", "trace",
    "Recording", "check_step", "coupling", "fastest_rate", "gate_noise", "lattice", "ring",
    "simulate", "step",
    "Inward", "driven", "slow_inward_current",
    "GLIOTRANSMISSION", "Gliotransmission", "Store", "exocytose", "full", "recycle",
]  # fmt: skip
