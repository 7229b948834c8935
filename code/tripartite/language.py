"""Language models: BERT and ALBERT, with their tokenizers.

An encoder without padding: one text at a time, or texts of one length. Token ids have shape
(..., tokens); hidden states (..., tokens, features).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from .attention import softmax_attention
from .checkpoint import ACTIVATIONS, Family, Tensors, check_file, read_json
from .checks import check_positive_int
from .encoder import Array, Attention, Block, Linear, Model, Norm, Wiring, layer_norm


class Tokens(NamedTuple):
    """A tokenized text: ids (tokens,), and the piece of text that each stands for."""

    ids: Array
    strings: tuple[str, ...]


class Embeddings(NamedTuple):
    """Word, position and segment tables, each (entries, width), and the norm of their sum.

    expand: ALBERT's map from the tables' width to the model's features. Lan et al. 2020.
    """

    words: Array
    positions: Array
    segments: Array
    norm: Norm
    expand: Linear | None = None


@dataclass(frozen=True)
class TextModel(Model):
    """A pretrained BERT or ALBERT encoder. Devlin et al. 2019; Lan et al. 2020."""

    embeddings: Embeddings = field(repr=False)
    tokenizer: Any = field(repr=False)
    pooling: str = field(default="", repr=False)  # what its sentence embedding is, if no mean

    @property
    def n_vocabulary(self) -> int:
        return self.embeddings.words.shape[0]

    @property
    def n_positions(self) -> int:
        return self.embeddings.positions.shape[0]

    def tokenize(self, text: str, max_tokens: int | None = None) -> Tokens:
        """Split text into tokens, between [CLS] and [SEP]; no padding.

        max_tokens: cut longer texts to this many tokens, of which the last stays [SEP].
        Raises ValueError if text is none, the tokenizer cannot split it, or it has more tokens
        than the model has positions and max_tokens does not say to cut it.
        """
        check_text(text)
        if max_tokens is not None:
            check_positive_int(max_tokens=max_tokens)
            if not 2 <= max_tokens <= self.n_positions:
                raise ValueError(
                    f"max_tokens = {max_tokens}: must be 2 (the [CLS] and [SEP] marks) to "
                    f"{self.n_positions} (the model's positions)"
                )
        try:
            encoding = self.tokenizer.encode(text)
        except Exception as error:  # the tokenizers' own errors have no type of their own
            raise ValueError(f"text cannot be split by the model's tokenizer ({error})") from error
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
        x = layer_norm(x, table.norm, self.wiring.eps)
        return x if table.expand is None else table.expand(x)

    def sentence_embedding(
        self, ids: Array, attention: Attention | Sequence[Attention] = softmax_attention
    ) -> Array:
        """Mean of the last hidden state over tokens, at unit norm: (..., features).

        Reimers and Gurevych 2019; [CLS] and [SEP] count as tokens. Raises ValueError where the
        checkpoint's own sentence embedding is another.
        """
        if self.pooling:
            raise ValueError(
                f"this checkpoint's sentence embedding is no plain mean of the last state "
                f"({self.pooling}): compute it from hidden_states"
            )
        mean = self.hidden_states(ids, attention)[-1].mean(axis=-2)
        return mean / np.linalg.norm(mean, axis=-1, keepdims=True)


def check_text(text: Any) -> None:
    """Raise ValueError unless text is Unicode text."""
    if not isinstance(text, str):
        way = ": decode it first" if isinstance(text, bytes | bytearray) else ""
        raise ValueError(f"text is a {type(text).__name__}: must be a string{way}")
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise ValueError(
            f"text[{error.start}] = {text[error.start]!r} is half of a surrogate pair: "
            "must be Unicode text"
        ) from None


def load_tokenizer(path: str | Path) -> Any:
    """A `tokenizers.Tokenizer` that neither pads nor cuts, whatever its file says.

    path: tokenizer.json; where there is none, BERT's vocab.txt beside it. Raises
    FileNotFoundError where there is neither, ValueError for a file that is not readable.
    """
    from tokenizers import Tokenizer  # optional dependency

    path = Path(path)
    vocabulary = path.with_name("vocab.txt")
    if not path.is_file() and vocabulary.is_file():
        return _word_pieces(vocabulary)
    check_file(
        path,
        "; a model needs its tokenizer.json, which transformers writes: "
        "AutoTokenizer.from_pretrained(folder).save_pretrained(folder)",
    )
    try:
        tokenizer = Tokenizer.from_file(str(path))
    except Exception as error:  # the tokenizers' own errors have no type of their own
        raise ValueError(f"{path}: not readable as a tokenizer ({error})") from error
    tokenizer.no_padding()  # MiniLM's file pads every text to 128 tokens
    tokenizer.no_truncation()
    return tokenizer


def _word_pieces(path: Path) -> Any:
    """BERT's tokenizer of a list of word pieces, one a line. Devlin et al. 2019."""
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

    check_file(path)
    try:
        words = path.read_text(encoding="utf-8").removesuffix("\n").split("\n")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: not readable as text ({error})") from error
    ids = {word: i for i, word in enumerate(words)}
    missing = [mark for mark in ("[UNK]", "[CLS]", "[SEP]") if mark not in ids]
    if missing:
        raise ValueError(f"{path}: {', '.join(missing)} missing: must be BERT's word pieces")
    settings_path = path.with_name("tokenizer_config.json")
    said = read_json(settings_path) if settings_path.is_file() else {}
    settings = {
        name: said.get(name, default)
        for name, default in (
            ("do_lower_case", True),
            ("tokenize_chinese_chars", True),
            ("strip_accents", None),
        )
    }
    for name, value in settings.items():
        if value not in (True, False, None):
            raise ValueError(f"{settings_path}: {name} = {value!r}: must be true or false")
    tokenizer = Tokenizer(models.WordPiece(ids, unk_token="[UNK]", max_input_chars_per_word=100))
    tokenizer.normalizer = normalizers.BertNormalizer(
        lowercase=bool(settings["do_lower_case"]),
        handle_chinese_chars=bool(settings["tokenize_chinese_chars"]),
        strip_accents=settings["strip_accents"],
    )
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    marks = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
    tokenizer.add_special_tokens([mark for mark in marks if mark in ids])
    tokenizer.post_processor = processors.TemplateProcessing(
        "[CLS] $A [SEP]", special_tokens=[("[CLS]", ids["[CLS]"]), ("[SEP]", ids["[SEP]"])]
    )
    return tokenizer


def bert(directory: Path, config: dict[str, Any], tensor: Tensors) -> TextModel:
    d_model, n_inner = config["hidden_size"], config["intermediate_size"]
    blocks = tuple(
        Block(
            query=tensor.linear(f"{name}.attention.self.query", d_model, d_model),
            key=tensor.linear(f"{name}.attention.self.key", d_model, d_model),
            value=tensor.linear(f"{name}.attention.self.value", d_model, d_model),
            out=tensor.linear(f"{name}.attention.output.dense", d_model, d_model),
            up=tensor.linear(f"{name}.intermediate.dense", n_inner, d_model),
            down=tensor.linear(f"{name}.output.dense", d_model, n_inner),
            norm_attention=tensor.norm(f"{name}.attention.output.LayerNorm", d_model),
            norm_mlp=tensor.norm(f"{name}.output.LayerNorm", d_model),
        )
        for name in (f"encoder.layer.{layer}" for layer in range(config["num_hidden_layers"]))
    )
    return _text_model(directory, config, blocks, _embeddings(tensor, config, d_model))


def albert(directory: Path, config: dict[str, Any], tensor: Tensors) -> TextModel:
    d_model, n_inner = config["hidden_size"], config["intermediate_size"]
    n_layers, n_groups = config["num_hidden_layers"], config["num_hidden_groups"]
    shared = [
        Block(
            query=tensor.linear(f"{name}.attention.query", d_model, d_model),
            key=tensor.linear(f"{name}.attention.key", d_model, d_model),
            value=tensor.linear(f"{name}.attention.value", d_model, d_model),
            out=tensor.linear(f"{name}.attention.dense", d_model, d_model),
            up=tensor.linear(f"{name}.ffn", n_inner, d_model),
            down=tensor.linear(f"{name}.ffn_output", d_model, n_inner),
            norm_attention=tensor.norm(f"{name}.attention.LayerNorm", d_model),
            norm_mlp=tensor.norm(f"{name}.full_layer_layer_norm", d_model),
        )
        for name in (
            f"encoder.albert_layer_groups.{group}.albert_layers.0" for group in range(n_groups)
        )
    ]
    blocks = tuple(shared[layer * n_groups // n_layers] for layer in range(n_layers))
    expand = tensor.linear("encoder.embedding_hidden_mapping_in", d_model, config["embedding_size"])
    embeddings = _embeddings(tensor, config, config["embedding_size"])._replace(expand=expand)
    return _text_model(directory, config, blocks, embeddings)


def _embeddings(tensor: Tensors, config: dict[str, Any], width: int) -> Embeddings:
    n_positions, n_segments = config["max_position_embeddings"], config["type_vocab_size"]
    return Embeddings(
        tensor("embeddings.word_embeddings.weight", config["vocab_size"], width),
        tensor("embeddings.position_embeddings.weight", n_positions, width),
        tensor("embeddings.token_type_embeddings.weight", n_segments, width),
        tensor.norm("embeddings.LayerNorm", width),
    )


def _text_model(directory: Path, config: dict, blocks: tuple, embeddings: Embeddings) -> TextModel:
    activation = ACTIVATIONS[config["hidden_act"]]
    wiring = Wiring(config["num_attention_heads"], config["layer_norm_eps"], activation=activation)
    return TextModel(blocks, wiring, embeddings, load_tokenizer(directory / "tokenizer.json"))


SIZES = (
    "vocab_size", "max_position_embeddings", "type_vocab_size", "hidden_size",
    "intermediate_size", "num_hidden_layers", "num_attention_heads",
)  # fmt: skip
DEFAULTS = {"position_embedding_type": "absolute", "layer_norm_eps": 1e-12}
IMPLEMENTED = {"hidden_act": tuple(ACTIVATIONS), "position_embedding_type": ("absolute",)}
FAMILIES = {
    "bert": Family(bert, SIZES, DEFAULTS, IMPLEMENTED),
    "albert": Family(
        albert,
        (*SIZES, "embedding_size", "num_hidden_groups"),
        DEFAULTS | {"num_hidden_groups": 1, "inner_group_num": 1},
        IMPLEMENTED | {"inner_group_num": (1,)},
    ),
}
