"""Associative memory: against sums written out, finite differences, and the linear algebra it replaces."""

import csv
import itertools

import numpy as np
import pytest

from companion.paths import DATA
from tripartite.beyond import memory
from tripartite.beyond.memory import LINEAR, Couplings, Layers, State, Tensor, Times, saturating

N, K = 5, 3
CURVED = Layers(saturating(2.0), saturating(1.5), saturating(0.7))
ODD = Times(tau_n=0.7, tau_s=0.2, tau_p=3.0, leak_n=1.3, leak_s=0.6, leak_p=0.9)


def patterns(k=K, n=N, seed=0):
    return memory.random_memories(k, n, seed)


def random_state(n=N, seed=1, leading=()):
    rng = np.random.default_rng(seed)
    s, p = rng.normal(size=(2, *leading, n, n))
    return State(rng.normal(size=(*leading, n)), s + s.swapaxes(-1, -2), p + p.swapaxes(-1, -2))


ENTRIES = [(True, True), (True, False), (False, True)]  # repeated, selves


def entry(xi, scale, repeated, selves, i, j, k, l):
    if not repeated and len({i, j, k, l}) < 4 or not selves and (i == j or k == l):
        return 0.0
    return scale * sum(float(m[i]) * m[j] * m[k] * m[l] for m in xi)


def flip(xi, share, seed=0):
    wrong = np.argsort(np.random.default_rng(seed).random(xi.shape), axis=1)
    return np.where(wrong < round(share * xi.shape[1]), -xi, xi)


# ---- layers and couplings


@pytest.mark.parametrize("layer", [saturating(0.3), saturating(4.0), LINEAR])
def test_an_activation_is_the_slope_of_its_lagrangian(layer):
    x, h = np.linspace(-3, 3, 41), 1e-5
    central = (layer.lagrangian(x + h) - layer.lagrangian(x - h)) / (2 * h)
    np.testing.assert_allclose(layer.activation(x), central, atol=1e-8)  # h^2 and rounding / h
    central = (layer.activation(x + h) - layer.activation(x - h)) / (2 * h)
    np.testing.assert_allclose(layer.slope(x), central, atol=1e-7)


def test_lagrangian_of_large_states_does_not_overflow():
    far = np.array([-1e4, 1e4])
    np.testing.assert_allclose(saturating(2.0).lagrangian(far), 1e4 - np.log(2) / 2)


@pytest.mark.parametrize(("repeated", "selves"), ENTRIES)
def test_couplings_equal_their_sums_written_out(repeated, selves):
    xi = patterns()
    T = Couplings(xi, scale=0.4, repeated=repeated, selves=selves)
    state = random_state(leading=(2,))
    heard, drive = np.zeros((2, N, N)), np.zeros((2, N))
    for i, j, k, l in itertools.product(range(N), repeat=4):
        t = entry(xi, 0.4, repeated, selves, i, j, k, l)
        heard[:, i, j] += t * state.p[:, k, l]
        drive[:, i] += t * state.x[:, j] * state.x[:, k] * state.x[:, l]
        assert T.tensor()[i, j, k, l] == pytest.approx(t, abs=1e-15)
    np.testing.assert_allclose(T.spread(state.p), heard, atol=1e-12)
    np.testing.assert_allclose(T.drive(state.x), drive, atol=1e-12)
    explicit = Tensor(T.tensor())
    np.testing.assert_allclose(explicit.spread(state.p), heard, atol=1e-12)
    np.testing.assert_allclose(explicit.drive(state.x), drive, atol=1e-12)


def test_one_uniform_memory_is_diffusion():
    psi = random_state().p
    np.testing.assert_allclose(Couplings(np.ones((1, N)), 1.0).spread(psi), psi.sum())


# ---- the whole network


def test_rates_equal_the_equations_written_out():
    xi, state = patterns(), random_state()
    T = Couplings(xi, scale=0.1)
    phi, g, psi = np.tanh(2 * state.x), np.tanh(1.5 * state.s), np.tanh(0.7 * state.p)
    speed = memory.rates(state, T, CURVED, ODD, bias=0.25)
    for i in range(N):
        drive = sum(g[i, j] * phi[j] for j in range(N))
        assert speed.x[i] == pytest.approx((-1.3 * state.x[i] + drive + 0.25) / 0.7)
        for j in range(N):
            heard = sum(
                entry(xi, 0.1, True, True, i, j, k, l) * psi[k, l]
                for k in range(N)
                for l in range(N)
            )
            synapse = (-0.6 * state.s[i, j] + phi[i] * phi[j] + psi[i, j]) / 0.2
            process = (-0.9 * state.p[i, j] + heard + g[i, j]) / 3.0
            assert speed.s[i, j] == pytest.approx(synapse)
            assert speed.p[i, j] == pytest.approx(process)


@pytest.mark.parametrize("layers", [CURVED, Layers(saturating(3.0), LINEAR, LINEAR)])
@pytest.mark.parametrize(("repeated", "selves"), ENTRIES)
def test_the_flow_descends_the_energy(layers, repeated, selves):
    """Speeds are minus the energy's gradient in the activities (half of it for pairs)."""
    T = Couplings(patterns(), scale=0.1, repeated=repeated, selves=selves)
    state = random_state()
    speed = memory.rates(state, T, layers, ODD)
    taus = (ODD.tau_n, 2 * ODD.tau_s / 4, 2 * ODD.tau_p / 4)
    for part, (name, tau) in enumerate(zip(State._fields, taus, strict=True)):
        for place in list(np.ndindex(np.shape(state[part])))[::3]:
            nudge = np.zeros_like(state[part])
            nudge[place] = 1e-6
            if part:  # stay symmetric: both entries, so twice the gradient
                nudge = np.maximum(nudge, nudge.T)
            energies = [
                memory.energy(state._replace(**{name: state[part] + sign * nudge}), T, layers, ODD)
                for sign in (1, -1)
            ]
            slope = (energies[0] - energies[1]) / 2e-6
            entries = 1 if part == 0 or place[0] == place[1] else 2
            expected = -tau * entries * layers[part].slope(state[part][place]) * speed[part][place]
            assert slope == pytest.approx(expected, rel=1e-6, abs=1e-7)


def test_power_is_the_energys_rate_along_a_trajectory():
    T, state = Couplings(patterns(), scale=0.1), random_state()
    at = np.linspace(0, 2, 2001)
    along = memory.simulate(state, T, CURVED, ODD, at, rtol=1e-12)
    E, power = (f(along, T, CURVED, ODD) for f in (memory.energy, memory.power))
    assert np.all(power <= 0) and np.all(np.diff(E) <= 1e-12 * np.abs(E).max())
    central = (E[2:] - E[:-2]) / (at[2] - at[0])
    # second order in the step: (2e-3 / tau_s)^2 / 6, as squared speeds decay at 2 / tau_s
    np.testing.assert_allclose(central, power[1:-1], atol=2e-5 * np.abs(power).max())


def test_held_neurons_stay_and_free_ones_do_not():
    T, start = Couplings(patterns()), memory.at_rest(patterns()[0])
    held = memory.simulate(start, T, CURVED, ODD, [0, 1, 2], held=True)
    free = memory.simulate(start, T, CURVED, ODD, [0, 1, 2])
    assert np.all(held.x == start.x) and not np.allclose(free.x[-1], start.x)
    assert np.abs(held.s[-1]).max() > 0.1


# ---- neurons alone


def test_elimination_leaves_a_quartic_dense_memory():
    xi, x = patterns(), random_state(leading=(4,)).x
    T, times = Couplings(xi), Times(leak_s=0, leak_p=0)
    g, psi = memory.eliminated(x, T, CURVED.neurons)
    state = State(x, np.arctanh(g) / 1.5, np.arctanh(psi) / 0.7)
    speed = memory.rates(state, T, CURVED, times)
    phi = np.tanh(2 * x)
    cubic = N**-3 * (phi @ xi.T) ** 3 @ xi - x
    np.testing.assert_allclose(speed.x, cubic, atol=1e-12)
    np.testing.assert_allclose(memory.closed_rates(x, T, CURVED.neurons, times), cubic, atol=1e-12)
    np.testing.assert_allclose(speed.s, 0, atol=1e-12)
    np.testing.assert_allclose(speed.p, 0, atol=1e-12)
    quartic = np.sum((phi @ xi.T) ** 4, axis=-1) * N**-3 / 4
    held = np.sum(x * phi - np.log(np.cosh(2 * x)) / 2, axis=-1)
    closed = memory.closed_energy(x, T, CURVED.neurons, times)
    np.testing.assert_allclose(closed, held - quartic, atol=1e-12)
    np.testing.assert_allclose(memory.energy(state, T, CURVED, times), closed, atol=1e-12)


# ---- recall


def one_update(rule, xi, states):
    return memory.recall(rule, xi, states, steps=1)


@pytest.mark.parametrize("seed", range(3))
def test_rules_equal_what_they_abbreviate(seed):
    n = 11  # odd, and cubes of sums of odd numbers: no ties in the plain rules
    xi, states = patterns(7, n, seed).astype(float), patterns(20, n, seed + 100).astype(float)
    weights = xi.T @ xi
    np.fill_diagonal(weights, 0)
    energy_gap = np.empty_like(states)
    for i in range(n):
        up, down = states.copy(), states.copy()
        up[:, i], down[:, i] = 1, -1
        energy_gap[:, i] = np.sum((up @ xi.T) ** 4 - (down @ xi.T) ** 4, axis=1)
    drives = {
        "hopfield": states @ weights,
        "dense": energy_gap,
        "astrocyte": Couplings(xi).drive(states),
        "astrocyte-distinct": Couplings(xi, 1.0, repeated=False).drive(states),
    }
    assert set(drives) == set(memory.RULES)
    for rule, drive in drives.items():
        drive = np.where(np.abs(drive) < 1e-6, 0, drive)
        expected = np.where(drive == 0, states, np.sign(drive))
        np.testing.assert_array_equal(one_update(rule, xi, states), expected, err_msg=rule)


def test_recall_does_not_depend_on_the_block_and_stops_at_a_fixed_point():
    xi = patterns(300, 64)
    cues = flip(xi[:20], 0.1)
    for rule in memory.RULES:
        whole = memory.recall(rule, xi, cues, 5)
        np.testing.assert_array_equal(whole, memory.recall(rule, xi, cues, 5, block=7))
    np.testing.assert_array_equal(memory.recall("dense", xi, xi[:20], 1000), xi[:20])


def test_self_terms_limit_the_published_rule():
    """Between N^2 m^3 / 3 and the limit of crosstalk only couplings of distinct neurons recall."""
    xi = patterns(6000, 128)
    cues = flip(xi[:40], 0.1)

    def share(rule):
        return np.mean(np.all(memory.recall(rule, xi, cues, 10) == xi[:40], axis=1))

    assert share("astrocyte") < 0.2
    assert share("astrocyte-distinct") > 0.9


# ---- the stable branch


def as_matrix(xi, scale, selves=True):
    """T on ordered pairs, without the pairs i = j unless selves."""
    n = xi.shape[1]
    pairs = np.array([np.outer(m, m).ravel() for m in xi.astype(float)])
    if not selves:
        pairs[:, :: n + 1] = 0
    return scale * pairs.T @ pairs


@pytest.mark.parametrize("selves", [True, False])
def test_largest_eigenvalue_is_that_of_couplings_on_pairs(selves):
    for n_memories in (K, 90):  # 90: more than the module treats at once
        xi = patterns(n_memories, 9)
        expected = np.linalg.eigvalsh(as_matrix(xi, 9**-2.0, selves))[-1]
        assert memory.largest_eigenvalue(xi, selves) == pytest.approx(expected, rel=1e-9)


def test_largest_eigenvalue_of_many_random_memories():
    """Self-synapses agree on all memories; without them T is a random covariance matrix."""
    n = 160
    for k in (40, 400, 1600):
        alone = np.mean([memory.largest_eigenvalue(patterns(k, n, s), False) for s in range(3)])
        assert alone == pytest.approx((1 + np.sqrt(2 * k) / n) ** 2, rel=0.03)
    for k in (40, 80, 160):
        own = np.mean([memory.largest_eigenvalue(patterns(k, n, s), True) for s in range(3)])
        assert own == pytest.approx(1 + k / n, rel=0.03)


def settled_synapses(xi, times, share, selves):
    """What every pattern of pairs makes of the synapses, (N^2, N^2), and the scale of T."""
    n = xi.shape[1]
    largest = np.linalg.eigvalsh(as_matrix(xi, 1.0, selves))[-1]
    scale = share * (times.leak_p - 1 / times.leak_s) / largest
    T, one = as_matrix(xi, scale, selves), np.eye(n * n)
    return np.linalg.inv(times.leak_s * one - np.linalg.inv(times.leak_p * one - T)), scale


@pytest.mark.parametrize("selves", [True, False])
@pytest.mark.parametrize("share", [0.5, 0.8, 0.95])
def test_whole_network_settles_where_recall_whole_says(selves, share):
    """The synapses it never forms, solved for as N^2 linear equations, then one update."""
    n, times = 7, Times(leak_s=1.3, leak_p=0.9)
    states = np.array(list(itertools.product([-1.0, 1.0], repeat=n)))
    for seed in range(4):
        xi = patterns(5, n, seed)
        settled, _ = settled_synapses(xi, times, share, selves)
        pairs = states[:, :, None] * states[:, None, :]
        g = (pairs.reshape(-1, n * n) @ settled).reshape(-1, n, n)
        if not selves:
            g *= ~np.eye(n, dtype=bool)
        drive = np.vecdot(g, states[:, None, :])
        sure = np.all(np.abs(drive) > 1e-9, axis=1)
        found = memory.recall_whole(xi, states, times, share, steps=1, selves=selves)
        np.testing.assert_array_equal(found[sure], np.sign(drive)[sure])
        assert np.mean(sure) > 0.5


@pytest.mark.parametrize("selves", [True, False])
def test_held_network_ends_where_it_settles(selves):
    n, times = 9, Times(leak_s=1.2, leak_p=1.5)
    xi, state = patterns(4, n), patterns(1, n, 5)[0].astype(float)
    settled, scale = settled_synapses(xi, times, 0.7, selves)
    couplings = Couplings(xi, scale, selves=selves)
    layers = Layers(saturating(20.0), LINEAR, LINEAR)
    start = memory.at_rest(state)
    end = memory.simulate(start, couplings, layers, times, [0, 200], held=True, rtol=1e-9)
    expected = (settled @ np.outer(state, state).ravel()).reshape(n, n)
    np.testing.assert_allclose(end.s[-1], expected, atol=1e-6)


def measured_drive(n, k, selves, share=0.9, seeds=3, wrong=0.1):
    """Regression of what drives neurons on their state and on the memory, T inverted as it is."""
    rows, flips = [], round(wrong * n)
    for seed in range(seeds):
        xi = patterns(k, n, seed).astype(float)
        overlaps = (xi @ xi.T / n) ** 2 - (0 if selves else 1 / n)
        tau = share / np.linalg.eigvalsh(overlaps)[-1]
        through = tau * np.linalg.inv(np.eye(k) - tau * overlaps)
        rng = np.random.default_rng(seed)
        for mu in range(20):
            state = xi[mu].copy()
            state[rng.permutation(n)[:flips]] *= -1
            m = xi @ state / n
            held = through @ (m**2 - (0 if selves else 1 / n))
            drive = state + (m * held) @ xi - (0 if selves else state * (1 + held.sum()) / n)
            both = np.stack([state, xi[mu]], axis=1)
            fit = np.linalg.lstsq(both, drive)[0]
            rows.append([*fit, np.var(drive - both @ fit) * n / (n - 2)])
    hold, signal, noise = np.mean(rows, axis=0)
    return hold, signal, np.sqrt(noise)


@pytest.mark.parametrize(
    ("n", "k", "selves"), [(600, 200, True), (160, 250, False), (160, 900, False)]
)
def test_drive_of_the_whole_network_is_that_derived(n, k, selves):
    """To what is left out of the limit of many neurons: terms smaller by 1 / sqrt(N) or so."""
    expected = memory.whole_drive(n, k, 1 - 2 * round(0.1 * n) / n, selves=selves)
    hold, signal, noise = measured_drive(n, k, selves)
    assert hold == pytest.approx(expected.hold, rel=0.04)
    assert signal == pytest.approx(expected.signal, rel=0.06)
    assert noise == pytest.approx(expected.noise, rel=0.12)


def test_noise_of_the_whole_network_vanishes_with_its_size():
    def noise(n, k, selves):
        return memory.whole_drive(n, k, 0.8, selves=selves).noise

    assert noise(400, 100, True) == pytest.approx(noise(200, 50, True) / 2, rel=0.05)
    assert noise(400, 4000, False) == pytest.approx(noise(200, 1000, False) / 2**0.5)


@pytest.mark.parametrize("share", [0.8, 0.9, 0.99])
@pytest.mark.parametrize("selves", [True, False])
def test_load_of_the_whole_network_is_where_signal_and_hold_are_equal(share, selves):
    n = 2000
    load = memory.whole_load(n, 0.8, share, selves=selves)
    at = memory.whole_drive(n, round(load), 0.8, share, selves=selves)
    assert at.signal == pytest.approx(at.hold, rel=0.01)
    power = 1 if selves else 2
    assert memory.whole_load(2 * n, 0.8, share, selves=selves) == pytest.approx(2**power * load)


def test_loads_of_the_whole_network_at_the_edge_and_out_of_reach():
    assert memory.whole_load(100, 0.8, 1 - 1e-12) == pytest.approx(100 * 0.8**3)
    alone = memory.whole_load(100, 0.8, 1 - 1e-12, selves=False)
    assert alone == pytest.approx(0.8**6 * 100**2 / 2, rel=1e-4)
    assert memory.whole_load(100, 0.8, 0.6) == memory.whole_load(100, 0.8, 0.6, selves=False) == 0
    still = memory.whole_drive(100, 10, 0.8, share=0.0, selves=False)
    assert still == memory.whole_drive(100, 10, 0.8, share=0.0) == (1, 0, 0)


def test_couplings_are_what_recalls_on_the_stable_branch():
    xi, times = patterns(5, 200), Times(leak_s=1.05, leak_p=1.05)
    cues = flip(xi, 0.1)
    np.testing.assert_array_equal(memory.recall_whole(xi, cues, times), xi)
    np.testing.assert_array_equal(memory.recall_whole(xi, cues, times, share=0.0), cues)


def test_memories_that_occur_twice_do_no_harm():
    xi = np.concatenate([patterns(3, 200), -patterns(3, 200)])
    found = memory.recall_whole(xi, flip(xi, 0.05), Times(leak_s=1.05, leak_p=1.05), 0.95)
    assert np.all(np.isfinite(found)) and np.mean(found * xi) > 0.9


# ---- results that the book shows


def test_stored_runs_are_those_of_the_script():
    import make_memory as make

    with (DATA / "results/memory-capacity.csv").open() as file:
        rows = [row for row in csv.DictReader(file) if row["n_neurons"] == "32"]
    assert {row["rule"] for row in rows} == {*make.WHOLE, *memory.RULES}
    for row in rows[:: len(rows) // 12]:
        load, seed = int(row["n_memories"]), int(row["seed"])
        fresh = make.measure(row["rule"], 32, load, seed, make.PLANS[32][1])
        stored = [row[name] for name in ("cues", "recalled", "overlap", "strangers")]
        assert [str(value) for value in fresh] == stored, row
    with (DATA / "results/memory-rest.csv").open() as file:
        row = next(csv.DictReader(file))
    fresh = make.from_rest(row["selves"] == "True", int(row["seed"]))
    assert [f"{x:.6g}" for x in fresh] == [row["cue"], row["overlap"]]


# ---- what is refused


def nan(x):
    x = np.array(x, dtype=float)
    x.flat[0] = np.nan
    return x


LOPSIDED = np.zeros((2, 2, 2, 2))
LOPSIDED[0, 1, 0, 0] = 1.0
STATE = random_state()
GOOD = Couplings(patterns())


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: Couplings(np.zeros((0, N))), "memories have shape"),
        (lambda: Couplings(np.ones(N)), "memories have shape"),
        (lambda: Couplings(0.5 * np.ones((K, N))), "must be -1 or \\+1"),
        (lambda: Couplings(nan(patterns())), "must be -1 or \\+1"),
        (lambda: Couplings(patterns(), scale=0.0), "scale = 0.0"),
        (lambda: Couplings(patterns(), scale=-1.0), "scale = -1.0"),
        (lambda: Couplings(patterns(), repeated=False, selves=False), "leaves them out already"),
        (lambda: Tensor(np.zeros((2, 2, 2))), "values have shape"),
        (lambda: Tensor(np.zeros((2, 2, 2, 3))), "values have shape"),
        (lambda: Tensor(nan(np.zeros((2, 2, 2, 2)))), "NaN"),
        (lambda: Tensor(LOPSIDED), "T_ijkl must equal"),
        (lambda: saturating(0.0), "beta = 0.0"),
        (lambda: Times(tau_p=0.0), "tau_p"),
        (lambda: Times(tau_s=-1.0), "tau_s"),
        (lambda: Times(leak_n=-0.1), "leak_n"),
        (lambda: memory.random_memories(0, N, 0), "n_memories = 0"),
        (
            lambda: memory.simulate(random_state(4), GOOD, CURVED, ODD, [0, 1]),
            r"x has shape \(4,\)",
        ),
        (
            lambda: memory.simulate(STATE._replace(s=np.triu(STATE.s)), GOOD, CURVED, ODD, [0, 1]),
            "s: must be symmetric",
        ),
        (
            lambda: memory.simulate(STATE._replace(x=nan(STATE.x)), GOOD, CURVED, ODD, [0, 1]),
            "x: holds NaN",
        ),
        (lambda: memory.simulate(STATE, GOOD, CURVED, ODD, [0, 1, 1]), "times that increase"),
        (lambda: memory.simulate(STATE, GOOD, CURVED, ODD, [0]), "times that increase"),
        (lambda: memory.recall("sparse", patterns(), patterns()), "rule = 'sparse'"),
        (lambda: memory.recall("dense", patterns(), patterns(n=6)), "must have the 5 neurons"),
        (lambda: memory.recall("dense", patterns(), nan(patterns())), "must be -1 or"),
        (lambda: memory.recall("dense", patterns(), patterns(), steps=0), "steps = 0"),
        (lambda: memory.recall_whole(patterns(), patterns(n=6), ODD), "must have the 5 neurons"),
        (lambda: memory.recall_whole(patterns(), patterns(), ODD), "leak_s = 0.6"),
        (lambda: memory.recall_whole(patterns(), patterns(), Times(leak_s=0)), "leak_s = 0"),
        (
            lambda: memory.recall_whole(patterns(), patterns(), Times(leak_s=2), share=1.0),
            "share = 1.0",
        ),
        (lambda: memory.largest_eigenvalue(np.ones(N)), "memories have shape"),
        (lambda: memory.whole_drive(0, 5, 0.8), "n_neurons = 0"),
        (lambda: memory.whole_drive(10, 5, 1.2), "overlap = 1.2"),
        (lambda: memory.whole_drive(10, 5, 0.8, share=1.0), "share = 1.0"),
        (lambda: memory.whole_load(10, 0.0), "overlap = 0.0"),
        (lambda: memory.whole_load(10, 0.8, -0.1), "share = -0.1"),
        (lambda: memory.whole_load(0, 0.8), "n_neurons = 0"),
        (lambda: memory.loop_gain(0.6, Times(leak_s=2)), "below leak_p - 1 / leak_s = 0.5"),
    ],
)
def test_bad_input_is_refused(call, words):
    with pytest.raises(ValueError, match=words):
        call()
