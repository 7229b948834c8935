"""The page of the module: autodoc, whose docstrings are plain text here and are shown as written."""

import re

MARKUP = re.compile(r"([\\\\*|`_])")


def as_written(app, what, name, obj, options, lines):
    """Escape what reStructuredText would read as markup; keep the breaks of indented lines."""
    for i, line in enumerate(lines):
        text = MARKUP.sub(r"\\\1", line.strip())
        lines[i] = f"| {text}" if line.startswith(" ") else text


def without_fields(app, what, name, obj, skip, options):
    """Leave out the fields of named tuples, which the text above them explains."""
    return (
        True if (getattr(obj, "__doc__", "") or "").startswith("Alias for field number") else None
    )


def allow(app, config):
    # the value of a type alias, of the standard library: its pages are on another host
    config.nitpick_ignore = [*config.nitpick_ignore, ("py:class", "collections.abc.Callable")]


def setup(app):
    app.setup_extension("sphinx.ext.autodoc")
    app.connect("config-inited", allow)
    app.connect("autodoc-skip-member", without_fields)
    app.connect("autodoc-process-docstring", as_written)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
