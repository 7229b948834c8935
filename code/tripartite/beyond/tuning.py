"""Tuning curves adapted to the stimulus: hidden neurons fitted to keys and queries of other inputs.

Keys and queries excite the same neurons through synapses of their own, and each side has a gain:
log phi(x) = w.x + b - x.C x/2 for every neuron. Written this way, all fits below are one network.
Choromanski et al. 2021 (random features); Likhosherstov et al. 2023 (dense exponentials).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from ..attention import log_sum_exp
from ..checks import (
    check_choice,
    check_context,
    check_finite,
    check_positive,
    check_positive_int,
    check_tokens,
    check_width,
    namespace_of,
)
from ..features import Activity, Array, _as, independent_directions, orthogonal_directions


@dataclass(frozen=True)
class Curves:
    """Tuning of m neurons to one side's tokens: log phi(x) = directions x + offsets - x.C x/2.

    directions: (..., m, d); offsets: (..., m); curvature: (..., d, d), C, the gain's, one for all.
    """

    directions: Array
    offsets: Array
    curvature: Array

    def __call__(self, x: Array) -> Activity:
        """Activity of every neuron for every token; x: (..., tokens, d)."""
        check_width(x, self.directions.shape[-1])
        xp = namespace_of(tokens=x, neurons=self.directions)
        gain = -0.5 * xp.sum(xp.matmul(x, self.curvature) * x, axis=-1, keepdims=True)
        drive = xp.matmul(x, xp.matrix_transpose(self.directions))
        return Activity(drive + self.offsets[..., None, :], 1.0, gain)

    def block(self, start: int, stop: int) -> Curves:
        """The same curves for neurons start to stop only."""
        return replace(
            self,
            directions=self.directions[..., start:stop, :],
            offsets=self.offsets[..., start:stop],
        )

    def after(self, transform: np.ndarray, shift: np.ndarray) -> Curves:
        """These curves of transform (x - shift), as curves of x."""
        curvature = np.swapaxes(transform, -1, -2) @ self.curvature @ transform
        directions = self.directions @ transform
        bent = curvature @ shift[..., None]
        constant = directions @ shift[..., None] + 0.5 * shift[..., None, :] @ bent
        return Curves(
            directions + bent[..., None, :, 0], self.offsets - constant[..., 0], curvature
        )


@dataclass(frozen=True)
class Tuned:
    """One population of hidden neurons, with its tuning to keys and its tuning to queries."""

    keys: Curves
    queries: Curves

    @property
    def size(self) -> int:
        """Neurons in this block of the population."""
        return self.keys.offsets.shape[-1]

    def block(self, start: int, stop: int) -> Tuned:
        """The same population, neurons start to stop only."""
        return Tuned(self.keys.block(start, stop), self.queries.block(start, stop))

    def of_head(self, place: Any) -> Tuned:
        """One head's population, or one layer's: place indexes the leading axes."""
        return Tuned(
            *(
                Curves(side.directions[place], side.offsets[place], side.curvature[place])
                for side in (self.keys, self.queries)
            )
        )


def alike(*shape: int) -> Tuned:
    """One neuron that fires alike for every token: attention then weighs all tokens alike.

    shape: (..., d), of one query of every head. The response is the number of tokens.
    """
    *lead, d = shape
    flat = np.zeros((*lead, d, d), np.float32)
    always = Curves(flat[..., :1, :], flat[..., :1, 0], flat)
    return Tuned(always, always)


@dataclass(frozen=True)
class Stimuli:
    """Fit tokens in balanced coordinates, k' = T^-T (k - mean), q' = T (q - mean): (tokens, d).

    Both sides then have the same diagonal covariance, and k.q = k'.q' + gain(k) + terms of q alone.
    """

    keys: np.ndarray
    queries: np.ndarray
    gain: np.ndarray  # (tokens,), of the keys

    def attended(self, n: int, rng: np.random.Generator) -> np.ndarray:
        """n sums q' + k' of a query and a key that it attends to, drawn by softmax."""
        queries = self.queries[rng.integers(len(self.queries), size=n)]
        chosen = rng.permutation(len(self.keys))[:2048]
        pool = self.keys[chosen]
        scores = queries @ pool.T + self.gain[chosen]
        # the largest of the scores plus Gumbel noise is a draw from their softmax
        return queries + pool[np.argmax(scores + rng.gumbel(size=scores.shape), axis=-1)]


def balance(keys: np.ndarray, queries: np.ndarray, whole: bool) -> tuple[np.ndarray, np.ndarray]:
    """T and T^-T that give keys and queries, (tokens, d), one diagonal covariance; whole: or 1.

    T C_q T^T = T^-T C_k T^-1: T^T T is the matrix geometric mean of C_k and the inverse of C_q.
    Tokens of one side that are all the same, or a single one, have no spread to balance: 1.
    """
    if not (whole and _spread(keys) and _spread(queries)):
        return np.eye(keys.shape[-1]), np.eye(keys.shape[-1])
    of_keys, of_queries = (_covariance(x) for x in (keys, queries))
    root, inverse = _power(of_queries, 0.5), _power(of_queries, -0.5)
    transform = _power(inverse @ _power(root @ of_keys @ root, 0.5) @ inverse, 0.5)
    _, axes = np.linalg.eigh(transform @ of_queries @ transform)
    transform = axes.T @ transform
    return transform, np.linalg.inv(transform).T


def _covariance(x: np.ndarray) -> np.ndarray:
    c = np.cov(x.T, bias=True)
    return c + 1e-3 * np.trace(c) / len(c) * np.eye(len(c))  # directions hardly used stay bounded


def _spread(x: np.ndarray) -> bool:
    """True where tokens differ by more than rounding."""
    return bool(np.ptp(x, axis=0).max() > 1e-12 * np.abs(x).max())


def _power(c: np.ndarray, exponent: float) -> np.ndarray:
    values, axes = np.linalg.eigh(c)
    return (axes * values**exponent) @ axes.T


def quasi_directions(n_neurons: int, d_key: int, rng: np.random.Generator) -> np.ndarray:
    """Standard normal directions from a scrambled Sobol sequence, which leaves fewer gaps."""
    from scipy.special import ndtri
    from scipy.stats import qmc  # takes half a second to import

    points = qmc.Sobol(d_key, rng=rng).random_base2(int(np.ceil(np.log2(n_neurons))))[:n_neurons]
    return ndtri(np.clip(points, 1e-9, 1 - 1e-9))


DRAWS = {
    "independent": independent_directions,
    "orthogonal": orthogonal_directions,
    "quasi": quasi_directions,
}


def _standard(stimuli: Stimuli, normal: np.ndarray, rng, sharpness: float):
    """Directions as they are drawn, N(0, I), and the gain exp(-|x|^2/2)."""
    eye = np.eye(normal.shape[-1])
    none = np.zeros(len(normal))
    return Curves(normal, none, eye), Curves(normal, none, eye)


def _dense(stimuli: Stimuli, normal: np.ndarray, rng, sharpness: float):
    """Directions N(0, diag u): u minimises the log second moment of the estimate, in closed form.

    An axis with stimulus power l = E q'^2 + E k'^2 has u^2 - (3/2 + l) u + 1/2 = 0. This is SDERF
    of Likhosherstov et al. 2023, read as importance sampling.
    """
    power = np.mean(stimuli.keys**2, axis=0) + np.mean(stimuli.queries**2, axis=0)
    half = 0.75 + 0.5 * power
    spread = half + np.sqrt(half**2 - 0.5)
    directions = normal * np.sqrt(spread)
    log_density = -0.5 * np.sum(normal**2 + np.log(spread), axis=-1)
    return _weighted(directions, log_density)


def _gaussian(stimuli: Stimuli, normal: np.ndarray, rng, sharpness: float):
    """Directions from one Gaussian with the mean and spread of attended sums q' + k', plus I."""
    sums = stimuli.attended(4096, rng)
    covariance = np.cov(sums.T) + np.eye(sums.shape[-1])
    directions = sums.mean(axis=0) + normal @ np.linalg.cholesky(covariance).T
    log_density = -0.5 * (np.sum(normal**2, axis=-1) + np.linalg.slogdet(covariance)[1])
    return _weighted(directions, log_density)


def _mixture(stimuli: Stimuli, normal: np.ndarray, rng, sharpness: float):
    """Directions from N(q' + k', I) around attended pairs: where the integrand of exp(k.q) lies."""
    sums = stimuli.attended(min(len(normal), 2048), rng)
    directions = sums[np.arange(len(normal)) % len(sums)] + normal
    log_density = np.empty(len(normal))
    half_square = 0.5 * np.sum(sums**2, axis=-1)
    for start in range(0, len(normal), 1024):
        w = directions[start : start + 1024]
        log_kernel = w @ sums.T - half_square - 0.5 * np.sum(w**2, axis=-1, keepdims=True)
        log_density[start : start + 1024] = log_sum_exp(log_kernel)[:, 0] - np.log(len(sums))
    return _weighted(directions, log_density)


def _weighted(directions: np.ndarray, log_density: np.ndarray):
    """Positive curves of directions drawn from a density: the gain absorbs the weight N(w; 0, I)/p.

    log_density: log p without the factor (2 pi)^(-d/2), which the weight does not contain either.
    """
    offsets = 0.5 * (-0.5 * np.sum(directions**2, axis=-1) - log_density)
    curves = Curves(directions, offsets, np.eye(directions.shape[-1]))
    return curves, curves


def _prototypes(stimuli: Stimuli, normal: np.ndarray, rng, sharpness: float):
    """Neuron l answers one typical query z: exp(z.k') for keys, a bump around z for queries.

    g_l is the normaliser and H_l/g_l the exact output of the query z_l, and reading averages the
    prototypes' answers. The z are k-means centres: competitive learning.
    """
    z = _centres(stimuli.queries, len(normal), rng)
    flat = np.zeros((z.shape[-1],) * 2)
    some = rng.permutation(len(stimuli.keys))[:2048]
    keys, gain = stimuli.keys[some], stimuli.gain[some]
    queries = stimuli.queries[rng.integers(len(stimuli.queries), size=1024)]
    scale = log_sum_exp(z @ keys.T + gain)[:, 0] - np.log(len(keys))  # of a neuron's synapses
    half_square = 0.5 * sharpness * np.sum(z**2, axis=-1)
    to_keys, to_queries = Curves(z, -scale, flat), Curves(sharpness * z, -half_square, flat)
    wanted = log_sum_exp(queries @ keys.T + gain)[:, 0] - np.log(len(keys))
    return to_keys, _with_gain(to_queries, queries, wanted)


def _with_gain(curves: Curves, x: np.ndarray, wanted: np.ndarray) -> Curves:
    """Curves whose sum over neurons is exp(wanted), as near as a quadratic gain of x can bring it.

    One gain for all neurons: it divides out of the output, and sets the level of the response.
    """
    missing = wanted - log_sum_exp(curves(x).log_scale)[:, 0]
    terms = np.concatenate([np.ones((len(x), 1)), x, x * x], axis=-1)
    found = np.linalg.lstsq(terms, missing, rcond=None)[0]
    constant, linear, quadratic = found[0], *np.split(found[1:], 2)
    return Curves(
        curves.directions + linear,
        curves.offsets + constant,
        curves.curvature - 2.0 * np.diag(quadratic),
    )


def _centres(x: np.ndarray, n: int, rng: np.random.Generator, rounds: int = 8) -> np.ndarray:
    """k-means centres of x, (n, d); a sample of x where there are few tokens a centre."""
    centres = x[rng.choice(len(x), n, replace=len(x) < n)]
    if 8 * n > len(x):
        return centres
    for _ in range(rounds):
        nearest = np.concatenate(
            [
                np.argmax(part @ centres.T - 0.5 * np.sum(centres**2, axis=-1), axis=-1)
                for part in np.array_split(x, -(-len(x) // 2048))
            ]
        )
        count = np.bincount(nearest, minlength=n)
        total = np.stack([np.bincount(nearest, axis, minlength=n) for axis in x.T], axis=-1)
        centres = np.where(count[:, None] > 0, total / np.maximum(count, 1)[:, None], centres)
    return centres


KINDS: dict[str, tuple[Callable, bool, bool]] = {  # curves, centre the stimuli?, balance them?
    "positive": (_standard, False, False),
    "centred": (_standard, True, False),
    "balanced": (_standard, True, True),
    "dense": (_dense, True, True),
    "gaussian": (_gaussian, True, True),
    "mixture": (_mixture, True, True),
    "prototypes": (_prototypes, True, True),
}


def fit(
    kind: str,
    keys: np.ndarray,
    queries: np.ndarray,
    n_neurons: int,
    seed: int,
    *,
    draw: str = "orthogonal",
    sharpness: float = 2.0,
    like: Array | None = None,
) -> Tuned:
    """Tune n_neurons hidden neurons to typical keys and queries.

    kind: a name in KINDS; keys, queries: (..., tokens, d), of other inputs than those the network
    will read, leading axes are heads fitted each on its own; draw: a name in DRAWS; sharpness: of
    the bumps of kind "prototypes"; like: an array whose library, type and device the curves take.
    Raises ValueError on unknown names, sizes below 1, no tokens, shapes that disagree, or numbers
    that are not finite.
    """
    check_choice("kind", kind, KINDS)
    check_choice("draw", draw, DRAWS)
    check_positive_int(n_neurons=n_neurons)
    check_positive(sharpness=sharpness)
    check_tokens(queries=queries, keys=keys)
    check_context(keys=keys, queries=queries)
    check_finite(keys=keys, queries=queries)
    if keys.shape[:-2] != queries.shape[:-2]:
        raise ValueError(
            f"keys {tuple(keys.shape)} and queries {tuple(queries.shape)}: must have the same heads"
        )
    heads = keys.shape[:-2]
    streams = np.random.default_rng(seed).spawn(max(1, int(np.prod(heads))))
    fits = [
        _fit_head(kind, keys[place], queries[place], n_neurons, rng, DRAWS[draw], sharpness)
        for place, rng in zip(np.ndindex(heads), streams, strict=True)
    ]
    return Tuned(
        *(
            Curves(
                *(
                    _as(np.stack([getattr(f, name) for f in side]).reshape(*heads, *shape), like)
                    for name, shape in (
                        ("directions", side[0].directions.shape),
                        ("offsets", side[0].offsets.shape),
                        ("curvature", side[0].curvature.shape),
                    )
                )
            )
            for side in zip(*fits, strict=True)
        )
    )


def _fit_head(kind, keys, queries, n_neurons, rng, draw, sharpness):
    """Curves for keys and for queries of one head, in the coordinates the tokens come in."""
    curves, centred, balanced = KINDS[kind]
    keys, queries = (np.asarray(x, dtype=np.float64) for x in (keys, queries))
    key_mean, query_mean = (x.mean(axis=0) * centred for x in (keys, queries))
    of_queries, of_keys = balance(keys, queries, balanced)
    keys, queries = keys - key_mean, queries - query_mean
    stimuli = Stimuli(keys @ of_keys.T, queries @ of_queries.T, keys @ query_mean)
    for_neurons, for_stimuli = rng.spawn(2)
    normal = draw(n_neurons, keys.shape[-1], for_neurons)
    key_side, query_side = curves(stimuli, normal, for_stimuli, sharpness)
    key_side = key_side.after(of_keys, key_mean)
    query_side = query_side.after(of_queries, query_mean)
    # k.q = k'.q' + (k - mean_k).mean_q + q.mean_k, and the last two are gains of one side
    level = 0.0 if kind == "prototypes" else np.log(n_neurons)
    return (
        replace(
            key_side,
            directions=key_side.directions + query_mean,
            offsets=key_side.offsets - key_mean @ query_mean,
        ),
        replace(
            query_side,
            directions=query_side.directions + key_mean,
            offsets=query_side.offsets - level,
        ),
    )


def load(path: str | Path, dtype=np.float32) -> Tuned:
    """Tuning fitted elsewhere, from a safetensors file: curves for all (layers, heads).

    path: a file as scripts/make_tuned_model.py writes it; `power`, (..., d), in place of `curvature`
    is its diagonal. Of those for MiniLM that come with the book, language-64 and -256 are for texts of
    up to 256 tokens: they were fitted to windows of 256 from the first position on, and outputs err
    about half as much again at 512. Those whose name ends in window5 serve beside four exact tokens
    on either side, in texts of 8 to 512 (chapter 13). dtype: of the arrays returned.
    """
    from ..checkpoint import Tensors

    with Tensors(Path(path), dtype) as tensor:

        def curves(side: str) -> Curves:
            if f"{side}.power" in tensor.files:
                power = tensor(f"{side}.power")
                curvature = power[..., None] * np.eye(power.shape[-1], dtype=dtype)
            else:
                curvature = tensor(f"{side}.curvature")
            return Curves(tensor(f"{side}.directions"), tensor(f"{side}.offsets"), curvature)

        return Tuned(curves("keys"), curves("queries"))
