"""The whole book as one PDF: Sphinx's single page, printed by Chromium, which keeps figures as vectors and links."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

from . import build
from .files import write_bytes

FOOTER = (
    '<div style="font: 8px sans-serif; width: 100%; text-align: center; color: #525c68">'
    '<span class="pageNumber"></span></div>'
)


def pdf(folder: Path, target: Path) -> Path:
    """Print the staged book to a file; returns its path.

    Raises BuildError where Chromium is missing, with Sphinx's warnings, or where a page's
    mathematics or pictures did not load.
    """
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    if chromium is None:
        raise build.BuildError("no Chromium on this machine, which prints the PDF")
    page = single_page(build.site(folder, "singlehtml"))
    write_bytes(target, _print(page, chromium))
    return target


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
"""

READY = """async () => {
  for (const image of document.images) image.loading = "eager";
  await MathJax.startup.promise;
  await Promise.all([...document.images].map(image => image.decode().catch(() => {})));
  return [...document.images].filter(image => !image.naturalWidth).map(image => image.src)
    .concat([...document.querySelectorAll("mjx-merror")].map(error => error.textContent));
}"""


def _print(page: Path, chromium: str) -> bytes:
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
            return tab.pdf(
                format="A4",
                scale=0.8,
                margin={"top": "18mm", "bottom": "20mm", "left": "20mm", "right": "20mm"},
                display_header_footer=True,
                header_template="<span></span>",
                footer_template=FOOTER,
                print_background=True,
                outline=True,
                tagged=True,
            )
        finally:
            browser.close()
