"""The neuron-astrocyte network: write a context into synapses, read it with queries.

Writing is Hebbian between neurons (H) and presynaptic between neuron and astrocyte (g); reading
divides every synapse by the astrocyte's pooled response p = g.phi(q). Kozachkov et al. 2023.
All states are values: they go in and come out. Arrays have shape (..., tokens, features).
"""

from __future__ import annotations

import math
from typing import NamedTuple, Protocol

from array_api_compat import array_namespace, device

from .attention import Array, causal_mask
from .checks import (
    check_context,
    check_finite,
    check_floating,
    check_positive_int,
    check_tokens,
    known,
    namespace_of,
)
from .features import Activity


class Population(Protocol):
    """Hidden neurons with their tuning: `FeatureMap`, `FiniteSet`, or `tuning.Tuned`.

    Called with tokens (..., tokens, d), gives their `Activity`. Where neurons respond to keys and
    to queries by different curves, `keys` and `queries` are the two, called likewise.
    """

    @property
    def size(self) -> int: ...

    def __call__(self, x: Array) -> Activity: ...

    def block(self, start: int, stop: int) -> Population: ...


_TOKENS = 512  # worked on at once, so that their hidden activity stays in a processor's cache
_CHUNK = 64  # tokens of a stream whose pairs are formed by one product
_PAIRS = 16  # the same where every pair needs a scale of its own, for every neuron


class Memory(NamedTuple):
    """What the network has written so far, for hidden neurons tuned by phi.

    hebbian: (..., e, m), H; astrocytic: (..., m), g; both are stored divided by exp(log_scale),
    (..., m), a scale for each hidden neuron, so that neither overflows.
    """

    phi: Population
    hebbian: Array
    astrocytic: Array
    log_scale: Array


class Reading(NamedTuple):
    """What the output layer and the astrocyte show for every query.

    drive: (..., tokens, e), H phi(q), and pooled: (..., tokens), g.phi(q), both divided by
    exp(log_scale), (..., tokens).
    """

    drive: Array
    pooled: Array
    log_scale: Array

    @property
    def output(self) -> Array:
        """Output neurons, (..., tokens, e): H phi(q) / (g.phi(q)), without skip connection."""
        return self.drive / self.pooled[..., None]

    @property
    def response(self) -> Array:
        """Astrocyte response p = g.phi(q), (..., tokens); may overflow where log_response does not."""
        return self.pooled * array_namespace(self.pooled).exp(self.log_scale)

    @property
    def log_response(self) -> Array:
        """log p, (..., tokens); NaN where signed tuning curves make p negative."""
        xp = array_namespace(self.pooled)
        sound = self.pooled > 0
        log = xp.log(xp.where(sound, self.pooled, xp.ones_like(self.pooled)))
        return xp.where(sound, log + self.log_scale, xp.nan)


def blank(phi: Population, values: Array) -> Memory:
    """Memory of hidden neurons phi in which nothing is written yet.

    values: (..., tokens, e), read only for the width, library and type of what will be written.
    Raises ValueError where that type is not a real floating-point one.
    """
    check_floating(values=values)
    xp = array_namespace(values)
    of_type = {"dtype": _wide(values).dtype, "device": device(values)}
    return Memory(
        phi,
        xp.zeros((values.shape[-1], phi.size), **of_type),
        xp.zeros((phi.size,), **of_type),
        xp.full((phi.size,), -xp.inf, **of_type),
    )


def write(memory: Memory, keys: Array, values: Array) -> Memory:
    """Writing phase: H <- H + v phi(k)^T and g <- g + phi(k), for every token.

    keys: (..., tokens, d); values: (..., tokens, e). The order of tokens does not matter.
    Raises ValueError on shapes that disagree or numbers that are not finite.
    """
    check_tokens(keys=keys, values=values)
    check_finite(keys=keys, values=values)
    return _write(memory, keys, values)


def _write(memory: Memory, keys: Array, values: Array) -> Memory:
    for now in _spans(keys):
        activity = _activity(memory.phi, "keys", keys[..., now, :])
        memory = _write_at_once(memory, activity, _wide(values[..., now, :]))
    return memory


def _write_at_once(memory: Memory, keys: Activity, values: Array) -> Memory:
    xp = array_namespace(keys.log_scale, values)
    top = xp.max(keys.log_scale, axis=-2)
    hidden = _scaled(keys, keys.log_scale - top[..., None, :])
    hebbian = xp.matmul(xp.matrix_transpose(values), hidden)
    return merge(memory, Memory(memory.phi, hebbian, xp.sum(hidden, axis=-2), top))


def merge(a: Memory, b: Memory) -> Memory:
    """What the same neurons have written for two parts of a context, as one: it adds up.

    Raises ValueError where the hidden neurons are not the same object.
    """
    if a.phi is not b.phi:
        raise ValueError("memories of different hidden neurons: must be written by the same phi")
    xp = array_namespace(a.hebbian, b.hebbian)
    top = xp.maximum(a.log_scale, b.log_scale)
    shared = xp.where(xp.isinf(top), xp.zeros_like(top), top)  # nothing written yet in either
    of_a, of_b = xp.exp(a.log_scale - shared), xp.exp(b.log_scale - shared)
    return Memory(
        a.phi,
        a.hebbian * of_a[..., None, :] + b.hebbian * of_b[..., None, :],
        a.astrocytic * of_a + b.astrocytic * of_b,
        top,
    )


def read(memory: Memory, queries: Array) -> Reading:
    """Reading phase: drive H phi(q), and the astrocyte's response p = g.phi(q) that divides it.

    queries: (..., tokens, d). Raises ValueError where nothing was written, or on numbers that
    are not finite.
    """
    check_tokens(queries=queries)
    check_finite(queries=queries)
    xp = namespace_of(queries=queries, memory=memory.hebbian)
    if known(xp.all(xp.isinf(memory.log_scale))):
        raise ValueError("memory: nothing is written in it, so there is nothing to read")
    return _read(memory, queries)


def _read(memory: Memory, queries: Array) -> Reading:
    spans = _spans(queries) or [slice(0, 0)]  # of no queries, the response to none
    activity = (_activity(memory.phi, "queries", queries[..., now, :]) for now in spans)
    return _join([_read_at_once(memory, now) for now in activity])


def _read_at_once(memory: Memory, queries: Activity) -> Reading:
    xp = array_namespace(queries.log_scale, memory.hebbian)
    exponent = queries.log_scale + memory.log_scale[..., None, :]
    top = xp.max(exponent, axis=-1, keepdims=True)
    hidden = _scaled(queries, exponent - top)
    return Reading(
        xp.matmul(hidden, xp.matrix_transpose(memory.hebbian)),
        xp.matmul(hidden, memory.astrocytic[..., None])[..., 0],
        top[..., 0],
    )


def pool(a: Reading, b: Reading) -> Reading:
    """Readings of two blocks of hidden neurons, as one: what both feed adds up."""
    xp = array_namespace(a.pooled)
    top = xp.maximum(a.log_scale, b.log_scale)
    of_a, of_b = xp.exp(a.log_scale - top), xp.exp(b.log_scale - top)
    return Reading(
        a.drive * of_a[..., None] + b.drive * of_b[..., None],
        a.pooled * of_a + b.pooled * of_b,
        top,
    )


def attend(
    phi: Population,
    queries: Array,
    keys: Array,
    values: Array,
    *,
    causal: bool = False,
    block: int = 512,
) -> Reading:
    """Write a whole context and read it with every query, a block of neurons at a time.

    queries: (..., t, d); keys: (..., i, d); values: (..., i, e). causal: token t reads what
    tokens up to t have written. Memory is O(tokens * e) and H is never held whole; the result
    does not depend on block beyond rounding. Kernel attention with phi(q).phi(k), exactly.
    Of 16-bit tokens, sums and result have 32 bits.
    Raises ValueError on shapes that disagree, no key, or numbers that are not finite.
    """
    check_tokens(queries=queries, keys=keys, values=values, causal=causal)
    check_context(keys=keys)
    check_finite(queries=queries, keys=keys, values=values)
    check_positive_int(block=block)
    one_block = _stream if causal else _write_then_read
    reading = None
    for start in range(0, phi.size, block):
        part = one_block(phi.block(start, min(start + block, phi.size)), queries, keys, values)
        reading = part if reading is None else pool(reading, part)
    return reading  # type: ignore[return-value]  # there is a neuron


def _activity(phi: Population, side: str, x: Array) -> Activity:
    """Adapted neurons are tuned to keys and to queries apart, all others to both alike."""
    log_scale, amplitude = getattr(phi, side, phi)(x)
    return Activity(
        _wide(log_scale), amplitude if isinstance(amplitude, float) else _wide(amplitude)
    )


def _wide(x: Array) -> Array:
    """The same numbers with 32 bits where they have 16, in which sums over tokens overflow."""
    xp = array_namespace(x)
    return xp.astype(x, xp.float32) if xp.finfo(x.dtype).bits < 32 else x


def _scaled(phi: Activity, exponent: Array) -> Array:
    hidden = array_namespace(exponent).exp(exponent)
    return hidden if isinstance(phi.amplitude, float) else phi.amplitude * hidden


def _write_then_read(phi, queries, keys, values) -> Reading:
    return _read(_write(blank(phi, values), keys, values), queries)


def _stream(phi, queries, keys, values) -> Reading:
    """A chunk of tokens reads what earlier chunks have written into H and g, and its own pairs."""
    memory, even = blank(phi, values), True
    steps: list[Reading] = []
    for span in _spans(keys):
        on_keys = _activity(phi, "keys", keys[..., span, :])
        on_queries = _activity(phi, "queries", queries[..., span, :])
        v = _wide(values[..., span, :])
        even = even and _is_even(on_keys)
        if even:
            memory = _stream_even(memory, on_queries, on_keys, v, steps)
            continue
        for now in _spans(v, _PAIRS):
            q, k = (_tokens(x, now) for x in (on_queries, on_keys))
            inside = _inside(*_pairs(q, k), v[..., now, :])
            steps.append(pool(inside, _read_at_once(memory, q)) if steps else inside)
            memory = _write_at_once(memory, k, v[..., now, :])
    return _join(steps)


def _is_even(keys: Activity) -> bool:
    """Whether one scale a token does for all neurons: no activity that is needed underflows then.

    A pair's kernel is at least the activity that its key causes in the query's strongest neuron.
    """
    xp = array_namespace(keys.log_scale)
    spread = xp.max(keys.log_scale, axis=-1) - xp.min(keys.log_scale, axis=-1)
    limit = -0.6 * math.log(float(xp.finfo(keys.log_scale.dtype).smallest_normal))
    return bool(known(xp.all(spread < limit)))


def _stream_even(memory: Memory, queries: Activity, keys: Activity, v: Array, steps: list):
    """The memory after these tokens, whose readings are added to steps; two exponentials a neuron."""
    xp = array_namespace(v)
    (hidden_q, top_q), (hidden_k, top_k) = (_by_token(x) for x in (queries, keys))
    H, g, top = memory.hebbian, memory.astrocytic, xp.max(memory.log_scale, axis=-1)
    for now in _spans(v, _CHUNK):
        q, k, one, scale = (
            hidden_q[..., now, :],
            hidden_k[..., now, :],
            v[..., now, :],
            top_k[..., now],
        )
        pairs = xp.matmul(q, xp.matrix_transpose(k))
        inside = _inside(pairs, scale[..., None, :] + xp.zeros_like(pairs), one)
        before = Reading(
            xp.matmul(q, xp.matrix_transpose(H)), xp.matmul(q, g[..., None])[..., 0], top[..., None]
        )
        both = pool(inside, before)
        steps.append(both._replace(log_scale=both.log_scale + top_q[..., now]))
        higher = xp.maximum(top, xp.max(scale, axis=-1))
        weight = xp.exp(scale - higher[..., None])[..., None, :]
        kept = xp.exp(top - higher)[..., None]
        H = H * kept[..., None] + xp.matmul(xp.matrix_transpose(one) * weight, k)
        g, top = g * kept + xp.matmul(weight, k)[..., 0, :], higher
    return Memory(memory.phi, H, g, top[..., None] + xp.zeros_like(g))


def _by_token(x: Activity) -> tuple[Array, Array]:
    """Hidden activity over that of the strongest neuron, (..., tokens, m), and its log, (..., tokens)."""
    top = array_namespace(x.log_scale).max(x.log_scale, axis=-1, keepdims=True)
    return _scaled(x, x.log_scale - top), top[..., 0]


def _pairs(queries: Activity, keys: Activity) -> tuple[Array, Array]:
    """Kernel of every query and key over exp of its scale, and that scale: (..., t, i)."""
    xp = array_namespace(queries.log_scale)
    exponent = queries.log_scale[..., :, None, :] + keys.log_scale[..., None, :, :]
    top = xp.max(exponent, axis=-1, keepdims=True)
    kernel = xp.exp(exponent - top)
    if not (isinstance(queries.amplitude, float) or isinstance(keys.amplitude, float)):
        kernel = kernel * queries.amplitude[..., :, None, :] * keys.amplitude[..., None, :, :]
    return xp.sum(kernel, axis=-1), top[..., 0]


def _inside(pairs: Array, scale: Array, values: Array) -> Reading:
    """What the tokens of a chunk read of each other: token t of those up to t. pairs: (..., t, i)."""
    xp = array_namespace(pairs)
    seen = causal_mask(pairs)
    top = xp.max(xp.where(seen, scale, -xp.inf), axis=-1, keepdims=True)
    relative = xp.where(seen, scale - top, xp.zeros_like(scale))
    weights = xp.where(seen, pairs * xp.exp(relative), xp.zeros_like(pairs))
    return Reading(xp.matmul(weights, values), xp.sum(weights, axis=-1), top[..., 0])


def _tokens(x: Activity, now: slice) -> Activity:
    amplitude = x.amplitude if isinstance(x.amplitude, float) else x.amplitude[..., now, :]
    return Activity(x.log_scale[..., now, :], amplitude)


def _spans(x: Array, size: int = _TOKENS) -> list[slice]:
    """So many of x's tokens at a time."""
    tokens = x.shape[-2]
    return [slice(start, min(start + size, tokens)) for start in range(0, tokens, size)]


def _join(readings: list[Reading]) -> Reading:
    """Readings of queries that follow each other, as one."""
    if len(readings) == 1:
        return readings[0]
    xp = array_namespace(readings[0].pooled)
    return Reading(
        xp.concat([reading.drive for reading in readings], axis=-2),
        xp.concat([reading.pooled for reading in readings], axis=-1),
        xp.concat([reading.log_scale for reading in readings], axis=-1),
    )
