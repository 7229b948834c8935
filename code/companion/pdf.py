"""The whole book as one PDF: Sphinx's single page, printed by Chromium, which keeps figures as vectors and links.

A title page comes first, then the contents; each chapter's title stands above its pages.
"""

from __future__ import annotations

import re
import shutil
from pathlib import Path

from . import build
from .files import write_bytes
from .passport import commit
from .paths import ROOT


def pdf(folder: Path, target: Path) -> Path:
    """Print the staged book to a file; returns its path.

    Raises BuildError where Chromium is missing, with Sphinx's warnings, or where a page's
    mathematics or pictures did not load.
    """
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    if chromium is None:
        raise build.BuildError("no Chromium on this machine, which prints the PDF")
    page = single_page(build.site(folder, "singlehtml"))
    write_bytes(target, _print(page, chromium, front()))
    return target


def front() -> dict:
    """What the title page says: the book's title, and lines below it."""
    import yaml

    meta = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    made = f", commit {found.rstrip('+')[:12]}" if (found := commit()) else ""
    paper = meta["references"][0]
    names = ", ".join(f"{a['given-names']} {a['family-names']}" for a in paper["authors"])
    return {
        "title": meta["title"],
        "lines": [
            ", ".join(author["name"] for author in meta["authors"]),
            f"Version {meta['version']} of {meta['date-released']}{made}",
            f"A companion to: {names}, {paper['title']}, {paper['journal']} {paper['volume']}, "
            f"{paper['year']}, doi:{paper['doi']}",
            "Text and figures under CC BY 4.0, code under the MIT licence.",
        ],
    }


def single_page(html: Path) -> Path:
    """The single page, moved to where its addresses of pictures and styles are right, its links within it."""
    text = (html / "book" / "index.html").read_text(encoding="utf-8")
    # every chapter numbers its citations from id1 on; the bibliography's entries get names of their own
    text = re.sub(r'(<div class="citation" id=")(id\d+")', r"\1reference-\2", text)
    text = re.sub(r'href="book/index\.html#(id\d+")', r'href="#reference-\1', text)
    text = text.replace('href="book/index.html#', 'href="#')
    # the gallery leads to the pages of figures, which a book in one page has within it
    text = re.sub(
        r'<a href="\.\./figures/([\w-]+)/index\.html"><img [^>]*>', r'<a href="#\1">', text
    )
    # and so do the pictures of cards, which are small ones of figures that the book shows
    text = re.sub(r'<a class="finding-picture" .*?</a>', "", text)
    page = html / "all.html"
    page.write_text(text, encoding="utf-8")
    return page


PAPER = """
pre { white-space: pre-wrap !important; overflow-wrap: anywhere; }
details.hide, .headerlink, .copybtn { display: none !important; }
h1, h2, h3, h4 { break-after: avoid; }
img { max-height: 215mm; }
span[id^="document-"] + section { break-before: page; }
.sd-card, .gallery > a, tr { break-inside: avoid; }
@page { margin: 18mm 20mm 20mm; @bottom-center { content: counter(page); font: 8pt sans-serif; color: #525c68; } }
@page title { @bottom-center { content: none; } }
.title-page { page: title; break-after: page; padding-top: 70mm; }
.title-page p { font-size: 1.1rem; }
#jb-print-docs-body { break-after: page; }
"""

# The title page, and a page style for each document, which has its title as a running head.
FRONT = """({title, lines}) => {
  const make = (tag, text, of) => of.appendChild(Object.assign(document.createElement(tag), {textContent: text}));
  const front = Object.assign(document.createElement("div"), {className: "title-page"});
  make("h1", title, front);
  lines.forEach(line => make("p", line, front));
  const rules = [...document.querySelectorAll(".bd-article span[id^='document-'] + section")].map((part, k) => {
    const heading = part.querySelector(":is(h1, h2, h3)").cloneNode(true);
    heading.querySelectorAll(".headerlink").forEach(link => link.remove());
    const name = heading.textContent.trim();
    part.style.page = `part${k}`;
    return `@page part${k} { @top-center { content: ${JSON.stringify(name)}; font: 8pt sans-serif; color: #525c68; } }`;
  });
  document.body.prepend(front);
  document.querySelector("#jb-print-docs-body h1").remove();  // above the contents, which the theme makes
  make("style", rules.join(" "), document.head);
  return rules.length;
}"""

READY = """async () => {
  for (const image of document.images) image.loading = "eager";
  await MathJax.startup.promise;
  await Promise.all([...document.images].map(image => image.decode().catch(() => {})));
  return [...document.images].filter(image => !image.naturalWidth).map(image => image.src)
    .concat([...document.querySelectorAll("mjx-merror")].map(error => error.textContent));
}"""


def _print(page: Path, chromium: str, said: dict) -> bytes:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        try:
            context = browser.new_context(reduced_motion="reduce")
            context.add_init_script("localStorage.setItem('mode', 'light')")
            tab = context.new_page()
            tab.goto(page.resolve().as_uri(), timeout=120_000)
            if missing := tab.evaluate(READY):
                raise build.BuildError("not on the page: " + ", ".join(missing))
            tab.add_style_tag(content=PAPER)
            tab.evaluate("document.querySelectorAll('details').forEach(e => e.open = true)")
            tab.evaluate(FRONT, said)
            return tab.pdf(format="A4", scale=0.8, print_background=True, outline=True, tagged=True)
        finally:
            browser.close()
