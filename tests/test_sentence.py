"""The box for a reader's own sentence: its numbers against the encoder's, and how it behaves in a browser."""

import re
from types import SimpleNamespace
from urllib.parse import parse_qs, urlsplit

import numpy as np
import pytest

from companion import fetch
from test_reading import extension
from test_site import PHONE
from tripartite import features, network, pretrained
from tripartite.encoder import project

MODEL = "all-MiniLM-L6-v2"
TEXTS = (
    "The astrocyte divides.",
    "Don't split 3.14, e.g. “quoted” — or Zürich's naïve café, İstanbul!",
    "日本語 and 한국어, Ελληνικός λόγος, привет; emoji 🙂 too",
    "a\tb\nc\u00a0d\u200be\u0000f\ufffdg",
    "[MASK] and [unused1], [CLS]x[SEP]",
    "supercalifragilisticexpialidocious pneumonoultramicroscopicsilicovolcanoconiosis",
    "x" * 101 + " y" + "z" * 100,
)


@pytest.fixture(scope="module")
def sentence():
    return extension("sentence")


@pytest.fixture(scope="module")
def model():
    return pretrained.load(fetch.model_directory(MODEL))


@pytest.fixture(scope="module")
def box(browser, origin):
    """The box of the landing page, its tables loaded."""
    tab = browser.new_page()
    tab.goto(f"{origin}/book/index.html")
    tab.evaluate("""async () => {
        window.own = document.getElementById("own-sentence").companion;
        window.tables = await own.load();
    }""")
    yield tab
    tab.close()


def random_texts(model, count, seed):
    """Texts of random words of the vocabulary, with a random joint or ending here and there."""
    rng = np.random.default_rng(seed)
    words = [w for w in model.tokenizer.get_vocab() if not re.match(r"\[|##", w)]
    words.sort()
    for _ in range(count):
        chosen = rng.choice(words, rng.integers(1, 28))
        yield " ".join(w + rng.choice(["", "", "", "zq", "'s", "-", ",", "É"]) for w in chosen)


def cut(tokens, most):
    """As the page cuts: the last that is read is [SEP]."""
    return tokens if len(tokens) <= most else (*tokens[: most - 1], "[SEP]")


def test_the_page_splits_text_as_the_model_does(box, model, sentence):
    texts = [*TEXTS, *random_texts(model, 200, 0)]
    found = box.evaluate("texts => texts.map(t => own.read(tables, t).words)", texts)
    for text, words in zip(texts, found, strict=True):
        assert tuple(words) == cut(model.tokenize(text).strings, sentence.PLACES), text


def head(model, ids, number):
    q, k, _ = project(model.blocks[0], model.embed(ids), model.n_heads)
    return q[number], k[number]


def test_the_page_s_head_is_the_encoder_s(box, model, sentence):
    """Within what one byte a number leaves: as much as the page says in the worst token, 1 % of Z in the median one."""
    errors = []
    for text in random_texts(model, 60, 1):
        ids = model.tokenize(text, sentence.PLACES).ids
        found = box.evaluate(
            """text => {
                const {words} = own.read(tables, text), of = own.heads(tables, words);
                return [Array.from(of.q), Array.from(of.k), own.softmax(of, words.length, tables.d)];
            }""",
            text,
        )
        q, k = head(model, ids, sentence.living.HEAD)
        for x, exact in zip(found[:2], (q, k), strict=True):
            assert np.abs(np.reshape(x, exact.shape) - exact).max() < 0.02 * np.abs(exact).max()
        kernel = np.exp(q @ k.T)
        errors += list(np.abs(np.array(found[2]["sums"]) / kernel.sum(axis=1) - 1))
        weights = kernel / kernel.sum(axis=1, keepdims=True)
        np.testing.assert_allclose(found[2]["weights"], weights, rtol=0, atol=0.015)
    assert len(errors) > 500 and max(errors) < sentence.ROUNDING and np.median(errors) < 0.01


def test_rounding_is_all_that_separates_the_tables_from_the_encoder(model, sentence, monkeypatch):
    """Without it, and with all factors, the closed form gives queries and keys to the last digits."""
    monkeypatch.setattr(sentence, "in_bytes", lambda x: (x.astype("u1"), x, 1))
    monkeypatch.setattr(sentence, "RANK", sentence.PLACES)
    ids = model.tokenize("an astrocyte divides by what it has heard").ids
    # the same numbers that the page puts together, here by NumPy from unrounded rows
    table = sentence.tables(model)
    vocabulary = {word: i for i, word in enumerate(table["vocabulary"].split("\n"))}
    strings = model.tokenize("an astrocyte divides by what it has heard").strings
    rows = table["low"][[vocabulary[s] for s in strings]]
    n, d = len(ids), table["d"]
    mean = rows[:, 2 * d] + table["means"][:n]
    square = np.mean(model.embeddings.words[ids] ** 2, axis=1) + table["squares"][:n]
    square += np.sum(rows[:, 2 * d + 1 :] * table["factors"][:n], axis=1)
    sigma = np.sqrt(square - mean**2 + table["eps"])
    both = rows[:, : 2 * d] + table["places"][:n] - mean[:, None] * table["sums"]
    both = both / sigma[:, None] + table["offsets"]
    q, k = head(model, ids, sentence.living.HEAD)
    np.testing.assert_allclose(both, np.concatenate([q, k], axis=1), atol=1e-12)


CIRCUIT = """async ([q, k, d, sizes]) => {
  const blob = new Blob([`(${own.circuit})()`], {type: "text/javascript"});
  const worker = new Worker(URL.createObjectURL(blob));
  const kernels = [];
  const done = new Promise(finish => { worker.onmessage = ({data}) => {
    kernels.push(Array.from(data.kernel));
    if (kernels.length === sizes.length) finish();
  }; });
  worker.postMessage({name: 1, q: Float64Array.from(q), k: Float64Array.from(k), d, sizes, upto: 0});
  worker.postMessage({upto: sizes.length - 1});
  await done;
  worker.terminate();
  return kernels;
}"""


def uniform(seed):
    """The page's generator once more (mulberry32), in integers of 32 bits."""
    while True:
        seed = (seed + 0x6D2B79F5) % 2**32
        x = (seed ^ (seed >> 15)) * (seed | 1) % 2**32
        x ^= (x + (x ^ (x >> 7)) * (x | 61)) % 2**32
        yield ((x ^ (x >> 14)) + 0.5) / 2**32


def test_the_page_s_circuit_is_the_network(box, model, sentence):
    """With the same directions, p and the weights are those of `network`; a size holds the ones before."""
    ids = model.tokenize("an astrocyte divides by what it has heard").ids
    q, k = head(model, ids, sentence.living.HEAD)
    sizes, d = (100, 300), q.shape[1]
    found = box.evaluate(CIRCUIT, [q.ravel().tolist(), k.ravel().tolist(), d, sizes])
    draws = uniform(1)
    pairs = np.array([next(draws) for _ in range(max(sizes) * d)]).reshape(-1, d // 2, 2)
    radius, angle = np.sqrt(-2 * np.log(pairs[..., 0])), 2 * np.pi * pairs[..., 1]
    directions = np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=-1).reshape(-1, d)
    for size, kernel in zip(sizes, found, strict=True):
        phi = features.FeatureMap(directions[:size], np.zeros(size), features.positive, size)
        kernel = np.reshape(kernel, (len(ids), len(ids)))
        read = network.attend(phi, q, k, np.eye(len(ids)))
        np.testing.assert_allclose(kernel.sum(axis=1), read.response, rtol=1e-9)
        weights = kernel / kernel.sum(axis=1, keepdims=True)
        np.testing.assert_allclose(weights, read.output, rtol=1e-8, atol=1e-12)


def test_the_page_s_directions_are_standard_normal(box):
    """One neuron's kernel for unit vectors has logarithms that are its direction: mean 0, variance 1."""
    draws = uniform(1)
    pairs = np.array([next(draws) for _ in range(200_000)]).reshape(-1, 2)
    normal = np.sqrt(-2 * np.log(pairs[:, 0])) * np.cos(2 * np.pi * pairs[:, 1])
    n = len(normal)
    assert abs(normal.mean()) < 4 / np.sqrt(n) and abs(normal.var() - 1) < 4 * np.sqrt(2 / n)
    # exp(omega . x - |x|^2 / 2) has mean 1 over directions, whatever x: with x = (1, 1) to 4 errors
    (kernel,) = box.evaluate(CIRCUIT, [[1, 1], [0, 0], 2, [100_000]])
    assert abs(kernel[0] - 1) < 4 * np.sqrt((np.e**2 - 1) / 100_000)


def test_its_head_is_said_to_be_easy_as_the_atlas_says(sentence):
    errors = sentence.living.errors_of_heads()
    mine = sentence.living.LAYER * 12 + sentence.living.HEAD
    note = sentence.figure(None, "")
    for name, words in (("error", "its astrocyte"), ("output", "that of its output")):
        place = 1 + sum(e < errors[name][mine] for e in errors[name])
        assert place <= 2 and re.search(rf"number {place} by .*?{words}", note)
    assert f"has {errors['error'].size} attention heads" in note


# --- as a reader meets it -------------------------------------------------------------------------


@pytest.fixture
def opens(browser, origin):
    contexts = []

    def page(hash="", **options):
        contexts.append(browser.new_context(**options))
        tab = contexts[-1].new_page()
        tab.asked = []
        tab.errors = []
        tab.on("request", lambda r: tab.asked.append(urlsplit(r.url).path))
        tab.on("pageerror", lambda e: tab.errors.append(str(e)))
        tab.goto(f"{origin}/book/index.html{hash}")
        return tab

    yield page
    for context in contexts:
        assert not [e for tab in context.pages for e in tab.errors]
        context.close()


def told(tab, words):
    """Wait for what the box says; returns it."""
    tab.wait_for_function(
        "w => document.querySelector('.own-now').textContent.includes(w)", arg=words
    )
    return tab.locator(".own-now").inner_text()


def bars(tab):
    return tab.locator(".own-bar").evaluate_all("e => e.map(b => parseFloat(b.style.height))")


def ticks(tab):
    return tab.locator(".own-tick").evaluate_all("e => e.map(b => parseFloat(b.style.bottom))")


def test_tables_are_small_and_come_on_the_first_click_only(opens, site, sentence):
    assert (site / sentence.NAME).stat().st_size <= 3_000_000
    tab = opens()
    tab.locator("#own-sentence").scroll_into_view_if_needed()
    tab.wait_for_timeout(500)
    assert not [path for path in tab.asked if path.endswith("own-sentence.js")]
    tab.click(".own-form button")
    told(tab, "is off by")
    tab.fill("#own-text", "Another sentence")
    tab.press("#own-text", "Enter")
    tab.wait_for_function("document.querySelectorAll('.own-word').length === 4")
    assert len([path for path in tab.asked if path.endswith("own-sentence.js")]) == 1


def test_bars_grow_to_their_ticks_with_the_slider_and_the_address_holds_it(opens):
    tab = opens()
    tab.fill("#own-text", "What could divide by such a sum?")
    tab.click(".own-form button")
    told(tab, "With 1,000 neurons")
    tab.focus("#own-neurons")
    tab.keyboard.press("Home")
    told(tab, "With 100 neurons")
    few = np.abs(np.array(bars(tab)) / ticks(tab) - 1)
    tab.keyboard.press("End")
    told(tab, "With 100,000 neurons")
    tab.wait_for_timeout(400)  # the bars move
    many = np.abs(np.array(bars(tab)) / ticks(tab) - 1)
    assert np.median(many) < 0.1 and np.median(many) < 0.5 * np.median(few)
    words, now = tab.locator(".own-token").all_inner_texts(), told(tab, "listens most")
    hash = tab.evaluate("location.hash")
    asked = parse_qs(hash.partition("?")[2])
    assert asked["text"] == ["What could divide by such a sum?"] and asked["neurons"] == ["100000"]
    again = opens(hash)
    assert told(again, "With 100,000 neurons") == now
    assert again.locator(".own-token").all_inner_texts() == words
    assert again.locator("#own-text").input_value() == "What could divide by such a sum?"


def test_a_word_chosen_by_keyboard_pointer_or_finger_shows_what_it_listens_to(opens):
    tab = opens("#own-sentence?text=my+experience&neurons=500&word=1")
    told(tab, "“my” listens most to")
    tab.focus(".own-word[aria-pressed=true]")
    tab.keyboard.press("ArrowRight")
    told(tab, "“experience” listens")
    assert tab.evaluate("document.activeElement.textContent.includes('experience')")
    assert "word=2" in tab.evaluate("location.hash")
    tab.hover(".own-word >> nth=1")
    told(tab, "“my” listens")
    for kind in ("exact", "circuit"):
        assert tab.locator(f".own-{kind}").count() == 3  # to all others
    tab.hover(".own-form label")
    told(tab, "“experience” listens")  # the one chosen
    phone = opens(
        "#own-sentence?text=my+experience", viewport=PHONE, has_touch=True, is_mobile=True
    )
    told(phone, "is off by")
    phone.tap(".own-word >> nth=0")
    told(phone, "“[CLS]” listens")


def test_lines_show_the_weights(opens, box):
    text = "an astrocyte divides by what it has heard"
    tab = opens(f"#own-sentence?text={text}&word=3")
    told(tab, "is off by")
    weights = box.evaluate(
        """text => { const {words} = own.read(tables, text);
             return own.softmax(own.heads(tables, words), words.length, tables.d).weights[3]; }""",
        text,
    )
    drawn = {
        int(path.get_attribute("data-to")): float(path.get_attribute("stroke-width"))
        for path in tab.locator(".own-exact").all()
    }
    others = [i for i in np.argsort(weights)[::-1] if i != 3][:5]
    assert sorted(drawn) == sorted(others)
    for i, width in drawn.items():
        assert width == pytest.approx(1 + 16 * weights[i])


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_a_long_sentence_fits_a_phone(opens, theme):
    tab = opens(viewport=PHONE, has_touch=True, is_mobile=True)
    tab.evaluate("theme => { document.documentElement.dataset.theme = theme; }", theme)
    tab.fill("#own-text", "a donaudampfschifffahrtsgesellschaft " * 9)
    tab.click(".own-form button")
    assert "Only the first 30 pieces are read" in told(tab, "is off by")
    for part in tab.locator("#own-sentence :is(button, input, output, .own-now)").all():
        place = part.bounding_box()
        assert place["x"] >= 0 and place["x"] + place["width"] <= PHONE["width"]
    for part in tab.locator("#own-sentence :is(button, input)").all():
        assert part.bounding_box()["height"] >= 44
    assert tab.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]


def test_no_words_and_no_tables_are_said(opens, browser, origin):
    tab = opens()
    tab.fill("#own-text", "  ")
    tab.click(".own-form button")
    told(tab, "Write a few words first.")
    tab.context.route("**/own-sentence.js*", lambda route: route.abort())
    tab.fill("#own-text", "words")
    tab.click(".own-form button")
    told(tab, "did not come")
    tab.context.unroute("**/own-sentence.js*")
    tab.click(".own-form button")
    told(tab, "is off by")


def test_from_disk_it_works_too(browser, site):
    tab = browser.new_page()
    tab.goto((site / "book/index.html").as_uri())
    tab.click(".own-form button")
    told(tab, "is off by")
    tab.close()


def test_without_weights_the_box_says_why_and_stands_still(sentence, monkeypatch, tmp_path):
    monkeypatch.setenv("TRIPARTITE_CACHE", str(tmp_path))
    noted = []
    env = SimpleNamespace(docname="book/index", note_dependency=noted.append)
    state = SimpleNamespace(document=SimpleNamespace(settings=SimpleNamespace(env=env)))
    directive = sentence.OwnSentence.__new__(sentence.OwnSentence)
    directive.state = state
    (node,) = directive.run()
    assert "tripartite fetch" in node.astext() and "data-from" not in node.astext()
    assert "<form" not in node.astext() and node.astext().count("own-bar") == 10
    assert str(tmp_path / MODEL / "model.safetensors") in noted  # looked for at the next build
    app = SimpleNamespace(builder=SimpleNamespace(name="html"), outdir=str(tmp_path / "site"))
    sentence.write_tables(app, None)
    assert not (tmp_path / "site").exists()


def test_without_scripts_one_sentence_is_shown(browser, origin):
    context = browser.new_context(java_script_enabled=False)
    tab = context.new_page()
    tab.goto(f"{origin}/book/index.html")
    assert tab.locator(".own-word").count() == 10
    assert not tab.locator(".own-form").is_visible() and not tab.locator(".own-slider").is_visible()
    context.close()


def test_still_bars_are_what_the_network_pools(sentence):
    tokens, Z, p = sentence.still()
    assert " ".join(tokens[1:]) == sentence.SENTENCE
    markup = sentence.figure(None, "")
    heights = [float(x) for x in re.findall(r"own-bar\" style=\"height:([\d.]+)%", markup)]
    bottoms = [float(x) for x in re.findall(r"own-tick\" style=\"bottom:([\d.]+)%", markup)]
    np.testing.assert_allclose(np.divide(heights, bottoms), p / Z, atol=0.02)
    assert tokens[0] == "[CLS]"
