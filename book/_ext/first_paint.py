"""A quick first paint: what stands between a reader on a phone and the first words.

The themes load some fifteen style sheets and twenty scripts before a page shows. Here, once the pages
are written, the sheets become one, without what no page needs; scripts wait until the page is read;
the index of the search is left to the search page; icons and mathematics are drawn in the page instead
of by scripts; data of explorers are loaded when their figure comes near; and no script lays out what is
folded or far below (`content-visibility` in page.css) by asking for its width.

What is here was measured on a phone (1.6 Mbit/s, a processor four times slower), chapter 6: without
`prune`, the first words come at 1.5 s and not at 1.0 s; without `patient`, one task of the theme's script
holds the page for 1.1 s and not for 0.1 s. Rounding the pictures' coordinates saved less than 0.15 s
in a whole chapter, and is gone.
"""

import hashlib
import re
from functools import partial
from importlib.util import find_spec
from os.path import relpath
from pathlib import Path
from urllib.parse import quote, urlsplit

import glyphs
import prune
import typeset
from sphinx.util import logging

from companion.files import write_bytes

SHEET = re.compile(r'\s*<link(?= )(?=[^>]* rel="stylesheet")[^>]* href="(?P<address>[^"]*)"[^>]*>')
BUNDLE = "_static/site.css"
MATHJAX = "_static/mathjax"
OF = re.compile(r' data-of="([^"]*)"')
PRELOAD = re.compile(r'\s*<link rel="preload" as="script"[^>]*>')
SCRIPT = re.compile(r"<script(?![^>]*\bdefer\b)(?=[^>]* src=)")
OPTIONS = re.compile(r'<script src="[^"]*documentation_options\.js[^"]*"></script>')
SEARCH = re.compile(
    r'\s*<script [^>]*src="[^"]*(?:searchtools|language_data|searchindex)\.js"></script>'
)
THEME = 'dataset.theme = localStorage.getItem("theme") || "auto";'
KNOWN_THEME = THEME.replace(
    '"auto"', '(matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light")'
)
CODE = ' document.documentElement.dataset.code = localStorage.getItem("code") || "main";'  # bars.py

# notices of licences, /*! ... */, stay
COMMENT = re.compile(r'("(?:[^"\\]|\\.)*"|\'(?:[^\'\\]|\\.)*\'|/\*!.*?\*/)|/\*.*?\*/', re.DOTALL)
IMPORT = re.compile(r'@import\s+(?:url\()?["\']?([^"\')]+)["\']?\)?\s*;')
ADDRESS = re.compile(r'url\(\s*["\']?(?!data:|#)([^"\')]+)["\']?\s*\)')

ICON_DATA = "scripts/fontawesome.js"
THEME_STATIC = "theme/pydata_sphinx_theme/static"
THEME_SCRIPT = "scripts/pydata-sphinx-theme.js"
WEBFONTS = "vendor/fontawesome/webfonts"
# The theme lets the keyboard reach blocks that scroll. It measures all of them at once, which lays out what is
# folded or far below; here each is measured when it is laid out, wherever it stands.
MEASURE = "e.tabIndex=e.scrollWidth>e.clientWidth||e.scrollHeight>e.clientHeight?0:-1"
MEASURE_LATER = "companionShown.unobserve(e),companionShown.observe(e)"
WHEN_SHOWN = (
    "const companionShown=new IntersectionObserver(seen=>seen.filter(s=>s.isIntersecting)"
    f'.map(s=>s.target).forEach(e=>{{{MEASURE}}}),{{rootMargin:"999999px"}});\n'
)
ICON_SCRIPT = re.compile(
    r"\s*(?:<!-- So that users can add custom icons -->)?\s*<script [^>]*fontawesome\.js[^>]*></script>"
)
DRAWN = re.compile(
    r'"?(?P<name>[a-z0-9-]+)"?:\[(?P<width>\d+),(?P<height>\d+),\[[^\]]*\],"[0-9a-f]+","(?P<path>[^"]*)"\]'
)
ICON = re.compile(
    r'<(?P<tag>i|span)(?P<before>[^>]*) class="(?P<classes>[^"]*\bfa[srb]?\b[^"]*)"(?P<after>[^>]*)></(?P=tag)>'
)
NAME = re.compile(r"\bfa-(?!solid|regular|brands|lg\b)([a-z0-9-]+)")
EXPLORER = re.compile(
    r'(?P<before><figure class="explorer" id="(?P<name>[\w-]+)">(?:(?!</figure>).)*?)'
    r'<script type="application/json">(?P<data>[^<]*)</script>',
    re.DOTALL,
)
PICTURE = re.compile(r"<img (?![^>]*\b(?:loading=|logo__image))")
ICON_IN_SHEET = re.compile(r"var\(--icon-([a-z0-9-]+)\)")

logger = logging.getLogger(__name__)


# --- style sheets -----------------------------------------------------------------------------------


def sheet(path: Path, base: Path) -> str:
    """A style sheet and what it imports, without comments, its addresses as seen from base."""
    text = COMMENT.sub(lambda m: m[1] or "", path.read_text(encoding="utf-8"))
    text = re.sub(r"\s+", " ", text.replace('@charset "UTF-8";', ""))
    text = ADDRESS.sub(lambda m: f'url("{relpath(path.parent / m[1], base)}")', text)
    return IMPORT.sub(lambda m: sheet(path.parent / m[1], base), text)


def bundle(site: Path, names: list[str], icons: dict[str, str]) -> str:
    """One sheet of many, with the pictures of the icons that they name."""
    text = "\n".join(sheet(site / name, (site / BUNDLE).parent) for name in names)
    pictures = "".join(
        f'--icon-{name}:url("data:image/svg+xml,{quote(icons[name], safe=" =:/")}");'
        for name in sorted(set(ICON_IN_SHEET.findall(text)))
    )
    return f":root{{{pictures}}}\n{text}\n"


def sheets(text: str, folder: Path, site: Path) -> list[str]:
    """The sheets of a page, as paths within the site; of those that it had, where they are one already."""
    names = []
    for link in SHEET.finditer(text):
        of = OF.search(link[0])
        name = relpath(folder / urlsplit(link["address"]).path, site)
        names += of[1].split() if of else [name]
    return names


def merged(lists: list[list[str]]) -> list[str]:
    """Every name once, in an order that every list agrees with."""
    rest, found = [list(names) for names in lists], []
    while rest := [names for names in rest if names]:
        behind = {name for names in rest for name in names[1:]}
        first = next(names[0] for names in rest if names[0] not in behind)
        found.append(first)
        rest = [names[1:] if names[0] == first else names for names in rest]
    return found


# --- icons ------------------------------------------------------------------------------------------


def drawings(script: Path) -> dict[str, str]:
    """Icons of Font Awesome by name, as SVG; the solid ones, which come last."""
    return {
        m[
            "name"
        ]: f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {m["width"]} {m["height"]}">'
        f'<path fill="currentColor" d="{m["path"]}"/></svg>'
        for m in DRAWN.finditer(script.read_text(encoding="utf-8"))
    }


def draw(icons: dict[str, str], match: re.Match) -> str:
    name = NAME.search(match["classes"])[1]
    rest = re.sub(r'\s*(?:title|aria-hidden)="[^"]*"', "", match["before"] + match["after"])
    classes = " ".join(["svg-inline--fa", *match["classes"].split()])
    head = f'<svg class="{classes}" aria-hidden="true"{rest}'
    return icons[name].replace('<svg xmlns="http://www.w3.org/2000/svg"', head)


# --- the theme's script -----------------------------------------------------------------------------


def patient(script: str) -> str:
    """The theme's script, measuring each block once it is laid out."""
    if script.count(MEASURE) != 1:
        logger.warning(
            "%s no longer measures blocks as it did: look at first_paint.py", THEME_SCRIPT
        )
        return script
    return WHEN_SHOWN + script.replace(MEASURE, MEASURE_LATER)


# --- explorers --------------------------------------------------------------------------------------


def move_data(site: Path, folder: Path, match: re.Match) -> str:
    """Put the data of an explorer into a script of its own, which `explorer.js` loads; returns its figure."""
    path = site / "_static" / "explorers" / f"{match['name']}.js"
    code = f'document.getElementById("{match["name"]}").explorer = {match["data"]};\n'
    write_bytes(path, code.encode())
    digest = hashlib.sha256(code.encode()).hexdigest()[:8]
    address = f"{relpath(path, folder)}?v={digest}"
    return match["before"].replace("<figure ", f'<figure data-from="{address}" ', 1)


# --- pages ------------------------------------------------------------------------------------------


def hasten(text: str, icons: dict[str, str], options: str, searching: bool) -> str:
    """A page that shows before its scripts have run."""
    text = text.replace('data-theme="auto"', 'data-theme="light"').replace(
        THEME, KNOWN_THEME + CODE
    )
    text = OPTIONS.sub(lambda _: f"<script>{options}</script>", text)
    for unneeded in [ICON_SCRIPT, PRELOAD] + ([] if searching else [SEARCH]):
        text = unneeded.sub("", text)
    text = SCRIPT.sub("<script defer", text)
    text = PICTURE.sub('<img loading="lazy" ', text)
    text = text.replace(
        ' aria-label="Toggle hidden content"', ""
    )  # its words say what a fold holds
    return ICON.sub(partial(draw, icons), text)


def linked(text: str, link: str) -> str:
    """A page with one link to a sheet in the place of all."""
    first = next(SHEET.finditer(text)).start()
    return text[:first] + "\n  " + link + SHEET.sub("", text[first:])


def finish(app, error):
    if error or app.builder.format != "html":
        return
    site = Path(app.outdir)
    static = site / "_static"
    written = (p for p in site.rglob("*.html") if static not in p.parents)
    pages = {p: text for p in written if SHEET.search(text := p.read_text(encoding="utf-8"))}
    # what the addresses in a page start from; the single page of a PDF is moved to the top
    folders = {page: site if app.builder.name == "singlehtml" else page.parent for page in pages}
    theme = Path(find_spec("pydata_sphinx_theme").origin).parent / THEME_STATIC
    icons = drawings(theme / ICON_DATA)
    (static / ICON_DATA).unlink(missing_ok=True)  # 1.5 MB
    script = (theme / THEME_SCRIPT).read_text(encoding="utf-8")
    write_bytes(static / THEME_SCRIPT, patient(script).encode())
    options = (static / "documentation_options.js").read_text(encoding="utf-8")
    wanted = set().union(*map(typeset.formulas, pages.values()))
    markup, of_formulas = typeset.typeset(wanted, site / MATHJAX)
    for page, text in pages.items():
        text = hasten(text, icons, options, page.name == "search.html")
        text = typeset.replace(text, markup)
        pages[page] = EXPLORER.sub(partial(move_data, site, folders[page]), text)
    scripts = [
        path.read_text(encoding="utf-8")
        for path in static.rglob("*.js")
        if path.parent.name != "explorers" and site / MATHJAX not in path.parents
    ]
    of_pages = {page: sheets(text, folders[page], site) for page, text in pages.items()}
    css = bundle(site, merged(list(of_pages.values())), icons)
    css = prune.prune(css, prune.names(pages.values(), scripts))
    css = glyphs.fewer(css, static, theme / WEBFONTS) + "\n" + of_formulas
    write_bytes(site / BUNDLE, css.encode())
    digest = hashlib.sha256(css.encode()).hexdigest()[:8]
    for page, text in pages.items():
        address = f"{relpath(site / BUNDLE, folders[page])}?v={digest}"
        of = " ".join(of_pages[page])
        link = f'<link rel="stylesheet" href="{address}" data-of="{of}">'
        write_bytes(page, linked(text, link).encode())


def setup(app):
    app.connect("build-finished", finish, priority=900)  # when every page is written
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
