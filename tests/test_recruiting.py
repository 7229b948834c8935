"""Neurons that the text recruits: against a plain merge of lists, and softmax attention."""

import numpy as np
import pytest

from tripartite import attention
from tripartite.beyond import recruiting


def head(tokens=23, leading=(2, 1), of_queries=(2, 3)):
    rng = np.random.default_rng(4)
    shapes = ((*of_queries, tokens, 5), (*leading, tokens, 5), (*leading, tokens, 3))
    return [rng.standard_normal(shape) for shape in shapes]


def by_lists(size, q, k, v, window, first):
    """One head by lists of tokens: the merge that adds least to the squares about the mean."""
    groups, out = [], []

    def squares(members):
        return np.sum((k[members] - k[members].mean(axis=0)) ** 2)

    for t in range(len(q)):
        old = t - window
        if old >= first:
            if len(groups) == size:
                grown = {
                    (a, b): squares(groups[a] + groups[b]) - squares(groups[a]) - squares(groups[b])
                    for a in range(size)
                    for b in range(a)
                }
                a, b = min(grown, key=grown.get)
                groups[b] += groups.pop(a)
            groups.append([old])
        exact = [i for i in range(t + 1) if i < first or t - i < window]
        pairs = [(1, k[i], v[i]) for i in exact]
        pairs += [(len(x), k[x].mean(axis=0), v[x].sum(axis=0)) for x in groups]
        p = sum(n * np.exp(q[t] @ key) for n, key, _ in pairs)
        drive = sum(np.exp(q[t] @ key) * value for _, key, value in pairs)
        out.append((p, *(drive / p)))
    return np.array(out)


@pytest.mark.parametrize(("window", "first"), [(0, 0), (4, 1), (1, 3), (40, 0)])
@pytest.mark.parametrize("size", [2, 6])
def test_pairs_merge_as_lists_do(size, window, first):
    q, k, v = head()
    held, found = recruiting.read(recruiting.hold(size, window, first), q, k, v)
    recruits = held.recruits
    for group in range(2):
        for one in range(3):
            known = by_lists(size, q[group, one], k[group, 0], v[group, 0], window, first)
            np.testing.assert_allclose(found.response[group, one], known[:, 0], rtol=1e-10)
            np.testing.assert_allclose(found.output[group, one], known[:, 1:], atol=1e-10)
    exact = min(window, 23 - first) + first
    np.testing.assert_allclose(recruits.astrocytic.sum(axis=-1), 23 - exact)
    assert held.numbers == 2 * (size * (5 + 3 + 1) + exact * (5 + 3))


@pytest.mark.parametrize(("window", "first"), [(0, 0), (4, 1), (1, 3), (0, 2)])
@pytest.mark.parametrize("parts", [[0, 1, 2, 3, 23], [0, 12, 13, 14, 23], [0, 2, 22, 23]])
def test_a_stream_in_parts_is_the_whole(window, first, parts):
    q, k, v = head()
    end, whole = recruiting.read(recruiting.hold(5, window, first), q, k, v)
    held, found = recruiting.hold(5, window, first), []
    for start, stop in zip(parts, parts[1:], strict=False):
        held, reading = recruiting.read(held, *(x[..., start:stop, :] for x in (q, k, v)))
        found.append(reading.output)
    np.testing.assert_allclose(np.concatenate(found, axis=-2), whole.output, atol=1e-12)
    np.testing.assert_array_equal(held.keys, end.keys)
    assert held.tokens == end.tokens == 23


def test_as_many_neurons_as_tokens_are_softmax_attention():
    q, k, v = head()
    _, found = recruiting.read(recruiting.hold(23, 0), q, k, v)
    np.testing.assert_allclose(
        found.output, attention.softmax_attention(q, k, v, causal=True), atol=1e-12
    )
    np.testing.assert_allclose(
        found.log_response, attention.log_normaliser(q, k, causal=True), atol=1e-12
    )


def test_nothing_overflows():
    q, k, v = head()
    _, found = recruiting.read(recruiting.hold(23, 2, 1), 60 * q, 60 * k, v)
    expected = attention.softmax_attention(60 * q, 60 * k, v, causal=True)
    np.testing.assert_allclose(found.output, expected, atol=1e-9)


def test_writing_leaves_the_earlier_state_alone():
    _, k, v = head()
    once = recruiting.write(recruiting.blank(4, k, v), k[..., :9, :], v[..., :9, :])
    before = [x.copy() for x in once]
    twice = recruiting.write(once, k[..., 9:, :], v[..., 9:, :])
    for old, now in zip(before, once, strict=True):
        np.testing.assert_array_equal(old, now)
    whole = recruiting.write(recruiting.blank(4, k, v), k, v)
    for a, b in zip(twice, whole, strict=True):
        np.testing.assert_array_equal(a, b)


def test_bad_input_is_refused():
    q, k, v = head()
    for size, message in ((0, "n_neurons = 0"), (1, "n_neurons = 1: must be at least 2")):
        with pytest.raises(ValueError, match=message):
            recruiting.hold(size, 2)
    with pytest.raises(ValueError, match="first = -1"):
        recruiting.hold(4, 2, -1)
    with pytest.raises(ValueError, match="window = -2"):
        recruiting.hold(4, -2)
    with pytest.raises(ValueError, match="nothing to read"):
        recruiting.respond(recruiting.blank(4, k, v), q)
    with pytest.raises(ValueError, match="must be finite|NaN|finite"):
        recruiting.write(recruiting.blank(4, k, v), k * np.nan, v)
