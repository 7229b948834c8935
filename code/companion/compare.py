"""How an execution of a chapter differs from the committed one."""

from __future__ import annotations

from dataclasses import dataclass, field

from nbformat import NotebookNode

from .chapters import named

TEXT = ("text/plain", "text/html", "text/markdown")


@dataclass
class Comparison:
    """Figures by name with the deviation of each series (None: no reference), claims, the rest."""

    figures: dict[str, dict[str, float] | None] = field(default_factory=dict)
    tolerances: dict[str, float] = field(default_factory=dict)
    claims: list[dict] = field(default_factory=list)
    other_outputs_changed: int = 0

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
        return not (
            unknown or self.changed_figures() or self.failed_claims() or self.other_outputs_changed
        )

    def rows(self) -> list[dict]:
        """A row for every series, every claim and the rest of the outputs, with its verdict."""
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
            rows.append(row | _row(f"{name} {c['statement']}", c["observed"], verdict))
        changed = self.other_outputs_changed
        rest = _row("other outputs that differ", changed, "DIFFERS" if changed else "same")
        return [*rows, {"figure": None, "tolerance": 0} | rest]

    def summary(self) -> str:
        """One line: what agrees, what does not."""
        known = [d for deviation in self.figures.values() if deviation for d in deviation.values()]
        parts = [f"{len(self.figures)} figures"]
        if known:
            parts[0] += f" (largest deviation {max(known):.1g})"
        parts.append(f"{len(self.claims) - len(self.failed_claims())} claims hold")
        if self.failed_claims():
            parts.append(f"{len(self.failed_claims())} claims FAIL")
        if self.other_outputs_changed:
            parts.append(f"{self.other_outputs_changed} other outputs differ")
        return ", ".join(parts)

    def details(self) -> list[str]:
        """A line for everything that differs."""
        lines = []
        for name, series in self.changed_figures().items():
            lines += [f"figure {name}: {key} differs by {d:.2g}" for key, d in series.items()]
        new = [name for name, deviation in self.figures.items() if deviation is None]
        lines += [f"figure {name}: has no reference yet" for name in new]
        lines += [
            f"claim {c['paper_claim']} fails: {c['statement']}: {c['observed']:.3g}, "
            f"must be {c['bound']}"
            for c in self.failed_claims()
        ]
        return lines


def _row(quantity: str, difference: float | None, verdict: str) -> dict:
    return {"quantity": quantity, "difference": difference, "verdict": verdict}


def compare(fresh: NotebookNode, committed: NotebookNode) -> Comparison:
    """Compare two executions of one chapter; cells that only one has (parameters) are passed over."""
    result = Comparison()
    before = {cell.id: cell for cell in committed.cells}
    for cell in fresh.cells:
        if cell.cell_type != "code":
            continue
        outputs = cell.get("outputs", [])
        notes = [output.get("metadata", {}).get("tripartite", {}) for output in outputs]
        for note in notes:
            if "figure" in note:
                known = note["deviation"]  # infinity comes out of a kernel as text
                result.figures[note["figure"]] = known and {k: float(d) for k, d in known.items()}
                result.tolerances[note["figure"]] = note["tolerance"]
            elif "claim" in note:
                result.claims.append(note["claim"])
        if cell.id in before and not any(notes):
            result.other_outputs_changed += _text(outputs) != _text(before[cell.id].outputs)
    return result


def _text(outputs: list) -> list:
    shown = [output for output in outputs if output.get("name") != "stderr"]
    return [
        output.get("text", "") or {k: v for k, v in output.get("data", {}).items() if k in TEXT}
        for output in shown
    ]
