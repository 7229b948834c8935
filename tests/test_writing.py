"""Writing with synapses: closed forms, LSODA, spikes one by one, and what is refused."""

import numpy as np
import pytest
from scipy.integrate import solve_ivp

from tripartite.beyond import writing
from tripartite.beyond.writing import Enhancement


def rates(tokens=7, terminals=4, seed=0, fastest=30.0):
    return fastest * np.random.default_rng(seed).random((tokens, terminals))


def test_without_decay_and_ceiling_writing_is_the_sum_of_the_paper():
    phi = rates()
    ideal = Enhancement(increment=1e-3, decay=1e12, ceiling=1e12)
    np.testing.assert_allclose(writing.write(phi, 0.5, ideal), 1e-3 * 0.5 * phi.sum(0), rtol=1e-9)


def test_without_ceiling_a_token_counts_less_by_its_age():
    """Closed form: a linear filter weighs token j of n by exp(-(n - j) T / tau)."""
    phi, T, tau = rates(), 0.5, 3.0
    age = T * np.arange(len(phi))[::-1]
    sums = np.exp(-age / tau) @ phi * 0.02 * tau * -np.expm1(-T / tau)
    found = writing.write(phi, T, Enhancement(increment=0.02, decay=tau, ceiling=1e12))
    np.testing.assert_allclose(found, sums, rtol=1e-9)


def test_a_steady_rate_ends_where_the_published_facilitation_does():
    """Fixed point of dA/dt = a r (1 - A/c) - A/tau, from another start too."""
    synapse = Enhancement(increment=0.1, decay=5.0, ceiling=4.0)
    r = np.array([0.0, 0.5, 20.0])
    expected = 0.1 * r * 5.0 / (1 + 0.1 * r * 5.0 / 3.0)
    for start in (0.0, 3.0):
        found = writing.write(np.tile(r, (100, 1)), 10.0, synapse, start)
        np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-12)


def test_tokens_one_after_the_other_are_what_lsoda_finds():
    phi, T = rates(), 0.8
    synapse = Enhancement(increment=0.025, decay=7.0, ceiling=6.0)
    A = np.full(4, 0.3)
    for rate in phi:
        A = solve_ivp(
            lambda _, A, r=rate: 0.025 * r * (1 - A / 5.0) - A / 7.0, (0, T), A,
            method="LSODA", rtol=1e-10, atol=1e-12,
        ).y[:, -1]  # fmt: skip
    np.testing.assert_allclose(writing.write(phi, T, synapse, 0.3), A, rtol=1e-7)


def test_spikes_one_by_one_have_that_mean_and_the_spread_of_shot_noise():
    synapse = Enhancement(increment=0.2, decay=2.0, ceiling=3.0)
    phi, n = rates(5, 3, fastest=8.0), 20_000
    many = writing.write_spikes(
        np.repeat(phi[..., None], n, axis=-1), 0.7, synapse, np.random.default_rng(1), 0.1
    )
    error = 4 * many.std(axis=1) / np.sqrt(n)
    assert np.all(np.abs(many.mean(axis=1) - writing.write(phi, 0.7, synapse, 0.1)) < error)
    linear = Enhancement(increment=0.2, decay=2.0, ceiling=1e9)
    steady = writing.write_spikes(np.full((30, n), 4.0), 1.0, linear, np.random.default_rng(2))
    assert steady.var() == pytest.approx(0.2**2 * 4.0 * 2.0 / 2, rel=0.05)  # Campbell


def test_coincidences_come_at_the_rate_that_counting_finds():
    rng = np.random.default_rng(3)
    duration, window = 4000.0, 0.02
    pre, post = (np.sort(duration * rng.random(rng.poisson(r * duration))) for r in (9.0, 5.0))
    after = np.searchsorted(post, pre + window) - np.searchsorted(post, pre)
    found = writing.coincidences([[9.0]], [[5.0]], window)[0, 0, 0]
    assert after.sum() / duration == pytest.approx(found, rel=0.05)
    assert writing.coincidences(rates(7, 4), rates(7, 3), window).shape == (7, 4, 3)


def test_two_populations_hold_both_signs_and_no_rate_is_negative():
    v = np.random.default_rng(4).standard_normal((6, 5))
    rate = writing.rectified(v)
    assert rate.min() >= 0 and np.all(rate[:, :5] - rate[:, 5:] == v)
    assert np.all(rate[:, :5] * rate[:, 5:] == 0)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: writing.write(-rates(), 0.5, writing.ENHANCEMENTS["augmentation"]), "rates"),
        (lambda: writing.write(rates() * np.nan, 1.0, writing.ENHANCEMENTS["potentiation"]), "rates"),
        (lambda: writing.write(rates(), 0.0, writing.ENHANCEMENTS["augmentation"]), "T"),
        (lambda: writing.write(rates(), 1.0, writing.ENHANCEMENTS["augmentation"], 6.0), "start"),
        (lambda: writing.coincidences(rates(), rates(6), 0.02), "post"),
        (lambda: writing.coincidences(-rates(), rates(), 0.02), "pre"),
        (lambda: writing.coincidences(rates(), rates(), 0.0), "window"),
        (lambda: Enhancement(increment=0.025, decay=7.0, ceiling=1.0), "ceiling"),
    ],
)  # fmt: skip
def test_what_is_refused_is_named(call, words):
    with pytest.raises(ValueError, match=words):
        call()
