"""How an execution of a chapter differs from the committed one: numbers as numbers, words as words.

`cell` is the one comparison. nbval, `make book`, `tripartite verify` and every run use it.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from nbformat import NotebookNode

from .chapters import named
from .claims import limits, plain
from .plotted import TOLERANCE
from .prose import fill

TEXT = ("text/plain", "text/html", "text/markdown")
_NUMBER = re.compile(r"(?<![\w.])[-+−]?(?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d+)?(?:e[-+]?\d+)?(?![\w])")
_PASSED = re.compile(r'(?s)<figure class="explorer".*</figure>|data:image/[a-z+]+;base64,[\w+/=]+')
_ADDRESS = re.compile(r"0x[0-9a-fA-F]{6,}")


def same_number(a: float, b: float, scale: float = 0.0) -> bool:
    """Whether a and b differ by at most TOLERANCE of b, or of a scale that is larger."""
    if a == b or (math.isnan(a) and math.isnan(b)):
        return True
    return abs(a - b) <= TOLERANCE * max(abs(b), scale)  # false with one NaN or infinity


def cell(fresh: list, committed: list) -> list[str]:
    """A line for everything in which two lists of a cell's outputs differ; both texts where they do."""
    fresh, committed = _shown(fresh), _shown(committed)
    if len(fresh) != len(committed):
        return [f"{len(fresh)} outputs, the committed chapter has {len(committed)}"]
    return [line for a, b in zip(fresh, committed) for line in _output(a, b)]


def _shown(outputs: list) -> list:
    """Outputs without what goes to standard error; pieces of one stream joined."""
    shown: list = []
    for output in outputs:
        name = output.get("name")
        if name == "stderr":
            continue
        if name == "stdout" and shown and shown[-1].get("name") == name:
            shown[-1] = NotebookNode(shown[-1], text=shown[-1].text + output.text)
        else:
            shown.append(output)
    return shown


def _output(fresh, committed) -> list[str]:
    a, b = (output.get("metadata", {}).get("tripartite", {}) for output in (fresh, committed))
    if a.keys() != b.keys():
        return [_both(*map(_plain, (fresh, committed)))]
    if "figure" in b:
        return _figure(a, b)
    if "claim" in b:
        return _claim(a["claim"], b["claim"])
    if "text" in b:
        return _text(a, b)
    x, y = map(_plain, (fresh, committed))
    if x.keys() != y.keys():
        return [f"shows {', '.join(x)}; the committed chapter {', '.join(y)}"]
    return [_both(x[kind], y[kind]) for kind in x if not same_text(x[kind], y[kind])]


def _figure(a: dict, b: dict) -> list[str]:
    """What a figure's own comparison with its reference, at every point, has found."""
    if a["figure"] != b["figure"]:
        return [f"figure {a['figure']}, the committed chapter has {b['figure']}"]
    if a["deviation"] is None:
        return [f"figure {a['figure']}: has no reference yet"]
    return [
        f"figure {a['figure']}: {deviates(series, float(d))}"
        for series, d in a["deviation"].items()
        if not float(d) <= a["tolerance"]
    ]


def deviates(series: str, deviation: float) -> str:
    """In words how a series differs from its reference."""
    if math.isinf(deviation):
        return f"series {series!r} has another shape, other words or gaps, or is new or gone"
    return f"series {series!r} differs by {deviation:.2g} relative"


def _claim(a: dict, b: dict) -> list[str]:
    words = [
        f"claim {a.get('name')}: {k} {a[k]!r}, committed {b.get(k)!r}"
        for k in a
        if _differs(a, b, k)
    ]
    ends = [abs(end) for end in limits(b["bound"]) if math.isfinite(end)]
    observed = [float(claim["observed"]) for claim in (a, b)]
    if b.get("kind") != "identity" and not same_number(*observed, scale=max(ends)):
        words.append(
            f"claim {a.get('name')}: observed {observed[0]:.4g}, committed {observed[1]:.4g}"
        )
    return words


def _differs(a: dict, b: dict, key: str) -> bool:
    if key == "observed":
        return False
    return not same_text(a[key], b[key]) if key == "statement" else a[key] != b.get(key)


def _text(a: dict, b: dict) -> list[str]:
    """Sentences: words exactly, whole numbers exactly, others up to the tolerance."""
    if a["text"] != b["text"] or a["values"].keys() != b["values"].keys():
        return [_both(*(fill(x["text"], x["values"]) for x in (a, b)))]
    shown = fill(b["text"], b["values"])

    def differs(name) -> bool:
        value = a["values"][name]
        if _same_value(value, b["values"][name]):
            return False
        return fill(b["text"], b["values"] | {name: value}) != shown  # else nobody sees it

    odd = [name for name in b["values"] if differs(name)]
    if not odd:
        return []
    values = ", ".join(f"{n} = {a['values'][n]}, committed {b['values'][n]}" for n in odd)
    return [f"{values}\n{_both(fill(a['text'], a['values']), shown)}"]


def _same_value(a, b) -> bool:
    if isinstance(a, float) or isinstance(b, float):
        return not isinstance(a, str) and not isinstance(b, str) and same_number(a, b)
    return a == b


def same_text(a: str, b: str) -> bool:
    """Whether texts agree: words exactly, whole numbers exactly, rounded ones to one unit.

    Of a number with a point or an exponent, only the printed digits are known. A value that agrees
    may be printed one unit of the last digit up or down.
    """
    a, b = (_ADDRESS.sub("<ADDRESS>", _PASSED.sub("<PASSED>", x)) for x in (a, b))
    if a == b:
        return True
    if _NUMBER.sub("#", a) != _NUMBER.sub("#", b):
        return False
    return all(map(_same_printed, _NUMBER.findall(a), _NUMBER.findall(b)))


def _same_printed(a: str, b: str) -> bool:
    a, b = (x.replace(",", "").replace("−", "-") for x in (a, b))
    if a == b:
        return True
    if not set(".e") & set(a + b):
        return False
    return abs(float(a) - float(b)) <= 1.0001 * max(map(_unit, (a, b)))


def _unit(printed: str) -> float:
    """One in the last digit of a printed number."""
    digits, _, power = printed.partition("e")
    return 10.0 ** (int(power or 0) - len(digits.partition(".")[2]))


def _plain(output) -> dict[str, str]:
    """The texts of an output, by kind; pictures are not among them."""
    if "text" in output:
        return {"stdout": output["text"]}
    return {kind: "".join(x) for kind, x in output.get("data", {}).items() if kind in TEXT}


def _both(fresh: object, committed: object) -> str:
    return f"now:       {fresh}\ncommitted: {committed}"


@dataclass
class Comparison:
    """Figures by name with the deviation of each series (None: no reference), claims, the rest.

    differences: lines of `cell` by cell, of all that is neither a figure nor a claim that fails.
    """

    figures: dict[str, dict[str, float] | None] = field(default_factory=dict)
    tolerances: dict[str, float] = field(default_factory=dict)
    claims: list[dict] = field(default_factory=list)
    differences: dict[str, list[str]] = field(default_factory=dict)

    def changed_figures(self) -> dict[str, dict[str, float]]:
        """Series beyond the tolerance, by figure."""
        changed = {
            name: {series: d for series, d in deviation.items() if not d <= self.tolerances[name]}
            for name, deviation in self.figures.items()
            if deviation
        }
        return {name: series for name, series in changed.items() if series}

    def failed_claims(self) -> list[dict]:
        return [claim for claim in self.claims if not claim["holds"]]

    def same(self) -> bool:
        unknown = any(deviation is None for deviation in self.figures.values())
        return not (unknown or self.changed_figures() or self.failed_claims() or self.differences)

    def rows(self) -> list[dict]:
        """A row for every series, every claim and every other output that differs, with its verdict."""
        rows = []
        for figure, deviation in self.figures.items():
            limit = {"figure": figure, "tolerance": self.tolerances[figure]}
            if deviation is None:
                rows.append(limit | _row("all", None, "no reference"))
            for series, d in (deviation or {}).items():
                same = d <= limit["tolerance"]
                rows.append(limit | _row(series, d, "same" if same else "DIFFERS"))
        for name, c in named(self.claims).items():
            verdict = "holds" if c["holds"] else "FAILS"
            row = {"figure": c["figure"], "tolerance": c["bound"]}
            rows.append(
                row | _row(f"{c['paper_claim']} {name}: {c['statement']}", c["observed"], verdict)
            )
        number = len(self.differences)
        rest = _row("other outputs that differ", number, "DIFFERS" if number else "same")
        return [*rows, {"figure": None, "tolerance": 0} | rest]

    def summary(self) -> str:
        """One line: what agrees, what does not."""
        known = [d for deviation in self.figures.values() if deviation for d in deviation.values()]
        known = [d for d in known if math.isfinite(d)]
        parts = [f"{len(self.figures)} figures"]
        if known:
            parts[0] += f" (largest deviation {max(known):.1g})"
        parts.append(f"{len(self.claims) - len(self.failed_claims())} claims hold")
        if self.failed_claims():
            parts.append(f"{len(self.failed_claims())} claims FAIL")
        if self.differences:
            parts.append(f"{len(self.differences)} other outputs differ")
        return ", ".join(parts)

    def details(self, known: Mapping[tuple[str, str], str] = MappingProxyType({})) -> list[str]:
        """A line for everything that differs; known: (figure, series) -> what is known of it."""
        lines = [
            f"figure {name}: {known.get((name, series)) or deviates(series, d)}"
            for name, changed in self.changed_figures().items()
            for series, d in changed.items()
        ]
        new = [name for name, deviation in self.figures.items() if deviation is None]
        lines += [f"figure {name}: has no reference yet" for name in new]
        lines += [
            f"claim {c['name']} fails: {c['statement']}: {c['observed']:.3g}, must be {c['bound']}"
            for c in self.failed_claims()
        ]
        return lines + self.texts()

    def texts(self) -> list[str]:
        """What differs in the outputs that are neither figures nor claims, both texts of each."""
        return [f"cell {id}: {line}" for id, found in self.differences.items() for line in found]


def _row(quantity: str, difference: float | None, verdict: str) -> dict:
    return {"quantity": quantity, "difference": difference, "verdict": verdict}


def compare(fresh: NotebookNode, committed: NotebookNode) -> Comparison:
    """Compare two executions of one chapter; cells that only one has (parameters) are passed over."""
    result = Comparison()
    before = {cell.id: cell for cell in committed.cells}
    for run in fresh.cells:
        if run.cell_type != "code":
            continue
        outputs = run.get("outputs", [])
        notes = [output.get("metadata", {}).get("tripartite", {}) for output in outputs]
        for note in notes:
            if "figure" in note:
                known = note["deviation"]  # infinity comes out of a kernel as text
                result.figures[note["figure"]] = known and {k: float(d) for k, d in known.items()}
                result.tolerances[note["figure"]] = note["tolerance"]
            elif "claim" in note:
                result.claims.append(plain(note["claim"]))
        failed = any(not note.get("claim", {"holds": True})["holds"] for note in notes)
        if run.id in before and not failed:
            if found := cell(*map(_beside_figures, (outputs, before[run.id].outputs))):
                result.differences[run.id] = found
    return result


def _beside_figures(outputs: list) -> list:
    return [o for o in outputs if "figure" not in o.get("metadata", {}).get("tripartite", {})]
