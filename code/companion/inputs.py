"""A reader's own texts, pictures and models, beside those that come with the book."""

from __future__ import annotations

import codecs
import os
import re
from collections.abc import Mapping
from pathlib import Path

from tripartite.language import TextModel, Tokens

from .fetch import MODELS, model_directory

LONGEST = 10_000_000  # bytes of a text
UTF_16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
A_TOKEN = 64  # characters that are read for each token, first; few texts have so many
LONGEST_WORD = 100  # characters, so at most as many tokens; longer ones are one unknown token


def passage(text: str, texts: Mapping[str, Path]) -> str:
    """A text, by its name or from a file in UTF-8.

    texts: files of the texts that have names. Raises ValueError that names the file where there is
    none, where it is not UTF-8, holds nothing to read, or is longer than 10 MB.
    """
    path = _one_of("text", text, texts)
    size = path.stat().st_size
    if size > LONGEST:
        raise ValueError(f"{path}: has {size:,} bytes: must be at most {LONGEST:,}")
    content = path.read_bytes()
    if content.startswith(UTF_16):
        raise ValueError(f"{path}: is UTF-16: save it as UTF-8")
    try:
        found = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(
            f"{path}: is not UTF-8 (byte {error.start} is 0x{content[error.start]:02x}): "
            "must be plain text, saved as UTF-8"
        ) from None
    if "\0" in found:
        raise ValueError(f"{path}: holds zero bytes: must be plain text")
    if not found.strip():
        raise ValueError(f"{path}: must hold a text, has nothing but blanks")
    return found


def tokens(model: TextModel, passage: str, limit: int | None = None) -> Tokens:
    """The passage as tokens, cut to what the model can take, or to limit; says so where it cuts.

    limit: most tokens that are kept, the marks at both ends included. Raises ValueError for a model
    that does not read text.
    """
    if not isinstance(model, TextModel):
        raise ValueError(
            f"model is a {type(model).__name__}: must be a BERT or ALBERT, which read text"
        )
    most = min(limit or model.n_positions, model.n_positions)
    # a tokenizer needs seconds for megabytes: whole words at the beginning are enough where they
    # fill the model, with room for one that goes on beyond
    for head in (_words(passage, A_TOKEN * most), passage):
        whole = len(model.tokenizer.encode(head).ids)
        if whole > most + LONGEST_WORD:
            break
    found = model.tokenize(head, max_tokens=most)
    if whole > most and not limit:
        more = "at least " if len(head) < len(passage) else ""
        print(
            f"The text has {more}{whole:,} tokens; the model takes {most}, so it is cut there. "
            "The end mark stays."
        )
    return found


def _words(passage: str, n: int) -> str:
    """The first n characters of a longer passage, without the word that they end in."""
    return passage if len(passage) <= n else re.sub(r"\S*$", "", passage[:n])


def model_folder(model: str) -> Path:
    """Folder of a model's files: of a name, with or without its organisation, or itself a folder.

    Raises ValueError for what is neither, FetchError where a named one cannot be had.
    """
    for name in (model, model.rpartition("/")[2]):
        if name in MODELS and not Path(model).is_absolute():
            return model_directory(name)
    return _there("model", model, MODELS, os.path.isdir, "folder")


def picture(image: str, pictures: Mapping[str, Path]) -> Path:
    """File of a picture, by its name or path; raises ValueError where there is none."""
    return _one_of("image", image, pictures)


def _one_of(name: str, value: str, known: Mapping[str, Path]) -> Path:
    return known[value] if value in known else _there(name, value, known, os.path.isfile, "file")


def _there(name: str, value: str, known: Mapping, is_there, kind: str) -> Path:
    path = Path(os.path.expanduser(value))
    if not value or not is_there(path):
        names = ", ".join(known)
        raise ValueError(
            f"{name} = {value!r}: must be one of {names}, or the path of a {kind}; "
            f"there is no {kind} {path.absolute()}"
        )
    return path
