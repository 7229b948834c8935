"""How much code a page shows: bars that say what they hide, and a switch for the whole book.

"none" shows the text alone, "main" also what a reader would copy, "all" every cell. A cell that is
folded and shows nothing has no bar: it appears with "all", or where a link leads to it.
"""

from pathlib import Path

from docutils import nodes
from sphinx.transforms.post_transforms import SphinxPostTransform

from companion.chapters import Chapter

AMOUNTS = {
    "none": "Show the text alone",
    "main": "Show the main code, fold the rest",
    "all": "Show all code",
}
SWITCH = '<strong>Code</strong> <span class="code-switch" role="group" aria-label="How much code to show">{}</span>'


def shown(cell, numbers: dict[str, tuple[int, ...]]) -> str | None:
    """What a cell shows, in a word or two; None where that is nothing."""
    for output in cell.outputs:
        note = output.get("metadata", {}).get("tripartite", {})
        if "figure" in note:
            number = ".".join(map(str, numbers.get(note["figure"], ())))
            return f"Fig. {number}" if number else "figure"
        if "claim" in note:
            return "check"
        if "text" in note:
            return "table" if note["text"].startswith("|") else "text"
        if 'class="explorer"' in "".join(output.get("data", {}).get("text/html", "")):
            return "explorer"
    return "output" if cell.outputs else None


class NameBars(SphinxPostTransform):
    """Gives each folded cell its words, or the class `silent`, before MyST-NB folds it."""

    default_priority = 190
    formats = ("html",)

    def run(self, **kwargs):
        path = Path(self.env.doc2path(self.env.docname))
        if path.suffix != ".ipynb":
            return
        cells = Chapter(path).cells()
        numbers = self.env.toc_fignumbers.get(self.env.docname, {}).get("figure", {})
        for node in self.document.findall(nodes.container):
            if node.get("nb_element") == "cell_code" and node.get("hide_mode"):
                cell = cells[node["cell_index"]]
                words = shown(cell, numbers)
                label = f"Code: {words}" if words else "Code"
                if node["hide_mode"] == "all":  # a table that a figure draws already, and its code
                    head = cell.outputs[0].metadata.tripartite.text.split("|")[1]
                    label = f"Table: {head.strip(' :')}"
                node["prompt_show"] = node["prompt_hide"] = label
                if words is None:
                    node["classes"].append("silent")


def switch() -> str:
    """The switch as markup; reading.js makes it work and remembers what was chosen."""
    buttons = "".join(
        f'<button type="button" value="{amount}" title="{title}" aria-pressed="{str(amount == "main").lower()}">{amount}</button>'
        for amount, title in AMOUNTS.items()
    )
    return SWITCH.format(buttons)


def setup(app):
    app.add_post_transform(NameBars)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
