"""Attention with a living astrocyte: limits, conservation, LSODA, and what is refused."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.integrate import solve_ivp

from tripartite import circuit
from tripartite.astrocyte import ASTROCYTES, GLIOTRANSMISSION
from tripartite.beyond import living
from tripartite.synapse import SYNAPSES

SET = "stimberg2019-ex4"
TERMINAL, CELL, VESICLES = SYNAPSES[SET], ASTROCYTES[SET], GLIOTRANSMISSION[SET]
UNIT = TERMINAL.rho_c * TERMINAL.Y_T / TERMINAL.Omega_c * TERMINAL.U_0


def wired(cells=2, each=20, talks=True, terminal=TERMINAL):
    pairs = circuit.territories(cells * each, cells)
    return circuit.Circuit(
        terminal, CELL, VESICLES, cells * each, cells, pairs, pairs if talks else circuit.NONE,
        pooling="mean",
    )  # fmt: skip


def head(tokens=40, seed=0):
    rng = np.random.default_rng(seed)
    return np.exp(0.4 * rng.standard_normal(tokens)), rng.standard_normal((tokens, 5))


def test_the_exact_gain_gives_exact_attention_and_a_constant_its_closed_form():
    z, y = head()
    assert living.scaled_error((z * (3.0 / z))[:, None] * y, y) < 1e-12
    weight = np.sum(y * y, axis=1)
    lost = 1 - np.sum(z * weight) ** 2 / (np.sum(z * z * weight) * np.sum(weight))
    found = living.scaled_error(7.0 * z[:, None] * y, y)  # least squares with one regressor
    assert found == pytest.approx(np.sqrt(lost), rel=1e-12)


def test_contacts_are_as_many_as_the_weights_say():
    g = np.array([0.0, 1.0, 2.5, 0.01, 40.0])
    counts = np.bincount(living.contacts(g, 1000, 3), minlength=5)
    assert counts.sum() == 1000 and counts[0] == 0
    assert np.all(np.abs(counts - 1000 * g / g.sum()) < 1)
    assert np.any(np.diff(living.contacts(g, 1000, 3)) < 0)  # not in the order of the neurons


def test_spikes_come_at_their_rate_and_once_in_a_step():
    rng = np.random.default_rng(0)
    rate = np.array([0.0, 0.5, 4.0])
    times, who = living.token_spikes(rate, 200_000, 0.01, rng)
    counts = np.bincount(who, minlength=3) / 2000
    # of Poisson spikes in a step of mean 0.04 all but the first are lost
    expected = -np.expm1(-rate * 0.01) / 0.01
    np.testing.assert_allclose(counts, expected, atol=4 * np.sqrt(4 / 2000))
    assert np.all(np.diff(times) >= 0)
    assert len(np.unique(np.round(times / 0.01) * 3 + who)) == len(who)


@pytest.mark.parametrize("change", ["no receptor effect", "astrocytes talk to none"])
def test_a_silent_astrocyte_leaves_the_gain_constant(change):
    deaf = replace(TERMINAL, alpha=TERMINAL.U_0)
    parts = wired(terminal=deaf) if change == "no receptor effect" else wired(talks=False)
    z, _ = head(6)
    rates = np.repeat(15 / UNIT * z[:, None], 40, axis=1)
    assert np.all(living.read(parts, rates, 10.0, 0, dt=0.02).gain == 1)
    if change == "no receptor effect":
        assert np.all(living.limit_gain(15 * z, 10.0, CELL, VESICLES, deaf) == 1)


def test_the_stream_is_one_run_and_windows_lie_at_the_end_of_each_token():
    """Tokens one after the other, from the state the last one left, are one long run."""
    parts, T, dt, warm_up = wired(), 8.0, 0.02, 20.0
    rates = np.repeat(np.array([[0.4], [1.0], [0.2]]), 40, axis=1)
    found = living.read(parts, rates, T, 5, dt=dt, warm_up=warm_up)
    rng = np.random.default_rng(5)
    begins = warm_up + T * np.arange(-1, 3)
    begins[0] = 0
    pieces = [living.token_spikes(rates.mean(axis=0), 1000, dt, rng)]
    pieces += [living.token_spikes(row, 400, dt, rng) for row in rates]
    times = np.concatenate([t + b for (t, _), b in zip(pieces, begins, strict=True)])
    who = np.concatenate([w for _, w in pieces])
    run = circuit.run(parts, times, who, warm_up + 3 * T, dt, hold="mean")
    for k, begin in enumerate(begins[1:]):
        late = (run.times >= begin + T / 2 - 1e-9) & (run.times < begin + T - 1e-9)
        gain = 1 - run.terminals[late, 3][:, ::20].mean(axis=0)
        # read() takes every eighth sample
        np.testing.assert_allclose(found.gain[k], gain, atol=0.03)
        inside = (run.spikes >= begin + T / 2 - 1e-9) & (run.spikes < begin + T - 1e-9)
        amount = np.bincount(run.spike_synapse[inside], run.released[inside], 40) / (T / 2)
        np.testing.assert_allclose(found.released[k], amount, atol=1e-9)
    assert found.gain.min() < 0.9  # the astrocytes did something


def test_no_terminal_releases_more_than_its_vesicles():
    rates = np.full((3, 40), 20.0)
    read = living.read(wired(talks=False), rates, 5.0, 0, dt=0.005, window=1.0)
    # full at the beginning, and Omega_d refills at most the whole pool a time constant
    assert np.all(read.released * 5.0 <= 1 + TERMINAL.Omega_d * 5.0)
    assert read.released.min() > 0.5  # 20 spikes a second keep the pool nearly empty


def test_parts_that_are_all_faster_do_the_same_sooner():
    z, _ = head(5)
    slow = living.limit_gain(15 * z, 10.0, CELL, VESICLES, TERMINAL, n_cells=3)
    parts = (living.faster(p, 8.0) for p in (CELL, VESICLES, TERMINAL))
    fast = living.limit_gain(15 * z, 10 / 8, *parts, n_cells=3, dt=0.02 / 8, warm_up=60 / 8)
    np.testing.assert_allclose(fast, slow, rtol=1e-6)
    assert slow.min() < 0.5
    assert living.faster(CELL, 2.0).K_P == CELL.K_P and living.faster(CELL, 2.0).O_P == 2 * CELL.O_P


def by_lsoda(drive, T, warm_up):
    """Mean gain over the second half of each token: the equations once more, by LSODA with events."""
    c, g, s = CELL, VESICLES, TERMINAL

    def slope(t, y, level):
        gamma, ip3, ca, h, bound, glio, store, area = y
        pull = np.tanh((ip3 - c.I_Theta) / c.omega_I) + np.tanh((ip3 + c.I_Theta) / c.omega_I)
        m = ip3 / (ip3 + c.d_1) * ca / (ca + c.d_5)
        left = c.C_T - (1 + c.rho_A) * ca
        q = c.d_2 * (ip3 + c.d_1) / (ip3 + c.d_3)
        hill = ca**4 / (ca**4 + c.K_D**4)
        P = 1 - bound
        return [
            c.O_N * level * P * (1 - gamma) - c.Omega_N * (1 + c.zeta * ca / (ca + c.K_KC)) * gamma,
            c.O_beta * gamma
            + c.O_delta / (1 + ip3 / c.kappa_delta) * ca**2 / (ca**2 + c.K_delta**2)
            - c.O_3K * hill * ip3 / (ip3 + c.K_3K)
            - c.Omega_5P * ip3
            - c.F_ex / 2 * pull,
            (c.Omega_C * (m * h) ** 3 + c.Omega_L) * left - c.O_P * ca**2 / (ca**2 + c.K_P**2),
            c.O_2 * (q - (q + ca) * h),
            s.O_G * glio * (1 - bound) - s.Omega_G * bound,
            -g.Omega_e * glio,
            g.Omega_A * (1 - store),
            P,
        ]

    def crossing(t, y, level):
        return y[2] - g.C_Theta

    crossing.terminal, crossing.direction = True, 1
    y = np.array([0, 0, 0, 0.9, 0, 0, 1, 0.0])
    gains = []
    for level, held in [(np.mean(drive), [warm_up]), *((x, [T / 2, T / 2]) for x in drive)]:
        for length in held:
            t, y[7] = 0.0, 0.0
            while t < length - 1e-12:
                # the gate of calcium is below the threshold right after a crossing was stepped over
                part = solve_ivp(
                    slope, (t, length), y, "LSODA", events=crossing, args=(level,), rtol=1e-8,
                    atol=1e-10, max_step=0.2,
                )  # fmt: skip
                t, y = part.t[-1], part.y[:, -1].copy()
                if part.status == 1:
                    y[2] += 1e-9
                    y[5] += g.rho_e * g.G_T * g.U_A * y[6]
                    y[6] *= 1 - g.U_A
        gains.append(y[7] / held[-1])
    return np.array(gains[1:])


def test_the_limit_of_many_terminals_is_what_lsoda_finds():
    drive = np.array([20.0, 40.0, 10.0])
    reference = by_lsoda(drive, 12.0, 30.0)
    errors = []
    for dt in (0.02, 0.005):
        found = living.limit_gain(drive, 12.0, CELL, VESICLES, TERMINAL, dt=dt, warm_up=30.0)
        errors.append(np.abs(found[:, 0] / reference - 1).max())
    assert errors[0] < 0.005 and errors[1] < 0.001
    assert np.ptp(reference) > 0.05  # the tokens differ


def test_the_fastest_astrocyte_is_the_sawtooth_in_the_steady_state():
    drive, unbinding, pulse, threshold = np.full(3, 40.0), 1 / 3, 0.5, 5.0
    gain = living.clamp_gain(drive, 50.0, unbinding, pulse, threshold)[-1]
    due = threshold / 40
    low = due * np.exp(-pulse)
    period = np.log((1 - low) / (1 - due)) / unbinding
    mean = 1 - (1 - low) * -np.expm1(-unbinding * period) / (unbinding * period)
    assert gain == pytest.approx(mean, rel=0.02)  # 25 s hold no whole number of periods


def test_the_fastest_astrocyte_event_by_event_is_what_small_steps_give():
    drive, T, unbinding, pulse, threshold = np.array([8.0, 30.0, 4.0, 12.0]), 2.0, 0.4, 0.7, 5.0
    exact = living.clamp_gain(drive, T, unbinding, pulse, threshold)
    P, dt, found = threshold / np.median(drive), 1e-5, []
    for s in drive:
        path = []
        for _ in range(round(T / dt)):
            P += dt * unbinding * (1 - P)
            while P * s > threshold * (1 + 1e-12):
                P *= np.exp(-pulse)
            path.append(P)
        found.append(np.mean(path[len(path) // 2 :]))
    np.testing.assert_allclose(exact, found, rtol=2e-3)


def test_a_tree_joins_every_compartment_once_and_branches_hang_together():
    pairs = living.tree(20)
    assert len(pairs) == 19 and sorted(pairs[:, 1]) == list(range(1, 20))
    assert np.bincount(pairs.ravel()).max() == 3  # one towards the soma, two away from it
    for size in (0, 1, 7, 20):
        part = living.branch(20, size, 4)
        assert len(set(part.tolist())) == size
    # with a compartment comes all that lies beyond it, but on the last path
    part = set(living.branch(63, 30, 1).tolist())
    whole = [c for c in part if 2 * c + 2 < 63]
    assert all({2 * c + 1, 2 * c + 2} <= part for c in whole)
    with pytest.raises(ValueError, match="size = 9"):
        living.branch(8, 9, 0)


def test_with_fast_receptors_and_small_pulses_the_fastest_astrocyte_divides():
    z, y = head()
    gain = living.clamp_gain(20 * z, 0.5, 30.0, 0.01, 1.0)
    assert living.scaled_error((z * gain)[:, None] * y, y) < 0.01


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"rates": np.ones((2, 7))}, "rates"),
        ({"rates": -np.ones((2, 40))}, "rates up to"),
        ({"rates": np.full((2, 40), 51.0)}, "must be 0 to 50"),
        ({"T": 0.0}, "T = 0.0"),
        ({"window": 1.5}, "window = 1.5"),
        ({"dt": -1.0}, "dt = -1.0"),
    ],
)
def test_readings_that_cannot_be_are_refused(change, message):
    given = {"rates": np.ones((2, 40)), "T": 1.0} | change
    with pytest.raises(ValueError, match=message):
        living.read(wired(), given.pop("rates"), given.pop("T"), 0, **given)


def test_other_bad_input_is_refused():
    with pytest.raises(ValueError, match="weights"):
        living.contacts(np.array([1.0, -1.0]), 3, 0)
    with pytest.raises(ValueError, match="weights"):
        living.contacts(np.zeros(3), 3, 0)
    with pytest.raises(ValueError, match="factor"):
        living.faster(CELL, 0.0)
    with pytest.raises(ValueError, match="drive"):
        living.limit_gain(np.array([-1.0]), 1.0, CELL, VESICLES, TERMINAL)
    with pytest.raises(ValueError, match="drive"):
        living.clamp_gain(np.array([0.0]), 1.0, 1.0, 1.0, 1.0)
    with pytest.raises(ValueError, match="pulse"):
        living.clamp_gain(np.array([1.0]), 1.0, 1.0, 0.0, 1.0)
    with pytest.raises(ValueError, match="dt = 1 s"):
        living.limit_gain(np.array([1.0]), 10.0, CELL, VESICLES, TERMINAL, dt=1.0)
    with pytest.raises(ValueError, match="window = 1.5"):
        living.limit_gain(np.array([1.0]), 10.0, CELL, VESICLES, TERMINAL, window=1.5)
    with pytest.raises(ValueError, match="window = 2"):
        living.clamp_gain(np.array([1.0]), 1.0, 1.0, 1.0, 1.0, window=2.0)
    uneven = circuit.Circuit(TERMINAL, CELL, VESICLES, 3, 2, circuit.territories(3, 2))
    with pytest.raises(ValueError, match="territories"):
        living.read(uneven, np.ones((1, 3)), 1.0, 0)
