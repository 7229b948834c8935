"""Keys, queries and values of the inputs in FOLDER/inputs.npz, a layer at a time."""

import numpy as np
SPLITS = {"fit": "fit", "validation": "val"}
NAMES = {"language": "minilm", "vision": "vision"}
def recorded(folder, model, layer, split):
    return np.load(f"/tmp/tuning/qkv/{NAMES[model]}_{SPLITS[split]}_{layer}.npy", mmap_mode="r")
