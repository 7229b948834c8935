"""A checkpoint folder of the Hugging Face format: config.json and model.safetensors, checked.

Nothing is ever unpickled, because that runs whatever code a file holds. What a configuration says
and our arithmetic does not implement is refused: it would be computed wrongly.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from .checks import check_positive, check_positive_int
from .encoder import Array, Linear, Model, Norm, gelu, gelu_tanh

PICKLED = (".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle")
ACTIVATIONS = {"gelu": gelu, "gelu_new": gelu_tanh, "gelu_pytorch_tanh": gelu_tanh}


class Family(NamedTuple):
    """What config.json of an architecture must say, and how its model is made of the tensors."""

    build: Callable[[Path, dict[str, Any], Tensors], Model]
    sizes: tuple[str, ...]  # whole numbers, at least 1
    defaults: dict[str, Any]  # of entries that published files leave out
    implemented: dict[str, tuple]  # entry -> the values that the arithmetic knows


def read_config(directory: Path, families: dict[str, Family]) -> dict[str, Any]:
    """config.json, with the defaults of its family filled in.

    Raises FileNotFoundError if there is none; ValueError for another architecture, a missing or
    impossible size, or an entry that is not implemented.
    """
    path = directory / "config.json"
    config = read_json(path)
    kind = config.get("model_type")
    if kind not in families:
        raise ValueError(f"{path}: model_type = {kind!r}: must be {_one_of(sorted(families))}")
    family = families[kind]
    config = family.defaults | config
    for name, known in family.implemented.items():
        if config.get(name) not in known:
            raise ValueError(f"{path}: {name} = {config.get(name)!r}: must be {_one_of(known)}")
    missing = [name for name in family.sizes if name not in config]
    if missing:
        raise ValueError(f"{path}: {', '.join(missing)} missing")
    check_positive_int(**{name: config[name] for name in family.sizes})
    check_positive(layer_norm_eps=config["layer_norm_eps"])
    if config["hidden_size"] % config["num_attention_heads"]:
        raise ValueError(
            f"{path}: num_attention_heads = {config['num_attention_heads']}: "
            f"must divide hidden_size = {config['hidden_size']}"
        )
    return config


def read_json(path: Path) -> dict[str, Any]:
    """An object from a JSON file of the checkpoint."""
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file; a model needs its {path.name}")
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:  # not UTF-8, not JSON
        raise ValueError(f"{path}: not readable as JSON ({error})") from error
    if not isinstance(found, dict):
        raise ValueError(f"{path}: holds a {type(found).__name__}: must be a JSON object")
    return found


def refuse_pickles(directory: Path) -> None:
    """Raise ValueError if the weights are there as a pickle only."""
    found = [directory] if directory.is_file() else sorted(directory.glob("*"))
    found = [path for path in found if path.suffix in PICKLED]
    if found and not (directory / "model.safetensors").is_file():
        raise ValueError(f"{found[0]}: pickled weights are not read; convert them to safetensors")


class Tensors:
    """An open safetensors file: call it with a name and the shape that the tensor must have.

    prefix: what a checkpoint with a task's head on top puts before the encoder's names.
    """

    def __init__(self, path: Path, dtype: Any, prefix: str = ""):
        from safetensors import SafetensorError, safe_open  # optional dependency

        if not path.is_file():
            raise FileNotFoundError(f"{path}: no such file")
        try:
            self.file = safe_open(path, framework="numpy")
        except SafetensorError as error:
            raise ValueError(f"{path}: not a readable safetensors file ({error})") from error
        self.path, self.dtype, self.prefix = path, dtype, prefix
        self.names = set(self.file.keys())

    def __enter__(self) -> Tensors:
        self.file.__enter__()
        return self

    def __exit__(self, *exception: Any) -> None:
        self.file.__exit__(*exception)

    def __call__(self, name: str, *shape: int) -> Array:
        stored = self._stored(name)
        if stored is None:
            wanted = f" of shape {shape}" if shape else ""
            raise ValueError(f"{self.path}: tensor {name}{wanted} is missing")
        found = tuple(self.file.get_slice(stored).get_shape())
        if shape and found != shape:
            raise ValueError(f"{self.path}: tensor {stored} has shape {found}: must be {shape}")
        try:
            array = self.file.get_tensor(stored).astype(self.dtype)
        except TypeError as error:  # bfloat16, which NumPy does not have
            raise ValueError(f"{self.path}: tensor {stored}: NumPy has no such dtype") from error
        if not np.isfinite(array).all():
            raise ValueError(f"{self.path}: tensor {stored} holds values that are not finite")
        return array

    def linear(self, name: str, n_out: int, n_in: int) -> Linear:
        return Linear(self(f"{name}.weight", n_out, n_in), self(f"{name}.bias", n_out))

    def norm(self, name: str, n_features: int) -> Norm:
        return Norm(self(f"{name}.weight", n_features), self(f"{name}.bias", n_features))

    def _stored(self, name: str) -> str | None:
        """The name in the file; BERT's own weights call a norm's gain gamma and its bias beta."""
        old = name.replace("LayerNorm.weight", "LayerNorm.gamma")
        old = old.replace("LayerNorm.bias", "LayerNorm.beta")
        known = (name, self.prefix + name, self.prefix + old)
        return next((stored for stored in known if stored in self.names), None)


def _one_of(values) -> str:
    return " or ".join(repr(value) for value in values)
