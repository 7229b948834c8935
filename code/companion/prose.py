"""Sentences and tables whose numbers were computed: shown rounded, kept and compared as numbers."""

from __future__ import annotations

import math
import string
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

Value = int | float | str
DIGITS = 9  # of a number that is kept: more would change from machine to machine


@dataclass(frozen=True)
class Text:
    """Words with fields, and what stands in them; a notebook shows it as Markdown."""

    template: str
    values: dict[str, Value]

    def __str__(self) -> str:
        return fill(self.template, self.values)

    def _repr_mimebundle_(self, include=None, exclude=None):
        kept = {name: _kept(value) for name, value in self.values.items()}
        note = {"text": self.template, "values": kept}
        return {"text/markdown": str(self), "text/plain": str(self)}, {"tripartite": note}


def prose(sentence: str, /, **values: object) -> Text:
    """A sentence with its numbers: prose("The error is {error:.0%}.", error=x), as str.format does.

    values: numbers (also of NumPy) and strings. Numbers are compared with those of the committed
    chapter as numbers, words as words. Raises ValueError on a value that no field shows, a field
    without its value, or a value that is neither number nor text.
    """
    fields = {name.split(".")[0].split("[")[0] for name in _fields(sentence)}
    if fields != set(values):
        odd = ", ".join(sorted(fields ^ set(values)))
        raise ValueError(
            f"prose: {odd}: every field of the sentence must have its value, and no more"
        )
    return Text(sentence, {name: _plain(name, value) for name, value in values.items()})


def table(columns: Mapping[str, Sequence | tuple[Sequence, str]]) -> Text:
    """A Markdown table: head -> cells, or head -> (cells, format) as in "{:.2f}" without braces.

    A cell that is None is a dash. Raises ValueError where columns differ in length.
    """
    parts = {
        head: column if isinstance(column, tuple) and isinstance(column[1], str) else (column, "")
        for head, column in columns.items()
    }
    lengths = {head: len(cells) for head, (cells, _) in parts.items()}
    if len(set(lengths.values())) != 1:
        raise ValueError(f"table: columns must be equally long, not {lengths}")
    values, rows = {}, []
    for row in range(next(iter(lengths.values()))):
        line = []
        for column, (cells, form) in enumerate(parts.values()):
            if cells[row] is None:
                line.append("–")
                continue
            name = f"r{row}c{column}"
            values[name] = _plain(name, cells[row])
            line.append(f"{{{name}:{form}}}" if form else f"{{{name}}}")
        rows.append(f"| {' | '.join(line)} |")
    heads = [head.replace("{", "{{").replace("}", "}}") for head in parts]
    lines = [f"| {' | '.join(heads)} |", "|---" * len(heads) + "|", *rows]
    return Text("\n".join(lines), values)


def fill(template: str, values: Mapping[str, Value]) -> str:
    """The words with every value in its field."""
    return template.format_map({name: _number(value) for name, value in values.items()})


def _fields(template: str) -> list[str]:
    found = []
    for _, name, form, _ in string.Formatter().parse(template):
        if name is not None:
            found += [name, *_fields(form or "")]
    return found


def _plain(name: str, value: object) -> Value:
    if isinstance(value, np.ndarray) and value.size == 1 or isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        kind = type(value).__name__
        raise ValueError(f"prose: {name} = {value!r}: must be a number or text, not {kind}")
    return value


def _kept(value: Value) -> Value:
    if not isinstance(value, float):
        return value
    # JSON has neither NaN nor infinity
    return float(f"{value:.{DIGITS}g}") if math.isfinite(value) else str(value)


def _number(value: Value) -> Value:
    return float(value) if value in ("nan", "inf", "-inf") else value
