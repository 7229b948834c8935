"""Cards of what was found: the directive `finding`, one for each claim of the paper.

Its argument is the claim, its text one sentence with {number} where the number of a check stands. The verdict
is that of the page of claims, the number what the check observed, the picture a published figure.
"""

import html

import ledgers
from docutils import nodes
from docutils.parsers.rst import directives
from figure_pages import figures
from sphinx.util import logging
from sphinx.util.docutils import SphinxDirective

logger = logging.getLogger(__name__)
FORMS = {
    "number": lambda x: f"{float(f'{x:.2g}'):,.6g}",
    "share": lambda x: f"{100 * float(f'{x:.2g}'):.6g}%",
}


def card(srcdir, name, text, check, figure, form="number"):
    """Markup of a card. Raises ValueError where the claim, its check or the figure is not in the book."""
    says = ledgers.stated(srcdir).get(name)
    if says is None:
        raise ValueError(f"finding {name}: must be a claim of the page of claims")
    number, _, slug = check.partition(".")
    checks = {(c.number, claim["name"]): (c, claim) for c, claim in ledgers.checked_claims(srcdir)}
    chapter, claim = checks.get((number, slug), (None, {}))
    if claim.get("paper_claim") != name:
        raise ValueError(f"finding {name}: check {check!r} must be one of its checks")
    pictures = {f.name: f for f in figures(srcdir)}
    if figure not in pictures:
        raise ValueError(f"finding {name}: figure {figure!r} must be a published figure")
    if text.count("{number}") != 1:
        raise ValueError(f"finding {name}: its text must hold {{number}} once")
    picture = pictures[figure]
    word, good, _ = ledgers.standing(says)
    shown = ledgers.cell_link(chapter.slug, claim["cell"], FORMS[form](float(claim["observed"])))
    sentence = html.escape(text).replace("{number}", shown)
    return (
        f'<section class="finding" aria-label="{name}"><a class="finding-picture" href="../figures/{figure}/index.html">'
        f'<img class="{picture.classes}" loading="lazy" src="../figures/{figure}/{figure}.svg" alt="{html.escape(picture.alt)}"></a>'
        f'<div><p class="finding-claim"><a href="claims.html">{name}</a> {ledgers._plain(says["short"])}: '
        f"{ledgers.verdict(word, good)}</p><p>{sentence}</p>"
        f'<p class="finding-where"><a href="{chapter.slug}.html">Chapter {int(chapter.number)}</a></p></div></section>'
    )


class Finding(SphinxDirective):
    required_arguments = 1
    has_content = True
    option_spec = {
        "check": directives.unchanged_required,
        "figure": directives.unchanged_required,
        "as": lambda word: directives.choice(word, tuple(FORMS)),
    }

    def run(self):
        for path in [*(c.path for c in ledgers.staged(self.env.srcdir)), __file__]:
            self.env.note_dependency(str(path))
        self.env.note_dependency(f"{self.env.srcdir}/book/claims.md")
        o = self.options
        try:
            markup = card(
                self.env.srcdir, self.arguments[0], " ".join(self.content), o.get("check", ""),
                o.get("figure", ""), o.get("as", "number"),
            )  # fmt: skip
        except ValueError as error:
            logger.warning(str(error), location=self.get_location())
            return []
        return [nodes.raw("", markup, format="html")]


def setup(app):
    app.add_directive("finding", Finding)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
