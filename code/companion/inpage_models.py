"""What chapters ask for where a page has no pretrained model: in a page, `fetch`, `inputs` and `notebooks`."""

from __future__ import annotations


class FetchError(RuntimeError):
    """As of `companion.fetch`."""


def _not_here(*_: object, **__: object) -> None:
    """Raises NotInPage."""
    from . import NotInPage

    raise NotInPage("it reads a pretrained model or a file, which the page does not have")


abstract = model_directory = model_folder = passage = picture = tokens = _not_here
