"""Neurons that the text recruits in the language model that speaks: results/recruited*.csv.

Run as `python scripts/make_recruited.py FOLDER` after make_tuning_inputs.py; twenty minutes; rows that are
there are kept. Nothing is fitted. Texts, windows and columns are those of make_speaks.py, beside whose
rows these stand: 65 neurons with their mean keys take no more numbers than the 66 pairs of a window.
recruited-facts.csv: what the model answers about a fact that it was told some 200 tokens before; found: how
many of the fact's two words the answer has; margin: the least by which the likeliest token's logit was
ahead of the next one's. With 0 neurons a window alone that takes as many numbers; with a window of 0 also,
all pairs exactly.
"""

import sys
from pathlib import Path

import numpy as np

from common import appended, text
from companion.fetch import model_directory
from make_speaks import START, WINDOWS, listen, texts
from tripartite.beyond import decoder, recruiting, working

HEADER = "text window tokens near neurons numbers bits divergence same response".split()
FACT = "fact near neurons numbers found margin answer".split()
TOLD = (  # what is told, what is asked, and the two words that a right answer has
    ("My dog is called Biscuit and he was born in Lisbon.",
     "What is my dog called and where was he born?", "Biscuit", "Lisbon"),
    ("My sister is called Margaret and she lives in Oslo.",
     "What is my sister called and where does she live?", "Margaret", "Oslo"),
    ("My boat is called Albatross and it is painted green.",
     "What is my boat called and what colour is it?", "Albatross", "green"),
    ("My teacher is called Nakamura and he plays the violin.",
     "What is my teacher called and what does he play?", "Nakamura", "violin"),
    ("My horse is called Thunder and she eats apples.",
     "What is my horse called and what does she eat?", "Thunder", "apples"),
    ("My village is called Brightwater and it has a mill.",
     "What is my village called and what does it have?", "Brightwater", "mill"),
)  # fmt: skip
CHAT = (
    "<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained by Hugging Face<|im_end|>\n"
    "<|im_start|>user\n{}<|im_end|>\n<|im_start|>assistant\n"
)
RECALL = "near neurons numbers first_bits first_right second_bits second_right".split()
SIZES = {512: [(16, 65), (32, 65), (64, 65), (32, 128)], 2048: [(32, 65), (64, 65), (32, 128)]}
CURVE = [(32, n) for n in (65, 128, 192, 256, 320, 384)]
FACTS = [(0, 0), *[(32, n) for n in (65, 96, 128, 160, 192)], *[(n, 0) for n in (98, 161, 194)]]
BIT = np.log(2)


def recruited(model, ids, near, neurons):
    """What make_speaks.listen gives, with recruited neurons beyond the window."""
    return listen(model, ids, lambda layer: recruiting.hold(neurons, near, 1), recruiting.read)


def perplexity(model, sources):
    start = model.encode(START)
    with appended("recruited", HEADER, 5) as (writer, done):
        for tokens, sizes in SIZES.items():
            for n in range(WINDOWS[tokens]):
                for name, words in sources.items():
                    step = tokens - 1
                    ids = model.encode(words)
                    window = np.array(start + ids[n * step : (n + 1) * step])
                    exact = None
                    for near, neurons in sizes:
                        where = name, str(n), str(tokens), str(near), str(neurons)
                        if where in done:
                            continue
                        if exact is None:
                            exact = listen(model, window, decoder.exact)[0][:-1]
                        log_p, off, numbers = recruited(model, window, near, neurons)
                        log_p = log_p[:-1]
                        row = (
                            -np.mean(log_p[np.arange(step), window[1:]]) / BIT,
                            np.mean(np.sum(np.exp(exact) * (exact - log_p), axis=-1)) / BIT,
                            np.mean(exact.argmax(axis=-1) == log_p.argmax(axis=-1)),
                            np.median(off),
                        )
                        writer.writerow([*where, numbers, *(f"{x:.5g}" for x in row)])
                        print(*where, numbers, *(f"{x:.3f}" for x in row), flush=True)


def recall(model):
    once = model.encode(text("entangled-bank"))[:150]
    between = model.encode(text("devils-dictionary-held-out"))[:199]
    ids = np.array(model.encode(START) + once + between + once)
    with appended("recruited-recall", RECALL, 2) as (writer, done):
        for near, neurons in CURVE:
            if (str(near), str(neurons)) in done:
                continue
            log_p, _, numbers = recruited(model, ids, near, neurons)
            found = []
            for targets in (np.arange(2, 151), np.arange(351, 500)):  # all but a reading's first
                rows = log_p[targets - 1]
                found += [
                    -np.mean(rows[np.arange(len(rows)), ids[targets]]) / BIT,
                    np.mean(rows.argmax(axis=-1) == ids[targets]),
                ]
            writer.writerow([near, neurons, numbers, *(f"{x:.4g}" for x in found)])
            print("recall", near, neurons, numbers, *(f"{x:.3f}" for x in found), flush=True)


def facts(model):
    with appended("recruited-facts", FACT, 3) as (writer, done):
        for told, asked, *words in TOLD:
            prompt = model.encode(CHAT.format(f"{told} {text('gettysburg')} {asked}"))
            for near, neurons in FACTS:
                if (words[0], str(near), str(neurons)) in done:
                    continue
                hold = working.hold(None, near or None, 1)  # a window of 0: all pairs exactly
                hold = recruiting.hold(neurons, near, 1) if neurons else hold
                blank = decoder.blank(model, lambda layer, hold=hold: hold)
                said = list(decoder.speak(model, prompt, blank, 20, stop=[2]))
                two = np.sort([one.logits for one in said], axis=-1)[:, -2:]
                answer = model.decode([one.token for one in said if one.token != 2])
                found = sum(word.lower() in answer.lower() for word in words)
                numbers = said[0].state.layers[0].numbers // model.n_groups
                margin = f"{np.min(two[:, 1] - two[:, 0]):.3g}"
                row = words[0], near, neurons, numbers, found, margin, answer.replace("\n", " ")
                writer.writerow(row)
                print(*row, flush=True)


def main():
    folder = Path(sys.argv[1])
    (file,) = model_directory("smollm2-135m-instruct").glob("*.gguf")
    model = decoder.load(file)
    facts(model)
    recall(model)
    perplexity(model, texts(folder))


if __name__ == "__main__":
    main()
