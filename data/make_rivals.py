"""Small Transformers trained with softmax attention and with its rivals: models/rivals-*.safetensors.

    python data/make_rivals.py digits                # ten minutes on one core
    python data/make_rivals.py text dict-devil.deb   # half an hour
    python data/make_rivals.py pack                  # seconds

Needs torch, scikit-learn, safetensors (pip install torch==2.13.0 scikit-learn==1.9.1 safetensors;
one thread, CPU) and, for the text, the Debian package dict-devil 1.0-13.1. Every model of a task
gets the same data order, steps, learning rate and initial weights for the same seed; nothing was
tuned for one of them. A run that was cut off goes on where it stopped.
"""

from __future__ import annotations

import csv
import gzip
import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import torch
from safetensors.numpy import load_file, save_file
from torch import nn
from torch.nn import functional as F

DATA = Path(__file__).parent
WORK = DATA.parent / "_build" / "rivals"
N_NEURONS = 64  # hidden neurons a head, of the neuron-astrocyte network
KINDS = ("softmax", "astrocyte-fixed", "astrocyte-trained", "linear")
SETTINGS = {  # d_model, heads, layers, batch, steps, learning rate, weight decay, seeds
    "digits": (32, 4, 2, 64, 1000, 3e-3, 0.05, range(5)),
    "text": (64, 4, 2, 32, 1000, 3e-3, 0.05, range(3)),
}
BLOCK, WINDOW, EVERY = 4096, 128, 10  # every tenth block of 4,096 characters is held out
TRAIN_DIGITS = 1257  # the first of 1,797, in the order in which people wrote them
SHIPPED = 0  # the seed whose weights are kept


class Attention(nn.Module):
    """Heads that weigh values by exp(q.k), or by phi(q).phi(k): the network, write and read."""

    def __init__(self, d_model, n_heads, kind, causal, rng):
        super().__init__()
        self.n_heads, self.kind, self.causal = n_heads, kind, causal
        self.query, self.key, self.value, self.out = (nn.Linear(d_model, d_model) for _ in range(4))
        if kind.startswith("astrocyte"):
            d = d_model // n_heads
            directions = torch.tensor(orthogonal(rng, n_heads, N_NEURONS, d), dtype=torch.float32)
            self.directions = nn.Parameter(directions, requires_grad=kind == "astrocyte-trained")

    def forward(self, x):
        b, t, c = x.shape
        q, k, v = (
            f(x).view(b, t, self.n_heads, -1).transpose(1, 2)
            for f in (self.query, self.key, self.value)
        )
        scale = q.shape[-1] ** 0.25
        q, k = q / scale, k / scale
        if self.kind == "linear":
            weights = (F.elu(q) + 1) @ (F.elu(k) + 1).transpose(-1, -2)
        elif self.kind == "softmax":
            weights = self.shifted(q @ k.transpose(-1, -2))
        else:
            a, b_ = (y @ self.directions.transpose(-1, -2) for y in (q, k))
            b_ = b_ - 0.5 * (k * k).sum(-1, keepdim=True)  # that of the query divides out
            top = b_.amax(2, keepdim=True).detach()  # a scale for each neuron, as in the module
            a = a + top
            weights = torch.exp(a - a.amax(-1, keepdim=True).detach()) @ torch.exp(
                b_ - top
            ).transpose(-1, -2)
        if self.causal:
            weights = weights.tril()
        y = weights @ v / weights.sum(-1, keepdim=True)
        return self.out(y.transpose(1, 2).reshape(x.shape))

    def shifted(self, s):
        if self.causal:
            s = s.masked_fill(torch.ones(s.shape[-2:], dtype=torch.bool).triu(1), -math.inf)
        return torch.exp(s - s.amax(-1, keepdim=True).detach())


def orthogonal(rng, heads, m, d):
    """Standard normal directions, orthogonal within groups of d. Yu et al. 2016."""
    q, r = np.linalg.qr(rng.standard_normal((heads, -(-m // d), d, d)))
    q = q * np.sign(np.diagonal(r, axis1=-2, axis2=-1))[..., None, :]
    return q.reshape(heads, -1, d)[:, :m] * np.sqrt(rng.chisquare(d, (heads, m, 1)))


class Block(nn.Module):
    def __init__(self, d_model, n_heads, kind, causal, rng):
        super().__init__()
        self.attention = Attention(d_model, n_heads, kind, causal, rng)
        self.norm_attention, self.norm_mlp = nn.LayerNorm(d_model), nn.LayerNorm(d_model)
        self.up, self.down = nn.Linear(d_model, 2 * d_model), nn.Linear(2 * d_model, d_model)

    def forward(self, x):
        x = x + self.attention(self.norm_attention(x))
        return x + self.down(F.gelu(self.up(self.norm_mlp(x))))


class Model(nn.Module):
    """Pre-norm Transformer: characters, each predicting the next; or 2 x 2 patches and a class."""

    def __init__(self, task, kind, seed, n_in, n_out, length):
        super().__init__()
        torch.manual_seed(seed)
        d_model, n_heads, n_layers, *_ = SETTINGS[task]
        self.causal = task == "text"
        self.embed = nn.Embedding(n_in, d_model) if self.causal else nn.Linear(n_in, d_model)
        if not self.causal:
            self.class_token = nn.Parameter(torch.zeros(d_model))
        self.positions = nn.Parameter(0.02 * torch.randn(length, d_model))
        rng = np.random.default_rng(seed)
        self.blocks = nn.ModuleList(
            Block(d_model, n_heads, kind, self.causal, rng) for _ in range(n_layers)
        )
        self.norm, self.head = nn.LayerNorm(d_model), nn.Linear(d_model, n_out)

    def forward(self, x):
        x = self.embed(x)
        if not self.causal:
            x = torch.cat([self.class_token.expand(len(x), 1, -1), x], 1)
        x = x + self.positions
        for block in self.blocks:
            x = block(x)
        return self.head(self.norm(x if self.causal else x[:, 0]))


def digits():
    """Train and held-out digits: patches (n, 16, 4) from 0 to 1, labels (n,); and the pixels."""
    from sklearn.datasets import load_digits

    pixels, labels = load_digits(return_X_y=True)
    cut = pixels.reshape(-1, 4, 2, 4, 2).swapaxes(2, 3).reshape(-1, 16, 4) / 16
    x, y = torch.tensor(cut, dtype=torch.float32), torch.tensor(labels)
    held_out = {
        "held_out.pixels": pixels[TRAIN_DIGITS:].astype(np.uint8),
        "held_out.labels": labels[TRAIN_DIGITS:].astype(np.uint8),
    }
    return x[:TRAIN_DIGITS], y[:TRAIN_DIGITS], x[TRAIN_DIGITS:], y[TRAIN_DIGITS:], held_out


def dictionary(package: str) -> str:
    """Ambrose Bierce, The Devil's Dictionary, from the Debian package: entries A to Z."""
    member = "./usr/share/dictd/devil.dict.dz"
    tar = subprocess.run(["dpkg", "--fsys-tarfile", package], capture_output=True, check=True)
    packed = subprocess.run(
        ["tar", "xO", member], input=tar.stdout, capture_output=True, check=True
    )
    text = gzip.decompress(packed.stdout).decode("ascii")
    return text[text.index("ABASEMENT, n.") : text.rindex("abcdefghijklmnopqrstuvwxyz")].strip()


def characters(package: str):
    """Codes of the text, starts of training windows, and held-out windows (n, 129)."""
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
    starts = torch.nonzero(free)[:, 0]
    windows = torch.stack(
        [
            codes[s : s + WINDOW + 1]
            for start in held_out
            for s in range(start, start + BLOCK - WINDOW, WINDOW)
        ]
    )
    (DATA / "texts" / "devils-dictionary-held-out.txt").write_text(
        "".join(text[s : s + BLOCK] for s in held_out)
    )
    return codes, starts, windows, "".join(alphabet)


@torch.no_grad()
def evaluate(model, x, y, dtype=torch.float32):
    """Cross-entropy of every target and whether it was the most likely one."""
    loss, right = [], []
    for part in torch.arange(len(x)).split(128):
        out = model(x[part].to(dtype) if x.is_floating_point() else x[part])
        shape = y[part].shape
        nats = F.cross_entropy(out.flatten(0, -2), y[part].flatten(), reduction="none")
        loss.append(nats.view(shape))
        right.append((out.argmax(-1) == y[part]).double())
    return torch.cat(loss), torch.cat(right)


def train(task: str, kind: str, seed: int, package: str | None) -> None:
    *_, batch, steps, rate, decay, _ = SETTINGS[task]
    torch.set_num_threads(1)
    if task == "digits":
        x, y, x_test, y_test, extra = digits()
        model, per_line = Model(task, kind, seed, 4, 10, 17), 50
    else:
        codes, starts, windows, alphabet = characters(package)
        x_test, y_test = windows[:, :-1], windows[:, 1:]
        extra = {"alphabet": np.frombuffer(alphabet.encode(), np.uint8)}
        model, per_line = Model(task, kind, seed, len(alphabet), len(alphabet), WINDOW), 100
    order = torch.Generator().manual_seed(seed)
    moved = [p for p in model.parameters() if p.requires_grad]
    optimiser = torch.optim.AdamW(moved, lr=rate, weight_decay=decay)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimiser, lambda n: min(1, n / 100) * 0.5 * (1 + math.cos(math.pi * n / steps))
    )
    rows, running = [], []
    for step in range(1, steps + 1):
        if task == "digits":
            some = torch.randint(len(x), (batch,), generator=order)
            inputs, targets = x[some], y[some]
        else:
            some = starts[torch.randint(len(starts), (batch,), generator=order)]
            window = codes[some[:, None] + torch.arange(WINDOW + 1)]
            inputs, targets = window[:, :-1], window[:, 1:]
        loss = F.cross_entropy(model(inputs).flatten(0, -2), targets.flatten())
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(moved, 1.0)
        optimiser.step()
        schedule.step()
        running.append(loss.item())
        if step % per_line == 0:
            nats, right = evaluate(model, x_test, y_test)
            rows.append([step, np.mean(running), nats.mean().item(), right.mean().item()])
            running = []
    model.half().double()  # what is shipped is what is measured
    nats, right = evaluate(model, x_test, y_test, torch.float64)
    rows.append(["shipped", "", nats.mean().item(), right.mean().item()])
    weights = {name: p.detach().numpy().astype(np.float16) for name, p in model.named_parameters()}
    if task == "text":
        nats = nats.mean(1)
    place = WORK / f"{task}-{kind}-{seed}"
    save_file({**weights, "nats": nats.numpy()}, place.with_suffix(".safetensors"))
    save_file(extra, WORK / f"{task}.safetensors")
    with place.with_suffix(".csv").open("w", newline="") as file:  # last: it says that all is done
        csv.writer(file, lineterminator="\n").writerows(rows)
    print(task, kind, seed, *(f"{z:.4f}" for z in rows[-1][2:]), flush=True)


def pack() -> None:
    """The log of all runs, and the weights of one seed."""
    (DATA / "models").mkdir(exist_ok=True)
    with (DATA / "results" / "rivals-training.csv").open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["task", "kind", "seed", "step", "train", "held_out", "accuracy"])
        for task, kind, seed in jobs(*SETTINGS):
            for row in csv.reader((WORK / f"{task}-{kind}-{seed}.csv").open()):
                short = (f"{float(z):.9g}" if z else "" for z in row[1:])
                writer.writerow([task, kind, seed, row[0], *short])
    for task in SETTINGS:
        arrays = load_file(WORK / f"{task}.safetensors")
        for kind in KINDS:
            one = load_file(WORK / f"{task}-{kind}-{SHIPPED}.safetensors")
            arrays |= {f"{kind}.{name}": x for name, x in one.items()}
        save_file(arrays, DATA / "models" / f"rivals-{task}.safetensors")


def jobs(*tasks):
    return [(t, k, s) for t in tasks for s in SETTINGS[t][-1] for k in KINDS]


def main(task: str, package: str | None = None) -> None:
    if task == "pack":
        return pack()
    WORK.mkdir(parents=True, exist_ok=True)
    for job in jobs(task):
        if not (WORK / "{}-{}-{}.csv".format(*job)).exists():
            train(*job, package)


if __name__ == "__main__":
    main(*sys.argv[1:])
