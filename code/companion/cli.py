"""The command `tripartite`."""

from __future__ import annotations

import signal
import time
from pathlib import Path

import click

from .files import to_json
from .paths import BUILD

PROBLEMS = "FetchError ParameterError BuildError ChapterError OSError".split()
EXIT_CODES = """\
\b
Exit codes:
  0    done, and everything holds and agrees
  1    done, but a claim fails, a figure differs, a run of a sweep failed, or a check found a problem
  2    not done: bad input, or an error that one line explains (--debug shows where)
  130  interrupted; nothing is left half-written
"""


class Problem(click.ClickException):
    exit_code = 2


class Interrupted(click.ClickException):
    exit_code = 130

    def __init__(self):
        super().__init__("interrupted")

    def show(self, file=None):
        click.echo(self.message, err=True)


class Group(click.Group):
    """Commands whose expected errors are one line and exit code 2, not a traceback.

    After Ctrl-C a command that does not end well ends with 130, also where a library swallows the
    KeyboardInterrupt or makes another error of it, as imports of compiled modules do.
    """

    interrupted = False

    def main(self, *arguments, **options):
        self.interrupted = False
        # where it is ignored, as in a script's background, it stays so
        if ours := signal.getsignal(signal.SIGINT) is signal.default_int_handler:
            signal.signal(signal.SIGINT, self._interrupt)
        try:
            return super().main(*arguments, **options)
        except SystemExit as end:
            raise SystemExit(130 if end.code and self.interrupted else end.code) from None
        finally:
            if ours:
                signal.signal(signal.SIGINT, signal.default_int_handler)

    def _interrupt(self, *_) -> None:
        self.interrupted = True
        raise KeyboardInterrupt

    def invoke(self, context: click.Context):
        try:
            return super().invoke(context)
        except KeyboardInterrupt:
            raise Interrupted from None
        except Exception as error:
            if self.interrupted:
                raise Interrupted from None
            names = {kind.__name__ for kind in type(error).__mro__}
            expected = names.intersection(PROBLEMS) and not isinstance(error, BrokenPipeError)
            expected = expected or type(error) is LookupError  # a KeyError would be a mistake here
            if context.params.get("debug") or not expected:
                raise
            raise Problem(str(error)) from None


@click.group(cls=Group, context_settings={"help_option_names": ["-h", "--help"]}, epilog=EXIT_CODES)
@click.option("--debug", is_flag=True, help="Show the traceback of an error.")
@click.version_option(package_name="tripartite")
def main(debug: bool) -> None:
    """Execute, compare and build the companion to "Building transformers from neurons and astrocytes"."""


as_json = click.option("--json", "as_json", is_flag=True, help="As JSON.")


def with_parameters(help: str):
    """The options -p and -f of a command; they reach it as one dictionary `parameters`."""

    def gather(context, option, assignments):
        from .parameters import ParameterError

        given = {}
        if path := context.params.pop("parameter_file", None):
            from .run import read_file

            given = read_file(path)
        for assignment in assignments:
            name, equals, text = assignment.partition("=")
            if not equals:
                raise ParameterError(f"-p {assignment!r}: must read name=value")
            given[name] = text
        return given

    def decorate(command):
        file = {"type": click.Path(exists=True, dir_okay=False, path_type=Path), "is_eager": True}
        command = click.option(
            "-f", "parameter_file", **file, help="YAML file of such lines, name: value."
        )(command)
        return click.option(
            "-p", "parameters", multiple=True, metavar="NAME=VALUE", callback=gather, help=help
        )(command)

    return decorate


def _target(name: str):
    """The chapter that is meant, and the figure if one is."""
    from . import figure
    from .chapters import find

    try:
        return find(name), None
    except LookupError as error:
        try:
            return figure.find(name)
        except ValueError as other:
            raise LookupError(f"{error.args[0]}; or a figure: {other}") from None


def _show(content) -> None:
    click.echo(to_json(content), nl=False)


@main.command()
@click.option("--committed", is_flag=True, help="Show the committed outputs; execute nothing.")
@click.option(
    "--live",
    is_flag=True,
    help="Fetch Python for browsers first (77 MB, once): chapters then run in the page.",
)
def book(committed: bool, live: bool) -> None:
    """Fetch what the book needs, execute stale chapters, compare, build the site."""
    from . import build, fetch
    from .chapters import chapters

    if live:
        fetch.runtime_directory()

    start = time.monotonic()
    folder = BUILD / "stage"
    if committed:
        html = build.committed_site(folder)
    else:
        html = _fresh_site(build, chapters(), folder)
    if fetch.cached_runtime() is None:
        click.echo(
            "chapters do not run in the page: tripartite book --live fetches what that needs"
        )
    click.echo(f"built in {time.monotonic() - start:.0f} s: open {_page(html)}, or run make serve")


def _fresh_site(build, known, folder: Path) -> Path:
    from . import fetch

    for name in fetch.BOOK:
        fetch.model_directory(name)
    compared = build.refresh(known, click.echo)
    click.echo("compared with the committed outputs:")
    for slug, comparison in compared.items():
        verdict = "same" if comparison.same() else "DIFFERS"
        click.echo(f"  {slug:28} {verdict:8} {comparison.summary()}")
        for line in comparison.details():
            click.echo(f"    {line}")
    notebooks = {c.path.name: build.EXECUTED / c.path.name for c in known}
    build.stage(folder, notebooks, BUILD / "figures")
    click.echo("building the site: a minute or two, and seconds where little has changed")
    return build.site(folder)


@main.command()
@click.option("-o", "--output", type=click.Path(path_type=Path), help="Where to write it.")
def pdf(output: Path | None) -> None:
    """The whole book, from the committed outputs, as one PDF: a minute, and Chromium prints it."""
    from . import build
    from . import pdf as printing

    folder = build.stage_committed(BUILD / "pdf")
    click.echo(
        printing.pdf(folder, output or BUILD / "transformers-from-neurons-and-astrocytes.pdf")
    )


def _page(html: Path) -> Path:
    return html / "book" / "index.html"


@main.command()
def site() -> None:
    """Build the site of the committed outputs, warnings as errors, for the tests."""
    from . import build

    click.echo(build.committed_site(BUILD / "committed"))


@main.command("list")
@as_json
def list_(as_json: bool) -> None:
    """Chapters with their parameters, figures and claims."""
    from .chapters import chapters
    from .figure import numbered

    if as_json:
        return _show({c.slug: _described(c) for c in chapters()})
    for chapter in chapters():
        click.secho(chapter.slug, bold=True)
        for parameter in chapter.parameters().values():
            click.echo(f"  -p {parameter}")
        for place, name in numbered(chapter).items():
            click.echo(f"  figure {name} ({int(chapter.number)}.{place})")
        for name, claim in chapter.claims().items():
            about = f"({claim['paper_claim']}, {claim['kind']})"
            click.echo(f"  claim {name} {about} {claim['statement']}: {claim['bound']}")


def _described(chapter) -> dict:
    return {
        "parameters": {
            p.name: {
                "type": p.kind.__name__,
                "default": p.default,
                "meaning": p.meaning,
                "unit": p.unit,
                "allowed": p.allowed,
            }
            for p in chapter.parameters().values()
        },
        "figures": chapter.figures(),
        "claims": chapter.claims(),
    }


@main.command()
@click.argument("chapter")
@with_parameters("Another value.")
@click.option("-o", "--output", type=click.Path(path_type=Path), help="Folder of the run.")
@as_json
def run(chapter: str, parameters: dict, output: Path | None, as_json: bool) -> None:
    """Re-execute CHAPTER (04, or its slug) with other parameters, into runs/.

    Exits with 1 where a claim does not hold with them.
    """
    from . import run as runs
    from .chapters import find

    found = find(chapter)
    folder, comparison = runs.run(found, runs.parse(found, parameters), output)
    if as_json:
        _show(runs.report_of(folder) | {"folder": folder})
    else:
        click.echo(f"{found.slug}: {comparison.summary()}")
        for line in runs.details(folder, comparison):
            click.echo(f"  {line}")
        click.echo(f"see {folder}")
    if comparison.failed_claims():
        raise SystemExit(1)


@main.command()
@click.argument("name")
@with_parameters("Another value.")
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    help="File to write; its ending says what: pdf, svg or png, csv or npz for the numbers. "
    "Default: NAME.pdf here.",
)
@as_json
def figure(name: str, parameters: dict, output: Path | None, as_json: bool) -> None:
    """Make the figure NAME (or number: 4.1) again, executing its chapter only, if it must.

    A fresh build or an earlier run with the same parameters and sources is used where there is one.
    """
    from . import figure as figures
    from .run import parse

    try:
        chapter, name = figures.find(name)
    except ValueError as error:
        raise LookupError(f"{error}; tripartite list shows them all") from None
    values = parse(chapter, parameters)
    source, executed = figures.write(chapter, name, values, output or Path(f"{name}.pdf"))
    written = {"file": output or Path(f"{name}.pdf"), "from": source, "executed": executed}
    if as_json:
        return _show(written)
    how = "executed" if executed else "fresh"
    click.echo(f"{written['file']}, of {source} ({how})")


@main.command()
@click.argument("target", required=False, metavar="[CHAPTER|FIGURE]")
@click.option("--all", "everything", is_flag=True, help="Every chapter.")
@with_parameters("Another value, to see what it changes.")
@as_json
def verify(target: str | None, everything: bool, parameters: dict, as_json: bool) -> None:
    """Re-execute, compare with the references, and say where a difference can come from.

    Exits with 1 where a figure or another output differs from its reference or a claim fails.
    """
    from . import verify as verifier
    from .chapters import chapters
    from .run import parse

    if (target is None) != everything:
        raise click.UsageError("name a chapter or a figure, or say --all")
    if everything and parameters:
        raise click.UsageError("-p and -f need one chapter, since chapters differ in parameters")
    one, figure = _target(target) if target else (None, None)
    known = [one] if one else chapters()
    values = parse(one, parameters) if one else {}
    reports, agree = [], True
    for chapter, comparison in verifier.verify(known, values):
        rows = [row for row in comparison.rows() if figure in (None, row["figure"])]
        same = all(row["verdict"] in ("same", "holds") for row in rows)
        agree = agree and same
        causes = [] if same else verifier.causes(chapter, values)
        texts = [] if figure else comparison.texts()
        report = {"chapter": chapter.slug, "same": same, "rows": rows, "texts": texts}
        reports.append(report | {"causes": causes})
        if not as_json:
            click.echo("\n".join(verifier.lines(reports[-1])))
    if as_json:
        _show(reports)
    if not agree:
        raise SystemExit(1)


@main.command()
@click.argument("chapter")
@with_parameters("Values: 1,2,5 or 0..9 or 0..90..10; give several, and all combinations run.")
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    help="Folder of the runs and the table; default runs/CHAPTER.",
)
@click.option("-j", "--jobs", type=click.IntRange(1), help="Processes; default: all cores.")
@click.option("--scheduler", metavar="ADDRESS", help="Run on this Dask cluster: tcp://host:8786.")
@click.option("--retry", is_flag=True, help="Run again what failed with an error of a cell.")
@as_json
def sweep(chapter, parameters, output, jobs, scheduler, retry, as_json) -> None:
    """Run CHAPTER over a grid of parameters; one row a result in table.csv and table.parquet.

    Each run is kept as it ends, so an interrupted sweep goes on where it stopped when the same
    command is given again. Several sweeps may share a folder: the table then holds all of its runs.
    The workers of a Dask cluster must see this checkout and the folder under the same paths.
    Exits with 1 where a run failed; its error is in the table.
    """
    from . import sweep as sweeps
    from .chapters import find
    from .paths import ROOT

    found = find(chapter)
    points = sweeps.grid(found, parameters)
    folder = output or ROOT / "runs" / found.slug
    options = {"workers": jobs, "scheduler": scheduler, "retry": retry}
    swept = sweeps.sweep(found, points, folder, **options)
    if as_json:
        _show(vars(swept))
    else:
        good = swept.runs - len(swept.failed)
        click.echo(f"{good} of {swept.runs} runs done, {swept.kept} of them earlier")
        for name, error in swept.failed.items():
            click.echo(f"  {name} failed: {error.splitlines()[0]}")
        click.echo(f"see {swept.tables[0]} (and .parquet)")
    if swept.failed:
        raise SystemExit(1)


@main.command()
@click.argument("target", required=False, metavar="[CHAPTER|FIGURE]")
@as_json
def cite(target: str | None, as_json: bool) -> None:
    """BibTeX for the companion, the paper, and the methods that a chapter or figure rests on."""
    from . import cite as citations

    entries = citations.cite(*(_target(target) if target else ()))
    return _show(entries) if as_json else click.echo("\n\n".join(entries.values()))


@main.command()
@as_json
def doctor(as_json: bool) -> None:
    """Check environment, cache, disk, network, kernel and browser. Exits with 1 on a problem."""
    from .doctor import diagnose

    checks = []
    for check in diagnose():
        checks.append(check._asdict())
        if not as_json:
            click.echo(f"{check.state:8} {check.name:9} {check.found}")
            if check.advice:
                click.echo(f"{'':18} -> {check.advice}")
    if as_json:
        _show(checks)
    if any(check["state"] == "problem" for check in checks):
        raise SystemExit(1)


@main.command()
@click.argument("names", nargs=-1)
def accept(names: tuple[str, ...]) -> None:
    """Execute chapters (default: all) and make what they give the new reference; git is left to you."""
    from . import bounds, build
    from .chapters import chapters, find

    accepted = [find(name) for name in names] or chapters()
    build.accept(accepted, click.echo)
    claims = bounds.claims_of([find(chapter.slug) for chapter in accepted])
    for problem in bounds.without_bound(bounds.read(), claims):
        click.echo(f"  {problem}")


@main.command()
@click.argument("names", nargs=-1)
@click.option("--live", is_flag=True, help="Python for browsers too.")
def fetch(names: tuple[str, ...], live: bool) -> None:
    """Fetch and verify models (default: those that the chapters use)."""
    from . import fetch as downloads

    if live:
        click.echo(downloads.runtime_directory())

    for name in names or downloads.BOOK:
        try:
            click.echo(downloads.model_directory(name))
        except ValueError as error:  # no such model
            raise click.UsageError(str(error)) from None


if __name__ == "__main__":
    main(prog_name="tripartite")
