"""A checkpoint folder of the Hugging Face format: config.json and safetensors, checked.

Nothing is ever unpickled, because that runs whatever code a file holds. What a configuration says
and our arithmetic does not implement is refused: it would be computed wrongly. So is an entry that
nobody here knows.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from .checks import check_positive, check_positive_int
from .encoder import Array, Linear, Model, Norm, gelu, gelu_tanh, relu, silu

WEIGHTS = "model.safetensors"
PICKLED = (".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle")
OF_TRAINING = ("training_args", "optimizer", "scheduler", "rng_state", "scaler")  # no weights
FLOATS = ("F64", "F32", "F16", "BF16")
ACTIVATIONS = {
    "gelu": gelu,
    "gelu_python": gelu,
    "gelu_new": gelu_tanh,
    "gelu_fast": gelu_tanh,
    "gelu_pytorch_tanh": gelu_tanh,
    "relu": relu,
    "silu": silu,
    "swish": silu,
}
# entries of published files that change no number of an encoder's hidden states
INERT = set(
    """
    model_type architectures transformers_version dtype torch_dtype _name_or_path name_or_path
    model_name tokenizer_class transformers.js_config language prefix finetuning_task
    task_specific_params problem_type
    id2label label2id num_labels _num_labels sentence_transformers attn_implementation
    _attn_implementation _attn_implementation_autoset _attn_implementation_internal
    keys_to_ignore_at_inference use_cache output_past output_attentions output_hidden_states
    output_scores return_dict return_dict_in_generate torchscript use_bfloat16
    tie_word_embeddings tie_encoder_decoder
    gradient_checkpointing chunk_size_feed_forward tf_legacy_loss
    attention_probs_dropout_prob hidden_dropout_prob classifier_dropout classifier_dropout_prob
    drop_path_rate initializer_range initializer_factor layerscale_value
    bos_token_id eos_token_id pad_token_id sep_token_id cls_token_id mask_token_id unk_token_id
    decoder_start_token_id forced_bos_token_id forced_eos_token_id bad_words_ids
    max_length min_length do_sample early_stopping num_beams num_beam_groups diversity_penalty
    temperature top_k top_p typical_p repetition_penalty length_penalty num_return_sequences
    no_repeat_ngram_size encoder_no_repeat_ngram_size remove_invalid_values suppress_tokens
    begin_suppress_tokens exponential_decay_length_penalty
    directionality pooler_type pooler_fc_size pooler_num_attention_heads pooler_num_fc_layers
    pooler_size_per_head pooler_act pooler_output_size
    down_scale_factor gap_size net_structure_type num_memory_blocks
    encoder_stride use_mask_token apply_layernorm reshape_hidden_states
    out_features out_indices stage_names
    """.split()
)
OFF = {name: (False, None) for name in ("is_decoder", "add_cross_attention", "is_encoder_decoder")}


class Family(NamedTuple):
    """What config.json of an architecture must say, and how its model is made of the tensors."""

    build: Callable[[Path, dict[str, Any], Tensors], Model]
    sizes: tuple[str, ...]  # whole numbers, at least 1
    defaults: dict[str, Any]  # of entries that published files leave out
    implemented: dict[str, tuple]  # entry -> the values that the arithmetic knows


def read_config(directory: Path, families: dict[str, Family]) -> dict[str, Any]:
    """config.json, with the defaults of its family filled in.

    Raises FileNotFoundError if there is none; ValueError for another architecture, a missing or
    impossible size, or an entry that is not implemented or not known.
    """
    path = directory / "config.json"
    config = read_json(path)
    kind = config.get("model_type")
    if not isinstance(kind, str) or kind not in families:
        raise ValueError(f"{path}: model_type = {kind!r}: must be {_one_of(sorted(families))}")
    family = families[kind]
    config = family.defaults | config
    implemented = OFF | family.implemented
    for name, known in implemented.items():
        if config.get(name) not in known:
            raise ValueError(f"{path}: {name} = {config.get(name)!r}: must be {_one_of(known)}")
    refuse_unknown(path, config, {*INERT, *implemented, *family.sizes, *family.defaults})
    missing = [name for name in family.sizes if name not in config]
    if missing:
        raise ValueError(f"{path}: {', '.join(missing)} missing")
    for name in set(family.sizes) & {"image_size", "patch_size"}:
        config[name] = _side(f"{path}: {name}", config[name])
    check_positive_int(**{f"{path}: {name}": config[name] for name in family.sizes})
    check_positive(**{f"{path}: layer_norm_eps": config["layer_norm_eps"]})
    if config["hidden_size"] % config["num_attention_heads"]:
        raise ValueError(
            f"{path}: num_attention_heads = {config['num_attention_heads']}: "
            f"must divide hidden_size = {config['hidden_size']}"
        )
    return config


def refuse_unknown(path: Path, config: dict[str, Any], known: set[str]) -> None:
    """Raise ValueError for an entry that could mean another arithmetic, as far as we know."""
    for name, value in config.items():
        if name not in known and value not in (None, {}, []):
            raise ValueError(
                f"{path}: {name} = {value!r}: this entry is not implemented; "
                "take it out of a copy of the file if it changes no hidden state"
            )


def _side(name: str, size: Any) -> Any:
    """A square's side, which files give as a number, or as height and width."""
    if isinstance(size, list | tuple) and len(size) == 2:
        if size[0] != size[1]:
            raise ValueError(f"{name} = {size!r}: must be as high as wide")
        return size[0]
    return size


def read_json(path: Path) -> dict[str, Any]:
    """An object from a JSON file of the checkpoint."""
    return _json(path, dict, "must be a JSON object")


def _json(path: Path, kind: type, must: str) -> Any:
    check_file(path, f"; a model needs its {path.name}")
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:  # not UTF-8, not JSON
        raise ValueError(f"{path}: not readable as JSON ({error})") from error
    if not isinstance(found, kind):
        raise ValueError(f"{path}: holds a {type(found).__name__}: {must}")
    return found


def check_file(path: Path, needed: str = "") -> None:
    """Raise FileNotFoundError where there is no such file, ValueError for a Git LFS pointer."""
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file{needed}")
    with path.open("rb") as file:
        if file.read(40).startswith(b"version https://git-lfs"):
            raise ValueError(
                f"{path}: is a Git LFS pointer, not the file: run git lfs pull in its repository"
            )


def encoder_folder(directory: Path) -> tuple[Path, str]:
    """The folder that holds the encoder, and what a sentence embedding is other than the mean.

    A folder of sentence-transformers lists its parts in modules.json: the encoder, how its states
    are pooled, what is applied to that. Raises ValueError for a file, and for other first parts.
    """
    if directory.is_file():
        raise ValueError(f"{directory}: is a file: must be the folder that holds it")
    path = directory / "modules.json"
    if not path.is_file():
        return directory, ""
    modules = _json(path, list, "must be a list of modules")
    kinds = [str(m.get("type")).split(".")[-1] if isinstance(m, dict) else "" for m in modules]
    if kinds[:1] != ["Transformer"]:
        raise ValueError(f"{path}: begins with {kinds[:1]}: must begin with a Transformer")
    folder = directory / str(modules[0].get("path", ""))
    other = [kind for kind in kinds[1:] if kind not in ("Pooling", "Normalize")]
    for module, kind in zip(modules, kinds, strict=True):
        if kind == "Pooling":
            pooling = read_json(directory / str(module.get("path", "")) / "config.json")
            on = [k for k, v in pooling.items() if k.startswith("pooling_mode") and v is True]
            mode = pooling.get("pooling_mode")  # as newer files say it
            on += [f"pooling_mode = {mode}"] if isinstance(mode, str) and mode != "mean" else []
            other += [name for name in on if name != "pooling_mode_mean_tokens"]
    settings = folder / "sentence_bert_config.json"
    if settings.is_file() and read_json(settings).get("do_lower_case"):
        other.append("do_lower_case")
    return folder, ", ".join(other)


class Tensors:
    """Open safetensors: call it with a name and the shape that the tensor must have.

    path: a file; where it is model.safetensors and absent, the parts that its index lists.
    prefix: what a checkpoint with a task's head on top puts before the encoder's names.
    """

    def __init__(self, path: Path, dtype: Any, prefix: str = ""):
        self.path, self.dtype, self.prefix = path, dtype, prefix
        self.used: set[str] = set()
        self.open = ExitStack()
        index = path.with_name(path.name + ".index.json")
        try:
            if path.is_file() or not index.is_file():
                self.files = dict.fromkeys(*self._open(path))
                return
            shards = self._shards(index)
            opened = {name: self._open(path.with_name(name)) for name in set(shards.values())}
            self.files = {tensor: opened[name][1] for tensor, name in shards.items()}
            for tensor, name in shards.items():
                if tensor not in opened[name][0]:
                    raise ValueError(f"{index}: {name} does not hold {tensor}")
        except BaseException:
            self.open.close()
            raise

    def _shards(self, index: Path) -> dict[str, str]:
        shards = read_json(index).get("weight_map")
        named = isinstance(shards, dict) and all(isinstance(x, str) for x in shards.values())
        if not named or any(Path(name).name != name for name in shards.values()):  # type: ignore[union-attr]
            raise ValueError(f"{index}: weight_map = {shards!r}: must name a file for each tensor")
        return shards  # type: ignore[return-value]

    def _open(self, path: Path) -> tuple[set[str], Any]:
        from safetensors import SafetensorError, safe_open  # optional dependency

        check_file(path)
        try:
            file = self.open.enter_context(safe_open(path, framework="numpy"))
        except SafetensorError as error:
            raise ValueError(f"{path}: not a readable safetensors file ({error})") from error
        return set(file.keys()), (path, file)

    @property
    def metadata(self) -> dict[str, str]:
        """What a single file says of itself."""
        return next(iter(self.files.values()))[1].metadata() or {}

    def __enter__(self) -> Tensors:
        return self

    def __exit__(self, *exception: Any) -> None:
        self.open.close()

    def __call__(self, name: str, *shape: int) -> Array:
        stored = self._stored(name)
        if stored is None:
            wanted = f" of shape {shape}" if shape else ""
            raise ValueError(f"{self.path}: tensor {name}{wanted} is missing")
        self.used.add(stored)
        path, file = self.files[stored]
        part = file.get_slice(stored)
        found, kind = tuple(part.get_shape()), part.get_dtype()
        if shape and found != shape:
            raise ValueError(f"{path}: tensor {stored} has shape {found}: must be {shape}")
        if kind not in FLOATS:
            raise ValueError(
                f"{path}: tensor {stored} has dtype {kind}: must be {_one_of(FLOATS)}; "
                "quantised weights are to be converted back"
            )
        array = _bfloat16(path, stored) if kind == "BF16" else file.get_tensor(stored)
        array = array.astype(self.dtype)
        if not np.isfinite(array).all():
            raise ValueError(f"{path}: tensor {stored} holds values that are not finite")
        return array

    def linear(self, name: str, n_out: int, n_in: int, bias: bool = True) -> Linear:
        weight = self(f"{name}.weight", n_out, n_in)
        return Linear(weight, self(f"{name}.bias", n_out) if bias else np.zeros(n_out, self.dtype))

    def norm(self, name: str, n_features: int) -> Norm:
        return Norm(self(f"{name}.weight", n_features), self(f"{name}.bias", n_features))

    def refuse_unused(self) -> None:
        """Raise ValueError where a layer that was read holds a tensor that was not."""
        layer = re.compile(r".*?\.\d+\.")
        read = {match[0] for name in self.used if (match := layer.match(name))}
        for name in sorted(set(self.files) - self.used):
            if (match := layer.match(name)) and match[0] in read:
                raise ValueError(
                    f"{self.files[name][0]}: tensor {name} is not one of this architecture's: "
                    "a layer with it computes something else"
                )

    def _stored(self, name: str) -> str | None:
        """The name in the file; BERT's own weights call a norm's gain gamma and its bias beta."""
        old = name.replace("LayerNorm.weight", "LayerNorm.gamma")
        old = old.replace("LayerNorm.bias", "LayerNorm.beta")
        known = (name, self.prefix + name, self.prefix + old)
        return next((stored for stored in known if stored in self.files), None)


def refuse_pickles(directory: Path) -> None:
    """Raise ValueError if the weights are there as a pickle only."""
    found = [directory] if directory.is_file() else sorted(directory.glob("*"))
    found = [path for path in found if path.suffix in PICKLED]
    weights = [path for path in found if not path.name.startswith(OF_TRAINING)]
    if weights and not any(directory.glob(f"{WEIGHTS}*")):
        raise ValueError(f"{weights[0]}: pickled weights are not read; convert them to safetensors")


def _bfloat16(path: Path, name: str) -> Array:
    """A tensor that NumPy has no type for: the upper half of the bits of a float32."""
    with path.open("rb") as file:
        size = int.from_bytes(file.read(8), "little")
        entry = json.loads(file.read(size))[name]
        file.seek(entry["data_offsets"][0], 1)
        bits = np.frombuffer(file.read(entry["data_offsets"][1] - entry["data_offsets"][0]), "<u2")
    return (bits.astype(np.uint32) << 16).view(np.float32).reshape(entry["shape"])


def _one_of(values) -> str:
    return " or ".join(repr(value) for value in values)
