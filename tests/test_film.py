"""Films: the sheet of frames that Python writes, and the player that a reader meets."""

import io
import re

import numpy as np
import pytest
from PIL import Image

from companion import film
from companion.chapters import chapters
from companion.film import COLUMNS, GAP
from companion.paths import ROOT
from test_site import PHONE

FILMS = [
    (chapter, cell)
    for chapter in chapters()
    for cell in chapter.code_cells()
    if "film" in cell.metadata.get("mystnb", {}).get("image", {}).get("classes", "").split()
]


# --- the sheet ------------------------------------------------------------------------------------


def opened(shown):
    return Image.open(io.BytesIO(shown.png))


def test_sheet_holds_every_frame_in_reading_order():
    side, n = 3, 20
    frames = np.arange(n)[:, None, None] * np.ones((n, side, side))
    picture = opened(film(frames, 0.5, low=0, high=n - 1, colours="gray"))
    assert picture.mode == "P"
    assert picture.size == (COLUMNS * (side + 2 * GAP), 2 * (side + 2 * GAP))
    pixels = np.asarray(picture.convert("RGBA"))
    for k in range(n):
        top, left = (x * (side + 2 * GAP) + GAP for x in divmod(k, COLUMNS))
        frame = pixels[top : top + side, left : left + side]
        # 255 levels for a map of 256 greys: off by up to 2; from frame to frame it is 13
        assert np.all(np.abs(frame[..., :3].astype(int) - 255 * k / (n - 1)) <= 3), k
        assert np.all(frame[..., 3] == 255)
    assert np.all(pixels[:GAP, :, 3] == 0)  # the gaps are transparent


def test_frames_keep_their_orientation_and_stay_within_the_colours():
    frames = np.zeros((COLUMNS, 2, 2))
    frames[0] = [[1, 0], [-5, 7]]  # top left is high; beyond the ends of the colour map is its end
    pixels = np.asarray(opened(film(frames, 1, low=0, high=1, colours="gray")).convert("L"))
    corner = pixels[GAP : GAP + 2, GAP : GAP + 2]
    assert corner.tolist() == [[255, 0], [0, 255]]


def test_a_notebook_gets_a_picture_and_words_that_do_not_depend_on_numbers():
    rng = np.random.default_rng(0)
    bundles = [
        film(rng.random((COLUMNS, 4, 4)), 0.25, low=0, high=1)._repr_mimebundle_() for _ in "ab"
    ]
    assert bundles[0]["text/plain"] == "film of 10 frames, 4 by 4, 250 ms apart"
    assert bundles[0]["text/plain"] == bundles[1]["text/plain"]
    assert bundles[0]["image/png"] != bundles[1]["image/png"]
    assert all(set(bundle) == {"text/plain", "image/png"} for bundle in bundles)


@pytest.mark.parametrize(
    ("frames", "ends", "complaint"),
    [
        (np.zeros((10, 3, 4)), (0, 1), r"\(10, 3, 4\): must be \(n, side, side\)"),
        (np.zeros((3, 3)), (0, 1), "must be"),
        (np.zeros((0, 3, 3)), (0, 1), "must be"),
        (np.zeros((12, 3, 3)), (0, 1), "12 frames: must be a multiple of 10"),
        (np.full((10, 3, 3), np.nan), (0, 1), "must be finite"),
        (np.zeros((10, 3, 3)), (1, 1), "low must be below high"),
    ],
)
def test_what_is_no_film_is_refused(frames, ends, complaint):
    with pytest.raises(ValueError, match=complaint):
        film(frames, 1.0, low=ends[0], high=ends[1])


def test_script_and_python_agree_on_the_sheet():
    script = (ROOT / "book/_static/film.js").read_text(encoding="utf-8")
    assert int(re.search(r"COLUMNS = (\d+)", script)[1]) == COLUMNS


def test_there_is_a_film():
    assert FILMS


@pytest.mark.parametrize("cell", [cell for _, cell in FILMS], ids=[c.slug for c, _ in FILMS])
def test_a_film_in_a_chapter_says_its_pace_and_is_small(cell):
    (output,) = cell.outputs
    shown = cell.metadata["mystnb"]["image"]
    (pace,) = re.findall(r"\bfilm-(\d+)ms\b", shown["classes"])
    assert output.data["text/plain"].endswith(f", {pace} ms apart")
    assert "keep-colors" in shown["classes"].split() and len(shown["alt"]) > 40
    assert len(output.data["image/png"]) < 400_000  # base64 of 300 kB


# --- the player -----------------------------------------------------------------------------------


@pytest.fixture
def opens(site, browser):
    """Open the page with the first film, from disk as a reader without a server does."""
    contexts = []

    def page(**options):
        contexts.append(browser.new_context(**options))
        tab = contexts[-1].new_page()
        tab.goto((site / "book" / f"{FILMS[0][0].slug}.html").as_uri())
        return tab

    yield page
    for context in contexts:
        context.close()


@pytest.fixture
def tab(opens):
    tab = opens()
    tab.wait_for_selector(".film-player canvas")
    return tab


def frame(tab):
    return int(tab.get_by_role("slider", name="Time").input_value())


def picture(tab):
    return tab.locator(".film-player canvas").screenshot()


def test_nothing_moves_until_play_is_pressed(tab):
    before = frame(tab), picture(tab)
    tab.wait_for_timeout(600)
    assert (frame(tab), picture(tab)) == before
    assert tab.get_by_role("button", name="Play", exact=True).is_visible()


def test_it_plays_pauses_and_stops_at_the_end(tab):
    last = frame(tab)  # it opens on its last frame, and plays from the first
    tab.get_by_role("button", name="Play", exact=True).click()
    tab.wait_for_function("document.querySelector('.film-player input').valueAsNumber == 3")
    tab.get_by_role("button", name="Pause").click()
    paused = frame(tab), picture(tab)
    assert 3 <= paused[0] < last
    tab.wait_for_timeout(400)
    assert (frame(tab), picture(tab)) == paused
    tab.get_by_role("slider", name="Time").fill(str(last - 1))
    tab.get_by_role("button", name="Play", exact=True).click()
    tab.get_by_role("button", name="Pause").wait_for(state="detached")
    assert frame(tab) == last
    assert tab.get_by_role("button", name="Play", exact=True).is_visible()


def test_the_slider_moves_the_picture_by_keyboard_and_says_the_time(tab):
    slider, shown = tab.get_by_role("slider", name="Time"), tab.locator(".film-player output")
    slider.focus()
    tab.keyboard.press("Home")
    first = picture(tab)
    assert frame(tab) == 0 and shown.inner_text() == "0 s"
    for _ in range(20):
        tab.keyboard.press("ArrowRight")
    assert frame(tab) == 20 and picture(tab) != first
    assert shown.inner_text() == slider.get_attribute("aria-valuetext") == "40 s"


def test_every_frame_has_its_place_on_the_sheet(tab):
    seen = set()
    for k in (50, 55, 60, 65):  # two columns of two rows
        tab.get_by_role("slider", name="Time").fill(str(k))
        seen.add(picture(tab))
    assert len(seen) == 4


def test_the_button_works_by_keyboard(tab):
    tab.get_by_role("button", name="Play", exact=True).focus()
    tab.keyboard.press("Space")
    tab.get_by_role("button", name="Pause").wait_for()
    tab.keyboard.press("Enter")
    tab.get_by_role("button", name="Play", exact=True).wait_for()
    tab.keyboard.press("Tab")
    assert tab.evaluate("document.activeElement.type") == "range"


def test_the_player_is_described(tab):
    alt = FILMS[0][1].metadata["mystnb"]["image"]["alt"]
    assert tab.locator(".film-player canvas").get_attribute("aria-label").split() == alt.split()
    tab.get_by_text("All frames").click()
    assert tab.locator("img.film").is_visible()


def test_with_reduced_motion_it_waits_too(opens):
    tab = opens(reduced_motion="reduce")
    tab.wait_for_selector(".film-player canvas")
    before = picture(tab)
    tab.wait_for_timeout(600)
    assert picture(tab) == before


def test_without_script_the_sheet_is_the_picture(opens):
    tab = opens(java_script_enabled=False)
    sheet = tab.locator("img.film")
    assert sheet.is_visible() and sheet.bounding_box()["width"] > 300
    assert tab.locator(".film-player").count() == 0


def test_it_fits_a_phone(opens):
    tab = opens(viewport=PHONE)
    tab.wait_for_selector(".film-player canvas")
    for part in ("canvas", "button", "input", "output"):
        box = tab.locator(f".film-player {part}").first.bounding_box()
        assert box["x"] >= 0 and box["x"] + box["width"] <= PHONE["width"], part
        if part in ("button", "input"):
            assert box["height"] >= 44, part  # what a finger can hit
