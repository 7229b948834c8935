"""The pictures in images/, cut from those that scikit-image and scikit-learn carry.

    python scripts/make_images.py SCIKIT_IMAGE_WHEEL SCIKIT_LEARN_WHEEL

Wheels of scikit-image 0.26.0 and scikit-learn 1.9.1. Needs Pillow. Colours are stored at full
resolution (4:4:4), so that every decoder gives the same pixels.
"""

from __future__ import annotations

import io
import sys
import zipfile
from pathlib import Path

from PIL import Image

DATA = Path(__file__).parents[1] / "data"


FOLDER = DATA / "images"
SIDE = 320
QUALITY = 90
# member of the wheel, left and top corner and side of the square, in pixels of the original
SKIMAGE = {
    "astronaut": ("skimage/data/astronaut.png", 0, 0, 512),
    "cat": ("skimage/data/chelsea.png", 75, 0, 300),
    "coffee": ("skimage/data/coffee.png", 80, 0, 400),
    "galaxies": ("skimage/data/hubble_deep_field.jpg", 200, 100, 640),
    "rocket": ("skimage/data/rocket.jpg", 100, 0, 427),
}
SKLEARN = {"pagoda": ("sklearn/datasets/images/china.jpg", 0, 0, 427)}


def main(skimage: str, sklearn: str) -> None:
    for wheel, pictures in ((skimage, SKIMAGE), (sklearn, SKLEARN)):
        with zipfile.ZipFile(wheel) as archive:
            for name, (member, left, top, side) in pictures.items():
                picture = Image.open(io.BytesIO(archive.read(member))).convert("RGB")
                square = picture.crop((left, top, left + side, top + side))
                square = square.resize((SIDE, SIDE), Image.Resampling.LANCZOS)
                path = FOLDER / f"{name}.jpg"
                square.save(path, quality=QUALITY, subsampling=0, optimize=True)
                print(f"{path.name}: {path.stat().st_size} bytes")


if __name__ == "__main__":
    main(*sys.argv[1:])
