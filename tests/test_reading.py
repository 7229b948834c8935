"""What helps a reader of the site: the living picture, chapter heads, previews, downloads, what the web needs."""

import csv
import importlib
import json
import os
import re
import shutil
import subprocess
import sys
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from posixpath import dirname, join, normpath
from types import SimpleNamespace
from urllib.parse import parse_qs, quote, unquote, urlsplit

import nbformat
import numpy as np
import pytest
import yaml
from bs4 import BeautifulSoup
from fontTools.pens.recordingPen import RecordingPen
from fontTools.ttLib import TTFont

from companion import pdf
from companion.chapters import chapters
from companion.paths import DATA, ROOT
from test_site import SETTLE
from tripartite import attention, features, network, pretrained


def extension(name):
    """A module of book/_ext, which finds its neighbours there."""
    folder = str(ROOT / "book" / "_ext")
    if folder not in sys.path:
        sys.path.append(folder)
    return importlib.import_module(name)


@pytest.fixture(scope="module")
def living():
    return extension("living")


@pytest.fixture(scope="module")
def pages(documents, site):
    return {path.relative_to(site).as_posix(): soup for path, soup in documents.items()}


@pytest.fixture(scope="module")
def chapter_pages(pages):
    return {c.slug: pages[f"book/{c.slug}.html"] for c in chapters()}


@pytest.fixture(scope="module")
def previews(site):
    text = (site / "_static/previews-data.js").read_text(encoding="utf-8")
    return json.loads(text.removeprefix("window.companionPreviews=").rstrip(";\n"))


# --- the living picture -----------------------------------------------------------------------------


def test_living_picture_shows_what_the_network_computes(living):
    seen = living.evolve()
    recording = pretrained.load_recording(DATA / "recordings/minilm-attention.safetensors")
    q, k, v = (x[living.LAYER, living.HEAD, living.SENTENCE] for x in recording[:3])
    phi = features.sample("positive", living.N_NEURONS, q.shape[1], living.SEED)
    kernel = phi(q).value @ phi(k).value.T  # no memory: every query against every key
    np.testing.assert_allclose(seen["p"], kernel.sum(axis=1), rtol=1e-9)
    weights = kernel / kernel.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(seen["output"], (weights @ v)[:, seen["outputs"]], atol=1e-9)
    memory = network.write(network.blank(phi, v), k, v)
    scale = np.exp(memory.log_scale[seen["neurons"]])
    written = memory.hebbian[np.ix_(seen["outputs"], seen["neurons"])] * scale
    np.testing.assert_allclose(seen["H"][-1], written, atol=1e-12)
    np.testing.assert_allclose(seen["g"][-1], memory.astrocytic[seen["neurons"]] * scale, rtol=1e-9)
    softmax = attention.softmax_attention(q, k, v)[:, seen["outputs"]]
    np.testing.assert_allclose(seen["exact"], softmax, atol=1e-12)


def test_living_picture_is_near_softmax_for_other_seeds(living, monkeypatch):
    # its caption says that p is within some per cent of Z: not by luck of one draw
    for seed in range(1, 6):
        monkeypatch.setattr(living, "SEED", seed)
        seen = living.evolve()
        assert abs(seen["p"] / seen["Z"] - 1).max() < 0.5, seed


def test_living_picture_says_how_easy_its_head_is(living):
    with (DATA / "results/atlas-attention-100000.csv").open() as file:
        rows = [{k: float(v) for k, v in row.items()} for row in csv.DictReader(file)]
    places = sorted({(row["layer"], row["head"]) for row in rows})

    def of(place, error):
        return np.mean([row[error] for row in rows if (row["layer"], row["head"]) == place])

    shown = of((living.LAYER, living.HEAD), "error"), of((living.LAYER, living.HEAD), "output")
    middle = [np.median([of(place, e) for place in places]) for e in ("error", "output")]
    note = re.search(r'<p class="living-easy">(.*?)</p>', living.figure())[1]
    assert re.findall(r"(\d+)%", note) == [f"{100 * x:.0f}" for x in (*shown, *middle)]
    assert shown[0] < 0.1 * middle[0]  # easy indeed


LIVING = """() => {
  const part = name => document.querySelector(`.living [data-part="${name}"]`);
  return {
    step: Number(document.querySelector("#living-step").value),
    sentence: document.querySelector(".living-now").textContent,
    p: Number(part("fill").getAttribute("height")),
    reading: part("reading").getAttribute("opacity"),
    moving: document.querySelector(".living").getAnimations({subtree: true}).length,
  };
}"""


def test_living_picture_obeys_the_keyboard_and_stands_still_when_asked(browser, origin, living):
    context = browser.new_context(reduced_motion="reduce")
    tab = context.new_page()
    tab.goto(f"{origin}/book/index.html")
    tab.wait_for_function("document.querySelector('.living.live')")
    tab.wait_for_timeout(1700)  # longer than a step
    still = tab.evaluate(LIVING)
    assert still["step"] == living.SHOWN and still["moving"] == 0
    tab.focus("#living-step")
    tab.keyboard.press("Home")
    empty = tab.evaluate(LIVING)
    assert empty["step"] == 0 and empty["p"] == 0 and empty["reading"] == "0"
    for _ in range(10):
        tab.keyboard.press("ArrowRight")
    first = tab.evaluate(LIVING)
    assert first["sentence"].startswith("Reading with “my”") and first["reading"] == "1"
    tab.keyboard.press("End")
    last = tab.evaluate(LIVING)
    p = [float(re.search(r"p = ([\d.]+)", s["sentence"])[1]) for s in (first, last)]
    assert first["p"] / last["p"] == pytest.approx(p[0] / p[1], rel=0.02)  # p has one decimal
    tab.focus('[data-do="play"]')
    tab.keyboard.press("Enter")
    tab.wait_for_timeout(100)
    assert tab.evaluate(LIVING)["step"] == 1
    assert tab.inner_text('[data-do="play"]') == "Pause"
    tab.keyboard.press("Enter")
    tab.wait_for_timeout(1700)
    assert tab.evaluate(LIVING)["step"] == 1
    context.close()


def test_living_picture_plays_by_itself_once(browser, origin):
    tab = browser.new_page()
    tab.goto(f"{origin}/book/index.html")
    tab.wait_for_function("Number(document.querySelector('#living-step').value) >= 2", timeout=8000)
    tab.close()


def test_without_scripts_the_picture_and_the_links_remain(browser, origin):
    context = browser.new_context(java_script_enabled=False)
    tab = context.new_page()
    tab.goto(f"{origin}/book/index.html")
    assert tab.locator(".living svg").is_visible()
    assert not tab.locator(".living-controls").is_visible()
    rule = tab.locator('.living [data-part="reading"]')
    assert rule.get_attribute("opacity") == "1"
    assert tab.locator('.living [data-part="writing"]').get_attribute("opacity") == "0"
    context.close()


# --- the head of a chapter, its figures, its downloads ----------------------------------------------


def test_every_chapter_says_time_needs_and_claims(chapter_pages):
    for slug, soup in chapter_pages.items():
        facts = soup.select_one("ul.facts")
        labels = [item.strong.get_text() for item in facts.find_all("li", recursive=False)]
        assert labels == ["Time", "Needs", "Carries", "Run", "Code"], slug
        assert re.search(r"\d+ minutes", facts.li.get_text()), slug
        assert facts.get_text().count("minutes") == 1, slug
        assert facts.select("a.claim-id"), slug


def test_every_checked_claim_leads_to_its_row(pages, chapter_pages):
    rows = {row["id"] for row in pages["book/claims.html"].find_all(id=re.compile("^claim-c"))}
    assert rows == {f"claim-c{n}" for n in range(1, 10)}
    for slug, soup in chapter_pages.items():
        for claim in soup.select(".claim"):
            assert claim.select_one("a.claim-id")["href"].split("#")[1] in rows, slug


def test_every_figure_leads_to_data_and_code(site, chapter_pages):
    for chapter in chapters():
        soup = chapter_pages[chapter.slug]
        for name in chapter.figures():
            links = {a.get_text(): a["href"] for a in soup.select(f"#{name} .figure-links a")}
            assert {"reproduce", "data", "cite", "code"} <= set(links), name
            assert (site / "book" / links["data"]).resolve().is_file(), name
            cell = soup.find(id=links["code"][1:])
            assert name in cell.select_one(".cell_input").get_text(), name


def test_previous_and_next_say_what_they_promise(chapter_pages):
    for slug, soup in chapter_pages.items():
        for link in soup.select(".prev-next-area a"):
            assert len(link.select_one(".prev-next-promise").get_text()) > 20, slug


def test_downloads_are_the_chapters(site):
    for chapter in chapters():
        target = site / "notebooks" / chapter.slug
        notebook = nbformat.read(target.with_suffix(".ipynb"), 4)
        nbformat.validate(notebook)
        assert [c.source for c in notebook.cells] == [c.source for c in chapter.read().cells]
        code = target.with_suffix(".py").read_text(encoding="utf-8")
        compile(code, chapter.slug, "exec")
        assert all(cell.source in code for cell in chapter.code_cells())


def test_a_downloaded_script_runs(site, tmp_path):
    script = site / "notebooks/03-neuron-astrocyte-network.py"
    settings = {"TRIPARTITE_FIGURES": str(tmp_path), "TRIPARTITE_QUIET": "1"}
    result = subprocess.run(
        [sys.executable, script],
        cwd=tmp_path,
        env=os.environ | settings,
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stderr
    (chapter,) = [c for c in chapters() if c.slug == script.stem]
    assert {p.name for p in tmp_path.iterdir()} == set(chapter.figures())


def test_launch_buttons_follow_the_repository():
    chapter = extension("chapter")
    assert chapter.launches("", "04-language") == {}
    links = chapter.launches("https://github.com/someone/book", "04-language")
    assert links["Binder"].endswith("gh/someone/book/HEAD?urlpath=lab%2Ftree%2Fbook%2F04-language.ipynb")  # fmt: skip
    assert links["Colab"].endswith("github/someone/book/blob/notebooks/04-language.ipynb")
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_markdown_cell("# Title")])
    assert chapter.standalone(notebook, "") == notebook
    first = chapter.standalone(notebook, "https://github.com/someone/book").cells[0].source
    compile(first, "install", "exec")
    assert '"https://github.com/someone/book"' in first


def test_install_cell_names_what_the_code_imports():
    """Every package that a chapter's imports reach, but for those that every notebook server has."""
    needed = re.findall(r'"([a-z-]+)[">]', extension("chapter").INSTALL.split("needed = ")[1])
    told = {"pillow": "PIL"} | {name: name.replace("-", "_") for name in needed if name != "pillow"}
    run = (
        "import sys; from companion import claim, data, explorer, film, progress, publish, use_style\n"
        "from companion.fetch import model_directory\n"
        "import companion.convert, companion.fetch, tripartite.pretrained, tripartite.dynamics, tripartite.circuit\n"
        "import companion.plotted, companion.passport\n"
        "print(*{m.split('.')[0] for m in sys.modules})"
    )
    loaded = subprocess.run([sys.executable, "-c", run], capture_output=True, text=True).stdout
    assert {"numpy", "scipy", "nbformat", "array_api_compat"} <= set(loaded.split())
    direct = set(re.findall(r"^\s*(?:from|import) (\w+)", "\n".join(
        p.read_text() for folder in ("tripartite", "companion") for p in (ROOT / "code" / folder).rglob("*.py")
    ), re.M))  # fmt: skip
    ours = {"tripartite", "companion", "papermill", "packaging", "IPython", "traitlets", "uv"}
    third = {n for n in direct & set(loaded.split()) if n not in sys.stdlib_module_names | ours}
    assert third <= set(told.values()), third - set(told.values())


# --- previews ---------------------------------------------------------------------------------------


def test_glossary_holds_both_fields_and_terms_lead_there(pages, chapter_pages):
    known = {dt["id"] for dt in pages["book/glossary.html"].select("dl.glossary dt")}
    assert len(known) >= 40
    used = set()
    for slug, soup in chapter_pages.items():
        linked = [a["href"].split("#")[1] for a in soup.select("a.term")]
        assert len(linked) == len(set(linked)), f"{slug}: a term is linked twice"
        assert len(linked) >= 3, slug
        used |= set(linked)
    assert used <= known and len(used) >= 30


def test_previews_know_every_target(pages, previews):
    """What a link within the book shows is on its page, or in the data, under the link's own address."""
    for path, soup in pages.items():
        for link in soup.select(".bd-article a.reference.internal[href*='#']"):
            page, anchor = link["href"].split("#")
            kind = link.get("class", [])
            if page and ("term" in kind or anchor.startswith("equation-")):
                target = normpath(join(dirname(path), page))
                assert f"{target}#{anchor}" in previews, (path, link["href"])
    marked = {m["data-symbol"] for soup in pages.values() for m in soup.select("[data-symbol]")}
    assert marked and all(f"symbol {name}" in previews for name in marked)


def test_previews_show_on_hover_and_on_focus(browser, origin):
    tab = browser.new_page()
    tab.goto(f"{origin}/book/03-neuron-astrocyte-network.html")
    tab.evaluate("MathJax.startup.promise")
    box = tab.locator(".preview")
    tab.locator('p [data-symbol="H"]').first.hover()
    box.wait_for(state="visible")
    assert "synapses from hidden to output layer" in box.inner_text()
    tab.keyboard.press("Escape")
    assert not box.is_visible()
    tab.mouse.move(0, 0)
    for selector, words in {
        ".bibtex-citation a": "doi:",
        "a.term": "",
        "ul.facts a[href*='kernel']": "40 minutes",
        'p [data-symbol="g"]': "from hidden neurons to astrocyte",
    }.items():
        link = tab.locator(selector).first
        link.focus()
        box.wait_for(state="visible")
        assert words in box.inner_text() and len(box.inner_text()) > 40, selector
        assert tab.locator("[aria-describedby=preview]").count() == 1, selector
        tab.keyboard.press("Escape")
    tab.close()


def test_a_first_tap_shows_and_a_second_follows(browser, origin):
    context = browser.new_context(has_touch=True, viewport={"width": 390, "height": 844})
    tab = context.new_page()
    tab.goto(f"{origin}/book/03-neuron-astrocyte-network.html")
    citation = tab.locator(".bibtex-citation a").first
    citation.tap()
    tab.locator(".preview").wait_for(state="visible")
    assert "03-neuron" in tab.url
    citation.tap()
    tab.wait_for_url("**/references.html#*")
    context.close()


def test_a_link_to_code_opens_it(browser, origin):
    tab = browser.new_page()
    tab.goto(f"{origin}/book/04-language.html#code-normaliser-language")
    assert tab.locator("#code-normaliser-language details").first.get_attribute("open") is not None
    tab.close()


# --- figures on a phone -----------------------------------------------------------------------------

# what is drawn of each figure: its file, and how wide the whole of it would be at the scale at which it is drawn
DRAWN = """() => [...document.querySelectorAll(".figure-open img")].map(image => {
  const {width, height} = image.getBoundingClientRect();
  const shape = image.getAttribute("width") / image.getAttribute("height");
  return [image.src, image.closest("figure").id, Math.max(width, height * shape)];
})"""
# the least size of letters in a file opened alone, its width, and the boxes of its texts
LETTERS = """() => {
  const scaled = [...document.querySelectorAll("g")].filter(g => /scale\\([\\d.]+ -/.test(g.getAttribute("transform")));
  const size = ({c, d}) => 100 * Math.hypot(c, d);
  const texts = [...document.querySelectorAll("[id^=text_]")].map(e => [e.id, e.getBoundingClientRect()]);
  return [Math.min(...scaled.map(g => size(g.getScreenCTM()))), document.documentElement.getBoundingClientRect().width,
    texts.filter(([, r]) => r.width).map(([id, r]) => [id, r.left, r.top, r.right, r.bottom])];
}"""


def overlapping(boxes):
    return {
        (a[0], b[0])
        for i, a in enumerate(boxes)
        for b in boxes[:i]
        if min(a[3], b[3]) - max(a[1], b[1]) > 0.7 and min(a[4], b[4]) - max(a[2], b[2]) > 0.7
    }


def test_letters_of_every_figure_are_legible_on_a_phone(browser, origin):
    """At 10 pixels at least; none covers another that it does not cover on a desk."""
    phone = browser.new_page(viewport={"width": 390, "height": 844})
    alone = browser.new_page()
    seen = set()
    for chapter in chapters():
        phone.goto(f"{origin}/book/{chapter.slug}.html")
        phone.add_style_tag(content="* { content-visibility: visible !important }")
        for source, name, wide in phone.evaluate(DRAWN):
            alone.goto(source)
            alone.set_viewport_size({"width": 1000, "height": 800})
            desk = alone.evaluate(LETTERS)
            alone.set_viewport_size({"width": round(wide), "height": 800})
            least, width, boxes = alone.evaluate(LETTERS)
            assert least * wide / width >= 9.99, name
            assert not overlapping(boxes) - overlapping(desk[2]), name
            seen.add(name)
    phone.close()
    alone.close()
    assert seen == {name for chapter in chapters() for name in chapter.figures()}


def test_only_a_small_picture_has_large_letters(browser, origin, site, pages):
    """On a desk a figure is drawn as published; on a phone its own width changes it, whatever the window's."""
    page = "book/04-language.html"
    source = pages[page].select_one("#normaliser-language img")["src"]
    text = (site / dirname(page) / source).read_text(encoding="utf-8")
    published, count = re.subn(r"<style>@media.*?</style>", "", text, count=1)
    assert count == 1
    shown = {}
    for width in (1440, 390):
        for body in (text, published):
            tab = browser.new_page(viewport={"width": width, "height": 900})
            tab.route(f"**/{normpath(join(dirname(page), source))}", lambda route: route.fulfill(body=body, content_type="image/svg+xml"))  # fmt: skip
            tab.goto(f"{origin}/{page}")
            image = tab.locator("#normaliser-language img")
            image.scroll_into_view_if_needed()
            tab.wait_for_load_state("networkidle")
            shown.setdefault(width, []).append(image.screenshot())
            tab.close()
    assert shown[1440][0] == shown[1440][1] and shown[390][0] != shown[390][1]


def test_two_panels_are_stacked_on_a_phone_only(browser, origin, pages):
    """Each as wide as the screen, from one file that is asked for once, with nothing that jumps."""
    stacked = {f["id"] for p in pages.values() for f in p.select(".bd-article figure:has(.stacked)")}  # fmt: skip
    assert "calcium-plane" in stacked and not {"head-atlas", "terminal-burst"} & stacked
    asked = []
    tab = browser.new_page(viewport={"width": 390, "height": 844})
    tab.on("request", lambda request: asked.append(urlsplit(request.url).path))
    tab.goto(f"{origin}/book/06-astrocyte-calcium.html")
    panels = tab.locator("#calcium-plane img")
    panels.last.scroll_into_view_if_needed()
    tab.wait_for_load_state("networkidle")
    boxes = [panel.bounding_box() for panel in panels.all()]
    assert all(box["width"] > 370 for box in boxes) and boxes[0]["height"] > 300
    assert boxes[1]["y"] >= boxes[0]["y"] + boxes[0]["height"]
    assert asked.count(urlsplit(panels.first.evaluate("i => i.src")).path) == 1
    tab.set_viewport_size({"width": 1100, "height": 844})
    assert panels.first.is_visible() and not panels.last.is_visible()
    tab.close()


def test_a_figure_is_cut_only_where_nothing_is_drawn():
    phone, drawing = extension("phone"), extension("drawing")

    def line(part, left, right, text=None):
        return drawing.Line(np.array([(left, 10.0), (right, 90.0)]), part, text, 9, None)

    numbers = line(1, 105, 115, "text_1")
    apart, size = [line(0, 3, 95), line(1, 120, 197), numbers], np.array([200.0, 100.0])
    assert phone.halves(size, apart) == [(0, 100), (100, 200)]
    assert not phone.halves(size, apart[:2])  # the right panel shares the numbers of the left one
    assert not phone.halves(size, [*apart, line(2, 40, 160)])  # a legend above both
    assert not phone.halves(
        size, [line(0, 3, 140), line(1, 160, 197), line(1, 145, 150, "text_1")]
    )  # a colour bar
    assert not phone.halves(size * (1, 2), apart)  # rows to compare


# --- equations --------------------------------------------------------------------------------------

# each is read in its turn: it is made to fit when it comes near
FITTED = """async () => {
  const found = [];
  for (const e of document.querySelectorAll(".bd-article div.math")) {
    e.scrollIntoView();
    await new Promise(done => setTimeout(done, 60));
    found.push([e.style.fontSize, e.scrollWidth - e.clientWidth]);
  }
  const boxes = [...document.querySelectorAll("mjx-container")].map(e => [e.scrollWidth > e.clientWidth + 1, e.tabIndex === 0]);
  return [found, boxes.filter(([wide, stop]) => wide || stop)];
}"""


def test_equations_fit_a_phone_or_scroll_in_their_box(browser, origin):
    tab = browser.new_page(viewport={"width": 360, "height": 800})
    tab.goto(f"{origin}/book/08-calcium-to-normaliser.html")
    tab.evaluate("MathJax.startup.promise")
    tab.wait_for_load_state("load")
    sizes, scrolling = tab.evaluate(FITTED)
    assert any(size for size, _ in sizes), "none had to shrink: the test shows nothing"
    assert all(parse >= 70 for size, _ in sizes if size for parse in [float(size.rstrip("%"))])
    assert all(beyond <= 1 for size, beyond in sizes if size != "70%")
    # the keyboard reaches what scrolls, and that is few
    assert 0 < len(scrolling) < 5 and all(box == [True, True] for box in scrolling), scrolling
    tab.close()


def test_a_word_of_every_day_leads_to_the_glossary_only_where_it_is_the_term(chapter_pages):
    """Powers of ten are not the power of a test."""
    links = {
        slug: soup.select('a.term[href$="#term-power"]') for slug, soup in chapter_pages.items()
    }
    assert [slug for slug, found in links.items() if found] == ["17-predictions"]
    words = {slug: soup.article.get_text() for slug, soup in chapter_pages.items()}
    assert sum("power" in text for text in words.values()) > 5


# --- what the web needs -----------------------------------------------------------------------------


def test_every_page_has_a_card_and_structured_data(site, pages):
    for path, soup in pages.items():
        if not path.startswith("book/"):
            continue
        told = {m.get("property") or m.get("name"): m.get("content") for m in soup.find_all("meta")}
        assert len(told["description"]) > 20 and len(told["og:title"]) > 3, path
        assert told["og:site_name"].startswith("Transformers from neurons and astrocytes")
        assert "og:image" not in told and "og:url" not in told  # they need a whole address
        (record,) = [
            json.loads(s.string) for s in soup.find_all("script", type="application/ld+json")
        ]
        assert record["@type"] == "ScholarlyArticle" and record["headline"] == told["og:title"]
        for part in record.get("hasPart", []):
            assert part["@type"] == "Dataset" and 50 <= len(part["description"]) <= 5000
            for file in part["distribution"]:
                assert ((site / path).parent / file["contentUrl"]).is_file()
    card = (site / "_static/card.png").read_bytes()
    assert card[16:24] == (1200).to_bytes(4, "big") + (630).to_bytes(4, "big")
    sets = [p for p, s in pages.items() if '"Dataset"' in str(s.find_all("script"))]
    assert len(sets) >= len(chapters())


def test_public_address_makes_a_map_and_an_absolute_404(tmp_path):
    web = extension("web")
    names = {"book/index", "book/04-language"}

    def write(base):
        config = SimpleNamespace(html_baseurl=base, html_title="Book")
        builder = SimpleNamespace(name="html")
        env = SimpleNamespace(found_docs=names)
        web.write_files(SimpleNamespace(config=config, builder=builder, env=env, outdir=tmp_path), None)  # fmt: skip

    root = "<html><head>\n</head><body></body></html>"
    (tmp_path / "index.html").write_text(root)
    write("")
    assert (tmp_path / "index.html").read_text() == root
    for _ in range(2):
        write("https://example.org/book-of-cells/")
    told = (tmp_path / "index.html").read_text()
    assert told.count('content="https://example.org/book-of-cells/_static/card.png"') == 1
    text = (tmp_path / "sitemap.xml").read_text()
    assert "<loc>https://example.org/book-of-cells/book/04-language.html</loc>" in text
    assert text.count("<loc>") == 2
    assert '<base href="https://example.org/book-of-cells/">' in (tmp_path / "404.html").read_text()
    write("")
    assert not (tmp_path / "sitemap.xml").exists()
    assert "<base" not in (tmp_path / "404.html").read_text()


def test_a_reader_s_report_names_page_and_version():
    config = SimpleNamespace(
        html_baseurl="",
        html_title="Book",
        author="A",
        companion_repository="https://github.com/a/b",
    )
    app = SimpleNamespace(
        builder=SimpleNamespace(name="html"), config=config, env=SimpleNamespace(), srcdir="."
    )
    context = {"body": "", "title": "Language &amp; more"}
    extension("web").describe_page(app, "book/04-language", "page.html", context, None)
    link = BeautifulSoup(context["body"], "html.parser").a["href"]
    asked = parse_qs(urlsplit(link).query)
    assert link.startswith("https://github.com/a/b/issues/new?") and "Language" in asked["title"][0]
    assert "Page: book/04-language\n" in asked["body"][0]
    assert f"Version: {version('tripartite')}, commit" in asked["body"][0]


@pytest.mark.parametrize(
    ("given", "environment", "base"),
    [
        ("", "https://example.org/book", "https://example.org/book/"),
        ("https://a.org/", "https://b.org", "https://a.org/"),
        ("", "", ""),
    ],
)
def test_the_address_comes_from_the_settings_or_from_who_publishes(given, environment, base, monkeypatch):  # fmt: skip
    monkeypatch.setenv("TRIPARTITE_ADDRESS", environment)
    config = SimpleNamespace(html_baseurl=given)
    extension("web").take_address(None, config)
    assert config.html_baseurl == base


@pytest.mark.parametrize("prefix", ["", "a/folder/"])
def test_links_of_the_lost_page_hold_at_any_address(browser, site, tmp_path, prefix):
    """The site below a folder of a host that shows 404.html for what it lacks, its own address not known to it."""
    tab = browser.new_page()

    def answer(route):
        path = urlsplit(route.request.url).path.removeprefix(f"/{prefix}")
        file = site / path
        if path.startswith("/") or not file.is_file():
            return route.fulfill(
                status=404, body=(site / "404.html").read_text(), content_type="text/html"
            )
        return route.fulfill(path=file)

    tab.route("**/*", answer)
    tab.goto(f"http://127.0.0.1/{prefix}book/of/nothing.html")
    tab.wait_for_function("[...document.links].every(a => !a.pathname.includes('/of/'))")
    links = tab.evaluate("[...document.links].map(a => a.pathname)")
    assert links == [
        f"/{prefix}{p}" for p in ("book/index.html", "search.html", "book/claims.html")
    ]
    assert tab.evaluate("document.querySelector('img').src").endswith(f"/{prefix}_static/logo.svg")
    tab.close()


def test_search_finds_words_of_the_chapters(browser, origin):
    tab = browser.new_page()
    tab.goto(f"{origin}/search.html?q=gliotransmitter")
    # results come one by one; the last of them is awaited
    tab.get_by_text("The tripartite synapse").first.wait_for()
    tab.close()


SEARCHES = {
    "chatgpt": "story",
    "ChatGPT": "story",
    "news": "story",
    "what is an astrocyte": "story#a-cell-shaped-like-a-star",
    "astrocyte": "glossary#term-astrocyte",
    "astrocytes": "primer#primer-astrocytes",
    "what is attention": "primer#primer-attention",
    "why does the astrocyte divide": "story#the-idea",
    "what was found": "found",
    "results": "found",
    "install": "start#install",
    "installation": "start#install",
    "gpu": "start#no-gpu-is-needed",
    "GPU": "start#no-gpu-is-needed",
    "own text": "start#use-your-own-text-picture-or-model",
    "own model": "start#use-your-own-text-picture-or-model",
    "colab": "start#colab-and-binder",
    "binder": "start#colab-and-binder",
    "licence": "start#licence",
    "license": "start#licence",
    "cite": "start#cite",
    "teaching": "start#teach",
    "slides": "slides",
    "number of neurons": "04-language#language-neurons",
    "how many neurons": "04-language#language-neurons",
    "figure 4.1": "04-language#normaliser-language",
    "Fig. 10.3": "10-vision#vision-atlas",
    "hopfield": "15-memory",
    "experiment": "17-predictions",
    "too slow": "18-living",
    "decoder": "19-speaks",
    "hugging face": "huggingface",
    "own sentence": "index#try-your-own-sentence",
    "glossary": "glossary",
    "tripartite synapse": "glossary#term-tripartite-synapse",
}


def test_search_shows_the_right_page_first(browser, origin, pages):
    tab, wrong = browser.new_page(), {}
    for query, place in SEARCHES.items():
        tab.goto(f"{origin}/search.html?q={quote(query)}")
        tab.locator("#search-results ul.search li a").first.wait_for()
        page, _, anchor = place.partition("#")
        first = urlsplit(tab.locator("#search-results ul.search li a").first.get_attribute("href"))
        if (first.path, first.fragment) != (f"book/{page}.html", anchor):
            wrong[query] = first.geturl()
        assert not anchor or pages[f"book/{page}.html"].find(id=anchor), place
    tab.close()
    assert not wrong, wrong


HITS = """() => [...document.querySelectorAll("#search-results ul.search li:has(> p.context)")].map(hit => ({
  link: hit.querySelector("a").getAttribute("href"),
  sentence: hit.querySelector("p.context").textContent,
  marked: hit.querySelectorAll("p.context .highlighted").length,
}))"""
# every hit has its excerpt, or is a function of the module with its kind
FOUND = """() => {
  const hits = [...document.querySelectorAll("#search-results ul.search li")];
  return hits.length && hits.every(hit => hit.querySelector(":scope > :is(p.context, span)"));
}"""


@pytest.mark.parametrize("query", ["linspace", "kernel attention", *list(SEARCHES)[::5]])
def test_search_shows_sentences_and_opens_where_they_stand(browser, origin, pages, query):
    tab = browser.new_page()
    tab.goto(f"{origin}/search.html?q={quote(query)}")
    tab.wait_for_function(FOUND)
    hits = tab.evaluate(HITS)
    tab.close()
    assert hits
    for hit in hits:
        path, _, place = hit["link"].partition("#")
        anchor, _, marked = place.partition(":~:text=")
        target = pages[path].find(id=anchor) if anchor else pages[path].article
        if target.name == "dt":  # of the glossary
            target = target.find_next_sibling("dd")
        elif not target.get_text().strip():  # a name at the beginning of its section
            target = target.find_parent("section")
        text = " ".join(target.get_text().split())
        if sentence := hit["sentence"]:
            assert re.fullmatch(r"[A-Z0-9][^\\]*\.", sentence) and sentence in text, hit
            assert unquote(marked) in ("", sentence), hit
        elif hit["marked"] or not anchor:
            assert query in text.lower(), hit
        assert hit["marked"] or not marked, hit


def test_a_hit_scrolls_to_its_sentence(browser, origin):
    tab = browser.new_page()
    tab.goto(f"{origin}/search.html?q=gliotransmitter")
    tab.wait_for_function(FOUND)
    link = tab.locator("li:has(> p.context) a[href*=':~:text=']").first
    sentence = unquote(link.get_attribute("href").partition(":~:text=")[2])
    link.click()
    tab.wait_for_load_state()
    tab.evaluate(SETTLE)
    found = tab.get_by_text(sentence[:40]).first.bounding_box()
    assert 0 <= found["y"] < tab.viewport_size["height"], sentence
    tab.close()


# --- a quick first paint ----------------------------------------------------------------------------

first_paint = extension("first_paint")
THEME_STATIC = Path(find_spec("pydata_sphinx_theme").origin).parent / first_paint.THEME_STATIC
ICON_FONTS = THEME_STATIC / first_paint.WEBFONTS
BOXES = """() => [...document.querySelectorAll("body *")].map(e => {
  const {x, y, width, height} = e.getBoundingClientRect(), style = getComputedStyle(e);
  return [e.tagName, ...[x, y, width, height].map(v => Math.round(v)), style.color, style.backgroundColor, style.font];
})"""


def test_a_page_loads_one_sheet_and_waits_for_no_script(pages):
    for path, soup in pages.items():
        if path in ("404.html", "index.html"):
            continue
        assert len(soup.select("link[rel=stylesheet]")) == 1, path
        assert all(s.has_attr("defer") for s in soup.select("script[src]")), path
        loaded = {s["src"].split("?")[0].split("/")[-1] for s in soup.select("script[src]")}
        assert ("searchindex.js" in loaded) == (path == "search.html"), path


@pytest.mark.parametrize(
    ("page", "theme"),
    [
        ("book/index", "dark"),
        ("book/05-presynaptic-terminal", "light"),
        ("book/claims", "dark"),
        ("search", "light"),
    ],
)
def test_one_pruned_sheet_shows_what_all_sheets_show(browser, origin, site, pages, page, theme):
    """Every element at its place and in its colours, on a desk and on a phone."""
    sheet = pages[f"{page}.html"].select_one("link[rel=stylesheet]")
    up = "../" * page.count("/")
    whole = "".join(
        f'<link rel="stylesheet" href="{up}{name}">' for name in sheet["data-of"].split()
    )
    own = (site / "_static/site.css").read_text(encoding="utf-8")
    icons = re.match(r":root\{--icon[^}]*\}", own)[0]
    mathematics = json.loads(extension("typeset").KEPT.read_text())["sheet"]
    mathematics = mathematics.replace("mathjax/", f"{up}_static/mathjax/")
    whole += f"<style>{icons}{mathematics}</style>"
    text = (site / f"{page}.html").read_text(encoding="utf-8")
    changed = re.sub(r'<link rel="stylesheet"[^>]*>', lambda _: whole, text)
    assert changed != text
    seen = []
    for body in (text, changed):
        context = browser.new_context(color_scheme=theme, reduced_motion="reduce")
        tab = context.new_page()
        tab.route(
            f"**/{page}.html", lambda route: route.fulfill(body=body, content_type="text/html")
        )
        tab.route(
            "**/*.woff2",
            lambda route: route.fulfill(path=ICON_FONTS / route.request.url.split("/")[-1]),
        )
        for size in ({"width": 1440, "height": 900}, {"width": 390, "height": 844}):
            tab.set_viewport_size(size)
            tab.goto(f"{origin}/{page}.html")
            tab.evaluate(SETTLE)
            seen.append(tab.evaluate(BOXES))
        context.close()
    assert seen[0] == seen[2] and seen[1] == seen[3]


def test_fonts_of_icons_draw_what_the_whole_fonts_draw(site):
    sheet = (site / "_static/site.css").read_text(encoding="utf-8")
    shown = extension("glyphs").named(sheet)
    assert {0xF010, 0xF002} <= shown  # written as a letter, and escaped
    drawn = set()
    for path in (site / "_static/vendor/fontawesome/webfonts").iterdir():
        assert path.suffix == ".woff" and path.stat().st_size < 10_000, path
        assert path.name in sheet
        outlines = []
        for font in (TTFont(path), TTFont(ICON_FONTS / f"{path.stem}.ttf")):
            glyphs, names = font.getGlyphSet(), font.getBestCmap() or {}
            outlines.append({})
            for point in shown & names.keys():
                pen = RecordingPen()
                glyphs[names[point]].draw(pen)
                outlines[-1][point] = (pen.value, glyphs[names[point]].width)
        assert outlines[0] == outlines[1]
        drawn |= outlines[0].keys()
    assert drawn == shown and len(shown) > 10


# Who asks for the place or the size of something that is not laid out has it laid out.
FORCED = """
window.forced = [];
const ask = (kind, name, how) => {
  const was = Object.getOwnPropertyDescriptor(kind.prototype, name), asked = was[how];
  Object.defineProperty(kind.prototype, name, {...was, [how](...rest) {
    if (this.closest("article") && !this.checkVisibility({contentVisibilityAuto: true})) forced.push(name + " of " + this.className);
    return asked.apply(this, rest);
  }});
};
for (const name of ["clientWidth", "clientHeight", "scrollWidth", "scrollHeight"]) ask(Element, name, "get");
for (const name of ["offsetWidth", "offsetHeight", "offsetTop", "innerText"]) ask(HTMLElement, name, "get");
for (const name of ["getBoundingClientRect", "getClientRects"]) ask(Element, name, "value");
"""
SHOWN = """[...document.querySelectorAll(".bd-article > section > section")].map(
  section => section.firstElementChild.checkVisibility({contentVisibilityAuto: true}))"""
# the last code that is not folded: whether some of it is hidden, and whether the keyboard reaches that
CODE = """async () => {
  const wide = [...document.querySelectorAll(".bd-article pre")].filter(e => e.checkVisibility()).at(-1);
  wide.scrollIntoView();
  await new Promise(done => setTimeout(done, 500));
  return [wide.scrollWidth > wide.clientWidth, wide.tabIndex];
}"""


@pytest.mark.parametrize("page", ["04-language", "07-tripartite-synapse", "15-memory"])
def test_a_phone_lays_out_a_chapter_as_it_is_read(browser, origin, page):
    tab = browser.new_page(viewport={"width": 390, "height": 844})
    tab.add_init_script(FORCED)
    tab.goto(f"{origin}/book/{page}.html", wait_until="networkidle")
    shown = tab.evaluate(SHOWN)
    assert shown[0] and not any(shown[4:]), shown
    # folded code has its own lock, and no one measures it either
    assert not tab.evaluate("forced")
    tab.locator(".bd-article > section > section").last.scroll_into_view_if_needed()
    tab.wait_for_function(f"{SHOWN}.at(-1)")
    is_wide, stop = tab.evaluate(CODE)
    assert stop == (0 if is_wide else -1)
    tab.close()


def test_a_link_into_a_chapter_leads_there_on_a_phone(browser, origin, pages):
    page = "book/15-memory.html"
    anchors = [
        e["id"] for e in pages[page].select(".bd-article figure[id], .bd-article div.math[id]")
    ]
    context = browser.new_context(viewport={"width": 390, "height": 844})
    for anchor in anchors[::8] + anchors[-1:]:
        tab = context.new_page()
        tab.goto(f"{origin}/{page}#{anchor}", wait_until="networkidle")
        top = tab.locator(f"[id='{anchor}']").evaluate("e => e.getBoundingClientRect().top")
        assert 0 <= top < 422, (anchor, top)
        tab.close()
    context.close()


def test_a_reader_s_browser_typesets_what_the_build_did_not(browser, origin, site):
    """Where no Chromium built the site; formulas have the size that they have where one did."""
    page = "book/03-neuron-astrocyte-network.html"
    typeset = extension("typeset")
    formula = {
        markup: tex for tex, markup in json.loads(typeset.KEPT.read_text())["markup"].items()
    }
    text = (site / page).read_text(encoding="utf-8")
    raw = re.sub(
        r"<mjx-container.*?</mjx-container>", lambda m: formula[m[0]], text, flags=re.DOTALL
    )
    sizes = []
    for body in (text, raw):
        tab = browser.new_page(viewport={"width": 1440, "height": 900})
        tab.route(f"**/{page}", lambda route: route.fulfill(body=body, content_type="text/html"))
        tab.goto(f"{origin}/{page}")
        tab.evaluate("MathJax.startup.promise")
        tab.evaluate("document.fonts.ready")
        shown = "[...document.querySelectorAll('.math mjx-math')].map(e => e.getBoundingClientRect().width)"
        sizes.append(tab.evaluate(shown))
        tab.close()
    assert len(sizes[0]) == len(sizes[1]) > 30
    np.testing.assert_allclose(sizes[0], sizes[1], atol=1)


def test_where_no_chromium_runs_formulas_stay_as_they_are(site, tmp_path, monkeypatch):
    typeset = extension("typeset")
    monkeypatch.setattr(typeset, "KEPT", tmp_path / "kept.json")
    monkeypatch.setattr(typeset.shutil, "which", lambda name: "/bin/false")
    page = '<p><span data-symbol="Z" class="math notranslate nohighlight">\\(Z\\)</span></p>'
    assert typeset.formulas(page) == {"\\(Z\\)"}
    known, sheet = typeset.typeset({"\\(Z\\)"}, site / "_static/mathjax")
    assert typeset.replace(page, known) == page and not sheet and not typeset.KEPT.exists()
    assert typeset.replace(page, {"\\(Z\\)": "<b>Z</b>"}) == page.replace("\\(Z\\)", "<b>Z</b>")


def test_without_scripts_mathematics_is_typeset(browser, origin):
    context = browser.new_context(java_script_enabled=False)
    tab = context.new_page()
    tab.goto(f"{origin}/book/03-neuron-astrocyte-network.html")
    assert tab.locator(".math").count() == tab.locator(".math > mjx-container").count() > 30
    context.close()


def test_a_rule_goes_only_if_no_page_can_meet_it():
    prune = extension("prune")
    css = (
        '@charset "x";/*! kept */ .a > .b:not(.gone), .gone .a, #id[x="}"]{color:red} .gone{x:y}'
        "@media print{.gone{x:y}.a{x:y}}@media print{.gone{x:y}}@font-face{src:url(a;b)}"
        ".gone\\:x{x:y}:is(.gone, .a){x:y}.a{&.gone{x:y}}"
    )
    known = prune.names(['<p class="a b" id="id">'], ['go("one")'])
    assert prune.prune(css, known) == (
        '@charset "x";/*! kept */.a > .b:not(.gone),#id[x="}"]{color:red}'
        "@media print{.a{x:y}}@font-face{src:url(a;b)}"
        ".gone\\:x{x:y}:is(.gone, .a){x:y}.a{&.gone{x:y}}"
    )
    assert "one" in known


def test_single_page_keeps_its_links_within(tmp_path):
    (tmp_path / "book").mkdir()
    (tmp_path / "book/index.html").write_text(
        '<span id="id4">[<a href="book/index.html#id4">4</a>]</span><a href="book/index.html#equation-a">1</a>'
        '<div class="citation" id="id4" role="doc-biblioentry">'
    )
    text = pdf.single_page(tmp_path).read_text()
    assert 'href="#reference-id4"' in text and 'class="citation" id="reference-id4"' in text
    assert 'href="#equation-a"' in text and '<span id="id4">' in text


def test_pictures_of_the_story_are_drawn_from_data(tmp_path, monkeypatch):
    draw = extension("draw_story")
    for phase in ("writing", "reading"):
        shutil.copy(ROOT / f"book/_static/circuit-{phase}.svg", tmp_path)
    monkeypatch.setattr(draw, "STATIC", tmp_path)
    draw.main()
    committed = sorted((ROOT / "book/_static").glob("story-*.svg"))
    assert [p.name for p in committed] == sorted(p.name for p in tmp_path.glob("story-*.svg"))
    for picture in committed:  # the same bars, lines and letters, wherever a font puts them
        one, other = (p.read_text().count("<path") for p in (picture, tmp_path / picture.name))
        assert one == other, picture.name


def test_the_abstract_has_the_numbers_that_the_checks_observed():
    committed = (ROOT / "book/_static/abstract.svg").read_text(encoding="utf-8")
    numbers = re.compile(r'font-size="38"[^>]*>([^<]*)<')
    drawn = extension("draw_abstract").picture()
    assert numbers.findall(committed) == numbers.findall(drawn)  # else: run draw_abstract.py
    assert len(numbers.findall(drawn)) == 6 and committed == drawn


# --- how much code is shown -------------------------------------------------------------------------

VISIBLE = (
    "() => [...document.querySelectorAll('.cell_input')].filter(e => e.checkVisibility()).length"
)


def test_bars_say_what_they_hide_and_none_hides_nothing(browser, origin):
    tab = browser.new_page()
    tab.goto(f"{origin}/book/04-language.html")
    bars = tab.eval_on_selector_all(
        "details.above-input",
        "all => all.filter(e => e.checkVisibility()).map(e => e.innerText.trim())",
    )
    assert "Code: Fig. 4.1" in bars and "Code: explorer" in bars and "Code" not in bars
    caption = tab.inner_text("#normaliser-language figcaption")
    assert caption.startswith("Fig. 4.1")  # the cell of that bar
    assert "Code: Fig. 4.1" in tab.inner_text("#code-normaliser-language details")
    tab.close()


def test_one_switch_shows_or_hides_code_in_every_chapter(browser, origin):
    context = browser.new_context()
    tab = context.new_page()
    tab.goto(f"{origin}/book/03-neuron-astrocyte-network.html")
    every = tab.locator(".cell_input").count()
    main = tab.evaluate(VISIBLE)
    assert 0 < main < every
    tab.click(".code-switch [value=all]")
    assert tab.evaluate(VISIBLE) == every
    tab.click(".code-switch [value=main]")
    assert tab.evaluate(VISIBLE) == main
    tab.click(".code-switch [value=none]")
    assert tab.evaluate(VISIBLE) == 0
    tab.goto(f"{origin}/book/05-presynaptic-terminal.html")  # remembered
    assert tab.evaluate(VISIBLE) == 0
    assert tab.get_attribute(".code-switch [value=none]", "aria-pressed") == "true"
    assert tab.locator("figure img").first.is_visible()
    silent = tab.locator("div.cell.silent").first.get_attribute("id")
    tab.goto(f"{origin}/book/05-presynaptic-terminal.html#{silent}")  # as from a ledger
    assert tab.evaluate(VISIBLE) == 1
    context.close()


# --- slides -----------------------------------------------------------------------------------------


def test_every_slide_has_a_figure_and_says_what_it_shows(pages, site):
    slides = pages["book/slides.html"].select(".slides > section.slide")
    assert len(slides) >= 12
    for slide in slides:
        title = slide.h2.get_text().rstrip("#").strip()
        assert re.fullmatch(r"[A-Z].{30,200}\.", title) and ". " not in title, title
        page, _, anchor = slide.select_one(".source a")["href"].partition("#")
        figure = pages[f"book/{page}"].find(id=anchor)
        assert figure.select_one(".caption-text").get_text().startswith(title)
        source = slide.img["src"]
        assert source == figure.img["src"] and (site / "book" / source).exists()
        assert slide.img["alt"] == figure.img["alt"]


def test_slides_take_a_screen_each_and_obey_the_keyboard(browser, origin):
    tab = browser.new_page(viewport={"width": 1280, "height": 720})
    tab.goto(f"{origin}/book/slides.html")
    # the browser of a test has no full screen; the slides then fill the window, as on a phone
    tab.evaluate("document.querySelector('.slides').requestFullscreen = undefined")
    tab.get_by_role("button", name="full screen").click()
    shown = """() => {
      const boxes = [...document.querySelectorAll(".slide")].map(e => e.getBoundingClientRect());
      const fills = b => Math.abs(b.top) < 2 && Math.abs(b.bottom - innerHeight) < 2;
      return boxes.map((b, k) => fills(b) ? k : -1).filter(k => k >= 0);
    }"""
    last = tab.locator(".slide").count() - 1
    for key, slide in {"ArrowRight": 1, "PageDown": 2, "ArrowLeft": 1, "End": last}.items():
        tab.keyboard.press(key)
        tab.wait_for_function(f"({shown})()[0] === {slide}")
        assert tab.evaluate(shown) == [slide], key
    box = tab.locator(".slide img").last.bounding_box()
    assert box["height"] > 200 and box["width"] > 200
    tab.keyboard.press("Escape")
    assert tab.locator(".on-screen").count() == 0
    tab.close()


def test_slides_print_on_a_page_each(browser, origin):
    tab = browser.new_page()
    tab.goto(f"{origin}/book/slides.html")
    tab.evaluate(SETTLE)
    printed = tab.pdf(prefer_css_page_size=True, print_background=True)
    sheets = re.findall(rb"/MediaBox \[0 0 ([\d.]+) ([\d.]+)\]", printed)
    landscape = [sheet for sheet in sheets if float(sheet[0]) > float(sheet[1])]
    assert len(landscape) == tab.locator(".slide").count() and len(sheets) == len(landscape) + 1
    tab.close()


def test_start_names_the_chapters_that_run_in_the_page(pages):
    text = pages["book/start.html"].get_text()
    said = re.search(r"Chapters ([\d, toand]+) then have a button", text)[1]
    named = []
    for words in re.split(r", | and ", said):
        ends = [int(end) for end in words.split(" to ")]
        named += range(ends[0], ends[-1] + 1)
    settings = yaml.safe_load((ROOT / "_config.yml").read_text(encoding="utf-8"))
    assert named == [int(number) for number in settings["sphinx"]["config"]["companion_live"]]
