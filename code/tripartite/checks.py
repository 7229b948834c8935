"""Refuse bad input before long work starts, in words that name the parameter and what is allowed."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from array_api_compat import array_namespace


def check_positive_int(**parameters: int) -> None:
    """Raise ValueError unless every parameter is a whole number of at least 1."""
    for name, value in parameters.items():
        if isinstance(value, bool) or not hasattr(value, "__index__") or value < 1:
            raise ValueError(f"{name} = {value!r}: must be a whole number, at least 1")


def check_positive(**parameters: float) -> None:
    """Raise ValueError unless every parameter is a finite number above 0."""
    for name, value in parameters.items():
        if not (is_finite(value) and value > 0):
            raise ValueError(f"{name} = {value!r}: must be a finite number above 0")


def is_finite(value: Any) -> bool:
    """True for a finite real number; False for anything else, numbers in a text among it."""
    try:
        return not isinstance(value, bool) and math.isfinite(value)
    except (TypeError, OverflowError):
        return False


def check_choice(name: str, value: str, allowed: Any) -> None:
    """Raise ValueError unless value is one of allowed."""
    if not isinstance(value, str) or value not in allowed:
        raise ValueError(f"{name} = {value!r}: must be one of {', '.join(sorted(allowed))}")


def namespace_of(**arrays: Any) -> Any:
    """The array-API namespace of arrays, None passed over.

    Raises ValueError that names what is no array, or the libraries where there are several.
    """
    spaces = {}
    for name, x in arrays.items():
        if x is not None:
            try:
                spaces[name] = array_namespace(x)
            except TypeError:
                raise ValueError(f"{name} is a {type(x).__name__}: must be an array") from None
    if len(set(spaces.values())) > 1:
        prefix = "array_api_compat."
        of = [f"{name} of {space.__name__.removeprefix(prefix)}" for name, space in spaces.items()]
        raise ValueError(f"{', '.join(of)}: must be arrays of one library")
    return next(iter(spaces.values()))


def check_real(**arrays: Any) -> None:
    """Raise ValueError unless arrays, of one library, hold real numbers; None is passed over."""
    xp = namespace_of(**arrays)
    for name, x in arrays.items():
        if x is not None and not xp.isdtype(x.dtype, ("real floating", "integral")):
            raise ValueError(f"{name} has dtype {x.dtype}: must be real numbers")


def check_floating(**arrays: Any) -> None:
    """Raise ValueError unless arrays, of one library, hold real floating-point numbers."""
    xp = namespace_of(**arrays)
    for name, x in arrays.items():
        if not xp.isdtype(x.dtype, "real floating"):
            raise ValueError(f"{name} has dtype {x.dtype}: must be real floating-point numbers")


def check_tokens(*, queries=None, keys=None, values=None, causal: bool = False) -> None:
    """Raise ValueError unless queries, keys and values fit together: (..., tokens, features).

    They must be arrays of one library and of real numbers.
    """
    check_real(queries=queries, keys=keys, values=values)
    given = {"queries": queries, "keys": keys, "values": values}
    given = {name: x for name, x in given.items() if x is not None}
    for name, x in given.items():
        if x.ndim < 2:
            raise ValueError(f"{name} has shape {tuple(x.shape)}: must be (..., tokens, features)")
    _agree(given, "queries", "keys", -1, "features")
    _agree(given, "keys", "values", -2, "tokens")
    if causal and queries.shape[-2] > keys.shape[-2]:
        raise ValueError(
            f"queries {tuple(queries.shape)} and keys {tuple(keys.shape)}: "
            "must have no more queries than keys, where causal = True"
        )


def check_weights(weights: Any, keys: Any) -> None:
    """Raise ValueError unless weights, (..., tokens), fit keys and are finite numbers of at least 0.

    None is passed over. Within a traced function only the shape is checked.
    """
    if weights is None:
        return
    xp = namespace_of(keys=keys, weights=weights)
    check_floating(weights=weights)
    if not weights.ndim or weights.shape[-1] != keys.shape[-2]:
        raise ValueError(
            f"weights {tuple(weights.shape)} and keys {tuple(keys.shape)}: "
            "must have the same number of tokens"
        )
    if known(xp.all((weights >= 0) & xp.isfinite(weights))) is False:
        raise ValueError("weights: must be finite numbers, at least 0")


def check_context(**arrays: Any) -> None:
    """Raise ValueError where arrays, (..., tokens, features), hold no token to attend to."""
    for name, x in arrays.items():
        if x.shape[-2] == 0:
            raise ValueError(f"{name} has shape {tuple(x.shape)}: must hold at least one token")


def check_width(x: Any, d_key: int) -> None:
    """Raise ValueError unless tokens have as many features as the neurons' directions."""
    if x.shape[-1] != d_key:
        raise ValueError(f"tokens of width {x.shape[-1]}: must be d_key = {d_key} wide")


def known(truth: Any) -> bool | None:
    """Whether an array of one truth value is true; None where nobody knows yet.

    Within a function that is traced (JAX's jit, PyTorch's vmap), numbers come later than code.
    """
    try:
        return bool(truth)
    except (TypeError, RuntimeError):
        return None


def check_finite(**arrays: Any) -> None:
    """Raise ValueError if an array holds NaN or infinity; within a traced function, nothing."""
    for name, x in arrays.items():
        xp = array_namespace(x)
        if known(xp.all(xp.isfinite(x))) is False:
            raise ValueError(f"{name}: holds NaN or infinity; all numbers must be finite")


def _agree(given: dict, a: str, b: str, axis: int, what: str) -> None:
    if a in given and b in given and given[a].shape[axis] != given[b].shape[axis]:
        raise ValueError(
            f"{a} {tuple(given[a].shape)} and {b} {tuple(given[b].shape)}: "
            f"must have the same number of {what}"
        )


def check_pairs(name: str, pairs: Any, sizes: tuple[int, int], *, mutual: bool = False) -> None:
    """Raise ValueError unless pairs, (k, 2), name members of two groups, each pair once.

    mutual: (a, b) is the same pair as (b, a), and nothing pairs with itself.
    """
    pairs = np.asarray(pairs)
    if pairs.ndim != 2 or pairs.shape[1] != 2 or not np.issubdtype(pairs.dtype, np.integer):
        raise ValueError(f"{name} has shape {pairs.shape}: must be whole numbers, (pairs, 2)")
    if pairs.size and (pairs.min() < 0 or np.any(pairs.max(axis=0) >= sizes)):
        raise ValueError(f"{name}: must be at least 0 and below {sizes[0]} and {sizes[1]}")
    pairs = np.sort(pairs, axis=1) if mutual else pairs
    kinds, counts = np.unique(pairs, axis=0, return_counts=True)
    if np.any(counts > 1):
        a, b = kinds[np.argmax(counts)]
        raise ValueError(f"{name}: {a} and {b} are paired more than once; must be once")
    if mutual and np.any(pairs[:, 0] == pairs[:, 1]):
        raise ValueError(f"{name}: must join two different members")


def check_spike_times(spike_times: Any, name: str = "spike_times") -> np.ndarray:
    """The times as an array; ValueError unless they are 1-D, finite, at least 0 and increasing."""
    times = np.asarray(spike_times, dtype=float)
    if times.ndim != 1:
        raise ValueError(f"{name} has shape {times.shape}: must be (spikes,)")
    wrong = np.flatnonzero(~(np.isfinite(times) & (times >= 0)))
    if wrong.size:
        i = wrong[0]
        raise ValueError(f"{name}[{i}] = {times[i]}: must be a finite time, at least 0 s")
    wrong = np.flatnonzero(np.diff(times) <= 0)
    if wrong.size:
        i = wrong[0]
        kind = "duplicate" if times[i] == times[i + 1] else "unsorted"
        raise ValueError(
            f"{name}[{i + 1}] = {times[i + 1]:g} after {times[i]:g} ({kind}): must increase"
        )
    return times
