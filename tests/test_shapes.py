"""The checker of documented shapes: it finds a docstring that is wrong."""

import numpy as np
import pytest

import shapes
from tripartite import attention, features, network

RNG = np.random.default_rng(0)


def test_calls_are_watched_and_batches_fit():
    q, k, v = RNG.standard_normal((3, 2, 5, 4)) * 0.3
    assert hasattr(attention.log_normaliser, "__wrapped__")
    assert attention.log_normaliser(q, k).shape == (2, 5)
    assert network.attend(features.sample("positive", 7, 4, 0), q, k, v).output.shape == (2, 5, 4)


@pytest.mark.parametrize(
    ("doc", "what"),
    [
        ("x: (..., t, d); y: (..., i, d). Returns (..., t, i).", None),
        ("x: (..., t, d); y: (..., t, d).", "y is"),
        ("x: (t, d).", "x is"),
        ("x: (..., 5, d).", None),
        ("x: (..., 4, d).", "x is"),
        ("x: (tokens, ...).", None),
        ("x: (..., t, d) or (..., t, 1); y: (..., i, e).", None),
        ("x: (..., t, d). Returns kernel, (..., t).", "the result is"),
        ("x: (..., t, d); y: (..., t + 1, d).", None),
        ("x: (..., t, d); y: (..., t + 2, d).", "y is"),
    ],
)
def test_a_wrong_docstring_is_found(doc, what):
    def pairs(x, y):
        return x @ y.swapaxes(-1, -2)

    pairs.__doc__ = doc
    x, y = np.ones((2, 3, 5, 4)), np.ones((2, 3, 6, 4))
    if what is None:
        shapes.watched(pairs)(x, y)
    else:
        with pytest.raises(shapes.ShapeError, match=what):
            shapes.watched(pairs)(x, y)


def test_fields_of_a_result_are_as_their_class_says(monkeypatch):
    doc = network.Reading.__doc__
    q, k, v = RNG.standard_normal((3, 5, 4)) * 0.3
    phi = features.sample("positive", 7, 4, 0)
    monkeypatch.setattr(network.Reading, "__doc__", doc.replace("(..., tokens, e)", "(..., e, 9)"))
    with pytest.raises(shapes.ShapeError, match="drive is"):
        network.attend(phi, q, k, v)
