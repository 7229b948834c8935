"""Domains: parts of an astrocyte that each pool some synapses and divide those only.

A circuit of m hidden and e output neurons has e m synapses (i, a), each with a process of its own.
In units of the response of one pool for all, a process at neuron a senses m w_a, w its share, and a
domain hears the mean over its own synapses, p_D. They transmit w_a y_ia / p_D; with one pool p_D = 1.
"""

from __future__ import annotations

import numpy as np

from ..checks import check_choice, check_positive_int

Array = np.ndarray


def at_random(outputs: int, neurons: int, size: int, rng: np.random.Generator) -> Array:
    """Domains of about size synapses each, drawn at random: labels (outputs, neurons).

    Where size does not divide the number of synapses, sizes differ by one at most.
    Raises ValueError where a number is below 1.
    """
    check_positive_int(outputs=outputs, neurons=neurons)
    return rng.permutation(_blocks(outputs * neurons, size)).reshape(outputs, neurons)


def in_order(outputs: int, order: Array, size: int, along: str) -> Array:
    """Domains of about size synapses that are neighbours: labels (outputs, neurons).

    order: (neurons,), hidden neurons from one side to the other; along: "dendrite", neighbours are
    synapses of successive neurons on one output neuron; or "axon", those of one hidden neuron come
    first. Raises ValueError on another name, or where a number is below 1.
    """
    check_choice("along", along, ("axon", "dendrite"))
    check_positive_int(outputs=outputs)
    labels = _blocks(outputs * len(order), size)
    placed = np.empty((outputs, len(order)), int)
    rows = (outputs, len(order)) if along == "dendrite" else (len(order), outputs)
    placed[:, order] = labels.reshape(rows) if along == "dendrite" else labels.reshape(rows).T
    return placed


def _blocks(synapses: int, size: int) -> Array:
    """Labels of synapses in a row, (synapses,), cut into domains of about size."""
    check_positive_int(size=size)
    domains = max(1, round(synapses / size))
    return np.arange(synapses) * domains // synapses


def heard(share: Array, labels: Array) -> Array:
    """What every domain hears, over what one pool for all would hear: p_D, (tokens, domains).

    share: (tokens, neurons), adds up to one over neurons; labels: (outputs, neurons).
    """
    synapses = labels.ravel()
    sums = [np.bincount(synapses, np.broadcast_to(w, labels.shape).ravel()) for w in share]
    return labels.shape[1] * np.stack(sums) / np.bincount(synapses)


def divided(share: Array, recalled: Array, labels: Array) -> Array:
    """Output of a circuit whose domains divide by what they hear: (tokens, outputs).

    share: (tokens, neurons); recalled: (outputs, neurons), y; labels: (outputs, neurons).
    """
    gain = (1.0 / heard(share, labels)).T  # (domains, tokens)
    each = zip(recalled, labels, strict=True)
    return np.stack([np.sum((share * y).T * gain[own], axis=0) for y, own in each], axis=-1)


def share_moments(share: Array, size: int, nodes: int = 200) -> tuple[Array, Array]:
    """Mean and variance of a synapse's share w / p_D over all partners: (tokens, neurons) each.

    A synapse shares its domain with size - 1 others, each of any hidden neuron with equal chance.
    1/p_D and 1/p_D^2 are integrals of exponentials, and with M(u) the mean of e^(-u w_b) over neurons
    E (w/p_D)^r = (w size/m)^r int_0^inf u^(r-1) e^(-u w) M(u)^(size-1) du, summed over log u.
    Means add up to one. share: (tokens, neurons), all above 0.
    Raises ValueError where size or nodes is below 1, or a share is not above 0.
    """
    check_positive_int(size=size, nodes=nodes)
    if not np.all(share > 0):
        raise ValueError(f"share: smallest is {np.min(share)}: must be above 0")
    mean, square = np.empty(share.shape), np.empty(share.shape)
    for token, w in enumerate(share):
        u = np.geomspace(1e-6 / (size * w.max()), 50.0 / w.min(), nodes)
        decay = np.exp(-u[:, None] * w)
        weight = u * np.log(u[1] / u[0]) * decay.mean(axis=-1) ** (size - 1)
        each = w * size / len(w)
        mean[token], square[token] = each * (weight @ decay), each**2 * (weight * u @ decay)
    return mean / mean.sum(axis=-1, keepdims=True), square - mean**2


def scatter(share: Array, outputs: int, size: int) -> Array:
    """Standard deviation of what a domain of random synapses hears, over its mean: (tokens,).

    Sampling size of outputs * neurons synapses without replacement; 1/n is the sum of w^2:
    ((m/n - 1) / size) (1 - size / (e m)), up to e m - 1 in place of e m.
    share: (tokens, neurons). Raises ValueError where a number is below 1.
    """
    check_positive_int(outputs=outputs, size=size)
    neurons = share.shape[-1]
    synapses = outputs * neurons
    variance = neurons * np.sum(share**2, axis=-1) - 1
    return np.sqrt(variance / size * max(synapses - size, 0) / (synapses - 1))
