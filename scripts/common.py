"""What the scripts share: where data is, and tables whose rows an interruption leaves whole."""

import csv
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from companion.paths import DATA

RESULTS = DATA / "results"


@contextmanager
def table(name: str, header: Sequence[str]) -> Iterator[Any]:
    """A csv.writer of results/NAME.csv, made anew; each row is on disk when it is written."""
    with (RESULTS / f"{name}.csv").open("w", newline="", encoding="utf-8", buffering=1) as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(header)
        yield writer


@contextmanager
def appended(name: str, header: Sequence[str], keys: int = 0) -> Iterator[tuple[Any, set]]:
    """A csv.writer at the end of results/NAME.csv, and the first `keys` fields of the rows it has."""
    path = RESULTS / f"{name}.csv"
    with path.open("a+", newline="", encoding="utf-8", buffering=1) as file:
        file.seek(0)
        _, *rows = [*csv.reader(file)] or [[]]
        writer = csv.writer(file, lineterminator="\n")
        if not file.tell():
            writer.writerow(header)
        yield writer, {tuple(row[:keys]) for row in rows}


def text(name: str) -> str:
    """A text of the book, data/texts/NAME.txt."""
    return (DATA / f"texts/{name}.txt").read_text(encoding="utf-8")


def asked_and_answered() -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The questions of data/texts/questions.tsv, and the answer to each."""
    lines = (DATA / "texts/questions.tsv").read_text(encoding="utf-8").splitlines()
    asked, answers = zip(*(line.split("\t") for line in lines), strict=True)
    return asked, answers
