"""Shapes that docstrings state, checked on every call that a test makes.

`keys: (..., i, d)` in a docstring is what a call's argument must have been, and `Returns (..., t)`
its result: a letter or word is one size throughout a call, a number is itself, `...` any axes. They
are looked at after the call, so that the module's own refusals come first. Named tuples that a call
returns must be as the docstring of their class says.
"""

from __future__ import annotations

import functools
import inspect
import re
from collections.abc import Callable

AXES = r"\(((?:[^(),.]|\.\.\.)*,[^()]*|\.\.\.)\)"  # of one axis or more: (n,) and not (mM)
ONE_OF = rf"{AXES}(?: or {AXES})?"


class ShapeError(AssertionError):
    """A docstring says another shape than a call had."""


def stated(doc: str | None, names) -> tuple[dict[str, list[str]], str | None]:
    """Shapes by name of an argument or field, and the shape of the result; of one docstring."""
    text = " ".join((doc or "").split())
    found = re.findall(rf"\b(\w+): {ONE_OF}", text)
    returned = re.search(rf"Returns (?:\w+, )?{AXES}", text)
    by_name = {n: [axes for axes in of if axes] for n, *of in found if n in names}
    return by_name, returned and returned[1]


def fits(shape: tuple, axes: str, sizes: dict[str, int]) -> bool:
    """Whether a shape is as stated, with the sizes known so far; those that it names are added."""
    words = [word.strip() for word in axes.rstrip(", ").split(",")]
    gap = words.index("...") if "..." in words else len(words)
    behind = words[gap + 1 :]
    if len(shape) < gap + len(behind) or ("..." not in words and len(shape) != len(words)):
        return False
    pairs = [*zip(words[:gap], shape), *zip(behind, shape[len(shape) - len(behind) :])]
    for word, size in pairs:
        if re.fullmatch(r"\d+|.*[+*].*", word):
            known = re.sub(r"[A-Za-z_]\w*", lambda m: str(sizes.get(m[0], "None")), word)
            if "None" not in known and eval(known) != size:
                return False
        elif sizes.setdefault(word, size) != size:
            return False
    return True


def watched(f: Callable) -> Callable:
    """The function, whose calls raise ShapeError where its docstring states other shapes."""
    signature = inspect.signature(f)
    by_name, returned = stated(f.__doc__, signature.parameters)
    if not by_name and not returned:
        return f

    seen = set()

    @functools.wraps(f)
    def call(*args, **kwargs):
        result = f(*args, **kwargs)
        case = tuple(getattr(x, "shape", None) for x in (*args, *kwargs.values())), *kwargs
        if case in seen:  # integrators call a function a million times
            return result
        seen.add(case)
        given, sizes = signature.bind(*args, **kwargs).arguments, {}
        for name, axes in by_name.items():
            _compare(f, name, given.get(name), axes, sizes)
        if returned:
            _compare(f, "the result", result, [returned], sizes)
        fields = getattr(result, "_fields", ())
        of_fields, sizes = stated(type(result).__doc__, fields)[0], {}
        for name, axes in of_fields.items():
            _compare(type(result), name, getattr(result, name), axes, sizes)
        return result

    return call


def _compare(of, name: str, value, axes: list[str], sizes: dict[str, int]) -> None:
    if not hasattr(value, "shape"):
        return
    for one in sorted(axes, key=lambda a: a.split(", ")[-1] != "1"):  # (..., 1) is no name's size
        tried = dict(sizes)
        if fits(tuple(value.shape), one, tried):
            sizes.update(tried)
            return
    words = " or ".join(f"({one})" for one in axes)
    raise ShapeError(f"{of.__qualname__}: {name} is {tuple(value.shape)}, said {words}, {sizes}")


def watch(module) -> None:
    """Watch the public functions of a module."""
    for name, f in list(vars(module).items()):
        if name.startswith("_") or getattr(f, "__module__", None) != module.__name__:
            continue
        if inspect.isfunction(f):
            setattr(module, name, watched(f))
