"""Simulated sessions: the linear chain against the whole cell, noise against its spectrum, designs."""

from dataclasses import replace

import numpy as np
import pytest

from tripartite import astrocyte
from tripartite.beyond import imaging, session

CELL = astrocyte.ASTROCYTES["stimberg2019-ex2"]
GLOW = imaging.INDICATORS["gcamp6s"]
SETUP = session.Setup(
    GLOW, rate=2.0, flux=300.0, read_noise=5.0, background=0.3, spontaneous=0.1, tau=5.0
)
NOISELESS = replace(SETUP, flux=1e12, read_noise=0.0, background=0.0, spontaneous=0.0)
DRIVEN = session.follower(CELL, 1.5)


@pytest.mark.parametrize("Y", [0.005, 1.5])
def test_a_lasting_drive_changes_the_glow_as_from_one_fixed_point_to_another(Y):
    low, high = (session.follower(CELL, Y * (1 + e)).at.C for e in (-1e-3, 1e-3))
    F = imaging.brightness(np.array([low, high]), GLOW)
    expected = (F[1] - F[0]) / F.mean() / 2e-3
    of = session.follower(CELL, Y)
    found = session.gain(np.zeros(1), of, GLOW)[0]
    assert found.real == pytest.approx(expected, rel=5e-3) and abs(found.imag) < 1e-9
    process = replace(of, tau_process=0.5)
    np.testing.assert_allclose(session.gain(np.zeros(1), process, GLOW), found, rtol=1e-12)
    at_corner = session.gain(np.array([2.0]), process, GLOW)[0] / imaging.transfer(2.0, GLOW)
    assert abs(at_corner) == pytest.approx(abs(found) / np.sqrt(2))


def test_weak_drives_pass_the_whole_cell_as_the_chain_says():
    rng = np.random.default_rng(0)
    k = 40  # finer steps than a session's, in which both hold the drive alike
    drive = np.repeat(0.01 * rng.standard_normal(40), 2 * k)[:, None]
    _, seen = session.record(drive, DRIVEN, NOISELESS, k, rng)
    chain = session.through(drive, DRIVEN, NOISELESS, k)
    assert np.std(seen - 1 - chain) < 0.03 * np.std(chain)
    assert np.std(seen - 1) > 1e-4  # far above the photons' noise, 1.4e-6


def test_frames_vary_as_the_spectrum_says():
    rng = np.random.default_rng(1)
    weak = replace(SETUP, background=0.03, spontaneous=0.01, flux=3e4, read_noise=50.0)
    k, n = 5, 400
    _, seen = session.record(np.zeros((n * k, 60)), DRIVEN, weak, k, rng)
    spectrum = session.noise_spectrum(n, DRIVEN, weak, k)
    seen = seen[100:] - seen[100:].mean()  # calcium has forgotten that it began at rest
    power = np.mean(np.abs(np.fft.fft(seen, axis=0)) ** 2, axis=1) / len(seen)
    assert np.mean(power[1:]) == pytest.approx(spectrum[1:].mean(), rel=0.1)
    low, high = slice(2, 12), slice(110, 190)
    other = session.noise_spectrum(len(seen), DRIVEN, weak, k)
    assert power[low].mean() == pytest.approx(other[low].mean(), rel=0.2)
    assert power[high].mean() == pytest.approx(other[high].mean(), rel=0.1)


def test_wandering_noise_has_unit_variance_and_its_memory():
    x = session.wander((4000, 50), 0.1, 2.0, np.random.default_rng(2))
    assert x.var() == pytest.approx(1, rel=0.05)
    assert np.mean(x[:-20] * x[20:]) == pytest.approx(np.exp(-1), abs=0.04)
    assert x[0].std() == pytest.approx(1, rel=0.3)  # from the beginning


@pytest.mark.parametrize(("T", "rate"), [(1.0, 2.0), (0.1, 20.0), (30.0, 0.25)])
def test_every_token_is_shown_for_its_time(T, rate):
    shown, k = session.slots(9, T, rate)
    step = 1 / (rate * k)
    assert step <= 0.1 + 1e-12 and step <= T / 2 + 1e-12
    assert np.all(np.diff(shown) >= 0)
    seconds = np.bincount(shown) * step
    np.testing.assert_allclose(seconds[:-1], T, atol=step)
    assert abs(seconds[-1] - T) <= 1 / rate  # a session ends with a whole frame


def test_non_centrality_is_that_of_least_squares_with_the_noise_s_covariance():
    rng = np.random.default_rng(3)
    n = 30
    spectrum = 1 + np.abs(np.fft.fft(rng.standard_normal(n)))  # symmetric, so the noise is real
    first_row = np.fft.ifft(spectrum).real
    covariance = first_row[np.abs(np.subtract.outer(np.arange(n), np.arange(n)))]
    columns = rng.standard_normal((n, 3))
    X = np.column_stack([np.ones(n), columns])
    inverse = np.linalg.inv(X.T @ np.linalg.inv(covariance) @ X)
    found = session.non_centrality(columns, spectrum)
    assert found == pytest.approx(1 / inverse[-1, -1])  # 1 / variance of the last coefficient


def test_a_cell_of_the_design_is_seen_where_its_query_is_shown():
    rng = np.random.default_rng(4)
    order = session.new_order(3, 5, rng)
    assert np.array_equal(np.sort(order, axis=1), np.tile(np.arange(5), (3, 1)))
    cells = session.in_order(np.eye(15), order)  # a frame for each slot
    for context, query in np.ndindex(3, 5):
        slot = 5 * context + list(order[context]).index(query)
        assert np.array_equal(np.flatnonzero(cells[:, context, query]), [slot])


def test_responses_are_sums_of_exponentials_over_their_mean():
    rng = np.random.default_rng(5)
    queries = rng.standard_normal((2, 4, 3))
    keys = [rng.standard_normal((2, n, 3)) for n in (5, 7)]
    expected = np.array(
        [[[np.exp(k[h] @ q).sum() for q in queries[h]] for k in keys] for h in (0, 1)]
    )
    expected /= expected.mean(axis=(1, 2), keepdims=True)
    np.testing.assert_allclose(session.responses(queries, keys), expected)
    log_x = np.log([1.0, 2.0, 6.0])
    np.testing.assert_allclose(session.relative(log_x), [-2 / 3, -1 / 3, 1])


def test_worlds_are_as_strong_as_the_theory_and_interact_where_they_should():
    rng = np.random.default_rng(6)
    response = np.exp(0.3 * rng.standard_normal((3, 20)))
    rate_code = rng.standard_normal(20)
    worlds = session.worlds(response, rate_code, rng)
    np.testing.assert_allclose(worlds["the theory"], response - 1)
    for name, drive in worlds.items():
        size = np.abs(imaging.centred(drive)[0]).max()
        if name in ("the rate code", "an unknown feature", "what was written"):
            assert size < 1e-12, name
        else:
            assert size > 0.01, name
        if "multiplied" not in name:
            assert drive.std() == pytest.approx(response.std()), name
    inter, by_context, by_query = imaging.centred(worlds["effects of the theory multiplied"])
    expected = imaging.centred(response)[1] * imaging.centred(response)[2]
    np.testing.assert_allclose(inter, expected, atol=1e-12)


@pytest.fixture(scope="module")
def three():
    """Frames of a unit drive in every slot of three contexts of twelve queries, and little noise."""
    shown, k = session.slots(36, 1.0, SETUP.rate)
    seen = session.through(np.eye(36)[shown], DRIVEN, SETUP, k)
    return seen, session.noise_spectrum(len(seen), DRIVEN, SETUP, k)


def test_simulated_frames_are_the_drive_s_and_noise_of_the_spectrum(three):
    seen, spectrum = three
    drive = np.random.default_rng(7).standard_normal((3, 12))
    y, cells = session.simulate(seen, spectrum, drive, np.random.default_rng(8), 300)
    noise = y - np.einsum("fscq,cq->fs", cells, drive)
    power = np.mean(np.abs(np.fft.fft(noise, axis=0)) ** 2, axis=1) / len(noise)
    np.testing.assert_allclose(power, spectrum, rtol=0.35)
    quiet, _ = session.simulate(seen, 0 * spectrum, drive, np.random.default_rng(8), 2)
    one = np.random.default_rng(8)
    order = [session.new_order(3, 12, one) for _ in range(2)][1]
    by_hand = sum(
        drive[c, order[c, slot]] * seen[:, 12 * c + slot] for c in range(3) for slot in range(12)
    )
    np.testing.assert_allclose(quiet[:, 1], by_hand, atol=1e-12)


def test_the_interaction_delta_is_that_of_the_t_test_on_simulated_sessions(three):
    seen, spectrum = three
    rng = np.random.default_rng(9)
    response = 1 + 0.5 * rng.standard_normal((3, 12))
    delta = session.interaction_delta(seen, spectrum, response, response, np.random.default_rng(10))
    found = []
    for seed in range(40):  # known noise: whitened by its spectrum, an ordinary regression
        rng = np.random.default_rng(seed)
        y, cells = session.simulate(seen, spectrum, response - 1, rng, 8)
        beside = [*np.eye(36), response.ravel()]
        main = np.array([b.reshape(3, 12) for b in beside[:-1]])
        by_query, by_context = main.reshape(3, 12, 3, 12).sum(0), main.reshape(3, 12, 3, 12).sum(1)
        X = [*by_query, *by_context[1:], response]
        columns = np.einsum("fscq,kcq->kfs", cells, np.array(X))
        columns = np.concatenate([np.ones((1, *y.shape)), columns])

        def white(x):
            x = np.fft.fft(x, axis=-2) / np.sqrt(len(seen) * spectrum)[:, None]
            return np.concatenate([x.real, x.imag], axis=-2).reshape(*x.shape[:-2], -1)

        A, b = white(columns).T, white(y)
        variance = np.linalg.pinv(A.T @ A)
        found.append((variance @ A.T @ b)[-1] / np.sqrt(variance[-1, -1]))
    assert np.mean(found) / np.sqrt(8) == pytest.approx(delta, rel=0.15)


def test_the_order_test_finds_the_model_and_not_its_absence(three):
    shown, k = session.slots(60, 1.0, SETUP.rate)
    seen = session.through(np.eye(60)[shown], DRIVEN, SETUP, k)
    rng = np.random.default_rng(11)
    model, rate_code = rng.standard_normal((2, 60))
    hits = {}
    for name, drive in (("model", model), ("rate code", rate_code)):
        tests = []
        for _ in range(40):
            order = rng.permutation(60)
            noise = 0.02 * rng.standard_normal(len(seen))
            trace = 1 + seen @ drive[order] + noise
            tests.append(session.order_tests(trace, seen, order, model, rate_code, rng, 2))
        hits[name] = np.mean([p <= 0.05 for _, _, p in tests])
    assert hits["model"] == 1 and hits["rate code"] < 0.2


def test_tests_of_an_interaction(three):
    seen, spectrum = three
    rng = np.random.default_rng(12)
    response, rate_code = 1 + 0.5 * rng.standard_normal((3, 12)), rng.standard_normal(12)
    for drive, found in ((response - 1, True), (np.tile(rate_code, (3, 1)), False)):
        y, cells = session.simulate(seen, 1e-4 * spectrum, drive, rng)
        of = (y, cells, response, rate_code, rng, 2)
        p = [session.rate_code_test(*of), *session.interaction_tests(*of)]
        assert all((x <= 0.05) == found for x in p), p


@pytest.mark.parametrize(
    ("given", "named"),
    [({"rate": 0.0}, "rate"), ({"background": -0.1}, "background"), ({"tau": -1.0}, "tau")],
)
def test_what_no_session_can_have_is_refused(given, named):
    with pytest.raises(ValueError, match=named):
        replace(SETUP, **given)


def test_a_drive_without_a_fixed_point_and_a_process_as_a_cell_are_refused():
    with pytest.raises(ValueError, match="Y = -1"):
        session.follower(CELL, -1.0)
    rng = np.random.default_rng(0)
    with pytest.raises(ValueError, match="tau_process"):
        session.record(np.zeros((10, 1)), replace(DRIVEN, tau_process=0.5), SETUP, 5, rng)
    with pytest.raises(ValueError, match="presentation"):
        session.slots(3, 0.0, 2.0)
