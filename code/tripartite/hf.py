"""Neurons and astrocytes as the attention of Hugging Face models: attn_implementation="astrocyte".

After `hf.register()` any model of Transformers that asks its attention by name takes it:
`AutoModel.from_pretrained(..., attn_implementation="astrocyte")`, or, of a loaded model,
`model.set_attn_implementation("astrocyte")`. Queries, keys and values, grouped queries, padding and
gradients are the model's; H and g are written once for all query heads that share keys.
`generate(past_key_values=hf.MemoryCache(), ...)` keeps H and g in place of keys and values, so that
what it holds does not grow. `hf.fit` tunes hidden neurons to a model's own queries and keys. Needs
PyTorch and Transformers 5: `pip install ".[hf]"`.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.cache_utils import Cache, CacheLayerMixin
from transformers.masking_utils import flash_attention_mask
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from . import features, network

REFUSED = ("sliding_window", "softcap", "position_bias", "s_aux")


def register(
    population: Callable[[torch.nn.Module, torch.Tensor], network.Population] | None = None,
    *,
    name: str = "astrocyte",
    kind: str = "positive",
    n_neurons: int = 1000,
    seed: int = 0,
) -> None:
    """Let models take their attention from neurons and astrocytes, by this name.

    population: called with an attention module and its queries, (batch, groups, heads of a group,
    tokens, d), already scaled so that q.k is the score; gives the module's hidden neurons, the same
    object at each call (default: random ones, drawn once for each layer). kind, n_neurons, seed: as
    in `features.sample`, of random ones; layer l draws with seed + l. A name registered twice means
    the later one. Raises ValueError on an unknown kind or a size below 1.
    """
    features.sample(kind, n_neurons, 1, seed)  # refused here, and not in the middle of a model
    find = population or _Random(kind, n_neurons, seed)

    def attention(module, query, key, value, attention_mask, scaling=None, is_causal=None, **more):
        _refuse(module, attention_mask, more)
        causal = getattr(module, "is_causal", True) if is_causal is None else is_causal
        q, k = _grouped(query, key, scaling)
        v, new = value[:, :, None], key.shape[-2]
        weights = None
        if attention_mask is not None:
            weights = attention_mask[:, None, None, -new:].to(q.dtype)
        earlier = getattr(key, "earlier", None)
        reading = _read(find(module, q), q, k, v, causal, weights, earlier)
        pooled = reading.pooled[..., None]
        blind = pooled == 0  # padding before the first token reads nothing
        output = torch.where(blind, 0.0, reading.drive / torch.where(blind, 1.0, pooled))
        return output.flatten(1, 2).transpose(1, 2).to(query.dtype), None

    AttentionInterface.register(name, attention)
    AttentionMaskInterface.register(name, _padding)


def _grouped(query, key, scaling) -> tuple[torch.Tensor, torch.Tensor]:
    """Queries and keys by groups that share keys, (batch, groups, heads, tokens, d), q.k the score."""
    root = (key.shape[-1] ** -0.5 if scaling is None else scaling) ** 0.5
    return (root * query).unflatten(1, (key.shape[1], -1)), (root * key)[:, :, None]


def _read(phi, q, k, v, causal, weights, earlier: MemoryLayer | None) -> network.Reading:
    if earlier is None:
        return network.attend(phi, q, k, v, causal=causal, weights=weights)
    before = earlier.memory
    after = network.write(network.blank(phi, v) if before is None else before, k, v, weights)
    earlier.memory = after
    if q.shape[-2] == 1:
        return network.read(after, q)
    inside = network.attend(phi, q, k, v, causal=causal, weights=weights)
    return inside if before is None else network.pool(network.read(before, q), inside)


class _Random:
    """Random hidden neurons for each layer, width, type and device; drawn once."""

    def __init__(self, kind: str, n_neurons: int, seed: int):
        self.kind, self.n_neurons, self.seed = kind, n_neurons, seed
        self.drawn: dict[Any, network.Population] = {}

    def __call__(self, module: torch.nn.Module, queries: torch.Tensor) -> network.Population:
        layer = getattr(module, "layer_idx", None) or 0
        place = layer, queries.shape[-1], queries.dtype, queries.device
        if place not in self.drawn:
            self.drawn[place] = features.sample(
                self.kind, self.n_neurons, place[1], self.seed + layer, like=queries
            )
        return self.drawn[place]


def fit(
    model: torch.nn.Module,
    inputs: Iterable[Mapping[str, torch.Tensor]],
    *,
    kind: str = "prototypes",
    n_neurons: int = 256,
    seed: int = 0,
) -> Callable[[torch.nn.Module, torch.Tensor], network.Population]:
    """Tune hidden neurons to the queries and keys of every head of a model; gives a population.

    The model reads the inputs with its own attention, and each group of heads that share keys gets
    curves of its own. Then `register(fit(model, inputs))` and `set_attn_implementation`, in this model.
    inputs: arguments of each call of the model, without padding, of other texts or pictures than those
    it will read. kind, n_neurons, seed: as in `tuning.fit`. Raises ValueError as `tuning.fit` does,
    where there is no input, and on padding.
    """
    from .beyond import tuning

    read: dict[torch.nn.Module, list] = defaultdict(list)

    def record(module, query, key, value, attention_mask, scaling=None, **more):
        if attention_mask is not None:
            raise ValueError("inputs: must have no padding")
        _refuse(module, None, more)  # here, and not once all is fitted
        q, k = _grouped(query, key, scaling)
        read[module].append([x.transpose(0, 1).flatten(1, 3) for x in (k, q)])
        exact = ALL_ATTENTION_FUNCTIONS["sdpa"]
        return exact(module, query, key, value, None, scaling=scaling, **more)

    AttentionInterface.register("astrocyte-record", record)
    AttentionMaskInterface.register("astrocyte-record", _padding)
    before = model.config._attn_implementation
    model.set_attn_implementation("astrocyte-record")
    try:
        with torch.no_grad():
            for arguments in inputs:
                model(**arguments)
    finally:
        model.set_attn_implementation(before)
    if not read:
        raise ValueError("inputs: must hold one or more, which the model's attention reads")
    curves: dict[torch.nn.Module, Any] = {}
    for module, parts in read.items():
        keys, queries = (torch.cat(x, dim=-2) for x in zip(*parts, strict=True))
        of_keys, of_queries = (x.double().cpu().numpy() for x in (keys, queries))
        tuned = tuning.fit(kind, of_keys, of_queries, n_neurons, seed, like=keys)
        curves[module] = tuned.of_head((slice(None), None))  # one for all heads of a group
    return lambda module, queries: curves[module]


def _padding(*, mask_function: Callable, **given: Any) -> torch.Tensor | None:
    """Which tokens are no padding, (batch, tokens); whether the future is hidden, modules say."""
    if given.get("use_vmap"):
        raise ValueError(
            "a mask of the model's own: must be causal or full, and padding, for this attention"
        )
    return flash_attention_mask(mask_function=mask_function, **given)


def _refuse(module: torch.nn.Module, mask: torch.Tensor | None, more: dict[str, Any]) -> None:
    for name in REFUSED:
        if more.get(name) is not None:
            raise ValueError(f"{name} = {more[name]!r}: must be None for this attention")
    if module.training and more.get("dropout"):
        raise ValueError(f"dropout = {more['dropout']:g} of attention weights: must be 0")
    if mask is not None and mask.ndim != 2:
        raise ValueError(f"attention_mask of shape {tuple(mask.shape)}: must be (batch, tokens)")


class MemoryLayer(CacheLayerMixin):
    """What one layer's neurons and astrocytes have written: H and g, whose size does not grow."""

    is_sliding = False

    def __init__(self, **_: Any):
        super().__init__()
        self.memory: network.Memory | None = None
        self.tokens = 0

    def lazy_initialization(self, key_states: torch.Tensor, value_states: torch.Tensor) -> None:
        self.is_initialized = True

    def update(self, key_states, value_states, *_: Any, **__: Any):
        """The new tokens' keys and values only; the attention finds the memory with the keys."""
        self.is_initialized = True
        self.tokens += key_states.shape[-2]
        key_states = key_states.view_as(key_states)
        key_states.earlier = self
        return key_states, value_states

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        return self.tokens + query_length, 0

    def get_seq_length(self) -> int:
        return self.tokens

    def get_max_length(self) -> int:
        return -1

    def reset(self) -> None:
        self.memory, self.tokens = None, 0

    def reorder_cache(self, beam_idx: torch.Tensor) -> None:
        if self.memory is not None:
            phi, *arrays = self.memory
            self.memory = network.Memory(phi, *(x.index_select(0, beam_idx) for x in arrays))


class MemoryCache(Cache):
    """A cache for `generate` that holds H and g of every layer in place of keys and values."""

    def __init__(self) -> None:
        super().__init__(layer_class_to_replicate=MemoryLayer)
