"""Parameters with units: frozen dataclasses whose every field knows its unit, range and meaning.

All code computes in uM and s. A value is a number in the field's unit, or text such as "500 mM".
"""

from __future__ import annotations

import math
from dataclasses import MISSING, Field, field, fields
from numbers import Real
from typing import Any

UNITS: dict[str, tuple[str, float]] = {  # unit -> (unit that the code computes in, factor)
    "1": ("1", 1.0),
    **{unit: ("uM", size) for unit, size in {"nM": 1e-3, "uM": 1.0, "mM": 1e3, "M": 1e6}.items()},
    **{unit: ("s", size) for unit, size in {"ms": 1e-3, "s": 1.0, "min": 60.0}.items()},
    **{unit: ("1/s", size) for unit, size in {"1/min": 1 / 60, "1/s": 1.0, "1/ms": 1e3}.items()},
    "uM/s": ("uM/s", 1.0),
    "1/(uM s)": ("1/(uM s)", 1.0),
}


def quantity(
    unit: str,
    meaning: str,
    low: float = 0.0,
    high: float = math.inf,
    *,
    above: bool = False,
    default: Any = MISSING,
    source: str = "",
) -> Any:
    """A dataclass field in one of the units the code computes in, allowed from low to high.

    above: the value must be greater than low, not equal to it. source: who brought the parameter in;
    its value has that of the published set.
    """
    metadata = {"unit": unit, "meaning": meaning, "low": low, "high": high, "above": above}
    metadata["source"] = source
    return field(default=default, metadata=metadata)


class Quantities:
    """Base of parameter dataclasses: converts units, refuses what is not allowed, lists itself."""

    def __post_init__(self) -> None:
        for f in fields(self):  # type: ignore[arg-type]
            object.__setattr__(self, f.name, _checked(f, getattr(self, f.name)))

    def table(self) -> list[tuple[str, float, str, str, str]]:
        """(symbol, value, unit, meaning, source) of every parameter, in order."""
        return [
            (f.name, getattr(self, f.name), *(f.metadata[k] for k in ("unit", "meaning", "source")))
            for f in fields(self)  # type: ignore[arg-type]
        ]


def _checked(f: Field, value: Any) -> float:
    unit, low, high = f.metadata["unit"], f.metadata["low"], f.metadata["high"]
    number = _number(f.name, value, unit)
    too_low = number <= low if f.metadata["above"] else number < low
    if not math.isfinite(number) or too_low or number > high:
        bound = "above" if f.metadata["above"] else "at least"
        top = f"at most {high:g}" if high < math.inf else "finite"
        allowed = f"{bound} {low:g} and {top}"
        shown = "" if unit == "1" else f" {unit}"
        raise ValueError(
            f"{f.name} = {number:g}{shown} ({f.metadata['meaning']}): must be {allowed}"
        )
    return number


def _number(name: str, value: Any, unit: str) -> float:
    if isinstance(value, str):
        amount, _, given = value.strip().partition(" ")
        try:
            base, factor = UNITS[given or "1"]
            number = float(amount) * factor
        except (KeyError, ValueError):
            raise ValueError(
                f"{name} = {value!r}: must be a number, a space and a unit of {', '.join(UNITS)}"
            ) from None
        if base != unit:
            raise ValueError(f"{name} = {value!r}: must be in {_same_kind(unit)}")
        return number
    if isinstance(value, bool) or not isinstance(value, Real):
        raise ValueError(f"{name} = {value!r}: must be one number in {unit}, or text with its unit")
    return float(value)


def _same_kind(unit: str) -> str:
    return " or ".join(name for name, (base, _) in UNITS.items() if base == unit)
