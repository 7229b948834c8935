"""Rival systems: against enumeration, closed forms, energies, other libraries, and each other."""

import itertools
import math

import numpy as np
import pytest
from scipy.integrate import solve_ivp
from scipy.special import comb, softmax

from companion.paths import DATA
from tripartite import attention, features, network
from tripartite.beyond import memory, rivals
from tripartite.beyond.rivals import Gated, Replicator

RNG = np.random.default_rng(5)


def tokens(n=7, d=6, e=5, leading=(), seed=0, scale=1.0):
    rng = np.random.default_rng(seed)
    return [scale * rng.normal(size=(*leading, n, width)) for width in (d, d, e)]


def signs(*shape, seed=0):
    return np.random.default_rng(seed).choice([-1.0, 1.0], shape)


def test_misfit_is_the_error_after_the_best_factor():
    exact, other = tokens(leading=(3,))[2], tokens(leading=(3,), seed=1)[2]
    a, b = (x.reshape(3, -1) for x in (other, exact))
    best = [np.linalg.lstsq(x[:, None], y, rcond=None)[1][0] ** 0.5 for x, y in zip(a, b)]
    np.testing.assert_allclose(
        rivals.misfit(other, exact), best / np.linalg.norm(b, axis=1), rtol=1e-12
    )
    assert np.all(rivals.misfit(-3 * exact, exact) < 1e-14)  # no rounding of a cosine
    np.testing.assert_array_equal(rivals.misfit(0 * exact, exact), 1)


# ---- modern Hopfield network


def test_one_hopfield_step_with_unscaled_tokens_is_attention():
    q, k, _ = tokens(d=16)
    raw = 16**0.25  # undo the scale that this book puts into queries and keys
    step = rivals.hopfield_step(raw * q, raw * k, 1 / math.sqrt(16))
    np.testing.assert_allclose(step, raw * attention.softmax_attention(q, k, k), rtol=1e-12)
    np.testing.assert_allclose(step, softmax(q @ k.T, axis=-1) @ (raw * k), rtol=1e-12)


def test_no_hopfield_step_raises_the_energy():
    stored = RNG.normal(size=(20, 8))
    state = 3 * RNG.normal(size=(50, 8))
    before = rivals.hopfield_energy(state, stored, 2.0)
    for _ in range(20):
        state = rivals.hopfield_step(state, stored, 2.0)
        after = rivals.hopfield_energy(state, stored, 2.0)
        assert np.all(after <= before + 1e-12 * np.abs(before))
        before = after
    assert np.all(before >= 0)  # the constants make it so: Ramsauer et al. 2021, their lemma A1


def test_a_hopfield_step_goes_down_the_energys_gradient():
    stored, x, h = RNG.normal(size=(9, 4)), RNG.normal(size=4), 1e-6
    slope = [
        (
            rivals.hopfield_energy(x + h * u, stored, 1.5)
            - rivals.hopfield_energy(x - h * u, stored, 1.5)
        )
        / (2 * h)
        for u in np.eye(4)
    ]
    np.testing.assert_allclose(rivals.hopfield_step(x, stored, 1.5), x - slope, atol=1e-8)


# ---- sparse distributed memory


def test_circle_intersection_counts_addresses():
    n, radius = 9, 3
    space = np.array(list(itertools.product([0, 1], repeat=n)))
    near = space.sum(axis=1) <= radius  # of the address 00..0
    for v, log_share in enumerate(rivals.circle_intersection(n, radius)):
        other = np.arange(n) < v
        count = np.sum(near & ((space != other).sum(axis=1) <= radius))
        assert math.exp(log_share) * 2**n == pytest.approx(count, rel=1e-12, abs=1e-12)


def test_circle_intersection_is_kanervas_sum():
    n, radius = 64, 11
    circle = sum(comb(n, i, exact=True) for i in range(radius + 1))
    found = rivals.circle_intersection(n, radius)
    for v in range(2 * radius + 1):
        # Kanerva 1988, appendix B: a lune for each odd distance on the way
        lune = sum(
            comb(j - 1, (j - 1) // 2, exact=True) * comb(n - j, radius - (j - 1) // 2, exact=True)
            for j in range(1, v + 1, 2)
        )
        assert found[v] == pytest.approx(math.log(circle - lune) - n * math.log(2), rel=1e-12)
    assert np.all(np.isinf(found[2 * radius + 1 :]))


def test_published_radius_for_signal_to_noise():
    # Bricken and Pehlevan 2021: 11 for 64 bits, 1,024 memories and all 2^64 neurons
    assert rivals.snr_radius(64, 1024, 64) == 11


def test_sparse_distributed_memory_weighs_by_the_intersection():
    k = signs(40, 64)
    q = k[:3] * np.where(np.arange(64) < 6, -1, 1)
    weights = rivals.sparse_distributed(q, k, 64, 26)
    distance = ((q[:, None] != k).sum(axis=-1)).astype(int)
    share = np.exp(rivals.circle_intersection(64, 26))[distance]
    np.testing.assert_allclose(
        weights / weights.sum(-1, keepdims=True), share / share.sum(-1, keepdims=True), rtol=1e-9
    )


def test_hard_locations_are_active_for_their_share():
    phi = rivals.hard_locations(20_000, 12, 0.03, 1)
    x = RNG.normal(size=(4, 12)) * [[0.1], [1], [10], [100]]
    active = np.asarray(phi(x).value)
    assert set(np.unique(active)) == {0, 1}
    # binomial, 20,000 neurons: five standard deviations are 0.006
    np.testing.assert_allclose(active.mean(axis=1), 0.03, atol=0.006)
    np.testing.assert_array_equal(active, phi(3 * x).value)


# ---- key-value memory with local rules


def test_slots_in_turn_are_attention_to_the_last_pairs():
    k, v = signs(12, 48, seed=1), RNG.normal(size=(12, 3))
    slots = rivals.write_slots(k, v, 5)
    alive = rivals.survivors(12, 5)
    assert alive.sum() == 5 and alive[-1] and not alive[6]
    read = rivals.read_slots(slots, k[alive])
    # a slot's own key is asked with score 48, any other's with far less: values to 1e-9
    np.testing.assert_allclose(
        read, attention.softmax_attention(k, k[alive], v[alive])[alive], atol=1e-9
    )
    np.testing.assert_allclose(read, v[alive], atol=1e-9)


def test_values_are_written_by_what_the_key_excites():
    k, v = 0.3 * RNG.normal(size=(2, 4)), RNG.normal(size=(2, 3))
    slots = rivals.write_slots(k, v, 2)
    first = softmax([k[0] @ k[0], 0.0])  # the second slot is still empty
    second = softmax([k[0] @ k[1], k[1] @ k[1]])
    np.testing.assert_allclose(slots.values, [first[0] * v[0], second[1] * v[1]], rtol=1e-12)


def test_random_third_factors_keep_a_pair_as_often_as_computed():
    n_slots, chance, later = 10, 0.15, 6
    kept = []
    for seed in range(3000):
        k = np.eye(later + 1)
        slots = rivals.write_slots(k, k, n_slots, chance, seed)
        kept.append(np.any(slots.keys[:, 0] == 1))
    expected = 1 - (1 - chance * (1 - chance) ** later) ** n_slots
    assert np.mean(kept) == pytest.approx(expected, abs=5 * math.sqrt(0.25 / 3000))
    # a lost pair's bits are right half of the time; the last pair counts later + 1 times
    shares = rivals.share_right(n_slots, later + 1, chance)
    lost = np.diff(2 * (1 - shares) * np.arange(1, later + 2), prepend=0)
    assert lost[-1] == pytest.approx(1 - expected, rel=1e-12)


def test_capacities_are_those_that_were_published():
    # Tyulmankov et al. 2021: 1.0 n in turn, 0.16 n with random third factors of chance 0.1
    n = np.arange(40, 121, 20)
    random = [np.sum(rivals.share_right(m, 200, 0.1) >= 0.98) for m in n]
    assert n @ random / (n @ n) == pytest.approx(0.16, abs=0.01)


@pytest.mark.parametrize(("n_slots", "n_pairs"), [(40, 12), (80, 25)])
def test_simulated_slots_recall_as_much_as_derived(n_slots, n_pairs):
    shares = []
    for seed in range(60):
        x = signs(n_pairs, n_slots, seed=seed)
        hidden = np.argsort(np.random.default_rng(seed).random(x.shape), axis=1) < 0.6 * n_slots
        slots = rivals.write_slots(x, x, n_slots, 0.1, seed)
        shares.append(np.mean(np.sign(rivals.read_slots(slots, np.where(hidden, 0, x))) == x))
    expected = rivals.share_right(n_slots, n_pairs, 0.1)[-1]
    error = 4 * np.std(shares) / math.sqrt(60)
    # a lost pair's most similar survivor may be right more often than a coin, never less
    assert expected - error < np.mean(shares) < expected + error + 0.01


# ---- TEM


def test_a_walk_around_a_ring_comes_back():
    turn = 2 * math.pi / 5
    W = np.array([[math.cos(turn), math.sin(turn)], [-math.sin(turn), math.cos(turn)]])
    places = rivals.walk(np.array([W] * 5), np.array([1.0, 0.0]))
    np.testing.assert_allclose(places[-1], places[0], atol=1e-14)
    np.testing.assert_allclose(places[1], [math.cos(turn), math.sin(turn)], atol=1e-14)


def test_walked_positions_find_what_was_seen_where():
    angles = 2 * math.pi * np.arange(1, 9) / 24

    def step(n):
        W = np.zeros((16, 16))
        for j, angle in enumerate(n * angles):
            c, s = math.cos(angle), math.sin(angle)
            W[2 * j : 2 * j + 2, 2 * j : 2 * j + 2] = [[c, s], [-s, c]]
        return W

    seen, moves = signs(24, 32, seed=3), np.random.default_rng(3).choice([-3, -1, 1, 2], 200)
    start = np.tile([1.0, 0], 8)
    places = rivals.walk(np.array([step(n) for n in moves]), start)
    true = np.concatenate([[0], np.cumsum(moves)]) % 24
    stored = rivals.walk(np.array([step(1)] * 23), start)  # all places, one after the other
    np.testing.assert_allclose(places, stored[true], atol=1e-12)
    answers = np.sign(rivals.attend("softmax", places, stored, seen, 4.0))
    np.testing.assert_array_equal(answers, seen[true])  # TEM-t
    linear = np.mean(np.sign(rivals.attend("TEM", places, stored, seen)) == seen[true])
    assert 0.8 < linear < 1  # TEM's kernel has neighbours in it


def test_tem_is_a_hebbian_memory_of_conjunctions():
    q, k, v = tokens()
    M = sum(np.outer(x, e) for x, e in zip(v, k, strict=True))
    np.testing.assert_allclose(rivals.attend("TEM", q, k, v), q @ M.T, rtol=1e-12)


# ---- match and control


def test_a_match_takes_control_at_the_threshold():
    k = np.array([[0.5], [1.0], [2.0]])
    weights = rivals.match_and_control(np.ones((1, 1)), k, 1.0)[0]
    # Ellwood 2024, his channel file: (1 - alpha) + 8 alpha; alpha a half at the threshold
    alpha = 1 / (1 + np.exp([10, 0, -20]))
    np.testing.assert_allclose(weights, (1 - alpha) + 8 * alpha, rtol=1e-12)
    assert weights[1] == pytest.approx(4.5)


def test_synapses_without_a_match_still_conduct_and_limit_what_is_recalled():
    # one sign of 8 against K - 1 signs of 1: by hand, from the binomial distribution
    def right(K):
        sums = [8 + 2 * n - (K - 1) for n in range(K)]  # n of the others say yes
        ways = [comb(K - 1, n, exact=True) for n, x in enumerate(sums) if x > 0]
        return sum(ways) / 2 ** (K - 1)

    assert right(14) > 0.98 > right(15)  # an odd number of pairs can tie: 16 does once more
    for K in (14, 16, 40):
        shares = []
        for seed in range(60):
            k, v = signs(K, 64, seed=seed), signs(K, 64, seed=1000 + seed)
            found = rivals.attend("match and control", rivals.unit(k), rivals.unit(k), v, 0.6)
            shares.append(np.mean(np.sign(found) == v))
        assert np.mean(shares) == pytest.approx(right(K), abs=0.006)


def test_a_soma_errs_as_often_as_counted():
    rng, n, active, threshold = np.random.default_rng(9), 30, 0.2, 9.5
    spikes = rng.random((40_000, n)) < active
    fires = spikes @ np.array([8.0] + [1.0] * (n - 1)) > threshold
    errors = rivals.soma_errors(n, active, threshold)
    for chance, found in (
        (errors.missed, ~fires[spikes[:, 0]]),
        (errors.spurious, fires[~spikes[:, 0]]),
    ):
        error = 5 * math.sqrt(chance * (1 - chance) / found.size)
        assert np.mean(found) == pytest.approx(chance, abs=error)


def test_spike_trains_match_themselves():
    post = np.array([10.0, 200.0, 630.0])
    assert rivals.spike_match(post, post, 8.0) == pytest.approx(3)  # others are many widths away
    assert rivals.spike_match(post + 8, post, 8.0) == pytest.approx(3 * math.exp(-0.5))
    assert rivals.spike_match([], post, 8.0) == 0


# ---- astromorphic Transformer


def test_astromorphic_attention_written_out():
    q, k, v = tokens(n=4, d=3, e=2)
    r = RNG.normal(size=k.shape)
    out = rivals.astromorphic(q, k, v, 0.25, r)

    def phi(x):
        return [z + 1 if z > 0 else math.exp(z) for z in x]

    for t in range(4):
        a = phi(q[t])
        g = [sum(phi(x)[j] for x in k) ** 0.25 for j in range(3)]
        for i in range(2):
            H = [sum(v[s, i] * (phi(k[s])[j] + phi(r[s])[j]) for s in range(4)) for j in range(3)]
            assert out[t, i] == pytest.approx(np.dot(H, a) / np.dot(g, a), rel=1e-12)


def test_astromorphic_attention_with_linear_calcium_is_linear_attention():
    q, k, v = tokens(leading=(2,))
    linear = network.attend(rivals.elu_neurons(6), q, k, v).output
    np.testing.assert_allclose(rivals.astromorphic(q, k, v), linear, rtol=1e-12)


# ---- neuron-astrocyte associative memory


def test_a_query_drives_the_values_of_the_associative_memory():
    k, v, q = signs(6, 5, seed=2), signs(6, 4, seed=3), RNG.normal(size=(3, 5))
    stored = memory.Couplings(np.concatenate([k, v], axis=1), scale=1.0)
    whole = np.concatenate([q, np.zeros((3, 4))], axis=1)
    np.testing.assert_allclose(
        rivals.attend("associative memory", q, k, v), stored.drive(whole)[:, 5:], rtol=1e-12
    )


# ---- astrocyte gains by a replicator equation

MODEL = Replicator(signs(7, 11, seed=4), sigma=1.3, temperature=2.0, tau_x=0.6, tau_p=1.7)


def gated_state(seed=6):
    rng = np.random.default_rng(seed)
    return Gated(rng.normal(size=11), softmax(rng.normal(size=7)))


def test_replicator_rates_follow_the_gradient_of_their_energy():
    state, h = gated_state(), 1e-6
    speed = rivals.gated_rates(state, MODEL)
    slope = 1.3 * (1 - np.tanh(1.3 * state.x) ** 2)
    for i, u in enumerate(np.eye(11)):
        up, down = (
            rivals.gated_energy(state._replace(x=state.x + s * h * u), MODEL) for s in (1, -1)
        )
        assert (up - down) / (2 * h) == pytest.approx(-slope[i] * 0.6 * speed.x[i], abs=1e-7)
    dp = [
        (
            rivals.gated_energy(state._replace(p=state.p + h * u), MODEL)
            - rivals.gated_energy(state._replace(p=state.p - h * u), MODEL)
        )
        / (2 * h)
        for u in np.eye(7)
    ]
    projected = -state.p * (np.array(dp) - state.p @ dp) / 7  # on the simplex, Fisher metric
    np.testing.assert_allclose(1.7 * speed.p, projected, atol=1e-8)
    assert speed.p.sum() == pytest.approx(0, abs=1e-15)


def test_gains_settle_at_a_softmax_of_overlaps_and_recall_follows_the_equations():
    def slope(_, y):
        return np.concatenate(rivals.gated_rates(Gated(*np.split(y, [11])), MODEL))

    start = np.concatenate([MODEL.memories[0], np.full(7, 1 / 7)])
    run = solve_ivp(slope, (0, 200), start, "DOP853", [3.0, 200.0], rtol=1e-10, atol=1e-12)
    end = Gated(*np.split(run.y[:, -1], [11]))
    f = rivals.overlap_score(end.x, MODEL)
    np.testing.assert_allclose(end.p, softmax(f / 2.0), atol=1e-7)
    assert end.p.max() < 0.99  # or any rule that lets one gain win would do
    early = np.concatenate(rivals.gated_recall(MODEL.memories[0], MODEL, 3000, 1e-3))
    np.testing.assert_allclose(early, run.y[:, 0], atol=3e-3)  # of order dt


def test_uniform_gains_are_the_classical_hopfield_network():
    state = Gated(RNG.normal(size=11), np.full(7, 1 / 7))
    W = MODEL.memories.T @ MODEL.memories / 11
    np.testing.assert_allclose(
        0.6 * rivals.gated_rates(state, MODEL).x, W @ np.tanh(1.3 * state.x) - state.x, rtol=1e-12
    )
    hot = rivals.gated_recall(state.x, MODEL._replace(temperature=1e6), 50, 0.1)
    np.testing.assert_allclose(hot.p, 1 / 7, rtol=1e-4)  # scores of up to 5.5 over 1e6


def test_replicator_kernel_is_the_settled_gain_of_saturated_neurons():
    x, xi = signs(3, 11, seed=8), MODEL.memories
    gains = softmax(rivals.overlap_score(x, MODEL._replace(sigma=50.0)) / 2.0, axis=-1)
    kernel = rivals.replicator(x, xi, 2.0)
    np.testing.assert_allclose(kernel / kernel.sum(-1, keepdims=True), gains, rtol=1e-12)


# ---- linear attention, random feature attention


def test_fourier_neurons_estimate_the_exponential_kernel():
    x, y = 0.7 * RNG.normal(size=(2, 1, 3))
    estimates = []
    for seed in range(400):
        phi = rivals.fourier(64, 3, seed)
        estimates.append((phi(x).value @ phi(y).value.T).item())
    standard_error = np.std(estimates) / 20
    assert abs(np.mean(estimates) - math.exp((x @ y.T).item())) < 4 * standard_error
    phi = rivals.fourier(64, 3, 0)
    # a cosine and a sine of each direction: the kernel of a token with itself has no noise
    assert (phi(x).value @ phi(x).value.T).item() == pytest.approx(math.exp((x @ x.T).item()))


def test_the_delta_rule_writes_what_is_not_said_yet():
    q, k, v = tokens(n=9, d=6, e=4)
    f, asked = rivals.unit(np.exp(k)), rivals.unit(np.exp(q))
    H = np.zeros((4, 6))
    for x, y in zip(f, v, strict=True):
        H = H + 0.7 * np.outer(y - H @ x, x)
    u = rivals.corrected(f @ f.T, v, 0.7)
    np.testing.assert_allclose(asked @ f.T @ u, asked @ H.T, rtol=1e-12)
    # with rate 1 and keys of unit length the last pair is recalled exactly, others are not lost
    last = rivals.corrected(f @ f.T, v)
    np.testing.assert_allclose(f[-1] @ f.T @ last, v[-1], rtol=1e-12)
    orthogonal = rivals.corrected(np.eye(9), v)
    np.testing.assert_array_equal(orthogonal, v)  # then it is Hebb's


@pytest.mark.parametrize("causal", [False, True])
def test_the_delta_rule_among_the_systems_is_written_token_by_token(causal):
    q, k, v = tokens(n=8)
    phi = features.sample("positive", 64, 6, 3)
    f, asked = (rivals.unit(phi(math.sqrt(2) * x).value) for x in (k, q))
    H, answers = np.zeros((5, 64)), []
    for x, y, z in zip(f, v, asked, strict=True):
        H = H + np.outer(y - H @ x, x)
        answers.append(H @ z)
    expected = answers if causal else asked @ H.T
    found = rivals.attend("delta rule", q, k, v, 2.0, n_neurons=64, seed=3, causal=causal)
    np.testing.assert_allclose(found, expected, rtol=1e-9)


def test_forgetting_weighs_by_what_was_kept_since():
    kept, drive = RNG.random((6, 2)), RNG.normal(size=(6, 2))
    last = sum(np.prod(kept[t + 1 :], axis=0) * (1 - kept[t]) * drive[t] for t in range(6))
    np.testing.assert_allclose(rivals.forget(kept, drive)[-1], last, rtol=1e-12)


# ---- all by one interface

NETWORKS = {
    "neuron-astrocyte": lambda d: (features.sample("positive", 64, d, 3), math.sqrt(2), False),
    "Performer": lambda d: (
        features.sample("positive", 64, d, 3, orthogonal=True),
        math.sqrt(2),
        False,
    ),
    "random features": lambda d: (rivals.fourier(64, d, 3), math.sqrt(2), True),
    "linear attention": lambda d: (rivals.elu_neurons(d), 2.0, False),
}


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("name", NETWORKS)
def test_shared_hidden_neurons_are_the_network_written_and_read(name, causal):
    q, k, v = tokens(leading=(2,))
    phi, scale, equal = NETWORKS[name](6)
    x, y = (scale * (rivals.unit(z) if equal else z) for z in (q, k))
    written = network.attend(phi, x, y, v, causal=causal).output
    found = rivals.attend(name, q, k, v, 2.0, n_neurons=64, seed=3, causal=causal)
    np.testing.assert_allclose(found, written, rtol=1e-9)


def test_softmax_among_the_systems_is_attention():
    q, k, v = tokens(leading=(2,))
    for causal in (False, True):
        np.testing.assert_allclose(
            rivals.attend("softmax", q, k, v, causal=causal),
            attention.softmax_attention(q, k, v, causal),
            rtol=1e-12,
        )


def test_sparse_memory_answers_nothing_where_nothing_is_near():
    q, k, v = np.ones((1, 64)), -np.ones((2, 64)), np.ones((2, 3))
    np.testing.assert_array_equal(rivals.attend("SDM, all addresses", q, k, v, 5), np.zeros((1, 3)))
    np.testing.assert_array_equal(rivals.attend("SDM", q, k, v, 0.01), np.zeros((1, 3)))


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda q, k, v: rivals.attend("softmin", q, k, v), "softmin"),
        (lambda q, k, v: rivals.attend("TEM", q, k[:, :2], v), "features"),
        (lambda q, k, v: rivals.attend("TEM", q * np.nan, k, v), "NaN"),
        (lambda q, k, v: rivals.match_and_control(q, k, 0.0), "threshold = 0"),
        (lambda q, k, v: rivals.match_and_control(q, k, 1.0, strongest=0.0), "strongest = 0"),
        (lambda q, k, v: rivals.corrected(q @ k.T, v, 0.0), "rate = 0"),
        (lambda q, k, v: rivals.replicator(q, k, -1.0), "temperature"),
        (lambda q, k, v: rivals.circle_intersection(8, 8), "radius = 8"),
        (lambda q, k, v: rivals.hard_locations(4, 6, 0.6, 0), "share = 0.6"),
        (lambda q, k, v: rivals.fourier(5, 6, 0), "n_neurons = 5"),
        (lambda q, k, v: rivals.write_slots(k, v, 0), "n_slots = 0"),
        (lambda q, k, v: rivals.astromorphic(q, k, v, 0.0), "alpha = 0"),
    ],
)
def test_bad_input_is_refused_by_name(call, words):
    with pytest.raises(ValueError, match=words):
        call(*tokens())


def test_counted_characters_by_hand():
    # "aab": after a come a and b, once each; b is followed by nothing; 2 characters
    a = (2 + 2 / 2) / (3 + 2)  # one character: two of three are a, two kinds
    assert rivals.counted(["aab"], ["ba"], 1) == pytest.approx(-math.log2(a))
    a_after_a = (1 + 2 * a) / (2 + 2)
    assert rivals.counted(["aab"], ["aa"], 2) == pytest.approx(-math.log2(a_after_a))
    assert rivals.counted(["aab"], ["ba"], 2) == pytest.approx(-math.log2(a))  # b: no context
    # all characters after "aa" sum to one
    chances = [2 ** -rivals.counted(["aabacab"], ["aa" + c], 3) for c in "abc"]
    first = 2 ** -rivals.counted(["aabacab"], ["aa"], 3)
    assert sum(c * c for c in chances) / first == pytest.approx(1)  # two characters a window


def test_public_implementations_compute_the_same():
    peer = np.load(DATA / "reference_states/rivals.npz")
    q, k, v = peer["queries"] / 2, peer["keys"] / 2, peer["values"]  # 16^(1/4)
    np.testing.assert_allclose(rivals.attend("softmax", q, k, v), peer["softmax"], atol=1e-13)
    n = len(peer["directions"])
    phi = features.FeatureMap(peer["directions"], np.zeros(n), features.positive, n)
    found = network.attend(phi, q, k, v).output
    np.testing.assert_allclose(found, peer["performer"], atol=1e-12)
    elu = network.attend(rivals.elu_neurons(16), 2 * q, 2 * k, v).output
    np.testing.assert_allclose(elu, peer["linear"], atol=1e-13)
