"""The neuron-astrocyte network: write a context into synapses, read it with queries.

Writing is Hebbian between neurons (H) and presynaptic between neuron and astrocyte (g); reading
divides every synapse by the astrocyte's pooled response p = g.phi(q). Kozachkov et al. 2023.
All states are values: they go in and come out. Arrays have shape (..., tokens, features).
"""

from __future__ import annotations

from typing import NamedTuple, Protocol

from array_api_compat import array_namespace, device

from .attention import Array
from .checks import (
    check_context,
    check_finite,
    check_floating,
    check_positive_int,
    check_tokens,
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

    def block(self, start: int, stop: int) -> Population: ...


_TOKENS = 512  # worked on at once, so that their hidden activity stays in a processor's cache


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
    of_type = {"dtype": values.dtype, "device": device(values)}
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
        memory = _write_at_once(memory, keys[..., now, :], values[..., now, :])
    return memory


def _write_at_once(memory: Memory, keys: Array, values: Array) -> Memory:
    xp = array_namespace(keys, values)
    phi = _curves(memory.phi, "keys")(keys)
    top = xp.max(phi.log_scale, axis=-2)
    hidden = _scaled(phi, phi.log_scale - top[..., None, :])
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
    if xp.all(xp.isinf(memory.log_scale)):
        raise ValueError("memory: nothing is written in it, so there is nothing to read")
    return _read(memory, queries)


def _read(memory: Memory, queries: Array) -> Reading:
    spans = _spans(queries) or [slice(0, 0)]  # of no queries, the response to none
    return _join([_read_at_once(memory, queries[..., now, :]) for now in spans])


def _read_at_once(memory: Memory, queries: Array) -> Reading:
    xp = array_namespace(queries, memory.hebbian)
    phi = _curves(memory.phi, "queries")(queries)
    exponent = phi.log_scale + memory.log_scale[..., None, :]
    top = xp.max(exponent, axis=-1, keepdims=True)
    hidden = _scaled(phi, exponent - top)
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


def _curves(phi: Population, side: str):
    """Adapted neurons are tuned to keys and to queries apart, all others to both alike."""
    return getattr(phi, side, phi)


def _scaled(phi: Activity, exponent: Array) -> Array:
    hidden = array_namespace(exponent).exp(exponent)
    return hidden if isinstance(phi.amplitude, float) else phi.amplitude * hidden


def _write_then_read(phi, queries, keys, values) -> Reading:
    return _read(_write(blank(phi, values), keys, values), queries)


def _stream(phi, queries, keys, values) -> Reading:
    memory, steps = blank(phi, values), []
    for now in _spans(keys, 1):
        memory = _write_at_once(memory, keys[..., now, :], values[..., now, :])
        steps.append(_read_at_once(memory, queries[..., now, :]))
    return _join(steps)


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
