"""Slides of figures: the directive `slides`, with the name of a figure on each line.

The finding that begins a figure's caption is the title of its slide, the rest of the caption its legend.
"""

from docutils import nodes
from figure_pages import staged
from sphinx.addnodes import pending_xref
from sphinx.transforms.post_transforms import SphinxPostTransform
from sphinx.util import logging
from sphinx.util.docutils import SphinxDirective

logger = logging.getLogger(__name__)
FULL_SCREEN = (
    '<button type="button" class="slides-open">Show the slides on the full screen</button>'
)


class Slides(SphinxDirective):
    has_content = True

    def run(self):
        for chapter in staged(self.env.srcdir):
            self.env.note_dependency(str(chapter.path))
        names = " ".join(self.content).split()
        return [
            nodes.raw("", FULL_SCREEN, format="html"),
            nodes.container("", classes=["slides"], figures=names),
        ]


def parted(caption: nodes.caption) -> tuple[list[nodes.Node], list[nodes.Node]]:
    """The finding that a caption begins with, in bold or its first sentence, and the rest."""
    first, *rest = [part for part in caption.deepcopy().children if part.astext()]
    if isinstance(first, nodes.strong):
        return first.children, rest
    title, rest = [], [first, *rest]
    while rest:
        part = rest.pop(0)
        words, stop, others = (
            part.astext().partition(". ") if isinstance(part, nodes.Text) else (0, "", "")
        )
        if stop:
            return [*title, nodes.Text(words + ".")], [nodes.Text(others), *rest]
        title.append(part)
    return title, rest


class Deck(SphinxPostTransform):
    """The slides of a page, when every chapter has been read; before references are resolved."""

    default_priority = 5

    def run(self, **kwargs):
        for deck in [n for n in self.document.findall(nodes.container) if n.get("figures")]:
            deck += [slide for name in deck["figures"] for slide in self.slide(name)]
            del deck["figures"]

    def slide(self, name: str) -> list[nodes.Node]:
        chapter, anchor, _ = self.env.get_domain("std").labels.get(name, ("", "", ""))
        doctree = self.env.get_doctree(chapter) if chapter else self.document
        figure = next((n for n in doctree.findall(nodes.figure) if anchor in n["ids"]), None)
        if figure is None:
            logger.warning(f"slides: {name!r} must be a figure of a chapter")
            return []
        title, legend = parted(next(figure.findall(nodes.caption)))
        number = ".".join(map(str, self.env.toc_fignumbers[chapter]["figure"][anchor]))
        here = self.env.docname
        place = f"{self.app.builder.get_relative_uri(here, chapter)}#{anchor}"
        source = nodes.paragraph(
            "",
            f"Figure {number}. ",
            nodes.reference("", self.env.titles[chapter].astext(), refuri=place),
            classes=["source"],
        )
        pictures = [image.deepcopy() for image in figure.findall(nodes.image)]
        head, body = (
            nodes.title("", "", *title),
            nodes.paragraph("", "", *legend, classes=["legend"]),
        )
        for reference in [*head.findall(pending_xref), *body.findall(pending_xref)]:
            reference["refdoc"] = here
        return [
            nodes.section(
                "", head, *pictures, body, source, ids=[f"slide-{name}"], classes=["slide"]
            )
        ]


def add_script(app, page, template, context, doctree):
    if doctree and any("slides" in n["classes"] for n in doctree.findall(nodes.container)):
        app.add_js_file("slides.js", loading_method="defer")


def setup(app):
    app.add_directive("slides", Slides)
    app.add_post_transform(Deck)
    app.add_css_file("slides.css", priority=803)  # after page.css
    app.connect("html-page-context", add_script)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
