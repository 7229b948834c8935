"""Pages of results, made while the site is built: nothing in them is typed.

The directive `ledger` shows one of: figures, claims, choices, seeds, environments, mutants. The
role `result` gives one number of them. Sources are the staged chapters and data/results.
"""

import html
import json
import math
import re
from pathlib import Path

import numpy as np
from docutils import nodes
from figure_pages import figures, staged
from sphinx.util import logging
from sphinx.util.docutils import SphinxDirective, SphinxRole

from companion import choices
from companion.chapters import Chapter
from companion.claims import Claim, limits, margins, recorded
from companion.paths import BOOK, DATA

logger = logging.getLogger(__name__)
esc = html.escape


# --- sources --------------------------------------------------------------------------------------


def results(name: str) -> dict:
    """data/results/NAME.json, empty where the job has not run yet."""
    path = DATA / "results" / f"{name}.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}


def checked_claims(srcdir) -> list[tuple[object, dict]]:
    """(chapter, claim) of every claim of the book; a warning for one without its check."""
    found = []
    for chapter in staged(srcdir):
        notebook = chapter.read()
        known = recorded(notebook).values()
        sound = {claim["cell"] for claim in known if claim["holds"]}
        for cell in notebook.cells:
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


def seeds_of(claims: dict, slug: str, cell: str, statement: str) -> dict | None:
    """What new seeds observed for a claim, unless the claim has changed since."""
    known = claims.get("chapters", {}).get(slug, {}).get("claims", {}).get(cell)
    return known if known and known["statement"] == statement else None


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
    size = (high - low) / 2 if math.isfinite(high - low) else abs(low if math.isfinite(low) else high)
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
        title = re.search(r"^# (.*)", chapter.read().cells[0].source, re.M)[1]
        yield f"{int(chapter.number)}. {title}", f'<div class="gallery">{items}</div>'


def ledger_claims(srcdir):
    found, tried = checked_claims(srcdir), results("seeds")
    check_statements(srcdir, found)
    for name in sorted({claim["paper_claim"] for _, _, claim in found}):
        blocks = ""
        for chapter, cell, claim in found:
            if claim["paper_claim"] != name:
                continue
            notes = [cell_link(chapter.slug, cell, f"the check in {chapter_words(chapter.slug)}")]
            if claim["figure"]:
                figure = claim["figure"]
                notes.append(f'<a href="../figures/{figure}/index.html">figure {figure}</a>')
            seen = seeds_of(tried, chapter.slug, cell, claim["statement"])
            if seen:
                values = list(seen["observed"].values())
                held = f"{len(values) - len(seen['fails'])} of {len(values)} new seeds"
                notes.append(f'<a href="seeds.html">{held}</a>: {number(worst(values, seen["bound"]))} at worst')
            elif "seed" in chapter.parameters():
                notes.append("no new seeds yet")
            else:
                notes.append("nothing random")
            markup = Claim(**claim)._repr_mimebundle_()[0]["text/html"]
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
    """Markup of a table's cell: math becomes italics, powers are raised."""
    def raised(m):
        return "<i>" + re.sub(r"\^(\w)", r"<sup>\1</sup>", m[1]) + "</i>"

    text = re.sub(r"\$([^$]+)\$", raised, esc(text))
    return re.sub(r"\*([^*]+)\*", r"<em>\1</em>", text)


def ledger_verdicts(srcdir):
    """Each claim of the paper: the page's words, what was counted, what would refute it."""
    found, tried, rows = checked_claims(srcdir), results("seeds"), []
    for name, says in sorted(stated(srcdir).items()):
        checks = [(chapter, cell, c) for chapter, cell, c in found if c["paper_claim"] == name]
        new = [seeds_of(tried, chapter.slug, cell, c["statement"]) for chapter, cell, c in checks]
        new = [seen for seen in new if seen]
        held = sum(not seen["fails"] for seen in new)
        numbers = sorted({chapter.slug for chapter, _, _ in checks})
        links = ", ".join(f'<a href="{slug}.html">{int(slug[:2])}</a>' for slug in numbers)
        good = "limits" not in says["stands"] if says["stands"].startswith("shown") else None
        word = {True: "shown", False: "shown, with limits", None: "open"}[good]
        notes = [
            f"{len(checks)} checks",
            f"in chapters {links}" if links else "in no chapter",
            f"{held} of {len(new)} held for every new seed" if new else "no new seeds yet",
        ]
        spans = "".join(f"<span>{note}</span>" for note in notes)
        why = re.sub(r"^shown(, with limits)?:? *", "", says["stands"])
        yield f"{name}: {says['short']}", (
            f'<div class="ledger"><p>{verdict(word, good or None)}: {_plain(why)}.</p>'
            f'<p>Refuted by: {_plain(says["refuted"])}.</p><div class="ledger-notes">{spans}</div></div>'
        )


def ledger_choices(srcdir):
    ran = results("choices").get("runs", {})
    for choice in choices.listed():
        slug = choice["chapter"]
        rows, executed, broken = [], 0, 0
        for alternative in choice.get("alternatives", []):
            result = ran.get(choices.key(slug, alternative))
            rows.append(_alternative(slug, alternative, result))
            executed += result is not None
            broken += result is not None and not _sound(result)
        where = cell_link(slug, choice["cell"], chapter_words(slug)) if "cell" in choice else None
        where = where or f'<a href="{slug}.html">{chapter_words(slug)}</a>'
        tried = f"{len(rows)} alternatives" if executed == len(rows) else f"{executed} of {len(rows)} alternatives executed so far"
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


def _alternative(slug: str, alternative: dict, result: dict | None) -> list[str]:
    does = [f"<code>-p {esc(k)}={esc(str(v))}</code>" for k, v in alternative.get("parameters", {}).items()]
    does += [f"<code>{esc(new.strip())}</code>" for _, _, new in alternative.get("edits", [])]
    words = f"{esc(alternative['words'])}<br>{' '.join(does)}"
    if result is None:
        return [words, "–", "not executed yet"]
    if "error" in result:
        return [words, "none", f"does not run: {esc(result['error'])}"]
    claims = list(result["claims"].values())
    fails = [
        f"{c['paper_claim']} {esc(c['statement'])}: {number(c['observed'])}, must be {esc(c['bound'])}"
        for c in claims
        if not c["holds"]
    ]
    return [words, f"{len(claims) - len(fails)} of {len(claims)}", "<br>".join(fails) or "–"]


def ledger_seeds(srcdir):
    found = results("seeds")
    for slug, chapter in found.get("chapters", {}).items():
        blocks = ""
        for cell, claim in chapter["claims"].items():
            values = list(claim["observed"].values())
            held = len(values) - len(claim["fails"])
            verdicts = verdict(f"{held} of {len(values)} hold", not claim["fails"])
            low, high = min(values), max(values)
            reached = number(low) if number(low) == number(high) else f"{number(low)} to {number(high)}"
            blocks += (
                f"<p>{cell_link(slug, cell, claim['paper_claim'])} {esc(claim['statement'])}.</p>"
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
    found = results("environments").get("environments", [])
    rows = []
    for environment in found:
        chapters = environment["chapters"]
        compared = [pair for c in chapters.values() for pair in c["figures"].values()]
        beyond = [
            name
            for c in chapters.values()
            for name, (deviation, tolerance) in c["figures"].items()
            if not deviation <= tolerance
        ]
        errors = [f"{slug}: {c['error']}" for slug, c in chapters.items() if "error" in c]
        fails = [words for c in chapters.values() for words in c["fails"]]
        largest = max((deviation for deviation, _ in compared), default=math.nan)
        numbers = ", ".join(str(int(slug[:2])) for slug in chapters)
        problems = "; ".join(map(esc, beyond + errors + fails))
        rows.append([
            esc(environment["what"]), numbers, str(len(compared)),
            "nothing" if largest == 0 else f"{largest:.1e}",
            verdict("agree", True) if not problems else verdict("differ", False) + f": {problems}",
        ])  # fmt: skip
    heads = ["environment", "chapters", "figures", "largest difference", "verdict"]
    yield None, table(heads, rows)
    if left_out := results("environments").get("left_out"):
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


def ledger_mutants(srcdir):
    by_module: dict[str, list] = {}
    for mutant in results("mutants").get("mutants", []):
        by_module.setdefault(mutant["module"], []).append(mutant)
    for module, mutants in by_module.items():
        rows = [
            [
                esc(m["mistake"]),
                esc(m["kind"]),
                f"<code>{esc(m['test'].split('::')[1].replace('_', ' '))}</code>",
                verdict("caught", True) if m["caught"] else verdict("SURVIVED", False),
            ]
            for m in mutants
        ]
        heads = ["mistake", "kind", "test that must notice", "verdict"]
        yield f"tripartite.{module}", table(heads, rows, "stacks")


LEDGERS = {name[7:]: make for name, make in globals().items() if name.startswith("ledger_")}


def facts() -> dict[str, object]:
    """Numbers for the prose, by name."""
    seeds, environments = results("seeds"), results("environments").get("environments", [])
    mutants = results("mutants").get("mutants", [])
    bands = [
        (margin(list(c["observed"].values()), c["bound"]), c)
        for chapter in seeds.get("chapters", {}).values()
        for c in chapter["claims"].values()
        if c["observed"]
    ]
    deviations = {
        e["name"]: [d for c in e["chapters"].values() for d, _ in c["figures"].values()]
        for e in environments
    }
    listed, ran = choices.listed() if (BOOK / "choices.yml").exists() else [], results("choices")
    alternatives = [
        ran.get("runs", {}).get(choices.key(c["chapter"], a))
        for c in listed
        for a in c.get("alternatives", [])
    ]
    executed = [a for a in alternatives if a is not None]
    nearest = min(bands, key=lambda pair: pair[0]) if bands else (math.nan, {"statement": "?"})
    return {
        "seeds.date": seeds.get("date", "?"),
        "seeds.seeds": len(seeds.get("drawn", {}).get(seeds.get("date"), [])),
        "seeds.chapters": len(seeds.get("chapters", {})),
        "seeds.runs": sum(c["runs"] for c in seeds.get("chapters", {}).values()),
        "seeds.claims": len(bands),
        "seeds.failing": sum(bool(c["fails"]) for _, c in bands),
        "seeds.stopped": sum(len(c["errors"]) for c in seeds.get("chapters", {}).values()),
        "seeds.nearest": nearest[1]["statement"],
        "seeds.margin": f"{100 * nearest[0]:.3g} %",
        "environments.number": len(environments),
        "environments.figures": len(deviations.get("lock", [])),
        "environments.largest": f"{max((d for ds in deviations.values() for d in ds), default=math.nan):.1e}",
        "environments.threads": f"{max(deviations.get('threads', [math.nan])):.1e}",
        "environments.oldest": f"{max(deviations.get('oldest', [math.nan])):.1e}",
        "mutants.number": len(mutants),
        "mutants.caught": sum(m["caught"] for m in mutants),
        "mutants.survivors": sum(not m["caught"] for m in mutants),
        "mutants.tests": len({m["test"] for m in mutants}),
        "choices.number": len(listed),
        "choices.alternatives": len(alternatives),
        "choices.executed": len(executed),
        "choices.survived": sum(map(_sound, executed)),
    }


class Ledger(SphinxDirective):
    required_arguments = 1

    def run(self):
        for path in [*(c.path for c in staged(self.env.srcdir)), *(DATA / "results").glob("*.json")]:
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


class Result(SphinxRole):
    def run(self):
        known = facts()
        for name in ("seeds", "environments", "mutants", "choices"):
            self.env.note_dependency(str(DATA / "results" / f"{name}.json"))
        if self.text not in known:
            logger.warning(f"result {self.text!r}: must be one of {', '.join(known)}")
        return [nodes.Text(str(known.get(self.text, "?")))], []


def anchor_cells(app, doctree):
    """Anchors for code cells and choices, so that ledgers can link to what computes and to words."""
    path = Path(app.srcdir, f"{app.env.docname}.ipynb")
    if not path.exists():
        return
    cells = Chapter(path).read().cells
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
