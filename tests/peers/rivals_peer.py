"""What two public implementations compute for the same tokens: PyTorch's attention, and Performers.

    pip install torch==2.13.0 einops==0.8.2    # Python 3.11
    pip install --no-deps performer-pytorch==1.1.4 local-attention axial-positional-embedding
    python tests/peers/rivals_peer.py

Shares no code with the book. performer-pytorch adds 1e-4 to every feature, which its own argument
eps turns off: both are kept. Writes data/reference_states/rivals.npz, float64.
"""

from pathlib import Path

import numpy as np
import torch
from performer_pytorch.performer_pytorch import (
    gaussian_orthogonal_random_matrix,
    linear_attention,
    softmax_kernel,
)
from torch.nn.functional import elu, scaled_dot_product_attention

TOKENS, D, VALUES, NEURONS = 40, 16, 8, 96
torch.manual_seed(20210901)
torch.set_default_dtype(torch.float64)
q, k = 1.3 * torch.randn(2, 1, 2, TOKENS, D)  # not scaled: scores are divided by sqrt(D)
v = torch.randn(1, 2, TOKENS, VALUES)
directions = gaussian_orthogonal_random_matrix(NEURONS, D).double()


def performer(eps):
    a, b = (
        softmax_kernel(x, projection_matrix=directions, is_query=first, eps=eps)
        for x, first in ((q, True), (k, False))
    )
    return linear_attention(a, b, v)


a, b = elu(q) + 1, elu(k) + 1
np.savez(
    Path(__file__).parents[2] / "data/reference_states/rivals.npz",
    queries=q[0],
    keys=k[0],
    values=v[0],
    directions=directions,
    softmax=scaled_dot_product_attention(q, k, v)[0],
    performer=performer(0.0)[0],
    performer_default=performer(1e-4)[0],
    linear=linear_attention(a, b, v)[0],
)
