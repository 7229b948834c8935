"""Draw the graphical abstract: `python book/_ext/draw_abstract.py` rewrites book/_static/abstract.svg and .pdf.

One page for a talk or a post: the circuit, and what was found, each with the number of a check as its
chapter has it now. The PDF is printed by Chromium.
"""

import re
import shutil
import textwrap
from html import escape
from pathlib import Path

from draw_circuit import ASTROCYTE_TEXT, GREY, INK, NEURON, STATIC, line, text

from companion.chapters import find

WIDTH, HEIGHT = 1280, 720
SERIF = "Cambria,Georgia,'Times New Roman','Liberation Serif',serif"
SANS = (
    "system-ui,-apple-system,'Segoe UI',Roboto,'Helvetica Neue',Arial,'Liberation Sans',sans-serif"
)
TITLE = "Can neurons and an astrocyte compute a Transformer’s attention?"


def percent(x: float) -> str:
    return f"{100 * x:.0f}%"


# kind, chapter, check, how its number is written, what it says
FOUND = (
    ("good", "11", "whole-model-exact-features", lambda x: "exact" if x < 1e-9 else f"{x:.0e}",
     "As formulas, circuit and attention are the same, in all heads of a language model at once."),
    ("good", "04", "shown-head-error", percent,
     "With 100,000 random neurons the astrocyte’s response is this far from the normaliser, in the head shown."),
    ("limit", "04", "heads-still-off", percent,
     "of the heads of a language model are still more than 10% off with 10,000 random neurons."),
    ("good", "13", "whole-model-tuned", lambda x: f"{x:.2f}",
     "With 256 fitted neurons in every head, a whole model’s embeddings have this cosine to the exact ones."),
    ("limit", "18", "factor-of-all-clocks", lambda x: f"{x:.0f}×",
     "faster would all clocks of a hundred published astrocytes have to run, for tokens of half a second."),
    ("limit", "14", "room-in-one-astrocyte", lambda x: f"{round(x, -2):,.0f}",
     "hidden neurons, at least, could have all synapses of one head in one human astrocyte, if values have one sign."),
)  # fmt: skip
NOTE = "A theory with simulations: nothing was measured in a brain."
SOURCE = (
    "After Kozachkov, Kastanenka, Krotov, “Building transformers from neurons and astrocytes”, PNAS "
    "2023, doi 10.1073/pnas.2219150120. Numbers: Transformers from neurons and astrocytes, CC BY 4.0."
)


def observed(chapter: str, check: str) -> float:
    return float(find(chapter).claims()[check]["observed"])


def lines(x: float, y: float, words: str, width: int, step: float, **style) -> str:
    """Words below each other, at most so many letters a line."""
    parts = textwrap.wrap(words, width)
    return "".join(text(x, y + k * step, escape(part), **style) for k, part in enumerate(parts))


def circuit() -> str:
    """The panel of the reading phase, without its head and its own style."""
    svg = (STATIC / "circuit-reading.svg").read_text(encoding="utf-8")
    inside = re.sub(r"<(title|desc) .*?</\1>", "", svg[svg.index(">") + 1 : svg.rindex("</svg>")])
    style = re.search(r"<style>(.*?)</style>", inside)[1]
    own = re.sub(r"(^|\})([^{}]+)\{", lambda m: f"{m[1]}.circuit {m[2]}{{", style)
    rest = inside.replace(f"<style>{style}</style>", "")
    return f'<style>{own}</style><g class="circuit" transform="translate(40 128) scale(1.16)">{rest}</g>'


def picture() -> str:
    parts = [
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#fff"/>',
        text(40, 66, TITLE, font_size=31, font_weight=650, fill=INK),
        text(40, 102, NOTE, font_size=19, fill=GREY),
        circuit(),
    ]
    for k, (kind, chapter, check, form, words) in enumerate(FOUND):
        y = 168 + 84 * k
        colour = NEURON if kind == "good" else ASTROCYTE_TEXT
        number = form(observed(chapter, check))
        big = {"text_anchor": "end", "font_size": 38, "font_weight": 650, "fill": colour}
        parts.append(text(690, y + 13, number, **big))
        parts.append(line(712, y - 28, 712, y + 30, stroke=colour, stroke_width=3))
        where = f"{words[:-1]} (chapter {int(chapter)})."
        parts.append(lines(730, y - 8, where, 64, 25, font_size=18.5, fill=INK, font_family=SERIF))
    parts.append(lines(40, 682, SOURCE, 168, 19, font_size=12.5, fill=GREY))
    said = "; ".join(
        f"{form(observed(chapter, check))}: {words}" for _, chapter, check, form, words in FOUND
    )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}px" height="{HEIGHT}px" '
        f'viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-labelledby="abstract-title abstract-desc" '
        f'font-family="{SANS}">\n<title id="abstract-title">{escape(TITLE)}</title>\n'
        f'<desc id="abstract-desc">{escape(said)}</desc>\n' + "\n".join(parts) + "\n</svg>\n"
    )


def pdf(svg: str, path: Path) -> None:
    from playwright.sync_api import sync_playwright

    page = f"<!doctype html><style>@page{{size:{WIDTH}px {HEIGHT}px;margin:0}}body{{margin:0}}svg{{display:block}}</style>{svg}"
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(
            executable_path=shutil.which("chromium"), args=["--no-sandbox"]
        )
        tab = chromium.new_page()
        tab.set_content(page)
        tab.pdf(path=path, width=f"{WIDTH}px", height=f"{HEIGHT}px", print_background=True)
        chromium.close()


def main() -> None:
    svg = picture()
    (STATIC / "abstract.svg").write_text(svg, encoding="utf-8")
    pdf(svg, STATIC / "abstract.pdf")


if __name__ == "__main__":
    main()
