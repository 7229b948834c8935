"""Tuning curves fitted by gradient descent: FOLDER/fitted/MODEL-NEURONS-LAYER.safetensors.

Run as `python scripts/make_fitted.py FOLDER MODEL NEURONS LAYER [STEPS [SEED [known|FEWER|FILE
[WINDOW]]]]` after make_tuning_inputs.py, in an environment with PyTorch; MODEL is language or vision. All heads of a
layer are fitted together, from prototypes on, in balanced coordinates; what is lowered is the
squared relative error of the output plus 0.02 times the squared error of log p. Prints the errors
on the validation split. With `known`, fits the windows of that split themselves and appends how
near the curves come to results/tuning-bounds.csv. With a number, begins not at prototypes but at
the curves found with that FEWER neurons, each of which is split into several; with a FILE, at its
curves of all layers. With WINDOW, 0 or more, tokens fewer than so many apart are exact, and the curves
are fitted to the others, in language texts of 8 to 512 tokens: whole ones, beginnings, and parts that
begin at any position of a text of 512.
"""

import math
import sys
from dataclasses import fields
from pathlib import Path

import numpy as np
import torch
from safetensors.numpy import save_file
from torch.nn.functional import smooth_l1_loss

from common import appended
from tripartite.beyond import tuning
from tuning_inputs import BOUNDS, of_any_length, recorded

WEIGHT, BATCH, SHARPNESS = 0.02, 4, 2.0
RATE = {"language": 0.05, "vision": 0.02}  # chosen on the validation split, as is where to stop
AGAIN = 0.02  # the rate where curves that were fitted before are fitted to texts of any length
ROWS, QUERIES = 2, 128  # read in a step of a fit to texts of any length; of each text, at most


def balanced(queries, keys):
    """Per head: means of queries and keys, and T and T^-T; arrays (heads, tokens, d)."""
    means = queries.mean(axis=1), keys.mean(axis=1)
    pairs = [tuning.balance(k, q, True) for q, k in zip(queries, keys, strict=True)]
    return *means, *(np.stack(x) for x in zip(*pairs, strict=True))


def start(queries, keys, gain, neurons, seed):
    """Prototypes in balanced coordinates, as tensors; their keys' gain is not in the curves yet."""
    pairs = []
    for stimuli in zip(keys, queries, gain, strict=True):
        rng = np.random.default_rng(seed)
        normal = np.empty((neurons, keys.shape[-1]))  # read for its shape
        pairs.append(tuning._prototypes(tuning.Stimuli(*stimuli), normal, rng, SHARPNESS))
    of_keys, of_queries = zip(*pairs, strict=True)
    found = {
        "keys.directions": [c.directions for c in of_keys],
        "keys.offsets": [c.offsets for c in of_keys],
        "queries.directions": [c.directions for c in of_queries],
        "queries.offsets": [c.offsets for c in of_queries],
        "queries.power": [np.diagonal(c.curvature) for c in of_queries],
    }
    return {name: torch.tensor(np.stack(x), dtype=torch.float32) for name, x in found.items()}


def split(path, layer, neurons, query_mean, key_mean, of_queries, of_keys, seed):
    """Curves of fewer neurons, each split into several that differ a little, as tensors."""
    rng, found, p = np.random.default_rng(seed), tuning.load(path, np.float64), {}
    if found.keys.offsets.ndim == 3:  # of all layers
        found = found.of_head(layer)
    sides = (found.queries, query_mean, of_queries), (found.keys, key_mean, of_keys)
    for side, (curves, mean, of) in zip(("queries", "keys"), sides, strict=True):
        back = curves.after(np.linalg.inv(of), -np.einsum("hed,hd->he", of, mean))
        fewer = back.offsets.shape[-1]
        parent = np.arange(neurons) % fewer
        jitter = 0.1 * (neurons > fewer) * back.directions.std(axis=1, keepdims=True)
        directions = back.directions[:, parent]
        p[f"{side}.directions"] = directions + jitter * rng.standard_normal(directions.shape)
        alike = np.bincount(parent)[parent] if side == "queries" else 1
        p[f"{side}.offsets"] = back.offsets[:, parent] - np.log(alike)
        p[f"{side}.power"] = np.diagonal(back.curvature, axis1=1, axis2=2)
    del p["keys.power"]
    return {name: torch.tensor(x, dtype=torch.float32) for name, x in p.items()}


def attend(p, queries, keys, values, scores=None, near=None):
    """Output and log p of all heads; arrays (heads, windows, tokens, d).

    near: (queries, tokens), which pairs are exact; scores: of all pairs, needed beside it.
    """

    def drive(side, x):
        heads, *shape, d = x.shape
        x = x.reshape(heads, -1, d)
        directions = p[f"{side}.directions"].transpose(1, 2)
        return torch.baddbmm(p[f"{side}.offsets"][:, None, :], x, directions).view(
            heads, *shape, -1
        )

    written, asked = drive("keys", keys), drive("queries", queries)
    top = written.detach().amax(2, keepdim=True)
    asked = asked + top
    level = asked.detach().amax(-1, keepdim=True)
    sums = torch.cat([values, torch.ones_like(values[..., :1])], -1)
    written, asked = torch.exp(written - top).transpose(-1, -2), torch.exp(asked - level)
    gain = -0.5 * (queries**2 @ p["queries.power"][:, None, :, None])[..., 0]
    if near is not None:
        far = level + gain[..., None]
        scale = torch.where(near, scores, far).detach().amax(-1, keepdim=True)
        exact = torch.exp(torch.where(near, scores, -torch.inf) - scale)
        kernel = torch.where(near, 0.0, asked @ written) * torch.exp(far - scale)
        read = (exact + kernel) @ sums
        return read[..., :-1] / read[..., -1:], torch.log(read[..., -1]) + scale[..., 0]
    read = asked @ (written @ sums)
    return read[..., :-1] / read[..., -1:], torch.log(read[..., -1]) + level[..., 0] + gain


def main():
    folder, model, neurons, layer, *rest = sys.argv[1:]
    folder, neurons, layer = Path(folder), int(neurons), int(layer)
    steps, seed, begin, window = (
        convert(rest[n]) if len(rest) > n else default
        for n, (convert, default) in enumerate(((int, 2_000), (int, 0), (str, ""), (int, None)))
    )
    known, lengths = begin == "known", window is not None
    torch.set_num_threads(1)
    kind = "_any" if lengths else ""
    raw, unseen = (
        recorded(folder, model, layer, f"{split}{kind}")  # (3, heads, windows, tokens, d)
        for split in ("fit", "validation")
    )
    unseen = unseen if lengths else unseen[:, :, :8]
    shapes, to_check = (  # texts and tokens of each window
        [x.shape for x in of_any_length(folder, split)]
        if lengths
        else [(1, x.shape[3])] * x.shape[2]
        for split, x in (("fit", raw), ("validation", unseen))
    )
    if known:
        raw, shapes = unseen, to_check
    tokens = np.flatnonzero(np.arange(raw.shape[3]) < np.prod(shapes, axis=1)[:, None])
    some = np.random.default_rng(seed).choice(tokens, min(len(tokens), 16_000), replace=False)
    flat = raw[:2].reshape(2, raw.shape[1], -1, raw.shape[-1])[:, :, some].astype(np.float64)
    query_mean, key_mean, of_queries, of_keys = balanced(*flat)
    flat[0] = (flat[0] - query_mean[:, None]) @ np.swapaxes(of_queries, 1, 2)
    flat[1] = (flat[1] - key_mean[:, None]) @ np.swapaxes(of_keys, 1, 2)
    if begin and not known:
        before = Path(begin)
        if begin.isdecimal():
            before = folder / f"fitted/{model}-{begin}-{layer}.safetensors"
        p = split(before, layer, neurons, query_mean, key_mean, of_queries, of_keys, seed)
    else:
        # exp(k.q) = exp(k'.q') times this gain of the key, and a factor of q alone
        pull = np.einsum("hed,hd->he", of_queries, query_mean)
        p = start(*flat, np.einsum("hnd,hd->hn", flat[1], pull), neurons, seed)
        p["keys.directions"] += torch.tensor(pull, dtype=torch.float32)[:, None]
        level = np.einsum("hed,hd->he", of_keys, key_mean)  # and this is that factor of q
        p["queries.directions"] += torch.tensor(level, dtype=torch.float32)[:, None]
        constant = np.sum(query_mean * key_mean, axis=-1, keepdims=True)
        p["queries.offsets"] += torch.tensor(constant, dtype=torch.float32)

    def batch(arrays, rows=slice(None)):
        """What attend reads, for the queries at some rows, and the exact output and log p."""
        q, k, v = (torch.tensor(x, dtype=torch.float32) for x in arrays)
        place, q = torch.arange(k.shape[2]), q[:, :, rows]
        near = (place[rows, None] - place).abs() < window if window else None
        score = q @ k.transpose(-1, -2)
        exact = torch.softmax(score, -1) @ v, torch.logsumexp(score, -1)
        q = (q.numpy() - query_mean[:, None, None]) @ np.swapaxes(of_queries, 1, 2)[:, None]
        k = (k.numpy() - key_mean[:, None, None]) @ np.swapaxes(of_keys, 1, 2)[:, None]
        q, k = (torch.tensor(x, dtype=torch.float32) for x in (q, k))
        return q, k, v, score if window else None, near, *exact

    def errors(part):
        """Squared relative error of every head's output, log p and its exact value."""
        *seen, exact, log_z = part
        output, log_p = attend(p, *seen)
        miss = (output - exact).square().sum((1, 2, 3)) / exact.square().sum((1, 2, 3))
        return miss, log_p, log_z

    if not lengths:
        parts = [batch(raw[:, :, start : start + 8]) for start in range(0, raw.shape[2], 8)]
        everything = [torch.cat(x, dim=1) if x[0] is not None else None
                      for x in zip(*parts, strict=True)]  # fmt: skip
        del parts
    texts = {size: [n for n, x in enumerate(to_check) if x == size] for size in to_check}
    validation = [
        batch(
            unseen[:, :, n, : size[1]],
            slice(None, None, max(1, size[1] // QUERIES) if lengths else 1),
        )
        for size, n in texts.items()
    ]

    def check():
        """Error of output and of response of every head, mean over the lengths of texts."""
        with torch.no_grad():
            found = [errors(part) for part in validation]
        off = [torch.expm1(p - z).abs().flatten(1).median(1).values for _, p, z in found]
        return torch.stack([x.sqrt() for x, _, _ in found]).mean(0), torch.stack(off).mean(0)

    def drawn():
        """What a step reads: a few windows, or rows, every fourth of which is a part of a text."""
        if not lengths:
            chosen = torch.tensor(rng.choice(raw.shape[2], BATCH, replace=False))
            yield tuple(None if x is None else x[:, chosen] for x in everything)
            return
        for n in rng.choice(len(shapes), ROWS, replace=False):
            count, long = shapes[n]
            x = raw[:, :, n, : count * long].reshape(3, -1, count, long, raw.shape[-1])
            if long == raw.shape[3] and rng.random() < 0.5:
                part = rng.integers(8, long + 1)
                x = x[:, :, :, rng.integers(0, long - part + 1) :][:, :, :, :part]
            yield batch(x, rng.permutation(x.shape[3])[:QUERIES])

    def say(what, miss, off):
        print(
            f"{model} {layer} {neurons} {what}: output {miss.median():.3f} (worst {miss.max():.3f}), "
            f"normaliser {off.median():.3f}",
            flush=True,
        )

    miss, off = check()
    say("at the start", miss, off)
    best, kept = miss + 0.1 * off.clip(max=1), {name: x.clone() for name, x in p.items()}
    parameters = [x.requires_grad_() for x in p.values()]
    descent = torch.optim.Adam(parameters, betas=(0.9, 0.98))
    rng, rate = np.random.default_rng(seed), AGAIN if lengths and begin else RATE[model]
    for step in range(steps):
        for group in descent.param_groups:
            warm, progress = min(1, (step + 1) / 20), step / steps
            group["lr"] = rate * warm * (0.02 + 0.49 * (1 + math.cos(math.pi * progress)))
        descent.zero_grad(set_to_none=True)
        for part in drawn():
            miss, log_p, log_z = errors(part)
            # linear in large errors of log p, which sinks and large norms bring
            off = smooth_l1_loss(log_p, log_z, reduction="none").mean((1, 2))
            loss = miss.sum() + WEIGHT * off.sum()
            (loss / ROWS if lengths else loss).backward()
        torch.nn.utils.clip_grad_norm_(parameters, 50.0)
        descent.step()
        if (step + 1) % (100 if lengths else 50) == 0 or step + 1 == steps:
            # every head keeps its best on the validation split
            miss, off = check()
            say(f"after {step + 1} steps", miss, off)
            score = miss + 0.1 * off.clip(max=1)
            better = score < best
            best = torch.where(better, score, best)
            for name, x in p.items():
                kept[name][better] = x.detach()[better]
    p = kept
    say("fitted", *check())
    if known:
        with appended("tuning-bounds", BOUNDS) as (writer, _):
            for head, error in enumerate(check()[0].tolist()):
                curves = f"exponential, window {window}" if lengths else "exponential"
                row = [model, curves, neurons, unseen.shape[2], layer, head, f"{error:.4g}"]
                writer.writerow(row)
        return
    p = {name: x.detach().double().numpy() for name, x in p.items()}
    flat_gain = np.zeros_like(of_keys)
    power = flat_gain + np.eye(of_keys.shape[-1]) * p["queries.power"][:, None, :]
    keys = tuning.Curves(p["keys.directions"], p["keys.offsets"], flat_gain).after(
        of_keys, key_mean
    )
    queries = tuning.Curves(p["queries.directions"], p["queries.offsets"], power)
    queries = queries.after(of_queries, query_mean)
    what = f"-window{window}" * lengths + f"-s{seed}" * bool(seed)
    out = folder / f"fitted/{model}-{neurons}-{layer}{what}.safetensors"
    out.parent.mkdir(exist_ok=True)
    save_file(
        {
            f"{side}.{field.name}": getattr(curves, field.name).astype(np.float32)
            for side, curves in (("keys", keys), ("queries", queries))
            for field in fields(curves)
        },
        out,
    )


if __name__ == "__main__":
    main()
