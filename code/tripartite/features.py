"""Feature maps: the tuning curves phi of the hidden neurons.

phi(x) is returned as amplitude * exp(log_scale), two arrays, because phi itself overflows for
tokens of large norm. Random features make phi(k).phi(q) an unbiased estimate of exp(k.q).
Rahimi and Recht 2007; Choromanski et al. 2021 (positive); Yu et al. 2016 (orthogonal).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
from array_api_compat import array_namespace, device

from .checks import (
    check_choice,
    check_floating,
    check_positive,
    check_positive_int,
    check_width,
    namespace_of,
)

Array = Any


class Activity(NamedTuple):
    """Hidden activity phi(x) = amplitude * exp(log_scale), for every token and neuron.

    amplitude is (..., tokens, m), or the number 1.0; log_scale is (..., tokens, m) or (..., tokens, 1).
    """

    log_scale: Array
    amplitude: Array | float

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
        log_scale, amplitude = self.tuning(drive, half_square, self.phases[..., None, :])
        return Activity(log_scale - 0.5 * math.log(self.n_neurons), amplitude)

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
    return Activity(drive - half_square, 1.0)


def cosine(drive: Array, half_square: Array, phase: Array) -> Activity:
    """sqrt(2) exp(|x|^2/2) cos(Omega x + b): unbiased, of either sign. Rahimi and Recht 2007."""
    xp = array_namespace(drive)
    return Activity(half_square, math.sqrt(2.0) * xp.cos(drive + phase))


def rectified_cosine(drive: Array, half_square: Array, phase: Array) -> Activity:
    """Cosine tuning cut off at zero, as firing rates are."""
    log_scale, amplitude = cosine(drive, half_square, phase)
    return Activity(log_scale, 0.5 * (amplitude + array_namespace(drive).abs(amplitude)))


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
        return Activity(xp.clip(drive, None, math.log(ceiling)) - half_square, 1.0)

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
    coincide, so that the matrix is not positive definite.
    """
    gram = np.exp(-0.5 * _squared_distance(points, points))
    try:
        factor = np.linalg.cholesky(gram)
    except np.linalg.LinAlgError:
        raise ValueError("points: must be distinct, and not too close to each other") from None
    return FiniteSet(points, np.linalg.inv(factor))


def _squared_distance(x: Array, y: Array) -> Array:
    xp = array_namespace(x, y)
    return xp.sum((x[..., :, None, :] - y[..., None, :, :]) ** 2, axis=-1)


def _as(x: np.ndarray, like: Array | None) -> Array:
    if like is None:
        return x
    check_floating(like=like)
    xp = array_namespace(like)
    return xp.asarray(x, dtype=like.dtype, device=device(like))
