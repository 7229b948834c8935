"""The network in continuous time: neurons, synapses and astrocyte as one system of rate equations.

    tau_h dh/dt = -h + phi(x)              hidden neurons, driven by one token for a time T
    tau_l dl/dt = -l + u + r P (H h)       output neurons; u is a value, or the skip connection
          dH/dt = w l h^T / T - leak_H H   Hebbian weights
          dg/dt = w h / T - leak_g g       presynaptic weights from neurons to astrocyte
    tau_p dP/dt = r (1 - P g.h)            gain of the astrocyte's processes

A neuromodulator sets w and r: w = 1 writes, r = 1 reads. Slow tokens give `tripartite.network`.
Rules and fixed points are those of Kozachkov et al. 2023; time constants and leaks are ours.
Arrays have shape (..., tokens, features), states (..., features); neurons have no unit.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import numpy as np

from . import network, rungekutta
from .checks import check_context, check_finite, check_positive, check_positive_int, check_tokens
from .quantities import Quantities, quantity
from .rungekutta import TABLES

Array = np.ndarray

REACH = TABLES["rk4"].stable  # dt * rate up to which a decay is integrated without growing


_membrane = partial(quantity, source="Stimberg et al. 2019, example 1: C_m / g_l")
_process = partial(quantity, source="Stobart et al. 2018: fastest calcium of processes")
_chosen = partial(quantity, source="our choice")


@dataclass(frozen=True)
class Times(Quantities):
    """Time constants. Their sources are with them."""

    T: float = _chosen("s", "presentation of one token", above=True, default=1.0)
    tau_h: float = _membrane("s", "hidden neurons", above=True, default=0.02)
    tau_l: float = _membrane("s", "output neurons", above=True, default=0.02)
    tau_p: float = _process("s", "astrocyte's gain, where p = 1", above=True, default=0.12)
    leak_H: float = _chosen("1/s", "forgetting of Hebbian weights", default=0.0)
    leak_g: float = _chosen("1/s", "forgetting of weights to the astrocyte", default=0.0)


class Stimulus(NamedTuple):
    """What drives the network, for a stream of tokens; for one token the axis is missing.

    hidden: (..., tokens, m), phi(x); output: (..., tokens, e), u; writing and reading: (tokens,),
    w and r.
    """

    hidden: Array
    output: Array
    writing: Array
    reading: Array


class State(NamedTuple):
    """h (..., m), H (..., e, m), g (..., m), P (...) and l (..., e)."""

    hidden: Array
    hebbian: Array
    astrocytic: Array
    gain: Array
    output: Array


def stream(
    phi: network.Population,
    queries: Array,
    keys: Array,
    values: Array,
    *,
    skip: Array | None = None,
    log_scale: Array | float | None = None,
) -> Stimulus:
    """Write a context, token after token, then read it with every query.

    queries: (..., t, d); keys: (..., i, d); values: (..., i, e); skip: (..., t, e), what is added
    to the output while reading (default 0). Hidden activity is in units of exp(log_scale), (...),
    so p = g.phi(q) is in units of its square: by default that of the median p.
    Raises ValueError on shapes that disagree, on numbers that are not finite, and where p is not
    above 0, since the gain then runs away; and where no query and no log_scale says the unit.
    """
    check_tokens(queries=queries, keys=keys, values=values)
    if log_scale is None:
        check_context(queries=queries)
    skip = np.zeros((*queries.shape[:-1], values.shape[-1])) if skip is None else skip
    check_tokens(keys=queries, values=skip)
    log_p = network.attend(phi, queries, keys, values).log_response
    if not np.all(np.isfinite(log_p)):
        raise ValueError("queries: p = g.phi(q) must be above 0, or the gain grows without end")
    log_scale = 0.5 * np.median(log_p, axis=-1) if log_scale is None else np.asarray(log_scale)
    activity = phi(np.concatenate([keys, queries], axis=-2))  # type: ignore[operator]
    hidden = activity.amplitude * np.exp(activity.log_scale - log_scale[..., None, None])
    writing = np.repeat([1.0, 0.0], [keys.shape[-2], queries.shape[-2]])
    return Stimulus(hidden, np.concatenate([values, skip], axis=-2), writing, 1.0 - writing)


def rotated(stimuli: Stimulus) -> Stimulus:
    """The same stream for as few hidden neurons as it has tokens; g.h, H h, P and l stay as they are.

    The equations hold for any rotation of the hidden layer, so only inner products of activities
    matter, and a triangular factor of them is a network. It makes large populations cheap.
    """
    factor = np.linalg.qr(np.swapaxes(stimuli.hidden, -1, -2), mode="r")
    return stimuli._replace(hidden=np.swapaxes(factor, -1, -2))


def rest(stimuli: Stimulus) -> State:
    """The state before a stream: silent neurons, blank weights, gain 1."""
    *leading, _, m = stimuli.hidden.shape
    e = stimuli.output.shape[-1]
    h, l = np.zeros((*leading, m)), np.zeros((*leading, e))
    return State(h, np.zeros((*leading, e, m)), h, np.ones(leading), l)


def rates(state: State, now: Stimulus, times: Times) -> State:
    """Time derivative of every variable, per second: the right-hand side of the equations above."""
    h, H, g, P, l = state
    p, drive = np.vecdot(g, h), (H @ h[..., None])[..., 0]
    w, r = now.writing / times.T, now.reading
    return State(
        (now.hidden - h) / times.tau_h,
        (w * l)[..., None] * h[..., None, :] - times.leak_H * H,
        w * h - times.leak_g * g,
        r * (1.0 - P * p) / times.tau_p,
        (now.output + (r * P)[..., None] * drive - l) / times.tau_l,
    )


def trajectory(
    state: State, stimuli: Stimulus, times: Times, steps: int, *, every: int = 1
) -> Iterator[State]:
    """Integrate a stream by Runge-Kutta of order 4; yields every `every`-th state.

    steps: time steps in the presentation T of one token; every = steps yields the end of each.
    Raises ValueError, before the first step, on shapes that disagree, numbers that are not finite,
    gates outside 0 to 1, and steps so few that the fastest variable would be unstable.
    """
    check_positive_int(steps=steps, every=every)
    _check(state, stimuli, times)
    _check_stable(state, stimuli, times, steps)
    return _integrate(state, stimuli, times, steps, every)


def steps_needed(
    state: State, stimuli: Stimulus, times: Times, *, per_time_constant: float = 4.0
) -> int:
    """Steps in one presentation T that follow a stream: so many in the shortest time constant, and
    as many as keep the gain stable, which relaxes at p / tau_p. The rest as in `trajectory`.

    Raises ValueError on shapes that disagree, numbers that are not finite, or gates outside 0 to 1.
    """
    check_positive(per_time_constant=per_time_constant)
    _check(state, stimuli, times)
    shortest = min(times.tau_h, times.tau_l, times.tau_p)
    stable = math.ceil(max(_fastest(state, stimuli, times).values()) * times.T / REACH)
    return max(math.ceil(per_time_constant * times.T / shortest), stable)


def _integrate(state, stimuli, times, steps, every) -> Iterator[State]:
    done = 0
    for now in _tokens(stimuli):
        for _ in range(steps):
            state = _step(state, now, times, times.T / steps)
            done += 1
            if done % every == 0:
                yield state


def _step(state: State, now: Stimulus, times: Times, dt: float) -> State:
    shapes = [np.shape(x) for x in state]
    ends = np.cumsum([math.prod(shape) for shape in shapes])[:-1]

    def unpacked(y: Array) -> State:
        return State(*(x.reshape(s) for x, s in zip(np.split(y, ends), shapes, strict=True)))

    def slope(y: Array) -> Array:
        return _packed(rates(unpacked(y), now, times))

    return unpacked(rungekutta.step(slope, _packed(state), dt, TABLES["rk4"]))


def _packed(state: State) -> Array:
    return np.concatenate([np.ravel(x) for x in state])


def written(state: State, stimuli: Stimulus, times: Times) -> State:
    """The state after a stream that only writes, without integration: the exact solution.

    Within a token h and l are exponentials in time, so H and g are sums of exponentials.
    Raises ValueError if a token of the stream is read, or as `trajectory` does.
    """
    _check(state, stimuli, times)
    if np.any(stimuli.reading):
        raise ValueError("stimuli.reading: must be 0 throughout; only writing is solved here")
    of_h, of_l = 1 / times.tau_h, 1 / times.tau_l
    still, lag_h, lag_l, both = (
        _filtered(rate, times.leak_H, times.T) for rate in (0.0, of_h, of_l, of_h + of_l)
    )
    still_g, lag_g = (_filtered(rate, times.leak_g, times.T) for rate in (0.0, of_h))
    keep_h, keep_l, keep_H, keep_g = (
        math.exp(-rate * times.T) for rate in (of_h, of_l, times.leak_H, times.leak_g)
    )
    h, H, g, P, l = state
    for now in _tokens(stimuli):
        dh, dl, w = h - now.hidden, l - now.output, now.writing
        tied_to_phi = still * now.output + lag_l * dl
        tied_to_dh = lag_h * now.output + both * dl
        tied = tied_to_phi[..., None] * now.hidden[..., None, :]
        H = keep_H * H + w * (tied + tied_to_dh[..., None] * dh[..., None, :])
        g = keep_g * g + w * (still_g * now.hidden + lag_g * dh)
        h, l = now.hidden + keep_h * dh, now.output + keep_l * dl
    return State(h, H, g, P, l)


def _filtered(rate: float, leak: float, T: float) -> float:
    """Mean over s in (0, T) of exp(-rate s) exp(-leak (T - s)): what is left of it at T."""
    low, high = sorted((rate, leak))
    apart = (high - low) * T
    return math.exp(-low * T) * (-math.expm1(-apart) / apart if apart else 1.0)


def _tokens(stimuli: Stimulus) -> Iterator[Stimulus]:
    hidden, output = (np.moveaxis(x, -2, 0) for x in stimuli[:2])
    return map(Stimulus, hidden, output, stimuli.writing, stimuli.reading)


def _check(state: State, stimuli: Stimulus, times: Times) -> None:
    check_finite(**{f"stimuli.{name}": np.asarray(x) for name, x in stimuli._asdict().items()})
    check_finite(**{f"state.{name}": np.asarray(x) for name, x in state._asdict().items()})
    for name, wanted in rest(stimuli)._asdict().items():
        if np.shape(getattr(state, name)) != wanted.shape:
            shape = np.shape(getattr(state, name))
            raise ValueError(f"state.{name} has shape {shape}: must be {wanted.shape}")
    for name in ("writing", "reading"):
        gate = np.asarray(getattr(stimuli, name))
        if gate.shape != stimuli.hidden.shape[-2:-1] or np.any((gate < 0) | (gate > 1)):
            raise ValueError(f"stimuli.{name} = {gate}: must be 0 to 1, one for every token")


def _check_stable(state: State, stimuli: Stimulus, times: Times, steps: int) -> None:
    fastest = _fastest(state, stimuli, times)
    name = max(fastest, key=fastest.get)  # type: ignore[arg-type]
    needed = math.ceil(fastest[name] * times.T / REACH)
    if steps < needed:
        raise ValueError(f"steps = {steps}: must be at least {needed}, T / ({REACH} {name})")


def _fastest(state: State, stimuli: Stimulus, times: Times) -> dict[str, float]:
    """Rates of decay by the name of their time constant, 1/s."""
    p = _largest_response(state, stimuli, times)
    return {
        "tau_h": 1 / times.tau_h,
        "tau_l": 1 / times.tau_l,
        "1 / leak_H": times.leak_H,
        "1 / leak_g": times.leak_g,
        f"tau_p / p at p = {p:.3g}": p / times.tau_p,
    }


def _largest_response(state: State, stimuli: Stimulus, times: Times) -> float:
    """Largest |r g.h| of a stream, leaks left out: how fast the gain will have to relax."""
    lag, keep = _filtered(1 / times.tau_h, 0.0, times.T), math.exp(-times.T / times.tau_h)
    h, g, largest = state.hidden, state.astrocytic, 0.0
    for now in _tokens(stimuli):
        g = g + now.writing * (now.hidden + lag * (h - now.hidden))
        p = np.abs([np.vecdot(g, h), np.vecdot(g, now.hidden)])
        largest = max(largest, float(now.reading * np.max(p)))
        h = now.hidden + keep * (h - now.hidden)
    return largest
