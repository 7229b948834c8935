"""Softmax and kernel attention against independent formulas."""

import numpy as np
import pytest
from scipy.special import logsumexp, softmax

from tripartite import attention


@pytest.fixture
def tokens():
    rng = np.random.default_rng(1)
    return [rng.normal(size=(2, 3, 11, width)) for width in (6, 6, 4)]


@pytest.mark.parametrize("causal", [False, True])
def test_softmax_attention_is_scipys_softmax_of_the_scores(tokens, causal):
    q, k, v = tokens
    scores = np.einsum("...td,...id->...ti", q, k)
    if causal:
        scores[..., np.triu_indices(11, 1)[0], np.triu_indices(11, 1)[1]] = -np.inf
    expected = softmax(scores, axis=-1) @ v
    np.testing.assert_allclose(
        attention.softmax_attention(q, k, v, causal), expected, rtol=0, atol=1e-14
    )
    np.testing.assert_allclose(
        attention.log_normaliser(q, k, causal), logsumexp(scores, axis=-1), rtol=1e-14
    )


def test_kernel_attention_with_the_exponential_kernel_is_softmax_attention(tokens):
    q, k, v = tokens
    kernel = np.exp(attention.scores(q, k))
    for causal in (False, True):
        np.testing.assert_allclose(
            attention.kernel_attention(kernel, v, causal),
            attention.softmax_attention(q, k, v, causal),
            rtol=0,
            atol=1e-14,
        )


def test_large_scores_do_not_overflow(tokens):
    q, k, v = (100 * x for x in tokens)  # scores of 10^4 and more
    with np.errstate(all="raise", under="ignore"):
        out = attention.softmax_attention(q, k, v)
    assert np.isfinite(out).all()
    assert np.abs(out).max() <= np.abs(v).max() * (1 + 1e-12)  # a mean, up to rounding


def test_causal_token_ignores_the_future(tokens):
    q, k, v = tokens
    before = attention.softmax_attention(q, k, v, causal=True)[..., :5, :]
    k[..., 5:, :] += 1.0
    v[..., 5:, :] += 1.0
    after = attention.softmax_attention(q, k, v, causal=True)[..., :5, :]
    np.testing.assert_array_equal(before, after)


@pytest.mark.parametrize(
    ("q", "k", "v", "named"),
    [
        ((5, 3), (5, 4), (5, 2), "queries .* keys .* features"),
        ((5, 3), (5, 3), (6, 2), "keys .* values .* tokens"),
        ((3,), (5, 3), (5, 2), r"queries has shape \(3,\)"),
    ],
)
def test_shapes_that_disagree_are_named(q, k, v, named):
    with pytest.raises(ValueError, match=named):
        attention.softmax_attention(np.ones(q), np.ones(k), np.ones(v))
