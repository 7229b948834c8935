"""The neuron-astrocyte network: write a context into synapses, read it with queries.

Writing is Hebbian between neurons (H) and presynaptic between neuron and astrocyte (g); reading
divides every synapse by the astrocyte's pooled response p = g.phi(q). Kozachkov et al. 2023.
All states are values: they go in and come out. Arrays have shape (..., tokens, features).
"""

from __future__ import annotations

import math
from typing import NamedTuple, Protocol

import numpy as np
from array_api_compat import array_namespace, device

from .attention import Array, causal_mask
from .checks import (
    check_context,
    check_finite,
    check_floating,
    check_positive_int,
    check_tokens,
    check_weights,
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


def write(memory: Memory, keys: Array, values: Array, weights: Array | None = None) -> Memory:
    """Writing phase: H <- H + w v phi(k)^T and g <- g + w phi(k), for every token.

    keys: (..., tokens, d); values: (..., tokens, e); weights: (..., tokens), w, at least 0, how
    strongly each token is written (default 1; 0 leaves out padding). The order of tokens does not
    matter. Raises ValueError on shapes that disagree, numbers that are not finite, or weights below 0.
    """
    check_tokens(keys=keys, values=values)
    check_finite(keys=keys, values=values)
    check_weights(weights, keys)
    return _write(memory, *_written(keys, weights), values)


def _written(keys: Array, weights: Array | None) -> tuple[Array, Array | None]:
    """Keys without those of tokens that are not written, which would set scales, and the weights."""
    if weights is None:
        return keys, None
    xp = array_namespace(keys)
    return xp.where(weights[..., None] > 0, keys, xp.zeros_like(keys)), weights


def _write(memory: Memory, keys: Array, weights: Array | None, values: Array) -> Memory:
    for now in _spans(keys):
        activity = _activity(memory.phi, "keys", keys[..., now, :])
        memory = _write_at_once(memory, activity, _terms(values, weights, now))
    return memory


def _terms(values: Array, weights: Array | None, now: slice) -> Array:
    """What tokens add to a sum, (..., tokens, e + 1): their values and a one, times their weights."""
    xp = array_namespace(values)
    v = _wide(values[..., now, :])
    terms = xp.concat([v, xp.ones_like(v[..., :1])], axis=-1)
    return terms if weights is None else terms * weights[..., now, None]


def _write_at_once(memory: Memory, keys: Activity, terms: Array) -> Memory:
    xp = array_namespace(terms)
    exponent = keys.log_scale
    top = xp.max(exponent, axis=-2)
    hidden = _scaled(keys, exponent, top[..., None, :])
    sums = xp.matmul(xp.matrix_transpose(terms), hidden)
    return merge(memory, Memory(memory.phi, sums[..., :-1, :], sums[..., -1, :], top))


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
    xp = array_namespace(queries.exponent, memory.hebbian)
    exponent = queries.exponent + memory.log_scale[..., None, :]
    top = xp.max(exponent, axis=-1, keepdims=True)
    hidden = _scaled(queries, exponent, top)
    return _reading(xp.matmul(hidden, xp.matrix_transpose(_sums(memory))), top + queries.gain)


def _sums(memory: Memory) -> Array:
    """H and, as one more row, g: (..., e + 1, m)."""
    xp = array_namespace(memory.hebbian)
    return xp.concat([memory.hebbian, memory.astrocytic[..., None, :]], axis=-2)


def _reading(sums: Array, log_scale: Array) -> Reading:
    """sums: (..., tokens, e + 1), the drive and the pooled gain; log_scale: (..., tokens, 1)."""
    return Reading(sums[..., :-1], sums[..., -1], log_scale[..., 0])


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
    weights: Array | None = None,
    block: int = 512,
) -> Reading:
    """Write a whole context and read it with every query, a block of neurons at a time.

    queries: (..., t, d); keys: (..., i, d); values: (..., i, e). causal: a token reads what
    tokens up to it have written; the queries are those of the last t tokens. weights: (..., i), how
    strongly each token is written, as in write; where all that a query reads has weight 0, its
    output is 0/0. Memory is O(tokens * e) and H is never held whole; the result does not depend on
    block beyond rounding. Kernel attention with phi(q).phi(k), exactly. Of 16-bit tokens, sums and
    result have 32 bits.
    Raises ValueError on shapes that disagree, no key, more queries than keys where causal, numbers
    that are not finite, or weights below 0.
    """
    check_tokens(queries=queries, keys=keys, values=values, causal=causal)
    check_context(keys=keys)
    check_finite(queries=queries, keys=keys, values=values)
    check_weights(weights, keys)
    check_positive_int(block=block)
    keys, weights = _written(keys, weights)
    one_block = _stream if causal else _write_then_read
    reading = None
    for start in range(0, phi.size, block):
        neurons = phi.block(start, min(start + block, phi.size))
        part = one_block(neurons, queries, keys, weights, values)
        reading = part if reading is None else pool(reading, part)
    return reading  # type: ignore[return-value]  # there is a neuron


def _activity(phi: Population, side: str, x: Array) -> Activity:
    """Adapted neurons are tuned to keys and to queries apart, all others to both alike."""
    return Activity(
        *(part if isinstance(part, float) else _wide(part) for part in getattr(phi, side, phi)(x))
    )


def _wide(x: Array) -> Array:
    """The same numbers with 32 bits where they have 16, in which sums over tokens overflow."""
    xp = array_namespace(x)
    return xp.astype(x, xp.float32) if xp.finfo(x.dtype).bits < 32 else x


def _scaled(phi: Activity, exponent: Array, top: Array) -> Array:
    """amplitude * exp(exponent - top); where NumPy allows it, in place of the exponent."""
    if type(exponent) is np.ndarray:  # and not of a subclass, with rules of its own
        hidden = np.exp(np.subtract(exponent, top, out=exponent), out=exponent)
    else:
        hidden = array_namespace(exponent).exp(exponent - top)
    return hidden if isinstance(phi.amplitude, float) else phi.amplitude * hidden


def _write_then_read(phi, queries, keys, weights, values) -> Reading:
    return _read(_write(blank(phi, values), keys, weights, values), queries)


def _stream(phi, queries, keys, weights, values) -> Reading:
    """A chunk of tokens reads what earlier chunks have written into H and g, and its own pairs."""
    before = keys.shape[-2] - queries.shape[-2]
    early, late = slice(0, before), slice(before, None)
    memory = _write(blank(phi, values), keys[..., early, :], weights, values[..., early, :])
    keys, values = keys[..., late, :], values[..., late, :]
    weights = None if weights is None else weights[..., late]
    even = _is_even(memory.log_scale) if before else True
    steps: list[Reading] = []
    for span in _spans(queries) or [slice(0, 0)]:
        on_keys = _activity(phi, "keys", keys[..., span, :])
        on_queries = _activity(phi, "queries", queries[..., span, :])
        terms = _terms(values, weights, span)
        even = even and _is_even(on_keys.exponent)
        if even:
            memory = _stream_even(memory, on_queries, on_keys, terms, steps)
            continue
        for now in _spans(terms, _PAIRS):
            q, k = (_tokens(x, now) for x in (on_queries, on_keys))
            inside = _inside(*_pairs(q, k), terms[..., now, :])
            steps.append(pool(inside, _read_at_once(memory, q)) if steps or before else inside)
            memory = _write_at_once(memory, k, terms[..., now, :])
    return _join(steps)


def _is_even(exponent: Array) -> bool:
    """Whether one scale does for all neurons: no activity that is needed underflows then.

    exponent: (..., m), of a token's activities or of a memory. A pair's kernel is at least the
    activity that its key causes in the query's strongest neuron.
    """
    xp = array_namespace(exponent)
    spread = xp.max(exponent, axis=-1) - xp.min(exponent, axis=-1)
    limit = -0.6 * math.log(float(xp.finfo(exponent.dtype).smallest_normal))
    return bool(known(xp.all(spread < limit)))


def _stream_even(memory: Memory, queries: Activity, keys: Activity, terms: Array, steps: list):
    """The memory after these tokens, whose readings are added to steps; two exponentials a neuron.

    Chunks of equal length are worked on side by side: only what they add to H and g goes from one
    to the next.
    """
    xp = array_namespace(terms)
    (hidden_q, top_q), (hidden_k, top_k) = (_by_token(x) for x in (queries, keys))
    top = xp.max(memory.log_scale, axis=-1)
    shared = xp.where(xp.isinf(top), xp.zeros_like(top), top)  # nothing written yet
    sums = _sums(memory) * xp.exp(memory.log_scale - shared[..., None])[..., None, :]
    whole = terms.shape[-2] // _CHUNK * _CHUNK
    for now in (slice(0, whole), slice(whole, None)):
        chunks = [_chunks(x[..., now, :]) for x in (hidden_q, hidden_k, terms, top_k[..., None])]
        q, k, v, scale = *chunks[:3], chunks[3][..., 0]
        if not v.shape[-2]:
            continue
        pairs = xp.matmul(q, xp.matrix_transpose(k))
        inside = _inside(pairs, scale[..., None, :], v)
        highest = xp.max(scale, axis=-1)
        tops = [top + xp.zeros_like(highest[..., 0])]  # before each chunk, and after the last
        for n in range(v.shape[-3]):
            tops.append(xp.maximum(tops[-1], highest[..., n]))
        higher = xp.stack(tops[1:], axis=-1)
        weight = xp.exp(scale - higher[..., None])[..., None, :]
        kept = xp.exp(xp.stack(tops[:-1], axis=-1) - higher)[..., None, None]
        added = xp.matmul(xp.matrix_transpose(v) * weight, k)
        before = [sums + xp.zeros_like(added[..., 0, :, :])]
        for n in range(v.shape[-3]):
            before.append(before[-1] * kept[..., n, :, :] + added[..., n, :, :])
        sums, top = before.pop(), tops.pop()
        earlier = xp.matmul(q, xp.matrix_transpose(xp.stack(before, axis=-3)))
        both = pool(inside, _reading(earlier, xp.stack(tops, axis=-1)[..., None, None]))
        flat = _unchunked(both)
        steps.append(flat._replace(log_scale=flat.log_scale + top_q[..., now]))
    H, g = sums[..., :-1, :], sums[..., -1, :]
    return Memory(memory.phi, H, g, top[..., None] + xp.zeros_like(g))


def _chunks(x: Array) -> Array:
    """(..., tokens, k) as (..., chunks, tokens of a chunk, k); one chunk where they are too few."""
    *leading, tokens, k = x.shape
    n = max(1, tokens // _CHUNK)
    return array_namespace(x).reshape(x, (*leading, n, tokens // n, k))


def _unchunked(x: Reading) -> Reading:
    """Chunks that follow each other as one; the three parts may have leading axes of their own."""
    xp = array_namespace(x.pooled)
    drive = xp.reshape(x.drive, (*x.drive.shape[:-3], -1, x.drive.shape[-1]))
    return Reading(drive, *(xp.reshape(y, (*y.shape[:-2], -1)) for y in x[1:]))


def _by_token(x: Activity) -> tuple[Array, Array]:
    """Hidden activity over that of the strongest neuron, (..., tokens, m), and its log, (..., tokens)."""
    top = array_namespace(x.exponent).max(x.exponent, axis=-1, keepdims=True)
    return _scaled(x, x.exponent + 0.0, top), (top + x.gain)[..., 0]


def _pairs(queries: Activity, keys: Activity) -> tuple[Array, Array]:
    """Kernel of every query and key over exp of its scale, and that scale: (..., t, i)."""
    xp = array_namespace(queries.exponent)
    exponent = queries.log_scale[..., :, None, :] + keys.log_scale[..., None, :, :]
    top = xp.max(exponent, axis=-1, keepdims=True)
    kernel = xp.exp(exponent - top)
    if not (isinstance(queries.amplitude, float) or isinstance(keys.amplitude, float)):
        kernel = kernel * queries.amplitude[..., :, None, :] * keys.amplitude[..., None, :, :]
    return xp.sum(kernel, axis=-1), top[..., 0]


def _inside(pairs: Array, scale: Array, terms: Array) -> Reading:
    """What the tokens of a chunk read of each other: token t of those up to t.

    pairs: (..., t, i), kernels over exp of scale, (..., t, i) or (..., 1, i).
    """
    xp = array_namespace(pairs)
    seen = xp.where(causal_mask(pairs), scale, -xp.inf)
    top = xp.max(seen, axis=-1, keepdims=True)
    return _reading(xp.matmul(pairs * xp.exp(seen - top), terms), top)


def _tokens(x: Activity, now: slice) -> Activity:
    return Activity(*(part if isinstance(part, float) else part[..., now, :] for part in x))


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
