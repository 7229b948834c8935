"""Vision models: ViT and DINOv2, from picture to tokens.

A picture is cut into square patches, each a token; a class token comes first. Pixels have shape
(..., height, width, 3); hidden states (..., 1 + rows * columns, features), patches row by row.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from .attention import softmax_attention
from .checkpoint import ACTIVATIONS, Family, Tensors, read_json
from .checks import check_finite, check_positive, check_positive_int
from .encoder import Array, Attention, Block, Linear, Model, Norm, Wiring, layer_norm


@dataclass(frozen=True)
class VisionModel(Model):
    """A pretrained ViT or DINOv2 encoder. Dosovitskiy et al. 2021; Oquab et al. 2024."""

    patches: Linear = field(repr=False)  # one patch, channels before pixels -> features
    class_token: Array = field(repr=False)  # (features,)
    positions: Array = field(repr=False)  # (1 + patches of the training picture, features)
    norm: Norm = field(repr=False)  # of the last hidden state
    patch_size: int  # pixels
    image_size: int  # pixels a side, of what preprocess returns if not told otherwise
    mean: tuple[float, float, float]  # of red, green and blue, 0 to 1
    std: tuple[float, float, float]

    def preprocess(self, image: Any, size: int | None = None) -> Array:
        """A picture as the model wants it: `crop` to size x size pixels, then normalised colours.

        image: path, PIL image, or uint8 array (height, width, 3). size: a multiple of patch_size;
        default image_size. Returns (size, size, 3).
        """
        size = self.image_size if size is None else size
        dtype = self.class_token.dtype
        colours = crop(image, size).astype(dtype) / dtype.type(255)
        return (colours - np.array(self.mean, dtype)) / np.array(self.std, dtype)

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


def crop(image: Any, size: int) -> Array:
    """The central square of a picture, as uint8 (size, size, 3): shorter side resized to size.

    image: path, PIL image, or uint8 array (height, width, 3). Bicubic, as DINOv2 was evaluated.
    """
    from PIL import Image, ImageOps  # optional dependency

    check_positive_int(size=size)
    if isinstance(image, np.ndarray):
        if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or 0 in image.shape:
            raise ValueError(
                f"image has shape {image.shape}, dtype {image.dtype}: must be uint8 "
                "(height, width, 3)"
            )
        image = Image.fromarray(image)
    elif isinstance(image, str | Path):
        if not Path(image).is_file():
            raise FileNotFoundError(f"{image}: no such file")
        try:
            with Image.open(image) as file:
                image = ImageOps.exif_transpose(file).convert("RGB")
        except OSError as error:  # PIL's UnidentifiedImageError is one
            raise ValueError(f"{image}: not a readable picture ({error})") from error
    elif not isinstance(image, Image.Image):
        raise ValueError(
            f"image is a {type(image).__name__}: must be a path, a PIL image or an array"
        )
    return np.array(ImageOps.fit(image.convert("RGB"), (size, size), Image.Resampling.BICUBIC))


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
    blocks = tuple(
        Block(
            query=tensor.linear(f"{name}.attention.attention.query", d_model, d_model),
            key=tensor.linear(f"{name}.attention.attention.key", d_model, d_model),
            value=tensor.linear(f"{name}.attention.attention.value", d_model, d_model),
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
    blocks = tuple(
        Block(
            query=tensor.linear(f"{name}.attention.attention.query", d_model, d_model),
            key=tensor.linear(f"{name}.attention.attention.key", d_model, d_model),
            value=tensor.linear(f"{name}.attention.attention.value", d_model, d_model),
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
        *_read_preprocessor(directory / "preprocessor_config.json"),
    )


def _read_preprocessor(path: Path) -> tuple[int, tuple, tuple]:
    """Side of the picture, mean and standard deviation of its colours."""
    config = read_json(path)
    size = config.get("crop_size") or config.get("size")
    if isinstance(size, dict):
        size = size.get("height") or size.get("shortest_edge")
    mean, std = config.get("image_mean", ()), config.get("image_std", ())
    check_positive_int(**{f"{path}: size": size})
    if len(mean) != 3 or len(std) != 3:
        raise ValueError(f"{path}: image_mean = {mean}, image_std = {std}: must be 3 numbers each")
    for value in std:
        check_positive(**{f"{path}: image_std": value})
    return size, tuple(mean), tuple(std)


SIZES = (
    "hidden_size", "num_hidden_layers", "num_attention_heads", "image_size", "patch_size",
)  # fmt: skip
DEFAULTS = {"hidden_act": "gelu", "num_channels": 3, "qkv_bias": True}
IMPLEMENTED = {"hidden_act": tuple(ACTIVATIONS), "num_channels": (3,), "qkv_bias": (True,)}
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
