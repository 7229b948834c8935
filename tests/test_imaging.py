"""Indicator, photons and the test of chapter 17, against closed forms, SciPy and published tables."""

from dataclasses import replace

import numpy as np
import pytest
from scipy import integrate, optimize, signal, stats

from tripartite.beyond import imaging
from tripartite.beyond.imaging import INDICATORS

every_indicator = pytest.mark.parametrize("p", INDICATORS.values(), ids=INDICATORS)


@every_indicator
def test_brightness_is_a_hill_curve_between_its_ends(p):
    # at K_d half of the sites are bound; far below, brightness rises with the Hill coefficient
    ends = imaging.brightness(np.array([1e-9, p.K_d, 1e6]), p)
    np.testing.assert_allclose(ends, [1, (1 + p.contrast) / 2, p.contrast], rtol=1e-9)
    low = np.log(imaging.brightness(p.K_d * np.array([1e-3, 2e-3]), p) - 1)
    assert low[1] - low[0] == pytest.approx(p.n * np.log(2), rel=1e-5)


@every_indicator
def test_sensitivity_is_the_slope_of_log_brightness(p):
    C, step = np.geomspace(0.02, 3, 20), 1e-6
    up, down = (np.log(imaging.brightness(C + s, p)) for s in (step, -step))
    np.testing.assert_allclose(imaging.sensitivity(C, p), (up - down) / (2 * step), rtol=1e-6)


@pytest.mark.parametrize(
    ("name", "peak", "half"), [("gcamp6f", 0.045, 0.142), ("gcamp6s", 0.179, 0.550)]
)
def test_response_peaks_and_halves_when_it_was_measured_to(name, peak, half):
    p = INDICATORS[name]
    top = optimize.minimize_scalar(
        lambda t: -imaging.impulse_response(t, p), bounds=(0, 1), method="bounded"
    )
    assert top.x == pytest.approx(peak, abs=5e-4)
    later = imaging.impulse_response(top.x + half, p)
    assert later / -top.fun == pytest.approx(0.5, abs=2e-3)  # constants have four digits
    assert imaging.impulse_response(-0.1, p) == 0


@every_indicator
def test_response_is_that_of_two_leaky_integrators_in_series(p):
    t = np.linspace(0, 5, 501)
    series = signal.lti([1], np.polymul([p.tau_decay, 1], [p.tau_rise, 1]))
    _, expected = signal.impulse(series, T=t)
    np.testing.assert_allclose(imaging.impulse_response(t, p), expected, atol=1e-9)
    x = np.repeat(np.random.default_rng(0).normal(size=50), 10)
    pulse = np.r_[x, 0.0]  # held for a step, as lsim's zero-order hold wants it
    _, held, _ = signal.lsim(series, pulse - x[0], T=np.arange(501) * 0.01, interp=False)
    np.testing.assert_allclose(imaging.respond(x, 0.01, p), held[1:] + x[0], atol=1e-10)


@every_indicator
@pytest.mark.parametrize("omega", [0.0, 1.0, 20.0])
def test_transfer_is_the_fourier_integral_of_the_response(p, omega):
    parts = [
        integrate.quad(
            lambda t, f=f: imaging.impulse_response(t, p) * f(omega * t), 0, 30, limit=999
        )[0]
        for f in (np.cos, np.sin)
    ]
    assert imaging.transfer(omega, p) == pytest.approx(parts[0] - 1j * parts[1], abs=1e-7)


def test_frames_are_means_over_exposures():
    F = np.arange(22.0).reshape(11, 2)
    np.testing.assert_array_equal(imaging.frames(F, 5), [F[:5].mean(0), F[5:10].mean(0)])


def test_photons_have_the_variance_of_shot_noise_and_of_reading():
    exposure, flux, read = 0.1, 2_000.0, 9.0
    F = np.repeat([[1.0, 2.5]], 40_000, axis=0)
    seen = imaging.photograph(F, exposure, flux, read, 0)
    expected = imaging.camera_variance(exposure, flux, read, F[0])
    # 200 and 500 photons, plus 81 of reading, in units of 200 photons
    np.testing.assert_allclose(expected, [281 / 200**2, 581 / 200**2])
    np.testing.assert_allclose(seen.mean(0), F[0], atol=5 * np.sqrt(expected.max() / 40_000))
    np.testing.assert_allclose(seen.var(0), expected, rtol=5 * np.sqrt(2 / 40_000))
    assert not np.array_equal(seen, imaging.photograph(F, exposure, flux, read, 1))


@pytest.mark.parametrize("rate", [2.0, 30.0])
@pytest.mark.parametrize("level", [0.02, 0.08])
def test_noise_level_is_the_same_at_every_frame_rate(rate, level):
    F = np.ones(40_000)
    trace = imaging.photograph(F, 1 / rate, imaging.flux_of(level), 0.0, 0)
    # counts are whole, so the median is one of few numbers: half of their distance, and 2 % by chance
    distance = 1 / (imaging.flux_of(level) / rate) / np.sqrt(rate) / level
    assert imaging.noise_level(trace, rate) == pytest.approx(level, rel=0.02 + distance / 2)


def test_power_is_that_of_cohens_tables():
    # two groups, effect d: delta = d sqrt(n/2); Cohen 1988, table 2.4.1: n for 80 % at 5 %, two-sided
    for d, n in ((0.2, 393), (0.5, 64), (0.8, 26)):
        assert imaging.power(d * np.sqrt(n / 2), 2 * n - 2) == pytest.approx(0.8, abs=0.01)
    assert imaging.power(0.0, 10, level=0.01) == pytest.approx(0.01)
    assert imaging.power(-2.0, 50) == imaging.power(2.0, 50)
    # where few degrees of freedom leave a doubt at a large non-centrality: 4 million draws
    rng = np.random.default_rng(0)
    t = (rng.standard_normal(4_000_000) + 40) / np.sqrt(rng.chisquare(3, 4_000_000) / 3)
    share = np.mean(np.abs(t) > stats.t.ppf(1 - 5e-6, 3))
    assert imaging.power(40.0, 3, level=1e-5) == pytest.approx(share, abs=0.03)  # an approximation
    assert np.all(imaging.power(np.linspace(10, 100, 50), 2_500) > 1 - 1e-9)  # and never NaN


def test_needed_repetitions_give_the_power_they_promise():
    n = imaging.needed(0.3, aim=0.8)
    assert n == pytest.approx(87.2, abs=0.1)  # (1.960 + 0.842)^2 / 0.09
    assert imaging.power(0.3 * np.sqrt(n), 1e6) == pytest.approx(0.8, abs=1e-3)


def test_t_is_that_of_the_partial_correlation_where_noise_is_white():
    rng = np.random.default_rng(1)
    X, y = rng.normal(size=(40, 3, 4)), rng.normal(size=(40, 3))
    X[..., 0] = 1
    found = imaging.detect(y, X[..., :2], X[..., 2:], 0)
    a = X[..., :2].reshape(-1, 2)
    y, *b = (
        x - a @ np.linalg.lstsq(a, x)[0] for x in (y.ravel(), X[..., 2].ravel(), X[..., 3].ravel())
    )
    r = np.array([stats.pearsonr(y, x).statistic for x in b])
    np.testing.assert_allclose(found, r * np.sqrt(117 / (1 - r**2)), rtol=1e-10)


def correlated(rng, n, size, rho=0.9):
    return signal.lfilter([1], [1, -rho], rng.normal(size=(n + 100, size)), axis=0)[100:]


def test_whitening_restores_the_level_that_correlated_noise_destroys():
    rng = np.random.default_rng(2)
    n, size = 400, 300
    slow, regressor = correlated(rng, n, size), correlated(rng, n, size)
    one = np.ones((n, 1, 1))
    t = np.array(
        [
            [imaging.detect(y[:, None], one, x[:, None, None], k)[0] for k in (0, 1)]
            for y, x in zip(slow.T, regressor.T)
        ]
    )
    raw, white = np.mean(np.abs(t) > 1.97, axis=0)
    assert raw > 0.3
    assert white < 0.05 + 3 * np.sqrt(0.05 * 0.95 / size)
    # and t has the unit variance of the null, to what 300 values can tell
    assert np.std(t[:, 1]) == pytest.approx(1, abs=4 / np.sqrt(2 * size))


def test_power_of_the_whole_test_is_that_of_the_closed_form():
    # whitened regressor w: t is Student's with delta = |w| / sigma, up to fitting the whitening
    rng = np.random.default_rng(3)
    n, rho, size = 300, 0.8, 400
    x = rng.normal(size=n)
    white = x[1:] - rho * x[:-1]
    delta = 0.12 * np.linalg.norm(white - white.mean())
    one, x = np.ones((n, 1, 1)), x[:, None, None]
    hits = [
        abs(imaging.detect(0.12 * x[..., 0] + e[:, None], one, x, 1)[0]) > 1.968
        for e in correlated(rng, n, size, rho).T
    ]
    expected = imaging.power(delta, n - 3)
    assert 0.3 < expected < 0.9
    assert np.mean(hits) == pytest.approx(expected, abs=3 * np.sqrt(0.25 / size))


def test_randomisation_keeps_its_level_where_whitening_does_not():
    # noise that no autoregression of first order describes, and blocks as regressors
    rng = np.random.default_rng(4)
    n, size, others = 120, 300, 79
    slow = correlated(rng, n, size, 0.99)
    one = np.ones((n, 1, 1))
    p, t = [], []
    for y in slow.T:
        shown = np.repeat(rng.normal(size=(n // 20, 1 + others)), 20, axis=0)
        t.append(imaging.detect(y[:, None], one, shown[:, None], 0))
        p.append(imaging.randomised(t[-1]))
    assert np.mean(np.abs(t) > 1.98) > 0.3
    assert np.mean(np.array(p) <= 0.05) == pytest.approx(0.05, abs=3 * np.sqrt(0.05 * 0.95 / size))
    assert imaging.randomised(np.array([-3.0, 1, 2, 3])) == 0.5  # two-sided, ties count


def test_effects_and_interaction_of_a_product_are_those_of_its_factors():
    a, b = np.array([[1.0], [4.0], [2.0]]), np.array([[3.0, -1.0, 0.5, 2.0]])
    inter, by_row, by_column = imaging.centred(10 + a * b)
    np.testing.assert_allclose(inter, (a - a.mean()) * (b - b.mean()), atol=1e-12)
    np.testing.assert_allclose(by_row, (a - a.mean()) * b.mean(), atol=1e-12)
    np.testing.assert_allclose(by_column, a.mean() * (b - b.mean()), atol=1e-12)


@pytest.mark.parametrize("n_contexts", [2, 3, 5])
def test_gains_span_every_product_of_a_gain_and_a_feature_and_no_effect(n_contexts):
    rng = np.random.default_rng(5)
    b = rng.normal(size=(12, 2)) + 3
    columns = imaging.gains(b, n_contexts)
    assert columns.shape == (n_contexts, 12, 2 * (n_contexts - 1))
    np.testing.assert_allclose(columns.sum(axis=0), 0, atol=1e-12)
    np.testing.assert_allclose(columns.sum(axis=1), 0, atol=1e-12)
    gain = rng.normal(size=(n_contexts, 2))
    made = imaging.centred(gain @ b.T)[0].ravel()
    flat = columns.reshape(made.size, -1)
    np.testing.assert_allclose(flat @ np.linalg.lstsq(flat, made)[0], made, atol=1e-12)


def shown_once(c, n, trials):
    """Cells of a design in which a frame shows one of them, and nothing lasts."""
    return np.broadcast_to(np.eye(c * n)[:, None], (c * n, trials, c * n)).reshape(-1, trials, c, n)


def test_t_of_the_interaction_is_that_of_least_squares_with_all_nuisances_written_out():
    rng = np.random.default_rng(6)
    c, n, trials = 3, 9, 4
    model, feature = rng.normal(size=(c, n)), rng.normal(size=(n, 1))
    y = rng.normal(size=(c * n, trials)) + model.reshape(-1, 1)
    for beside_gains in (False, True):
        found = imaging.interaction(
            y, shown_once(c, n, trials), model, feature, order=0, beside_gains=beside_gains
        )
        context, query = np.divmod(np.tile(np.arange(c * n), (trials, 1)).T.ravel(), n)
        X = [np.equal.outer(context, range(c)), np.equal.outer(query, range(1, n))]
        if beside_gains:  # the effect of queries in a design where every cell is seen alike: means
            b = np.column_stack([y.reshape(c, n, trials).mean((0, 2)), model.mean(0), feature])
            X += [(context == k)[:, None] * b[query] for k in range(1, c)]
            X += [b[query]]
        X = np.column_stack([*X, model.ravel()[context * n + query]]).astype(float)
        left = y.ravel() - X @ np.linalg.pinv(X) @ y.ravel()
        df = y.size - np.linalg.matrix_rank(X)
        error = np.sqrt(left @ left / df * np.linalg.pinv(X.T @ X)[-1, -1])
        # degrees of freedom count every nuisance column, also one that others imply
        assert found[0] == pytest.approx((np.linalg.pinv(X) @ y.ravel())[-1] / error, rel=0.02)
        assert len(found) == 60


def test_interaction_keeps_its_level_where_contexts_scale_a_feature_and_finds_the_model():
    rng = np.random.default_rng(7)
    c, n, trials, size = 3, 16, 6, 200
    cells = shown_once(c, n, trials)
    model = np.exp(0.5 * rng.normal(size=(c, n)) + rng.normal(size=n))
    # the worst feature: one that resembles the interaction, scaled where it does
    feature = 3 * (model.mean(0) / 5 + imaging.centred(model)[0][0])
    scaled = np.array([[1.3], [0.85], [0.85]]) * feature
    hits = {}
    for world, drive in (("gain", scaled), ("model", model)):
        for beside_gains in (False, True):
            p = []
            for trial in range(size):
                y = drive.reshape(-1, 1) + rng.normal(size=(c * n, trials))
                t = imaging.interaction(
                    y, cells, model, order=0, n_others=19, seed=trial, beside_gains=beside_gains
                )
                p.append(imaging.randomised(t))
            hits[world, beside_gains] = np.mean(np.array(p) <= 0.05)
    assert hits["gain", False] > 0.5
    assert hits["gain", True] < 0.05 + 3 * np.sqrt(0.05 * 0.95 / size)
    assert hits["model", True] > 0.5


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: replace(INDICATORS["gcamp6f"], tau_rise=1.0), "tau_rise = 1 s"),
        (lambda: replace(INDICATORS["gcamp6f"], K_d=0.0), "K_d = 0 uM"),
        (lambda: imaging.photograph(np.ones(3), 0.1, -1.0, 0.0, 0), "flux = -1"),
        (lambda: imaging.photograph(np.ones(3), 0.1, 1.0, -1.0, 0), "read_noise = -1"),
        (lambda: imaging.flux_of(0.0), "level = 0"),
        (lambda: imaging.respond(np.ones(3), 0.0, INDICATORS["gcamp6f"]), "dt = 0"),
        (lambda: imaging.frames(np.ones(3), 0), "n_steps = 0"),
        (
            lambda: imaging.detect(np.ones((5, 1)), np.ones((5, 1, 1)), np.ones((5, 1, 1)), 3),
            "order = 3",
        ),
        (
            lambda: imaging.interaction(
                np.ones((9, 1)), np.ones((9, 1, 2, 3)), np.ones((3, 2)), order=0
            ),
            "contexts and queries of model",
        ),
        (lambda: imaging.gains(np.ones((4, 1)), 0), "n_contexts = 0"),
    ],
)
def test_bad_input_is_named(call, words):
    with pytest.raises(ValueError, match=words):
        call()
