"""A progress bar for a reader in Jupyter, silent where outputs are stored."""

from __future__ import annotations

import os
from collections.abc import Iterable

from tqdm import tqdm


def progress(steps: Iterable, what: str) -> Iterable:
    """Iterate with a progress bar, unless TRIPARTITE_QUIET is set (as every runner here does)."""
    return tqdm(steps, desc=what, disable=bool(os.environ.get("TRIPARTITE_QUIET")), leave=False)
