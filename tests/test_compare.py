"""One comparison for nbval, builds and runs: numbers as numbers, words as words."""

import json

import numpy as np
import pytest
from nbformat import NotebookNode
from nbformat.v4 import new_code_cell, new_notebook, new_output

from companion import compare, prose, table
from companion.claims import claim, recorded


def shown(obj) -> list:
    """What a cell that ends in the object leaves in a notebook."""
    data, note = obj._repr_mimebundle_()
    data = {kind: data[kind] for kind in data}
    out = new_output("execute_result", data=data, metadata=json.loads(json.dumps(note)))
    return [NotebookNode(out)]


def said(sentence="It is off by {error:.0%} in {n} heads of {name}.", **values):
    return shown(prose(sentence, **({"error": 0.2349, "n": 7, "name": "ALBERT"} | values)))


def checked(observed, bound="< 2", kind="result", statement="Statement", name="some-name"):
    return shown(claim("C1", name, statement, observed, bound, kind=kind))


def test_a_sentence_is_shown_as_its_numbers_say():
    assert str(prose("{a:.1%}, {b:,} and {c}", a=np.float32(0.25), b=np.int64(1234), c="d")) == (
        "25.0%, 1,234 and d"
    )
    assert str(prose("{x:.{k}f}", x=1.234, k=1)) == "1.2"
    assert str(prose("${{a}}$ {x:.0f}", x=float("nan"))) == "${a}$ nan"


@pytest.mark.parametrize(
    ("sentence", "values", "named"),
    [
        ("{a}", {}, "a"),
        ("{a}", {"a": 1, "b": 2}, "b"),
        ("{a}", {"a": None}, "a = None"),
        ("{a}", {"a": True}, "a = True"),
        ("{a}", {"a": np.ones(3)}, "a = array"),
    ],
)
def test_a_sentence_without_its_values_is_refused(sentence, values, named):
    with pytest.raises(ValueError, match=named):
        prose(sentence, **values)


@pytest.mark.parametrize(
    ("fresh", "same"),
    [
        ({"error": 0.2351}, True),  # prints 24 % where the committed chapter has 23 %
        ({"error": 0.2341}, True),  # a larger difference, which no reader sees
        ({"error": 0.2360}, False),
        ({"n": 8}, False),  # whole numbers must be equal
        ({"name": "BERT"}, False),
        ({"error": float("nan")}, False),
    ],
)
def test_numbers_in_sentences_are_compared_as_numbers(fresh, same):
    assert (not compare.cell(said(**fresh), said())) == same


def test_words_of_sentences_are_compared_exactly():
    other = said("It is off by {error:.0%} in {n} layers of {name}.")
    (line,) = compare.cell(other, said())
    assert "heads of ALBERT" in line and "layers of ALBERT" in line  # both are shown


def test_what_is_not_finite_is_the_same_only_as_itself():
    for value in (float("nan"), float("inf")):
        assert not compare.cell(said(error=value), said(error=value))
        assert compare.cell(said(error=0.1), said(error=value))
    assert compare.cell(said(error=float("inf")), said(error=-float("inf")))


def test_tables_are_compared_cell_by_cell():
    def made(values, n=2):
        return shown(
            table({"head": ["a", "b"], "{n}": [n, 3], "error": (values, ".1f"), "gap": [None, "x"]})
        )

    assert made([0.349, 2])[0].data["text/markdown"] == (
        "| head | {n} | error | gap |\n|---|---|---|---|\n| a | 2 | 0.3 | – |\n| b | 3 | 2.0 | x |"
    )
    assert not compare.cell(made([0.3501, 2]), made([0.3499, 2]))  # 0.4 and 0.3
    assert compare.cell(made([0.37, 2]), made([0.349, 2]))
    assert compare.cell(made([0.349, 2], n=1), made([0.349, 2]))
    with pytest.raises(ValueError, match="'b': 1"):
        table({"a": [1, 2], "b": [1]})


def test_claims_are_compared_on_the_scale_of_their_bound():
    assert not compare.cell(checked(1.0005), checked(1.0))
    assert compare.cell(checked(1.01), checked(1.0))
    assert not compare.cell(checked(3e-4), checked(1e-4))  # both are nothing beside a bound of 2
    assert compare.cell(checked(1.0, "< 3"), checked(1.0))
    assert compare.cell(checked(1.0, statement="Other"), checked(1.0))
    assert compare.cell(checked(1.0, name="other-name"), checked(1.0))


def test_the_size_of_a_rounding_error_is_neither_shown_nor_compared():
    a, b = (checked(x, "< 1e-5", "identity") for x in (2.1e-6, 2e-6))
    assert a[0].data == b[0].data and "none but rounding" in a[0].data["text/plain"]
    assert not compare.cell(a, b)


@pytest.mark.parametrize(
    ("a", "b", "same"),
    [
        ("error 2.1e-06", "error 2e-06", True),
        ("error 2.1e-06", "error 2.3e-06", False),
        ("12.3 and 7", "12.4 and 7", True),
        ("12.3 and 7", "12.5 and 7", False),
        ("12.3 and 7", "12.3 and 8", False),  # whole numbers are counts
        ("1,234.5", "1,234.6", True),
        ("−0.38", "−0.37", True),
        ("0.38", "−0.38", False),
        ("layer 3", "head 3", False),
        ("v1.2.3", "v1.2.4", False),
        ("<object at 0x7f00aabbcc>", "<object at 0x7f11aabbcc>", True),
        ('<figure class="explorer">1.5</figure>', '<figure class="explorer">9.5</figure>', True),
    ],
)
def test_printed_numbers_may_differ_by_one_in_their_last_digit(a, b, same):
    assert compare.same_text(a, b) == same


def test_streams_are_one_text_and_standard_error_is_passed_over():
    def stream(*parts, name="stdout"):
        return [NotebookNode(new_output("stream", name=name, text=part)) for part in parts]

    assert not compare.cell(
        stream("a\n", "b\n") + stream("warned", name="stderr"), stream("a\nb\n")
    )
    assert compare.cell(stream("a\n"), stream("a\nb\n"))
    assert compare.cell([], stream("a\n"))


def notebook(*cells):
    """Cells of outputs, as a notebook; cell i has the id ci."""
    made = [new_code_cell(outputs=outputs, id=f"c{i}") for i, outputs in enumerate(cells)]
    return new_notebook(cells=made)


def test_a_claim_that_is_not_a_number_is_told_as_one_that_fails(monkeypatch):
    monkeypatch.setenv("TRIPARTITE_CLAIMS", "report")
    failed = checked(np.nan)
    note = failed[0].metadata["tripartite"]["claim"]
    note["observed"] = "nan"  # as a kernel leaves it
    found = compare.compare(notebook(failed), notebook(checked(1.0)))
    assert not found.same()
    assert found.details() == ["claim some-name fails: Statement: nan, must be < 2"]
    assert np.isnan(recorded(notebook(failed).cells)["some-name"]["observed"])


def test_what_a_figure_s_cell_prints_is_compared_too():
    drawn = {"figure": "wave", "deviation": {"y": 0.0}, "tolerance": 1e-3}
    figure = new_output("display_data", data={"text/plain": "wave"}, metadata={"tripartite": drawn})
    texts = [new_output("stream", name="stdout", text=text) for text in ("3 waves", "4 waves")]
    fresh, committed = (notebook([text, NotebookNode(figure)]) for text in texts)
    assert compare.compare(committed, committed).same()
    assert compare.compare(fresh, committed).differences == {
        "c0": ["now:       3 waves\ncommitted: 4 waves"]
    }
