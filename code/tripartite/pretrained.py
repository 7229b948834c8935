"""Real Transformers from disk: BERT, ALBERT, ViT and DINOv2, and recordings of their heads."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from . import language, vision
from .checkpoint import Tensors, read_config, refuse_pickles
from .encoder import Array
from .language import TextModel
from .vision import VisionModel

FAMILIES = language.FAMILIES | vision.FAMILIES


class Recording(NamedTuple):
    """Queries, keys, values (layers, heads, tokens, d), scaled so that q.k is the score."""

    queries: Array
    keys: Array
    values: Array
    tokens: tuple[str, ...]
    metadata: dict[str, str]


def load(directory: str | Path, dtype: Any = np.float64) -> TextModel | VisionModel:
    """Read an encoder from a folder in the format of the Hugging Face hub.

    It holds config.json and model.safetensors; a language model also tokenizer.json, a vision
    model preprocessor_config.json. Raises FileNotFoundError for a missing file; ValueError for
    pickled weights, another architecture, or a tensor that is missing, of the wrong shape or not
    finite.
    """
    directory = Path(directory)
    refuse_pickles(directory)
    config = read_config(directory, FAMILIES)
    kind = config["model_type"]
    with Tensors(directory / "model.safetensors", dtype, prefix=f"{kind}.") as tensor:
        return FAMILIES[kind].build(directory, config, tensor)


def load_recording(path: str | Path, dtype: Any = np.float64) -> Recording:
    """Read recorded queries, keys and values from a safetensors file.

    Raises ValueError for an array that is missing, not finite or does not fit the others.
    """
    with Tensors(Path(path), dtype) as tensor:
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
