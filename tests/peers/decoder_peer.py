"""What PyTorch and Transformers compute for the language model that speaks, from the same file.

    pip install torch==2.13.0 transformers==5.24.0 accelerate gguf
    python tests/peers/decoder_peer.py FILE.gguf

Shares no code with the book; token ids are typed here by the book's tokenizer, since the one that
Transformers makes of the file does not split digits. Writes data/reference_states/decoder.npz: of 64
tokens the likeliest successors and the logarithm of the sum over the vocabulary, and some logits.
"""

import sys
from pathlib import Path

import numpy as np
import torch
from transformers import AutoModelForCausalLM

file = Path(sys.argv[1]).resolve()
ids = np.loadtxt(sys.stdin, dtype=np.int64)
model = AutoModelForCausalLM.from_pretrained(file.parent, gguf_file=file.name, dtype=torch.float32)
with torch.no_grad():
    logits = model(torch.from_numpy(ids)[None]).logits[0]
columns = np.random.default_rng(0).choice(logits.shape[-1], 500, replace=False)
np.savez(
    Path(__file__).parents[2] / "data/reference_states/decoder.npz",
    ids=ids.astype(np.int32),
    likeliest=logits.argmax(-1).numpy().astype(np.int32),
    log_sum=torch.logsumexp(logits, -1).numpy(),
    columns=columns.astype(np.int32),
    logits=logits[::8, columns].numpy(),
)
