"""What search engines, link previews and lost readers need: descriptions, cards, structured data, a map, a 404.

Two settings of `_config.yml` say where the book is public; where the first is empty, the environment's
TRIPARTITE_ADDRESS does, which the publishing workflow sets. While they are empty, nothing here needs them:
no map of the site, no picture for link previews (it must have a whole address), no feedback link, relative
addresses in the structured data.
"""

import html
import json
import os
import re
from importlib.metadata import version
from pathlib import Path
from urllib.parse import quote, urljoin

from companion.files import write_bytes
from companion.passport import commit

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
FEEDBACK = """\


What did you expect, and what did you see?

Page: {page}
Version: {version}, commit {commit}
Browser: <!-- name and version; a phone or a computer -->
"""
NOT_IN_MAP = {"genindex", "search", "py-modindex"}


def describe_page(app, pagename, templatename, context, doctree):
    """The page's head, and its feedback link."""
    if app.builder.name != "html" or "body" not in context or pagename in NOT_IN_MAP:
        return
    base = app.config.html_baseurl
    head = getattr(app.env, "companion_heads", {}).get(pagename, {})
    description = shorten(head.get("promise") or app.config.html_title)
    title = re.sub("<[^>]+>", "", context.get("title", "")) or app.config.html_title
    address = urljoin(base, f"{pagename}.html") if base else ""
    lines = tags(app.config, title, description, "article", address)
    record = structured(app, pagename, title, description, head, base)
    # "<" would end the script where a caption holds a tag
    text = json.dumps(record, ensure_ascii=False).replace("<", "\\u003c")
    lines.append(f'<script type="application/ld+json">{text}</script>')
    context["metatags"] = context.get("metatags", "") + "\n".join(lines)
    if repository := app.config.companion_repository:
        where = quote(f"On the page “{title}”: ")
        about = quote(
            FEEDBACK.format(
                page=pagename, version=version("tripartite"), commit=commit() or "unknown"
            )
        )
        context["body"] += (
            '<p class="feedback">Something wrong, unclear or missing on this page? '
            f'<a href="{html.escape(repository.rstrip("/"))}/issues/new?title={where}&amp;body={about}">'
            "Tell us</a>.</p>"
        )


def tags(config, title, description, kind, address):
    """What link previews read; a picture only where the public address, and so the picture's, is known."""
    known = {
        "og:title": title,
        "og:description": description,
        "og:type": kind,
        "og:site_name": config.html_title,
        "twitter:card": "summary",
    }
    if config.html_baseurl:
        known |= {
            "og:url": address,
            "og:image": urljoin(config.html_baseurl, CARD),
            "og:image:width": "1200",
            "og:image:height": "630",
            "og:image:alt": CARD_ALT,
            "twitter:card": "summary_large_image",
        }
    return [f'<meta name="description" content="{html.escape(description)}" />'] + [
        f'<meta {"name" if key.startswith("twitter") else "property"}="{key}" content="{html.escape(value)}" />'
        for key, value in known.items()
    ]


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
{mend}</body>
</html>
"""
# Without a public address: the folder of the site is the nearest one above the address asked for that has its logo.
MEND = """<script>
(async () => {
  const folders = location.pathname.split("/").slice(0, -1);
  for (let n = folders.length; n > 0; n--) {
    const root = location.origin + folders.slice(0, n).join("/") + "/";
    const answer = await fetch(root + "_static/logo.svg", { method: "HEAD" }).catch(() => null);
    if (!answer || !answer.ok) continue;
    for (const a of document.links) a.href = root + a.getAttribute("href");
    document.querySelector("img").src = root + "_static/logo.svg";
    return;
  }
})();
</script>
"""


def with_tags(config, text):
    """The root, whose address is the one that people send, with what link previews read."""
    title = config.html_title
    says = "The circuit of neurons and an astrocyte, computed on language and vision models."
    lines = "\n".join(tags(config, title, says, "website", config.html_baseurl))
    return text if "og:title" in text else text.replace("</head>", f"{lines}\n</head>", 1)


def write_files(app, error):
    """404.html, and sitemap.xml where the public address is known."""
    if error or app.builder.name != "html":
        return
    base, out = app.config.html_baseurl, Path(app.outdir)
    # a server shows this page at whatever address was asked for: only a base makes its links hold
    written = f'\n<base href="{html.escape(base)}">' if base else ""
    page = NOT_FOUND.format(
        project=html.escape(app.config.html_title), base=written, mend="" if base else MEND
    )
    write_bytes(out / "404.html", page.encode())
    if base:
        pages = sorted(urljoin(base, f"{name}.html") for name in app.env.found_docs)
        urls = "\n".join(f"<url><loc>{html.escape(url)}</loc></url>" for url in pages)
        namespace = "http://www.sitemaps.org/schemas/sitemap/0.9"
        text = f'<?xml version="1.0" encoding="UTF-8"?>\n<urlset xmlns="{namespace}">\n{urls}\n</urlset>\n'
        write_bytes(out / "sitemap.xml", text.encode())
        root = out / "index.html"
        write_bytes(root, with_tags(app.config, root.read_text(encoding="utf-8")).encode())
    else:
        (out / "sitemap.xml").unlink(missing_ok=True)


def take_address(app, config):
    if not config.html_baseurl and (address := os.environ.get("TRIPARTITE_ADDRESS")):
        config.html_baseurl = address.rstrip("/") + "/"


def fill_in_repository(app, docname, source):
    """The command that clones names the repository, where it is known."""
    if docname == "book/start" and app.config.companion_repository:
        source[0] = source[0].replace("REPOSITORY", app.config.companion_repository)


def setup(app):
    app.connect("config-inited", take_address)
    app.connect("source-read", fill_in_repository)
    # after chapter.py, which knows the heads of pages
    app.connect("html-page-context", describe_page, priority=600)
    app.connect("build-finished", write_files)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
