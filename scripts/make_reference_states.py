"""Hidden states of MiniLM by PyTorch and transformers, against which the NumPy encoder is tested.

    python scripts/make_reference_states.py MODEL_FOLDER

MODEL_FOLDER holds config.json, model.safetensors and tokenizer.json; `companion.fetch` makes one.
Needs torch and transformers, which the book does not: use an environment of its own. Shares no
code with the book. PyTorch computes in float64; the file stores float32.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import torch
import transformers
from safetensors.torch import save_file

DATA = Path(__file__).parents[1] / "data"


TEXTS = ("attention", "entangled-bank", "gettysburg")
STATES_TEXT, STATES_TOKENS = "attention", 64  # all 7 hidden states: below 1 MiB


def main(folder: str) -> None:
    tokenizer = transformers.PreTrainedTokenizerFast(tokenizer_file=f"{folder}/tokenizer.json")
    tokenizer.backend_tokenizer.no_padding()
    tokenizer.backend_tokenizer.no_truncation()
    model = transformers.BertModel.from_pretrained(folder, add_pooling_layer=False).double().eval()
    arrays = {}
    for name in TEXTS:
        ids = torch.tensor([tokenizer.encode((DATA / f"texts/{name}.txt").read_text("utf-8"))])
        arrays[f"ids.{name}"] = ids[0]
        mean = states(model, ids)[-1].mean(dim=0)
        arrays[f"embedding.{name}"] = (mean / mean.norm()).float()
    ids = arrays[f"ids.{STATES_TEXT}"]
    cut = torch.cat([ids[: STATES_TOKENS - 1], ids[-1:]])  # the last token stays [SEP]
    arrays["ids.states"] = cut
    arrays["states"] = torch.stack(states(model, cut[None])).float()
    provenance = {
        "model": "sentence-transformers/all-MiniLM-L6-v2 (Apache-2.0)",
        "made_with": f"torch {torch.__version__}, transformers {transformers.__version__}",
        "states": f"texts/{STATES_TEXT}.txt cut to {STATES_TOKENS} tokens: "
        "layers, tokens, features",
        "embedding": "mean of the last hidden state over all tokens, at unit norm",
    }
    path = DATA / "reference_states" / "minilm.safetensors"
    # one metadata entry: safetensors would write several in random order
    save_file(arrays, path, {"provenance": json.dumps(provenance)})
    print(f"{path.name}: {path.stat().st_size} bytes")


@torch.no_grad()
def states(model: transformers.BertModel, ids: torch.Tensor) -> list[torch.Tensor]:
    """All hidden states of one text, each (tokens, features), the embeddings first."""
    mask = torch.ones_like(ids)
    output = model(input_ids=ids, attention_mask=mask, output_hidden_states=True)
    return [state[0] for state in output.hidden_states]


if __name__ == "__main__":
    main(*sys.argv[1:])
