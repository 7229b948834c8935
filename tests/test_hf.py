"""`tripartite.hf` within models of Transformers; they run in an environment of their own.

It is made by `.venv/bin/python tests/peers/environment.py hf`, which downloads PyTorch; without it
these tests are skipped.
"""

import json
import os
import re
import subprocess
from pathlib import Path

import pytest

from companion.fetch import model_directory
from companion.paths import ROOT

PYTHON = ROOT / "_build/peers/hf/bin/python"
PEER = Path(__file__).parent / "peers/hf_peer.py"
SPEAKING = ["llama", "qwen2", "gpt2"]
MODELS = [*SPEAKING, "bert", "vit"]


@pytest.fixture(scope="module")
def found():
    if not PYTHON.exists():
        pytest.skip("no Transformers: .venv/bin/python tests/peers/environment.py hf brings it")
    model = model_directory("all-MiniLM-L6-v2")
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}  # other tests have the other core
    done = subprocess.run(
        [PYTHON, PEER, model], capture_output=True, text=True, timeout=600, env=environment
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.parametrize("model", MODELS)
def test_a_model_gets_the_attention_of_the_whole_kernel(found, model):
    """The same hidden neurons, by PyTorch alone with a mask: outputs, and gradients of all weights."""
    assert found[model]["kernel"] < 1e-12
    assert found[model]["gradients"] < 1e-12


@pytest.mark.parametrize("model", MODELS)
def test_many_neurons_come_near_the_models_own_attention(found, model):
    """And padding is not written: with padding written, the output is another."""
    assert found[model]["softmax"] < 0.05
    if model != "vit":
        assert found[model]["padding ignored"] > 4 * found[model]["softmax"]


@pytest.mark.parametrize("model", SPEAKING)
def test_models_speak_with_a_memory_that_does_not_grow(found, model):
    """Greedy and with beams, the same tokens as with all keys and values kept, after padding too."""
    for what in ("speaks as the kernel", "fixed memory", "fixed memory, beams"):
        assert found[model][what], what
    batch, layers, neurons, width = 2, 2, 40, 8
    groups = 4 if model == "gpt2" else 2
    numbers = groups * neurons * (width + 2)  # H, g, and a scale for each neuron
    assert found[model]["numbers kept"] == batch * layers * numbers


def test_what_the_attention_cannot_do_is_refused(found):
    refused = found["refused"]
    assert "attention_mask of shape (1, 1, 6, 6): must be (batch, tokens)" in refused["mask"]
    assert "kind = 'magic': must be one of" in refused["kind"]
    assert "n_neurons = 0: must be a whole number" in refused["size"]
    for when in ("window", "window to fit to"):
        assert "sliding_window = 4: must be None" in refused[when]
    assert "inputs: must hold one or more" in refused["nothing to fit to"]
    assert refused["padding"] == "inputs: must have no padding"


def test_a_real_model_reads_with_fitted_neurons(found):
    """As the page says: the worst of three texts, against random neurons and uniform attention."""
    page = (ROOT / "book/huggingface.md").read_text(encoding="utf-8")
    said = re.search(
        r"must be above (\S+) for.* below (\S+) with as.* below (\S+) with uniform", page
    )
    least, few, uniform = map(float, said.groups())
    assert (least, few, uniform) == (0.85, 0.7, 0.5)
    cosine = found["fitted"]
    assert cosine["fitted"] > least
    assert cosine["few at random"] < few and cosine["uniform"] < uniform


def test_the_page_about_it_runs_as_it_stands(found):
    text = (ROOT / "book/huggingface.md").read_text(encoding="utf-8")
    blocks = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    assert len(blocks) == 4
    done = subprocess.run(
        [PYTHON, "-c", "\n".join(blocks)],
        capture_output=True,
        text=True,
        timeout=600,
        env={**os.environ, "PYTHONPATH": str(ROOT / "code")},
    )
    assert done.returncode == 0, done.stderr
    error, answer, *logits = done.stdout.splitlines()
    assert float(error) < 0.1
    groups, neurons, width = 2, 4096, 16
    assert answer == f"torch.Size([1, 20]) {2 * groups * neurons * (width + 2)}"
    assert logits == ["torch.Size([1, 12, 100])"] * 2
