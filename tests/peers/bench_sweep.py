"""What a sweep costs above its chapter: `.venv/bin/python tests/peers/bench_sweep.py`, 90 s.

Prints the overhead of a short run, and the efficiency of twenty runs of 5 s on two processes:
the time that the cells take one after the other, in a sweep on one process, against the wall
time of two, start-up and table included.
"""

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))
from conftest import Checkout  # noqa: E402
from test_sweep import PARAMETERS, Slow  # noqa: E402

WORK = """\
import numpy as np
from companion import claim
x = np.random.default_rng(seed).normal(size=(400, 400))
for _ in range(ROUNDS):
    x = np.tanh(x @ x.T / 400)
claim("C5", "Size", np.abs(x).max(), "< 1.1")"""


def cell_seconds(run: Path) -> float:
    cells = json.loads((run / "chapter.ipynb").read_text())["cells"]
    return sum(cell["metadata"]["papermill"]["duration"] or 0 for cell in cells)


def sweep(slow: Slow, name: str, rounds: int, seeds: str, jobs: int) -> tuple[float, list[float]]:
    """Wall time of the sweep, and of the cells of each run."""
    slow.write(PARAMETERS, WORK.replace("ROUNDS", str(rounds)))
    start = time.monotonic()
    result = slow.sweep("-p", f"seed={seeds}", "-j", str(jobs), "-o", name)
    wall = time.monotonic() - start
    assert result.returncode == 0, result.stderr
    runs = (slow.root / name).glob("*/chapter.ipynb")
    return wall, [cell_seconds(path.parent) for path in runs]


with tempfile.TemporaryDirectory() as folder:
    slow = Slow(Checkout(Path(folder)).create())
    sweep(slow, "warm-up", 1, "0", 1)
    first, (own,) = sweep(slow, "one", 1, "0", 1)
    wall, times = sweep(slow, "short", 1, "0..40", 1)
    print(f"start-up, first run and table: {first - own:.2f} s")
    print(f"overhead of a short run: {(wall - sum(times) - first + own) / 40:.3f} s")
    _, (calibrated,) = sweep(slow, "calibrate", 200, "0", 1)
    rounds = round(200 * 5 / calibrated)
    _, alone = sweep(slow, "alone", rounds, "0..2", 1)
    wall, times = sweep(slow, "long", rounds, "0..19", 2)
    own = sum(alone) / len(alone)
    print(f"20 runs of {own:.2f} s alone, {sum(times) / 20:.2f} s beside another: {wall:.1f} s")
    print(f"efficiency on two processes: {20 * own / 2 / wall:.1%}")
    print(f"overhead of a run: {2 * wall / 20 - sum(times) / 20:.2f} s with start-up and table")
