"""What readers search for leads to the page that answers it: `book/queries.yml`, and every figure by its number.

Each query becomes a main entry of the page's index. The search puts these before pages that merely hold the words.
"""

import pickle
from functools import cache
from pathlib import Path

import yaml
from figure_pages import staged
from sphinx import addnodes
from sphinx.application import ENV_PICKLE_FILENAME
from sphinx.util import logging

from companion.figure import numbered
from companion.files import write_bytes

logger = logging.getLogger(__name__)
FILE = "book/queries.yml"


@cache
def places(srcdir) -> dict[str, tuple[str, str]]:
    """Query -> (document, anchor). Raises ValueError for a query that is listed twice."""
    found = {}
    listed = yaml.safe_load(Path(srcdir, FILE).read_text(encoding="utf-8"))
    for place, queries in listed.items():
        page, _, anchor = place.partition("#")
        for query in queries:
            if query != query.lower() or query in found:
                raise ValueError(f"{FILE}: {query!r} must be in small letters, and listed once")
            found[query] = (f"book/{page}", anchor)
    for chapter in staged(srcdir):
        for place, name in numbered(chapter).items():
            number = f"{int(chapter.number)}.{place}"
            found |= {
                f"{word} {number}": (f"book/{chapter.slug}", name) for word in ("figure", "fig.")
            }
    return found


def add_entries(app, doctree):
    """Entries for a page that is read, which go into the search with its words."""
    app.env.note_dependency(str(Path(app.srcdir, FILE)))
    try:
        known = places(app.srcdir)
    except ValueError as error:
        logger.warning(str(error))
        return
    if app.env.docname == "book/index":  # once
        for page in {page for page, _ in known.values()} - app.env.found_docs:
            logger.warning(f"{FILE}: {page} is no page")
    entries = [
        ("single", query, anchor, "main", None)
        for query, (page, anchor) in known.items()
        if page == app.env.docname
    ]
    if entries:
        doctree.insert(0, addnodes.index(entries=entries))


def keep_entries(app, exception):
    """Store the environment once more, with the entries that pages brought to the search.

    Sphinx stores it before pages are written, so a later build that writes only some of them would
    leave out the entries of all others.
    """
    if exception is None and getattr(app.builder, "search", False):
        stored = pickle.dumps(app.env, pickle.HIGHEST_PROTOCOL)
        write_bytes(Path(app.doctreedir, ENV_PICKLE_FILENAME), stored)


def setup(app):
    app.connect("doctree-read", add_entries)
    app.connect("build-finished", keep_entries)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
