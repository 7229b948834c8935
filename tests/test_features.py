"""Tuning curves against closed forms and the statistics that theory gives."""

import math

import array_api_strict
import numpy as np
import pytest
from scipy import stats

from tripartite import features

D = 5
RNG = np.random.default_rng(7)
X = RNG.normal(size=(4, D)) * 0.6


def population(kind, m=64, **options):
    return features.sample(kind, m, D, seed=3, **options)


def by_definition(kind, x, phi, ceiling):
    """phi(x) as the literature writes it, without separate scales."""
    drive = x @ phi.directions.T
    square = np.sum(x**2, axis=-1, keepdims=True)
    gauss = np.exp(square / 2)
    return {
        "positive": lambda: np.exp(drive) / gauss,
        "cosine": lambda: math.sqrt(2) * gauss * np.cos(drive + phi.phases),
        "rectified-cosine": lambda: np.maximum(
            math.sqrt(2) * gauss * np.cos(drive + phi.phases), 0
        ),
        "clipped-sine": lambda: (
            math.sqrt(2)
            * gauss
            * np.where(np.abs(drive) < np.pi / 2, np.sin(drive), np.sign(drive))
        ),
        "first-order": lambda: 1 + np.log(np.exp(drive) / gauss),
        "clipped": lambda: np.minimum(np.exp(drive), ceiling) / gauss,
    }[kind]() / math.sqrt(phi.n_neurons)


@pytest.mark.parametrize("kind", features.TUNINGS)
def test_tuning_curves_follow_their_definitions(kind):
    phi = population(kind, ceiling=2.5)
    np.testing.assert_allclose(
        phi(X).value, by_definition(kind, X, phi, 2.5), rtol=1e-12, atol=1e-14
    )


@pytest.mark.parametrize("orthogonal", [False, True])
@pytest.mark.parametrize("kind", ["positive", "cosine"])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_inner_products_are_unbiased_with_the_variance_that_theory_gives(kind, orthogonal, seed):
    m = 200_000
    q, k = X[0], X[1]
    phi = features.sample(kind, m, D, seed, orthogonal=orthogonal)
    products = m * phi(q[None]).value[0] * phi(k[None]).value[0]
    plus, minus = np.sum((q + k) ** 2), np.sum((q - k) ** 2)
    if kind == "positive":
        variance = math.exp(2 * q @ k) * math.expm1(plus)
    else:
        variance = math.exp(q @ q + k @ k) * (1 + math.exp(-2 * minus) / 2 - math.exp(-minus))
    z = (products.mean() - math.exp(q @ k)) / math.sqrt(variance / m)
    # orthogonal groups only lower the variance of the mean; 4.5 standard errors, 12 cases
    assert abs(z) < 4.5
    # heavy tails: the sample variance of 2e5 products is within 15 % of its expectation
    assert 0.85 < products.var() / variance < 1.15


def test_orthogonal_directions_are_orthogonal_within_groups_and_normal_alone():
    omega = features.orthogonal_directions(40 * D + 2, D, np.random.default_rng(0))
    assert omega.shape == (40 * D + 2, D)
    group = omega[D : 2 * D]
    off_diagonal = group @ group.T - np.diag(np.sum(group**2, axis=1))
    assert np.abs(off_diagonal).max() < 1e-12
    # as for independent normal numbers; a draw misses this level once in ten thousand
    assert stats.kstest(np.sum(omega**2, axis=1), stats.chi2(D).cdf).pvalue > 1e-4


def test_phases_cover_the_whole_circle():
    phases = features.sample("cosine", 1000, D, seed=0).phases
    assert stats.kstest(phases, stats.uniform(0, 2 * math.pi).cdf).pvalue > 1e-4


def test_haar_rotations_have_no_preferred_direction():
    omega = features.orthogonal_directions(60_000, D, np.random.default_rng(0))
    # the first axis of each group is uniform on the sphere, so its mean is zero
    first = omega[::D] / np.linalg.norm(omega[::D], axis=1, keepdims=True)
    standard_error = 1 / math.sqrt(D * len(first))
    assert np.abs(first.mean(axis=0)).max() < 4.5 * standard_error


@pytest.mark.parametrize("kind", features.TUNINGS)
def test_a_larger_population_contains_the_smaller_one(kind):
    small, large = features.sample(kind, 10, D, 5), features.sample(kind, 1000, D, 5)
    np.testing.assert_array_equal(small.directions, large.directions[:10])
    scale = math.sqrt(100)  # features are scaled by 1/sqrt(m)
    np.testing.assert_allclose(small(X).value, scale * large(X).value[:, :10], rtol=1e-12)


def test_other_seeds_draw_other_neurons():
    a, b = (features.sample("cosine", 10, D, seed) for seed in (0, 1))
    assert not np.any(a.directions == b.directions) and not np.any(a.phases == b.phases)


def test_blocks_are_slices_of_the_whole():
    for phi in (population("positive"), features.finite_set(RNG.normal(size=(20, D)))):
        part = phi.block(3, 9)
        assert part.size == 6
        np.testing.assert_allclose(part(X).value, phi(X).value[:, 3:9], rtol=1e-13)


def test_finite_set_is_the_exponential_kernel_on_its_points():
    points = RNG.normal(size=(30, D))
    phi = features.finite_set(points)(points).value
    np.testing.assert_allclose(phi @ phi.T, np.exp(points @ points.T), rtol=1e-10)


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (("tanh", 10, D, 0), "kind = 'tanh'.*positive"),
        (("positive", 0, D, 0), "n_neurons = 0.*at least 1"),
        (("positive", 2.5, D, 0), "n_neurons = 2.5.*whole number"),
        (("positive", 10, -1, 0), "d_key = -1"),
    ],
)
def test_bad_populations_are_refused(arguments, named):
    with pytest.raises(ValueError, match=named):
        features.sample(*arguments)


@pytest.mark.parametrize("kind", [int, bool, complex])
def test_populations_are_drawn_like_floating_point_arrays_only(kind):
    """Like whole numbers, the preferred directions would be -2, -1, 0, 1 and 2."""
    like = np.ones((2, D), kind)
    with pytest.raises(ValueError, match="like has dtype .*: must be real floating-point numbers"):
        features.sample("positive", 10, D, 0, like=like)


def test_tokens_of_another_library_are_named():
    x = array_api_strict.asarray(X)
    for phi in (population("positive"), features.finite_set(X)):
        with pytest.raises(ValueError, match="tokens of array_api_strict, neurons of numpy: must"):
            phi(x)


def test_bad_ceilings_and_coinciding_points_are_refused():
    with pytest.raises(ValueError, match="ceiling = -1.*above 0"):
        features.sample("clipped", 10, D, 0, ceiling=-1.0)
    with pytest.raises(ValueError, match="points: must be distinct"):
        features.finite_set(np.zeros((3, D)))
