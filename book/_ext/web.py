"""What search engines, link previews and lost readers need: descriptions, cards, structured data, a map, a 404.

Two settings of `_config.yml` say where the book is public. While they are empty, nothing here needs them:
no map of the site, no feedback link, relative addresses in the structured data.
"""

import html
import json
import re
from pathlib import Path
from urllib.parse import quote, urljoin

from companion.files import write_bytes

CARD = "_static/card.png"
CARD_ALT = "The circuit: neurons, and an astrocyte that holds every synapse between them"
LICENCE = "https://creativecommons.org/licenses/by/4.0/"
PAPER = {
    "@type": "ScholarlyArticle",
    "name": "Building transformers from neurons and astrocytes",
    "author": ["Leo Kozachkov", "Ksenia V. Kastanenka", "Dmitry Krotov"],
    "datePublished": "2023",
    "sameAs": "https://doi.org/10.1073/pnas.2219150120",
}
TYPES = {".csv": "text/csv", ".npz": "application/zip"}
NOT_IN_MAP = {"genindex", "search", "py-modindex"}


def describe_page(app, pagename, templatename, context, doctree):
    """The page's head, and its feedback link."""
    if app.builder.name != "html" or "body" not in context or pagename in NOT_IN_MAP:
        return
    base = app.config.html_baseurl
    head = getattr(app.env, "companion_heads", {}).get(pagename, {})
    description = shorten(head.get("promise") or app.config.html_title)
    title = re.sub("<[^>]+>", "", context.get("title", "")) or app.config.html_title
    up = "../" * pagename.count("/")
    address = urljoin(base, f"{pagename}.html") if base else ""
    card = urljoin(base, CARD) if base else up + CARD
    tags = {
        "og:title": title,
        "og:description": description,
        "og:type": "article",
        "og:site_name": app.config.html_title,
        "og:url": address,
        "og:image": card,
        "og:image:width": "1200",
        "og:image:height": "630",
        "og:image:alt": CARD_ALT,
        "twitter:card": "summary_large_image",
    }
    lines = [f'<meta name="description" content="{html.escape(description)}" />']
    lines += [
        f'<meta {"name" if key.startswith("twitter") else "property"}="{key}" content="{html.escape(value)}" />'
        for key, value in tags.items()
        if value
    ]
    record = structured(app, pagename, title, description, head, base)
    # "<" would end the script where a caption holds a tag
    text = json.dumps(record, ensure_ascii=False).replace("<", "\\u003c")
    lines.append(f'<script type="application/ld+json">{text}</script>')
    context["metatags"] = context.get("metatags", "") + "\n".join(lines)
    if repository := app.config.companion_repository:
        where = quote(f"On the page “{title}”: ")
        context["body"] += (
            '<p class="feedback">Something wrong, unclear or missing on this page? '
            f'<a href="{html.escape(repository.rstrip("/"))}/issues/new?title={where}">Tell us</a>.</p>'
        )


def shorten(text, longest=200):
    text = " ".join(text.split())
    return text if len(text) <= longest else text[:longest].rsplit(" ", 1)[0] + " …"


def structured(app, pagename, title, description, head, base):
    """schema.org: the page as a scholarly article, its figures' numbers as data sets."""
    up = "../" * pagename.count("/")
    where = (lambda path: urljoin(base, path)) if base else (lambda path: up + path)
    authors = {"@type": "Organization", "name": app.config.author}
    record = {
        "@context": "https://schema.org",
        "@type": "ScholarlyArticle",
        "headline": title,
        "abstract": description,
        "author": authors,
        "inLanguage": "en",
        "license": LICENCE,
        "image": where(CARD),
        "isPartOf": {"@type": "Book", "name": app.config.html_title},
        "citation": PAPER,
    }
    if base:
        record["url"] = where(f"{pagename}.html")
    if head.get("minutes"):
        record["timeRequired"] = f"PT{head['minutes']}M"
    published = Path(app.srcdir) / "book" / "_extra" / "figures"
    sets = []
    for name, caption in head.get("figures", {}).items():
        files = [f for f in sorted((published / name).glob(f"{name}.*")) if f.suffix in TYPES]
        if files:
            sets.append(
                {
                    "@type": "Dataset",
                    "name": f"Plotted numbers of figure {name}",
                    "description": shorten(f"Numbers plotted in: {caption}", 400),
                    "creator": authors,
                    "license": LICENCE,
                    "distribution": [
                        {
                            "@type": "DataDownload",
                            "encodingFormat": TYPES[file.suffix],
                            "contentUrl": where(f"figures/{name}/{file.name}"),
                        }
                        for file in files
                    ],
                }
            )
    if sets:
        record["hasPart"] = sets
    return record


NOT_FOUND = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="robots" content="noindex">
<title>Not here: {project}</title>{base}
<link rel="icon" href="_static/favicon.svg">
<style>
:root {{ color-scheme: light dark; }}
body {{ max-width: 34rem; margin: 12vh auto; padding: 0 1.2rem; font: 1.1rem/1.6 system-ui, sans-serif; }}
img {{ width: 9rem; }}
a {{ color: light-dark(#0069a6, #6cbdf0); }}
</style>
<script>document.documentElement.style.colorScheme = {{ light: "light", dark: "dark" }}[localStorage.mode] || "";</script>
</head>
<body>
<main>
<img src="_static/logo.svg" alt="">
<h1>Nothing is stored under this address</h1>
<p>A query without a matching key. The page may have moved, or the link has a slip.</p>
<ul>
<li><a href="book/index.html">Start of the book</a></li>
<li><a href="search.html">Search it</a></li>
<li><a href="book/claims.html">What has been checked</a></li>
</ul>
</main>
</body>
</html>
"""


def write_files(app, error):
    """404.html, and sitemap.xml where the public address is known."""
    if error or app.builder.name != "html":
        return
    base, out = app.config.html_baseurl, Path(app.outdir)
    # a server shows this page at whatever address was asked for: only a base makes its links hold
    written = f'\n<base href="{html.escape(base)}">' if base else ""
    page = NOT_FOUND.format(project=html.escape(app.config.html_title), base=written)
    write_bytes(out / "404.html", page.encode())
    if base:
        pages = sorted(urljoin(base, f"{name}.html") for name in app.env.found_docs)
        urls = "\n".join(f"<url><loc>{html.escape(url)}</loc></url>" for url in pages)
        namespace = "http://www.sitemaps.org/schemas/sitemap/0.9"
        text = f'<?xml version="1.0" encoding="UTF-8"?>\n<urlset xmlns="{namespace}">\n{urls}\n</urlset>\n'
        write_bytes(out / "sitemap.xml", text.encode())
    else:
        (out / "sitemap.xml").unlink(missing_ok=True)


def setup(app):
    # after chapter.py, which knows the heads of pages
    app.connect("html-page-context", describe_page, priority=600)
    app.connect("build-finished", write_files)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
