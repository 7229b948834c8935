"""A chapter's parameters: a line of its parameters cell each, which says what is allowed."""

from __future__ import annotations

import ast
import os
import re
from dataclasses import dataclass
from pathlib import Path

Value = int | float | bool | str
PATHS = {"FILE", "FOLDER"}  # among a parameter's choices: the path of one is allowed too


class ParameterError(ValueError):
    """A parameter that a chapter does not have, or a value that it does not allow."""


@dataclass(frozen=True)
class Parameter:
    """A line of a chapter's parameters cell: name: type = default  # meaning; unit; allowed."""

    name: str
    kind: type
    default: Value
    meaning: str
    unit: str
    allowed: str

    def __str__(self) -> str:
        kind = f"{self.name}: {self.kind.__name__} = {self.default!r}"
        return f"{kind:36} {self.meaning}; {self.unit}; {self.allowed}"

    def check(self, value: Value) -> Value:
        """The value in the parameter's type; raises ParameterError where it is not allowed.

        Where FILE or FOLDER is among the choices, a value that is no listed name is the path of
        what is there, and comes back absolute.
        """
        if self.kind is float and type(value) is int:
            value = float(value)
        if type(value) is not self.kind:
            raise ParameterError(f"{self.name} = {value!r}: must be of type {self.kind.__name__}")
        if self._allows(value):
            return value
        problem = f"{self.name} = {value!r}: must be {self.allowed}"
        if not PATHS.intersection(self.choices):
            raise ParameterError(problem)
        # chapters are executed in a folder of their own; os.path has an answer for every string
        path = Path(os.path.expanduser(value)).absolute()
        for kind, is_there in (("FILE", os.path.isfile), ("FOLDER", os.path.isdir)):
            if value and kind in self.choices and is_there(path):
                return str(path)
        raise ParameterError(f"{problem}; there is no such {self._wanted()} as {path}")

    def parse(self, text: str) -> Value:
        """A value as typed on the command line; raises ParameterError where it is not allowed."""
        if self.kind is str:
            return self.check(text)
        try:
            return self.check(ast.literal_eval(text))
        except (ValueError, SyntaxError) as error:
            if isinstance(error, ParameterError):
                raise
            message = f"{self.name} = {text!r}: must be of type {self.kind.__name__}"
            raise ParameterError(message) from None

    @property
    def choices(self) -> list[str]:
        return [choice.strip() for choice in self.allowed.split("|")]

    @property
    def limits(self) -> tuple[float, float] | None:
        """The lowest and the highest value; None where it is one of several choices."""
        if " .. " not in self.allowed:
            return None
        low, high = (ast.literal_eval(end) for end in self.allowed.split(" .. "))
        return low, high

    def _wanted(self) -> str:
        return " or ".join(kind.lower() for kind in sorted(PATHS.intersection(self.choices)))

    def _allows(self, value: Value) -> bool:
        if limits := self.limits:
            return limits[0] <= value <= limits[1]
        return str(value) in set(self.choices) - PATHS


_LINE = re.compile(r"(?P<code>[^#]+)#\s*(?P<meaning>[^;]+);\s*(?P<unit>[^;]+);\s*(?P<allowed>.+)")
_TYPES = {"int": int, "float": float, "bool": bool, "str": str}


def parse_parameters(source: str) -> dict[str, Parameter]:
    """The parameters that a cell declares, one a line.

    Raises ParameterError that quotes a line which does not read as one.
    """
    declared = {}
    for line in filter(str.strip, source.splitlines()):
        if line.lstrip().startswith("#"):
            continue
        match = _LINE.fullmatch(line)
        try:
            (node,) = ast.parse(match["code"].strip()).body
            name, kind = node.target.id, _TYPES[node.annotation.id]
            parameter = Parameter(
                name,
                kind,
                ast.literal_eval(node.value),
                *(match[part].strip() for part in ("meaning", "unit", "allowed")),
            )
        except (TypeError, AttributeError, KeyError, ValueError, SyntaxError):
            form = "name: type = default  # meaning; unit; allowed"
            raise ParameterError(f"parameters cell, {line!r}: must read {form!r}") from None
        parameter.check(parameter.default)
        declared[name] = parameter
    return declared
