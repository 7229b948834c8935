"""Near tokens exact and the others by fitted neurons, all heads: results/working-heads.csv, -whole.csv.

Run as `python scripts/make_working.py FOLDER` after make_tuning_inputs.py; two minutes. The curves are
those that come with the book, as they were fitted for all tokens. neurons: 0 for the window alone;
uniform: far tokens all weigh alike, with one weight for all; random: 256 positive ones a head. window:
tokens fewer than so many apart are exact. output: relative L2 error; response: median relative error
over tokens. In the second table cosine is that of a test text's embedding to the exact model's, and
error the relative L2 distance of the last hidden state, where all heads of all layers are replaced.
"""

import sys
from pathlib import Path

import numpy as np

import tuning_inputs
from common import DATA, table
from make_tuning_whole import embedding
from tripartite import attention, whole
from tripartite.beyond import tuning, working

WINDOWS = (0, 1, 2, 3, 5, 9, 17, 33)
HEADS = ["neurons", "window", "layer", "head", "output", "response"]
WHOLE = ["neurons", "window", "text", "cosine", "error"]


def layers(neurons: str, encoder):
    """Hidden neurons of every layer; None for the window alone."""
    if neurons == "0":
        return [None] * encoder.n_layers
    if neurons == "uniform":
        return [tuning.alike(encoder.n_heads, encoder.d_key)] * encoder.n_layers
    if neurons == "random":
        return whole.populations(encoder, 256, 0, orthogonal=True)
    curves = tuning.load(DATA / f"tuning/language-{neurons}.safetensors")
    return [curves.of_head(n) for n in range(encoder.n_layers)]


def of_layer(phi, window, recordings):
    """Errors of output and response of all heads of a layer, over all test texts."""
    missed, size, off = 0.0, 0.0, []
    for q, k, v in recordings:
        exact = attention.softmax_attention(q, k, v)
        reading = working.attend(phi, q, k, v, window)
        missed = missed + np.sum((reading.output - exact) ** 2, axis=(-2, -1), dtype=np.float64)
        size = size + np.sum(exact**2, axis=(-2, -1), dtype=np.float64)
        off.append(np.abs(np.expm1(reading.log_response - attention.log_normaliser(q, k))))
    return np.sqrt(missed / size), np.median(np.concatenate(off, axis=-1), axis=-1)


def main():
    folder = Path(sys.argv[1])
    encoder = tuning_inputs.load("language")
    tests = tuning_inputs.tests(folder, "language", encoder)
    exact = [encoder.hidden_states(x) for x in tests]
    read = [encoder.heads(x) for x in tests]
    kinds = ("0", "uniform", "random", "64", "256")
    pairs = [(kind, w) for kind in kinds for w in WINDOWS if w or kind != "0"]
    with table("working-heads", HEADS) as heads, table("working-whole", WHOLE) as models:
        for kind, window in pairs:
            phis = layers(kind, encoder)
            for n, phi in enumerate(phis):
                of_texts = [tuple(x[n] for x in text) for text in read]
                for head, pair in enumerate(zip(*of_layer(phi, window, of_texts), strict=True)):
                    heads.writerow([kind, window, n, head, *(f"{x:.4g}" for x in pair)])
            circuits = [
                lambda q, k, v, phi=phi: working.attend(phi, q, k, v, window).output for phi in phis
            ]
            for n, (x, states) in enumerate(zip(tests, exact, strict=True)):
                last = encoder.hidden_states(x, circuits)[-1]
                cosine = embedding("language", encoder, states) @ embedding(
                    "language", encoder, [last]
                )
                error = np.linalg.norm(last - states[-1]) / np.linalg.norm(states[-1])
                models.writerow([kind, window, n, f"{cosine:.5g}", f"{error:.5g}"])
            print(kind, window, flush=True)


if __name__ == "__main__":
    main()
