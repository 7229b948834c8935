"""Mathematics, typeset once when the site is built, by the MathJax that pages carry, in Chromium.

A reader's phone then shows formulas at once and runs no MathJax, and they are there without JavaScript.
Where no Chromium is installed, or a formula is new to a page, `mathematics.js` typesets in the reader's
browser: the pages look the same.
"""

import hashlib
import json
import re
import shutil
from pathlib import Path

from sphinx.util import logging

from companion.files import write_bytes
from companion.paths import BUILD

KEPT = BUILD / "mathematics.json"  # formulas and their sheet, from one build to the next
FONTS = "output/chtml/fonts/woff-v2"
FORMULA = re.compile(
    r'(?P<open><(?:span|div)(?=[^>]* class="(?:amsmath )?math )[^>]*>)'
    r"(?P<before>(?:(?!</div>|\\\[|\\\().)*?)"
    r"(?P<tex>\\\(.*?\\\)|\\\[.*?\\\])",
    re.DOTALL,
)
# As MathJax would scale it: its letters as high as those around, of which 1ex is the height.
SCALE = "mjx-container[jax] { font-size: calc(1ex / 0.442) !important; }"
PAGE = """<!doctype html>
<html><head><meta charset="utf-8"><script>
MathJax = {
  loader: {load: ["core", "input/tex", "output/chtml", "a11y/assistive-mml"]},
  startup: {typeset: false},
  chtml: {matchFontHeight: false},
};
</script><script src="startup.js"></script></head><body></body></html>
"""
TYPESET = """async formulas => {
  await MathJax.startup.promise;
  const made = formulas.map(tex => Object.assign(document.createElement("div"), {innerHTML: tex}));
  document.body.append(...made);
  await MathJax.typesetPromise(made);
  const sheets = [...document.styleSheets].flatMap(sheet => [...sheet.cssRules]);
  return [made.map(e => e.innerHTML), sheets.map(rule => rule.cssText)];
}"""

logger = logging.getLogger(__name__)


def formulas(page: str) -> set[str]:
    """What a page has in its mathematics, as written there, with its delimiters."""
    return {m["tex"] for m in FORMULA.finditer(page)}


def typeset(wanted: set[str], mathjax: Path) -> tuple[dict[str, str], str]:
    """Formulas to markup, and their style sheet, its addresses as seen from the folder above mathjax.

    Both are empty where no Chromium runs.
    """
    scripts = b"".join(path.read_bytes() for path in sorted(mathjax.rglob("*.js")))
    made_by = hashlib.sha256(scripts + PAGE.encode()).hexdigest()
    kept = json.loads(KEPT.read_text(encoding="utf-8")) if KEPT.exists() else {}
    known = kept["markup"] if kept.get("made by") == made_by else {}
    if not wanted <= known.keys():
        every = sorted(wanted | known.keys())
        if not (made := _in_chromium(every, mathjax)):
            return {}, ""
        markup, rules = made
        sheet = "\n".join(rules).replace((mathjax / FONTS).as_uri(), f"mathjax/{FONTS}")
        known = dict(zip(every, markup, strict=True))
        kept = {"made by": made_by, "markup": known, "sheet": f"{sheet}\n{SCALE}\n"}
        write_bytes(KEPT, json.dumps(kept).encode())
    return known, kept.get("sheet", "")


def _in_chromium(every: list[str], mathjax: Path) -> tuple[list[str], list[str]] | None:
    from playwright.sync_api import Error, sync_playwright

    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    shell = mathjax / "typeset.html"
    write_bytes(shell, PAGE.encode())
    try:
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
            tab = browser.new_page()
            tab.goto(shell.resolve().as_uri())
            return tab.evaluate(TYPESET, every)
    except Error as error:
        logger.info(f"mathematics is left to the readers' browsers: {error}")
        return None
    finally:
        shell.unlink()


def replace(page: str, markup: dict[str, str]) -> str:
    """A page with the formulas that are known."""
    return FORMULA.sub(lambda m: m["open"] + m["before"] + markup.get(m["tex"], m["tex"]), page)
