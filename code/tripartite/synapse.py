"""The presynaptic terminal: short-term plasticity of release, gliotransmitter receptors, cleft.

Tsodyks and Markram 1997; release modulated by gliotransmitter: De Pitta et al. 2011; equations
and published sets as in Stimberg et al. 2019. Between spikes every update is exact.
States are values: they go in and come out. Concentrations in uM, times in s.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import numpy as np

from .checks import check_positive, check_positive_int, check_spike_times
from .quantities import Quantities, quantity

Array = np.ndarray


_plasticity = partial(quantity, source="Tsodyks and Markram 1997")
_glio = partial(quantity, source="De Pitta et al. 2011")


@dataclass(frozen=True)
class Synapse(Quantities):
    """Parameters of a presynaptic terminal and its cleft."""

    rho_c: float = _glio("1", "volume of a vesicle over that of the cleft", 0, 1, above=True)
    Y_T: float = _glio("uM", "transmitter in a vesicle", 1e3, 1e7)
    Omega_c: float = _glio("1/s", "clearance of transmitter", above=True)
    U_0: float = _plasticity("1", "resting release probability", 0, 1, above=True)
    Omega_f: float = _plasticity("1/s", "decay of facilitation", above=True)
    Omega_d: float = _plasticity("1/s", "recovery from depression", above=True)
    O_G: float = _glio("1/(uM s)", "binding of gliotransmitter to presynaptic receptors")
    Omega_G: float = _glio("1/s", "unbinding of gliotransmitter", above=True)
    alpha: float = _glio("1", "release probability with all receptors bound", 0, 1)


_EX3 = Synapse(
    rho_c=0.005, Y_T="500 mM", Omega_c="40 1/s", U_0=0.6, Omega_f="3.33 1/s", Omega_d="2 1/s",  # type: ignore[arg-type]
    O_G="1.5 1/(uM s)", Omega_G="0.5 1/min", alpha=0.0,  # type: ignore[arg-type]
)  # fmt: skip

SYNAPSES: dict[str, Synapse] = {
    # example 2 has no short-term plasticity: every spike releases all there is, refilled in 1 us
    "stimberg2019-ex2": Synapse(
        rho_c=0.001, Y_T="500 mM", Omega_c="40 1/s", U_0=1.0, Omega_f="3.33 1/s",  # type: ignore[arg-type]
        Omega_d="1e6 1/s", O_G=0.0, Omega_G="0.5 1/min", alpha=1.0,  # type: ignore[arg-type]
    ),
    "stimberg2019-ex3": _EX3,
    "stimberg2019-ex4": _EX3,
    "stimberg2019-ex6": _EX3,
}  # fmt: skip
"""Published sets, by paper and example. In all of them alpha < U_0: release-decreasing."""


class Terminal(NamedTuple):
    """State of terminals, each entry a number or (n,).

    u: utilisation u_S; x: available vesicles x_S; Y: transmitter in the cleft Y_S, uM;
    Gamma: bound gliotransmitter receptors Gamma_S.
    """

    u: Array
    x: Array
    Y: Array
    Gamma: Array


class Response(NamedTuple):
    """What every spike meets and releases: u and x just after it, released r_S = u_S x_S."""

    u: Array
    x: Array
    released: Array


def rested(n: int = 1, x: float = 1.0) -> Terminal:
    """n terminals that have not fired for long: vesicles full, or filled to x, all else zero."""
    check_positive_int(n=n)
    if not 0 <= x <= 1:
        raise ValueError(f"x = {x!r}: must be a fraction, 0 to 1")
    return Terminal(np.zeros(n), np.full(n, float(x)), np.zeros(n), np.zeros(n))


def relax(state: Terminal, dt: float, p: Synapse, G: Array | float = 0.0) -> Terminal:
    """Exact state after dt seconds without a spike, gliotransmitter G (uM) held constant."""
    if not dt >= 0:
        raise ValueError(f"dt = {dt!r}: must be at least 0 s")
    return Terminal(
        state.u * math.exp(-p.Omega_f * dt),
        1 - (1 - state.x) * math.exp(-p.Omega_d * dt),
        state.Y * math.exp(-p.Omega_c * dt),
        bind(state.Gamma, dt, p, G),
    )


def bind(Gamma: Array, dt: float, p: Synapse, G: Array | float) -> Array:
    """Exact bound fraction of gliotransmitter receptors after dt seconds, G (uM) held constant."""
    rate = p.O_G * G + p.Omega_G
    bound = p.O_G * G / rate
    return bound + (Gamma - bound) * np.exp(-rate * dt)


def release_probability(Gamma: Array | float, p: Synapse) -> Array | float:
    """U_0 as gliotransmitter leaves it: (1 - Gamma_S) U_0* + alpha Gamma_S."""
    return (1 - Gamma) * p.U_0 + p.alpha * Gamma


def fire(state: Terminal, p: Synapse) -> tuple[Terminal, Array]:
    """State after a spike of every terminal, and the released fraction r_S of each."""
    u = state.u + release_probability(state.Gamma, p) * (1 - state.u)
    released = u * state.x
    Y = state.Y + p.rho_c * p.Y_T * released
    return Terminal(u, state.x - released, Y, state.Gamma), released


def respond(spike_times: Array, p: Synapse, Gamma: float = 0.0, x: float = 1.0) -> Response:
    """Response of one terminal to a spike train, receptors held at Gamma. Exact: there is no step.

    spike_times: (n,) s, increasing. x: available vesicles at t = 0. Returns arrays (n,).
    Raises ValueError on times that are negative, not finite, unsorted or duplicate.
    """
    spike_times = check_spike_times(spike_times)
    if not 0 <= Gamma <= 1:
        raise ValueError(f"Gamma = {Gamma!r}: must be a fraction, 0 to 1")
    state, now = rested(1, x)._replace(Gamma=np.array([Gamma])), 0.0
    after = []
    for t in spike_times:
        held = relax(state, t - now, p)._replace(Gamma=state.Gamma)
        state, released = fire(held, p)
        after.append((state.u[0], state.x[0], released[0]))
        now = t
    return Response(*np.array(after).reshape(-1, 3).T)


def exposure(p: Synapse) -> float:
    """Time integral of Y_S, uM s, that a release of all vesicles leaves behind: rho_c Y_T / Omega_c.

    Times the fraction released and the spikes per s, it is the mean of Y_S.
    """
    return p.rho_c * p.Y_T / p.Omega_c


def transmitter(times: Array, spike_times: Array, released: Array | float, p: Synapse) -> Array:
    """Transmitter in the cleft Y_S, uM, at sorted times; a sample at a spike's time precedes it.

    times: (..., ) s; spike_times: (n,) s, increasing; released: (n,) fractions r_S, or one for all.
    Raises ValueError on impossible spike times or fractions.
    """
    spike_times = check_spike_times(spike_times)
    released = np.broadcast_to(released, spike_times.shape)
    if not np.all((released >= 0) & (released <= 1 + 1e-9)):
        raise ValueError(f"released = {released}: must be fractions, 0 to 1")
    Y, now, after = 0.0, 0.0, []
    for t, r in zip(spike_times, released):
        Y = Y * math.exp(-p.Omega_c * (t - now)) + p.rho_c * p.Y_T * r
        now = t
        after.append(Y)
    times = np.asarray(times, dtype=float)
    last = np.searchsorted(spike_times, times, side="left")  # spikes before each sample
    since = times - np.concatenate([[-np.inf], spike_times])[last]
    return np.concatenate([[0.0], after])[last] * np.exp(-p.Omega_c * since)


def stationary(rate: Array, p: Synapse, Gamma: Array | float = 0.0) -> Response:
    """What every spike of an endless regular train meets and releases, in closed form.

    rate: spikes per s, above 0; Gamma: bound receptors. Fixed point of relax then fire.
    """
    rate = np.asarray(rate, dtype=float)
    if not np.all(np.isfinite(rate) & (rate > 0)):
        raise ValueError(f"rate = {rate}: must be finite and above 0 spikes per s")
    U = release_probability(Gamma, p)
    u = U / (1 - (1 - U) * np.exp(-p.Omega_f / rate))
    kept = np.exp(-p.Omega_d / rate)
    before = (1 - kept) / (1 - (1 - u) * kept)
    return Response(u, before * (1 - u), u * before)


def mean_field(rate: Array | float, p: Synapse, Gamma: Array | float = 0.0) -> Array:
    """Mean fraction released by a spike of an endless Poisson train of rate spikes per s.

    Utilisation is exact; release takes the mean of u x for the product of the means of u and x, which
    share their past, and so is too large, by less than 5 %. Tsodyks and Markram 1997.
    """
    U = release_probability(np.asarray(Gamma, dtype=float), p)
    used = U * (p.Omega_f + rate) / (p.Omega_f + U * rate)
    return used / (1 + used * rate / p.Omega_d)  # type: ignore[return-value]


def poisson(
    rate: Array | float, n: int, duration: float, dt: float, seed: int
) -> tuple[Array, Array]:
    """Poisson spikes of n terminals, at most one each in a step of dt: (times, terminal) in order.

    rate: spikes per s, a number or (n,); duration and dt in s. Times are the starts of steps.
    Raises ValueError where rate * dt exceeds 0.1, at which a step would lose many spikes.
    """
    check_positive_int(n=n)
    check_positive(duration=duration, dt=dt)
    rate = np.broadcast_to(np.asarray(rate, dtype=float), (n,))
    if not np.all((rate >= 0) & (rate * dt <= 0.1)):
        raise ValueError(
            f"rate up to {rate.max():g} 1/s with dt = {dt:g} s: must be 0 to {0.1 / dt:g}"
        )
    rng = np.random.default_rng(seed)
    steps = round(duration / dt)
    counts = rng.binomial(steps, rate * dt).astype(np.intp)  # a browser counts in 32 bits
    terminal = np.repeat(np.arange(n), counts)
    step = np.concatenate([rng.choice(steps, c, replace=False) for c in counts] or [[]])
    order = np.lexsort((terminal, step))
    return step[order] * dt, terminal[order]
