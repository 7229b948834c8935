"""What Brian 2 makes of `tripartite.export`: states that our integrators are tested against.

    _build/peers/brian2/bin/python tests/peers/brian2_export_peer.py

Needs the packages of brian2-requirements.txt in an environment of its own (`environment.py brian2`).
Takes equations and values from the module, and nothing else: the integrators are Brian 2's. Writes
data/reference_states/brian2-export.npz with all inputs; concentrations in uM, times in s.
"""

import json
import sys
from pathlib import Path

import brian2 as b2
import numpy as np

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "code"))

from tripartite import export  # noqa: E402
from tripartite.astrocyte import ASTROCYTES, GLIOTRANSMISSION  # noqa: E402
from tripartite.dynamics import Times  # noqa: E402
from tripartite.synapse import SYNAPSES  # noqa: E402

STATES, BOUTON = ("Gamma_A", "I", "C", "h"), ("u_S", "x_S", "Y_S", "Gamma_S")
UNITS = {"umolar": b2.umolar, "second": b2.second}
CONCENTRATIONS = {"I", "C", "Y_S", "G_A"}
CELLS = {
    "stimberg2019-ex2": [0.0, 0.05, 0.3, 2.0],
    "stimberg2019-ex4": [4.0, 8.0, 20.0],
    "stimberg2019-ex3": [0.0],
    "depitta2009-am-glutamate": [0.0, 0.1, 2.5],
}
TIMES = Times(T=0.3, tau_h=0.03, tau_l=0.05, tau_p=0.12, leak_H=0.4, leak_g=1.3)
b2.prefs.codegen.target = "cython"


def cells(n, p, **options):
    made = {"namespace": export.namespace(p, **UNITS), "method": "rk4"} | options
    group = b2.NeuronGroup(n, export.astrocyte(p).equations, **made)
    group.h = 0.9
    return group


def seen(monitor, names):
    """(records, rows, cells), concentrations in uM."""
    return np.stack([
        np.asarray(getattr(monitor, k) / (b2.umolar if k in CONCENTRATIONS else 1)).T for k in names
    ], axis=1)  # fmt: skip


def alone():
    """Cells at constant transmitter, 20 s."""
    for name, Y in CELLS.items():
        b2.start_scope()
        b2.defaultclock.dt = 1 * b2.ms
        group = cells(len(Y), ASTROCYTES[name])
        group.Y, group.I_bias = Y * b2.umolar, 0.5 * b2.umolar
        monitor = b2.StateMonitor(group, STATES, record=True, dt=0.5 * b2.second)
        b2.Network(group, monitor).run(20.001 * b2.second, namespace={})
        yield f"{name}.Y", np.array(Y)
        yield f"{name}.states", seen(monitor, STATES)


def ring(dt):
    """Six cells in a ring, the first with a pipette, 20 s in steps of dt ms: first order in it."""
    b2.start_scope()
    b2.defaultclock.dt = dt * b2.ms
    p = ASTROCYTES["stimberg2019-ex5"]
    group = cells(6, p)
    group.I_bias[0] = 1 * b2.umolar
    junctions = b2.Synapses(group, group, export.gaps().equations,
                            namespace=export.namespace(p, **UNITS))  # fmt: skip
    junctions.connect("j == (i + 1) % 6 or i == (j + 1) % 6")
    monitor = b2.StateMonitor(group, STATES, record=True, dt=0.5 * b2.second)
    b2.Network(group, junctions, monitor).run((20 + 1e-3 * dt) * b2.second, namespace={})
    return seen(monitor, STATES)


def loop(pooling):
    """Three terminals, one astrocyte and its store in a closed loop, 10 s in steps of 1 ms."""
    b2.start_scope()
    b2.defaultclock.dt = 1 * b2.ms
    p, g = SYNAPSES["stimberg2019-ex4"], GLIOTRANSMISSION["stimberg2019-ex4"]
    rng = np.random.default_rng(5)
    step = np.sort(rng.choice(9900, (3, 90), replace=False), axis=1)
    spikes, who = step.ravel(), np.repeat(np.arange(3), 90)
    order = np.argsort(spikes)
    spikes, who = 1e-3 * spikes[order], who[order]
    source = b2.SpikeGeneratorGroup(3, who, spikes * b2.second)
    target = b2.NeuronGroup(1, "")
    model = export.terminal()
    terminals = b2.Synapses(
        source, target, model.equations, on_pre=model.on_pre, method="exact",
        namespace=export.namespace(p, **UNITS),
    )  # fmt: skip
    terminals.connect()
    terminals.x_S = 1
    cell = cells(1, ASTROCYTES["stimberg2019-ex4"])
    cell.I, cell.C = 0.3 * b2.umolar, 0.1 * b2.umolar
    model = export.store()
    store = b2.NeuronGroup(
        1, model.equations, threshold=model.threshold, refractory=model.refractory,
        reset=model.reset, method="exact", order=1, namespace=export.namespace(g, **UNITS),
    )  # fmt: skip
    store.x_A, store.C = 1, b2.linked_var(cell, "C")
    listen = b2.Synapses(terminals, cell, export.listen(pooling).equations)
    talk = b2.Synapses(store, terminals, export.talk().equations)
    listen.connect()
    talk.connect()
    every = 0.1 * b2.second
    of_terminals = b2.StateMonitor(terminals, BOUTON, record=True, dt=every)
    of_cell = b2.StateMonitor(cell, STATES, record=True, dt=every)
    of_store = b2.StateMonitor(store, ("x_A", "G_A"), record=True, dt=every)
    releases = b2.SpikeMonitor(store)
    parts = [source, target, terminals, cell, store, listen, talk]
    b2.Network(*parts, of_terminals, of_cell, of_store, releases).run(
        10.001 * b2.second, namespace={}
    )
    yield "loop.spikes", spikes
    yield "loop.who", who
    yield f"loop.{pooling}.terminals", seen(of_terminals, BOUTON)
    yield f"loop.{pooling}.cells", seen(of_cell, STATES)
    yield f"loop.{pooling}.stores", seen(of_store, ("x_A", "G_A"))
    yield f"loop.{pooling}.releases", np.asarray(releases.t / b2.second)


def stimulus():
    """Three tokens written and two read, five hidden and two output neurons."""
    rng = np.random.default_rng(6)
    return {
        "phi": rng.uniform(0.2, 1.2, (5, 5)), "u": rng.normal(size=(5, 2)),
        "w": np.array([1.0, 1.0, 1.0, 0.0, 0.0]), "r": np.array([0.0, 0.0, 0.0, 1.0, 1.0]),
    }  # fmt: skip


def network(dt):
    """The network in continuous time in steps of dt ms, at the end of every token."""
    b2.start_scope()
    b2.defaultclock.dt = dt * b2.ms
    given = {k: b2.TimedArray(x, dt=TIMES.T * b2.second) for k, x in stimulus().items()}
    inside = {"namespace": export.namespace(TIMES, **UNITS) | given, "method": "rk4"}
    models = {name: model.equations for name, model in export.network().items()}
    hidden = b2.NeuronGroup(5, models["hidden"], **inside)
    output = b2.NeuronGroup(2, models["output"], **inside)
    astrocyte = b2.NeuronGroup(1, models["astrocyte"], **inside)
    astrocyte.P = 1
    output.P = b2.linked_var(astrocyte, "P")
    hebbian = b2.Synapses(hidden, output, models["hebbian"], **inside)
    presynaptic = b2.Synapses(hidden, astrocyte, models["presynaptic"], **inside)
    hebbian.connect()
    presynaptic.connect()
    whole = b2.Network(hidden, output, astrocyte, hebbian, presynaptic)
    by_output = np.lexsort((hebbian.i[:], hebbian.j[:]))
    ends = []
    for _ in range(5):
        whole.run(TIMES.T * b2.second, namespace={})
        parts = hidden.h[:], hebbian.H[:][by_output], presynaptic.g[:], astrocyte.P[:], output.l[:]
        ends.append(np.concatenate([np.array(x) for x in parts]))
    return np.array(ends)


def extrapolated(run, dt):
    """A run in steps of dt, without its errors of first and second order in the step; both errors."""
    one, two, four = run(dt), run(dt / 2), run(dt / 4)
    return one, (one - 6 * two + 8 * four) / 3


def equations():
    """Every exported string that is run here, in JSON."""
    made = {name: export.astrocyte(ASTROCYTES[name]) for name in CELLS}
    made |= {"gaps": export.gaps(), "terminal": export.terminal(), "store": export.store()}
    made |= {"sum": export.listen("sum"), "mean": export.listen("mean"), "talk": export.talk()}
    return json.dumps(made | export.network(), sort_keys=True)


def main():
    arrays = {"equations": np.array(equations()), "version": np.array(b2.__version__)}
    arrays |= dict(alone())
    _, arrays["ring"] = extrapolated(ring, 4.0)
    arrays |= dict(loop("sum")) | dict(loop("mean"))
    arrays |= {f"network.{k}": x for k, x in stimulus().items()}
    arrays["network.coarse"], arrays["network"] = extrapolated(network, 0.5)
    path = ROOT / "data/reference_states/brian2-export.npz"
    np.savez_compressed(path, **arrays)
    print(f"{path.name}: {path.stat().st_size} bytes, Brian 2 {b2.__version__}")


if __name__ == "__main__":
    main()
