"""The language model that speaks: against loops, against Transformers, and step by step.

Files in the format of llama.cpp are written here, number by number, from its specification.
"""

import cmath
import math
import struct

import numpy as np
import pytest

from companion.fetch import is_cached, model_directory
from companion.paths import DATA
from tripartite import attention, features, gguf
from tripartite.beyond import decoder, recruiting, tuning, working

PIECES = [chr(code) for code in range(33, 127)] + ["Ġ", "Ċ", "th", "the", "<|im_start|>", "<|end|>"]
WIDTH, INNER, HEADS, GROUPS, LAYERS, D = 64, 96, 4, 2, 2, 16


def string(text):
    raw = text.encode()
    return struct.pack("<Q", len(raw)) + raw


def entry(value):
    """Type and value of an entry: text, whole number, float, or a list of one of them."""
    if isinstance(value, str):
        return struct.pack("<I", 8) + string(value)
    if isinstance(value, list):
        parts = [entry(x) for x in value]
        return struct.pack("<I", 9) + parts[0][:4] + struct.pack("<Q", len(value)) + b"".join(
            part[4:] for part in parts
        )  # fmt: skip
    return (
        struct.pack("<If", 6, value) if isinstance(value, float) else struct.pack("<II", 4, value)
    )


def packed(x, kind):
    """Numbers as a type stores them, and what they are after that."""
    x = np.asarray(x, np.float32)
    if kind == 0:
        return x.tobytes(), x
    if kind == 1:
        return x.astype(np.float16).tobytes(), x.astype(np.float16).astype(np.float32)
    out, back = b"", []
    for block in x.reshape(-1, 32):
        if kind == 8:
            scale = np.float16(np.abs(block).max() / 127)
            q = np.round(block / np.float32(scale)).astype(np.int8)
            out += scale.tobytes() + q.tobytes()
            back.append(q * np.float32(scale))
        else:
            low, scale = np.float16(block.min()), np.float16(np.ptp(block) / 15)
            q = np.clip(np.round((block - np.float32(low)) / np.float32(scale)), 0, 15)
            q = q.astype(np.uint8)
            out += scale.tobytes() + low.tobytes()
            out += bytes(int(q[i]) | int(q[i + 16]) << 4 for i in range(16))
            back.append(q * np.float32(scale) + np.float32(low))
    return out, np.concatenate(back).reshape(x.shape)


def write(path, entries, tensors, *, version=3, magic=b"GGUF"):
    """A file of entries and tensors, name -> (array, type); returns what the tensors are then."""
    head = magic + struct.pack("<IQQ", version, len(tensors), len(entries))
    for name, value in entries.items():
        head += string(name) + entry(value)
    data, table, kept = b"", b"", {}
    for name, (x, kind) in tensors.items():
        raw, kept[name] = packed(x, kind)
        table += string(name) + struct.pack("<I", x.ndim)
        table += struct.pack(f"<{x.ndim}Q", *x.shape[::-1]) + struct.pack("<IQ", kind, len(data))
        data += raw + b"\0" * (-len(raw) % 32)
    head += table
    path.write_bytes(head + b"\0" * (-len(head) % 32) + data)
    return kept


def entries(**changes):
    control = [3 if piece.startswith("<|") else 1 for piece in PIECES]
    return {
        "general.architecture": "llama",
        "llama.block_count": LAYERS,
        "llama.embedding_length": WIDTH,
        "llama.feed_forward_length": INNER,
        "llama.attention.head_count": HEADS,
        "llama.attention.head_count_kv": GROUPS,
        "llama.context_length": 50,
        "llama.attention.layer_norm_rms_epsilon": 1e-5,
        "llama.rope.freq_base": 100.0,
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": "smollm",
        "tokenizer.ggml.tokens": PIECES,
        "tokenizer.ggml.merges": ["t h", "th e"],
        "tokenizer.ggml.token_type": control,
    } | changes


def tensors(rng):
    shapes = {"token_embd.weight": (len(PIECES), WIDTH), "output_norm.weight": (WIDTH,)}
    for n in range(LAYERS):
        shapes |= {
            f"blk.{n}.{name}.weight": shape
            for name, shape in {
                "attn_norm": (WIDTH,), "attn_q": (WIDTH, WIDTH), "attn_k": (GROUPS * D, WIDTH),
                "attn_v": (GROUPS * D, WIDTH), "attn_output": (WIDTH, WIDTH), "ffn_norm": (WIDTH,),
                "ffn_gate": (INNER, WIDTH), "ffn_up": (INNER, WIDTH), "ffn_down": (WIDTH, INNER),
            }.items()
        }  # fmt: skip
    kinds = [3, 8, 1]
    return {
        name: (rng.normal(0, 0.3, shape), 0 if len(shape) == 1 else kinds[n % 3])
        for n, (name, shape) in enumerate(shapes.items())
    }


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    path = tmp_path_factory.mktemp("gguf") / "small.gguf"
    kept = write(path, entries(), tensors(np.random.default_rng(0)))
    return decoder.load(path, np.float64), {name: x.astype(float) for name, x in kept.items()}


IDS = np.random.default_rng(1).integers(0, len(PIECES), 13)


def by_loops(w, ids):
    """Logits of every position, token by token, head by head, with complex numbers for rotation."""
    x = [w["token_embd.weight"][i] for i in ids]

    def norm(y, gain):
        return y / math.sqrt(sum(a * a for a in y) / len(y) + 1e-5) * gain

    def turned(y, position):
        out = []
        for i in range(0, D, 2):
            z = complex(y[i], y[i + 1]) * cmath.exp(1j * position * 100.0 ** (-i / D))
            out += [z.real, z.imag]
        return np.array(out)

    for n in range(LAYERS):
        layer = {k.split(".")[2]: v for k, v in w.items() if k.startswith(f"blk.{n}.")}
        h = [norm(y, layer["attn_norm"]) for y in x]
        mixed = []
        for t in range(len(ids)):
            heads = []
            for head in range(HEADS):
                group = head // (HEADS // GROUPS)
                q = turned(layer["attn_q"][head * D : (head + 1) * D] @ h[t], t)
                rows = slice(group * D, (group + 1) * D)
                weights = [
                    math.exp(q @ turned(layer["attn_k"][rows] @ h[i], i) / math.sqrt(D))
                    for i in range(t + 1)
                ]
                values = [layer["attn_v"][rows] @ h[i] for i in range(t + 1)]
                total = sum(a * v for a, v in zip(weights, values, strict=True))
                heads.append(total / sum(weights))
            mixed.append(x[t] + layer["attn_output"] @ np.concatenate(heads))
        x = []
        for y in mixed:
            m = norm(y, layer["ffn_norm"])
            gate = layer["ffn_gate"] @ m
            x.append(y + layer["ffn_down"] @ (gate / (1 + np.exp(-gate)) * (layer["ffn_up"] @ m)))
    return np.array([w["token_embd.weight"] @ norm(y, w["output_norm.weight"]) for y in x])


def test_the_model_is_what_its_equations_say(small):
    model, weights = small
    logits, _, _ = decoder.listen(model, IDS, decoder.blank(model, decoder.exact))
    np.testing.assert_allclose(logits, by_loops(weights, IDS), rtol=1e-10, atol=1e-10)


PHI = features.sample("positive", 30, D, seed=0)
MEMORIES = {
    "exact": decoder.exact,
    "window": lambda layer: working.hold(None, 4, 1),
    "circuit": lambda layer: working.hold(PHI, 0),
    "both": lambda layer: working.hold(PHI, 4, 1),
    "recruited": lambda layer: recruiting.hold(3, 4, 1),
}


@pytest.mark.parametrize("hold", MEMORIES)
@pytest.mark.parametrize("prompt", [1, 5, 12])
def test_step_by_step_is_all_at_once(small, hold, prompt):
    model, _ = small
    memory = MEMORIES[hold]
    whole, end, _ = decoder.listen(model, IDS, decoder.blank(model, memory))
    logits, state, readings = decoder.listen(model, IDS[:prompt], decoder.blank(model, memory))
    found = [logits]
    for token in IDS[prompt:]:
        logits, state, readings = decoder.listen(model, [token], state)
        found.append(logits)
    np.testing.assert_allclose(np.concatenate(found), whole, rtol=1e-8, atol=1e-9)
    assert state.tokens == end.tokens == len(IDS)
    assert readings[0].output.shape == (GROUPS, HEADS // GROUPS, 1, D)
    sizes = [held.numbers for held in state.layers]
    assert sizes == [held.numbers for held in end.layers]
    if hold == "both":  # pairs of the window and the first token; H, g and scales of a group
        assert sizes == [GROUPS * (5 * 2 * D + 30 * (D + 2))] * LAYERS


def test_a_state_is_a_value(small):
    """Two continuations of one state do not disturb each other."""
    model, _ = small
    phi = features.sample("positive", 30, D, seed=0)
    blank = decoder.blank(model, lambda layer: working.hold(phi, 2, 1))
    _, state, _ = decoder.listen(model, IDS[:6], blank)
    once, _, _ = decoder.listen(model, IDS[6:], state)
    decoder.listen(model, IDS[3:9], state)
    again, _, _ = decoder.listen(model, IDS[6:], state)
    np.testing.assert_array_equal(once, again)


@pytest.mark.parametrize("hold", MEMORIES)
def test_a_state_is_saved_and_goes_on_where_it_was(small, hold, tmp_path):
    model, _ = small
    blank, path = decoder.blank(model, MEMORIES[hold]), tmp_path / "state.safetensors"
    for read in (2, 8):  # before anything has left the window, and after
        _, state, _ = decoder.listen(model, IDS[:read], blank)
        decoder.save(state, path)
        resumed = decoder.resume(path, blank)
        here, after, _ = decoder.listen(model, IDS[read : read + 1], state)
        there, after_too, _ = decoder.listen(model, IDS[read : read + 1], resumed)
        np.testing.assert_array_equal(here, there)
        assert after.tokens == after_too.tokens
    assert [p.name for p in tmp_path.iterdir()] == [path.name]


def test_a_state_of_another_model_or_memory_is_refused(small, tmp_path):
    model, _ = small
    path = tmp_path / "state.safetensors"
    starts = {name: decoder.blank(model, hold) for name, hold in MEMORIES.items()}
    _, state, _ = decoder.listen(model, IDS[:8], starts["both"])
    decoder.save(state, path)
    with pytest.raises(ValueError, match="must have 2 and none"):
        decoder.resume(path, starts["both"]._replace(layers=starts["both"].layers[:1]))
    with pytest.raises(ValueError, match="and none"):
        decoder.resume(path, state)
    with pytest.raises(ValueError, match="another kind of memory"):
        decoder.resume(path, starts["recruited"])


def test_speaking_takes_the_likeliest_or_draws(small):
    model, _ = small
    blank = decoder.blank(model, decoder.exact)
    said = list(decoder.speak(model, IDS, blank, 6))
    so_far = list(IDS)
    for spoken in said:
        logits, _, _ = decoder.listen(model, so_far, blank)
        assert spoken.token == np.argmax(logits[-1])
        so_far.append(spoken.token)

    def drawn(seed, temperature, n=6):
        found = decoder.speak(model, IDS, blank, n, temperature=temperature, seed=seed)
        return [spoken.token for spoken in found]

    assert drawn(3, 1.0) == drawn(3, 1.0) != drawn(4, 1.0)
    assert drawn(3, 1e-6) == [spoken.token for spoken in said]
    stops = list(decoder.speak(model, IDS, blank, 6, stop=[said[2].token]))
    first = [spoken.token for spoken in said].index(said[2].token)
    assert len(stops) == first + 1
    # at a high temperature all tokens are about as likely
    firsts = [drawn(seed, 1e6, 1)[0] for seed in range(40)]
    assert len(set(firsts)) > 20


def test_tokens_come_back_as_text(small):
    model, _ = small
    ids = model.encode("<|im_start|>the 42\nthe")
    names = [PIECES[i] for i in ids]
    assert names == ["<|im_start|>", "the", "Ġ", "4", "2", "Ċ", "the"]
    assert model.decode(ids) == "the 42\nthe"


@pytest.mark.parametrize("kind", [0, 1, 3, 8])
def test_every_way_of_storing_is_read(tmp_path, kind):
    x = np.random.default_rng(kind).normal(size=(6, 64))
    kept = write(tmp_path / "one.gguf", {"general.alignment": 32}, {"x": (x, kind)})
    file = gguf.read(tmp_path / "one.gguf")
    found = file("x", 6, 64)
    np.testing.assert_allclose(found, kept["x"], rtol=1e-6, atol=1e-6)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, x, atol={0: 1e-6, 1: 2e-3, 3: 0.25, 8: 0.02}[kind])


def test_files_that_cannot_be_read_are_refused(tmp_path):
    path = tmp_path / "x.gguf"
    good = {"x": (np.random.default_rng(0).normal(size=(2, 32)), 3)}
    with pytest.raises(FileNotFoundError, match="no such file"):
        gguf.read(path)
    for change, message in (
        ({"magic": b"GGML"}, "not a GGUF file"),
        ({"version": 1}, "version 1: must be 2 or 3"),
    ):
        write(path, {}, good, **change)
        with pytest.raises(ValueError, match=message):
            gguf.read(path)
    write(path, {"a": "b" * 100}, good)
    whole = path.read_bytes()
    for end in (3, 30, 60, 150):
        path.write_bytes(whole[:end])
        with pytest.raises(ValueError, match="not a GGUF file|damaged or ends too early"):
            gguf.read(path)
    path.write_bytes(whole[:-30])
    with pytest.raises(ValueError, match="ends within x"):
        gguf.read(path)("x", 2, 32)
    path.write_bytes(whole)
    file = gguf.read(path)
    with pytest.raises(ValueError, match=r"x has shape \(2, 32\): must be \(32, 2\)"):
        file("x", 32, 2)
    with pytest.raises(ValueError, match="no tensor y"):
        file("y", 1)
    path.write_bytes(whole.replace(struct.pack("<IQ", 3, 0), struct.pack("<IQ", 12, 0)))
    with pytest.raises(ValueError, match=r"x is of type 12: must be one of 0 \(F32\)"):
        gguf.read(path)("x", 2, 32)
    write(path, {}, {"x": (np.array([1.0, np.nan]), 0)})
    with pytest.raises(ValueError, match="x holds NaN or infinity"):
        gguf.read(path)("x", 2)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"general.architecture": "gpt2"}, "architecture 'gpt2': must be 'llama'"),
        ({"llama.rope.dimension_count": 8}, "heads of another width"),
        ({"tokenizer.ggml.pre": "llama-bpe"}, "tokenizer .* must be"),
        ({"llama.feed_forward_length": 97}, "has shape"),
    ],
)
def test_other_models_are_refused(tmp_path, change, message):
    path = tmp_path / "x.gguf"
    write(path, entries(**change), tensors(np.random.default_rng(0)))
    with pytest.raises(ValueError, match=message):
        decoder.load(path)


def test_bad_tokens_and_temperatures_are_refused(small):
    model, _ = small
    blank = decoder.blank(model, decoder.exact)
    for ids, message in (
        ([], "must be .tokens,., at least one"),
        ([len(PIECES)], "must be 0 to"),
        ([-1], "must be 0 to"),
        ([0] * 51, "51 tokens: the model has 50 positions"),
    ):
        with pytest.raises(ValueError, match=message):
            decoder.listen(model, ids, blank)
    for temperature in (-1.0, math.nan):
        with pytest.raises(ValueError, match="temperature = "):
            next(decoder.speak(model, IDS, blank, 2, temperature=temperature))
    with pytest.raises(ValueError, match="n_tokens = 0"):
        next(decoder.speak(model, IDS, blank, 0))


@pytest.fixture(scope="module")
def real():
    if not is_cached("smollm2-135m-instruct"):
        pytest.skip("the model is not here: tripartite fetch brings it")
    (file,) = model_directory("smollm2-135m-instruct").glob("*.gguf")
    return decoder.load(file)


def test_real_weights_agree_with_transformers(real):
    """Made by tests/peers/decoder_peer.py, in single precision, as ours."""
    with np.load(DATA / "reference_states/decoder.npz") as known:
        logits, _, _ = decoder.listen(real, known["ids"], decoder.blank(real, decoder.exact))
        np.testing.assert_array_equal(logits.argmax(axis=-1), known["likeliest"])
        top = logits.max(axis=-1)
        log_sum = top + np.log(np.exp(logits - top[:, None]).sum(axis=-1))
        np.testing.assert_allclose(log_sum, known["log_sum"], atol=1e-4)
        np.testing.assert_allclose(logits[::8, known["columns"]], known["logits"], atol=5e-4)
        text = real.decode(known["ids"])
    assert text and (DATA / "texts/entangled-bank.txt").read_text("utf-8").startswith(text)


@pytest.mark.parametrize("kind", ["exact", "alone", "fitted"])
def test_windows_and_fitted_neurons_agree_with_pytorch_and_a_mask(real, kind):
    """Made by tests/peers/memories_peer.py: the whole table of pairs, and the curves by their formula."""
    curves = tuning.load(DATA / "tuning/decoder-128.safetensors")
    hold = {
        "exact": decoder.exact,
        "alone": lambda layer: working.hold(None, 32, 1),
        "fitted": lambda layer: working.hold(curves.of_head(layer), 32, 1),
    }[kind]
    with np.load(DATA / "reference_states/memories.npz") as known:
        ids = known["ids"]
        logits, _, _ = decoder.listen(real, ids, decoder.blank(real, hold))
        log_p = logits[:-1] - attention.log_sum_exp(logits[:-1])
        said = log_p[np.arange(len(ids) - 1), ids[1:]]
        np.testing.assert_allclose(said, known[kind], atol=1e-3)
        for other in {"exact", "alone", "fitted"} - {kind}:  # which the tolerance tells apart
            assert np.max(np.abs(said - known[other])) > 0.5


def test_fitted_neurons_come_near_the_exact_model(real):
    """A text that was not fitted to; the window alone is further off, as is a window of other curves."""
    words = (DATA / "texts/devils-dictionary-held-out.txt").read_text("utf-8")[:900]
    ids = np.array(real.encode("<|im_start|>" + words)[:160])
    curves = tuning.load(DATA / "tuning/decoder-128.safetensors")

    def bits(hold):
        logits, _, _ = decoder.listen(real, ids, decoder.blank(real, hold))
        logits = logits[:-1].astype(float)
        top = logits.max(axis=-1, keepdims=True)
        log_sum = top[:, 0] + np.log(np.exp(logits - top).sum(axis=-1))
        return np.mean(log_sum - logits[np.arange(len(ids) - 1), ids[1:]]) / math.log(2)

    exact = bits(decoder.exact)
    alone = bits(lambda layer: working.hold(None, 32, 1)) - exact
    both = bits(lambda layer: working.hold(curves.of_head(layer), 32, 1)) - exact
    shifted = bits(lambda layer: working.hold(curves.of_head((layer + 1) % 30), 32, 1)) - exact
    assert abs(both) < 0.5 * alone < shifted
