"""Attention with a living astrocyte, swept: results/living-*.csv.

Run as `python scripts/make_living.py NAME`; each takes minutes on one core. NAME: tokens (duration of a
token and number of independent astrocytes), territories (terminals of each), tuned (driven by
the response of tuned neurons, up to vesicles at the output), pipette (the flow of IP3 into it),
clocks (speeds of astrocyte and receptors, limit of many terminals), steady (a constant drive),
space (part of an astrocyte of many compartments is stimulated), noradrenaline (basal production
of IP3), switch (the production steps up and back at a constant drive), contacts (what other texts
would write to g; needs MiniLM).
A run that was stopped goes on where it was.
"""

import sys
from dataclasses import replace

import numpy as np

from common import appended, table, text
from companion import data
from companion.fetch import model_directory
from tripartite import astrocyte, attention, circuit, pretrained, synapse
from tripartite.astrocyte import ASTROCYTES, GLIOTRANSMISSION
from tripartite.beyond import living, tuning
from tripartite.synapse import SYNAPSES

SET = "stimberg2019-ex4"
TERMINAL, CELL, VESICLES = SYNAPSES[SET], ASTROCYTES[SET], GLIOTRANSMISSION[SET]
UNIT = TERMINAL.rho_c * TERMINAL.Y_T / TERMINAL.Omega_c * TERMINAL.U_0  # uM for each 1/s
DRIVE = 15.5  # uM, of the median token
DT = 0.025
Q, K, V = (
    x[0, 0] for x in pretrained.load_recording(data("recordings/minilm-attention.safetensors"))[:3]
)
Y = attention.softmax_attention(Q, K, V)
Z = np.exp(attention.log_normaliser(Q, K))
Z = Z / np.median(Z)


def wired(cells: int, each: int, cell=CELL, terminal=TERMINAL, silent: bool = False):
    """Territories of that many terminals, one astrocyte each; silent: none of them talks."""
    pairs = circuit.territories(cells * each, cells)
    return circuit.Circuit(
        terminal, cell, VESICLES, cells * each, cells, listens=pairs,
        talks=circuit.NONE if silent else pairs, pooling="mean",
    )  # fmt: skip


def errors(gain) -> tuple:
    """Error of the output with a gain (tokens,), of another token's gain, and the exponent."""
    other = np.random.default_rng(0).permutation(len(gain))
    power = np.polyfit(np.log(Z), -np.log(gain), 1)[0]
    return tuple(
        f"{x:.6g}"
        for x in (
            living.scaled_error((Z * gain)[:, None] * Y, Y),
            living.scaled_error((Z * gain[other])[:, None] * Y, Y),
            power,
        )
    )


def by_z(cells: int, each: int, T: float, seed: int, drive: float = DRIVE, cell=CELL, dt=DT):
    """Gains (tokens, cells) where every terminal fires in proportion to the exact normaliser."""
    rates = np.repeat(drive / UNIT * Z[:, None], cells * each, axis=1)
    return living.read(wired(cells, each, cell), rates, T, seed, dt=dt).gain


def tokens() -> None:
    columns = ["T", "seed", "cells", "error", "shuffled", "exponent"]
    with appended("living-tokens", columns, 3) as (writer, done):
        for seed in range(3):
            for T in (0.5, 2, 10, 60):
                if (str(T), str(seed), "100") in done:
                    continue
                gain = by_z(100, 30, T, seed)
                for cells in (1, 3, 10, 30, 100):
                    writer.writerow([T, seed, cells, *errors(gain[:, :cells].mean(axis=1))])


def territories() -> None:
    columns = ["T", "seed", "terminals", "cells", "error", "shuffled", "exponent"]
    with appended("living-territories", columns, 4) as (writer, done):
        for T in (0.5, 10):
            for each in (10, 30, 100):
                for seed in range(2):
                    if (str(T), str(seed), str(each), "10") in done:
                        continue
                    # one spike of a few terminals fills the cleft: short steps
                    gain = by_z(10, each, T, seed, dt=min(DT, each / 1200))
                    for cells in (1, 10):
                        writer.writerow(
                            [T, seed, each, cells, *errors(gain[:, :cells].mean(axis=1))]
                        )


def pipette() -> None:
    columns = ["T", "F_ex", "drive", "seed", "error", "shuffled", "exponent", "gain"]
    plan = [(10, F_ex, s, 0) for F_ex in (2.0, 1.0, 0.5, 0.3, 0.0) for s in (1.0, 4.0, DRIVE)]
    chosen = [(2.0, DRIVE), (0.0, 1.0), (0.0, 4.0)]
    plan += [(T, *pair, seed) for T, seed in ((60, 0), (10, 1), (10, 2)) for pair in chosen]
    with appended("living-pipette", columns, 4) as (writer, done):
        for T, F_ex, drive, seed in plan:
            if (str(T), str(F_ex), str(drive), str(seed)) not in done:
                cell = replace(CELL, F_ex=F_ex)
                gain = by_z(10, 30, T, seed, drive, cell).mean(axis=1)
                writer.writerow([T, F_ex, drive, seed, *errors(gain), f"{gain.mean():.6g}"])


def clocks(T: float = 0.5) -> None:
    area = VESICLES.rho_e * VESICLES.G_T * VESICLES.U_A / VESICLES.Omega_e
    columns = ["speed", "unbinding", "pulse", "cells", "error", "shuffled", "exponent"]
    published = TERMINAL.O_G * area
    with appended("living-clocks", columns, 4) as (writer, done):
        for speed in (1, 3, 10, 30, 100):
            for unbinding, pulse in (
                (1 / 120, published), (1 / 120, 0.1), (1 / 3, published), (1 / 3, 0.5),
                (1 / 3, 0.1),
            ):  # fmt: skip
                key = (str(speed), f"{unbinding:.6g}", f"{pulse:.6g}")
                if (*key, "10") in done:
                    continue
                vesicles = living.faster(VESICLES, speed)
                # a pulse of the faster store is shorter by the speed: binding makes up for it
                terminal = replace(TERMINAL, O_G=pulse / area * speed, Omega_G=unbinding)
                gain = living.limit_gain(
                    DRIVE * Z, T, living.faster(CELL, speed), vesicles, terminal,
                    n_cells=10, dt=0.02 / speed, warm_up=max(60.0 / speed, 5.0),
                )  # fmt: skip
                for cells in (1, 10):
                    writer.writerow([*key, cells, *errors(gain[:, :cells].mean(axis=1))])


def steady() -> None:
    columns = ["F_ex", "drive", "cell", "gain"]
    drives = np.geomspace(1, 300, 20)
    with appended("living-steady", columns, 2) as (writer, done):
        cells = 10
        rates = np.repeat(drives[:, None] / UNIT, cells * 30, axis=1)
        if ("2.0", f"{drives[-1]:.6g}") not in done:
            gain = living.read(wired(cells, 30), rates, 600.0, 0, dt=0.02, window=0.9).gain
            for drive, row in zip(drives, gain, strict=True):
                for c, value in enumerate(row):
                    writer.writerow([CELL.F_ex, f"{drive:.6g}", c, f"{value:.6g}"])


def tuned(
    neurons: int = 64, cells: int = 10, each: int = 200, fastest: float = 50.0, dt: float = 0.02
) -> None:
    """Terminals of tuned neurons, in proportion to g; output neurons count vesicles."""
    phi = tuning.load(data(f"tuning/language-{neurons}.safetensors"), np.float64).of_head((0, 0))
    h_k, h_q = phi.keys(K).value, phi.queries(Q).value
    g = h_k.sum(axis=0)
    values = h_k.T @ V / g[:, None]  # what a neuron's contacts carry: H / g
    p = h_q @ g / g.sum()
    linear = (h_q * g) @ values
    with appended("living-tuned", ["T", "seed", "row", "error"], 2) as (writer, done):
        for T in (0.5, 2, 10):
            for seed in range(2):
                if (str(T), str(seed)) in done:
                    continue
                of = living.contacts(g, cells * each, seed)
                rates = np.minimum(DRIVE / UNIT / np.median(p) * h_q[:, of], fastest)
                loud, quiet = (
                    living.read(wired(cells, each, silent=silent), rates, T, seed, dt=dt)
                    for silent in (False, True)
                )
                sums = (rates[:, :, None] * values[of]).reshape(len(Q), cells, each, -1).sum(2)
                steady = synapse.stationary(np.maximum(rates, 1e-9), TERMINAL).released
                rows = {
                    "neurons, exact division": linear / p[:, None],
                    "neurons, no division": linear,
                    "terminals, exact division": sums.sum(axis=1) / rates.sum(axis=1)[:, None],
                    "terminals, no division": sums.sum(axis=1),
                    "terminals with depression": (rates * steady) @ values[of],
                    "terminals, living astrocytes": np.einsum("tce,tc->te", sums, loud.gain),
                    "vesicles, silent astrocytes": quiet.released @ values[of],
                    "vesicles, living astrocytes": loud.released @ values[of],
                }
                for row, output in rows.items():
                    writer.writerow([T, seed, row, f"{living.scaled_error(output, Y):.6g}"])


def space(n: int = 63, duration: float = 60.0, dt: float = 0.018, stimulus: float = 15.0) -> None:
    """Part of a tree of compartments is stimulated: how much of it releases within a minute?"""
    shares = (0.0, 0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.4, 0.5, 0.7, 1.0)
    cell = replace(CELL, F_ex=0.5)
    rest = astrocyte.simulate(cell, astrocyte.at_rest(), 200.0, dt).states[-1]
    with appended("living-space", ["place", "F", "seed", "share", "released"], 3) as (writer, done):
        for place in ("scattered", "branch"):
            for flow in (0.1, 0.5, 2.0):
                for seed in range(4):
                    if (place, str(flow), str(seed)) in done:
                        continue
                    on = np.zeros((len(shares), n), dtype=bool)
                    order = np.random.default_rng(seed).permutation(n)
                    for row, share in zip(on, shares, strict=True):
                        size = round(share * n)
                        row[
                            order[:size] if place == "scattered" else living.branch(n, size, seed)
                        ] = 1
                    pairs = np.concatenate([living.tree(n) + n * k for k in range(len(shares))])
                    C = astrocyte.simulate(
                        replace(cell, F=flow), np.repeat(rest, on.size, axis=1), duration, dt,
                        Y=np.where(on.ravel(), stimulus, 0.0), pairs=pairs, record_every=10,
                    ).C  # fmt: skip
                    crossed = (C.max(axis=0) > VESICLES.C_Theta).reshape(on.shape).mean(axis=1)
                    for row, found in zip(on, crossed, strict=True):
                        writer.writerow([place, flow, seed, f"{row.mean():.6g}", f"{found:.6g}"])


def noradrenaline() -> None:
    """Basal production of IP3, over the published one, without the pipette and with it."""
    columns = ["F_ex", "production", "drive", "seed", "error", "shuffled", "exponent", "gain"]
    levels = (1.0, 1.5, 2.0, 2.7, 0.5, 0.25)
    plan = [(0.0, level, drive, 0) for level in levels for drive in (4.0, 1.0)]
    plan += [(2.0, level, DRIVE, 0) for level in (0.25, 1.0, 2.7)]
    plan += [(0.0, level, 4.0, 1) for level in levels]
    with appended("living-noradrenaline", columns, 4) as (writer, done):
        for F_ex, level, drive, seed in plan:
            if (str(F_ex), str(level), str(drive), str(seed)) not in done:
                cell = replace(CELL, F_ex=F_ex, O_delta=level * CELL.O_delta)
                gain = by_z(10, 30, 10, seed, drive, cell).mean(axis=1)
                row = [F_ex, level, drive, seed, *errors(gain), f"{gain.mean():.6g}"]
                writer.writerow(row)


def switch(before: float = 600.0, during: float = 600.0, after: float = 1200.0) -> None:
    """Gain of ten astrocytes without a pipette at 4 uM while production steps from 1 to level to 1.

    Time is from the step; gain is the mean over ten territories of 30 terminals and over 5 s.
    """
    columns = ["production", "seed", "time", "gain"]
    with appended("living-switch", columns, 2) as (writer, done):
        for level in (2.0, 2.7):
            for seed in range(2):
                if (str(level), str(seed)) in done:
                    continue
                rng, state, now = np.random.default_rng(seed), None, -before
                rows = []
                for production, held in ((1.0, before), (level, during), (1.0, after)):
                    cell = replace(CELL, F_ex=0.0, O_delta=production * CELL.O_delta)
                    parts = wired(10, 30, cell)
                    steps = round(held / DT)
                    times, who = living.token_spikes(np.full(300, 4.0 / UNIT), steps, DT, rng)
                    run = circuit.run(
                        parts, times, who, held, DT, start=state, hold="mean", record_every=20
                    )
                    state = run.final
                    P = 1 - run.terminals[:-1, 3, ::30].mean(axis=1)
                    P = P.reshape(-1, round(5 / (20 * DT))).mean(axis=1)
                    for n, value in enumerate(P):
                        rows.append([level, seed, f"{now + 5 * n + 2.5:g}", f"{value:.6g}"])
                    now += held
                writer.writerows(rows)


def contacts() -> None:
    """g per token of two other texts in the head of this chapter, for both sets of tuned neurons."""
    model = pretrained.load(model_directory("all-MiniLM-L6-v2"))
    with table("living-contacts", ["row", "neurons", "neuron", "g"]) as writer:
        for name in ("entangled-bank", "gettysburg"):
            keys = model.heads(model.tokenize(text(name)).ids)[1][0, 0]
            for neurons in (64, 256):
                path = data(f"tuning/language-{neurons}.safetensors")
                phi = tuning.load(path, np.float64).of_head((0, 0))
                for neuron, g in enumerate(phi.keys(keys).value.mean(axis=0)):
                    writer.writerow([name, neurons, neuron, f"{g:.6g}"])


if __name__ == "__main__":
    {
        f.__name__: f
        for f in (
            tokens,
            territories,
            tuned,
            pipette,
            clocks,
            steady,
            space,
            noradrenaline,
            switch,
            contacts,
        )
    }[sys.argv[1]]()
