"""Injuries of a circuit against loops, and each law against many injuries."""

import numpy as np
import pytest

from tripartite import attention, features, network
from tripartite.beyond import robustness


def tokens(seed, n=9, d=5, e=4, size=0.6):
    rng = np.random.default_rng(seed)
    return *(size * rng.standard_normal((n, d)) for _ in "qk"), rng.standard_normal((n, e))


def a_circuit(seed=0, neurons=200, **shape):
    q, k, v = tokens(seed, **shape)
    return robustness.circuit(features.sample("positive", neurons, q.shape[1], seed), q, k, v)


def rms(x, axis=None):
    return np.sqrt(np.mean(np.square(x), axis=axis))


def test_a_healthy_circuit_is_the_network():
    q, k, v = tokens(1)
    phi = features.sample("positive", 200, q.shape[1], 1)
    c = robustness.circuit(phi, q, k, v)
    reading = network.attend(phi, q, k, v)
    np.testing.assert_allclose(robustness.read(c), reading.output)
    np.testing.assert_allclose(c.p, reading.response)
    np.testing.assert_allclose(c.share.sum(axis=1), 1)
    np.testing.assert_allclose(c.share @ c.recalled.T, reading.output)


def test_length_and_turn_of_a_vector_that_was_turned_by_hand():
    exact = np.array([[2.0, 0.0, 0.0], [0.0, 3.0, 0.0]])
    angle = np.radians(30)
    turned = 1.5 * np.array([[2 * np.cos(angle), 0, 2 * np.sin(angle)], [0, 3.0, 0]])
    length, turn = robustness.compare(turned, exact)
    np.testing.assert_allclose(length, [1.5 * np.cos(angle), 1.5])
    np.testing.assert_allclose(turn, [30, 0], atol=1e-12)


def test_failing_processes_against_loops():
    c, f, gain = a_circuit(), 0.4, 3.0
    lost = np.random.default_rng(5).random(c.H.shape) < f
    stuck = gain * np.median(1 / c.p)
    expected = np.zeros_like(c.exact)
    for t, i, a in np.ndindex(*c.hidden.shape[:1], *c.H.shape):
        P = stuck if lost[i, a] else 1 / c.p[t]
        expected[t, i] += P * c.H[i, a] * c.hidden[t, a]
    found = robustness.deaf(c, f, gain, np.random.default_rng(5))
    np.testing.assert_allclose(found, expected)
    unheard = np.random.default_rng(6).random(c.g.shape) < f
    p = (c.hidden * ~unheard) @ c.g
    expected = c.exact * (c.p / p)[:, None]  # the same direction, another length
    np.testing.assert_allclose(robustness.numb(c, f, np.random.default_rng(6)), expected)


@pytest.mark.parametrize("fraction", [0.05, 0.3, 0.8])
def test_turn_of_deaf_processes_is_that_of_many_injuries(fraction):
    c, rng = a_circuit(neurons=3000, size=0.3), np.random.default_rng(7)  # many share the vote
    turns = [
        robustness.compare(robustness.deaf(c, fraction, 3.0, rng), c.exact)[1] for _ in range(60)
    ]
    ratio = rms(turns, axis=0) / robustness.deaf_turn(c, fraction, 3.0)
    assert abs(ratio.mean() - 1) < 0.05 and np.all(abs(ratio - 1) < 0.35)


@pytest.mark.parametrize("kind", robustness.NOISES)
def test_noise_is_what_its_law_says(kind):
    c, rng = a_circuit(neurons=2000), np.random.default_rng(8)
    draws = [robustness.noisy(c, kind, 0.1, rng) - c.exact for _ in range(400)]
    measured = np.linalg.norm(draws) / np.sqrt(400) / np.linalg.norm(c.exact)
    expected = robustness.noise_error(c, kind, 0.1)
    assert measured == pytest.approx(expected, rel=0.1, abs=1e-12)


def test_noise_has_its_coefficient_of_variation_and_mean_one():
    c, rng = a_circuit(neurons=2), np.random.default_rng(9)
    ratio = [
        robustness.noisy(c, "all of H together", 0.5, rng)[0, 0] / c.exact[0, 0]
        for _ in range(20_000)
    ]
    assert np.mean(ratio) == pytest.approx(1, abs=0.02)
    assert np.std(ratio) == pytest.approx(0.5, rel=0.05)


@pytest.mark.parametrize("scale", robustness.SCALES)
def test_weights_take_no_more_values_than_their_bits_allow(scale):
    c, bits = a_circuit(), 4
    step = robustness.steps(c, bits, scale)
    if scale == "astrocyte":
        kept = np.round(c.g / step)
        assert kept.min() >= 0 and kept.max() == 2**bits - 1
        output = (c.hidden @ c.H.T) / (c.hidden @ (kept * step))[:, None]
    else:
        kept = np.round(c.H / step)
        assert abs(kept).max() == 2 ** (bits - 1) - 1
        along = {"axon": kept, "dendrite": kept.T}[scale]
        np.testing.assert_array_equal(abs(along).max(axis=0), 2 ** (bits - 1) - 1)
        output = (c.hidden @ (kept * step).T) / c.p[:, None]
    np.testing.assert_allclose(robustness.rounded(c, bits, scale), output)


def test_the_law_of_rounding_holds_along_the_axon():
    ratios = []
    for seed in range(20):
        c = a_circuit(seed, 500, e=100)  # the largest on each axon has no error
        error = robustness.relative(robustness.rounded(c, 7, "axon") - c.exact, c.exact)
        ratios.append(error / robustness.rounding_error(c, 7, "axon"))
    assert np.median(ratios) == pytest.approx(1, abs=0.1)


def test_saturation_approaches_its_limit_and_no_ceiling_is_softmax():
    q, k, v = tokens(2)
    softmax = attention.softmax_attention(q, k, v)
    np.testing.assert_allclose(robustness.saturated_limit(60.0, q, k, v), softmax, atol=1e-9)
    limit = robustness.saturated_limit(1.0, q, k, v, nodes=60)
    many = np.mean(
        [
            robustness.saturated(
                robustness.circuit(features.sample("positive", 100_000, q.shape[1], s), q, k, v),
                1.0, q, k, v,
            )
            for s in range(8)
        ],
        axis=0,
    )  # fmt: skip
    assert robustness.relative(many - limit, limit) < 0.01
    assert robustness.relative(limit - softmax, softmax) > 0.03  # the ceiling does something


def test_a_late_gain_is_the_integral_of_its_equation():
    p, lag = np.array([1.0, 3.0, 0.5, 2.0]), 0.7
    unit = p / np.median(p)
    P, steps, lengths = np.exp(-np.mean(np.log(unit))), 20_000, []
    for p_t in unit:  # lag dP/dt = 1 - p P over one token
        for _ in range(steps):
            P += (1 - p_t * P) / lag / steps
        lengths.append(P * p_t)
    np.testing.assert_allclose(robustness.late_lengths(p, lag), lengths, rtol=1e-4)
    np.testing.assert_allclose(robustness.late_lengths(p, 1e-3), 1)


def test_territories_are_circuits_of_their_own_and_sharing_makes_them_one():
    c, axis = a_circuit(), np.eye(5)[0]
    outputs, responses = robustness.territories(c, 4, axis)
    order = np.array_split(np.argsort(c.phi.directions[:, 0]), 4)
    for A, who in enumerate(order):
        p = c.hidden[:, who] @ c.g[who]
        np.testing.assert_allclose(responses[A], p)
        np.testing.assert_allclose(outputs[A], (c.hidden[:, who] @ c.H[:, who].T) / p[:, None])
    np.testing.assert_allclose(robustness.shared(outputs, responses, 1.0), c.exact)
    np.testing.assert_allclose(robustness.shared(outputs, responses, 0.0), outputs.mean(axis=0))


def test_expected_tiling_is_the_mean_of_many():
    c, rng = a_circuit(neurons=400), np.random.default_rng(10)
    axis = np.eye(5)[0]
    mean = np.mean(
        [robustness.shared(*robustness.territories(c, 8, axis, rng), 0) for _ in range(3000)],
        axis=0,
    )
    predicted = robustness.expected(c, 8)
    assert robustness.relative(mean - predicted, predicted - c.exact) < 0.1
    np.testing.assert_allclose(robustness.expected(c, 8, slice(2, 4)), predicted[2:4], rtol=1e-6)


def test_what_no_circuit_can_have_is_refused():
    c = a_circuit()
    with pytest.raises(ValueError, match="kind = 'thermal'"):
        robustness.noisy(c, "thermal", 0.1, np.random.default_rng(0))
    with pytest.raises(ValueError, match="scale = 'soma'"):
        robustness.rounded(c, 4, "soma")
    with pytest.raises(ValueError, match="bits = 1"):
        robustness.rounded(c, 1, "axon")
    with pytest.raises(ValueError, match="astrocyte"):
        robustness.rounding_error(c, 4, "astrocyte")
