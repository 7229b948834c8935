"""What the authors' notebooks draw: against another implementation of the generator, and theory."""

import math
import random

import numpy as np
import pytest

from tripartite import encoder, features, published
from tripartite.encoder import Block, Linear, Norm, Wiring


def legacy_normals(seed: int, n: int) -> np.ndarray:
    """Marsaglia's polar method on the Mersenne twister, started as in Matsumoto's C code of 2002."""
    state = [seed]
    for i in range(1, 624):
        state.append((1812433253 * (state[-1] ^ (state[-1] >> 30)) + i) % 2**32)
    twister = random.Random()
    twister.setstate((3, (*state, 624), None))
    found = []
    while len(found) < n:
        x, y = (2 * twister.random() - 1 for _ in range(2))
        r2 = x * x + y * y
        if 0 < r2 < 1:
            f = math.sqrt(-2 * math.log(r2) / r2)
            found += [f * y, f * x]
    return np.array(found[:n])


@pytest.mark.parametrize("seed", [16, 0, 2**32 - 1])
def test_populations_are_one_stream_of_the_legacy_generator(seed):
    few, many = published.populations((30, 70), 5, seed)
    expected = legacy_normals(seed, 500).reshape(100, 5)
    np.testing.assert_array_equal(np.concatenate([few.directions, many.directions]), expected)


def test_by_default_the_seed_is_that_of_the_notebooks():
    # 7 is odd: the second population begins with the number that the polar method kept
    few, many = published.populations((1, 3), 7)
    expected = legacy_normals(16, 28).reshape(4, 7)
    np.testing.assert_array_equal(np.concatenate([few.directions, many.directions]), expected)


def test_populations_have_positive_tuning_of_their_whole_size():
    (phi,) = published.populations((50,), 3, dtype=np.float32)
    x = np.random.default_rng(0).normal(size=(4, 3)).astype(np.float32)
    expected = np.exp(x @ phi.directions.T - 0.5 * np.sum(x * x, -1, keepdims=True)) / math.sqrt(50)
    np.testing.assert_allclose(phi(x).value, expected, rtol=1e-5)
    assert phi(x).value.dtype == np.float32
    assert isinstance(phi, features.FeatureMap)


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (((0,), 3), "sizes[0] = 0"),
        (((3, 2.5), 3), "sizes[1] = 2.5"),
        (((3,), 0), "d_key = 0"),
        (((3,), 3, -1), "seed = -1"),
        (((3,), 3, 2**32), "seed = 4294967296"),
    ],
)
def test_bad_input_is_named(arguments, named):
    with pytest.raises(ValueError) as error:
        published.populations(*arguments)
    assert named in str(error.value)


def untrained_queries(n: int, d_model: int, n_heads: int, x: np.ndarray, seed: int):
    """Queries and keys of n untrained blocks, (2, n, heads, tokens, d)."""
    rng, wiring = np.random.default_rng(seed), Wiring(n_heads, eps=1e-12, pre_norm=True)
    maps = [Linear(np.full((d_model, d_model), 7.0), np.full(d_model, 7.0))] * 6
    block = Block(*maps, *[Norm(np.full(d_model, 3.0), np.full(d_model, 2.0))] * 2)
    drawn = [published.untrained(block, rng) for _ in range(n)]
    found = [encoder.project(b, encoder.attention_input(b, x, wiring), n_heads)[:2] for b in drawn]
    return np.moveaxis(np.array(found), 1, 0)


# a token like any other, one far larger and off centre, one with a single large feature
@pytest.mark.parametrize("kind", ["normal", "large", "outlier"])
@pytest.mark.parametrize(("d_model", "n_heads"), [(8, 1), (48, 3)])
def test_untrained_norms_follow_from_the_initialisation(d_model, n_heads, kind):
    rng = np.random.default_rng(3)
    x = rng.normal(size=(1, d_model))
    x = {"normal": x, "large": 1e3 * x + 50, "outlier": x + 100 * np.eye(d_model)[:1]}[kind]
    squares = np.sum(untrained_queries(3_000, d_model, n_heads, x, 5) ** 2, axis=-1)
    expected = published.untrained_square(d_model, d_model // n_heads)
    # heads of one block have rows of their own, so all are independent
    error = squares.std(axis=(1, 2, 3)) / math.sqrt(squares[0].size)
    assert np.all(np.abs(squares.mean(axis=(1, 2, 3)) - expected) < 4.5 * error)
    assert np.all(error < 0.02 * expected)


def test_untrained_square_of_the_sizes_of_a_vit():
    # 64 components of variance (768 + 1) / (3 * 768), over the square of 64^(1/4)
    assert published.untrained_square(768, 64) == pytest.approx(64 * 769 / 2304 / 8, rel=1e-14)


def test_untrained_leaves_the_rest_of_the_block_and_its_types():
    d, rng = 48, np.random.default_rng(0)

    def part(*shape):
        return rng.normal(size=shape).astype(np.float32)

    maps = [Linear(part(d, d), part(d)) for _ in range(6)]
    block = Block(*maps, Norm(part(d), part(d)), Norm(part(d), part(d)))
    found = published.untrained(block, np.random.default_rng(1))
    same = {name for name in Block._fields if getattr(found, name) is getattr(block, name)}
    assert same == {"value", "out", "up", "down", "norm_mlp"}
    parts = (*found.query, *found.key, *found.norm_attention)
    assert {part.dtype for part in parts} == {np.dtype(np.float32)}
    for linear in (found.query, found.key):
        for part in linear:
            assert np.abs(part).max() <= d**-0.5
        assert np.abs(linear.weight).max() > 0.95 * d**-0.5
    assert not np.array_equal(found.query.weight, found.key.weight)
