"""Time and error of our astrocytes and of Brian2's, in one run that alternates the two.

    make bench                                   about ten minutes on two cores
    .venv/bin/python tests/peers/bench.py --repeat 1 --all

The first run makes an environment for Brian2 in _build/peers/brian2, from brian2-requirements.txt;
it needs Python 3.11 or 3.12 and a C++ compiler. Every program computes in one thread, and seconds
are those of the integration: compiling is timed apart, imports are not timed. Errors are the
largest difference of any state at the end from a converged answer; in Brian2's, about 1e-6 is the
jump of J_ex as published, which ours smooths. "to 30 ms" compares at about equal errors.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import NamedTuple

os.environ["OPENBLAS_NUM_THREADS"] = "1"  # before NumPy is imported

import numpy as np
from environment import set_up
from scipy.integrate import solve_ivp

from companion.paths import ROOT
from tripartite import astrocyte

HERE = Path(__file__).parent
LOCK = HERE / "brian2-requirements.txt"
VENV = ROOT / "_build" / "peers" / "brian2"
PYTHON = VENV / "bin" / "python"
SET = astrocyte.ASTROCYTES["stimberg2019-ex2"]
HIGHEST = 1.0  # transmitter, uM: from 0 to this over the cells

Run = Callable[[], np.ndarray]


class Row(NamedTuple):
    name: str
    wall: float
    cpu: float
    error: float


class Problem(NamedTuple):
    """cells with transmitter up to highest uM, duration s."""

    cells: int
    highest: float
    duration: float

    @property
    def Y(self) -> np.ndarray:
        return np.linspace(0, self.highest, self.cells) if self.cells > 1 else self.highest


# -- contenders --------------------------------------------------------------------------------


def ours(problem: Problem, method: str, dt: float) -> np.ndarray:
    initial = astrocyte.at_rest(problem.cells)
    run = astrocyte.simulate(SET, initial, problem.duration, dt, Y=problem.Y, method=method)
    return run.states[-1]


def lsoda(problem: Problem, rtol: float, atol: float) -> np.ndarray:
    """The last state of one cell, (4, 1)."""
    ends = [0.0, problem.duration]
    run = astrocyte.trace(SET, ends, Y=float(problem.highest), rtol=rtol, atol=atol)
    return np.array(run)[:, -1:]


def dop853(problem: Problem) -> np.ndarray:
    """The last state of one cell, (4, 1), by another method at the tightest tolerance."""

    def slope(t: float, y: np.ndarray) -> astrocyte.State:
        return astrocyte.rates(astrocyte.State(*y.tolist()), SET, problem.highest)

    start, span = astrocyte.at_rest()[:, 0], (0.0, problem.duration)
    return solve_ivp(slope, span, start, method="DOP853", rtol=1e-12, atol=1e-14).y[:, -1:]


def peer(*arguments: object) -> dict:
    """What brian2_peer.py prints, run by Brian2's environment."""
    command = [PYTHON, HERE / "brian2_peer.py", *map(str, arguments)]
    done = subprocess.run(command, stdout=subprocess.PIPE, check=True, cwd=HERE)
    return json.loads(done.stdout.splitlines()[-1])


def options(problem: Problem, dt: float) -> list[object]:
    of_problem = ["--cells", problem.cells, "--highest", problem.highest]
    return [*of_problem, "--duration", problem.duration, "--dt", dt]


def program(problem: Problem, dt: float, folder: Path, threads: int = 1) -> Run:
    """Brian2's C++ program, built here and run by every call."""
    built = peer("build", folder, "--threads", threads, *options(problem, dt))
    print(f"  Brian2 {built['version']}, C++ at {dt * 1e3:g} ms: built in {built['build']:.1f} s")

    def run() -> np.ndarray:
        subprocess.run([folder / "main"], check=True, cwd=folder, stdout=subprocess.DEVNULL)
        files = [folder / "results" / built["states"][name] for name in ("Gamma_A", "I", "C", "h")]
        return np.stack([np.fromfile(file) for file in files])

    return run


def cython(problem: Problem, dt: float, converged: np.ndarray) -> Row:
    done = peer("cython", *options(problem, dt))
    error = np.abs(np.array(done["states"]) - converged).max()
    return Row(f"Brian2, Cython, RK4 {dt * 1e3:g} ms", done["wall"], done["cpu"], float(error))


# -- measuring ---------------------------------------------------------------------------------


def cpu_seconds() -> float:
    """Of this process and of all that it has waited for."""
    usage = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(u.ru_utime + u.ru_stime for u in usage)


def alternate(runs: dict[str, Run], converged: np.ndarray, repeat: int) -> list[Row]:
    """Median seconds of every contender; all of them run once before any runs again."""
    seconds: dict[str, list[tuple[float, float]]] = {name: [] for name in runs}
    errors = {}
    for done in range(repeat):
        print(f"  round {done + 1} of {repeat}", flush=True)
        for name, run in runs.items():
            wall, cpu = time.perf_counter(), cpu_seconds()
            final = run()
            seconds[name].append((time.perf_counter() - wall, cpu_seconds() - cpu))
            errors[name] = float(np.abs(final - converged).max())
    medians = {name: np.median(times, axis=0) for name, times in seconds.items()}
    return [Row(name, *medians[name], errors[name]) for name in runs]


def show(title: str, rows: list[Row], rivals: list[str]) -> None:
    """One column for each rival: how many times a row's seconds it needs."""
    width = max(len(row.name) for row in rows)
    against = [next(row for row in rows if row.name == rival) for rival in rivals]
    heads = "".join(f"{'to ' + rival.split()[-2] + ' ms':>10}" for rival in rivals)
    print(f"\n{title}\n{'':{width}}  seconds      CPU    error{heads}")
    for row in rows:
        ratios = "".join(f"{rival.wall / row.wall:10.2f}" for rival in against)
        print(f"{row.name:{width}}  {row.wall:7.2f}  {row.cpu:7.2f}  {row.error:7.1e}{ratios}")
    print(flush=True)


def peak_memory() -> float:
    """MB that a process needs for 2 s of a lattice of 3,200 coupled astrocytes."""
    code = (
        "import resource\n"
        "from tripartite import astrocyte as a\n"
        "p = a.ASTROCYTES['stimberg2019-ex6']\n"
        "positions, pairs = a.lattice()\n"
        "a.simulate(p, a.at_rest(3200), 2.0, 0.01, Y=1.0, pairs=pairs)\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)
    return int(done.stdout) / (1e6 if sys.platform == "darwin" else 1e3)


# -- the benchmark -----------------------------------------------------------------------------


def population(cells: int, duration: float, repeat: int, everything: bool, folder: Path) -> None:
    problem = Problem(cells, HIGHEST, duration)
    converged = ours(problem, "tsit5", 0.01)
    some = np.linspace(0, cells - 1, 7).astype(int)
    checks = [lsoda(Problem(1, problem.Y[k], duration), 1e-11, 1e-13) for k in some]
    off = np.abs(np.concatenate(checks, axis=1) - converged[:, some]).max()
    print(
        f"  converged answer: Tsitouras 5 at 10 ms; {len(some)} cells by LSODA differ by {off:.0e}"
    )
    published, matched = "Brian2, C++, RK4 1 ms", "Brian2, C++, RK4 30 ms"
    runs: dict[str, Run] = {
        published: program(problem, 0.001, folder / "published"),
        matched: program(problem, 0.03, folder / "matched"),
        "ours, RK4 30 ms": partial(ours, problem, "rk4", 0.03),
        "ours, Tsitouras 5 100 ms": partial(ours, problem, "tsit5", 0.1),
    }
    cores = os.cpu_count() or 1
    if everything and cores > 1:
        threaded = f"Brian2, C++ on {cores} threads, RK4"
        runs[f"{threaded} 1 ms"] = program(problem, 0.001, folder / "published-threads", cores)
        runs[f"{threaded} 30 ms"] = program(problem, 0.03, folder / "matched-threads", cores)
    rows = alternate(runs, converged, repeat)
    if everything:
        rows.append(cython(problem, 0.001, converged))
    show(f"{cells:,} uncoupled cells, {duration:g} s", rows, [published, matched])


def single(repeat: int, folder: Path) -> None:
    problem = Problem(1, 0.3, 600.0)
    rival = "Brian2, C++, RK4 1 ms"
    runs: dict[str, Run] = {
        rival: program(problem, 0.001, folder / "single"),
        "ours, LSODA, default tolerance": partial(lsoda, problem, 1e-9, 1e-11),
    }
    show("one oscillating cell, 600 s", alternate(runs, dop853(problem), repeat), [rival])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cells", type=int, default=10_000)
    parser.add_argument("--duration", type=float, default=60.0, help="model time, s")
    parser.add_argument("--repeat", type=int, default=3, help="runs of each")
    parser.add_argument("--all", action="store_true", help="also Brian2's threads and Cython")
    args = parser.parse_args()
    if not shutil.which("uv") and sys.version_info[:2] > (3, 12):
        sys.exit("bench: Brian2 2.9.0 needs NumPy 1.26 and so Python 3.11 or 3.12, or uv to get it")
    if not set_up("brian2", LOCK, python="3.11"):
        sys.exit("bench: could not set up Brian2. Is the network up?")
    if not shutil.which("g++"):
        sys.exit("bench: Brian2's fastest target needs g++")
    load = os.getloadavg()[0]
    print(
        f"NumPy {np.__version__}; {os.cpu_count()} cores, load {load:.1f}; medians of {args.repeat}"
    )
    with tempfile.TemporaryDirectory() as folder:
        population(args.cells, args.duration, args.repeat, args.all, Path(folder))
        single(args.repeat, Path(folder))
    print(f"peak memory of a lattice of 3,200 astrocytes: {peak_memory():.0f} MB")


if __name__ == "__main__":
    main()
