"""The astrocyte: IP3 and calcium (G-ChI), gap junctions, release of gliotransmitter.

Calcium: Li and Rinzel 1994; IP3: De Pitta et al. 2009; receptors, gap junctions and published
sets: Stimberg et al. 2019, after Goldberg et al. 2010 and De Pitta et al. 2011.
States are values: they go in and come out. Concentrations in uM, times in s.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import NamedTuple

import numpy as np

from . import rungekutta
from .checks import (
    check_choice,
    check_pairs,
    check_positive,
    check_positive_int,
    check_spike_times,
)  # fmt: skip
from .quantities import Quantities, quantity
from .rungekutta import TABLES

Array = np.ndarray
Input = float | Array | Callable[[float], float | Array]
"""A constant, one number a cell, or a function of the time in s that returns either."""


_calcium = partial(quantity, source="Li and Rinzel 1994")
_ip3 = partial(quantity, source="De Pitta et al. 2009")
_receptors = partial(quantity, source="Stimberg et al. 2019")
_exchange = partial(quantity, source="Goldberg et al. 2010")
_release = partial(quantity, source="De Pitta et al. 2011")


@dataclass(frozen=True)
class Astrocyte(Quantities):
    """Parameters of the G-ChI model. O_beta = 0 leaves the ChI model, without receptors."""

    # calcium
    O_P: float = _calcium("uM/s", "highest rate of SERCA uptake", 0, 100)
    K_P: float = _calcium("uM", "calcium affinity of SERCA", 0, 100, above=True)
    C_T: float = _calcium("uM", "total free calcium, per volume of cytosol", 0, 100, above=True)
    rho_A: float = _calcium("1", "volume of ER over that of cytosol", 0, 10, above=True)
    Omega_C: float = _calcium("1/s", "highest rate of release through IP3 receptors", 0, 1e3)
    Omega_L: float = _calcium("1/s", "leak out of the ER", 0, 1e3)
    d_1: float = _calcium("uM", "IP3 binding affinity", 0, 100, above=True)
    d_2: float = _calcium("uM", "calcium inactivation dissociation", 0, 100, above=True)
    d_3: float = _calcium("uM", "IP3 dissociation", 0, 100, above=True)
    d_5: float = _calcium("uM", "calcium activation dissociation", 0, 100, above=True)
    O_2: float = _calcium("1/(uM s)", "binding of calcium to the inhibiting site", above=True)
    # IP3
    O_beta: float = _ip3("uM/s", "highest production by PLC beta", 0, 1e3)
    O_N: float = _receptors("1/(uM s)", "binding of transmitter to receptors")
    Omega_N: float = _receptors("1/s", "inactivation of receptors", above=True)
    K_KC: float = _receptors("uM", "calcium affinity of PKC", 0, 100, above=True)
    zeta: float = _receptors("1", "highest reduction of affinity by PKC", 0, 1e3)
    O_delta: float = _ip3("uM/s", "highest production by PLC delta", 0, 1e3)
    kappa_delta: float = _ip3("uM", "inhibition of PLC delta by IP3", 0, 100, above=True)
    K_delta: float = _ip3("uM", "calcium affinity of PLC delta", 0, 100, above=True)
    Omega_5P: float = _ip3("1/s", "degradation of IP3 by IP-5P", 0, 1e3)
    K_D: float = _ip3("uM", "calcium affinity of IP3-3K", 0, 100, above=True)
    K_3K: float = _ip3("uM", "IP3 affinity of IP3-3K", 0, 100, above=True)
    O_3K: float = _ip3("uM/s", "highest degradation by IP3-3K", 0, 1e3)
    # exchange of IP3 with a pipette and with neighbours
    F_ex: float = _exchange("uM/s", "highest exogenous flow of IP3", 0, 1e3)
    F: float = _exchange("uM/s", "highest flow of IP3 through gap junctions", 0, 1e3)
    I_Theta: float = _exchange("uM", "threshold difference of IP3", 0, 100)
    omega_I: float = _exchange("uM", "width of that threshold", 0, 100, above=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.I_Theta > 250 * self.omega_I:
            raise ValueError(f"omega_I = {self.omega_I:g} uM: must be at least I_Theta / 250")


_EX2 = Astrocyte(
    O_P=0.9, K_P=0.1, C_T=2.0, rho_A=0.18, Omega_C=6.0, Omega_L=0.1,
    d_1=0.13, d_2=1.05, d_3=0.9434, d_5=0.08, O_2=0.2,
    O_beta=5.0, O_N=0.3, Omega_N=0.5, K_KC=0.5, zeta=10.0,
    O_delta=0.2, kappa_delta=1.5, K_delta=0.3, Omega_5P=0.1, K_D=0.5, K_3K=1.0, O_3K=4.5,
    F_ex=0.09, F=0.0, I_Theta=0.3, omega_I=0.05,
)  # fmt: skip
_EX4 = replace(
    _EX2, K_P=0.05, O_beta=3.2, O_delta=0.6, K_delta=0.1, Omega_5P=0.05, K_D=0.7, F_ex=2.0, F=2.0
)
_DEPITTA = replace(
    _EX4, O_beta=0.0, d_2=1.049, d_5=0.08234, rho_A=0.185, Omega_L=0.11, O_delta=0.05, O_3K=2.0,
    F_ex=0.0, F=0.0,
)  # fmt: skip

ASTROCYTES: dict[str, Astrocyte] = {
    "stimberg2019-ex2": _EX2,
    "stimberg2019-ex3": replace(_EX4, O_beta=0.0, F=0.0),
    "stimberg2019-ex4": _EX4,
    "stimberg2019-ex5": replace(_EX4, O_beta=0.0, F_ex=0.09, F=0.09),
    "stimberg2019-ex6": replace(_EX4, O_beta=0.5, O_delta=1.2, F_ex=0.0, F=0.09),
    # table 1; its K_D and K_3K are those of the others swapped. PLC beta is not in the model, and
    # the stimulus is an I_bias of 2 uM; F_ex is not in the table and taken equal to F
    "lallouette2014": replace(
        _EX4, O_beta=0.0, d_2=1.049, d_5=0.08234, rho_A=0.185, Omega_L=0.11, O_delta=0.7,
        Omega_5P=0.21, K_D=1.0, K_3K=0.7,
    ),
    # amplitude- and frequency-modulated cells. Without PLC beta, which is not dynamic there, and
    # without neighbours or a pipette: choose F_ex to drive them
    "depitta2009-am": replace(_DEPITTA, K_P=0.1, O_delta=0.02, Omega_5P=0.04),
    "depitta2009-fm": _DEPITTA,
}  # fmt: skip
"""Published sets, by paper and example."""


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
        C_Theta=0.5, Omega_A=0.6, U_A=0.6, G_T="200 mM", rho_e=6.5e-4, Omega_e=60.0
    )
    for example in (3, 4, 6)
}
"""Published sets, by paper and example."""


class State(NamedTuple):
    """State of cells, each entry a number or (n,).

    Gamma: bound receptors Gamma_A; I: IP3, uM; C: calcium, uM; h: open fraction of the gate.
    """

    Gamma: Array
    I: Array
    C: Array
    h: Array


class Recording(NamedTuple):
    """times: (records,) s; states: (records, 4, n), rows Gamma_A, I, C, h."""

    times: Array
    states: Array

    @property
    def I(self) -> Array:
        """IP3, uM, (records, n)."""
        return self.states[:, 1]

    @property
    def C(self) -> Array:
        """Calcium, uM, (records, n)."""
        return self.states[:, 2]


def at_rest(n: int = 1) -> Array:
    """(4, n): no receptor bound, no IP3, no calcium, the gate open to 0.9, as is published."""
    check_positive_int(n=n)
    return np.tile([[0.0], [0.0], [0.0], [0.9]], n)


def threshold_flow(difference: Array, p: Astrocyte) -> Array:
    """Flow of IP3 driven by a difference of concentration, uM, in units of the highest flow.

    Odd, to the last digit, and smooth. The published (1 + tanh((|x| - I_Theta) / omega_I)) sign(x) / 2 jumps at 0, by
    6e-6, where solvers stall; the two differ by less than that everywhere.
    """
    # the sum of tanh((x - I_Theta) / omega_I) and tanh((x + I_Theta) / omega_I) by one exponential
    up = np.exp(np.minimum(2 * np.abs(difference) / p.omega_I, 600.0))
    down = 1 / up
    size = (up - down) / (up + down + 2 * math.cosh(2 * p.I_Theta / p.omega_I))
    return np.copysign(size, difference)


def rates(state: State, p: Astrocyte, Y: Array | float = 0.0, I_bias: Array | float = 0.0) -> State:
    """Time derivative of the state of cells that are not coupled.

    Y: transmitter, uM. I_bias: IP3 in the pipette, uM; where F_ex > 0, I_bias = 0 is a sink.
    Stimberg et al. 2019; De Pitta et al. 2009; Li and Rinzel 1994.
    """
    Gamma, I, C, h = state
    C2 = C * C
    activated = I * C / ((I + p.d_1) * (C + p.d_5)) * h
    stored = p.C_T - (1 + p.rho_A) * C
    dC = (p.Omega_C * (activated * activated * activated) + p.Omega_L) * stored
    dC = dC - p.O_P * C2 / (C2 + p.K_P**2)
    Q_2 = p.d_2 * (I + p.d_1) / (I + p.d_3)
    dh = p.O_2 * (Q_2 - (Q_2 + C) * h)
    dI = p.O_delta * p.kappa_delta * C2 / ((p.kappa_delta + I) * (C2 + p.K_delta**2))
    C4 = C2 * C2
    dI = dI - p.O_3K * (C4 * I) / ((C4 + p.K_D**4) * (I + p.K_3K)) - p.Omega_5P * I
    if p.F_ex:
        dI = dI - p.F_ex * threshold_flow(I - I_bias, p)
    if not p.O_beta:
        return State(0.0 * Gamma, dI, dC, dh)
    inactivation = p.Omega_N * (1 + p.zeta * C / (C + p.K_KC))
    return State(p.O_N * Y * (1 - Gamma) - inactivation * Gamma, dI + p.O_beta * Gamma, dC, dh)


def jacobian(
    state: State, p: Astrocyte, Y: Array | float = 0.0, I_bias: Array | float = 0.0
) -> Array:
    """d rates / d state, (..., 4, 4), in the order Gamma_A, I, C, h."""
    Gamma, I, C, h, Y, I_bias = np.broadcast_arrays(*state, Y, I_bias)
    J = np.zeros((*C.shape, 4, 4))

    def hill(x: Array, K: float, n: int) -> tuple[Array, Array]:
        value = x**n / (x**n + K**n)
        return value, n * x ** (n - 1) * K**n / (x**n + K**n) ** 2

    if p.O_beta:
        pkc, pkc_C = hill(C, p.K_KC, 1)
        J[..., 0, 0] = -p.O_N * Y - p.Omega_N * (1 + p.zeta * pkc)
        J[..., 0, 2] = -p.Omega_N * p.zeta * pkc_C * Gamma
        J[..., 1, 0] = p.O_beta
    delta, delta_C = hill(C, p.K_delta, 2)
    kinase, kinase_C = hill(C, p.K_D, 4)
    kinase_of_I, kinase_I = hill(I, p.K_3K, 1)
    J[..., 1, 1] = -p.O_delta * p.kappa_delta / (p.kappa_delta + I) ** 2 * delta - p.Omega_5P
    J[..., 1, 1] -= p.O_3K * kinase * kinase_I + p.F_ex * _threshold_slope(I - I_bias, p)
    J[..., 1, 2] = p.O_delta / (1 + I / p.kappa_delta) * delta_C - p.O_3K * kinase_C * kinase_of_I
    by_I, by_I_I = hill(I, p.d_1, 1)
    by_C, by_C_C = hill(C, p.d_5, 1)
    opened = p.Omega_C * (by_I * by_C * h) ** 3
    stored = p.C_T - (1 + p.rho_A) * C
    squared = 3 * p.Omega_C * (by_I * by_C * h) ** 2 * stored
    J[..., 2, 1] = squared * by_I_I * by_C * h
    J[..., 2, 2] = squared * by_I * by_C_C * h - (1 + p.rho_A) * (opened + p.Omega_L)
    J[..., 2, 2] -= p.O_P * hill(C, p.K_P, 2)[1]
    J[..., 2, 3] = squared * by_I * by_C
    Q_2 = p.d_2 * (I + p.d_1) / (I + p.d_3)
    J[..., 3, 1] = p.O_2 * (1 - h) * p.d_2 * (p.d_3 - p.d_1) / (I + p.d_3) ** 2
    J[..., 3, 2] = -p.O_2 * h
    J[..., 3, 3] = -p.O_2 * (Q_2 + C)
    return J


def _threshold_slope(difference: Array, p: Astrocyte) -> Array:
    below = np.cosh(np.clip((difference - p.I_Theta) / p.omega_I, -300, 300)) ** -2
    above = np.cosh(np.clip((difference + p.I_Theta) / p.omega_I, -300, 300)) ** -2
    return 0.5 * (below + above) / p.omega_I


class Equilibria(NamedTuple):
    """Fixed points, one for each calcium concentration, and the stimulus that holds them.

    state: (n,) each; stimulus: Y, uM (n,), NaN where no stimulus holds that concentration.
    """

    state: State
    stimulus: Array


def calcium_nullcline(C: Array, p: Astrocyte) -> Array:
    """IP3, uM, at which calcium C is steady with a steady gate; NaN where there is none.

    Steady release fixes activated^3, and activated = C/(C+d_5) d_2 I / (d_2 (I+d_1) + C (I+d_3))
    at the steady gate is linear-fractional in I.
    """
    C = np.asarray(C, dtype=float)
    needed = p.O_P * C**2 / (C**2 + p.K_P**2) / (p.C_T - (1 + p.rho_A) * C) - p.Omega_L
    with np.errstate(invalid="ignore"):
        ratio = np.cbrt(needed / p.Omega_C) * (C + p.d_5) / C
        I = ratio * (p.d_2 * p.d_1 + C * p.d_3) / (p.d_2 - ratio * (p.d_2 + C))
    return np.where((needed >= 0) & (I >= 0), I, np.nan)


def gate(C: Array, I: Array, p: Astrocyte) -> Array:
    """Steady open fraction of the gate, h_inf."""
    Q_2 = p.d_2 * (I + p.d_1) / (I + p.d_3)
    return Q_2 / (Q_2 + C)


def equilibria(C: Array, p: Astrocyte, I_bias: float = 0.0) -> Equilibria:
    """The whole branch of fixed points over the stimulus Y, stable or not, in closed form.

    C: (n,) uM, the parameter along the branch. Solved backwards: calcium gives IP3, IP3 gives the
    production that keeps it, that gives the receptors bound, and those the stimulus.
    Raises ValueError for a set without receptors.
    """
    if not p.O_beta:
        raise ValueError("O_beta = 0 uM/s: must be above 0, or transmitter has no effect")
    C = np.asarray(C, dtype=float)
    I = calcium_nullcline(C, p)
    h = gate(C, I, p)
    without = rates(State(np.zeros_like(C), I, C, h), p, 0.0, I_bias).I
    Gamma = -without / p.O_beta
    inactivation = p.Omega_N * (1 + p.zeta * C / (C + p.K_KC))
    with np.errstate(divide="ignore", invalid="ignore"):
        Y = inactivation * Gamma / (p.O_N * (1 - Gamma))
    return Equilibria(State(Gamma, I, C, h), np.where((Gamma >= 0) & (Gamma < 1), Y, np.nan))


def ring(n: int) -> Array:
    """Gap junctions of n cells in a ring, each with two neighbours: pairs (n, 2)."""
    if not n >= 3:
        raise ValueError(f"n = {n!r}: must be at least 3 for a ring")
    cells = np.arange(n)
    return np.stack([cells, (cells + 1) % n], axis=1)


def lattice(n: int = 3200, side: float = 3750.0, reach: float = 75.0) -> tuple[Array, Array]:
    """Cells on a square lattice, joined where closer than reach: positions (n, 2), pairs (k, 2).

    side: width of the sheet, um; a row holds int(sqrt(n)) cells; reach: um. Stimberg et al. 2019.
    """
    from scipy.spatial import cKDTree

    check_positive_int(n=n)
    check_positive(side=side, reach=reach)
    row = math.isqrt(n)
    positions = np.stack([np.arange(n) % row, np.arange(n) // row], axis=1) * (side / row)
    return positions, cKDTree(positions).query_pairs(np.nextafter(reach, 0), output_type="ndarray")


def coupling(I: Array, pairs: Array, p: Astrocyte) -> Array:
    """IP3 that every cell gains through its gap junctions, uM/s, (n,). It sums to zero.

    I: (n,) uM; pairs: (k, 2) cells. Goldberg et al. 2010.
    """
    a, b = pairs[:, 0], pairs[:, 1]
    flow = p.F * threshold_flow(I[a] - I[b], p)
    return np.bincount(b, flow, len(I)) - np.bincount(a, flow, len(I))


def step(
    state: State,
    dt: float,
    p: Astrocyte,
    Y: Array | float = 0.0,
    I_bias: Array | float = 0.0,
    pairs: Array | None = None,
    method: str = "rk4",
) -> State:
    """State of n cells, entries (n,), dt seconds later, Y and I_bias held. method: of TABLES."""

    def slope(y: Array) -> Array:
        d = rates(State(*y), p, Y, I_bias)
        return np.array(d if pairs is None else d._replace(I=d.I + coupling(y[1], pairs, p)))

    return State(*rungekutta.step(slope, np.array(state), dt, TABLES[method]))


def gate_noise(
    state: State, dt: float, p: Astrocyte, noise: float, normal: Array, stratonovich: bool
) -> Array:
    """What channel noise adds to the gate h in dt seconds, by Milstein's scheme.

    normal: standard normal numbers (n,). The noise (h_inf - h) noise / sqrt(tau_h) is
    multiplicative, so its two readings differ. Stimberg et al. 2019; Kloeden and Platen 1992.
    """
    _, I, C, h = state
    inside = np.clip(h, 0.0, 1.0)
    root_rate = np.sqrt(p.O_2 * (p.d_2 * (I + p.d_1) / (I + p.d_3) + C))
    strength = noise * root_rate * (gate(C, I, p) - inside)
    slope = np.where(h == inside, -noise * root_rate, 0.0)
    dW = np.sqrt(dt) * normal
    return strength * (dW + 0.5 * slope * (dW**2 - (0.0 if stratonovich else dt)))


def fastest_rate(p: Astrocyte, Y: Array | float = 0.0, pairs: Array | None = None) -> float:
    """Bound on how fast any one variable can decay, 1/s; a step must resolve it."""
    receptors = p.O_N * np.max(Y) + p.Omega_N * (1 + p.zeta) if p.O_beta else 0.0
    threshold = 0.5 / p.omega_I  # steepest slope of the threshold flow
    slope = p.F_ex * threshold + p.Omega_5P + p.O_3K / p.K_3K + p.O_delta / p.kappa_delta
    if pairs is not None:
        slope += 2 * np.bincount(np.ravel(pairs)).max(initial=0) * p.F * threshold
    # x^2 / (x^2 + K^2) is steepest at K / sqrt(3), by 3 sqrt(3) / (8 K)
    calcium = 0.65 * p.O_P / p.K_P + (1 + p.rho_A) * (p.Omega_C + p.Omega_L)
    return float(max(receptors, slope, calcium, p.O_2 * (p.d_2 + p.C_T)))


def check_step(
    dt: float, p: Astrocyte, Y: Array | float = 0.0, pairs: Array | None = None, method: str = "rk4"
) -> None:
    """Raise ValueError unless the method is stable with steps of dt seconds."""
    check_positive(dt=dt)
    check_choice("method", method, TABLES)
    limit = TABLES[method].stable / fastest_rate(p, Y, pairs)
    if dt > limit:
        raise ValueError(f"dt = {dt:g} s: must be at most {limit:.2g} s, or the step is unstable")


def check_state(initial: Array) -> State:
    """The rows of initial, (4, n), as a state; ValueError where one of them is impossible."""
    initial = np.asarray(initial, dtype=float)
    if initial.ndim not in (1, 2) or len(initial) != 4:
        raise ValueError(f"initial has shape {initial.shape}: must be (4, n), Gamma_A, I, C and h")
    for name, row, high in zip(State._fields, initial, (1.0, math.inf, math.inf, 1.0)):
        wrong = ~((row >= 0) & (row <= high) & np.isfinite(row))
        if np.any(wrong):
            allowed = "0 to 1" if high == 1 else "a concentration in uM, finite and at least 0"
            raise ValueError(
                f"initial {name} = {np.ravel(row)[np.ravel(wrong)][0]}: must be {allowed}"
            )
    return State(*initial)


def check_input(n: int, **inputs: float | Array) -> None:
    """Raise ValueError unless every input is a concentration, or one for each of n cells."""
    for name, value in inputs.items():
        if np.shape(value) not in ((), (n,)):
            raise ValueError(f"{name} has shape {np.shape(value)}: must be a number or ({n},)")
        if not np.all(np.isfinite(value) & (np.asarray(value) >= 0)):
            raise ValueError(f"{name} = {value}: must be a concentration in uM, at least 0")


def _check_inputs(n: int, times: Array, **inputs: Input) -> dict[str, float]:
    """The largest value of every input; functions are looked at at these times, before any step."""
    largest = {}
    for name, value in inputs.items():
        each = (value(t) for t in times) if callable(value) else [value]
        largest[name] = 0.0
        for now in each:
            check_input(n, **{name: now})
            largest[name] = max(largest[name], float(np.max(now)))
    return largest


def _at(value: Input, t: float, cells: slice = slice(None)) -> float | Array:
    value = value(t) if callable(value) else value
    return value[cells] if np.ndim(value) else value


def trace(
    p: Astrocyte,
    times: Array,
    initial: Array = (0.0, 0.0, 0.0, 0.9),
    *,
    Y: Input = 0.0,
    I_bias: Input = 0.0,
    breaks: Array = (),
    rtol: float = 1e-9,
    atol: float = 1e-11,
) -> State:
    """One cell by LSODA at adaptive steps; entries (len(times),). Petzold 1983.

    times: s, increasing, from the time of initial on. Y, I_bias: uM, numbers or functions of time;
    breaks: times at which those jump, increasing. The tolerances keep calcium within 1e-5 uM for
    600 s; with the customary 1e-3 the phase of an oscillation drifts. Raises ValueError on times,
    breaks, states or inputs that are impossible, RuntimeError where LSODA fails.
    """
    from scipy.integrate import odeint

    times = np.asarray(times, dtype=float)
    if times.ndim != 1 or not (np.all(np.isfinite(times)) and np.all(np.diff(times) > 0)):
        raise ValueError("times: must be (records,), finite and increasing")
    check_positive(rtol=rtol, atol=atol)
    breaks = check_spike_times(breaks, "breaks")
    start = np.array(check_state(initial))
    if start.shape != (4,):
        raise ValueError(f"initial has shape {start.shape}: must be (4,), one cell")
    _check_inputs(1, [times[0], *breaks], Y=Y, I_bias=I_bias)

    def slope(t: float, y: Array) -> State:
        return rates(State(*y.tolist()), p, _at(Y, t), _at(I_bias, t))

    inside = [t for t in breaks if times[0] < t < times[-1]]
    states = [start]
    for begin, end in itertools.pairwise([times[0], *inside, times[-1]]):
        wanted = times[(times > begin) & (times <= end)]
        # a multistep method must not step across a jump: it starts afresh there
        piece, info = odeint(
            slope, start, np.unique([begin, *wanted, end]), tfirst=True, rtol=rtol, atol=atol,
            mxstep=100_000, full_output=True,
        )  # fmt: skip
        if info["message"] != "Integration successful.":
            raise RuntimeError(f"LSODA, rtol = {rtol:g}: {info['message']}")
        start = piece[-1]
        states.extend(piece[1 : len(wanted) + 1])
    return State(*np.array(states).T)


def simulate(
    p: Astrocyte,
    initial: Array,
    duration: float,
    dt: float,
    *,
    Y: Input = 0.0,
    I_bias: Input = 0.0,
    pairs: Array | None = None,
    method: str = "rk4",
    noise: float = 0.0,
    seed: int = 0,
    calculus: str = "stratonovich",
    record_every: int | None = None,
    block: int = 16_384,
) -> Recording:
    """Many cells in fixed steps; a sample at t is the state before the step from t to t + dt.

    initial: (4, n); pairs: (k, 2) gap junctions; method: of rungekutta.TABLES; noise: strength of
    gating noise, 0 or 1 in the literature, and how it is read; record_every: steps between
    samples, default only the last state. Functions of time are held over a step. Takes
    round(duration / dt) steps. Cells that are not coupled run block by block. Raises ValueError on
    impossible states, inputs or pairs and on an unstable step.
    """
    state = check_state(initial)
    n = state.C.size
    check_positive(duration=duration, dt=dt)
    check_choice("calculus", calculus, ("stratonovich", "ito"))
    check_input(1, noise=noise)
    if pairs is not None:
        check_pairs("pairs", pairs, (n, n), mutual=True)
    n_steps = round(duration / dt)
    check_step(dt, p, 0.0, pairs, method)
    largest = _check_inputs(n, (k * dt for k in range(n_steps)), Y=Y, I_bias=I_bias)
    check_step(dt, p, largest["Y"], pairs, method)
    every = n_steps if record_every is None else record_every
    check_positive_int(n_steps=n_steps, record_every=every, block=block)
    recorded = np.arange(n_steps if record_every is None else 0, n_steps + 1, every)
    states = np.empty((len(recorded), 4, n))
    size = n if pairs is not None else block
    starts = range(0, n, size)
    for start, rng in zip(starts, np.random.default_rng(seed).spawn(len(starts)), strict=True):
        cells = slice(start, start + size)
        now = State(*(np.atleast_1d(row)[cells] for row in state))
        for k in range(n_steps + 1):
            if k >= recorded[0] and k % every == 0:
                states[(k - recorded[0]) // every, :, cells] = now
            if k == n_steps:
                break
            Y_now, I_now = _at(Y, k * dt, cells), _at(I_bias, k * dt, cells)
            if not noise:
                now = step(now, dt, p, Y_now, I_now, pairs, method)
                continue
            inside = now._replace(h=np.clip(now.h, 0.0, 1.0))  # noise may carry the gate beyond
            after = step(inside, dt, p, Y_now, I_now, pairs, method)
            normal = rng.standard_normal(len(now.C))
            kick = gate_noise(now, dt, p, noise, normal, calculus == "stratonovich")
            now = after._replace(h=now.h + (after.h - inside.h) + kick)
    return Recording(recorded * dt, states)


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
