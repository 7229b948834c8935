"""The export to Brian 2: its right-hand sides are the module's, and Brian 2 runs them to our states.

`tests/peers/brian2_export_peer.py` made the states; it takes equations and values from the export.
"""

import json
import re
from dataclasses import make_dataclass, replace

import numpy as np
import pytest

from companion.paths import data
from tripartite import astrocyte, circuit, dynamics, export, synapse
from tripartite.astrocyte import ASTROCYTES, GLIOTRANSMISSION
from tripartite.quantities import Quantities, quantity
from tripartite.synapse import SYNAPSES

TERMINAL = SYNAPSES["stimberg2019-ex4"]
RELEASE = GLIOTRANSMISSION["stimberg2019-ex4"]
TIMES = dynamics.Times(T=0.3, tau_h=0.03, tau_l=0.05, tau_p=0.12, leak_H=0.4, leak_g=1.3)
MATHS = {"tanh": np.tanh}


def evaluated(model, given):
    """Every left-hand side of a model's equations, states and namespace as given."""
    lines = [line.split(":")[0] for line in model.equations.strip().split("\n") if "=" in line]
    waiting = [[part.strip() for part in line.split("=", 1)] for line in lines]
    known, made = dict(MATHS) | given, {}
    while waiting:
        left, right = waiting.pop(0)
        needs = set(re.findall(r"[A-Za-z_]\w*", right))
        if needs & {name for name, _ in waiting}:
            waiting.append([left, right])
            continue
        made[left] = known[left] = eval(right, {}, known)
    return made


def done(statements, given):
    """Variables after the statements of a spike or a reset."""
    after = {name: np.copy(value) for name, value in given.items()}
    exec(statements, {}, after)
    return after


def in_uM(*parameters):
    return export.namespace(*parameters, umolar=1.0)


def random_cells(n=200):
    rng = np.random.default_rng(3)
    state = astrocyte.State(*(rng.uniform(0, high, n) for high in (1.0, 2.0, 1.5, 1.0)))
    return state, rng.uniform(0, 10, n), rng.uniform(0, 2, n)


@pytest.mark.parametrize("name", ASTROCYTES)
def test_cells_have_the_rates_of_the_module(name):
    p = ASTROCYTES[name]
    state, Y, bias = random_cells()
    given = {"Gamma_A": state.Gamma, "I": state.I, "C": state.C, "h": state.h}
    given |= {"Y": Y, "I_bias": bias, "J_gap": 0.0}
    found = evaluated(export.astrocyte(p), in_uM(p) | given)
    wanted = astrocyte.rates(state, p, Y, bias)
    for variable, rate in zip(("Gamma_A", "I", "C", "h"), wanted, strict=True):
        there = found.get(f"d{variable}/dt", np.zeros_like(rate))  # Gamma_A without receptors
        np.testing.assert_allclose(there, rate, rtol=1e-12, atol=1e-12)


def test_cells_have_the_same_rates_in_SI_units():
    """A missing or a wrong unit of one parameter would show: concentrations are a thousandth."""
    p = ASTROCYTES["stimberg2019-ex4"]
    state, Y, bias = random_cells()
    given = {"I": state.I, "C": state.C, "Y": Y, "I_bias": bias, "J_gap": Y}
    fractions = {"Gamma_A": state.Gamma, "h": state.h}
    micro = evaluated(export.astrocyte(p), in_uM(p) | given | fractions)
    given = {name: 1e-3 * value for name, value in given.items()}
    whole = evaluated(export.astrocyte(p), export.namespace(p) | given | fractions)
    for name in ("dGamma_A/dt", "dh/dt"):
        np.testing.assert_allclose(whole[name], micro[name], rtol=1e-12)
    for name in ("dI/dt", "dC/dt"):
        np.testing.assert_allclose(whole[name], 1e-3 * micro[name], rtol=1e-9, atol=1e-15)


def test_gap_junctions_carry_what_the_module_carries():
    p = ASTROCYTES["stimberg2019-ex5"]
    I, pairs = np.random.default_rng(4).uniform(0, 2, 9), astrocyte.ring(9)
    both = np.concatenate([pairs, pairs[:, ::-1]])
    flow = evaluated(export.gaps(), in_uM(p) | {"I_pre": I[both[:, 0]], "I_post": I[both[:, 1]]})
    gained = np.bincount(both[:, 1], flow["J_gap_post"], 9)
    np.testing.assert_allclose(gained, astrocyte.coupling(I, pairs, p), rtol=1e-12, atol=1e-15)


def relaxed(model, given, name, dt):
    """The exact solution after dt, of an equation that is linear in its own variable."""
    x, rate = given[name], evaluated(model, given)[f"d{name}/dt"]
    slope = evaluated(model, given | {name: x + 1})[f"d{name}/dt"] - rate
    return x + rate * np.expm1(slope * dt) / slope


def test_terminals_relax_and_fire_as_the_module_says():
    rng = np.random.default_rng(5)
    u, x, gamma = rng.uniform(0, 1, (3, 50))
    Y, G = rng.uniform(0, 1000, (2, 50))
    p = replace(TERMINAL, alpha=0.3)
    given = in_uM(p) | {"u_S": u, "x_S": x, "Y_S": Y, "Gamma_S": gamma, "G_S": G}
    state = synapse.Terminal(u, x, Y, gamma)
    later = synapse.relax(state, 0.02, p, G)
    after, released = synapse.fire(state, p)
    spiked = done(export.terminal().on_pre, given)
    for name, wanted, fired in zip(("u_S", "x_S", "Y_S", "Gamma_S"), later, after, strict=True):
        found = relaxed(export.terminal(), given, name, 0.02)
        np.testing.assert_allclose(found, wanted, rtol=1e-10, atol=1e-12)
        np.testing.assert_allclose(spiked[name], fired, rtol=1e-14)
    np.testing.assert_allclose(spiked["r_S"], released, rtol=1e-14)


def test_stores_recycle_and_release_as_the_module_says():
    C, x, G = np.random.default_rng(6).uniform(0, 1, (3, 50))
    given = in_uM(RELEASE) | {"x_A": x, "G_A": G, "C": C}
    store = astrocyte.Store(x, G, np.zeros(50, bool))
    later = astrocyte.recycle(store, 0.02, RELEASE)
    for name, wanted in (("x_A", later.x), ("G_A", later.G)):
        np.testing.assert_allclose(relaxed(export.store(), given, name, 0.02), wanted, rtol=1e-10)
    after, released = astrocyte.exocytose(store, C, RELEASE)
    np.testing.assert_array_equal(eval(export.store().threshold, {}, given), released)
    reset = done(export.store().reset, given)
    np.testing.assert_allclose(np.where(released, reset["x_A"], x), after.x, rtol=1e-14)
    np.testing.assert_allclose(np.where(released, reset["G_A"], G), after.G, rtol=1e-14)


def test_the_network_has_the_rates_of_the_module():
    rng = np.random.default_rng(7)
    h, g, l, H = (rng.normal(size=shape) for shape in (5, 5, 2, (2, 5)))
    P, now = 0.7, dynamics.Stimulus(rng.normal(size=5), rng.normal(size=2), 0.8, 0.6)
    wanted = dynamics.rates(dynamics.State(h, H, g, np.array(P), l), now, TIMES)
    models, t = export.network(), 0.0
    stimulus = {"w": lambda t: 0.8, "r": lambda t: 0.6, "t": t, "i": None}
    stimulus |= {"phi": lambda t, i: now.hidden, "u": lambda t, i: now.output}
    given = in_uM(TIMES) | stimulus
    hebbian = evaluated(models["hebbian"], given | {"H": H, "h_pre": h[None], "l_post": l[:, None]})
    presynaptic = evaluated(models["presynaptic"], given | {"g": g, "h_pre": h})
    sums = {"drive": hebbian["drive_post"].sum(1), "p": presynaptic["p_post"].sum(), "P": P}
    found = dynamics.State(
        evaluated(models["hidden"], given | {"h": h})["dh/dt"],
        hebbian["dH/dt"],
        presynaptic["dg/dt"],
        evaluated(models["astrocyte"], given | sums)["dP/dt"],
        evaluated(models["output"], given | sums | {"l": l})["dl/dt"],
    )
    for name, mine, theirs in zip(found._fields, found, wanted, strict=True):
        np.testing.assert_allclose(mine, theirs, rtol=1e-12, atol=1e-12, err_msg=name)


def test_two_sets_may_not_disagree_about_a_name():
    assert export.namespace(TERMINAL, RELEASE, umolar=1.0)["G_T"] == RELEASE.G_T
    other = replace(TERMINAL, U_0=0.4)
    with pytest.raises(ValueError, match=r"U_0: 0\.6 in one set, 0\.4 in another"):
        export.namespace(TERMINAL, other)
    with pytest.raises(ValueError, match="pooling"):
        export.listen("most")


def test_every_unit_has_its_size_in_SI():
    units = ("1", "uM", "s", "1/s", "uM/s", "1/(uM s)")
    fields = [(f"x{k}", float, quantity(unit, "a number")) for k, unit in enumerate(units)]
    made = make_dataclass("Made", fields, bases=(Quantities,), frozen=True)(*[2.0] * len(units))
    assert list(export.namespace(made).values()) == [2.0, 2e-3, 2.0, 2.0, 2e-3, 2e3]
    sizes = export.namespace(made, umolar=3.0, second=7.0).values()
    assert list(sizes) == pytest.approx([2, 6, 14, 2 / 7, 6 / 7, 2 / 21])


# -- states that Brian 2 computed from the exported text -------------------------------------------


@pytest.fixture(scope="module")
def theirs():
    return np.load(data("reference_states/brian2-export.npz"))


def test_the_states_are_those_of_the_text_exported_now(theirs):
    kept = json.loads(str(theirs["equations"]))
    made = {name: export.astrocyte(ASTROCYTES[name]) for name in ASTROCYTES if name in kept}
    made |= {"gaps": export.gaps(), "terminal": export.terminal(), "store": export.store()}
    made |= {"sum": export.listen("sum"), "mean": export.listen("mean"), "talk": export.talk()}
    made |= export.network()
    assert kept == {name: list(model) for name, model in made.items()}


def test_cells_alone_run_to_our_states(theirs):
    """Order 4 at 1 ms there, order 5 at 20 ms here."""
    names = [name.removesuffix(".states") for name in theirs if name.endswith(".states")]
    assert len(names) == 4
    for name in names:
        p, Y = ASTROCYTES[name], theirs[f"{name}.Y"]
        ours = astrocyte.simulate(
            p, astrocyte.at_rest(len(Y)), 20.0, 0.02, Y=Y, I_bias=0.5,
            method="tsit5", record_every=25,
        ).states  # fmt: skip
        if p.K_R:
            ours[:, 0] = astrocyte.bound(Y, ours[:, 2], p)  # no state of ours
        np.testing.assert_allclose(ours, theirs[f"{name}.states"], atol=5e-6, err_msg=name)


def test_coupled_cells_run_to_our_states(theirs):
    """Brian 2 holds what neighbours send over a step; extrapolated to steps of zero."""
    bias = np.where(np.arange(6) == 0, 1.0, 0.0)
    run = astrocyte.simulate(
        ASTROCYTES["stimberg2019-ex5"], astrocyte.at_rest(6), 20.0, 0.01, I_bias=bias,
        pairs=astrocyte.ring(6), record_every=50,
    )  # fmt: skip
    np.testing.assert_allclose(run.states, theirs["ring"], atol=1e-6)


@pytest.mark.parametrize("pooling", ["sum", "mean"])
def test_a_closed_loop_runs_to_our_states(theirs, pooling):
    wired = circuit.Circuit(
        TERMINAL, ASTROCYTES["stimberg2019-ex4"], RELEASE, 3, 1, pooling=pooling,
        listens=circuit.territories(3, 1), talks=circuit.territories(3, 1),
    )  # fmt: skip
    start = circuit.at_rest(wired, [[0.0], [0.3], [0.1], [0.9]])
    ours = circuit.run(
        wired, theirs["loop.spikes"], theirs["loop.who"], 10.0, 1e-3, start=start, record_every=100
    )
    assert len(ours.releases) > 0
    np.testing.assert_allclose(ours.releases, theirs[f"loop.{pooling}.releases"], atol=1e-9)
    for name in ("terminals", "cells", "stores"):
        found = theirs[f"loop.{pooling}.{name}"]
        np.testing.assert_allclose(getattr(ours, name), found, rtol=1e-7, atol=1e-8, err_msg=name)


def test_the_network_runs_to_our_states(theirs):
    """Sums are held over a step there, so steps of 0.5 ms are off; extrapolated, they are not."""
    stimulus = dynamics.Stimulus(*(theirs[f"network.{k}"] for k in ("phi", "u", "w", "r")))
    states = dynamics.trajectory(dynamics.rest(stimulus), stimulus, TIMES, 600, every=600)
    ours = np.array([np.concatenate([np.ravel(x) for x in state]) for state in states])
    np.testing.assert_allclose(theirs["network"], ours, atol=1e-7)
    off = np.abs(theirs["network.coarse"] - ours).max()
    assert 1e-4 < off < 0.05, off
