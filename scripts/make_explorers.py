"""Sweeps behind the explorers: python scripts/make_explorers.py [NAME ...], about ten minutes in all.

Executes a chapter's own cells up to the functions that its figures use, then calls them for every
choice. A test compares the default choice with the chapter's committed figure.
"""

import os
import sys
import tempfile

import numpy as np
from tqdm import tqdm

from companion.chapters import Chapter, find
from companion.paths import BOOK, DATA
from tripartite import attention, features, network


def functions_of(chapter: Chapter, last: str) -> dict:
    """What a chapter has defined after the cell of this id, at its default parameters."""
    os.environ |= {"TRIPARTITE_QUIET": "1", "TRIPARTITE_FIGURES": tempfile.mkdtemp()}
    os.chdir(BOOK)
    names = {}
    for cell in chapter.code_cells():
        exec(compile(cell.source, chapter.slug, "exec"), names)
        if cell.id == last:
            return names
    raise LookupError(f"{chapter.slug}: has no cell {last}")


def normaliser() -> dict:
    """Response over normaliser, token by token, for every head and number of neurons."""
    c = functions_of(find("04"), "65c6c8be")
    sizes = [100, 300, 1_000, 3_000, 10_000, 30_000, 100_000]
    shape = (c["n_layers"], c["n_heads"], len(sizes), c["n_tokens"])
    ratio = np.zeros(shape)
    for layer, head in tqdm(list(np.ndindex(shape[:2]))):
        for k, m in enumerate(sizes):
            ratio[layer, head, k] = c["response"](m, c["seed"], layer, head)
    tiny = np.finfo(np.float32).tiny
    return {
        "n_small": np.array(sizes),
        "log10_Z": (c["log_z"] / np.log(10)).astype(np.float32),
        "log10_ratio": np.log10(np.maximum(ratio, tiny)).astype(np.float16),
        "error": np.median(np.abs(ratio - 1), axis=-1).astype(np.float32),
    }


def tuning() -> dict:
    """Errors of response and output, for every head, tuning curve and number of neurons."""
    c = functions_of(find("04"), "65c6c8be")
    sizes = [30, 100, 300, 1_000, 3_000, 10_000]
    kinds = list(features.TUNINGS)
    shape = (c["n_layers"], c["n_heads"], len(kinds), len(sizes))
    of_p, of_output = np.zeros(shape), np.zeros(shape)
    for layer, head in tqdm(list(np.ndindex(shape[:2]))):
        q, k, v = (c[name][layer, head] for name in "QKV")
        exact = attention.softmax_attention(q, k, v)
        Z = np.exp(c["log_z"][layer, head])
        for at in np.ndindex(shape[2:]):
            phi = features.sample(kinds[at[0]], sizes[at[1]], q.shape[1], c["seed"])
            reading = network.attend(phi, q, k, v)
            of_p[layer, head][at] = np.median(np.abs(reading.response / Z - 1))
            of_output[layer, head][at] = np.linalg.norm(reading.output - exact)
            of_output[layer, head][at] /= np.linalg.norm(exact)
    return {
        "kind": np.array(kinds),
        "n_atlas": np.array(sizes),
        "of_response": of_p.astype(np.float32),
        "of_output": of_output.astype(np.float32),
    }


def calcium() -> dict:
    """Calcium and IP3 of both published cells from an empty state, for constant stimuli."""
    c = functions_of(find("06"), "549550bc")
    sets = ["stimberg2019-ex2", "stimberg2019-ex4"]
    stimuli = [
        0,
        0.02,
        0.05,
        0.1,
        0.15,
        0.2,
        0.25,
        0.3,
        0.4,
        0.5,
        0.6,
        0.65,
        0.7,
        0.8,
        1,
        1.5,
        2,
        3,
    ]
    stimuli += [4, 4.5, 5, 6, 8, 10, 12, 14, 15, 16, 18, 20, 25, 30]
    times = np.linspace(0, 300, 6001)
    shown, late = slice(0, 2001, 5), times > 200
    C = np.zeros((2, len(stimuli), 401))
    IP3, bounds = C.copy(), np.zeros((2, len(stimuli), 3))
    for (i, j), _ in tqdm(list(np.ndenumerate(bounds[..., 0]))):
        run = c["astrocyte"].trace(
            c["astrocyte"].ASTROCYTES[sets[i]], times, c["empty"], Y=stimuli[j]
        )
        C[i, j], IP3[i, j] = run.C[shown], run.I[shown]
        at, _ = c["peaks"](times[late], run.C[late])
        low, high = run.C[late].min(), run.C[late].max()
        period = np.diff(at).mean() if high - low > 1e-3 and len(at) > 2 else np.nan
        bounds[i, j] = low, high, period
    names = ("low", "high", "period")
    return {
        "set": np.array(sets),
        "stimulus": np.array(stimuli, dtype=float),
        "time": times[shown],
        "C": C.astype(np.float32),
        "IP3": IP3.astype(np.float32),
    } | {name: bounds[..., k].astype(np.float32) for k, name in enumerate(names)}


def time() -> dict:
    """Gain and output around the turn from writing to reading, for gains and neurons of any speed."""
    c = functions_of(find("09"), "3d0f4772")
    gains = [0.005, 0.02, 0.05, 0.12, 0.3, 0.6, 1.2, 3.0, 10.0]
    neurons = [0.005, 0.02, 0.05, 0.1]
    n, T, per_token = c["n_tokens"], c["presentation"], 40
    static = c["network"].attend(c["random_phi"], c["q"], c["k"], c["v"])
    level = static.response * np.exp(-2 * c["unit"])
    unit = int(np.argmax(np.std(static.output[:6], axis=0)))
    shown = np.arange(1, 8 * per_token + 1) * T / per_token + (n - 2) * T
    P, l = (np.zeros((len(gains), len(neurons), shown.size)) for _ in range(2))
    error = np.zeros((len(gains), len(neurons), 2))
    for i, j in tqdm(list(np.ndindex(P.shape[:2]))):
        times = c["Times"](T, neurons[j], neurons[j], gains[i])
        state = c["dynamics"].rest(c["both"])
        steps = c["dynamics"].steps_needed(state, c["both"], times)
        run = list(c["dynamics"].trajectory(state, c["both"], times, steps))
        seconds = (np.arange(len(run)) + 1) * T / steps
        P[i, j] = np.interp(shown, seconds, [s.gain[1] for s in run])
        l[i, j] = np.interp(shown, seconds, [s.output[1, unit] for s in run])
        ends = np.array([s.output for s in run[steps - 1 :: steps]])[n:]
        error[i, j] = [c["error"](ends[:, k], c["softmax"]) for k in range(2)]
    return {
        "tau_gain": np.array(gains),
        "tau_neuron": np.array(neurons),
        "seconds": shown,
        "P": P.astype(np.float32),
        "l": l.astype(np.float32),
        "P_static": 1 / level[:6],
        "l_static": static.output[:6, unit],
        "error_exact": error[..., 0].astype(np.float32),
        "error_random": error[..., 1].astype(np.float32),
    }


def lesions() -> dict:
    """Turn and length of the output with silenced processes, for heads of layer 0 and deaf gains."""
    c = functions_of(find("12"), "a2e4ebf7")
    gains, fractions = [0.0, 0.5, 1.0, 2.0, 3.0, 5.0, 10.0, 20.0], c["fractions"]
    shape = (12, len(gains), len(fractions))
    turn, length, theory = np.zeros(shape), np.zeros(shape), np.zeros(shape)
    length_numb = np.full((12, len(fractions)), np.nan)
    for head in tqdm(range(12)):
        circuits = [c["healthy"].__wrapped__(head, c["n_neurons"], s) for s in c["seeds"]]

        def injured(injury, i):
            both = [
                c["compare"](injury(x, fractions[i], np.random.default_rng([s, i])), x.exact)
                for s, x in zip(c["seeds"], circuits)
            ]
            return np.moveaxis(np.array(both), 1, 0)  # length and turn, (seeds, tokens)

        for i in range(len(fractions)):
            if fractions[i] < 1:
                length_numb[head, i] = injured(c["numb"], i)[0].mean()
            for k, c["deaf_gain"] in enumerate(gains):
                l, t = injured(c["deaf"], i)
                length[head, k, i], turn[head, k, i] = l.mean(), c["rms"](t, axis=-1).mean()
                expected = [c["deaf_theory"](x, fractions[i]) for x in circuits]
                theory[head, k, i] = c["rms"](expected)
    return {
        "head": np.arange(12),
        "deaf_gain": np.array(gains),
        "fraction": fractions,
        "turn": turn.astype(np.float32),
        "theory": theory.astype(np.float32),
        "length": length.astype(np.float32),
        "length_numb": length_numb.astype(np.float32),
    }


SWEEPS = {f.__name__: f for f in (normaliser, tuning, calcium, time, lesions)}

if __name__ == "__main__":
    for name in sys.argv[1:] or SWEEPS:
        np.savez_compressed(DATA / f"results/explorer-{name}.npz", **SWEEPS[name]())
