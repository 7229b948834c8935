"""One way to compute attention, timed in a process of its own: bench_attention.py runs several.

    attention_peer.py NAME serve            a line "call N" or "sgemm" in, seconds out, in JSON
    attention_peer.py NAME memory N [M]     MiB above what the inputs need, in a fresh process

Runs in the book's environment or in PyTorch's, and imports only what the one way needs. d = 64,
float32, inputs from a seed, queries and keys of norm 2.8 as in real heads.
"""

from __future__ import annotations

import json
import math
import os
import re
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import reduce
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "code"))

from tripartite import attention, features, network  # noqa: E402

D, M, SIZE, SPAN = 64, 256, 0.35, 128
CORES = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
AT_LEAST = 0.15  # s: calls that take less are repeated, and count as their mean

Call = Callable[[], np.ndarray]


def inputs(n: int) -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    q, k, v = (rng.standard_normal((n, D), dtype=np.float32) for _ in range(3))
    return [SIZE * q, SIZE * k, v]


def neurons(m: int, like) -> features.FeatureMap:
    return features.sample("positive", m, D, seed=0, like=like)


# -- ways to compute attention: each returns a call that does it -----------------------------------


def exact(n: int, m: int) -> Call:
    q, k, v = inputs(n)
    return lambda: attention.softmax_attention(q, k, v)


def exact_spans(n: int, m: int) -> Call:
    """SPAN queries at a time, which was fastest: the table of scores is never there as a whole."""
    q, k, v = inputs(n)
    starts = range(0, n, SPAN)
    return lambda: np.concatenate(
        [attention.softmax_attention(q[start : start + SPAN], k, v) for start in starts]
    )


def whole(n: int, m: int) -> Call:
    q, k, v = inputs(n)
    phi = neurons(m, like=q)
    return lambda: network.attend(phi, q, k, v).output


def threads(n: int, m: int) -> Call:
    """Each core writes and reads its share of the tokens. One thread each in BLAS."""
    q, k, v = inputs(n)
    blank, share = network.blank(neurons(m, like=q), v), -(-n // CORES)
    parts = [slice(start, min(start + share, n)) for start in range(0, n, share)]
    pool = ThreadPoolExecutor(CORES)

    def call() -> np.ndarray:
        written = pool.map(lambda now: network.write(blank, k[now], v[now]), parts)
        memory = reduce(network.merge, written)
        return np.concatenate(
            list(pool.map(lambda now: network.read(memory, q[now]).output, parts))
        )

    return call


def torch_inputs(n: int):
    import torch

    torch.set_num_threads(CORES)
    torch.set_grad_enabled(False)
    return [torch.from_numpy(x)[None, None] for x in inputs(n)]


def sdpa(n: int, m: int) -> Call:
    from torch.nn.functional import scaled_dot_product_attention

    q, k, v = torch_inputs(n)
    return lambda: scaled_dot_product_attention(q, k, v, scale=1.0)[0, 0].numpy()


def performer(n: int, m: int) -> Call:
    """Its projection is ours; it divides queries and keys by d^(1/4) itself."""
    from performer_pytorch import FastAttention

    q, k, v = torch_inputs(n)
    layer = FastAttention(D, nb_features=m)
    layer.projection_matrix.copy_(neurons(m, like=q).directions)
    q, k = q * D**0.25, k * D**0.25
    return lambda: layer(q, k, v)[0, 0].numpy()


def in_torch(n: int, m: int) -> Call:
    q, k, v = (x[0, 0] for x in torch_inputs(n))
    phi = neurons(m, like=q)
    return lambda: network.attend(phi, q, k, v).output.numpy()


def exact_token(n: int, m: int) -> Call:
    """One more token at the end of a context: its query against all keys, which are kept."""
    q, k, v = inputs(n)
    return lambda: attention.softmax_attention(q[-1:], k, v)


def network_token(n: int, m: int) -> Call:
    """One more token: written into H and g, then read."""
    q, k, v = inputs(n)
    memory = network.write(network.blank(neurons(m, like=q), v), k[:-1], v[:-1])
    return lambda: network.read(network.write(memory, k[-1:], v[-1:]), q[-1:]).output


WAYS: dict[str, Callable[[int, int], Call]] = {
    "exact-numpy": exact,
    "exact-numpy-spans": exact_spans,
    "exact-torch": sdpa,
    "performer": performer,
    "network-numpy": whole,
    "network-threads": threads,
    "network-torch": in_torch,
    "token-exact": exact_token,
    "token-network": network_token,
}
IN_TORCH = {"exact-torch", "performer", "network-torch"}


# -- measuring -------------------------------------------------------------------------------------


def seconds(call: Call) -> float:
    """Mean over as many calls as fill the shortest time worth measuring."""
    start, calls = time.perf_counter(), 0
    while (passed := time.perf_counter() - start) < AT_LEAST:
        call()
        calls += 1
    return passed / calls


def sgemm(name: str, side: int = 2048) -> Call:
    """Its product of two square matrices, whose rate is the machine's peak."""
    a = np.random.default_rng(0).standard_normal((side, side), dtype=np.float32)
    if name in IN_TORCH:
        torch_inputs(1)
        import torch

        a = torch.from_numpy(a)
    return lambda: a @ a


def serve(name: str) -> None:
    made: tuple[str, Call] = ("", lambda: None)
    for line in sys.stdin:
        if made[0] != line:
            n = line.split()[1:]
            made = (line, WAYS[name](int(n[0]), M) if n else sgemm(name))
            made[1]()  # pools of threads start, and so does memory that is used again
        start = time.perf_counter()
        answer = {"seconds": seconds(made[1]), "lasted": time.perf_counter() - start}
        if line.startswith("call"):
            answer["some"] = made[1]()[:2, :4].ravel().tolist()
        print(json.dumps(answer), flush=True)


def status(name: str) -> float:
    text = Path("/proc/self/status").read_text()
    return int(re.search(rf"{name}:\s+(\d+)", text)[1]) / 1024


def memory(name: str, n: int, m: int) -> dict:
    """Peak of one call, above what the process holds before: inputs, neurons, libraries."""
    WAYS[name](8, m)()  # so that libraries have what they keep
    call = WAYS[name](n, m)
    Path("/proc/self/clear_refs").write_text("5")  # the peak so far is forgotten
    before = status("VmRSS")
    call()
    return {"before": before, "above": status("VmHWM") - before}


def versions(name: str) -> dict:
    found = {"numpy": np.__version__, "python": sys.version.split()[0]}
    blas = np.show_config(mode="dicts")["Build Dependencies"]["blas"]
    found["blas"] = f"{blas['name']} {blas['version']}"
    if name in IN_TORCH:
        from importlib.metadata import version

        found |= {p: version(p) for p in ("torch", "performer-pytorch")}
    return found


if __name__ == "__main__":
    way, task, *sizes = sys.argv[1:]
    if task == "serve":
        print(json.dumps(versions(way)), flush=True)
        serve(way)
    else:
        assert math.prod(map(int, sizes)) > 0
        print(json.dumps(memory(way, *map(int, [*sizes, M][:2]))))
