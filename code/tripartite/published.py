"""What the authors' public notebooks draw at random: hidden neurons, and the weights of a new head.

https://github.com/kozleo/Building_Transformers_from_Neurons_and_Astrocytes, commit 038f194.
The notebook on language draws 1,000 neurons and then 100,000 from one stream, that on vision
100,000 and then 1,000; both with seed 16.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from .checks import check_positive_int
from .encoder import Block, Linear, Norm
from .features import FeatureMap, positive

SEED = 16


def populations(
    sizes: Sequence[int], d_key: int, seed: int = SEED, *, dtype: type = np.float64
) -> list[FeatureMap]:
    """Hidden neurons with positive tuning, bit for bit as NumPy's legacy generator draws them.

    sizes: neurons of each population, in the order in which they are drawn from one stream of
    `numpy.random.RandomState(seed)`; directions are (m, d_key). dtype: what they are rounded to.
    Raises ValueError for a size or d_key below 1, or a seed outside 0 .. 2**32 - 1.
    """
    check_positive_int(d_key=d_key, **{f"sizes[{i}]": m for i, m in enumerate(sizes)})
    if not 0 <= seed < 2**32:
        raise ValueError(f"seed = {seed}: must be 0 to {2**32 - 1}, as the legacy generator takes")
    stream = np.random.RandomState(seed)
    return [
        FeatureMap(
            stream.normal(0.0, 1.0, (m, d_key)).astype(dtype), np.zeros(m, dtype), positive, m
        )
        for m in sizes
    ]


def untrained(block: Block, rng: np.random.Generator) -> Block:
    """The block with query, key and the norm before them as PyTorch makes them, untrained.

    Weights and biases are uniform in +-1/sqrt(features), `torch.nn.Linear`'s default; the norm has
    gain 1 and bias 0. The rest of the block stays. rng: where query and then key are drawn from.
    The notebook on vision plots such a head.
    """

    def drawn(like: Linear) -> Linear:
        bound = like.weight.shape[1] ** -0.5
        return Linear(*(rng.uniform(-bound, bound, part.shape).astype(part.dtype) for part in like))

    fresh = Norm(np.ones_like(block.norm_attention.gain), np.zeros_like(block.norm_attention.bias))
    return block._replace(query=drawn(block.query), key=drawn(block.key), norm_attention=fresh)


def untrained_square(d_model: int, d_key: int) -> float:
    """Expected |q|^2 (and |k|^2) of an untrained head that reads a layer norm: sqrt(d)/3 (1 + 1/D).

    The norm fixes |x|^2 = D = d_model, a weight or bias uniform in +-1/sqrt(D) has variance
    1/(3 D), so each of the d = d_key components of W x + b has variance (D + 1)/(3 D), and q is
    divided by d^(1/4). Over initialisations; whatever the picture and the layer.
    """
    return math.sqrt(d_key) / 3.0 * (1.0 + 1.0 / d_model)
