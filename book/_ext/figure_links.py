"""Under every published figure: how to reproduce and cite it, its data, its code, its pictures.

The figure itself leads to its page, where a phone shows it at full size.
The data and pictures are those beside the page's own execution.
"""

from pathlib import Path

from docutils import nodes

FORMATS = {".svg": "SVG", ".pdf": "PDF", ".png": "PNG", ".json": "passport"}


def name_code(app, doctree):
    """An anchor on the cell of every figure, for the link to its code."""
    for figure in doctree.findall(nodes.figure):
        cell = figure.parent
        while cell is not None and cell.get("nb_element") != "cell_code":
            cell = cell.parent
        has_code = cell and any(
            part.get("nb_element") == "cell_code_source" for part in cell.findall(nodes.container)
        )
        if has_code:
            for name in figure["ids"][:1]:
                cell["ids"].append(f"code-{name}")
                figure["code"] = f"code-{name}"


def add_links(app, doctree, docname):
    if app.builder.name != "html":
        return
    published = Path(app.srcdir) / "book" / "_extra" / "figures"
    up = "../" * docname.count("/")
    for figure in doctree.findall(nodes.figure):
        for name in figure["ids"]:
            folder = published / name
            files = {file.suffix: f"{up}figures/{name}/{file.name}" for file in folder.glob("*")}
            table = files.get(".csv") or files.get(".npz")
            if not table:
                continue
            page = f"{up}figures/{name}/index.html"
            links = {
                "reproduce": f"{page}#run",
                "data": table,
                "cite": f"{page}#cite",
                "code": f"#{figure['code']}" if figure.get("code") else None,
            } | {label: files.get(suffix) for suffix, label in FORMATS.items()}
            picture = next(figure.findall(nodes.image))
            opened = nodes.raw("", f'<a class="figure-open" href="{page}">', format="html")
            picture.parent.replace(picture, [opened, picture, nodes.raw("", "</a>", format="html")])
            written = " ".join(f'<a href="{to}">{label}</a>' for label, to in links.items() if to)
            html = f'<div class="figure-links" aria-label="About this figure" role="group">{written}</div>'
            figure += nodes.raw("", html, format="html")


def setup(app):
    app.connect("doctree-read", name_code)
    app.connect("doctree-resolved", add_links)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
