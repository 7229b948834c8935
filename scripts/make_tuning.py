"""Errors of all heads by kind of tuning and number of neurons: results/tuning-MODEL.csv.

Run as `python scripts/make_tuning.py FOLDER MODEL NEURONS SEEDS [KIND ...]` after make_tuning_inputs.py; MODEL is
language or vision. Rows already in the file are kept, so that it can be stopped and gone on with.
With 0 NEURONS and KIND uniform: the control, attention that weighs all tokens alike.
Some ten minutes a model on one free core; everything in float32.
"""

import sys
from pathlib import Path

import numpy as np

import tuning_inputs
from common import appended
from tripartite import attention, features, network
from tripartite.beyond import tuning

HEADER = ["kind", "neurons", "seed", "layer", "head", "normaliser", "output"]
KINDS = {  # name -> kind of fit, draw of directions
    "positive": ("positive", "independent"),
    "positive orthogonal": ("positive", "orthogonal"),
    "cosine": ("cosine", "independent"),
    "cosine orthogonal": ("cosine", "orthogonal"),
    "centred": ("centred", "orthogonal"),
    "balanced": ("balanced", "orthogonal"),
    "dense": ("dense", "orthogonal"),
    "dense quasi": ("dense", "quasi"),
    "gaussian": ("gaussian", "orthogonal"),
    "mixture": ("mixture", "independent"),
    "mixture quasi": ("mixture", "quasi"),
    "prototypes": ("prototypes", "independent"),
}
FITTED = {"gradient": "", "end to end": "-whole"}  # by gradient, in files
WINDOWS = {0: 8, 64: 8, 256: 8, 1_000: 8, 10_000: 2}  # neurons: test windows at most
SHARPNESS = 2.0  # chosen on the validation split
FIT_TOKENS = 4_000


def population(folder, model, name, neurons, seed, layer):
    """Tuned curves of all heads of a layer, fitted to tokens of the fit split."""
    if name in FITTED:
        of_seed = f"-s{seed}" if seed else ""
        name = f"{model}-{neurons}-{layer}{FITTED[name]}{of_seed}"
        return tuning.load(folder / f"fitted/{name}.safetensors")
    if name == "uniform":
        return tuning.alike(*{"language": (12, 32), "vision": (6, 64)}[model])
    kind, draw = KINDS[name]
    raw = tuning_inputs.recorded(folder, model, layer, "fit")
    if kind == "cosine":
        phis = [
            features.sample(kind, neurons, raw.shape[-1], 1000 * seed + 100 * layer + head,
                            orthogonal=draw == "orthogonal", like=np.empty(0, np.float32))
            for head in range(raw.shape[1])
        ]  # fmt: skip
        return features.FeatureMap(
            np.stack([phi.directions for phi in phis]), np.stack([phi.phases for phi in phis]),
            features.cosine, neurons,
        )  # fmt: skip
    q, k = some_tokens(raw, max(FIT_TOKENS, min(2 * neurons, 16_000)))
    like = np.empty(0, np.float32)
    return tuning.fit(
        kind, k, q, neurons, 1000 * seed + layer, draw=draw, sharpness=SHARPNESS, like=like
    )


def some_tokens(raw, count):
    """Queries and keys (heads, count, d) at random places of the fit split."""
    rng = np.random.default_rng(0)
    windows, tokens = raw.shape[2:4]
    chosen = np.sort(rng.choice(windows * tokens, count, replace=False))
    return raw[:2].reshape(2, raw.shape[1], windows * tokens, -1)[:, :, chosen].astype(np.float64)


def errors(phi, recordings):
    """Median relative error of the response, and relative L2 error of the output, for every head.

    recordings: for every window queries, keys, values (heads, tokens, d).
    """
    ratios, missed, size = [], 0.0, 0.0
    for q, k, v in recordings:
        exact = attention.softmax_attention(q, k, v)
        with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
            reading = network.attend(phi, q, k, v, block=512)
            # a response of the wrong sign has an error above 1 in the sense of relative error
            log = np.log(np.abs(reading.pooled)) + reading.log_scale
            ratio = np.sign(reading.pooled) * np.exp(log - attention.log_normaliser(q, k))
            missed = missed + np.sum((reading.output - exact) ** 2, axis=(-2, -1), dtype=np.float64)
        ratios.append(np.abs(ratio - 1))
        size = size + np.sum(exact**2, axis=(-2, -1), dtype=np.float64)
    return np.median(np.concatenate(ratios, axis=-1), axis=-1), np.sqrt(missed / size)


def main():
    folder, model, neurons, seeds, *names = sys.argv[1:]
    neurons, count = int(neurons), WINDOWS[int(neurons)]
    folder = Path(folder)
    encoder = tuning_inputs.load(model)
    windows = [encoder.heads(x) for x in tuning_inputs.tests(folder, model, encoder)[:count]]
    with appended(f"tuning-{model}", HEADER, 3) as (writer, done):
        for seed in range(int(seeds)):
            for name in names or [*KINDS, *FITTED]:
                if (name, str(neurons), str(seed)) in done:
                    continue
                rows = []
                for layer in range(encoder.n_layers):
                    phi = population(folder, model, name, neurons, seed, layer)
                    of_layer = [tuple(x[layer] for x in window) for window in windows]
                    for head, pair in enumerate(zip(*errors(phi, of_layer), strict=True)):
                        rows.append([name, neurons, seed, layer, head, *(f"{x:.4g}" for x in pair)])
                writer.writerows(rows)
                median = np.median(np.array([row[5:] for row in rows], dtype=float), axis=0)
                print(name, neurons, seed, median, flush=True)


if __name__ == "__main__":
    main()
