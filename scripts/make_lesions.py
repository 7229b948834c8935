"""The language model with one part of all its astrocytes out of order: results/lesions.csv.

Run as `python scripts/make_lesions.py`; takes two minutes on one core. Two kinds of circuits:
in the limit of many neurons, where every lesion has a closed form, and with 1,000 hidden neurons a
head, where single processes can fail. Every number is against the intact model of the same kind.
"""

from functools import partial

import numpy as np

from common import asked_and_answered, table, text
from companion.fetch import model_directory
from tripartite import attention, network, pretrained
from tripartite import whole as whole_models

N_NEURONS, SEEDS, SHARE, DEAF_GAIN, TERRITORIES = 1_000, range(5), 0.3, 3.0, 16


def limit(kind, old, level):
    """Attention of one layer in the limit of many neurons; old: (k, v) of a text read before."""

    def attend(q, k, v):
        y, log_z = attention.softmax_attention(q, k, v), attention.log_normaliser(q, k)
        if kind in ("both frozen", "Hebbian frozen", "presynaptic frozen"):
            log_z_old = attention.log_normaliser(q, old[0])
        if kind == "silent":  # the gain that the earlier text needed, in the mean
            return y * np.exp(log_z - level)[..., None]
        if kind == "slow":  # the gain that this text needs, in the mean
            return y * np.exp(log_z - log_z.mean(axis=-1, keepdims=True))[..., None]
        if kind == "presynaptic frozen":
            return y * np.exp(log_z - log_z_old)[..., None]
        if kind == "Hebbian frozen":
            y_old = attention.softmax_attention(q, *old)
            return y_old * np.exp(log_z_old - log_z)[..., None]
        if kind == "both frozen":
            return attention.softmax_attention(q, *old)
        if kind == "numb":  # every process of the share is missed alike
            return y / (1 - SHARE)
        if kind == "deaf":
            stuck = DEAF_GAIN * np.exp(log_z - np.median(log_z, axis=-1, keepdims=True))
            return y * (1 + SHARE * (stuck - 1))[..., None]
        if kind == "blind":
            return np.broadcast_to(v.mean(axis=-2, keepdims=True), v.shape)
        return y

    return attend


def finite(kind, phi, lost):
    """Attention of one layer by circuits; lost: (heads, e, m), True at processes that fail."""

    def attend(q, k, v):
        q, k, v = (x.astype(np.float32) for x in (q, k, v))
        if kind == "uncoupled":
            size = phi.size // TERRITORIES
            parts = [phi.block(a, a + size) for a in range(0, TERRITORIES * size, size)]
            return np.mean([network.attend(part, q, k, v).output for part in parts], axis=0)
        memory = network.write(network.blank(phi, v), k, v)
        whole = network.read(memory, q)
        if kind == "numb":
            heard = np.where(lost[:, 0], 0, memory.astrocytic)
            return network.read(memory._replace(astrocytic=heard), q).output
        if kind == "deaf":
            works = network.read(memory._replace(hebbian=np.where(lost, 0, memory.hebbian)), q)
            stuck = np.log(DEAF_GAIN) + np.median(-whole.log_response, axis=-1, keepdims=True)
            stuck = np.exp(stuck + whole.log_scale)[..., None]
            return works.output + (whole.drive - works.drive) * stuck
        return whole.output

    return attend


def main():
    model = pretrained.load(model_directory("all-MiniLM-L6-v2"), np.float32)
    read = partial(model.tokenize, max_tokens=model.n_positions)
    whole = [read(text(name)).ids for name in ("attention", "gettysburg")]
    asked, answers = ([read(one).ids for one in column] for column in asked_and_answered())
    q_old, k_old, v_old = model.heads(read(text("entangled-bank")).ids)
    levels = attention.log_normaliser(q_old, k_old).mean(axis=-1, keepdims=True)

    def embed(ids, attentions):
        return model.sentence_embedding(ids, attentions)

    def measure(attentions, intact):
        """Cosine of the texts' embeddings to the intact ones; reciprocal rank of every answer."""
        cosines = [embed(i, attentions) @ one for i, one in zip(whole, intact, strict=True)]
        q, a = (np.stack([embed(i, attentions) for i in ids]) for ids in (asked, answers))
        cosine = q @ a.T
        rank = 1 + np.sum(cosine > np.diag(cosine)[:, None], axis=1)
        return cosines, 1 / rank

    rows = []

    def record(circuits, kind, seed, attentions, intact):
        cosines, ranks = measure(attentions, intact)
        rows.append([circuits, kind, seed, *(f"{x:.6f}" for x in (*cosines, *ranks))])
        print(
            circuits, kind, seed, np.round(cosines, 3), round(float(np.mean(ranks)), 3), flush=True
        )

    exact = [attention.softmax_attention] * model.n_layers
    intact = [embed(i, exact) for i in whole]
    kinds = (
        "intact, silent, slow, presynaptic frozen, Hebbian frozen, both frozen, numb, deaf, blind"
    )
    for kind in kinds.split(", "):
        attentions = [
            limit(kind, (k, v), level) for k, v, level in zip(k_old, v_old, levels, strict=True)
        ]
        record("limit", kind, 0, attentions, intact)
    for seed in SEEDS:
        phis = whole_models.populations(model, N_NEURONS, seed)
        rng = np.random.default_rng(seed)
        lost = [rng.random((model.n_heads, model.d_key, N_NEURONS)) < SHARE for _ in phis]
        healthy = [finite("intact", phi, x) for phi, x in zip(phis, lost, strict=True)]
        intact = [embed(i, healthy) for i in whole]
        for kind in ("intact", "deaf", "numb", "uncoupled"):
            attentions = [finite(kind, phi, x) for phi, x in zip(phis, lost, strict=True)]
            record("1000 neurons", kind, seed, attentions, intact)
    ranks = [f"rank_{n}" for n in range(len(asked))]
    header = ["circuits", "lesion", "seed", "cosine_james", "cosine_lincoln", *ranks]
    with table("lesions", header) as writer:
        writer.writerows(rows)


if __name__ == "__main__":
    main()
