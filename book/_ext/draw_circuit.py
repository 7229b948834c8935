"""Draw the neuron-astrocyte circuit: `python book/_ext/draw_circuit.py` rewrites book/_static/circuit-*.svg.

Two panels of one size, so that they stand side by side on a desk and one below the other on a phone.
Each sits on paper of its own and therefore reads on any ground; the site's dark theme inverts the whole panel.
"""

from math import atan2, cos, hypot, pi, sin
from pathlib import Path

STATIC = Path(__file__).resolve().parent.parent / "_static"

INK, GREY = "#1f2933", "#5b6672"
NEURON, NEURON_PALE = "#0072b2", "#dcedf8"
ASTROCYTE, ASTROCYTE_TEXT, ASTROCYTE_MID, ASTROCYTE_PALE = (
    "#d55e00",
    "#b04a00",
    "#e58645",
    "#fae3d3",
)

INPUTS = [(34, y) for y in (124, 176, 228)]
ROWS = (92, 148, 204, 260)  # hidden neurons and their axons
COLUMNS = (214, 262, 310, 358)  # output neurons and their dendrites
HIDDEN_X, TAP_X, AXON_END, OUTPUT_Y = 118, 166, 376, 318
SOMA = (286, 176)
STRENGTH = (  # |H| at each synapse, row by row
    (4.6, 3.0, 3.8, 2.6),
    (2.8, 4.2, 2.6, 3.6),
    (3.6, 2.6, 4.8, 3.0),
    (2.6, 3.8, 3.0, 4.4),
)


def n(x):
    return f"{x:.1f}".rstrip("0").rstrip(".")


def line(x0, y0, x1, y1, **style):
    return f'<line x1="{n(x0)}" y1="{n(y0)}" x2="{n(x1)}" y2="{n(y1)}"{attributes(style)}/>'


def circle(x, y, r, **style):
    return f'<circle cx="{n(x)}" cy="{n(y)}" r="{n(r)}"{attributes(style)}/>'


def path(d, **style):
    return f'<path d="{d}"{attributes(style)}/>'


def text(x, y, content, **style):
    return f'<text x="{n(x)}" y="{n(y)}"{attributes(style)}>{content}</text>'


def attributes(style):
    return "".join(
        f' {key.rstrip("_").replace("_", "-")}="{value}"' for key, value in style.items()
    )


def symbol(name, subscript="", colour=None):
    """A mathematical symbol inside a <text>."""
    fill = f' fill="{colour}"' if colour else ""
    below = (
        f'<tspan dy="4" font-size="72%">{subscript}</tspan><tspan dy="-4">&#8203;</tspan>'
        if subscript
        else ""
    )
    return f'<tspan class="v"{fill}>{name}{below}</tspan>'


def process(start, end, bend, w0, w1):
    """An astrocytic process: a curved strand that tapers from width w0 to w1."""
    (x0, y0), (x1, y1) = start, end
    length = hypot(x1 - x0, y1 - y0)
    nx, ny = -(y1 - y0) / length, (x1 - x0) / length
    cx, cy = (x0 + x1) / 2 + bend * nx, (y0 + y1) / 2 + bend * ny
    wc = (w0 + w1) / 2.4

    def side(x, y, w):
        return f"{n(x + nx * w / 2)} {n(y + ny * w / 2)}"

    return (
        f"M{side(x0, y0, w0)}Q{side(cx, cy, wc)} {side(x1, y1, w1)}"
        f"L{side(x1, y1, -w1)}Q{side(cx, cy, -wc)} {side(x0, y0, -w0)}Z"
    )


def soma():
    """A star: an outline whose radius bulges towards every process."""
    points = []
    towards = [atan2(sy * 56, sx * 48) for sx in (-1, 1) for sy in (-1, 1)] + [pi]
    for k in range(72):
        angle = 2 * pi * k / 72
        nearest = min(abs((angle - a + pi) % (2 * pi) - pi) for a in towards)
        radius = 17 + 10 * max(0, 1 - nearest / 0.42) ** 2
        points.append(f"{n(SOMA[0] + radius * cos(angle))} {n(SOMA[1] + radius * sin(angle))}")
    return "M" + "L".join(points) + "Z"


def astrocyte(reading):
    strands = [soma()]
    for sx in (-1, 1):
        for sy in (-1, 1):
            fork = (SOMA[0] + 48 * sx, SOMA[1] + 56 * sy)
            strands.append(process(SOMA, fork, 5 * sx, 13, 5.5))
            for dx in (-24, 24):
                for dy in (-28, 28):
                    strands.append(process(fork, (fork[0] + dx, fork[1] + dy), 3 * sx * sy, 5.5, 3))
    strands.append(process(SOMA, (TAP_X, 176), 0, 13, 5))
    for y in ROWS:
        strands.append(process((TAP_X, 176), (TAP_X, y), 0, 5, 3.5))
    feet = [
        circle(
            x,
            y,
            11,
            fill=ASTROCYTE_PALE if reading else "#fff",
            stroke=ASTROCYTE if reading else ASTROCYTE_MID,
            stroke_width=3 if reading else 2,
        )
        for y in ROWS
        for x in COLUMNS
    ]
    return [f'<g fill="{ASTROCYTE_MID}">', *map(path, strands), "</g>", *feet]


def neurons():
    out = []
    for x, y in INPUTS:
        out += [
            line(x + 11, y, HIDDEN_X - 17, row, stroke=NEURON, stroke_width=1, opacity=0.45)
            for row in ROWS
        ]
    out += [circle(x, y, 11, fill=NEURON_PALE, stroke=NEURON, stroke_width=2) for x, y in INPUTS]
    for y, shift in zip(ROWS, (-6, 3, -2, 6)):
        out.append(circle(HIDDEN_X, y, 17, fill=NEURON_PALE, stroke=NEURON, stroke_width=2))
        x = HIDDEN_X + shift
        left, right = n(HIDDEN_X - 12.5), n(HIDDEN_X + 12.5)
        bell = f"M{left} {y + 7}C{n(x - 4)} {y + 7} {n(x - 4)} {y - 10} {n(x)} {y - 10}S{n(x + 4)} {y + 7} {right} {y + 7}"
        out.append(path(bell, fill="none", stroke=NEURON, stroke_width=1.8, stroke_linecap="round"))
    return out


def wires():
    axons = [line(HIDDEN_X + 17, y, AXON_END, y, stroke=NEURON, stroke_width=2) for y in ROWS]
    dendrites = [line(x, 78, x, OUTPUT_Y - 13, stroke=NEURON, stroke_width=2) for x in COLUMNS]
    return axons + dendrites


def contacts(reading):
    out = [
        circle(x, y, r, fill=INK if reading else NEURON)
        for y, row in zip(ROWS, STRENGTH)
        for x, r in zip(COLUMNS, row)
    ]
    for y in ROWS:  # neuron-to-astrocyte weights
        out.append(
            f'<rect x="{TAP_X - 6}" y="{y - 6}" width="12" height="12" rx="2" transform="rotate(45 {TAP_X} {y})" '
            f'fill="{ASTROCYTE_PALE if reading else ASTROCYTE}" stroke="{ASTROCYTE}" stroke-width="2"/>'
        )
    return out


def outputs():
    return [
        circle(x, OUTPUT_Y, 13, fill=NEURON_PALE, stroke=NEURON, stroke_width=2) for x in COLUMNS
    ]


def arrow(d, tip, angle, colour, **style):
    x, y = tip
    head = f'<path d="M0 0L-9 -4.5L-9 4.5Z" transform="translate({x} {y}) rotate({angle})" fill="{colour}"/>'
    return [path(d, fill="none", stroke=colour, stroke_width=2, **style), head]


def labels(reading):
    token = symbol("x", "t")
    projected = symbol("q" if reading else "k", "t")
    out = [
        text(
            20,
            33,
            f"{'2' if reading else '1'}&#8195;{'Reading' if reading else 'Writing'}",
            class_="t",
        ),
        text(
            380,
            33,
            "the astrocyte sets the gain" if reading else "the token sets the weights",
            class_="e s",
        ),
        line(20, 46, 380, 46, stroke="#d3d9df"),
        text(34, 84, f"input {symbol('f')}", class_="m"),
        text(34, 103, token, class_="m"),
        text(68, 273, projected, class_="m b"),
        text(HIDDEN_X, 66, f"hidden {symbol('h')}", class_="m"),
        text(HIDDEN_X, 297, f"{symbol('m')} tuning curves {symbol('φ')}", class_="m"),
        text(TAP_X + 6, 76, symbol("g", colour=ASTROCYTE_TEXT), class_="s b"),
        text(286, 353, f"output {symbol('ℓ')}", class_="m"),
    ]
    if reading:
        out += [
            text(
                286,
                68,
                f"astrocyte: {symbol('P', colour=ASTROCYTE_TEXT)} = 1/{symbol('p', colour=ASTROCYTE_TEXT)}",
                class_="m",
                fill=ASTROCYTE_TEXT,
            ),
            text(116, 340, f"+ {token} (skip connection)", class_="m"),
        ]
    else:
        out += [
            text(286, 68, f"synapses {symbol('H')}, one astrocyte", class_="m"),
            text(116, 340, symbol("v", "t"), class_="m b"),
        ]
    return out


def formulas(reading):
    h, out, H = symbol("h"), symbol("ℓ"), symbol("H")
    g, p, P = (symbol(s, colour=ASTROCYTE_TEXT) for s in "gpP")
    gap = "&#8195;&#8195;"
    if reading:
        first = f"{h} = {symbol('φ')}({symbol('q', 't')}){gap}{p} = {g}·{h}{gap}{P} = 1/{p}"
        second = f"{out} = ({H} ⊙ {P}) {h}"
    else:
        first = f"{h} = {symbol('φ')}({symbol('k', 't')}){gap}{out} = {symbol('v', 't')}"
        second = f'{H} ← {H} + {out} {h}<tspan dy="-6" font-size="70%">T</tspan><tspan dy="6">&#8203;</tspan>{gap}{g} ← {g} + {h}'
    return [
        line(20, 368, 380, 368, stroke="#d3d9df"),
        text(200, 397, first, class_="f"),
        text(200, 427, second, class_="f"),
    ]


STYLE = (
    "text{font-family:system-ui,-apple-system,'Segoe UI',Roboto,'Helvetica Neue',Arial,'Liberation Sans',sans-serif;"
    f"font-size:14px;fill:{INK}}}"
    ".v{font-family:Cambria,Georgia,'Times New Roman','Liberation Serif',serif;font-style:italic;font-size:1.13em}"
    ".t{font-size:19px;font-weight:650}.m{text-anchor:middle}.e{text-anchor:end}"
    f".s{{fill:{GREY}}}.b{{font-size:16px}}"
    ".f{text-anchor:middle;font-family:Cambria,Georgia,'Times New Roman','Liberation Serif',serif;font-size:19px}"
    ".f .v{font-size:1em}"
)

WORDS = {
    False: (
        "Writing phase of the neuron-astrocyte network",
        "A token drives the input layer f. Hidden neurons with tuning curves phi respond with h = phi(k), the output layer is "
        "set to l = v. Hebbian plasticity adds l h-transposed to the synapses H between hidden and output neurons; the weights "
        "g from hidden neurons to the one astrocyte that ensheathes all these synapses grow by h.",
    ),
    True: (
        "Reading phase of the neuron-astrocyte network",
        "Hidden neurons respond to a query with h = phi(q). The astrocyte pools them into p = g dot h, and each of its processes "
        "answers at its synapse with the gain P = 1/p. The output layer reads l = (H times P) h; a skip connection adds the "
        "token x.",
    ),
}


def panel(reading):
    title, description = WORDS[reading]
    bypass = "M34 244V306Q34 318 46 318H188"
    dash = {"stroke_dasharray": "5 4"} if reading else {}
    parts = [
        '<rect x=".5" y=".5" width="399" height="447" rx="10" fill="#fff" stroke="#d3d9df"/>',
        *wires(),
        *astrocyte(reading),
        *neurons(),
        *arrow(bypass, (198, 318), 0, GREY if reading else NEURON, **dash),
        *outputs(),
        *contacts(reading),
    ]
    if reading:
        parts += arrow("M182 176H244", (252, 176), 0, ASTROCYTE_TEXT)
        parts.append(text(SOMA[0], SOMA[1] + 5, symbol("p"), class_="m b"))
    parts += labels(reading) + formulas(reading)
    body = "\n".join(parts)
    return (
        '<svg xmlns="http://www.w3.org/2000/svg" width="400" height="448" viewBox="0 0 400 448" role="img" '
        f'aria-labelledby="title desc">\n<title id="title">{title}</title>\n<desc id="desc">{description}</desc>\n'
        f"<style>{STYLE}</style>\n{body}\n</svg>\n"
    )


def draw():
    """The panels by file name."""
    return {"circuit-writing.svg": panel(False), "circuit-reading.svg": panel(True)}


if __name__ == "__main__":
    for name, svg in draw().items():
        (STATIC / name).write_text(svg, encoding="utf-8")
