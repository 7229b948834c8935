"""Bounds of claims are fixed in a log that only grows."""

import datetime
import subprocess

import pytest

from companion import bounds
from companion.chapters import chapters

DAY = datetime.date(2026, 11, 26)


def test_every_claim_has_its_bound_in_the_log():
    assert not bounds.problems(bounds.read(), bounds.claims_of(chapters()))


def test_no_entry_of_the_log_was_rewritten():
    try:
        assert not bounds.rewritten()
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("no git checkout")


@pytest.mark.parametrize(
    ("entries", "bound", "problem"),
    [
        ([], "< 1", "book/bounds.yml has None"),
        ([{"bound": "< 1", "date": DAY}], "< 2", "add an entry"),
        (
            [{"bound": "< 1", "date": DAY}, {"bound": "< 2", "date": DAY}],
            "< 2",
            "must have a reason",
        ),
        ([{"bound": "< 1"}], "< 1", "must have dates"),
        (
            [
                {"bound": "< 1", "date": DAY},
                {"bound": "< 2", "date": datetime.date(2026, 11, 25), "reason": "why"},
            ],
            "< 2",
            "oldest first",
        ),
        ([{"bound": "< 1", "date": DAY}, {"removed": DAY, "reason": "why"}], "< 1", "has None"),
    ],
)
def test_a_bound_that_was_changed_in_silence_is_named(entries, bound, problem):
    found = bounds.problems({"01-a": {"name": entries}}, {"01-a": {"name": {"bound": bound}}})
    assert any(problem in line for line in found), found


def test_a_claim_that_is_gone_says_so():
    log = {"01-a": {"name": [{"bound": "< 1", "date": DAY}]}}
    assert "no such claim" in bounds.problems(log, {"01-a": {}})[0]
    log["01-a"]["name"].append({"removed": DAY, "reason": "it could not fail"})
    assert not bounds.problems(log, {"01-a": {}})
