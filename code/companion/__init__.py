"""The book's machinery: what a chapter imports is here, the rest serves the command line."""

from .claims import claim
from .paths import data
from .progress import progress
from .publish import publish
from .style import COLOURS, use_style

__all__ = ["COLOURS", "claim", "data", "progress", "publish", "use_style"]
