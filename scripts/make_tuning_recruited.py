"""Prototypes recruited from the context that is being written: results/tuning-recruited.csv.

Run as `python scripts/make_tuning_recruited.py FOLDER` after make_tuning_inputs.py; two minutes. For
every head of the language model and two test texts: prototypes of the window itself (own), of
another window of the same text (other). alone: the error of the normaliser where the tuning is all
that the astrocyte knows of the context, g being the same for all neurons.
"""

import sys
from pathlib import Path

import numpy as np

import tuning_inputs
from common import table
from tripartite import attention, network
from tripartite.beyond import tuning

PAIRS = ((1, 3), (2, 4))  # windows of one text each, in the order of tuning_inputs.tests


def rows(recordings, layers, tokens, neurons):
    for text, (this, that) in enumerate(PAIRS):
        for layer in range(layers):
            q, k, v = (x[layer][:, :tokens] for x in recordings[this])
            log_z = attention.log_normaliser(q, k)
            exact = attention.softmax_attention(q, k, v)
            for source, window in (("own", this), ("other", that)):
                of_q, of_k, _ = (x[layer][:, :tokens] for x in recordings[window])
                phi = tuning.fit("prototypes", of_k, of_q, neurons, 0, sharpness=4.0)
                reading = network.attend(phi, q, k, v)
                level = np.log(tokens) + attention.log_sum_exp(phi.queries(q).log_scale)[..., 0]
                off = [
                    np.median(np.abs(np.expm1(x - log_z)), axis=-1)
                    for x in (reading.log_response, level)
                ]
                miss = np.linalg.norm(reading.output - exact, axis=(-2, -1))
                miss = miss / np.linalg.norm(exact, axis=(-2, -1))
                for head, found in enumerate(zip(off[0], miss, off[1], strict=True)):
                    numbers = (f"{x:.4g}" for x in found)
                    yield [source, neurons, tokens, text, layer, head, *numbers]


def main():
    folder = Path(sys.argv[1])
    encoder = tuning_inputs.load("language")
    recordings = [encoder.heads(x) for x in tuning_inputs.tests(folder, "language", encoder)[:5]]
    where = ["source", "neurons", "tokens", "text", "layer", "head"]
    with table("tuning-recruited", [*where, "normaliser", "output", "alone"]) as writer:
        for tokens, neurons in ((256, 64), (128, 64), (256, 128), (256, 32)):
            for row in rows(recordings, encoder.n_layers, tokens, neurons):
                writer.writerow(row)
            print(tokens, neurons, flush=True)


if __name__ == "__main__":
    main()
