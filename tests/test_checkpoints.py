"""Every family's reader against transformers: files by its save_pretrained, states in float64."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file
from tokenizers import Tokenizer, models

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
        ("albert", {"hidden_act": "mish"}, "hidden_act = 'mish': must be 'gelu' or .* 'relu' or"),
        ("albert", {"num_hidden_groups": 3}, r"albert_layer_groups.2.\S* of shape .* is missing"),
        ("dinov2", {"use_swiglu_ffn": True}, "use_swiglu_ffn = True: must be False"),
        ("dinov2", {"patch_size": 5}, "patch_size = 5: must divide image_size = 24"),
        ("dinov2", {"layer_norm_eps": 0}, "layer_norm_eps = 0: must be a finite number above 0"),
        ("vit", {"qkv_bias": False}, r"tensor \S*key.bias is not one of this architecture's"),
        ("vit", {"qkv_bias": "no"}, "qkv_bias = 'no': must be True or False"),
        ("vit", {"image_size": [24, 28]}, r"image_size = \[24, 28\]: must be as high as wide"),
        ("vit", {"image_size": "24"}, "image_size = '24': must be a whole number, at least 1"),
        ("bert", {"is_decoder": True}, "is_decoder = True: must be False"),
        ("albert", {"add_cross_attention": True}, "add_cross_attention = True: must be False"),
        ("bert", {"is_encoder_decoder": True}, "is_encoder_decoder = True: must be False"),
        ("bert", {"pruned_heads": {"0": [1]}}, "pruned_heads = .*: this entry is not implemented"),
        ("bert", {"auto_map": {"AutoModel": "a.B"}}, "auto_map = .*: .* take it out of a copy"),
        ("bert", {"quantization_config": {"bits": 8}}, "quantization_config = .* not implemented"),
        ("bert", {"rope_theta": 1e4}, "rope_theta = 10000.0: this entry is not implemented"),
        ("bert", {"model_type": ["bert"]}, r"model_type = \['bert'\]: must be 'albert' or 'bert'"),
        ("bert", {"model_type": 3}, "model_type = 3: must be 'albert' or 'bert'"),
        ("bert", {"layer_norm_eps": "1e-12"}, "layer_norm_eps = '1e-12': must be a finite number"),
        ("bert", {"layer_norm_eps": [1e-12]}, "layer_norm_eps = .*: must be a finite number"),
        ("bert", {"layer_norm_eps": True}, "layer_norm_eps = True: must be a finite number"),
        ("bert", {"layer_norm_eps": 10**400}, "layer_norm_eps = 1000.*: must be a finite number"),
        ("bert", {"hidden_size": "24"}, "hidden_size = '24': must be a whole number, at least 1"),
        ("bert", {"hidden_size": 24.0}, "hidden_size = 24.0: must be a whole number, at least 1"),
        ("bert", {"hidden_act": ["gelu"]}, r"hidden_act = \['gelu'\]: must be 'gelu' or"),
        ("vit", {"num_channels": 1}, "num_channels = 1: must be 3"),
        ("vit", {"image_size": 28}, r"position_embeddings has .* \(1, 37, 24\): .* \(1, 50, 24\)"),
        ("vit", {"model_type": "swin"}, "'swin': must be 'albert' or 'bert' or 'dinov2' or 'vit'"),
        ("vit", {"model_type": "dinov2"}, "intermediate_size = 40: this entry is not implemented"),
    ],
)
def test_what_is_not_implemented_is_refused(tmp_path, name, entries, message):
    folder = copied(name, tmp_path)
    configure(folder, **entries)
    with pytest.raises(ValueError, match=message):
        pretrained.load(folder)


@pytest.mark.parametrize("name", ["layer_norm_eps", "hidden_size", "hidden_act", "model_type"])
def test_null_is_refused_by_name(tmp_path, name):
    folder = copied("bert", tmp_path)
    config = json.loads((folder / "config.json").read_text()) | {name: None}
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(ValueError, match=f"config.json: {name} = None: must be"):
        pretrained.load(folder)


def test_entries_that_change_no_hidden_state_are_passed_over(tmp_path):
    """What older and newer transformers write beside the architecture, with any value."""
    folder, ids = copied("bert", tmp_path), inputs_of("bert")
    expected = pretrained.load(folder).hidden_states(ids)[-1]
    configure(
        folder, torch_dtype="float16", id2label={"0": "a"}, hidden_dropout_prob=0.3, top_k=50,
        output_attentions=True, pooler_num_fc_layers=3, use_cache=False, _name_or_path="x",
        pruned_heads={}, gradient_checkpointing=True,
    )  # fmt: skip
    np.testing.assert_array_equal(pretrained.load(folder).hidden_states(ids)[-1], expected)


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


# --- checkpoints as people have them ---


def test_parts_in_bfloat16_are_those_of_transformers():
    """Several files and their index, half of a float32's bits, silu, vocab.txt."""
    folder = FOLDERS / "bert-parts"
    assert len(list(folder.glob("model-*.safetensors"))) == 2
    arrays, model = load_file(folder / "states.safetensors"), pretrained.load(folder)
    assert model.tokenizer.token_to_id("[MASK]") == 4
    for state, expected in zip(
        model.hidden_states(arrays["ids.True"]), arrays["states"], strict=True
    ):
        assert np.linalg.norm(state - expected) / np.linalg.norm(expected) < 1e-12


# the sentence of make_checkpoints.py: accents, case, Chinese characters, control characters
OLD_SENTENCE = "Naïve  Astrocytes, don't listen\tnaxx. 神経! [MASK] \u200bunknownword"


@pytest.mark.parametrize("lower", [True, False])
def test_tokens_of_a_vocabulary_are_those_of_transformers(tmp_path, lower):
    folder = copied("bert-parts", tmp_path)
    (folder / "tokenizer_config.json").write_text(json.dumps({"do_lower_case": lower}))
    tokens = pretrained.load(folder).tokenize(OLD_SENTENCE)
    expected = load_file(folder / "states.safetensors")[f"ids.{lower}"]
    np.testing.assert_array_equal(tokens.ids, expected)
    assert len(set(expected)) > 12


def test_vit_without_biases_is_that_of_transformers():
    """qkv_bias false, relu, image_size and patch_size as lists."""
    folder = FOLDERS / "vit-plain"
    arrays, model = load_file(folder / "states.safetensors"), pretrained.load(folder)
    assert (model.image_size, model.patch_size) == (24, 4)
    for state, expected in zip(
        model.hidden_states(arrays["pixels"]), arrays["states"], strict=True
    ):
        assert np.linalg.norm(state - expected) / np.linalg.norm(expected) < 1e-12


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (lambda index: index.pop("weight_map"), ValueError, "weight_map = None: must name a file"),
        (
            lambda index: index.update(weight_map={"a": "../../secret"}),
            ValueError,
            "must name a file for each tensor",
        ),
        (
            lambda index: index["weight_map"].update(embeddings="model-00001-of-00002.safetensors"),
            ValueError,
            "index.json: model-00001-of-00002.safetensors does not hold embeddings",
        ),
        (
            lambda index: index["weight_map"].update(embeddings="model-3.safetensors"),
            FileNotFoundError,
            "model-3.safetensors: no such file",
        ),
    ],
)
def test_damaged_indices_are_named(tmp_path, change, error, message):
    folder = copied("bert-parts", tmp_path)
    path = folder / "model.safetensors.index.json"
    index = json.loads(path.read_text())
    change(index)
    path.write_text(json.dumps(index))
    with pytest.raises(error, match=message):
        pretrained.load(folder)


@pytest.mark.parametrize("kind", [np.int8, np.uint8, np.int32, np.int64, bool])
def test_quantised_weights_are_refused(tmp_path, kind):
    folder = copied("bert", tmp_path)
    name = "encoder.layer.1.output.dense.weight"
    rewrite(folder, lambda w: w.update({f"bert.{name}": w[f"bert.{name}"].astype(kind)}))
    with pytest.raises(ValueError, match=rf"tensor bert.{name} has dtype \w+: must be 'F64' or"):
        pretrained.load(folder)


@pytest.mark.parametrize(
    "name",
    [
        "encoder.layer.1.crossattention.self.query.weight",
        "encoder.layer.0.attention.self.distance_embedding.weight",
        "encoder.layer.2.output.dense.weight_scale",
        "encoder.layer.2.attention.self.query.lora_A.weight",
    ],
)
def test_layers_that_hold_more_than_the_architecture_are_refused(tmp_path, name):
    folder = copied("bert", tmp_path)
    rewrite(folder, lambda w: w.update({f"bert.{name}": np.ones((2, 2), np.float32)}))
    with pytest.raises(ValueError, match=f"tensor bert.{name} is not one of this architecture's"):
        pretrained.load(folder)


def test_fewer_layers_than_there_are_can_be_asked_for(tmp_path):
    folder, ids = copied("bert", tmp_path), inputs_of("bert")
    states = pretrained.load(folder).hidden_states(ids)
    configure(folder, num_hidden_layers=2)
    np.testing.assert_array_equal(pretrained.load(folder).hidden_states(ids)[-1], states[2])


POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 90868376\n"


@pytest.mark.parametrize(
    ("folder", "name"),
    [
        ("bert", "config.json"),
        ("bert", "model.safetensors"),
        ("bert", "tokenizer.json"),
        ("bert-parts", "vocab.txt"),
        ("bert-parts", "model-00001-of-00002.safetensors"),
        ("bert-parts", "model.safetensors.index.json"),
        ("vit", "preprocessor_config.json"),
    ],
)
def test_git_lfs_pointers_are_told_from_files(tmp_path, folder, name):
    folder = copied(folder, tmp_path)
    (folder / name).write_text(POINTER)
    with pytest.raises(ValueError, match=f"{name}: is a Git LFS pointer.*: run git lfs pull"):
        pretrained.load(folder)


def test_pickles_of_training_do_not_hide_good_weights(tmp_path):
    for name in ("bert", "bert-parts"):
        folder = copied(name, tmp_path)
        for left in ("training_args.bin", "optimizer.pt", "pytorch_model.bin"):
            (folder / left).write_bytes(b"cos\nsystem\n")
        pretrained.load(folder)
    for part in folder.glob("model*"):
        part.unlink()
    with pytest.raises(ValueError, match="pytorch_model.bin: pickled weights are not read"):
        pretrained.load(folder)
    (folder / "pytorch_model.bin").unlink()
    with pytest.raises(FileNotFoundError, match="model.safetensors: no such file"):
        pretrained.load(folder)


@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
def test_a_file_of_the_folder_is_not_the_folder(name):
    with pytest.raises(ValueError, match=f"{name}: is a file: must be the folder that holds it"):
        pretrained.load(FOLDERS / "bert" / name)


# --- folders of sentence-transformers ---


def sentence_transformer(tmp_path, encoder="", pooling=None, more=(), **settings) -> Path:
    folder = tmp_path / "sentences"
    shutil.copytree(FOLDERS / "bert", folder / encoder, dirs_exist_ok=True)
    (folder / "1_Pooling").mkdir()
    pooling = pooling or {"word_embedding_dimension": 24, "pooling_mode_mean_tokens": True}
    (folder / "1_Pooling/config.json").write_text(json.dumps(pooling))
    (folder / encoder / "sentence_bert_config.json").write_text(json.dumps(settings))
    parts = [(encoder, "Transformer"), ("1_Pooling", "Pooling"), *more]
    modules = [
        {"idx": i, "path": path, "type": f"sentence_transformers.models.{kind}"}
        for i, (path, kind) in enumerate(parts)
    ]
    (folder / "modules.json").write_text(json.dumps(modules))
    return folder


@pytest.mark.parametrize("encoder", ["", "0_Transformer"])
def test_folders_of_sentence_transformers(tmp_path, encoder):
    folder, ids = sentence_transformer(tmp_path, encoder, more=[("2_N", "Normalize")]), [2, 7, 8, 3]
    model, expected = pretrained.load(folder), pretrained.load(FOLDERS / "bert")
    np.testing.assert_array_equal(model.sentence_embedding(ids), expected.sentence_embedding(ids))


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"pooling": {"pooling_mode_cls_token": True}}, "pooling_mode_cls_token"),
        ({"pooling": {"pooling_mode": "max"}}, "pooling_mode = max"),
        ({"more": [("2_Dense", "Dense")]}, "Dense"),
        ({"do_lower_case": True}, "do_lower_case"),
    ],
)
def test_other_sentence_embeddings_are_refused_and_states_are_not(tmp_path, change, named):
    model, ids = pretrained.load(sentence_transformer(tmp_path, **change)), inputs_of("bert")
    assert np.isfinite(model.hidden_states(ids)[-1]).all()
    with pytest.raises(ValueError, match=rf"no plain mean of the last state \({named}\)"):
        model.sentence_embedding(ids)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{}", "modules.json: holds a dict: must be a list of modules"),
        ("[1]", r"modules.json: begins with \[''\]: must begin with a Transformer"),
        ('[{"type": "a.WordEmbeddings"}]', "begins with .'WordEmbeddings'.: must begin with a"),
    ],
)
def test_other_folders_of_modules_are_refused(tmp_path, text, message):
    folder = sentence_transformer(tmp_path)
    (folder / "modules.json").write_text(text)
    with pytest.raises(ValueError, match=message):
        pretrained.load(folder)


# --- tokenizers and texts ---


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{}", "tokenizer.json: not readable as a tokenizer"),
        ("[", "tokenizer.json: not readable as a tokenizer"),
        ('{"model": {"type": "Magic"}}', "tokenizer.json: not readable as a tokenizer"),
    ],
)
def test_damaged_tokenizers_are_named(tmp_path, text, message):
    folder = copied("bert", tmp_path)
    (folder / "tokenizer.json").write_text(text)
    with pytest.raises(ValueError, match=message):
        pretrained.load(folder)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("vocab.txt", b"a\nb\n", r"vocab.txt: \[UNK\], \[CLS\], \[SEP\] missing: must be BERT's"),
        ("vocab.txt", b"\xff\xfe", "vocab.txt: not readable as text"),
        ("tokenizer_config.json", b'{"do_lower_case": "no"}', "do_lower_case = 'no': must be true"),
    ],
)
def test_damaged_vocabularies_are_named(tmp_path, name, content, message):
    folder = copied("bert-parts", tmp_path)
    (folder / name).write_bytes(content)
    with pytest.raises(ValueError, match=message):
        pretrained.load(folder)


def test_a_way_to_a_tokenizer_is_shown(tmp_path):
    folder = copied("albert", tmp_path)
    (folder / "tokenizer.json").rename(folder / "spiece.model")
    with pytest.raises(FileNotFoundError, match=r"from_pretrained\(folder\).save_pretrained"):
        pretrained.load(folder)


def test_the_tokenizers_own_errors_are_named(tmp_path):
    folder = copied("bert", tmp_path)
    bare = Tokenizer(models.WordLevel({"a": 0}, unk_token="[UNK]"))  # which it does not have
    bare.save(str(folder / "tokenizer.json"))
    with pytest.raises(ValueError, match="text cannot be split by the model's tokenizer"):
        pretrained.load(folder).tokenize("b")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"a neuron", "text is a bytes: must be a string: decode it first"),
        (None, "text is a NoneType: must be a string$"),
        (3.5, "text is a float: must be a string$"),
        (["a", "neuron"], "text is a list: must be a string$"),
        ("a \udcff", r"text\[2\] = '\\udcff' is half of a surrogate pair: must be Unicode text"),
    ],
)
def test_what_is_no_text_is_refused(text, message):
    with pytest.raises(ValueError, match=message):
        pretrained.load(FOLDERS / "bert").tokenize(text)
