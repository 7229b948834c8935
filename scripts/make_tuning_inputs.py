"""Texts and pictures that tuning curves are fitted, chosen and tested on: FOLDER/inputs.npz.

Run as `python scripts/make_tuning_inputs.py FOLDER` on Debian 12; downloads some 550 MB of packages
with apt-get into FOLDER and ships none of it. The three splits share no source: a package, or a
category of the fortunes, is in one of them only.
"""

import gzip
import html
import io
import re
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from companion.fetch import model_directory
from companion.paths import DATA
from tripartite import pretrained

PACKAGES = (
    "anarchism", "debian-handbook", "fortunes", "dict-devil", "miscfiles",
    "display-dhammapada", "developers-reference", "lomiri-wallpapers-16.04",
    "lomiri-wallpapers-20.04", "ukui-wallpapers", "mate-backgrounds",
    "plasma-workspace-wallpapers", "gcompris-qt-data", "opencv-doc", "dict-jargon", "dict-foldoc",
    "wesnoth-1.16-httt", "wesnoth-1.16-low", "wesnoth-1.16-nr", "wesnoth-1.16-trow",
    "gnome-user-docs", "python3.11-doc",
)  # fmt: skip
HELD_OUT = ("science", "literature", "food", "tao", "education", "wisdom")  # of the fortunes
LONG, LONGEST, SIDE = 256, 512, 224  # tokens, tokens, pixels


def download(folder: Path) -> None:
    """Packages, unpacked below folder/NAME; those already there are left alone."""
    for name in PACKAGES:
        if not (folder / name).is_dir():
            subprocess.run(["apt-get", "download", name], cwd=folder, check=True)
            (deb,) = folder.glob(f"{name}_*.deb")
            subprocess.run(["dpkg", "-x", deb, folder / name], check=True)


def plain(path: Path) -> str:
    """Text of a file, without the tags of a page or the marks between fortunes."""
    raw = path.read_bytes()
    text = (gzip.decompress(raw) if raw[:2] == b"\x1f\x8b" else raw).decode("utf-8", "ignore")
    if path.suffix == ".cfg":  # what the people of a story say
        text = " ".join(re.findall(r'_\s*"([^"]{40,})"', text))
    if path.suffix in (".html", ".page"):
        text = re.sub(r"(?s)<(script|style|head)\b.*?</\1>|<[^>]+>", " ", text)
        text = html.unescape(text)
    return re.sub(r"\s+", " ", re.sub(r"(?m)^%$", "", text)).strip()


def windows(tokenize, files, count, length):
    """count windows of length tokens, spread evenly over the files, as ids (count, length)."""
    files = sorted(files)
    found = []
    for path in files:
        words = plain(path).split()
        step = int(0.9 * length)  # a word is at least one token: enough to fill the window
        pieces = [" ".join(words[i : i + 2 * step]) for i in range(0, len(words) - step, 2 * step)]
        found.append(pieces)
    order = [piece for group in zip_longest_strided(found) for piece in group]
    ids = []
    for piece in order:
        tokens = tokenize(piece)
        if len(tokens) == length:
            ids.append(tokens)
        if len(ids) == count:
            return np.array(ids)
    raise ValueError(f"only {len(ids)} windows of {length} tokens in {len(files)} files")


def zip_longest_strided(groups):
    """First pieces of all groups, then second pieces, and so on."""
    for n in range(max(map(len, groups))):
        yield [group[n] for group in groups if n < len(group)]


def texts(folder: Path) -> dict[str, np.ndarray]:
    model = pretrained.load(model_directory("all-MiniLM-L6-v2"), np.float32)

    def cut(length):
        return lambda text: model.tokenize(text, length).ids

    fortunes = [
        path
        for path in (folder / "fortunes/usr/share/games/fortunes").iterdir()
        if path.is_file() and not path.suffix and path.name not in ("ascii-art", "zippy")
    ]
    held = [path for path in fortunes if path.name in HELD_OUT]
    rest = [path for path in fortunes if path not in held]
    faq = list((folder / "anarchism/usr/share/doc/anarchism/html").glob("sec*.html"))
    book = list((folder / "debian-handbook/usr/share/doc").glob("**/en-US/*.html"))
    manual = list((folder / "developers-reference/usr/share").glob("**/*.en.html"))
    manual += list((folder / "developers-reference/usr/share").glob("**/docs/*.html"))
    stories = [
        path
        for name in ("httt", "low", "nr", "trow")
        for path in (folder / f"wesnoth-1.16-{name}").glob("**/scenarios/*.cfg")
    ]
    library = list((folder / "python3.11-doc").glob("**/_sources/**/*.rst.txt"))
    help_pages = list((folder / "gnome-user-docs").glob("**/C/gnome-help/*.page"))
    words = [next((folder / f"dict-{n}").glob(f"**/{n}.dict.dz")) for n in ("jargon", "foldoc")]
    bible = next((folder / "dict-devil").glob("**/devil.dict.dz"))
    state = next((folder / "miscfiles").glob("**/us-constitution.gz"))
    saying = next((folder / "display-dhammapada").glob("**/dhammapada-english-transl.txt"))
    to_fit = ((faq, 320), (book, 120), (rest, 120), (stories, 100), (library, 80),
              (help_pages, 40), (words, 200))  # fmt: skip
    to_choose = (held, 6), (manual, 2)

    def several(parts, length, share=1):
        return np.concatenate([windows(cut(length), x, n // share, length) for x, n in parts])

    # texts of 512 tokens are fewer, and those of the test split leave out the dictionary's header
    return {
        "fit_long": several(to_fit, LONG),
        "fit_longest": several(to_fit, LONGEST, 2),
        "validation_long": several(to_choose, LONG),
        "validation_longest": several(to_choose, LONGEST),
        "test_long": several((([bible], 2), ([state], 2), ([saying], 1)), LONG),
        "test_longest": several((([bible], 4), ([state], 3), ([saying], 2)), LONGEST)[1:],
    } | {
        f"test_{name}": model.tokenize((DATA / f"texts/{name}.txt").read_text("utf-8"), LONG).ids
        for name in ("attention", "entangled-bank", "gettysburg")
    }


def carved(path: Path) -> list[Image.Image]:
    """Photographs of at least SIDE pixels in a Qt resource file, which keeps WebP as it is."""
    data, found = path.read_bytes(), []
    for match in re.finditer(rb"RIFF(....)WEBP", data, re.DOTALL):
        size = struct.unpack("<I", match[1])[0] + 8
        try:
            image = Image.open(io.BytesIO(data[match.start() : match.start() + size]))
            image.load()
        except OSError:
            continue
        if image.mode == "RGB" and min(image.size) >= SIDE:
            found.append(image)
    return found


def crops(image: Image.Image, count: int, rng: np.random.Generator) -> list[np.ndarray]:
    """count random squares, half of them mirrored, as uint8 (SIDE, SIDE, 3)."""
    image, out = image.convert("RGB"), []
    for _ in range(count):
        side = int(min(image.size) * rng.uniform(0.5, 1.0))
        left, top = (rng.integers(0, extent - side + 1) for extent in image.size)
        square = image.crop((left, top, left + side, top + side))
        square = square.resize((SIDE, SIDE), Image.Resampling.BICUBIC)
        out.append(np.array(ImageOps.mirror(square) if rng.random() < 0.5 else square))
    return out


def pictures(folder: Path) -> dict[str, np.ndarray]:
    import sklearn  # for one of its pictures

    rng = np.random.default_rng(0)
    fit, validation = [], []
    for name in ("ukui-wallpapers", "mate-backgrounds", "plasma-workspace-wallpapers"):
        for path in sorted((folder / name).glob("**/*")):
            if path.suffix in (".jpg", ".png") and path.stat().st_size > 200_000:
                with Image.open(path) as image:
                    fit += crops(image, 2, rng)
    for path in sorted((folder / "gcompris-qt-data").glob("**/*.rcc")):
        for image in carved(path):
            fit += crops(image, 2, rng)
    for path in sorted((folder / "opencv-doc").glob("**/*.[jJ][pP]*[gG]")):
        if path.is_file() and path.stat().st_size > 15_000:
            with Image.open(path) as image:
                if min(image.size) >= SIDE:
                    fit += crops(image, 1, rng)
    for name in ("lomiri-wallpapers-16.04", "lomiri-wallpapers-20.04"):
        for path in sorted((folder / name).glob("**/*.jpg")):
            if path.stat().st_size > 200_000:
                with Image.open(path) as image:
                    validation += crops(image, 1, rng)
    fit = rng.permutation(np.stack(fit))
    flower = Image.open(Path(sklearn.__file__).parent / "datasets/images/flower.jpg")
    test = [DATA / f"images/{n}.jpg" for n in
            ("astronaut", "cat", "coffee", "galaxies", "pagoda", "rocket")]  # fmt: skip
    test = [
        np.array(ImageOps.fit(Image.open(p), (SIDE, SIDE), Image.Resampling.BICUBIC)) for p in test
    ]
    test.append(np.array(ImageOps.fit(flower, (SIDE, SIDE), Image.Resampling.BICUBIC)))
    return {
        "picture_fit": fit,
        "picture_validation": np.stack(validation),
        "picture_test": np.stack(test),
    }


def main() -> None:
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    download(folder)
    arrays = texts(folder) | pictures(folder)
    np.savez(folder / "inputs.npz", **arrays)
    for name, array in arrays.items():
        print(name, array.shape)


if __name__ == "__main__":
    main()
