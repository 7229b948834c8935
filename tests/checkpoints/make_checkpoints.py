"""Tiny checkpoints by PyTorch and transformers, against which the readers are tested.

    python tests/checkpoints/make_checkpoints.py

Writes one folder an architecture: the files that save_pretrained writes, random weights in
float32, and states.safetensors with inputs and the hidden states that transformers computes of
them in float64. Needs torch and transformers, which the book does not: use an environment of its
own. Shares no code with the book.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from pathlib import Path

import numpy as np
import torch
import transformers as tr
from PIL import Image
from safetensors.torch import save_file
from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, processors

HERE = Path(__file__).parent
TEXTS = HERE.parents[1] / "data" / "texts"
SENTENCE = "An astrocyte listens to many neurons at once, and answers slowly."
PIECES = "[PAD] [UNK] [CLS] [SEP] [MASK] Na na ##ive ïve i an ##sts".split()
PIECES += "astrocyte Astrocyte ##s listen don ' t . , ! 神 経 ##x".split()
OLD_SENTENCE = "Naïve  Astrocytes, don't listen\tnaxx. 神経! [MASK] \u200bunknownword"
LANGUAGE = {
    "hidden_size": 24,
    "num_attention_heads": 3,
    "intermediate_size": 40,
    "max_position_embeddings": 64,
    "attn_implementation": "sdpa",
}
VISION = {
    "hidden_size": 24,
    "num_attention_heads": 3,
    "num_hidden_layers": 3,
    "image_size": 24,
    "patch_size": 4,
    "attn_implementation": "sdpa",
}


def main() -> None:
    torch.manual_seed(0)
    vocabulary = {"vocab_size": 160}
    albert = tr.AlbertConfig(
        **LANGUAGE, **vocabulary, embedding_size=16, num_hidden_layers=4, num_hidden_groups=2
    )
    language("albert", tr.AlbertForMaskedLM(albert), sentencepiece())
    bert = tr.BertConfig(**LANGUAGE, **vocabulary, num_hidden_layers=3)
    language("bert", tr.BertForMaskedLM(bert), sentencepiece())
    vision("vit", tr.ViTForImageClassification(tr.ViTConfig(**VISION, intermediate_size=40)))
    vision("dinov2", tr.Dinov2Model(tr.Dinov2Config(**VISION, mlp_ratio=2)))
    parts()
    plain()
    pixels()


def parts() -> None:
    """BERT as large ones come: bfloat16, in several files; and, as old ones do, with vocab.txt."""
    small = LANGUAGE | {"vocab_size": len(PIECES), "num_hidden_layers": 1, "hidden_act": "silu"}
    model = tr.BertModel(tr.BertConfig(**small)).to(torch.bfloat16)
    folder = save("bert-parts", model, max_shard_size="8KB")
    (folder / "vocab.txt").write_text("\n".join(PIECES) + "\n", encoding="utf-8")
    arrays = {}
    for lower in (True, False):
        settings = {"tokenizer_class": "BertTokenizer", "do_lower_case": lower}
        (folder / "tokenizer_config.json").write_text(json.dumps(settings))
        tokenizer = tr.BertTokenizer.from_pretrained(folder)
        arrays[f"ids.{lower}"] = torch.tensor(tokenizer(OLD_SENTENCE)["input_ids"])
    arrays["states"] = states(model, input_ids=arrays["ids.True"][None])
    (folder / "tokenizer_config.json").unlink()
    write(folder, arrays)


def plain() -> None:
    """ViT without biases of queries, keys and values, with rectified units; sizes as lists."""
    small = VISION | {"num_hidden_layers": 1, "image_size": [24, 24], "patch_size": [4, 4]}
    config = tr.ViTConfig(**small, intermediate_size=40, qkv_bias=False, hidden_act="relu")
    model = tr.ViTModel(config, add_pooling_layer=False)
    folder = save("vit-plain", model)
    picture = torch.randn(1, 3, 24, 24, dtype=torch.float64)
    seen = picture[0].permute(1, 2, 0).contiguous()
    square = {"height": 24, "width": 24}
    tr.ViTImageProcessorPil(size=square).save_pretrained(folder)
    write(folder, {"pixels": seen, "states": states(model, pixel_values=picture)})


def pixels() -> None:
    """What the processors, on PIL, make of one picture, as preprocessor_config.json says."""
    picture = np.random.default_rng(0).integers(0, 256, (30, 44, 3), dtype=np.uint8)
    colours = {"image_mean": [0.4, 0.5, 0.6], "image_std": [0.3, 0.25, 0.2]}
    square = {"size": {"height": 24, "width": 24}}
    cases = {
        "stretched": ("vit", colours | square),
        "lanczos": ("vit", colours | square | {"resample": 1}),
        "not normalised": ("vit", colours | square | {"do_normalize": False}),
        "not rescaled": ("vit", colours | square | {"do_rescale": False}),
        "rescaled": ("vit", colours | square | {"rescale_factor": 1 / 127.5}),
        "cropped": ("dinov2", colours | {"size": {"shortest_edge": 27}, "crop_size": 24}),
    }
    arrays = {}
    for name, (kind, content) in cases.items():
        processor = tr.ViTImageProcessorPil if kind == "vit" else tr.BitImageProcessorPil
        found = processor(**content)(Image.fromarray(picture), return_tensors="np")["pixel_values"]
        arrays[name] = torch.tensor(np.ascontiguousarray(found[0].transpose(1, 2, 0)))
    metadata = {"cases": json.dumps(cases), "made_with": f"transformers {tr.__version__}"}
    save_file(arrays, HERE / "pixels.safetensors", metadata)


def language(name: str, model: tr.PreTrainedModel, tokenizer: Tokenizer) -> None:
    folder = save(name, model)
    tokenizer.save(str(folder / "tokenizer.json"), pretty=False)
    ids = torch.tensor(tokenizer.encode(SENTENCE).ids)
    write(folder, {"ids": ids, "states": states(model, input_ids=ids[None])})


def vision(name: str, model: tr.PreTrainedModel) -> None:
    """States of a picture on the training grid, and of one for which positions are resized."""
    folder = save(name, model)
    mean, std = [0.4, 0.5, 0.6], [0.3, 0.25, 0.2]
    tr.ViTImageProcessor(
        size={"height": 24, "width": 24}, image_mean=mean, image_std=std
    ).save_pretrained(folder)
    arrays = {}
    for which, shape in (("trained", (24, 24)), ("wide", (20, 32))):
        pixels = torch.randn(1, 3, *shape, dtype=torch.float64)
        arrays[f"pixels.{which}"] = pixels[0].permute(1, 2, 0).contiguous()
        resize = {"interpolate_pos_encoding": True} if name == "vit" else {}
        arrays[f"states.{which}"] = states(model, pixel_values=pixels, **resize)
    write(folder, arrays)


def save(name: str, model: tr.PreTrainedModel, **options) -> Path:
    """Random weights everywhere, also where training starts at 0 or 1, so that all of them show."""
    with torch.no_grad():
        for key, parameter in model.named_parameters():
            if "norm" in key.lower() and key.endswith("weight"):
                parameter.uniform_(0.5, 2)
            else:  # wide enough that attention is far from uniform
                width = parameter.shape[-1] if parameter.ndim > 1 else 16
                parameter.normal_(0, 2 * width**-0.5)
    folder = HERE / name
    model.save_pretrained(folder, **options)
    model.double().eval()
    return folder


@torch.no_grad()
def states(model: tr.PreTrainedModel, **inputs: torch.Tensor) -> torch.Tensor:
    """All hidden states, (layers + 1, tokens, features)."""
    return torch.cat(model(**inputs, output_hidden_states=True).hidden_states)


def write(folder: Path, arrays: dict[str, torch.Tensor]) -> None:
    made = {"made_with": f"torch {torch.__version__}, transformers {tr.__version__}"}
    save_file(arrays, folder / "states.safetensors", {"provenance": json.dumps(made)})
    print(folder.name, sum(path.stat().st_size for path in folder.iterdir()), "bytes")


def sentencepiece() -> Tokenizer:
    """A Unigram tokenizer of the kind that ALBERT's tokenizer.json describes.

    Its pieces are the most frequent ones of the texts; the library's trainer is not deterministic.
    """
    special = ["<pad>", "<unk>", "[CLS]", "[SEP]", "[MASK]"]
    text = " ".join(path.read_text("utf-8") for path in sorted(TEXTS.glob("*.txt")))
    words = ["\N{LOWER ONE EIGHTH BLOCK}" + word for word in text.lower().split()]
    pieces = Counter(
        word[i : i + n] for word in words for n in range(1, 6) for i in range(len(word) - n + 1)
    )
    single = sorted(piece for piece in pieces if len(piece) == 1)
    frequent = sorted(pieces, key=lambda piece: (-pieces[piece] * len(piece), piece))
    frequent = [piece for piece in frequent if len(piece) > 1][: 160 - len(special) - len(single)]
    scores = [(piece, round(math.log(pieces[piece] / len(text)), 3)) for piece in single + frequent]
    tokenizer = Tokenizer(models.Unigram([(piece, 0.0) for piece in special] + scores, unk_id=1))
    tokenizer.normalizer = normalizers.Sequence(
        [
            normalizers.Replace("``", '"'),
            normalizers.NFKD(),
            normalizers.StripAccents(),
            normalizers.Lowercase(),
            normalizers.Replace(Regex(" {2,}"), " "),
        ]
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.add_special_tokens(special)
    tokenizer.post_processor = processors.TemplateProcessing(
        "[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    return tokenizer


if __name__ == "__main__":
    main()
