"""What every chapter shows without writing it: facts at its head, links on its claims, downloads.

A chapter starts with a title, a promise (one bold paragraph) and a list:

    - **Needs** {doc}`02-attention-as-a-kernel`; some calculus. 25 minutes.
    - **Carries** C2 (every part is known biology).

From them come the block under the promise, the words at "previous" and "next", and, once the
public repository is set in `_config.yml`, the buttons that run the chapter elsewhere.
"""

import copy
import html
import re
from pathlib import Path
from urllib.parse import quote

import bars
import nbformat
from docutils import nodes

from companion.files import write_bytes

CHAPTER = re.compile(r"book/(\d\d)-")
MINUTES = re.compile(r"[;.,]?\s*(?:About )?(\d+) minutes\.?\s*$")
CLAIM = re.compile(r"\bC[1-9]\b")
CHIP = '<span class="claim-id" title="claim of the paper">'
COLAB_BRANCH = "notebooks"  # the workflow puts there what this extension writes


# --- what the head of a page says -------------------------------------------------------------------


def head(doctree):
    """(promise or None, list of facts or None) of a page: what its first section begins with."""
    section = next(iter(doctree.findall(nodes.section)), None)
    parts = [c for c in section.children if isinstance(c, (nodes.paragraph, nodes.bullet_list))] if section else []  # fmt: skip
    promise = parts[0] if parts and isinstance(parts[0], nodes.paragraph) else None
    facts = parts[1] if len(parts) > 1 and isinstance(parts[1], nodes.bullet_list) else None
    return promise, facts


def collect(app, doctree):
    docname = app.env.docname
    promise, facts = head(doctree)
    text = facts.astext() if facts else ""
    minutes = re.search(r"(\d+) minutes", text)
    app.env.companion_heads[docname] = {
        "promise": promise.astext() if promise else "",
        "minutes": int(minutes[1]) if minutes else None,
        "figures": {
            figure["ids"][0]: " ".join(caption.astext().split())
            for figure in doctree.findall(nodes.figure)
            if figure["ids"]
            for caption in figure.findall(nodes.caption)
        },
    }


def first_sentence(text, longest=150):
    sentence = re.split(r"(?<=[.?!])\s", text.replace("\n", " "), maxsplit=1)[0]
    return sentence if len(sentence) <= longest else sentence[:longest].rsplit(" ", 1)[0] + " …"


def add_facts(app, doctree, docname):
    name_claims(doctree, docname)
    number = CHAPTER.match(docname)
    _, facts = head(doctree)
    if not number or facts is None or app.builder.format != "html":
        return
    known = app.env.companion_heads[docname]
    facts["classes"].append("facts")
    for text in list(facts.findall(nodes.Text)):
        _link_claims(text, app.builder.get_relative_uri(docname, "book/claims"))
    if known["minutes"]:
        for text in reversed(list(facts.findall(nodes.Text))):
            if MINUTES.search(text):
                text.parent.replace(text, nodes.Text(MINUTES.sub(".", text)))
                break
        facts.insert(0, _item("Time", f"{known['minutes']} minutes"))
    if app.builder.name == "html":
        row = nodes.raw("", _run_row(app, docname, number[1]), format="html")
        facts += nodes.list_item("", nodes.paragraph("", "", row), ids=["run"])
        row = nodes.raw("", bars.switch(), format="html")
        facts += nodes.list_item("", nodes.paragraph("", "", row), ids=["code"])


def _item(label, text):
    return nodes.list_item("", nodes.paragraph("", "", nodes.strong("", label), nodes.Text(" " + text)))  # fmt: skip


def _link_claims(text, page):
    pieces, end = [], 0
    for found in CLAIM.finditer(text):
        chip = nodes.reference("", found[0], internal=True, refuri=f"{page}#claim-{found[0].lower()}", classes=["claim-id"])  # fmt: skip
        pieces += [nodes.Text(text[end : found.start()]), chip]
        end = found.end()
    if pieces:
        text.parent.replace(text, [*pieces, nodes.Text(text[end:])])


def name_claims(doctree, docname):
    """Anchors on the rows of the ledger of claims."""
    if docname == "book/claims":
        for entry in doctree.findall(nodes.entry):
            if CLAIM.fullmatch(entry.astext().strip()):
                entry["ids"].append(f"claim-{entry.astext().strip().lower()}")


def _run_row(app, docname, number):
    slug = docname.split("/")[-1]
    up = "../" * docname.count("/")
    links = {"notebook": f"{up}notebooks/{slug}.ipynb", "script": f"{up}notebooks/{slug}.py"}
    downloads = ", ".join(
        f'<a href="{to}" download title="download this chapter as a {kind}">{kind}</a>'
        for kind, to in links.items()
    )
    elsewhere = "".join(
        f' · <a class="launch" href="{html.escape(to)}">{name}</a>'
        for name, to in launches(app.config.companion_repository, slug).items()
    )
    return f"<strong>Run</strong> <code>tripartite run {number}</code> · {downloads}{elsewhere}"


def launches(repository, slug):
    """Where the public repository lets a reader run a chapter; nowhere while it is not set."""
    where = re.fullmatch(r"https://github\.com/([^/]+/[^/]+?)/?", repository)
    if not where:
        return {}
    lab = quote(f"lab/tree/book/{slug}.ipynb", safe="")
    return {
        "Binder": f"https://mybinder.org/v2/gh/{where[1]}/HEAD?urlpath={lab}",
        "Colab": f"https://colab.research.google.com/github/{where[1]}/blob/{COLAB_BRANCH}/{slug}.ipynb",
    }


# --- on the page ------------------------------------------------------------------------------------


def finish_page(app, pagename, templatename, context, doctree):
    if app.builder.name != "html" or "body" not in context:
        return
    claims = app.builder.get_relative_uri(pagename, "book/claims")
    context["body"] = re.sub(
        re.escape(CHIP) + r"(C[1-9])</span>",
        lambda m: (
            f'<a class="claim-id" href="{claims}#claim-{m[1].lower()}" title="claim of the paper">{m[1]}</a>'
        ),
        context["body"],
    )
    relations = getattr(app.builder, "relations", {}).get(pagename, (None, None, None))
    for side, other in zip(("prev", "next"), relations[1:]):
        known = app.env.companion_heads.get(other)
        if known and context.get(side):
            context[side]["promise"] = first_sentence(known["promise"])


# --- downloads --------------------------------------------------------------------------------------


def write_downloads(app, error):
    if error or app.builder.name != "html":
        return
    for docname in filter(CHAPTER.match, app.env.found_docs):
        source = Path(app.env.doc2path(docname))
        if source.suffix != ".ipynb":
            continue
        notebook = nbformat.read(source, 4)
        target = Path(app.outdir) / "notebooks" / source.stem
        for suffix, content in {
            ".ipynb": nbformat.writes(standalone(notebook, app.config.companion_repository)) + "\n",
            ".py": script(notebook, source.stem),
        }.items():
            write_bytes(target.with_suffix(suffix), content.encode())


INSTALL = """\
# Where the companion is not installed, as on Colab: fetch it and what it needs. Skipped where it is.
import importlib.util, subprocess, sys
if importlib.util.find_spec("companion") is None:
    subprocess.run(["git", "clone", "--quiet", "--depth", "1", "{repository}", "companion-book"], check=True)
    needed = ["numpy>=2.1", "scipy>=1.14", "matplotlib>=3.10", "array-api-compat", "safetensors", "tokenizers", "pillow", "onnx", "pooch", "tqdm", "click", "filelock", "nbformat", "pyarrow"]
    subprocess.run([sys.executable, "-m", "pip", "install", "--quiet", *needed], check=True)
    sys.path.insert(0, "companion-book/code")"""


def standalone(notebook, repository):
    """The notebook with a first cell that installs the companion; as it is while none is public."""
    notebook = copy.deepcopy(notebook)
    if repository:
        cell = nbformat.v4.new_code_cell(INSTALL.format(repository=repository), id="install")
        cell.metadata["tags"] = ["remove-cell"]
        notebook.cells.insert(0, cell)
    return notebook


def script(notebook, slug):
    """The notebook as a Python script in cells, which editors know by their `# %%`."""
    parts = [f"# {slug}: run it with the Python that the companion is installed in."]
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            lines = "\n".join(f"# {line}".rstrip() for line in cell.source.splitlines())
            parts.append(f"# %% [markdown]\n{lines}")
        elif cell.cell_type == "code" and cell.source.strip():
            parts.append(f"# %%\n{cell.source}")
    return "\n\n".join(parts) + "\n"


def start(app):
    if not hasattr(app.env, "companion_heads"):
        app.env.companion_heads = {}


def forget(app, env, docname):
    getattr(env, "companion_heads", {}).pop(docname, None)


def setup(app):
    app.add_config_value("companion_repository", "", "html")
    app.connect("builder-inited", start)
    app.connect("env-purge-doc", forget)
    app.connect("doctree-read", collect)
    app.connect("doctree-resolved", add_facts)
    app.connect("html-page-context", finish_page)
    app.connect("build-finished", write_downloads)
    return {"version": "1", "parallel_read_safe": False, "parallel_write_safe": True}
