"""The presynaptic terminal against its differential equations, closed forms and mass balances."""

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.integrate import quad, solve_ivp

from tripartite import synapse
from tripartite.synapse import SYNAPSES, Terminal

P = SYNAPSES["stimberg2019-ex3"]


def test_relaxation_solves_the_differential_equations():
    G = 0.02

    def slope(t, y):
        u, x, Y, Gamma = y
        bound = P.O_G * G * (1 - Gamma) - P.Omega_G * Gamma
        return [-P.Omega_f * u, P.Omega_d * (1 - x), -P.Omega_c * Y, bound]

    start = [0.7, 0.2, 900.0, 0.4]
    exact = solve_ivp(slope, (0, 0.3), start, method="DOP853", rtol=1e-12, atol=1e-14).y[:, -1]
    ours = synapse.relax(Terminal(*np.array(start)), 0.3, P, G)
    np.testing.assert_allclose(ours, exact, rtol=1e-10)  # two decades above the solver's


def test_a_spike_acts_in_the_published_order():
    """U_0 from the receptors, then u, then release with the new u, then x and Y: by hand."""
    p = replace(P, alpha=1.0)
    before = Terminal(np.array([0.1]), np.array([0.5]), np.array([3.0]), np.array([0.25]))
    after, released = synapse.fire(before, p)
    U = 0.75 * 0.6 + 0.25 * 1.0
    u = 0.1 + U * 0.9
    assert released == pytest.approx(u * 0.5)
    assert after.u == pytest.approx(u)
    assert after.x == pytest.approx(0.5 - u * 0.5)
    assert after.Y == pytest.approx(3.0 + 0.005 * 5e5 * u * 0.5)
    assert after.Gamma == 0.25


@given(
    rate=st.floats(0.05, 200), U_0=st.floats(0.02, 1), alpha=st.floats(0, 1), Gamma=st.floats(0, 1)
)
def test_long_regular_trains_end_in_the_stationary_response(rate, U_0, alpha, Gamma):
    p = replace(P, U_0=U_0, alpha=alpha)
    spikes = (1 + np.arange(int(20 * rate + 60))) / rate  # 20 s: forty times the slowest memory
    ours = synapse.respond(spikes, p, Gamma)
    expected = synapse.stationary(rate, p, Gamma)
    np.testing.assert_allclose([row[-1] for row in ours], expected, atol=1e-9)


@pytest.mark.parametrize("Gamma", [0.0, 0.6])
def test_the_mean_field_is_near_poisson_trains_and_above_them(Gamma):
    rng = np.random.default_rng(0)
    for rate in (0.3, 3.0, 30.0):
        spikes = np.cumsum(rng.exponential(1 / rate, 20_000))
        released = synapse.respond(spikes, P, Gamma).released[100:]
        error = synapse.mean_field(rate, P, Gamma) / released.mean() - 1
        noise = 4 * released.std() / released.mean() / np.sqrt(len(released))
        assert -noise < error < 0.05 + noise
    assert synapse.mean_field(1e-9, P, Gamma) == pytest.approx(0.6 * (1 - Gamma), rel=1e-6)


def test_fast_trains_release_as_fast_as_vesicles_recover():
    """Release per second tends to Omega_d whatever U_0: Tsodyks and Markram 1997."""
    rate = 1e5
    for U_0 in (0.05, 0.6):
        per_second = rate * synapse.stationary(rate, replace(P, U_0=U_0)).released
        assert per_second == pytest.approx(P.Omega_d, rel=1e-3)  # next order is Omega_d / rate


def test_all_transmitter_is_cleared():
    """Mass balance: the integral of Omega_c Y is what was released."""
    spikes = np.array([0.01, 0.05, 0.3, 0.31])
    released = synapse.respond(spikes, P).released
    pieces = [*spikes, 2.0]
    area = sum(
        quad(lambda t: synapse.transmitter(np.array([t]), spikes, released, P)[0], a, b)[0]
        for a, b in zip(pieces[:-1], pieces[1:], strict=True)
    )
    assert P.Omega_c * area == pytest.approx(P.rho_c * P.Y_T * released.sum(), rel=1e-7)  # quad's


def test_a_sample_at_a_spike_precedes_it():
    spikes = np.array([0.5, 1.0])
    Y = synapse.transmitter(np.array([0.2, 0.5, np.nextafter(0.5, 1)]), spikes, 1.0, P)
    np.testing.assert_allclose(Y, [0, 0, P.rho_c * P.Y_T])


def test_no_spike_no_transmitter():
    assert not synapse.transmitter(np.linspace(0, 1, 5), np.array([]), 1.0, P).any()
    assert synapse.respond([], P).released.shape == (0,)


def test_exposure_gives_the_mean_transmitter_of_a_long_train():
    rate, p = 4.0, replace(P, U_0=0.3)
    spikes = (1 + np.arange(400)) / rate
    released = synapse.respond(spikes, p).released
    times = np.linspace(50, 100, 200_001)[:-1]
    mean = synapse.transmitter(times, spikes, released, p).mean()
    # the mean over samples 0.25 ms apart is off by half a step of a decay of 25 ms
    share = synapse.stationary(rate, p).released
    assert mean == pytest.approx(synapse.exposure(p) * share * rate, rel=0.006)


@given(st.floats(0, 1), st.floats(1e-4, 50), st.floats(0, 100))
def test_binding_tends_to_its_fixed_point_from_any_state(Gamma, dt, G):
    bound = P.O_G * G / (P.O_G * G + P.Omega_G)
    after = synapse.bind(np.array(Gamma), dt, P, G)
    assert abs(after - bound) <= abs(Gamma - bound) + 1e-15
    two = synapse.bind(synapse.bind(np.array(Gamma), dt / 2, P, G), dt / 2, P, G)
    assert two == pytest.approx(float(after), abs=1e-14)  # exact steps compose


def test_receptors_change_release_towards_alpha():
    resting = synapse.respond([1.0], P).released[0]
    assert resting == P.U_0
    for alpha in (0.0, 0.6, 1.0):
        p = replace(P, alpha=alpha)
        assert synapse.respond([1.0], p, Gamma=1.0).released[0] == pytest.approx(alpha)


def test_the_bare_cleft_of_example_2_releases_all_at_every_spike():
    p = SYNAPSES["stimberg2019-ex2"]
    np.testing.assert_allclose(synapse.respond([0.1, 0.11, 0.5], p).released, 1.0)


def test_poisson_trains_have_their_rate_and_seed():
    rate, n, duration, dt = np.array([0.0, 2.0, 20.0]), 3, 400.0, 1e-3
    times, who = synapse.poisson(rate, n, duration, dt, seed=4)
    counts = np.bincount(who, minlength=n)
    # five standard deviations of a Poisson count
    assert np.all(np.abs(counts - rate * duration) <= 5 * np.sqrt(rate * duration))
    assert np.all(np.diff(times) >= 0)
    steps = np.round(times / dt).astype(int)
    assert len(np.unique(np.stack([steps, who]), axis=1).T) == len(who)
    again = synapse.poisson(rate, n, duration, dt, seed=4)
    np.testing.assert_array_equal(times, again[0])
    assert not np.array_equal(times[:50], synapse.poisson(rate, n, duration, dt, seed=5)[0][:50])
    # intervals of the fast train are exponential: their coefficient of variation is 1
    intervals = np.diff(times[who == 2])
    assert intervals.std() / intervals.mean() == pytest.approx(1, abs=5 / math.sqrt(counts[2]))


@pytest.mark.parametrize(
    ("times", "word"),
    [
        ([1.0, 0.5], "unsorted"),
        ([0.5, 0.5], "duplicate"),
        ([-0.1, 0.5], "-0.1"),
        ([0.1, np.nan], "nan"),
        ([0.1, np.inf], "inf"),
        ([[0.1]], "shape"),
    ],
)
def test_bad_spike_times_are_refused(times, word):
    with pytest.raises(ValueError, match=word):
        synapse.respond(times, P)
    with pytest.raises(ValueError, match="spike_times"):
        synapse.transmitter(np.array([1.0]), times, 1.0, P)


def test_bad_fractions_and_rates_are_refused():
    with pytest.raises(ValueError, match="Gamma = 1.5"):
        synapse.respond([1.0], P, Gamma=1.5)
    with pytest.raises(ValueError, match="x = -1"):
        synapse.rested(1, x=-1)
    with pytest.raises(ValueError, match="rate"):
        synapse.poisson(200.0, 1, 1.0, 1e-3, seed=0)
    with pytest.raises(ValueError, match="rate"):
        synapse.poisson(-1.0, 1, 1.0, 1e-3, seed=0)
    with pytest.raises(ValueError, match="dt = -0.1"):
        synapse.relax(synapse.rested(), -0.1, P)
    for rate in (0.0, -2.0, math.nan):
        with pytest.raises(ValueError, match="rate = "):
            synapse.stationary([1.0, rate], P)
    with pytest.raises(ValueError, match="released = "):
        synapse.transmitter(np.array([1.0]), [0.5], 1.5, P)
