"""Every family's reader against transformers: files by its save_pretrained, states in float64."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from tripartite import checkpoint, pretrained

FOLDERS = Path(__file__).parent / "checkpoints"
LANGUAGE, VISION = ("albert", "bert"), ("dinov2", "vit")
FAMILIES = pytest.mark.parametrize("name", LANGUAGE + VISION)
CASES = [(name, "ids", "states", 1e-12) for name in LANGUAGE]
CASES += [(name, "pixels.trained", "states.trained", 1e-12) for name in VISION]
CASES += [("vit", "pixels.wide", "states.wide", 1e-12)]
CASES += [("dinov2", "pixels.wide", "states.wide", 1e-6)]  # it resizes positions in float32


def inputs_of(name: str) -> np.ndarray:
    arrays = load_file(FOLDERS / name / "states.safetensors")
    return arrays["ids" if name in LANGUAGE else "pixels.trained"]


def copied(name: str, target: Path) -> Path:
    return Path(shutil.copytree(FOLDERS / name, target / name))


def rewrite(folder: Path, change) -> None:
    """Let change edit the dictionary of the folder's tensors."""
    weights = load_file(folder / "model.safetensors")
    change(weights)
    save_file(weights, folder / "model.safetensors")


def configure(folder: Path, name: str = "config.json", **entries) -> None:
    """Set entries of a JSON file; None takes one out."""
    path = folder / name
    config = json.loads(path.read_text()) | entries
    path.write_text(json.dumps({k: v for k, v in config.items() if v is not None}))


@pytest.mark.parametrize(("name", "inputs", "states", "bound"), CASES)
def test_hidden_states_are_those_of_transformers(name, inputs, states, bound):
    arrays = load_file(FOLDERS / name / "states.safetensors")
    found = pretrained.load(FOLDERS / name).hidden_states(arrays[inputs])
    assert len(found) == len(arrays[states])
    for layer, (state, expected) in enumerate(zip(found, arrays[states], strict=True)):
        error = np.linalg.norm(state - expected) / np.linalg.norm(expected)
        assert error < bound, f"state {layer}: relative error {error:.1e}"


@FAMILIES
def test_every_tensor_of_the_encoder_matters_and_its_absence_is_named(tmp_path, name):
    folder, inputs = copied(name, tmp_path), inputs_of(name)
    weights = load_file(folder / "model.safetensors")
    before = pretrained.load(folder)
    heads = ("predictions", "cls.pred", "classifier", "pooler", "mask_token")
    for tensor in weights:
        if any(part in tensor for part in heads):
            continue
        changed = weights[tensor] + np.roll(weights[tensor], 1, axis=-1)
        save_file(weights | {tensor: changed}, folder / "model.safetensors")
        after = pretrained.load(folder)
        if "layernorm." in tensor:  # of the last state
            change = after.features(inputs) - before.features(inputs)
        else:
            change = after.hidden_states(inputs)[-1] - before.hidden_states(inputs)[-1]
        if not tensor.endswith("key.bias"):  # softmax does not see a score common to all keys
            assert np.abs(change).max() > 1e-4, tensor
        without = {name: array for name, array in weights.items() if name != tensor}
        save_file(without, folder / "model.safetensors")
        short = tensor.removeprefix(f"{name}.")
        with pytest.raises(ValueError, match=f"tensor {short} of shape .* is missing"):
            pretrained.load(folder)


@FAMILIES
def test_wrong_shape_is_named_with_both_shapes(tmp_path, name):
    folder = copied(name, tmp_path)
    configure(folder, hidden_size=27)
    with pytest.raises(ValueError, match=r"tensor [\w.]+ has shape \(.*24.*\): must be \(.*27"):
        pretrained.load(folder)


@pytest.mark.parametrize(
    ("name", "entries", "message"),
    [
        ("albert", {"inner_group_num": 2}, "inner_group_num = 2: must be 1"),
        ("albert", {"embedding_size": None}, "embedding_size missing"),
        ("albert", {"hidden_act": "silu"}, "hidden_act = 'silu': must be 'gelu' or 'gelu_new'"),
        ("albert", {"num_hidden_groups": 3}, r"albert_layer_groups.2.\S* of shape .* is missing"),
        ("dinov2", {"use_swiglu_ffn": True}, "use_swiglu_ffn = True: must be False"),
        ("dinov2", {"patch_size": 5}, "patch_size = 5: must divide image_size = 24"),
        ("dinov2", {"layer_norm_eps": 0}, "layer_norm_eps = 0: must be a finite number above 0"),
        ("vit", {"qkv_bias": False}, "qkv_bias = False: must be True"),
        ("vit", {"num_channels": 1}, "num_channels = 1: must be 3"),
        ("vit", {"image_size": 28}, r"position_embeddings has .* \(1, 37, 24\): .* \(1, 50, 24\)"),
        ("vit", {"model_type": "swin"}, "'swin': must be 'albert' or 'bert' or 'dinov2' or 'vit'"),
        ("vit", {"model_type": "dinov2"}, "tensor embeddings.*|tensor encoder.* is missing"),
    ],
)
def test_what_is_not_implemented_is_refused(tmp_path, name, entries, message):
    folder = copied(name, tmp_path)
    configure(folder, **entries)
    with pytest.raises(ValueError, match=message):
        pretrained.load(folder)


@FAMILIES
def test_entries_that_files_leave_out_have_the_values_of_transformers(tmp_path, name):
    """The fixtures state them, as transformers wrote them; ours must be the same."""
    folder, inputs = copied(name, tmp_path), inputs_of(name)
    expected = pretrained.load(folder).hidden_states(inputs)[-1]
    sizes = ("mlp_ratio", "num_hidden_groups")  # of which the fixtures have other ones
    configure(folder, **{k: None for k in pretrained.FAMILIES[name].defaults if k not in sizes})
    np.testing.assert_array_equal(pretrained.load(folder).hidden_states(inputs)[-1], expected)


@pytest.mark.parametrize(
    ("text", "message"), [("{", "not readable as JSON"), ("[1]", "holds a list: must be a JSON")]
)
def test_damaged_config_is_named(tmp_path, text, message):
    folder = copied("bert", tmp_path)
    (folder / "config.json").write_text(text)
    with pytest.raises(ValueError, match=f"config.json: {message}"):
        pretrained.load(folder)


def test_a_name_without_a_folder_is_named():
    with pytest.raises(FileNotFoundError, match=r"no-such-model.config.json: no such file"):
        pretrained.load("no-such-model")


def test_names_with_and_without_a_head_and_of_the_first_bert(tmp_path):
    folder, ids = copied("bert", tmp_path), inputs_of("bert")
    expected = pretrained.load(folder).hidden_states(ids)[-1]

    def first_names(weights):
        for name in list(weights):
            new = name.replace("LayerNorm.weight", "LayerNorm.gamma")
            weights[new.replace("LayerNorm.bias", "LayerNorm.beta")] = weights.pop(name)

    rewrite(folder, first_names)
    np.testing.assert_array_equal(pretrained.load(folder).hidden_states(ids)[-1], expected)

    def bare(weights):
        for name in list(weights):
            array = weights.pop(name)
            if name.startswith("bert."):
                new = name.removeprefix("bert.").replace("gamma", "weight").replace("beta", "bias")
                weights[new] = array

    rewrite(folder, bare)
    np.testing.assert_array_equal(pretrained.load(folder).hidden_states(ids)[-1], expected)


# --- ALBERT ---


def test_albert_shares_its_layers_and_widens_its_embeddings():
    model = pretrained.load(FOLDERS / "albert")
    assert [id(block) for block in model.blocks] == [
        id(model.blocks[i]) for i in (0, 0, 2, 2)
    ]  # two groups of two
    assert model.blocks[0] is not model.blocks[2]
    assert model.embeddings.words.shape == (160, 16) and model.d_model == 24
    assert (model.n_layers, model.n_heads, model.d_key, model.n_positions) == (4, 3, 8, 64)


def test_albert_by_default_has_one_layer_for_all(tmp_path):
    folder = copied("albert", tmp_path)
    configure(folder, num_hidden_groups=None, inner_group_num=None)  # as old files have it
    assert len(set(map(id, pretrained.load(folder).blocks))) == 1


def test_sentencepiece_tokens(tmp_path):
    model = pretrained.load(FOLDERS / "albert")
    tokens = model.tokenize("An  ASTROCYTE lístens.")
    assert (tokens.strings[0], tokens.strings[-1]) == ("[CLS]", "[SEP]")
    words = "".join(tokens.strings[1:-1]).replace("\N{LOWER ONE EIGHTH BLOCK}", " ")
    assert words == " an astrocyte listens."
    np.testing.assert_array_equal(
        model.tokenize("An astrocyte listens to many neurons at once, and answers slowly.").ids,
        inputs_of("albert"),
    )


def test_activations_are_those_of_the_config(tmp_path):
    folder, ids = copied("albert", tmp_path), inputs_of("albert")
    smooth = pretrained.load(folder).hidden_states(ids)[-1]
    configure(folder, hidden_act="gelu")
    exact = pretrained.load(folder).hidden_states(ids)[-1]
    assert 1e-6 < np.abs(smooth - exact).max() < 1e-2


def test_every_family_says_which_activations_it_knows():
    for family in pretrained.FAMILIES.values():
        assert set(family.implemented["hidden_act"]) == set(checkpoint.ACTIVATIONS)
