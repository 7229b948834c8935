"""A Transformer encoder in NumPy whose attention is an argument.

One block serves BERT (post-norm), ViT (pre-norm) and ALBERT (one block used by every layer).
`Model` is blocks and how they are wired; `language` and `vision` say how an input becomes tokens.
ViT's LayerScale is a diagonal factor on a sub-layer's output: fold it into `out` and `down`.
Arrays have shape (..., tokens, features); heads are the axis before tokens. There is no padding
mask: every token of the last two axes takes part. Results keep the dtype of what goes in.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
from scipy.special import erf, expit

from .attention import softmax_attention

Array = np.ndarray
Attention = Callable[[Array, Array, Array], Array]  # (queries, keys, values) -> outputs


class Linear(NamedTuple):
    """Affine map x -> W x + b: weight (out, in), bias (out,)."""

    weight: Array
    bias: Array

    def __call__(self, x: Array) -> Array:
        return x @ self.weight.T + self.bias


class Norm(NamedTuple):
    """Gain and bias of a layer norm, each (features,)."""

    gain: Array
    bias: Array


class Block(NamedTuple):
    """Weights of one Transformer layer: attention with its projections, then a two-layer MLP."""

    query: Linear
    key: Linear
    value: Linear
    out: Linear
    up: Linear
    down: Linear
    norm_attention: Norm
    norm_mlp: Norm


def gelu(x: Array) -> Array:
    """Gaussian error linear unit x P(N(0, 1) < x), exact. Hendrycks and Gimpel 2016."""
    return 0.5 * x * (1 + erf(x / math.sqrt(2)))


def gelu_tanh(x: Array) -> Array:
    """The same by a hyperbolic tangent, to 5e-4: "gelu_new" of ALBERT. Hendrycks and Gimpel 2016."""
    return 0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))


def relu(x: Array) -> Array:
    """What is above 0. Nair and Hinton 2010."""
    return np.maximum(x, 0)


def silu(x: Array) -> Array:
    """x / (1 + exp(-x)), also called swish. Hendrycks and Gimpel 2016."""
    return x * expit(x)


class Wiring(NamedTuple):
    """How blocks are wired: heads, layer-norm epsilon, norm before or after, MLP nonlinearity."""

    n_heads: int
    eps: float = 1e-12
    pre_norm: bool = False
    activation: Callable[[Array], Array] = gelu


def layer_norm(x: Array, norm: Norm, eps: float = 1e-12) -> Array:
    """Centre and scale the last axis, then apply gain and bias. Ba et al. 2016."""
    x = x - x.mean(axis=-1, keepdims=True)
    variance = np.mean(x * x, axis=-1, keepdims=True)
    return x / np.sqrt(variance + eps) * norm.gain + norm.bias


def split_heads(x: Array, n_heads: int) -> Array:
    """(..., tokens, heads * d) -> (..., heads, tokens, d).

    Raises ValueError if n_heads does not divide the features.
    """
    if x.shape[-1] % n_heads:
        raise ValueError(f"n_heads = {n_heads}: must divide the {x.shape[-1]} features")
    return np.swapaxes(x.reshape(*x.shape[:-1], n_heads, -1), -3, -2)


def merge_heads(x: Array) -> Array:
    """(..., heads, tokens, d) -> (..., tokens, heads * d): the inverse of split_heads."""
    x = np.swapaxes(x, -3, -2)
    return x.reshape(*x.shape[:-2], -1)


def project(block: Block, x: Array, n_heads: int) -> tuple[Array, Array, Array]:
    """Queries, keys and values of every head, each (..., heads, tokens, d).

    x: (..., tokens, features), what the attention reads. Queries and keys are divided by d**(1/4)
    each, so that q.k is the scaled score. Vaswani et al. 2017, eq. 1.
    """
    queries, keys, values = (
        split_heads(linear(x), n_heads) for linear in (block.query, block.key, block.value)
    )
    scale = queries.shape[-1] ** 0.25
    return queries / scale, keys / scale, values


def attention_input(block: Block, x: Array, wiring: Wiring) -> Array:
    """What this layer's queries, keys and values are projected from: (..., tokens, features)."""
    return layer_norm(x, block.norm_attention, wiring.eps) if wiring.pre_norm else x


def block_forward(
    block: Block, x: Array, wiring: Wiring, attention: Attention = softmax_attention
) -> Array:
    """One Transformer layer, (..., tokens, features) -> the same shape.

    attention(queries, keys, values) -> (..., heads, tokens, d). Raises ValueError if it returns
    another shape than that of the values.
    """
    queries, keys, values = project(block, attention_input(block, x, wiring), wiring.n_heads)
    attended = attention(queries, keys, values)
    if attended.shape != values.shape:
        raise ValueError(
            f"attention returned shape {attended.shape}: must be that of the values, {values.shape}"
        )
    x = x + block.out(merge_heads(attended))
    x = x if wiring.pre_norm else layer_norm(x, block.norm_attention, wiring.eps)
    mlp_in = layer_norm(x, block.norm_mlp, wiring.eps) if wiring.pre_norm else x
    x = x + block.down(wiring.activation(block.up(mlp_in)))
    return x if wiring.pre_norm else layer_norm(x, block.norm_mlp, wiring.eps)


def encode(
    blocks: Sequence[Block],
    x: Array,
    wiring: Wiring,
    attention: Attention | Sequence[Attention] = softmax_attention,
) -> list[Array]:
    """All hidden states, the embeddings x first: len(blocks) + 1 arrays (..., tokens, features).

    attention: one for all layers, or a sequence of one per layer. Raises ValueError if the
    sequence has another length than blocks.
    """
    states = [x]
    for block, attend in zip(blocks, _per_layer(attention, len(blocks)), strict=True):
        states.append(block_forward(block, states[-1], wiring, attend))
    return states


def heads(
    blocks: Sequence[Block], states: Sequence[Array], wiring: Wiring
) -> tuple[Array, Array, Array]:
    """Queries, keys and values of all layers, each (layers, ..., heads, tokens, d).

    states: what encode returned; the layers' inputs are all but the last.
    """
    per_layer = [
        project(block, attention_input(block, x, wiring), wiring.n_heads)
        for block, x in zip(blocks, states[:-1], strict=True)
    ]
    queries, keys, values = (
        np.ascontiguousarray(np.stack(arrays))  # not the heads' strided view: others may save it
        for arrays in zip(*per_layer, strict=True)
    )
    return queries, keys, values


@dataclass(frozen=True)
class Model:
    """A Transformer encoder: blocks, their wiring, and `embed`, which a subclass defines."""

    blocks: tuple[Block, ...] = field(repr=False)
    wiring: Wiring

    @property
    def n_layers(self) -> int:
        return len(self.blocks)

    @property
    def n_heads(self) -> int:
        return self.wiring.n_heads

    @property
    def d_model(self) -> int:
        return self.blocks[0].query.weight.shape[1]

    @property
    def d_key(self) -> int:
        return self.d_model // self.n_heads

    def embed(self, inputs: Any) -> Array:
        """Input embeddings (..., tokens, features)."""
        raise NotImplementedError

    def hidden_states(
        self, inputs: Any, attention: Attention | Sequence[Attention] = softmax_attention
    ) -> list[Array]:
        """Embeddings, then every layer's output: n_layers + 1 arrays (..., tokens, features)."""
        return encode(self.blocks, self.embed(inputs), self.wiring, attention)

    def heads(
        self, inputs: Any, attention: Attention | Sequence[Attention] = softmax_attention
    ) -> tuple[Array, Array, Array]:
        """Queries, keys and values of all layers, each (layers, ..., heads, tokens, d)."""
        return heads(self.blocks, self.hidden_states(inputs, attention), self.wiring)


def _per_layer(attention: Attention | Sequence[Attention], n_layers: int) -> Sequence[Attention]:
    if callable(attention):
        return [attention] * n_layers
    if len(attention) != n_layers:
        raise ValueError(f"attention lists {len(attention)} layers: must be {n_layers}")
    return attention
