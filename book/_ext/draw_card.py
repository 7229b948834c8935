"""Draw the picture of link previews: `python book/_ext/draw_card.py` rewrites book/_static/card.png with Chromium.

1200 by 630, as the readers of Open Graph expect: the living picture in one state, and the book's title.
"""

import io
import shutil
from pathlib import Path

import living
from PIL import Image
from playwright.sync_api import sync_playwright

STATIC = Path(__file__).resolve().parent.parent / "_static"
PAGE = """<!doctype html><meta charset="utf-8"><style>
body {{ margin: 0; width: 1200px; height: 630px; display: grid; grid-template-columns: 1fr 640px; align-items: center;
  gap: 24px; padding: 0 44px; box-sizing: border-box; background: #fff; color: #1f2933; font-family: system-ui, sans-serif; }}
h1 {{ font-size: 52px; line-height: 1.12; margin: 0 0 24px; letter-spacing: -0.02em; }}
p {{ font: 25px/1.4 Georgia, serif; margin: 0; }}
{css}
</style><div><h1>Transformers from neurons and astrocytes</h1><p>An executable companion to Kozachkov, Kastanenka and
Krotov, PNAS 2023</p></div><figure class="living">{svg}</figure>"""


def page():
    seen = living.evolve()
    state, _, _ = living.states(seen)[living.SHOWN]
    css = (STATIC / "living.css").read_text(encoding="utf-8")
    return PAGE.format(css=css, svg=living.picture(seen, state))


def main():
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(
            executable_path=shutil.which("chromium"), args=["--no-sandbox"]
        )
        tab = chromium.new_page(viewport={"width": 1200, "height": 630})
        tab.set_content(page())
        picture = Image.open(io.BytesIO(tab.screenshot()))
        picture.quantize(64).save(STATIC / "card.png", optimize=True)
        chromium.close()


if __name__ == "__main__":
    main()
