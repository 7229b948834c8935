"""A claim of the book: a sentence, a number that was computed, and the bound it must meet."""

from __future__ import annotations

import html
import os
import re
from dataclasses import asdict, dataclass

import numpy as np

_NUMBER = r"[-+]?[0-9.]+(?:e[-+]?\d+)?"
_BOUND = re.compile(
    rf"(?:(?P<sign>[<>])\s*(?P<limit>{_NUMBER}))|(?P<low>{_NUMBER})\s*\.\.\s*(?P<high>{_NUMBER})"
)
ROUNDING = 1e-9  # a bound below this is one on rounding errors, which differ between machines


class ClaimError(AssertionError):
    """A claim does not hold."""


@dataclass(frozen=True)
class Claim:
    """One checked claim; observed is the value nearest to (or beyond) its bound."""

    paper_claim: str
    statement: str
    observed: float
    bound: str
    cases: int
    figure: str | None
    holds: bool

    def sentence(self) -> str:
        return f"{self.statement}: {self.number()} {self.condition()}"

    def condition(self) -> str:
        worst = f", the worst of {self.cases}" if self.cases > 1 else ""
        return f"(must be {self.bound}{worst})"

    def number(self) -> str:
        if self.holds and self.bound.startswith("<") and abs(self.observed) < ROUNDING:
            return "zero up to rounding"
        return f"{self.observed:.2g}"

    def _repr_mimebundle_(self, include=None, exclude=None):
        verdict = "holds" if self.holds else "fails"
        text = f"[{self.paper_claim}] {verdict}: {self.sentence()}"
        esc = html.escape
        markup = (
            f'<div class="claim claim-{verdict}">'
            f'<span class="claim-id" title="claim of the paper">{esc(self.paper_claim)}</span> '
            f'{esc(self.statement)}: <span class="claim-number">{esc(self.number())}</span> '
            f'<span class="claim-bound">{esc(self.condition())}</span></div>'
        )
        data = {"text/plain": text, "text/html": markup}
        return data, {"tripartite": {"claim": asdict(self)}}


def claim(
    paper_claim: str, statement: str, observed, bound: str, *, figure: str | None = None
) -> Claim:
    """Check a claim and show it as a sentence with its computed number.

    paper_claim: C1..C9; observed: one number, or an array of them (seeds, heads, ...), every one
    of which must meet the bound; bound: "< 0.05", "> 2" or "0.9 .. 1.1"; figure: the name of the
    figure that shows it. Raises ClaimError if it does not hold (or is NaN), unless the run was
    told to go on (TRIPARTITE_CLAIMS=report), and ValueError on a malformed claim.
    """
    if not re.fullmatch(r"C[1-9]", paper_claim):
        raise ValueError(f"paper_claim = {paper_claim!r}: must be C1 to C9")
    values = np.atleast_1d(np.asarray(observed, dtype=float)).ravel()
    if values.size == 0:
        raise ValueError("observed: must hold at least one number")
    distances = margins(values, bound)
    worst = int(np.argmin(np.where(np.isnan(distances), -np.inf, distances)))
    result = Claim(
        paper_claim,
        statement,
        float(values[worst]),
        bound,
        int(values.size),
        figure,
        bool(distances[worst] > 0),
    )
    if not result.holds and os.environ.get("TRIPARTITE_CLAIMS") != "report":
        raise ClaimError(f"{paper_claim}: {result.sentence()}")
    return result


def recorded(notebook) -> dict[str, dict]:
    """The claims that an executed notebook checked, by the id of the cell."""
    return {
        cell.id: dict(output["metadata"]["tripartite"]["claim"])
        for cell in notebook.cells
        for output in cell.get("outputs", [])
        if "claim" in output.get("metadata", {}).get("tripartite", {})
    }


def limits(bound: str) -> tuple[float, float]:
    """The lowest and highest value that a bound allows; ValueError on one that does not read."""
    match = _BOUND.fullmatch(bound.strip())
    if match is None:
        raise ValueError(f'bound = {bound!r}: must read like "< 0.05", "> 2" or "0.9 .. 1.1"')
    if match["sign"]:
        limit = float(match["limit"])
        return (-np.inf, limit) if match["sign"] == "<" else (limit, np.inf)
    return float(match["low"]), float(match["high"])


def margins(values: np.ndarray, bound: str) -> np.ndarray:
    """Distance of every value to the bound, positive inside; NaN for NaN."""
    low, high = limits(bound)
    return np.fmin(values - low, high - values)  # of infinite values one side is NaN
