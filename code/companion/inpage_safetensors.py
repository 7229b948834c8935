"""Reads safetensors where that package has no build: in a reader's page it stands in for it.

Format: a length of 8 bytes, that many bytes of JSON, then the arrays
(https://github.com/huggingface/safetensors, section Format).
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

KINDS = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "I64": "<i8", "I32": "<i4", "U8": "u1"}


class SafetensorError(Exception):
    """A file that is not one of safetensors."""


class _Slice:
    def __init__(self, entry: dict):
        self._entry = entry

    def get_shape(self) -> list[int]:
        return self._entry["shape"]

    def get_dtype(self) -> str:
        return self._entry["dtype"]


class safe_open:
    """An open file of tensors; framework: only "numpy". Raises SafetensorError where it does not read."""

    def __init__(self, path: str | Path, framework: str):
        if framework != "numpy":
            raise SafetensorError(f"framework = {framework!r}: must be 'numpy'")
        self._bytes = Path(path).read_bytes()
        self._start = 8 + int.from_bytes(self._bytes[:8], "little")
        try:
            self._entries = json.loads(self._bytes[8 : self._start])
            self._metadata = self._entries.pop("__metadata__", None)
        except (ValueError, AttributeError) as error:
            raise SafetensorError(f"header: {error}") from None

    def __enter__(self) -> safe_open:
        return self

    def __exit__(self, *exception) -> None:
        pass

    def keys(self) -> list[str]:
        return list(self._entries)

    def metadata(self) -> dict[str, str] | None:
        return self._metadata

    def get_slice(self, name: str) -> _Slice:
        return _Slice(self._entries[name])

    def get_tensor(self, name: str) -> np.ndarray:
        entry = self._entries[name]
        begin, end = (self._start + offset for offset in entry["data_offsets"])
        return np.frombuffer(self._bytes[begin:end], KINDS[entry["dtype"]]).reshape(entry["shape"])
