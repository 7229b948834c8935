"""Previews: what a symbol, a term, an equation, a figure or a chapter is, where it is mentioned.

At build time the first use of every glossary term in a page becomes a link, and inline mathematics
that is a symbol of the notation says which. What they show is written once for the whole site, into
`previews-data.js`; `reading.js` loads it when a preview is first asked for. Citations need nothing:
their links carry the reference as a title.
"""

import html
import json
import re
from pathlib import Path

from docutils import nodes

from companion.files import write_bytes

GLOSSARY, NOTATION = "book/glossary", "book/notation"
# words of every day: they mean their entry only in a paragraph that speaks of this
EVERYDAY = {"power": r"\btests?\b", "value": r"\b(keys?|quer(y|ies))\b|\bv_[ti]"}
LINKED = re.compile(r"book/(\d\d-|primer)")
# text in these is not prose, or leads somewhere already
SKIPPED = (nodes.title, nodes.reference, nodes.literal, nodes.raw, nodes.table, nodes.caption, nodes.strong, nodes.math)  # fmt: skip
INLINE = re.compile(r'<span class="math notranslate nohighlight">\\\((.*?)\\\)</span>', re.DOTALL)
# browsers may break a line between mathematics and the full stop after it
GLUED = re.compile(r'(<span class="math notranslate nohighlight">[^<]*</span>)([.,;:!?)’”]+)')


# --- terms ------------------------------------------------------------------------------------------


def terms(env):
    """Term in lower case -> its anchor, longest first."""
    found = {}
    for kind_name, (docname, anchor) in _term_objects(env):
        if docname == GLOSSARY:
            found[kind_name.lower()] = anchor
    return dict(sorted(found.items(), key=lambda item: -len(item[0])))


def _term_objects(env):
    objects = env.get_domain("std").objects
    return [(name, place) for (kind, name), place in objects.items() if kind == "term"]


def link_terms(app, doctree, docname):
    """The first use of every term, in a paragraph of prose, leads to the glossary."""
    if not LINKED.match(docname) or app.builder.format != "html":
        return
    known = terms(app.env)
    if not known:
        return
    page = app.builder.get_relative_uri(docname, GLOSSARY)
    pattern = re.compile(rf"\b({'|'.join(map(re.escape, known))})(?:s|es)?(?!\w)", re.IGNORECASE)
    seen = set()
    for text in list(doctree.findall(nodes.Text)):
        parent, lineage = text.parent, []
        while parent is not None:
            lineage.append(parent)
            parent = parent.parent
        prose = any(isinstance(a, nodes.paragraph) for a in lineage)
        if not prose or any(isinstance(a, SKIPPED) or "facts" in a.get("classes", ()) for a in lineage[:-1]):  # fmt: skip
            continue
        pieces, end, content = [], 0, str(text)
        paragraph = next(a for a in lineage if isinstance(a, nodes.paragraph)).astext()
        for found in pattern.finditer(content):
            term = found[1].lower()
            beside = EVERYDAY.get(term, "")
            if term not in seen and re.search(beside, paragraph, re.IGNORECASE):
                seen.add(term)
                link = nodes.reference("", found[0], internal=True, refuri=f"{page}#{known[term]}", classes=["term"])  # fmt: skip
                pieces += [nodes.Text(content[end : found.start()]), link]
                end = found.end()
        if pieces:
            text.parent.replace(text, [*pieces, nodes.Text(content[end:])])


# --- symbols ----------------------------------------------------------------------------------------


def squeeze(latex):
    return re.sub(r"\s+|\\,|\\;|\\!", "", html.unescape(latex))


def symbols(env):
    """Symbol -> what the notation says of it: HTML with the mathematics in \\(...\\)."""
    found = {}
    for row in env.get_doctree(NOTATION).findall(nodes.row):
        cells = list(row.children)
        if len(cells) < 4 or row.parent.tagname == "thead":
            continue
        last = cells[4].astext() if len(cells) > 4 else ""
        chapter = re.search(r"\d+", last)
        where = f' <span class="where">from chapter {int(chapter[0])}</span>' if chapter else ""
        shape = cells[3].astext().strip()
        unit = f" ({_markup(cells[3])})" if shape not in ("", "–") and "," not in shape else ""
        names = [_base(math.astext()) for math in cells[0].findall(nodes.math)]
        for name in names:
            # a bare letter is used for what the notation writes with its token: p for p_t
            for spelt in {name, re.sub(r"_t$", "", name), re.sub(r"_t$", "_i", name)}:
                known = found.setdefault(spelt, [])
                text = (
                    f"<strong>\\({html.escape(name)}\\)</strong> {_markup(cells[2])}{unit}{where}"
                )
                if text not in known:
                    known.append(text)
    return found


def _base(latex):
    return squeeze(latex)


def _markup(node):
    """Text of a node as HTML, its mathematics as \\(...\\)."""
    parts = []
    for child in node.findall(lambda n: isinstance(n, (nodes.Text, nodes.math))):
        if isinstance(child, nodes.math):
            parts.append(f"\\({html.escape(child.astext())}\\)")
        elif not isinstance(child.parent, nodes.math):
            parts.append(html.escape(str(child)))
    return "".join(parts).strip()


def mark_symbols(app, pagename, templatename, context, doctree):
    if app.builder.name != "html" or "body" not in context:
        return
    context["body"] = GLUED.sub(r'<span class="glued">\1\2</span>', context["body"])
    if pagename == NOTATION:
        return
    if not hasattr(app, "companion_symbols"):
        app.companion_symbols = symbols(app.env) if NOTATION in app.env.found_docs else {}

    def mark(match):
        name = squeeze(match[1])
        if name not in app.companion_symbols:
            return match[0]
        key = html.escape(name, quote=True)
        return match[0].replace("<span ", f'<span data-symbol="{key}" ', 1)

    context["body"] = INLINE.sub(mark, context["body"])


# --- data -------------------------------------------------------------------------------------------


def gather(app):
    """Address within the site -> HTML of its preview."""
    env, shown = app.env, {}
    if NOTATION in env.found_docs:
        for name, meanings in symbols(env).items():
            shown[f"symbol {name}"] = "<br>".join(meanings)
    for docname in sorted(env.found_docs):
        uri = app.builder.get_target_uri(docname)
        doctree = env.get_doctree(docname)
        head = getattr(env, "companion_heads", {}).get(docname, {})
        if head.get("promise"):
            title = html.escape(env.titles[docname].astext())
            minutes = f' <span class="where">{head["minutes"]} minutes</span>' if head.get("minutes") else ""  # fmt: skip
            shown[uri] = f"<strong>{title}</strong>{minutes}<br>{html.escape(head['promise'])}"
        for block in doctree.findall(nodes.math_block):
            if block.get("label"):
                latex = html.escape(block.astext())
                shown[f"{uri}#equation-{block['label']}"] = f"\\[{latex}\\]"
        for figure in doctree.findall(nodes.figure):
            caption = next(iter(figure.findall(nodes.caption)), None)
            if caption is not None and figure["ids"]:
                shown[f"{uri}#{figure['ids'][0]}"] = _markup(caption)
        for item in doctree.findall(nodes.definition_list_item):
            definition = next(iter(item.findall(nodes.definition)), None)
            for term in item.findall(nodes.term):
                if docname == GLOSSARY and definition is not None and term["ids"]:
                    text = f"<strong>{html.escape(term.astext())}</strong> {_markup(definition)}"
                    shown[f"{uri}#{term['ids'][0]}"] = text
    return shown


def write_data(app, error):
    if error or app.builder.name != "html":
        return
    content = json.dumps(gather(app), ensure_ascii=False, separators=(",", ":"))
    target = Path(app.outdir) / "_static" / "previews-data.js"
    write_bytes(target, f"window.companionPreviews={content};\n".encode())


def outdated(app, env, added, changed, removed):
    """Every page may name a term or a symbol that has changed."""
    return list(env.found_docs) if {GLOSSARY, NOTATION} & (added | changed | removed) else []


def setup(app):
    app.connect("env-get-outdated", outdated)
    app.connect("doctree-resolved", link_terms, priority=700)  # after chapter.py has made its facts
    app.connect("html-page-context", mark_symbols)
    app.connect("build-finished", write_data)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
