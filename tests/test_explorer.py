"""Explorers: what Python writes, what a reader without JavaScript sees, and what the script does."""

import base64
import csv
import json
import re
import shlex

import matplotlib.pyplot as plt
import numpy as np
import pytest
from bs4 import BeautifulSoup

from companion import Choice, explorer, plotted
from companion.chapters import chapters, find
from companion.explorer import GAP, UNIT
from companion.parameters import ParameterError
from companion.paths import BOOK, DATA, ROOT
from test_site import PHONE


def written():
    """Chapter's slug, name and markup of every explorer in the committed chapters."""
    for chapter in chapters():
        for cell in chapter.code_cells():
            for output in cell.outputs:
                markup = output.get("data", {}).get("text/html", "")
                if 'class="explorer"' in markup:
                    soup = BeautifulSoup(markup, "html.parser")
                    yield chapter.slug, soup.figure["id"], soup


EXPLORERS = list(written())
every_explorer = pytest.mark.parametrize(
    ("slug", "name", "soup"), EXPLORERS, ids=[name for _, name, _ in EXPLORERS]
)


def carried(soup):
    return json.loads(soup.find("script").string)


def places(line):
    """Places (choices..., points) from the top of the picture, in points."""
    steps = np.frombuffer(base64.b64decode(line["y"]), "<u2").astype(float)
    steps[steps == GAP] = np.nan
    return (steps / UNIT).reshape(*line["shape"], -1)


def at(values, state):
    return values[tuple(i if n > 1 else 0 for i, n in zip(state, values.shape))]


def sweep(name):
    return np.load(DATA / f"results/explorer-{name}.npz")


# --- the ones in the book -------------------------------------------------------------------------


TOPICS = {
    "normaliser-explorer": "04",
    "tuning-explorer": "04",
    "calcium-explorer": "06",
    "time-explorer": "09",
    "lesion-explorer": "12",
}


def test_every_topic_whose_chapter_is_there_has_its_explorer():
    numbers = {chapter.number for chapter in chapters()}
    wanted = {name for name, number in TOPICS.items() if number in numbers}
    assert wanted <= {name for _, name, _ in EXPLORERS}


@every_explorer
def test_every_command_is_one_that_the_chapter_takes(slug, name, soup):
    data, known = carried(soup), set()
    for choice in data["choices"]:
        if choice["parameter"]:
            known.add(choice["name"])
            for value in choice["values"]:
                assert checked_command(f"{data['command']} -p {choice['name']}={value}")
    assert data["command"] == f"tripartite run {slug[:2]}"
    printed = soup.find(class_="explorer-command").get_text(strip=True)
    assert set(checked_command(printed)) == known


def checked_command(printed):
    """Parameters of a printed command, as its chapter reads them; raises where it would refuse."""
    program, verb, number, *options = shlex.split(printed)
    assert (program, verb) == ("tripartite", "run") and set(options[::2]) == {"-p"}
    known = find(number).parameters()
    given = dict(option.split("=", 1) for option in options[1::2])
    return {name: known[name].parse(text) for name, text in given.items()}


@every_explorer
def test_first_choice_is_the_chapter_s_default(slug, name, soup):
    declared = find(slug).parameters()
    printed = soup.find(class_="explorer-command").get_text(strip=True)
    assert checked_command(printed) == {
        name: declared[name].default for name in checked_command(printed)
    }


@every_explorer
def test_picture_and_data_show_the_same_lines(slug, name, soup):
    """Matplotlib drew the picture; the bytes are ours."""
    data = carried(soup)
    for k, line in enumerate(data["lines"]):
        drawn = soup.find(id=f"{name}-line-{k}").path["d"]
        vertices = np.array(re.findall(r"[ML] (-?[\d.]+) (-?[\d.]+)", drawn), dtype=float)
        ours = np.stack([line["x"], at(places(line), data["start"])], axis=1)
        ours = ours[np.isfinite(ours[:, 1])]
        for vertex in vertices:
            # its own vertices, or where it crosses the frame
            near = np.abs(ours[:, 0] - vertex[0]) < 4
            assert near.any()
            low, high = ours[near, 1].min() - 0.2, ours[near, 1].max() + 0.2
            assert low <= vertex[1] <= high or abs(np.hypot(*(ours - vertex).T)).min() < 4, k


def test_tunings_of_a_head_are_those_of_its_row():
    """The table is read here line by line; the chapter fills an array of it."""
    soup = next(soup for _, name, soup in EXPLORERS if name == "head-tuning-explorer")
    data = carried(soup)
    measures, tunings, layers, heads = (c["values"] for c in data["choices"])
    texts = [np.reshape(r["texts"], r["shape"]) for r in data["readouts"]]
    seen = 0
    with open(DATA / "results/tuning-language.csv", newline="") as file:
        for row in csv.DictReader(file):
            if row["kind"] in tunings and row["seed"] == "0" and int(row["neurons"]) <= 1000:
                of = texts[["64", "256", "1000"].index(row["neurons"])]
                place = (
                    tunings.index(row["kind"]),
                    layers.index(row["layer"]),
                    heads.index(row["head"]),
                )
                for measure, column in zip(measures, ("output", "normaliser"), strict=True):
                    shown = of[(measures.index(measure), *place)]
                    assert shown == f"{float(row[column]):.2f}"
                    seen += 1
    # kinds whose name in the table is that of the file
    assert seen == 2 * 72 * 3 * len({"centred", "dense", "mixture", "prototypes", "gradient"})


@every_explorer
def test_an_explorer_is_described_and_small(slug, name, soup):
    assert len(soup.find(class_="explorer-picture")["aria-label"]) > 100
    assert len(soup.figcaption.get_text()) > 60
    assert len(str(soup)) < 400_000
    ids = [e["id"] for e in soup.find_all(id=True)]
    assert len(ids) == len(set(ids)) and all(i.startswith(name) for i in ids)


def test_sweeps_agree_with_the_figures_of_their_chapters():
    """At the default choice; the figures' numbers were computed when the chapter was accepted."""
    figure = plotted.load(DATA / "reference/normaliser-language")
    numbers = sweep("normaliser")
    few = list(numbers["n_small"]).index(1_000)
    for size, series in ((few, "p_small"), (-1, "p_large")):
        ratio = 10 ** numbers["log10_ratio"][0, 0, size].astype(float)
        assert np.allclose(ratio, figure[series] / figure["Z"], rtol=2e-3)  # half precision
    figure = plotted.load(DATA / "reference/calcium-traces")
    numbers = sweep("calcium")
    for cell, (name, stimulus) in enumerate((("graded", 0.3), ("spiking", 8.0))):
        k = list(numbers["stimulus"]).index(stimulus)
        ours = np.interp(figure["time_s"], numbers["time"], numbers["C"][cell, k])
        assert np.abs(ours - figure[f"C_{name}"]).max() < 0.05  # other moments, interpolated
    figure = plotted.load(DATA / "reference/time-traces")
    numbers = sweep("time")
    state = list(numbers["tau_gain"]).index(0.12), list(numbers["tau_neuron"]).index(0.02)
    common = (numbers["seconds"] >= 7.2) & (numbers["seconds"] <= 11)
    fresh = np.interp(numbers["seconds"][common], figure["seconds"], figure["P"])
    assert np.allclose(numbers["P"][state][common], fresh, atol=2e-3)
    table = "".join(
        output["data"]["text/markdown"]
        for cell in find("04").code_cells()
        for output in cell.outputs
        if "tuning curve" in output.get("data", {}).get("text/markdown", "")
    )
    numbers = sweep("tuning")
    for row, kind in enumerate(numbers["kind"]):
        read = re.search(rf"\| {kind} \| (\S+) \| (\S+) \|", table)
        ours = numbers["of_response"][0, 0, row, -1], numbers["of_output"][0, 0, row, -1]
        # the table has two digits
        assert np.allclose([float(x) for x in read.groups()], ours, rtol=0.06)


# --- what Python refuses --------------------------------------------------------------------------


def small(**changed):
    fig, ax = plt.subplots()
    (line,) = ax.plot([], [])
    ax.set(xlim=(0, 2), ylim=(0, 1))
    given = {
        "chapter": "04",
        "choices": [Choice("head", "head", [0, 3]), Choice("n_small", "m", [100, 1_000])],
        "start": (3, 900),
        "lines": [(line, [0, 1, 2], np.arange(12).reshape(2, 2, 3) / 12)],
        "readouts": {"error": (np.array([[0.1, 0.2], [np.nan, 0.4]]), "{:.0%}")},
        "caption": "Less < than & more",
        "alt": "A line.",
    }
    if "lines" in changed:
        changed["lines"] = [(line, *entry) for entry in changed["lines"]]
    return explorer(fig, "small", **(given | changed))


@pytest.mark.parametrize("name", ["normaliser", "tuning", "calcium", "time", "lesions"])
def test_scripts_still_compute_the_sweeps(name, monkeypatch):
    """The first choice of each: the script calls functions of chapters, which may have changed."""
    import make_explorers

    monkeypatch.setattr(make_explorers, "tqdm", lambda choices: list(choices)[:1])
    monkeypatch.setenv("TRIPARTITE_QUIET", "1")
    monkeypatch.chdir(BOOK)
    fresh = make_explorers.SWEEPS[name]()
    with np.load(DATA / f"results/explorer-{name}.npz") as stored:
        assert {k: x.shape for k, x in fresh.items()} == {k: stored[k].shape for k in stored.files}
        made = [  # the first choice of each series, as far as it is not nothing
            (x.ravel()[0], stored[k].ravel()[0]) for k, x in fresh.items() if x.dtype.kind == "f"
        ]
        np.testing.assert_allclose(*zip(*made), rtol=2e-3, atol=1e-9)


def test_it_starts_at_the_choice_nearest_to_the_run_s_parameters():
    shown = small()
    soup = BeautifulSoup(shown.markup, "html.parser")
    assert carried(soup)["start"] == [1, 1]
    command = soup.find(class_="explorer-command").get_text(strip=True)
    assert command == "tripartite run 04 -p head=3 -p n_small=1000"
    assert soup.dd.get_text() == "40%" and carried(soup)["readouts"][0]["texts"][2] == "none"
    assert soup.figcaption.get_text() == "Less < than & more"
    (line,) = carried(soup)["lines"]
    assert places(line).shape == (2, 2, 3)
    heights = 1 - np.arange(12).reshape(2, 2, 3) / 12  # a linear axis, from its top
    assert np.corrcoef(places(line).ravel(), heights.ravel())[0, 1] > 1 - 1e-6


def test_its_words_follow_the_numbers():
    other = [([0, 1, 2], np.arange(1, 13).reshape(2, 2, 3) / 12)]
    assert small().text == small().text != small(lines=other).text


@pytest.mark.parametrize(
    ("changed", "error", "complaint"),
    [
        ({"choices": [Choice("head", "head", [0, 12])] * 2}, ParameterError, "head = 12"),
        ({"choices": [Choice("size", "m", [1, 2])] * 2}, ParameterError, "'size' is not one"),
        ({"lines": [([0, 1], np.zeros((2, 2, 3)))]}, ValueError, "3 points has 2 places"),
        ({"lines": [([0, 1], np.zeros((3, 2, 2)))]}, ValueError, r"shape \(3, 2\)"),
        ({"readouts": {"e": (np.zeros(2), "{}")}}, ValueError, r"shape \(2,\)"),
        ({"chapter": "99"}, LookupError, "chapter '99'"),
    ],
)
def test_what_is_no_explorer_is_refused(changed, error, complaint):
    with pytest.raises(error, match=complaint):
        small(**changed)


def test_script_and_python_agree_on_the_bytes():
    script = (ROOT / "book/_static/explorer.js").read_text(encoding="utf-8")
    assert f"UNIT = {UNIT}, GAP = {GAP}" in script


# --- in a browser ---------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def folder(site):
    return site / "book"


@pytest.fixture
def opens(folder, browser):
    """Open an explorer's page, from disk as a reader without a server does."""
    contexts = []

    def page(slug, hash="", **options):
        contexts.append(browser.new_context(**options))
        # typesetting takes most of a page's time, and explorers do not wait for it
        contexts[-1].route("**/mathjax/**", lambda route: route.abort())
        tab = contexts[-1].new_page()
        tab.errors = []
        tab.on("pageerror", lambda e: tab.errors.append(str(e)))
        tab.goto((folder / f"{slug}.html").as_uri() + hash)
        return tab

    yield page
    for context in contexts:
        assert not [e for tab in context.pages for e in getattr(tab, "errors", [])]
        context.close()


class Shown:
    """An explorer on a page, as a reader finds it."""

    def __init__(self, tab, name):
        self.tab, self.box = tab, tab.locator(f"#{name}")
        # its section is laid out, and its data are loaded, when they are near
        tab.locator(".bd-article > section > section", has=self.box).scroll_into_view_if_needed()
        self.box.scroll_into_view_if_needed()
        self.box.locator(".explorer-controls").locator("input, select").first.wait_for()

    def seen(self):
        return (
            self.box.locator("[id*='-line-'] path").evaluate_all(
                "e => e.map(p => p.getAttribute('d'))"
            ),
            self.box.locator("dd").all_inner_texts(),
            self.command(),
        )

    def command(self):
        return self.box.locator(".explorer-command pre").inner_text()

    def controls(self):
        return self.box.locator("input, select").all()


@every_explorer
def test_every_control_works_by_keyboard_and_says_what_it_does(opens, slug, name, soup):
    tab = opens(slug)
    shown = Shown(tab, name)
    before, entries = shown.seen(), tab.evaluate("history.length")
    for control in shown.controls():
        assert control.evaluate("e => e.labels.length") == 1
        control.focus()
        first = control.input_value()
        for key in ("End", "Home"):
            tab.keyboard.press(key)
            if control.input_value() != first:
                break
        else:
            tab.keyboard.press("ArrowDown")
        assert control.input_value() != first
        now = shown.seen()
        assert now != before, control.get_attribute("id")
        checked_command(now[2])
        before = now
    assert tab.evaluate("history.length") == entries  # Back leaves the page, not the choice
    # the address holds the choice: the same page, opened there, shows the same
    again = Shown(opens(slug, tab.evaluate("location.hash")), name)
    assert again.seen() == before
    assert again.tab.evaluate("scrollY") > 0


def test_a_choice_is_drawn_where_the_sweep_says(opens):
    slug, name, soup = next(e for e in EXPLORERS if e[1] == "normaliser-explorer")
    tab = opens(slug, f"#{name}?layer=0&head=2&n_small=100")
    shown = Shown(tab, name)
    assert checked_command(shown.command()) == {"layer": 0, "head": 2, "n_small": 100}
    assert (
        shown.box.locator("dd").first.inner_text() == f"{sweep('normaliser')['error'][0, 2, 0]:.1%}"
    )
    line = carried(soup)["lines"][0]
    expected = places(line)[0, 2, 0]
    drawn = re.findall(r"[ML](-?[\d.]+) (-?[\d.]+)", shown.seen()[0][0])
    assert np.allclose([float(y) for _, y in drawn], expected, atol=0.06)


def test_back_returns_to_the_choice(opens):
    slug, name, _ = EXPLORERS[0]
    tab = opens(slug)
    Shown(tab, name).controls()[1].press("ArrowRight")
    chosen = Shown(tab, name).seen()
    tab.locator(".next-page, .right-next").first.click()
    tab.wait_for_url(lambda url: slug not in url)
    tab.go_back()
    tab.locator(f"#{name} input").first.wait_for()
    assert Shown(tab, name).seen() == chosen


def test_an_address_with_nonsense_shows_the_first_choice(opens):
    slug, name, soup = EXPLORERS[0]
    tab = opens(slug, f"#{name}?layer=77&nothing=%3Cb%3E")
    printed = soup.find(class_="explorer-command").get_text(strip=True)
    assert Shown(tab, name).command() == printed
    tab.evaluate("name => { location.hash = `${name}?layer=1`; }", name)
    tab.wait_for_function(
        "name => document.getElementById(name).textContent.includes('layer=1')", arg=name
    )


@every_explorer
def test_without_script_the_first_choice_is_a_picture(opens, slug, name, soup):
    tab = opens(slug, java_script_enabled=False)
    picture = tab.locator(f"#{name} .explorer-picture svg")
    assert picture.is_visible() and picture.bounding_box()["width"] > 300
    assert tab.locator(f"#{name} dd").first.inner_text()
    assert tab.locator(f"#{name} .explorer-command").is_visible()
    assert tab.locator(f"#{name} :is(input, select)").count() == 0
    assert tab.locator(f"#{name} noscript").inner_text()


@every_explorer
def test_it_fits_a_phone_and_takes_a_finger(opens, slug, name, soup):
    tab = opens(slug, viewport=PHONE, has_touch=True, is_mobile=True)
    shown = Shown(tab, name)
    for part in [shown.box.locator("svg").first, *shown.controls()]:
        box = part.bounding_box()
        assert box["x"] >= 0 and box["x"] + box["width"] <= PHONE["width"]
    for control in shown.controls():
        assert control.bounding_box()["height"] >= 40
    slider = shown.box.locator("input").last
    before = slider.input_value()
    box = slider.bounding_box()
    end = box["width"] - 8 if before == "0" else 8
    slider.tap(position={"x": end, "y": box["height"] / 2})
    assert slider.input_value() != before


@every_explorer
def test_an_address_with_a_state_leads_to_the_figure_on_a_phone(opens, slug, name, soup):
    tab = opens(slug, f"#{name}?", viewport=PHONE, has_touch=True, is_mobile=True)
    tab.locator(f"#{name} .explorer-controls").locator("input, select").first.wait_for()
    tab.wait_for_timeout(300)  # the section, once near, finds its height
    assert 0 <= tab.locator(f"#{name}").bounding_box()["y"] < PHONE["height"] / 2


def test_its_inks_follow_the_theme_and_print_has_no_controls(opens):
    slug, name, _ = EXPLORERS[0]
    tab = opens(slug, color_scheme="light")
    path = tab.locator(f"[id='{name}-line-0'] path")
    ink = "e => getComputedStyle(e).stroke"
    tab.evaluate("document.documentElement.dataset.theme = 'light'")
    light = path.evaluate(ink)
    tab.evaluate("document.documentElement.dataset.theme = 'dark'")
    assert path.evaluate(ink) != light
    tab.emulate_media(media="print")
    assert not tab.locator(f"#{name} .explorer-controls").is_visible()
    assert tab.locator(f"#{name} svg").first.is_visible()
    assert tab.locator(f"#{name} .explorer-command").is_visible()
