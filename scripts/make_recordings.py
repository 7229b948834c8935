"""Record what every attention head of MiniLM sees in one text: `python scripts/make_recordings.py`.

Queries and keys are divided by d**(1/4) each, so that q.k is the scaled score. Computed in
float64, stored in float32.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

from companion.fetch import model_directory
from companion.paths import DATA
from tripartite import pretrained

MODEL = "all-MiniLM-L6-v2"


def record(name: str) -> Path:
    """Write recordings/minilm-<name>.safetensors for texts/<name>.txt."""
    model = pretrained.load(model_directory(MODEL))
    text = (DATA / "texts" / f"{name}.txt").read_text(encoding="utf-8")
    tokens = model.tokenize(text)
    arrays = dict(zip(("queries", "keys", "values"), model.heads(tokens.ids), strict=True))
    provenance = {
        "tokens": tokens.strings,
        "text": f"texts/{name}.txt",
        "text_sha256": hashlib.sha256(text.encode()).hexdigest(),
        "model": f"sentence-transformers/{MODEL} (Apache-2.0)",
        "axes": "layers, heads, tokens, features",
        "scale": "queries and keys divided by d**(1/4) each",
    }
    path = DATA / "recordings" / f"minilm-{name}.safetensors"
    # safetensors writes memory as it lies, so C order; one metadata entry: their order is random
    arrays = {k: np.ascontiguousarray(a, dtype=np.float32) for k, a in arrays.items()}
    save_file(arrays, path, {"provenance": json.dumps(provenance)})
    return path


if __name__ == "__main__":
    path = record("attention")
    print(f"{path.name}: {path.stat().st_size} bytes")
