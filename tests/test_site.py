"""The built site, as a reader meets it: every page, on a desk and on a phone, in both themes, on paper, offline."""

import gzip
import importlib.util
import re
from pathlib import Path
from urllib.parse import unquote, urljoin, urlsplit

import axe_playwright_python
import pytest
import yaml

from companion.chapters import chapters
from companion.claims import recorded
from companion.paths import DATA

ROOT = Path(__file__).resolve().parent.parent
DESK, PHONE = {"width": 1440, "height": 900}, {"width": 390, "height": 844}
PAPER = {"width": 794, "height": 1123}  # A4 at 96 pixels an inch
SIZES = DESK, PHONE  # every other page is opened on the phone, and then resized to the desk


def toc_pages(node):
    """Documents of the table of contents, in reading order."""
    if isinstance(node, list):
        return [page for item in node for page in toc_pages(item)]
    own = [node[key] for key in ("root", "file") if key in node]
    return own + [
        page for key in ("parts", "chapters", "sections") for page in toc_pages(node.get(key, []))
    ]


PAGES = toc_pages(yaml.safe_load((ROOT / "_toc.yml").read_text(encoding="utf-8")))
FIGURES = {name: chapter for chapter in chapters() for name in chapter.figures()}
# in the browser a few: one with mathematics, one with a colour map, one with many parameters
FIGURE_PAGES = [
    f"figures/{name}/index" for name in ("normaliser-language", "head-atlas", "terminal-burst")
]


# --- what the tests look at -----------------------------------------------------------------------


@pytest.fixture(scope="session")
def context(browser):
    """One browsing context, in the light theme; its cache is shared by the pages."""
    made = browser.new_context()
    made.add_init_script(
        "localStorage.setItem('mode', 'light'); localStorage.setItem('theme', 'light')"
    )
    return made


# --- pages in a browser ---------------------------------------------------------------------------

# everything is laid out, also what a phone would leave until it comes near: nothing hides from the measures
SETTLE = """async () => {
  document.head.append(Object.assign(document.createElement("style"), {textContent: "* { content-visibility: visible !important; transition: none !important }"}));
  if (window.MathJax?.startup) await MathJax.startup.promise;
  for (const image of document.images) image.loading = "eager";
  await Promise.all([...document.images].map(image => image.complete || new Promise(done => image.onload = image.onerror = done)));
  await document.fonts.ready;
}"""

NAME = """const name = e => [e.tagName.toLowerCase(), ...e.classList].join(".") + " " + JSON.stringify(e.textContent.trim().slice(0, 40));"""

# The theme lets the article scroll sideways as a whole: that counts as the page, unlike a box within the article.
TOO_WIDE = f"""() => {{
  {NAME}
  const page = [...document.querySelectorAll("html, body, main, .bd-content, .bd-article-container, .bd-article")];
  // notes in the margin stand beside the article, and within the window
  const room = document.querySelector(".bd-content").getBoundingClientRect().right;
  const notes = [...document.querySelectorAll("aside.margin")].filter(e => e.getBoundingClientRect().right <= room);
  notes.forEach(e => e.style.display = "none");
  const wide = page.filter(e => e.scrollWidth > e.clientWidth + 1).map(name);
  notes.forEach(e => e.style.display = "");
  if (!wide.length) return wide;
  const scrolls = e => page.includes(e) || getComputedStyle(e).overflowX !== "visible";
  const edge = document.querySelector(".bd-article-container").getBoundingClientRect().right + 1;
  const cause = [...document.querySelectorAll(".bd-article *")].find(e => {{
    let box = e.parentElement;
    while (!scrolls(box)) box = box.parentElement;
    return page.includes(box) && e.getBoundingClientRect().right > edge;
  }});
  return cause ? [...wide, "because of " + name(cause)] : wide;
}}"""

INSPECT = f"""() => {{
  {NAME}
  const images = [...document.images], decorative = i => i.alt === "" && i.matches(".logo__image");
  return {{
    theme: document.documentElement.dataset.theme,
    broken: images.filter(i => !i.naturalWidth).map(i => i.src),
    mute: images.filter(i => !i.alt.trim() && !decorative(i)).map(i => i.src),
    untypeset: [...document.querySelectorAll(".math")].filter(m => !m.querySelector("mjx-container")).map(name),
    errors: [...document.querySelectorAll("mjx-merror")].map(name),
  }};
}}"""

BENT = """() => [...document.querySelectorAll(".bd-article img")].filter(i => i.clientWidth && i.clientHeight
  && Math.abs(i.clientWidth / i.clientHeight / (i.naturalWidth / i.naturalHeight) - 1) > 0.03
  && getComputedStyle(i).objectFit === "fill" && !getComputedStyle(i).padding.match(/[1-9]/)).map(i => i.src)"""

# Text of one element on its ground, ancestors blended; canvas turns any CSS colour into bytes.
CONTRAST = """selector => {
  const pen = Object.assign(document.createElement("canvas"), {width: 1, height: 1}).getContext("2d", {willReadFrequently: true});
  const over = (ground, colour) => {
    pen.fillStyle = `rgb(${ground})`; pen.fillRect(0, 0, 1, 1);
    pen.fillStyle = colour; pen.fillRect(0, 0, 1, 1);
    return [...pen.getImageData(0, 0, 1, 1).data].slice(0, 3);
  };
  const luminance = c => c.map(x => x / 255).map(x => x <= 0.04045 ? x / 12.92 : ((x + 0.055) / 1.055) ** 2.4)
    .reduce((sum, x, i) => sum + x * [0.2126, 0.7152, 0.0722][i], 0);
  const faint = [];
  const kinds = new Set();  // a colour of code is its class's: one element stands for all
  for (const e of document.querySelectorAll(selector)) {
    const code = e.closest(".highlight");
    if (code && kinds.has(e.className)) continue;
    if (code) kinds.add(e.className);
    const lineage = [];
    for (let a = e; a; a = a.parentElement) lineage.unshift(a);
    const ground = lineage.reduce((c, a) => over(c, getComputedStyle(a).backgroundColor), [255, 255, 255]);
    const [a, b] = [luminance(over(ground, getComputedStyle(e).color)), luminance(ground)];
    const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    if (ratio < 4.5) faint.push(`${e.tagName}.${e.className} ${ratio.toFixed(2)} ${e.textContent.trim().slice(0, 30)}`);
  }
  return faint;
}"""

TEXT = ", ".join(f".bd-article {part}" for part in (
    "p", "li", "td", "th", "a:not(.headerlink)", "figcaption *:not(.headerlink)", ".admonition-title", ".claim", ".claim *", ".figure-links", ".figure-links *",
    ".highlight span", "summary", "button", "label", "output", "code",
))  # fmt: skip


# What axe calls serious or critical. Colours take half of its time: it looks at those of a few pages, since
# they come from style sheets for all, and CONTRAST measures them on every page in both themes. Typeset
# mathematics and code have no rules to break, and thousands of elements.
AXE = (Path(axe_playwright_python.__file__).parent / "axe.min.js").read_text(encoding="utf-8")
VIOLATIONS = """async colours => {
  const options = {resultTypes: ["violations"], preload: false,
    rules: Object.fromEntries(["color-contrast", "link-in-text-block"].map(rule => [rule, {enabled: colours}]))};
  const found = await axe.run({exclude: ["mjx-container", ".highlight pre"]}, options);
  return found.violations.filter(v => ["serious", "critical"].includes(v.impact))
    .flatMap(v => v.nodes.map(n => `${v.id}: ${n.html.slice(0, 150)}`));
}"""

COLOURED = {"book/index", "book/story", "book/04-language", "book/claims"}

# Boxes whose content paper would cut off.
CUT = f"""() => {{
  {NAME}
  return [...document.querySelectorAll(".bd-article *")].filter(e => e.clientWidth > 0
    && !e.closest(".math, svg, .headerlink, .sr-only, .visually-hidden")
    && getComputedStyle(e).overflowX !== "visible" && e.scrollWidth > e.clientWidth + 1).map(name);
}}"""


@pytest.mark.parametrize("page", PAGES + FIGURE_PAGES)
def test_page(site, context, origin, page):
    assert (site / f"{page}.html").is_file(), f"{page} is in _toc.yml but was not built"
    first, second = SIZES if (PAGES + FIGURE_PAGES).index(page) % 2 else SIZES[::-1]
    tab = context.new_page()
    complaints = []
    tab.on(
        "console",
        lambda m: (
            complaints.append(f"console {m.type}: {m.text}")
            if m.type in ("error", "warning")
            else None
        ),
    )
    tab.on("pageerror", lambda e: complaints.append(f"page error: {e}"))
    tab.on("requestfailed", lambda r: complaints.append(f"failed: {r.url[:200]} ({r.failure})"))
    tab.on(
        "response", lambda r: complaints.append(f"{r.status}: {r.url}") if r.status >= 400 else None
    )
    tab.on(
        "request",
        lambda r: (
            complaints.append(f"other host: {r.url[:200]}")
            if not r.url.startswith((origin + "/", "data:", "blob:"))
            else None
        ),
    )
    try:
        tab.set_viewport_size(first)
        tab.goto(f"{origin}/{page}.html", wait_until="load")
        tab.evaluate(SETTLE)
        seen = tab.evaluate(INSPECT)
        tab.evaluate(AXE)
        violations = tab.evaluate(VIOLATIONS, page in COLOURED)
        faint = {"light": tab.evaluate(CONTRAST, TEXT)}
        tab.evaluate("document.documentElement.dataset.theme = 'dark'")
        faint["dark"] = tab.evaluate(CONTRAST, TEXT)
        wide = {first["width"]: tab.evaluate(TOO_WIDE)}
        bent = tab.evaluate(BENT)
        tab.set_viewport_size(second)
        wide[second["width"]] = tab.evaluate(TOO_WIDE)
        tab.set_viewport_size(PAPER)
        tab.emulate_media(media="print")
        wide["paper"], cut = tab.evaluate(TOO_WIDE), tab.evaluate(CUT)
    finally:
        tab.close()
    assert not complaints, "\n".join(complaints)
    assert seen["theme"] == "light"
    for width, elements in wide.items():
        assert not elements, f"the page is wider than its {width}: " + "; ".join(elements)
    assert not bent, f"pictures out of shape: {bent}"
    assert not cut, "cut off on paper: " + "; ".join(cut)
    assert not violations, "\n".join(violations)
    assert not seen["broken"], f"images that did not load: {seen['broken']}"
    assert not seen["mute"], f"images without alternative text: {seen['mute']}"
    assert not seen["untypeset"], f"mathematics left as source: {seen['untypeset']}"
    assert not seen["errors"], f"mathematics that MathJax rejects: {seen['errors']}"
    for theme, elements in faint.items():
        assert not elements, f"{theme}: contrast below 4.5:1\n" + "\n".join(elements[:20])


WALK = """() => document.addEventListener("focusin", event => { event.target.dataset.walked = "yes"; })"""
WALKED = "() => document.querySelectorAll('[data-walked]').length"
AT_ONCE = 25  # presses of Tab between two looks; more than there are controls in a row begin anew
LEFT_OUT = f"""() => {{
  {NAME}
  const controls = ".bd-article :is(a[href], button, input, select, summary)";
  return [...document.querySelectorAll(controls)].filter(e => !e.dataset.walked && e.tabIndex >= 0 && !e.disabled
    && e.checkVisibility({{visibilityProperty: true}})).map(name);
}}"""


# a box for a sentence, interactive figures, a film: what makes each is one function
CONTROLLED = ["book/index", "book/04-language", "book/07-tripartite-synapse"]


@pytest.mark.parametrize("page", CONTROLLED)
def test_keyboard_reaches_every_control(context, origin, page):
    tab = context.new_page()
    try:
        tab.set_viewport_size(DESK)
        tab.goto(f"{origin}/{page}.html", wait_until="load")
        tab.evaluate(SETTLE)
        for explorer in tab.locator(".explorer").all():  # its controls come when it is near
            explorer.scroll_into_view_if_needed()
            explorer.locator("input, select").first.wait_for()
        tab.evaluate(WALK)
        walked = -1
        while (now := tab.evaluate(WALKED)) > walked:
            walked = now
            for _ in range(AT_ONCE):
                tab.keyboard.press("Tab")
        left_out = tab.evaluate(LEFT_OUT)
    finally:
        tab.close()
    assert not left_out, left_out


# --- the files themselves -------------------------------------------------------------------------


def test_every_column_of_a_table_has_a_head(site, documents):
    found = [
        f"{path.relative_to(site)}: {table.get_text(' ', strip=True)[:60]}"
        for path, soup in documents.items()
        for table in soup.select(".bd-article table:not(.genindextable, .indextable)")
        if not (heads := table.select("thead th")) or not all(h.get_text(strip=True) for h in heads)
    ]
    assert not found, "\n".join(found)


def leaves_host(reference):
    return bool(urlsplit(reference.strip()).netloc)


LOADED = [("script", "src"), ("link", "href"), ("img", "src"), ("img", "srcset"), ("source", "src"), ("source", "srcset"),
          ("iframe", "src"), ("video", "src"), ("audio", "src"), ("object", "data"), ("embed", "src"), ("image", "href"),
          ("use", "href")]  # fmt: skip
PASSIVE_LINKS = {"canonical", "author", "license", "next", "prev", "search", "index"}
CSS_REFERENCE = re.compile(r"""@import\s+["']([^"']+)|url\(\s*["']?([^"')]+)""")


def css_references(text):
    text = re.sub(r"/\*.*?\*/", "", text, flags=re.DOTALL)
    return [first or second for first, second in CSS_REFERENCE.findall(text)]


def test_nothing_loads_from_another_host(site, documents):
    found = []
    for path, soup in documents.items():
        for tag, attribute in LOADED:
            for element in soup.find_all(tag, attrs={attribute: True}):
                if tag == "link" and PASSIVE_LINKS & set(element.get("rel", [])):
                    continue
                found += [(path, url) for url in element[attribute].split(",") if leaves_host(url)]
        styles = [style.get_text() for style in soup.find_all("style")] + [
            e["style"] for e in soup.find_all(style=True)
        ]
        found += [
            (path, url) for style in styles for url in css_references(style) if leaves_host(url)
        ]
    for path in [*site.rglob("*.css"), *site.rglob("*.svg")]:
        text = path.read_text(encoding="utf-8")
        found += [(path, url) for url in css_references(text) if leaves_host(url)]
        if path.suffix == ".svg":
            found += [
                (path, url)
                for url in re.findall(r'(?:href|src)="([^"#]+)"', text)
                if leaves_host(url)
            ]
    # Scripts: what they load is seen in the browser; here, that no page script of ours names a host to load from.
    loading = re.compile(
        r"""(?:import\s*\(?|importScripts\(|fetch\(|\.src\s*=)\s*["'`]((?:https?:)?//[^"'`]+)"""
    )
    for path in site.rglob("*.js"):
        found += [
            (path, url)
            for url in loading.findall(path.read_text(encoding="utf-8", errors="replace"))
        ]
    assert not found, "\n".join(f"{path.relative_to(site)}: {url}" for path, url in found)


def test_links_and_anchors_resolve(site, documents):
    anchors = {
        path: {e["id"] for e in soup.find_all(id=True)}
        | {e["name"] for e in soup.find_all("a", attrs={"name": True})}
        for path, soup in documents.items()
    }
    broken = []
    for path, soup in documents.items():
        base = "/" + path.relative_to(site).as_posix()
        for link in soup.find_all(href=True):
            if link["href"].startswith(("mailto:", "data:", "javascript:")) or leaves_host(
                link["href"]
            ):
                continue
            url = urlsplit(urljoin(base, link["href"]))
            target = site / unquote(url.path).lstrip("/")
            target = target / "index.html" if target.is_dir() else target
            fragment = unquote(url.fragment)
            if not target.is_file():
                broken.append(f"{base}: no file for {link['href']}")
            elif fragment and target in anchors and fragment not in anchors[target]:
                broken.append(f"{base}: no anchor for {link['href']}")
    assert not broken, "\n".join(broken)


def test_a_chapter_with_its_pictures_is_light(site, documents):
    """It comes within two seconds over a slow mobile line (1.6 Mbit/s), compressed as hosts send it."""
    weights = {}
    for page in (f"book/{chapter.slug}" for chapter in chapters()):
        path = site / f"{page}.html"
        pictures = {(path.parent / i["src"]).resolve() for i in documents[path].find_all("img")}
        data = [
            path.parent / urlsplit(e["data-from"]).path for e in documents[path].select(".explorer")
        ]
        weights[page] = sum(
            len(gzip.compress(file.read_bytes())) for file in (path, *pictures, *data)
        )
    heavy = {
        page: f"{weight / 1000:.0f} kB" for page, weight in weights.items() if weight > 400_000
    }
    assert not heavy, heavy


def test_every_picture_keeps_its_room(site, documents):
    for page in PAGES:
        for picture in documents[site / f"{page}.html"].find_all("img"):
            assert picture.get("width") and picture.get("height"), f"{page}: {picture['src']}"


def test_icons_are_drawn_in_the_pages(documents):
    for path, soup in documents.items():
        assert not soup.select("i[class*=fa-]"), path
        icons = soup.select("svg.svg-inline--fa")
        assert all(icon["aria-hidden"] == "true" and icon.path["d"] for icon in icons), path
    assert len(icons) >= 4


def test_pages_are_the_table_of_contents(site, documents):
    generated = {"404", "index", "genindex", "search", "py-modindex"}
    built = {path.relative_to(site).with_suffix("").as_posix() for path in documents}
    of_figures = {f"figures/{name}/index" for name in FIGURES}
    assert built - generated == set(PAGES) | of_figures


def test_every_figure_has_a_page_with_all_that_makes_it_again(site, documents):
    for name, chapter in FIGURES.items():
        page = site / "figures" / name / "index.html"
        article = documents[page].find(class_="figure-page")
        text = article.get_text()
        (data,) = (DATA / "reference").glob(f"{name}.*")
        assert (page.parent / data.name).read_bytes() == data.read_bytes()
        picture = article.find("img")
        assert picture["alt"] == chapter.figures()[name]["alt"]
        assert "<svg" in (page.parent / picture["src"]).read_text(encoding="utf-8")
        assert f"tripartite figure {name} -o {name}.pdf" in text
        assert all(f"{p} = " in text for p in chapter.parameters())
        assert f"book/{chapter.slug}.html#{name}" in text and "10.1073/pnas" in text
        downloads = {link["href"] for link in article.select(".figure-links a")}
        assert downloads == {data.name, f"{name}.svg"}


def test_ledgers_list_every_figure_and_every_claim(site, documents):
    gallery = documents[site / "book" / "figures.html"]
    linked = [urlsplit(a["href"]).path.split("/")[-2] for a in gallery.select(".gallery > a")]
    assert sorted(linked) == sorted(FIGURES)
    ledger = documents[site / "book" / "claims.html"]
    checks = {a["href"] for a in ledger.select(".ledger-notes a")}
    claims = [
        f"{c.slug}.html#cell-{cell}"
        for c in chapters()
        for claim in recorded(c.cells()).values()
        for cell in [claim["cell"]]
    ]
    assert len(claims) > 60 and checks.issuperset(claims)


def test_verdicts_are_those_of_the_page_of_claims(site, documents):
    page = {
        row.td.get_text(): row
        for row in documents[site / "book" / "claims.html"].select("table")[0].select("tbody tr")
    }
    verdicts = [
        box
        for box in documents[site / "book" / "17-predictions.html"].select(".ledger")
        if box.select(".verdict")
    ]
    assert len(verdicts) == len(page) == 9
    for (name, row), box in zip(page.items(), verdicts, strict=True):
        stands, words = row.select("td")[-1].get_text(), box.get_text()
        assert stands.startswith("shown") and stands.endswith(
            words.split("Refuted by")[0].split(": ", 1)[1].strip(". ")[-30:]
        )
        kinds = [
            c["kind"]
            for chapter in chapters()
            for c in recorded(chapter.cells()).values()
            if c["paper_claim"] == name
        ]
        # identity, identities
        assert all(f"{kinds.count(kind)} {kind[:6]}" in words for kind in kinds)
        assert kinds and "Refuted by:" in words


def test_circuit_is_as_its_script_draws_it():
    script = ROOT / "book" / "_ext" / "draw_circuit.py"
    spec = importlib.util.spec_from_file_location(script.stem, script)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    for name, svg in module.draw().items():
        assert (ROOT / "book" / "_static" / name).read_text(encoding="utf-8") == svg, (
            f"{name}: run {script.name}"
        )
