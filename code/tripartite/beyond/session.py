"""A session under the microscope, simulated: tokens are shown, a cell follows, a camera sees.

Drives are relative to the cell's mean drive, fluorescence to that at rest. Times in s, angular
frequencies in 1/s, concentrations in uM. Time is the first axis, in steps of which a frame has
several. The linear chain holds for weak drives; `record` runs the cell with all its non-linearity.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from .. import astrocyte, attention
from ..checks import check_positive, check_positive_int
from . import imaging

Array = np.ndarray
STEPS = 10  # at least so many a second, and two a token
N_OTHERS = 59  # of a randomised test: with the model itself, p is a multiple of 1/60
_LEVELS = np.linspace(0.02, 0.85, 20_001)  # calcium, uM, at which fixed points are sought


@dataclass(frozen=True)
class Setup:
    """What a session is recorded with, and the noise that is not of the text.

    rate: frames, 1/s; flux: photons per s at rest; read_noise: rms, photons; background: drive from
    elsewhere, standard deviation over the mean drive; spontaneous: changes of fluorescence of the
    cell's own, standard deviation; tau: correlation time of both, s.
    """

    indicator: imaging.Indicator
    rate: float
    flux: float
    read_noise: float
    background: float
    spontaneous: float
    tau: float

    def __post_init__(self) -> None:
        check_positive(rate=self.rate, flux=self.flux, tau=self.tau)
        for name in ("read_noise", "background", "spontaneous"):
            if not getattr(self, name) >= 0:
                raise ValueError(f"{name} = {getattr(self, name)!r}: must be at least 0")


@dataclass(frozen=True)
class Follower:
    """What follows the drive: a cell at the fixed point of its mean drive Y, uM, or a process of it.

    tau_process: None for a cell; time constant, s, of a fine process, which keeps the cell's gain.
    """

    cell: astrocyte.Astrocyte
    Y: float
    at: astrocyte.State
    tau_process: float | None = None


def follower(cell: astrocyte.Astrocyte, Y: float, tau_process: float | None = None) -> Follower:
    """The follower of a mean drive Y, uM. Raises ValueError where the cell has no fixed point there."""
    points = astrocyte.equilibria(_LEVELS, cell)
    held = np.isfinite(points.stimulus)
    stimulus = points.stimulus[held]
    if not stimulus.min() <= Y <= stimulus.max():
        raise ValueError(
            f"Y = {Y!r} uM: must be {stimulus.min():.2g} to {stimulus.max():.2g}, "
            "where this cell has a fixed point"
        )
    at = (np.interp(Y, stimulus, np.asarray(row)[held]) for row in points.state)
    return Follower(cell, Y, astrocyte.State(*at), tau_process)


def gain(omega: Array, of: Follower, indicator: imaging.Indicator) -> Array:
    """Relative fluorescence for a relative drive of angular frequency omega, (n,): complex, (n,)."""
    b = np.array([of.cell.O_N * (1 - of.at.Gamma), 0, 0, 0])
    decay, modes = np.linalg.eig(astrocyte.jacobian(of.at, of.cell, of.Y))
    parts = modes[2] * np.linalg.solve(modes, b)  # of calcium, mode by mode
    slow = omega if of.tau_process is None else 0 * omega
    R = np.sum(parts / (1j * slow[:, None] - decay), axis=1)
    chain = of.Y * R * imaging.sensitivity(of.at.C, indicator)
    if of.tau_process is not None:
        chain = chain / (1 + 1j * omega * of.tau_process)
    return chain * imaging.transfer(omega, indicator)


def relative(log_x: Array) -> Array:
    """Deviation of x from its mean over tokens, the last axis, divided by that mean."""
    x = np.exp(log_x - log_x.max(axis=-1, keepdims=True))
    return x / x.mean(axis=-1, keepdims=True) - 1


def responses(queries: Array, keys: Sequence[Array]) -> Array:
    """Response to queries (heads, queries, d) beside each context's keys (heads, tokens, d).

    Over its mean in each head: (heads, contexts, queries).
    """
    log_p = np.stack([attention.log_normaliser(queries, k) for k in keys], 1)
    p = np.exp(log_p - log_p.max(axis=(1, 2), keepdims=True))
    return p / p.mean(axis=(1, 2), keepdims=True)


def slots(n_tokens: int, presentation: float, rate: float) -> tuple[Array, int]:
    """Which token is shown in every step of a session, (steps,), and the steps of a frame.

    presentation: how long a token is shown, s; rate: frames, 1/s.
    """
    check_positive_int(n_tokens=n_tokens)
    check_positive(presentation=presentation, rate=rate)
    k = math.ceil(max(STEPS, 2 / presentation) / rate)
    steps = round(n_tokens * presentation * rate) * k
    at = (np.arange(steps) + 0.5) / (rate * k * presentation)
    return np.minimum(at.astype(int), n_tokens - 1), k


def through(drive: Array, of: Follower, setup: Setup, k: int) -> Array:
    """Frames that a relative drive, (steps, ...), makes by the linear chain; k: steps of a frame."""
    n = len(drive)
    omega = 2 * np.pi * np.fft.fftfreq(2 * n, 1 / (setup.rate * k))  # no wrapping
    G = gain(omega, of, setup.indicator).reshape(-1, *[1] * (drive.ndim - 1))
    seen = np.fft.ifft(np.fft.fft(drive, 2 * n, axis=0) * G, axis=0)
    return imaging.frames(seen.real[:n], k)


def noise_spectrum(n_frames: int, of: Follower, setup: Setup, k: int) -> Array:
    """Variance of frames at each frequency of the Fourier transform, folded as sampling folds it."""
    omega = 2 * np.pi * np.fft.fftfreq(n_frames * k, 1 / (setup.rate * k))
    slow = 2 * setup.tau / (1 + (omega * setup.tau) ** 2)
    follows = np.abs(gain(omega, of, setup.indicator) * setup.background) ** 2
    spread = slow * (follows + setup.spontaneous**2)
    blur = np.mean(np.exp(1j * np.outer(omega, np.arange(k)) / (setup.rate * k)), 1)
    folded = (spread * np.abs(blur) ** 2).reshape(k, n_frames).sum(0)
    camera = imaging.camera_variance(1 / setup.rate, setup.flux, setup.read_noise)
    return folded * setup.rate + camera


def wander(shape: tuple[int, ...], dt: float, tau: float, rng: np.random.Generator) -> Array:
    """Ornstein-Uhlenbeck noise of unit variance and correlation time tau, along the first axis."""
    from scipy.signal import lfilter

    keep = np.exp(-dt / tau)
    kick = rng.standard_normal(shape)
    kick[1:] *= np.sqrt(1 - keep**2)
    return lfilter([1], [1, -keep], kick, axis=0)


def record(
    drive: Array, of: Follower, setup: Setup, k: int, rng: np.random.Generator, scale: float = 1.0
) -> tuple[Array, Array]:
    """Calcium, (steps, n), and frames, (frames, n), of full cells with their own noise each.

    drive: (steps, n), relative; k: steps of a frame; scale: of all noise. Raises ValueError for a
    fine process, of which there is the linear chain only.
    """
    if of.tau_process is not None:
        raise ValueError(f"tau_process = {of.tau_process!r}: must be None, a whole cell")
    dt = 1 / (setup.rate * k)
    background = scale * setup.background * wander(drive.shape, dt, setup.tau, rng)
    pooled = of.Y * np.maximum(1 + drive + background, 0)
    run = astrocyte.simulate(
        of.cell,
        np.tile(np.array(of.at)[:, None], drive.shape[1]),
        len(drive) * dt,
        dt,
        Y=lambda t: pooled[min(round(t / dt), len(drive) - 1)],
        record_every=1,
    )
    C = run.C[1:]
    F = imaging.brightness(C, setup.indicator) / imaging.brightness(of.at.C, setup.indicator)
    F = imaging.respond(F, dt, setup.indicator)
    F = F + scale * setup.spontaneous * wander(F.shape, dt, setup.tau, rng)
    F = imaging.frames(np.maximum(F, 0), k)
    seed = int(rng.integers(1 << 31))
    flux, read_noise = setup.flux / scale**2, setup.read_noise / scale
    return C, imaging.photograph(F, 1 / setup.rate, flux, read_noise, seed)


def non_centrality(columns: Array, spectrum: Array) -> float:
    """delta^2 of the last of some columns of frames beside the others and a constant.

    columns: (frames, columns); spectrum: variance of the noise by frequency, (frames,).
    """
    n = len(columns)
    X = np.column_stack([np.ones(n), columns])
    white = np.fft.fft(X, axis=0) / np.sqrt(n * spectrum)[:, None]
    others, model = white[:, :-1], white[:, -1]
    model = model - others @ np.linalg.lstsq(others, model)[0]
    return float(np.sum(np.abs(model) ** 2))


def order_tests(
    trace: Array,
    slots_seen: Array,
    order: Array,
    model: Array,
    rate_code: Array,
    rng: np.random.Generator,
    lag: int,
) -> tuple[float, float, float]:
    """Tests whether one session's frames follow a model of each token: t, t beside a rate code, p.

    trace: (frames,); slots_seen: (frames, slots), of a unit drive in each slot; order: the token of
    each slot; model, rate_code: (tokens,), relative drives; lag: of the autoregression that whitens
    the noise. The first t takes frames for independent; the second is of what the model has beside
    the rate code; p deals that anew among tokens.
    """
    only = model - rate_code * (rate_code @ model) / (rate_code @ rate_code)
    one = np.ones((len(trace), 1))
    beside = np.column_stack([one, slots_seen @ rate_code[order]])[:, None]
    dealt = np.array([rng.permutation(only)[order] for _ in range(N_OTHERS)])
    might = slots_seen @ np.column_stack([only[order], dealt.T])
    y = trace[:, None]
    plain = imaging.detect(y, one[:, None], (slots_seen @ model[order])[:, None, None], 0)
    t = imaging.detect(y, beside, might[:, None], lag)
    return float(plain[0]), float(t[0]), imaging.randomised(t)


# --- contexts crossed with queries ------------------------------------------------------------------


def new_order(n_contexts: int, n_queries: int, rng: np.random.Generator) -> Array:
    """Queries in random order, context after context: (contexts, queries)."""
    return np.array([rng.permutation(n_queries) for _ in range(n_contexts)])


def in_order(slots_seen: Array, order: Array) -> Array:
    """Frames that a unit drive makes in each cell of the design, (frames, contexts, queries).

    slots_seen: (frames, slots), those of a unit drive in each slot; order: which query each slot of
    a context shows, (contexts, queries).
    """
    contexts, queries = order.shape
    slot = np.argsort(order, axis=1) + queries * np.arange(contexts)[:, None]
    return slots_seen[:, slot]


def interaction_delta(
    slots_seen: Array,
    spectrum: Array,
    truth: Array,
    model: Array,
    rng: np.random.Generator,
    features: Array | None = None,
    n_together: int = 8,
) -> float:
    """Non-centrality of a session, of several analysed together, for the interaction of a model.

    slots_seen: as in in_order; spectrum: of the noise, (frames,); truth: what calcium follows,
    (contexts, queries); model: what the test looks for; features: (queries, columns), gains of which
    are nuisances, beside the effects of contexts and queries; default None: no gains.
    """
    c, m = truth.shape
    n = len(slots_seen)
    beside = imaging.additive(c, m)
    if features is not None:
        effects = [imaging.centred(x)[2][0] for x in (truth, model)]
        slopes = imaging.gains(np.column_stack([*effects, features]), c)
        beside = np.column_stack([beside, slopes.reshape(c * m, -1)])
    drives = np.column_stack([beside, model.ravel(), truth.ravel()])
    parts = []
    for _ in range(n_together):
        cells = in_order(slots_seen, new_order(c, m, rng)).reshape(n, -1)
        X = np.column_stack([np.ones(n), cells @ drives])
        # noise is white at all frequencies; half of them say it all
        halved = np.fft.rfft(X, axis=0) / np.sqrt(n * spectrum[: n // 2 + 1])[:, None]
        halved[1 : (n + 1) // 2] *= np.sqrt(2)
        parts += [halved.real, halved.imag]
    white = np.concatenate(parts)
    others, pair = white[:, :-2], white[:, -2:]
    pair = pair - others @ np.linalg.lstsq(others, pair)[0]
    there = pair[:, 0] @ pair[:, 1] / np.linalg.norm(pair[:, 0])
    return float(there / np.sqrt(n_together))


def worlds(
    response: Array, rate_code: Array, rng: np.random.Generator, spread: float = 0.5
) -> dict[str, Array]:
    """Drives (contexts, queries) that calcium could follow, each as variable as the theory's.

    response: p of the theory over its mean, (contexts, queries); rate_code: (queries,); spread:
    standard deviation of a gain over contexts, and of its feature.
    """
    _, by_context, by_query = imaging.centred(response)

    def strong(x: Array) -> Array:
        x = np.broadcast_to(x, response.shape)
        return (x - x.mean()) / x.std() * response.std()

    unknown = by_query[0] / by_query.std() + rng.standard_normal(len(by_query[0]))
    unknown = unknown / unknown.std()  # correlation 0.7 with the effect
    scaled = strong((1 + spread * by_context / by_context.std()) * (1 + spread * unknown))
    return {
        "the rate code": strong(rate_code),
        "an unknown feature": strong(unknown),
        "what was written": strong(by_context),
        "a gain on a feature": scaled,
        "a feature and a gain on another": strong(strong(rate_code) + scaled),
        "effects of the theory multiplied": (1 + by_context) * (1 + by_query) - 1,
        "the theory": response - 1,
    }


def simulate(
    slots_seen: Array, spectrum: Array, drive: Array, rng: np.random.Generator, n_together: int = 8
) -> tuple[Array, Array]:
    """Frames of sessions by the linear chain, (frames, sessions), and what unit drives would show.

    slots_seen, spectrum: as in interaction_delta; drive: (contexts, queries), relative. The second is
    (frames, sessions, contexts, queries).
    """
    contexts, queries = drive.shape
    orders = [new_order(contexts, queries, rng) for _ in range(n_together)]
    cells = np.stack([in_order(slots_seen, order) for order in orders], 1)
    white = rng.standard_normal((len(slots_seen), n_together))
    noise = np.fft.fft(white, axis=0) * np.sqrt(spectrum)[:, None]
    return np.tensordot(cells, drive, 2) + np.fft.ifft(noise, axis=0).real, cells


def interaction_tests(
    traces: Array,
    cells: Array,
    model: Array,
    rate_code: Array,
    rng: np.random.Generator,
    order: int,
) -> list[float]:
    """p of the model's interaction of context and query: without gains as nuisances, and with them.

    traces, cells: as of simulate; model: (contexts, queries); rate_code: (queries,), the known
    feature; order: of the autoregression that whitens the noise.
    """
    return [
        imaging.randomised(
            imaging.interaction(
                traces,
                cells,
                model,
                rate_code[:, None],
                order=order,
                n_others=N_OTHERS,
                seed=int(rng.integers(1 << 31)),
                beside_gains=beside_gains,
            )
        )
        for beside_gains in (False, True)
    ]


def rate_code_test(
    traces: Array,
    cells: Array,
    model: Array,
    rate_code: Array,
    rng: np.random.Generator,
    order: int,
) -> float:
    """p of the correlation with the whole model beside the rate code alone, queries dealt anew."""
    contexts, queries = model.shape
    deals = [np.arange(queries), *(rng.permutation(queries) for _ in range(N_OTHERS))]
    dealt = np.stack([model[:, deal].ravel() for deal in deals], axis=1)
    flat = cells.reshape(*traces.shape, -1)
    seen_rate = flat @ np.tile(rate_code, contexts)
    beside = np.stack([np.ones(traces.shape), seen_rate], axis=-1)
    return imaging.randomised(imaging.detect(traces, beside, flat @ dealt, order))
