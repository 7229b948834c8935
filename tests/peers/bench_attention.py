"""Time and memory of the network, of exact attention and of performer-pytorch, in one run.

    make bench                                                     with the other benchmark
    .venv/bin/python tests/peers/bench_attention.py --rounds 1     a quick look, not kept

Every way runs in a process of its own, because thread pools of two libraries in one process cost
each other milliseconds. In each round every way runs once, one after the other; compare them by
the median of the rounds' ratios. While other programs take more than a tenth of the machine, a
run is repeated, and the least disturbed one counts; the record says how disturbed they were. PyTorch
gets an environment in _build/peers/torch; without it only NumPy is timed. The results go to
data/results/cost.json, which chapter 14 shows: execute it anew with `tripartite accept 14`.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import statistics
import subprocess
import sys
import time
from pathlib import Path

import attention_peer as peer
from environment import set_up

from companion.passport import commit
from companion.paths import DATA, ROOT
from companion.results import report

HERE = Path(__file__).parent
SIZES = [512, 1024, 2048, 4096, 8192, 16384]
TOKEN_WAYS = ["token-exact", "token-network"]
LARGE = (8192, 100_000)  # tokens and neurons of the largest network whose memory is measured
PAUSE = 0.06  # s, in which the threads of the way before go to sleep
PATIENCE = 60  # s, that all repetitions of disturbed runs may take
QUIET = 0.1  # share of the machine that other programs may take during a run
BUSY = 0.2  # and all runs together, or their record is not kept


class Worker:
    """One way in its process, which answers with seconds."""

    def __init__(self, name: str, python: str):
        self.name = name
        self.process = subprocess.Popen(
            [python, HERE / "attention_peer.py", name, "serve"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=threads(name),
        )
        self.versions = json.loads(self.process.stdout.readline())

    def __call__(self, request: str, until: float = 0.0) -> dict:
        """The least disturbed answer; the first quiet one, or the time until, ends the search."""
        best = self.once(request)
        while best["disturbed"] > QUIET and time.monotonic() < until:
            best = min(best, self.once(request), key=lambda answer: answer["disturbed"])
        return best

    def once(self, request: str) -> dict:
        time.sleep(PAUSE)
        before = busy(), busy(self.process.pid)
        self.process.stdin.write(request + "\n")
        self.process.stdin.flush()
        if not (line := self.process.stdout.readline()):
            sys.exit(f"bench: {self.name} ended at {request!r}")
        answer = json.loads(line)
        all_work, own = busy() - before[0], busy(self.process.pid) - before[1]
        answer["disturbed"] = max(0.0, all_work - own) / (peer.CORES * answer["lasted"])
        return answer

    def end(self) -> None:
        self.process.stdin.close()
        self.process.wait()


def busy(pid: int | None = None) -> float:
    """Seconds that all cores have worked so far, for anybody or for one process; 0 if unknown."""
    path = Path(f"/proc/{pid}/stat" if pid else "/proc/stat")
    if not path.exists():
        return 0.0
    words = path.read_text().rpartition(")")[2].split()
    # after a process's name: user and system; of the machine: all but idle and waiting for disks
    ticks = words[11:13] if pid else [*words[1:4], *words[6:9]]
    return sum(map(int, ticks)) / os.sysconf("SC_CLK_TCK")


def threads(name: str) -> dict[str, str]:
    # slices of some rows are too small for two threads of OpenBLAS, which wait for each other
    n = "1" if name in ("network-threads", "exact-numpy-spans") else str(peer.CORES)
    return os.environ | {"OPENBLAS_NUM_THREADS": n, "OMP_NUM_THREADS": n, "MKL_NUM_THREADS": n}


def times(workers: list[Worker], sizes: list[int], rounds: int) -> dict:
    """Seconds of a call by way and size, one for each round, and of a square product."""
    seconds = {worker.name: {} for worker in workers}
    square: dict[str, list[float]] = {}
    disturbed: list[float] = []
    for n in sizes:
        for worker in workers:  # inputs are made, pools are warm
            worker(f"call {n}")
        until = time.monotonic() + PATIENCE / len(sizes)
        answers = [{w.name: w(f"call {n}", until) for w in workers} for _ in range(rounds)]
        agree(answers[0], n)
        for name in seconds:
            seconds[name][str(n)] = [answer[name]["seconds"] for answer in answers]
        disturbed += [a["disturbed"] for answer in answers for a in answer.values()]
        print(
            f"  {n:,} tokens: {statistics.median(seconds['network-numpy'][str(n)]):.4f} s",
            flush=True,
        )
    for library in ("exact-numpy", "exact-torch"):
        for worker in workers:
            if worker.name == library:
                square[library] = [worker("sgemm")["seconds"] for _ in range(rounds + 1)][1:]
    return {
        "disturbed": round(float(statistics.mean(disturbed)), 3),
        "seconds": {name: {n: digits(x) for n, x in s.items()} for name, s in seconds.items()},
        "square": {name: digits(x) for name, x in square.items()},
    }


def digits(seconds: list[float]) -> list[float]:
    return [float(f"{x:.4g}") for x in seconds]


def agree(answers: dict, n: int) -> None:
    """Ways that compute the same must say the same, or there is nothing to compare."""
    for kind, tolerance in (("exact", 1e-4), ("network", 1e-3), ("token", 2.0)):
        ours = [a["some"] for name, a in answers.items() if name.startswith(kind)]
        apart = max(abs(x - y) for other in ours for x, y in zip(ours[0], other, strict=True))
        if apart > tolerance:
            sys.exit(f"bench: at {n} tokens two ways of kind {kind!r} differ by {apart:.1e}")


def memory(pythons: dict[str, str], sizes: list[int]) -> dict:
    """MiB above the start, by way and size, each in a fresh process."""

    def one(name: str, *arguments: int) -> dict:
        command = [pythons[name], HERE / "attention_peer.py", name, "memory", *map(str, arguments)]
        done = subprocess.run(
            command, capture_output=True, text=True, check=True, env=threads(name)
        )
        return json.loads(done.stdout)

    ways = [name for name in pythons if name not in TOKEN_WAYS]
    above = {name: {str(n): round(one(name, n)["above"], 2) for n in sizes} for name in ways}
    large = one("network-numpy", *LARGE)
    return {"above": above, "large": {"tokens": LARGE[0], "neurons": LARGE[1], **large}}


def machine(workers: list[Worker]) -> dict:
    model = platform.processor() or platform.machine()
    if (info := Path("/proc/cpuinfo")).exists():
        text = info.read_text()
        model = re.search(r"model name\s*:\s*(.*)", text)[1]
        flags = re.search(r"flags\s*:\s*(.*)", text)[1].split()
        model += " with AVX-512" if "avx512f" in flags else " with AVX2" if "avx2" in flags else ""
    versions = {}
    for worker in workers:
        versions |= worker.versions
    return {"cores": peer.CORES, "processor": model, "system": platform.system(), **versions}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--rounds", type=int, default=9, help="runs of each; below 5 nothing is kept"
    )
    parser.add_argument(
        "--only", choices=["time", "memory"], help="keep the rest of the last record"
    )
    parser.add_argument("--longest", type=int, default=SIZES[-1], help="tokens")
    args = parser.parse_args()
    torch = set_up("torch", HERE / "torch-requirements.txt", hashes=False)
    if not torch:
        print("without PyTorch, which could not be set up")
    sizes = [n for n in SIZES if n <= args.longest]
    pythons = {
        name: str(torch) if name in peer.IN_TORCH else sys.executable
        for name in peer.WAYS
        if torch or name not in peer.IN_TORCH
    }
    load = os.getloadavg()[0]
    print(f"attention: {peer.CORES} cores, load {load:.1f}; {args.rounds} rounds", flush=True)
    whole = sizes == SIZES and args.rounds >= 5
    last = DATA / "results" / "cost.json"
    result = json.loads(last.read_text()) if args.only and last.exists() else {}
    if args.only != "memory":
        workers = [Worker(name, python) for name, python in pythons.items()]
        result |= {
            "commit": commit(),
            "date": time.strftime("%Y-%m-%d"),
            "machine": machine(workers),
            "d": peer.D,
            "m": peer.M,
            "span": peer.SPAN,
            "rounds": args.rounds,
            **times(workers, sizes, args.rounds),
        }
        for worker in workers:
            worker.end()
        show(result)
    if args.only != "time" and Path("/proc/self/clear_refs").exists():
        result["memory"] = memory(pythons, sizes)
        show_memory(result["memory"])
    if result.get("disturbed", 0.0) > BUSY:
        print("not kept: ratios from a machine as busy as this mislead")
    elif whole:
        print(f"kept in {report('cost', result).relative_to(ROOT)}")


def show(result: dict) -> None:
    """Median seconds, and ratios to our network as medians of the rounds' ratios."""
    seconds, sizes = result["seconds"], list(result["seconds"]["network-numpy"])
    print(f"\n{'ms a call':20}" + "".join(f"{int(n):>10,}" for n in sizes))
    for name, by_size in seconds.items():
        medians = [statistics.median(by_size[n]) * 1e3 for n in sizes]
        print(f"{name:20}" + "".join(f"{ms:10.2f}" for ms in medians))
    for ours in ("network-numpy", "network-threads"):
        print(f"\ntimes {ours}")
        for name, by_size in seconds.items():
            ratios = [
                statistics.median(a / b for a, b in zip(by_size[n], seconds[ours][n], strict=True))
                for n in sizes
            ]
            if name != ours and not name.startswith("token"):
                print(f"{name:20}" + "".join(f"{ratio:10.2f}" for ratio in ratios))
    rates = {name: 2 * 2048**3 / min(s) / 1e9 for name, s in result["square"].items()}
    print("\nsgemm: " + ", ".join(f"{name} {rate:.0f} GFLOP/s" for name, rate in rates.items()))
    for name in (n for n in seconds if n.startswith("network")):
        rate = [8 * int(n) * peer.M * peer.D / statistics.median(seconds[name][n]) for n in sizes]
        shares = "".join(f"{x / max(rates.values()) / 1e9:10.0%}" for x in rate)
        print(f"{name:20}{shares}  of it")
    print(f"other programs took {result['disturbed']:.0%} of the machine")


def show_memory(memory: dict) -> None:
    for name, by_size in memory["above"].items():
        print(f"{name:20}" + "".join(f"{mib:10.1f}" for mib in by_size.values()) + "  MiB above")
    print(
        "{tokens:,} tokens, {neurons:,} neurons: {above:.1f} MiB above {before:.0f}".format(
            **memory["large"]
        )
    )


if __name__ == "__main__":
    main()
