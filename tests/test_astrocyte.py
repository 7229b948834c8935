"""The astrocyte against LSODA, Brian 2, tables made elsewhere, closed forms and conservation."""

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.integrate import solve_ivp

from companion.paths import data
from tripartite import astrocyte
from tripartite.astrocyte import ASTROCYTES, GLIOTRANSMISSION, State

EX2 = ASTROCYTES["stimberg2019-ex2"]
EX4 = ASTROCYTES["stimberg2019-ex4"]
EX5 = ASTROCYTES["stimberg2019-ex5"]
EX6 = ASTROCYTES["stimberg2019-ex6"]


def published_rates(y, p, Y, I_bias=0.0):
    """The G-ChI equations once more, term by term and with the published jump of J_ex."""
    Gamma, I, C, h = y
    m = I / (I + p.d_1) * C / (C + p.d_5)
    stored = p.C_T - (1 + p.rho_A) * C
    Q_2 = p.d_2 * (I + p.d_1) / (I + p.d_3)
    h_inf, tau_h = Q_2 / (Q_2 + C), 1 / (p.O_2 * (Q_2 + C))
    J_r, J_l = p.Omega_C * m**3 * h**3 * stored, p.Omega_L * stored
    J_p = p.O_P * C**2 / (C**2 + p.K_P**2)
    J_delta = p.O_delta / (1 + I / p.kappa_delta) * C**2 / (C**2 + p.K_delta**2)
    J_3K = p.O_3K * C**4 / (C**4 + p.K_D**4) * I / (I + p.K_3K)
    x = I - I_bias
    J_ex = -p.F_ex / 2 * (1 + np.tanh((abs(x) - p.I_Theta) / p.omega_I)) * np.sign(x)
    pkc = 1 + p.zeta * C / (C + p.K_KC)
    dynamic = p.O_beta and not p.K_R
    if p.K_R:  # De Pitta et al. 2009: a Hill function of Y of exponent 0.7
        half = p.K_R + p.zeta * p.K_R * C / (C + p.K_KC)
        Gamma = Y**0.7 / (Y**0.7 + half**0.7)
    return np.array(
        [
            p.O_N * Y * (1 - Gamma) - p.Omega_N * pkc * Gamma if dynamic else 0.0 * C,
            p.O_beta * Gamma + J_delta - J_3K - p.Omega_5P * I + J_ex,
            J_r + J_l - J_p,
            (h_inf - h) / tau_h,
        ]
    )


@given(
    name=st.sampled_from(sorted(ASTROCYTES)),
    state=st.tuples(*[st.floats(0, 1), st.floats(0, 5), st.floats(0, 1.6), st.floats(0, 1)]),
    Y=st.floats(0, 100),
    I_bias=st.floats(0, 3),
)
def test_rates_are_the_published_equations(name, state, Y, I_bias):
    p = ASTROCYTES[name]
    ours = np.array(astrocyte.rates(State(*map(np.float64, state)), p, Y, I_bias))
    # rounding, and the documented distance of the smooth threshold from the published jump
    np.testing.assert_allclose(
        ours, published_rates(state, p, Y, I_bias), rtol=1e-12, atol=1e-12 + 6.2e-6 * p.F_ex
    )


@given(
    name=st.sampled_from(sorted(ASTROCYTES)),
    state=st.tuples(*[st.floats(0, 1), st.floats(0.01, 5), st.floats(0.01, 1.6), st.floats(0, 1)]),
    Y=st.floats(0, 100),
    I_bias=st.floats(0, 3),
)
def test_jacobian_matches_finite_differences(name, state, Y, I_bias):
    p, step = ASTROCYTES[name], 1e-4
    numeric = np.empty((4, 4))
    for j in range(4):
        at = np.array(state)[:, None] + step * np.eye(4)[:, [j]] * [-2, -1, 1, 2]
        numeric[:, j] = np.array(astrocyte.rates(State(*at), p, Y, I_bias)) @ [1, -8, 8, -1]
    numeric /= 12 * step
    ours = astrocyte.jacobian(State(*map(np.float64, state)), p, Y, I_bias)
    # five-point differences: step^4 / 30 times fifth derivatives, of which the steepest is that
    # of the threshold of width omega_I = 0.05 uM, about 16 F_ex / omega_I^5, and rounding
    np.testing.assert_allclose(ours, numeric, rtol=1e-6, atol=1e-8 + 3e-10 * p.F_ex)


# typed from the papers' tables a second time; sets of Stimberg et al. are compared with Brian 2
OF_CALCIUM = {"O_P": 0.9, "C_T": 2, "rho_A": 0.185, "Omega_C": 6, "Omega_L": 0.11, "O_2": 0.2}
OF_CALCIUM |= {"d_1": 0.13, "d_2": 1.049, "d_3": 0.9434, "d_5": 0.08234}
OF_IP3 = {"K_delta": 0.1, "kappa_delta": 1.5, "O_beta": 0}
DE_PITTA = OF_CALCIUM | OF_IP3 | {"O_3K": 2, "K_D": 0.7, "K_3K": 1, "F": 0, "F_ex": 0}
TABLES_OF_PAPERS = {
    "lallouette2014": OF_CALCIUM | OF_IP3 | {"K_P": 0.05, "O_delta": 0.7, "Omega_5P": 0.21}
    | {"O_3K": 4.5, "K_D": 1, "K_3K": 0.7, "F": 2, "I_Theta": 0.3, "omega_I": 0.05},
    "depitta2009-am": DE_PITTA | {"K_P": 0.1, "O_delta": 0.02, "Omega_5P": 0.04},
    "depitta2009-fm": DE_PITTA | {"K_P": 0.05, "O_delta": 0.05, "Omega_5P": 0.05},
    "depitta2009-am-glutamate": DE_PITTA | {"K_P": 0.1, "O_delta": 0.02, "Omega_5P": 0.04}
    | {"O_beta": 0.2, "K_R": 1.3, "zeta": 10 / 1.3, "K_KC": 0.6},
    "depitta2009-fm-glutamate": DE_PITTA | {"K_P": 0.05, "O_delta": 0.05, "Omega_5P": 0.05}
    | {"O_beta": 0.5, "K_R": 1.3, "zeta": 10 / 1.3, "K_KC": 0.6},
}  # fmt: skip


@pytest.mark.parametrize("name", TABLES_OF_PAPERS)
def test_other_published_sets_are_those_of_their_tables(name):
    for symbol, value in TABLES_OF_PAPERS[name].items():
        assert getattr(ASTROCYTES[name], symbol) == value, symbol


GLUTAMATE = ["depitta2009-am-glutamate", "depitta2009-fm-glutamate"]


def test_receptors_in_equilibrium_are_those_of_the_published_code():
    """Three variables and published symbols, as in ModelDB 223269; by another integrator."""
    K_R, K_p, K_pi, beta, delta, of_5P = 1.3, 10.0, 0.6, 0.2, 0.02, 0.04

    def slope(t, y, glutamate):
        Ca, h, IP3 = y
        K_gamma = K_R * (1 + K_p / K_R * Ca / (Ca + K_pi))
        v_glu = beta * glutamate**0.7 / (glutamate**0.7 + K_gamma**0.7)
        v_delta = delta / (1 + IP3 / 1.5) * Ca**2 / (Ca**2 + 0.1**2)
        v_3K = 2.0 * Ca**4 / (Ca**4 + 0.7**4) * IP3 / (IP3 + 1.0)
        Q_2 = 1.049 * (IP3 + 0.13) / (IP3 + 0.9434)
        stored = 2.0 - 1.185 * Ca
        channels = 6.0 * (IP3 / (IP3 + 0.13) * Ca / (Ca + 0.08234) * h) ** 3 * stored
        pump = 0.9 * Ca**2 / (Ca**2 + 0.1**2)
        gate = (Q_2 / (Q_2 + Ca) - h) * 0.2 * (Q_2 + Ca)
        return [channels + 0.11 * stored - pump, gate, v_glu + v_delta - v_3K - of_5P * IP3]

    times = np.linspace(0, 60, 121)
    for glutamate in (0.002, 0.1, 2.5, 8.0):
        other = solve_ivp(
            slope, (0, 60), [0.09, 0.78, 0.22], args=(glutamate,), t_eval=times,
            method="DOP853", rtol=1e-11, atol=1e-13,
        )  # fmt: skip
        ours = astrocyte.trace(ASTROCYTES[GLUTAMATE[0]], times, (0, 0.22, 0.09, 0.78), Y=glutamate)
        np.testing.assert_allclose([ours.C, ours.h, ours.I], other.y, atol=1e-6)
    held = astrocyte.trace(ASTROCYTES[GLUTAMATE[0]], times, (0.5, 0.22, 0.09, 0.78), Y=8.0)
    np.testing.assert_allclose(held.Gamma, 0.5)  # no state there, and without effect
    np.testing.assert_array_equal(held.C, ours.C)


def oscillation(name, glutamate):
    """Lowest and highest calcium, uM, and cycles per s once it has settled; none: 0."""
    times = np.arange(0, 400, 0.05)
    C = astrocyte.trace(ASTROCYTES[name], times, (0, 0.22, 0.09, 0.78), Y=glutamate).C[times > 200]
    upwards = np.flatnonzero((C[1:] > C.mean()) & (C[:-1] <= C.mean()))
    rate = 1 / (0.05 * np.diff(upwards).mean()) if np.ptp(C) > 0.01 else 0.0
    return C.min(), C.max(), rate


def test_glutamate_modulates_amplitude_in_one_cell_and_frequency_in_the_other():
    """As De Pitta et al. 2009 name them. Both are silent in little glutamate and held up in much."""
    levels = {GLUTAMATE[0]: (0.05, 2.5), GLUTAMATE[1]: (0.05, 8.0)}
    swing, rate = {}, {}
    for name, (low, high) in levels.items():
        assert oscillation(name, 0.002)[2] == 0 and oscillation(name, 0.002)[1] < 0.1
        assert oscillation(name, 100.0)[2] == 0 and oscillation(name, 100.0)[0] > 0.4
        weak, strong = oscillation(name, low), oscillation(name, high)
        swing[name] = (strong[1] - strong[0]) / (weak[1] - weak[0])
        rate[name] = strong[2] / weak[2]
    am, fm = GLUTAMATE
    assert swing[am] > 1.8 and swing[fm] < 1.3
    assert 1.2 < rate[am] < 1.6 and rate[fm] > 1.8  # amplitude is modulated, but not alone


# Fixed point and linear response at constant Y: computed by another program, two to four digits
LINEAR_RESPONSE = [
    ("stimberg2019-ex2", 0.0, 0.0544, 0.0608, [-5.57, -0.99, -0.090, -0.051], 1.325),
    ("stimberg2019-ex2", 0.02, 0.0985, 0.2542, [-1.77, -0.88, -0.37, -0.31], 0.978),
    ("stimberg2019-ex2", 0.05, 0.1182, 0.2952, [-1.84, -0.63, -0.34 - 0.47j, -0.34 + 0.47j], 0.532),
    ("stimberg2019-ex2", 0.75, 0.3421, 0.6816, [-2.83, -0.37, -0.018 - 1.4j, -0.018 + 1.4j], 0.113),
    ("stimberg2019-ex2", 2.0, 0.4322, 0.9323, [-3.48, -0.5, -0.16 - 1.35j, -0.16 + 1.35j], 0.051),
    ("stimberg2019-ex2", 10.0, 0.6217, 2.1226, [-6.28, -0.59, -0.3 - 0.87j, -0.3 + 0.87j], 0.0125),
    ("stimberg2019-ex4", 0.0, 0.0298, 0.1980, [-9.04, -1.30, -0.78, -0.069], 0.0259),
    ("stimberg2019-ex4", 4.0, 0.0362, 0.3799, [-5.59, -2.24 - 1.01j, -2.24 + 1.01j, -0.10], 0.0027),
    (
        "stimberg2019-ex4",
        20.0,
        0.4740,
        1.1468,
        [-8.95, -0.46, -0.09 - 1.08j, -0.09 + 1.08j],
        0.0071,
    ),
]


@pytest.mark.parametrize(("name", "Y", "C", "I", "eigenvalues", "gain"), LINEAR_RESPONSE)
def test_fixed_points_and_linear_response_match_the_table(name, Y, C, I, eigenvalues, gain):
    p = ASTROCYTES[name]
    # the closed-form branch, refined around the tabulated calcium and read at the stimulus
    branch = astrocyte.equilibria(np.linspace(C - 2e-3, C + 2e-3, 40001), p)
    at = np.nanargmin(np.abs(branch.stimulus - Y))
    state = State(*(row[at] for row in branch.state))
    assert state.C == pytest.approx(C, abs=6e-5)  # half a unit of the last digit, and the grid
    assert state.I == pytest.approx(I, abs=2e-4 if I < 1 else 4e-4)
    J = astrocyte.jacobian(state, p, Y)
    found = np.linalg.eigvals(J)
    for value in eigenvalues:
        assert np.abs(found - value).min() < 0.0075  # half a unit of the last digit
    per_Y = np.array([p.O_N * (1 - state.Gamma), 0, 0, 0])
    assert -np.linalg.solve(J, per_Y)[2] == pytest.approx(gain, rel=0.02)


def test_equilibria_are_at_rest():
    for p in (EX2, EX4, EX6, *map(ASTROCYTES.get, GLUTAMATE)):
        C = np.geomspace(0.02, 1.0, 4000)
        state, Y = astrocyte.equilibria(C, p, 0.2)
        real = np.isfinite(Y)
        assert real.sum() > 50
        kept = State(*(row[real] for row in state))
        slope = np.abs(astrocyte.rates(kept, p, Y[real], 0.2))
        # dGamma/dt is a difference of O_N Y; the others of terms of order 1
        assert np.all(slope <= 1e-11 * (1 + p.O_N * Y[real]))


def test_a_set_without_receptors_has_no_stimulus():
    with pytest.raises(ValueError, match="O_beta = 0"):
        astrocyte.equilibria(np.array([0.1]), EX5)


def test_oscillation_has_the_published_shape():
    """Period, peak and trough at Y = 0.3 uM: numbers of another program, five digits."""
    times = np.r_[0, np.arange(150_000, 300_000)] * 1e-3
    cell = astrocyte.trace(EX2, times, Y=0.3)
    C, I = cell.C[1:], cell.I[1:]
    assert C.max() == pytest.approx(0.44972, abs=1e-5)
    assert C.min() == pytest.approx(0.10559, abs=1e-5)
    assert (I.min(), I.max()) == (pytest.approx(0.2956, abs=1e-4), pytest.approx(0.7291, abs=1e-4))
    before = np.flatnonzero((C[:-1] <= 0.3) & (C[1:] > 0.3))
    crossings = times[1:][before] + 1e-3 * (0.3 - C[before]) / (C[before + 1] - C[before])
    assert np.diff(crossings).mean() == pytest.approx(5.4396, abs=1e-4)


@pytest.mark.parametrize(("p", "Y"), [(EX2, 0.05), (EX2, 0.3), (EX2, 2.0), (EX4, 8.0)])
def test_trace_agrees_with_an_eighth_order_solver(p, Y):
    """On the published right-hand side; from 0.05 on, clear of the jump where solvers stall."""
    start, times = [0.1, 0.4, 0.1, 0.7], np.linspace(0, 60, 61)
    ours = np.array(astrocyte.trace(p, times, start, Y=Y))
    other = solve_ivp(
        lambda t, y: published_rates(y, p, Y),
        (0, 60), start, "DOP853", times, rtol=1e-11, atol=1e-13,
    )  # fmt: skip
    np.testing.assert_allclose(ours, other.y, atol=1e-5)  # what trace promises


def test_a_jump_of_the_input_is_integrated_in_two_pieces():
    def pulse(t):
        return 0.5 if t < 10 else 0.0

    times = np.array([0.0, 10.0, 20.0])
    whole = astrocyte.trace(EX2, times, Y=pulse, breaks=[10.0])
    first = astrocyte.trace(EX2, times[:2], Y=0.5)
    middle = [row[-1] for row in first]
    second = astrocyte.trace(EX2, times[1:], middle, Y=0.0)
    np.testing.assert_allclose([r[-1] for r in whole], [r[-1] for r in second], atol=1e-7)


def test_fixed_steps_converge_with_order_four():
    start = np.array([0.1, 0.4, 0.1, 0.7])
    exact = np.array(astrocyte.trace(EX2, [0.0, 20.0], start, Y=0.3, rtol=1e-12, atol=1e-13))[:, -1]
    errors = []
    for dt in (0.16, 0.08, 0.04):
        last = astrocyte.simulate(EX2, start[:, None], 20, dt, Y=0.3).states[-1, :, 0]
        errors.append(np.abs(last - exact).max())
    orders = np.log2(np.array(errors[:-1]) / errors[1:])
    # leading-order behaviour is reached to within a third; another order would be off by 1
    assert np.all(np.abs(orders - 4) < 0.4), orders


def test_both_methods_reach_the_accuracy_that_populations_need():
    Y = np.linspace(0, 1, 50)
    fine = astrocyte.simulate(EX2, astrocyte.at_rest(50), 60, 0.1 / 8, Y=Y, method="tsit5").states
    for method, dt in (("rk4", 0.02), ("tsit5", 0.1)):
        coarse = astrocyte.simulate(EX2, astrocyte.at_rest(50), 60, dt, Y=Y, method=method).states
        assert np.abs(coarse - fine).max() < 1e-5, method


def test_samples_precede_their_step_and_blocks_do_not_matter():
    Y = np.linspace(0, 1, 23)
    whole = astrocyte.simulate(EX2, astrocyte.at_rest(23), 2, 0.01, Y=Y, record_every=50)
    np.testing.assert_allclose(whole.times, [0, 0.5, 1, 1.5, 2])
    np.testing.assert_array_equal(whole.states[0], astrocyte.at_rest(23))
    blocks = astrocyte.simulate(EX2, astrocyte.at_rest(23), 2, 0.01, Y=Y, record_every=50, block=7)
    np.testing.assert_array_equal(whole.states, blocks.states)
    last = astrocyte.simulate(EX2, astrocyte.at_rest(23), 2, 0.01, Y=Y)
    np.testing.assert_array_equal(last.states, whole.states[-1:])
    resumed = astrocyte.simulate(EX2, whole.states[2], 1, 0.01, Y=Y)
    np.testing.assert_array_equal(resumed.states[-1], whole.states[-1])


def test_input_may_be_a_function_of_time():
    Y = np.linspace(0, 1, 5)
    constant = astrocyte.simulate(EX2, astrocyte.at_rest(5), 1, 0.01, Y=Y)
    function = astrocyte.simulate(EX2, astrocyte.at_rest(5), 1, 0.01, Y=lambda t: Y, block=2)
    np.testing.assert_array_equal(constant.states, function.states)


def test_a_step_holds_the_input_of_its_start():
    def of_second_step(t):
        return 1.0 if 0.005 < t < 0.015 else 0.0

    rest = astrocyte.at_rest()
    ours = astrocyte.simulate(EX2, rest, 0.03, 0.01, Y=of_second_step, record_every=1).states
    bound = ours[:, 0, 0]
    assert bound[1] == 0 and bound[2] > 0 and bound[3] < bound[2]


def random_state(rng, n):
    return np.stack([rng.uniform(0, 0.5, n), rng.uniform(0, 2, n), rng.uniform(0.05, 0.8, n),
                     rng.uniform(0.2, 0.9, n)])  # fmt: skip


@given(st.integers(3, 60), st.integers(0, 2**32))
def test_gap_junctions_conserve_IP3(n, seed):
    rng = np.random.default_rng(seed)
    _, in_space = astrocyte.lattice(n, side=math.isqrt(n) * 60.0)
    for pairs in (astrocyte.ring(n), in_space):
        gain = astrocyte.coupling(rng.uniform(0, 3, n), pairs, EX5)
        # as many additions of flows below F as there are pairs
        assert abs(gain.sum()) <= len(pairs) * 1e-15
        assert not astrocyte.coupling(np.full(n, 0.7), pairs, EX5).any()


def test_coupling_is_the_published_sum_over_neighbours():
    I = np.array([0.1, 0.9, 0.4, 1.5])
    ours = astrocyte.coupling(I, astrocyte.ring(4), EX5)
    for i in range(4):
        expected = 0.0
        for k in ((i - 1) % 4, (i + 1) % 4):
            x = I[i] - I[k]
            up = 1 + math.tanh((abs(x) - EX5.I_Theta) / EX5.omega_I)
            expected -= EX5.F / 2 * up * math.copysign(1, x)
        assert ours[i] == pytest.approx(expected, abs=2 * 6.2e-6 * EX5.F)


def test_the_ring_keeps_its_mirror_symmetry():
    """A stimulus of cell 0 alone leaves cells i and -i alike, at all times."""
    n = 12
    bias = np.zeros(n)
    bias[0] = 1.0
    run = astrocyte.simulate(
        EX5, astrocyte.at_rest(n), 60, 0.02, I_bias=bias, pairs=astrocyte.ring(n), record_every=100
    )
    mirror = run.states[:, :, (-np.arange(n)) % n]
    np.testing.assert_allclose(run.states, mirror, atol=1e-9)  # rounding, amplified by spikes
    assert run.C[:, 1].max() > run.C[:, n // 2].max() + 0.1  # and the stimulus does something


def test_uncoupled_cells_do_not_feel_each_other():
    rng = np.random.default_rng(1)
    start = random_state(rng, 6)
    pairs = np.empty((0, 2), dtype=int)
    together = astrocyte.simulate(EX6, start, 3, 0.01, Y=1.0, pairs=pairs)
    alone = astrocyte.simulate(EX6, start, 3, 0.01, Y=1.0)
    np.testing.assert_array_equal(together.states, alone.states)


def test_the_lattice_has_the_published_geometry():
    positions, pairs = astrocyte.lattice()
    assert len(positions) == 3200
    assert positions[55, 0] == pytest.approx(55 * 3750 / 56) and positions[56, 0] == 0
    distance = np.linalg.norm(positions[pairs[:, 0]] - positions[pairs[:, 1]], axis=1)
    np.testing.assert_allclose(distance, 3750 / 56)  # the diagonal, 94.7 um, is out of reach
    full, rest = divmod(3200, 56)  # rows: all pairs beside and above each other
    assert len(pairs) == full * 55 + (rest - 1) + (full - 1) * 56 + rest


STILL = replace(
    EX2, O_P=0.0, Omega_C=0.0, Omega_L=0.0, O_delta=0.0, O_3K=0.0, Omega_5P=0.0, F_ex=0.0,
    O_beta=0.0,
)  # fmt: skip
"""A cell in which calcium and IP3 stand still, so that the noisy gate has a closed form."""


@pytest.mark.parametrize(("calculus", "lift"), [("stratonovich", 0.5), ("ito", 0.0)])
def test_gate_noise_has_the_mean_of_its_calculus(calculus, lift):
    """y = h - h_inf obeys dy = -y/tau dt - y nu/sqrt(tau) dW: E y = y0 exp(-(1 - lift nu^2) t/tau)."""
    n, nu, duration = 20_000, 0.5, 2.0
    I, C, h = 0.5, 0.2, 0.95
    start = np.tile([[0.0], [I], [C], [h]], n)
    run = astrocyte.simulate(STILL, start, duration, 0.02, noise=nu, seed=3, calculus=calculus)
    final = run.states[-1, 3]
    h_inf = float(astrocyte.gate(C, I, STILL))
    tau = 1 / (STILL.O_2 * (STILL.d_2 * (I + STILL.d_1) / (I + STILL.d_3) + C))
    expected = h_inf + (h - h_inf) * math.exp(-(1 - lift * nu**2) * duration / tau)
    standard_error = final.std() / math.sqrt(n)
    assert final.mean() == pytest.approx(expected, abs=5 * standard_error)
    wrong = h_inf + (h - h_inf) * math.exp(-(1 - (0.5 - lift) * nu**2) * duration / tau)
    assert abs(expected - wrong) > 8 * standard_error  # so the test tells them apart


def test_gate_noise_converges_strongly_with_order_one():
    """Against the exact path y0 exp(-t/tau - nu W/sqrt(tau)) of the same Brownian motion."""
    n, nu, duration, finest = 2000, 0.5, 1.0, 64
    I, C, h = 0.5, 0.2, 0.9
    tau = 1 / (STILL.O_2 * (STILL.d_2 * (I + STILL.d_1) / (I + STILL.d_3) + C))
    h_inf = float(astrocyte.gate(C, I, STILL))
    dW = np.random.default_rng(8).standard_normal((finest, n)) * math.sqrt(duration / finest)
    exact = h_inf + (h - h_inf) * np.exp(-duration / tau - nu * dW.sum(axis=0) / math.sqrt(tau))
    errors = []
    for steps in (16, 32, 64):
        dt = duration / steps
        state = State(*(np.full(n, v) for v in (0.0, I, C, h)))
        for increment in dW.reshape(steps, -1, n).sum(axis=1):
            normal = increment / math.sqrt(dt)
            added = astrocyte.gate_noise(state, dt, STILL, nu, normal, stratonovich=True)
            state = astrocyte.step(state, dt, STILL)
            state = state._replace(h=state.h + added)
        errors.append(np.abs(state.h - exact).mean())
    orders = np.log2(np.array(errors[:-1]) / errors[1:])
    assert np.all((orders > 0.8) & (orders < 1.2)), orders  # Euler's scheme has 1/2


def test_noise_follows_its_seed():
    def noisy(seed):
        return astrocyte.simulate(
            EX2, astrocyte.at_rest(20), 4, 0.02, Y=0.3, noise=1.0, seed=seed, record_every=50
        ).states

    np.testing.assert_array_equal(noisy(1), noisy(1))
    assert not np.array_equal(noisy(1), noisy(2))


G = GLIOTRANSMISSION["stimberg2019-ex3"]


def test_a_cell_releases_once_for_each_excursion():
    store = astrocyte.full(np.array([0.1]), G)
    events = []
    for C in (0.49, 0.51, 0.6, 0.51, 0.5, 0.4, 0.7):
        store, released = astrocyte.exocytose(store, np.array([C]), G)
        events.append(bool(released[0]))
    assert events == [False, True, False, False, False, False, True]
    assert store.x == pytest.approx(0.4**2)
    assert store.G == pytest.approx(6.5e-4 * 2e5 * 0.6 * (1 + 0.4))


def test_a_cell_that_starts_above_threshold_has_not_crossed_it():
    store, released = astrocyte.exocytose(astrocyte.full(np.array([0.8]), G), np.array([0.9]), G)
    assert not released.any() and store.G == 0


def test_recycling_is_exact():
    store = astrocyte.Store(np.array([0.2]), np.array([50.0]), np.array([False]))
    once = astrocyte.recycle(store, 0.7, G)
    assert once.x == pytest.approx(1 - 0.8 * math.exp(-0.42))
    assert once.G == pytest.approx(50 * math.exp(-42))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"initial": [[0], [0], [-0.1], [0.9]]}, "initial C = -0.1"),
        ({"initial": [[0], [np.nan], [0.1], [0.9]]}, "initial I = nan"),
        ({"initial": [[0], [0], [0.1], [1.2]]}, "initial h = 1.2"),
        ({"initial": [[0], [0], [0.1]]}, "initial has shape"),
        ({"Y": -0.3}, "Y = -0.3"),
        ({"Y": np.nan}, "Y = nan"),
        ({"I_bias": -1.0}, "I_bias = -1"),
        ({"Y": np.ones(3)}, "Y has shape (3,): must be a number or (1,)"),
        ({"Y": lambda t: 0.3 if t < 50 else -0.3, "duration": 100}, "Y = -0.3"),
        ({"I_bias": lambda t: math.nan, "duration": 100}, "I_bias = nan"),
        ({"Y": lambda t: 500.0 * (t > 50), "dt": 0.02, "duration": 100}, "must be at most 0.018"),
        ({"pairs": [[0, 1]]}, "pairs: must be at least 0 and below 1 and 1"),
        ({"initial": astrocyte.at_rest(3), "pairs": [[0, -1]]}, "pairs: must be at least 0"),
        ({"initial": astrocyte.at_rest(3), "pairs": [[0, 1], [1, 0]]}, "0 and 1 are paired more"),
        ({"initial": astrocyte.at_rest(3), "pairs": [[1, 1]]}, "pairs: must join two different"),
        ({"initial": astrocyte.at_rest(3), "pairs": [[0.0, 1.0]]}, "pairs has shape (1, 2)"),
        ({"dt": 0.5}, "dt = 0.5 s: must be at most 0.21"),
        ({"dt": 0.02, "Y": 500.0}, "dt = 0.02 s: must be at most 0.018"),
        ({"dt": 0.0}, "dt = 0"),
        ({"dt": np.nan}, "dt = nan"),
        ({"duration": -1.0}, "duration = -1"),
        ({"record_every": 0}, "record_every = 0"),
        ({"noise": -1.0}, "noise = -1"),
        ({"method": "euler"}, "method = 'euler'"),
        ({"calculus": "heun"}, "calculus = 'heun'"),
    ],
)
def test_bad_input_is_refused_before_the_first_step(change, words):
    arguments = {"initial": astrocyte.at_rest(1), "duration": 1e9, "dt": 0.01} | change
    with pytest.raises(ValueError) as error:  # a run of 1e9 s would not end
        astrocyte.simulate(EX2, **arguments)
    assert words in str(error.value)


def test_bad_traces_are_refused():
    with pytest.raises(ValueError, match="times"):
        astrocyte.trace(EX2, [0.0, 2.0, 1.0])
    with pytest.raises(ValueError, match="initial C"):
        astrocyte.trace(EX2, [0.0, 1.0], (0, 0, -1, 0.9))
    with pytest.raises(ValueError, match="finite"):
        astrocyte.trace(EX2, [0.0, np.inf])
    with pytest.raises(ValueError, match="one cell"):
        astrocyte.trace(EX2, [0.0, 1.0], astrocyte.at_rest(2))
    for breaks, word in (([2.0, 1.0], "unsorted"), ([1.0, 1.0], "duplicate"), ([np.nan], "nan")):
        with pytest.raises(ValueError, match=f"breaks.*{word}"):
            astrocyte.trace(EX2, [0.0, 3.0], breaks=breaks)
    with pytest.raises(ValueError, match="Y = -1"):
        astrocyte.trace(EX2, [0.0, 3.0], Y=lambda t: 1.0 if t < 2 else -1.0, breaks=[2.0])
    with pytest.raises(ValueError, match="rtol = 0"):
        astrocyte.trace(EX2, [0.0, 3.0], rtol=0.0)
    with pytest.raises(ValueError, match="n = 2"):
        astrocyte.ring(2)


def test_a_threshold_too_sharp_to_compute_is_refused():
    with pytest.raises(ValueError, match="omega_I = 0.001 uM: must be at least"):
        replace(EX5, omega_I=0.001)
    sharp = replace(EX5, omega_I=EX5.I_Theta / 250)
    flow = astrocyte.threshold_flow(np.array([-1.0, -0.1, 0.1, 0.31, 1.0]), sharp)
    np.testing.assert_allclose(flow, [-1, 0, 0, 1, 1], atol=1e-6)


def test_the_largest_allowed_step_is_stable():
    """No growth in 500 steps a millionth below what check_step allows, in every published set."""
    for p in ASTROCYTES.values():
        for Y in (0.0, 30.0):
            dt = 2.78 / astrocyte.fastest_rate(p, Y) * (1 - 1e-6)
            rng = np.random.default_rng(0)
            last = astrocyte.simulate(p, random_state(rng, 8), 500 * dt, dt, Y=Y).states
            assert np.all((last >= 0) & (last < 10))


def test_the_threshold_flow_is_exactly_odd():
    x = np.concatenate([np.geomspace(1e-12, 1e3, 4001), [0.0]])
    flow = astrocyte.threshold_flow(x, EX5)
    np.testing.assert_array_equal(astrocyte.threshold_flow(-x, EX5), -flow)
    published = 0.5 * (1 + np.tanh((x - EX5.I_Theta) / EX5.omega_I)) * np.sign(x)
    np.testing.assert_allclose(flow, published, rtol=0, atol=6.2e-6)


def test_mirror_images_on_a_ring_never_part():
    """A chaotic ring would show any difference of rounding between left and right in minutes."""
    n = 50
    state = State(np.zeros(n), np.full(n, 0.01), np.full(n, 0.01), np.full(n, 0.9))
    bias = np.where(np.arange(n) == 25, 1.0, 0.0)
    for _ in range(10_000):
        state = astrocyte.step(state, 0.02, EX5, 0.0, bias, astrocyte.ring(n), "tsit5")
    mirror = (50 - np.arange(n)) % n
    assert np.ptp(state.C) > 1e-3
    for variable in state:
        np.testing.assert_array_equal(variable, variable[mirror])


def test_calcium_at_held_ip3_is_that_of_nest():
    """`tests/peers/nest_peer.py` made its states: at rest, oscillating, and beyond."""
    theirs = np.load(data("reference_states/nest-li-rinzel.npz"))
    held = replace(ASTROCYTES["depitta2009-am"], O_delta=0, O_3K=0, Omega_5P=0)
    for level, C, h in zip(theirs["IP3"], theirs["C"], theirs["h"], strict=True):
        ours = astrocyte.trace(held, np.r_[0, theirs["times"]], (0, level, *theirs["start"]))
        np.testing.assert_allclose(ours.C[1:], C, rtol=0, atol=5e-8)
        np.testing.assert_allclose(ours.h[1:], h, rtol=0, atol=5e-8)
    late = theirs["C"][:, 300:]
    assert (np.ptp(late, axis=1) > 0.1).tolist() == [False, False, True, True, True, False]


@pytest.fixture(scope="module")
def of_nest():
    return np.load(data("reference_states/nest-tripartite.npz"))


def inward_of(theirs, shift=0.0):
    """Our cell with their spikes; a record of theirs holds the spikes of its moment."""
    s = astrocyte.Inward(Delta_I=float(theirs["jump"]))
    arrive = theirs["spikes"] + theirs["delay"]
    start = (0.0, *theirs["start"])
    times = theirs["times"] + 1e-9 + shift
    return s, astrocyte.driven(ASTROCYTES["depitta2009-am"], s, arrive, times, start)


def test_a_cell_that_spikes_drive_is_that_of_nest(of_nest):
    """`tests/peers/nest_peer.py`: a thousand spikes of ten neurons; IP3, calcium and the gate."""
    _, ours = inward_of(of_nest)
    for name in ("I", "C", "h"):
        np.testing.assert_allclose(getattr(ours, name), of_nest[name], rtol=0, atol=5e-9)
    assert len(of_nest["spikes"]) > 1000 and np.ptp(of_nest["C"]) > 0.3


def test_the_slow_inward_current_is_that_of_nest(of_nest):
    """It arrives after the delay of its synapse, 1 ms; without that it would be off."""
    s, ours = inward_of(of_nest, shift=-float(of_nest["delay"]))
    current = float(of_nest["weight"]) * astrocyte.slow_inward_current(ours.C, s)
    np.testing.assert_allclose(current, of_nest["current"], rtol=0, atol=1e-5)
    assert 0.1 < (current > 0).mean() < 0.5 and current.max() > 50
    early = float(of_nest["weight"]) * astrocyte.slow_inward_current(inward_of(of_nest)[1].C, s)
    assert np.abs(early - of_nest["current"]).max() > 0.1


def test_the_slow_inward_current_begins_at_one_nM():
    s = astrocyte.Inward(C_SIC=0.2)
    current = astrocyte.slow_inward_current([0.0, 0.2, 0.2009, 0.2 + 1e-3 * math.e, 1.2], s)
    np.testing.assert_allclose(current, [0, 0, 0, 1, math.log(1000)], atol=1e-12)


def test_spikes_at_one_moment_add_and_a_record_at_that_moment_precedes_them():
    p, s = ASTROCYTES["depitta2009-am"], astrocyte.Inward(Delta_I=0.1, tau_I=2.0)
    ours = astrocyte.driven(p, s, [1.0, 1.0], [1.0, 1.0 + 1e-9, 3.0], (0.0, 0.5, 0.1, 0.8))
    before = 0.16 + 0.34 * math.exp(-0.5)
    later = 0.16 + (before + 0.2 - 0.16) * math.exp(-1.0)
    np.testing.assert_allclose(ours.I, [before, before + 0.2, later], rtol=1e-8)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"spikes": [2.0, 1.0]}, "spikes: must be"),
        ({"spikes": [-1.0]}, "spikes: must be"),
        ({"spikes": [math.nan]}, "spikes: must be"),
        ({"times": [1.0, 1.0]}, "times"),
        ({"initial": np.zeros((4, 2))}, "one cell"),
        ({"step": 0.0}, "step"),
    ],
)
def test_impossible_spikes_records_and_states_are_refused(changed, message):
    given = {"spikes": [1.0], "times": [2.0], "initial": (0.0, 0.2, 0.1, 0.8)} | changed
    with pytest.raises(ValueError, match=message):
        astrocyte.driven(ASTROCYTES["depitta2009-am"], astrocyte.Inward(), **given)


def test_peaks_lie_between_samples():
    t = np.arange(0, 20, 0.1)
    at, height = astrocyte.peaks(t, np.cos(t - 1.234) + 2)
    np.testing.assert_allclose(at, 1.234 + 2 * np.pi * np.arange(3), atol=1e-3)
    np.testing.assert_allclose(height, 3, atol=1e-5)
    assert astrocyte.peaks(t, t)[0].size == 0
