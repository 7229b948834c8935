"""`tripartite.hf` in models of Transformers, each against what it should be; JSON on stdout.

Models are small, with random weights, in double precision. For each: `kernel`, the largest
difference from the same hidden neurons through a whole (tokens, tokens) kernel, which is another way
to compute the same; `softmax`, the relative distance of many random neurons from the model's own
attention; and whether gradients and generated tokens are as they should be. Random weights make small
scores, so `softmax` shows that the door fits, and nothing about real models. A real one is read too,
from the folder that is named.
"""

import json
import sys
import warnings
from pathlib import Path

import torch
import transformers as tf

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "code"))

from tripartite import features, hf  # noqa: E402

warnings.simplefilter("ignore")
tf.logging.set_verbosity_error()
torch.manual_seed(0)
DOUBLE, WIDTH, HEADS = torch.float64, 32, 4
SMALL = {
    "hidden_size": WIDTH,
    "num_hidden_layers": 2,
    "num_attention_heads": HEADS,
    "intermediate_size": 48,
    "initializer_range": 0.1,  # five times the usual, so that attention matters
}
TEXT = SMALL | {"vocab_size": 99, "max_position_embeddings": 64}
MODELS = {
    "llama": lambda: tf.LlamaForCausalLM(tf.LlamaConfig(**TEXT, num_key_value_heads=2)),
    "qwen2": lambda: tf.Qwen2ForCausalLM(tf.Qwen2Config(**TEXT, num_key_value_heads=2)),
    "gpt2": lambda: tf.GPT2LMHeadModel(
        tf.GPT2Config(
            n_embd=WIDTH, n_layer=2, n_head=HEADS, vocab_size=99, n_positions=64,
            bos_token_id=1, eos_token_id=2,
            initializer_range=0.1,
        )
    ),
    "bert": lambda: tf.BertModel(tf.BertConfig(**TEXT)),
    "vit": lambda: tf.ViTModel(tf.ViTConfig(**SMALL, image_size=32, patch_size=8)),
}  # fmt: skip
PADDING = 4


FEW = [
    features.sample("positive", 40, WIDTH // HEADS, layer, like=torch.zeros(1, dtype=DOUBLE))
    for layer in (0, 1)
]


def few(module, queries):
    """The same 40 hidden neurons of a layer for both ways."""
    return FEW[getattr(module, "layer_idx", None) or 0]


def kernel(module, query, key, value, attention_mask, scaling=None, is_causal=None, **_):
    """Kernel attention with a whole mask, by PyTorch alone."""
    repeat = query.shape[1] // key.shape[1]
    key, value = (x.repeat_interleave(repeat, 1) for x in (key, value))
    root = (query.shape[-1] ** -0.5 if scaling is None else scaling) ** 0.5
    phi = few(module, query)

    def rates(x):
        x = root * x
        return torch.exp(x @ phi.directions.T - 0.5 * x.square().sum(-1, keepdim=True))

    pairs = rates(query) @ rates(key).transpose(-1, -2)
    causal = getattr(module, "is_causal", True) if is_causal is None else is_causal
    seen = torch.ones(query.shape[-2], key.shape[-2], dtype=torch.bool)
    seen = seen.tril(key.shape[-2] - query.shape[-2]) if causal else seen
    if attention_mask is not None:
        seen = seen & attention_mask[:, None, None, :].bool()
    pairs = torch.where(seen, pairs, 0.0)
    total = pairs.sum(-1, keepdim=True)
    out = pairs @ value / torch.where(total == 0, 1.0, total)
    return out.transpose(1, 2), None


def apart(a, b):
    return float(((a - b).norm() / b.norm()).detach())


def examine(name):
    model = MODELS[name]().to(DOUBLE).eval()
    if name == "vit":
        inputs, real = {"pixel_values": torch.randn(2, 3, 32, 32, dtype=DOUBLE)}, slice(None)
    else:
        mask = torch.ones(2, 12, dtype=torch.long)
        mask[0, :PADDING] = 0
        inputs = {"input_ids": torch.randint(3, 99, (2, 12)), "attention_mask": mask}
        real = slice(PADDING, None)

    def output(attention):
        model.set_attn_implementation(attention)
        return model(**inputs)[0][:, real]

    found = {
        "kernel": apart(output("few"), output("kernel")),
        "softmax": apart(output("many"), output("sdpa")),
    }
    ignored = dict(inputs) | (
        {} if name == "vit" else {"attention_mask": torch.ones_like(inputs["attention_mask"])}
    )
    if name != "vit":
        model.set_attn_implementation("many")
        found["padding ignored"] = apart(model(**ignored)[0][:, real], output("sdpa"))

    def gradients(attention):
        model.zero_grad()
        output(attention).square().sum().backward()
        return torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])

    found["gradients"] = apart(gradients("few"), gradients("kernel"))
    if hasattr(model, "generate") and name not in ("bert", "vit"):
        options = {"max_new_tokens": 12, "do_sample": False, "pad_token_id": 0}

        def speak(attention, **more):
            model.set_attn_implementation(attention)
            return model.generate(**inputs, **options, **more)

        cache = hf.MemoryCache()
        fixed = speak("few", past_key_values=cache)
        beams = speak("few", num_beams=3, past_key_values=hf.MemoryCache())
        found |= {
            "speaks as the kernel": bool(torch.equal(speak("few"), speak("kernel"))),
            "speaks as softmax": bool(torch.equal(speak("many"), speak("sdpa"))),
            "fixed memory": bool(torch.equal(fixed, speak("few"))),
            "fixed memory, beams": bool(torch.equal(beams, speak("few", num_beams=3))),
            "numbers kept": sum(
                x.numel() for layer in cache.layers for x in layer.memory[1:]
            ),
        }  # fmt: skip
    return found


def uniform(module, query, key, value, attention_mask, **_):
    """Every token weighs alike, whatever is asked."""
    alike = value.mean(-2, keepdim=True).expand(*query.shape[:-1], -1)
    return alike.transpose(1, 2), None


def fitted(folder):
    """A real sentence encoder whose neurons are fitted to a page of the book, on other texts.

    Returns the least cosine of a text's embedding to that by the model's own attention, for 256
    fitted neurons a head, 256 random ones, and uniform attention.
    """
    model = tf.AutoModel.from_pretrained(folder).eval()
    tokenizer = tf.PreTrainedTokenizerFast(tokenizer_file=str(folder / "tokenizer.json"))

    def inputs(name):
        text = (ROOT / name).read_text(encoding="utf-8")
        ids = tokenizer(text, return_tensors="pt")["input_ids"]
        return [{"input_ids": part} for part in ids[:, :2048].split(256, dim=1)]

    pages = inputs("book/story.md")
    texts = [f"data/texts/{name}.txt" for name in ("attention", "entangled-bank", "gettysburg")]
    texts = [inputs(name)[0] for name in texts]
    hf.register(hf.fit(model, pages), name="fitted")
    hf.register(name="few at random", n_neurons=256)
    tf.AttentionInterface.register("uniform", uniform)
    tf.AttentionMaskInterface.register("uniform", tf.masking_utils.flash_attention_mask)

    def embedded(attention):
        model.set_attn_implementation(attention)
        return torch.cat([model(**x)[0].mean(1) for x in texts])

    with torch.no_grad():
        exact = embedded("sdpa")
        return {
            name: float(torch.cosine_similarity(embedded(name), exact).min())
            for name in ("fitted", "few at random", "uniform")
        }


def refusals():
    """What the attention says to what it cannot do."""
    said = {}
    model = MODELS["llama"]().to(DOUBLE)
    model.set_attn_implementation("many")
    ids = torch.randint(3, 99, (1, 6))
    tries = {
        "mask": lambda: model(ids, attention_mask=torch.zeros(1, 1, 6, 6, dtype=DOUBLE)),
        "kind": lambda: hf.register(kind="magic"),
        "size": lambda: hf.register(n_neurons=0),
        "nothing to fit to": lambda: hf.fit(model, []),
        "padding": lambda: hf.fit(model, [{"input_ids": ids, "attention_mask": ids > ids.min()}]),
    }
    local = tf.MistralConfig(**TEXT, num_key_value_heads=2, sliding_window=4)
    window = tf.MistralForCausalLM(local).to(DOUBLE)
    window.set_attn_implementation("many")
    tries["window"] = lambda: window(ids)
    tries["window to fit to"] = lambda: hf.fit(window, [{"input_ids": ids}])
    for name, attempt in tries.items():
        try:
            attempt()
            said[name] = ""
        except ValueError as error:
            said[name] = str(error)
    return said


def main():
    hf.register(few, name="few")
    hf.register(name="many", n_neurons=20_000)
    tf.AttentionInterface.register("kernel", kernel)
    tf.AttentionMaskInterface.register("kernel", tf.masking_utils.flash_attention_mask)
    found = {name: examine(name) for name in MODELS} | {"refused": refusals()}
    if len(sys.argv) > 1:
        found["fitted"] = fitted(Path(sys.argv[1]))
    print(json.dumps(found))


if __name__ == "__main__":
    main()
