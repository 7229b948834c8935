"""IP3 and calcium of cells that are not coupled: rates, fixed points, and one cell over time.

Concentrations in uM, times in s.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from ..checks import check_positive, check_positive_int, check_spike_times
from .parameters import Astrocyte

Array = np.ndarray
Input = float | Array | Callable[[float], float | Array]
"""A constant, one number a cell, or a function of the time in s that returns either."""


class State(NamedTuple):
    """State of cells, each entry a number or (n,).

    Gamma: bound receptors Gamma_A; I: IP3, uM; C: calcium, uM; h: open fraction of the gate.
    """

    Gamma: Array
    I: Array
    C: Array
    h: Array


def at_rest(n: int = 1) -> Array:
    """(4, n): no receptor bound, no IP3, no calcium, the gate open to 0.9, as is published."""
    check_positive_int(n=n)
    return np.tile([[0.0], [0.0], [0.0], [0.9]], n)


def threshold_flow(difference: Array, p: Astrocyte) -> Array:
    """Flow of IP3 driven by a difference of concentration, uM, in units of the highest flow.

    Odd and smooth. The published (1 + tanh((|x| - I_Theta) / omega_I)) sign(x) / 2 jumps at 0, by
    6e-6, where solvers stall; the two differ by less than that everywhere.
    """
    # the sum of tanh((x - I_Theta) / omega_I) and tanh((x + I_Theta) / omega_I) by one exponential
    down = np.exp(np.maximum(-2 * np.abs(difference) / p.omega_I, -600.0))
    size = (1 - down * down) / (1 + down * (down + 2 * math.cosh(2 * p.I_Theta / p.omega_I)))
    return np.copysign(size, difference)  # exactly odd


COOPERATIVITY = 0.7
"""Exponent of transmitter at receptors in equilibrium, as published."""


def bound(Y: Array | float, C: Array, p: Astrocyte) -> Array:
    """Fraction of receptors that transmitter Y, uM, binds in equilibrium; K_R > 0.

    Calcium C, uM, raises the transmitter that binds half of them from K_R up to 1 + zeta times
    that. De Pitta et al. 2009.
    """
    level = (Y / p.K_R) ** COOPERATIVITY
    return level / (level + (1 + p.zeta * C / (C + p.K_KC)) ** COOPERATIVITY)


def rates(state: State, p: Astrocyte, Y: Array | float = 0.0, I_bias: Array | float = 0.0) -> State:
    """Time derivative of the state of cells that are not coupled.

    Y: transmitter, uM. I_bias: IP3 in the pipette, uM; where F_ex > 0, I_bias = 0 is a sink.
    Gamma keeps its value, without effect, where receptors are in equilibrium (K_R > 0).
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
    if p.K_R:
        return State(0.0 * Gamma, dI + p.O_beta * bound(Y, C, p), dC, dh)
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

    pkc, pkc_C = hill(C, p.K_KC, 1)
    if p.K_R:
        part = bound(Y, C, p)
        J[..., 1, 2] = -p.O_beta * COOPERATIVITY * part * (1 - part) * p.zeta * pkc_C
        J[..., 1, 2] /= 1 + p.zeta * pkc
    elif p.O_beta:
        J[..., 0, 0] = -p.O_N * Y - p.Omega_N * (1 + p.zeta * pkc)
        J[..., 0, 2] = -p.Omega_N * p.zeta * pkc_C * Gamma
        J[..., 1, 0] = p.O_beta
    delta, delta_C = hill(C, p.K_delta, 2)
    kinase, kinase_C = hill(C, p.K_D, 4)
    kinase_of_I, kinase_I = hill(I, p.K_3K, 1)
    J[..., 1, 1] = -p.O_delta * p.kappa_delta / (p.kappa_delta + I) ** 2 * delta - p.Omega_5P
    J[..., 1, 1] -= p.O_3K * kinase * kinase_I + p.F_ex * _threshold_slope(I - I_bias, p)
    J[..., 1, 2] += p.O_delta / (1 + I / p.kappa_delta) * delta_C - p.O_3K * kinase_C * kinase_of_I
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
    reduction = 1 + p.zeta * C / (C + p.K_KC)
    with np.errstate(divide="ignore", invalid="ignore"):
        if p.K_R:
            Y = p.K_R * reduction * (Gamma / (1 - Gamma)) ** (1 / COOPERATIVITY)
        else:
            Y = p.Omega_N * reduction * Gamma / (p.O_N * (1 - Gamma))
    return Equilibria(State(Gamma, I, C, h), np.where((Gamma >= 0) & (Gamma < 1), Y, np.nan))


def check_state(initial: ArrayLike) -> State:
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


def check_inputs(n: int, times: Iterable[float], **inputs: Input) -> dict[str, float]:
    """The largest value of every input; functions are looked at at these times, before any step."""
    largest = {}
    for name, value in inputs.items():
        each = (value(t) for t in times) if callable(value) else [value]
        largest[name] = 0.0
        for now in each:
            check_input(n, **{name: now})
            largest[name] = max(largest[name], float(np.max(now)))
    return largest


def input_at(value: Input, t: float, cells: slice = slice(None)) -> float | Array:
    """What an input is at time t, in s, for these cells: a number, or (n,)."""
    value = value(t) if callable(value) else value
    return value[cells] if np.ndim(value) else value  # type: ignore[index]


def trace(
    p: Astrocyte,
    times: Array,
    initial: ArrayLike = (0.0, 0.0, 0.0, 0.9),
    *,
    Y: Input = 0.0,
    I_bias: Input = 0.0,
    breaks: ArrayLike = (),
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
    check_inputs(1, [times[0], *breaks], Y=Y, I_bias=I_bias)

    def slope(t: float, y: Array) -> State:
        return rates(State(*y.tolist()), p, input_at(Y, t), input_at(I_bias, t))

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


def peaks(t: Array, x: Array) -> tuple[Array, Array]:
    """Times and heights of the maxima of x, each by a parabola through three samples.

    t, x: (samples,), t evenly spaced. Of equal neighbours the first counts.
    """
    k = np.flatnonzero((x[1:-1] > x[:-2]) & (x[1:-1] >= x[2:])) + 1
    down, up = x[k] - x[k - 1], x[k] - x[k + 1]
    shift = 0.5 * (down - up) / (down + up)
    return t[k] + shift * (t[1] - t[0]), x[k] + 0.25 * (down - up) * shift
