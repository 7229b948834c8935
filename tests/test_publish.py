"""Fingerprints, references and claims: what stands between a reader and a wrong number."""

import math

import matplotlib.pyplot as plt
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from companion import plotted, publish
from companion.claims import ClaimError, claim

NUMBERS = st.floats(-1e6, 1e6, allow_subnormal=False)
SERIES = hnp.arrays(float, st.integers(1, 30), elements=NUMBERS)


@given(SERIES)
def test_table_comes_back_from_disk(tmp_path_factory, x):
    data = plotted.tidy({"x": x, "label": [f"token, {i}" for i in range(x.size)]})
    stem = tmp_path_factory.mktemp("plotted") / "figure"
    assert plotted.save(data, stem).suffix == ".csv"
    back = plotted.load(stem)
    assert plotted.deviation(back, data) == {"x": 0.0, "label": 0.0}
    assert plotted.fingerprint(back) == plotted.fingerprint(data)


def test_arrays_of_several_shapes_come_back_from_disk(tmp_path):
    data = plotted.tidy({"image": np.random.default_rng(0).normal(size=(3, 4)), "x": [1.5, np.nan]})
    assert plotted.save(data, tmp_path / "figure").suffix == ".npz"
    assert plotted.deviation(plotted.load(tmp_path / "figure"), data) == {"image": 0.0, "x": 0.0}


def test_numbers_of_a_figure_are_kept_once(tmp_path):
    for data in ({"x": [1, 2]}, {"x": [1, 2], "y": [1, 2, 3]}, {"x": [1]}):
        kept = plotted.save(plotted.tidy(data), tmp_path / "figure")
        assert list(tmp_path.iterdir()) == [kept]


@given(SERIES.filter(lambda x: np.abs(x).max() > 1e-3), st.integers(0, 29))
def test_one_percent_in_any_large_point_is_seen(x, where):
    where %= x.size
    if abs(x[where]) < 1e-6 * np.abs(x).max():
        return  # below what counts as zero in this series
    changed = x.copy()
    changed[where] *= 1.01
    deviation = plotted.deviation({"x": changed}, {"x": x})["x"]
    assert deviation == pytest.approx(0.01, rel=1e-6)


@given(SERIES.filter(lambda x: np.abs(x).max() > 1e-3))
def test_fingerprint_shows_one_percent_in_a_whole_series(x):
    before, after = plotted.tidy({"x": x}), plotted.tidy({"x": 1.01 * x})
    assert plotted.fingerprint(before) != plotted.fingerprint(after)


@pytest.mark.parametrize(
    ("fresh", "reference"),
    [
        ([1.0, 2.0], [1.0, 2.0, 3.0]),
        ([1.0, np.nan], [1.0, 2.0]),
        ([1.0, np.inf], [1.0, -np.inf]),
        (["a", "b"], ["a", "c"]),
        (["1", "2"], [1.0, 2.0]),
    ],
)
def test_what_cannot_be_compared_is_infinitely_far(fresh, reference):
    fresh, reference = ({"x": np.asarray(x)} for x in (fresh, reference))
    assert plotted.deviation(fresh, reference) == {"x": math.inf}
    assert plotted.deviation(fresh, {"y": np.ones(2)}) == {"x": math.inf, "y": math.inf}


@pytest.mark.parametrize("data", [{}, {"x": []}, {"x": [object()]}, {"x": [1j]}])
def test_data_that_is_no_data_is_refused(data):
    with pytest.raises(ValueError, match="data"):
        plotted.tidy(data)


@pytest.mark.parametrize("name", ["../evil", "Upper", "a b", "", "a/b", "-a", "a.csv"])
def test_names_that_are_no_file_names_are_refused(name):
    with pytest.raises(ValueError, match="lower-case words"):
        publish(plt.figure(), name, data={"x": [1.0]})


def test_a_figure_that_no_chapter_declares_is_refused():
    with pytest.raises(ValueError, match="no cell in book/"):
        publish(plt.figure(), "not-in-the-book", data={"x": [1.0]})


@pytest.mark.parametrize(
    ("observed", "bound", "holds"),
    [
        (0.04, "< 0.05", True),
        (0.05, "< 0.05", False),
        ([0.01, 0.06], "< 0.05", False),
        (3, "> 2", True),
        (-0.5, "-0.6 .. -0.4", True),
        (-0.7, "-0.6 .. -0.4", False),
        (float("nan"), "< 1", False),
        ([0.0, float("nan")], "< 1", False),
        (1e-13, "< 1e-12", True),
        (float("inf"), "> 2", True),
    ],
)
def test_claims_hold_or_raise(monkeypatch, observed, bound, holds):
    monkeypatch.delenv("TRIPARTITE_CLAIMS", raising=False)
    if holds:
        assert claim("C1", "it", "It", observed, bound, kind="fact").holds
    else:
        with pytest.raises(ClaimError, match="C1 it: It: "):
            claim("C1", "it", "It", observed, bound, kind="fact")


def test_a_claim_names_its_worst_case():
    result = claim("C5", "error", "Error", [0.01, 0.04, 0.02], "< 0.05", kind="fact")
    assert result.observed == 0.04 and result.cases == 3
    assert result.sentence() == "Error: 0.04 (must be < 0.05, the worst of 3)"
    shown, _ = result._repr_mimebundle_()
    assert "&lt; 0.05" in shown["text/html"]


def test_rounding_errors_are_not_printed_as_digits():
    # they differ between machines
    for observed in (3e-14, 2e-14):
        found = claim("C1", "it", "Difference", observed, "< 1e-12", kind="identity")
        assert found.sentence() == "Difference: none but rounding (must be < 1e-12)"


@pytest.mark.parametrize(
    ("words", "named"),
    [
        ({"paper_claim": "C10"}, "paper_claim = 'C10'"),
        ({"bound": "below 2"}, "bound = 'below 2'"),
        ({"observed": []}, "observed"),
        ({"name": "It is"}, "name = 'It is'"),
        ({"kind": "truth"}, "kind = 'truth': must be one of identity, fact, result"),
    ],
)
def test_malformed_claims_are_refused(words, named):
    sound = {
        "paper_claim": "C1", "name": "it", "statement": "It", "observed": 1, "bound": "< 2", "kind": "fact"
    }  # fmt: skip
    with pytest.raises(ValueError, match=named):
        claim(**(sound | words))
