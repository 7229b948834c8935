"""A whole Transformer whose every attention is a neuron-astrocyte network.

The encoder takes attention as an argument. Here are the hidden neurons of all heads, drawn once so
that they are part of the model like weights, and the attentions that they compute, one for each
layer. Arrays have shape (heads, tokens, features) where a layer is meant.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

import numpy as np

from . import network
from .attention import softmax_attention
from .encoder import Array, Attention, Model
from .features import FeatureMap, sample


def populations(
    model: Model, n_neurons: int, seed: int, *, orthogonal: bool = False, dtype: type = np.float32
) -> list[FeatureMap]:
    """Hidden neurons with positive tuning for all heads, by layer: directions (heads, m, d).

    Every head has neurons of its own, independent of those of other heads, layers and seeds.
    dtype: single precision by default, far finer than the errors of random features.
    """
    like, found = np.empty(0, dtype), []  # type: ignore[var-annotated]
    for layer in range(model.n_layers):
        heads = [
            sample(
                "positive",
                n_neurons,
                model.d_key,
                (100 * seed + layer) * 100 + head,
                orthogonal=orthogonal,
                like=like,
            )
            for head in range(model.n_heads)
        ]
        found.append(replace(heads[0], directions=np.stack([phi.directions for phi in heads])))
    return found


def circuits(phis: Sequence[FeatureMap], centres: Iterable[Array] | None = None) -> list[Attention]:
    """One attention for each layer, by the hidden neurons of its heads.

    centres: (layers, heads, 1, d), what is subtracted from keys before they reach a neuron: its
    threshold is adapted to it (default: nothing). Softmax attention does not notice the shift.
    """

    def of(phi: FeatureMap, centre: Array | float) -> Attention:
        def attend(queries: Array, keys: Array, values: Array) -> Array:
            dtype = phi.directions.dtype
            q, k, v = (x.astype(dtype) for x in (queries, keys - centre, values))
            return network.attend(phi, q, k, v, block=256).output

        return attend

    shifts = np.zeros(len(phis)) if centres is None else centres
    return [of(phi, centre) for phi, centre in zip(phis, shifts, strict=True)]  # type: ignore[arg-type]


def centres(queries: Array, keys: Array) -> Array:
    """The shift that makes the mean exponent of the variance smallest: (..., 1, d).

    The mean over tokens of a query plus the key that it attends to, over which |q + k - c|^2 is
    smallest in the mean. queries, keys: (..., tokens, d).
    """
    attended = softmax_attention(queries, keys, keys)
    return np.mean(queries + attended, axis=-2, keepdims=True)


def uniform(queries: Array, keys: Array, values: Array) -> Array:
    """Attention that ignores queries and keys: the mean of all values, for every token."""
    return np.broadcast_to(values.mean(axis=-2, keepdims=True), values.shape)


def distance(states: Sequence[Array], exact: Sequence[Array]) -> list[float]:
    """Relative L2 distance of every layer's output to that of the exact model; what encode returns."""
    return [
        float(np.linalg.norm(a - b) / np.linalg.norm(b))
        for a, b in zip(states[1:], exact[1:], strict=True)
    ]
