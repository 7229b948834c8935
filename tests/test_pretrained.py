"""Loading: a tiny checkpoint made here, faults, and the real MiniLM against PyTorch's states."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file
from tokenizers import Tokenizer, models, pre_tokenizers, processors

from companion import fetch
from tripartite import language, pretrained
from tripartite.attention import kernel_attention, scores

DATA = Path(__file__).parents[1] / "data"
WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "a", "neuron", "and", "an", "astrocyte"]
CONFIG = {
    "architectures": ["BertModel"],
    "model_type": "bert",
    "hidden_act": "gelu",
    "vocab_size": len(WORDS),
    "max_position_embeddings": 10,
    "type_vocab_size": 2,
    "hidden_size": 8,
    "intermediate_size": 12,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "layer_norm_eps": 1e-12,
}


def tensors(seed: int = 0) -> dict[str, np.ndarray]:
    d, inner = CONFIG["hidden_size"], CONFIG["intermediate_size"]
    shapes = {
        "embeddings.word_embeddings.weight": (CONFIG["vocab_size"], d),
        "embeddings.position_embeddings.weight": (CONFIG["max_position_embeddings"], d),
        "embeddings.token_type_embeddings.weight": (2, d),
        "embeddings.LayerNorm.weight": (d,),
        "embeddings.LayerNorm.bias": (d,),
    }
    for layer in range(CONFIG["num_hidden_layers"]):
        for part, n_out, n_in in [
            ("attention.self.query", d, d),
            ("attention.self.key", d, d),
            ("attention.self.value", d, d),
            ("attention.output.dense", d, d),
            ("intermediate.dense", inner, d),
            ("output.dense", d, inner),
        ]:
            shapes[f"encoder.layer.{layer}.{part}.weight"] = (n_out, n_in)
            shapes[f"encoder.layer.{layer}.{part}.bias"] = (n_out,)
        for part in ("attention.output.LayerNorm", "output.LayerNorm"):
            shapes[f"encoder.layer.{layer}.{part}.weight"] = (d,)
            shapes[f"encoder.layer.{layer}.{part}.bias"] = (d,)
    rng = np.random.default_rng(seed)
    return {name: rng.normal(size=s).astype(np.float32) for name, s in shapes.items()}


def write_checkpoint(folder: Path, weights=None, **config) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(CONFIG | config))
    save_file(tensors() if weights is None else weights, folder / "model.safetensors")
    tokenizer = Tokenizer(models.WordLevel({w: i for i, w in enumerate(WORDS)}, "[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        "[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    tokenizer.enable_padding(length=32)  # as MiniLM's file does: must not reach the encoder
    tokenizer.enable_truncation(4)
    tokenizer.save(str(folder / "tokenizer.json"))
    return folder


@pytest.fixture
def tiny(tmp_path) -> pretrained.Model:
    return pretrained.load(write_checkpoint(tmp_path / "tiny"))


def test_facts_of_the_model(tiny):
    facts = (tiny.n_layers, tiny.n_heads, tiny.d_model, tiny.d_key, tiny.n_vocabulary)
    assert facts == (2, 2, 8, 4, 9) and tiny.n_positions == 10
    assert len(repr(tiny)) < 200  # no weights in a notebook's output


def test_tokenize_neither_pads_nor_cuts(tiny):
    tokens = tiny.tokenize("a neuron and an astrocyte")
    assert tokens.strings == ("[CLS]", "a", "neuron", "and", "an", "astrocyte", "[SEP]")
    np.testing.assert_array_equal(tokens.ids, [2, 4, 5, 6, 7, 8, 3])


def test_tokenize_cuts_on_request_and_keeps_the_end_mark(tiny):
    cut = tiny.tokenize("a neuron and an astrocyte", max_tokens=4)
    assert cut.strings == ("[CLS]", "a", "neuron", "[SEP]")
    np.testing.assert_array_equal(cut.ids, [2, 4, 5, 3])
    assert tiny.tokenize("a neuron", max_tokens=4).strings == ("[CLS]", "a", "neuron", "[SEP]")
    with pytest.raises(ValueError, match="text has 14 tokens, the model 10 positions.*max_tokens"):
        tiny.tokenize("a " * 12)
    for wrong in (1, 11):
        with pytest.raises(ValueError, match=f"max_tokens = {wrong}: must be 2 .* to 10"):
            tiny.tokenize("a", max_tokens=wrong)


@pytest.mark.parametrize(
    ("ids", "message"),
    [
        ([2, -1], "ids span -1 to 2: must be 0 to 8"),
        ([2, 9], "ids span 2 to 9: must be 0 to 8"),
        ([4] * 11, "ids has 11 tokens: must be at most 10"),
        ([], "must be integers"),
        ([0.5], "must be integers"),
        (3, "must be integers"),
    ],
)
def test_ids_that_the_model_does_not_have_are_refused(tiny, ids, message):
    with pytest.raises(ValueError, match=message):
        tiny.embed(ids)


def test_position_and_segment_enter_the_embedding(tiny):
    table = tiny.embeddings
    x = table.words[5] + table.positions[1] + table.segments[0]
    expected = (x - x.mean()) / x.std() * table.norm.gain + table.norm.bias
    # 1e-10: the loaded epsilon of 1e-12 under the root, and rounding
    np.testing.assert_allclose(tiny.embed([2, 5])[1], expected, atol=1e-10)


def test_sentence_embedding_is_the_unit_mean_of_the_last_state(tiny):
    ids = tiny.tokenize("a neuron").ids
    mean = tiny.hidden_states(ids)[-1].mean(axis=0)
    found = tiny.sentence_embedding(ids)
    np.testing.assert_allclose(found, mean / np.sqrt(np.sum(mean**2)), rtol=1e-14)


def test_another_attention_reaches_every_layer(tiny):
    calls = []

    def uniform(queries, keys, values):
        calls.append(values.shape)
        return np.broadcast_to(values.mean(axis=-2, keepdims=True), values.shape)

    ids = tiny.tokenize("a neuron").ids
    change = tiny.sentence_embedding(ids, uniform) - tiny.sentence_embedding(ids)
    assert np.abs(change).max() > 1e-3  # 6e-3 with these weights, far above rounding
    assert calls == [(2, 4, 4)] * tiny.n_layers


@pytest.mark.parametrize("stored", [np.float16, np.float32])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_dtype_is_that_asked_for(tmp_path, stored, dtype):
    weights = {name: array.astype(stored) for name, array in tensors().items()}
    model = pretrained.load(write_checkpoint(tmp_path, weights), dtype)
    states = model.hidden_states([2, 4, 5, 3])
    queries, keys, values = model.heads([2, 4, 5, 3])
    assert {a.dtype for a in (*states, queries, keys, values)} == {np.dtype(dtype)}
    assert queries.shape == keys.shape == values.shape == (2, 2, 4, 4)


@pytest.mark.parametrize("name", sorted(tensors()))
def test_every_tensor_matters_and_its_absence_is_named(tmp_path, name):
    ids = [2, 4, 5, 6, 3]
    before = pretrained.load(write_checkpoint(tmp_path / "a")).hidden_states(ids)[-1]
    weights = tensors()
    weights[name] = weights[name] + np.float32(0.5) * tensors(1)[name]
    after = pretrained.load(write_checkpoint(tmp_path / "b", weights)).hidden_states(ids)[-1]
    if not name.endswith("self.key.bias"):  # softmax does not see a score common to all keys
        assert np.abs(after - before).max() > 1e-3
    del weights[name]
    with pytest.raises(ValueError, match=f"tensor {name} of shape .* is missing"):
        pretrained.load(write_checkpoint(tmp_path / "b", weights))


def test_wrong_shape_is_named_with_both_shapes(tmp_path):
    name = "encoder.layer.1.output.dense.weight"
    weights = tensors()
    weights[name] = np.ascontiguousarray(weights[name].T)
    with pytest.raises(ValueError, match=rf"{name} has shape \(12, 8\): must be \(8, 12\)"):
        pretrained.load(write_checkpoint(tmp_path, weights))


def test_values_that_are_not_finite_are_named(tmp_path):
    weights = tensors()
    weights["embeddings.LayerNorm.bias"][3] = np.nan
    with pytest.raises(ValueError, match="embeddings.LayerNorm.bias holds values that are not"):
        pretrained.load(write_checkpoint(tmp_path, weights))


def test_damaged_weights_are_refused(tmp_path):
    path = write_checkpoint(tmp_path) / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(ValueError, match="not a readable safetensors file"):
        pretrained.load(tmp_path)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"model_type": "gpt2"}, "model_type = 'gpt2': must be 'albert' or 'bert'"),
        ({"hidden_act": "tanh"}, "hidden_act = 'tanh': must be 'gelu'"),
        ({"position_embedding_type": "relative_key"}, "must be 'absolute'"),
        ({"num_attention_heads": 3}, "num_attention_heads = 3: must divide hidden_size = 8"),
        ({"num_hidden_layers": 0}, "num_hidden_layers = 0: must be a whole number, at least 1"),
        ({"num_hidden_layers": 3}, "encoder.layer.2.attention.self.query.weight .* is missing"),
        ({"vocab_size": 10}, r"word_embeddings.weight has shape \(9, 8\): must be \(10, 8\)"),
    ],
)
def test_another_architecture_is_refused(tmp_path, config, message):
    with pytest.raises(ValueError, match=message):
        pretrained.load(write_checkpoint(tmp_path, **config))


@pytest.mark.parametrize("name", ["pytorch_model.bin", "model.pt", "weights.pkl"])
def test_pickles_are_never_opened(tmp_path, name):
    folder = write_checkpoint(tmp_path)
    (folder / "model.safetensors").unlink()
    (folder / name).write_bytes(b"cos\nsystem\n(S'exit 1'\ntR.")  # would run a command
    for target in (folder, folder / name):
        with pytest.raises(ValueError, match=f"{name}: pickled weights are not read"):
            pretrained.load(target)


@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "tokenizer.json"])
def test_missing_file_is_named(tmp_path, name):
    (write_checkpoint(tmp_path) / name).unlink()
    with pytest.raises(FileNotFoundError, match=name):
        pretrained.load(tmp_path)


# --- the real model, against states that PyTorch and transformers computed ---


@pytest.fixture(scope="session")
def minilm_directory() -> Path:
    try:
        return fetch.model_directory("all-MiniLM-L6-v2")
    except fetch.FetchError as error:
        if os.environ.get("CI"):
            raise
        pytest.skip(str(error))


@pytest.fixture(scope="session")
def minilm(minilm_directory) -> pretrained.Model:
    return pretrained.load(minilm_directory)


@pytest.fixture(scope="session")
def reference() -> dict[str, np.ndarray]:
    return load_file(DATA / "reference_states" / "minilm.safetensors")


def read_text(name: str) -> str:
    return (DATA / "texts" / f"{name}.txt").read_text(encoding="utf-8")


RECORDING = DATA / "recordings" / "minilm-attention.safetensors"
TEXTS = pytest.mark.parametrize("name", ["attention", "entangled-bank", "gettysburg"])


@TEXTS
def test_tokens_are_those_of_transformers(minilm, reference, name):
    np.testing.assert_array_equal(minilm.tokenize(read_text(name)).ids, reference[f"ids.{name}"])


@TEXTS
def test_word_pieces_alone_give_the_same_tokens(minilm, tmp_path, name):
    """MiniLM's own vocabulary as vocab.txt, against its tokenizer.json."""
    vocabulary = minilm.tokenizer.get_vocab(with_added_tokens=True)
    words = sorted(vocabulary, key=vocabulary.get)
    (tmp_path / "vocab.txt").write_text("\n".join(words) + "\n", encoding="utf-8")
    found = language.load_tokenizer(tmp_path / "tokenizer.json")
    text = read_text(name)
    assert found.encode(text).ids == minilm.tokenizer.encode(text).ids


# The reference is computed in float64 and stored in float32: states of up to 10.5 are rounded by
# up to 2**-21 = 4.8e-7. In float32 the encoder's own rounding adds to that (2.1e-6 measured).
@pytest.mark.parametrize(("dtype", "bound"), [(np.float64, 6e-7), (np.float32, 1e-5)])
def test_hidden_states_are_those_of_pytorch(minilm_directory, minilm, reference, dtype, bound):
    model = minilm if dtype == np.float64 else pretrained.load(minilm_directory, dtype)
    ids = model.tokenize(read_text("attention"), max_tokens=64).ids
    np.testing.assert_array_equal(ids, reference["ids.states"])
    states = model.hidden_states(ids)
    assert len(states) == len(reference["states"]) == model.n_layers + 1
    for layer, (found, expected) in enumerate(zip(states, reference["states"], strict=True)):
        np.testing.assert_allclose(found, expected, rtol=0, atol=bound, err_msg=f"state {layer}")


@TEXTS
def test_sentence_embeddings_are_those_of_pytorch(minilm, reference, name):
    found = minilm.sentence_embedding(reference[f"ids.{name}"])
    # components below 0.25, stored in float32: rounded by up to 2**-27 = 7.5e-9
    np.testing.assert_allclose(found, reference[f"embedding.{name}"], rtol=0, atol=1e-8)


def test_similar_sentences_lie_close(minilm):
    meal, bread, baby = (
        minilm.sentence_embedding(minilm.tokenize(text).ids)
        for text in (
            "A man is eating food.",
            "A man is eating a piece of bread.",
            "The girl is carrying a baby.",
        )
    )
    # the model card's own example, to the 4 digits that are usually printed
    assert meal @ bread == pytest.approx(0.7553, abs=5e-5)
    assert meal @ baby < 0


def test_kernel_attention_leaves_the_real_model_unchanged(minilm, reference):
    def kernel(queries, keys, values):
        return kernel_attention(np.exp(scores(queries, keys)), values)

    ids = reference["ids.states"]
    # the same sum in another order: float64 rounding, 1e-16 a term
    np.testing.assert_allclose(
        minilm.sentence_embedding(ids, kernel), minilm.sentence_embedding(ids), rtol=0, atol=1e-12
    )


def test_recording_is_what_the_real_model_computes(minilm):
    recording = pretrained.load_recording(RECORDING)
    tokens = minilm.tokenize(read_text("attention"))
    assert recording.tokens == tokens.strings
    for stored, computed in zip(recording[:3], minilm.heads(tokens.ids), strict=True):
        # below 4.4 in size, so stored in float32 with a rounding of up to 2**-22 = 2.4e-7
        np.testing.assert_allclose(stored, computed, rtol=0, atol=2.5e-7)


# --- recordings and the table of data files: no model needed ---


def test_recording_holds_every_head_and_its_provenance():
    recording = pretrained.load_recording(RECORDING)
    assert recording.queries.shape == (6, 12, len(recording.tokens), 32)
    assert recording.queries.dtype == np.float64
    assert (recording.tokens[0], recording.tokens[-1]) == ("[CLS]", "[SEP]")
    text = DATA / recording.metadata["text"]
    assert hashlib.sha256(text.read_bytes()).hexdigest() == recording.metadata["text_sha256"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"values": None}, "tensor values is missing"),
        ({"keys": np.zeros((1, 2, 3, 5))}, "must be three times"),
        ({"keys": np.full((1, 2, 3, 4), np.inf)}, "tensor keys holds values that are not finite"),
    ],
)
def test_damaged_recordings_are_refused(tmp_path, change, message):
    arrays = dict.fromkeys(("queries", "keys", "values"), np.zeros((1, 2, 3, 4))) | change
    arrays = {name: array for name, array in arrays.items() if array is not None}
    metadata = {"provenance": json.dumps({"tokens": ["a", "b", "c"]})}
    save_file(arrays, tmp_path / "r.safetensors", metadata)
    with pytest.raises(ValueError, match=message):
        pretrained.load_recording(tmp_path / "r.safetensors")


def test_recording_without_its_tokens_is_refused(tmp_path):
    arrays = dict.fromkeys(("queries", "keys", "values"), np.zeros((1, 2, 3, 4)))
    save_file(arrays, tmp_path / "r.safetensors")
    with pytest.raises(ValueError, match="with 0 tokens"):
        pretrained.load_recording(tmp_path / "r.safetensors")
