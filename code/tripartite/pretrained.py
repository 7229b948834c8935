"""Real Transformers from disk: weights (safetensors, never pickles), tokenizer, recordings.

Holds the BERT family as an encoder without padding: one text at a time, or texts of one length.
Token ids have shape (..., tokens); hidden states (..., tokens, features).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from .attention import softmax_attention
from .checks import check_positive_int
from .encoder import Array, Attention, Block, Linear, Norm, Wiring, encode, heads, layer_norm

PICKLED = (".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle")


class Tokens(NamedTuple):
    """A tokenized text: ids (tokens,), and the piece of text that each stands for."""

    ids: Array
    strings: tuple[str, ...]


class Recording(NamedTuple):
    """Queries, keys, values (layers, heads, tokens, d), scaled so that q.k is the score."""

    queries: Array
    keys: Array
    values: Array
    tokens: tuple[str, ...]
    metadata: dict[str, str]


class Embeddings(NamedTuple):
    """Word, position and segment tables, each (entries, features), and the norm of their sum."""

    words: Array
    positions: Array
    segments: Array
    norm: Norm


@dataclass(frozen=True)
class Model:
    """A pretrained BERT encoder. Devlin et al. 2019."""

    embeddings: Embeddings = field(repr=False)
    blocks: tuple[Block, ...] = field(repr=False)
    wiring: Wiring
    tokenizer: Any = field(repr=False)

    @property
    def n_layers(self) -> int:
        return len(self.blocks)

    @property
    def n_heads(self) -> int:
        return self.wiring.n_heads

    @property
    def d_model(self) -> int:
        return self.embeddings.words.shape[1]

    @property
    def d_key(self) -> int:
        return self.d_model // self.n_heads

    @property
    def n_vocabulary(self) -> int:
        return self.embeddings.words.shape[0]

    @property
    def n_positions(self) -> int:
        return self.embeddings.positions.shape[0]

    def tokenize(self, text: str, max_tokens: int | None = None) -> Tokens:
        """Split text into tokens, between [CLS] and [SEP]; no padding.

        max_tokens: cut longer texts to this many tokens, of which the last stays [SEP].
        Raises ValueError if the text has more tokens than the model has positions and max_tokens
        does not say to cut it.
        """
        if max_tokens is not None:
            check_positive_int(max_tokens=max_tokens)
            if not 2 <= max_tokens <= self.n_positions:
                raise ValueError(
                    f"max_tokens = {max_tokens}: must be 2 (the [CLS] and [SEP] marks) to "
                    f"{self.n_positions} (the model's positions)"
                )
        encoding = self.tokenizer.encode(text)
        ids, strings = encoding.ids, encoding.tokens
        if len(ids) > (max_tokens or self.n_positions):
            if max_tokens is None:
                raise ValueError(
                    f"text has {len(ids)} tokens, the model {self.n_positions} positions: "
                    f"shorten it, or cut it with max_tokens = {self.n_positions}"
                )
            ids, strings = (x[: max_tokens - 1] + x[-1:] for x in (ids, strings))
        return Tokens(np.array(ids, dtype=np.int64), tuple(strings))

    def embed(self, ids: Array) -> Array:
        """Input embeddings (..., tokens, features) of token ids (..., tokens).

        Raises ValueError for ids outside the vocabulary or more tokens than positions.
        """
        ids = np.asarray(ids)
        if ids.ndim < 1 or ids.size == 0 or not np.issubdtype(ids.dtype, np.integer):
            raise ValueError(
                f"ids has shape {ids.shape}, dtype {ids.dtype}: must be integers (..., tokens)"
            )
        if ids.min() < 0 or ids.max() >= self.n_vocabulary:  # NumPy would count from the end
            raise ValueError(
                f"ids span {ids.min()} to {ids.max()}: must be 0 to {self.n_vocabulary - 1}"
            )
        n_tokens = ids.shape[-1]
        if n_tokens > self.n_positions:
            raise ValueError(f"ids has {n_tokens} tokens: must be at most {self.n_positions}")
        table = self.embeddings
        x = table.words[ids] + table.positions[:n_tokens] + table.segments[0]
        return layer_norm(x, table.norm, self.wiring.eps)

    def hidden_states(
        self, ids: Array, attention: Attention | Sequence[Attention] = softmax_attention
    ) -> list[Array]:
        """Embeddings, then every layer's output: n_layers + 1 arrays (..., tokens, features)."""
        return encode(self.blocks, self.embed(ids), self.wiring, attention)

    def heads(
        self, ids: Array, attention: Attention | Sequence[Attention] = softmax_attention
    ) -> tuple[Array, Array, Array]:
        """Queries, keys and values of all layers, each (layers, ..., heads, tokens, d)."""
        return heads(self.blocks, self.hidden_states(ids, attention), self.wiring)

    def sentence_embedding(
        self, ids: Array, attention: Attention | Sequence[Attention] = softmax_attention
    ) -> Array:
        """Mean of the last hidden state over tokens, at unit norm: (..., features).

        Reimers and Gurevych 2019; [CLS] and [SEP] count as tokens.
        """
        mean = self.hidden_states(ids, attention)[-1].mean(axis=-2)
        return mean / np.linalg.norm(mean, axis=-1, keepdims=True)


def load(directory: str | Path, dtype: Any = np.float64) -> Model:
    """Read a BERT encoder from config.json, model.safetensors and tokenizer.json.

    Raises FileNotFoundError for a missing file; ValueError for pickled weights, another
    architecture, or a tensor that is missing, of the wrong shape or not finite.
    """
    directory = Path(directory)
    _refuse_pickles(directory)
    config = _read_config(directory / "config.json")
    with _Tensors(directory / "model.safetensors", dtype) as tensor:
        d_model, n_inner = config["hidden_size"], config["intermediate_size"]
        embeddings = Embeddings(
            tensor("embeddings.word_embeddings.weight", config["vocab_size"], d_model),
            tensor(
                "embeddings.position_embeddings.weight", config["max_position_embeddings"], d_model
            ),
            tensor("embeddings.token_type_embeddings.weight", config["type_vocab_size"], d_model),
            _norm(tensor, "embeddings.LayerNorm", d_model),
        )
        blocks = tuple(
            _block(tensor, f"encoder.layer.{layer}", d_model, n_inner)
            for layer in range(config["num_hidden_layers"])
        )
    wiring = Wiring(config["num_attention_heads"], config["layer_norm_eps"])
    return Model(embeddings, blocks, wiring, load_tokenizer(directory / "tokenizer.json"))


def load_tokenizer(path: str | Path) -> Any:
    """A `tokenizers.Tokenizer` that neither pads nor cuts, whatever its file says."""
    from tokenizers import Tokenizer  # optional dependency

    if not Path(path).is_file():
        raise FileNotFoundError(f"{path}: no such file; a model needs its tokenizer.json")
    tokenizer = Tokenizer.from_file(str(path))
    tokenizer.no_padding()  # MiniLM's file pads every text to 128 tokens
    tokenizer.no_truncation()
    return tokenizer


def load_recording(path: str | Path, dtype: Any = np.float64) -> Recording:
    """Read recorded queries, keys and values from a safetensors file.

    Raises ValueError for an array that is missing, not finite or does not fit the others.
    """
    with _Tensors(Path(path), dtype) as tensor:
        arrays = [tensor(name) for name in ("queries", "keys", "values")]
        metadata = json.loads((tensor.file.metadata() or {}).get("provenance", "{}"))
    tokens = tuple(metadata.pop("tokens", ()))
    shape = arrays[0].shape
    if len(shape) != 4 or any(a.shape != shape for a in arrays) or len(tokens) != shape[2]:
        raise ValueError(
            f"{path}: shapes {[a.shape for a in arrays]} with {len(tokens)} tokens: "
            "must be three times (layers, heads, tokens, d)"
        )
    return Recording(*arrays, tokens, metadata)


class _Tensors:
    """An open safetensors file: call it with a name and the shape that the tensor must have."""

    def __init__(self, path: Path, dtype: Any):
        from safetensors import SafetensorError, safe_open  # optional dependency

        if not path.is_file():
            raise FileNotFoundError(f"{path}: no such file")
        try:
            self.file = safe_open(path, framework="numpy")
        except SafetensorError as error:
            raise ValueError(f"{path}: not a readable safetensors file ({error})") from error
        self.path, self.dtype, self.names = path, dtype, set(self.file.keys())

    def __enter__(self) -> _Tensors:
        self.file.__enter__()
        return self

    def __exit__(self, *exception: Any) -> None:
        self.file.__exit__(*exception)

    def __call__(self, name: str, *shape: int) -> Array:
        if name not in self.names:
            wanted = f" of shape {shape}" if shape else ""
            raise ValueError(f"{self.path}: tensor {name}{wanted} is missing")
        found = tuple(self.file.get_slice(name).get_shape())
        if shape and found != shape:
            raise ValueError(f"{self.path}: tensor {name} has shape {found}: must be {shape}")
        try:
            array = self.file.get_tensor(name).astype(self.dtype)
        except TypeError as error:  # bfloat16, which NumPy does not have
            raise ValueError(f"{self.path}: tensor {name}: NumPy has no such dtype") from error
        if not np.isfinite(array).all():
            raise ValueError(f"{self.path}: tensor {name} holds values that are not finite")
        return array


Read = Callable[..., Array]


def _block(tensor: Read, name: str, d_model: int, n_inner: int) -> Block:
    return Block(
        query=_linear(tensor, f"{name}.attention.self.query", d_model, d_model),
        key=_linear(tensor, f"{name}.attention.self.key", d_model, d_model),
        value=_linear(tensor, f"{name}.attention.self.value", d_model, d_model),
        out=_linear(tensor, f"{name}.attention.output.dense", d_model, d_model),
        up=_linear(tensor, f"{name}.intermediate.dense", n_inner, d_model),
        down=_linear(tensor, f"{name}.output.dense", d_model, n_inner),
        norm_attention=_norm(tensor, f"{name}.attention.output.LayerNorm", d_model),
        norm_mlp=_norm(tensor, f"{name}.output.LayerNorm", d_model),
    )


def _linear(tensor: Read, name: str, n_out: int, n_in: int) -> Linear:
    return Linear(tensor(f"{name}.weight", n_out, n_in), tensor(f"{name}.bias", n_out))


def _norm(tensor: Read, name: str, n_features: int) -> Norm:
    return Norm(tensor(f"{name}.weight", n_features), tensor(f"{name}.bias", n_features))


# what the arithmetic above implements; anything else would be computed wrongly, not refused
BERT = {"model_type": "bert", "hidden_act": "gelu", "position_embedding_type": "absolute"}
SIZES = (
    "vocab_size", "max_position_embeddings", "type_vocab_size", "hidden_size",
    "intermediate_size", "num_hidden_layers", "num_attention_heads",
)  # fmt: skip


def _read_config(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file; a model needs its config.json")
    config = {"position_embedding_type": "absolute", "layer_norm_eps": 1e-12}
    config |= json.loads(path.read_text(encoding="utf-8"))
    for name, wanted in BERT.items():
        if config.get(name) != wanted:
            raise ValueError(f"{path}: {name} = {config.get(name)!r}: must be {wanted!r}")
    missing = [name for name in SIZES if name not in config]
    if missing:
        raise ValueError(f"{path}: {', '.join(missing)} missing")
    check_positive_int(**{name: config[name] for name in SIZES})
    if config["hidden_size"] % config["num_attention_heads"]:
        raise ValueError(
            f"{path}: num_attention_heads = {config['num_attention_heads']}: "
            f"must divide hidden_size = {config['hidden_size']}"
        )
    return config


def _refuse_pickles(directory: Path) -> None:
    """Unpickling runs whatever code the file holds, so pickled weights are never opened."""
    found = [directory] if directory.is_file() else sorted(directory.glob("*"))
    found = [path for path in found if path.suffix in PICKLED]
    if found and not (directory / "model.safetensors").is_file():
        raise ValueError(f"{found[0]}: pickled weights are not read; convert them to safetensors")
