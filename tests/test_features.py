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


# a query that attends to a few keys of moderate norm: light tails, so that Monte Carlo can tell
Q, KEYS, VALUES = X[:2], RNG.normal(size=(7, D)) * 0.5, RNG.normal(size=(7, 3)) + 1.0
WEIGHTS = np.exp(Q @ KEYS.T) / np.exp(Q @ KEYS.T).sum(axis=1, keepdims=True)


def draws(kind, populations, m, seed):
    """Response over normaliser (populations, t), and output (populations, t, e), drawn anew."""
    phi = features.sample(kind, populations * m, D, seed)
    of_keys = phi(KEYS).value.reshape(len(KEYS), populations, m) * math.sqrt(populations)
    of_queries = phi(Q).value.reshape(len(Q), populations, m) * math.sqrt(populations)
    kernel = np.einsum("tpm,ipm->pti", of_queries, of_keys)
    response = kernel.sum(axis=-1)
    return response / np.exp(Q @ KEYS.T).sum(axis=1), kernel @ VALUES / response[..., None]


@pytest.mark.parametrize("kind", ["positive", "cosine"])
def test_variance_of_the_response_is_that_of_drawn_populations(kind):
    ratio, _ = draws(kind, 400_000, 1, seed=1)
    squares = ratio**2
    standard_error = squares.std(axis=0) / math.sqrt(len(squares))
    expected = np.exp(features.log_moment(Q, KEYS, kind))
    assert np.all(standard_error < 0.05 * expected)
    assert np.all(np.abs(squares.mean(axis=0) - expected) < 4.5 * standard_error)


@pytest.mark.parametrize("kind", ["positive", "cosine"])
def test_variance_of_the_output_is_that_of_drawn_populations(kind):
    m = 2_000
    _, output = draws(kind, 400, m, seed=2)
    misses = m * np.sum((output - WEIGHTS @ VALUES) ** 2, axis=-1)
    standard_error = misses.std(axis=0) / math.sqrt(len(misses))
    expected = np.exp(features.log_output_variance(Q, KEYS, VALUES, kind))
    # the formula is of first order; the next one is of the size of the response's variance, s^2/m
    second = expected * np.exp(features.log_moment(Q, KEYS, kind)) / m
    assert np.all(standard_error < 0.12 * expected)
    assert np.all(np.abs(misses.mean(axis=0) - expected) < 4.5 * standard_error + 10 * second)


def test_variance_of_one_key_is_that_of_the_kernel():
    q, k = X[:1], X[1:2]
    plus, minus = np.sum((q + k) ** 2), np.sum((q - k) ** 2)
    np.testing.assert_allclose(features.log_moment(q, k), [plus], rtol=1e-12)
    expected = math.exp(minus) + math.exp(-minus) / 2
    np.testing.assert_allclose(np.exp(features.log_moment(q, k, "cosine")), [expected], rtol=1e-12)


def test_an_output_that_cannot_err_has_no_variance():
    alike = np.ones((len(KEYS), 3))
    assert np.all(features.log_output_variance(Q, KEYS, alike) < math.log(1e-25))
    assert features.log_output_variance(Q, KEYS[:1], VALUES[:1])[0] == -math.inf  # one key only
    moved = features.log_output_variance(Q, KEYS, VALUES + 5.0)
    np.testing.assert_allclose(moved, features.log_output_variance(Q, KEYS, VALUES), rtol=1e-9)


@pytest.mark.parametrize("kind", ["positive", "cosine"])
def test_moments_do_not_overflow_and_work_head_by_head(kind):
    large = 40 * X
    found = features.log_moment(large, large, kind)
    assert np.all(np.isfinite(found)) and found.max() > 800
    assert np.all(np.isfinite(features.log10_neurons(found + 1e-3)))
    output = features.log_output_variance(6 * X, 6 * X + 0.1, X, kind)
    assert np.all(np.isfinite(output)) and output.max() > 20
    heads = np.stack([X, 2 * X]), np.stack([X, -X]), np.stack([X, X])
    for h in range(2):
        one = [x[h] for x in heads]
        both = features.log_moment(*heads[:2], kind)[h]
        np.testing.assert_allclose(features.log_moment(*one[:2], kind), both, rtol=1e-12)
        both = features.log_output_variance(*heads, kind)[h]
        np.testing.assert_allclose(features.log_output_variance(*one, kind), both, rtol=1e-12)


def test_moved_queries_and_keys_keep_the_weights_that_they_are_given():
    shift, scores = 0.3 * X[2], Q @ KEYS.T
    found = features.log_moment(Q - shift, KEYS, scores=scores)
    output = features.log_output_variance(Q - shift, KEYS, VALUES, scores=scores)
    for t, w in enumerate(WEIGHTS):
        kernel = np.exp((Q[t] - shift + KEYS) @ (Q[t] - shift + KEYS).T)
        apart = VALUES - w @ VALUES
        np.testing.assert_allclose(np.exp(found[t]), w @ kernel @ w, rtol=1e-12)
        expected = np.sum(np.outer(w, w) * kernel * (apart @ apart.T))
        np.testing.assert_allclose(np.exp(output[t]), expected, rtol=1e-12)


def test_directions_of_another_spread_have_the_variance_of_the_integral():
    """int (sum_i w_i N(u; a_i, 1))^2 / N(u; 0, spread) du, in one dimension by quadrature."""
    spread, grid = 2.5, np.linspace(-30, 30, 20_001)
    a = (Q[:1, :1] + KEYS[:, :1])[:, 0]
    w = np.exp(Q[0, 0] * KEYS[:, 0])
    w /= w.sum()
    mixture = w @ np.exp(-0.5 * (grid - a[:, None]) ** 2) / math.sqrt(2 * math.pi)
    density = np.exp(-0.5 * grid**2 / spread) / math.sqrt(2 * math.pi * spread)
    expected = np.sum(mixture**2 / density) * (grid[1] - grid[0])
    found = features.log_moment(Q[:1, :1], KEYS[:, :1], spread=np.array([spread]))
    np.testing.assert_allclose(np.exp(found), [expected], rtol=1e-9)
    plain = features.log_moment(Q, KEYS, spread=np.ones(D))
    np.testing.assert_allclose(plain, features.log_moment(Q, KEYS), rtol=1e-12)


def test_neurons_needed_bring_the_standard_error_down_to_what_is_asked():
    variance = np.array([0.25, 3.0, 1e9])
    np.testing.assert_allclose(
        features.log10_neurons(np.log1p(variance), 0.05), np.log10(variance / 0.05**2), rtol=1e-9
    )


def test_bad_moments_are_refused():
    with pytest.raises(ValueError, match="kind = 'clipped'.*positive"):
        features.log_moment(Q, KEYS, "clipped")
    with pytest.raises(ValueError, match="spread: must be above 1/2"):
        features.log_moment(Q, KEYS, spread=np.full(D, 0.5))
    with pytest.raises(ValueError, match="spread: must be above 1/2"):
        features.log_moment(Q, KEYS, "cosine", spread=np.ones(D))
    with pytest.raises(ValueError, match="values"):
        features.log_output_variance(Q, KEYS, VALUES[1:])
    with pytest.raises(ValueError, match="error = 0"):
        features.log10_neurons(np.ones(1), 0.0)


def test_no_key_and_no_point_are_refused_by_name_and_no_query_gets_nothing():
    none, some, values = np.zeros((0, 3)), np.ones((4, 3)), np.ones((4, 2))
    for of_none in (
        lambda: features.log_moment(some, none),
        lambda: features.log_output_variance(some, none, np.zeros((0, 2))),
        lambda: features.finite_set(none),
    ):
        with pytest.raises(ValueError, match="must hold at least one token"):
            of_none()
    assert features.log_moment(none, some).shape == (0,)
    assert features.log_output_variance(none, some, values).shape == (0,)
