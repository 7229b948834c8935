"""A language model whose attention is a memory of fixed size: results/speaks.csv and speaks-recall.csv.

Run as `python scripts/make_speaks.py FOLDER [CURVES]` after make_tuning_inputs.py, for the texts that it
brings; half an hour; rows that are there are kept. CURVES: of make_decoder_curves.py with 256 neurons and
no window, for rows of kind `pure`; the book's do not come with it. The texts were not fitted to: the part of the devil's
dictionary that comes with the book, a translation of the Dhammapada, and the constitution of the
United States. Each window begins with the token `<|im_start|>`. bits: of a token, mean over a window's
tokens but the first; divergence: of the next token from the exact model's, bits; same: share of
tokens whose likeliest successor is the exact model's; response: median over tokens and heads of
|log p - log Z|, Z being the normaliser of the same queries and keys. numbers: what a group keeps after
the window. Recall: 150 tokens of a text, 199 of another, the first 150 again; bits and share of right
successors, of the first and of the second reading.
"""

import sys
from pathlib import Path

import numpy as np

from common import DATA, appended, text
from companion.fetch import model_directory
from make_tuning_inputs import plain
from tripartite import attention, features
from tripartite.beyond import decoder, tuning, working

HEADER = "text window tokens kind near numbers bits divergence same response".split()
RECALL = "kind near numbers first_bits first_right second_bits second_right".split()
KINDS = [
    ("exact", 0), ("uniform", 0), ("random", 0), ("random", 32),
    *[("alone", n) for n in (16, 32, 64, 98, 130, 256)], *[("fitted", n) for n in (16, 32, 64, 130)],
]  # fmt: skip
OMITTED = [("alone", 16), ("alone", 256), ("fitted", 16), ("fitted", 130)]  # of long windows
LONG = [k for k in KINDS if k[0] in ("exact", "alone", "fitted") and k not in OMITTED]
WINDOWS = {512: 4, 2048: 2}  # of each text
START = "<|im_start|>"


def memories(kind: str, near: int, curves, model):
    """A memory for each layer by its number; the first token is exact but under uniform attention."""
    like = np.zeros(1, np.float32)
    return {
        "exact": decoder.exact,
        "uniform": lambda layer: working.hold(tuning.alike(model.n_groups, 1, model.d_key), 0),
        "random": lambda layer: working.hold(
            features.sample("positive", 1000, model.d_key, layer, orthogonal=True, like=like), near, 1
        ),
        "alone": lambda layer: working.hold(None, near, 1),
        "fitted": lambda layer: working.hold(curves.of_head(layer), near, 1),
        "pure": lambda layer: working.hold(curves.of_head(layer), 0, 1),
    }[kind]  # fmt: skip


def listen(model, ids, hold, read=working.read):
    """Log-probabilities of the next token, log p - log Z of every head and token, numbers a group."""
    x, off, numbers = model.embedding[ids], [], 0
    for layer in range(len(model.blocks)):
        q, k, v = decoder.project(model, layer, x, 0)
        held, reading = read(hold(layer), q, k, v)
        ends = [*range(128, len(ids), 128), len(ids)]  # blocks of queries, kept in a cache
        log_z = np.concatenate(
            [
                attention.log_normaliser(q[..., a:b, :], k[..., :b, :], causal=True)
                for a, b in zip([0, *ends], ends, strict=False)
            ],
            axis=-1,
        )
        off.append(np.median(np.abs(reading.log_response - log_z), axis=-1))
        x = decoder.mix(model, layer, x, reading.output)
        numbers = held.numbers // model.n_groups
    logits = decoder.predict(model, x)
    return logits - attention.log_sum_exp(logits), np.array(off), numbers


def texts(folder: Path) -> dict[str, str]:
    one = {
        "dhammapada": "display-dhammapada/**/dhammapada-english-transl.txt",
        "constitution": "miscfiles/**/us-constitution.gz",
    }
    return {"dictionary": text("devils-dictionary-held-out")} | {
        name: plain(next(folder.glob(path))) for name, path in one.items()
    }


def perplexity(model, curves, sources, kinds):
    start = model.encode(START)
    with appended("speaks", HEADER, 5) as (writer, done):
        for tokens in kinds:
            step = tokens - 1
            for n in range(WINDOWS[tokens]):
                for name, words in sources.items():
                    ids = model.encode(words)
                    window = np.array(start + ids[n * step : (n + 1) * step])
                    exact = None
                    for kind, near in kinds[tokens]:
                        if (name, str(n), str(tokens), kind, str(near)) in done:
                            continue
                        if exact is None:
                            exact = listen(model, window, decoder.exact)[0][:-1]
                        hold = memories(kind, near, curves, model)
                        log_p, off, numbers = listen(model, window, hold)
                        log_p = log_p[:-1]
                        bits = -np.mean(log_p[np.arange(step), window[1:]]) / np.log(2)
                        apart = np.mean(np.sum(np.exp(exact) * (exact - log_p), axis=-1)) / np.log(
                            2
                        )
                        same = np.mean(exact.argmax(axis=-1) == log_p.argmax(axis=-1))
                        row = bits, apart, same, np.median(off)
                        writer.writerow(
                            [name, n, tokens, kind, near, numbers, *(f"{x:.5g}" for x in row)]
                        )
                        print(name, n, tokens, kind, near, *(f"{x:.3f}" for x in row), flush=True)


def recall(model, curves):
    once = model.encode(text("entangled-bank"))[:150]
    between = model.encode(text("devils-dictionary-held-out"))[:199]
    ids = np.array(model.encode(START) + once + between + once)
    spans = slice(1, 150), slice(350, 499)  # targets of each reading but its first token
    with appended("speaks-recall", RECALL, 2) as (writer, done):
        for kind, near in [*KINDS, ("alone", 350)]:
            if (kind, str(near)) in done:
                continue
            log_p, _, numbers = listen(model, ids, memories(kind, near, curves, model))
            found = []
            for span in spans:
                targets = np.arange(span.start + 1, span.stop + 1)
                rows = log_p[targets - 1]
                found += [
                    -np.mean(rows[np.arange(len(rows)), ids[targets]]) / np.log(2),
                    np.mean(rows.argmax(axis=-1) == ids[targets]),
                ]
            writer.writerow([kind, near, numbers, *(f"{x:.4g}" for x in found)])
            print(kind, near, numbers, *(f"{x:.3f}" for x in found), flush=True)


def main():
    folder = Path(sys.argv[1])
    (file,) = model_directory("smollm2-135m-instruct").glob("*.gguf")
    model = decoder.load(file)
    curves = tuning.load(DATA / "tuning/decoder-128.safetensors")
    recall(model, curves)
    perplexity(model, curves, texts(folder), {512: KINDS, 2048: LONG})
    for path in sys.argv[2:]:
        perplexity(model, tuning.load(path), texts(folder), {512: [("pure", 0)]})


if __name__ == "__main__":
    main()
