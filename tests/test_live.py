"""Chapters that run in the page, in a browser that reaches no host but the site's own."""

import functools
import http.server
import json
import os
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import save_file

from companion import fetch, inpage, inpage_safetensors, plotted
from companion.chapters import chapters, find
from companion.claims import recorded
from companion.parameters import ParameterError
from companion.paths import ROOT

SLUGS = ("05-presynaptic-terminal",)
MINUTES = 300_000  # milliseconds, on a machine that does other work


# --- what runs cells, without a browser ---


def cell(name, source, parameters=False, text=""):
    return {"id": name, "source": source, "parameters": parameters, "text": text}


CELLS = [
    cell("p", "size: int = 1  # a size; none; 0 .. 9", parameters=True),
    cell("i", "from companion.inpage import claim, explorer, prose"),
    cell("gone", "import no_such_module\nlost = size"),
    cell("needs", "lost + 1"),
    cell("sweep", "explorer(None, 'x')"),
    cell("good", "claim('C1', 'size-is-small', 'Size', size, '< 5', kind='fact')"),
    cell("text", "prose('Size {size}.', size=size)", text="Size 1."),
]


def executed(values):
    shown = []
    inpage.execute(CELLS, values, shown.append)
    return {found["cell"]: found for found in shown if "cell" in found}


def test_cells_run_and_what_cannot_is_named_with_the_reason(monkeypatch):
    monkeypatch.setenv("TRIPARTITE_CLAIMS", "")
    found = executed({})
    assert found["good"]["claim"]["holds"] and "text" not in found
    assert found["gone"]["reason"] == "it needs no_such_module, which the page does not have"
    assert found["needs"]["reason"] == "it needs lost, of a cell that did not run"
    assert "explorer" in found["sweep"]["reason"]


def test_another_value_reaches_claims_and_sentences(monkeypatch):
    monkeypatch.setenv("TRIPARTITE_CLAIMS", "")
    found = executed({"size": "7"})
    assert not found["good"]["claim"]["holds"] and found["good"]["claim"]["observed"] == 7
    assert found["text"]["text"] == "Size 7."


def test_value_that_is_not_allowed_is_refused_before_any_cell():
    shown = []
    with pytest.raises(ParameterError, match="size = 10: must be 0 .. 9"):
        inpage.execute(CELLS, {"size": "10"}, shown.append)
    assert shown == []


def test_stand_in_reads_safetensors_as_the_package_does(tmp_path):
    path = tmp_path / "x.safetensors"
    rng = np.random.default_rng(0)
    arrays = {"a": rng.normal(size=(3, 4)), "b": np.arange(5, dtype=np.float32)}
    save_file(arrays, path, metadata={"of": "test"})
    with safe_open(path, "numpy") as theirs, inpage_safetensors.safe_open(path, "numpy") as ours:
        assert set(ours.keys()) == set(theirs.keys()) and ours.metadata() == theirs.metadata()
        for name in arrays:
            assert np.array_equal(ours.get_tensor(name), theirs.get_tensor(name))
            part = theirs.get_slice(name)
            assert ours.get_slice(name).get_dtype() == part.get_dtype()
            assert ours.get_slice(name).get_shape() == part.get_shape()
    path.write_bytes(b"\x02\0\0\0\0\0\0\0no")
    with pytest.raises(inpage_safetensors.SafetensorError, match="header"):
        inpage_safetensors.safe_open(path, "numpy")


def test_a_chapter_without_its_model_runs_from_a_recording(tmp_path):
    """What a page holds of chapter 4, in a Python of its own that has none of the book's modules."""
    code = (
        "import sys; sys.path.insert(0, 'book/_ext'); import json, live; from pathlib import Path\n"
        "chapter, folder = live.find('04'), Path(sys.argv[1])\n"
        "for name, content in (live.modules() | live.data(chapter)).items():\n"
        "    path = folder / name; path.parent.mkdir(parents=True, exist_ok=True)\n"
        "    path.write_bytes(content)\n"
        "(folder / 'page.json').write_text(json.dumps(live.described(chapter)))"
    )
    environment = os.environ | {"PYTHONPATH": str(ROOT / "code")}
    subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)], cwd=ROOT, env=environment, check=True
    )
    code = (
        "import json, sys; sys.path.insert(0, 'code'); from companion import execute\n"
        "page, shown = json.load(open('page.json')), []\n"
        "values = {p['name']: p['default'] for p in page['parameters']}\n"
        "execute(page['cells'], values, shown.append)\n"
        "print(values['source'], sum(m['same'] for m in shown if 'svg' in m),\n"
        "      all(m['claim']['holds'] for m in shown if 'claim' in m))\n"
        "print(*{m['reason'] for m in shown if 'reason' in m}, sep='; ')"
    )
    environment |= {"PYTHONPATH": "", "MPLBACKEND": "agg"}
    result = subprocess.run(
        [sys.executable, "-P", "-c", code],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
    )
    chosen, left = result.stdout.splitlines()
    assert chosen == f"recording {len(find('04').figures())} True", result.stderr
    assert left == "it makes an explorer, which is not drawn again here"


# --- the files ---


def test_runtime_with_one_wrong_byte_is_not_there(tmp_path, monkeypatch):
    monkeypatch.setenv("TRIPARTITE_CACHE", str(tmp_path))
    file = fetch.File("c1a5298f939e87e8f962a5edfc206c918a1a5c4d7ac9e9e2b8d6e4d8d3c2b1a0", 3)
    monkeypatch.setattr(fetch, "RUNTIME", fetch.RemoteModel({"pyodide.js": file}))
    (tmp_path / "pyodide").mkdir()
    (tmp_path / "pyodide/pyodide.js").write_bytes(b"abc")
    monkeypatch.setenv("TRIPARTITE_OFFLINE", "1")
    assert fetch.cached_runtime() is None
    with pytest.raises(fetch.FetchError, match="pyodide: pyodide.js not available"):
        fetch.runtime_directory()


def test_no_button_where_the_runtime_is_not_there(tmp_path):
    """The decision of a build without it, in a process of its own: Sphinx's modules are imported there."""
    code = (
        "import sys; sys.path.insert(0, 'book/_ext'); import live; from types import SimpleNamespace as N\n"
        "config = N(companion_live=['05']); live.decide(None, config)\n"
        "app = N(builder=N(name='html'), config=config)\n"
        "live.add_button(app, None, 'book/05-presynaptic-terminal')\n"  # would fail on no doctree
        "(out := live.Path(sys.argv[1]) / 'live').mkdir(); (out / 'old').touch()\n"
        "app.outdir = sys.argv[1]; live.write(app, None); print(out.exists())"
    )
    environment = {"TRIPARTITE_CACHE": str(tmp_path / "none"), "PYTHONPATH": str(ROOT / "code")}
    result = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
    )
    assert result.stdout.strip() == "False", result.stderr


# --- in a browser ---


@pytest.fixture(scope="module")
def live(site) -> Path:
    """A site whose chapters run in the page; skipped where its Python is not in the cache."""
    if not (site / "live/pyodide.js").exists():
        pytest.skip("Python for browsers is not here: tripartite fetch --live, then build the site")
    return site


@pytest.fixture
def address(live):
    class Handler(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_):
            pass

    handler = functools.partial(Handler, directory=live)
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def opened(browser, address, slug):
    page, asked = browser.new_page(), []
    page.on("request", lambda request: asked.append(request.url))
    page.goto(f"{address}/book/{slug}.html")
    assert not [url for url in asked if "/live/" in url], "loaded before the click"
    page.click("button.live-open")
    page.wait_for_function(READY, timeout=MINUTES)
    foreign = [u for u in asked if not u.startswith((address, "blob:", "data:"))]
    assert foreign == [], "asked another host"
    return page


STATUS = "document.querySelector('.live-status')?.textContent ?? ''"
READY = f"/^(Ready|Not done)/.test({STATUS})"
DONE = f"/^(Done|Not done)/.test({STATUS})"


def run(page, **values):
    for name, value in values.items():
        page.fill(f"[name={name}]", value)
    page.click(".live button:has-text('Run')")
    page.wait_for_function(DONE, timeout=MINUTES)
    assert page.inner_text(".live-status").startswith("Done"), page.inner_text(".live-status")
    boxes = page.locator(".live-result").evaluate_all("all => all.map(box => ({...box.dataset}))")
    claims = {box["claim"]: box for box in boxes if "claim" in box}
    return claims, {box["figure"]: float(box["deviation"]) for box in boxes if "figure" in box}


@pytest.mark.parametrize("slug", SLUGS)
def test_chapter_gives_the_committed_numbers_in_the_page(browser, address, slug):
    page = opened(browser, address, slug)
    assert_committed(slug, *run(page))
    page.close()


def assert_committed(slug, claims, figures):
    known = find(slug)
    assert figures.keys() == known.figures().keys()
    assert max(figures.values()) <= plotted.TOLERANCE
    for name, claim in recorded(known.cells()).items():
        assert claims[name]["holds"] == "true", name
        if claim["kind"] != "identity":  # whose rounding differs between machines
            fresh = float(claims[name]["observed"])
            assert fresh == pytest.approx(claim["observed"], rel=plotted.TOLERANCE, abs=1e-6), name


def test_a_stopped_run_starts_anew_and_another_parameter_breaks_a_claim_and_moves_figures(
    browser, address
):
    page = opened(browser, address, "09-continuous-time")
    default = page.locator("[name=tau_neuron]").input_value()
    assert page.locator("[name=tau_neuron]").get_attribute("max") == "0.2"
    page.fill("[name=tau_neuron]", "5")  # the browser itself refuses it
    page.click(".live button:has-text('Run')")
    assert page.inner_text(".live-status").startswith("Ready")
    page.fill("[name=tau_neuron]", "0.2")
    page.click(".live button:has-text('Run')")
    page.click(".live button:has-text('Stop')")
    page.wait_for_function(READY, timeout=MINUTES)
    assert_committed("09-continuous-time", *run(page, tau_neuron=default))
    claims, figures = run(page, tau_neuron="0.2")
    assert "false" in {claim["holds"] for claim in claims.values()}
    assert max(figures.values()) > plotted.TOLERANCE
    assert "fails with your values" in page.inner_text(".live-report")
    assert "explorer" in page.inner_text(".live-left")
    page.close()


def test_browser_refuses_a_package_with_another_hash(browser, live, tmp_path):
    name = next(n for n in fetch.RUNTIME.files if n.startswith("six"))
    broken = tmp_path / "site"
    shutil.copytree(live / "live", broken / "live", copy_function=shutil.copy)
    content = bytearray((broken / "live" / name).read_bytes())
    content[-1] ^= 1
    (broken / "live" / name).write_bytes(content)
    (broken / "book").mkdir()
    (broken / "book/x.html").write_text(
        "<!doctype html><button class='live-open' onclick=\"import('../live/live.js')"
        ".then(m=>m.open(this,'05-presynaptic-terminal'))\">x</button>"
    )
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=broken)
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    page = opened(browser, f"http://127.0.0.1:{server.server_port}", "x")
    assert page.inner_text(".live-status").startswith("Not done")
    page.close()
    server.shutdown()
    server.server_close()


def test_only_the_listed_chapters_have_a_button(live):
    known = {p.stem for p in (live / "live").glob("*.json")} - {"pyodide-lock"}
    for chapter in chapters():
        page = (live / f"book/{chapter.slug}.html").read_text(encoding="utf-8")
        assert ("live-open" in page) == (chapter.slug in known), chapter.slug
    for slug in known:
        wanted = json.loads((live / f"live/{slug}.json").read_text())
        page = (live / f"book/{slug}.html").read_text(encoding="utf-8")
        for cell in wanted["cells"]:  # its results go under it
            assert page.count(f'id="cell-{cell["id"]}"') == 1, cell["id"]
        assert all(
            (live / "live" / name).stat().st_size == n for name, n in wanted["sizes"].items()
        )
