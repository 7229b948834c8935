"""Softmax and kernel attention against independent formulas."""

import array_api_strict
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


BAD = [
    (np.array([[1.0, np.nan]]), "holds NaN or infinity"),
    (np.array([[1.0, np.inf]]), "holds NaN or infinity"),
    (np.array([[1.0, 1j]]), "has dtype complex128: must be real numbers"),
    (np.array([["a", "b"]]), "has dtype <U1: must be real numbers"),
    (np.array([[1.0, None]]), "has dtype object: must be real numbers"),
    (np.array([[True, False]]), "has dtype bool: must be real numbers"),
    ([[1.0, 2.0]], "is a list: must be an array"),
    (array_api_strict.asarray([[1.0, 2.0]]), "must be arrays of one library"),
]


@pytest.mark.parametrize(("bad", "message"), BAD)
@pytest.mark.parametrize("place", range(3))
def test_what_is_no_array_of_finite_real_numbers_is_refused(bad, message, place):
    good = np.ones((1, 2))
    arrays = [bad if i == place else good for i in range(3)]
    name = "" if "library" in message else ["queries ", "keys ", "values "][place].strip() + ".*"
    with pytest.raises(ValueError, match=name + message):
        attention.softmax_attention(*arrays)
    if place < 2:
        with pytest.raises(ValueError, match=name + message):
            attention.log_normaliser(*arrays[:2])
        kernel, values = arrays[:2] if place else (bad, np.ones((2, 2)))
        name = name.replace("keys", "values").replace("queries", "kernel")
        if place:
            kernel = np.ones((1, 1))
        with pytest.raises(ValueError, match=name + message):
            attention.kernel_attention(kernel, values)


def test_libraries_that_do_not_mix_are_named():
    q = np.ones((2, 3))
    with pytest.raises(ValueError, match="queries of numpy, keys of array_api_strict: must be arr"):
        attention.scores(q, array_api_strict.asarray(q))


def test_an_empty_context_is_refused_and_no_query_gets_no_answer():
    q, none = np.ones((2, 3)), np.ones((0, 3))
    named = r"keys has shape \(0, 3\): must hold at least one token"
    with pytest.raises(ValueError, match=named):
        attention.softmax_attention(q, none, none)
    with pytest.raises(ValueError, match=named):
        attention.log_normaliser(q, none)
    with pytest.raises(ValueError, match=r"values has shape \(0, 3\): must hold at least one"):
        attention.kernel_attention(np.ones((2, 0)), none)
    assert attention.softmax_attention(none, q, q).shape == (0, 3)
    assert attention.log_normaliser(none, q).shape == (0,)


@pytest.mark.parametrize(
    ("kernel", "values", "causal", "named"),
    [
        ((2, 3), (4, 5), False, r"kernel \(2, 3\) and values \(4, 5\): must be"),
        ((4, 3), (3, 5), True, "with t of at most i where causal = True"),
        ((3,), (3, 5), False, r"kernel has shape \(3,\)"),
        ((2, 3), (3,), False, r"values has shape \(3,\)"),
    ],
)
def test_kernels_that_do_not_fit_the_values_are_named(kernel, values, causal, named):
    with pytest.raises(ValueError, match=named):
        attention.kernel_attention(np.ones(kernel), np.ones(values), causal)


def test_whole_numbers_are_numbers():
    q, k, v = (np.arange(6).reshape(3, 2) + i for i in range(3))
    expected = attention.softmax_attention(*(x.astype(float) for x in (q, k, v)))
    np.testing.assert_array_equal(attention.softmax_attention(q, k, v), expected)


def test_fewer_queries_than_keys_are_the_last_ones():
    q, k, v = (np.random.default_rng(3).standard_normal((2, 9, 4)) for _ in range(3))
    whole = attention.softmax_attention(q, k, v, causal=True)
    last = attention.softmax_attention(q[:, 6:], k, v, causal=True)
    np.testing.assert_allclose(last, whole[:, 6:], rtol=1e-13)
    with pytest.raises(ValueError, match="no more queries than keys"):
        attention.softmax_attention(q, k[:, :6], v[:, :6], causal=True)
