"""Tuning of a whole model, end to end: FOLDER/fitted/MODEL-NEURONS-LAYER-whole.safetensors.

Run as `python scripts/make_fitted_whole.py FOLDER MODEL NEURONS [STEPS]` after make_fitted.py for all
layers, in an environment with PyTorch. The curves of all heads go on from there, down the gradient
of the distance between the hidden states of the model they serve and those of the exact model, on
inputs of the fit split: so each layer learns to read what the layers before it really hand on.
The weights of the model stay as they are.
"""

import math
import sys
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.numpy import load_file, save_file

import tuning_inputs
from make_fitted import balanced

RATE, BATCH = 0.005, 2


class Exact:
    """The encoder of tripartite.encoder, in PyTorch, with attention as an argument."""

    def __init__(self, encoder):
        self.wiring = encoder.wiring
        self.blocks = [
            {name: tuple(map(torch.tensor, pair)) for name, pair in block._asdict().items()}
            for block in encoder.blocks
        ]

    def norm(self, x, pair):
        return F.layer_norm(x, x.shape[-1:], *pair, self.wiring.eps)

    def states(self, x, attention):
        out, heads, first = [], self.wiring.n_heads, self.wiring.pre_norm
        for layer, block in enumerate(self.blocks):
            y = self.norm(x, block["norm_attention"]) if first else x
            q, k, v = (
                F.linear(y, *block[n]).unflatten(-1, (heads, -1)).transpose(-3, -2)
                for n in ("query", "key", "value")
            )
            scale = q.shape[-1] ** 0.25
            y = attention(layer, q / scale, k / scale, v).transpose(-3, -2).flatten(-2)
            x = x + F.linear(y, *block["out"])
            x = x if first else self.norm(x, block["norm_attention"])
            y = self.norm(x, block["norm_mlp"]) if first else x
            x = x + F.linear(F.gelu(F.linear(y, *block["up"])), *block["down"])
            x = x if first else self.norm(x, block["norm_mlp"])
            out.append(x)
        return out


def softmax(layer, q, k, v):
    return F.scaled_dot_product_attention(q, k, v, scale=1.0)


class Population:
    """Curves of one layer's heads: those found before, plus a change in balanced coordinates."""

    def __init__(self, folder, model, neurons, layer):
        raw = tuning_inputs.recorded(folder, model, layer, "fit")[:2, :, :16].astype(np.float64)
        flat = raw.reshape(2, raw.shape[1], -1, raw.shape[-1])
        self.means = dict(
            zip(("queries", "keys"), map(torch.tensor, balanced(*flat)[:2]), strict=True)
        )
        of = balanced(*flat)[2:]
        self.of = {
            s: torch.tensor(x, dtype=torch.float32)
            for s, x in zip(("queries", "keys"), of, strict=True)
        }
        self.means = {s: x.float() for s, x in self.means.items()}
        found = load_file(folder / f"fitted/{model}-{neurons}-{layer}.safetensors")
        self.base = {name: torch.tensor(x) for name, x in found.items()}
        self.change = {
            f"{s}.{n}": torch.zeros_like(self.base[f"{s}.{n}"], requires_grad=True)
            for s in ("keys", "queries")
            for n in ("directions", "offsets")
        }

    def side(self, s):
        """Directions and offsets, in the coordinates tokens come in."""
        turned = self.change[f"{s}.directions"] @ self.of[s]
        shift = (turned @ self.means[s][..., None])[..., 0]
        offsets = self.base[f"{s}.offsets"] + self.change[f"{s}.offsets"] - shift
        return self.base[f"{s}.directions"] + turned, offsets

    def attend(self, q, k, v):
        (of_k, at_k), (of_q, at_q) = self.side("keys"), self.side("queries")
        written = k @ of_k.transpose(-1, -2) + at_k[:, None]
        top = written.detach().amax(-2, keepdim=True)
        asked = q @ of_q.transpose(-1, -2) + at_q[:, None] + top
        read = torch.exp(asked - asked.detach().amax(-1, keepdim=True))
        sums = torch.cat([v, torch.ones_like(v[..., :1])], -1)
        out = read @ (torch.exp(written - top).transpose(-1, -2) @ sums)
        return out[..., :-1] / out[..., -1:]


def main():
    folder, model, neurons, *steps = sys.argv[1:]
    folder, neurons, steps = Path(folder), int(neurons), int(steps[0]) if steps else 100
    torch.set_num_threads(1)
    encoder = tuning_inputs.load(model)
    exact = Exact(encoder)
    fit, validation = (
        torch.tensor(encoder.embed(tuning_inputs.inputs(folder, model, encoder, split)))
        for split in ("fit", "validation")
    )
    populations = [Population(folder, model, neurons, n) for n in range(encoder.n_layers)]

    def run(x):
        with torch.no_grad():
            wanted = exact.states(x, softmax)
        found = exact.states(x, lambda layer, *qkv: populations[layer].attend(*qkv))
        pool = (lambda y: y.mean(1)) if model == "language" else (lambda y: y[:, 0])
        cosine = F.cosine_similarity(pool(found[-1]), pool(wanted[-1])).mean()
        miss = [
            (a - b).square().sum() / b.square().sum() for a, b in zip(found, wanted, strict=True)
        ]
        return cosine, sum(miss) / len(miss)

    def save():
        for layer, p in enumerate(populations):
            arrays = {name: x.numpy() for name, x in p.base.items()}
            for s in ("keys", "queries"):
                for name, x in zip(("directions", "offsets"), p.side(s), strict=True):
                    arrays[f"{s}.{name}"] = x.detach().numpy().copy()
            save_file(arrays, folder / f"fitted/{model}-{neurons}-{layer}-whole.safetensors")

    parameters = [x for p in populations for x in p.change.values()]
    descent = torch.optim.Adam(parameters, betas=(0.9, 0.98))
    rng, best = np.random.default_rng(0), -1.0
    for step in range(steps + 1):
        if step % 20 == 0 or step == steps:
            with torch.no_grad():
                cosine, miss = run(validation[:4])
            print(
                model,
                neurons,
                step,
                f"validation: cosine {cosine:.4f}, miss {miss:.4f}",
                flush=True,
            )
            if cosine > best:
                best = float(cosine)
                save()
        for group in descent.param_groups:
            decay = 0.02 + 0.49 * (1 + math.cos(math.pi * step / steps))
            group["lr"] = RATE * min(1, (step + 1) / 10) * decay
        cosine, miss = run(fit[torch.tensor(rng.choice(len(fit), BATCH, replace=False))])
        descent.zero_grad(set_to_none=True)
        (miss + 2 * (1 - cosine)).backward()
        descent.step()


if __name__ == "__main__":
    main()
