"""Softmax and kernel attention: the reference that everything else is measured against.

Queries and keys arrive already divided by d**(1/4) each, so that q.k is the scaled score.
Arrays have shape (..., tokens, features) and follow the array-API standard.
"""

from __future__ import annotations

from typing import Any

from array_api_compat import array_namespace

from .checks import check_context, check_finite, check_real, check_tokens

Array = Any  # NumPy, PyTorch, CuPy, JAX: anything that follows the array-API standard


def scores(queries: Array, keys: Array, causal: bool = False) -> Array:
    """Scaled scores q_t . k_i, minus infinity where token t may not look.

    queries: (..., t, d); keys: (..., i, d). Returns (..., t, i). Vaswani et al. 2017, eq. 1.
    """
    check_tokens(queries=queries, keys=keys, causal=causal)
    return _scores(queries, keys, causal)


def _scores(queries: Array, keys: Array, causal: bool) -> Array:
    xp = array_namespace(queries, keys)
    s = xp.matmul(queries, xp.matrix_transpose(keys))
    return xp.where(causal_mask(s), s, -xp.inf) if causal else s


def causal_mask(s: Array) -> Array:
    """True where token i of the last axis is not later than token t of the one before it.

    Both end with the same token: of fewer queries than keys, the queries are those of the last.
    """
    xp = array_namespace(s)
    t, i = s.shape[-2:]
    return xp.tril(xp.ones((t, i), dtype=xp.bool), k=i - t)


def log_sum_exp(s: Array) -> Array:
    """log sum_i exp(s_i) over the last axis, which stays as an axis of length 1."""
    xp = array_namespace(s)
    top = xp.max(s, axis=-1, keepdims=True)
    return top + xp.log(xp.sum(xp.exp(s - top), axis=-1, keepdims=True))


def log_normaliser(queries: Array, keys: Array, causal: bool = False) -> Array:
    """log Z_t, where Z_t = sum_i exp(k_i . q_t) is what softmax divides by.

    queries: (..., t, d); keys: (..., i, d). Returns (..., t).
    Raises ValueError if shapes disagree, there is no key, or a number is not finite.
    """
    check_tokens(queries=queries, keys=keys, causal=causal)
    check_context(keys=keys)
    check_finite(queries=queries, keys=keys)
    return log_sum_exp(_scores(queries, keys, causal))[..., 0]


def softmax_attention(queries: Array, keys: Array, values: Array, causal: bool = False) -> Array:
    """Sum of the values, weighted by the softmax of the scaled scores.

    queries: (..., t, d); keys: (..., i, d); values: (..., i, e). Returns (..., t, e).
    Raises ValueError if shapes disagree, there is no key, or a number is not finite.
    Vaswani et al. 2017, eq. 1.
    """
    check_tokens(queries=queries, keys=keys, values=values, causal=causal)
    check_context(keys=keys)
    check_finite(queries=queries, keys=keys, values=values)
    xp = array_namespace(queries, keys, values)
    s = _scores(queries, keys, causal)
    return xp.matmul(xp.exp(s - log_sum_exp(s)), values)


def kernel_attention(kernel: Array, values: Array, causal: bool = False) -> Array:
    """Kernel smoother: sum of the values, weighted by kernel(q_t, k_i), divided by its sum.

    kernel: (..., t, i), of any sign; values: (..., i, e). Returns (..., t, e).
    Softmax attention is the case kernel = exp(scores). Raises ValueError as softmax_attention
    does. Nadaraya 1964; Tsai et al. 2019.
    """
    check_real(kernel=kernel, values=values)
    for name, x in {"kernel": kernel, "values": values}.items():
        if x.ndim < 2:
            raise ValueError(f"{name} has shape {tuple(x.shape)}: must have two axes or more")
    t, i = kernel.shape[-2:]
    if i != values.shape[-2] or (causal and t > i):
        no_more = ", with t of at most i where causal = True" if causal else ""
        raise ValueError(
            f"kernel {tuple(kernel.shape)} and values {tuple(values.shape)}: must be (..., t, i) "
            f"and (..., i, e){no_more}"
        )
    check_context(values=values)
    check_finite(kernel=kernel, values=values)
    xp = array_namespace(kernel, values)
    if causal:
        kernel = xp.where(causal_mask(kernel), kernel, xp.zeros_like(kernel))
    return xp.matmul(kernel, values) / xp.sum(kernel, axis=-1, keepdims=True)
