"""Near pairs exact, the others by hidden neurons: against loops, and at both ends of the window."""

import array_api_strict
import numpy as np
import pytest

from companion.paths import DATA
from tripartite import attention, features, network, pretrained
from tripartite.beyond import tuning, working

NEURONS = features.sample("positive", 40, 5, seed=0)


def head(t=17, i=17, leading=(2,)):
    rng = np.random.default_rng(1)
    shapes = ((*leading, t, 5), (*leading, i, 5), (*leading, i, 3))
    return [0.6 * rng.standard_normal(shape) for shape in shapes]


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize(("window", "first"), [(0, 0), (1, 0), (4, 2), (0, 3), (30, 0)])
@pytest.mark.parametrize("kind", ["positive", "cosine"])
def test_every_pair_is_what_it_should_be(window, first, causal, kind):
    """Loops over queries and keys; the queries are those of the last tokens."""
    q, k, v = head(t=12)
    phi = features.sample(kind, 40, 5, seed=0)
    values = phi(q).value, phi(k).value
    pooled, drive = np.zeros((2, 12)), np.zeros((2, 12, 3))
    for b in range(2):
        for t in range(12):
            place = t + 5
            for i in range(17):
                if causal and i > place:
                    continue
                exact = abs(place - i) < window or i < first
                pair = np.exp(q[b, t] @ k[b, i]) if exact else values[0][b, t] @ values[1][b, i]
                pooled[b, t] += pair
                drive[b, t] += pair * v[b, i]
    found = working.attend(phi, q, k, v, window, first=first, causal=causal)
    np.testing.assert_allclose(found.response, pooled, rtol=1e-10, atol=1e-12)
    np.testing.assert_allclose(found.output * pooled[..., None], drive, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("causal", [False, True])
def test_both_ends_are_the_network_and_softmax_attention(causal):
    q, k, v = head()
    none, all_ = (working.attend(NEURONS, q, k, v, w, causal=causal) for w in (0, 17))
    network_alone = network.attend(NEURONS, q, k, v, causal=causal)
    np.testing.assert_allclose(none.output, network_alone.output, rtol=1e-11)
    np.testing.assert_allclose(none.log_response, network_alone.log_response, rtol=1e-11)
    softmax = attention.softmax_attention(q, k, v, causal)
    np.testing.assert_allclose(all_.output, softmax, rtol=1e-11, atol=1e-14)
    log_z = attention.log_normaliser(q, k, causal)
    np.testing.assert_allclose(all_.log_response, log_z, rtol=1e-11)


@pytest.mark.parametrize("causal", [False, True])
def test_without_neurons_only_the_window_is_seen(causal):
    q, k, v = head(leading=())
    place = np.arange(17)
    apart = place[:, None] - place
    held = (np.abs(apart) < 3) | (place == 0)
    s = np.where(held & (apart >= 0) if causal else held, q @ k.T, -np.inf)
    weights = np.exp(s) / np.exp(s).sum(axis=-1, keepdims=True)
    found = working.attend(None, q, k, v, 3, first=1, causal=causal)
    np.testing.assert_allclose(found.output, weights @ v, rtol=1e-12)


def test_tokens_of_large_norm_neither_overflow_nor_vanish():
    q, k, v = head(leading=())
    found = working.attend(NEURONS, 60 * q, 60 * k, v, 2)
    assert np.all(np.isfinite(found.output)) and np.all(np.isfinite(found.log_response))


def test_any_array_library_will_do():
    q, k, v = head(leading=())
    strict = [array_api_strict.asarray(x) for x in (q, k, v)]
    phi = features.sample("positive", 40, 5, seed=0, like=strict[0])
    found = working.attend(phi, *strict, 3, first=1, causal=True).output
    expected = working.attend(NEURONS, q, k, v, 3, first=1, causal=True).output
    np.testing.assert_allclose(np.asarray(found), expected, rtol=1e-12)


@pytest.mark.parametrize("kind", ["positive", "cosine", None])
@pytest.mark.parametrize(("window", "first"), [(1, 0), (4, 2), (0, 1), (3, 0), (None, 0), (40, 3)])
@pytest.mark.parametrize("prompt", [1, 2, 9, 17])
def test_a_stream_token_by_token_is_the_whole(kind, window, first, prompt, monkeypatch):
    """With a prompt that is read at once, in blocks of queries, however long against the window."""
    monkeypatch.setattr(working, "_QUERIES", 4)
    if kind is None and window == 0:
        pytest.skip("nothing to hold")
    q, k, v = head()
    phi = kind and features.sample(kind, 40, 5, seed=0)
    whole = working.attend(phi, q, k, v, 17 if window is None else window, first=first, causal=True)
    held, found = working.hold(phi, window, first), []
    for start, stop in ((0, prompt), (prompt, 14), (max(prompt, 14), 15), (max(prompt, 15), 17)):
        if stop > start:
            held, reading = working.read(held, *(x[..., start:stop, :] for x in (q, k, v)))
            found.append(reading)
    for name in ("output", "response"):
        got = np.concatenate([getattr(r, name) for r in found], axis=1)
        np.testing.assert_allclose(got, getattr(whole, name), rtol=1e-8, atol=1e-10)
    assert held.tokens == 17
    pairs = 17 if window is None else min(17, window + first)
    assert held.keys.shape[-2] == pairs
    written = 2 * 40 * (3 + 1 + 1) if kind and pairs < 17 else 0  # H, g, and a scale for each
    assert held.numbers == 2 * pairs * (5 + 3) + written


def test_grouped_queries_share_what_is_held():
    """Three query heads read one memory, without a copy of it."""
    rng = np.random.default_rng(2)
    q, k, v = (rng.normal(size=(2, heads, 12, 5)) for heads in (3, 1, 1))
    held, reading = working.read(working.hold(NEURONS, 3, 1), q, k, v)
    assert held.memory.hebbian.shape == (2, 1, 5, 40)
    for n in range(3):
        alone = working.attend(NEURONS, q[:, n : n + 1], k, v, 3, first=1, causal=True)
        np.testing.assert_allclose(reading.output[:, n : n + 1], alone.output, rtol=1e-11)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"window": -1}, "window = -1: must be a whole number, at least 0"),
        ({"window": 1.5}, "window = 1.5"),
        ({"first": -2}, "first = -2"),
        ({"phi": None, "window": 0}, "window = 0: must let every query see a token"),
    ],
)
def test_bad_sizes_are_refused(change, message):
    q, k, v = head()
    given = {"phi": NEURONS, "window": 2, "first": 0} | change
    with pytest.raises(ValueError, match=message):
        working.attend(given["phi"], q, k, v, given["window"], first=given["first"])


@pytest.mark.parametrize("neurons", [64, 256])
def test_curves_fitted_beside_a_window_pair_by_pair(neurons):
    """Two heads of a text that no curve was fitted to, in loops; far tokens alike err twice as much."""
    text = pretrained.load_recording(DATA / "recordings/minilm-attention.safetensors")
    beside = tuning.load(DATA / f"tuning/language-{neurons}-window5.safetensors", np.float64)
    for place in ((1, 3), (4, 7)):
        q, k, v = (x[place] for x in (text.queries, text.keys, text.values))
        fired = []
        for side, x in ((beside.queries, q), (beside.keys, k)):
            w, b, c = (y[place] for y in (side.directions, side.offsets, side.curvature))
            fired.append([w @ y + b - 0.5 * y @ c @ y for y in x])
        output, exact = np.zeros_like(v), np.zeros_like(v)
        for t in range(len(q)):
            weights = [
                np.exp(q[t] @ k[i]) if abs(t - i) < 5 else np.exp(fired[0][t] + fired[1][i]).sum()
                for i in range(len(k))
            ]
            output[t] = weights @ v / sum(weights)
            softmax = [np.exp(q[t] @ k[i]) for i in range(len(k))]
            exact[t] = softmax @ v / sum(softmax)
        found = working.attend(beside.of_head(place), q, k, v, 5).output
        np.testing.assert_allclose(found, output, rtol=1e-9, atol=1e-12)
        alike = working.attend(tuning.alike(32), q, k, v, 5).output
        assert np.linalg.norm(output - exact) < 0.5 * np.linalg.norm(alike - exact)
