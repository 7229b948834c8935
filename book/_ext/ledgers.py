"""Pages of results, made while the site is built: nothing in them is typed.

The directive `ledger` shows one of: figures, claims, bounds, choices, seeds, environments, mutants.
The role `result` gives one number of them. Sources are the staged chapters and data/results.
"""

import html
import math
import re
from functools import cache
from pathlib import Path

import numpy as np
from docutils import nodes
from figure_pages import figures, staged
from sphinx.util import logging
from sphinx.util.docutils import SphinxDirective, SphinxRole

from companion import bounds, choices
from companion.chapters import Chapter, chapters
from companion.claims import KINDS, Claim, limits, margins, recorded
from companion.fetch import RUNTIME
from companion.freshness import computed
from companion.paths import BOOK, DATA
from companion.results import JOBS, of_mutant, read

logger = logging.getLogger(__name__)
esc = html.escape


# --- sources --------------------------------------------------------------------------------------


@cache
def digests() -> dict[str, str]:
    """Chapter -> digest of what its numbers depend on now."""
    return {chapter.slug: computed(chapter) for chapter in chapters()}


@cache
def log_of_bounds() -> bounds.Log:
    """The log, read once for all claims of all pages."""
    return bounds.read()


def freshness(of: str | None, slug: str, commit: str | None) -> str:
    """Whether a result is of the chapter as it is now: "", or words that name the commit it is of."""
    if of == digests().get(slug):
        return ""
    return verdict(f"of commit {(commit or 'unknown')[:7]}, before later changes", None)


def checked_claims(srcdir) -> list[tuple[object, dict]]:
    """(chapter, claim) of every claim of the book; a warning for one without its check."""
    found = []
    for chapter in staged(srcdir):
        cells = chapter.cells()
        known = recorded(cells).values()
        sound = {claim["cell"] for claim in known if claim["holds"]}
        for cell in cells:
            makes_one = cell.cell_type == "code" and re.search(r"^claim\(", cell.source, re.M)
            if makes_one and cell.id not in sound:
                logger.warning(f"{chapter.slug}: a claim is not checked: {cell.source[:80]!r}")
        found += [(chapter, claim) for claim in known]
    return found


def check_statements(srcdir, found) -> None:
    """A warning for a claim of the paper that the table calls shown and that nothing checks."""
    page = Path(srcdir, "book", "claims.md").read_text(encoding="utf-8")
    checked = {claim["paper_claim"] for _, claim in found}
    for name in re.findall(r"^\| (C\d) \|.*\| shown[^|]*\|$", page, re.M):
        if name not in checked:
            logger.warning(f"claims.md says that {name} is shown, and no chapter checks it")


def seeds_of(tried: dict, slug: str, claim: dict) -> dict | None:
    """What new seeds observed for a claim; None where its bound was fixed after they were drawn."""
    known = tried.get("chapters", {}).get(slug, {}).get("claims", {}).get(claim["name"])
    if not known or known["bound"] != claim["bound"] or known["statement"] != claim["statement"]:
        return None
    entry = bounds.in_force(log_of_bounds(), slug, claim["name"])
    return known if entry and str(entry["date"]) <= tried["date"] else None


def counted(claims) -> str:
    """How many claims there are of each kind, in words."""
    kinds = [claim["kind"] for claim in claims]
    words = {
        "identity": ("identity", "identities"),
        "fact": ("fact", "facts"),
        "result": ("result", "results"),
    }
    parts = [f"{n} {words[kind][n != 1]}" for kind in KINDS if (n := kinds.count(kind))]
    return ", ".join(parts)


# --- words and pictures ---------------------------------------------------------------------------


def number(value: float) -> str:
    value = float(value)  # NaN is stored as a word
    if math.isnan(value):
        return "undefined"
    return f"{value:.3g}"


def cell_link(slug: str, cell: str, words: str) -> str:
    return f'<a href="{slug}.html#cell-{cell}">{esc(words)}</a>'


def chapter_words(slug: str) -> str:
    return f"chapter {int(slug[:2])}"


def table(head: list[str], rows: list[list[str]], kind: str = "") -> str:
    """A table of cells that are already markup; it scrolls sideways where it must.

    kind: "stacks" for one whose four cells stand below each other on a phone.
    """
    top = "".join(f"<th>{cell}</th>" for cell in head)
    body = "".join(f"<tr>{''.join(f'<td>{cell}</td>' for cell in row)}</tr>" for row in rows)
    return (
        f'<div class="pst-scrollable-table-container"><table class="table {kind}">'
        f"<thead><tr>{top}</tr></thead><tbody>{body}</tbody></table></div>"
    )


def verdict(word: str, good: bool | None) -> str:
    kind = {True: "", False: " no", None: " open"}[good]
    return f'<span class="verdict{kind}">{esc(word)}</span>'


def band(values: list[float], bound: str) -> str:
    """A strip with one dot a seed and the allowed range shaded."""
    ends = limits(bound)
    shown = [v for v in [*values, *ends] if math.isfinite(v)]
    wide = min(shown) > 0 and max(shown) > 30 * min(shown)
    scale = math.log10 if wide else float
    low, high = scale(min(shown)), scale(max(shown))
    pad = 0.12 * (high - low or abs(high) or 1)
    low, high = low - pad, high + pad

    def at(value: float) -> float:
        return round(300 * (scale(value) - low) / (high - low), 1)

    left = at(ends[0]) if math.isfinite(ends[0]) else 0
    right = at(ends[1]) if math.isfinite(ends[1]) else 300
    dots = "".join(
        f'<circle class="seed{"" if inside > 0 else " no"}" cx="{at(v)}" cy="8" r="2.6"/>'
        for v, inside in zip(values, margins(np.array(values), bound), strict=True)
        if math.isfinite(v)
    )
    words = f"{len(values)} seeds from {min(values):.3g} to {max(values):.3g}; allowed {bound}"
    return (
        f'<svg class="band" viewBox="0 0 300 16" role="img" aria-label="{esc(words)}">'
        f'<rect class="allowed" x="{left}" width="{round(right - left, 1)}" height="16"/>'
        f'<line class="axis" x2="300" y1="8" y2="8"/>{dots}</svg>'
    )


def worst(values: list[float], bound: str) -> float:
    return min(zip(margins(np.array(values), bound), values, strict=True))[1]


def margin(values: list[float], bound: str) -> float:
    """Distance of the worst value to its bound, relative to the bound, or to half its range.

    Where the bound is zero, relative to the largest value.
    """
    low, high = limits(bound)
    size = (
        (high - low) / 2 if math.isfinite(high - low) else abs(low if math.isfinite(low) else high)
    )
    return float(min(margins(np.array(values), bound))) / (size or max(map(abs, values)) or 1)


# --- the ledgers: lists of (heading or None, markup) ----------------------------------------------


def ledger_figures(srcdir):
    by_chapter: dict[str, list] = {}
    for figure in figures(srcdir):
        by_chapter.setdefault(figure.chapter.slug, []).append(figure)
    for chapter in staged(srcdir):
        items = "".join(
            f'<a href="../figures/{f.name}/index.html"><img class="{f.classes}" loading="lazy" '
            f'src="../figures/{f.name}/{f.name}.svg" alt="{esc(f.alt)}"><span>{esc(f.words)}</span></a>'
            for f in by_chapter.get(chapter.slug, [])
        )
        title = re.search(r"^# (.*)", chapter.cells()[0].source, re.M)[1]
        yield f"{int(chapter.number)}. {title}", f'<div class="gallery">{items}</div>'


def ledger_claims(srcdir):
    found, tried = checked_claims(srcdir), read("seeds")
    check_statements(srcdir, found)
    for name in sorted({claim["paper_claim"] for _, claim in found}):
        blocks = ""
        for chapter, claim in found:
            if claim["paper_claim"] != name:
                continue
            where = f"the check in {chapter_words(chapter.slug)}"
            notes = [cell_link(chapter.slug, claim["cell"], where)]
            if claim["figure"]:
                figure = claim["figure"]
                notes.append(f'<a href="../figures/{figure}/index.html">figure {figure}</a>')
            seen = seeds_of(tried, chapter.slug, claim)
            if claim["kind"] == "result" and seen:
                values = list(seen["observed"].values())
                held = f"{len(values) - len(seen['fails'])} of {len(values)} new seeds"
                notes.append(
                    f'<a href="seeds.html">{held}</a>: {number(worst(values, seen["bound"]))} at worst'
                )
            elif claim["kind"] == "result":
                notes.append("its bound still awaits new seeds")
            shown = {key: value for key, value in claim.items() if key != "cell"}
            markup = Claim(**shown)._repr_mimebundle_()[0]["text/html"]
            spans = "".join(f"<span>{note}</span>" for note in notes)
            blocks += f'{markup}<div class="ledger-notes">{spans}</div>'
        yield f"Checks of {name}", blocks


def stated(srcdir) -> dict[str, dict]:
    """What the page of claims says of each: short, stands, refuted."""
    page = Path(srcdir, "book", "claims.md").read_text(encoding="utf-8")
    found = {}
    for line in re.findall(r"^\| C\d \|.*\|$", page, re.M):
        name, *cells = (cell.strip() for cell in line.strip("|").split("|"))
        keys = ("short", "where", "stands") if len(cells) == 3 else ("refuted",)
        found.setdefault(name, {}).update(zip(keys, cells, strict=True))
    return found


def _plain(text: str) -> str:
    """Markup of a table's cell: math becomes italics, powers are raised, of a link its words are left."""
    text = re.sub(
        r"\{doc\}`(\d*)([^<`]*?) ?(?:<[^>]+>)?`",
        lambda m: f"{'chapter ' * bool(m[1])}{m[1]}{m[2]}",
        text,
    )

    def raised(m):
        return "<i>" + re.sub(r"\^(\w)", r"<sup>\1</sup>", m[1]) + "</i>"

    text = re.sub(r"\$([^$]+)\$", raised, esc(text))
    return re.sub(r"\*([^*]+)\*", r"<em>\1</em>", text)


def standing(says: dict) -> tuple[str, bool | None, str]:
    """Verdict of a claim in a word, True where it has no limits, and the words that follow it."""
    why = re.sub(r"^shown(, with limits)?:? *", "", says["stands"])
    if not says["stands"].startswith("shown"):
        return "open", None, why
    limited = "limits" in says["stands"]
    return ("shown, with limits", None, why) if limited else ("shown", True, why)


def ledger_verdicts(srcdir):
    """Each claim of the paper: the page's words, what was counted, what would refute it."""
    found, tried = checked_claims(srcdir), read("seeds")
    for name, says in sorted(stated(srcdir).items()):
        checks = [(chapter, c) for chapter, c in found if c["paper_claim"] == name]
        drawn = [(chapter, c) for chapter, c in checks if c["kind"] == "result"]
        new = [seen for chapter, c in drawn if (seen := seeds_of(tried, chapter.slug, c))]
        held = sum(not seen["fails"] for seen in new)
        numbers = sorted({chapter.slug for chapter, _ in checks})
        links = ", ".join(f'<a href="{slug}.html">{int(slug[:2])}</a>' for slug in numbers)
        word, good, why = standing(says)
        measured = sum(c["statement"].startswith("Against measurement") for _, c in checks)
        notes = [
            counted(c for _, c in checks) or "no check",
            f"{measured or 'none'} of them against a measurement",
            f"in chapters {links}" if links else "in no chapter",
            f"{held} of {len(drawn)} results held for every new seed"
            if new
            else "no new seeds yet",
        ]
        spans = "".join(f"<span>{note}</span>" for note in notes)
        yield (
            f"{name}: {says['short']}",
            (
                f'<div class="ledger"><p>{verdict(word, good)}: {_plain(why)}.</p>'
                f'<p>Refuted by: {_plain(says["refuted"])}.</p><div class="ledger-notes">{spans}</div></div>'
            ),
        )


def ledger_choices(srcdir):
    record = read("choices")
    ran = record.get("runs", {})
    for choice in choices.listed():
        slug = choice["chapter"]
        rows, executed, broken = [], 0, 0
        for alternative in choice.get("alternatives", []):
            result = ran.get(choices.key(slug, alternative))
            rows.append(_alternative(slug, alternative, result, record.get("commit")))
            executed += result is not None
            broken += result is not None and not _sound(result)
        where = cell_link(slug, choice["cell"], chapter_words(slug)) if "cell" in choice else None
        where = where or f'<a href="{slug}.html">{chapter_words(slug)}</a>'
        tried = (
            f"{len(rows)} alternatives"
            if executed == len(rows)
            else f"{executed} of {len(rows)} alternatives executed so far"
        )
        if "fixed" in choice:
            final = verdict("nothing to execute", None) + f": {_code(choice['fixed'])}"
        elif not executed:
            final = verdict("not tried yet", None) + "."
        elif broken:
            final = verdict("does not survive", False) + f" {broken} of the {tried}."
        else:
            final = verdict("survives", True) + f" the {tried}."
        text = f"<p>{where[:1].upper() + where[1:]}. Taken: {_code(choice['taken'])}</p><p>The conclusion: {final} {_code(choice.get('remark', ''))}</p>"
        if rows:
            text += table(["alternative", "claims that hold", "what does not hold"], rows)
        yield choice["question"], f'<div class="ledger">{text}</div>'


def _sound(result: dict) -> bool:
    return "error" not in result and all(c["holds"] for c in result["claims"].values())


def _code(text: str) -> str:
    return re.sub(r"`([^`]+)`", r"<code>\1</code>", esc(text))


def _alternative(slug: str, alternative: dict, result: dict | None, commit) -> list[str]:
    does = [
        f"<code>-p {esc(k)}={esc(str(v))}</code>"
        for k, v in alternative.get("parameters", {}).items()
    ]
    does += [f"<code>{esc(new.strip())}</code>" for _, _, new in alternative.get("edits", [])]
    words = f"{esc(alternative['words'])}<br>{' '.join(does)}"
    if result is None:
        return [words, "–", "not executed yet"]
    if "error" in result:
        return [words, "none", f"does not run: {esc(result['error'])}"]
    words += f"<br>{old}" if (old := freshness(result.get("of"), slug, commit)) else ""
    claims = list(result["claims"].values())
    fails = [
        f"{c['paper_claim']} {esc(c['statement'])}: {number(c['observed'])}, must be {esc(c['bound'])}"
        for c in claims
        if not c["holds"]
    ]
    return [words, f"{len(claims) - len(fails)} of {len(claims)}", "<br>".join(fails) or "–"]


def ledger_seeds(srcdir):
    found = read("seeds")
    current = {(chapter.slug, c["name"]): c for chapter, c in checked_claims(srcdir)}
    for slug, chapter in found.get("chapters", {}).items():
        old = freshness(chapter.get("of"), slug, chapter.get("commit"))
        blocks = f"<p>{old}</p>" if old else ""
        for name, claim in chapter["claims"].items():
            if claim["kind"] != "result" or (slug, name) not in current:
                continue
            counts = seeds_of(found, slug, current[slug, name])
            values = list(claim["observed"].values())
            held = len(values) - len(claim["fails"])
            verdicts = verdict(f"{held} of {len(values)} hold", not claim["fails"])
            if not counts:
                verdicts += " " + verdict(
                    "its bound was fixed later: this draw does not count", None
                )
            low, high = min(values), max(values)
            reached = (
                number(low) if number(low) == number(high) else f"{number(low)} to {number(high)}"
            )
            blocks += (
                f"<p>{cell_link(slug, claim['cell'], claim['paper_claim'])} {esc(claim['statement'])}.</p>"
                f"{band(values, claim['bound'])}"
                f'<div class="ledger-notes"><span>{verdicts}</span><span>must be {esc(claim["bound"])}</span>'
                f"<span>at worst {number(worst(values, claim['bound']))}</span><span>{reached}</span></div>"
            )
        blocks += "".join(
            f"<p>{verdict('seed ' + seed, False)} stopped: {esc(error)}</p>"
            for seed, error in chapter["errors"].items()
        )
        yield f"Chapter {int(slug[:2])}", f'<div class="ledger">{blocks}</div>'


def ledger_environments(srcdir):
    found = read("environments").get("environments", [])
    rows = []
    for environment in found:
        tried = environment["chapters"]
        compared = [pair for c in tried.values() for pair in c["figures"].values()]
        beyond = [
            name
            for c in tried.values()
            for name, (deviation, tolerance) in c["figures"].items()
            if not deviation <= tolerance
        ]
        errors = [f"{slug}: {c['error']}" for slug, c in tried.items() if "error" in c]
        fails = [words for c in tried.values() for words in c["fails"]]
        largest = max((deviation for deviation, _ in compared), default=math.nan)
        numbers = ", ".join(str(int(slug[:2])) for slug in tried)
        numbers = f"all {len(tried)}" if tried.keys() == digests().keys() else numbers
        texts = [
            f"{slug}: text of {', '.join(c['texts'])}"
            for slug, c in tried.items()
            if c.get("texts")
        ]
        problems = "; ".join(map(esc, beyond + texts + errors + fails))
        old = [
            slug
            for slug, c in tried.items()
            if freshness(c.get("of"), slug, environment.get("commit"))
        ]
        if old:
            names = ", ".join(str(int(slug[:2])) for slug in old)
            commit = (environment.get("commit") or "unknown")[:7]
            problems += f" {verdict(f'of commit {commit}, before later changes of {names}', None)}"
        rows.append([
            esc(environment["what"]), numbers, str(len(compared)),
            "nothing" if largest == 0 else f"{largest:.1e}",
            verdict("agree", True) + problems
            if not (beyond or texts or errors or fails)
            else verdict("differ", False) + f": {problems}",
        ])  # fmt: skip
    heads = ["environment", "chapters", "figures", "largest difference", "verdict"]
    yield None, table(heads, rows)
    if left_out := read("environments").get("left_out"):
        yield None, f"<p>Not executed in the last run: {esc('; '.join(left_out))}.</p>"
    for environment in found:
        if environment["name"] in ("newest", "oldest"):
            lock = next(e for e in found if e["name"] == "lock")["packages"]
            theirs = environment["packages"]
            differing = [
                [esc(name), esc(lock.get(name, "not there")), esc(version)]
                for name, version in sorted(theirs.items())
                if lock.get(name) != version
            ]
            yield f"Packages: {environment['what']}", table(["package", "lock", "here"], differing)


def ledger_bounds(srcdir):
    """Every bound that was changed: what it was, what it became, when and why."""
    rows = []
    for slug, claims in log_of_bounds().items():
        for name, entries in claims.items():
            if len(entries) < 2:
                continue
            steps = [esc(e["bound"]) if "bound" in e else "given up" for e in entries]
            why = [f"{e.get('date', e.get('removed'))}: {esc(e['reason'])}" for e in entries[1:]]
            where = f'<a href="{slug}.html">{int(slug[:2])}</a> {esc(name.replace("-", " "))}'
            rows.append([where, " → ".join(steps), "<br>".join(why)])
    yield None, table(["claim", "bounds", "when and why"], rows)


def ledger_mutants(srcdir):
    by_module: dict[str, list] = {}
    record = read("mutants")
    for mutant in record.get("mutants", []):
        by_module.setdefault(mutant["module"], []).append(mutant)
    for module, mutants in by_module.items():
        rows = [
            [
                esc(m["mistake"]),
                esc(m["kind"]),
                f"<code>{esc(m['test'].split('::')[1].replace('_', ' '))}</code>",
                (verdict("caught", True) if m["caught"] else verdict("SURVIVED", False))
                + (
                    ""
                    if m.get("of") == of_mutant(module, m["test"])
                    else " " + verdict("before later changes", None)
                ),
            ]
            for m in mutants
        ]
        heads = ["mistake", "kind", "test that must notice", "verdict"]
        yield f"tripartite.{module}", table(heads, rows, "stacks")


LEDGERS = {name[7:]: make for name, make in globals().items() if name.startswith("ledger_")}


@cache
def facts() -> dict[str, object]:
    """Numbers for the prose, by name; gathered once for all roles of all pages."""
    seeds, environments = read("seeds"), read("environments").get("environments", [])
    mutants = read("mutants").get("mutants", [])
    current = {chapter.slug: chapter.claims() for chapter in chapters()}
    every = [claim for claims in current.values() for claim in claims.values()]
    bands = [
        (margin(list(c["observed"].values()), c["bound"]), c)
        for slug, chapter in seeds.get("chapters", {}).items()
        for name, c in chapter["claims"].items()
        if c["kind"] == "result"
        and name in current.get(slug, {})
        and seeds_of(seeds, slug, current[slug][name])
    ]
    waiting = sum(c["kind"] == "result" for c in every) - len(bands)
    logged = [entries for claims in log_of_bounds().values() for entries in claims.values()]
    deviations = {
        e["name"]: [d for c in e["chapters"].values() for d, _ in c["figures"].values()]
        for e in environments
    }
    listed, ran = choices.listed() if (BOOK / "choices.yml").exists() else [], read("choices")
    alternatives = [
        ran.get("runs", {}).get(choices.key(c["chapter"], a))
        for c in listed
        for a in c.get("alternatives", [])
    ]
    executed = [a for a in alternatives if a is not None]
    held = [pair for pair in bands if pair[0] >= 0]
    nearest = min(held, key=lambda pair: pair[0], default=(math.nan, {"statement": "?"}))
    return {
        "seeds.date": seeds.get("date", "?"),
        "seeds.seeds": len(seeds.get("drawn", {}).get(seeds.get("date"), [])),
        "seeds.chapters": len(seeds.get("chapters", {})),
        "seeds.runs": sum(c["runs"] for c in seeds.get("chapters", {}).values()),
        "seeds.claims": len(bands),
        "seeds.waiting": waiting,
        "claims.identities": sum(c["kind"] == "identity" for c in every),
        "claims.facts": sum(c["kind"] == "fact" for c in every),
        "claims.results": sum(c["kind"] == "result" for c in every),
        "claims.measured": sum(c["statement"].startswith("Against measurement") for c in every),
        "claims.outside": sum("measurement, outside" in c["statement"] for c in every),
        "bounds.changed": sum(len(entries) > 1 for entries in logged),
        "seeds.failing": sum(bool(c["fails"]) for _, c in bands),
        "seeds.stopped": sum(len(c["errors"]) for c in seeds.get("chapters", {}).values()),
        "seeds.nearest": nearest[1]["statement"],
        "seeds.margin": f"{100 * nearest[0]:.3g} %",
        "environments.number": len(environments),
        "environments.figures": len(deviations.get("lock", [])),
        "environments.largest": f"{max((d for ds in deviations.values() for d in ds), default=math.nan):.1e}",
        "environments.threads": f"{max(deviations.get('threads', [math.nan])):.1e}",
        "environments.oldest": f"{max(deviations.get('oldest', [math.nan])):.1e}",
        "environments.processor": next(
            (e["processor"] for e in environments if "processor" in e), "?"
        ),
        "mutants.number": len(mutants),
        "mutants.caught": sum(m["caught"] for m in mutants),
        "mutants.survivors": sum(not m["caught"] for m in mutants),
        "mutants.tests": len({m["test"] for m in mutants}),
        "choices.number": len(listed),
        "choices.alternatives": len(alternatives),
        "choices.executed": len(executed),
        "choices.survived": sum(map(_sound, executed)),
        "live.megabytes": round(RUNTIME.wheel.size / 1e6),
    } | {
        f"{word}.{slug[:2]}.{name}": f"{float(claim['observed']):{kind}}"
        for slug, claims in current.items()
        for name, claim in claims.items()
        for word, kind in (("observed", ".2g"), ("share", ".0%"))
    }


class Ledger(SphinxDirective):
    required_arguments = 1

    def run(self):
        made = [*(c.path for c in staged(self.env.srcdir)), *(DATA / "results").glob("*.json")]
        for path in [*made, BOOK / bounds.FILE]:
            self.env.note_dependency(str(path))
        for stamp in Path(self.env.srcdir, "book", "_extra", "figures").glob("*/passport.json"):
            self.env.note_dependency(str(stamp))  # figure pages are written when a page is
        self.env.note_dependency(str(Path(self.env.srcdir, "book", "claims.md")))
        made = []
        for heading, markup in LEDGERS[self.arguments[0]](self.env.srcdir):
            raw = nodes.raw("", markup, format="html")
            if heading is None:
                made.append(raw)
                continue
            section = nodes.section(ids=[nodes.make_id(f"{self.arguments[0]}-{heading}")])
            section += [nodes.title(heading, heading), raw]
            self.state.document.note_implicit_target(section, section)
            made.append(section)
        return made


def ranges(numbers: list[int]) -> str:
    """Rising numbers in words, three or more in a row as a range: 2 to 4, 7 and 8."""
    runs = []
    for number in numbers:
        if runs and number == runs[-1][-1] + 1:
            runs[-1].append(number)
        else:
            runs.append([number])
    words = [[f"{run[0]} to {run[-1]}"] if len(run) > 2 else map(str, run) for run in runs]
    *words, last = [word for some in words for word in some]
    return f"{', '.join(words)} and {last}" if words else last


class Result(SphinxRole):
    def run(self):
        known = facts() | {"live.chapters": ranges([*map(int, self.config.companion_live)])}
        for name in JOBS:
            self.env.note_dependency(str(DATA / "results" / f"{name}.json"))
        self.env.note_dependency(str(BOOK / bounds.FILE))
        if self.text not in known:
            logger.warning(f"result {self.text!r}: must be one of {', '.join(known)}")
        return [nodes.Text(str(known.get(self.text, "?")))], []


def anchor_cells(app, doctree):
    """Anchors for code cells and choices, so that ledgers can link to what computes and to words."""
    path = Path(app.srcdir, f"{app.env.docname}.ipynb")
    if not path.exists():
        return
    cells = Chapter(path).cells()
    for node in doctree.findall(nodes.container):
        if node.get("nb_element") == "cell_code":
            node["ids"].append(f"cell-{cells[node['cell_index']].id}")
    prose = [cell for cell in cells if cell.cell_type == "markdown"]
    marked = [cell.id for cell in prose for _ in re.findall(r"^:class: choice", cell.source, re.M)]
    boxes = [node for node in doctree.findall(nodes.admonition) if "choice" in node["classes"]]
    for name, box in dict(zip(marked, boxes, strict=True)).items():
        box["ids"].append(f"cell-{name}")


def setup(app):
    app.add_directive("ledger", Ledger)
    app.add_role("result", Result())
    app.connect("doctree-read", anchor_cells)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
