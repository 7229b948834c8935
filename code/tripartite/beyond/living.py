"""Attention with a living astrocyte: tokens, vesicles, calcium, gliotransmitter, receptors, output.

A token is held for T seconds. It sets the firing rates of hidden neurons. Their terminals lie in
territories: one astrocyte, or one independent process, hears the terminals of its territory and
divides their release. Output neurons add up what is released. The parts are those of
`tripartite.circuit`; the reading of tokens is ours. Concentrations in uM, times in s.
"""

from __future__ import annotations

import math
from dataclasses import fields, replace
from typing import NamedTuple

import numpy as np

from .. import astrocyte, circuit, synapse
from ..astrocyte import Astrocyte, Gliotransmission
from ..checks import check_finite, check_positive, check_positive_int
from ..circuit import Circuit
from ..quantities import Quantities
from ..synapse import Synapse

Array = np.ndarray


class Reading(NamedTuple):
    """What tokens were read with: means over the last part of each token.

    gain: (tokens, territories), release probability over that of rest; released: (tokens, n),
    vesicle fractions that every terminal released a second.
    """

    gain: Array
    released: Array


def contacts(weights: Array, n: int, seed: int) -> Array:
    """The neuron that each of n terminals belongs to, drawn in proportion to weights g, (n,).

    The mean rate over terminals is then g.phi / sum(g): the weight of a neuron is the number of its
    contacts with the astrocyte. Counts are right within 1 (systematic sampling); the order is random.
    Raises ValueError on weights that are not finite and at least 0, or all 0.
    """
    check_positive_int(n=n)
    weights = np.asarray(weights, dtype=float)
    check_finite(weights=weights)
    if weights.ndim != 1 or np.any(weights < 0) or not weights.sum() > 0:
        raise ValueError(f"weights {weights.shape}: must be (neurons,), at least 0 and not all 0")
    rng = np.random.default_rng(seed)
    places = (np.arange(n) + rng.random()) / n
    edges = np.cumsum(weights) / weights.sum()
    return rng.permutation(np.minimum(np.searchsorted(edges, places, "right"), len(weights) - 1))


def scaled_error(output: Array, exact: Array) -> float:
    """Relative L2 error of outputs (tokens, e), the best common factor of all tokens allowed.

    Such a factor can be absorbed in the weights that follow. 1 where nothing is left.
    """
    common = np.sum(output * exact) / np.sum(output * output)
    return float(np.linalg.norm(common * output - exact) / np.linalg.norm(exact))


def faster(parameters: Quantities, factor: float) -> Quantities:
    """The same parameters with every rate, all that is per second, multiplied by factor.

    A circuit whose parts are all faster by a factor does at T / factor what it did at T.
    """
    check_positive(factor=factor)
    rates = {
        f.name: getattr(parameters, f.name) * factor
        for f in fields(parameters)  # type: ignore[arg-type]
        if f.metadata["unit"] in ("1/s", "uM/s", "1/(uM s)")
    }
    return replace(parameters, **rates)  # type: ignore[type-var]


def token_spikes(rate: Array, steps: int, dt: float, rng: np.random.Generator):
    """Poisson spikes of terminals while one token is held, at most one each in a step.

    rate: (n,) per s; steps of dt s. Returns times and terminals, (spikes,) each, in order.
    """
    counts = rng.poisson(rate * steps * dt).astype(np.intp)  # a browser counts in 32 bits
    terminal = np.repeat(np.arange(len(rate)), counts)
    step = rng.integers(0, steps, len(terminal))
    spike = np.unique(step * len(rate) + terminal)  # a second one in a step is lost
    return spike // len(rate) * dt, spike % len(rate)


def read(
    wired: Circuit,
    rates: Array,
    T: float,
    seed: int,
    *,
    dt: float = 0.02,
    warm_up: float = 60.0,
    window: float = 0.5,
) -> Reading:
    """Read a stream of tokens with a circuit whose territories are of equal size.

    rates: (tokens, n) spikes per s of every terminal while a token is held; T: s, of one token; dt:
    the longest step, s; warm_up: s at the mean rates before the first token; window: the part of
    each token, its end, over which is averaged. Raises ValueError on rates of another shape, that
    are negative or so high that a step holds more than one spike on average.
    """
    rates = np.asarray(rates, dtype=float)
    check_positive(T=T, dt=dt, warm_up=warm_up)
    _check_window(window)
    if rates.ndim != 2 or rates.shape[1] != wired.n_synapses:
        raise ValueError(f"rates {rates.shape}: must be (tokens, {wired.n_synapses})")
    if not np.all((rates >= 0) & (rates * dt <= 1)):
        raise ValueError(f"rates up to {np.max(rates):g} 1/s: must be 0 to {1 / dt:g}, 1 / dt")
    if wired.n_synapses % wired.n_astrocytes:
        raise ValueError(
            f"{wired.n_synapses} terminals: must be a multiple of {wired.n_astrocytes} territories"
        )
    rng = np.random.default_rng(seed)
    per = wired.n_synapses // wired.n_astrocytes
    state, gains, released = circuit.at_rest(wired), [], []
    for rate, held in [(rates.mean(axis=0), warm_up), *((row, T) for row in rates)]:
        steps = math.ceil(held / dt)
        step = held / steps
        times, who = token_spikes(rate, steps, step, rng)
        every = max(1, steps // 50)
        run = circuit.run(
            wired, times, who, held, step, start=state, hold="mean", record_every=every
        )
        state = run.final
        late = run.times >= (1 - window) * held
        Gamma = run.terminals[late, 3, ::per].mean(axis=0)
        gains.append(synapse.release_probability(Gamma, wired.synapse) / wired.synapse.U_0)
        last = run.spikes >= (1 - window) * held
        amount = np.bincount(run.spike_synapse[last], run.released[last], wired.n_synapses)
        released.append(amount / (window * held))
    return Reading(np.array(gains[1:]), np.array(released[1:]))


def limit_gain(
    drive: Array,
    T: float,
    cell: Astrocyte,
    vesicles: Gliotransmission,
    terminal: Synapse,
    *,
    n_cells: int = 1,
    dt: float = 0.02,
    warm_up: float = 60.0,
    window: float = 0.5,
) -> Array:
    """Gain of astrocytes in the limit of many terminals that do not deplete: Y = P s, no chance.

    drive: (tokens,) uM, the transmitter s = g.phi that an astrocyte would receive undivided. Cells
    start from rest one after the other, spread over the warm-up at the mean drive, and are alike
    otherwise. Returns the mean gain P over the window of each token, (tokens, n_cells).
    """
    drive = np.asarray(drive, dtype=float)
    check_positive(T=T, dt=dt, warm_up=warm_up)
    _check_window(window)
    check_positive_int(n_cells=n_cells)
    if drive.ndim != 1 or not np.all(np.isfinite(drive) & (drive >= 0)):
        raise ValueError("drive: must be (tokens,), finite and at least 0 uM")
    depth = 1 - terminal.alpha / terminal.U_0
    state = astrocyte.check_state(astrocyte.at_rest(n_cells))
    store, Gamma = astrocyte.full(state.C, vesicles), np.zeros(n_cells)
    joined = warm_up * np.arange(n_cells) / n_cells  # s, when a cell wakes
    gains, now = [], 0.0
    for level, held in [(drive.mean(), warm_up), *((s, T) for s in drive)]:
        steps = math.ceil(held / dt)
        step = held / steps
        astrocyte.check_step(step, cell, level)
        fade = -math.expm1(-vesicles.Omega_e * step) / (vesicles.Omega_e * step)
        total, counted = np.zeros(n_cells), 0
        for k in range(steps):
            awake = now + k * step >= joined
            before = 1 - depth * Gamma
            Gamma = synapse.bind(Gamma, step, terminal, fade * store.G)
            # the mean of the gain before and after: of second order in the step
            P = 0.5 * (before + 1 - depth * Gamma)
            after = astrocyte.step(state, step, cell, P * level)
            if not awake.all():
                after = astrocyte.State(*(np.where(awake, a, b) for a, b in zip(after, state)))
            state = after
            store = astrocyte.recycle(store, step, vesicles)
            store, _ = astrocyte.exocytose(store, state.C, vesicles)
            if k + 1 > (1 - window) * steps:
                total, counted = total + P, counted + 1
        gains.append(total / counted)
        now += held
    return np.array(gains[1:])


def clamp_gain(
    drive: Array, T: float, unbinding: float, pulse: float, threshold: float, window: float = 0.5
) -> Array:
    """Gain that the fastest thinkable astrocyte gives: it releases at once where P s is theta.

    Between releases P = 1 - Gamma_S recovers at the rate unbinding, 1/s; a release multiplies it by
    exp(-pulse). drive: s, (tokens,) uM; threshold: theta, uM. Exact, event by event. Returns the
    mean of P over the window at the end of each token, (tokens,).
    """
    check_positive(T=T, unbinding=unbinding, pulse=pulse, threshold=threshold)
    _check_window(window)
    drive = np.asarray(drive, dtype=float)
    if drive.ndim != 1 or not np.all(np.isfinite(drive) & (drive > 0)):
        raise ValueError("drive: must be (tokens,), finite and above 0 uM")
    P, gains = min(1.0, threshold / float(np.median(drive))), []
    for s in drive:
        due = threshold / s  # the gain at which a release follows
        now, area, start = 0.0, 0.0, (1 - window) * T
        if P > due:  # as many releases at once as bring it below
            P *= math.exp(-pulse * math.ceil(math.log(P / due) / pulse))
        while now < T:
            wait = math.inf if due >= 1 else math.log((1 - P) / (1 - due)) / unbinding
            end = min(T, now + max(wait, 1e-12))
            a, b = max(now, start) - now, end - now
            if b > a:  # integral of 1 - (1 - P) exp(-unbinding t)
                decay = math.exp(-unbinding * a) - math.exp(-unbinding * b)
                area += (b - a) - (1 - P) * decay / unbinding
            P = 1 - (1 - P) * math.exp(-unbinding * (end - now))
            if end < T:
                P = due * math.exp(-pulse)
            now = end
        gains.append(area / (window * T))
    return np.array(gains)


def _check_window(window: float) -> None:
    check_positive(window=window)
    if window > 1:
        raise ValueError(f"window = {window:g}: must be at most 1, the whole token")


def tree(n: int) -> Array:
    """Compartments of one astrocyte along a binary tree with the soma, 0, at its root: pairs (n-1, 2).

    For `astrocyte.coupling`, which then is diffusion of IP3 from compartment to compartment.
    """
    check_positive_int(n=n)
    child = np.arange(1, n)
    return np.stack([(child - 1) // 2, child], axis=1)


def branch(n: int, size: int, seed: int) -> Array:
    """size compartments of such a tree that lie side by side from the tips on, (size,).

    They are the last of a walk from the soma that turns at random and finishes a branch before the
    next. Raises ValueError unless size is 0 to n.
    """
    check_positive_int(n=n)
    if not 0 <= size <= n:
        raise ValueError(f"size = {size!r}: must be 0 to n = {n}")
    rng, walk, waiting = np.random.default_rng(seed), [], [0]
    while waiting:
        here = waiting.pop()
        walk.append(here)
        waiting += [int(c) for c in rng.permutation([2 * here + 1, 2 * here + 2]) if c < n]
    return np.array(walk[n - size :], dtype=int)
