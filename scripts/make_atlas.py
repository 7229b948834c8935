"""Errors of response and output in every head at 100,000 neurons: results/atlas-attention-100000.csv.

Run as `python scripts/make_atlas.py`; takes about two minutes on one core. error: median over tokens of
the relative error of the astrocyte's response; output: relative L2 error of the output over all
tokens.
"""

import numpy as np

from common import DATA, table
from tripartite import attention, features, network, pretrained

N_NEURONS = 100_000
SEEDS = (0, 1, 2)


def main() -> None:
    recording = pretrained.load_recording(DATA / "recordings/minilm-attention.safetensors")
    queries, keys, values, *_ = recording
    log_z = attention.log_normaliser(queries, keys)
    with table("atlas-attention-100000", ["seed", "layer", "head", "error", "output"]) as writer:
        for seed in SEEDS:
            phi = features.sample("positive", N_NEURONS, queries.shape[-1], seed)
            for place in np.ndindex(queries.shape[:2]):
                reading = network.attend(phi, queries[place], keys[place], values[place])
                error = np.median(np.abs(np.expm1(reading.log_response - log_z[place])))
                exact = attention.softmax_attention(queries[place], keys[place], values[place])
                output = np.linalg.norm(reading.output - exact) / np.linalg.norm(exact)
                writer.writerow([seed, *place, f"{error:.6g}", f"{output:.6g}"])


if __name__ == "__main__":
    main()
