"""Each test window of text by itself, and what it shares with the fit set: results/tuning-windows.csv.

Run as `python scripts/make_tuning_windows.py FOLDER` after make_tuning_inputs.py; a minute. shared: how
many of its runs of eight tokens also stand in a window of the fit set. Errors are those of the
median head: output (relative L2) and response (median over tokens) of the curves that come with the
book, and the output of uniform attention. Window `pooled` is all eight, `others` all but the window
that shares words, not only a ruled line, with the fit set.
"""

import sys
from pathlib import Path

import numpy as np

import tuning_inputs
from common import DATA, table
from make_tuning import errors
from tripartite.beyond import tuning

NAMES = (
    "entangled-bank", "constitution 1", "devil's dictionary 1", "dhammapada",
    "devil's dictionary 2", "constitution 2", "attention", "gettysburg",
)  # fmt: skip
RUN = 8  # tokens
HEADER = [
    "window",
    "tokens",
    "runs",
    "shared",
    "output 64",
    "response 64",
    "output 256",
    "response 256",
    "uniform",
]


def runs(ids):
    """All runs of eight tokens between the two marks at the ends."""
    inner = [int(i) for i in ids[1:-1]]
    return [tuple(inner[i : i + RUN]) for i in range(len(inner) - RUN + 1)]


def of_median_head(populations, windows):
    """Output and response error of the median head over some windows."""
    pairs = [
        errors(phi, [tuple(x[layer] for x in window) for window in windows])
        for layer, phi in enumerate(populations)
    ]
    response, output = (np.concatenate(x) for x in zip(*pairs, strict=True))
    return np.median(output), np.median(response)


def main():
    folder = Path(sys.argv[1])
    encoder = tuning_inputs.load("language")
    tests = tuning_inputs.tests(folder, "language", encoder)
    fitted = {
        run for ids in tuning_inputs.inputs(folder, "language", encoder, "fit") for run in runs(ids)
    }
    shared = [sum(run in fitted for run in runs(ids)) for ids in tests]
    windows = [encoder.heads(ids) for ids in tests]
    layers = range(encoder.n_layers)
    curves = []
    for m in (64, 256):
        whole = tuning.load(DATA / f"tuning/language-{m}.safetensors")
        curves.append([whole.of_head(n) for n in layers])
    curves.append([tuning.alike(12, 32) for _ in layers])
    groups = {name: [n] for n, name in enumerate(NAMES)}
    groups["pooled"] = list(range(len(NAMES)))
    groups["others"] = [n for n in groups["pooled"] if NAMES[n] != "devil's dictionary 1"]
    with table("tuning-windows", HEADER) as writer:
        for name, members in groups.items():
            found = [of_median_head(c, [windows[n] for n in members]) for c in curves]
            numbers = [*found[0], *found[1], found[2][0]]
            counts = [sum(f(tests[n], n) for n in members) for f in (
                lambda ids, n: len(ids), lambda ids, n: len(runs(ids)), lambda ids, n: shared[n]
            )]  # fmt: skip
            writer.writerow([name, *counts, *(f"{x:.4g}" for x in numbers)])


if __name__ == "__main__":
    main()
