"""The text that the authors' notebook on language reads, taken from the notebook itself."""

from __future__ import annotations

import ast
import json

from .fetch import notebooks_directory


def abstract() -> str:
    """The abstract of the preprint, as far as the notebook has it; fetches the notebook.

    Its repository has no licence, so the text is not kept with the book.
    Raises FetchError where the notebook is not in the cache and cannot be had.
    """
    path = notebooks_directory() / "ALBERT_Neuron_Astrocyte.ipynb"
    return assigned(json.loads(path.read_text(encoding="utf-8")), "text")


def assigned(notebook: dict, name: str) -> str:
    """The string that a notebook's code assigns to a name; nothing of it is executed.

    Raises ValueError where no cell or more than one does.
    """
    found = []
    for cell in notebook["cells"]:
        try:
            nodes = ast.parse("".join(cell["source"])).body
        except SyntaxError:  # prose, or a shell command
            continue
        for node in nodes:
            if isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant):
                names = [target.id for target in node.targets if isinstance(target, ast.Name)]
                if name in names and isinstance(node.value.value, str):
                    found.append(node.value.value)
    if len(found) != 1:
        raise ValueError(f"name = {name!r}: {len(found)} cells assign a string to it, must be one")
    return found[0]
