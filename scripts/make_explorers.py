"""Sweeps behind the explorers: python scripts/make_explorers.py [NAME ...], about ten minutes in all.

Each computes a figure of a chapter for every choice, at the chapter's defaults otherwise. A test
compares the default choice with the chapter's committed figure.
"""

import sys

import numpy as np
from tqdm import tqdm

from common import DATA, text
from companion.fetch import model_directory
from tripartite import astrocyte, attention, dynamics, features, network, pretrained
from tripartite.beyond import robustness

SEED = 0


def rms(x, axis=None):
    return np.sqrt(np.mean(np.square(x), axis=axis))


def heads():
    """Queries, keys and values of all heads of the language model, for chapter 4's text."""
    model = pretrained.load(model_directory("all-MiniLM-L6-v2"))
    return model.heads(model.tokenize(text("attention"), max_tokens=model.n_positions).ids)


def normaliser() -> dict:
    """Response over normaliser, token by token, for every head and number of neurons."""
    Q, K, V = heads()
    log_z = attention.log_normaliser(Q, K)
    single = [x.astype(np.float32) for x in (Q, K, V)]
    sizes = [100, 300, 1_000, 3_000, 10_000, 30_000, 100_000]
    ratio = np.zeros((*Q.shape[:2], len(sizes), Q.shape[2]))
    for layer, head in tqdm(list(np.ndindex(Q.shape[:2]))):
        q, k, v = (x[layer, head] for x in single)
        for n, m in enumerate(sizes):
            phi = features.sample("positive", m, q.shape[1], SEED, like=q)
            reading = network.attend(phi, q, k, v)
            ratio[layer, head, n] = np.exp(reading.log_response - log_z[layer, head])
    tiny = np.finfo(np.float32).tiny
    return {
        "n_small": np.array(sizes),
        "log10_Z": (log_z / np.log(10)).astype(np.float32),
        "log10_ratio": np.log10(np.maximum(ratio, tiny)).astype(np.float16),
        "error": np.median(np.abs(ratio - 1), axis=-1).astype(np.float32),
    }


def tuning() -> dict:
    """Errors of response and output, for every head, tuning curve and number of neurons."""
    Q, K, V = heads()
    sizes = [30, 100, 300, 1_000, 3_000, 10_000]
    kinds = list(features.TUNINGS)
    shape = (*Q.shape[:2], len(kinds), len(sizes))
    of_p, of_output = np.zeros(shape), np.zeros(shape)
    for layer, head in tqdm(list(np.ndindex(shape[:2]))):
        q, k, v = (x[layer, head] for x in (Q, K, V))
        exact = attention.softmax_attention(q, k, v)
        Z = np.exp(attention.log_normaliser(q, k))
        for at in np.ndindex(shape[2:]):
            phi = features.sample(kinds[at[0]], sizes[at[1]], q.shape[1], SEED)
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
    empty = astrocyte.at_rest()[:, 0]  # no receptor bound, no IP3, no calcium
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
        run = astrocyte.trace(astrocyte.ASTROCYTES[sets[i]], times, empty, Y=stimuli[j])
        C[i, j], IP3[i, j] = run.C[shown], run.I[shown]
        at, _ = astrocyte.peaks(times[late], run.C[late])
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
    n, T, per_token = 16, 0.5, 40
    recording = pretrained.load_recording(DATA / "recordings/minilm-attention.safetensors")
    q, k, v = (x[0, 0][:n] for x in recording[:3])
    softmax = attention.softmax_attention(q, k, v)
    unit = 0.5 * np.median(attention.log_normaliser(q, k))  # of hidden activity
    random_phi = features.sample("positive", 100_000, q.shape[1], SEED)
    exact, random = (
        dynamics.rotated(dynamics.stream(phi, q, k, v, log_scale=unit))
        for phi in (features.finite_set(np.concatenate([q, k])), random_phi)
    )
    both = exact._replace(
        hidden=np.stack([exact.hidden, random.hidden]),
        output=np.stack([exact.output, random.output]),
    )
    gains = [0.005, 0.02, 0.05, 0.12, 0.3, 0.6, 1.2, 3.0, 10.0]
    neurons = [0.005, 0.02, 0.05, 0.1]
    static = network.attend(random_phi, q, k, v)
    level = static.response * np.exp(-2 * unit)
    shown_output = int(np.argmax(np.std(static.output[:6], axis=0)))
    shown = np.arange(1, 8 * per_token + 1) * T / per_token + (n - 2) * T
    P, l = (np.zeros((len(gains), len(neurons), shown.size)) for _ in range(2))
    error = np.zeros((len(gains), len(neurons), 2))
    for i, j in tqdm(list(np.ndindex(P.shape[:2]))):
        times = dynamics.Times(T, neurons[j], neurons[j], gains[i])
        state = dynamics.rest(both)
        steps = dynamics.steps_needed(state, both, times)
        run = list(dynamics.trajectory(state, both, times, steps))
        seconds = (np.arange(len(run)) + 1) * T / steps
        P[i, j] = np.interp(shown, seconds, [s.gain[1] for s in run])
        l[i, j] = np.interp(shown, seconds, [s.output[1, shown_output] for s in run])
        ends = np.array([s.output for s in run[steps - 1 :: steps]])[n:]
        apart = np.linalg.norm(ends - softmax[:, None], axis=(0, 2))
        error[i, j] = apart / np.linalg.norm(softmax)
    return {
        "tau_gain": np.array(gains),
        "tau_neuron": np.array(neurons),
        "seconds": shown,
        "P": P.astype(np.float32),
        "l": l.astype(np.float32),
        "P_static": 1 / level[:6],
        "l_static": static.output[:6, shown_output],
        "error_exact": error[..., 0].astype(np.float32),
        "error_random": error[..., 1].astype(np.float32),
    }


def lesions() -> dict:
    """Turn and length of the output by every injury, dose and head of layer 0, and by deaf gains."""
    recording = pretrained.load_recording(DATA / "recordings/minilm-attention.safetensors")
    gains = [0.0, 0.5, 1.0, 2.0, 3.0, 5.0, 10.0, 20.0]
    doses = np.array([0, 0.02, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 1])
    injuries = ["deaf", "numb", *robustness.NOISES]
    shape = (len(injuries), 12, len(gains), len(doses))
    turn, length, apart = (np.full(shape, np.nan) for _ in range(3))
    theory = np.zeros(shape[1:])
    for head in tqdm(range(12)):
        q, k, v = (x[0, head][:64] for x in recording[:3])
        circuits = [
            robustness.circuit(features.sample("positive", 4_000, q.shape[1], s), q, k, v)
            for s in range(8)
        ]

        def strike(place, dose, injured, circuits=circuits, head=head):
            """Mean over circuits and tokens; dose: its place."""
            rngs = (np.random.default_rng([s, dose]) for s in range(len(circuits)))
            both = [
                robustness.compare(injured(c, rng), c.exact)
                for c, rng in zip(circuits, rngs, strict=True)
            ]
            l, t = np.moveaxis(np.array(both), 1, 0)
            at = (place[0], head, place[1], dose)
            length[at], apart[at], turn[at] = l.mean(), rms(l - 1), rms(t, axis=-1).mean()

        every = slice(None)  # gains make no difference
        for i, f in enumerate(doses):
            for j, b in enumerate(gains):
                strike((0, j), i, lambda c, rng, f=f, b=b: robustness.deaf(c, f, b, rng))
                theory[head, j, i] = rms([robustness.deaf_turn(c, f, b) for c in circuits])
            if f < 1:
                strike((1, every), i, lambda c, rng, f=f: robustness.numb(c, f, rng))
            for n, kind in enumerate(robustness.NOISES, 2):
                strike(
                    (n, every), i, lambda c, rng, f=f, kind=kind: robustness.noisy(c, kind, f, rng)
                )
    return {
        "injury": np.array(injuries),
        "head": np.arange(12),
        "deaf_gain": np.array(gains),
        "dose": doses,
        "turn": turn.astype(np.float32),
        "theory": theory.astype(np.float32),
        "length": length.astype(np.float32),
        "length_error": apart.astype(np.float32),
    }


SWEEPS = {f.__name__: f for f in (normaliser, tuning, calcium, time, lesions)}

if __name__ == "__main__":
    for name in sys.argv[1:] or SWEEPS:
        np.savez_compressed(DATA / f"results/explorer-{name}.npz", **SWEEPS[name]())
