"""Hidden neurons that the text itself recruits: every pair takes a neuron, and the most alike share one.

A neuron's curve for queries is exp(c . q), c being the mean of the keys that it stands for; its column
of H is the sum of their values, and g their number. What the context has said therefore also enters by
the tuning, not by H and g alone. Merging keys and values that are alike is known for caches: Zhang et
al. 2024 (CaM), Wang et al. 2024 (KVMerger). Which two merge: Ward 1963.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from ..checks import check_finite, check_positive_int, check_tokens
from ..encoder import Array
from ..network import Reading, pool
from . import working


class Recruits(NamedTuple):
    """Neurons of which some are taken: mean keys, (..., m, d), H, (..., e, m), and g, (..., m).

    apart: (..., m, m), what merging two of them would cost, infinite where one is free. It follows
    from the others and is kept to save time.
    """

    keys: Array
    hebbian: Array
    astrocytic: Array
    apart: Array

    @property
    def numbers(self) -> int:
        """How many numbers are held: mean keys, H and g."""
        return sum(x.size for x in self[:3])


def blank(n_neurons: int, keys: Array, values: Array) -> Recruits:
    """At least two neurons none of which is taken, for keys (..., tokens, d) and values."""
    lead, m = keys.shape[:-2], n_neurons
    return Recruits(
        np.zeros((*lead, m, keys.shape[-1]), keys.dtype),
        np.zeros((*lead, values.shape[-1], m), values.dtype),
        np.zeros((*lead, m), keys.dtype),
        np.full((*lead, m, m), np.inf, keys.dtype),
    )


def write(recruits: Recruits, keys: Array, values: Array) -> Recruits:
    """Every pair takes a free neuron; where none is free, the two that are most alike become one first.

    keys: (..., tokens, d); values: (..., tokens, e), in the order of the text, which matters here.
    Raises ValueError on shapes that disagree or numbers that are not finite.
    """
    check_tokens(keys=keys, values=values)
    check_finite(keys=keys, values=values)
    e, m = recruits.hebbian.shape[-2:]
    c, H, g, apart = (
        np.array(x).reshape(-1, *shape)
        for x, shape in zip(recruits, (recruits.keys.shape[-2:], (e, m), (m,), (m, m)), strict=True)
    )
    k, v = (x.reshape(-1, *x.shape[-2:]) for x in (keys, values))
    head = np.arange(len(c))
    taken = int(np.count_nonzero(g[0]))  # the same in all heads
    for t in range(k.shape[-2]):
        if taken < m:
            place = np.full(len(c), taken)
            taken += 1
        else:
            one, place = np.divmod(apart.reshape(-1, m * m).argmin(axis=-1), m)
            a, b = g[head, one], g[head, place]
            c[head, one] = (a[:, None] * c[head, one] + b[:, None] * c[head, place]) / (a + b)[
                :, None
            ]
            H[head, :, one] += H[head, :, place]
            g[head, one], g[head, place] = a + b, 0
            _compare(c, g, apart, one)
        c[head, place], H[head, :, place], g[head, place] = k[:, t], v[:, t], 1
        _compare(c, g, apart, place)
    return Recruits(
        *(x.reshape(old.shape) for x, old in zip((c, H, g, apart), recruits, strict=True))
    )


def _compare(c: Array, g: Array, apart: Array, place: Array) -> None:
    """Cost of merging neuron `place` of each head with each other one: growth of the sum of squares."""
    head = np.arange(len(c))
    n = g[head, place][:, None]
    cost = g * n / (g + n) * np.sum((c - c[head, place][:, None]) ** 2, axis=-1)
    cost[g == 0] = np.inf
    cost[head, place] = np.inf
    apart[head, place] = apart[head, :, place] = cost


def respond(recruits: Recruits, queries: Array) -> Reading:
    """Drive H phi(q) and response g . phi(q) with phi(q) = exp(c . q), for queries (..., tokens, d).

    Raises ValueError where no neuron is taken, or on numbers that are not finite.
    """
    check_tokens(queries=queries)
    check_finite(queries=queries)
    if not np.any(recruits.astrocytic):
        raise ValueError("recruits: no neuron is taken, so there is nothing to read")
    return _reading(
        queries, recruits.keys, np.swapaxes(recruits.hebbian, -1, -2), recruits.astrocytic
    )


def _reading(queries: Array, keys: Array, values: Array, count: Array) -> Reading:
    """Exponentials of scores, of keys that stand for `count` tokens each, (..., i), 0 of none."""
    s = queries @ np.swapaxes(keys, -1, -2)
    s = np.where(count[..., None, :] > 0, s, -np.inf)
    top = s.max(axis=-1, keepdims=True)
    phi = np.exp(s - top)
    return Reading(phi @ values, np.sum(phi * count[..., None, :], axis=-1), top[..., 0])


class Held(NamedTuple):
    """Both memories: exact pairs of the first and the last tokens, recruited neurons for the others."""

    n_neurons: int
    window: int
    first: int
    keys: Array | None = None
    values: Array | None = None
    recruits: Recruits | None = None
    tokens: int = 0

    @property
    def numbers(self) -> int:
        """How many numbers are held: keys and values, mean keys, H and g."""
        exact = sum(x.size for x in (self.keys, self.values) if x is not None)
        return exact + (0 if self.recruits is None else self.recruits.numbers)


def hold(n_neurons: int, window: int, first: int = 0) -> Held:
    """Both memories before the first token; window, first: as in working.near.

    Raises ValueError on sizes below 0, and unless there are at least two neurons.
    """
    check_positive_int(n_neurons=n_neurons)
    if n_neurons < 2:
        raise ValueError("n_neurons = 1: must be at least 2, so that two can merge")
    working.near(np.empty((1, 1)), window, first=first)
    return Held(n_neurons, window, first)


def read(held: Held, queries: Array, keys: Array, values: Array) -> tuple[Held, Reading]:
    """Add tokens to the memories, each read by its own query and by those after it, as working.read.

    queries: (..., t, d); keys: (..., t, d); values: (..., t, e), the next t tokens of the stream.
    Raises ValueError on shapes that disagree or numbers that are not finite.
    """
    check_tokens(queries=queries, keys=keys, values=values)
    check_finite(queries=queries, keys=keys, values=values)
    recruits = held.recruits or blank(held.n_neurons, keys, values)
    if held.keys is not None:
        keys = np.concatenate([held.keys, keys], axis=-2)
        values = np.concatenate([held.values, values], axis=-2)
    ones, steps = np.ones(keys.shape[:-1], keys.dtype), []
    exact = [*range(keys.shape[-2] - queries.shape[-2])]  # places among keys, oldest first
    for n in range(queries.shape[-2]):
        exact.append(keys.shape[-2] - queries.shape[-2] + n)
        gone = exact[held.first : max(held.first, len(exact) - held.window)]
        if gone:
            exact = exact[: held.first] + exact[held.first + len(gone) :]
            recruits = write(recruits, *(np.take(x, gone, axis=-2) for x in (keys, values)))
        q = queries[..., n : n + 1, :]
        both = []
        if exact:
            k, v, one = (
                np.take(x, exact, axis=a) for x, a in ((keys, -2), (values, -2), (ones, -1))
            )
            both.append(_reading(q, k, v, one))
        if np.any(recruits.astrocytic):
            both.append(respond(recruits, q))
        steps.append(both[0] if len(both) == 1 else pool(*both))
    drive, pooled, scale = (
        np.concatenate(x, axis=a)
        for x, a in zip(zip(*steps, strict=True), (-2, -1, -1), strict=True)
    )
    keys, values = (np.take(x, exact, axis=-2) for x in (keys, values))
    tokens = held.tokens + queries.shape[-2]
    after = held._replace(keys=keys, values=values, recruits=recruits, tokens=tokens)
    return after, Reading(drive, pooled, scale)
