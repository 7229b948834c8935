"""Working memory beside the astrocyte's: near tokens as exact pairs, all others by hidden neurons.

Close tokens are held as they are, and their scores enter the drive and the response exactly; H and g
hold the rest. Sliding-window attention beside a linear one: Arora et al. 2024 (Based); Zhang et al.
2025 (LoLCATs). Arrays have shape (..., tokens, features).
"""

from __future__ import annotations

import math
from typing import NamedTuple

from array_api_compat import array_namespace

from .. import network
from ..attention import Array, causal_mask
from ..attention import scores as scores_of
from ..checks import check_context, check_finite, check_tokens
from ..network import Memory, Population, Reading

_QUERIES = 128  # of a prompt that are read at once, so that their pairs stay in a processor's cache


def near(scores: Array, window: int, *, first: int = 0, causal: bool = False) -> Array:
    """Which pairs are held exactly, (t, i): fewer than window tokens apart, or of the first tokens.

    scores: (..., t, i), read for its shape; the queries are those of the last t of i tokens. first:
    so many tokens at the beginning are held for all queries. Raises ValueError on sizes below 0.
    """
    _check_sizes(window=window, first=first)
    xp = array_namespace(scores)
    t, i = scores.shape[-2:]
    ones = xp.ones((t, i), dtype=xp.bool)
    earlier = xp.tril(ones, k=i - t - window)  # by window tokens or more
    later = xp.triu(ones, k=i - t + window)
    held = ~(earlier | later) | (xp.arange(i) < first)
    return held & causal_mask(scores) if causal else held


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
    seen = causal_mask(s) if causal else held | True
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


class Held(NamedTuple):
    """What both memories hold of a stream of tokens: its size does not grow with the stream.

    phi: the hidden neurons, None where there are none; window, first: as in near, window None keeps
    every pair; keys: (..., kept, d) and values: (..., kept, e), the exact pairs, those of the first
    tokens in front; memory: H and g, None while nothing is written; tokens: how many were read.
    """

    phi: Population | None
    window: int | None
    first: int
    keys: Array = None
    values: Array = None
    memory: Memory | None = None
    tokens: int = 0

    @property
    def numbers(self) -> int:
        """How many numbers are held: keys, values, H and g with its scale."""
        exact = [x for x in (self.keys, self.values) if x is not None]
        written = [] if self.memory is None else list(self.memory[1:])
        return sum(math.prod(x.shape) for x in (*exact, *written))


def hold(phi: Population | None, window: int | None, first: int = 0) -> Held:
    """Both memories before the first token. Raises ValueError on sizes below 0, or nothing to hold."""
    _check_sizes(window=0 if window is None else window, first=first)
    if phi is None and window == 0:
        raise ValueError("window = 0: must be at least 1 without neurons")
    return Held(phi, window, first)


def read(held: Held, queries: Array, keys: Array, values: Array) -> tuple[Held, Reading]:
    """Add tokens to the memories, each read by its own query and by those after it.

    queries: (..., t, d); keys: (..., t, d); values: (..., t, e), the next t tokens of the stream. At
    the beginning of a stream they are read many at once, later one by one. A pair that
    leaves the window is written into H and g. Returns the memories after them, and all readings.
    Raises ValueError on shapes that disagree or numbers that are not finite.
    """
    check_tokens(queries=queries, keys=keys, values=values)
    t = keys.shape[-2]
    if held.tokens == 0 and t > 1:
        window = t if held.window is None else held.window
        parts = [
            attend(
                held.phi,
                queries[..., now, :],
                keys[..., : now.stop, :],
                values[..., : now.stop, :],
                window,
                first=held.first,
                causal=True,
            )
            for now in network._spans(keys, _QUERIES)
        ]
        return _add(held, keys, values), network._join(parts)
    steps = []
    for n in range(t):
        now = slice(n, n + 1)
        held = _add(held, keys[..., now, :], values[..., now, :])
        steps.append(_step(held, queries[..., now, :]))
    return held, network._join(steps)


def _add(held: Held, keys: Array, values: Array) -> Held:
    """The memories with tokens at the end; what is no longer near goes into H and g."""
    xp = array_namespace(keys, values)
    if held.keys is not None:
        keys = xp.concat([held.keys, keys], axis=-2)
        values = xp.concat([held.values, values], axis=-2)
    added = keys.shape[-2] - (0 if held.keys is None else held.keys.shape[-2])
    held = held._replace(keys=keys, values=values, tokens=held.tokens + added)
    leaving = 0 if held.window is None else keys.shape[-2] - held.first - held.window
    if leaving <= 0:
        return held
    gone = slice(held.first, held.first + leaving)
    memory = held.memory
    if held.phi is not None:
        memory = network.blank(held.phi, values) if memory is None else memory
        memory = network.write(memory, keys[..., gone, :], values[..., gone, :])
    kept = [
        xp.concat([x[..., : gone.start, :], x[..., gone.stop :, :]], axis=-2)
        for x in (keys, values)
    ]
    return held._replace(keys=kept[0], values=kept[1], memory=memory)


def _step(held: Held, query: Array) -> Reading:
    """What the last token reads: exact pairs and, where something is written, H and g."""
    far = None if held.memory is None else network.read(held.memory, query)
    if far is not None and not held.keys.shape[-2]:
        return far
    xp = array_namespace(query)
    s = xp.matmul(query, xp.matrix_transpose(held.keys))
    top = xp.max(s, axis=-1, keepdims=True)
    weights = xp.exp(s - top)
    near = Reading(xp.matmul(weights, held.values), xp.sum(weights, axis=-1), top[..., 0])
    return near if far is None else network.pool(near, far)


def _check_sizes(**sizes: int) -> None:
    for name, value in sizes.items():
        if isinstance(value, bool) or not hasattr(value, "__index__") or value < 0:
            raise ValueError(f"{name} = {value!r}: must be a whole number, at least 0")


def _kernel(phi: Population, queries: Array, keys: Array) -> tuple[Array, Array]:
    """phi(q).phi(k) over exp of a scale, and that scale: (..., t, i)."""
    (a, top_q), (b, top_k) = (
        network._by_token(getattr(phi, side, phi)(x))
        for side, x in (("queries", queries), ("keys", keys))
    )
    xp = array_namespace(a)
    return xp.matmul(a, xp.matrix_transpose(b)), top_q[..., :, None] + top_k[..., None, :]
