"""The same models by Brian2: states that our NumPy code is tested against, and a rival to time.

    python tests/peers/brian2_peer.py traces data/reference_states [--only ring ...]
    python tests/peers/brian2_peer.py build FOLDER --cells 10000 --dt 0.001
    python tests/peers/brian2_peer.py cython --cells 1000 --dt 0.001

Needs the packages of brian2-requirements.txt in an environment of its own, Python 3.11 and a C++
compiler. Shares no code with the book: equations and values are those of Stimberg, Goodman,
Brette and De Pitta 2019, typed from its tables a second time, so that a slip shows.
Concentrations in uM, times in s; every equation is divided by one second and has no other unit.
"""

from __future__ import annotations

import argparse
import itertools
import json
import time
from collections.abc import Iterator
from pathlib import Path

import brian2 as b2
import numpy as np

Arrays = dict[str, np.ndarray]

# -- published values --------------------------------------------------------------------------

CALCIUM = {"C_T": 2.0, "rho_A": 0.18, "Omega_C": 6.0, "Omega_L": 0.1, "d_1": 0.13, "d_2": 1.05}
CALCIUM |= {"O_2": 0.2, "d_3": 0.9434, "d_5": 0.08, "O_P": 0.9, "kappa_delta": 1.5, "K_3K": 1.0}
CALCIUM |= {"O_3K": 4.5, "O_N": 0.3, "Omega_N": 0.5, "K_KC": 0.5, "zeta": 10.0}
CALCIUM |= {"I_Theta": 0.3, "omega_I": 0.05}
LATER = CALCIUM | {"K_P": 0.05, "K_delta": 0.1, "Omega_5P": 0.05, "K_D": 0.7}  # all but example 2
ASTROCYTES = {
    "ex2": CALCIUM | {"K_P": 0.1, "K_delta": 0.3, "Omega_5P": 0.1, "K_D": 0.5, "O_beta": 5.0}
    | {"O_delta": 0.2, "F_ex": 0.09, "F": 0.0},
    "ex3": LATER | {"O_beta": 0.0, "O_delta": 0.6, "F_ex": 2.0, "F": 0.0},
    "ex4": LATER | {"O_beta": 3.2, "O_delta": 0.6, "F_ex": 2.0, "F": 2.0},
    "ex5": LATER | {"O_beta": 0.0, "O_delta": 0.6, "F_ex": 0.09, "F": 0.09},
    "ex6": LATER | {"O_beta": 0.5, "O_delta": 1.2, "F_ex": 0.0, "F": 0.09},
}  # fmt: skip
SYNAPSE = {"rho_c": 0.005, "Y_T": 500e3, "Omega_c": 40.0, "U_0": 0.6, "Omega_f": 3.33}
SYNAPSE |= {"Omega_d": 2.0, "O_G": 1.5, "Omega_G": 0.5 / 60}
GLIOTRANSMISSION = {"C_Theta": 0.5, "Omega_A": 0.6, "U_A": 0.6, "G_T": 200e3}
GLIOTRANSMISSION |= {"rho_e": 6.5e-4, "Omega_e": 60.0}

# -- equations ---------------------------------------------------------------------------------

# flow of IP3 over a difference X, in units of the highest flow: published, and without its jump
FLOWS = {
    "published": "(0.5*(1 + tanh((abs(X) - I_Theta)/omega_I))*sign(X))",
    "smooth": "(0.5*(tanh((X - I_Theta)/omega_I) + tanh((X + I_Theta)/omega_I)))",
}
CELL = """
dGamma_A/dt = (O_N*Y*(1 - Gamma_A) - Omega_N*(1 + zeta*C/(C + K_KC))*Gamma_A)/second : 1
dI/dt = (O_beta*Gamma_A + J_delta - J_3K - Omega_5P*I + J_ex + J_gap)/second : 1
J_delta = O_delta/(1 + I/kappa_delta)*C**2/(C**2 + K_delta**2) : 1
J_3K = O_3K*C**4/(C**4 + K_D**4)*I/(I + K_3K) : 1
dC/dt = (J_r + J_l - J_p)/second : 1
J_r = Omega_C*(I/(I + d_1)*C/(C + d_5)*h_open)**3*(C_T - (1 + rho_A)*C) : 1
J_l = Omega_L*(C_T - (1 + rho_A)*C) : 1
J_p = O_P*C**2/(C**2 + K_P**2) : 1
Q_2 = d_2*(I + d_1)/(I + d_3) : 1
h_inf = Q_2/(Q_2 + C) : 1
tau_h = second/(O_2*(Q_2 + C)) : second
"""
GATE = """
dh/dt = (h_inf - h)/tau_h : 1
h_open = h : 1
"""
NOISY_GATE = """
dh/dt = (h_inf - h_open)/tau_h*(1 + noise*xi*tau_h**0.5) : 1
h_open = clip(h, 0, 1) : 1
"""
STORE = """
dx_A/dt = Omega_A*(1 - x_A)/second : 1
dG_A/dt = -Omega_e*G_A/second : 1
C : 1 (linked)
"""
TERMINAL = """
du_S/dt = -Omega_f*u_S/second : 1 (clock-driven)
dx_S/dt = Omega_d*(1 - x_S)/second : 1 (clock-driven)
dY_S/dt = -Omega_c*Y_S/second : 1 (clock-driven)
dGamma_S/dt = (O_G*G_S*(1 - Gamma_S) - Omega_G*Gamma_S)/second : 1 (clock-driven)
G_S : 1
r_S : 1
alpha : 1
"""
ON_SPIKE = """
u_S += ((1 - Gamma_S)*U_0 + alpha*Gamma_S)*(1 - u_S)
r_S = u_S*x_S
x_S -= r_S
Y_S += rho_c*Y_T*r_S
"""
STATES = ("Gamma_A", "I", "C", "h")


def cell(flow: str, gate: str = GATE, gap: str = "J_gap = 0 : 1") -> str:
    """Equations of uncoupled cells with inputs Y and I_bias, uM; flow: key of FLOWS."""
    exogenous = f"J_ex = -F_ex*{over('(I - I_bias)', flow)} : 1"
    return f"{CELL}\n{gate}\n{exogenous}\n{gap}\nY : 1\nI_bias : 1 (constant)"


def over(difference: str, flow: str) -> str:
    return FLOWS[flow].replace("X", difference)


def astrocytes(n: int, equations: str, p: dict, **options) -> b2.NeuronGroup:
    """n cells by Runge-Kutta of order 4 unless told otherwise; no receptor bound, gate at 0.9."""
    group = b2.NeuronGroup(n, equations, **{"method": "rk4", "namespace": p} | options)
    group.h = 0.9
    return group


def stores(cells: b2.NeuronGroup, p: dict) -> b2.NeuronGroup:
    """Gliotransmitter of the cells, full: one release for each excursion of calcium."""
    group = b2.NeuronGroup(
        len(cells),
        STORE,
        method="exact",
        namespace=p,
        order=1,  # after the cells: a crossing counts in the step that makes it
        threshold="C > C_Theta",
        refractory="C > C_Theta",
        reset="G_A += rho_e*G_T*U_A*x_A\nx_A -= U_A*x_A",
    )
    group.C = b2.linked_var(cells, "C")
    group.x_A = 1
    return group


def states(monitor: b2.StateMonitor, names: tuple[str, ...]) -> np.ndarray:
    """(records, rows, cells)."""
    return np.stack([np.asarray(getattr(monitor, name)).T for name in names], axis=1)


# -- traces ------------------------------------------------------------------------------------


def gchi(flow: str) -> Iterator[tuple[str, np.ndarray]]:
    """Uncoupled G-ChI cells at constant transmitter, 60 s."""
    for name, Y in (("ex2", [0, 0.02, 0.05, 0.1, 0.3, 0.6, 0.75, 2]), ("ex4", [4, 8, 20])):
        b2.start_scope()
        b2.defaultclock.dt = 1 * b2.ms
        cells = astrocytes(len(Y), cell(flow), ASTROCYTES[name])
        cells.Y = Y
        monitor = b2.StateMonitor(cells, STATES, record=True, dt=1 * b2.second)
        b2.Network(cells, monitor).run(60.001 * b2.second, namespace={})
        yield "dt", np.array(0.001)
        yield f"{name}.Y", np.array(Y, float)
        yield f"{name}.times", np.asarray(monitor.t / b2.second)
        yield f"{name}.states.{flow}", states(monitor, STATES)


def spike_trains(rates: list[float], regular: set[int], duration: float, seed: int) -> Arrays:
    """Fixed spike times, s, and the train of each; those of irregular trains lie inside steps."""
    rng = np.random.default_rng(seed)
    times, who = [], []
    for k, rate in enumerate(rates):
        if k in regular:
            train = np.arange(0.1, duration, round(1 / rate, 3))
        else:
            gaps = 0.003 + rng.exponential(1 / rate - 0.003, int(3 * rate * duration) + 10)
            train = np.floor(np.cumsum(gaps) * 1e3) * 1e-3 + rng.uniform(2e-4, 8e-4, len(gaps))
        train = np.round(train[train < duration - 0.01], 6)
        times.append(train)
        who.append(np.full(len(train), k))
    order = np.argsort(np.concatenate(times), kind="stable")
    return {"spikes": np.concatenate(times)[order], "trains": np.concatenate(who)[order]}


def circuit(
    p: dict,
    flow: str,
    spikes: Arrays,
    train_of: list[int],
    duration: float,
    alpha: list[float],
    initial: dict[str, float],
    listening: str | None,
) -> Iterator[tuple[str, np.ndarray]]:
    """Terminals and one astrocyte that talks to all of them, in steps of 1 ms.

    train_of: the spike train of each terminal; initial: x_S, I and C, and the constant I_bias;
    listening: whether the astrocyte receives the "sum" or the "mean" over terminals, or nothing.
    """
    b2.start_scope()
    b2.defaultclock.dt = 1 * b2.ms
    namespace = p | SYNAPSE | GLIOTRANSMISSION
    trains = b2.SpikeGeneratorGroup(4, spikes["trains"], spikes["spikes"] * b2.second)
    postsynaptic = b2.NeuronGroup(1, "")
    terminals = b2.Synapses(
        trains, postsynaptic, TERMINAL, on_pre=ON_SPIKE, method="exact", namespace=namespace
    )
    terminals.connect(i=train_of, j=0)
    terminals.x_S, terminals.alpha = initial["x_S"], alpha
    astrocyte = astrocytes(1, cell(flow), namespace)
    astrocyte.I, astrocyte.C = initial["I"], initial["C"]
    astrocyte.I_bias = initial["I_bias"]
    store = stores(astrocyte, namespace)
    talk = b2.Synapses(store, terminals, "G_S_post = G_A_pre : 1 (summed)")
    talk.connect()
    network = b2.Network(trains, postsynaptic, terminals, astrocyte, store, talk)
    if listening:
        share = {"sum": "Y_S_pre", "mean": "Y_S_pre/N_incoming"}[listening]
        listen = b2.Synapses(terminals, astrocyte, f"Y_post = {share} : 1 (summed)")
        listen.connect()
        network.add(listen)
    seen = {
        "terminals": b2.StateMonitor(terminals, BOUTON, record=True, dt=SAMPLED),
        "cells": b2.StateMonitor(astrocyte, STATES, record=True, dt=SAMPLED),
        "stores": b2.StateMonitor(store, ("x_A", "G_A"), record=True, dt=SAMPLED),
    }
    releases, fired = b2.SpikeMonitor(store), b2.SpikeMonitor(trains)
    every_step = b2.StateMonitor(terminals, "r_S", record=True)
    network.add(*seen.values(), releases, fired, every_step)
    network.run((duration + 0.001) * b2.second, namespace={})

    yield "times", np.asarray(seen["cells"].t / b2.second)
    yield "terminals", states(seen["terminals"], BOUTON)
    yield f"cells.{flow}", states(seen["cells"], STATES)
    yield "stores", states(seen["stores"], ("x_A", "G_A"))
    yield "releases", np.asarray(releases.t / b2.second)
    step = np.round(np.asarray(fired.t / b2.second) * 1e3).astype(int)
    spike, who = np.nonzero(np.asarray(fired.i)[:, None] == np.array(train_of))
    yield "spike_labels", step[spike] * 1e-3
    yield "spike_terminal", who
    # a spike acts at the end of its step: the next sample, taken at a step's start, shows it
    yield "released", every_step.r_S[:][who, step[spike] + 1]


BOUTON = ("u_S", "x_S", "Y_S", "Gamma_S")
SAMPLED = 250 * b2.ms


def tripartite(flow: str) -> Iterator[tuple[str, np.ndarray]]:
    """Open loop: an astrocyte driven by I_bias talks to terminals of either kind, 40 s."""
    spikes = spike_trains([4.7, 6.0], {0}, 40.0, seed=3)
    train_of, alpha = [0, 0, 1, 1], [0.0, 1.0, 0.0, 1.0]
    initial = {"x_S": 0.0, "I": 0.01, "C": 0.01, "I_bias": 1.0}
    yield from given(spikes, initial, train_of=train_of, alpha=alpha)
    yield from circuit(ASTROCYTES["ex3"], flow, spikes, train_of, 40.0, alpha, initial, None)


def closed_loop(flow: str) -> Iterator[tuple[str, np.ndarray]]:
    """Four terminals drive one astrocyte, which talks to all of them, 40 s; Y summed or averaged."""
    spikes = spike_trains([0.5, 1.0, 1.5, 2.0], {1}, 40.0, seed=5)
    train_of, alpha = [0, 1, 2, 3], [0.0] * 4
    initial = {"x_S": 1.0, "I": 0.01, "C": 0.01, "I_bias": 0.0}
    yield from given(spikes, initial, train_of=train_of, alpha=alpha)
    for pooling in ("sum", "mean"):
        run = circuit(ASTROCYTES["ex4"], flow, spikes, train_of, 40.0, alpha, initial, pooling)
        yield from ((f"{pooling}.{key}", array) for key, array in run)


def given(spikes: Arrays, initial: dict, **more: list) -> Iterator[tuple[str, np.ndarray]]:
    yield "dt", np.array(0.001)
    yield from spikes.items()
    yield from ((f"initial.{key}", np.array(value)) for key, value in initial.items())
    yield from ((key, np.array(value)) for key, value in more.items())


def sheet(set_name: str, n: int, pairs: list, flow: str, Y=0.0, I_bias=0.0) -> Iterator:
    """n cells joined by gap junctions, 60 s; converged, and as published in steps of 1 ms."""
    p, held = ASTROCYTES[set_name], {}
    for dt in STEPS if flow == "smooth" else STEPS[-1:]:
        b2.start_scope()
        b2.defaultclock.dt = dt * b2.ms
        cells = astrocytes(n, cell(flow, gap="J_gap : 1"), p)
        cells.I = cells.C = 0.01
        cells.Y, cells.I_bias = Y, I_bias
        gap = f"J_gap_post = -F*{over('(I_post - I_pre)', flow)} : 1 (summed)"
        junctions = b2.Synapses(cells, cells, gap, namespace=p)
        a, b = np.transpose(pairs)
        junctions.connect(i=np.append(a, b), j=np.append(b, a))
        monitor = b2.StateMonitor(cells, STATES, record=True, dt=1 * b2.second)
        b2.Network(cells, junctions, monitor).run(60.01 * b2.second, namespace={})
        held[dt] = states(monitor, STATES)
    yield "times", np.asarray(monitor.t / b2.second)
    yield "pairs", np.array(pairs)
    yield "initial", np.tile([[0.0], [0.01], [0.01], [0.9]], n)
    yield from {"Y": np.broadcast_to(Y, n), "I_bias": np.broadcast_to(I_bias, n)}.items()
    yield f"states.{flow}", held[STEPS[-1]] if flow == "published" else to_zero_step(held)


STEPS = (8, 4, 2, 1)  # ms


def to_zero_step(held: dict[int, np.ndarray]) -> np.ndarray:
    """Richardson extrapolation: Brian2 holds what neighbours send over a step, an error O(dt)."""
    rows = [held[dt] for dt in STEPS]
    for order in range(1, len(STEPS)):
        previous = rows
        rows = [b + (b - a) / (2**order - 1) for a, b in itertools.pairwise(rows)]
    print(f"  last correction of the extrapolation: {np.abs(rows[0] - previous[1]).max():.1e}")
    return rows[0]


def ring(flow: str) -> Iterator[tuple[str, np.ndarray]]:
    """Ten cells in a ring, the first stimulated by a pipette."""
    pairs = [(k, (k + 1) % 10) for k in range(10)]
    return sheet("ex5", 10, pairs, flow, I_bias=np.where(np.arange(10) == 0, 1.0, 0.0))


def lattice(flow: str) -> Iterator[tuple[str, np.ndarray]]:
    """4 x 4 cells on a square lattice of 3750/56 um, joined below 75 um, one stimulated."""
    where = np.stack([np.arange(16) % 4, np.arange(16) // 4], axis=1) * 3750 / 56
    distance = np.linalg.norm(where[:, None] - where, axis=2)
    pairs = [(a, b) for a in range(16) for b in range(a + 1, 16) if distance[a, b] < 75]
    yield "positions", where
    yield from sheet("ex6", 16, pairs, flow, Y=np.where(np.arange(16) == 5, 2.0, 0.0))


def noise(flow: str) -> Iterator[tuple[str, np.ndarray]]:
    """Noisy gates at constant transmitter: mean and spread over 2,000 cells, at two steps.

    Brian2's milstein has dW^2 where the Ito scheme has dW^2 - dt: it integrates in the sense of
    Stratonovich. Its drift is that of Euler, and its support point adds a bias O(sqrt(dt)).
    """
    n, Y, times = 2000, np.array([0.05, 0.3, 2.0]), np.array([5.0, 10.0, 20.0, 30.0])
    yield from {"n": np.array(n), "Y": Y, "times": times, "noise": np.array(1.0)}.items()
    for dt in (1.0, 0.25):
        b2.start_scope()
        b2.seed(1)
        b2.defaultclock.dt = dt * b2.ms
        p = ASTROCYTES["ex2"] | {"noise": 1.0}
        cells = astrocytes(n * len(Y), cell(flow, gate=NOISY_GATE), p, method="milstein")
        cells.Y = np.repeat(Y, n)
        monitor = b2.StateMonitor(cells, STATES, record=True, dt=5 * b2.second)
        b2.Network(cells, monitor).run(30.001 * b2.second, namespace={})
        wanted = np.searchsorted(np.asarray(monitor.t / b2.second) + 1e-6, times)
        x = states(monitor, STATES)[wanted].reshape(len(times), 4, len(Y), n)
        mean, spread = x.mean(-1), x.std(-1, ddof=1)
        fourth = ((x - mean[..., None]) ** 4).mean(-1)
        with np.errstate(invalid="ignore"):
            of_spread = np.sqrt(np.maximum(fourth - spread**4, 0) / n) / (2 * spread)
        moments = {"mean": mean, "mean_error": spread / np.sqrt(n)}
        moments |= {"std": spread, "std_error": of_spread}
        yield from ((f"{key}.{dt:g}ms", array) for key, array in moments.items())


RECIPES = {
    "gchi": gchi,
    "tripartite": tripartite,
    "closed-loop": closed_loop,
    "ring": ring,
    "lattice": lattice,
    "noise": noise,
}


def traces(folder: Path, only: list[str]) -> None:
    """Write brian2-NAME.npz: inputs, parameters as JSON, and states, with either form of J_ex."""
    published = {"astrocytes": ASTROCYTES, "synapse": SYNAPSE, "gliotransmission": GLIOTRANSMISSION}
    for name in only or RECIPES:
        began = time.perf_counter()
        arrays: Arrays = {"parameters": np.array(json.dumps(published, sort_keys=True))}
        for flow in FLOWS if name != "noise" else ["published"]:
            for key, array in RECIPES[name](flow):
                if not np.array_equal(array, arrays.setdefault(key, array)):
                    raise SystemExit(f"{name}: {key} depends on the form of J_ex")
        path = folder / f"brian2-{name}.npz"
        np.savez_compressed(path, **arrays)
        print(f"{path.name}: {path.stat().st_size} bytes, {time.perf_counter() - began:.0f} s")


# -- benchmark ---------------------------------------------------------------------------------


def constant_input(n: int, dt: float, highest: float) -> tuple[b2.Network, b2.NeuronGroup]:
    """n cells, set of example 2, transmitter from 0 to highest uM over the cells."""
    b2.defaultclock.dt = dt * b2.second
    cells = astrocytes(n, cell("published"), ASTROCYTES["ex2"])
    cells.Y = np.linspace(0, highest, n) if n > 1 else highest
    return b2.Network(cells), cells


def build(folder: Path, n: int, dt: float, highest: float, duration: float, threads: int) -> dict:
    """A C++ program of its own, not run yet; where it will leave the final states."""
    b2.set_device("cpp_standalone", build_on_run=False)
    b2.prefs.devices.cpp_standalone.openmp_threads = threads if threads > 1 else 0
    network, cells = constant_input(n, dt, highest)
    network.run(duration * b2.second, namespace={})
    began = time.perf_counter()
    b2.device.build(directory=str(folder), run=False, compile=True)
    files = {name: b2.device.get_array_filename(cells.variables[name]) for name in STATES}
    return {"build": time.perf_counter() - began, "states": files, "version": b2.__version__}


def cython(n: int, dt: float, highest: float, duration: float) -> dict:
    """Seconds of the run in Brian2's runtime mode, code generated before."""
    b2.prefs.codegen.target = "cython"
    network, cells = constant_input(n, dt, highest)
    network.run(dt * b2.second, namespace={})
    wall, cpu = time.perf_counter(), time.process_time()
    network.run(duration * b2.second - dt * b2.second, namespace={})
    seconds = {"wall": time.perf_counter() - wall, "cpu": time.process_time() - cpu}
    return seconds | {"states": [np.asarray(getattr(cells, name)).tolist() for name in STATES]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(dest="command", required=True)
    of_traces = commands.add_parser("traces", help="write reference states into a folder")
    of_traces.add_argument("folder", type=Path)
    of_traces.add_argument("--only", nargs="*", default=[], choices=RECIPES)
    of_build = commands.add_parser("build", help="make a C++ program to time; prints JSON")
    of_build.add_argument("folder", type=Path)
    of_build.add_argument("--threads", type=int, default=1)
    of_cython = commands.add_parser("cython", help="run and time; prints JSON")
    for command in (of_build, of_cython):
        command.add_argument("--cells", type=int, default=10_000)
        command.add_argument("--dt", type=float, default=0.001, help="s")
        command.add_argument("--highest", type=float, default=1.0, help="transmitter, uM")
        command.add_argument("--duration", type=float, default=60.0, help="s")
    args = parser.parse_args()
    if args.command == "traces":
        traces(args.folder, args.only)
        return
    timed = (args.cells, args.dt, args.highest, args.duration)
    result = build(args.folder, *timed, args.threads) if args.command == "build" else cython(*timed)
    print(json.dumps(result))


if __name__ == "__main__":
    main()
