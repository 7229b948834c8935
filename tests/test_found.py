"""What we found: a card for each claim of the paper, with nothing typed that a check computes."""

import re

import pytest

from companion.chapters import chapters
from companion.claims import recorded
from companion.paths import ROOT
from test_reading import extension


def checks():
    """Cell that an address ends in -> (claim of the paper, number observed)."""
    return {
        f"{c.slug}.html#cell-{claim['cell']}": (claim["paper_claim"], float(claim["observed"]))
        for c in chapters()
        for claim in recorded(c.cells()).values()
    }


def test_every_claim_has_a_card_with_its_verdict_and_the_number_of_a_check(site, documents):
    known = checks()
    cards = documents[site / "book/found.html"].select(".finding")
    assert [card["aria-label"] for card in cards] == [f"C{k}" for k in range(1, 10)]
    verdicts = {  # the boxes of chapter 17 are made of the same table
        box.find_previous(re.compile("h[2-4]")).get_text()[:2]: box.select_one(
            ".verdict"
        ).get_text()
        for box in documents[site / "book/17-predictions.html"].select(".ledger")
        if box.select(".verdict")
    }
    for card in cards:
        (number,) = card.select('a[href*="#cell-"]')
        claim, observed = known[number["href"]]
        assert claim == card["aria-label"]
        shown = number.get_text().replace(",", "")
        value = float(shown.removesuffix("%")) / (100 if shown.endswith("%") else 1)
        assert value == pytest.approx(observed, rel=0.051), claim  # two digits
        assert card.select_one(".verdict").get_text() == verdicts[claim]
        assert card.img["alt"] and card.select_one(".finding-picture")["href"].startswith(
            "../figures/"
        )


@pytest.mark.parametrize(
    ("changed", "complaint"),
    [
        ({"name": "C10"}, "C10"),
        ({"check": "04.head-still-off"}, "head-still-off"),
        ({"check": "04.shown-head-error"}, "one of its checks"),  # of C4
        ({"figure": "head-atlass"}, "head-atlass"),
        ({"text": "No number."}, "number"),
    ],
)
def test_a_card_without_its_claim_check_or_figure_is_refused(changed, complaint):
    given = {
        "name": "C5",
        "text": "Off: {number}.",
        "check": "04.heads-still-off",
        "figure": "head-atlas",
    }
    found = extension("found")
    assert re.search(r">\d+%</a>", found.card(str(ROOT), **given, form="share"))
    with pytest.raises(ValueError, match=complaint):
        found.card(str(ROOT), **(given | changed))
