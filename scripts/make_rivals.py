"""Small Transformers, trained with softmax attention and with its rivals: models/rivals-*.

    python scripts/make_rivals.py digits                 # twenty seeds of eleven kinds
    python scripts/make_rivals.py text dict-devil.deb    # eight seeds: a GPU's work
    python scripts/make_rivals.py counts dict-devil.deb  # n-grams; seconds
    python scripts/make_rivals.py pack                   # seconds

Needs torch, scikit-learn, safetensors (pip install torch scikit-learn==1.9.1 safetensors), for the
text the Debian package dict-devil 1.0-13.1, and for counts the book's own module. Every kind of a
task gets the same data order, steps, learning rate and initial weights for the same seed; nothing
was tuned for one of them. All seeds of a kind are trained at once, each by itself. A kind that is
done is not trained again.
"""

from __future__ import annotations

import argparse
import csv
import gzip
import math
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from safetensors.numpy import load_file, save_file
from torch.nn import functional as F

from companion.paths import DATA

WORK = DATA.parent / "_build" / "rivals"
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
N_NEURONS = 64  # hidden neurons a head, of the neuron-astrocyte network
KERNELS = ("astrocyte-fixed", "astrocyte-trained", "linear")
DIVISORS = ("", "-constant", "-norm")  # the response; a constant; none, but a norm of each head
KINDS = (  # the last need not be there for the others to be of use
    *("softmax", "uniform", *KERNELS),
    *(k + d for k in KERNELS for d in DIVISORS[1:]),
)
SHIPPED = ("softmax", *KERNELS)  # the weights of seed 0 are kept
SETTINGS = {  # d_model, heads, layers, batch, steps, learning rate, weight decay, seeds, log every
    "digits": (32, 4, 2, 64, 1000, 3e-3, 0.05, 20, 50),
    "text": (64, 4, 2, 32, 5000, 3e-3, 0.05, 8, 250),
}
BLOCK, WINDOW, EVERY = 4096, 128, 10  # every tenth block of 4,096 characters is held out
TRAIN_DIGITS = 1257  # the first of 1,797, in the order in which people wrote them


# ---- the model: parameters of all seeds are rows of one array


def shapes(task, kind, n_in, n_out, length):
    """Names and shapes of a model's parameters, as PyTorch's own modules call them."""
    d, heads, layers, *_ = SETTINGS[task]
    yield "positions", (length, d)
    if task == "text":
        yield "embed.weight", (n_in, d)
    else:
        yield "class_token", (d,)
        yield from (("embed.weight", (d, n_in)), ("embed.bias", (d,)))
    for n in range(layers):
        for name in ("query", "key", "value", "out"):
            yield f"blocks.{n}.attention.{name}.weight", (d, d)
            yield f"blocks.{n}.attention.{name}.bias", (d,)
        for name, size in (("up", (2 * d, d)), ("down", (d, 2 * d))):
            yield f"blocks.{n}.{name}.weight", size
            yield f"blocks.{n}.{name}.bias", size[:1]
        for name in ("norm_attention", "norm_mlp"):
            yield from ((f"blocks.{n}.{name}.{x}", (d,)) for x in ("weight", "bias"))
    yield from (("norm.weight", (d,)), ("norm.bias", (d,)))
    yield from (("head.weight", (n_out, d)), ("head.bias", (n_out,)))
    if kind.startswith("astrocyte"):  # last, so that all others are drawn alike
        for n in range(layers):
            yield f"blocks.{n}.attention.directions", (heads, N_NEURONS, d // heads)


def first_values(name, shape, fan_in, rng):
    """PyTorch's own distributions for linear layers and embeddings; small random positions."""
    if name.endswith("directions"):
        return orthogonal(rng, *shape)
    if name == "positions":
        return 0.02 * rng.standard_normal(shape)
    if name == "class_token":
        return np.zeros(shape)
    if "norm" in name:
        return np.full(shape, float(name.endswith("weight")))
    if fan_in is None:
        return rng.standard_normal(shape)
    return rng.uniform(-1, 1, shape) / math.sqrt(fan_in)


def orthogonal(rng, heads, m, d):
    """Standard normal directions, orthogonal within groups of d. Yu et al. 2016."""
    q, r = np.linalg.qr(rng.standard_normal((heads, -(-m // d), d, d)))
    q = q * np.sign(np.diagonal(r, axis1=-2, axis2=-1))[..., None, :]
    return q.reshape(heads, -1, d)[:, :m] * np.sqrt(rng.chisquare(d, (heads, m, 1)))


def initial(task, layout, seed):
    rng, fan_in, values = np.random.default_rng(seed), None, []
    for name, shape in layout.items():
        if name.endswith("weight") and "norm" not in name:
            fan_in = None if (task, name) == ("text", "embed.weight") else shape[-1]
        values.append(first_values(name, shape, fan_in, rng).ravel())
    return np.concatenate(values)


class Model:
    """Pre-norm Transformers, one a seed: each character predicts the next; or patches a class."""

    def __init__(self, task, kind, layout):
        self.task, self.causal, self.layout = task, task == "text", layout
        self.kernel, self.divisor = kind, ""
        for ending in DIVISORS[1:]:
            if kind.endswith(ending):
                self.kernel, self.divisor = kind.removesuffix(ending), ending
        self.heads, self.layers = SETTINGS[task][1:3]

    def __call__(self, flat, x):
        """flat (seeds, parameters); x: codes (seeds, n, t), or patches (seeds, n, t, 4)."""
        sizes = [math.prod(shape) for shape in self.layout.values()]
        p = {
            name: part.view(len(flat), *shape)
            for (name, shape), part in zip(
                self.layout.items(), flat.split(sizes, dim=1), strict=True
            )
        }
        if self.causal:
            codes = torch.arange(p["embed.weight"].shape[1], device=x.device)
            one_hot = (x[..., None] == codes).to(flat.dtype)
            x = (one_hot.flatten(1, 2) @ p["embed.weight"]).view(*x.shape, -1)
        else:
            x = self.linear(p, "embed", x.to(flat.dtype))
            first = p["class_token"][:, None, None].expand(-1, x.shape[1], 1, -1)
            x = torch.cat([first, x], 2)
        x = x + p["positions"][:, None, : x.shape[2]]
        for n in range(self.layers):
            x = x + self.attention(p, n, self.norm(p, f"blocks.{n}.norm_attention", x))
            y = self.linear(p, f"blocks.{n}.up", self.norm(p, f"blocks.{n}.norm_mlp", x))
            x = x + self.linear(p, f"blocks.{n}.down", F.gelu(y))
        return self.linear(p, "head", self.norm(p, "norm", x if self.causal else x[:, :, 0]))

    @staticmethod
    def linear(p, name, x):
        w, b = p[f"{name}.weight"], p[f"{name}.bias"]
        y = torch.baddbmm(b[:, None], x.flatten(1, -2), w.transpose(1, 2))
        return y.view(*x.shape[:-1], -1)

    @staticmethod
    def norm(p, name, x):
        shape = (len(x), *[1] * (x.ndim - 2), x.shape[-1])
        w, b = p[f"{name}.weight"].view(shape), p[f"{name}.bias"].view(shape)
        return F.layer_norm(x, x.shape[-1:], eps=1e-5) * w + b

    def attention(self, p, n, x):
        """Heads that weigh values by exp(q.k), by phi(q).phi(k), or all alike; then divide."""
        q, k, v = (
            self.linear(p, f"blocks.{n}.attention.{name}", x)
            .unflatten(-1, (self.heads, -1))
            .transpose(2, 3)
            for name in ("query", "key", "value")
        )
        scale, length = q.shape[-1] ** 0.25, q.shape[-2]
        q, k = q / scale, k / scale
        future = torch.ones(length, length, dtype=torch.bool, device=x.device).triu(1)
        if self.kernel == "uniform":
            weights = torch.ones(length, length, dtype=x.dtype, device=x.device)
        elif self.kernel == "softmax":
            s = q @ k.transpose(-1, -2)
            if self.causal:
                s = s.masked_fill(future, -math.inf)
            weights = torch.exp(s - s.amax(-1, keepdim=True).detach())
        elif self.kernel == "linear":
            weights = (F.elu(q) + 1) @ (F.elu(k) + 1).transpose(-1, -2) / q.shape[-1]
        else:
            directions = p[f"blocks.{n}.attention.directions"][:, None].transpose(-1, -2)
            a, b = q @ directions, k @ directions - 0.5 * (k * k).sum(-1, keepdim=True)
            if self.divisor:  # exponents are bounded by half a squared direction
                a = a - 0.5 * (q * q).sum(-1, keepdim=True)
                weights = torch.exp(a) @ torch.exp(b).transpose(-1, -2) / N_NEURONS
            else:  # what a query's exponents share divides out; each key has a scale of its own
                top = b.amax(-1, keepdim=True).detach()
                a = torch.exp(a - a.amax(-1, keepdim=True).detach())
                weights = a @ torch.exp(b - top).transpose(-1, -2)
                top = top.transpose(-1, -2).expand_as(weights)
                if self.causal:
                    top = top.masked_fill(future, -math.inf)
                weights = weights * torch.exp(top - top.amax(-1, keepdim=True))
        if self.causal:
            weights = weights.masked_fill(future, 0.0)
        y = weights @ v
        if self.divisor == "-constant":
            y = y / length
        elif self.divisor == "-norm":
            y = y * torch.rsqrt((y * y).mean(-1, keepdim=True) + 1e-6)
        else:
            y = y / weights.sum(-1, keepdim=True)
        return self.linear(p, f"blocks.{n}.attention.out", y.transpose(2, 3).flatten(-2))


# ---- the data


def digits():
    """Inputs and targets that train and that are held out: patches (n, 16, 4), labels; pixels."""
    from sklearn.datasets import load_digits

    pixels, labels = load_digits(return_X_y=True)
    cut = pixels.reshape(-1, 4, 2, 4, 2).swapaxes(2, 3).reshape(-1, 16, 4) / 16
    x, y = torch.tensor(cut, dtype=torch.float32), torch.tensor(labels)
    kept = {
        "held_out.pixels": pixels[TRAIN_DIGITS:].astype(np.uint8),
        "held_out.labels": labels[TRAIN_DIGITS:].astype(np.uint8),
    }
    return x[:TRAIN_DIGITS], y[:TRAIN_DIGITS], x[TRAIN_DIGITS:], y[TRAIN_DIGITS:], kept


def dictionary(package: Path) -> str:
    """Ambrose Bierce, The Devil's Dictionary, A to Z: from the Debian package, or as text."""
    if package.suffix != ".deb":
        return package.read_text("ascii")
    member = "./usr/share/dictd/devil.dict.dz"
    tar = subprocess.run(["dpkg", "--fsys-tarfile", package], capture_output=True, check=True)
    packed = subprocess.run(
        ["tar", "xO", member], input=tar.stdout, capture_output=True, check=True
    )
    text = gzip.decompress(packed.stdout).decode("ascii")
    return text[text.index("ABASEMENT, n.") : text.rindex("abcdefghijklmnopqrstuvwxyz")].strip()


def characters(package: Path):
    """All training windows and the held-out ones: inputs and targets (n, 128); alphabet, text."""
    text = dictionary(package)
    alphabet = sorted(set(text))
    codes = torch.tensor([alphabet.index(c) for c in text])
    blocks = range(0, len(text) - BLOCK, BLOCK)
    held_out = [start for i, start in enumerate(blocks) if i % EVERY == EVERY - 1]
    inside = torch.zeros(len(text), dtype=torch.bool)
    for start in held_out:
        inside[start : start + BLOCK] = True
    touched = torch.cumsum(inside, 0)
    free = (touched[WINDOW:] == touched[:-WINDOW]) & ~inside[:-WINDOW]
    train = codes.unfold(0, WINDOW + 1, 1)[torch.nonzero(free)[:, 0]]
    test = torch.stack(
        [
            codes[s : s + WINDOW + 1]
            for start in held_out
            for s in range(start, start + BLOCK - WINDOW, WINDOW)
        ]
    )
    kept = {
        "alphabet": np.frombuffer("".join(alphabet).encode(), np.uint8),
        "held_out.text": np.frombuffer(
            "".join(text[s : s + BLOCK] for s in held_out).encode(), np.uint8
        ),
    }
    return train[:, :-1], train[:, 1:], test[:, :-1], test[:, 1:], kept


# ---- training


def losses(outputs, targets):
    """Cross-entropy of every target (seeds, ...)."""
    return -outputs.log_softmax(-1).gather(-1, targets[..., None])[..., 0]


@torch.no_grad()
def evaluate(model, flat, x, y):
    """Cross-entropy of every held-out target, and whether it was the most likely one."""
    loss, right = [], []
    for part in torch.arange(len(x), device=x.device).split(128):
        many = [z[part].expand(len(flat), *z[part].shape) for z in (x, y)]
        outputs = model(flat, many[0])
        loss.append(losses(outputs, many[1]))
        right.append((outputs.argmax(-1) == many[1]).double())
    return torch.cat(loss, 1), torch.cat(right, 1)


def train(task, kind, data):
    """Rows of the log, and what is shipped of seed 0."""
    *_, batch, steps, rate, decay, n_seeds, every = SETTINGS[task]
    x, y, x_test, y_test, kept = (z.to(DEVICE) if torch.is_tensor(z) else z for z in data)
    n_codes = len(kept.get("alphabet", ()))
    sizes = (4, 10, 17) if task == "digits" else (n_codes, n_codes, WINDOW)
    layout = dict(shapes(task, kind, *sizes))
    model = Model(task, kind, layout)
    start = np.array([initial(task, layout, seed) for seed in range(n_seeds)])
    start = torch.tensor(start, dtype=torch.float32, device=DEVICE)
    moves = torch.ones(start.shape[1], device=DEVICE)
    if "fixed" in kind:
        fixed = sum(math.prod(s) for name, s in layout.items() if name.endswith("directions"))
        moves[-fixed:] = 0
    draws = [np.random.default_rng([seed, 1]) for seed in range(n_seeds)]
    order = [rng.integers(len(x), size=(steps, batch)) for rng in draws]
    order = torch.tensor(np.stack(order, 1), device=DEVICE)
    n = torch.arange(1, steps + 1, dtype=torch.float64)
    rates = rate * torch.clamp(n / 100, max=1) * 0.5 * (1 + torch.cos(math.pi * (n - 1) / steps))
    rates, one, two = (z.float().to(DEVICE) for z in (rates, 1 - 0.9**n, 1 - 0.999**n))
    flat = start.clone().requires_grad_()
    first, second = torch.zeros_like(start), torch.zeros_like(start)
    at = torch.zeros(1, dtype=torch.long, device=DEVICE)
    seen = torch.zeros(steps, n_seeds, device=DEVICE)

    def step():
        """AdamW with clipped gradients, for each seed by itself."""
        some = order.index_select(0, at)[0]
        loss = losses(model(flat, x[some]), y[some]).flatten(1).mean(1)
        (slope,) = torch.autograd.grad(loss.sum(), flat)
        with torch.no_grad():
            slope = slope * moves
            slope = slope * torch.clamp(1 / (slope.norm(dim=1, keepdim=True) + 1e-6), max=1)
            first.lerp_(slope, 0.1)
            second.lerp_(slope * slope, 0.001)
            speed = rates.index_select(0, at)
            flat.mul_(1 - speed * decay * moves)
            root = (second / two.index_select(0, at)).sqrt() + 1e-8
            flat.sub_(speed * moves * (first / one.index_select(0, at)) / root)
            seen.index_copy_(0, at, loss.detach()[None])
            at.add_(1)

    advance = step if DEVICE == "cpu" else recorded(step)
    with torch.no_grad():  # recording has taken steps
        flat.copy_(start)
        for state in (first, second, at, seen):
            state.zero_()
    rows = []

    def log(name, trained, nats, right):
        for seed in range(n_seeds):
            values = (trained[seed], *(z[seed].double().mean().item() for z in (nats, right)))
            rows.append([task, kind, seed, name, *(f"{z:.9g}" if z != "" else "" for z in values)])

    for done in range(1, steps + 1):
        advance()
        if done % every == 0:
            trained = seen[done - every : done].mean(0).tolist()
            log(done, trained, *evaluate(model, flat.detach(), x_test, y_test))
    shipped = flat.detach().half().double()  # what is shipped is what is measured
    nats, right = evaluate(model, shipped, x_test.double() if task == "digits" else x_test, y_test)
    log("shipped", [""] * n_seeds, nats, right)
    sizes = [math.prod(shape) for shape in layout.values()]
    arrays = {
        name: part.view(shape).cpu().numpy().astype(np.float16)
        for (name, shape), part in zip(layout.items(), shipped[0].split(sizes), strict=True)
    }
    arrays["nats"] = (nats[0].mean(1) if task == "text" else nats[0]).cpu().numpy()
    return rows, arrays


def recorded(step):
    """The same step as one CUDA graph: kernels are launched all at once."""
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(3):
            step()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        step()
    return graph.replay


def counts(package: Path) -> None:
    """Bits a character of n-grams counted in the same training text, on the same windows."""
    from tripartite.beyond.rivals import counted

    text = dictionary(package)
    blocks = range(0, len(text) - BLOCK, BLOCK)
    held_out = [start for i, start in enumerate(blocks) if i % EVERY == EVERY - 1]
    ends = [0, *(start + BLOCK for start in held_out)]
    pieces = [text[a:b] for a, b in zip(ends, [*held_out, len(text)], strict=True)]
    starts = [a + s for a in held_out for s in range(0, BLOCK - WINDOW, WINDOW)]
    windows = [text[s : s + WINDOW + 1] for s in starts]
    with (WORK / "rivals-text-counted.csv").open("w", newline="") as file:
        for n in range(1, 8):
            nats = counted(pieces, windows, n) * math.log(2)
            file.write(f"text,counted-{n},0,shipped,,{nats:.9g},\n")


def run(task: str, package: Path | None, kinds: Sequence[str] = KINDS) -> None:
    data = digits() if task == "digits" else characters(package)
    WORK.mkdir(parents=True, exist_ok=True)
    save_file(data[-1], WORK / f"rivals-{task}.safetensors")
    for kind in kinds:
        place = WORK / f"rivals-{task}-{kind}.csv"
        if place.exists():
            continue
        began = time.perf_counter()
        rows, arrays = train(task, kind, data)
        if kind in SHIPPED:
            save_file(arrays, place.with_suffix(".safetensors"))
        with place.open("w", newline="") as file:  # last: it says that all is done
            csv.writer(file, lineterminator="\n").writerows(rows)
        end = [np.mean([float(r[i]) for r in rows if r[3] == "shipped"]) for i in (5, 6)]
        seconds = time.perf_counter() - began
        print(task, kind, *(f"{z:.4f}" for z in end), f"{seconds:.1f} s", flush=True)


def pack() -> None:
    """The log of all runs, for other divisors their ends only, and the weights of one seed."""
    (DATA / "models").mkdir(exist_ok=True)
    with (DATA / "results" / "rivals-training.csv").open("w", newline="") as file:
        file.write("task,kind,seed,step,train,held_out,accuracy\n")
        for task in SETTINGS:
            for kind in KINDS:
                for row in csv.reader((WORK / f"rivals-{task}-{kind}.csv").open()):
                    if row[3] == "shipped" or not kind.endswith(DIVISORS[1:]):
                        short = (f"{float(z):.6g}" if z else "" for z in row[4:])
                        file.write(",".join([*row[:4], *short]) + "\n")
        file.write((WORK / "rivals-text-counted.csv").read_text())
    for task in SETTINGS:
        arrays = load_file(WORK / f"rivals-{task}.safetensors")
        if task == "text":
            (DATA / "texts" / "devils-dictionary-held-out.txt").write_bytes(
                arrays.pop("held_out.text").tobytes()
            )
        for kind in SHIPPED:
            one = load_file(WORK / f"rivals-{task}-{kind}.safetensors")
            arrays |= {f"{kind}.{name}": x for name, x in one.items()}
        save_file(arrays, DATA / "models" / f"rivals-{task}.safetensors")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("task", choices=["digits", "text", "counts", "pack"])
    parser.add_argument("package", nargs="?", type=Path, help="of the text")
    parser.add_argument("--work", type=Path, help="folder for what is not packed yet")
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=KINDS)
    parser.add_argument("--quick", action="store_true", help="a few steps of two seeds, as a test")
    asked = parser.parse_args()
    WORK = asked.work or WORK
    if asked.quick:
        SETTINGS = {task: (*s[:4], 8, *s[5:7], 2, 4) for task, s in SETTINGS.items()}
    if asked.task == "pack":
        pack()
    elif asked.task == "counts":
        counts(asked.package)
    else:
        run(asked.task, asked.package, asked.kinds)
