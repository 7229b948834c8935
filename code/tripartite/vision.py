"""Vision models: ViT and DINOv2, from picture to tokens.

A picture is cut into square patches, each a token; a class token comes first. Pixels have shape
(..., height, width, 3); hidden states (..., 1 + rows * columns, features), patches row by row.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from .attention import softmax_attention
from .checkpoint import ACTIVATIONS, Family, Tensors, check_file, read_json, refuse_unknown
from .checks import check_finite, check_positive, check_positive_int, is_finite
from .encoder import Array, Attention, Block, Linear, Model, Norm, Wiring, layer_norm


@dataclass(frozen=True)
class VisionModel(Model):
    """A pretrained ViT or DINOv2 encoder. Dosovitskiy et al. 2021; Oquab et al. 2024."""

    patches: Linear = field(repr=False)  # one patch, channels before pixels -> features
    class_token: Array = field(repr=False)  # (features,)
    positions: Array = field(repr=False)  # (1 + patches of the training picture, features)
    norm: Norm = field(repr=False)  # of the last hidden state
    patch_size: int  # pixels
    preprocessing: Preprocessing = field(repr=False)

    @property
    def image_size(self) -> int:
        """Pixels a side, of what preprocess returns if not told otherwise."""
        return self.preprocessing.image_size

    def preprocess(self, image: Any, size: int | None = None) -> Array:
        """A picture as the model wants it, (image_size, image_size, 3), with normalised colours.

        image: path, PIL image, or uint8 array (height, width, 3). size: pixels a side, a multiple
        of patch_size, of the central square that `crop` takes, whatever the checkpoint does to
        pictures of other shapes. Returns (size, size, 3).
        """
        do, dtype = self.preprocessing, self.class_token.dtype
        colours = do.resized(image) if size is None else crop(image, size, do.resample)
        colours = colours.astype(dtype) / dtype.type(1 / do.scale)
        return (colours - np.array(do.mean, dtype)) / np.array(do.std, dtype)

    def grid(self, pixels: Array) -> tuple[int, int]:
        """Rows and columns of patches; ValueError unless pixels are (..., height, width, 3)."""
        shape = np.shape(pixels)
        if len(shape) < 3 or shape[-1] != 3 or 0 in shape:
            raise ValueError(f"pixels has shape {shape}: must be (..., height, width, 3)")
        if shape[-3] % self.patch_size or shape[-2] % self.patch_size:
            raise ValueError(
                f"pixels has height {shape[-3]}, width {shape[-2]}: "
                f"both must be multiples of the patch, {self.patch_size}"
            )
        return shape[-3] // self.patch_size, shape[-2] // self.patch_size

    def embed(self, pixels: Array) -> Array:
        """Class token and patches with their positions: (..., 1 + rows * columns, features).

        Positions that were learned on another grid are interpolated. Raises ValueError for
        pixels of another shape, or not finite.
        """
        rows, columns = self.grid(pixels)
        pixels = np.asarray(pixels, dtype=self.class_token.dtype)
        check_finite(pixels=pixels)
        lead, p = pixels.shape[:-3], self.patch_size
        cut = pixels.reshape(*lead, rows, p, columns, p, 3)
        cut = np.moveaxis(cut, (-5, -3, -1, -4, -2), (-5, -4, -3, -2, -1))
        patches = self.patches(cut.reshape(*lead, rows * columns, 3 * p * p))
        first = np.broadcast_to(self.class_token, (*lead, 1, self.d_model))
        x = np.concatenate([first, patches], axis=-2)
        return x + resize_positions(self.positions, rows, columns)

    def features(
        self, pixels: Array, attention: Attention | Sequence[Attention] = softmax_attention
    ) -> Array:
        """The last hidden state after its norm, which is what the model hands on."""
        return layer_norm(self.hidden_states(pixels, attention)[-1], self.norm, self.wiring.eps)

    def image_embedding(
        self, pixels: Array, attention: Attention | Sequence[Attention] = softmax_attention
    ) -> Array:
        """The class token's features at unit norm: (..., features). Oquab et al. 2024."""
        x = self.features(pixels, attention)[..., 0, :]
        return x / np.linalg.norm(x, axis=-1, keepdims=True)


class Preprocessing(NamedTuple):
    """What is done to a picture before it is cut into patches: preprocessor_config.json."""

    size: int | None  # pixels of the shorter side; with square, of both; None: those of image_size
    square: bool  # stretched to a square, whatever the picture's shape
    image_size: int  # pixels a side of the central square that is kept
    resample: int  # a number of PIL.Image.Resampling
    scale: float  # of the values 0 to 255
    mean: tuple[float, float, float]  # of red, green and blue, after the scale
    std: tuple[float, float, float]

    def resized(self, image: Any) -> Array:
        """The picture as uint8 (image_size, image_size, 3)."""
        if self.size is None:
            return crop(image, self.image_size, self.resample)
        picture = upright(image)
        width, height = picture.size
        short = min(width, height)
        side = (self.size,) * 2 if self.square else (
            self.size * width // short, self.size * height // short
        )  # fmt: skip
        picture = picture.resize(side, self.resample)
        left, top = ((n - self.image_size) // 2 for n in picture.size)
        return np.array(picture.crop((left, top, left + self.image_size, top + self.image_size)))


def crop(image: Any, size: int, resample: int = 3) -> Array:
    """The central square of a picture, as uint8 (size, size, 3): shorter side resized to size.

    image: as for `upright`. resample: of PIL, bicubic if not told otherwise, as DINOv2 was
    evaluated.
    """
    from PIL import ImageOps  # optional dependency

    check_positive_int(size=size)
    return np.array(ImageOps.fit(upright(image), (size, size), resample))


def upright(image: Any) -> Any:
    """A picture as PIL's image in sRGB, turned as its camera was held, transparency on white.

    image: path, PIL image, or uint8 array (height, width, 3). Raises FileNotFoundError where
    there is no such file, ValueError for what is no picture or has colours that RGB cannot hold.
    """
    from PIL import Image, ImageOps  # optional dependency

    if isinstance(image, np.ndarray):
        if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or 0 in image.shape:
            raise ValueError(
                f"image has shape {image.shape}, dtype {image.dtype}: must be uint8 "
                "(height, width, 3)"
            )
        return Image.fromarray(image)
    if isinstance(image, str | Path):
        check_file(Path(image))
        try:
            with Image.open(image) as file:
                return _rgb(ImageOps.exif_transpose(file), str(image))
        except (OSError, SyntaxError, Image.DecompressionBombError) as error:  # PIL's own errors
            raise ValueError(f"{image}: not a readable picture ({error})") from error
    if isinstance(image, Image.Image):
        try:
            image.load()
        except (ValueError, AssertionError, OSError, AttributeError) as error:
            raise ValueError(f"image: cannot be read, or is closed ({error})") from error
        return _rgb(ImageOps.exif_transpose(image), "image")
    way = ""
    if hasattr(image, "read"):
        way = "; open it with PIL.Image.open(file)"
    elif isinstance(image, bytes | bytearray | memoryview):
        way = "; open it with PIL.Image.open(io.BytesIO(...))"
    raise ValueError(
        f"image is a {type(image).__name__}: must be a path, a PIL image or an array{way}"
    )


def _rgb(image: Any, name: str) -> Any:
    """sRGB of 8 bits a channel: 16-bit grey by its upper 8 bits, transparency over white."""
    from PIL import Image

    if image.mode.startswith("I;16"):
        grey = np.array(image).astype(np.float64) / 257  # 65535 is white
        image = Image.fromarray(np.round(grey).astype(np.uint8))
    elif image.mode in ("I", "F", "LAB"):
        raise ValueError(
            f"{name}: has mode {image.mode}, whose white is not defined here: "
            "must be made RGB of 8 bits a channel first"
        )
    profile = image.info.get("icc_profile")
    if image.mode in ("P", "PA"):
        image = image.convert("RGBA")
    alpha = image.convert("RGBA").getchannel("A") if image.has_transparency_data else None
    opaque = image.convert("L" if image.mode == "LA" else "RGB") if alpha else image
    colours = _in_srgb(opaque, profile, name).convert("RGB")
    if alpha is None:
        return colours
    return Image.composite(colours, Image.new("RGB", colours.size, "white"), alpha)


def _in_srgb(image: Any, profile: bytes | None, name: str) -> Any:
    """The picture with colours of sRGB, where its file says that its own are others."""
    from PIL import ImageCms

    if not profile:
        return image
    try:
        own = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        srgb = ImageCms.createProfile("sRGB")
        return ImageCms.profileToProfile(image, own, srgb, outputMode="RGB")
    except (OSError, ValueError, ImageCms.PyCMSError) as error:
        raise ValueError(
            f"{name}: its colour profile cannot be used ({error}): save the picture as sRGB"
        ) from error


def resize_positions(positions: Array, rows: int, columns: int) -> Array:
    """Positions (1 + n * n, features) on a grid of rows x columns: (1 + rows * columns, features).

    The class token's stays; the others are interpolated by cubic convolution.
    """
    n = round((len(positions) - 1) ** 0.5)
    if (rows, columns) == (n, n):
        return positions
    square = positions[1:].reshape(n, n, -1)
    square = np.einsum("ri,cj,ijf->rcf", cubic(n, rows), cubic(n, columns), square, optimize=True)
    square = square.astype(positions.dtype).reshape(rows * columns, -1)
    return np.concatenate([positions[:1], square])


def cubic(n_in: int, n_out: int) -> Array:
    """Weights (n_out, n_in) of cubic convolution with a = -3/4, edges repeated. Keys 1981, eq. 8.

    Samples lie at the centres of their cells, as in PyTorch and ONNX; nothing is smoothed.
    """
    a = -0.75
    at = (np.arange(n_out) + 0.5) * n_in / n_out - 0.5
    nodes = np.floor(at).astype(int)[:, None] + np.arange(-1, 3)
    s = np.abs(at[:, None] - nodes)
    near = (a + 2) * s**3 - (a + 3) * s**2 + 1
    far = a * (s**3 - 5 * s**2 + 8 * s - 4)
    weights = np.zeros((n_out, n_in))
    nodes = np.clip(nodes, 0, n_in - 1)
    np.add.at(weights, (np.arange(n_out)[:, None], nodes), np.where(s <= 1, near, far))
    return weights


def vit(directory: Path, config: dict[str, Any], tensor: Tensors) -> VisionModel:
    d_model, n_inner = config["hidden_size"], config["intermediate_size"]
    qkv_bias = config["qkv_bias"]
    blocks = tuple(
        Block(
            query=tensor.linear(f"{name}.attention.attention.query", d_model, d_model, qkv_bias),
            key=tensor.linear(f"{name}.attention.attention.key", d_model, d_model, qkv_bias),
            value=tensor.linear(f"{name}.attention.attention.value", d_model, d_model, qkv_bias),
            out=tensor.linear(f"{name}.attention.output.dense", d_model, d_model),
            up=tensor.linear(f"{name}.intermediate.dense", n_inner, d_model),
            down=tensor.linear(f"{name}.output.dense", d_model, n_inner),
            norm_attention=tensor.norm(f"{name}.layernorm_before", d_model),
            norm_mlp=tensor.norm(f"{name}.layernorm_after", d_model),
        )
        for name in (f"encoder.layer.{layer}" for layer in range(config["num_hidden_layers"]))
    )
    return _vision_model(directory, config, tensor, blocks)


def dinov2(directory: Path, config: dict[str, Any], tensor: Tensors) -> VisionModel:
    d_model, n_inner = config["hidden_size"], config["hidden_size"] * config["mlp_ratio"]
    qkv_bias = config["qkv_bias"]
    blocks = tuple(
        Block(
            query=tensor.linear(f"{name}.attention.attention.query", d_model, d_model, qkv_bias),
            key=tensor.linear(f"{name}.attention.attention.key", d_model, d_model, qkv_bias),
            value=tensor.linear(f"{name}.attention.attention.value", d_model, d_model, qkv_bias),
            out=_scaled(
                tensor.linear(f"{name}.attention.output.dense", d_model, d_model),
                tensor(f"{name}.layer_scale1.lambda1", d_model),
            ),
            up=tensor.linear(f"{name}.mlp.fc1", n_inner, d_model),
            down=_scaled(
                tensor.linear(f"{name}.mlp.fc2", d_model, n_inner),
                tensor(f"{name}.layer_scale2.lambda1", d_model),
            ),
            norm_attention=tensor.norm(f"{name}.norm1", d_model),
            norm_mlp=tensor.norm(f"{name}.norm2", d_model),
        )
        for name in (f"encoder.layer.{layer}" for layer in range(config["num_hidden_layers"]))
    )
    return _vision_model(directory, config, tensor, blocks)


def _scaled(linear: Linear, scale: Array) -> Linear:
    """LayerScale, a factor on every output feature, folded in. Touvron et al. 2021."""
    return Linear(scale[:, None] * linear.weight, scale * linear.bias)


def _vision_model(directory: Path, config: dict, tensor: Tensors, blocks: tuple) -> VisionModel:
    d_model, p, side = config["hidden_size"], config["patch_size"], config["image_size"]
    if side % p:
        raise ValueError(
            f"{directory}: patch_size = {p}: must divide image_size = {side} of config.json"
        )
    kernel = tensor("embeddings.patch_embeddings.projection.weight", d_model, 3, p, p)
    wiring = Wiring(
        config["num_attention_heads"], config["layer_norm_eps"], True,
        ACTIVATIONS[config["hidden_act"]],
    )  # fmt: skip
    return VisionModel(
        blocks,
        wiring,
        Linear(
            kernel.reshape(d_model, 3 * p * p),
            tensor("embeddings.patch_embeddings.projection.bias", d_model),
        ),
        tensor("embeddings.cls_token", 1, 1, d_model)[0, 0],
        tensor("embeddings.position_embeddings", 1, 1 + (side // p) ** 2, d_model)[0],
        tensor.norm("layernorm", d_model),
        p,
        read_preprocessing(directory / "preprocessor_config.json", config["model_type"]),
    )


# entries of preprocessor_config.json that change no pixel here: colours are always made RGB
PIXELS_STAY = set(
    """
    image_processor_type feature_extractor_type processor_class do_convert_rgb do_reduce_labels
    return_tensors data_format input_data_format device disable_grouping default_to_square
    _valid_processor_keys num_channels
    """.split()
)
SWITCHES = ("do_resize", "do_center_crop", "do_rescale", "do_normalize")


def read_preprocessing(path: Path, kind: str) -> Preprocessing:
    """What preprocessor_config.json says, with what transformers does where it says nothing.

    kind: "vit" or "dinov2". Raises FileNotFoundError where there is no such file, ValueError that
    names an entry that is not implemented or has no possible value.
    """
    said = read_json(path)
    wide = kind == "dinov2" or "Bit" in str(said.get("image_processor_type"))
    wide = wide or said.get("default_to_square") is False
    known = {"size", "crop_size", "resample", "rescale_factor", "image_mean", "image_std"}
    known |= {*SWITCHES, *PIXELS_STAY}
    refuse_unknown(path, {k: v for k, v in said.items() if v is not False}, known)
    does = {}
    for name in SWITCHES:
        cropping = name != "do_center_crop" or "crop_size" in said
        does[name] = said.get(name, cropping)
        if does[name] not in (True, False):
            raise ValueError(f"{path}: {name} = {does[name]!r}: must be true or false")
    if not does["do_resize"]:
        raise ValueError(f"{path}: do_resize = False: must be True, pictures differ in size")
    size, stretched = _size_of(f"{path}: size", said.get("size"), wide)
    kept = size
    if does["do_center_crop"]:
        kept, _ = _size_of(f"{path}: crop_size", said.get("crop_size"), False)
    elif size is not None and not stretched:
        raise ValueError(
            f"{path}: size = {said['size']!r}: must come with crop_size, or be height and width: "
            "the model's pictures are square"
        )
    check_positive_int(**{f"{path}: size": kept if size is None else size})
    check_positive_int(**{f"{path}: crop_size": kept})
    if size is not None and kept > size:
        raise ValueError(f"{path}: crop_size = {kept}: must be at most size = {size}")
    resample = said.get("resample", 3 if wide else 2)
    if type(resample) is not int or not 0 <= resample <= 5:
        raise ValueError(f"{path}: resample = {resample!r}: must be 0 to 5, a filter of PIL")
    scale = said.get("rescale_factor", 1 / 255) if does["do_rescale"] else 1.0
    check_positive(**{f"{path}: rescale_factor": scale})
    mean, std = (0.0,) * 3, (1.0,) * 3
    if does["do_normalize"]:
        mean, std = (_colours(path, said, name) for name in ("image_mean", "image_std"))
        for value in std:
            check_positive(**{f"{path}: image_std": value})
    return Preprocessing(size, stretched, kept, resample, scale, mean, std)


def _size_of(name: str, said: Any, shorter: bool) -> tuple[Any, bool]:
    """Pixels, and whether they are those of a square; shorter: where a number means that side."""
    if not isinstance(said, dict):
        return said, not shorter
    if said.keys() == {"shortest_edge"}:
        return said["shortest_edge"], False
    if said.keys() != {"height", "width"}:
        raise ValueError(f"{name} = {said!r}: must be height and width, or shortest_edge")
    if said["height"] != said["width"]:
        raise ValueError(f"{name} = {said!r}: must be as high as wide")
    return said["height"], True


def _colours(path: Path, said: dict[str, Any], name: str) -> tuple:
    """Three numbers, of red, green and blue."""
    value = said.get(name)
    if not isinstance(value, list) or len(value) != 3 or not all(map(is_finite, value)):
        raise ValueError(f"{path}: {name} = {value!r}: must be 3 numbers")
    return tuple(value)


SIZES = (
    "hidden_size", "num_hidden_layers", "num_attention_heads", "image_size", "patch_size",
)  # fmt: skip
DEFAULTS = {"hidden_act": "gelu", "num_channels": 3, "qkv_bias": True}
IMPLEMENTED = {"hidden_act": tuple(ACTIVATIONS), "num_channels": (3,), "qkv_bias": (True, False)}
FAMILIES = {
    "vit": Family(
        vit, (*SIZES, "intermediate_size"), DEFAULTS | {"layer_norm_eps": 1e-12}, IMPLEMENTED
    ),
    "dinov2": Family(
        dinov2,
        (*SIZES, "mlp_ratio"),
        DEFAULTS | {"layer_norm_eps": 1e-6, "mlp_ratio": 4, "use_swiglu_ffn": False},
        IMPLEMENTED | {"use_swiglu_ffn": (False,)},
    ),
}
