"""Tests of the interaction in worlds with and without a normaliser: results/interactions.csv.

Run as `python scripts/make_interactions.py`; takes about five minutes on one core. Executes chapter 17
up to its own functions, and runs experiments of eight sessions in the driven cell for every head of
the first layer. A row: the number of experiments, and of those in which the interaction, and the
interaction beside gains, reject at 5%.
"""

import numpy as np

from common import table
from companion.chapters import find
from make_explorers import functions_of

N_EXPERIMENTS = 40
LEFT_OUT = {"the rate code", "an unknown feature", "what was written"}  # no gain in these


def main() -> None:
    c = functions_of(find("17"), "209f4db6")
    kept = [world for world in c["names"] if world not in LEFT_OUT]
    every = c["worlds"]
    # the chapter's tests, in the worlds that are kept
    c["worlds"] = lambda h, rng: {w: x for w, x in every(h, rng).items() if w in kept}
    c["given_rate_code"] = lambda *_: np.nan
    header = ["head", "world", "experiments", "interaction", "beside_gains"]
    with table("interactions", header) as writer:
        for head in range(len(c["responses"])):
            rng = np.random.default_rng(head)
            p = [c["three_text_tests"]("driven", head, rng) for _ in range(N_EXPERIMENTS)]
            hits = np.sum(np.array(p)[..., 1:] <= 0.05, axis=0)
            for world, counts in zip(kept, hits, strict=True):
                writer.writerow([head, world, N_EXPERIMENTS, *counts])


if __name__ == "__main__":
    main()
