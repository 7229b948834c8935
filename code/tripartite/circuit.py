"""Tripartite synapses: terminals and astrocytes coupled in both directions.

A terminal's transmitter drives the astrocytes that listen to it; their gliotransmitter changes
the release of the terminals that they talk to. Stimberg et al. 2019; De Pitta et al. 2011.

One step takes all states from t to t + dt. A sample at t is the state before that step; a spike
or a release labelled t acts at the end of it. Concentrations in uM, times in s.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from . import astrocyte, synapse
from .astrocyte import Astrocyte, Gliotransmission, State, Store
from .checks import check_choice, check_pairs, check_positive, check_positive_int
from .synapse import Synapse, Terminal

Array = np.ndarray
NONE = np.empty((0, 2), dtype=int)


@dataclass(frozen=True)
class Circuit:
    """Who is wired to whom, with one set of parameters for all terminals and one for all cells.

    listens, talks: pairs (k, 2) of a terminal and an astrocyte, for transmitter and for
    gliotransmitter; gaps: pairs of astrocytes; pooling: whether an astrocyte receives the sum or
    the mean of the transmitter of its terminals.
    """

    synapse: Synapse
    astrocyte: Astrocyte
    gliotransmission: Gliotransmission
    n_synapses: int
    n_astrocytes: int
    listens: Array = field(default_factory=lambda: NONE)
    talks: Array = field(default_factory=lambda: NONE)
    gaps: Array | None = None
    pooling: str = "sum"

    def __post_init__(self) -> None:
        check_positive_int(n_synapses=self.n_synapses, n_astrocytes=self.n_astrocytes)
        check_choice("pooling", self.pooling, ("mean", "sum"))
        for name, pairs in (("listens", self.listens), ("talks", self.talks)):
            check_pairs(name, pairs, (self.n_synapses, self.n_astrocytes))
        if self.gaps is not None:
            check_pairs("gaps", self.gaps, (self.n_astrocytes, self.n_astrocytes), mutual=True)


def territories(n_synapses: int, n_astrocytes: int) -> Array:
    """Every terminal with its one astrocyte, territories of equal size: pairs (n_synapses, 2)."""
    check_positive_int(n_synapses=n_synapses, n_astrocytes=n_astrocytes)
    terminals = np.arange(n_synapses)
    return np.stack([terminals, terminals * n_astrocytes // n_synapses], axis=1)


def pool(circuit: Circuit, Y: Array) -> Array:
    """Transmitter that every astrocyte receives, uM, (n_astrocytes,); Y: (n_synapses,)."""
    terminal, cell = circuit.listens.T
    total = np.bincount(cell, Y[terminal], circuit.n_astrocytes)
    if circuit.pooling == "mean":
        total = total / np.maximum(np.bincount(cell, minlength=circuit.n_astrocytes), 1)  # type: ignore[assignment]
    return total


def spread(circuit: Circuit, G: Array) -> Array:
    """Gliotransmitter that every terminal meets, uM, (n_synapses,); G: (n_astrocytes,)."""
    terminal, cell = circuit.talks.T
    return np.bincount(terminal, G[cell], circuit.n_synapses)


def event_binding(terminal: Synapse, cell: Gliotransmission) -> float:
    """Rate of binding to receptors, integrated over one release of a full store: without unit.

    O_G times the integral of G_A, rho_e G_T U_A / Omega_e; the release divides P = 1 - Gamma by exp
    of it, where clearance is so fast that nothing else changes meanwhile.
    """
    return terminal.O_G * cell.rho_e * cell.G_T * cell.U_A / cell.Omega_e


class Circumstance(NamedTuple):
    """State of a circuit: terminals, calcium of the astrocytes, their stores."""

    terminal: Terminal
    cell: State
    store: Store


def at_rest(circuit: Circuit, initial: Array | None = None, x: float = 1.0) -> Circumstance:
    """Before anything has happened. initial: (4, n_astrocytes) or (4, 1); x: vesicles available."""
    initial = astrocyte.at_rest() if initial is None else np.asarray(initial, dtype=float)
    cell = astrocyte.check_state(np.broadcast_to(initial, (4, circuit.n_astrocytes)).copy())
    return Circumstance(
        synapse.rested(circuit.n_synapses, x),
        cell,
        astrocyte.full(cell.C, circuit.gliotransmission),
    )


class History(NamedTuple):
    """Recorded run of a circuit, and the state that it ends in.

    times: (records,) s. terminals: (records, 4, n_synapses), rows u_S, x_S, Y_S, Gamma_S; cells:
    (records, 4, n_astrocytes), rows Gamma_A, I, C, h; stores: (records, 2, n_astrocytes), rows
    x_A, G_A. spikes, spike_synapse, released: (spikes,), times, terminals, fractions r_S.
    releases, release_cell: (releases,), times and astrocytes of gliotransmission.
    """

    times: Array
    terminals: Array
    cells: Array
    stores: Array
    spikes: Array
    spike_synapse: Array
    released: Array
    releases: Array
    release_cell: Array
    final: Circumstance


def run(
    circuit: Circuit,
    spikes: Array,
    spike_synapse: Array,
    duration: float,
    dt: float,
    *,
    I_bias: float | Array = 0.0,
    start: Circumstance | None = None,
    cell_every: int = 1,
    hold: str = "start",
    record_every: int = 1,
) -> History:
    """Run a circuit with terminals in steps of dt and astrocytes in steps of cell_every * dt, s.

    spikes, spike_synapse: (k,) times in s, in order, and terminals; I_bias: uM, a number or
    (n_astrocytes,). hold: a step sees the transmitter of the other side as it was at its start
    (Stimberg et al. 2019) or its exact mean over the step ("mean": converges faster). In the closed
    loop of example 4 with dt = 1 ms, peaks of calcium come within 14 ms and 2 ms of the converged
    ones; both errors are of first order in dt.
    record_every: astrocyte steps between samples; the run has round(duration / (cell_every * dt)).
    Raises ValueError on spike times that are unsorted, out of range or closer than dt at one
    terminal, on an impossible start or I_bias, and on an unstable step.
    """
    check_positive(duration=duration, dt=dt)
    check_positive_int(cell_every=cell_every, record_every=record_every)
    check_choice("hold", hold, ("mean", "start"))
    state = at_rest(circuit) if start is None else start
    _check_start(circuit, state)
    astrocyte.check_input(circuit.n_astrocytes, I_bias=I_bias)
    dt_cell, n_steps = dt * cell_every, round(duration / (dt * cell_every))
    astrocyte.check_step(dt_cell, circuit.astrocyte, _one_spike(circuit), circuit.gaps)
    spike_synapse, first = _bin(spikes, spike_synapse, circuit, n_steps * cell_every, dt)
    released = np.empty(len(spike_synapse))
    loudest = 0.0
    releases: list[tuple[float, Array]] = []
    samples: list[tuple[Array, Array, Array]] = []
    for k in range(n_steps + 1):
        if k % record_every == 0:
            samples.append(
                (np.array(state.terminal), np.array(state.cell), np.array(state.store[:2]))
            )
        if k == n_steps:
            break
        terminal, cell, store = state
        G, Y = spread(circuit, store.G), pool(circuit, terminal.Y)
        received = 0.0
        for sub in range(cell_every):
            j = k * cell_every + sub
            received = received + pool(circuit, terminal.Y) if hold == "mean" else 0.0  # type: ignore[assignment]
            terminal = synapse.relax(
                terminal, dt, circuit.synapse, G * _mean_decay(circuit, hold, sub, dt)
            )
            now = slice(first[j], first[j + 1])
            if now.stop > now.start:
                terminal, released[now] = _fire(terminal, spike_synapse[now], circuit.synapse)
        if hold == "mean":
            Y = received / cell_every * _mean(circuit.synapse.Omega_c * dt)  # type: ignore[assignment]
        if Y.max() > loudest:  # spikes have piled up beyond what the check above could foresee
            astrocyte.check_step(dt_cell, circuit.astrocyte, Y, circuit.gaps)
            loudest = Y.max()
        cell = astrocyte.step(cell, dt_cell, circuit.astrocyte, Y, I_bias, circuit.gaps)
        store = astrocyte.recycle(store, dt_cell, circuit.gliotransmission)
        store, crossed = astrocyte.exocytose(store, cell.C, circuit.gliotransmission)
        if crossed.any():
            releases.append((k * dt_cell, np.flatnonzero(crossed)))
        state = Circumstance(terminal, cell, store)
    terminals, cells, stores = (np.array(part) for part in zip(*samples))
    return History(
        np.arange(len(terminals)) * record_every * dt_cell,
        terminals,
        cells,
        stores,
        np.repeat(np.arange(len(first) - 1), np.diff(first)) * dt,
        spike_synapse,
        released,
        np.repeat([t for t, _ in releases], [len(c) for _, c in releases]),
        np.concatenate([NONE[:, 0], *(c for _, c in releases)]),
        state,
    )


def _fire(terminal: Terminal, who: Array, p: Synapse) -> tuple[Terminal, Array]:
    fired, released = synapse.fire(Terminal(*(row[who] for row in terminal)), p)
    rows = [row.copy() for row in terminal]
    for row, after in zip(rows, fired):
        row[who] = after
    return Terminal(*rows), released


def _mean(x: float) -> float:
    return -math.expm1(-x) / x


def _mean_decay(circuit: Circuit, hold: str, sub: int, dt: float) -> float:
    if hold == "start":
        return 1.0
    fade = circuit.gliotransmission.Omega_e * dt
    return math.exp(-fade * sub) * _mean(fade)


def _one_spike(circuit: Circuit) -> Array:
    """Transmitter that a spike of one rested terminal brings to its astrocytes, uM."""
    alone = np.zeros(circuit.n_synapses)
    alone[circuit.listens[:1, 0]] = (
        circuit.synapse.rho_c * circuit.synapse.Y_T * circuit.synapse.U_0
    )
    return pool(circuit, alone)


def _bin(
    spikes: Array, spike_synapse: Array, circuit: Circuit, n_steps: int, dt: float
) -> tuple[Array, Array]:
    """Terminals that fire, by step, and where in that list every step begins, (n_steps + 1,)."""
    times = np.asarray(spikes, dtype=float)
    who = np.asarray(spike_synapse)
    if times.ndim != 1 or who.shape != times.shape:
        raise ValueError(f"spikes {times.shape}, spike_synapse {who.shape}: must both be (spikes,)")
    if not np.all(np.isfinite(times) & (times >= 0)) or np.any(np.diff(times) < 0):
        raise ValueError("spikes: must be finite times of at least 0 s, in order")
    if len(who) and not (
        np.all(who == who.astype(int)) and 0 <= who.min() <= who.max() < circuit.n_synapses
    ):
        raise ValueError(f"spike_synapse: must be terminals, 0 to {circuit.n_synapses - 1}")
    step = np.floor(times / dt + 1e-6).astype(int)  # a time just below its step is rounding
    if len(step) and step[-1] >= n_steps:
        raise ValueError(f"spikes: {times[-1]:g} s is not before the end, {n_steps * dt:g} s")
    order = np.lexsort((who, step))
    step, who = step[order], who[order].astype(int)
    twice = np.flatnonzero((np.diff(step) == 0) & (np.diff(who) == 0))
    if twice.size:
        raise ValueError(
            f"spikes: terminal {who[twice[0]]} fires twice in the step at {step[twice[0]] * dt:g} s: "
            f"must be dt = {dt:g} s apart"
        )
    return who, np.searchsorted(step, np.arange(n_steps + 1))


def _check_start(circuit: Circuit, start: Circumstance) -> None:
    n, cells = circuit.n_synapses, circuit.n_astrocytes
    rows = [(f"terminal.{k}", v, n) for k, v in start.terminal._asdict().items()]
    rows += [("store.x", start.store.x, cells), ("store.G", start.store.G, cells)]
    rows += [("store.above", start.store.above, cells)]
    rows += [(f"cell.{k}", v, cells) for k, v in start.cell._asdict().items()]
    for name, row, size in rows:
        if np.shape(row) != (size,):
            raise ValueError(f"start.{name} has shape {np.shape(row)}: must be ({size},)")
        high = math.inf if name in ("terminal.Y", "store.G", "cell.I", "cell.C") else 1.0
        # a fraction may leave its range by rounding
        if not np.all(np.isfinite(row) & (row >= -1e-9) & (row <= high + 1e-9)):
            allowed = "0 to 1" if high == 1 else "a concentration in uM, finite and at least 0"
            raise ValueError(f"start.{name} = {row}: must be {allowed}")
