"""Does every claim hold for seeds that nobody has tried? Twenty new ones, drawn from the date."""

from __future__ import annotations

import argparse
import datetime
import random
from functools import partial

from .chapters import Chapter, chapters, find
from .freshness import computed
from .passport import commit
from .paths import BUILD
from .rerun import rerun, together
from .results import read, report

LOW, HIGH = 1_000, 999_000  # below are seeds that whoever writes a chapter tries
APART = 100  # a chapter may count on from its seed


def draw(date: str, used: dict[str, list[int]], n: int = 20) -> list[int]:
    """n seeds that follow from the date, none near one that was drawn on an earlier date."""
    taken = [seed for day, seeds in used.items() if day < date for seed in seeds]
    stream, seeds = random.Random(f"seeds of {date}"), list[int]()
    while len(seeds) < n:
        seed = stream.randint(LOW, HIGH)
        if all(abs(seed - other) >= APART for other in taken + seeds):
            seeds.append(seed)
    return seeds


def stochastic() -> list[Chapter]:
    return [chapter for chapter in chapters() if "seed" in chapter.parameters()]


def gather(runs: dict[int, dict]) -> dict:
    """One chapter's runs by seed: each claim, by name, with what every seed observed, and errors."""
    claims: dict[str, dict] = {}
    for seed, run in runs.items():
        for name, claim in run.get("claims", {}).items():
            words = {k: claim[k] for k in ("paper_claim", "kind", "statement", "bound", "cell")}
            known = claims.setdefault(name, words | {"observed": {}, "fails": []})
            known["observed"][str(seed)] = claim["observed"]
            known["fails"] += [] if claim["holds"] else [seed]
    errors = {str(seed): run["error"] for seed, run in runs.items() if "error" in run}
    seconds = sum(run["seconds"] for run in runs.values())
    return {"runs": len(runs), "seconds": round(seconds), "errors": errors, "claims": claims}


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument(
        "chapters", nargs="*", help="only these, by the seeds of the last draw; others keep theirs"
    )
    options.add_argument("--date", help="of the draw; default: today, or with chapters the last")
    options.add_argument("--number", type=int, default=20)
    options.add_argument("--workers", type=int, default=1)
    given = options.parse_args()
    record = read("seeds")
    today = datetime.date.today().isoformat()
    date = given.date or (given.chapters and record.get("date")) or today
    datetime.date.fromisoformat(date)
    asked = [find(name) for name in given.chapters] or stochastic()
    if silent := [c.slug for c in asked if "seed" not in c.parameters()]:
        raise SystemExit(f"no seed in {', '.join(silent)}")
    used = record.get("drawn", {})
    seeds = draw(date, used, given.number)
    others = record.get("chapters", {}) if given.chapters else {}
    if others and used.get(date) != seeds:
        raise SystemExit(f"--date {date}: must be that of the last draw, {record.get('date')}")
    folder = BUILD / "seeds" / date
    of = {chapter: computed(chapter) for chapter in asked}
    jobs = {
        (chapter.slug, seed): partial(
            rerun, chapter.slug, {"seed": seed}, folder / chapter.slug / f"{seed}.json", of[chapter]
        )
        for seed in seeds
        for chapter in asked
    }
    runs = dict(together(jobs, given.workers, lambda line: print(line, flush=True)))
    found = others | {
        chapter.slug: {"of": of[chapter], "commit": commit()}
        | gather({seed: runs[chapter.slug, seed] for seed in seeds})
        for chapter in asked
    }
    found = dict(sorted(found.items()))
    drawn = used | {date: seeds}
    report("seeds", {"date": date, "drawn": drawn, "chapters": found})
    broken = [
        f"{slug}: {claim['statement']}: must be {claim['bound']}, is "
        + ", ".join(f"{claim['observed'][str(seed)]:.3g} (seed {seed})" for seed in claim["fails"])
        for slug, chapter in found.items()
        for claim in chapter["claims"].values()
        if claim["fails"]
    ]
    broken += [
        f"{slug}: {chapter['errors']}" for slug, chapter in found.items() if chapter["errors"]
    ]
    raise SystemExit("\n".join(broken) or None)


if __name__ == "__main__":
    main()
