"""The benchmark of attention: its ways compute the same, and it notices what disturbs it."""

import json
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

PEERS = Path(__file__).parent / "peers"
sys.path.insert(0, str(PEERS))

import attention_peer as peer  # noqa: E402
import bench_attention as bench  # noqa: E402

N = 600  # tokens: more than one span, and no multiple of one


def test_ways_of_exact_attention_agree():
    whole, parts = (peer.WAYS[name](N, 64)() for name in ("exact-numpy", "exact-numpy-spans"))
    np.testing.assert_allclose(parts, whole, rtol=0, atol=1e-5)  # single precision
    token = peer.WAYS["token-exact"](N, 64)()
    np.testing.assert_allclose(token, whole[-1:], rtol=0, atol=1e-5)


@pytest.mark.parametrize("cores", [1, 2, 3])
def test_tokens_on_several_threads_are_one_text(cores, monkeypatch):
    monkeypatch.setattr(peer, "CORES", cores)
    whole = peer.WAYS["network-numpy"](N, 64)()
    np.testing.assert_allclose(peer.WAYS["network-threads"](N, 64)(), whole, rtol=0, atol=1e-4)
    token = peer.WAYS["token-network"](N, 64)()
    np.testing.assert_allclose(token, whole[-1:], rtol=0, atol=1e-4)


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="Linux only")
def test_memory_above_the_start_is_that_of_the_call():
    command = [sys.executable, PEERS / "attention_peer.py", "exact-numpy", "memory", "2048"]
    done = subprocess.run(command, capture_output=True, check=True, text=True)
    table = 2048**2 * 4 / 2**20  # MiB of one table of scores; two to four are alive at once
    assert 2 * table - 1 < json.loads(done.stdout)["above"] < 4 * table + 2


class Answers(bench.Worker):
    def __init__(self, disturbed):
        self.disturbed = iter(disturbed)

    def once(self, request):
        return {"seconds": 1.0, "disturbed": next(self.disturbed)}


def test_the_first_quiet_run_counts_or_the_least_disturbed_one_in_time():
    soon = time.monotonic() + 60
    assert Answers([0.5, 0.3, 0.02, 0.01])("call", soon)["disturbed"] == 0.02
    assert Answers([0.5, 0.01])("call", until=0.0)["disturbed"] == 0.5


@pytest.mark.skipif(not Path("/proc/stat").exists(), reason="Linux only")
def test_work_of_this_process_is_noticed():
    import os

    before, start = bench.busy(os.getpid()), time.process_time()
    while time.process_time() - start < 0.2:
        pass
    assert bench.busy(os.getpid()) - before > 0.1
