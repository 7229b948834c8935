"""Whole models made of circuits: against loops over heads, and what the centre is best for."""

import math
from dataclasses import replace

import numpy as np
import pytest

from companion.paths import ROOT
from tripartite import attention, pretrained, whole
from tripartite.encoder import Linear


@pytest.fixture(scope="module")
def model():
    return pretrained.load(ROOT / "tests/checkpoints/bert")


@pytest.fixture(scope="module")
def ids(model):
    return model.tokenize("attention to what the model reads").ids


def test_every_head_has_neurons_of_its_own_and_a_seed_gives_them_again(model):
    drawn = [phi.directions for seed in (0, 1) for phi in whole.populations(model, 20, seed)]
    assert len(drawn) == 2 * model.n_layers
    heads = np.concatenate(drawn)
    assert heads.shape == (2 * model.n_layers * model.n_heads, 20, model.d_key)
    assert heads.dtype == np.float32
    gram = np.corrcoef(heads.reshape(len(heads), -1))
    assert np.abs(gram - np.eye(len(heads))).max() < 0.5
    again = whole.populations(model, 20, 1)[-1].directions
    np.testing.assert_array_equal(again, drawn[-1])


def test_orthogonal_directions_are_orthogonal(model):
    phi = whole.populations(model, model.d_key, 0, orthogonal=True, dtype=np.float64)[0]
    gram = phi.directions @ np.swapaxes(phi.directions, -1, -2)
    apart = gram - np.apply_along_axis(np.diag, -1, np.diagonal(gram, axis1=-2, axis2=-1))
    assert np.abs(apart).max() < 1e-12


@pytest.mark.parametrize("shifted", [False, True])
def test_circuits_are_sums_over_neurons_in_every_head(model, shifted):
    rng = np.random.default_rng(0)
    phis = whole.populations(model, 50, 3, dtype=np.float64)
    shift = rng.normal(size=(model.n_layers, model.n_heads, 1, model.d_key)) if shifted else None
    attend = whole.circuits(phis, shift)
    assert len(attend) == model.n_layers
    q, k, v = 0.5 * rng.normal(size=(3, model.n_heads, 6, model.d_key))
    for layer in range(model.n_layers):
        found = attend[layer](q, k, v)
        for h in range(model.n_heads):
            omega = phis[layer].directions[h]
            seen = k[h] - (shift[layer, h] if shifted else 0)
            phi_q, phi_k = (
                np.exp(x @ omega.T - 0.5 * np.sum(x * x, axis=1, keepdims=True)) / math.sqrt(50)
                for x in (q[h], seen)
            )
            weights = phi_q @ phi_k.T
            expected = weights @ v[h] / weights.sum(axis=1, keepdims=True)
            np.testing.assert_allclose(found[h], expected, rtol=1e-10)


def test_many_neurons_give_the_exact_model_and_centres_do_not_change_it(model, ids):
    """Queries and keys are a quarter as long, so that drawn neurons of this number find the mean."""
    half = [
        block._replace(
            query=Linear(*(x / 4 for x in block.query)), key=Linear(*(x / 4 for x in block.key))
        )
        for block in model.blocks
    ]
    gentle = replace(model, blocks=tuple(half))
    exact = gentle.hidden_states(ids)
    q, k, _ = gentle.heads(ids)
    for shift in (None, whole.centres(q, k)):
        few, many = (
            whole.distance(gentle.hidden_states(ids, whole.circuits(phis, shift)), exact)[-1]
            for phis in (whole.populations(gentle, m, 0) for m in (100, 40_000))
        )
        assert many < few / 2 and many < 0.01  # errors have heavy tails


def test_the_centre_is_the_best_shift(model, ids):
    """Of the mean of |q + k - c|^2 over queries and the keys that they attend to."""
    q, k, _ = (x[0, 1] for x in model.heads(ids))
    weights = np.exp(attention.scores(q, k) - attention.log_normaliser(q, k)[:, None])
    apart = q[:, None] + k

    def exponent(c):
        return np.mean(np.sum(weights * np.sum((apart - c) ** 2, axis=-1), axis=-1))

    best = whole.centres(q, k)[0]
    rng = np.random.default_rng(0)
    for step in rng.normal(size=(20, best.size)) * 0.1:
        assert exponent(best) < exponent(best + step)


def test_uniform_attention_is_softmax_without_queries():
    q, k, v = np.random.default_rng(0).normal(size=(3, 2, 5, 4))
    expected = attention.softmax_attention(0 * q, k, v)
    np.testing.assert_allclose(whole.uniform(q, k, v), expected, rtol=1e-12)


def test_distance_leaves_the_embeddings_out():
    exact = [np.ones((3, 2)), np.full((3, 2), 2.0), np.full((3, 2), 5.0)]
    states = [exact[0] + 9, exact[1] * 1.5, exact[2]]
    assert whole.distance(states, exact) == [0.5, 0.0]
    with pytest.raises(ValueError):
        whole.distance(states[:2], exact)


def test_centres_must_be_one_a_layer(model):
    with pytest.raises(ValueError):
        whole.circuits(whole.populations(model, 5, 0), np.zeros((model.n_layers + 1, 1, 1, 1)))
