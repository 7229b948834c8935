"""What a chapter calls when it runs in a reader's page, and what runs its cells there.

In a page (book/_ext/live.py makes it so) this module is the package `companion`. Claims, sentences,
parameters and plotted numbers are the book's own modules. What needs a model, other processes or a
sweep says that a page does not have it; the cells that depend on it are named with the reason.
"""

from __future__ import annotations

import ast
import io
import os
import symtable
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass

from . import plotted
from .claims import Claim, claim
from .parameters import parse_parameters
from .paths import data, reference
from .prose import Text, prose, table
from .style import COLOURS, plain_ticks, use_style

__all__ = ["COLOURS", "claim", "data", "plain_ticks", "prose", "publish", "table", "use_style"]
__all__ += ["Choice", "explorer", "film", "progress"]


class NotInPage(RuntimeError):
    """A cell asks for what a page does not have."""


@dataclass(frozen=True)
class Drawn:
    """A figure that a cell has published: its picture, and its distance from the committed numbers."""

    figure: str
    svg: str
    deviation: float | None
    same: bool


def publish(fig, name: str, *, data: Mapping[str, object], tolerance: float = plotted.TOLERANCE):
    """Draw a figure as SVG and compare its numbers with the committed ones.

    name, data, tolerance: as of `companion.publish.publish`. Raises ValueError on data without series.
    """
    known = plotted.load(reference() / name)
    found = plotted.deviation(plotted.tidy(data), known) if known else {}
    picture = io.StringIO()
    fig.savefig(picture, format="svg", metadata={"Date": None})
    _close_figures()
    largest = max(found.values(), default=None)
    return Drawn(name, picture.getvalue(), largest, largest is not None and largest <= tolerance)


def progress(steps: Iterable, what: str) -> Iterable:
    """The steps: the page itself says which cell is running."""
    return steps


def explorer(*_, **__):
    """Raises NotInPage."""
    raise NotInPage("it makes an explorer, which is not drawn again here")


def film(*_, **__):
    """Raises NotInPage."""
    raise NotInPage("it makes a film, which is not drawn again here")


Choice = explorer


def execute(cells: list[dict], values: Mapping[str, str], show: Callable[[dict], None]) -> None:
    """Execute a chapter's cells with other parameters, and show what each gives.

    cells: in their order, each with its id, source, committed text and whether it is the parameters
    cell; values: parameters as typed, by name; show: called with the place of each cell before it runs, and with
    what it shows, or the reason why it did not run. A cell that fails leaves none of its names.
    Raises ParameterError on a value that is not allowed, before any cell runs.
    """
    os.environ["TRIPARTITE_CLAIMS"] = "report"
    declared = parse_parameters(next(c["source"] for c in cells if c["parameters"]))
    chosen = {name: declared[name].parse(text) for name, text in values.items()}
    namespace: dict = {"__name__": "__main__"}
    lost: dict[str, None] = {}
    for place, cell in enumerate(cells):
        show({"place": place})
        made = _assigned(cell["source"])
        try:
            result = _run(cell["source"], namespace)
        except Exception as error:
            for name in made:
                namespace.pop(name, None)
                lost[name] = None
            _close_figures()
            show({"cell": cell["id"], "reason": _reason(error, lost)})
            continue
        for name in made:
            lost.pop(name, None)
        if cell["parameters"]:
            namespace |= chosen
        if content := _content(result, cell["text"]):
            show({"cell": cell["id"]} | content)


def _run(source: str, namespace: dict):
    """Execute a cell; returns the value of its last line where that is an expression."""
    tree, last = ast.parse(source), None
    if tree.body and isinstance(tree.body[-1], ast.Expr):
        last = ast.Expression(tree.body.pop().value)
    exec(compile(tree, "<cell>", "exec"), namespace)
    return eval(compile(last, "<cell>", "eval"), namespace) if last else None


def _assigned(source: str) -> list[str]:
    """The names that a cell gives a value to, outside its functions."""
    symbols = symtable.symtable(source, "<cell>", "exec").get_symbols()
    return [s.get_name() for s in symbols if s.is_assigned() or s.is_imported()]


def _reason(error: Exception, lost: Mapping[str, None]) -> str:
    if isinstance(error, NameError) and error.name in lost:
        return f"it needs {error.name}, of a cell that did not run"
    if isinstance(error, NotInPage):
        return str(error)
    if isinstance(error, ModuleNotFoundError):
        return f"it needs {error.name}, which the page does not have"
    return f"{type(error).__name__}: {error}"


def _content(result, committed: str) -> dict | None:
    if isinstance(result, Claim):
        shown, _ = result._repr_mimebundle_()
        return {"claim": asdict(result) | {"html": shown["text/html"]}}
    if isinstance(result, Drawn):
        return asdict(result)
    if isinstance(result, Text) and str(result) != committed:
        return {"text": str(result)}
    return None


def _close_figures() -> None:
    import matplotlib.pyplot as plt

    plt.close("all")
