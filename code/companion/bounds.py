"""The log of bounds, book/bounds.yml: when each bound of a claim was fixed, and why it changed."""

from __future__ import annotations

import subprocess

import yaml

from .chapters import Chapter
from .claims import limits
from .passport import git
from .paths import BOOK

FILE = "bounds.yml"
Log = dict[str, dict[str, list[dict]]]


def read(text: str | None = None) -> Log:
    """Chapter -> claim -> entries, oldest first; of the given text, else of book/bounds.yml."""
    if text is None:
        path = BOOK / FILE
        text = path.read_text(encoding="utf-8") if path.exists() else ""
    return yaml.safe_load(text) or {}


def in_force(log: Log, slug: str, name: str) -> dict | None:
    """The last entry of a claim, with its bound; None where there is none or the claim is gone."""
    entries = log.get(slug, {}).get(name, [])
    return entries[-1] if entries and "bound" in entries[-1] else None


def without_bound(log: Log, claims: dict[str, dict[str, dict]]) -> list[str]:
    """A line for each claim (chapter -> name -> claim) whose bound is not the one in force."""
    found = []
    for slug, known in claims.items():
        for name, claim in known.items():
            entry = in_force(log, slug, name)
            if entry is None or entry["bound"] != claim["bound"]:
                logged = entry and entry["bound"]
                found.append(
                    f"{slug}: {name}: its bound is {claim['bound']!r}, book/{FILE} has {logged!r}: "
                    "add an entry with today's date and the reason"
                )
    return found


def problems(log: Log, claims: dict[str, dict[str, dict]]) -> list[str]:
    """What is wrong with the log: claims without their bound, entries without date or reason, ..."""
    found = without_bound(log, claims)
    for slug, entries_of in log.items():
        for name, entries in entries_of.items():
            found += [f"{slug}: {name}: {x}" for x in _entries(entries)]
            if in_force(log, slug, name) and name not in claims.get(slug, {}):
                found.append(f"{slug}: {name}: no such claim: add {{removed: date, reason: why}}")
    return found


def _entries(entries: list[dict]) -> list[str]:
    found = []
    dates = [entry.get("date", entry.get("removed")) for entry in entries]
    if None in dates or dates != sorted(dates):
        found.append("entries must have dates, oldest first")
    for k, entry in enumerate(entries):
        if "bound" in entry:
            limits(entry["bound"])  # raises on one that does not read
        if (k or "removed" in entry) and not entry.get("reason"):
            found.append(f"entry {k + 1} must have a reason")
    return found


def rewritten() -> list[str]:
    """Entries of earlier commits that the log no longer has: it may only grow.

    Raises OSError or CalledProcessError outside a git checkout.
    """
    # by name: a chapter may get another number
    now, found = {name_of(slug): claims for slug, claims in read().items()}, []
    path = f"book/{FILE}"
    for commit in git("log", "--format=%h", "--", path).split():
        try:
            before = read(git("show", f"{commit}:./{path}"))
        except subprocess.CalledProcessError:  # the commit that removed it
            continue
        for slug, claims in before.items():
            for name, entries in claims.items():
                if now.get(name_of(slug), {}).get(name, [])[: len(entries)] != entries:
                    found.append(f"{slug}: {name}: differs from {commit}")
    return list(dict.fromkeys(found))


def name_of(slug: str) -> str:
    """A chapter's name without its number."""
    return slug.partition("-")[2]


def claims_of(known: list[Chapter]) -> dict[str, dict[str, dict]]:
    """Chapter -> name -> claim, from the committed outputs."""
    return {chapter.slug: chapter.claims() for chapter in known}
