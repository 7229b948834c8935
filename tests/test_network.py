"""The neuron-astrocyte network is kernel attention, for every tuning curve, streamed or whole."""

import subprocess
import sys
from pathlib import Path

import array_api_strict
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import logsumexp

from tripartite import attention, checks, features, network
from tripartite.checks import known as checks_known

KINDS = list(features.TUNINGS)


def head(seed, *, tokens=12, d=6, e=4, leading=(), size=0.7, dtype=float):
    rng = np.random.default_rng(seed)
    shapes = [(*leading, tokens, width) for width in (d, d, e)]
    return [(size * rng.normal(size=shape)).astype(dtype) for shape in shapes]


def kernel_of(phi, q, k):
    return phi(q).value @ np.swapaxes(phi(k).value, -1, -2)


def assert_same(reading, phi, q, k, v, causal):
    """Equal to kernel attention to 1e-12 of what is summed up (signed terms may cancel)."""
    kernel = kernel_of(phi, q, k)
    summed = np.abs(phi(q).value) @ np.swapaxes(np.abs(phi(k).value), -1, -2)
    if causal:
        kernel, summed = np.tril(kernel), np.tril(summed)
    pooled = kernel.sum(-1)
    cancelled = summed.sum(-1) / np.abs(pooled)
    np.testing.assert_array_less(np.abs(reading.response / pooled - 1), 1e-12 * cancelled)
    expected = attention.kernel_attention(kernel, v)
    error = np.abs(reading.output - expected).max(-1) / np.abs(v).max()
    np.testing.assert_array_less(error, 1e-12 * cancelled**2)


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_network_is_kernel_attention_for_every_tuning_curve(kind, causal):
    q, k, v = head(0, leading=(2, 3))
    phi = features.sample(kind, 150, 6, seed=1)
    assert_same(network.attend(phi, q, k, v, causal=causal, block=64), phi, q, k, v, causal)


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    tokens=st.integers(1, 9),
    d=st.integers(1, 5),
    e=st.integers(1, 4),
    m=st.integers(1, 40),
    block=st.integers(1, 50),
    causal=st.booleans(),
    size=st.floats(0.01, 3.0),
)
def test_network_is_kernel_attention_for_any_sizes(seed, tokens, d, e, m, block, causal, size):
    q, k, v = head(seed, tokens=tokens, d=d, e=e, size=size)
    phi = features.sample("positive", m, d, seed)
    reading = network.attend(phi, q, k, v, causal=causal, block=block)
    assert_same(reading, phi, q, k, v, causal)


@pytest.mark.parametrize("causal", [False, True])
def test_network_is_softmax_attention_where_the_kernel_is_exact(causal):
    q, k, v = head(2)
    phi = features.finite_set(np.concatenate([q, k]))
    reading = network.attend(phi, q, k, v, causal=causal, block=7)
    np.testing.assert_allclose(
        reading.output, attention.softmax_attention(q, k, v, causal), rtol=0, atol=1e-12
    )
    np.testing.assert_allclose(
        reading.log_response, attention.log_normaliser(q, k, causal), rtol=0, atol=1e-12
    )


@pytest.mark.parametrize("kind", KINDS)
def test_writing_in_pieces_is_writing_at_once(kind):
    q, k, v = head(3)
    phi = features.sample(kind, 50, 6, seed=0)
    pieces = network.blank(phi, v)
    for now in (slice(0, 1), slice(1, 7), slice(7, 12)):
        pieces = network.write(pieces, k[now], v[now])
    whole = network.write(network.blank(phi, v), k, v)
    for part, all_at_once in zip(network.read(pieces, q), network.read(whole, q), strict=True):
        np.testing.assert_allclose(part, all_at_once, rtol=1e-11, atol=1e-13)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("even", [True, False])
def test_a_stream_in_chunks_is_the_stream_token_by_token(kind, even, monkeypatch):
    """Both ways of scaling, over the ends of chunks and spans."""
    monkeypatch.setattr(network, "_TOKENS", 40)
    monkeypatch.setattr(network, "_CHUNK", 7)
    monkeypatch.setattr(network, "_PAIRS", 6)
    if not even:
        monkeypatch.setattr(network, "_is_even", lambda keys: False)
    q, k, v = head(13, tokens=93, leading=(2,))
    phi = features.sample(kind, 60, 6, seed=0)
    found = network.attend(phi, q, k, v, causal=True)
    memory, steps = network.blank(phi, v), []
    for t in range(93):
        memory = network.write(memory, k[..., t : t + 1, :], v[..., t : t + 1, :])
        steps.append(network.read(memory, q[..., t : t + 1, :]))
    for name in ("drive", "pooled"):
        terms = np.concatenate(
            [
                getattr(s, name) * np.exp(s.log_scale.reshape(2, 1, *[1] * (name == "drive")))
                for s in steps
            ],
            axis=1,
        )
        scale = np.exp(found.log_scale)
        got = getattr(found, name) * (scale[..., None] if name == "drive" else scale)
        np.testing.assert_allclose(got, terms, rtol=1e-9, atol=1e-9 * np.abs(terms).max())


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("even", [True, False])
def test_later_queries_read_what_the_whole_stream_reads(kind, even, monkeypatch):
    """The end of a stream alone: a prompt is written, then tokens are read one by one or together."""
    monkeypatch.setattr(network, "_TOKENS", 40)
    monkeypatch.setattr(network, "_CHUNK", 7)
    if not even:
        monkeypatch.setattr(network, "_is_even", lambda exponent: False)
    q, k, v = head(17, tokens=93, leading=(2,))
    phi = features.sample(kind, 60, 6, seed=0)
    whole = network.attend(phi, q, k, v, causal=True)
    for last in (1, 30, 92):
        part = network.attend(phi, q[:, -last:], k, v, causal=True)
        unit = np.exp(whole.log_scale[:, -last:] - part.log_scale)
        np.testing.assert_allclose(
            part.pooled, whole.pooled[:, -last:] * unit, rtol=1e-9, atol=1e-12
        )
        drive = whole.drive[:, -last:] * unit[..., None]
        np.testing.assert_allclose(part.drive, drive, rtol=1e-9, atol=1e-9 * np.abs(drive).max())


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("even", [True, False])
def test_weights_say_how_strongly_each_token_is_written(causal, even, monkeypatch):
    """Of the kernel, every column times its weight; rows of their own for several contexts."""
    monkeypatch.setattr(network, "_TOKENS", 9)
    monkeypatch.setattr(network, "_CHUNK", 4)
    if not even:
        monkeypatch.setattr(network, "_is_even", lambda exponent: False)
    q, k, v = head(18, tokens=30, leading=(2,))
    weights = np.random.default_rng(0).uniform(0, 2, (2, 30))
    weights[0, 4:20] = 0
    phi = features.sample("positive", 25, 6, seed=0)
    kernel = kernel_of(phi, q, k) * weights[:, None, :]
    kernel = np.tril(kernel) if causal else kernel
    found = network.attend(phi, q, k, v, causal=causal, weights=weights)
    np.testing.assert_allclose(found.response, kernel.sum(axis=-1), rtol=1e-11)
    expected = kernel @ v / kernel.sum(axis=-1, keepdims=True)
    np.testing.assert_allclose(found.output, expected, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("causal", [False, True])
def test_padding_leaves_no_trace(causal):
    """Tokens of weight 0 are as if they were not there, however large they are."""
    q, k, v = head(19, tokens=20)
    phi = features.sample("rectified-cosine", 25, 6, seed=0)  # grow with the norm
    alone = network.attend(phi, q[8:], k[8:], v[8:], causal=causal)
    k[:8] *= 1e2
    weights = (np.arange(20) >= 8).astype(float)
    found = network.attend(phi, q, k, v, causal=causal, weights=weights)
    with np.errstate(invalid="ignore"):  # of padding itself
        output = found.output[8:]
    np.testing.assert_allclose(output, alone.output, rtol=1e-11)
    np.testing.assert_allclose(found.log_response[8:], alone.log_response, rtol=1e-11)


def test_tokens_that_outgrow_one_scale_are_read_exactly(monkeypatch):
    """Norms rise a thousandfold in the middle of a stream: early tokens are not lost."""
    monkeypatch.setattr(network, "_TOKENS", 16)
    q, k, v = head(14, tokens=64)
    k[32:] *= 1000.0
    phi = features.sample("positive", 40, 6, seed=0)
    assert [network._is_even(phi(k[s]).exponent) for s in (slice(0, 16), slice(32, 48))] == [
        True,
        False,
    ]
    found = network.attend(phi, q, k, v, causal=True)
    log_q, log_k = phi(q).log_scale, phi(k).log_scale
    log_kernel = logsumexp(log_q[:, None, :] + log_k[None, :, :], axis=-1)
    log_kernel[np.triu_indices(64, 1)] = -np.inf
    expected = logsumexp(log_kernel, axis=-1)
    np.testing.assert_allclose(found.log_response, expected, rtol=1e-12)
    weights = np.exp(log_kernel - expected[:, None])
    np.testing.assert_allclose(found.output, weights @ v, rtol=0, atol=1e-10)


@pytest.mark.parametrize("causal", [False, True])
def test_half_precision_sums_in_single(causal):
    q, k, v = head(15, tokens=512, d=8, size=1.0)
    half = [x.astype(np.float16) for x in (q, k, v)]
    phi = features.sample("positive", 256, 8, seed=0, like=half[0])
    found = network.attend(phi, *half, causal=causal)
    double = features.sample("positive", 256, 8, seed=0)
    exact = network.attend(double, *(x.astype(float) for x in half), causal=causal)
    assert found.output.dtype == np.float32
    np.testing.assert_allclose(found.output, exact.output, atol=0.05)
    np.testing.assert_allclose(found.log_response, exact.log_response, atol=0.05)


@pytest.mark.parametrize("causal", [False, True])
def test_within_a_traced_function_nothing_is_asked_of_numbers(causal, monkeypatch):
    """As in JAX's jit and PyTorch's vmap, where an array has no truth value yet."""
    q, k, v = head(16, tokens=50)
    phi = features.sample("positive", 30, 6, seed=0)
    expected = network.attend(phi, q, k, v, causal=causal).output

    class Unknown:
        def __bool__(self):
            raise TypeError("traced")

    assert checks.known(Unknown()) is None and checks.known(np.True_) is True
    for module in (checks, network):
        monkeypatch.setattr(module, "known", lambda truth: checks_known(Unknown()))
    found = network.attend(phi, q, k, v, causal=causal).output
    np.testing.assert_allclose(found, expected, rtol=1e-12)


def test_long_contexts_are_worked_on_a_span_at_a_time():
    tokens = 2 * network._TOKENS + 1
    q, k, v = head(10, tokens=tokens)
    phi = features.sample("positive", 20, 6, seed=0)
    assert_same(network.attend(phi, q, k, v, block=20), phi, q, k, v, causal=False)


@pytest.mark.parametrize("kind", KINDS)
def test_parts_of_a_context_can_be_written_apart(kind):
    q, k, v = head(11)
    blank = network.blank(features.sample(kind, 50, 6, seed=0), v)
    parts = [network.write(blank, k[now], v[now]) for now in (slice(0, 5), slice(5, 12))]
    with np.errstate(all="raise", under="ignore"):
        both = network.merge(blank, network.merge(blank, network.merge(*parts)))
        nothing = network.merge(blank, blank)
    reading, whole = (network.read(m, q) for m in (both, network.write(blank, k, v)))
    np.testing.assert_allclose(reading.output, whole.output, rtol=1e-11, atol=1e-13)
    assert not np.any(nothing.hebbian) and np.all(np.isneginf(nothing.log_scale))
    other = network.blank(features.sample(kind, 50, 6, seed=1), v)
    with pytest.raises(ValueError, match="different hidden neurons"):
        network.merge(blank, other)


def test_memory_is_a_value():
    q, k, v = head(4)
    first = network.write(network.blank(features.sample("positive", 9, 6, 0), v), k, v)
    before = [first.hebbian.copy(), first.astrocytic.copy()]
    network.write(first, 2 * k, v)
    np.testing.assert_array_equal(first.hebbian, before[0])
    np.testing.assert_array_equal(first.astrocytic, before[1])


def test_memory_holds_the_papers_weights():
    _, k, v = head(5)
    phi = features.sample("positive", 9, 6, 0)
    memory = network.write(network.blank(phi, v), k, v)
    scale = np.exp(memory.log_scale)
    hidden = phi(k).value
    outer = sum(np.outer(v[t], hidden[t]) for t in range(12))
    np.testing.assert_allclose(memory.hebbian * scale, outer, rtol=1e-12, atol=1e-14)
    np.testing.assert_allclose(memory.astrocytic * scale, hidden.sum(0), rtol=1e-12)


def hostile(dtype, seed=6):
    """Tokens whose squared norms spread from about 0 to 10^4."""
    q, k, v = head(seed, dtype=dtype)
    norms = np.geomspace(1e-2, 100, 12, dtype=dtype)[:, None]
    return [norms * x / np.linalg.norm(x, axis=-1, keepdims=True) for x in (q, k[::-1])] + [v]


# rounding of an exponent of up to 10^4, times a margin for sums of a few hundred terms
@pytest.mark.parametrize(("dtype", "tolerance"), [(np.float64, 1e-10), (np.float32, 2e-2)])
@pytest.mark.parametrize("causal", [False, True])
def test_squared_norms_of_ten_thousand_neither_overflow_nor_vanish(dtype, tolerance, causal):
    q, k, v = hostile(dtype)
    phi = features.sample("positive", 300, 6, seed=2, like=q)
    with np.errstate(all="raise", under="ignore"):
        reading = network.attend(phi, q, k, v, causal=causal, block=64)
        output, log_response = reading.output, reading.log_response
    exact = features.sample("positive", 300, 6, seed=2)
    log_q, log_k = (exact(x.astype(float)).log_scale for x in (q, k))
    log_kernel = logsumexp(log_q[:, None, :] + log_k[None, :, :], axis=-1)
    if causal:
        log_kernel[np.triu_indices(12, 1)] = -np.inf
    expected = logsumexp(log_kernel, axis=-1)
    np.testing.assert_allclose(log_response, expected, rtol=tolerance / 100, atol=tolerance)
    weights = np.exp(log_kernel - expected[:, None])
    np.testing.assert_allclose(output, weights @ v, rtol=0, atol=tolerance)


@pytest.mark.parametrize("apart", [-2000.0, 0.0, 2000.0])
def test_blocks_pool_however_far_their_scales_lie_apart(apart):
    one = network.Reading(np.array([[3.0, 1.0]]), np.array([2.0]), np.array([0.0]))
    other = network.Reading(np.array([[1.0, 4.0]]), np.array([5.0]), np.array([apart]))
    with np.errstate(all="raise", under="ignore"):
        pooled = network.pool(one, other)
    weights = np.exp(np.array([0.0, apart]) - max(0.0, apart))
    expected = (weights[0] * one.drive + weights[1] * other.drive) / (weights @ [2.0, 5.0])
    np.testing.assert_allclose(pooled.output, expected, rtol=1e-15)
    log_p = max(0.0, apart) + np.log(weights @ [2.0, 5.0])
    np.testing.assert_allclose(pooled.log_response, [log_p], rtol=1e-15)


@pytest.mark.parametrize("kind", KINDS)
def test_single_precision_stays_single_and_agrees(kind):
    double = head(7)
    single = [x.astype(np.float32) for x in double]
    phi = features.sample(kind, 200, 6, seed=1)
    reading = network.attend(
        features.sample(kind, 200, 6, seed=1, like=single[0]), *single, block=64
    )
    assert reading.output.dtype == reading.response.dtype == np.float32
    kernel = kernel_of(phi, *double[:2])
    terms = np.abs(phi(double[0]).value) @ np.abs(phi(double[1]).value).T
    # 200 x 12 rounded terms, each off by a few times 6e-8
    np.testing.assert_array_less(np.abs(reading.response - kernel.sum(-1)), 1e-5 * terms.sum(-1))


def test_arrays_with_rules_of_their_own_stay_what_they_are():
    class Counted(np.ndarray):
        def __array_ufunc__(self, ufunc, method, *inputs, **options):
            plain = [np.asarray(x) for x in inputs]
            return np.asarray(getattr(ufunc, method)(*plain, **options)).view(Counted)

    q, k, v = head(20)
    phi = features.sample("positive", 25, 6, seed=0)
    found = network.attend(phi, *(x.view(Counted) for x in (q, k, v))).output
    assert isinstance(found, Counted)
    np.testing.assert_array_equal(found, network.attend(phi, q, k, v).output)


def test_any_array_library_will_do():
    q, k, v = head(8, leading=(2,))
    strict = [array_api_strict.asarray(x) for x in (q, k, v)]
    for kind in KINDS:
        expected = network.attend(features.sample(kind, 30, 6, 0), q, k, v, block=16)
        phi = features.sample(kind, 30, 6, 0, like=strict[0])
        for causal in (False, True):
            reading = network.attend(phi, *strict, block=16, causal=causal)
            assert reading.log_response.shape == reading.response.shape
        reading = network.attend(phi, *strict, block=16)
        np.testing.assert_allclose(np.asarray(reading.output), expected.output, rtol=1e-10)


# not ru_maxrss: a child starts with its parent's, which grows with all tests that ran before
PEAK = """
import re, numpy as np
from tripartite import features, network
rng = np.random.default_rng(0)
q, k, v = (rng.normal(size=(512, 32)) for _ in range(3))
network.attend(features.sample("positive", {m}, 32, 0), q, k, v)
print(int(re.search(r"VmHWM:\\s+(\\d+)", open("/proc/self/status").read())[1]) / 1024)
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="Linux only")
def test_memory_of_a_hundred_thousand_neurons_stays_small():
    command = [sys.executable, "-c", PEAK.format(m=100_000)]
    peak_mib = float(subprocess.run(command, capture_output=True, check=True, text=True).stdout)
    assert peak_mib < 300


def test_bad_input_is_refused_before_any_work():
    q, k, v = head(9)
    phi = features.sample("positive", 20, 6, 0)
    with pytest.raises(ValueError, match="keys .* values .* tokens"):
        network.attend(phi, q, k, v[:-1])
    with pytest.raises(ValueError, match="keys: holds NaN"):
        network.attend(phi, q, np.where(k > 0, k, np.nan), v)
    with pytest.raises(ValueError, match="queries: holds NaN"):
        network.attend(phi, np.where(q > 0, q, np.inf), k, v)
    with pytest.raises(ValueError, match="block = 0"):
        network.attend(phi, q, k, v, block=0)
    with pytest.raises(ValueError, match="nothing is written"):
        network.read(network.blank(phi, v), q)
    with pytest.raises(ValueError, match="queries .* keys .* no more queries than keys"):
        network.attend(phi, q, k[:-1], v[:-1], causal=True)
    with pytest.raises(ValueError, match=r"weights \(11,\) and keys .* number of tokens"):
        network.attend(phi, q, k, v, weights=np.ones(11))
    for bad in (-1.0, np.nan, np.inf):
        with pytest.raises(ValueError, match="weights: must be finite numbers, at least 0"):
            network.write(network.blank(phi, v), k, v, np.full(12, bad))
    with pytest.raises(ValueError, match="weights has dtype int64: must be real floating-point"):
        network.attend(phi, q, k, v, weights=np.ones(12, dtype=int))
    with pytest.raises(ValueError, match=r"d_key"):
        network.attend(features.sample("positive", 20, 5, 0), q, k, v)
    with pytest.raises(ValueError, match="keys has shape .*: must hold at least one token"):
        network.attend(phi, q, k[:0], v[:0])
    with pytest.raises(ValueError, match="queries has dtype complex128: must be real numbers"):
        network.attend(phi, q + 0j, k, v)
    with pytest.raises(ValueError, match="keys has dtype complex128: must be real numbers"):
        network.write(network.blank(phi, v), k + 0j, v)
    with pytest.raises(ValueError, match="values has dtype int64: must be real floating-point"):
        network.attend(phi, q, k, v.astype(int))
    strict = [array_api_strict.asarray(x) for x in (q, k, v)]
    with pytest.raises(ValueError, match="queries of numpy, .*: must be arrays of one library"):
        network.attend(phi, q, *strict[1:])
    with pytest.raises(ValueError, match="tokens of array_api_strict, neurons of numpy: must be"):
        network.attend(phi, *strict)
    with pytest.raises(ValueError, match="queries of array_api_strict, memory of numpy: must be"):
        network.read(network.write(network.blank(phi, v), k, v), strict[0])


def test_no_query_reads_nothing_and_no_key_writes_nothing():
    q, k, v = head(12)
    phi = features.sample("positive", 20, 6, 0)
    reading = network.attend(phi, q[:0], k, v, block=8)
    assert reading.output.shape == (0, 4) and reading.log_response.shape == (0,)
    memory = network.write(network.blank(phi, v), k, v)
    assert network.read(memory, q[:0]).output.shape == (0, 4)
    for part, same in zip(network.write(memory, k[:0], v[:0]), memory, strict=True):
        assert part is same or np.array_equal(part, same)


def test_a_stream_takes_values_with_axes_that_keys_lack():
    """As grouped queries have them; longer than a chunk, with some tokens left over."""
    rng = np.random.default_rng(3)
    phi = features.sample("positive", 9, 4, 0)
    q, k = 0.3 * rng.standard_normal((2, 150, 4))
    v = rng.standard_normal((2, 3, 150, 5))
    reading = network.attend(phi, q, k, v, causal=True)
    expected = attention.kernel_attention(phi(q).value @ phi(k).value.T, v, causal=True)
    np.testing.assert_allclose(reading.output, expected, rtol=1e-10)
    response = np.tril(phi(q).value @ phi(k).value.T).sum(-1)
    np.testing.assert_allclose(reading.response, np.broadcast_to(response, (2, 3, 150)))
