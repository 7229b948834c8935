"""Coupled terminals and astrocytes: order of events, mass balances, limits, both loops."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.integrate import solve_ivp

from tripartite import astrocyte, circuit, synapse
from tripartite.astrocyte import ASTROCYTES, GLIOTRANSMISSION
from tripartite.circuit import NONE, Circuit, territories
from tripartite.synapse import SYNAPSES

SYNAPSE = SYNAPSES["stimberg2019-ex4"]
CELL = ASTROCYTES["stimberg2019-ex4"]
GLIO = GLIOTRANSMISSION["stimberg2019-ex4"]


def build(n_synapses=1, n_astrocytes=1, listens=True, talks=True, **change):
    wired = territories(n_synapses, n_astrocytes)
    return Circuit(
        change.pop("synapse", SYNAPSE), change.pop("astrocyte", CELL), GLIO, n_synapses,
        n_astrocytes, wired if listens else NONE, wired if talks else NONE, **change,
    )  # fmt: skip


def test_without_gliotransmission_a_terminal_responds_as_it_does_alone():
    spikes = np.array([0.1, 0.15, 0.4, 0.402, 2.0])
    run = circuit.run(build(talks=False), spikes, np.zeros(5, int), 3, 1e-3, record_every=20)
    alone = synapse.respond(spikes, SYNAPSE)
    np.testing.assert_allclose(run.released, alone.released, rtol=1e-12)
    # an event labelled t acts at the end of its step: the cleft lags by one step of dt
    Y = synapse.transmitter(run.times - 1e-3, spikes, alone.released, SYNAPSE)
    np.testing.assert_allclose(run.terminals[:, 2, 0], Y, atol=1e-9 * Y.max())


def test_a_sample_precedes_its_step_and_an_event_acts_at_its_end():
    dt = 1e-3
    run = circuit.run(build(), [0.01], [0], 0.05, dt)
    Y = run.terminals[:, 2, 0]
    np.testing.assert_allclose(run.times, np.arange(51) * dt)
    assert not Y[:11].any()  # sample 10 is the state before the step from 0.010 to 0.011
    jump = SYNAPSE.rho_c * SYNAPSE.Y_T * SYNAPSE.U_0
    assert Y[11] == pytest.approx(jump)
    assert Y[12] == pytest.approx(jump * np.exp(-SYNAPSE.Omega_c * dt))
    Gamma_A = run.cells[:, 0, 0]
    assert not Gamma_A[:12].any() and Gamma_A[12] > 0  # the astrocyte sees Y[11] from then on


def starting(terminal=(0.0, 1.0, 0.0, 0.0), cell=(0.0, 0.1, 0.1, 0.9), store=(1.0, 0.0, False)):
    rows = [[np.array([value]) for value in part] for part in (terminal, cell, store)]
    kinds = (synapse.Terminal, astrocyte.State, astrocyte.Store)
    return circuit.Circumstance(*(kind(*part) for kind, part in zip(kinds, rows, strict=True)))


@pytest.fixture(scope="module")
def releasing():
    """A terminal that never fires, on an astrocyte driven by a pipette."""
    return circuit.run(build(listens=False), [], [], 9, 1e-3, I_bias=1.0, hold="mean")


def test_a_release_carries_the_label_of_the_step_in_which_calcium_crossed(releasing):
    run = releasing
    C, G, x = run.cells[:, 2, 0], run.stores[:, 1, 0], run.stores[:, 0, 0]
    crossed = np.flatnonzero((C[1:] > GLIO.C_Theta) & (C[:-1] <= GLIO.C_Theta))
    assert len(crossed) >= 1
    np.testing.assert_allclose(run.releases, run.times[crossed])
    first = crossed[0]
    assert G[first] == 0 and G[first + 1] == pytest.approx(GLIO.rho_e * GLIO.G_T * GLIO.U_A)
    assert x[first + 1] == pytest.approx(1 - GLIO.U_A)
    Gamma_S = run.terminals[:, 3, 0]
    assert Gamma_S[first + 1] == 0 and Gamma_S[first + 2] > 0


def test_receptors_after_one_pulse_match_their_closed_form(releasing):
    """G decays from G_0: binding alone leaves 1 - exp(-O_G G_0 / Omega_e); unbinding is slow."""
    end = round(releasing.releases[0] / 1e-3) + 1 + 200  # 0.2 s later nothing of G is left
    G_0 = GLIO.rho_e * GLIO.G_T * GLIO.U_A
    bound = 1 - np.exp(-SYNAPSE.O_G * G_0 / GLIO.Omega_e)
    # of what is bound, less than Omega_G * 0.2 s leaves
    assert releasing.terminals[end, 3, 0] == pytest.approx(bound, rel=SYNAPSE.Omega_G * 0.2)


def test_an_open_loop_astrocyte_is_an_astrocyte_alone(releasing):
    alone = astrocyte.trace(CELL, releasing.times[::1000], I_bias=1.0)
    np.testing.assert_allclose(releasing.cells[::1000, :, 0], np.array(alone).T, atol=1e-6)


def test_a_release_binds_what_its_gliotransmitter_lasts_for():
    """Receptors that hardly unbind, bound step by step while gliotransmitter is cleared."""
    terminal, bound = replace(SYNAPSE, Omega_G=1e-9), np.zeros(1)
    dt = 40 / GLIO.Omega_e / 4000
    for k in range(4000):
        G = GLIO.rho_e * GLIO.G_T * GLIO.U_A * np.exp(-GLIO.Omega_e * (k + 0.5) * dt)
        bound = synapse.bind(bound, dt, terminal, np.array([G]))
    assert -np.log1p(-bound)[0] == pytest.approx(circuit.event_binding(terminal, GLIO), rel=1e-4)


def test_both_ways_to_hold_converge_to_the_continuous_circuit():
    """Where nothing talks back, Y is known in closed form, and LSODA does the rest."""
    spikes = np.arange(0.2, 2, 0.3)
    who = np.zeros(len(spikes), int)
    weak = replace(SYNAPSE, rho_c=0.0005)  # so that receptors are not saturated
    open_ended = build(talks=False, synapse=weak)
    released = synapse.respond(spikes, weak).released
    times = np.array([0.0, 1.0, 2.0])

    def Y(t):
        return float(synapse.transmitter(np.array([t]), spikes, released, weak)[0])

    exact = np.array(astrocyte.trace(CELL, times, Y=Y, breaks=spikes, rtol=1e-8, atol=1e-10))
    errors = {}
    for hold in ("start", "mean"):
        for dt in (4e-3, 2e-3, 1e-3):
            run = circuit.run(open_ended, spikes, who, 2, dt, hold=hold, record_every=round(1 / dt))
            errors[hold, dt] = np.abs(run.cells[:, :, 0].T - exact).max()
    for hold in ("start", "mean"):  # events wait for the end of their step: first order in dt
        order = np.log2(errors[hold, 4e-3] / errors[hold, 1e-3]) / 2
        assert 0.8 < order < 1.3, (hold, order)
    assert errors["mean", 1e-3] < 0.5 * errors["start", 1e-3]


def test_astrocyte_steps_may_be_longer_than_those_of_terminals():
    spikes, who = synapse.poisson(3.0, 4, 6, 1e-3, seed=2)
    fine, coarse = (
        circuit.run(build(4), spikes, who, 6, 1e-3, hold="mean", cell_every=every,
                    record_every=1500 // every)
        for every in (1, 3)
    )  # fmt: skip
    np.testing.assert_allclose(fine.times, coarse.times)
    assert len(fine.releases) == len(coarse.releases) > 0
    np.testing.assert_allclose(fine.releases, coarse.releases, atol=0.01)
    np.testing.assert_allclose(fine.cells[:, 2], coarse.cells[:, 2], atol=0.005)


def test_transmitter_of_all_spikes_is_cleared():
    spikes, who = synapse.poisson(5.0, 3, 2, 1e-3, seed=0)
    run = circuit.run(build(3), spikes, who, 2.5, 1e-3)
    kept = np.exp(-SYNAPSE.Omega_c * 1e-3)
    cleared = (run.terminals[:-1, 2] * (1 - kept)).sum(axis=0) + run.terminals[-1, 2]
    put_in = SYNAPSE.rho_c * SYNAPSE.Y_T * np.bincount(who, run.released, 3)
    np.testing.assert_allclose(cleared, put_in, rtol=1e-10)


def test_pooling_sums_or_averages_over_a_territory():
    Y = np.array([1.0, 2.0, 4.0, 8.0, 16.0, 32.0])
    np.testing.assert_allclose(circuit.pool(build(6, 2), Y), [7, 56])
    np.testing.assert_allclose(circuit.pool(build(6, 2, pooling="mean"), Y), [7 / 3, 56 / 3])
    np.testing.assert_allclose(circuit.pool(build(6, 2, listens=False), Y), 0)
    np.testing.assert_allclose(circuit.spread(build(6, 2), np.array([1.0, 5.0])), [1] * 3 + [5] * 3)
    both = replace(build(1, 2), talks=np.array([[0, 0], [0, 1]]))
    assert circuit.spread(both, np.array([1.0, 5.0])) == 6  # a terminal adds its astrocytes up


def test_equal_terminals_on_one_astrocyte_stay_equal_and_a_silent_one_is_modulated():
    spikes = np.repeat(np.arange(0.1, 8, 0.1), 3)
    who = np.tile([0, 1, 2], len(spikes) // 3)
    shared = build(4, pooling="mean")
    run = circuit.run(shared, spikes, who, 8, 1e-3, cell_every=5, record_every=20)
    np.testing.assert_array_equal(run.terminals[..., 0], run.terminals[..., 2])
    Gamma_S = run.terminals[:, 3]
    assert Gamma_S[-1, 3] > 0.5 and not run.terminals[:, 2, 3].any()  # it never fired
    np.testing.assert_array_equal(Gamma_S[:, 3], Gamma_S[:, 0])


def test_receptors_pull_release_towards_alpha():
    spikes = np.arange(0.1, 30, 0.5)
    who = np.zeros(len(spikes), int)
    run = {
        alpha: circuit.run(
            build(listens=False, synapse=replace(SYNAPSE, alpha=alpha)),
            spikes, who, 30, 2e-3, I_bias=1.0, cell_every=20, record_every=100,
        )
        for alpha in (0.0, SYNAPSE.U_0, 1.0)
    }  # fmt: skip
    released = {alpha: r.released[-20:].mean() for alpha, r in run.items()}
    assert released[0.0] < 0.5 * released[SYNAPSE.U_0] < 0.5 * released[1.0] * 1.01
    untouched = circuit.run(build(listens=False, talks=False), spikes, who, 30, 2e-3, cell_every=20)
    np.testing.assert_allclose(run[SYNAPSE.U_0].released, untouched.released, rtol=1e-12)


def test_a_run_resumes_from_where_another_ended():
    spikes, who = synapse.poisson(8.0, 2, 4, 1e-3, seed=5)
    whole = circuit.run(build(2), spikes, who, 4, 1e-3, record_every=4000)
    early = spikes < 2
    first = circuit.run(build(2), spikes[early], who[early], 2, 1e-3)
    second = circuit.run(build(2), spikes[~early] - 2, who[~early], 2, 1e-3, start=first.final)
    np.testing.assert_allclose(second.final.cell, whole.final.cell, atol=1e-12)
    np.testing.assert_allclose(np.r_[first.released, second.released], whole.released, atol=1e-12)


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"spikes": [0.2, 0.1]}, "in order"),
        ({"spikes": [0.1, np.nan]}, "finite"),
        ({"spikes": [-0.1, 0.1]}, "at least 0"),
        ({"spikes": [0.1, 0.1]}, "fires twice in the step at 0.1 s"),
        ({"spikes": [0.1, 1e9]}, "not before the end"),
        ({"spike_synapse": [0, 7]}, "spike_synapse: must be terminals, 0 to 0"),
        ({"spike_synapse": [0, -1]}, "spike_synapse"),
        ({"spike_synapse": [0]}, "must both be"),
        ({"dt": 0.2}, "dt = 0.2 s: must be at most"),
        ({"dt": 1e-3, "cell_every": 20}, "dt = 0.02 s: must be at most"),
        ({"dt": -1.0}, "dt = -1"),
        ({"duration": 0.0}, "duration = 0"),
        ({"cell_every": 0}, "cell_every = 0"),
        ({"hold": "middle"}, "hold = 'middle'"),
        ({"I_bias": -1.0}, "I_bias = -1"),
        ({"I_bias": np.nan}, "I_bias = nan"),
        ({"I_bias": np.ones(2)}, "I_bias has shape (2,)"),
        ({"start": starting(cell=[0.0, 0.1, -0.1, 0.9])}, "start.cell.C = [-0.1]"),
        ({"start": starting(terminal=[0.0, 1.5, 0.0, 0.0])}, "start.terminal.x = [1.5]"),
        ({"start": starting(terminal=[0.0, 1.0, np.nan, 0.0])}, "start.terminal.Y = [nan]"),
        ({"start": starting(store=[1.0, -3.0, False])}, "start.store.G = [-3.]"),
        ({"start": circuit.at_rest(build(2))}, "start.terminal.u has shape (2,): must be (1,)"),
    ],
)
def test_bad_input_is_refused_before_the_first_step(change, word):
    arguments = {"spikes": [0.1, 0.2], "spike_synapse": [0, 0], "duration": 1e6, "dt": 1e-3}
    with pytest.raises(ValueError) as error:  # a run of 1e6 s would not end
        circuit.run(build(), **(arguments | change))
    assert word in str(error.value)


def test_a_step_that_piled_up_spikes_make_unstable_is_refused():
    """One spike passes the check at the start; ten terminals at once do not."""
    with pytest.raises(ValueError, match="unstable"):
        circuit.run(build(10), [0.1] * 10, range(10), 1, 5e-3)


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"listens": np.array([[0, 1]])}, "listens: must be at least 0 and below 1 and 1"),
        ({"listens": np.array([[0, 0], [0, 0]])}, "listens: 0 and 0 are paired more than once"),
        ({"gaps": np.array([[0, 0]])}, "gaps: must join two different"),
        ({"talks": np.array([[0.5, 0.0]])}, "talks"),
        ({"gaps": np.array([0, 1])}, "gaps has shape"),
        ({"pooling": "median"}, "pooling = 'median'"),
        ({"n_synapses": 0}, "n_synapses = 0"),
    ],
)
def test_impossible_wiring_is_refused(change, word):
    with pytest.raises(ValueError, match=word):
        replace(build(), **change)


def continuous_loop(spikes, times):
    """One terminal and its astrocyte in continuous time, solved from event to event by DOP853.

    Equations and numbers of example 4 once more, none of them ours. Returns calcium at times,
    when gliotransmitter was released, and what every spike released.
    """

    def slope(t, y):
        u, x, Y, bound, Gamma, I, C, h, x_A, G = y
        m, stored = I / (I + 0.13) * C / (C + 0.08), 2 - 1.18 * C
        J_delta = 0.6 / (1 + I / 1.5) * C**2 / (C**2 + 0.1**2)
        J_3K = 4.5 * C**4 / (C**4 + 0.7**4) * I / (I + 1)
        J_ex = -2 / 2 * (1 + np.tanh((abs(I) - 0.3) / 0.05)) * np.sign(I)
        Q = 1.05 * (I + 0.13) / (I + 0.9434)
        return [
            -3.33 * u,
            2 * (1 - x),
            -40 * Y,
            1.5 * G * (1 - bound) - 0.5 / 60 * bound,
            0.3 * Y * (1 - Gamma) - 0.5 * (1 + 10 * C / (C + 0.5)) * Gamma,
            3.2 * Gamma + J_delta - J_3K - 0.05 * I + J_ex,
            (6 * (m * h) ** 3 + 0.1) * stored - 0.9 * C**2 / (C**2 + 0.05**2),
            0.2 * (Q - (Q + C) * h),
            0.6 * (1 - x_A),
            -60 * G,
        ]

    def crossing(t, y):
        return y[6] - 0.5

    crossing.terminal, crossing.direction = True, 1
    y, t = np.array([0, 1, 0, 0, 0, 0.01, 0.01, 0.9, 1, 0.0]), 0.0
    calcium, releases, released = np.empty(len(times)), [], []
    for end in [*spikes, times[-1]]:
        while t < end:
            # a crossing just found is not looked for again
            armed = crossing if y[6] < 0.5 - 1e-9 else None
            part = solve_ivp(
                slope, (t, end), y, "DOP853", dense_output=True, events=armed, rtol=1e-8, atol=1e-10
            )
            stretch = (times >= t) & (times <= part.t[-1])
            calcium[stretch] = part.sol(times[stretch])[6]
            y, t = part.y[:, -1].copy(), part.t[-1]
            if part.status == 1:
                releases.append(t)
                y[9] += 6.5e-4 * 200e3 * 0.6 * y[8]
                y[8] *= 1 - 0.6
        if end in spikes:
            y[0] += (1 - y[3]) * 0.6 * (1 - y[0])
            released.append(y[0] * y[1])
            y[1] -= released[-1]
            y[2] += 0.005 * 500e3 * released[-1]
    return calcium, np.array(releases), np.array(released)


def test_a_closed_loop_converges_to_continuous_time():
    spikes = np.array([0.2, 0.5, 0.8, 1.1, 1.4, 3.0, 4.5])
    times = np.arange(0, 5.0001, 0.02)
    calcium, releases, released = continuous_loop(spikes, times)
    assert len(releases) == 1 and released[-1] < 0.3 * released[0]  # and the loop acts
    start = circuit.at_rest(build(), [[0.0], [0.01], [0.01], [0.9]])
    late = {}
    for dt in (1e-3, 5e-4):
        run = circuit.run(
            build(), spikes, np.zeros(7, int), 5, dt, start=start, hold="mean",
            record_every=round(0.02 / dt),
        )  # fmt: skip
        late[dt] = [np.abs(run.cells[:, 2, 0] - calcium).max(),
                    np.abs(run.released - released).max()]  # fmt: skip
        # spike and release both wait for the end of their step
        np.testing.assert_allclose(run.releases + dt, releases, atol=3 * dt)
    assert np.all(np.array(late[1e-3]) < [0.005, 0.001]), late
    orders = np.log2(np.array(late[1e-3]) / late[5e-4])
    assert np.all(orders > 0.7), orders


@pytest.mark.parametrize("hold", ["start", "mean"])
def test_a_step_sees_the_other_side_as_it_was_before_the_step(hold):
    """Transmitter and gliotransmitter of the start of a step, or their means over it."""
    dt, Y, G = 2e-3, 3.0, 0.5
    start = starting(terminal=(0.0, 1.0, Y, 0.1), store=(1.0, G, False))
    after = circuit.run(build(), [], [], dt, dt, start=start, hold=hold).final
    of_Y, of_G = ((1 - np.exp(-rate * dt)) / (rate * dt) for rate in (40.0, 60.0))
    G_held, Y_held = (G, Y) if hold == "start" else (G * of_G, Y * of_Y)
    rate = 1.5 * G_held + 0.5 / 60  # of binding and unbinding
    bound = 1.5 * G_held / rate
    assert after.terminal.Gamma[0] == pytest.approx(bound + (0.1 - bound) * np.exp(-rate * dt))
    expected = astrocyte.step(start.cell, dt, CELL, Y_held)
    np.testing.assert_allclose(np.array(after.cell), np.array(expected), rtol=1e-12)


def test_spikes_whose_times_are_running_sums_fall_into_their_own_steps():
    """0.1 + 0.1 + ... comes out a little below a multiple of 0.1, as often as not."""
    n, dt = 36_000, 1e-3
    times = np.cumsum(np.full(n, dt))
    assert np.sum(times / dt < np.arange(1, n + 1)) > 1000
    one = Circuit(SYNAPSE, CELL, GLIO, 1, 1)
    _, first = circuit._bin(times, np.zeros(n), one, n + 1, dt)
    np.testing.assert_array_equal(np.diff(first), np.r_[0, np.ones(n)])
