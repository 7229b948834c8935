"""What any fixed tuning could reach: results/tuning-bounds.csv.

Run as `python scripts/make_tuning_bounds.py FOLDER MODEL` after make_tuning_inputs.py; MODEL is
language or vision. Queries and keys of the first test windows are pooled, since a fixed tuning
does not know which of them will meet. The softmax matrix of the pool is cut to rank m, by singular
values (curves of any shape and sign) or by non-negative factors (curves of any shape that are
firing rates), and every window is read from its block. Both know the tokens they are tested on, so
they show what m curves could do, not what can be found from other inputs. Every third head.
`python scripts/make_tuning_bounds.py FOLDER MODEL own` appends how near the curves of make_fitted.py
come on windows that they were fitted to, every head.
"""

import sys
from pathlib import Path

import numpy as np
from scipy.linalg import eigh

import tuning_inputs
from common import appended
from make_tuning import errors, population
from tripartite import attention

RANKS, POOLS, ROUNDS = (64, 256), (1, 2, 4, 7), 200


def singular(matrix, rank):
    """The nearest matrix of that rank."""
    n = len(matrix)
    _, right = eigh(matrix.T @ matrix, subset_by_index=[max(0, n - rank), n - 1])
    return matrix @ right @ right.T


def positive(matrix, rank):
    """Product of two non-negative factors, by multiplicative updates (Lee and Seung, 2001)."""
    matrix = matrix.astype(np.float32)
    rng = np.random.default_rng(0)
    a, b = (rng.random(shape, np.float32) for shape in ((len(matrix), rank), (rank, len(matrix))))
    for _ in range(ROUNDS):
        b *= (a.T @ matrix) / (a.T @ a @ b + 1e-12)
        a *= (matrix @ b.T) / (a @ (b @ b.T) + 1e-12)
    return a @ b


def read(matrix, values):
    """Outputs of all windows, each from its block of the pooled matrix."""
    out, start = [], 0
    for v in values:
        block = matrix[start : start + len(v), start : start + len(v)]
        out.append(block @ v / block.sum(axis=-1, keepdims=True))
        start += len(v)
    return np.concatenate(out)


def own(folder, model, layers):
    """Rows of fitted curves on the first 8 windows of the fit split."""
    for rank in RANKS:
        for layer in range(layers):
            raw = tuning_inputs.recorded(folder, model, layer, "fit")[:, :, :8].astype(np.float32)
            phi = population(folder, model, "gradient", rank, 0, layer)
            found = errors(phi, [raw[:, :, n] for n in range(8)])[1]
            for head, error in enumerate(found):
                yield [model, "own", rank, 8, layer, head, f"{error:.4g}"]


def main():
    folder, model = Path(sys.argv[1]), sys.argv[2]
    encoder = tuning_inputs.load(model)
    with appended("tuning-bounds", tuning_inputs.BOUNDS) as (writer, _):
        if sys.argv[3:] == ["own"]:
            writer.writerows(own(folder, model, encoder.n_layers))
            return
        inputs = tuning_inputs.tests(folder, model, encoder)[: POOLS[-1]]
        windows = [encoder.heads(x) for x in inputs]
        heads = windows[0][0].shape[1]
        for place in range(0, encoder.n_layers * heads, 3):
            layer, head = divmod(place, heads)
            q, k, v = zip(*[[x[layer][head] for x in w] for w in windows], strict=True)
            for pool in POOLS:
                scores = np.concatenate(q[:pool]) @ np.concatenate(k[:pool]).T
                scores = scores.astype(np.float64)
                weights = np.exp(scores - attention.log_sum_exp(scores))
                exact = read(weights, v[:pool])
                for rank in RANKS:
                    for name, cut in (("any", singular), ("positive", positive)):
                        if cut is positive and pool != 4:
                            continue
                        found = read(cut(weights, rank), v[:pool])
                        error = np.linalg.norm(found - exact) / np.linalg.norm(exact)
                        writer.writerow([model, name, rank, pool, layer, head, f"{error:.4g}"])
            print(model, layer, head, flush=True)


if __name__ == "__main__":
    main()
