"""Working memory beside the astrocyte's: near tokens as exact pairs, all others by hidden neurons.

Close tokens are held as they are, and their scores enter the drive and the response exactly; H and g
hold the rest. Sliding-window attention beside a linear one: Arora et al. 2024 (Based); Zhang et al.
2025 (LoLCATs). Arrays have shape (..., tokens, features).
"""

from __future__ import annotations

from array_api_compat import array_namespace

from ..attention import Array
from ..attention import scores as scores_of
from ..checks import check_context, check_finite, check_tokens
from ..features import Activity
from ..network import Population, Reading


def near(scores: Array, window: int, *, first: int = 0, causal: bool = False) -> Array:
    """Which pairs are held exactly, (t, i): fewer than window tokens apart, or of the first tokens.

    scores: (..., t, i), read for its shape; the queries are those of the last t of i tokens. first:
    so many tokens at the beginning are held for all queries. Raises ValueError on sizes below 0.
    """
    for name, value in {"window": window, "first": first}.items():
        if isinstance(value, bool) or not hasattr(value, "__index__") or value < 0:
            raise ValueError(f"{name} = {value!r}: must be a whole number, at least 0")
    xp = array_namespace(scores)
    t, i = scores.shape[-2:]
    ones = xp.ones((t, i), dtype=xp.bool)
    earlier = xp.tril(ones, k=i - t - window)  # by window tokens or more
    later = xp.triu(ones, k=i - t + window)
    held = ~(earlier | later) | (xp.arange(i) < first)
    return held & xp.tril(ones, k=i - t) if causal else held


def attend(
    phi: Population | None,
    queries: Array,
    keys: Array,
    values: Array,
    window: int,
    *,
    first: int = 0,
    causal: bool = False,
) -> Reading:
    """Attention in which near pairs are exact and all other pairs are the kernel of hidden neurons.

    phi: the hidden neurons (default None: what is not near is not seen at all); queries: (..., t, d);
    keys: (..., i, d); values: (..., i, e); window, first: as in near. With a window of 0 this is
    network.attend, with a window of i softmax attention. Holds (..., t, i) in memory, to measure what
    a circuit with both memories computes. Raises ValueError on shapes that disagree, no key, numbers
    that are not finite, sizes below 0, or where a query sees nothing.
    """
    check_tokens(queries=queries, keys=keys, values=values, causal=causal)
    check_context(keys=keys)
    check_finite(queries=queries, keys=keys, values=values)
    xp = array_namespace(queries, keys, values)
    s = scores_of(queries, keys)
    held = near(s, window, first=first, causal=causal)
    t, i = s.shape[-2:]
    seen = xp.tril(xp.ones((t, i), dtype=xp.bool), k=i - t) if causal else held | True
    if phi is None:
        if not bool(xp.all(xp.any(held, axis=-1))):
            raise ValueError(
                f"window = {window}: must let every query see a token, without neurons"
            )
        pairs, scale, seen = xp.ones_like(s), s, held
    else:
        pairs, scale = _kernel(phi, queries, keys)
        pairs, scale = xp.where(held, 1.0, pairs), xp.where(held, s, scale)
    top = xp.max(xp.where(seen, scale, -xp.inf), axis=-1, keepdims=True)
    relative = xp.where(seen, scale - top, xp.zeros_like(scale))
    weights = xp.where(seen, pairs * xp.exp(relative), xp.zeros_like(scale))
    return Reading(xp.matmul(weights, values), xp.sum(weights, axis=-1), top[..., 0])


def _kernel(phi: Population, queries: Array, keys: Array) -> tuple[Array, Array]:
    """phi(q).phi(k) over exp of a scale, and that scale: (..., t, i)."""
    (a, top_q), (b, top_k) = (
        _by_token(getattr(phi, side, phi)(x)) for side, x in (("queries", queries), ("keys", keys))
    )
    xp = array_namespace(a)
    return xp.matmul(a, xp.matrix_transpose(b)), top_q + xp.matrix_transpose(top_k)


def _by_token(x: Activity) -> tuple[Array, Array]:
    xp = array_namespace(x.exponent)
    top = xp.max(x.exponent, axis=-1, keepdims=True)
    return x.amplitude * xp.exp(x.exponent - top), top + x.gain
