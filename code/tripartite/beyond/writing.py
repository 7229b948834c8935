"""Writing g and H with synapses: presynaptic enhancement that fades and fills, and a rule of rates.

The paper writes g <- g + phi(k) and H <- H + v phi(k)^T. Here every spike of a terminal enhances its
release for seconds to minutes, as augmentation and potentiation do, and every coincidence of spikes
strengthens a hidden synapse. Both fade, and both end at a largest strength. Times in s.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..checks import check_finite, check_positive
from ..quantities import Quantities, quantity

Array = np.ndarray


@dataclass(frozen=True)
class Enhancement(Quantities):
    """What a spike adds to the release of later ones, over release at rest, and for how long."""

    increment: float = quantity("1", "enhancement by one spike, at rest", above=True)
    decay: float = quantity("s", "time constant of the enhancement", above=True)
    ceiling: float = quantity("1", "largest release, over that at rest", 1.0, above=True)


MOSSY_FIBRE, ASSOCIATIONAL = 6.0, 1.25
"""Largest release over that at rest, two synapses of the hippocampus: Salin et al. 1996."""

ENHANCEMENTS: dict[str, Enhancement] = {
    "augmentation": Enhancement(increment=0.025, decay=7.0, ceiling=MOSSY_FIBRE),
    "potentiation": Enhancement(increment=0.025, decay=30.0, ceiling=MOSSY_FIBRE),
}
"""Frog, motor nerve: increment of the slowest part, Magleby 1973; decay, Magleby 1979. The decay of
potentiation is 30 s to minutes; the shortest is taken. The ceiling is a rat's, for want of one."""


def write(rates: Array, T: float, synapse: Enhancement, start: Array | float = 0.0) -> Array:
    """Mean enhancement A of terminals after a stream of tokens; they release 1 + A times as at rest.

    A spike adds increment (1 - A / (ceiling - 1)), and between spikes A decays. rates: (tokens, ...)
    spikes per s of every terminal while a token is held; T: s, of one token; start: A before the
    first. Exact for the mean over Poisson spikes. Returns A, (...). Raises ValueError on rates that
    are not finite or negative, or a start outside 0 to ceiling - 1. Increments that add up: Magleby
    1973; that they saturate: Tsodyks, Pawelzik and Markram 1998, the form of their facilitation.
    """
    rates, A, most = _checked(rates, T, synapse, start)
    for rate in rates:
        up = synapse.increment * rate
        total = up / most + 1 / synapse.decay
        A = A * np.exp(-total * T) - up / total * np.expm1(-total * T)
    return A


def write_spikes(
    rates: Array,
    T: float,
    synapse: Enhancement,
    rng: np.random.Generator,
    start: Array | float = 0.0,
) -> Array:
    """Enhancement of each terminal after its own Poisson spikes, one by one; its mean is `write`.

    Arguments, result and errors as there; rng draws the spikes.
    """
    rates, A, most = _checked(rates, T, synapse, start)
    for rate in rates:
        n = rng.poisson(rate * T)
        most_spikes = int(n.max(initial=0))
        times = T * rng.random((*n.shape, most_spikes))
        times[np.arange(most_spikes) >= n[..., None]] = np.inf
        times.sort(axis=-1)
        now = np.zeros(n.shape)
        for spike in np.moveaxis(times, -1, 0):
            due = np.isfinite(spike)
            before = A * np.exp(-np.where(due, spike - now, 0.0) / synapse.decay)
            A = np.where(due, before + synapse.increment * (1 - before / most), A)
            now = np.where(due, spike, now)
        A = A * np.exp(-(T - now) / synapse.decay)
    return A


def _checked(rates, T, synapse, start):
    """Rates and start as arrays, and the largest A; ValueError on what `write` refuses."""
    rates = np.asarray(rates, dtype=float)
    check_positive(T=T)
    check_finite(rates=rates)
    if rates.ndim < 1 or np.any(rates < 0):
        raise ValueError(f"rates {rates.shape}: must be (tokens, ...) and at least 0 1/s")
    most = synapse.ceiling - 1
    A = np.array(np.broadcast_to(np.asarray(start, dtype=float), rates.shape[1:]))
    if not np.all((A >= 0) & (A <= most)):
        raise ValueError(f"start = {start!r}: must be 0 to ceiling - 1 = {most:g}")
    return rates, A, most


def coincidences(pre: Array, post: Array, window: float) -> Array:
    """Rate at which independent Poisson spikes of two neurons meet within a window: r_pre r_post w.

    pre: (tokens, m), post: (tokens, e), both per s and at least 0; window: s. Returns (tokens, m, e)
    per s: what `write` takes for hidden synapses. Raises ValueError on negative or other rates.
    """
    check_positive(window=window)
    pre, post = np.asarray(pre, dtype=float), np.asarray(post, dtype=float)
    check_finite(pre=pre, post=post)
    for name, rates in {"pre": pre, "post": post}.items():
        if rates.ndim != 2 or len(rates) != len(pre) or np.any(rates < 0):
            raise ValueError(f"{name} {rates.shape}: must be ({len(pre)}, neurons), at least 0 1/s")
    return window * pre[:, :, None] * post[:, None, :]


def rectified(values: Array) -> Array:
    """Values of both signs as rates of two populations, on and off: (..., e) to (..., 2 e).

    Rates cannot be negative; what the first e carry less what the others carry is the values.
    """
    return np.concatenate([np.maximum(values, 0), np.maximum(-values, 0)], axis=-1)
