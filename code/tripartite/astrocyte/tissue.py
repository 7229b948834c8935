"""Many cells in fixed steps: gap junctions between them, and noise of their gates.

Concentrations in uM, times in s.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from .. import rungekutta
from ..checks import check_choice, check_pairs, check_positive, check_positive_int
from ..rungekutta import TABLES
from .calcium import (
    Input,
    State,
    check_input,
    check_inputs,
    check_state,
    gate,
    input_at,
    rates,
    threshold_flow,
)
from .parameters import Astrocyte

Array = np.ndarray


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
    dynamic = p.O_beta and not p.K_R
    receptors = p.O_N * np.max(Y) + p.Omega_N * (1 + p.zeta) if dynamic else 0.0
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
    largest = check_inputs(n, (k * dt for k in range(n_steps)), Y=Y, I_bias=I_bias)
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
            Y_now, I_now = input_at(Y, k * dt, cells), input_at(I_bias, k * dt, cells)
            if not noise:
                now = step(now, dt, p, Y_now, I_now, pairs, method)
                continue
            inside = now._replace(h=np.clip(now.h, 0.0, 1.0))  # noise may carry the gate beyond
            after = step(inside, dt, p, Y_now, I_now, pairs, method)
            normal = rng.standard_normal(len(now.C))
            kick = gate_noise(now, dt, p, noise, normal, calculus == "stratonovich")
            now = after._replace(h=now.h + (after.h - inside.h) + kick)
    return Recording(recorded * dt, states)
