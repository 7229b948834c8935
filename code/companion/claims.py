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
KINDS = {
    "identity": "holds by algebra, up to rounding, which differs between machines: its size is not shown",
    "fact": "one value, whatever the seed",
    "result": "depends on the seed, and is tried with seeds that nobody chose",
}


class ClaimError(AssertionError):
    """A claim does not hold."""


@dataclass(frozen=True)
class Claim:
    """One checked claim; observed is the value nearest to (or beyond) its bound."""

    paper_claim: str
    name: str
    kind: str
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
        if self.kind == "identity" and self.holds:
            return "none but rounding"
        return f"{self.observed:.2g}"

    def _repr_mimebundle_(self, include=None, exclude=None):
        verdict = "holds" if self.holds else "fails"
        text = f"[{self.paper_claim}] {verdict}: {self.sentence()}"
        esc = html.escape
        markup = (
            f'<div class="claim claim-{verdict}">'
            f'<span class="claim-id" title="claim of the paper">{esc(self.paper_claim)}</span> '
            f'<span class="claim-kind" title="{esc(KINDS[self.kind])}">{self.kind}</span> '
            f'{esc(self.statement)}: <span class="claim-number">{esc(self.number())}</span> '
            f'<span class="claim-bound">{esc(self.condition())}</span></div>'
        )
        data = {"text/plain": text, "text/html": markup}
        return data, {"tripartite": {"claim": asdict(self)}}


def claim(
    paper_claim: str,
    name: str,
    statement: str,
    observed,
    bound: str,
    *,
    kind: str,
    figure: str | None = None,
) -> Claim:
    """Check a claim and show it as a sentence with its computed number.

    paper_claim: C1..C9; name: its identity in the chapter, words joined by hyphens; observed: one
    number, or an array of them (seeds, heads, ...), every one of which must meet the bound; bound:
    "< 0.05", "> 2" or "0.9 .. 1.1", as book/bounds.yml has it; kind: identity, fact or result;
    figure: the name of the figure that shows it. Raises ClaimError if it does not hold (or is
    NaN), unless the run was told to go on (TRIPARTITE_CLAIMS=report), and ValueError on a
    malformed claim.
    """
    if not re.fullmatch(r"C[1-9]", paper_claim):
        raise ValueError(f"paper_claim = {paper_claim!r}: must be C1 to C9")
    if not re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", name):
        raise ValueError(f"name = {name!r}: must be lower-case words joined by hyphens")
    if kind not in KINDS:
        raise ValueError(f"kind = {kind!r}: must be one of {', '.join(KINDS)}")
    values = np.atleast_1d(np.asarray(observed, dtype=float)).ravel()
    if values.size == 0:
        raise ValueError("observed: must hold at least one number")
    distances = margins(values, bound)
    worst = int(np.argmin(np.where(np.isnan(distances), -np.inf, distances)))
    result = Claim(
        paper_claim,
        name,
        kind,
        statement,
        float(values[worst]),
        bound,
        int(values.size),
        figure,
        bool(distances[worst] > 0),
    )
    if not result.holds and os.environ.get("TRIPARTITE_CLAIMS") != "report":
        raise ClaimError(f"{paper_claim} {name}: {result.sentence()}")
    return result


def recorded(cells) -> dict[str, dict]:
    """The claims that executed cells checked, by name, each with the id of its cell."""
    return {
        output["metadata"]["tripartite"]["claim"]["name"]: {
            **plain(output["metadata"]["tripartite"]["claim"]),
            "cell": cell.id,
        }
        for cell in cells
        for output in cell.get("outputs", [])
        if "claim" in output.get("metadata", {}).get("tripartite", {})
    }


def plain(claim: dict) -> dict:
    """A claim as a notebook holds it, its number as one: NaN comes out of a kernel as text."""
    return claim | {"observed": float(claim["observed"])}


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
    with np.errstate(invalid="ignore"):  # of infinite values one side is NaN
        return np.fmin(values - low, high - values)
