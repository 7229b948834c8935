"""A Transformer decoder that speaks, in NumPy, whose attention is a memory: state in, state out.

The architecture of Llama and SmolLM2: root-mean-square norms, positions by rotation, several query
heads for each pair of keys and values (a group), a gated MLP, and output weights that are those of
the embedding. What a token reads is decided by `working.Held`: exact pairs, hidden neurons, or both.
Queries have shape (groups, heads of a group, tokens, d), keys and values (groups, 1, tokens, d).
Touvron et al. 2023; Su et al. 2021 (rotation); Ainslie et al. 2023 (groups); Shazeer 2020 (gate).
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from .. import gguf
from ..checks import check_positive_int, is_finite
from ..encoder import Array, silu
from ..network import Memory, Reading
from . import recruiting, working

Held = working.Held | recruiting.Held


class Block(NamedTuple):
    """Weights of one layer, (out, in) each; the gains of its two norms, (width,)."""

    norm_attention: Array
    query: Array
    key: Array
    value: Array
    out: Array
    norm_mlp: Array
    gate: Array
    up: Array
    down: Array


@dataclass(frozen=True)
class Decoder:
    """A language model: token embedding (vocabulary, width), blocks, last norm, and its sizes."""

    embedding: Array = field(repr=False)
    blocks: tuple[Block, ...] = field(repr=False)
    norm: Array = field(repr=False)
    n_heads: int
    n_groups: int
    theta: float  # of the rotation: the slowest pair turns by 1/theta a token, nearly
    eps: float
    n_positions: int
    tokenizer: Any = field(repr=False, default=None)

    @property
    def d_key(self) -> int:
        return self.blocks[0].query.shape[0] // self.n_heads

    def encode(self, text: str) -> list[int]:
        """Token ids of a text; `<|im_start|>` and the like are one token each."""
        return self.tokenizer.encode(text, add_special_tokens=False).ids

    def decode(self, ids: Sequence[int]) -> str:
        """The text that ids stand for, control tokens left out."""
        return self.tokenizer.decode(list(ids))


class State(NamedTuple):
    """What the model keeps of the tokens it has read: how many, and every layer's memory."""

    tokens: int
    layers: tuple[Held, ...]


class Spoken(NamedTuple):
    """One token that was spoken, the logits it was chosen by, and the state with it not yet read."""

    token: int
    logits: Array
    state: State
    readings: list[Reading]


def rms_norm(x: Array, gain: Array, eps: float) -> Array:
    """x over its root mean square along the last axis, times a gain. Zhang and Sennrich 2019."""
    return x / np.sqrt(np.mean(x * x, axis=-1, keepdims=True) + eps) * gain


def rotate(x: Array, start: int, theta: float) -> Array:
    """Turn pair i of features, (2i, 2i + 1), by position / theta^(2i/d): scores see distances only.

    x: (..., tokens, d), at positions start, start + 1, ... Su et al. 2021, eq. 34.
    """
    d = x.shape[-1]
    rates = theta ** (-np.arange(0, d, 2) / d)
    angle = (start + np.arange(x.shape[-2]))[:, None] * rates
    cos, sin = (f(angle).astype(x.dtype) for f in (np.cos, np.sin))
    a, b = x[..., 0::2], x[..., 1::2]
    return np.stack([a * cos - b * sin, a * sin + b * cos], axis=-1).reshape(x.shape)


def project(model: Decoder, layer: int, x: Array, start: int) -> tuple[Array, Array, Array]:
    """Queries, keys and values of a layer, rotated and scaled so that q.k is the score.

    x: (tokens, width), what enters the layer; start: position of the first token.
    """
    block, d, groups = model.blocks[layer], model.d_key, model.n_groups
    h = rms_norm(x, block.norm_attention, model.eps)

    def split(weight: Array) -> Array:
        y = (h @ weight.T).reshape(len(x), groups, -1, d)
        return np.moveaxis(y, 0, 2)

    queries, keys = (
        rotate(split(w), start, model.theta) / d**0.25 for w in (block.query, block.key)
    )
    return queries, keys, split(block.value)


def listen(model: Decoder, ids: Sequence[int], state: State) -> tuple[Array, State, list[Reading]]:
    """Read tokens, one after the other or all at once at the beginning; what follows is predicted.

    Returns logits of the next token, (tokens, vocabulary), the state after them, and every layer's
    reading, whose arrays are (groups, heads of a group, tokens, ...). Raises ValueError where there
    is no token, an unknown one, or more than the model has positions.
    """
    tokens = np.asarray(ids)
    if tokens.ndim != 1 or not len(tokens):
        raise ValueError(f"ids has shape {tokens.shape}: must be (tokens,), at least one")
    if tokens.min() < 0 or tokens.max() >= len(model.embedding):
        raise ValueError(f"ids up to {tokens.max()}: must be 0 to {len(model.embedding) - 1}")
    if state.tokens + len(tokens) > model.n_positions:
        raise ValueError(
            f"{state.tokens + len(tokens)} tokens: the model has {model.n_positions} positions"
        )
    x, layers, readings = model.embedding[tokens], [], []
    for layer, held in enumerate(state.layers):
        of = recruiting if isinstance(held, recruiting.Held) else working
        held, reading = of.read(held, *project(model, layer, x, state.tokens))
        x = mix(model, layer, x, reading.output)
        layers.append(held)
        readings.append(reading)
    return predict(model, x), State(state.tokens + len(tokens), tuple(layers)), readings


def mix(model: Decoder, layer: int, x: Array, attended: Array) -> Array:
    """What leaves a layer, (tokens, width): attended is added to x, then what the gated MLP makes of it.

    attended: (groups, heads of a group, tokens, d).
    """
    block = model.blocks[layer]
    x = x + np.moveaxis(attended, 2, 0).reshape(len(x), -1) @ block.out.T
    h = rms_norm(x, block.norm_mlp, model.eps)
    return x + (silu(h @ block.gate.T) * (h @ block.up.T)) @ block.down.T


def predict(model: Decoder, x: Array) -> Array:
    """Logits of the next token, (tokens, vocabulary), from what leaves the last layer."""
    return rms_norm(x, model.norm, model.eps) @ model.embedding.T


def blank(model: Decoder, hold: Callable[[int], Held]) -> State:
    """The state in which nothing was read; hold gives each layer's memory by its number."""
    return State(0, tuple(hold(layer) for layer in range(len(model.blocks))))


def save(state: State, path: str | Path) -> None:
    """Write a state into a file of safetensors, whole or not at all. Tuning and sizes are not in it."""
    from safetensors.numpy import save_file

    arrays = {
        f"{layer}.{name}": np.ascontiguousarray(x)
        for layer, held in enumerate(state.layers)
        for name, x in _written(held).items()
    }
    partial = Path(f"{path}.part")
    save_file(arrays, partial, {"tokens": str(state.tokens), "layers": str(len(state.layers))})
    os.replace(partial, path)


def resume(path: str | Path, start: State) -> State:
    """The state that was saved, for the memories of start, in which nothing was read.

    Raises ValueError where start has other layers or other memories than what was saved.
    """
    from safetensors import safe_open

    with safe_open(path, "numpy") as file:
        said = file.metadata() or {}
        arrays = {name: file.get_tensor(name) for name in file.keys()}
    if said.get("layers") != str(len(start.layers)) or start.tokens:
        raise ValueError(
            f"start has {len(start.layers)} layers and has read {start.tokens} tokens: "
            f"must have {said.get('layers')} and none"
        )
    tokens, layers = int(said["tokens"]), []
    for layer, held in enumerate(start.layers):
        parts = {n.partition(".")[2]: x for n, x in arrays.items() if n.startswith(f"{layer}.")}
        pairs = {name: parts.pop(name, None) for name in ("keys", "values")}
        held = held._replace(**pairs, tokens=tokens)
        try:
            if isinstance(held, recruiting.Held):
                recruits = recruiting.Recruits(parts.pop("centres"), **parts) if parts else None
                held = held._replace(recruits=recruits)
            else:
                memory = Memory(held.phi, **parts) if parts else None  # type: ignore[arg-type]
                held = held._replace(memory=memory)
        except (KeyError, TypeError):
            raise ValueError(f"{path}: layer {layer} holds another kind of memory") from None
        layers.append(held)
    return State(tokens, tuple(layers))


def _written(held: Held) -> dict[str, Array]:
    """The arrays that a memory has written so far, by name."""
    inner = held.recruits if isinstance(held, recruiting.Held) else held.memory
    parts = {"keys": held.keys, "values": held.values} | ({} if inner is None else _parts(inner))
    return {name: x for name, x in parts.items() if x is not None}


def _parts(inner: recruiting.Recruits | Memory) -> dict[str, Array]:
    """By names that differ from those of exact pairs; the population is not among them."""
    names = {"keys": "centres"} if isinstance(inner, recruiting.Recruits) else {}
    return {names.get(n, n): x for n, x in inner._asdict().items() if n != "phi"}


def exact(layer: int) -> working.Held:
    """A layer's memory that keeps every pair: softmax attention."""
    return working.hold(None, None)


def speak(
    model: Decoder,
    prompt: Sequence[int],
    state: State,
    n_tokens: int,
    *,
    temperature: float = 0.0,
    seed: int = 0,
    stop: Sequence[int] = (),
) -> Iterator[Spoken]:
    """Read a prompt, then say tokens one by one, each read before the next; ends with a stop token.

    temperature: 0 takes the likeliest token; otherwise tokens are drawn from the softmax of logits
    over it, by seed. Raises ValueError on a temperature below 0, before anything is read.
    """
    check_positive_int(n_tokens=n_tokens)
    if not is_finite(temperature) or temperature < 0:
        raise ValueError(f"temperature = {temperature!r}: must be a finite number, at least 0")
    rng = np.random.default_rng(seed)
    logits, state, readings = listen(model, prompt, state)
    for n in range(n_tokens):
        last = logits[-1].astype(np.float64)
        if temperature:
            last = last / temperature
            p = np.exp(last - last.max())
            token = int(rng.choice(len(p), p=p / p.sum()))
        else:
            token = int(np.argmax(last))
        yield Spoken(token, logits[-1], state, readings)
        if token in stop or n + 1 == n_tokens:
            return
        logits, state, readings = listen(model, [token], state)


def load(path: str | Path, dtype: Any = np.float32) -> Decoder:
    """A decoder from a GGUF file of the llama architecture.

    Raises FileNotFoundError where there is none, ValueError where it holds another architecture, a
    missing or misshapen tensor, or a way of storing weights that is not read here.
    """
    file = gguf.read(path)
    entries = file.entries
    if entries.get("general.architecture") != "llama":
        raise ValueError(
            f"{path}: architecture {entries.get('general.architecture')!r}: must be 'llama'"
        )
    try:
        layers, width, inner, heads, groups, positions = (
            int(entries[f"llama.{name}"])
            for name in (
                "block_count",
                "embedding_length",
                "feed_forward_length",
                "attention.head_count",
                "attention.head_count_kv",
                "context_length",
            )
        )
        eps = float(entries["llama.attention.layer_norm_rms_epsilon"])
        theta = float(entries.get("llama.rope.freq_base", 10_000.0))
        vocabulary = len(entries["tokenizer.ggml.tokens"])
    except KeyError as error:
        raise ValueError(f"{path}: no entry {error}") from None
    if "output.weight" in file.places:
        raise ValueError(f"{path}: output weights of its own: must be those of the embedding")
    d = width // heads
    if entries.get("llama.rope.dimension_count", d) != d or width % heads or heads % groups:
        raise ValueError(f"{path}: heads of another width than all features over all heads")

    def tensor(name: str, *shape: int) -> Array:
        return file(name, *shape).astype(dtype, copy=False)

    blocks = tuple(
        Block(
            tensor(f"blk.{n}.attn_norm.weight", width),
            tensor(f"blk.{n}.attn_q.weight", width, width),
            tensor(f"blk.{n}.attn_k.weight", groups * d, width),
            tensor(f"blk.{n}.attn_v.weight", groups * d, width),
            tensor(f"blk.{n}.attn_output.weight", width, width),
            tensor(f"blk.{n}.ffn_norm.weight", width),
            tensor(f"blk.{n}.ffn_gate.weight", inner, width),
            tensor(f"blk.{n}.ffn_up.weight", inner, width),
            tensor(f"blk.{n}.ffn_down.weight", width, inner),
        )
        for n in range(layers)
    )
    return Decoder(
        tensor("token_embd.weight", vocabulary, width),
        blocks,
        tensor("output_norm.weight", width),
        heads,
        groups,
        theta,
        eps,
        positions,
        gguf.tokenizer(file),
    )
