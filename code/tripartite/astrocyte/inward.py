"""Another astrocyte of the literature: spikes add IP3, and calcium gives a slow inward current.

Nadkarni and Jung 2003, as NEST 3.10 has them in `astrocyte_lr_1994`; calcium is that of Li and
Rinzel. The current goes into the postsynaptic neuron. Concentrations in uM, times in s.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import ArrayLike

from .. import rungekutta
from ..checks import check_positive, check_spike_times
from ..quantities import Quantities, quantity
from ..rungekutta import TABLES
from .calcium import State, check_state, rates
from .parameters import Astrocyte

Array = np.ndarray

_inward = partial(quantity, source="Nadkarni and Jung 2003, by NEST 3.10")


@dataclass(frozen=True)
class Inward(Quantities):
    """Parameters of IP3 that spikes drive, and of the current; the defaults are NEST's."""

    I_0: float = _inward("uM", "IP3 at rest", 0, 100, default=0.16)
    tau_I: float = _inward("s", "decay of IP3 to rest", above=True, default=7.142)
    Delta_I: float = _inward("uM", "IP3 that one spike adds", 0, 100, default=0.0002)
    C_SIC: float = _inward("uM", "calcium threshold of the current", 0, 100, default=0.19669)


def driven(
    p: Astrocyte,
    s: Inward,
    spikes: ArrayLike,
    times: ArrayLike,
    initial: ArrayLike,
    step: float = 0.02,
) -> State:
    """Calcium of one cell whose IP3 jumps with every spike; entries (len(times),).

    p: of its parameters those of calcium count, not those of IP3. spikes: (n,) s, times at which
    they reach the cell, in order, from 0 on; times: (records,) s, increasing, from 0 on. A record
    at a spike's time precedes it. initial: (4,) at time 0. step: s, the longest step; Runge-Kutta of
    order 4. Raises ValueError on impossible times or states.
    """
    spikes, times = np.asarray(spikes, dtype=float), check_spike_times(times, "times")
    if spikes.ndim != 1 or not np.all(np.diff(spikes, prepend=0.0) >= 0):
        raise ValueError("spikes: must be (n,), times of at least 0 s, in order")
    check_positive(step=step)
    start = check_state(initial)
    if np.shape(start.C) != ():
        raise ValueError(f"initial has shape (4, {np.size(start.C)}): must be (4,), one cell")

    def slope(y: Array) -> Array:
        d = rates(State(start.Gamma, *y), p)
        return np.array([(s.I_0 - y[0]) / s.tau_I, d.C, d.h])

    y, now = np.array(start[1:]), 0.0
    moments = np.concatenate([times, spikes])
    records = []
    for k in np.argsort(moments, kind="stable"):  # records first
        steps = int(np.ceil((moments[k] - now) / step))
        for _ in range(steps):
            y = rungekutta.step(slope, y, (moments[k] - now) / steps, TABLES["rk4"])
        now = moments[k]
        if k < len(times):
            records.append(y)
        else:
            y = y + [s.Delta_I, 0.0, 0.0]
    I, C, h = np.array(records).reshape(-1, 3).T
    return State(np.full(len(times), start.Gamma), I, C, h)


def slow_inward_current(C: ArrayLike, s: Inward) -> Array:
    """Current at calcium C, uM, in units of the weight of its synapse, pA in NEST: at least 0.

    The logarithm of the calcium above the threshold in nM, where there is more than one of them.
    """
    above = 1e3 * (np.asarray(C, dtype=float) - s.C_SIC)
    return np.log(np.maximum(above, 1.0))
