"""Near tokens exact and the others by fitted neurons, all heads: results/working-*.csv.

Run as `python scripts/make_working.py FOLDER` after make_tuning_inputs.py; five minutes. The curves are
those that come with the book: 64 and 256 as they were fitted for all tokens of texts of 256, and, with
`beside`, fitted beside a window of 5 in texts of 8 to 512 tokens. neurons: 0 for the window alone;
uniform: far tokens all weigh alike, with one weight for all; random: 256 positive ones a head. window:
tokens fewer than so many apart are exact. output: relative L2 error; response: median relative error
over tokens. In -whole.csv cosine is that of a test text's embedding to the exact model's, and error the
relative L2 distance of the last hidden state, where all heads of all layers are replaced. -lengths.csv
has the errors of heads at the beginnings of eight texts of the test split, of 16 to 512 tokens, and
-lengths-whole.csv those of the whole model. -shared.csv has for each of these texts at 512 tokens how
many of its runs of eight tokens also stand in the texts of the fit, and the output error of the median
head with curves fitted beside the window; `all` is all eight texts, `others` those that share no run.
"""

import sys
from pathlib import Path

import numpy as np

import tuning_inputs
from common import DATA, table
from make_tuning_whole import embedding
from make_tuning_windows import runs
from tripartite import attention, whole
from tripartite.beyond import tuning, working

WINDOWS = (0, 1, 2, 3, 5, 9, 17, 33)
HEADS = ["neurons", "window", "layer", "head", "output", "response"]
WHOLE = ["neurons", "window", "text", "cosine", "error"]
BESIDE = 5  # the window beside which curves were fitted
KINDS = ("0", "uniform", "random", "64", "256", "64 beside", "256 beside")


def layers(neurons: str, encoder):
    """Hidden neurons of every layer; None for the window alone."""
    if neurons == "0":
        return [None] * encoder.n_layers
    if neurons == "uniform":
        return [tuning.alike(encoder.n_heads, encoder.d_key)] * encoder.n_layers
    if neurons == "random":
        return whole.populations(encoder, 256, 0, orthogonal=True)
    name = neurons.replace(" beside", "-window5")
    curves = tuning.load(DATA / f"tuning/language-{name}.safetensors")
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


def of_model(phis, window, encoder, text, states):
    """Cosine of the embedding to the exact one, and error of the last hidden state, of one text."""
    circuits = [
        lambda q, k, v, phi=phi: working.attend(phi, q, k, v, window).output for phi in phis
    ]
    last = encoder.hidden_states(text, circuits)[-1]
    found, exact = (embedding("language", encoder, [x]) for x in (last, states[-1]))
    return found @ exact, np.linalg.norm(last - states[-1]) / np.linalg.norm(states[-1])


def write(heads, models, pairs, encoder, tests, *tokens):
    """Rows of both tables, with the number of tokens or without, for pairs of a kind and a window."""
    exact = [encoder.hidden_states(x) for x in tests]
    read = [encoder.heads(x) for x in tests]
    for kind, window in pairs:
        phis = layers(kind, encoder)
        for n, phi in enumerate(phis):
            of_texts = [tuple(x[n] for x in text) for text in read]
            for head, pair in enumerate(zip(*of_layer(phi, window, of_texts), strict=True)):
                heads.writerow([kind, window, *tokens, n, head, *(f"{x:.4g}" for x in pair)])
        for n, (x, states) in enumerate(zip(tests, exact, strict=True)):
            found = of_model(phis, window, encoder, x, states)
            models.writerow([kind, window, *tokens, n, *(f"{x:.5g}" for x in found)])
        print(*tokens, kind, window, flush=True)


def write_shared(folder, encoder, longest):
    """What every test text of 512 tokens shares with the fit, and the errors with and without."""
    fitted = {
        run for ids in tuning_inputs.of_any_length(folder, "fit") for x in ids for run in runs(x)
    }
    counts = [(len(r := runs(ids)), sum(run in fitted for run in r)) for ids in longest]
    read = [encoder.heads(ids) for ids in longest]
    every = range(len(longest))
    groups = {f"text {n}": [n] for n in every}
    groups |= {"all": [*every], "others": [n for n in every if not counts[n][1]]}
    populations = [layers(kind, encoder) for kind in KINDS[-2:]]
    with table("working-shared", ["text", "runs", "shared", *KINDS[-2:]]) as writer:
        for name, members in groups.items():
            errors = [
                np.median(
                    [
                        of_layer(phi, BESIDE, [tuple(x[n] for x in read[t]) for t in members])[0]
                        for n, phi in enumerate(phis)
                    ]
                )
                for phis in populations
            ]
            total = np.sum([counts[t] for t in members], axis=0)
            writer.writerow([name, *total, *(f"{x:.4g}" for x in errors)])


def main():
    folder = Path(sys.argv[1])
    encoder = tuning_inputs.load("language")
    pairs = [(kind, w) for kind in KINDS for w in WINDOWS if w or kind != "0"]
    pairs = [(kind, w) for kind, w in pairs if w == BESIDE or "beside" not in kind]
    with table("working-heads", HEADS) as heads, table("working-whole", WHOLE) as models:
        tests = tuning_inputs.tests(folder, "language", encoder)
        write(heads, models, pairs, encoder, tests)
    with np.load(folder / "inputs.npz") as file:
        longest = file["test_longest"]
    with (
        table("working-lengths", [*HEADS[:2], "tokens", *HEADS[2:]]) as heads,
        table("working-lengths-whole", [*WHOLE[:2], "tokens", *WHOLE[2:]]) as models,
    ):
        for tokens in tuning_inputs.LENGTHS:
            tests = [tuning_inputs.pieces(ids, tokens)[0] for ids in longest]
            few = [("64", 0), ("256", 0), *((kind, BESIDE) for kind in KINDS)]
            write(heads, models, few, encoder, tests, tokens)
    write_shared(folder, encoder, longest)


if __name__ == "__main__":
    main()
