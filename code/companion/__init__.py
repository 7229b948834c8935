"""The book's machinery: what a chapter imports is here, the rest serves the command line."""

import warnings

from .claims import claim
from .explorer import Choice, explorer
from .film import film
from .paths import data
from .progress import progress
from .prose import prose, table
from .publish import publish
from .style import COLOURS, plain_ticks, use_style

# libraries that download import a progress bar, which asks for a widget library nothing here needs
warnings.filterwarnings("ignore", message="IProgress not found")

__all__ = [
    "COLOURS",
    "Choice",
    "claim",
    "data",
    "explorer",
    "film",
    "plain_ticks",
    "progress",
    "prose",
    "publish",
    "table",
    "use_style",
]
