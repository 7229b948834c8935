"""Tuning curves for every group of heads of a language model: tuning/decoder-128.safetensors.

Run as `python scripts/make_decoder_curves.py FOLDER FILE.gguf [NEURONS [WINDOWS]]` after
make_tuning_inputs.py has brought the texts, in an environment with PyTorch; the curves that come with
the book took eight minutes on one H200: 230 s of the first stage and 235 s of the second. Windows of
2,048 tokens begin with `<|im_start|>`, which is exact for every query, as are the tokens fewer than 32
or 64 apart (WINDOWS, in turn; 0: only the first token is). None of the texts is one of those that
make_speaks.py reads. Start: k-means centres of a group's queries in balanced coordinates, a neuron each.
Stage 1: all layers on the exact model's keys and queries, squared relative error of the output plus
0.02 times that of log p. Stage 2: end to end, divergence of the next token from the exact model's.
With SECONDS in the environment both stages take so long instead.
"""

import json
import math
import os
import sys
import time
from pathlib import Path

import numpy as np
import torch
from safetensors.numpy import save_file
from torch.nn.functional import scaled_dot_product_attention, silu, smooth_l1_loss
from torch.utils.checkpoint import checkpoint

sys.path.insert(0, str(Path(__file__).parents[1] / "code"))

from tripartite import gguf  # noqa: E402

T, QUERIES, BATCH = 2048, 512, 2  # tokens of a window; queries and windows of a step of stage 1
RATES = {"directions": (0.02, 0.005), "offsets": (0.02, 0.005), "power": (0.004, 0.001)}
COUNTS = {"faq": 500, "book": 120, "fortunes": 250, "stories": 30, "library": 150, "help": 40,
          "words": 330}  # fmt: skip
CHATS, START = 120, 1
SYSTEM = "system\nYou are a helpful AI assistant named SmolLM, trained by Hugging Face"
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
HEADS, GROUPS, D, LAYERS, THETA, EPS = 9, 3, 64, 30, 1e5, 1e-5


def sources(folder: Path) -> dict[str, list[str]]:
    """Plain texts to fit to, by kind; a kind is a package or a few, as in make_tuning_inputs."""
    from make_tuning_inputs import HELD_OUT, plain

    fortunes = [
        path
        for path in sorted((folder / "fortunes/usr/share/games/fortunes").iterdir())
        if path.is_file() and not path.suffix and path.name not in ("ascii-art", "zippy", *HELD_OUT)
    ]
    globs = {
        "faq": ["anarchism/usr/share/doc/anarchism/html/sec*.html"],
        "book": ["debian-handbook/usr/share/doc/**/en-US/*.html"],
        "stories": [f"wesnoth-1.16-{n}/**/scenarios/*.cfg" for n in ("httt", "low", "nr", "trow")],
        "library": ["python3.11-doc/**/_sources/**/*.rst.txt"],
        "help": ["gnome-user-docs/**/C/gnome-help/*.page"],
        "words": [f"dict-{n}/**/{n}.dict.dz" for n in ("jargon", "foldoc")],
    }
    files = {name: sorted(p for g in all_ for p in folder.glob(g)) for name, all_ in globs.items()}
    return {
        name: [plain(path) for path in paths]
        for name, paths in (files | {"fortunes": fortunes}).items()
    }


def windows(folder: Path, file: gguf.File) -> np.ndarray:
    """Token ids to fit to, (windows, T): runs of text of one kind, and pieces of text as turns of a chat."""
    texts, tokenizer = sources(folder), gguf.tokenizer(file)
    rng, found = np.random.default_rng(0), []

    def ids(text):
        return tokenizer.encode(text, add_special_tokens=False).ids

    for name, count in COUNTS.items():
        pieces = [doc[i : i + 9000] for doc in texts[name] for i in range(0, len(doc), 9000)]
        run, mine = [], 0
        for n in rng.permutation(len(pieces)):
            run += ids(pieces[n])
            while len(run) >= T - 1 and mine < count:
                found.append([START, *run[: T - 1]])
                run, mine = run[T - 1 :], mine + 1
    short = [
        doc[i : i + 2500]
        for name in ("faq", "fortunes", "words", "book")
        for doc in texts[name]
        for i in range(0, min(len(doc), 200_000), 2500)
    ]
    order = iter(rng.permutation(len(short)))
    for _ in range(CHATS):
        run = ids(f"<|im_start|>{SYSTEM}<|im_end|>\n")
        while len(run) < T:
            sentences = short[next(order)].split(". ")
            k = max(1, len(sentences) // 4)
            asked, said = ". ".join(sentences[:k]), ". ".join(sentences[k:])
            run += ids(
                f"<|im_start|>user\n{asked}<|im_end|>\n<|im_start|>assistant\n{said}<|im_end|>\n"
            )
        found.append(run[:T])
    return rng.permutation(np.array(found))


class Model:
    """The exact model in PyTorch, cut open where queries, keys and values are."""

    def __init__(self, file: gguf.File):
        self.w = {
            name: torch.tensor(file(name, *place[0]), device=DEVICE)
            for name, place in file.places.items()
        }
        rates = THETA ** (-torch.arange(0, D, 2, device=DEVICE, dtype=torch.float64) / D)
        angle = torch.arange(T, device=DEVICE, dtype=torch.float64)[:, None] * rates
        self.cos, self.sin = torch.cos(angle).float(), torch.sin(angle).float()

    def norm(self, x, name):
        return x * torch.rsqrt(x.square().mean(-1, keepdim=True) + EPS) * self.w[f"{name}.weight"]

    def rotated(self, x):
        cos, sin = self.cos[: x.shape[-2]], self.sin[: x.shape[-2]]
        a, b = x[..., 0::2], x[..., 1::2]
        return torch.stack([a * cos - b * sin, a * sin + b * cos], -1).flatten(-2)

    def project(self, n, x):
        """Queries (B, groups, 3, t, D), keys and values (B, groups, 1, t, D)."""
        h, (size, t, _) = self.norm(x, f"blk.{n}.attn_norm"), x.shape

        def split(name):
            y = (h @ self.w[f"blk.{n}.attn_{name}.weight"].T).view(size, t, -1, D).transpose(1, 2)
            return y.reshape(size, GROUPS, -1, t, D)

        return self.rotated(split("q")) / D**0.25, self.rotated(split("k")) / D**0.25, split("v")

    def mix(self, n, x, attended):
        size, t, _ = x.shape
        y = attended.reshape(size, HEADS, t, D).transpose(1, 2).reshape(size, t, -1)
        x = x + y @ self.w[f"blk.{n}.attn_output.weight"].T
        h = self.norm(x, f"blk.{n}.ffn_norm")
        gate, up, down = (self.w[f"blk.{n}.ffn_{name}.weight"] for name in ("gate", "up", "down"))
        return x + (silu(h @ gate.T) * (h @ up.T)) @ down.T

    def log_p(self, x):
        logits = self.norm(x, "output_norm") @ self.w["token_embd.weight"].T
        return torch.log_softmax(logits, -1)


def softmax(q, k, v):
    shape = q.shape
    flat = [x.expand(shape).reshape(shape[0], HEADS, -1, D) for x in (q, k, v)]
    return scaled_dot_product_attention(*flat, is_causal=True, scale=1.0).view(shape)


def masks(rows, window):
    """Which pairs are exact and which go through neurons, (rows, T)."""
    i, j = rows[:, None], torch.arange(T, device=DEVICE)[None]
    near = (j <= i) & ((i - j < window) | (j == 0))
    return near, (j <= i) & ~near


def hybrid(p, q, k, v, near, far):
    """Output and log p with near pairs exact and far ones by neurons, and the exact scores."""

    def drive(side, x):
        gain = -0.5 * (x.square() @ p[f"{side}.power"][..., None])
        return (
            x @ p[f"{side}.directions"].transpose(-1, -2)
            + p[f"{side}.offsets"][..., None, :]
            + gain
        )

    s, a, b = q @ k.transpose(-1, -2), drive("queries", q), drive("keys", k)
    top_a, top_b = (x.detach().amax(-1, keepdim=True) for x in (a, b))
    kernel = torch.exp(a - top_a) @ torch.exp(b - top_b).transpose(-1, -2)
    far_log = torch.log(kernel + 1e-30) + top_a + top_b.transpose(-1, -2)
    logs = torch.where(near, s, torch.where(far, far_log, torch.full_like(s, -1e30)))
    return torch.softmax(logs, -1) @ v, torch.logsumexp(logs, -1), s


def centres(x, n, rounds=12):
    """k-means."""
    c = x[torch.randperm(len(x), device=DEVICE)[:n]].clone()
    for _ in range(rounds):
        nearest = (x @ c.T - 0.5 * c.square().sum(-1)).argmax(-1)
        total = torch.zeros_like(c).index_add_(0, nearest, x)
        count = torch.bincount(nearest, minlength=n)[:, None]
        c = torch.where(count > 0, total / count.clamp(min=1), c)
    return c


def balance(keys, queries):
    """As tripartite.beyond.tuning.balance, without its rotation."""

    def covariance(x):
        c = torch.cov(x.T, correction=0)
        return c + 1e-3 * torch.trace(c) / D * torch.eye(D, device=DEVICE, dtype=x.dtype)

    def power(c, exponent):
        values, axes = torch.linalg.eigh(c)
        return (axes * values**exponent) @ axes.T

    c_k, c_q = (covariance((x - x.mean(0)).double()) for x in (keys, queries))
    root, inverse = power(c_q, 0.5), power(c_q, -0.5)
    return power(inverse @ power(root @ c_k @ root, 0.5) @ inverse, 0.5).float()


@torch.no_grad()
def start(model, fit, neurons, rng):
    """Prototypes: to keys by a typical query, to queries by a bump around it, with a gain for log p."""
    found = {f"{side}.{name}": [] for side in ("queries", "keys") for name in RATES}
    x = model.w["token_embd.weight"][torch.tensor(fit[rng.choice(len(fit), 8)], device=DEVICE)]
    for n in range(LAYERS):
        q, k, v = model.project(n, x)
        x = model.mix(n, x, softmax(q, k, v))
        of_layer = {name: [] for name in found}
        for g in range(GROUPS):
            keys, queries = k[:, g, 0, 1:].reshape(-1, D), q[:, g, :, 64:].reshape(-1, D)
            keys, queries = (
                y[torch.randperm(len(y), device=DEVICE)[:count]]
                for y, count in ((keys, 6000), (queries, 12_000))
            )
            transform, mean = balance(keys, queries), queries.mean(0)
            c = centres((queries - mean) @ transform.T, neurons)
            z = c @ torch.linalg.inv(transform).T + mean
            level = torch.logsumexp(z @ keys.T, -1) - math.log(len(keys))
            to, at = 2 * c @ transform, -c.square().sum(-1) - 2 * c @ transform @ mean
            some = queries[:3000]
            missing = torch.logsumexp(some @ keys.T, -1) - math.log(len(keys))
            missing = missing - torch.logsumexp(some @ to.T + at, -1)
            terms = torch.cat([torch.ones_like(some[:, :1]), some, some.square()], -1)
            gain = torch.linalg.lstsq(
                terms.double().cpu(), missing.double().cpu()[:, None], driver="gelsd"
            ).solution[:, 0].float().to(DEVICE)  # fmt: skip
            three = {"queries.directions": to + gain[1 : D + 1], "queries.offsets": at + gain[0],
                     "queries.power": -2 * gain[D + 1 :]}  # fmt: skip
            one = {
                "keys.directions": z,
                "keys.offsets": -level,
                "keys.power": torch.zeros_like(mean),
            }
            for name, y in three.items():
                of_layer[name].append(y.expand(3, *y.shape))
            for name, y in one.items():
                of_layer[name].append(y[None])
        for name, parts in of_layer.items():
            found[name].append(torch.stack(parts))
    return {name: torch.stack(y).contiguous().requires_grad_() for name, y in found.items()}


def steps(p, stage, seconds):
    """Steps of Adam for so long, its rate rising in the first ones and falling along a cosine."""
    warm = (30, 20)[stage]
    groups = [{"params": [p[n]], "lr": RATES[n.split(".")[1]][stage]} for n in p]
    optimiser = torch.optim.Adam(groups, betas=(0.9, 0.98))
    rates, begun, n = [g["lr"] for g in groups], time.time(), 0
    while (spent := (time.time() - begun) / seconds) < 1:
        fall = 0.95 * 0.5 * (1 + math.cos(math.pi * spent)) + 0.05
        for group, rate in zip(optimiser.param_groups, rates, strict=True):
            group["lr"] = rate * min(1, n / warm) * fall
        optimiser.zero_grad()
        yield n
        if stage:
            torch.nn.utils.clip_grad_norm_(p.values(), 1.0)
        optimiser.step()
        n += 1


def of_layer(p, n):
    return {name: x[n] for name, x in p.items()}


def by_layer(model, p, fit, ends, attend, rng, seconds):
    for step in steps(p, 0, seconds):
        x = model.w["token_embd.weight"][
            torch.tensor(fit[rng.choice(len(fit), BATCH)], device=DEVICE)
        ]
        rows = torch.tensor(np.sort(rng.choice(T, QUERIES, replace=False)), device=DEVICE)
        near, far = masks(rows, ends[step % len(ends)])
        errors = []
        for n in range(LAYERS):
            with torch.no_grad():
                q, k, v = model.project(n, x)
                x = model.mix(n, x, softmax(q, k, v))
            q = q[..., rows, :]
            output, log_p, s = attend(of_layer(p, n), q, k, v, near, far)
            with torch.no_grad():
                s = s.masked_fill(~(near | far), -1e30)
                exact, log_z = torch.softmax(s, -1) @ v, torch.logsumexp(s, -1)
            axes = (0, 3, 4)
            missed = (output - exact).square().sum(axes) / exact.square().sum(axes)
            response = smooth_l1_loss(log_p, log_z, reduction="none").mean((0, 3))
            (missed.sum() + 0.02 * response.sum()).backward()
            errors.append(missed.detach().sqrt().flatten())
        if step % 100 == 0:
            print("layers", step, f"{torch.cat(errors).median():.3f}", flush=True)


def end_to_end(model, p, fit, ends, attend, rng, seconds):
    def layer(n, x, near, far, *curves):
        q, k, v = model.project(n, x)
        output, log_p, s = attend(dict(zip(p, curves, strict=True)), q, k, v, near, far)
        with torch.no_grad():
            log_z = torch.logsumexp(s.masked_fill(~(near | far), -1e30), -1)
        return model.mix(n, x, output), smooth_l1_loss(log_p, log_z)

    for step in steps(p, 1, seconds):
        ids = torch.tensor(fit[rng.choice(len(fit), 1)], device=DEVICE)
        near, far = masks(torch.arange(T, device=DEVICE), ends[step % len(ends)])
        x, off = model.w["token_embd.weight"][ids], 0.0
        with torch.no_grad():
            y = x
            for n in range(LAYERS):
                y = model.mix(n, y, softmax(*model.project(n, y)))
            wanted = model.log_p(y)
        for n in range(LAYERS):
            curves = of_layer(p, n).values()
            x, response = checkpoint(layer, n, x, near, far, *curves, use_reentrant=False)
            off = off + response
        apart = (wanted.exp() * (wanted - model.log_p(x))).sum(-1).mean()
        (apart + 0.01 * off / LAYERS).backward()
        if step % 100 == 0:
            print("whole", step, f"{apart.item():.4f}", flush=True)


def main():
    folder, path, *rest = sys.argv[1:]
    neurons = int(rest[0]) if rest else 128
    ends = json.loads(f"[{rest[1]}]") if len(rest) > 1 else [32, 64]
    seconds = [float(os.environ.get("SECONDS", default)) for default in (230, 235)]
    torch.manual_seed(0)
    torch.backends.cuda.matmul.allow_tf32 = True
    rng, file = np.random.default_rng(0), gguf.read(path)
    fit, model = windows(Path(folder), file), Model(file)
    p = start(model, fit, neurons, rng)
    attend = torch.compile(hybrid, dynamic=False) if DEVICE == "cuda" else hybrid
    by_layer(model, p, fit, ends, attend, rng, seconds[0])
    end_to_end(model, p, fit, ends, attend, rng, seconds[1])
    kept = {
        name: np.ascontiguousarray(x.detach().cpu().numpy().astype(np.float16))
        for name, x in p.items()
    }
    save_file(kept, Path(__file__).parents[1] / f"data/tuning/decoder-{neurons}.safetensors")


if __name__ == "__main__":
    main()
