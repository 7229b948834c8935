"""Which results of the jobs that try to break the book are stale: what they depend on has changed since.

The pages say so, and `python -m companion.stale` fails.
"""

from __future__ import annotations

from collections.abc import Iterator

from . import choices
from .chapters import chapters
from .freshness import computed
from .results import of_mutant, read


def stale() -> dict[str, list[str]]:
    """Job -> what of its result is stale or missing, by name."""
    now = {chapter.slug: computed(chapter) for chapter in chapters()}
    found = {name: list(dict.fromkeys(odd(now))) for name, odd in _ODD.items()}
    return {name: names for name, names in found.items() if names}


def _seeds(now: dict[str, str]) -> Iterator[str]:
    tried = read("seeds").get("chapters", {})
    for chapter in chapters():
        if "seed" in chapter.parameters():
            if tried.get(chapter.slug, {}).get("of") != now[chapter.slug]:
                yield chapter.slug


def _choices(now: dict[str, str]) -> Iterator[str]:
    ran = read("choices").get("runs", {})
    for choice in choices.listed():
        slug = choice["chapter"]
        for alternative in choice.get("alternatives", []):
            if ran.get(choices.key(slug, alternative), {}).get("of") != now[slug]:
                yield slug


def _environments(now: dict[str, str]) -> Iterator[str]:
    for environment in read("environments").get("environments", []):
        for slug, found in environment["chapters"].items():
            if found.get("of") != now.get(slug):
                yield slug


def _mutants(now: dict[str, str]) -> Iterator[str]:
    for mutant in read("mutants").get("mutants", []):
        if mutant.get("of") != of_mutant(mutant["module"], mutant["test"]):
            yield f"tripartite.{mutant['module']}"


_ODD = {"seeds": _seeds, "choices": _choices, "environments": _environments, "mutants": _mutants}


def lines() -> list[str]:
    """A line for each job whose result is stale: what it is stale for, and what mends it."""
    return [f"{name}: stale for {', '.join(names)}: make {name}" for name, names in stale().items()]


if __name__ == "__main__":
    raise SystemExit("\n".join(lines()) or None)
