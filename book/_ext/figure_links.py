"""Under every published figure: links to its data, its pictures and its passport."""

from pathlib import Path

from docutils import nodes

LABELS = {
    ".csv": "data",
    ".npz": "data",
    ".svg": "SVG",
    ".pdf": "PDF",
    ".png": "PNG",
    ".json": "passport",
}


def add_links(app, doctree, docname):
    if app.builder.format != "html":
        return
    published = Path(app.srcdir) / "book" / "_extra" / "figures"
    up = "../" * docname.count("/")
    for figure in doctree.findall(nodes.figure):
        for name in figure["ids"]:
            files = {file.suffix: file.name for file in (published / name).glob("*")}
            links = [
                f'<a href="{up}figures/{name}/{files[suffix]}">{label}</a>'
                for suffix, label in LABELS.items()
                if suffix in files
            ]
            if links:
                html = f'<div class="figure-links">{" ".join(links)}</div>'
                figure += nodes.raw("", html, format="html")


def setup(app):
    app.connect("doctree-resolved", add_links)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
