"""The box of the landing page in which a reader tries a sentence: its markup, and its tables of all words.

The head shown is in layer 0, whose input is the sum of a word's, a place's and a segment's vector, then layer
norm. So its queries and keys need no model in the browser: they follow from a row of 64 projected numbers for
each word, as many for each place, and the moments that the norm divides by. `tables` rounds the rows of the
words to one byte a number, so that all of them can be sent; `sentence.js` puts them together and reads them
with the circuit. Where the model's weights are not on this machine, the page shows a still picture.
"""

import base64
import hashlib
import html
import json
from pathlib import Path

import living
import numpy as np
from docutils import nodes
from docutils.parsers.rst import Directive

from companion import fetch
from companion.files import write_bytes
from companion.paths import data
from tripartite import attention, features, network, pretrained

MODEL = "all-MiniLM-L6-v2"
NAME = "_static/explorers/own-sentence.js"  # beside the data of the other explorers
PLACES = 32  # tokens a sentence may have, with its two marks
RANK = 2  # of the products of words and places, after their mean over words
SIZES = (100, 200, 500, 1_000, 2_000, 5_000, 10_000, 20_000, 50_000, 100_000)
SHOWN = 3  # the size shown first
SENTENCE = "my experience is what i agree to attend to"
STILL = slice(0, 10)  # the same words where they begin the recording, behind [CLS]
ROUNDING = 0.03  # by which one byte a number moves Z at most, as a test finds
ROOM = 1.25  # of the gauges, relative to the largest Z


def projection(model, linear):
    """One of the head's two projections, apart for what a token is made of.

    Returns (W g / d^(1/4), W beta + b over d^(1/4)): (32, features) and (32,). With them a query is
    W (word + place - mean) / sigma + the second, where mean and sigma are those of the layer norm.
    """
    own = slice(living.HEAD * model.d_key, (living.HEAD + 1) * model.d_key)
    norm, scale = model.embeddings.norm, model.d_key**0.25
    weight = linear.weight[own]
    return weight * norm.gain / scale, (weight @ norm.bias + linear.bias[own]) / scale


def in_bytes(x):
    """Each column of (rows, columns) in 256 steps from its least to its largest: (bytes, least, step)."""
    low, high = x.min(axis=0), x.max(axis=0)
    step = (high - low) / 255
    return np.rint((x - low) / step).astype("u1"), low, step


def tables(model):
    """What `sentence.js` loads: the vocabulary, a row of bytes for each of its words, and what is common.

    A row holds the 64 projected numbers, the mean of the word's vector, RANK factors of its products with
    the places, and in two bytes more its mean square. Words that no text can hold, [unused0] and so on, are
    left out.
    """
    vocabulary = model.tokenizer.get_vocab()
    kept = sorted((i, word) for word, i in vocabulary.items() if not word.startswith("[unused"))
    ids = np.array([i for i, _ in kept])
    table, block = model.embeddings, model.blocks[0]
    words, places = table.words[ids], table.positions[:PLACES] + table.segments[0]
    query, key = (projection(model, linear) for linear in (block.query, block.key))
    both = np.concatenate([query[0], key[0]])
    product = 2 * words @ places.T / words.shape[1]  # its part in the mean square of word + place
    common = product.mean(axis=0)
    left, size, right = np.linalg.svd(product - common, full_matrices=False)
    factors = left[:, :RANK] * size[:RANK]
    numbers = np.concatenate([words @ both.T, words.mean(axis=1)[:, None], factors], axis=1)
    rows, low, step = in_bytes(numbers)
    square = np.mean(words**2, axis=1)
    fine = (square.max() - square.min()) / 65535
    last = np.rint((square - square.min()) / fine).astype("<u2").view("u1").reshape(-1, 2)
    return {
        "vocabulary": "\n".join(word for _, word in kept),
        "width": rows.shape[1] + 2,
        "d": model.d_key,
        "low": low,
        "step": step,
        "square": [square.min(), fine],
        "places": places @ both.T,
        "means": places.mean(axis=1),
        "squares": np.mean(places**2, axis=1) + common,
        "factors": right[:RANK].T,
        "sums": both.sum(axis=1),
        "offsets": np.concatenate([query[1], key[1]]),
        "eps": model.wiring.eps,
        "rows": base64.b64encode(np.concatenate([rows, last], axis=1).tobytes()).decode(),
    }


def script(model):
    """The tables as the script that puts them on its figure."""
    packed = {
        name: np.vectorize(lambda x: float(f"{x:.7g}"))(value).tolist()
        if isinstance(value, np.ndarray)
        else value
        for name, value in tables(model).items()
    }
    written = json.dumps(packed, separators=(",", ":"), ensure_ascii=False)
    return f'document.getElementById("own-sentence").tables = {written};\n'.encode()


def version():
    """What the tables are made from: the weights and this file."""
    weights = fetch.MODELS[MODEL].files["model.safetensors"].sha256
    return hashlib.sha256(weights.encode() + Path(__file__).read_bytes()).hexdigest()[:8]


def still():
    """Tokens of the recorded sentence, and Z and p of each, with as many neurons as the slider begins with."""
    recording = pretrained.load_recording(data(living.RECORDING))
    q, k, v = (x[living.LAYER, living.HEAD, STILL] for x in recording[:3])
    phi = features.sample("positive", SIZES[SHOWN], q.shape[1], living.SEED)
    p = network.attend(phi, q, k, v).response
    return recording.tokens[STILL], np.exp(attention.log_normaliser(q, k)), p


def places_among_heads():
    """Where this head stands among all, 1 for the least error: of the response, and of the output."""
    errors = living.errors_of_heads()
    mine = errors["mine"]
    return {
        name: int(np.sum(errors[name] < errors[name][mine])) + 1 for name in ("error", "output")
    }


def figure(source, why=""):
    """The box: a still picture of one sentence, and the controls that the script shows.

    source: address of the tables; None, and why they are not there.
    """
    tokens, Z, p = still()
    top = ROOM * Z.max()
    words = "".join(
        f'<li><span class="own-word"><span class="own-token">{html.escape(token)}</span>'
        f'<span class="own-gauge"><span class="own-bar" style="height:{min(100, 100 * a / top):.1f}%"></span>'
        f'<span class="own-tick" style="bottom:{100 * z / top:.1f}%"></span></span></span></li>'
        for token, z, a in zip(tokens, Z, p, strict=True)
    )
    rank, heads = places_among_heads(), living.beside()["heads"]
    note = (
        "Tick: <em>Z</em>, the sum by which the model divides. Bar: <em>p</em>, what the astrocyte gives in its place. In a sentence "
        "of yours, choose a word: lines lead to the five words that it listens to most, over the words in the model, under them, in "
        f"orange, in the circuit. The model, {MODEL}, has {heads} attention heads, parts that each look for something else. This is "
        f"head {living.HEAD} of layer {living.LAYER}, and <strong>it is an easy one</strong>: counted from the easiest, number "
        f"{rank['error']} by the error of its astrocyte and number {rank['output']} by that of its output. "
        "The model puts the marks [CLS] and [SEP] around each text, and splits a word that it does not know into pieces; "
        "## begins a piece that continues a word. Numbers are sent rounded, which moves <em>Z</em> by less than "
        f"{ROUNDING:.0%}."
    )
    attributes = (
        f' data-from="{source}" data-sizes="{json.dumps(SIZES)}" data-shown="{SHOWN}"'
        if source
        else ""
    )
    controls = f"""<form class="own-form" hidden>
<label for="own-text">Your sentence</label>
<input type="text" id="own-text" maxlength="400" autocomplete="off" value="{SENTENCE}">
<button type="submit">Show it</button>
</form>
<div class="own-slider" hidden>
<label for="own-neurons">Neurons</label>
<input type="range" id="own-neurons" min="0" max="{len(SIZES) - 1}" value="{SHOWN}">
<output for="own-neurons">{SIZES[SHOWN]:,}</output>
</div>
<noscript>The box needs JavaScript; without it, one sentence is shown.</noscript>"""
    return f"""<figure class="own" id="own-sentence"{attributes}>
{controls if source else f'<p class="own-why">{html.escape(why)}</p>'}
<div class="own-picture"><ol class="own-words">{words}</ol></div>
<p class="own-now" role="status">{SIZES[SHOWN]:,} hidden neurons have read “{SENTENCE}”: bars that end at their tick are exact.</p>
<figcaption>{note}</figcaption>
</figure>"""


class OwnSentence(Directive):
    """`own-sentence`: the box, in place."""

    def run(self):
        env = self.state.document.settings.env
        weights = fetch.cache_directory() / MODEL / "model.safetensors"
        sources = [__file__, living.__file__, data(living.RECORDING), data(living.ATLAS), weights]
        for path in sources:
            env.note_dependency(str(path))  # one that is missing is looked for at every build
        if fetch.is_cached(MODEL):
            up = "../" * env.docname.count("/")
            markup = figure(f"{up}{NAME}?v={version()}")
        else:
            why = (
                f"This site was built where the weights of {MODEL} are not, so that it shows one sentence only: the command "
                "“tripartite fetch” brings them, and “make book” then builds the page with a box for yours."
            )
            markup = figure(None, why)
        return [nodes.raw("", markup, format="html")]


def add_script(app, pagename, templatename, context, doctree):
    if 'id="own-sentence"' in context.get("body", ""):
        app.add_js_file("sentence.js", loading_method="defer")
        app.add_css_file("sentence.css")


def write_tables(app, error):
    if error or app.builder.name != "html" or not fetch.is_cached(MODEL):
        return
    model = pretrained.load(fetch.model_directory(MODEL))
    write_bytes(Path(app.outdir) / NAME, script(model))


def setup(app):
    app.add_directive("own-sentence", OwnSentence)
    app.connect("html-page-context", add_script)
    app.connect("build-finished", write_tables)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
