"""The language model that speaks with a window, and with fitted neurons beside it, by PyTorch and a mask.

    pip install torch==2.13.0 transformers==5.24.0 accelerate gguf safetensors
    python tests/peers/memories_peer.py FILE.gguf < IDS

Shares no code with the book: the whole table of pairs is formed in every head, and a pair that is not near
gets the kernel of the curves as their file defines it. IDS: token ids, typed by the book's tokenizer.
Writes data/reference_states/memories.npz: log-probabilities of each next token, window of 32, first
token exact. Transformers keeps the features of a head in another order than the file; PLACE undoes that.
"""

import math
import sys
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file
from transformers import AttentionInterface, AutoModelForCausalLM

DATA = Path(__file__).parents[2] / "data"
NEAR, D = 32, 64
PLACE = torch.tensor([i // 2 + D // 2 * (i % 2) for i in range(D)])
curves = {n: x.float() for n, x in load_file(DATA / "tuning/decoder-128.safetensors").items()}
kind = "exact"


def log_phi(side, layer, x):
    directions, offsets, power = (
        curves[f"{side}.{name}"][layer] for name in ("directions", "offsets", "power")
    )
    squares = (power[..., None, :] * x * x).sum(-1, keepdim=True)
    return x @ directions.mT + offsets[..., None, :] - 0.5 * squares


def attention(module, query, key, value, mask, scaling=None, **kwargs):
    tokens = query.shape[2]
    q = query[0].reshape(3, 3, tokens, D)
    k, v = key[0][:, None], value[0][:, None]
    place = torch.arange(tokens)
    back = place[:, None] - place
    seen = back >= 0
    near = seen & ((back < NEAR) | (place == 0))
    s = q @ k.mT * scaling
    if kind == "fitted":
        of_q, of_k = (
            log_phi(side, module.layer_idx, x[..., PLACE] * scaling**0.5)
            for side, x in (("queries", q), ("keys", k))
        )
        far = torch.logsumexp(of_q[..., :, None, :] + of_k[..., None, :, :], -1)
        s = torch.where(near, s, far)
    if kind == "alone":
        seen = near
    weights = torch.softmax(s.masked_fill(~seen, -math.inf), -1)
    return (weights @ v).reshape(1, 9, tokens, D).transpose(1, 2).contiguous(), None


file = Path(sys.argv[1]).resolve()
ids = torch.from_numpy(np.loadtxt(sys.stdin, dtype=np.int64))
AttentionInterface.register("book", attention)
model = AutoModelForCausalLM.from_pretrained(
    file.parent, gguf_file=file.name, dtype=torch.float32, attn_implementation="book"
)
found = {}
for kind in ("exact", "alone", "fitted"):
    with torch.no_grad():
        log_p = torch.log_softmax(model(ids[None]).logits[0, :-1], -1)
    found[kind] = log_p.gather(1, ids[1:, None])[:, 0].numpy()
np.savez(DATA / "reference_states/memories.npz", ids=ids.numpy().astype(np.int32), **found)
