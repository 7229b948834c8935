"""The encoder against loops over tokens and heads, and its symmetries; needs no download."""

from __future__ import annotations

import math

import numpy as np
import pytest

from tripartite import encoder
from tripartite.attention import kernel_attention, scores, softmax_attention
from tripartite.encoder import Block, Linear, Norm, Wiring

D, H, INNER, T = 12, 3, 20, 7
POST, PRE = Wiring(H), Wiring(H, eps=1e-6, pre_norm=True)
WIRINGS = pytest.mark.parametrize("wiring", [POST, PRE], ids=["post-norm", "pre-norm"])
# rounding of float64 sums of some tens of terms of order 1, over a few layers
ROUNDING = 1e-12


def random_block(rng: np.random.Generator, dtype=np.float64) -> Block:
    def linear(n_out: int, n_in: int) -> Linear:
        weight = rng.normal(size=(n_out, n_in)) / math.sqrt(n_in)
        return Linear(weight.astype(dtype), rng.normal(size=n_out).astype(dtype))

    def norm() -> Norm:  # away from gain 1, bias 0, so that leaving one out shows
        return Norm(rng.uniform(0.5, 2, D).astype(dtype), rng.normal(size=D).astype(dtype))

    maps = [linear(D, D) for _ in range(4)] + [linear(INNER, D), linear(D, INNER)]
    return Block(*maps, norm(), norm())


@pytest.fixture
def blocks() -> list[Block]:
    rng = np.random.default_rng(0)
    return [random_block(rng) for _ in range(3)]


@pytest.fixture
def x() -> np.ndarray:
    return np.random.default_rng(1).normal(size=(T, D))


def naive_norm(v, norm, eps):
    mean = sum(v) / len(v)
    variance = sum((a - mean) ** 2 for a in v) / len(v)
    return np.array(
        [(a - mean) / math.sqrt(variance + eps) * g + b for a, g, b in zip(v, *norm, strict=True)]
    )


def naive_block(block: Block, x, wiring: Wiring):
    """One layer in loops over tokens and heads, straight from Vaswani et al. 2017, section 3."""
    d = D // H

    def attend(inputs):
        out = []
        for token in inputs:
            merged = []
            for head in range(H):
                rows = slice(head * d, (head + 1) * d)
                q, k, v = (
                    [m.weight[rows] @ u + m.bias[rows] for u in source]
                    for m, source in (
                        (block.query, [token]), (block.key, inputs), (block.value, inputs)
                    )
                )  # fmt: skip
                weight = [math.exp(sum(q[0] * ki) / math.sqrt(d)) for ki in k]
                merged.extend(sum(w * vi for w, vi in zip(weight, v, strict=True)) / sum(weight))
            out.append(block.out.weight @ np.array(merged) + block.out.bias)
        return out

    def mlp(u):
        inner = [a * 0.5 * (1 + math.erf(a / 2**0.5)) for a in block.up.weight @ u + block.up.bias]
        return block.down.weight @ np.array(inner) + block.down.bias

    first, second, eps = block.norm_attention, block.norm_mlp, wiring.eps
    if wiring.pre_norm:
        x = [a + b for a, b in zip(x, attend([naive_norm(u, first, eps) for u in x]), strict=True)]
        return np.array([u + mlp(naive_norm(u, second, eps)) for u in x])
    x = [naive_norm(a + b, first, eps) for a, b in zip(x, attend(x), strict=True)]
    return np.array([naive_norm(u + mlp(u), second, eps) for u in x])


@WIRINGS
def test_block_equals_loops(blocks, x, wiring):
    found = encoder.block_forward(blocks[0], x, wiring)
    np.testing.assert_allclose(found, naive_block(blocks[0], x, wiring), atol=ROUNDING)


@WIRINGS
def test_encode_chains_the_blocks_and_keeps_every_state(blocks, x, wiring):
    states = encoder.encode(blocks, x, wiring)
    assert len(states) == len(blocks) + 1 and states[0] is x
    for block, before, after in zip(blocks, states, states[1:], strict=False):
        np.testing.assert_array_equal(after, encoder.block_forward(block, before, wiring))


@WIRINGS
def test_permuted_tokens_give_permuted_states(blocks, x, wiring):
    order = np.random.default_rng(2).permutation(T)
    plain, permuted = (encoder.encode(blocks, u, wiring)[-1] for u in (x, x[order]))
    np.testing.assert_allclose(permuted, plain[order], atol=ROUNDING)


def test_leading_axes_are_independent_texts(blocks, x):
    texts = np.stack([x, x[::-1], 2 * x])
    together = encoder.encode(blocks, texts, POST)[-1]
    for text, state in zip(texts, together, strict=True):
        np.testing.assert_allclose(encoder.encode(blocks, text, POST)[-1], state, atol=ROUNDING)


@WIRINGS
def test_float32_stays_float32_and_near_float64(x, wiring):
    blocks = [random_block(np.random.default_rng(0), dtype) for dtype in (np.float32, np.float64)]
    single, double = (
        encoder.block_forward(b, x.astype(b.query.bias.dtype), wiring) for b in blocks
    )
    assert single.dtype == np.float32 and double.dtype == np.float64
    # float32 keeps 6e-8 of values up to 10; some tens of roundings add up
    np.testing.assert_allclose(single, double, atol=2e-5)


@WIRINGS
def test_heads_are_what_attention_receives(blocks, x, wiring):
    seen = []

    def spy(queries, keys, values):
        seen.append((queries, keys, values))
        return softmax_attention(queries, keys, values)

    states = encoder.encode(blocks, x, wiring, spy)
    found = encoder.heads(blocks, states, wiring)
    for array, received in zip(found, zip(*seen, strict=True), strict=True):
        assert array.shape == (len(blocks), H, T, D // H) and array.flags.c_contiguous
        np.testing.assert_array_equal(array, np.stack(received))


def test_scaled_score_is_q_dot_k_over_root_d(blocks, x):
    queries, keys, _ = encoder.project(blocks[0], x, H)
    d = D // H
    q, k = blocks[0].query(x)[:, d : 2 * d], blocks[0].key(x)[:, d : 2 * d]  # head 1
    np.testing.assert_allclose(scores(queries, keys)[1], q @ k.T / math.sqrt(d), atol=ROUNDING)


def test_kernel_attention_with_exponential_kernel_changes_nothing(blocks, x):
    def kernel(queries, keys, values):
        return kernel_attention(np.exp(scores(queries, keys)), values)

    exact, swapped = (encoder.encode(blocks, x, POST, a)[-1] for a in (softmax_attention, kernel))
    np.testing.assert_allclose(swapped, exact, atol=ROUNDING)


def test_attention_per_layer(blocks, x):
    def uniform(queries, keys, values):
        return np.broadcast_to(values.mean(axis=-2, keepdims=True), values.shape)

    exact = encoder.encode(blocks, x, POST)
    mixed = encoder.encode(blocks, x, POST, [softmax_attention, uniform, softmax_attention])
    np.testing.assert_array_equal(mixed[1], exact[1])
    np.testing.assert_array_equal(
        mixed[2], encoder.block_forward(blocks[1], exact[1], POST, uniform)
    )
    assert np.abs(mixed[2] - exact[2]).max() > 0.01
    with pytest.raises(ValueError, match="attention lists 2 layers: must be 3"):
        encoder.encode(blocks, x, POST, [uniform, uniform])


def test_attention_of_the_wrong_shape_is_refused(blocks, x):
    with pytest.raises(ValueError, match=r"attention returned shape \(3, 1, 4\).*\(3, 7, 4\)"):
        encoder.encode(blocks, x, POST, lambda q, k, v: v[..., :1, :])


def test_one_block_can_serve_every_layer(blocks, x):  # ALBERT
    states = encoder.encode([blocks[0]] * 4, x, POST)
    np.testing.assert_array_equal(states[2], encoder.block_forward(blocks[0], states[1], POST))


def test_layer_scale_folds_into_the_projections(blocks, x):  # ViT
    scale = np.random.default_rng(3).uniform(0.1, 2, D)
    block = blocks[0]
    fold = {
        name: Linear(
            scale[:, None] * getattr(block, name).weight, scale * getattr(block, name).bias
        )
        for name in ("out", "down")
    }
    after_attention = x + scale * (
        block.out(encoder.merge_heads(softmax_attention(*encoder.project(
            block, encoder.layer_norm(x, block.norm_attention, PRE.eps), H))))
    )  # fmt: skip
    inner = encoder.gelu(block.up(encoder.layer_norm(after_attention, block.norm_mlp, PRE.eps)))
    np.testing.assert_allclose(
        encoder.block_forward(block._replace(**fold), x, PRE),
        after_attention + scale * block.down(inner),
        atol=ROUNDING,
    )


def test_heads_that_do_not_divide_the_features_are_refused(x):
    with pytest.raises(ValueError, match="n_heads = 5: must divide the 12 features"):
        encoder.split_heads(x, 5)


def test_split_and_merge_are_inverse_and_a_head_is_a_run_of_columns():
    x = np.arange(2 * T * D).reshape(2, T, D)
    split = encoder.split_heads(x, H)
    np.testing.assert_array_equal(split[1, 2], x[1, :, 8:12])
    np.testing.assert_array_equal(encoder.merge_heads(split), x)


def test_gelu_at_known_points():
    # x P(N(0, 1) < x): the normal distribution at 0 and at one standard deviation, 16 digits
    np.testing.assert_allclose(
        encoder.gelu(np.array([0.0, 1.0, -1.0])),
        [0, 0.8413447460685429, -0.15865525393145707],
        rtol=1e-15,
    )


def test_relu_and_silu_at_known_points():
    np.testing.assert_array_equal(encoder.relu(np.array([-2.0, 0.0, 3.0])), [0, 0, 3])
    # log 3 / (1 + 1/3) and -log 3 / (1 + 3), 16 digits; far out 0 and x, without overflow
    with np.errstate(all="raise", under="ignore"):
        found = encoder.silu(np.array([math.log(3), -math.log(3), -1e3, 1e3]))
    np.testing.assert_allclose(found, [0.75 * math.log(3), -0.25 * math.log(3), 0, 1e3])


def test_gelu_by_a_hyperbolic_tangent_is_near_and_odd_in_the_same_way():
    x = np.linspace(-6, 6, 1001)
    difference = np.abs(encoder.gelu_tanh(x) - encoder.gelu(x))
    assert 4e-4 < difference.max() < 5e-4  # 4.7e-4: the two of Hendrycks and Gimpel 2016 differ
    np.testing.assert_allclose(encoder.gelu_tanh(x) - encoder.gelu_tanh(-x), x, atol=1e-14)


def test_model_names_its_sizes_and_passes_attention_on(blocks, x):
    class Plain(encoder.Model):
        def embed(self, inputs):
            return 2 * inputs

    model = Plain(tuple(blocks), PRE)
    assert (model.n_layers, model.n_heads, model.d_model, model.d_key) == (3, H, D, D // H)
    assert len(repr(model)) < 200  # no weights in a notebook's output
    expected = encoder.encode(blocks, 2 * x, PRE)
    for found, state in zip(model.hidden_states(x), expected, strict=True):
        np.testing.assert_array_equal(found, state)
    for found, array in zip(model.heads(x), encoder.heads(blocks, expected, PRE), strict=True):
        np.testing.assert_array_equal(found, array)
    swapped = model.hidden_states(x, lambda q, k, v: 0 * v)[1]
    assert np.abs(swapped - expected[1]).max() > 0.01
