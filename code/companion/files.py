"""Write files whole or not at all; JSON that every reader of JSON takes."""

from __future__ import annotations

import json
import math
import os
import tempfile
from pathlib import Path
from typing import Any

NAMED = {str(x): x for x in (math.inf, -math.inf, math.nan)}  # numbers that JSON has not


def to_json(content: Any) -> str:
    """Content as JSON, what has no type there as text; numbers that are not finite as "inf" and "nan"."""
    return json.dumps(_finite(content), indent=1, default=str, allow_nan=False) + "\n"


def from_json(text: str) -> Any:
    """What `to_json` was given, as far as JSON has its types."""
    return _numbers(json.loads(text))


def _finite(x: Any) -> Any:
    if isinstance(x, dict):
        return {k: _finite(v) for k, v in x.items()}
    if isinstance(x, list | tuple):
        return [_finite(v) for v in x]
    return str(x) if isinstance(x, float) and not math.isfinite(x) else x


def _numbers(x: Any) -> Any:
    if isinstance(x, dict):
        return {k: _numbers(v) for k, v in x.items()}
    if isinstance(x, list):
        return [_numbers(v) for v in x]
    return NAMED.get(x, x) if isinstance(x, str) else x


def write_bytes(path: Path, content: bytes) -> bool:
    """Write a file atomically; returns False, and leaves it alone, where it has that content."""
    if path.exists() and path.read_bytes() == content:
        return False
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
        os.chmod(temporary, 0o666 & ~_umask())
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
    return True


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
