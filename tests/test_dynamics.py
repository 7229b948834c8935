"""The network in continuous time: exact solutions, an independent integrator, its slow-token limit."""

import math
from itertools import pairwise

import numpy as np
import pytest
from scipy.integrate import solve_ivp

from tripartite import attention, dynamics, features, network
from tripartite.dynamics import (
    State,
    Stimulus,
    Times,
    rates,
    rest,
    rotated,
    stream,
    trajectory,
    written,
)

NAMES = State._fields
# every time constant its own, one of them longer than a token, and both leaks
ODD = Times(T=0.5, tau_h=0.11, tau_l=0.7, tau_p=0.23, leak_H=0.4, leak_g=1.3)


def head(seed=0, *, tokens=5, d=3, e=2, leading=(), size=0.6):
    rng = np.random.default_rng(seed)
    return [size * rng.normal(size=(*leading, tokens, width)) for width in (d, d, e)]


def population(m=7, d=3, seed=1):
    return features.sample("positive", m, d, seed)


def only(stimuli, tokens):
    return Stimulus(*(x[tokens] for x in stimuli))


def writing(stimuli):
    return only(stimuli, stimuli.writing > 0)


def reading(stimuli):
    return only(stimuli, stimuli.reading > 0)


def last(states):
    return list(states)[-1]


def random_state(stimuli, seed=2):
    rng = np.random.default_rng(seed)
    return State(*(rng.uniform(0.1, 1.0, np.shape(x)) for x in rest(stimuli)))


def assert_close(a, b, tolerance):
    """Every variable agrees to a tolerance relative to its largest entry."""
    for name, x, y in zip(NAMES, a, b, strict=True):
        np.testing.assert_allclose(x, y, rtol=0, atol=tolerance * np.abs(y).max(), err_msg=name)


def distance(a, b):
    return np.linalg.norm(a - b) / np.linalg.norm(b)


# ---- against the exact solution and an integrator that is not ours


@pytest.mark.parametrize(
    "times",
    [
        ODD,
        Times(T=0.5, tau_h=0.1, tau_l=0.1),
        Times(T=0.5, tau_h=1.5, tau_l=0.2, leak_H=5.0, leak_g=1 / 1.5),  # a leak equals a rate
    ],
)
def test_writing_follows_the_exact_solution_token_by_token(times):
    stimuli = writing(stream(population(), *head()))
    stimuli = stimuli._replace(writing=np.array([1.0, 1.0, 0.3, 0.0, 1.0]))
    start = random_state(stimuli)
    for t, state in enumerate(trajectory(start, stimuli, times, 800, every=800)):
        # 4th order: (dt / tau)^4 with dt / tau at most 0.5 / 800 / 0.1, times a constant below 1
        assert_close(state, written(start, only(stimuli, slice(t + 1)), times), 1e-10)


@pytest.mark.parametrize("method", ["DOP853", "LSODA"])
def test_whole_stream_agrees_with_scipy(method):
    """Equations written down a second time, flat, from the paper's rules."""
    stimuli, times = stream(population(), *head()), ODD
    stimuli = stimuli._replace(
        writing=np.where(np.arange(10) == 3, 0.3, stimuli.writing),  # a half-open gate as well
        reading=np.where(np.arange(10) == 4, 0.6, stimuli.reading),
    )
    start, m, e = random_state(stimuli), 7, 2
    y = np.concatenate([np.ravel(x) for x in start])

    def derivative(_, y, t):
        h, H, g, P, l = y[:m], y[m : 3 * m].reshape(e, m), y[3 * m : 4 * m], y[4 * m], y[-e:]
        phi, u, w, r = (x[t] for x in stimuli)
        dH, dg, drive = np.empty((e, m)), np.empty(m), np.zeros(e)
        for a in range(m):
            dg[a] = w * h[a] / 0.5 - 1.3 * g[a]
            for i in range(e):
                dH[i, a] = w * l[i] * h[a] / 0.5 - 0.4 * H[i, a]
                drive[i] += H[i, a] * h[a]
        dP = r * (1 - P * sum(g[a] * h[a] for a in range(m))) / 0.23
        dl = (-l + u + r * P * drive) / 0.7
        return np.concatenate([(phi - h) / 0.11, dH.ravel(), dg, [dP], dl])

    for t in range(10):
        tight = {"method": method, "rtol": 1e-11, "atol": 1e-13, "args": (t,)}
        y = solve_ivp(derivative, (0, 0.5), y, **tight).y[:, -1]
    ours = last(trajectory(start, stimuli, times, 400))
    expected = [y[:m], y[m : 3 * m].reshape(e, m), y[3 * m : 4 * m], y[4 * m], y[-e:]]
    assert_close(ours, expected, 1e-8)  # what LSODA keeps of its tolerance over ten restarts


def test_integrator_is_of_fourth_order():
    stimuli = stream(population(), *head())
    start = random_state(stimuli)
    fine = last(trajectory(start, stimuli, ODD, 640))
    coarse = [last(trajectory(start, stimuli, ODD, steps)) for steps in (20, 40, 80)]
    for name in NAMES:
        errors = [np.abs(getattr(s, name) - getattr(fine, name)).max() for s in coarse]
        if max(errors) < 1e-14:  # g + tau_h h / T is a linear invariant where nothing leaks
            continue
        orders = [math.log2(a / b) for a, b in pairwise(errors)]
        assert all(3.7 < order < 4.4 for order in orders), (name, orders)


# ---- what the continuous network has to do with the discrete one


def test_slow_tokens_write_what_the_network_writes():
    q, k, v = head()
    phi = population()
    stimuli = stream(phi, q, k, v, log_scale=0.0)
    state = written(rest(stimuli), writing(stimuli), Times(tau_h=1e-9, tau_l=1e-9))
    memory = network.write(network.blank(phi, v), k, v)
    scale = np.exp(memory.log_scale)
    # first order in tau / T = 1e-9, with a constant below 10
    np.testing.assert_allclose(state.hebbian, memory.hebbian * scale, rtol=0, atol=1e-8)
    np.testing.assert_allclose(state.astrocytic, memory.astrocytic * scale, rtol=0, atol=1e-8)


@pytest.mark.parametrize("log_scale", [None, 0.2])
def test_slow_tokens_read_kernel_attention(log_scale):
    q, k, v = head()
    skip = np.random.default_rng(3).normal(size=v.shape)
    phi = population()
    stimuli = stream(phi, q, k, v, skip=skip, log_scale=log_scale)
    state = written(rest(stimuli), writing(stimuli), Times(tau_h=1e-12, tau_l=1e-12))
    times = Times(T=1.0, tau_h=0.02, tau_l=0.02, tau_p=0.01)
    ends = list(trajectory(state, reading(stimuli), times, 300, every=300))
    expected = network.attend(phi, q, k, v)
    unit = np.median(expected.response) if log_scale is None else math.exp(2 * log_scale)
    # residuals exp(-50) and, for the smallest p of 0.3, exp(-30): what is left is 1e-12 of writing
    outputs = np.array([s.output for s in ends])
    np.testing.assert_allclose(outputs, expected.output + skip, rtol=0, atol=1e-10)
    np.testing.assert_allclose([s.gain for s in ends], unit / expected.response, rtol=1e-10)
    kernel = phi(q).value @ phi(k).value.T
    np.testing.assert_allclose(outputs - skip, attention.kernel_attention(kernel, v), atol=1e-10)


def test_exact_tuning_curves_read_softmax_attention():
    q, k, v = head(1)
    stimuli = stream(features.finite_set(np.concatenate([q, k])), q, k, v)
    state = written(rest(stimuli), writing(stimuli), Times(tau_h=1e-12, tau_l=1e-12))
    ends = trajectory(state, reading(stimuli), Times(tau_p=0.01), 300, every=300)
    outputs = np.array([s.output for s in ends])
    np.testing.assert_allclose(outputs, attention.softmax_attention(q, k, v), rtol=0, atol=1e-9)


# ---- laws derived on paper


def test_what_the_astrocyte_stores_telescopes():
    """h = phi - tau_h dh/dt, so g = sum phi - (tau_h / T) (h at the end - h at the start)."""
    stimuli = writing(stream(population(), *head()))
    start, times = random_state(stimuli), Times(T=0.5, tau_h=0.3)
    for end in (last(trajectory(start, stimuli, times, 20)), written(start, stimuli, times)):
        expected = start.astrocytic + stimuli.hidden.sum(0) - 0.6 * (end.hidden - start.hidden)
        np.testing.assert_allclose(end.astrocytic, expected, rtol=1e-12)


def first_order(phi, v, tau_h, tau_l, T):
    """H - sum v phi^T to first order in the time constants, from silence."""
    before = np.zeros((1, phi.shape[1])), np.zeros((1, v.shape[1]))
    dphi = np.concatenate([before[0], phi[:-1]]) - phi
    dv = np.concatenate([before[1], v[:-1]]) - v
    both = tau_h * tau_l / (tau_h + tau_l)
    return (tau_h * v.T @ dphi + tau_l * dv.T @ phi + both * dv.T @ dphi) / T


@pytest.mark.parametrize("ratio", [1e-9, 0.5, 1.0])  # 1e-9: output neurons clamped to the value
def test_error_of_hebbian_weights_is_first_order_with_the_derived_coefficient(ratio):
    stimuli = writing(stream(population(), *head()))
    phi, v = stimuli.hidden, stimuli.output
    for tau in (0.05, 0.1):  # T / tau = 20 and 10: what is left out is exp(-10), relative
        times = Times(T=1.0, tau_h=tau, tau_l=ratio * tau)
        error = written(rest(stimuli), stimuli, times).hebbian - v.T @ phi
        assert distance(error, first_order(phi, v, tau, ratio * tau, 1.0)) < 1e-3


def test_order_of_tokens_matters_only_to_first_order():
    stimuli = writing(stream(population(), *head()))
    orders = [np.arange(5), np.array([3, 0, 4, 1, 2])]
    changes = []
    for tau in (0.08, 0.04, 0.02):
        times = Times(T=1.0, tau_h=tau, tau_l=tau)
        streams = [stimuli._replace(hidden=x[0], output=x[1]) for x in
                   ([stimuli.hidden[o], stimuli.output[o]] for o in orders)]  # fmt: skip
        a, b = (written(rest(s), s, times).hebbian for s in streams)
        changes.append(distance(a, b))
    assert 0.001 < changes[-1] < 0.05
    np.testing.assert_allclose([a / b for a, b in pairwise(changes)], 2.0, rtol=0.01)


def test_gain_relaxes_at_the_rate_p_over_tau_p():
    """With h at rest, P - 1/p falls as exp(-p t / tau_p); a small p is slow."""
    q, k, v = head()
    stimuli = stream(population(), q, k, v)
    state = written(rest(stimuli), writing(stimuli), Times(tau_h=1e-12, tau_l=1e-12))
    for t in (5, 8):
        state = state._replace(hidden=stimuli.hidden[t], gain=np.array(3.0))
        p = state.astrocytic @ stimuli.hidden[t]
        times = Times(T=0.2, tau_p=0.3)
        states = trajectory(state, only(stimuli, slice(t, t + 1)), times, 200, every=50)
        gains = np.array([s.gain for s in states])
        expected = (3.0 - 1 / p) * np.exp(-p * np.arange(0.05, 0.21, 0.05) / 0.3)
        np.testing.assert_allclose(gains - 1 / p, expected, rtol=1e-8)


def test_a_slow_astrocyte_divides_by_the_mean_response():
    """Slow means T << tau_p: then P sees only the mean of p, and is not the mean of 1 / p."""
    q, k, v = head()
    stimuli = stream(population(), q, k, v)
    state = written(rest(stimuli), writing(stimuli), Times(tau_h=1e-12, tau_l=1e-12))
    p = stimuli.hidden[5:] @ state.astrocytic
    assert np.mean(1 / p) * np.mean(p) > 1.1
    laps = only(stimuli, np.tile(np.arange(5, 10), 30))
    start = state._replace(gain=np.mean(1 / p))
    states = trajectory(start, laps, Times(T=1.0, tau_p=30.0, tau_h=0.02, tau_l=0.02), 30)
    gains = np.array([s.gain for s in states])[-5 * 30 :]
    # what is left of the start, 0.1 exp(-5), and a ripple of T / tau_p times the spread of p
    np.testing.assert_allclose(gains, 1 / p.mean(), rtol=0.03)
    np.testing.assert_allclose(gains.mean(), 1 / p.mean(), rtol=0.005)


def test_leaks_weight_the_past_by_its_age():
    q, k, v = head()
    phi = population()
    stimuli = stream(phi, q, k, v)
    times = Times(tau_h=1e-9, tau_l=1e-9, leak_H=0.7, leak_g=0.7)
    state = written(rest(stimuli), writing(stimuli), times)
    # a token is written over its whole presentation, and forgotten from then on
    weight = (1 - math.exp(-0.7)) / 0.7 * np.exp(-0.7 * np.arange(5)[::-1])
    hidden = stimuli.hidden[:5]
    np.testing.assert_allclose(state.hebbian, (weight[:, None] * v).T @ hidden, rtol=1e-7)
    np.testing.assert_allclose(state.astrocytic, weight @ hidden, rtol=1e-7)


def test_a_gate_that_waits_writes_exponentially_well():
    """w = 0 for the first half of a token: what is left of the token before is exp(-T / tau_h)."""
    full = writing(stream(population(), *head()))
    halves = Stimulus(*(np.repeat(x, 2, axis=0) for x in full))
    halves = halves._replace(writing=np.tile([0.0, 1.0], 5))
    exact = full.output.T @ full.hidden
    for tau in (0.05, 0.1):
        times = Times(T=0.5, tau_h=tau, tau_l=tau)
        error = distance(written(rest(halves), halves, times).hebbian, exact)
        assert error < 2 * math.exp(-0.5 / tau)
        assert error > 0.01 * math.exp(-0.5 / tau)


# ---- shapes, rotations, purity


@pytest.mark.parametrize("m", [4, 300])
def test_only_inner_products_of_activities_matter(m):
    q, k, v = head()
    stimuli = stream(population(m), q, k, v)
    few = rotated(stimuli)
    assert few.hidden.shape == (10, min(m, 10))
    times = Times(T=0.5, tau_h=0.1, tau_p=0.2, leak_g=0.1)
    for a, b in zip(*(trajectory(rest(s), s, times, 20) for s in (stimuli, few))):
        np.testing.assert_allclose(a.output, b.output, rtol=0, atol=1e-12)
        np.testing.assert_allclose(a.gain, b.gain, rtol=1e-11)
        np.testing.assert_allclose(
            a.hidden @ a.astrocytic, b.hidden @ b.astrocytic, rtol=0, atol=1e-12
        )


def test_leading_axes_are_independent_networks():
    q, k, v = head(leading=(2, 3))
    stimuli = stream(population(), q, k, v)
    np.testing.assert_array_equal(rest(stimuli).gain, np.ones((2, 3)))
    end = last(trajectory(rest(stimuli), stimuli, ODD, 30))
    wrote = written(rest(stimuli), writing_of_many(stimuli), ODD)
    for place in np.ndindex(2, 3):
        one = stream(population(), q[place], k[place], v[place])
        expected = last(trajectory(rest(one), one, ODD, 30))
        assert_close([x[place] for x in end], expected, 1e-12)
        assert_close([x[place] for x in wrote], written(rest(one), writing(one), ODD), 1e-12)


def writing_of_many(stimuli):
    t = stimuli.writing > 0
    hidden, output = stimuli.hidden[..., t, :], stimuli.output[..., t, :]
    return Stimulus(hidden, output, stimuli.writing[t], stimuli.reading[t])


def test_states_are_values():
    stimuli = stream(population(), *head())
    start = random_state(stimuli)
    before = [np.copy(x) for x in start]
    rates(start, only(stimuli, 0), ODD)
    last(trajectory(start, stimuli, ODD, 10))
    written(start, writing(stimuli), ODD)
    for x, y in zip(start, before, strict=True):
        np.testing.assert_array_equal(x, y)


def test_every_and_units():
    stimuli = stream(population(), *head())
    times = Times(T="500 ms", tau_h="110 ms", leak_H="60 1/min")
    assert (times.T, times.tau_h, times.leak_H) == (0.5, 0.11, 1.0)
    states = list(trajectory(rest(stimuli), stimuli, times, 30))
    ends = list(trajectory(rest(stimuli), stimuli, times, 30, every=30))
    assert (len(states), len(ends)) == (300, 10)
    for a, b in zip(states[29::30], ends, strict=True):
        np.testing.assert_array_equal(a.output, b.output)


# ---- refusals


@pytest.mark.parametrize("name", ["T", "tau_h", "tau_l", "tau_p"])
@pytest.mark.parametrize("value", [0.0, -1.0, math.nan, math.inf, "3 uM"])
def test_impossible_time_constants_are_refused(name, value):
    with pytest.raises(ValueError, match=f"{name} = .*must be"):
        Times(**{name: value})


@pytest.mark.parametrize("value", [-1.0, math.nan, math.inf])
def test_impossible_leaks_are_refused(value):
    with pytest.raises(ValueError, match="leak_g = .*must be at least 0"):
        Times(leak_g=value)


@pytest.mark.parametrize(
    ("times", "named"),
    [
        (Times(tau_h=5e-3), "tau_h"),
        (Times(tau_l=5e-3), "tau_l"),
        (Times(tau_p=5e-3), "tau_p / p at p = "),
        (Times(leak_H=200.0), "1 / leak_H"),
        (Times(leak_g=200.0), "1 / leak_g"),
    ],
)
def test_too_few_steps_are_refused_and_the_fewest_allowed_are_stable(times, named):
    stimuli = stream(population(), *head())
    with pytest.raises(ValueError, match="steps = 30: must be at least ") as refused:
        trajectory(rest(stimuli), stimuli, times, 30)
    assert named in str(refused.value)
    needed = int(str(refused.value).split("at least ")[1].split(",")[0])
    with pytest.raises(ValueError, match=f"must be at least {needed}"):
        trajectory(rest(stimuli), stimuli, times, needed - 1)
    assert all(
        np.abs(x).max() < 100 for x in last(trajectory(rest(stimuli), stimuli, times, needed))
    )
    assert dynamics.steps_needed(rest(stimuli), stimuli, times, per_time_constant=0.1) == needed
    fine = dynamics.steps_needed(rest(stimuli), stimuli, times, per_time_constant=1000)
    assert fine == math.ceil(1000 * times.T / min(times.tau_h, times.tau_l, times.tau_p))
    # 15 % fewer steps blow up, so the bound is not needlessly strict (a small p bears more)
    with np.errstate(all="ignore"):
        wild = last(dynamics._integrate(rest(stimuli), stimuli, times, int(0.85 * needed), 1))
        peak = max(np.nan_to_num(np.abs(x), nan=math.inf).max() for x in wild)
    assert peak > 1e3 or named.startswith("tau_p")


def test_the_largest_response_decides_how_fine_the_steps_must_be():
    q, k, v = head()
    stimuli = stream(population(), q, k, v)
    g = stimuli.hidden[:5].sum(0)
    largest = np.max(stimuli.hidden[4:] @ g)  # the last key is still there when reading begins
    with pytest.raises(ValueError, match="tau_p / p at p = ") as refused:
        trajectory(rest(stimuli), stimuli, Times(tau_h=1e-3, tau_p=1e-4), 10)
    stated = float(str(refused.value).split("p = ")[1].split(")")[0])
    np.testing.assert_allclose(stated, largest, rtol=0.01)  # g lags by tau_h / T, 0.001


def test_a_stream_that_is_only_written_needs_a_unit():
    q, k, v = head()
    with pytest.raises(ValueError, match="queries has shape .*: must hold at least one token"):
        stream(population(), q[:0], k, v)
    assert np.all(np.isfinite(stream(population(), q[:0], k, v, log_scale=0.0).hidden))


def test_other_bad_input_is_refused_before_the_first_step():
    q, k, v = head()
    phi = population()
    good = stream(phi, q, k, v)
    for steps in (0, 2.5, -3, True):
        with pytest.raises(ValueError, match="steps = .*: must be a whole number"):
            trajectory(rest(good), good, Times(), steps)
    with pytest.raises(ValueError, match="every = 0"):
        trajectory(rest(good), good, Times(), 100, every=0)
    for name, bad in (("writing", good.writing * 1.5), ("reading", good.reading[:-1])):
        with pytest.raises(ValueError, match=rf"stimuli.{name} = .*must be 0 to 1"):
            trajectory(rest(good), good._replace(**{name: bad}), Times(), 100)
    hole = good.hidden.copy()
    hole[2, 1] = np.nan
    with pytest.raises(ValueError, match=r"stimuli.hidden: holds NaN"):
        trajectory(rest(good), good._replace(hidden=hole), Times(), 100)
    with pytest.raises(ValueError, match=r"state.gain: holds NaN"):
        trajectory(rest(good)._replace(gain=np.nan), good, Times(), 100)
    with pytest.raises(ValueError, match=r"state.hebbian has shape \(2, 6\): must be \(2, 7\)"):
        trajectory(rest(good)._replace(hebbian=np.zeros((2, 6))), good, Times(), 100)
    with pytest.raises(ValueError, match="stimuli.reading: must be 0"):
        written(rest(good), good, Times())
    with pytest.raises(ValueError, match=r"stimuli.output: holds NaN"):
        written(rest(good), writing(good)._replace(output=np.full((5, 2), np.nan)), Times())
    with pytest.raises(ValueError, match=r"keys .* values .* tokens"):
        stream(phi, q, k, v[:-1])
    with pytest.raises(ValueError, match=r"keys .* values .* tokens"):
        stream(phi, q, k, v, skip=v[:-1])
    with pytest.raises(ValueError, match="p = g.phi"):
        stream(features.sample("cosine", 3, 3, 0), 2 * q, 2 * k, v)
