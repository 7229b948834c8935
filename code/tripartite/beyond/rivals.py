"""Other systems that do what attention does, each by its central equation.

Queries and keys are (..., t, d) and (..., i, d), scaled so that q.k is the score, as everywhere
here; values (..., i, e). Each system is a way to weigh memory i at query t: a kernel (..., t, i).
Those whose kernel is phi(q).phi(k) are hidden neurons for `network`: elu_neurons, fourier.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence
from functools import cache
from typing import NamedTuple

import numpy as np
from scipy.special import expit, gammaln, logsumexp, xlogy
from scipy.stats import beta, binom

from ..attention import causal_mask, kernel_attention, log_sum_exp, scores
from ..checks import check_choice, check_finite, check_positive, check_positive_int, check_tokens
from ..features import Activity, FeatureMap, cosine, independent_directions, sample

Array = np.ndarray


def unit(x: Array) -> Array:
    """Tokens at unit length, (..., tokens, d)."""
    return x / np.linalg.norm(x, axis=-1, keepdims=True)


def misfit(found: Array, exact: Array) -> Array:
    """Sine of the angle between two outputs (heads, ...), each head as one long vector: (heads,).

    The relative error that is left after the best single factor; 1 for an output of zeros. From the
    residual, not from the cosine, whose rounding alone would be an error of 1e-8.
    """
    a, b = (np.reshape(x, (len(x), -1)) for x in (found, exact))
    square = np.sum(a * a, axis=1)
    factor = np.sum(a * b, axis=1) / np.where(square > 0, square, 1.0)
    return np.linalg.norm(b - factor[:, None] * a, axis=1) / np.linalg.norm(b, axis=1)


# ---- modern Hopfield network


def hopfield_step(state: Array, stored: Array, sharpness: float) -> Array:
    """One update, xi <- X softmax(beta X^T xi), beta the sharpness: state (..., d), stored (K, d).

    With queries as states and keys as stored patterns, and values for the outer X, one step is
    attention; beta = 1/sqrt(d) for queries and keys that are not scaled. Ramsauer et al. 2021, eq. 3.
    """
    check_positive(sharpness=sharpness)
    s = sharpness * state @ stored.T
    return np.exp(s - log_sum_exp(s)) @ stored


def hopfield_energy(state: Array, stored: Array, sharpness: float) -> Array:
    """Energy (...) that no step raises: -lse(beta, X^T xi) + |xi|^2/2 + constants. Their eq. 2."""
    s = sharpness * state @ stored.T
    longest = np.max(np.sum(stored**2, axis=-1))
    lse = (log_sum_exp(s)[..., 0] - math.log(len(stored))) / sharpness
    return -lse + 0.5 * np.sum(state**2, axis=-1) + 0.5 * longest


# ---- sparse distributed memory


@cache
def circle_intersection(n_bits: int, radius: int) -> Array:
    """Log of the share of all n-bit addresses that lie within `radius` bits of both of two points
    which differ in 0, 1 .. n bits: (n + 1,), minus infinity where there are none.

    An address differs from the first point in b of the v bits in which the points differ, and in c
    of the others: b + c and v - b + c must not exceed the radius. Bricken and Pehlevan 2021.
    """
    check_positive_int(n_bits=n_bits, radius=radius)
    if radius >= n_bits:
        raise ValueError(f"radius = {radius}: must be below n_bits = {n_bits}")
    v, b, c = np.ogrid[: n_bits + 1, : n_bits + 1, : n_bits + 1]
    inside = (b <= v) & (c <= n_bits - v) & (b + c <= radius) & (v - b + c <= radius)
    ways = np.where(inside, _log_choose(v, b) + _log_choose(n_bits - v, c), -np.inf)
    log_share = logsumexp(ways, axis=(1, 2)) - n_bits * math.log(2)
    log_share.flags.writeable = False  # it is kept for the next call
    return log_share


def _log_choose(n, k):
    k = np.clip(k, 0, n)
    return gammaln(n + 1.0) - gammaln(k + 1.0) - gammaln(n - k + 1.0)


def sparse_distributed(queries: Array, keys: Array, n_bits: int, radius: int) -> Array:
    """Kernel of sparse distributed memory: how many addresses lie near both query and key.

    Cosines stand for Hamming distances, n (1 - cos)/2; between whole distances the logarithm is
    interpolated, and beyond the last with any address in common it is 0. Lengths do not matter.
    """
    log_share = circle_intersection(n_bits, radius)
    last = np.flatnonzero(np.isfinite(log_share))[-1]
    distance = 0.5 * n_bits * (1 - scores(unit(queries), unit(keys)))
    found = np.interp(distance, np.arange(last + 1), log_share[: last + 1], right=-np.inf)
    return np.exp(found - np.max(found, axis=-1, keepdims=True, initial=log_share[last]))


def hard_locations(n_neurons: int, d_key: int, share: float, seed: int) -> FeatureMap:
    """Sparse distributed memory as hidden neurons, active or not: each for a share of all tokens.

    A neuron's address is a random direction, and tokens within an angle of it excite it, whatever
    their length. Kanerva 1988, on the sphere as in Bricken and Pehlevan 2021, appendix B.4.
    """
    check_positive_int(n_neurons=n_neurons, d_key=d_key)
    if not 0 < share < 0.5:
        raise ValueError(f"share = {share!r}: must be above 0 and below 0.5")
    # the cosine c of a random direction has c^2 ~ Beta(1/2, (d - 1)/2)
    nearest = math.sqrt(beta.isf(2 * share, 0.5, 0.5 * (d_key - 1)))

    def tuning(drive: Array, half_square: Array, phase: Array) -> Activity:
        near = drive > nearest * np.sqrt(2 * half_square)
        return Activity(0.0 * half_square, near.astype(drive.dtype))

    addresses = unit(independent_directions(n_neurons, d_key, np.random.default_rng(seed)))
    return FeatureMap(addresses, np.zeros(n_neurons), tuning, 1)


def snr_radius(n_bits: int, n_memories: int, log2_neurons: float) -> int:
    """Radius that maximises signal to noise: a circle holds (2 m r)^(-1/3) of all addresses.

    r = 2^log2_neurons. Kanerva 1988; Bricken and Pehlevan 2021, appendix B.5.
    """
    check_positive_int(n_bits=n_bits, n_memories=n_memories)
    return int(binom.ppf((2.0 * n_memories * 2.0**log2_neurons) ** (-1 / 3), n_bits, 0.5))


# ---- key-value memory with local rules


class Slots(NamedTuple):
    """Synapses to and from hidden neurons, one memory each: keys (slots, d), values (slots, e)."""

    keys: Array
    values: Array


def write_slots(
    keys: Array, values: Array, n_slots: int, chance: float | None = None, seed: int = 0
) -> Slots:
    """Write pairs (i, d) and (i, e) one after the other: K <- K + gamma (x^T - K), then
    V <- V + gamma (y h^T - V), h = softmax(K x).

    gamma, the local third factor, is 1 at one hidden neuron after the other (chance None), or at
    each with that chance. Tyulmankov et al. 2021, eqs. 6 to 11, all stimuli to be stored.
    """
    check_tokens(keys=keys, values=values)
    check_positive_int(n_slots=n_slots)
    rng = np.random.default_rng(seed)
    K, V = np.zeros((n_slots, keys.shape[-1])), np.zeros((n_slots, values.shape[-1]))
    for t, (x, y) in enumerate(zip(keys, values, strict=True)):
        gamma = (
            np.arange(n_slots) == t % n_slots if chance is None else rng.random(n_slots) < chance
        )
        K[gamma] = x
        s = K @ x
        h = np.exp(s - logsumexp(s))
        V[gamma] = h[gamma, None] * y
    return Slots(K, V)


def read_slots(slots: Slots, queries: Array) -> Array:
    """V softmax(K q) for queries (..., t, d): attention over slots. Their eqs. 4 and 5."""
    s = scores(queries, slots.keys)
    return kernel_attention(np.exp(s - log_sum_exp(s)), slots.values)


def share_right(n_slots: int, n_pairs: int, chance: float) -> Array:
    """Expected share of right bits after 1 .. n_pairs pairs, third factors at random: (n_pairs,).

    A pair is lost if no hidden neuron took it and was spared since; a lost bit is right by chance.
    """
    check_positive_int(n_slots=n_slots, n_pairs=n_pairs)
    lost = (1 - chance * (1 - chance) ** np.arange(n_pairs)) ** n_slots
    return 1 - 0.5 * np.cumsum(lost) / np.arange(1, n_pairs + 1)


def survivors(n_written: int, n_slots: int) -> Array:
    """Which of the pairs written one after the other are still there, (n_written,)."""
    return np.arange(n_written) >= n_written - n_slots


# ---- TEM, and TEM as a Transformer


def walk(moves: Array, start: Array) -> Array:
    """Positions e_{t+1} = e_t W_a: moves (t, n, n), one matrix a step; start (n,). Returns (t + 1, n).

    Recurrent position codes that actions drive. Whittington et al. 2022.
    """
    places = [start]
    for W in moves:
        places.append(places[-1] @ W)
    return np.array(places)


def tem(queries: Array, keys: Array) -> Array:
    """Kernel of TEM's Hebbian memory of conjunctions: q.k, without softmax; TEM-t takes exp(q.k).

    The memory sum_i x_i e_i^T, asked with a position e, answers sum_i (e.e_i) x_i.
    """
    return scores(queries, keys)


# ---- match and control


def spike_match(pre: Array, post: Array, width: float) -> float:
    """Match of two spike trains: sum over pairs of spikes of exp(-(difference / width)^2 / 2).

    Times and width in one unit. Calcium to the fourth power in a spine is nearly linear in such a
    sum, with a kernel of some ten milliseconds; a Gaussian is ours. Ellwood 2024, figure 2.
    """
    check_positive(width=width)
    apart = np.subtract.outer(np.asarray(pre, dtype=float), np.asarray(post, dtype=float)) / width
    return float(np.sum(np.exp(-0.5 * apart**2)))


def match_and_control(
    queries: Array, keys: Array, threshold: float, sharpness: float = 20.0, strongest: float = 8.0
) -> Array:
    """Conductance of synapses after a match: 1 - a + strongest a, with 1 before any match;
    a = sigmoid(sharpness (match / threshold - 1)).

    The match of spike trains, in a spine, is read as q.k; threshold: a match, above 0. A synapse
    above it takes control; all others still conduct. Ellwood 2024: 20 and 8 are of the published
    simulation, in the channel file Ellwood_AMPA_with_Ca.mod.
    """
    check_positive(threshold=threshold, sharpness=sharpness, strongest=strongest)
    return 1 + (strongest - 1) * expit(sharpness * (scores(queries, keys) / threshold - 1))


class SomaErrors(NamedTuple):
    """Chances: of no spike where the axon in control has one, and of a spike where it has none."""

    missed: Array
    spurious: Array


def soma_errors(
    n_axons: int, active: float, threshold: Array, strongest: float = 8.0
) -> SomaErrors:
    """Errors of a soma that fires above a summed conductance, one axon of n_axons in control.

    active: chance of a spike of an axon in one window; threshold: in units of a synapse that was
    not potentiated. The others sum to a binomial number. A soma reduced to its threshold is ours.
    """
    check_positive_int(n_axons=n_axons)
    check_positive(strongest=strongest)
    others = binom(n_axons - 1, active)
    return SomaErrors(others.cdf(np.subtract(threshold, strongest)), others.sf(threshold))


# ---- astromorphic Transformer


def astromorphic(
    queries: Array, keys: Array, values: Array, alpha: float = 1.0, places: Array | None = None
) -> Array:
    """phi(q) (H_neuron + H_astro) / (phi(q).g), g = (sum_i phi(k_i))^alpha, phi = elu + 1.

    H_neuron = sum_i v_i phi(k_i)^T; H_astro = sum_i v_i phi(r_i)^T for places r, (..., i, d).
    alpha: of the calcium's response; alpha = 1 without places is linear attention. Mia, Bal and
    Sengupta, arXiv 2312.10925. Returns (..., t, e).
    """
    check_tokens(queries=queries, keys=keys, values=values)
    check_positive(alpha=alpha)
    q, k = elu_plus_one(queries), elu_plus_one(keys)
    written = k if places is None else k + elu_plus_one(places)
    g = np.sum(k, axis=-2, keepdims=True) ** alpha
    drive = q @ (np.swapaxes(written, -1, -2) @ values)
    return drive / np.sum(q * g, axis=-1, keepdims=True)


# ---- neuron-astrocyte associative memory


def quartic(queries: Array, keys: Array) -> Array:
    """Kernel (q.k)^3: the drive of `memory`'s network, synapses and processes eliminated.

    Pairs are stored as one pattern, and a query is the first part of one. arXiv 2311.08135.
    """
    return scores(queries, keys) ** 3


# ---- astrocyte gains by a replicator equation


class Gated(NamedTuple):
    """Neurons x (..., N) and the astrocyte's gains p (..., K), which sum to 1."""

    x: Array
    p: Array


class Replicator(NamedTuple):
    """Memories (K, N) of -1 and +1; slope sigma of tanh; temperature T; time constants."""

    memories: Array
    sigma: float = 1.0
    temperature: float = 0.01
    tau_x: float = 1.0
    tau_p: float = 1.0


def overlap_score(x: Array, model: Replicator) -> Array:
    """f_mu = (xi^mu . phi(x))^2 / 2N: (..., K). Vivet and Arenas 2026, eq. 8."""
    xi = model.memories
    return (np.tanh(model.sigma * x) @ xi.T) ** 2 / (2 * xi.shape[1])


def gated_rates(state: Gated, model: Replicator) -> Gated:
    """tau_x x' = -x + (K/N) sum_mu p_mu xi^mu (xi^mu . phi); tau_p p' = p (F - p.F),
    F = f - T log p. Their eqs. 4 to 8."""
    xi = model.memories
    phi = np.tanh(model.sigma * state.x)
    drive = (state.p * (phi @ xi.T)) @ xi * (xi.shape[0] / xi.shape[1])
    F = overlap_score(state.x, model) - model.temperature * np.log(state.p)
    mean = np.sum(state.p * F, axis=-1, keepdims=True)
    return Gated((drive - state.x) / model.tau_x, state.p * (F - mean) / model.tau_p)


def gated_energy(state: Gated, model: Replicator) -> Array:
    """K (T p.log p - p.f) + sum_i (x phi - log cosh(sigma x)/sigma), (...): it never rises."""
    x, p = state
    f = overlap_score(x, model)
    neurons = x * np.tanh(model.sigma * x) - _log_cosh(model.sigma * x) / model.sigma
    gains = np.sum(model.temperature * xlogy(p, p) - p * f, axis=-1)
    return len(model.memories) * gains + np.sum(neurons, axis=-1)


def _log_cosh(x: Array) -> Array:
    return np.abs(x) + np.log1p(np.exp(-2 * np.abs(x))) - math.log(2)


def gated_recall(cues: Array, model: Replicator, steps: int, dt: float) -> Gated:
    """State after steps of dt, gains uniform at the start; cues (..., N).

    Neurons take Euler steps. Up to a shift that the sum of 1 fixes, tau_p d(log p)/dt = f - T log p:
    the gains take exact steps with f held, which are stable at any temperature.
    """
    check_positive_int(steps=steps)
    check_positive(dt=dt, temperature=model.temperature)
    k = len(model.memories)
    state = Gated(np.asarray(cues, dtype=float), np.full((*cues.shape[:-1], k), 1.0 / k))
    keep = math.exp(-model.temperature * dt / model.tau_p)
    for _ in range(steps):
        speed = gated_rates(state, model)
        settled = overlap_score(state.x, model) / model.temperature
        log_p = keep * np.log(state.p) + (1 - keep) * settled
        p = np.maximum(np.exp(log_p - log_sum_exp(log_p)), 1e-300)
        state = Gated(state.x + dt * speed.x, p)
    return state


def replicator(queries: Array, keys: Array, temperature: float) -> Array:
    """Kernel exp((q.k)^2 / 2dT): the gains that the replicator equation settles at. Their eq. 11."""
    check_positive(temperature=temperature)
    s = scores(queries, keys) ** 2 / (2 * keys.shape[-1] * temperature)
    return np.exp(s - np.max(s, axis=-1, keepdims=True))


# ---- linear attention, random feature attention


def elu_plus_one(x: Array) -> Array:
    """x + 1 above 0, exp(x) below. Katharopoulos et al. 2020, eq. 7."""
    return np.where(x > 0, x + 1, np.exp(np.minimum(x, 0)))


def elu_neurons(d_key: int) -> FeatureMap:
    """Linear attention as hidden neurons: one a feature, tuned elu + 1. Katharopoulos et al. 2020."""
    check_positive_int(d_key=d_key)

    def tuning(drive: Array, half_square: Array, phase: Array) -> Activity:
        return Activity(0.0 * half_square, elu_plus_one(drive))

    return FeatureMap(np.eye(d_key), np.zeros(d_key), tuning, 1)


def fourier(n_neurons: int, d_key: int, seed: int) -> FeatureMap:
    """Random feature attention as hidden neurons, in pairs: cosine and sine of each direction.

    For tokens of equal length: see unit. Even n_neurons. Peng et al. 2021, eq. 4.
    """
    check_positive_int(n_neurons=n_neurons, d_key=d_key)
    if n_neurons % 2:
        raise ValueError(f"n_neurons = {n_neurons}: must be even, a cosine and a sine a direction")
    half = independent_directions(n_neurons // 2, d_key, np.random.default_rng(seed))
    phases = np.repeat([0.0, -math.pi / 2], n_neurons // 2)
    return FeatureMap(np.concatenate([half, half]), phases, cosine, n_neurons)


def corrected(overlaps: Array, values: Array, rate: float = 1.0) -> Array:
    """What the delta rule writes, (i, e): u_i = rate (v_i - sum_{j < i} overlap_ij u_j).

    overlaps: phi(k_i).phi(k_j), (..., i, i); values (..., i, e). The memory answers a query with
    sum_i u_i phi(k_i).phi(q): H <- H + rate (v - H phi(k)) phi(k)^T writes what H does not say
    yet. Schlag, Irie and Schmidhuber 2021.
    """
    check_positive(rate=rate)
    before = np.eye(overlaps.shape[-1]) + rate * np.tril(overlaps, -1)
    return np.linalg.solve(before, rate * values)


def forget(kept: Array, drive: Array) -> Array:
    """Running sums s_t = kept_t s_{t-1} + (1 - kept_t) drive_t over the first axis.

    The gate of random feature attention: what is written long ago fades. Peng et al. 2021, eq. 7.
    """
    total, sums = np.zeros(drive.shape[1:]), []
    for keep, now in zip(kept, drive, strict=True):
        total = keep * total + (1 - keep) * now
        sums.append(total)
    return np.array(sums)


# ---- all of them by one interface


class System(NamedTuple):
    """kernel(queries, keys, own, n_neurons, seed) -> (..., t, i); own: the system's parameter.

    divides: whether the output is divided by the kernel's sum. shared: whether memories are
    written on top of each other in n_neurons hidden neurons, or into one cell each. corrects:
    whether a pair is written by the delta rule.
    """

    kernel: Callable[[Array, Array, float, int, int], Array]
    divides: bool
    shared: bool
    corrects: bool = False


def _neurons(make) -> Callable[[Array, Array, float, int, int], Array]:
    def kernel(q, k, own, n_neurons, seed):
        phi, q, k = make(q, k, own, n_neurons, seed)
        a, b = phi(q), phi(k)
        top = np.max(b.log_scale, axis=-2, keepdims=True)  # one scale a neuron, as in network
        b = b.amplitude * np.exp(b.log_scale - top)
        exponent = a.log_scale + top
        a = a.amplitude * np.exp(exponent - np.max(exponent, axis=-1, keepdims=True))
        return a @ np.swapaxes(b, -1, -2)

    return kernel


def _positive(orthogonal: bool):
    def make(q, k, own, n_neurons, seed):
        phi = sample("positive", n_neurons, q.shape[-1], seed, orthogonal=orthogonal)
        return phi, math.sqrt(own) * q, math.sqrt(own) * k

    return make


def _overlap(q, k, own, n_neurons, seed):
    """Cosine of the activities that two tokens excite."""
    phi, *tokens = _positive(False)(q, k, own, n_neurons, seed)
    a, b = (
        unit(x.amplitude * np.exp(x.log_scale - np.max(x.log_scale, axis=-1, keepdims=True)))
        for x in (phi(y) for y in tokens)
    )
    return a @ np.swapaxes(b, -1, -2)


def _exponential(q, k, own, n_neurons, seed):
    s = own * scores(q, k)
    return np.exp(s - np.max(s, axis=-1, keepdims=True))


SYSTEMS: dict[str, System] = {
    "softmax": System(_exponential, True, False),
    "replicator": System(lambda q, k, own, m, seed: replicator(q, k, own), True, False),
    "match and control": System(
        lambda q, k, own, m, seed: match_and_control(q, k, own), False, False
    ),
    "SDM, all addresses": System(
        lambda q, k, own, m, seed: sparse_distributed(q, k, 64, int(own)), True, False
    ),
    "SDM": System(
        _neurons(lambda q, k, own, m, seed: (hard_locations(m, q.shape[-1], own, seed), q, k)),
        True,
        True,
    ),
    "neuron-astrocyte": System(_neurons(_positive(False)), True, True),
    "Performer": System(_neurons(_positive(True)), True, True),
    "delta rule": System(_overlap, False, True, corrects=True),
    "random features": System(
        _neurons(
            lambda q, k, own, m, seed: (
                fourier(m, q.shape[-1], seed),
                math.sqrt(own) * unit(q),
                math.sqrt(own) * unit(k),
            )
        ),
        True,
        True,
    ),
    "linear attention": System(
        _neurons(lambda q, k, own, m, seed: (elu_neurons(q.shape[-1]), own * q, own * k)),
        True,
        True,
    ),
    "TEM": System(lambda q, k, own, m, seed: tem(q, k), False, True),
    "associative memory": System(lambda q, k, own, m, seed: quartic(q, k), False, True),
}


def attend(
    name: str,
    queries: Array,
    keys: Array,
    values: Array,
    own: float = 1.0,
    *,
    n_neurons: int = 256,
    seed: int = 0,
    causal: bool = False,
) -> Array:
    """What a system answers to queries (..., t, d): (..., t, e); 0 where nothing was found.

    name: in SYSTEMS; own: its own parameter (sharpness, temperature, threshold, radius, share).
    """
    check_choice("name", name, SYSTEMS)
    check_tokens(queries=queries, keys=keys, values=values, causal=causal)
    check_finite(queries=queries, keys=keys, values=values)
    system = SYSTEMS[name]
    weights = system.kernel(queries, keys, own, n_neurons, seed)
    if causal:
        weights = np.where(causal_mask(weights), weights, 0)
    if system.corrects:
        values = corrected(system.kernel(keys, keys, own, n_neurons, seed), values)
    found = weights @ values
    if not system.divides:
        return found
    total = np.sum(weights, axis=-1, keepdims=True)
    return np.divide(found, total, out=np.zeros_like(found), where=total != 0)


# ---- a control without attention


def counted(pieces: Sequence[str], windows: Sequence[str], order: int) -> float:
    """Bits a character of an n-gram model that was counted in pieces of text, on windows of others.

    P_n(c | h) = (count(hc) + kinds(h) P_{n-1}(c | h')) / (count(h) + kinds(h)), kinds(h) being how
    many different characters followed h, and h' being h without its first; all are alike at n = 0.
    The first character of a window is given. Witten and Bell 1991, their method C.
    """
    check_positive_int(order=order)
    alphabet = len(set().union(*pieces, *windows))
    seen: list[Counter[str]] = [Counter() for _ in range(order + 1)]
    for n in range(1, order + 1):
        for piece in pieces:
            seen[n].update(piece[i : i + n] for i in range(len(piece) - n + 1))
    total: Counter[str] = Counter()
    kinds: Counter[str] = Counter()
    for counts in seen[1:]:
        for gram, count in counts.items():
            total[gram[:-1]] += count
            kinds[gram[:-1]] += 1

    def chance(gram: str) -> float:
        if not gram:
            return 1 / alphabet
        before, shorter = gram[:-1], chance(gram[1:])
        if not total[before]:
            return shorter
        count = seen[len(gram)][gram]
        return (count + kinds[before] * shorter) / (total[before] + kinds[before])

    bits = [
        -math.log2(chance(window[max(0, i + 1 - order) : i + 1]))
        for window in windows
        for i in range(1, len(window))
    ]
    return sum(bits) / len(bits)
