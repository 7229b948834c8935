"""Feature maps: the tuning curves phi of the hidden neurons.

phi(x) is returned as amplitude * exp(exponent + gain), in parts, because phi itself overflows for
tokens of large norm. Random features make phi(k).phi(q) an unbiased estimate of exp(k.q); what
one neuron's estimate varies by has a closed form, for the normaliser and for the output.
Rahimi and Recht 2007; Choromanski et al. 2021 (positive); Yu et al. 2016 (orthogonal).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
from array_api_compat import array_namespace, device

from .attention import log_sum_exp
from .attention import scores as scores_of
from .checks import (
    check_choice,
    check_context,
    check_floating,
    check_positive,
    check_positive_int,
    check_tokens,
    check_width,
    namespace_of,
)

Array = Any


class Activity(NamedTuple):
    """Hidden activity phi(x) = amplitude * exp(exponent + gain), for every token and neuron.

    exponent: (..., tokens, m) or (..., tokens, 1); amplitude: (..., tokens, m), or the number 1.0;
    gain: (..., tokens, 1), the logarithm of a factor that a token's neurons share, or 0.0.
    """

    exponent: Array
    amplitude: Array | float
    gain: Array | float = 0.0

    @property
    def log_scale(self) -> Array:
        """exponent + gain: (..., tokens, m) or (..., tokens, 1)."""
        return self.exponent + self.gain

    @property
    def value(self) -> Array:
        """phi(x) itself, (..., tokens, m); may overflow where the two parts do not."""
        return self.amplitude * array_namespace(self.log_scale).exp(self.log_scale)


Tuning = Callable[[Array, Array, Array], Activity]
"""(drive Omega x, half squared norm |x|^2/2, phase b) -> Activity, before the factor 1/sqrt(m)."""


@dataclass(frozen=True)
class FeatureMap:
    """Random-feature tuning curves of m hidden neurons.

    directions: (..., m, d), the neurons' preferred directions Omega; phases: (..., m), b;
    n_neurons: m of the whole population, which a block of it keeps.
    """

    directions: Array
    phases: Array
    tuning: Tuning
    n_neurons: int

    def __call__(self, x: Array) -> Activity:
        """Activity of every neuron for every token; x: (..., tokens, d)."""
        check_width(x, self.directions.shape[-1])
        xp = namespace_of(tokens=x, neurons=self.directions)
        drive = xp.matmul(x, xp.matrix_transpose(self.directions))
        half_square = 0.5 * xp.sum(x * x, axis=-1, keepdims=True)
        exponent, amplitude, gain = self.tuning(drive, half_square, self.phases[..., None, :])
        return Activity(exponent, amplitude, gain - 0.5 * math.log(self.n_neurons))

    @property
    def size(self) -> int:
        """Neurons in this block of the population."""
        return self.directions.shape[-2]

    def block(self, start: int, stop: int) -> FeatureMap:
        """The same curves for neurons start to stop only; features stay scaled by the whole m."""
        return replace(
            self,
            directions=self.directions[..., start:stop, :],
            phases=self.phases[..., start:stop],
        )


def positive(drive: Array, half_square: Array, phase: Array) -> Activity:
    """exp(Omega x - |x|^2/2): unbiased, never negative. Choromanski et al. 2021, lemma 1."""
    return Activity(drive, 1.0, -half_square)


def cosine(drive: Array, half_square: Array, phase: Array) -> Activity:
    """sqrt(2) exp(|x|^2/2) cos(Omega x + b): unbiased, of either sign. Rahimi and Recht 2007."""
    xp = array_namespace(drive)
    return Activity(half_square, math.sqrt(2.0) * xp.cos(drive + phase))


def rectified_cosine(drive: Array, half_square: Array, phase: Array) -> Activity:
    """Cosine tuning cut off at zero, as firing rates are."""
    exponent, amplitude, _ = cosine(drive, half_square, phase)
    return Activity(exponent, 0.5 * (amplitude + array_namespace(drive).abs(amplitude)))


def clipped_sine(drive: Array, half_square: Array, phase: Array) -> Activity:
    """sqrt(2) exp(|x|^2/2) sin(Omega x), constant outside [-pi/2, pi/2]: monotone, saturating."""
    xp = array_namespace(drive)
    inside = xp.clip(drive, -math.pi / 2, math.pi / 2)
    return Activity(half_square, math.sqrt(2.0) * xp.sin(inside))


def first_order(drive: Array, half_square: Array, phase: Array) -> Activity:
    """1 + Omega x - |x|^2/2: the positive curve's expansion to first order in its exponent."""
    return Activity(0.0 * half_square, 1.0 + drive - half_square)


def clipped(ceiling: float) -> Tuning:
    """min(exp(Omega x), ceiling) exp(-|x|^2/2): positive tuning of neurons that saturate."""
    check_positive(ceiling=ceiling)

    def tuning(drive: Array, half_square: Array, phase: Array) -> Activity:
        xp = array_namespace(drive)
        return Activity(xp.clip(drive, None, math.log(ceiling)), 1.0, -half_square)

    return tuning


TUNINGS: dict[str, Callable[[float], Tuning]] = {
    "positive": lambda ceiling: positive,
    "cosine": lambda ceiling: cosine,
    "first-order": lambda ceiling: first_order,
    "clipped": clipped,
    "rectified-cosine": lambda ceiling: rectified_cosine,
    "clipped-sine": lambda ceiling: clipped_sine,
}


def sample(
    kind: str,
    n_neurons: int,
    d_key: int,
    seed: int,
    *,
    orthogonal: bool = False,
    ceiling: float = 10.0,
    like: Array | None = None,
) -> FeatureMap:
    """Draw a population of hidden neurons with random preferred directions.

    kind: a name in TUNINGS; ceiling: the saturation level of kind "clipped", in units of exp(0);
    like: an array whose library, type and device the population takes (default NumPy, float64).
    With the same seed a larger population contains the smaller one (independent directions).
    Raises ValueError on an unknown kind, a size below 1, or like of another type than floating.
    """
    check_choice("kind", kind, TUNINGS)
    check_positive_int(n_neurons=n_neurons, d_key=d_key)
    for_directions, for_phases = np.random.default_rng(seed).spawn(2)
    draw = orthogonal_directions if orthogonal else independent_directions
    directions = draw(n_neurons, d_key, for_directions)
    phases = for_phases.uniform(0.0, 2.0 * math.pi, n_neurons)
    return FeatureMap(_as(directions, like), _as(phases, like), TUNINGS[kind](ceiling), n_neurons)


def independent_directions(n_neurons: int, d_key: int, rng: np.random.Generator) -> np.ndarray:
    """Independent standard normal directions, (m, d)."""
    return rng.standard_normal((n_neurons, d_key))


def orthogonal_directions(n_neurons: int, d_key: int, rng: np.random.Generator) -> np.ndarray:
    """Directions orthogonal within groups of d, each still standard normal. Yu et al. 2016."""
    groups = -(-n_neurons // d_key)
    rotation, triangle = np.linalg.qr(rng.standard_normal((groups, d_key, d_key)))
    # QR is unique only up to signs; fixing them makes the rotation uniform (Haar)
    rotation *= np.sign(np.diagonal(triangle, axis1=-2, axis2=-1))[:, None, :]
    lengths = np.sqrt(rng.chisquare(d_key, n_neurons))
    return rotation.reshape(-1, d_key)[:n_neurons] * lengths[:, None]


@dataclass(frozen=True)
class FiniteSet:
    """Features that reproduce exp(x.y) exactly for x and y in a finite set of m points.

    points: (m, d); whitening: (m, m), the inverse Cholesky factor of the points' Gaussian kernel.
    """

    points: Array
    whitening: Array

    @property
    def size(self) -> int:
        """Neurons in this block of the population."""
        return self.whitening.shape[0]

    def __call__(self, x: Array) -> Activity:
        """Activity for tokens x, (..., tokens, d), each of which must be one of the points."""
        check_width(x, self.points.shape[-1])
        xp = namespace_of(tokens=x, neurons=self.points)
        half_square = 0.5 * xp.sum(x * x, axis=-1, keepdims=True)
        bumps = xp.exp(-0.5 * _squared_distance(x, self.points))
        return Activity(half_square, xp.matmul(bumps, xp.matrix_transpose(self.whitening)))

    def block(self, start: int, stop: int) -> FiniteSet:
        """The same features for neurons start to stop only."""
        return replace(self, whitening=self.whitening[start:stop, :])


def finite_set(points: np.ndarray) -> FiniteSet:
    """The exact exponential kernel on a finite set, by a Cholesky factor of its Gram matrix.

    points: (m, d), distinct. exp(x.y) = exp(|x|^2/2) exp(-|x-y|^2/2) exp(|y|^2/2), and the
    Gaussian in the middle has the Gram matrix L L^T. Raises ValueError where points (nearly)
    coincide, so that the matrix is not positive definite, or where there is none.
    """
    check_context(points=points)
    gram = np.exp(-0.5 * _squared_distance(points, points))
    try:
        factor = np.linalg.cholesky(gram)
    except np.linalg.LinAlgError:
        raise ValueError("points: must be distinct, and not too close to each other") from None
    return FiniteSet(points, np.linalg.inv(factor))


def log_moment(
    queries: Array,
    keys: Array,
    kind: str = "positive",
    *,
    scores: Array | None = None,
    spread: Array | None = None,
) -> Array:
    """log(1 + s^2) of every query: m independent neurons estimate its Z with variance s^2 Z^2/m.

    1 + s^2 = sum_ij w_i w_j exp(a_i.a_j), with the softmax weights w of the query and a_i = q + k_i;
    for kind "cosine" a_i = k_i - q, and half of exp(-a_i.a_j) is added.
    queries: (..., t, d); keys: (..., i, d); scores: (..., t, i), whose softmax is w, where queries
    and keys were moved by what leaves attention as it is (default: their own); spread: (d,), the
    variance of directions along each axis, with neurons weighted so that they stay unbiased
    (kind "positive"; default 1). Returns (..., t).
    Raises ValueError on an unknown kind, shapes that disagree, or a spread of 1/2 or less, for which
    the variance is infinite.
    """
    parts = _second_moments(queries, keys, kind, scores, spread)
    xp = array_namespace(queries, keys)
    found = [
        level + _log(factor * xp.sum(xp.matmul(b, gram) * b, axis=-1))
        for level, b, gram, factor in parts
    ]
    return found[0] if len(found) == 1 else xp.logaddexp(*found)


def log_output_variance(
    queries: Array,
    keys: Array,
    values: Array,
    kind: str = "positive",
    *,
    scores: Array | None = None,
    spread: Array | None = None,
) -> Array:
    """log of m E|l - y|^2 for every query, to first order in 1/m: how far outputs l fall from y.

    The output is a ratio of two estimates by the same neurons, so what they share cancels:
    m E|l - y|^2 = sum_ij w_i w_j (v_i - y).(v_j - y) exp(a_i.a_j), where y = sum_i w_i v_i is
    the output of softmax attention (delta method). values: (..., i, e); the rest as in log_moment.
    Returns (..., t), minus infinity where all values are alike. Holds (..., t, i, e) in memory.
    """
    check_tokens(queries=queries, keys=keys, values=values)
    check_context(keys=keys)
    xp = array_namespace(queries, keys, values)
    s = scores_of(queries, keys) if scores is None else scores
    outputs = xp.matmul(xp.exp(s - log_sum_exp(s)), values)
    apart = values[..., None, :, :] - outputs[..., :, None, :]  # (..., t, i, e)
    found = []
    for level, b, gram, factor in _second_moments(queries, keys, kind, scores, spread):
        pulled = b[..., None] * apart
        square = xp.sum(xp.matmul(gram[..., None, :, :], pulled) * pulled, axis=(-2, -1))
        found.append((level, factor * square))
    top = found[0][0] if len(found) == 1 else xp.maximum(found[0][0], found[1][0])
    total = sum(xp.exp(level - top) * square for level, square in found)
    return top + _log(total)


def log10_neurons(log_moment: Array, error: float = 0.1) -> Array:
    """log10 of the neurons that bring the relative standard error of the response to error.

    log_moment: log(1 + s^2), of any shape. m = s^2 / error^2 overflows where its logarithm does not.
    """
    check_positive(error=error)
    xp = array_namespace(log_moment)
    log_variance = log_moment + xp.log(-xp.expm1(-log_moment))
    return (log_variance - 2.0 * math.log(error)) / math.log(10.0)


def _log(x: Array) -> Array:
    """log x, minus infinity where x is zero or less by rounding, without a warning."""
    xp = array_namespace(x)
    return xp.where(x > 0, xp.log(xp.where(x > 0, x, xp.ones_like(x))), -xp.inf)


def _second_moments(queries, keys, kind, scores, spread):
    """Sums factor exp(level_t) sum_ij b_ti b_tj gram_ij, of which a neuron's second moment consists.

    exp(a_i.a_j) = exp(|a_i|^2/2) exp(-|k_i - k_j|^2/2) exp(|a_j|^2/2), which cannot overflow once
    the largest exponent of a query is taken out, into its level.
    """
    check_choice("kind", kind, ("positive", "cosine"))
    check_tokens(queries=queries, keys=keys)
    check_context(keys=keys)
    xp = array_namespace(queries, keys)
    s = scores_of(queries, keys) if scores is None else scores
    log_weights = s - log_sum_exp(s)
    level = 0.0
    if spread is not None:
        if kind != "positive" or not bool(xp.all(spread > 0.5)):
            raise ValueError("spread: must be above 1/2 along every axis, with kind = 'positive'")
        # int N(w; a_i, 1) N(w; a_j, 1) / N(w; 0, spread) dw, axis by axis
        level = xp.sum(xp.log(spread) - 0.5 * xp.log(2.0 * spread - 1.0))
        narrow = 1.0 / xp.sqrt(2.0 * spread - 1.0)
        queries, keys, scaled = queries * narrow, keys * narrow, keys * narrow * xp.sqrt(spread)
    else:
        scaled = keys
    sign = 1.0 if kind == "positive" else -1.0
    half_square = 0.5 * xp.sum(keys * keys, axis=-1)[..., None, :]
    size = 0.5 * xp.sum(scaled * scaled, axis=-1, keepdims=True)
    own = xp.sum(queries * queries, axis=-1)
    found = []
    for flip, factor in ((1.0, 1.0),) if kind == "positive" else ((1.0, 1.0), (-1.0, 0.5)):
        log_b = log_weights + flip * sign * scores_of(queries, keys) + half_square
        top = xp.max(log_b, axis=-1, keepdims=True)
        gram = xp.exp(flip * scores_of(scaled, scaled) - size - xp.matrix_transpose(size))
        found.append((level + flip * own + 2.0 * top[..., 0], xp.exp(log_b - top), gram, factor))
    return found


def _squared_distance(x: Array, y: Array) -> Array:
    xp = array_namespace(x, y)
    return xp.sum((x[..., :, None, :] - y[..., None, :, :]) ** 2, axis=-1)


def _as(x: np.ndarray, like: Array | None) -> Array:
    if like is None:
        return x
    check_floating(like=like)
    xp = array_namespace(like)
    return xp.asarray(x, dtype=like.dtype, device=device(like))
