"""The curves read from the authors' picture: the reader on curves that are known, and what it found."""

import numpy as np
import pytest

from companion.paths import DATA


@pytest.fixture(scope="module")
def reader():
    import make_published

    return make_published


def known_curves(n_tokens=40):
    """A noisy floor with peaks, a curve that follows it, and one that has other peaks; pixels."""
    rng = np.random.default_rng(0)
    exact = 60 + 12 * rng.normal(size=n_tokens)
    exact[[6, 15, 27]] += 120, 180, 90
    many = exact * rng.normal(1, 0.15, n_tokens)
    few = 45 + 10 * rng.normal(size=n_tokens)
    few[[10, 33]] += 150, 100
    return np.array([few, many, exact])


def test_curves_that_are_known_are_read_to_a_pixel(reader):
    true = known_curves()
    picture = reader.draw(true, (330, 255))
    found = reader.heights_of(picture, 40, rounds=40)
    legible = np.isfinite(found)
    assert (legible.mean(1) > [0.4, 0.85, 0.95]).all()
    error = np.abs(found - true)
    assert (np.nanquantile(error, 0.9, axis=1) < 1).all(), np.nanquantile(error, 0.9, axis=1)


def test_the_drawing_of_what_was_found_must_resemble_the_picture(reader):
    """Every curve is found, but one was drawn thinner: only the whole drawing tells."""
    thin = {**reader.LANGUAGE, "p_1000": (reader.LANGUAGE["p_1000"][0], 5, 0.8)}
    picture = reader.draw(known_curves(), (330, 255), thin)
    with pytest.raises(ValueError, match="resembles the picture at .* of 40 tokens, must be at"):
        reader.heights_of(picture, 40, rounds=8)


def test_unlikeness_is_that_of_the_ink_at_a_token_inside_the_frame(reader):
    white = np.full((40, 100, 3), 255, np.uint8)
    ink = white.copy()
    ink[20, 30:35] = 0  # at token 5 only, whose columns are 28.7 to 35.1
    found = reader.unlikeness(ink, white, 15)
    assert found[5] == pytest.approx(255 * 3**0.5) and np.flatnonzero(found).tolist() == [5]
    ink[:4] = ink[:, :4] = 0  # the line of the frame
    np.testing.assert_array_equal(reader.unlikeness(ink, white, 15), found)


def test_the_unit_follows_from_the_limits_of_the_notebook(reader):
    """Limits 120 beyond a curve of 0 to 300 units, drawn in 540 pixels: one unit a pixel."""
    few = np.array([0.0, 300.0, 100.0]) + 120
    values, unit = reader.calibrated(np.array([few, few + 50, few - 20]), 540)
    assert unit == 1 and values.tolist() == [[0, 300, 100], [50, 350, 150], [-20, 280, 80]]
    few[1] = np.nan  # the highest value is hidden: the margins cannot be equal
    with pytest.raises(ValueError, match="not 120 each"):
        reader.calibrated(np.array([few, few, few]), 540)


def test_the_span_follows_from_matplotlibs_margins(reader):
    """Curves from 0 to 1, drawn in 440 pixels: 400 of them between margins of 20."""
    curves = 20 + 400 * np.array([[0.0, 0.5], [1.0, 0.25], [0.75, np.nan]])
    values, unit = reader.in_spans(curves, 440)
    np.testing.assert_allclose(values, [[0, 0.5], [1, 0.25], [0.75, np.nan]], atol=1e-12)
    assert unit == 1 / 400
    hidden = np.minimum(curves, 320)  # the highest value is not seen: the other end tells
    np.testing.assert_allclose(
        reader.in_spans(hidden, 440)[0], np.minimum(values, 0.75), atol=1e-12
    )
    for wrong in (curves - 5, np.clip(curves, 100, 320)):
        with pytest.raises(ValueError, match="margins of .* pixels, not 20.0"):
            reader.in_spans(wrong, 440)


def test_another_picture_is_refused(reader, tmp_path):
    import base64

    import nbformat

    png = base64.b64encode((DATA / "images/cat.jpg").read_bytes()).decode()
    output = nbformat.v4.new_output("display_data", data={"image/png": png})
    path = tmp_path / "a.ipynb"
    nbformat.write(
        nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(outputs=[output])]), path
    )
    with pytest.raises(ValueError, match="has no picture whose frame is known"):
        reader.stored_picture(path, reader.STORED["vision"])
