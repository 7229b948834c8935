"""The living picture of the landing page: nine tokens go through the circuit of `draw_circuit`.

Every number in it is computed here, by `tripartite`, from a recorded head of a language model.
The page carries the picture in one state, drawn, and all states as data; `living.js` shows the others.
"""

import html
import json
import re
from math import sqrt

import draw_circuit as draw
import numpy as np
from docutils import nodes
from docutils.parsers.rst import Directive
from draw_circuit import COLUMNS, HIDDEN_X, INPUTS, OUTPUT_Y, ROWS, SOMA, TAP_X

from companion.paths import data
from tripartite import attention, features, network, pretrained

RECORDING = "recordings/minilm-attention.safetensors"
ATLAS = "results/atlas-attention-100000.csv"  # errors of all heads, with as many neurons
LAYER, HEAD, SENTENCE = 0, 7, slice(1, 10)  # "my experience is what i agree to attend to"
N_NEURONS, SEED = 100_000, 0
SHOWN = 17  # the state drawn where no script runs: "attend" is read
GAUGE_X, GAUGE_TOP, GAUGE_BOTTOM = 418, 92, 260
BARS_Y, BAR = 371, 30  # zero line and half height of the output bars


def evolve():
    """Everything that the picture shows, token by token.

    Of all hidden neurons four are drawn, each of the first 300 that prefers another token most,
    without firing for it alone; of the output neurons the four that vary most. Their activity is exact: all hidden
    neurons take part in it.
    """
    recording = pretrained.load_recording(data(RECORDING))
    q, k, v = (x[LAYER, HEAD, SENTENCE] for x in recording[:3])
    phi = features.sample("positive", N_NEURONS, q.shape[1], SEED)
    reading = network.attend(phi, q, k, v)
    exact = attention.softmax_attention(q, k, v)
    h_write, h_read = phi(k).value, phi(q).value
    share = h_read[:, :300] / h_read[:, :300].sum(axis=0)
    broad = share.max(axis=0) < 0.5
    neurons = []
    for t in (1, 3, 5, 7):
        order = np.argsort(-share[t] * broad)
        neurons.append(next(int(n) for n in order if n not in neurons))
    outputs = np.sort(np.argsort(-exact.std(axis=0))[:4])
    hidden, values = h_write[:, neurons], v[:, outputs]
    return {
        "tokens": recording.tokens[SENTENCE],
        "h_write": hidden,
        "h_read": h_read[:, neurons],
        "v": values,
        "H": np.cumsum(values[:, :, None] * hidden[:, None, :], axis=0),
        "g": np.cumsum(hidden, axis=0),
        "p": reading.response,
        "Z": np.exp(attention.log_normaliser(q, k)),
        "output": reading.output[:, outputs],
        "exact": exact[:, outputs],
        "error": np.linalg.norm(reading.output - exact, axis=1) / np.linalg.norm(exact, axis=1),
        "neurons": neurons,
        "outputs": outputs,
    }


def errors_of_heads():
    """Errors of every head over a whole paragraph, mean over seeds, (heads,); mine: the head shown."""
    rows = np.genfromtxt(data(ATLAS), delimiter=",", names=True)
    n_seeds = len(np.unique(rows["seed"]))
    heads = {name: rows[name].reshape(n_seeds, -1).mean(axis=0) for name in ("error", "output")}
    first = rows[: heads["error"].size]
    mine = (first["layer"] == LAYER) & (first["head"] == HEAD)
    return heads | {"mine": int(np.flatnonzero(mine)[0])}


def beside():
    """How the head shown compares with all others: errors over a whole paragraph, mean over seeds."""
    heads = errors_of_heads()
    mine = heads["mine"]
    return {
        "heads": heads["error"].size,
        "response": heads["error"][mine],
        "output": heads["output"][mine],
        "median response": np.median(heads["error"]),
        "median output": np.median(heads["output"]),
        "off by half": int(np.sum(heads["error"] > 0.5)),
    }


def states(seen):
    """(values of every moving attribute, phase, sentence) for nothing, nine writings, nine readings."""
    n = len(seen["tokens"])
    h_top = np.maximum(seen["h_write"].max(axis=0), seen["h_read"].max(axis=0))
    H_top, g_top = np.abs(seen["H"]).max(), seen["g"][-1].max()
    p_top = 1.12 * max(seen["p"].max(), seen["Z"].max())
    value_top = {"write": np.abs(seen["v"]).max(), "rest": 1}
    value_top["read"] = max(np.abs(seen[key]).max() for key in ("output", "exact"))
    none = np.zeros(4)
    sequence = [("rest", None)] + [("write", t) for t in range(n)] + [("read", t) for t in range(n)]
    return [
        _state(seen, phase, t, h_top, H_top, g_top, p_top, value_top[phase], none)
        for phase, t in sequence
    ]


def _state(seen, phase, t, h_top, H_top, g_top, p_top, value_top, none):
    n = len(seen["tokens"])
    writing, reading = phase == "write", phase == "read"
    h = (seen["h_write"][t] if writing else seen["h_read"][t] if reading else none) / h_top
    written = t + 1 if writing else n if reading else 0
    H = seen["H"][written - 1] if written else np.zeros((4, 4))
    g = seen["g"][written - 1] if written else none
    bars = seen["v"][t] if writing else seen["output"][t] if reading else none
    p, Z = (seen["p"][t], seen["Z"][t]) if reading else (0, 0)
    height = GAUGE_BOTTOM - GAUGE_TOP
    moving = {}
    for i in range(n):
        moving[f"token{i}", "class"] = ("token now" if i == t else "token") + (
            " written" if i < written else ""
        )
    for i in range(4):
        moving[f"hidden{i}", "fill-opacity"] = 0.08 + 0.92 * h[i]
        moving[f"axon{i}", "stroke-opacity"] = 0.25 + 0.75 * h[i] ** 0.5
        moving[f"tap{i}", "r"] = 9 * sqrt(g[i] / g_top)
        for j in range(4):
            moving[f"synapse{i}{j}", "r"] = 8.4 * sqrt(abs(H[j, i]) / H_top)
            moving[f"synapse{i}{j}", "class"] = "inhibits" if H[j, i] < 0 else "excites"
            # the gain P = 1/p, relative to its largest
            gain = seen["p"].min() / p if reading else 0
            moving[f"foot{i}{j}", "stroke-opacity"] = 0.35 + 0.65 * gain
            moving[f"foot{i}{j}", "fill-opacity"] = gain
        size = BAR * bars[i] / value_top
        moving[f"bar{i}", "y"] = BARS_Y - max(size, 0)
        moving[f"bar{i}", "height"] = abs(size)
        moving[f"output{i}", "fill-opacity"] = 0.08 + 0.92 * abs(bars[i]) / value_top
        exact = seen["exact"][t][i] if reading else 0
        moving[f"exact{i}", "y"] = BARS_Y - BAR * exact / value_top - 1
        moving[f"exact{i}", "opacity"] = int(reading)
    moving["fill", "y"] = GAUGE_BOTTOM - height * p / p_top
    moving["fill", "height"] = height * p / p_top
    moving["soma", "fill-opacity"] = p / p_top
    moving["tick", "transform"] = f"translate(0 {GAUGE_BOTTOM - height * Z / p_top:.1f})"
    moving["tick", "opacity"] = int(reading)
    moving["writing", "opacity"] = int(not reading)
    moving["reading", "opacity"] = int(reading)
    rounded = {
        key: value if isinstance(value, str) else round(float(value), 2)
        for key, value in moving.items()
    }
    return rounded, phase, _sentence(seen, phase, t)


def _sentence(seen, phase, t):
    n = len(seen["tokens"])
    if phase == "rest":
        return f"Nothing is written yet: synapses H and weights g are empty. {n} tokens wait."
    token = f"“{seen['tokens'][t]}”"
    if phase == "write":
        return (
            f"Writing {token}, {t + 1} of {n}. Hidden neurons respond to its key, output neurons hold its "
            "value, and the synapses between them grow. So do the weights to the astrocyte."
        )
    return (
        f"Reading with {token}, {t + 1} of {n}. The astrocyte pools p = {seen['p'][t]:.1f}; softmax "
        f"divides by Z = {seen['Z'][t]:.1f}. Divided by p, the output is attention, to {100 * seen['error'][t]:.0f} %."
    )


def _element(tag, name, fixed, state):
    moving = {key: value for (owner, key), value in state.items() if owner == name}
    shown = {key: draw.n(v) if isinstance(v, float) else v for key, v in (fixed | moving).items()}
    written = "".join(f' {key}="{value}"' for key, value in shown.items())
    return f'<{tag} data-part="{name}"{written}/>'


def picture(seen, state):
    """The SVG, with every moving attribute as in that state."""

    def part(tag, name, **fixed):
        fixed = {key.rstrip("_").replace("_", "-"): value for key, value in fixed.items()}
        return _element(tag, name, fixed, state)

    blue, orange, pale = draw.NEURON, draw.ASTROCYTE, draw.ASTROCYTE_PALE
    out = _tokens(seen["tokens"], state)
    for i, y in enumerate(ROWS):
        axon = {"x1": HIDDEN_X + 17, "y1": y, "x2": draw.AXON_END, "y2": y}
        out.append(part("line", f"axon{i}", **axon, stroke=blue, stroke_width=2.4))
    out += [
        draw.line(x, 78, x, OUTPUT_Y - 13, stroke=blue, stroke_width=1.6, opacity=0.5)
        for x in COLUMNS
    ]
    out += [shape for shape in draw.astrocyte(False) if not shape.startswith("<circle")]
    out.append(part("circle", "soma", cx=SOMA[0], cy=SOMA[1], r=19, fill=orange))
    for x, y in INPUTS:
        out += [
            draw.line(x + 11, y, HIDDEN_X - 17, row, stroke=blue, stroke_width=1, opacity=0.4)
            for row in ROWS
        ]
        out.append(draw.circle(x, y, 11, fill=draw.NEURON_PALE, stroke=blue, stroke_width=2))
    for i, y in enumerate(ROWS):
        out.append(draw.circle(HIDDEN_X, y, 17, fill="#fff"))
        out.append(part("circle", f"hidden{i}", cx=HIDDEN_X, cy=y, r=17, fill=blue, stroke=blue, stroke_width=2))  # fmt: skip
        out.append(draw.circle(TAP_X, y, 10, fill="#fff", stroke=orange, stroke_width=2))
        out.append(part("circle", f"tap{i}", cx=TAP_X, cy=y, fill=orange))
        for j, x in enumerate(COLUMNS):
            out.append(draw.circle(x, y, 12, fill="#fff"))
            out.append(part("circle", f"foot{i}{j}", cx=x, cy=y, r=12, fill=pale, stroke=orange, stroke_width=2.6))  # fmt: skip
            out.append(part("circle", f"synapse{i}{j}", cx=x, cy=y))
    for i, x in enumerate(COLUMNS):
        out.append(draw.circle(x, OUTPUT_Y, 13, fill="#fff"))
        out.append(part("circle", f"output{i}", cx=x, cy=OUTPUT_Y, r=13, fill=blue, stroke=blue, stroke_width=2))  # fmt: skip
        out.append(draw.line(x - 15, BARS_Y, x + 15, BARS_Y, stroke=draw.GREY, stroke_width=1))
        out.append(part("rect", f"bar{i}", x=x - 9, width=18, fill=blue))
        out.append(part("rect", f"exact{i}", x=x - 15, width=30, height=2.4, fill=draw.INK))
    out += draw.arrow("M34 244V306Q34 318 46 318H188", (198, 318), 0, draw.GREY)
    out += _gauge(part)
    out += _labels(state)
    out += [
        f'<path class="pulse {when}" d="{d}" fill="none" stroke="{ink}" stroke-width="4" stroke-linecap="round" opacity="0"/>'
        for when, d, ink in _pulses()
    ]
    title = "A circuit of neurons and an astrocyte reads nine words"
    text = (
        "Inputs drive hidden neurons; their axons cross the dendrites of output neurons, and an astrocyte holds every "
        "crossing and listens to every axon. A gauge shows what the astrocyte has pooled, a tick the softmax normaliser."
    )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 470 444" role="img" aria-label="{title}. {text}">'
        f"<style>{_style()}</style>\n" + "\n".join(out) + "\n</svg>"
    )


def _tokens(tokens, state):
    width = [7.6 * len(token) + 13 for token in tokens]
    x, out = (470 - sum(width) - 3 * (len(tokens) - 1)) / 2, []
    for i, (token, w) in enumerate(zip(tokens, width)):
        kind = state[f"token{i}", "class"]
        out.append(
            f'<g data-part="token{i}" class="{kind}"><rect x="{draw.n(x)}" y="8" width="{draw.n(w)}" height="26" rx="5"/>'
            f'<text x="{draw.n(x + w / 2)}" y="26" class="m">{html.escape(token)}</text></g>'
        )
        x += w + 3
    return out


def _gauge(part):
    height, ink = GAUGE_BOTTOM - GAUGE_TOP, draw.ASTROCYTE
    box = f'x="{GAUGE_X}" y="{GAUGE_TOP}" width="20" height="{height}" rx="4"'
    tick = part("g", "tick")[:-2]  # it has children
    label = draw.text(GAUGE_X + 27, 5, draw.symbol("Z"))
    line = draw.line(GAUGE_X - 5, 0, GAUGE_X + 24, 0, stroke=draw.INK, stroke_width=2.4)
    return [
        f'<rect {box} fill="{draw.ASTROCYTE_PALE}"/>',
        part("rect", "fill", x=GAUGE_X, width=20, rx=4, fill=ink),
        f'<rect {box} fill="none" stroke="{ink}" stroke-width="2"/>',
        f"{tick}>{line}{label}</g>",
        draw.text(GAUGE_X + 10, 82, draw.symbol("p", colour=draw.ASTROCYTE_TEXT), class_="m b"),
    ]


def _labels(state):
    rows = {"writing": "", "reading": ""}
    H, h, v, out = (draw.symbol(s) for s in ("H", "h", "v", "ℓ"))
    g, p = (draw.symbol(s, colour=draw.ASTROCYTE_TEXT) for s in "gp")
    gap = "&#8195;&#8195;"
    up = '<tspan dy="-6" font-size="70%">T</tspan><tspan dy="6">&#8203;</tspan>'
    rows["writing"] = f"{H} ← {H} + {v} {h}{up}{gap}{g} ← {g} + {h}"
    rows["reading"] = f"{p} = {g}·{h}{gap}{out} = {H} {h} / {p}"
    return [
        draw.text(34, 103, "token", class_="m"),
        draw.text(HIDDEN_X, 66, f"hidden {h}", class_="m"),
        draw.text(TAP_X + 3, 78, g, class_="m b"),
        draw.text(286, 66, f"synapses {H}, one astrocyte", class_="m"),
        draw.text(188, 376, f"output {out}", class_="e"),
        *(
            f'<g data-part="{k}" opacity="{draw.n(state[k, "opacity"])}">{draw.text(235, 430, v, class_="f")}</g>'
            for k, v in rows.items()
        ),
    ]


def _pulses():
    """Paths along which something runs in a phase: (class, path, ink)."""
    for x, y in INPUTS:
        for row in ROWS:
            yield "both first", f"M{x + 11} {y}L{HIDDEN_X - 17} {row}", draw.NEURON
    for y in ROWS:
        yield "both second", f"M{HIDDEN_X + 17} {y}H{draw.AXON_END}", draw.NEURON
        yield "both third", f"M{TAP_X} {y}V176", draw.ASTROCYTE
    yield "write first", "M34 244V306Q34 318 46 318H198", draw.NEURON
    yield "read third", f"M{TAP_X} 176H{SOMA[0] - 20}", draw.ASTROCYTE
    for sx in (-1, 1):
        for sy in (-1, 1):
            fork = f"{SOMA[0] + 48 * sx} {SOMA[1] + 56 * sy}"
            yield "read fourth", f"M{SOMA[0] + 14 * sx} {SOMA[1] + 14 * sy}L{fork}", draw.ASTROCYTE
    for x in COLUMNS:
        yield "read fifth", f"M{x} 78V{OUTPUT_Y - 13}", draw.NEURON
        yield "write second", f"M{x} {OUTPUT_Y - 13}V78", draw.NEURON


def _style():
    """The style of the static panels, kept to this picture: inline, it would reach the whole page."""
    return re.sub(r"(^|\})([^{]+)\{", r"\1.living \2{", draw.STYLE)


def figure():
    """The picture, its controls (shown by the script), and its states as data."""
    seen = evolve()
    sequence = states(seen)
    shown, _, sentence = sequence[SHOWN]
    slots = [list(slot) for slot in shown]
    packed = {
        "slots": slots,
        "states": [list(state.values()) for state, _, _ in sequence],
        "phases": [phase for _, phase, _ in sequence],
        "sentences": [sentence for _, _, sentence in sequence],
        "shown": SHOWN,
    }
    off = abs(seen["p"] / seen["Z"] - 1).max()
    others = beside()
    easy = (
        f"<strong>This is an easy head.</strong> With as many neurons, over the whole paragraph that these words are from, its "
        f"astrocyte is off by {others['response']:.0%} and its output by {others['output']:.0%}. In the median of the model’s "
        f"{others['heads']} heads these are {others['median response']:.0%} and {others['median output']:.0%}; in "
        f"{others['off by half']} heads the astrocyte is off by more than half."
    )
    note = (
        f"Real numbers: head {HEAD} of layer {LAYER} in a language model, {N_NEURONS:,} hidden neurons, of which four are "
        f"drawn. Dot size is the strength of a synapse, hollow dots are negative; ticks without colour are what softmax attention "
        f"gives; bars are scaled to their phase. Here p is within {100 * off:.0f} % of Z, and more neurons bring it closer."
    )
    return f"""<figure class="living">
{picture(seen, shown)}
<div class="living-controls" hidden>
<button type="button" data-do="play">Play</button>
<button type="button" data-do="back" aria-label="One step back">◀</button>
<button type="button" data-do="on" aria-label="One step on">▶</button>
<label class="sr-only" for="living-step">Step</label>
<input type="range" id="living-step" min="0" max="{len(sequence) - 1}" value="{SHOWN}">
</div>
<figcaption><p class="living-now">{sentence}</p><p class="living-easy">{easy}</p><p class="living-note">{note}</p></figcaption>
<script type="application/json">{json.dumps(packed, separators=(",", ":"), ensure_ascii=False)}</script>
</figure>"""


class LivingCircuit(Directive):
    """`living-circuit`: the picture, in place."""

    def run(self):
        sources = [__file__, *(m.__file__ for m in (draw, attention, features, network))]
        for path in [*sources, data(RECORDING), data(ATLAS)]:  # drawn anew when one of them changes
            self.state.document.settings.env.note_dependency(str(path))
        return [nodes.raw("", figure(), format="html")]


def add_script(app, pagename, templatename, context, doctree):
    if '<figure class="living">' in context.get("body", ""):
        app.add_js_file("living.js", loading_method="defer")
        app.add_css_file("living.css")


def setup(app):
    app.add_directive("living-circuit", LivingCircuit)
    app.connect("html-page-context", add_script)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
