"""What a sweep costs above its chapter: `.venv/bin/python tests/peers/bench_sweep.py`, 3 minutes.

Overhead of a short run in CPU seconds, which other work on the machine does not change. Then the
efficiency of twenty runs of 5 s on two processes: the time of the cells when they run alone, over
twice the wall time, start-up and table included; for cells that wait and for cells that compute.
The latter needs a machine with two idle cores.
"""

import json
import os
import resource
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))
from companion import warm  # noqa: E402
from conftest import Checkout  # noqa: E402
from test_sweep import PARAMETERS, Slow  # noqa: E402

WAIT = """\
import time
from companion import claim
time.sleep(AMOUNT)
claim("C5", "seed", "Seed", float(seed), "< 100", kind="result")"""
COMPUTE = """\
import numpy as np
from companion import claim
x = np.random.default_rng(seed).normal(size=(400, 400))
for _ in range(AMOUNT):
    x = np.tanh(x @ x.T / 400)
claim("C5", "size", "Size", np.abs(x).max(), "< 1.1", kind="result")"""


def cell_seconds(run: Path) -> float:
    cells = json.loads((run / "chapter.ipynb").read_text())["cells"]
    return sum(cell["metadata"]["papermill"]["duration"] or 0 for cell in cells)


def overhead(slow: Slow, runs: int) -> tuple[float, float]:
    """CPU seconds of a server that does nothing but so many runs, and wall seconds of a run."""
    before, walls = resource.getrusage(resource.RUSAGE_CHILDREN), []
    server = warm.Server(slow.checkout.notebook)
    for seed in range(runs):
        folder = slow.root / f"overhead-{runs}/{seed}"
        job = {"chapter": str(slow.checkout.notebook), "state": "any", "folder": str(folder)}
        start = time.monotonic()
        assert server(job | {"values": {"seed": seed}}) is None
        walls.append(time.monotonic() - start - cell_seconds(folder))
    server.process.stdin.close()
    server.process.wait()
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return cpu, sorted(walls)[len(walls) // 2]


class Timed:
    """A sweep: its wall time, and the seconds of the cells by run."""

    def __init__(self, slow: Slow, work: str, amount, seeds: str, jobs: int):
        slow.write(PARAMETERS, work.replace("AMOUNT", str(amount)))
        name = f"bench-{time.monotonic_ns()}"
        start = time.monotonic()
        result = slow.sweep("-p", f"seed={seeds}", "-j", str(jobs), "-o", name)
        self.wall = time.monotonic() - start
        assert result.returncode == 0, result.stderr
        self.cells = [cell_seconds(p.parent) for p in (slow.root / name).glob("*/chapter.ipynb")]


def efficiency(slow: Slow, work: str, amount, what: str) -> None:
    alone = Timed(slow, work, amount, "0,1", 1).cells
    both = Timed(slow, work, amount, "0..19", 2)
    own = sum(alone) / len(alone)
    beside = sum(both.cells) / 20
    print(f"20 runs that {what} {own:.2f} s alone, {beside:.2f} s two at a time: {both.wall:.1f} s")
    print(f"  efficiency {20 * own / 2 / both.wall:.1%}, load average {os.getloadavg()[0]:.1f}")


with tempfile.TemporaryDirectory() as folder:
    slow = Slow(Checkout(Path(folder)).create())
    Timed(slow, WAIT, 0, "0", 1)  # compiles the modules
    (start, _), (cpu, wall) = overhead(slow, 1), overhead(slow, 41)
    print(f"start of a server and a run: {start:.2f} s of CPU")
    print(f"overhead of a short run: {(cpu - start) / 40:.3f} s of CPU, {wall:.3f} s (median)")
    if "--short" not in sys.argv:
        efficiency(slow, WAIT, 5, "wait")
        calibrated = Timed(slow, COMPUTE, 200, "0", 1).cells[0]
        efficiency(slow, COMPUTE, round(200 * 5 / calibrated), "compute")
