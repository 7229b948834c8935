"""Whole models with every head replaced by adapted neurons: results/tuning-whole.csv.

Run as `python scripts/make_tuning_whole.py FOLDER MODEL KIND NEURONS [SEED]` after make_tuning.py;
appends its rows. cosine: of the embedding of a test text, or of a test picture's class token, to
that of the exact model; error: relative L2 distance of the last hidden state.
"""

import sys
from pathlib import Path

import numpy as np

import tuning_inputs
from common import appended
from make_tuning import population
from tripartite import network
from tripartite.whole import uniform

HEADER = ["model", "kind", "neurons", "seed", "window", "cosine", "error"]


def circuit(phi):
    """Attention by a population of neurons a head, and one astrocyte."""
    return lambda q, k, v: network.attend(phi, q, k, v, block=512).output


def embedding(model, encoder, states):
    x = states[-1].mean(axis=0) if model == "language" else states[-1][0]
    return x / np.linalg.norm(x)


def main():
    folder, model, kind, neurons, *seed = sys.argv[1:]
    folder, neurons, seed = Path(folder), int(neurons), int(seed[0]) if seed else 0
    encoder = tuning_inputs.load(model)
    heads = (
        [uniform] * encoder.n_layers
        if kind == "uniform"
        else [
            circuit(population(folder, model, kind, neurons, seed, layer))
            for layer in range(encoder.n_layers)
        ]
    )
    with appended("tuning-whole", HEADER) as (writer, _):
        for window, x in enumerate(tuning_inputs.tests(folder, model, encoder)):
            exact, states = encoder.hidden_states(x), encoder.hidden_states(x, heads)
            cosine = embedding(model, encoder, exact) @ embedding(model, encoder, states)
            error = np.linalg.norm(states[-1] - exact[-1]) / np.linalg.norm(exact[-1])
            writer.writerow([model, kind, neurons, seed, window, f"{cosine:.5g}", f"{error:.5g}"])
            print(model, kind, neurons, seed, window, round(cosine, 4), round(error, 4), flush=True)


if __name__ == "__main__":
    main()
