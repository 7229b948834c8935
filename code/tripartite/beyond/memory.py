"""Neuron-astrocyte associative memory: neurons, synapses and astrocyte processes with one energy.

    tau_n dx_i/dt  = -leak_n x_i  + sum_j g_ij phi_j + b_i              N neurons
    tau_s ds_ij/dt = -leak_s s_ij + phi_i phi_j + psi_ij                N^2 synapses
    tau_p dp_ij/dt = -leak_p p_ij + sum_kl T_ijkl psi_kl + g_ij         N^2 astrocyte processes

phi, g and psi are the activations of x, s and p. Memories live in T, the couplings between
processes of one astrocyte. Kozachkov, Slotine and Krotov 2025, arXiv 2311.08135; all is
dimensionless. Neurons have shape (..., N), synapses and processes (..., N, N), memories (K, N).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from scipy.integrate import solve_ivp
from scipy.linalg import cho_factor, cho_solve
from scipy.sparse.linalg import eigsh

from ..checks import check_choice, check_finite, check_positive, check_positive_int
from ..quantities import Quantities, quantity

Array = np.ndarray


class Layer(NamedTuple):
    """An activation with the convex Lagrangian that it is the derivative of, and its own slope."""

    activation: Callable[[Array], Array]
    lagrangian: Callable[[Array], Array]
    slope: Callable[[Array], Array]


def saturating(beta: float) -> Layer:
    """tanh(beta x), with Lagrangian log cosh(beta x) / beta."""
    check_positive(beta=beta)

    def lagrangian(x: Array) -> Array:
        y = beta * np.where(np.real(x) < 0, -x, x)  # no overflow; holds for complex x too
        return (y + np.log1p(np.exp(-2 * y)) - np.log(2)) / beta

    return Layer(
        lambda x: np.tanh(beta * x), lagrangian, lambda x: beta * (1 - np.tanh(beta * x) ** 2)
    )


LINEAR = Layer(lambda x: x, lambda x: x * x / 2, np.ones_like)
"""Activation x, with Lagrangian x^2 / 2."""


@dataclass(frozen=True)
class Times(Quantities):
    """Time constants and leaks of neurons, synapses and processes. Leaks of 0 are allowed."""

    tau_n: float = quantity("1", "neurons", above=True, default=1.0)
    tau_s: float = quantity("1", "synapses", above=True, default=1.0)
    tau_p: float = quantity("1", "processes", above=True, default=1.0)
    leak_n: float = quantity("1", "leak of neurons, lambda", default=1.0)
    leak_s: float = quantity("1", "leak of synapses, alpha", default=1.0)
    leak_p: float = quantity("1", "leak of processes, gamma", default=1.0)


class Layers(NamedTuple):
    """What neurons, synapses and processes do with x, s and p."""

    neurons: Layer
    synapses: Layer
    processes: Layer


class State(NamedTuple):
    """Neurons x (..., N), synapses s and processes p (..., N, N)."""

    x: Array
    s: Array
    p: Array


# ---- couplings between processes: N^4 numbers that are never written down


@dataclass(frozen=True)
class Couplings:
    """T_ijkl = scale * sum_mu xi_i xi_j xi_k xi_l, held as the memories themselves.

    memories: (K, N) of -1 and +1; scale: N^-3 unless given; repeated: whether T keeps entries in
    which two of the four neurons are the same, as the Hebbian rule of the paper does; selves:
    whether it keeps, of these, those with i = j or k = l, processes at synapses of a neuron with
    itself. Raises ValueError on no memories, other shapes or values, a scale that is not positive,
    or selves that are left out where all other repeated neurons are left out already.
    """

    memories: Array
    scale: float = None  # type: ignore[assignment]  # that of __post_init__
    repeated: bool = True
    selves: bool = True

    def __post_init__(self) -> None:
        check_memories(self.memories)
        object.__setattr__(self, "memories", np.asarray(self.memories, dtype=float))
        scale = self.memories.shape[1] ** -3.0 if self.scale is None else self.scale
        check_positive(scale=scale)
        object.__setattr__(self, "scale", float(scale))
        if not self.repeated and not self.selves:
            raise ValueError("selves: repeated = False leaves them out already")

    @property
    def size(self) -> int:
        """Neurons, N."""
        return self.memories.shape[1]

    def spread(self, psi: Array) -> Array:
        """sum_kl T_ijkl psi_kl for symmetric psi (..., N, N), in O(K N^2)."""
        xi = self.memories
        keep = 1.0 if self.repeated and self.selves else ~np.eye(self.size, dtype=bool)
        psi = psi * keep
        within = psi @ xi.T  # (..., N, K)
        total = (xi.T * np.vecdot(xi.T, within, axis=-2)[..., None, :]) @ xi  # type: ignore[call-overload]
        if self.repeated:
            return self.scale * keep * total
        shared = within @ xi  # pairs that share neuron i; with its transpose, those that share j
        shared = shared + np.swapaxes(shared, -1, -2)
        return self.scale * keep * (total - 2 * shared + 2 * len(xi) * psi)

    def drive(self, phi: Array) -> Array:
        """sum_jkl T_ijkl phi_j phi_k phi_l for neurons (..., N), in O(K N)."""
        xi = self.memories
        overlap = phi @ xi.T
        if self.repeated and self.selves:
            return self.scale * (overlap**3 @ xi)
        if self.repeated:
            heard = overlap**2 - np.sum(phi**2, axis=-1, keepdims=True)  # of pairs k, l
            own = phi * np.sum(heard, axis=-1, keepdims=True)  # of j = i
            return self.scale * ((heard * overlap) @ xi - own)
        # power sums over the other neurons: of distinct j, k, l is left A^3 - 3 A B + 2 C
        others = overlap @ xi - len(xi) * phi
        squares = np.sum(phi**2, axis=-1, keepdims=True) - phi**2
        cubes = (phi**3 @ xi.T) @ xi - len(xi) * phi**3
        cubic = overlap**3 @ xi - 3 * phi * np.sum(overlap**2, axis=-1, keepdims=True)
        cubic += 3 * phi**2 * (overlap @ xi) - len(xi) * phi**3
        return self.scale * (cubic - 3 * squares * others + 2 * cubes)

    def tensor(self) -> Array:
        """T itself, (N, N, N, N): for small N, to check the rest against."""
        xi = self.memories
        T = self.scale * np.einsum("mi,mj,mk,ml->ijkl", xi, xi, xi, xi, optimize=True)
        if not self.selves:
            T = (
                T
                * ~np.eye(self.size, dtype=bool)[:, :, None, None]
                * ~np.eye(self.size, dtype=bool)
            )
        if not self.repeated:
            index = np.indices(T.shape).reshape(4, -1)
            distinct = [len(set(four)) == 4 for four in index.T.tolist()]
            T = T * np.reshape(distinct, T.shape)
        return T


@dataclass(frozen=True)
class Tensor:
    """Any couplings, written out: (N, N, N, N), with T_ijkl = T_klij = T_jikl = T_ijlk.

    Raises ValueError on another shape, numbers that are not finite, or a missing symmetry.
    """

    values: Array

    def __post_init__(self) -> None:
        T = np.asarray(self.values, dtype=float)
        if T.ndim != 4 or len(set(T.shape)) != 1:
            raise ValueError(f"values have shape {T.shape}: must be (N, N, N, N)")
        check_finite(values=T)
        for axes, name in (((2, 3, 0, 1), "klij"), ((1, 0, 2, 3), "jikl"), ((0, 1, 3, 2), "ijlk")):
            if not np.allclose(T, T.transpose(axes), rtol=1e-12, atol=1e-12 * np.abs(T).max()):
                raise ValueError(f"values: T_ijkl must equal T_{name}, or there is no energy")
        object.__setattr__(self, "values", T)

    @property
    def size(self) -> int:
        """Neurons, N."""
        return self.values.shape[0]

    def spread(self, psi: Array) -> Array:
        """sum_kl T_ijkl psi_kl, in O(N^4)."""
        return np.einsum("ijkl,...kl->...ij", self.values, psi)

    def drive(self, phi: Array) -> Array:
        """sum_jkl T_ijkl phi_j phi_k phi_l, in O(N^4)."""
        return np.vecdot(self.spread(phi[..., :, None] * phi[..., None, :]), phi[..., None, :])


def check_memories(memories: Array) -> None:
    """Raise ValueError unless memories are (K, N) of -1 and +1, at least one."""
    xi = np.asarray(memories)
    if xi.ndim != 2 or 0 in xi.shape:
        raise ValueError(f"memories have shape {xi.shape}: must be (K, N), at least one memory")
    if not np.all(np.abs(xi) == 1):
        raise ValueError("memories: must be -1 or +1 everywhere")


def _check_cues(memories: Array, cues: Array) -> None:
    check_memories(memories)
    if np.ndim(cues) != 2 or np.shape(cues)[1] != np.shape(memories)[1]:
        n = np.shape(memories)[1]
        raise ValueError(f"cues have shape {np.shape(cues)}: must have the {n} neurons of memories")
    if not np.all(np.abs(cues) == 1):
        raise ValueError("cues: must be -1 or +1 everywhere")


def random_memories(n_memories: int, n_neurons: int, seed: int) -> Array:
    """Independent random memories, (K, N) of -1 and +1, int8."""
    check_positive_int(n_memories=n_memories, n_neurons=n_neurons)
    rng = np.random.default_rng(seed)
    return 2 * rng.integers(0, 2, (n_memories, n_neurons), dtype=np.int8) - 1


# ---- the whole network


def rates(
    state: State,
    couplings: Couplings | Tensor,
    layers: Layers,
    times: Times,
    bias: Array | float = 0,
) -> State:
    """Time derivatives of neurons, synapses and processes. arXiv 2311.08135, energy-based case."""
    x, s, p = state
    phi, g, psi = (layer.activation(y) for layer, y in zip(layers, state, strict=True))
    together = phi[..., :, None] * phi[..., None, :]
    return State(
        (-times.leak_n * x + (g @ phi[..., None])[..., 0] + bias) / times.tau_n,
        (-times.leak_s * s + together + psi) / times.tau_s,
        (-times.leak_p * p + couplings.spread(psi) + g) / times.tau_p,
    )


def energy(state: State, couplings: Couplings | Tensor, layers: Layers, times: Times) -> Array:
    """The energy that falls along every trajectory with symmetric s and p, without bias; (...)."""
    phi, g, psi = (layer.activation(y) for layer, y in zip(layers, state, strict=True))
    held = [
        y * f - layer.lagrangian(y)
        for layer, y, f in zip(layers, state, (phi, g, psi), strict=True)
    ]
    together = phi[..., :, None] * phi[..., None, :]
    pairs = (
        times.leak_s * held[1] / 2
        + times.leak_p * held[2] / 2
        - g * (together + psi) / 2
        - psi * couplings.spread(psi) / 4
    )
    return times.leak_n * held[0].sum(-1) + pairs.sum((-2, -1))


def power(state: State, couplings: Couplings | Tensor, layers: Layers, times: Times) -> Array:
    """dE/dt, a sum of squared speeds with a minus sign: never above 0; (...)."""
    speed = rates(state, couplings, layers, times)
    lost = [layer.slope(y) * v**2 for layer, y, v in zip(layers, state, speed, strict=True)]
    lost_pairs = times.tau_s * lost[1] / 2 + times.tau_p * lost[2] / 2
    return -times.tau_n * lost[0].sum(-1) - lost_pairs.sum((-2, -1))


def at_rest(x: Array) -> State:
    """Neurons at x (..., N), synapses and processes at 0."""
    x = np.asarray(x, dtype=float)
    return State(x, *(np.zeros((*x.shape, x.shape[-1])) for _ in range(2)))


def simulate(
    start: State,
    couplings: Couplings | Tensor,
    layers: Layers,
    times: Times,
    at: Array,
    *,
    held: bool = False,
    rtol: float = 1e-8,
) -> State:
    """The states at the given times, along a new first axis; start is the state at at[0].

    held: keep the neurons where they are, so that synapses and processes follow a cue. Adaptive
    Runge-Kutta of order 8 (scipy's DOP853). Raises ValueError on shapes that do not fit the
    couplings, numbers that are not finite, synapses or processes that are not symmetric, or times
    that do not increase.
    """
    start = _checked(start, couplings.size)
    at = np.asarray(at, dtype=float)
    check_finite(at=at)
    if at.ndim != 1 or at.size < 2 or np.any(np.diff(at) <= 0):
        raise ValueError("at: must be times that increase, at least two")
    n = couplings.size
    shapes = [(n,), (n, n), (n, n)]
    ends = np.cumsum([n, n * n])

    def unpack(y: Array) -> State:
        parts = np.split(y, ends, axis=-1)
        return State(*(z.reshape(*y.shape[:-1], *s) for z, s in zip(parts, shapes, strict=True)))

    def slope(_: float, y: Array) -> Array:
        speed = rates(unpack(y), couplings, layers, times)
        if held:
            speed = speed._replace(x=np.zeros(n))
        return np.concatenate([z.ravel() for z in speed])

    y = np.concatenate([z.ravel() for z in start])
    run = solve_ivp(
        slope, (at[0], at[-1]), y, "DOP853", at, rtol=rtol, atol=rtol * max(1e-3, np.abs(y).max())
    )
    return unpack(run.y.T)


def _checked(start: State, n: int) -> State:
    start = State(*(np.asarray(y, dtype=float) for y in start))
    for name, y, shape in zip(State._fields, start, [(n,), (n, n), (n, n)], strict=True):
        if y.shape != shape:
            raise ValueError(f"{name} has shape {y.shape}: must be {shape}, as the couplings have")
        check_finite(**{name: y})
    for name, y in (("s", start.s), ("p", start.p)):
        if not np.allclose(y, y.T, rtol=1e-9, atol=1e-12):
            raise ValueError(f"{name}: must be symmetric, or there is no energy")
    return start


# ---- neurons alone: synapses and processes eliminated


def closed_rates(x: Array, couplings: Couplings | Tensor, neurons: Layer, times: Times) -> Array:
    """dx/dt where s and p sit at their fixed point without leaks: a quartic dense memory; (..., N)."""
    return (-times.leak_n * x + couplings.drive(neurons.activation(x))) / times.tau_n


def closed_energy(x: Array, couplings: Couplings | Tensor, neurons: Layer, times: Times) -> Array:
    """Its energy: leak_n (x phi - L) - T phi phi phi phi / 4; (...)."""
    phi = neurons.activation(x)
    held = x * phi - neurons.lagrangian(x)
    return times.leak_n * held.sum(-1) - np.vecdot(couplings.drive(phi), phi) / 4


def eliminated(x: Array, couplings: Couplings | Tensor, neurons: Layer) -> tuple[Array, Array]:
    """(g, psi) of that fixed point: psi = -phi phi^T and g = -T psi."""
    phi = neurons.activation(x)
    psi = -phi[..., :, None] * phi[..., None, :]
    return -couplings.spread(psi), psi


# ---- recall by sign updates

RULES: dict[str, Callable[[int], tuple[float, float, float, float]]] = {
    "hopfield": lambda n: (0, 1, 0, -1),
    "dense": lambda n: (1, 4, -3, -2),
    "astrocyte": lambda n: (1, 0, 0, 0),
    "astrocyte-distinct": lambda n: (1, 8 - 3 * n, -3, 3 * n - 6),
}
"""What drives a neuron sigma_i, in overlaps m_mu = xi^mu.sigma: coefficients of sum_mu xi_i m^3,
sum_mu xi_i m, sigma_i sum_mu m^2 and sigma_i K.

hopfield: Hebbian synapses without self-synapses. dense: difference of sum_mu m^4 between
sigma_i = +1 and -1, Krotov and Hopfield 2016, n = 4. astrocyte: Couplings with s and p eliminated;
distinct: the same with repeated = False.
"""


def recall(rule: str, memories: Array, cues: Array, steps: int = 30, block: int = 4096) -> Array:
    """The states, (cues, N) of -1 and +1, after at most that many synchronous sign updates.

    memories: (K, N) and cues: (cues, N), both of -1 and +1; memory is O(block * (N + cues)).
    Stops early where nothing changes. Raises ValueError on an unknown rule or other values.
    """
    check_choice("rule", rule, RULES)
    _check_cues(memories, cues)
    check_positive_int(steps=steps, block=block)
    state = np.asarray(cues, dtype=np.float32)
    moving = np.arange(len(state))
    for _ in range(steps):
        new = np.sign(_drive(RULES[rule](state.shape[1]), memories, state[moving], block))
        new = np.where(new == 0, state[moving], new).astype(np.float32)  # a tie changes nothing
        changed = np.any(new != state[moving], axis=1)
        state[moving] = new
        moving = moving[changed]
        if moving.size == 0:
            break
    return state


def _drive(coefficients, memories: Array, state: Array, block: int) -> Array:
    cubic, linear, square, own = coefficients
    forward, squares = np.zeros(state.shape), np.zeros((len(state), 1))
    for start in range(0, len(memories), block):
        xi = memories[start : start + block].astype(np.float32)
        m = state @ xi.T
        m2 = m * m
        if square:
            squares += np.sum(m2, axis=1, keepdims=True)
        m2 *= cubic
        m2 += linear
        m *= m2
        forward += m @ xi
    return forward + state * (square * squares + own * len(memories))


# ---- the whole network where its fixed point is stable


def loop_gain(spread: Array | float, times: Times) -> Array:
    """1 / (leak_s - 1 / (leak_p - t)): what linear synapses make of a pattern that T multiplies by t.

    Raises ValueError where the loop of synapses and processes is unstable, for any t.
    """
    critical = times.leak_p - 1 / times.leak_s if times.leak_s > 0 else -np.inf
    if critical <= 0 or np.any(np.asarray(spread) >= critical):
        raise ValueError(
            f"leak_s = {times.leak_s:g}, leak_p = {times.leak_p:g}: T must stay below "
            f"leak_p - 1 / leak_s = {critical:.3g}, and that above 0"
        )
    return 1 / (times.leak_s - 1 / (times.leak_p - np.asarray(spread)))


def _squared_overlaps(memories: Array, selves: bool) -> Array:
    """T between memories, (K, K), for scale N^-2: it has the eigenvalues of T on pairs that are not 0."""
    xi = np.asarray(memories, dtype=float)
    n = xi.shape[1]
    return (xi @ xi.T / n) ** 2 - (0 if selves else 1 / n)


def _largest(matrix: Array) -> float:
    if len(matrix) < 64:
        return float(np.linalg.eigvalsh(matrix)[-1])
    start = np.random.default_rng(0).normal(size=len(matrix))
    return float(eigsh(matrix, 1, which="LA", v0=start, return_eigenvectors=False, tol=1e-10)[0])


def largest_eigenvalue(memories: Array, selves: bool = True) -> float:
    """The largest eigenvalue of T as a matrix on pairs of neurons, for scale N^-2.

    memories: (K, N) of -1 and +1; selves: whether pairs i = j are among the pairs. About
    1 + K / N with them, (1 + sqrt(2 K) / N)^2 without, for many random memories.
    """
    check_memories(memories)
    return _largest(_squared_overlaps(memories, selves))


def recall_whole(
    memories: Array,
    cues: Array,
    times: Times,
    share: float = 0.9,
    steps: int = 30,
    *,
    selves: bool = True,
) -> Array:
    """States after sign updates of the whole network, with linear synapses and processes that
    have settled on each state: (cues, N) of -1 and +1.

    share: largest eigenvalue of T, relative to where the network becomes unstable; 0 deletes T.
    selves: whether neurons have synapses with themselves, and T entries for them. Raises ValueError
    on values other than -1 and +1, leaks with leak_s leak_p <= 1, or a share that is not from 0 to
    below 1.
    """
    _check_cues(memories, cues)
    check_positive_int(steps=steps)
    _check_share(share)
    xi, state = np.asarray(memories, dtype=float), np.array(cues, dtype=float)
    own = loop_gain(0.0, times)
    critical = times.leak_p - 1 / times.leak_s
    overlaps = _squared_overlaps(memories, selves)
    strength = share * critical / _largest(overlaps)
    # f(T) - f(0) = strength / (leak_s^2 critical) * sum over memories of inverse(critical - T)
    overlaps *= -strength
    overlaps[np.diag_indices_from(overlaps)] += critical
    solve = cho_factor(overlaps, overwrite_a=True)
    extra = strength / (times.leak_s**2 * critical)
    itself = 0.0 if selves else 1 / xi.shape[1]
    for _ in range(steps):
        overlap = state @ xi.T / xi.shape[1]
        held = extra * cho_solve(solve, (overlap**2 - itself).T).T
        drive = own * (1 - itself) * state + (held * overlap) @ xi
        drive -= itself * state * held.sum(axis=1, keepdims=True)
        new = np.sign(drive)
        new = np.where(new == 0, state, new)
        if np.array_equal(new, state):
            break
        state = new
    return state


def _check_share(share: float) -> None:
    if not 0 <= share < 1:
        raise ValueError(f"share = {share!r}: must be at least 0 and below 1")


class Drive(NamedTuple):
    """What drives a neuron: its own state, the memory that it is shown, and chance."""

    hold: float
    signal: float
    noise: float


def whole_drive(
    n_neurons: int, n_memories: int, overlap: float, share: float = 0.9, *, selves: bool = True
) -> Drive:
    """Factors of sigma_i and xi_i, and standard deviation of the rest, in the whole network.

    For random memories and a cue at that overlap, over what the neuron's own state would give
    without T; many neurons, and leak_s leak_p near 1. hold is a of book equation (memory-trace),
    or 1 with selves. Raises ValueError on an overlap outside 0 to 1 or a share as in recall_whole.
    """
    check_positive_int(n_neurons=n_neurons, n_memories=n_memories)
    _check_overlap(overlap)
    _check_share(share)
    k, m2 = n_memories / n_neurons, overlap**2
    if selves:
        tau = share / (1 + k)
        a, variance = 1.0, 0.0
    else:
        ratio = 2 * k / n_neurons  # memories over pairs
        tau = share / (1 + np.sqrt(ratio)) ** 2
        half = (1 + tau - tau * ratio) / 2
        a = (half - np.sqrt(half**2 - tau)) / tau if tau else 1.0
        # mean of the squared eigenvalues of inverse(1 - tau T), less the square of their mean
        variance = (1 - tau * a * (1 - ratio)) / (2 * (half - tau * a)) - a**2
    pull = tau / (1 - tau * a)
    b = a * m2 * pull
    spread = a**2 * (10 + 20 * b * m2 + b**2 * (2 + 8 * m2)) + 2 * variance * (
        1 + 2 * b * m2 + b**2
    )
    noise = spread * pull**2
    if selves:  # all memories at once, which T makes largest
        shared = tau * (1 + b) / (1 - share)
        noise += shared**2 + 4 * pull * shared * (1 + b * m2)
    return Drive(float(a), float(a**2 * pull * overlap**3), float(np.sqrt(noise * k) / n_neurons))


def whole_load(n_neurons: int, overlap: float, share: float = 0.9, *, selves: bool = True) -> float:
    """Number of random memories up to which hold < signal in whole_drive: a wrong bit flips.

    Proportional to N with selves, to N^2 without. 0 where not even one memory recalls. Raises
    ValueError as whole_drive does.
    """
    check_positive_int(n_neurons=n_neurons)
    _check_overlap(overlap)
    _check_share(share)
    cube = overlap**3
    gain = share * (1 + cube)
    if gain <= 1:
        return 0.0
    if selves:
        return float((gain - 1) * n_neurons)
    root = cube * (gain - 1) / (cube + np.sqrt(cube * (cube - (gain - 1) * (gain - cube))))
    return float(root**2 * n_neurons**2 / 2)


def _check_overlap(overlap: float) -> None:
    if not 0 < overlap <= 1:
        raise ValueError(f"overlap = {overlap!r}: must be above 0 and at most 1")
