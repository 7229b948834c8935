"""Real Transformers from disk: BERT, ALBERT, ViT and DINOv2, and recordings of their heads."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from . import language, vision
from .checkpoint import WEIGHTS, Tensors, encoder_folder, read_config, refuse_pickles
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

    It holds config.json and model.safetensors (or its parts and their index); a language model
    also tokenizer.json (or BERT's vocab.txt), a vision model preprocessor_config.json. In a folder
    of sentence-transformers, modules.json says where they are. Raises FileNotFoundError for a
    missing file; ValueError for pickled or quantised weights, another architecture, an entry that
    is not implemented, or a tensor that is missing, of the wrong shape or not finite.
    """
    directory = Path(directory)
    refuse_pickles(directory)
    folder, pooling = encoder_folder(directory)
    refuse_pickles(folder)
    config = read_config(folder, FAMILIES)
    kind = config["model_type"]
    with Tensors(folder / WEIGHTS, dtype, prefix=f"{kind}.") as tensor:
        model = FAMILIES[kind].build(folder, config, tensor)
        tensor.refuse_unused()
    return replace(model, pooling=pooling) if isinstance(model, TextModel) else model  # type: ignore[return-value]


def load_recording(path: str | Path, dtype: Any = np.float64) -> Recording:
    """Read recorded queries, keys and values from a safetensors file.

    Raises ValueError for an array that is missing, not finite or does not fit the others.
    """
    with Tensors(Path(path), dtype) as tensor:
        arrays = [tensor(name) for name in ("queries", "keys", "values")]
        metadata = json.loads(tensor.metadata.get("provenance", "{}"))
    tokens = tuple(metadata.pop("tokens", ()))
    shape = arrays[0].shape
    if len(shape) != 4 or any(a.shape != shape for a in arrays) or len(tokens) != shape[2]:
        raise ValueError(
            f"{path}: shapes {[a.shape for a in arrays]} with {len(tokens)} tokens: "
            "must be three times (layers, heads, tokens, d)"
        )
    return Recording(*arrays, tokens, metadata)  # type: ignore[call-arg, arg-type]
