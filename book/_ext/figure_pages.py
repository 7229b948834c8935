"""One page for every published figure, at figures/NAME/: what it shows, its data, how to make it again.

Works on the site of `make book`, where every figure has a passport, and on that of the committed
outputs, where pictures come from the notebooks and numbers from data/reference.
"""

import hashlib
import html
import json
import re
import shutil
from dataclasses import dataclass
from pathlib import Path
from posixpath import join, normpath

from docutils import nodes
from jinja2 import Environment, FileSystemLoader

from companion import chapters, cite, freshness, lock, passport

KINDS = {".csv": "data (CSV)", ".npz": "data (NumPy)", ".svg": "SVG", ".pdf": "PDF", ".png": "PNG"}


@dataclass(frozen=True)
class Figure:
    """A published figure of a staged chapter."""

    name: str
    chapter: chapters.Chapter
    cell: object
    svg: str
    note: dict  # deviation from the reference, and its tolerance
    alt: str
    passport: dict | None
    published: Path

    @property
    def words(self) -> str:
        return self.name.replace("-", " ").capitalize()

    @property
    def classes(self) -> str:
        return self.cell.metadata["mystnb"].get("image", {}).get("classes", "")

    def files(self) -> list[Path]:
        """What can be downloaded, as its page links it."""
        found = {path.suffix: path for path in self.published.glob("*") if path.suffix in KINDS}
        found.setdefault(".svg", self.published / f"{self.name}.svg")  # else from the notebook
        return [found[kind] for kind in KINDS if kind in found]


def staged(srcdir) -> list[chapters.Chapter]:
    """The chapters that the site is built from, in reading order."""
    return [chapters.Chapter(p) for p in sorted(Path(srcdir, "book").glob("[0-9][0-9]-*.ipynb"))]


def figures(srcdir) -> list[Figure]:
    found = []
    for chapter in staged(srcdir):
        described = chapter.figures()
        for cell in chapter.code_cells():
            for output in cell.outputs:
                note = output.get("metadata", {}).get("tripartite", {})
                if "figure" not in note:
                    continue
                name = note["figure"]
                folder = Path(srcdir, "book", "_extra", "figures", name)
                stamp = folder / "passport.json"
                stamped = json.loads(stamp.read_text()) if stamp.exists() else None
                svg, alt = output.data["image/svg+xml"], described[name]["alt"]
                found.append(Figure(name, chapter, cell, svg, note, alt, stamped, folder))
    return found


def _facts(figure: Figure) -> dict:
    """The passport, or what is known of a committed figure without one."""
    declared = figure.chapter.parameters()
    if figure.passport:
        return figure.passport
    pins = lock.pins(lock.LOCK.read_text()) if lock.LOCK.exists() else {}
    values = {name: parameter.default for name, parameter in declared.items()}
    arguments = "".join(f" -p {name}={value}" for name, value in values.items())
    return {
        "parameters": values,
        "seed": values.get("seed"),
        "commit": passport.commit(),
        "digests": freshness.source_digests(chapters.find(figure.chapter.slug)),
        "packages": {name: pins.get(name, "?") for name in passport.PACKAGES},
        "licence": passport.LICENCE,
        "reproduce": f"tripartite run {figure.chapter.number}{arguments}",
        "deviation_from_reference": None,
    }


def _caption(app, figure: Figure, doctree) -> tuple[str, str, bool]:
    """A figure's number and caption as the chapter shows it, links turned to this page."""
    docname = f"book/{figure.chapter.slug}"
    node = next(n for n in doctree.findall(nodes.figure) if figure.name in n["ids"])
    caption = next(node.findall(nodes.caption))
    numbers = app.env.toc_fignumbers.get(docname, {}).get("figure", {}).get(figure.name, ())
    inline = nodes.inline("", "", *(child.deepcopy() for child in caption.children))
    markup = app.builder.render_partial(inline)["fragment"]

    def turn(match) -> str:
        target = html.unescape(match[2])
        if re.match(r"[a-z]+:", target):
            return match[0]
        page = f"{figure.chapter.slug}.html" if target.startswith("#") else ""
        return f'{match[1]}="{html.escape(normpath(join("../../book", page + target)))}"'

    has_mathematics = any(True for _ in inline.findall(nodes.math))
    number = ".".join(map(str, numbers))
    return number, re.sub(r'(href|src)="([^"]*)"', turn, markup), has_mathematics


def _chapter_title(app, figure: Figure) -> str:
    return app.env.titles[f"book/{figure.chapter.slug}"].astext()


def pages(app):
    """The pages, and beside each the files that it links where nothing else puts them there."""
    if app.builder.format != "html":
        return
    templates = Environment(
        loader=FileSystemLoader(Path(__file__).parent), autoescape=True, trim_blocks=True
    )
    template = templates.get_template("figure_page.html")
    known, doctrees = figures(app.srcdir), {}
    out = Path(app.outdir) / "figures"
    for folder in out.glob("*"):
        if folder.name not in {figure.name for figure in known}:
            shutil.rmtree(folder)
    for figure in known:
        docname = f"book/{figure.chapter.slug}"
        if docname not in doctrees:
            doctrees[docname] = app.env.get_and_resolve_doctree(docname, app.builder)
        number, caption, mathematics = _caption(app, figure, doctrees[docname])
        folder = out / figure.name
        folder.mkdir(parents=True, exist_ok=True)
        for path in figure.files():
            if path.exists():
                shutil.copyfile(path, folder / path.name)
        (folder / f"{figure.name}.svg").write_text(figure.svg, encoding="utf-8")
        facts = _facts(figure)
        title = f"Fig. {number}: {figure.words.lower()}" if number else figure.words
        body = template.render(
            title=title,
            figure=figure,
            caption=caption,
            chapter=_chapter_title(app, figure),
            files=[(path.name, KINDS[path.suffix]) for path in figure.files()],
            declared=figure.chapter.parameters(),
            facts=facts,
            nothing=hashlib.sha256().hexdigest(),  # digest of a chapter that reads no data
            entries=list(cite.cite(figure.chapter, figure.name).values()),
        )
        page = f"figures/{figure.name}/index"
        # Sphinx loads MathJax where this says so
        app.env.domaindata["math"]["has_equations"][page] = mathematics
        yield page, {"title": title, "body": body, "sourcename": ""}, "page.html"


def setup(app):
    app.connect("html-collect-pages", pages)
    app.add_css_file("ledgers.css")
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
