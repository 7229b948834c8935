"""Tests of the interaction in worlds with and without a normaliser: results/interactions.csv.

Run as `python scripts/make_interactions.py`; takes about five minutes on one core. Experiments of
eight sessions in the driven cell for every head of the first layer, with chapter 17's texts and
defaults. A row: the number of experiments, and of those in which the interaction, and the
interaction beside gains, reject at 5%.
"""

import numpy as np

from common import table, text
from companion.chapters import find
from companion.fetch import model_directory
from tripartite import astrocyte, pretrained
from tripartite.beyond import imaging, session

N_EXPERIMENTS = 40
KEPT = (
    "a gain on a feature", "a feature and a gain on another", "effects of the theory multiplied",
    "the theory",
)  # fmt: skip
N_ASKED = 40
LAG = 4  # two seconds


def main() -> None:
    given = {name: p.default for name, p in find("17").parameters().items()}
    model = pretrained.load(model_directory("all-MiniLM-L6-v2"))
    heads = [
        model.heads(model.tokenize(text(name), max_tokens=model.n_positions).ids)
        for name in ("attention", "gettysburg", "entangled-bank")
    ]
    asked = np.random.default_rng(0).choice(heads[0][0].shape[2], N_ASKED, replace=False)
    queries = heads[0][0][0][:, np.sort(asked)]
    responses = session.responses(queries, [keys[0] for _, keys, _ in heads])
    rate_codes = session.relative(np.sum(queries**2, axis=-1) / 2)
    setup = session.Setup(
        imaging.INDICATORS[given["indicator"]], given["rate"], imaging.flux_of(given["level"]),
        given["read_noise"], given["background"], given["spontaneous"], given["tau_background"],
    )  # fmt: skip
    driven = session.follower(astrocyte.ASTROCYTES["stimberg2019-ex2"], 1.5)
    n = len(heads) * N_ASKED
    shown, k = session.slots(n, given["presentation"], setup.rate)
    seen = session.through(np.eye(n)[shown], driven, setup, k)
    spectrum = session.noise_spectrum(len(seen), driven, setup, k)
    with table(
        "interactions", ["head", "world", "experiments", "interaction", "beside_gains"]
    ) as w:
        for head, (response, rate_code) in enumerate(zip(responses, rate_codes, strict=True)):
            rng, hits = np.random.default_rng(head), np.zeros((len(KEPT), 2), int)
            for _ in range(N_EXPERIMENTS):
                worlds = session.worlds(response, rate_code, rng)
                for row, world in enumerate(KEPT):
                    y, cells = session.simulate(seen, spectrum, worlds[world], rng)
                    p = session.interaction_tests(y, cells, response, rate_code, rng, LAG)
                    hits[row] += np.array(p) <= 0.05
            for world, counts in zip(KEPT, hits, strict=True):
                w.writerow([head, world, N_EXPERIMENTS, *counts])


if __name__ == "__main__":
    main()
