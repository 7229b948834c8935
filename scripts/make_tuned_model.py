"""Curves of all layers in one file: tuning/MODEL-NEURONS.safetensors, float16.

Run as `python scripts/make_tuned_model.py FOLDER MODEL NEURONS [whole|windowN]` after make_fitted.py or,
with `whole`, make_fitted_whole.py. With windowN, those fitted beside N - 1 exact tokens on either side:
tuning/MODEL-NEURONS-windowN.safetensors.
"""

import sys
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file, save_file

DATA = Path(__file__).parents[1] / "data"


def main():
    folder, model, neurons, *kind = sys.argv[1:]
    suffix = "".join(f"-{name}" for name in kind)
    name = f"fitted/{model}-{neurons}-{{}}{suffix}.safetensors"
    layers = [
        load_file(Path(folder) / name.format(n)) for n in range(6 if model == "language" else 12)
    ]
    joined = {
        key: np.ascontiguousarray(np.stack([x[key] for x in layers]).astype(np.float16))
        for key in layers[0]
    }
    of = "" if kind == ["whole"] else suffix
    save_file(joined, DATA / f"tuning/{model}-{neurons}{of}.safetensors")


if __name__ == "__main__":
    main()
