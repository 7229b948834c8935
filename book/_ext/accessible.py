"""Roles that docutils gives a bibliography and that assistive programs reject.

Its list holds anchors beside the entries, which a list may not, and its entries have a role that
the standard has dropped.
"""


def tidy(app, page, template, context, doctree):
    if "citation-list" in context.get("body", ""):
        context["body"] = (
            context["body"]
            .replace('<div role="list" class="citation-list">', '<div class="citation-list">')
            .replace(' role="doc-biblioentry"', "")
        )


def setup(app):
    app.connect("html-page-context", tidy)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
