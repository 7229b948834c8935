"""What a microscope shows of calcium: the indicator, the photons, and a test with known power.

Concentrations in uM, times in s, fluorescence relative to that at rest. Time is the first axis of
traces. Chen et al. 2013 (GCaMP6); Wilt et al. 2013 (shot noise); Rupprecht et al. 2021 (noise level).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import numpy as np

from ..checks import check_positive, check_positive_int
from ..quantities import Quantities, quantity

Array = np.ndarray

_chen = partial(quantity, source="Chen et al. 2013")


@dataclass(frozen=True)
class Indicator(Quantities):
    """A calcium indicator: a Hill curve, and a response with a rise and a decay."""

    K_d: float = _chen("uM", "calcium at half of the highest brightness", 0, 100, above=True)
    n: float = _chen("1", "Hill coefficient", 0, 10, above=True)
    contrast: float = _chen("1", "brightness with all sites bound over that with none", 1, 1e4)
    tau_rise: float = _chen("s", "time constant of the rise", 0, 100, above=True)
    tau_decay: float = _chen("s", "time constant of the decay", 0, 100, above=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.tau_rise < self.tau_decay:
            raise ValueError(f"tau_rise = {self.tau_rise:g} s: must be below tau_decay")


INDICATORS: dict[str, Indicator] = {
    # times: a peak at 45 (179) ms and half of it lost 142 (550) ms later, after one spike
    "gcamp6f": Indicator(K_d=0.375, n=2.27, contrast=51.8, tau_rise=0.0175, tau_decay=0.1783),
    "gcamp6s": Indicator(K_d=0.144, n=2.90, contrast=63.2, tau_rise=0.0706, tau_decay=0.6860),
}
"""Published indicators. Times include the calcium of a neuron, so the indicator is no slower."""


def brightness(C: Array, p: Indicator) -> Array:
    """Fluorescence in steady calcium C, uM, in units of that without calcium. Chen et al. 2013."""
    bound = np.asarray(C, dtype=float) ** p.n
    return 1 + (p.contrast - 1) * bound / (bound + p.K_d**p.n)


def sensitivity(C: Array, p: Indicator) -> Array:
    """d log brightness / dC, 1/uM: relative change of fluorescence for a small change of calcium."""
    bound = np.asarray(C, dtype=float) ** p.n
    free = p.K_d**p.n
    slope = (p.contrast - 1) * p.n * bound * free / (C * (bound + free) ** 2)
    return slope / brightness(C, p)


def impulse_response(t: Array, p: Indicator) -> Array:
    """Response at t >= 0, s, to a pulse at 0, 1/s; its integral is 1, and it is 0 before."""
    t = np.asarray(t, dtype=float)
    after = np.exp(-np.maximum(t, 0) / p.tau_decay) - np.exp(-np.maximum(t, 0) / p.tau_rise)
    return np.where(t >= 0, after / (p.tau_decay - p.tau_rise), 0.0)


def transfer(omega: Array, p: Indicator) -> Array:
    """Response to a sinusoid of angular frequency omega, 1/s: the Fourier transform of the above."""
    return 1 / ((1 + 1j * omega * p.tau_decay) * (1 + 1j * omega * p.tau_rise))


def respond(x: Array, dt: float, p: Indicator) -> Array:
    """What the indicator makes of x, (steps, ...), each entry held for dt s: at the ends of steps.

    It starts in equilibrium with the first entry. Exact: a difference of two leaky integrators.
    """
    from scipy.signal import lfilter

    check_positive(dt=dt)
    x = np.asarray(x, dtype=float)
    followed = []
    for tau in (p.tau_decay, p.tau_rise):
        keep = np.exp(-dt / tau)
        followed.append(lfilter([1 - keep], [1, -keep], x, axis=0, zi=keep * x[:1])[0])
    return (p.tau_decay * followed[0] - p.tau_rise * followed[1]) / (p.tau_decay - p.tau_rise)


def frames(F: Array, n_steps: int) -> Array:
    """Means over exposures of n_steps each, (steps // n_steps, ...); a rest is dropped."""
    check_positive_int(n_steps=n_steps)
    n = len(F) // n_steps
    return F[: n * n_steps].reshape(n, n_steps, *F.shape[1:]).mean(axis=1)


def photograph(F: Array, exposure: float, flux: float, read_noise: float, seed: int) -> Array:
    """Fluorescence as a camera reports it: photons are counted, the reading adds noise.

    F: relative to rest; exposure: s; flux: photons per s at rest; read_noise: rms, photons.
    """
    check_positive(exposure=exposure, flux=flux)
    if not read_noise >= 0:
        raise ValueError(f"read_noise = {read_noise!r}: must be at least 0 photons")
    rng = np.random.default_rng(seed)
    counts = rng.poisson(flux * exposure * F) + read_noise * rng.standard_normal(F.shape)
    return counts / (flux * exposure)


def camera_variance(
    exposure: float, flux: float, read_noise: float, F: Array | float = 1.0
) -> Array | float:
    """Variance of what `photograph` returns: photons are Poisson, so F / (flux exposure), and
    that of the reading."""
    return F / (flux * exposure) + (read_noise / (flux * exposure)) ** 2


_HALF = np.sqrt(2) * 0.6744897501960817  # median |a - b| of two standard normal numbers


def noise_level(trace: Array, rate: float) -> float:
    """Median |difference of neighbouring frames| / sqrt(rate), 1/sqrt(Hz). Rupprecht et al. 2021."""
    return float(np.median(np.abs(np.diff(trace, axis=0))) / np.sqrt(rate))


def flux_of(level: float) -> float:
    """Photons per s at rest that give this noise level, 1/sqrt(Hz), by shot noise alone."""
    check_positive(level=level)
    return float((_HALF / level) ** 2)


def detect(traces: Array, nuisance: Array, candidates: Array, order: int) -> Array:
    """Student's t of each candidate beside the nuisances, all trials together: (candidates,).

    traces: (frames, trials); nuisance, candidates: (frames, trials, columns), or (frames, 1,
    columns) where all trials share them. Noise is whitened by an autoregression of this order,
    fitted by Yule and Walker to what nuisances leave; order = 0 takes frames for independent.
    Raises ValueError where frames do not suffice.
    """
    y = np.asarray(traces, dtype=float)
    X, Z = (np.broadcast_to(x, (*y.shape, np.shape(x)[-1])) for x in (nuisance, candidates))
    df = y[order:].size - X.shape[-1] - 1
    if order < 0 or len(y) <= 2 * order or df < 1:
        raise ValueError(f"order = {order}: too high for {y.shape} frames and trials")
    y, X, Z = _whitened(y, order, X, Z)
    u = _basis(_flat(X))
    y, Z = y.ravel() - u @ (u.T @ y.ravel()), _flat(Z) - u @ (u.T @ _flat(Z))
    correlation = (y @ Z) / (np.linalg.norm(y) * np.linalg.norm(Z, axis=0))
    return correlation * np.sqrt(df / (1 - correlation**2))


def randomised(t: Array) -> float:
    """p of the first of the t's, two-sided, if all were as likely: those of what was shown and of
    what chance might have shown instead. Exact where calcium follows nothing of what was dealt
    anew, whatever the noise; where nuisances are fitted it is approximate. Fisher 1935."""
    return float(np.mean(np.abs(t) >= np.abs(t[0])))


def centred(table: Array) -> tuple[Array, Array, Array]:
    """Interaction, effects of rows and effects of columns of a table (rows, columns).

    They add up to the table less its mean; effects are (rows, 1) and (1, columns).
    """
    table = np.asarray(table, dtype=float)
    table = table - table.mean()
    by_row, by_column = table.mean(axis=1, keepdims=True), table.mean(axis=0, keepdims=True)
    return table - by_row - by_column, by_row, by_column


def gains(features: Array, n_contexts: int) -> Array:
    """Interactions that contexts make by scaling features: (contexts, queries, columns).

    features: (queries, k), what one query does beside another. A gain a_c on a feature b_t has the
    interaction (a_c - mean a)(b_t - mean b), whatever the gains: n_contexts - 1 columns a feature
    span them all. Tukey 1949 has the one column in which a and b are the table's own effects,
    Mandel 1961 a slope for every context.
    """
    check_positive_int(n_contexts=n_contexts)
    b = np.asarray(features, dtype=float)
    b = b - b.mean(axis=0)
    a = np.eye(n_contexts)[:, 1:] - 1 / n_contexts
    return np.einsum("ca,tk->ctak", a, b).reshape(n_contexts, len(b), -1)


def additive(contexts: int, queries: int) -> Array:
    """Effects of queries and of contexts that add up, a column each, but for one of the contexts.

    Returns (contexts * queries, queries + contexts - 1), a row for each cell of the design.
    """
    of_contexts = np.repeat(np.eye(contexts)[:, 1:], queries, axis=0)
    return np.column_stack([np.tile(np.eye(queries), (contexts, 1)), of_contexts])


def interaction(
    traces: Array,
    cells: Array,
    model: Array,
    features: Array | None = None,
    *,
    order: int,
    n_others: int = 59,
    seed: int = 0,
    beside_gains: bool = True,
) -> Array:
    """Student's t of the model's interaction of context and query, then of n_others dealt anew.

    traces: (frames, trials); cells: (frames, trials, contexts, queries), what a unit drive in each
    cell of the design would show; model: (contexts, queries), a response predicted for every cell;
    features: (queries, k), known features of the queries; order: of the autoregression. Nuisances
    are the effects of contexts and queries and, beside_gains, any gain of a context on any
    of: the effect of queries that the traces show, the one that the model has, the known features.
    Others are the model's interaction, less what such gains explain, with queries dealt anew.
    The effect that the traces show has to be measured well: a gain that is zero in the mean over
    contexts leaves none, and is not noticed.
    `randomised` makes a p of the result: (1 + n_others,). Raises ValueError where shapes disagree.
    """
    y, model = np.asarray(traces, dtype=float), np.asarray(model, dtype=float)
    if np.shape(cells) != (*y.shape, *model.shape) or min(model.shape) < 2:
        raise ValueError(
            f"cells has shape {np.shape(cells)}: must be frames and trials of traces, {y.shape}, "
            f"then contexts and queries of model, {model.shape}, at least two of each"
        )
    c, n = model.shape

    def shown(columns: Array) -> Array:
        """Frames that each column, a drive in every cell of the design, would show."""
        return (flat @ columns).reshape(*y.shape, -1)

    flat = np.reshape(cells, (-1, c * n))
    known = centred(model)[2].T
    if features is not None:
        known = np.column_stack([known, features])
    X = np.concatenate([np.ones((*y.shape, 1)), shown(additive(c, n))], axis=-1)
    rest = centred(model)[0]
    if beside_gains:
        white_y, white_X = _whitened(y, order, X)
        by_query = np.linalg.lstsq(_flat(white_X), white_y.ravel())[0][1 : 1 + n]
        slopes = gains(np.column_stack([by_query, known]), c).reshape(c * n, -1)
        X = np.concatenate([X, shown(slopes)], axis=-1)
        explained = gains(known, c).reshape(c * n, -1)
        rest = rest.ravel() - explained @ np.linalg.lstsq(explained, rest.ravel())[0]
        rest = rest.reshape(c, n)
    rng = np.random.default_rng(seed)
    deals = [np.arange(n), *(rng.permutation(n) for _ in range(n_others))]
    candidates = np.stack([rest[:, deal].ravel() for deal in deals], axis=1)
    return detect(y, X, shown(candidates), order)


def _whitened(y: Array, order: int, X: Array, *others: Array) -> tuple[Array, ...]:
    """y, X and others less what an autoregression fitted to y beside X predicts of them."""
    if not order:
        return y, X, *others
    u = _basis(_flat(X))
    rest = y - (u @ (u.T @ y.ravel())).reshape(y.shape)
    r = np.array([np.sum(rest[k:] * rest[: len(rest) - k]) for k in range(order + 1)])
    apart = np.abs(np.subtract.outer(range(order), range(order)))
    a = np.linalg.solve(r[apart], r[1:])
    return tuple(_whiten(x, a) for x in (y, X, *others))


def _basis(X: Array) -> Array:
    """Orthonormal columns that span those of X."""
    from scipy.linalg import qr

    u, r, _ = qr(X, mode="economic", pivoting=True)
    size = np.abs(np.diag(r))
    return u[:, size > 1e-10 * size[0]]


def _flat(X: Array) -> Array:
    return X.reshape(-1, X.shape[-1])


def _whiten(x: Array, a: Array) -> Array:
    order = len(a)
    return x[order:] - sum(a[k] * x[order - 1 - k : len(x) - 1 - k] for k in range(order))


def power(delta: Array, df: float, level: float = 0.05) -> Array:
    """Chance that a two-sided t test at this level rejects, at non-centrality delta. Cohen 1988."""
    from scipy.stats import nct, norm, t

    critical, delta = t.ppf(1 - level / 2, df), np.abs(delta)
    exact = nct.sf(critical, df, delta) + nct.cdf(-critical, df, delta)
    # where SciPy's series fails, at a large delta or df: Abramowitz and Stegun 26.7.10
    far = (delta - critical * (1 - 1 / (4 * df))) / np.sqrt(1 + critical**2 / (2 * df))
    return np.where(np.isnan(exact), norm.cdf(far), exact)[()]


def needed(delta: Array, aim: float = 0.8, level: float = 0.05) -> Array:
    """Repetitions for a power of `aim`, at non-centrality delta each: many frames, so a z test."""
    from scipy.stats import norm

    return ((norm.ppf(1 - level / 2) + norm.ppf(aim)) / np.asarray(delta)) ** 2
