"""A circuit injured: processes that fail, noise, few bits, saturation, a late gain; and what theory says.

One head's circuit with weights in plain units. A process can be numb (the astrocyte does not hear it)
or deaf (it does not respond, and its synapse keeps a constant gain). Outputs have shape (tokens, e).
"""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

import numpy as np

from .. import attention, features, network
from ..checks import check_choice, check_finite, check_positive_int

Array = np.ndarray
NOISES = (
    "all of H together",
    "synapses H",
    "hidden neurons",
    "synapses g",
    "all hidden neurons together",
)
SCALES = ("axon", "dendrite", "astrocyte")


class Circuit(NamedTuple):
    """One head's circuit, healthy, and what it gives for its own queries."""

    phi: features.FeatureMap
    H: Array  # (e, neurons)
    g: Array  # (neurons,)
    hidden: Array  # h for every query, (tokens, neurons)
    exact: Array  # output, (tokens, e)
    p: Array  # response of the astrocyte, (tokens,)
    share: Array  # of each neuron in the vote, w, (tokens, neurons); adds up to one
    recalled: Array  # what each neuron votes for, y, (e, neurons)


def circuit(phi: features.FeatureMap, queries: Array, keys: Array, values: Array) -> Circuit:
    """The circuit that has written keys and values and is read by queries, (tokens, d) each.

    Raises ValueError on shapes that disagree or numbers that are not finite.
    """
    memory = network.write(network.blank(phi, values), keys, values)
    reading = network.read(memory, queries)
    unit = np.exp(memory.log_scale)
    H, g, h = memory.hebbian * unit, memory.astrocytic * unit, phi(queries).value
    p = reading.response
    return Circuit(phi, H, g, h, reading.output, p, h * g / p[:, None], H / g)


def read(c: Circuit, H: Array | None = None, g: Array | None = None) -> Array:
    """Output of a circuit with other weights H, (e, neurons), or g, (neurons,)."""
    H, g = c.H if H is None else H, c.g if g is None else g
    return (c.hidden @ H.T) / (c.hidden @ g)[:, None]


def relative(difference: Array, exact: Array) -> float:
    """Size of a difference over all tokens, by that of the exact output."""
    return float(np.linalg.norm(difference) / np.linalg.norm(exact))


def compare(output: Array, exact: Array) -> tuple[Array, Array]:
    """Length (ratio) and turn (degrees) of every token's output, (tokens,) each."""
    length = np.vecdot(output, exact) / np.vecdot(exact, exact)
    rest = output - length[:, None] * exact
    side = np.linalg.norm(rest, axis=1) / np.linalg.norm(exact, axis=1)
    return length, np.degrees(np.arctan2(side, length))


# --- processes that fail ----------------------------------------------------------------------------


def numb(c: Circuit, fraction: float, rng: np.random.Generator) -> Array:
    """Output where the astrocyte does not hear this fraction of the hidden neurons."""
    return read(c, g=np.where(rng.random(c.g.shape) < fraction, 0, c.g))


def deaf(c: Circuit, fraction: float, gain: float, rng: np.random.Generator) -> Array:
    """Output where this fraction of the synapses H keeps a constant gain, over the median of 1/p."""
    lost = rng.random(c.H.shape) < fraction
    stuck = gain * np.median(1 / c.p)
    return read(c, H=np.where(lost, 0, c.H)) + stuck * (c.hidden @ np.where(lost, c.H, 0).T)


def deaf_turn(c: Circuit, fraction: float, gain: float) -> Array:
    """Turn by deaf processes, degrees, root mean square over injuries: (tokens,).

    From the binomial: the part at right angles to the output, by the length that is left.
    """
    b = gain * np.median(1 / c.p) * c.p
    y2 = c.share**2 @ (c.recalled**2).T  # sum_a w_a^2 y_ia^2
    unit2 = c.exact**2 / np.sum(c.exact**2, axis=1, keepdims=True)
    across = np.sum(y2 * (1 - unit2), axis=1) / np.sum(c.exact**2, axis=1)
    side = np.sqrt(fraction * (1 - fraction) * across) * np.abs(b - 1)
    return np.degrees(np.arctan2(side, 1 + fraction * (b - 1)))


# --- noise and few bits -----------------------------------------------------------------------------


def noisy(c: Circuit, kind: str, variation: float, rng: np.random.Generator) -> Array:
    """Output with log-normal noise of this coefficient of variation; kind: one of NOISES.

    Raises ValueError on another kind.
    """
    check_choice("kind", kind, NOISES)
    sigma = np.sqrt(np.log(1 + variation**2))

    def factor(*shape: int) -> Array:
        return np.exp(sigma * rng.standard_normal(shape) - sigma**2 / 2)

    if kind == "all of H together":
        return read(c, H=c.H * factor())
    if kind == "synapses H":
        return read(c, H=c.H * factor(*c.H.shape))
    if kind == "synapses g":
        return read(c, g=c.g * factor(*c.g.shape))
    x = factor(*c.g.shape) if kind == "hidden neurons" else factor()
    return read(c, c.H * x, c.g * x)


def noise_error(c: Circuit, kind: str, variation: float) -> float:
    """Relative error by such noise, root mean square over noise and tokens, to first order."""
    check_choice("kind", kind, NOISES)
    if kind.endswith("together"):
        return variation if kind == "all of H together" else 0.0
    w2, y, l2 = c.share**2, c.recalled, np.sum(c.exact**2, axis=1)
    of_H, of_g = w2 @ np.sum(y**2, axis=0), w2.sum(axis=1) * l2
    of_h = of_H - 2 * np.vecdot(w2 @ y.T, c.exact) + of_g  # |y - l|^2
    variance = {"synapses H": of_H, "synapses g": of_g, "hidden neurons": of_h}
    return float(variation * np.sqrt(variance[kind].sum() / l2.sum()))


def steps(c: Circuit, bits: int, scale: str) -> Array:
    """Step of weights of so many bits: of g, or of H by its largest on an axon or a dendrite.

    Raises ValueError on another scale, or on less than one bit (two for H, which has a sign).
    """
    check_choice("scale", scale, SCALES)
    check_positive_int(bits=bits)
    if scale == "astrocyte":
        return c.g.max() / (2**bits - 1)
    if bits < 2:
        raise ValueError(f"bits = {bits}: must be at least 2 for H, which has a sign")
    axis = 0 if scale == "axon" else 1
    return np.abs(c.H).max(axis=axis, keepdims=True) / (2 ** (bits - 1) - 1)


def rounded(c: Circuit, bits: int, scale: str) -> Array:
    """Output with weights of so many bits; scale, and errors: as in steps."""
    step = steps(c, bits, scale)
    if scale == "astrocyte":
        return read(c, g=step * np.round(c.g / step))
    return read(c, H=step * np.round(c.H / step))


def rounding_error(c: Circuit, bits: int, scale: str) -> float:
    """Relative error by rounding H, if errors are even within a step and independent.

    Raises ValueError as steps does, and for the astrocyte's g, which has no such law.
    """
    if scale == "astrocyte":
        raise ValueError("scale = 'astrocyte': must be axon or dendrite")
    delta2 = np.sum((steps(c, bits, scale) / c.g) ** 2 * np.ones_like(c.H), axis=0)
    return float(np.sqrt(np.sum(c.share**2 @ delta2) / 12) / np.linalg.norm(c.exact))


# --- neurons that saturate --------------------------------------------------------------------------


def saturated(c: Circuit, log_ceiling: float, q: Array, k: Array, v: Array) -> Array:
    """Output if hidden neurons fire no faster than the ceiling, for the circuit's own tokens."""
    phi = replace(c.phi, tuning=features.clipped(np.exp(log_ceiling)))
    return network.attend(phi, q, k, v, block=phi.size).output


def saturated_limit(log_ceiling: float, q: Array, k: Array, v: Array, nodes: int = 12) -> Array:
    """The same with infinitely many neurons, by Gauss-Hermite quadrature in the plane of q and k."""
    check_positive_int(nodes=nodes)
    at, weights = np.polynomial.hermite_e.hermegauss(nodes)
    weights = weights / weights.sum()
    score, q2, k2 = q @ k.T, np.sum(q * q, 1)[:, None], np.sum(k * k, 1)[None]
    spread = np.sqrt(np.maximum(k2 - score**2 / q2, 0))
    rho = np.zeros_like(score)
    for x, wx in zip(at, weights, strict=True):
        along_q = q2 + score + np.sqrt(q2) * x
        for y, wy in zip(at, weights, strict=True):
            along_k = k2 + score + score / np.sqrt(q2) * x + spread * y
            over = np.maximum(along_q - log_ceiling, 0) + np.maximum(along_k - log_ceiling, 0)
            rho += wx * wy * np.exp(-over)
    return attention.kernel_attention(rho * np.exp(score), v)


# --- a gain that is late ----------------------------------------------------------------------------


def late_lengths(p: Array, lag: float) -> Array:
    """Length of every token's output with a gain that follows 1/p late, by lag tokens: (tokens,).

    p: response, (tokens,), of which the gain's rest is the geometric mean.
    """
    check_finite(p=p)
    p = p / np.median(p)
    P = np.exp(-np.mean(np.log(p)))  # where the gain rests before the text
    lengths = []
    for p_t in p:
        P = 1 / p_t + (P - 1 / p_t) * np.exp(-p_t / lag)
        lengths.append(P * p_t)
    return np.array(lengths)


# --- several astrocytes -----------------------------------------------------------------------------


def territories(
    c: Circuit, astrocytes: int, axis: Array, rng: np.random.Generator | None = None
) -> tuple[Array, Array]:
    """Outputs (A, tokens, e) and responses (A, tokens) of A small networks with their own neurons.

    axis: (d,), along which neighbours are alike; rng: territories at random instead.
    """
    order = np.argsort(c.phi.directions @ axis)
    if rng is not None:
        order = rng.permutation(order)
    parts = [(c.hidden[:, who], who) for who in np.array_split(order, astrocytes)]
    drives = np.array([h @ c.H[:, who].T for h, who in parts])
    responses = np.array([h @ c.g[who] for h, who in parts])
    return drives / responses[..., None], responses


def shared(outputs: Array, responses: Array, eta: float) -> Array:
    """Output of the tiled circuit when astrocytes share a fraction eta of what they hear.

    outputs, responses: as of territories; eta: 0, each by itself, to 1, one pool.
    """
    p_own, p = len(outputs) * responses, responses.sum(axis=0)
    return np.sum((responses / ((1 - eta) * p_own + eta * p))[..., None] * outputs, axis=0)


def expected(c: Circuit, astrocytes: int, tokens: slice = slice(None), nodes: int = 40) -> Array:
    """Expectation of the tiled output over all random tilings, without sharing, of some tokens.

    E w_a/(w_a + sum of its partners) is an integral of exponentials, over s even in its logarithm.
    """
    s = np.geomspace(1e-2, 1e6, nodes, dtype=np.float32)[:, None, None]
    w = c.share[tokens].astype(np.float32)
    decay = np.exp(-s * w)  # (nodes, tokens, neurons)
    alive = 1 + (decay - 1) / astrocytes
    product = np.exp(np.log(alive).sum(axis=-1, keepdims=True))
    vote = np.sum(s * w * decay / alive * product, axis=0)
    return vote @ c.recalled.T / vote.sum(axis=1, keepdims=True)
