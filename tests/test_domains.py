"""Domains that pool some synapses: against loops over synapses, and against all assignments."""

from itertools import permutations, product

import numpy as np
import pytest

from tripartite.beyond import domains


def circuit(rng, outputs, neurons, tokens):
    """H (outputs, neurons), g (neurons,) and hidden activity (tokens, neurons)."""
    return (
        rng.standard_normal((outputs, neurons)),
        rng.uniform(0.5, 2, neurons),
        rng.uniform(0.1, 3, (tokens, neurons)),
    )


def shares(H, g, h):
    drive = g * h
    return drive / drive.sum(axis=1, keepdims=True), H / g


@pytest.mark.parametrize("size", [1, 3, 7, 100])
def test_domains_divide_what_they_transmit_by_what_they_hear(size):
    rng = np.random.default_rng(size)
    H, g, h = circuit(rng, 3, 10, 2)
    labels = domains.at_random(3, 10, size, rng)
    share, recalled = shares(H, g, h)
    output = domains.divided(share, recalled, labels)
    for t, i in product(range(2), range(3)):
        total = 0.0
        for a in range(10):
            domain = [b for j in range(3) for b in range(10) if labels[j, b] == labels[i, a]]
            pooled = 10 / len(domain) * sum(g[b] * h[t, b] for b in domain)
            total += H[i, a] * h[t, a] / pooled
        assert np.isclose(output[t, i], total)
    if size == 100:  # one pool for all
        assert np.allclose(output, (h @ H.T) / (h @ g)[:, None])


def test_domains_have_the_size_asked_for_and_hold_neighbours():
    rng = np.random.default_rng(0)
    order = rng.permutation(12)
    for labels in (
        domains.at_random(4, 12, 5, rng),
        domains.in_order(4, order, 5, "dendrite"),
        domains.in_order(4, order, 5, "axon"),
    ):
        assert labels.shape == (4, 12)
        assert set(np.bincount(labels.ravel())) <= {4, 5}
    along_dendrite = domains.in_order(4, order, 6, "dendrite")
    assert all(len(set(along_dendrite[i, order[:6]])) == 1 for i in range(4))
    assert len(set(along_dendrite[:, order[0]])) == 4
    along_axon = domains.in_order(4, order, 8, "axon")
    assert all(len(set(column)) == 1 for column in along_axon.T)
    assert np.array_equal(along_axon[:, order[0]], along_axon[:, order[1]])
    assert along_axon[0, order[1]] != along_axon[0, order[2]]


@pytest.mark.parametrize("size", [1, 2, 4])
def test_moments_of_shares_are_those_over_all_partners(size):
    w = np.array([[0.55, 0.25, 0.15, 0.05], [0.96, 0.03, 0.009, 0.001]])
    mean, variance = domains.share_moments(w, size)
    for token, row in enumerate(w):
        for a in range(4):
            partners = product(range(4), repeat=size - 1)
            found = [row[a] * size / (4 * (row[a] + sum(row[b] for b in p))) for p in partners]
            assert np.isclose(mean[token, a], np.mean(found), rtol=1e-4)
            assert np.isclose(variance[token, a], np.var(found), rtol=1e-4, atol=1e-4)
    assert np.allclose(mean.sum(axis=1), 1)


def test_mean_shares_go_from_equal_ones_to_those_of_one_pool():
    w = np.random.default_rng(1).dirichlet(np.full(30, 0.5), 3)
    assert np.allclose(domains.share_moments(w, 1)[0], 1 / 30, rtol=1e-3)
    square = np.sum(w**2, axis=1, keepdims=True)
    mean, variance = domains.share_moments(w, 1_000_000)
    assert np.allclose(mean - w, 3e-5 * w * (square - w), atol=1e-9)  # the first order
    variance = domains.share_moments(w, 3_000)[1]
    assert np.allclose(variance, w**2 * (30 * square - 1) / 3_000, rtol=0.02)


def test_scatter_is_that_over_all_assignments():
    w = np.array([[0.5, 0.3, 0.2]])
    for size in (2, 3):
        heard = [
            domains.heard(w, np.array(p).reshape(2, 3) // size)[0] for p in permutations(range(6))
        ]
        assert np.isclose(np.std(heard), domains.scatter(w, 2, size)[0])
        assert np.isclose(np.mean(heard), 1)
    assert domains.scatter(w, 2, 6) == 0


def test_bad_input_is_named():
    rng, w = np.random.default_rng(0), np.array([[1.0, 0.0]])
    with pytest.raises(ValueError, match="size"):
        domains.at_random(2, 3, 0, rng)
    with pytest.raises(ValueError, match="along"):
        domains.in_order(2, np.arange(3), 2, "soma")
    with pytest.raises(ValueError, match=r"share.*above 0"):
        domains.share_moments(w, 2)
