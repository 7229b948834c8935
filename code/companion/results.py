"""Results of the jobs that try to break the book, data/results/NAME.json: written, read, fresh or not.

Each result carries "of", a digest of all that it depends on. What depends on something that has
changed since is stale: the pages say so, and `python -m companion.results` fails.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

from . import choices
from .chapters import chapters
from .files import write_bytes
from .freshness import computed, sha256_of
from .paths import DATA, ROOT

JOBS = ("seeds", "choices", "environments", "mutants")
RESULTS = DATA / "results"


def read(name: str) -> dict:
    """data/results/NAME.json, empty where the job has not run yet."""
    path = RESULTS / f"{name}.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}


def report(name: str, content: dict) -> Path:
    """Write a result that the book shows."""
    path = RESULTS / f"{name}.json"
    write_bytes(path, (json.dumps(content, indent=1) + "\n").encode())
    return path


def source_of(module: str, root: Path = ROOT) -> Path:
    """File of a module of tripartite, by its name within it: "network", or "beyond.memory"."""
    return root.joinpath("code", "tripartite", *module.split(".")).with_suffix(".py")


def of_mutant(module: str, test: str) -> str:
    """Digest of what a mutant's verdict depends on: the module and the file of the test."""
    files = source_of(module), ROOT / f"tests/test_{test.split('::')[0]}.py"
    return "".join(sha256_of(path)[:32] if path.exists() else "gone" for path in files)


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
