"""Weights and vocabulary from a GGUF file, the format of llama.cpp: little-endian, version 2 or 3.

A file is a header, entries (name, type, value), a table of tensors, and their data. Weights may be
stored in blocks of 32 that share a scale; they are made single precision when they are read.
https://github.com/ggml-org/ggml/blob/master/docs/gguf.md
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

Array = np.ndarray
MAGIC, STRING, LIST, BLOCK = b"GGUF", 8, 9, 32
SCALARS = {
    0: "B",
    1: "b",
    2: "H",
    3: "h",
    4: "I",
    5: "i",
    6: "f",
    7: "?",
    10: "Q",
    11: "q",
    12: "d",
}


class Stored(NamedTuple):
    """How one type keeps numbers: bytes for so many numbers, and what makes them single precision."""

    name: str
    bytes: int
    numbers: int
    decode: Callable[[Array], Array]


def _halves(raw: Array) -> Array:
    return np.ascontiguousarray(raw).view(np.float16).astype(np.float32)


def _q4_1(raw: Array) -> Array:
    """scale * q + minimum, q of four bits: the first half of a block in the lower ones."""
    packed = raw[:, 4:]
    q = np.concatenate([packed & 15, packed >> 4], axis=1)
    return q * _halves(raw[:, :2]) + _halves(raw[:, 2:4])


def _q8_0(raw: Array) -> Array:
    return raw[:, 2:].view(np.int8) * _halves(raw[:, :2])


STORED = {
    0: Stored("F32", 4, 1, lambda raw: raw.view(np.float32)),
    1: Stored("F16", 2, 1, _halves),
    3: Stored("Q4_1", 20, BLOCK, _q4_1),
    8: Stored("Q8_0", 34, BLOCK, _q8_0),
}


class File(NamedTuple):
    """An open file: `entries`, its metadata by name, and where each tensor lies."""

    path: Path
    entries: dict[str, Any]
    places: dict[str, tuple[tuple[int, ...], int, int]]  # name -> shape, type, first byte
    data: Array

    def __call__(self, name: str, *shape: int) -> Array:
        """A tensor in single precision, which must have this shape.

        Raises ValueError where it is missing, has another shape or a type that is not read here, or
        holds NaN or infinity.
        """
        if name not in self.places:
            raise ValueError(f"{self.path}: no tensor {name}")
        found, kind, start = self.places[name]
        if found != shape:
            raise ValueError(f"{self.path}: {name} has shape {found}: must be {shape}")
        if kind not in STORED:
            known = ", ".join(f"{n} ({s.name})" for n, s in STORED.items())
            raise ValueError(f"{self.path}: {name} is of type {kind}: must be one of {known}")
        how = STORED[kind]
        count = int(np.prod(shape))
        if count % how.numbers:
            raise ValueError(f"{self.path}: {name} is not a whole number of blocks")
        blocks = count // how.numbers
        raw = self.data[start : start + blocks * how.bytes]
        if len(raw) < blocks * how.bytes:
            raise ValueError(f"{self.path}: ends within {name}")
        x = how.decode(np.array(raw).reshape(blocks, how.bytes)).reshape(shape)
        if not np.all(np.isfinite(x)):
            raise ValueError(f"{self.path}: {name} holds NaN or infinity")
        return x


def read(path: str | Path) -> File:
    """Open a GGUF file; tensors are read when they are asked for.

    Raises FileNotFoundError where there is none, ValueError where it is not such a file, of another
    version, or ends too early.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file")
    if path.stat().st_size < 24:
        raise ValueError(f"{path}: not a GGUF file")
    data = np.memmap(path, np.uint8, mode="r")
    try:
        return _read(path, data)
    except (struct.error, UnicodeDecodeError, OverflowError, MemoryError) as error:
        raise ValueError(f"{path}: damaged or ends too early ({error})") from None


def _read(path: Path, data: Array) -> File:
    at = 4

    def scalar(code: str) -> Any:
        nonlocal at
        (value,) = struct.unpack_from("<" + code, data.data, at)
        at += struct.calcsize(code)
        return value

    def string() -> str:
        nonlocal at
        size = scalar("Q")
        if size > len(data) - at:
            raise struct.error("a text is longer than the file")
        text = bytes(data[at : at + size]).decode("utf-8")
        at += size
        return text

    def value(kind: int) -> Any:
        if kind == STRING:
            return string()
        if kind == LIST:
            of, size = scalar("I"), scalar("Q")
            if size > len(data) - at:
                raise struct.error("a list is longer than the file")
            return [value(of) for _ in range(size)]
        if kind not in SCALARS:
            raise ValueError(f"{path}: an entry of type {kind}: must be 0 to 12")
        return scalar(SCALARS[kind])

    if bytes(data[:4]) != MAGIC:
        raise ValueError(f"{path}: not a GGUF file")
    version = scalar("I")
    if version not in (2, 3):
        raise ValueError(f"{path}: GGUF version {version}: must be 2 or 3")
    tensors, count = scalar("Q"), scalar("Q")
    entries = {}
    for _ in range(count):
        name = string()
        entries[name] = value(scalar("I"))
    listed = []
    for _ in range(tensors):
        name, axes = string(), scalar("I")
        shape = tuple(scalar("Q") for _ in range(axes))[::-1]  # the fastest axis stands first
        listed.append((name, shape, scalar("I"), scalar("Q")))
    alignment = entries.get("general.alignment", 32)
    start = -(-at // alignment) * alignment
    places = {name: (shape, kind, start + offset) for name, shape, kind, offset in listed}
    return File(path, entries, places, data)


def tokenizer(file: File) -> Any:
    """The byte-level tokenizer that the file describes: digits one by one, then pairs of bytes merged.

    Raises ValueError where it describes another kind.
    """
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers  # optional

    entries = file.entries
    kind = entries.get("tokenizer.ggml.model"), entries.get("tokenizer.ggml.pre")
    if kind != ("gpt2", "smollm"):
        raise ValueError(f"{file.path}: tokenizer {kind}: must be ('gpt2', 'smollm')")
    pieces = entries["tokenizer.ggml.tokens"]
    merges = [tuple(pair.split(" ")) for pair in entries["tokenizer.ggml.merges"]]
    found = Tokenizer(models.BPE({piece: n for n, piece in enumerate(pieces)}, merges))
    found.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Digits(individual_digits=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True),
        ]
    )
    found.decoder = decoders.ByteLevel()
    control = 3
    kinds = entries["tokenizer.ggml.token_type"]
    found.add_special_tokens(
        [
            AddedToken(piece, special=True)
            for piece, kind in zip(pieces, kinds, strict=True)
            if kind == control
        ]
    )
    return found
