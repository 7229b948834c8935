"""Seeds, choices and mutants: the jobs that try to break the book's promises."""

import json
import re
import warnings
from importlib import import_module

import pytest

import mutants
from companion import choices, rerun, results, seeds, stale
from companion.chapters import chapters, find
from companion.paths import DATA, ROOT
from companion.results import RESULTS

TESTS = ROOT / "tests"


def test_seeds_follow_from_the_date_and_are_new():
    first = seeds.draw("2027-01-04", {})
    assert first == seeds.draw("2027-01-04", {}) and len(set(first)) == 20
    assert set(seeds.draw("2027-01-05", {})).isdisjoint(first)
    # where the same draw was made before, all of them are others, and none is near
    again = seeds.draw("2027-01-04", {"2026-12-28": first})
    assert min(abs(a - b) for a in again for b in first) >= seeds.APART
    # later dates do not count, or a draw could not be repeated
    assert seeds.draw("2027-01-04", {"2027-01-11": first}) == first


def test_every_chapter_allows_the_seeds():
    for chapter in seeds.stochastic():
        for seed in (seeds.LOW, seeds.HIGH):
            chapter.parameters()["seed"].check(seed)


def test_a_run_is_kept_once_and_an_error_is_not(accepted, tmp_path):
    kept = tmp_path / "kept.json"
    broken = rerun.rerun("01-tiny", {"size": 1000}, kept, "now", root=accepted.root)
    assert "size = 1000" in broken["error"] and not kept.exists()
    result = rerun.rerun("01-tiny", {"size": 3.0, "seed": 4}, kept, "now", root=accepted.root)
    claim = result["claims"]["largest-value"]
    assert not claim["holds"] and claim["observed"] == pytest.approx(5, abs=0.01)
    assert result["figures"]["tiny-wave"][0] > result["figures"]["tiny-wave"][1]
    again = rerun.rerun(
        "01-tiny", {}, kept, "now", root=accepted.root, prefix=["false"]
    )  # runs nothing
    assert again == json.loads(kept.read_text())
    other = rerun.rerun("01-tiny", {}, kept, "later", root=accepted.root, prefix=["false"])
    assert "error" in other  # of other sources: what is kept does not count
    found = seeds.gather({4: result, 5: broken})
    assert found["errors"] == {"5": broken["error"]} and found["runs"] == 2
    assert [c["fails"] for c in found["claims"].values()] == [[4]]


def test_a_new_chapter_is_tried_alone_with_the_same_seeds(monkeypatch, tmp_path):
    """The others keep what they have shown; a draw of another date would lose it, and is refused."""
    monkeypatch.setattr(results, "RESULTS", tmp_path)
    monkeypatch.setattr(
        seeds, "rerun", lambda slug, values, kept, of: {"seconds": 1, "claims": {}} | values
    )

    def tried(*words):
        monkeypatch.setattr("sys.argv", ["seeds", "--number", "3", *words])
        with pytest.raises(SystemExit) as ended:
            seeds.main()
        assert ended.value.code is None
        return json.loads((tmp_path / "seeds.json").read_text())

    first = tried("02", "--date", "2027-01-04")
    both = tried("12-robustness", "--date", "2027-01-04")
    assert list(both["chapters"]) == ["02-attention-as-a-kernel", "12-robustness"]
    assert (
        both["chapters"]["02-attention-as-a-kernel"]
        == first["chapters"]["02-attention-as-a-kernel"]
    )
    assert both["drawn"] == first["drawn"]
    third = tried("03")  # of the last draw, whatever the day
    assert len(third["chapters"]) == 3 and third["drawn"] == first["drawn"]
    monkeypatch.setattr("sys.argv", ["seeds", "--number", "3", "--date", "2027-01-11", "03"])
    with pytest.raises(SystemExit, match="must be that of the last draw, 2027-01-04"):
        seeds.main()
    monkeypatch.setattr("sys.argv", ["seeds", "1"])
    with pytest.raises(SystemExit, match="no seed in 01-transformer-block"):
        seeds.main()


def test_every_choice_in_a_chapter_is_listed():
    marked = {
        (chapter.slug, cell.id)
        for chapter in chapters()
        for cell in chapter.cells()
        if cell.cell_type == "markdown" and re.search(r"^:class:.*\bchoice\b", cell.source, re.M)
    }
    listed = {
        (choice["chapter"], choice["cell"]) for choice in choices.listed() if "cell" in choice
    }
    assert listed == marked


def test_alternatives_can_be_run_and_results_are_of_listed_ones():
    keys = set()
    for choice in choices.listed():
        assert ("fixed" in choice) != ("alternatives" in choice)
        chapter = find(choice["chapter"])
        sources = {cell.id: cell.source for cell in chapter.cells()}
        for alternative in choice.get("alternatives", []):
            others = {
                name
                for name, value in alternative.get("parameters", {}).items()
                if chapter.parameters()[name].check(value) != chapter.parameters()[name].default
            }
            assert others or "edits" in alternative
            for cell, old, new in alternative.get("edits", []):
                assert old in sources[cell] and old != new
            keys.add(choices.key(choice["chapter"], alternative))
    ran = json.loads((RESULTS / "choices.json").read_text())["runs"]
    assert set(ran) <= keys, "run make choices"  # one that was not executed yet is stale


def test_every_mutant_is_a_mutant_and_its_test_is_there():
    for mutant in mutants.MUTANTS:
        source = results.source_of(mutant.module).read_text()
        assert source.count(mutant.old) == 1 and mutant.new != mutant.old, mutant.mistake
        file, name = mutant.test.split("::")
        assert f"def test_{name}(" in (TESTS / f"test_{file}.py").read_text(), mutant.test


def test_every_mutant_was_caught():
    results = json.loads((DATA / "results/mutants.json").read_text())["mutants"]
    tried = [mutants.Mutant(*(r[field] for field in mutants.Mutant._fields)) for r in results]
    assert tried == mutants.MUTANTS, "run make mutants"
    assert not [r["mistake"] for r in results if not r["caught"]]


@pytest.mark.parametrize(
    ("values", "bound", "expected"),
    [
        ([2, 3], "< 4", 0.25),  # one quarter of the bound away
        ([0.1, 0.5], "0 .. 1", 0.2),  # of half the range
        ([0.02, 0.01], "> 0", 0.5),  # no size in the bound: of the largest value
        ([-1, 4], "> 0", -0.25),
        ([0, 0], "> 0", 0),
    ],
)
def test_how_near_a_claim_came_to_its_bound(values, bound, expected, monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "book" / "_ext"))
    assert import_module("ledgers").margin(values, bound) == pytest.approx(expected)


def test_results_of_other_sources_are_named(monkeypatch, tmp_path):
    slug = "03-neuron-astrocyte-network"
    now = stale.computed(find(slug))
    monkeypatch.setattr(results, "RESULTS", tmp_path)
    monkeypatch.setattr(stale.choices, "listed", lambda: [])
    for of, named in ((now, False), ("0" * 64, True), (None, True)):
        results.report("seeds", {"chapters": {slug: {"of": of}}})
        results.report("environments", {"environments": [{"chapters": {slug: {"of": of}}}]})
        names = stale.stale()
        assert (slug in names["seeds"]) == named
        assert (slug in names.get("environments", [])) == named
    sound = results.of_mutant("attention", "attention::x")
    results.report(
        "mutants", {"mutants": [{"module": "attention", "test": "attention::x", "of": sound}]}
    )
    assert "mutants" not in stale.stale()
    results.report(
        "mutants", {"mutants": [{"module": "features", "test": "attention::x", "of": sound}]}
    )
    assert stale.stale()["mutants"] == ["tripartite.features"]
    assert "mutants: stale for tripartite.features: make mutants" in stale.lines()


def test_shown_results_are_fresh():
    """Only a warning: what changes a chapter need not wait for an hour of seeds. A release must."""
    for line in stale.lines():
        warnings.warn(line, stacklevel=1)
