"""Recall against load, and the published recall protocol at its size: results/memory-*.csv.

    python scripts/make_memory.py capacity    # an hour on one core
    python scripts/make_memory.py protocol    # ten minutes
    python scripts/make_memory.py rest        # five minutes

Rows are appended as they are done; a run that was cut off goes on where it stopped.
"""

import itertools
import sys

import numpy as np
from scipy.stats import norm

from common import appended
from tripartite.beyond import memory

FLIPPED = 0.1
STEPS = 10  # synchronous updates; whoever is not done by then is not recalled
SIZES = (32, 64, 128, 256, 512)
# memory sets, cues of each, and loads relative to a rough theory: how many, lowest, highest
PLANS = {
    32: (20, 50, 13, 0.3, 2.4),
    64: (16, 50, 13, 0.3, 2.4),
    128: (12, 50, 13, 0.3, 2.4),
    256: (5, 30, 6, 0.65, 1.3),
    512: (3, 12, 2, 0.8, 0.8 * 1.5**0.5),
}
FEW = {  # the same, where a network holds few memories, or very many
    **dict.fromkeys(itertools.product(("whole", "hopfield"), (256, 512)), (8, 50, 9, 0.7, 1.25)),
    **dict.fromkeys((("astrocyte", 256), ("astrocyte", 512)), (6, 24, 7, 0.88, 1.2)),
    ("whole-apart", 256): (8, 50, 7, 0.7, 1.4),
    ("whole-apart", 512): (4, 50, 4, 0.75, 0.75 * (5 / 3) ** 0.75),
}

# synapses and processes as well, on their stable branch; with synapses of a neuron with itself?
WHOLE = {"whole": True, "whole-apart": False}
LEAKS = memory.Times(leak_s=1.05, leak_p=1.05)


def guess(rule: str, n: int) -> float:
    """Load near which recall should fail, to place the loads that are tried."""
    if rule in WHOLE:
        return 0.4 * n if WHOLE[rule] else 0.03 * n**2
    z = norm.isf(np.log(2) / n)
    crosstalk = {"hopfield": n, "dense": n**3 / 15, "astrocyte": n**3 / 15}
    limit = crosstalk.get(rule, n**3 / 6) / z**2
    return min(limit, 0.2 * n**2) if rule == "astrocyte" else limit


def capacity() -> None:
    columns = [
        "rule",
        "n_neurons",
        "n_memories",
        "seed",
        "cues",
        "recalled",
        "overlap",
        "strangers",
    ]
    with appended("memory-capacity", columns, 4) as (writer, done):
        for n, rule in itertools.product(SIZES, (*WHOLE, *memory.RULES)):
            if (rule, n) == ("astrocyte-distinct", 512):
                continue  # two million memories: an hour and more on one core
            sets, cues, n_loads, low, high = FEW.get((rule, n), PLANS[n])
            loads = np.geomspace(low, high, n_loads) * guess(rule, n)
            for load in np.unique(np.maximum(1, np.rint(loads).astype(int))).tolist():
                for seed in range(sets):
                    if (rule, str(n), str(load), str(seed)) not in done:
                        writer.writerow([rule, n, load, seed, *measure(rule, n, load, seed, cues)])


def measure(rule: str, n: int, load: int, seed: int, cues: int) -> tuple:
    """Cues tried, recalled without an error, mean overlap; and unstored patterns that stay."""
    stored = memory.random_memories(load, n, seed)
    rng = np.random.default_rng([seed, n, load])
    targets = stored[: min(cues, load)]
    flips = np.argsort(rng.random(targets.shape), axis=1) < round(FLIPPED * n)
    strangers = memory.random_memories(len(targets), n, seed + 1_000_000)
    found = _recall(rule, stored, np.where(flips, -targets, targets), STEPS)
    stay = np.all(_recall(rule, stored, strangers, 1) == strangers, axis=1)
    exact = np.all(found == targets, axis=1)
    return len(targets), int(exact.sum()), f"{np.mean(found * targets):.6g}", int(stay.sum())


def _recall(rule: str, stored, cues, steps: int):
    if rule in WHOLE:
        return memory.recall_whole(stored, cues, LEAKS, steps=steps, selves=WHOLE[rule])
    return memory.recall(rule, stored, cues, steps)


def protocol() -> None:
    columns = ["variant", "seed", "cue", "overlap", "own_cue"]
    with appended("memory-protocol", columns, 2) as (writer, done):
        for seed in range(10):
            for variant in ("published", "without T", "without start", "T of others at start"):
                if (variant, str(seed)) not in done:
                    writer.writerow(
                        [variant, seed, *(f"{x:.6g}" for x in published(variant, seed))]
                    )


def published(variant: str, seed: int, n: int = 500, k: int = 10, steps: int = 1000) -> tuple:
    """Overlap with the memory of the cue and of the end state, and of the end state with the cue.

    The tutorial of the public repository kozleo/naam: beta 5, leaks 1, Euler steps of 0.05, 10 % of
    the bits flipped; T only at the start, only along the way, or of other memories at the start.
    """
    stored = memory.random_memories(k, n, seed)
    rng = np.random.default_rng([seed, n])
    target = stored[2]
    cue = np.where(rng.random(n) < 0.1, -target, target).astype(float)
    couplings = memory.Couplings(stored)
    other = memory.Couplings(memory.random_memories(k, n, seed + 1_000_000))
    layer = memory.saturating(5.0)
    layers, times = memory.Layers(layer, layer, layer), memory.Times()
    g, psi = memory.eliminated(cue, other if "others" in variant else couplings, layer)
    state = memory.State(cue, np.arctanh(g) / 5, np.arctanh(psi) / 5)
    if variant == "without start":
        state = memory.at_rest(cue)
    silent = _Silent(n)
    for _ in range(steps):
        T = silent if variant == "without T" else couplings
        speed = memory.rates(state, T, layers, times)
        state = memory.State(*(y + 0.05 * v for y, v in zip(state, speed, strict=True)))
    end = np.sign(state.x)
    return np.mean(cue * target), np.mean(end * target), np.mean(end * cue)


def rest() -> None:
    with appended("memory-rest", ["selves", "seed", "cue", "overlap"], 2) as (writer, done):
        for seed in range(20):
            for selves in (True, False):
                if (str(selves), str(seed)) not in done:
                    writer.writerow([selves, seed, *(f"{x:.6g}" for x in from_rest(selves, seed))])


def from_rest(selves: bool, seed: int, n: int = 48, k: int = 30) -> tuple:
    """Overlap with its memory of a cue and of where the whole network, integrated, takes it.

    Synapses and processes start at 0 and settle while the neurons are held at the cue; then all
    runs freely. The largest eigenvalue of T is at 0.9 of where the network turns unstable.
    """
    stored = memory.random_memories(k, n, seed)
    rng = np.random.default_rng([seed, n, k])
    wrong = np.argsort(rng.random(n)) < round(FLIPPED * n)
    cue = np.where(wrong, -stored[0], stored[0]).astype(float)
    critical = LEAKS.leak_p - 1 / LEAKS.leak_s
    scale = 0.9 * critical / memory.largest_eigenvalue(stored, selves) / n**2
    couplings = memory.Couplings(stored, scale, selves=selves)
    layers = memory.Layers(memory.saturating(4.0), memory.LINEAR, memory.LINEAR)
    times = memory.Times(n, 0.3, 3.0, leak_n=n, leak_s=LEAKS.leak_s, leak_p=LEAKS.leak_p)
    state = memory.at_rest(cue)
    for held, duration in ((True, 800), (False, 400)):
        along = memory.simulate(
            state, couplings, layers, times, [0, duration], held=held, rtol=1e-5
        )
        state = memory.State(*(y[-1] for y in along))
    return np.mean(cue * stored[0]), np.mean(np.sign(state.x) * stored[0])


class _Silent:
    def __init__(self, n: int) -> None:
        self.size = n

    def spread(self, psi):
        return np.zeros_like(psi)


if __name__ == "__main__":
    {"capacity": capacity, "protocol": protocol, "rest": rest}[sys.argv[1]]()
