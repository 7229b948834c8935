"""One Matplotlib style for the whole book: black ink on nothing, so that themes can flip it."""

from __future__ import annotations

from pathlib import Path

COLOURS = {
    "neuron": "#0072B2",
    "astrocyte": "#D55E00",
    "exact": "#000000",
    "third": "#009E73",
    "fourth": "#AA4499",
    "muted": "#767676",
}
"""Colour-blind-safe (after Okabe and Ito); each has contrast 3:1 on white and when flipped."""


def use_style() -> None:
    """Apply the book's style to every figure that follows."""
    import matplotlib

    matplotlib.use("agg")  # figures are published, not shown
    import matplotlib.pyplot as plt

    plt.style.use(Path(__file__).with_name("companion.mplstyle"))


def plain_ticks(axis, *subs: float, at=None) -> None:
    """Label a logarithmic axis with plain numbers, and no minor ticks.

    axis: of Matplotlib; subs: multiples of powers of ten that get a tick (default: 1); at: the
    values that get one, in place of these.
    """
    from matplotlib import ticker

    places = ticker.LogLocator(subs=subs or (1,)) if at is None else ticker.FixedLocator(at)
    axis.set_major_locator(places)
    axis.set_major_formatter(ticker.StrMethodFormatter("{x:g}"))
    axis.set_minor_locator(ticker.NullLocator())
    axis.set_minor_formatter(ticker.NullFormatter())
