"""Style sheets without the rules that no page can meet: two thirds of what the themes bring.

A selector goes only if it names a class or an id that is on no page and a word of no script; what it
says within parentheses is not asked about. Everything else stays as it is written.
"""

import re

TOKEN = re.compile(
    r'"(?:[^"\\]|\\.)*"|\'(?:[^\'\\]|\\.)*\'|url\([^)"\']*\)|/\*.*?\*/|[{};]', re.DOTALL
)
NOTICES = re.compile(r"(?:/\*.*?\*/|\s)*", re.DOTALL)
SELECTOR = re.compile(r"(?:[^,(]|\((?:[^()]|\((?:[^()]|\([^()]*\))*\))*\))+")
WITHIN = re.compile(r"\([^()]*\)")
NAMED = re.compile(r"[.#](-?[A-Za-z_][\w-]*)")
GROUPS = ("@media", "@supports", "@layer", "@container")
ATTRIBUTE = re.compile(r'\s(?:class|id)="([^"]*)"')
WORD = re.compile(r"-?[A-Za-z_][\w-]*")
ASSEMBLED = {"bs-tooltip-auto"}  # of two words, by a script


def names(pages, scripts) -> set[str]:
    """Classes and ids that pages have, or that scripts could give them."""
    on_pages = {
        name for page in pages for value in ATTRIBUTE.findall(page) for name in value.split()
    }
    return on_pages.union(ASSEMBLED, *map(WORD.findall, scripts))


def prune(css: str, known: set[str]) -> str:
    """A sheet with the rules that known classes and ids can meet."""
    kept, start, opened, depth = [], 0, 0, 0
    for token in TOKEN.finditer(css):
        if token[0] == "{":
            opened = opened if depth else token.start()
            depth += 1
        elif token[0] == "}":
            depth -= 1
            if not depth:
                kept.append(_rule(css[start:opened], css[opened + 1 : token.start()], known))
                start = token.end()
        elif token[0] == ";" and not depth:
            kept.append(css[start : token.end()].strip())
            start = token.end()
    return "".join(kept) + css[start:].strip()


def _rule(head: str, body: str, known: set[str]) -> str:
    notices = NOTICES.match(head)[0].strip()
    head = NOTICES.sub("", head, count=1).strip()
    if head.startswith(GROUPS):
        body = prune(body, known)
    elif not head.startswith("@"):
        head = ",".join(s.strip() for s in SELECTOR.findall(head) if _can_be_met(s, known))
    return notices + (f"{head}{{{body.strip()}}}" if head and body.strip() else "")


def _can_be_met(selector: str, known: set[str]) -> bool:
    while (outer := WITHIN.sub("", selector)) != selector:
        selector = outer
    return "\\" in selector or known.issuperset(NAMED.findall(selector))
