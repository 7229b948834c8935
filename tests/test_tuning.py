"""Adapted tuning curves: unbiased, exact for one prototype, better where the stimuli are."""

import numpy as np
import pytest
from safetensors.numpy import save_file

from tripartite import attention, features, network
from tripartite.beyond import tuning

RANDOM = [kind for kind in tuning.KINDS if kind != "prototypes"]


def stimuli(seed, n=400, d=6):
    """Keys and queries with means and covariances of their own."""
    rng = np.random.default_rng(seed)
    mix = 0.4 * np.random.default_rng(0).standard_normal((d, d))
    queries = rng.standard_normal((n, d)) @ mix + 0.3
    keys = 0.6 * rng.standard_normal((n, d)) - 0.5
    return keys, queries, rng.standard_normal((n, 3))


@pytest.mark.parametrize("kind", RANDOM)
@pytest.mark.parametrize("draw", tuning.DRAWS)
def test_fitted_random_curves_estimate_the_exponential_kernel(kind, draw):
    keys, queries, _ = (0.5 * x for x in stimuli(0))  # weak, so that the tails stay light
    exact = np.exp(queries[:20] @ keys[:30].T)
    ratios = []
    for seed in range(16):
        phi = tuning.fit(kind, keys, queries, 512, seed, draw=draw)
        estimate = phi.queries(queries[:20]).value @ phi.keys(keys[:30]).value.T
        ratios.append(np.mean(estimate / exact))
    # the mean over seeds is 1 within five standard errors, and these are small enough to tell
    error = np.std(ratios, ddof=1) / 4
    assert error < 0.02
    assert abs(np.mean(ratios) - 1) < 5 * error


def test_balanced_coordinates_give_keys_and_queries_one_diagonal_covariance():
    keys, queries, _ = stimuli(1, n=4000)
    of_queries, of_keys = tuning.balance(keys, queries, True)
    np.testing.assert_allclose(of_queries @ of_keys.T, np.eye(6), atol=1e-12)
    a, b = np.cov(of_queries @ queries.T), np.cov(of_keys @ keys.T)
    # the ridge, a thousandth of the mean power, matters only along the axis of least power
    np.testing.assert_allclose(np.diag(a)[1:], np.diag(b)[1:], rtol=0.03)
    np.testing.assert_allclose(a - np.diag(np.diag(a)), 0, atol=4e-3 * np.trace(a) / 6)


def test_dense_spread_minimises_the_second_moment_for_gaussian_stimuli():
    """In one dimension, against a search over spreads with the integral done by quadrature."""
    power = 1.7
    w = np.linspace(-40, 40, 4_001)
    step = w[1] - w[0]

    def log_moment(spread):
        # E over s of log int N(w; s, 1)^2 / N(w; 0, spread) dw, s of variance power
        nodes, weights = np.polynomial.hermite_e.hermegauss(20)
        total = 0.0
        for s, weight in zip(nodes * np.sqrt(power), weights / weights.sum(), strict=True):
            log = -((w - s) ** 2) + w**2 / (2 * spread) - 0.5 * np.log(2 * np.pi / spread)
            total += weight * np.log(np.sum(np.exp(log)) * step)
        return total

    spreads = np.linspace(1.0, 6.0, 251)
    best = spreads[np.argmin([log_moment(u) for u in spreads])]
    x = np.full((1, 1), np.sqrt(power / 2))
    stim = tuning.Stimuli(x, x, np.zeros(1))
    curves, _ = tuning._dense(stim, np.ones((1, 1)), None, 1.0)
    assert abs(curves.directions[0, 0] ** 2 - best) < 0.02


def test_adapted_curves_need_fewer_neurons_than_random_ones():
    keys, queries, values = stimuli(2)
    fit_keys, fit_queries, _ = stimuli(7, n=800)
    exact = attention.softmax_attention(queries, keys, values)

    def error(kind):
        errors = []
        for seed in range(5):
            phi = tuning.fit(kind, fit_keys, fit_queries, 64, seed)
            output = network.attend(phi, queries, keys, values).output
            errors.append(np.linalg.norm(output - exact) / np.linalg.norm(exact))
        return np.median(errors)

    plain = error("positive")
    assert error("gaussian") < plain
    assert error("prototypes") < 0.8 * plain


def test_prototypes_are_answered_exactly():
    """Where queries to come are the prototypes themselves, neurons hold the exact outputs."""
    keys, queries, values = stimuli(3)
    two = queries[:2]
    phi = tuning.fit("prototypes", keys, np.repeat(two, 200, axis=0), 6, 0, sharpness=200.0)
    reading = network.attend(phi, two, keys, values)
    exact = attention.softmax_attention(two, keys, values)
    assert np.linalg.norm(exact[0] - exact[1]) > 0.1  # two different questions
    np.testing.assert_allclose(reading.output, exact, rtol=1e-6)


def test_the_level_of_prototypes_is_that_of_the_normaliser():
    keys, queries, values = stimuli(3)
    phi = tuning.fit("prototypes", keys, np.repeat(queries[:1], 400, axis=0), 1, 0)
    reading = network.attend(phi, queries[:1], keys, values)
    np.testing.assert_allclose(
        reading.log_response, attention.log_normaliser(queries[:1], keys), rtol=1e-6
    )


def test_blocks_heads_and_moved_coordinates_change_nothing():
    keys, queries, values = (np.stack([a, b]) for a, b in zip(stimuli(4), stimuli(5), strict=True))
    phi = tuning.fit("dense", keys, queries, 70, 0)
    assert phi.size == 70
    whole = network.attend(phi, queries, keys, values)
    parts = network.attend(phi, queries, keys, values, block=32)
    np.testing.assert_allclose(whole.output, parts.output, rtol=1e-9)
    np.testing.assert_allclose(whole.log_response, parts.log_response, rtol=1e-9)
    of_head = phi.of_head(1)
    one = network.attend(of_head, queries[1], keys[1], values[1])
    np.testing.assert_allclose(one.output, whole.output[1], rtol=1e-9)
    rng = np.random.default_rng(0)
    transform, shift = rng.standard_normal((6, 6)), rng.standard_normal(6)
    moved = of_head.keys.after(transform, shift)
    np.testing.assert_allclose(
        moved(keys[1]).log_scale,
        of_head.keys((keys[1] - shift) @ transform.T).log_scale,
        rtol=1e-8,
        atol=1e-8,
    )


def test_plain_positive_curves_are_those_of_the_sampled_map():
    keys, queries, values = stimuli(6)
    phi = tuning.fit("positive", keys, queries, 300, 3, draw="independent")
    plain = features.FeatureMap(phi.keys.directions, np.zeros(300), features.positive, 300)
    np.testing.assert_allclose(
        network.attend(phi, queries, keys, values).output,
        network.attend(plain, queries, keys, values).output,
        rtol=1e-9,
    )


def test_curves_come_back_from_a_file(tmp_path):
    keys, queries, values = (np.stack([x, 2 * x]) for x in stimuli(8))
    phi = tuning.fit("prototypes", keys, queries, 5, 0)
    arrays = {
        f"{side}.{name}": x for side in vars(phi) for name, x in vars(vars(phi)[side]).items()
    }
    save_file(arrays, tmp_path / "tuning.safetensors")
    expected = network.attend(phi, queries, keys, values).output
    again = tuning.load(tmp_path / "tuning.safetensors", np.float64)
    np.testing.assert_array_equal(network.attend(again, queries, keys, values).output, expected)
    for side in vars(phi):  # in balanced coordinates the gain is diagonal, in those of tokens not
        curvature = arrays.pop(f"{side}.curvature")
        arrays[f"{side}.power"] = np.ascontiguousarray(np.diagonal(curvature, axis1=-2, axis2=-1))
    save_file(arrays, tmp_path / "diagonal.safetensors")
    diagonal = tuning.load(tmp_path / "diagonal.safetensors", np.float64)
    for side in vars(phi):
        x = keys if side == "keys" else queries
        gain = -0.5 * np.sum(arrays[f"{side}.power"][:, None] * x**2, axis=-1, keepdims=True)
        curves = vars(phi)[side]
        drive = x @ np.swapaxes(curves.directions, -1, -2) + curves.offsets[:, None]
        np.testing.assert_allclose(
            vars(diagonal)[side](x).log_scale, drive + gain, rtol=1e-12, atol=1e-12
        )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"kind": "magic"}, "kind = 'magic': must be one of"),
        ({"draw": "magic"}, "draw = 'magic': must be one of"),
        ({"n_neurons": 0}, "n_neurons = 0"),
        ({"sharpness": -1.0}, "sharpness = -1.0"),
        ({"keys": np.full((4, 6), np.nan)}, "keys: holds NaN"),
        ({"keys": np.ones((4, 5))}, "must have the same number of features"),
        ({"keys": np.ones((0, 6))}, r"keys has shape \(0, 6\): must hold at least one token"),
        ({"queries": np.ones((0, 6))}, r"queries has shape \(0, 6\): must hold at least one"),
        ({"keys": np.ones((2, 4, 6))}, r"keys \(2, 4, 6\) and queries .* must have the same heads"),
        ({"keys": np.ones((4, 6), complex)}, "keys has dtype complex128: must be real numbers"),
        ({"keys": np.ones(6)}, r"keys has shape \(6,\): must be \(\.\.\., tokens, features\)"),
        ({"like": np.ones(2, int)}, "like has dtype int64: must be real floating-point numbers"),
    ],
)
def test_bad_input_is_refused(change, message):
    keys, queries, _ = stimuli(0)
    given = {"kind": "dense", "keys": keys, "queries": queries, "n_neurons": 4, "seed": 0} | change
    with pytest.raises(ValueError, match=message):
        tuning.fit(**given)


ALIKE = {"one token": 1, "tokens that are all the same": 30}


@pytest.mark.parametrize("n", ALIKE.values(), ids=ALIKE)
@pytest.mark.parametrize("kind", tuning.KINDS)
def test_stimuli_without_spread_can_be_fitted(kind, n):
    """One key is all that there is to attend to: its value is the answer, its kernel Z/n."""
    keys, queries, values = (np.repeat(x[:1], n, axis=0) for x in stimuli(9))
    with np.errstate(all="raise", under="ignore"):
        phi = tuning.fit(kind, keys, queries, 200, 0)
    reading = network.attend(phi, queries, keys, values)
    np.testing.assert_allclose(reading.output, values, rtol=1e-12)
    expected = attention.log_normaliser(queries, keys)
    # prototypes have the level of the normaliser; the others estimate it from 200 neurons
    tolerance = 1e-6 if kind == "prototypes" else 1.5
    np.testing.assert_allclose(reading.log_response, expected, rtol=0, atol=tolerance)
    for side in (keys, queries):  # where one side alone has no spread
        others = {"keys": keys, "queries": queries} | (
            {"keys": stimuli(9)[0]} if side is queries else {"queries": stimuli(9)[1]}
        )
        part = tuning.fit(kind, others["keys"], others["queries"], 20, 0)
        out = network.attend(part, queries, keys, values).output
        np.testing.assert_allclose(out, values, rtol=1e-12)


@pytest.mark.parametrize("shape", [(6,), (3, 6), (2, 1, 6)])
def test_one_neuron_that_fires_alike_weighs_all_tokens_alike(shape):
    rng = np.random.default_rng(2)
    queries, keys = (rng.standard_normal((*shape[:-1], n, 6)) for n in (4, 7))
    values = rng.standard_normal((*shape[:-1], 7, 3))
    reading = network.attend(tuning.alike(*shape), queries, keys, values)
    np.testing.assert_allclose(reading.output - values.mean(axis=-2, keepdims=True), 0, atol=1e-6)
    np.testing.assert_allclose(reading.response, 7)
