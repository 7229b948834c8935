"""Draw the pictures of the story: `python book/_ext/draw_story.py` rewrites book/_static/story-*.svg.

Every number in them is computed here, from the sentence and the head of the landing page and from
the stored runs of the chapter on the living astrocyte.
"""

import csv
import html
import re
from pathlib import Path

import living
import matplotlib.pyplot as plt
import numpy as np

from companion import COLOURS, use_style
from companion.paths import data
from tripartite import attention, features, network, pretrained
from tripartite.beyond.living import scaled_error

STATIC = Path(__file__).resolve().parent.parent / "_static"
ASKS = 7  # "attend"
COUNTS = (100, 10_000, 100_000)


def head(place=(living.LAYER, living.HEAD), part=living.SENTENCE):
    """Tokens, queries, keys and values of one recorded head, for part of its text."""
    recording = pretrained.load_recording(data(living.RECORDING))
    return list(recording.tokens[part]), *(x[place][part] for x in recording[:3])


def save(fig, name: str) -> None:
    fig.savefig(STATIC / f"story-{name}.svg", transparent=True, metadata={"Date": None})
    plt.close(fig)


def words_that_listen() -> None:
    """One word listens to all others; the thicker the line, the more."""
    tokens, q, k, _ = head()
    weights = np.exp(attention.scores(q, k))[ASKS]
    fig, ax = plt.subplots(figsize=(5.0, 2.7))
    x = np.arange(len(tokens))
    for i, share in enumerate(weights / weights.sum()):
        ax.plot([x[ASKS], i], [0.82, 0.2], color=COLOURS["neuron"], lw=20 * share, alpha=0.6)
        ax.text(i, 0.12, tokens[i], ha="center", va="top")
        ax.text(
            i, -0.02, f"{share:.0%}", ha="center", va="top", color=COLOURS["neuron"], fontsize=9
        )
    ax.text(x[ASKS], 0.86, tokens[ASKS], ha="center", weight="bold")
    ax.text(-0.45, 0.92, "one word asks", va="center")
    ax.text(-0.45, -0.2, "all words answer; the shares add up to one", va="center")
    ax.set(xlim=(-0.5, len(tokens) - 0.5), ylim=(-0.26, 1.0))
    ax.axis("off")
    save(fig, "attention")


def the_sum() -> None:
    """What the astrocyte responds with, beside the sum that attention divides by."""
    tokens, q, k, v = head()
    exact = np.exp(attention.log_normaliser(q, k))
    fig, axes = plt.subplots(len(COUNTS), 1, figsize=(5.0, 4.9), sharex=True)
    x = np.arange(len(tokens))
    for ax, m in zip(axes, COUNTS, strict=True):
        phi = features.sample("positive", m, q.shape[1], living.SEED)
        response = network.attend(phi, q, k, v).response
        ax.bar(x, response, width=0.55, color=COLOURS["astrocyte"], alpha=0.75)
        ax.hlines(exact, x - 0.4, x + 0.4, color=COLOURS["exact"], lw=2)
        ax.set(ylim=(0, 1.25 * exact.max()), yticks=[])
        ax.text(0.0, 0.98, f"{m:,} neurons", transform=ax.transAxes, va="top")
        ax.spines["left"].set_visible(False)
    axes[-1].set_xticks(x, tokens)
    axes[0].text(
        1.0,
        0.98,
        "line: the sum; bar: the astrocyte",
        transform=axes[0].transAxes,
        ha="right",
        va="top",
    )
    save(fig, "response")


def the_speed() -> None:
    """Error of attention with living astrocytes, against how long a word lasts."""
    with open(data("results/living-tokens.csv")) as file:
        rows = [{key: float(x) for key, x in row.items()} for row in csv.DictReader(file)]
    fig, ax = plt.subplots(figsize=(5.0, 3.3))
    T = sorted({row["T"] for row in rows})
    for n, ink, words in ((1, "fourth", "one astrocyte"), (100, "astrocyte", "a hundred")):
        mean = [np.mean([r["error"] for r in rows if r["T"] == t and r["cells"] == n]) for t in T]
        ax.plot(T, mean, "o-", color=COLOURS[ink])
        ax.annotate(
            words,
            (T[-1], mean[-1]),
            (8, 0),
            textcoords="offset points",
            color=COLOURS[ink],
            va="center",
        )
    _, q, k, v = head((0, 0), slice(None))  # the head and the text of those runs
    y = attention.softmax_attention(q, k, v)
    silent = scaled_error(np.exp(attention.log_normaliser(q, k))[:, None] * y, y)
    ax.axhline(silent, color=COLOURS["exact"], lw=1)
    ax.annotate("an astrocyte that stays silent", (12, silent), (0, 5), textcoords="offset points")
    ax.set(
        xscale="log",
        ylim=(0, 0.62),
        xlim=(0.4, 500),
        xticks=T,
        xlabel="a word lasts (seconds)",
        ylabel="error",
    )
    ax.set_xticklabels([f"{t:g}" for t in T])
    ax.xaxis.set_minor_locator(plt.NullLocator())
    ax.yaxis.set_major_formatter(lambda e, _: f"{e:.0%}")
    save(fig, "speed")


# what stands in the circuit of the landing page, and in the story
PLAIN = {
    "1\u2003Writing": "1\u2003Writing",
    "2\u2003Reading": "2\u2003Reading",
    "the token sets the weights": "a word sets the connections",
    "the astrocyte sets the gain": "the astrocyte divides",
    "input f": "word",
    "hidden h": "hidden neurons",
    "output \u2113": "output",
    "synapses H, one astrocyte": "synapses, one astrocyte",
    "astrocyte: P = 1/p": "astrocyte",
    "+ xt (skip connection)": "the word is added",
}


def circuits() -> None:
    """The circuit of the landing page, in words: without its symbols and formulas."""

    def plain(match):
        attributes, markup = match.groups()
        words = html.unescape(re.sub("<[^>]*>", "", markup)).replace("\u200b", "")
        return f"<text{attributes}>{PLAIN[words]}</text>" if words in PLAIN else ""

    for phase in ("writing", "reading"):
        whole = (STATIC / f"circuit-{phase}.svg").read_text(encoding="utf-8")
        cut = whole.replace(
            'height="448" viewBox="0 0 400 448"', 'height="362" viewBox="0 0 400 362"'
        )
        assert cut != whole, phase
        cut = cut.replace('height="447"', 'height="361"')
        cut = re.sub("<text([^>]*)>(.*?)</text>", plain, cut)
        (STATIC / f"story-{phase}.svg").write_text(cut, encoding="utf-8")


def main() -> None:
    use_style()
    circuits()
    for draw in (words_that_listen, the_sum, the_speed):
        draw()


if __name__ == "__main__":
    main()
